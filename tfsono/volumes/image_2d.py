"""2D ultrasound images and their masks, from PNG, JPEG, BMP, TIFF or a DICOM file of one frame.

Unlike elsewhere in this package, an array here is [Y, X]: rows first, as in OpenCV and for the ImageNet weights.
`volume_of_image` makes it [X, Y, 1], one voxel thick, for modules of volumes.

An image whose EXIF data demand a rotation is refused: its points and masks could refer to the stored or to the
rotated form.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk

from tfsono.errors import UserError
from tfsono.files import open_regular, read_regular
from tfsono.volumes.dicom_planes import read_header
from tfsono.volumes.image_file import check_image_file, is_dicom_file
from tfsono.volumes.limits import check_pixels
from tfsono.volumes.quiet import quiet_libraries
from tfsono.volumes.ultrasound_regions import region_pixel_sizes
from tfsono.volumes.volume import (
    ConstantImageError,
    LabelValueError,
    OtherGridError,
    Volume,
    call_quietly,
    reason_of,
)

__all__ = ["Image2D", "is_image_2d_file", "image_2d_name", "mask_in_alpha", "volume_of_image", "read_image_2d",
           "read_mask_2d"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom")
LEAST_SIDE = 16
"""Fewest rows and columns of an image."""

SQUARE_TOLERANCE = 0.01
"""Largest relative difference of a pixel's sides: both lengths of a head are measured with one number."""

GREY_LEVELS = 16
"""A mask of more levels than this, most of them not the highest, is an image by mistake."""

OUTLINE_PIXELS = 2.0
"""Largest distance of an open outline from its convex hull, in pixels."""

PIXEL_RANGE_MM = 0.005, 5.0
"""Millimetres a pixel outside of these are of another unit."""

THIN = 3
"""An outline disappears when it is eroded by a square of this side."""

PNG_WITHOUT_ALPHA = (0, 2)
"""Colour types of PNG: grey levels, colours."""

_DAMAGE = ("premature end", "Premature end", "bad Huffman code", "TIFF_Error", "palette index")
"""Of the lines of libjpeg, libtiff and libpng, those after which they make up a part of the image."""

NOT_ULTRASOUND = "not ultrasound"
"""The end of a note on an image of another modality."""

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Image2D:
    """Grey levels and the size of a pixel.

    Attributes:
        pixels: uint8 [Y, X].
        pixel_size_mm: millimetres a pixel, along both axes, from the file; None where it has none.
        path: the file, for messages.
        notes: the conversions of the file's values, a line each, without the file's name.
    """

    pixels: np.ndarray
    pixel_size_mm: float | None
    path: str
    notes: tuple[str, ...] = ()


def is_image_2d_file(path) -> bool:
    """Whether the name has a suffix of 2D images and is not hidden, or the file has no suffix and is DICOM."""
    path = Path(path)
    if path.name.startswith("."):
        return False
    return path.suffix.lower() in IMAGE_SUFFIXES or (not path.suffix and is_dicom_file(path))


def image_2d_name(path) -> str:
    """The file's name without the suffix of a 2D image ("010_HC.png" -> "010_HC")."""
    path = Path(path)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def read_image_2d(path) -> Image2D:
    """Reads a 2D image as grey levels.

    Equal colour channels are grey; others become their luminance, with a note. More than 8 bits are scaled so that the
    largest value becomes 255, with a note. Millimetres come from DICOM only: from the regions calibrated by an
    ultrasound scanner, else from PixelSpacing.

    Raises:
        ConstantImageError: every pixel has the same value.
        UserError: no file, an empty, truncated or damaged one, another kind of file, several frames or pages, a
            rotation in its EXIF data, values of other than 8 or 16 bits, under 16 pixels a side.
    """
    path = Path(path)
    if check_image_file(path) == "DICOM":
        values, pixel_size_mm, notes = _read_dicom(path)
    else:
        values, pixel_size_mm, notes = _decoded(path), None, []
    if min(values.shape[:2]) < LEAST_SIDE:
        raise UserError(f"{path}: an image has {LEAST_SIDE} pixels a side or more; found {_size(values.shape)}")
    pixels = _eight_bits(_grey(values, notes), notes, path)
    if pixels.min() == pixels.max():
        raise ConstantImageError(f"{path}: an image must hold more than one value; every pixel is {pixels.min()}; "
                                 "export it again")
    return Image2D(pixels, pixel_size_mm, str(path), tuple(notes))


def volume_of_image(image: Image2D, pixel_size_mm: float | None = None) -> Volume:
    """The image as a volume uint8 [X, Y, 1] whose axes are L, P, S.

    Args:
        image: of `read_image_2d`.
        pixel_size_mm: overrides the file's. Where neither is known, a pixel counts as 1: the volume's millimetres are
            then pixels.
    """
    size = image.pixel_size_mm if pixel_size_mm is None else pixel_size_mm
    sides = (1.0, 1.0, 1.0) if size is None else (float(size), float(size), 1.0)
    array = np.ascontiguousarray(image.pixels.T[:, :, None])
    return Volume(array, sides, (0.0, 0.0, 0.0), IDENTITY, image.path)


def read_mask_2d(path, size_yx: tuple[int, int]) -> np.ndarray:
    """The mask of an image, uint8 [Y, X]: 1 inside, 0 outside; it may be empty.

    Every value but 0 is inside; where all colours are alike and the transparency is not, it is the transparency's
    (`mask_in_alpha`). A line that encloses a hole larger than itself is an outline, as in the HC18 set, and
    is filled; so is a thin one that leaves the image or has a gap, if it is convex like a head.

    Args:
        path: an image in a lossless format, not DICOM.
        size_yx: rows and columns of its image.

    Raises:
        OtherGridError: the mask has another size.
        LabelValueError: it is not a mask but an image of many grey levels.
        UserError: as `read_image_2d`; a JPEG file, whose values near edges are wrong; a line that encloses nothing.
    """
    path = Path(path)
    kind = check_image_file(path)
    if kind in ("JPEG", "DICOM"):
        raise UserError(f"{path}: a mask is PNG, BMP or TIFF, which keep its values; found {kind}; export it as PNG")
    values = _decoded(path)
    if values.shape[:2] != tuple(size_yx):
        raise OtherGridError(f"{path}: a mask must have the size of its image, {_size(size_yx)}; found "
                             f"{_size(values.shape)}; export it at the image's size")
    if values.ndim == 3:
        values = values[:, :, -1] if _only_alpha(values) else values[:, :, :3].max(axis=2)
    _check_mask_levels(values, path)
    return _filled(values > 0, path).astype(np.uint8)


def mask_in_alpha(path) -> bool:
    """Whether a mask is in the transparency of an image whose colours are all alike.

    Raises:
        UserError: the file cannot be read.
    """
    with open_regular(path) as file:
        start = file.read(26)
    if start.startswith(b"\x89PNG") and start[-1] in PNG_WITHOUT_ALPHA:  # most masks: not decoded twice
        return False
    values = _decoded(Path(path))
    return values.ndim == 3 and _only_alpha(values)


def _only_alpha(values: np.ndarray) -> bool:
    """Whether [Y, X, channels] has transparency that varies, and colours that do not."""
    if values.shape[2] not in (2, 4):
        return False
    colours, alpha = values[:, :, :-1], values[:, :, -1]
    return bool((colours == colours[0, 0]).all() and alpha.min() != alpha.max())


# ----------------------------------------------------------------------------------------------- the values


def _decoded(path: Path) -> np.ndarray:
    """[Y, X] or [Y, X, channels BGR(A)], as stored."""
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # OpenCV 4, 5
    level = set_level(2)  # errors: it returns zeros for a strip of TIFF that it cannot read
    try:
        content = np.frombuffer(read_regular(path), np.uint8)
        with quiet_libraries() as lines:
            values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
            damaged = any(words in lines() for words in _DAMAGE)
    except (cv2.error, OSError) as error:
        raise UserError(f"{path}: must be a readable image; found: {_line(error)}; export it again") from None
    finally:
        set_level(level)
    if values is None or damaged:
        raise UserError(f"{path}: must be a whole, readable image; found it damaged or truncated; copy it again")
    if values.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: an image has 8 or 16 bits a value; found {values.dtype}; export it as 8-bit PNG")
    return values


def _line(error: Exception) -> str:
    return " ".join((getattr(error, "err", "") or getattr(error, "strerror", "") or str(error)).split())[:120]


def _grey(values: np.ndarray, notes: list[str]) -> np.ndarray:
    """[Y, X] of the same type; a note where there was colour or transparency."""
    if values.ndim == 2:
        return values
    if values.shape[2] in (2, 4) and values[:, :, -1].min() != values[:, :, -1].max():
        notes.append("partly transparent: the transparency was ignored")
    if values.shape[2] < 3:
        return values[:, :, 0]
    colours = values[:, :, :3]
    spread = colours.max(axis=2) - colours.min(axis=2)
    if not spread.any():
        return np.ascontiguousarray(colours[:, :, 0])
    notes.append(f"coloured in {100 * np.mean(spread > 0):.2g} % of its pixels, by up to {spread.max()} levels: "
                 "the luminance was used")
    return cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_BGR2GRAY)


def _eight_bits(values: np.ndarray, notes: list[str], path: Path) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(values).all() or low < 0:
        raise UserError(f"{path}: grey levels are 0 or more; found {low:g} to {high:g}; export it as 8-bit PNG")
    if low == high:
        return np.zeros(values.shape, np.uint8)  # the caller reports that it is constant
    notes.append(f"{values.dtype} values up to {high:g}: scaled so that the largest becomes 255")
    return np.rint(values * (255.0 / high)).astype(np.uint8)


def _size(shape) -> str:
    return f"{shape[1]}x{shape[0]} (columns x rows)"


# ------------------------------------------------------------------------------------------------- the mask


def _check_mask_levels(values: np.ndarray, path: Path) -> None:
    inside = values[values > 0]
    if inside.size <= 0.1 * values.size or np.count_nonzero(inside == inside.max()) >= 0.5 * inside.size:
        return
    levels = len(np.unique(inside))
    if levels > GREY_LEVELS:
        raise LabelValueError(f"{path}: a mask is 0 outside and one value inside, or an outline; found {levels} "
                              "levels: is this the image itself? Give its mask")


def _filled(line: np.ndarray, path: Path) -> np.ndarray:
    """bool [Y, X]: the mask itself, or the area that the outline `line` encloses, with the line."""
    from scipy import ndimage  # takes a fifth of a second, and `predict` reads no masks

    whole = ndimage.binary_fill_holes(line)
    drawn = np.count_nonzero(line)
    if np.count_nonzero(whole) > 2 * drawn:
        return whole
    thin = drawn and not cv2.erode(line.astype(np.uint8), np.ones((THIN, THIN), np.uint8)).any()
    return _filled_hull(line, path) if thin else line


def _filled_hull(line: np.ndarray, path: Path) -> np.ndarray:
    """The area in an open outline: ellipse and image are convex, and so is their intersection."""
    points = np.argwhere(line)[:, ::-1].astype(np.int32)
    hull = cv2.convexHull(points)
    ring = cv2.polylines(np.ones(line.shape, np.uint8), [hull], True, 0)
    distance = cv2.distanceTransform(ring, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    off_hull = np.mean(distance[line] > OUTLINE_PIXELS)
    if off_hull > 0.05 or cv2.contourArea(hull) < 2 * len(points):
        raise UserError(f"{path}: an outline must enclose the head; found a thin line of {len(points)} pixels that "
                        "encloses nothing; close or fill it")
    return cv2.fillConvexPoly(np.zeros(line.shape, np.uint8), hull, 1) > 0


# ---------------------------------------------------------------------------------------------------- DICOM


def _read_dicom(path: Path) -> tuple[np.ndarray, float | None, list[str]]:
    """Values [Y, X] or [Y, X, 3 (BGR)], millimetres a pixel or None, and notes."""
    header = read_header(path)
    if header.other:
        raise UserError(f"{path}: must be an image; found {header.other}")
    check_pixels(path, header.planes[0].size, path.stat().st_size)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        call_quietly(reader.ReadImageInformation)
        _check_one_frame(reader, path)
        image = call_quietly(reader.Execute)
    except RuntimeError as error:
        raise UserError(f"{path}: must be a readable DICOM image; found: {reason_of(error)}; copy it again") from None
    values = sitk.GetArrayFromImage(image)
    values = values.reshape(values.shape[-3:] if image.GetNumberOfComponentsPerPixel() > 1 else values.shape[-2:])
    notes: list[str] = []
    modality = _field(reader, "0008|0060")
    if modality not in ("", "US"):
        notes.append(f"modality {modality}, {NOT_ULTRASOUND}")
    if values.ndim == 3:
        return np.ascontiguousarray(values[:, :, ::-1]), _dicom_pixel_size(reader, path, notes), notes
    if _field(reader, "0028|0004") == "MONOCHROME1":
        notes.append("stored with its largest value black: inverted")
        values = values.max() - values
    return values, _dicom_pixel_size(reader, path, notes), notes


def _check_one_frame(reader: sitk.ImageFileReader, path: Path) -> None:
    size = reader.GetSize()
    frames = int(np.prod(size[2:])) if len(size) > 2 else 1
    if frames > 1:
        raise UserError(f"{path}: an image is one frame; found {frames}; export the frame to be measured")


def _field(reader: sitk.ImageFileReader, tag: str) -> str:
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""


def _dicom_pixel_size(reader: sitk.ImageFileReader, path: Path, notes: list[str]) -> float | None:
    """Of the calibrated regions, else PixelSpacing (not ITK's own spacing, which is 1 by default)."""
    sides = [side for region in region_pixel_sizes(path) for side in region] or _pixel_spacing(reader)
    if len(sides) < 2 or not all(np.isfinite(side) and side > 0 for side in sides):
        return None
    if max(sides) - min(sides) > SQUARE_TOLERANCE * max(sides):
        notes.append(f"pixels of {min(sides):.4g} to {max(sides):.4g} mm, not square or not alike: measured "
                     "in pixels")
        return None
    if not PIXEL_RANGE_MM[0] <= max(sides) <= PIXEL_RANGE_MM[1]:
        notes.append(f"pixels of {max(sides):.4g} mm, where {PIXEL_RANGE_MM[0]:g} to {PIXEL_RANGE_MM[1]:g} mm are "
                     "possible: measured in pixels")
        return None
    return float(np.mean(sides))


def _pixel_spacing(reader: sitk.ImageFileReader) -> list[float]:
    try:
        return [float(part) for part in _field(reader, "0028|0030").split("\\")]
    except ValueError:
        return []
