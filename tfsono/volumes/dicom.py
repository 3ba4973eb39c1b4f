"""One DICOM series of a folder, or one multi-frame object, its slices in the order of their positions.

GDCM finds the files and reads the pixels. Which planes belong together is read and checked here first: the headers in
`dicom_planes`, the grid in `dicom_grid`.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

from tfsono.errors import UserError
from tfsono.files import check_name
from tfsono.volumes.dicom_bytes import check_nesting
from tfsono.volumes.dicom_grid import Stack, checked_stack
from tfsono.volumes.dicom_planes import DAMAGE, Header, Plane, read_header
from tfsono.volumes.volume import NoSpacingError, Volume, call_quietly, reason_of, volume_from_image, with_spacing

_MOST_NAMED = 3


def is_series_folder(folder) -> bool:
    """Whether a folder directly holds DICOM files, of any number of series."""
    try:
        check_name(folder)
    except UserError:
        return False
    try:
        return Path(folder).is_dir() and bool(_series_ids(Path(folder)))
    except UserError:
        return True  # a DICOM file that GDCM would not survive, which is reported when it is read


def read_series(folder, series_id: str | None = None, spacing_mm=None) -> Volume:
    """Reads the only series of a folder, or the one that `series_id` names; sub-folders are not searched.

    Objects that are no images (RTSTRUCT, SEG, SR, PR, KO) are passed over, with a note.

    Args:
        folder: the folder that holds the files; their names, and other files, do not matter.
        series_id: a SeriesInstanceUID, needed where the folder holds several.
        spacing_mm: three numbers that are used instead of the headers' spacing, with a note.

    Returns:
        The volume [X, Y, Z], slices ascending along the normal of the slice plane, rescaled as each file says.

    Raises:
        NoSpacingError: no PixelSpacing, and none is given.
        UserError: no DICOM, a damaged file, several series, a single slice, frames in time; slices without position,
            of different size or orientation, twice at one place, missing, unevenly spaced or shifted sideways;
            and whatever `read_volume` refuses, except constant images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: the folder must exist; found none")
    files, others = _files_by_series(folder)
    headers = [read_header(path) for path in files[_chosen_series(folder, files, others, series_id)]]
    others += [header for header in headers if header.other]
    volume = _read_headers(str(folder), [header for header in headers if not header.other], spacing_mm)
    notes = (f"passed over, no image: {_named(others)}",) if others else ()
    return replace(volume, notes=(*notes, *volume.notes))


def read_dicom_file(path, spacing_mm=None) -> Volume:
    """Reads one multi-frame object; arguments, result and errors as of `read_series`."""
    header = read_header(path)
    if header.other:
        raise UserError(f"{path}: must be an image; found {header.other}")
    return _read_headers(str(path), [header], spacing_mm)


# ------------------------------------------------------------------------------------------ the files of a folder


def _series_ids(folder: Path) -> tuple[str, ...]:
    for path in folder.iterdir():
        if path.is_file():
            check_nesting(path)
    try:
        return call_quietly(lambda: sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))
    except RuntimeError:  # an element of another type than its tag has
        raise UserError(f"{folder}: the DICOM files of a folder must be readable; found one that is damaged; copy them "
                        "again") from None


def _files_by_series(folder: Path) -> tuple[dict[str, tuple[str, ...]], list[Header]]:
    """The files of each series of images, and the headers of objects that are none."""
    check_name(folder)
    found: dict[str, tuple[str, ...]] = {}
    others: list[Header] = []
    for one in _series_ids(folder):
        paths = call_quietly(lambda: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), one))  # noqa: B023
        for path in paths:
            check_name(path)
        headers = [read_header(path) for path in paths] if read_header(paths[0]).other else []
        if headers and all(header.other for header in headers):
            others += headers
        else:
            found[one] = paths
    known = {Path(path).name for paths in found.values() for path in paths} | {Path(one.path).name for one in others}
    return found, others + _unlisted(folder, known)


def _unlisted(folder: Path, known: set[str]) -> list[Header]:
    """The headers of objects without pixels, which GDCM skips.

    It skips damaged files too: at an end of the stack a slice would be lost unnoticed.
    """
    others = []
    for path in sorted(folder.iterdir()):
        if path.name in known or path.name.upper() == "DICOMDIR" or path.name.startswith(".") or not path.is_file():
            continue
        with open(path, "rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM" or path.suffix.lower() == ".dcm"
        header = _other_object(path) if is_dicom else None
        if header is not None:
            others.append(header)
        elif is_dicom:
            check_name(path)
            raise UserError(f"{path}: each DICOM file of the folder must be readable; found it damaged or "
                            "truncated; copy it again, or remove it if it is no image")
    return others


def _other_object(path: Path) -> Header | None:
    """The header of a readable object that is no image."""
    try:
        header = read_header(path)
    except UserError:
        return None
    return header if header.other else None


def _chosen_series(folder: Path, files: dict, others: list[Header], series_id: str | None) -> str:
    if not files:
        found = f"only {_named(others)}" if others else "no DICOM file directly in the folder"
        raise UserError(f"{folder}: a DICOM series is needed; found {found}")
    # a SeriesInstanceUID leads to a patient, and lines are kept in audit.json
    listed = ", ".join(f"{Path(paths[0]).name} (one of {len(paths)} files)" for paths in files.values())
    if series_id is not None and series_id not in files:
        raise UserError(f"{folder}: must hold the series {series_id}; found {listed}")
    if series_id is None and len(files) > 1:
        raise UserError(f"{folder}: a folder must hold one DICOM series; found {len(files)}: {listed}; "
                        "give each its own folder")
    return series_id or next(iter(files))


def _named(others: list[Header]) -> str:
    """A few of them by name, and the number of the rest."""
    named = [f"{Path(one.path).name} ({one.other})" for one in others]
    rest = [f"and {len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
    return ", ".join(named[:_MOST_NAMED] + rest)


# ------------------------------------------------------------------------------------------ the volume


def _read_headers(where: str, headers: list[Header], spacing_mm) -> Volume:
    planes = [plane for header in headers for plane in header.planes]
    if not planes:
        raise UserError(f"{where}: a DICOM series is needed; found no image")
    if len(planes) > len(headers) and all(plane.position_mm is None for plane in planes):
        stack = _stack_as_stated(where, headers, spacing_mm)
    else:
        stack = checked_stack(where, planes)
    if len({plane.storage[-1] for plane in planes}) > 1:
        raise UserError(f"{where}: the slices must have their greys in one order; found MONOCHROME1 and others; export "
                        "them again")
    lacking = next((plane for plane in planes if plane.spacing_mm is None), None)
    if lacking is not None and spacing_mm is None:
        raise NoSpacingError(where, f"{lacking.spacing_found} ({lacking.name})")
    volume = volume_from_image(_image(where, planes, stack), where)
    rescaled = "rescale slope or intercept differs by slice: each slice has its own"
    differ = len({(plane.slope, plane.intercept) for plane in planes}) > 1
    volume = replace(volume, notes=(*stack.notes, *[rescaled] * differ, *volume.notes))
    if spacing_mm is None:
        return volume
    between = f", and {stack.between_mm:.4g} mm between slices" if planes[0].position_mm is not None else ""
    return with_spacing(volume, spacing_mm, f"{lacking.spacing_found}{between}" if lacking else "")


def _stack_as_stated(where: str, headers: list[Header], spacing_mm) -> Stack:
    """Of frames without any position, which only a user can know to be slices."""
    frames = len(headers[0].planes)
    if any(header.in_time for header in headers) or len(headers) > 1:
        raise UserError(f"{where}: a volume must be a grid in space; found {frames} frames in time (a cine loop), "
                        "without positions; export a volume (3D DICOM, NRRD) from the scanner")
    if spacing_mm is None:
        raise NoSpacingError(where, f"{frames} frames without positions")
    identity = tuple(np.eye(3).ravel().tolist())
    return Stack(list(range(frames)), 1.0, identity, ("frames without positions taken as slices, as stated",))


def _image(where: str, planes: list[Plane], stack: Stack) -> sitk.Image:
    """The stack with the geometry of the headers."""
    ordered = [planes[index] for index in stack.order]
    if len({plane.path for plane in ordered}) == len(ordered) and len({_values(plane) for plane in ordered}) == 1:
        image = _read_files([plane.path for plane in ordered], where)
        if stack.notes:  # ITK takes the positions as they are
            image.SetSpacing((*image.GetSpacing()[:2], stack.between_mm))
    else:
        image = sitk.GetImageFromArray(_pixels(where, ordered))
        image.SetSpacing((1.0, 1.0, stack.between_mm))
        image.SetDirection(stack.direction)
        image.SetOrigin([0.0] * 3 if ordered[0].position_mm is None else ordered[0].position_mm.tolist())
    if ordered[0].spacing_mm is not None:
        image.SetSpacing((*ordered[0].spacing_mm, image.GetSpacing()[2]))
    return image


def _values(plane: Plane) -> tuple:
    """What ITK takes from the first file for all of them."""
    return plane.slope, plane.intercept, plane.storage


def _pixels(where: str, planes: list[Plane]) -> np.ndarray:
    """[Z, Y, X], each plane rescaled with its own slope; float32 unless there is nothing to rescale."""
    files: dict[str, np.ndarray] = {}
    for path, of_file in itertools.groupby(sorted(planes, key=lambda plane: plane.path), lambda plane: plane.path):
        files[path] = _file_pixels(path, list(of_file))
    slices = [files[plane.path][plane.frame] for plane in planes]
    kinds = {one.dtype for one in slices}
    return np.stack(slices) if len(kinds) == 1 else np.stack([one.astype(np.float32) for one in slices])


def _file_pixels(path: str, planes: list[Plane]) -> np.ndarray:
    """[frames, Y, X] of one file. GDCM rescales all frames like the first, so pydicom reads frames that differ."""
    if len({_values(plane) for plane in planes}) == 1:
        pixels = sitk.GetArrayFromImage(_read_files([path], path))
    else:
        pixels = _rescaled_frames(path, planes)
    if pixels.ndim != 3:
        raise UserError(f"{path}: one real number a voxel is needed (no colour, no vectors); found an array of "
                        f"{'x'.join(map(str, pixels.shape))}")
    return pixels


def _rescaled_frames(path: str, planes: list[Plane]) -> np.ndarray:
    try:
        stored = pydicom.dcmread(path, force=True).pixel_array
    except (RuntimeError, *DAMAGE):
        raise UserError(f"{path}: frames with different rescale slopes must be whole and not compressed; found them "
                        "damaged or compressed; decompress the file first") from None
    slopes, intercepts = (np.zeros((len(stored), *(1,) * (stored.ndim - 1))) for _ in range(2))
    for plane in planes:
        slopes[plane.frame], intercepts[plane.frame] = plane.slope, plane.intercept
    return (stored * slopes + intercepts).astype(np.float32)


def _read_files(paths: list[str], where: str) -> sitk.Image:
    content = paths if len(paths) > 1 else paths[0]  # a list of one gives a fourth axis
    try:
        return call_quietly(lambda: sitk.ReadImage(content, imageIO="GDCMImageIO"))
    except RuntimeError as error:
        raise UserError(f"{where}: must be a readable DICOM series; found: {reason_of(error)}") from None
