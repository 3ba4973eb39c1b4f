"""One DICOM series of a folder, its slices in the order of their positions.

GDCM reads the pixels; which files belong together and whether their positions make an even grid is checked
here first, because ITK gives a gap or a rotating stack a wrong spacing, with a warning at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tfsono.errors import UserError
from tfsono.volumes.volume import Volume, call_quietly, reason_of, volume_from_image

_POSITION, _ORIENTATION = "0020|0032", "0020|0037"

_GAP_TOLERANCE = 0.02
"""Largest relative deviation of a gap between slices from the median gap: headers often keep two digits."""

_ORIENTATION_TOLERANCE = 1e-3
_SIDEWAYS_TOLERANCE = 0.1
"""Largest sideways shift of a slice against the first, in pixels (a gantry's tilt)."""


@dataclass(frozen=True)
class _Slice:
    """The header of one file: size [columns, rows, frames], position and orientation."""

    path: str
    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    position_mm: np.ndarray | None
    axes: np.ndarray | None


def is_series_folder(folder) -> bool:
    """Whether a folder directly holds DICOM files, of any number of series."""
    return Path(folder).is_dir() and bool(_series_ids(Path(folder)))


def read_series(folder, series_id: str | None = None) -> Volume:
    """Reads the only series of a folder, or the one that `series_id` names; sub-folders are not searched.

    Args:
        folder: the folder that holds the files; their names, and other files, do not matter.
        series_id: a SeriesInstanceUID, needed where the folder holds several.

    Returns:
        The volume [X, Y, Z], slices ascending along the normal of the slice plane, rescaled as the files say.

    Raises:
        UserError: no DICOM, a damaged file, several series, a single slice; slices without position, of
            different size or orientation, twice at one place, missing, unevenly spaced or shifted sideways;
            and whatever `read_volume` refuses, except constant images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: the folder must exist; found none")
    slices = [_read_header(path) for path in _files_of(folder, _chosen_series(folder, series_id))]
    if len(slices) == 1 and slices[0].size[-1] > 1:
        return volume_from_image(_read_files([slices[0].path], folder), str(folder))
    order = _checked_order(folder, slices)
    return volume_from_image(_read_files([slices[index].path for index in order], folder), str(folder))


def _series_ids(folder: Path) -> tuple[str, ...]:
    return call_quietly(lambda: sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)))


def _files_of(folder: Path, series_id: str) -> tuple[str, ...]:
    return call_quietly(lambda: sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series_id))


def _chosen_series(folder: Path, series_id: str | None) -> str:
    found = _series_ids(folder)
    if not found:
        raise UserError(f"{folder}: a DICOM series is needed; found no DICOM file directly in the folder")
    files = {one: _files_of(folder, one) for one in found}
    _check_no_damaged(folder, {Path(path).name for paths in files.values() for path in paths})
    listed = ", ".join(f"{one} ({len(paths)} files)" for one, paths in files.items())
    if series_id is not None and series_id not in found:
        raise UserError(f"{folder}: must hold the series {series_id}; found {listed}")
    if series_id is None and len(found) > 1:
        raise UserError(f"{folder}: a folder must hold one DICOM series; found {len(found)}: {listed}; "
                        "give each its own folder")
    return series_id or found[0]


def _check_no_damaged(folder: Path, listed: set[str]) -> None:
    """GDCM skips files that it cannot read: at an end of the stack a slice would be lost unnoticed."""
    for path in sorted(folder.iterdir()):
        if path.name in listed or path.name.upper() == "DICOMDIR" or not path.is_file():
            continue
        with open(path, "rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM" or path.suffix.lower() == ".dcm"
        if is_dicom and not path.name.startswith("."):
            raise UserError(f"{path}: each DICOM file of the folder must be readable; found it damaged or "
                            "truncated; copy it again, or remove it if it is no image")


def _read_header(path: str) -> _Slice:
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.SetImageIO("GDCMImageIO")
    try:
        call_quietly(reader.ReadImageInformation)
    except RuntimeError as error:
        raise UserError(f"{path}: must be a readable DICOM file; found: {reason_of(error)}") from None
    axes = _numbers(reader, _ORIENTATION, 6)
    return _Slice(
        path=path,
        size=reader.GetSize(),
        spacing_mm=reader.GetSpacing()[:2],
        position_mm=_numbers(reader, _POSITION, 3),
        axes=None if axes is None else axes.reshape(2, 3),
    )


def _numbers(reader: sitk.ImageFileReader, tag: str, count: int) -> np.ndarray | None:
    """The numbers of a backslash-separated field; None where it is absent or not `count` numbers."""
    text = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        return None
    return values if values.size == count and np.isfinite(values).all() else None


def _checked_order(folder: Path, slices: list[_Slice]) -> list[int]:
    """The indices of the slices in the order of their positions, which must make an even grid."""
    if len(slices) < 2:
        raise UserError(f"{folder}: a volume needs two or more slices; found a single one, {slices[0].path}")
    _check_alike(folder, slices)
    first = slices[0]
    normal = np.cross(first.axes[0], first.axes[1])
    positions = np.array([one.position_mm for one in slices])
    depth = positions @ normal
    order = np.argsort(depth, kind="stable")
    _check_gaps(folder, depth[order])
    across = positions - positions[order[0]]
    shift = np.linalg.norm(across - np.outer(across @ normal, normal), axis=1).max()
    if shift > _SIDEWAYS_TOLERANCE * min(first.spacing_mm):
        raise UserError(f"{folder}: slices must be aligned; found a sideways shift of "
                        f"{shift:.3g} mm (a tilted gantry?); resample the series first")
    return order.tolist()


def _check_alike(folder: Path, slices: list[_Slice]) -> None:
    """All slices have a position, and the size, pixel spacing and orientation of the first."""
    first = slices[0]
    for one in slices:
        name = Path(one.path).name
        if one.position_mm is None or one.axes is None:
            raise UserError(f"{folder}: every slice needs ImagePositionPatient and ImageOrientationPatient; "
                            f"found {name} without")
        if one.size != first.size or not np.allclose(one.spacing_mm, first.spacing_mm, rtol=1e-4):
            raise UserError(f"{folder}: all slices must have one size and pixel spacing; found "
                            f"{_grid(first)} and {_grid(one)} ({name})")
        tilt = np.abs(one.axes - first.axes).max()
        if tilt > _ORIENTATION_TOLERANCE:
            raise UserError(f"{folder}: all slices must be parallel; found {name} rotated against "
                            f"{Path(first.path).name}, a direction cosine differs by {tilt:.3g}")


def _check_gaps(folder: Path, depth: np.ndarray) -> None:
    """`depth` [N] are the sorted positions along the normal, in millimetres."""
    gaps = np.diff(depth)
    usual = float(np.median(gaps))
    doubled = int(np.count_nonzero(gaps < 1e-3 * max(usual, 1.0)))
    if doubled:
        raise UserError(f"{folder}: each slice must have its own position; found {depth.size} slices at "
                        f"{depth.size - doubled} positions; split the echoes or time points into folders")
    uneven = np.abs(gaps - usual) > _GAP_TOLERANCE * usual
    if not uneven.any():
        return
    steps = np.rint(gaps / usual)
    where = depth[int(np.argmax(uneven))]
    if (np.abs(gaps - steps * usual) <= _GAP_TOLERANCE * usual).all():
        raise UserError(f"{folder}: no slice may be missing; found {int(steps.sum()) - gaps.size} missing of "
                        f"{int(steps.sum()) + 1} at {usual:.4g} mm, the first after position {where:.4g} mm")
    raise UserError(f"{folder}: slices must be evenly spaced; found gaps from {gaps.min():.4g} to "
                    f"{gaps.max():.4g} mm, the first odd one after {where:.4g} mm; resample it first")


def _grid(one: _Slice) -> str:
    columns, rows = one.size[:2]
    return f"{columns}x{rows} at {one.spacing_mm[0]:.4g}x{one.spacing_mm[1]:.4g} mm"


def _read_files(paths: list[str], folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames(paths)
    try:
        return call_quietly(reader.Execute)
    except RuntimeError as error:
        raise UserError(f"{folder}: must be a readable DICOM series; found: {reason_of(error)}") from None
