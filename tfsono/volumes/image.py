"""Volumes and masks: read with every check, written back in their original geometry.

SimpleITK counts sizes x, y, z but its arrays come as [z, y, x]; everything here is [x, y, z]. Damage that ITK does
not report (a truncated NIfTI is filled with zeros) is refused beforehand, see `completeness`.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tfsono.errors import UserError
from tfsono.files import check_name
from tfsono.volumes.completeness import NIFTI_SUFFIXES, check_complete, first_bytes
from tfsono.volumes.dicom import read_dicom_file, read_series
from tfsono.volumes.dicom_bytes import check_nesting
from tfsono.volumes.image_file import is_dicom_file
from tfsono.volumes.masks import on_grid_of, whole_numbers
from tfsono.volumes.metaimage import meta_spacing
from tfsono.volumes.minc import check_minc, minc_spacing
from tfsono.volumes.nifti import NiftiHeader, copy_geometry, parse_header
from tfsono.volumes.nrrd import nrrd_spacing
from tfsono.volumes.orientation import orientation_code, reorient, restore_orientation
from tfsono.volumes.stored_voxels import StoredVoxels
from tfsono.volumes.units import HeaderSpacing
from tfsono.volumes.volume import (
    NoSpacingError,
    Volume,
    call_quietly,
    check_not_constant,
    image_from_array,
    reason_of,
    shear_note,
    volume_from_image,
    with_plausibility,
    with_spacing,
)

__all__ = [
    "Volume",
    "case_name",
    "is_volume_file",
    "orientation_code",
    "read_mask",
    "read_volume",
    "reorient",
    "restore_orientation",
    "write_volume",
]

WRITTEN_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
READ_SUFFIXES = (".seg.nrrd", *WRITTEN_SUFFIXES, ".mhd", ".nhdr", ".mnc", ".hdr", ".img")

_READ_FORMATS = ("NiftiImageIO", "MetaImageIO", "NrrdImageIO", "MINCImageIO", "GDCMImageIO")
"""Formats whose truncation is noticed. ITK fills GIPL, VTK and TIFF files with zeros."""

_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"
"""An environment variable with which ITK reads a sheared sform, but takes the inverse of its nearest rotation."""


def is_volume_file(path) -> bool:
    """Whether the name has a suffix of 3D medical files, and is not hidden (macOS leaves `._CASE.nii.gz`).

    The .img of a .hdr/.img pair and the .raw of a .mhd are data, not volumes themselves.
    """
    name = Path(path).name
    return not name.startswith(".") and _suffix(name) not in ("", ".img")


def case_name(path) -> str:
    """The file's name without its medical suffix ("hip_01.nii.gz" -> "hip_01"); a folder's name unchanged."""
    name = Path(path).name
    return name[: len(name) - len(_suffix(name))]


def read_volume(path, spacing_mm=None) -> Volume:
    """Reads a 3D image (NIfTI, MetaImage, NRRD, MINC, DICOM) or a folder that holds one DICOM series.

    Integers of up to 32 bits keep their type; files with a rescale slope and all floats become float32.

    Args:
        path: the file or folder.
        spacing_mm: three numbers that are used instead of the file's spacing, with a note; None takes the file's.

    Raises:
        NoSpacingError: the file says no spacing, and none is given.
        UserError: missing, truncated or unreadable; 4D, 2D, colour; zero size; impossible spacing or
            direction; NaN or infinite voxels; a constant image.
    """
    volume = _read(path, spacing_mm)
    check_not_constant(volume)
    return volume


def read_mask(path, like: Volume | None = None, spacing_mm=None) -> Volume:
    """Reads an integer mask on the grid of `like` (to 1 % of a voxel); it may be empty.

    A mask whose axes are stored in another order or direction is reoriented, and one that 3D Slicer cropped
    (.seg.nrrd) is padded with 0; values that differ from whole numbers by rounding only are rounded. Notes say so.

    Args:
        path: as for `read_volume`.
        like: the mask's image; None keeps the mask's own grid.
        spacing_mm: as for `read_volume`.

    Returns:
        The mask with exactly `like`'s spacing, origin and direction; uint8 where its values fit, else int32.

    Raises:
        UserError: as `read_volume`, and for another grid or for values that are not whole numbers.
    """
    mask = whole_numbers(_read(path, spacing_mm))
    if like is None:
        return mask
    return on_grid_of(mask, like, may_be_cropped=_suffix(Path(path).name) == ".seg.nrrd")


def write_volume(path, array: np.ndarray, like: Volume) -> None:
    """Writes `array` [X, Y, Z] with its own type and the geometry of `like`, compressed except for `.nii`.

    Written under a temporary name and renamed when whole. NIfTI holds geometry in 32-bit floats; where `like`
    was itself read from a NIfTI-1 file, that file's geometry fields are copied bit for bit. MetaImage keeps
    every bit, NRRD all but the last one of oblique axes.

    Raises:
        UserError: an unsupported suffix, a missing folder, a type that the format cannot hold.
        ValueError: the array's size is not that of `like`.

    Example:
        >>> like = Volume(np.zeros((4, 5, 6)), (0.5, 0.5, 2.0), (10.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
        >>> mask = np.zeros(like.size, np.uint8)
        >>> mask[1:3, 1:3, 1:3] = 1
        >>> write_volume("mask.nii.gz", mask, like)
        >>> found = read_mask("mask.nii.gz")
        >>> found.spacing_mm, int(found.array.sum())
        ((0.5, 0.5, 2.0), 8)
    """
    check_name(path)
    path = Path(path)
    suffix = _suffix(path.name)
    if suffix not in WRITTEN_SUFFIXES:
        raise UserError(f"{path}: a volume is written as one of {', '.join(WRITTEN_SUFFIXES)}; "
                        f"found {path.name!r}")
    if array.shape != like.size:
        raise ValueError(f"array must have the size of like, {like.size}; found {array.shape}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder to write into must exist; found none at {path.parent}")
    _write_beside(path, suffix, array, like)


def _suffix(name: str) -> str:
    lower = name.lower()
    return next((suffix for suffix in READ_SUFFIXES if lower.endswith(suffix) and lower != suffix), "")


def _read(path, spacing_mm=None) -> Volume:
    check_name(path)
    path = Path(path)
    if path.is_dir():
        return with_plausibility(read_series(path, spacing_mm=spacing_mm))
    if not path.exists():
        raise UserError(f"{path}: the file must exist; found none")
    checked = check_complete(path)
    kind = _format(path)
    if kind == "GDCMImageIO":
        return with_plausibility(read_dicom_file(path, spacing_mm))
    if kind in ("MetaImageIO", "NrrdImageIO") and not isinstance(checked, StoredVoxels):
        raise UserError(f"{path}: a MetaImage file must end with .mha or .mhd; found another suffix; rename it")
    header = checked if isinstance(checked, NiftiHeader) else None
    found = header.spacing_found(path) if header else _spacing_found(path, kind)
    if found.missing and spacing_mm is None:
        raise NoSpacingError(path, found.missing)
    if isinstance(checked, StoredVoxels):
        image, is_sheared = _verified_image(checked), False
    else:
        image, is_sheared = _read_image(path, header)
    volume = volume_from_image(_in_millimetres(image, found), str(path))
    if is_sheared:
        volume = replace(volume, direction=header.sform_direction(), notes=(shear_note(header.shear),))
    forms = header.forms_note(volume) if header and not found.missing else ""
    volume = replace(volume, notes=(*found.notes, *volume.notes, *filter(None, [forms])))
    if spacing_mm is not None:
        volume = with_spacing(volume, spacing_mm, found.missing)
    return with_plausibility(volume)


def _spacing_found(path: Path, kind: str) -> HeaderSpacing:
    if kind == "MINCImageIO":
        check_minc(path)
        return minc_spacing(path)
    return (meta_spacing if kind == "MetaImageIO" else nrrd_spacing)(path, first_bytes(path))


def _read_image(path: Path, header: NiftiHeader | None) -> tuple[sitk.Image, bool]:
    """The image, and whether its direction must be taken from the header because of a shear.

    ITK refuses a NIfTI file of which the only form has a shear, however small; `completeness` has its own limit.
    """
    try:
        return call_quietly(lambda: sitk.ReadImage(str(path))), False
    except RuntimeError as error:
        reason = reason_of(error)
    try:
        if header is not None and header.shear:
            with _permissive_sform():
                return call_quietly(lambda: sitk.ReadImage(str(path))), True
    except RuntimeError as error:
        reason = reason_of(error)
    raise UserError(f"{path}: must be a readable volume; found: {reason}")


def _verified_image(voxels: StoredVoxels) -> sitk.Image:
    """The voxels as they are stored, with the geometry as ITK reads it from the header."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(voxels.path))
    try:
        call_quietly(reader.ReadImageInformation)
    except RuntimeError as error:
        raise UserError(f"{voxels.path}: must be a readable volume; found: {reason_of(error)}") from None
    size = reader.GetSize()
    if reader.GetNumberOfComponents() != 1 or math.prod(size) != math.prod(voxels.size):
        raise UserError(f"{voxels.path}: one real number a voxel is needed (no colour, no vectors); found "
                        f"{reader.GetNumberOfComponents()} on a grid of {'x'.join(map(str, size))}")
    image = sitk.GetImageFromArray(voxels.read().reshape(size[::-1]), isVector=False)
    spacing = np.array(reader.GetSpacing())
    flips = np.where(spacing < 0, -1.0, 1.0)  # as ITK does; only where the spacing is stated by the user
    image.SetSpacing(np.where(np.isfinite(spacing) & (spacing != 0), spacing * flips, 1.0).tolist())
    image.SetOrigin(reader.GetOrigin())
    direction = np.reshape(reader.GetDirection(), (len(size), len(size))) * flips
    try:
        image.SetDirection(direction.ravel().tolist())
    except RuntimeError as error:
        raise UserError(f"{voxels.path}: must be a readable volume; found: {reason_of(error)}") from None
    return image


@contextlib.contextmanager
def _permissive_sform() -> Iterator[None]:
    before = os.environ.get(_PERMISSIVE)
    os.environ[_PERMISSIVE] = "1"
    try:
        yield
    finally:
        del os.environ[_PERMISSIVE]
        if before is not None:
            os.environ[_PERMISSIVE] = before


def _in_millimetres(image: sitk.Image, found: HeaderSpacing) -> sitk.Image:
    """The image with its spacing and origin multiplied by the factors of the header's units."""
    rest = (1.0,) * (image.GetDimension() - 3)
    if found.factor != (1.0, 1.0, 1.0):
        factor = np.array([*found.factor, *rest])[: image.GetDimension()]
        image.SetSpacing((factor * image.GetSpacing()).tolist())
        image.SetOrigin((factor * image.GetOrigin()).tolist())
    return image


def _format(path: Path) -> str:
    """ITK's name of the format by the file's content; refuses files that are not medical volumes."""
    if is_dicom_file(path):
        return "GDCMImageIO"
    check_nesting(path)
    found = call_quietly(lambda: sitk.ImageFileReader.GetImageIOFromFileName(str(path)))
    if found not in _READ_FORMATS:
        found = found.removesuffix("ImageIO") or "none of them by its content"
        raise UserError(f"{path}: must be NIfTI, MetaImage, NRRD, MINC or DICOM; found {found}")
    if found == "NiftiImageIO" and not path.name.lower().endswith(NIFTI_SUFFIXES):
        raise UserError(f"{path}: a NIfTI file must end with {', '.join(NIFTI_SUFFIXES)}; found another suffix; "
                        "unpack or rename it")
    return found


def _write_beside(path: Path, suffix: str, array: np.ndarray, like: Volume) -> None:
    stem = f".{case_name(path)}.{os.getpid()}.partial"
    partial = path.with_name(stem + suffix)
    plain = path.with_name(stem + ".nii") if suffix == ".nii.gz" else partial
    try:
        _write_image(plain, array, like)
        if suffix in (".nii", ".nii.gz"):
            _copy_source_geometry(plain, like)
        if plain != partial:
            _compress(plain, partial)
        os.replace(partial, path)
    except (RuntimeError, TypeError, KeyError, OSError) as error:
        raise UserError(f"{path}: could not be written; found: {reason_of(error)}") from None
    finally:
        partial.unlink(missing_ok=True)
        plain.unlink(missing_ok=True)


def _write_image(path: Path, array: np.ndarray, like: Volume) -> None:
    image = image_from_array(array, like)
    call_quietly(lambda: sitk.WriteImage(image, str(path), useCompression=path.suffix != ".nii"))


def _compress(source: Path, target: Path) -> None:
    """Gzips without name and time, so that equal volumes are equal files.

    Level 4 took a fifth of level 6's time for 4 % more bytes (measured once, a CT of 122 x 101 x 112 voxels).
    """
    with open(source, "rb") as plain, open(target, "wb") as packed:
        with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=4, mtime=0) as stream:
            shutil.copyfileobj(plain, stream, 1 << 20)


def _copy_source_geometry(path: Path, like: Volume) -> None:
    """Gives the file at `path` the header fields of `like`'s NIfTI-1 file, where `like` still has its geometry."""
    source = Path(like.path)
    if not like.path or _suffix(source.name) not in (".nii", ".nii.gz") or not source.is_file():
        return
    start = first_bytes(source)
    header = parse_header(start)
    if header is None or not _still_has_geometry(source, header, like):
        return
    with open(path, "r+b") as file:
        written = file.read(348)
        file.seek(0)
        file.write(copy_geometry(start, written))


def _still_has_geometry(path: Path, header: NiftiHeader, like: Volume) -> bool:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        call_quietly(reader.ReadImageInformation)
    except RuntimeError:
        if not header.shear:
            raise
        with _permissive_sform():
            call_quietly(reader.ReadImageInformation)
    return (
        reader.GetSize()[:3] == like.size
        and reader.GetSpacing()[:3] == tuple(like.spacing_mm)
        and reader.GetOrigin()[:3] == tuple(like.origin_mm)
        and (reader.GetDirection() == tuple(like.direction)
             or header.shear > 0 and np.allclose(like.direction, header.sform_direction(), rtol=0, atol=1e-6))
    )
