"""Volumes and masks: read with every check, written back in their original geometry.

SimpleITK counts sizes x, y, z but its arrays come as [z, y, x]; everything here is [x, y, z]. Damage that ITK does
not report (a truncated NIfTI is filled with zeros) is refused beforehand, see `completeness`.
"""

from __future__ import annotations

import gzip
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tfsono.errors import UserError
from tfsono.volumes.completeness import NIFTI_SUFFIXES, check_complete, first_bytes
from tfsono.volumes.dicom import read_series
from tfsono.volumes.nifti import copy_geometry, parse_header
from tfsono.volumes.orientation import orientation_code, reorient, restore_orientation
from tfsono.volumes.volume import (
    LabelValueError,
    OtherGridError,
    Volume,
    call_quietly,
    check_not_constant,
    grid_difference,
    image_from_array,
    reason_of,
    volume_from_image,
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
READ_SUFFIXES = (*WRITTEN_SUFFIXES, ".mhd", ".nhdr", ".mnc", ".hdr", ".img")

_READ_FORMATS = ("NiftiImageIO", "MetaImageIO", "NrrdImageIO", "MINCImageIO", "GDCMImageIO")
"""Formats whose truncation is noticed. ITK fills GIPL, VTK and TIFF files with zeros."""


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


def read_volume(path) -> Volume:
    """Reads a 3D image (NIfTI, MetaImage, NRRD, MINC, DICOM) or a folder that holds one DICOM series.

    Integers of up to 32 bits keep their type; files with a rescale slope and all floats become float32.

    Raises:
        UserError: missing, truncated or unreadable; 4D, 2D, colour; zero size; impossible spacing or
            direction; NaN or infinite voxels; a constant image.
    """
    volume = _read(path)
    check_not_constant(volume)
    return volume


def read_mask(path, like: Volume | None = None) -> Volume:
    """Reads an integer mask on the grid of `like` (to 1 % of a voxel); it may be empty.

    Args:
        path: as for `read_volume`.
        like: the mask's image; None keeps the mask's own grid.

    Returns:
        The mask with exactly `like`'s spacing, origin and direction; uint8 where its values fit, else int32.

    Raises:
        UserError: as `read_volume`, and for another grid or for values that are not whole numbers.
    """
    mask = _read(path)
    difference = grid_difference(mask, like) if like else ""
    if difference:
        raise OtherGridError(f"{mask.path}: a mask must have the grid of its image {like.path}; found "
                             f"{difference}; resample it onto the image (nearest neighbour)")
    return replace(like or mask, array=_whole_numbers(mask), path=mask.path)


def write_volume(path, array: np.ndarray, like: Volume) -> None:
    """Writes `array` [X, Y, Z] with its own type and the geometry of `like`, compressed except for `.nii`.

    Written under a temporary name and renamed when whole. NIfTI holds geometry in 32-bit floats; where `like`
    was itself read from a NIfTI-1 file, that file's geometry fields are copied bit for bit. MetaImage keeps
    every bit, NRRD all but the last one of oblique axes.

    Raises:
        UserError: an unsupported suffix, a missing folder, a type that the format cannot hold.
        ValueError: the array's size is not that of `like`.
    """
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


def _read(path) -> Volume:
    path = Path(path)
    if path.is_dir():
        return read_series(path)
    if not path.is_file():
        raise UserError(f"{path}: the file must exist; found none")
    check_complete(path)
    _check_format(path)
    try:
        image = call_quietly(lambda: sitk.ReadImage(str(path)))
    except RuntimeError as error:
        raise UserError(f"{path}: must be a readable volume; found: {reason_of(error)}") from None
    return volume_from_image(image, str(path))


def _check_format(path: Path) -> None:
    """Refuses files that are not medical volumes by their content."""
    found = call_quietly(lambda: sitk.ImageFileReader.GetImageIOFromFileName(str(path)))
    if found not in _READ_FORMATS:
        found = found.removesuffix("ImageIO") or "none of them by its content"
        raise UserError(f"{path}: must be NIfTI, MetaImage, NRRD, MINC or DICOM; found {found}")
    if found == "NiftiImageIO" and not path.name.lower().endswith(NIFTI_SUFFIXES):
        raise UserError(f"{path}: a NIfTI file must end with {', '.join(NIFTI_SUFFIXES)}; found another suffix; "
                        "unpack or rename it")


def _whole_numbers(mask: Volume) -> np.ndarray:
    array = mask.array
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        found = array[array != np.rint(array)][0]
        raise LabelValueError(f"{mask.path}: a mask must hold whole numbers; found {found}; threshold it first")
    low, high = int(array.min()), int(array.max())
    if low < np.iinfo(np.int32).min or high > np.iinfo(np.int32).max:
        raise LabelValueError(f"{mask.path}: labels must fit into 32 bits; found values from {low} to {high}")
    return array.astype(np.uint8 if 0 <= low and high <= 255 else np.int32, copy=False)


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
    if header is None or not _still_has_geometry(source, like):
        return
    with open(path, "r+b") as file:
        written = file.read(348)
        file.seek(0)
        file.write(copy_geometry(start, written))


def _still_has_geometry(path: Path, like: Volume) -> bool:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    call_quietly(reader.ReadImageInformation)
    return (
        reader.GetSize()[:3] == like.size
        and reader.GetSpacing()[:3] == tuple(like.spacing_mm)
        and reader.GetOrigin()[:3] == tuple(like.origin_mm)
        and reader.GetDirection() == tuple(like.direction)
    )
