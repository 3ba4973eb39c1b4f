"""Whether the planes of a DICOM series make an even grid, and in which order.

ITK gives a gap or a rotating stack a wrong spacing, with a warning at most. A deviation within the digits that the
headers have is no unevenness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfsono.errors import UserError
from tfsono.volumes.dicom_planes import Plane

_GAP_TOLERANCE = 0.02
"""Largest relative deviation of a gap between slices from the median gap: headers often keep two digits."""

_ORIENTATION_TOLERANCE = 1e-3
_SIDEWAYS_TOLERANCE = 0.1
"""Largest sideways shift of a slice against the first, in pixels (a gantry's tilt)."""

_COARSEST_DIGIT = 0.25
"""Largest unit of the last digit of positions, as a part of the spacing: a missing slice must be seen beyond it."""


@dataclass(frozen=True)
class Stack:
    """The order of the planes.

    Attributes:
        order: indices of the planes, ascending along the normal.
        between_mm: of neighbouring slices.
        direction: nine floats as in `Volume`.
        notes: what was noticed, a line each.
    """

    order: list[int]
    between_mm: float
    direction: tuple[float, ...]
    notes: tuple[str, ...]


def checked_stack(where, planes: list[Plane]) -> Stack:
    """The stack of two or more planes; `where` is the file or folder, for messages.

    Raises:
        UserError: planes without position, of different size, spacing or orientation, twice at one place,
            missing, unevenly spaced or shifted sideways.
    """
    if len(planes) < 2:
        raise UserError(f"{where}: a volume needs two or more slices; found a single one, {planes[0].name}; "
                        "of a series give the folder")
    _check_alike(where, planes)
    first = planes[0]
    normal = np.cross(first.axes[0], first.axes[1])
    positions = np.array([one.position_mm for one in planes])
    depth = positions @ normal
    order = np.argsort(depth, kind="stable")
    step_mm = 10.0 ** -max(one.decimals[0] for one in planes) * float(np.abs(normal).sum())
    between_mm, notes = _checked_gaps(where, depth[order], step_mm, first.between_mm)
    across = positions - positions[order[0]]
    shift = np.linalg.norm(across - np.outer(across @ normal, normal), axis=1).max()
    if shift > _sideways_mm(planes, float(np.ptp(depth))):
        raise UserError(f"{where}: slices must be aligned; found a sideways shift of "
                        f"{shift:.3g} mm (a tilted gantry?); resample the series first")
    return Stack(order.tolist(), between_mm, tuple(np.column_stack([*first.axes, normal]).ravel().tolist()), notes)


def _sideways_mm(planes: list[Plane], depth_mm: float) -> float:
    """The largest shift: a part of a pixel, and what the last digits of positions and axes may add."""
    position, axes = (max(one.decimals[kind] for one in planes) for kind in (0, 1))
    of_axes = min(10.0**-axes, _ORIENTATION_TOLERANCE) if axes else 0.0  # whole numbers are exact axes
    spacing = min(planes[0].spacing_mm or (np.inf,))
    return _SIDEWAYS_TOLERANCE * spacing + min(10.0**-position, 0.5 * spacing) + depth_mm * of_axes


def _check_alike(where, planes: list[Plane]) -> None:
    """All planes have a position, and the size, pixel spacing and orientation of the first."""
    first = planes[0]
    for one in planes:
        if one.position_mm is None or one.axes is None:
            raise UserError(f"{where}: every slice needs ImagePositionPatient and ImageOrientationPatient; "
                            f"found {one.name} without")
        if one.size != first.size or not np.allclose(one.spacing_mm or 1, first.spacing_mm or 1, rtol=1e-4):
            raise UserError(f"{where}: all slices must have one size and pixel spacing; found "
                            f"{_grid(first)} and {_grid(one)} ({one.name})")
        tilt = np.abs(one.axes - first.axes).max()
        if tilt > _ORIENTATION_TOLERANCE:
            raise UserError(f"{where}: all slices must be parallel; found {one.name} rotated against "
                            f"{first.name}, a direction cosine differs by {tilt:.3g}")
    if not np.allclose(first.axes @ first.axes.T, np.eye(2), rtol=0, atol=1e-2):
        raise UserError(f"{where}: ImageOrientationPatient must be two perpendicular unit vectors; found "
                        f"{', '.join(f'{value:.4g}' for value in first.axes.ravel())} ({first.name})")


def _checked_gaps(where, depth: np.ndarray, step_mm: float, stated_mm: float | None) -> tuple[float, tuple[str, ...]]:
    """The spacing of the sorted positions `depth` [N] and notes; `step_mm` is the unit of their last digit."""
    gaps = np.diff(depth)
    usual = float(np.median(gaps))
    mean = float((depth[-1] - depth[0]) / gaps.size)
    doubled = int(np.count_nonzero(gaps < 1e-3 * max(usual, 1.0)))
    if doubled:
        raise UserError(f"{where}: each slice must have its own position; found {depth.size} slices at "
                        f"{depth.size - doubled} positions; split the echoes or time points into folders")
    uneven = np.abs(gaps - usual) > _GAP_TOLERANCE * usual
    if not uneven.any():
        return mean, ()
    rounded = _rounded_spacing(depth, step_mm, stated_mm)
    if rounded is not None:
        return rounded, (f"positions of slices rounded to {step_mm:.2g} mm in the headers: {rounded:.5g} mm between "
                         "slices taken",)
    steps = np.rint(gaps / usual)
    where_mm = depth[int(np.argmax(uneven))]
    if (np.abs(gaps - steps * usual) <= _GAP_TOLERANCE * usual + step_mm).all() and steps.max() > 1:
        raise UserError(f"{where}: no slice may be missing; found {int(steps.sum()) - gaps.size} missing of "
                        f"{int(steps.sum()) + 1} at {usual:.4g} mm, the first after position {where_mm:.4g} mm")
    raise UserError(f"{where}: slices must be evenly spaced; found gaps from {gaps.min():.4g} to "
                    f"{gaps.max():.4g} mm, the first odd one after {where_mm:.4g} mm; resample it first")


def _rounded_spacing(depth: np.ndarray, step_mm: float, stated_mm: float | None) -> float | None:
    """The spacing of an even grid from which each position is off by half its last digit at most; None if none is.

    The stated one if it is such a spacing, else the middle of those that are.
    """
    first, second = np.triu_indices(depth.size, 1)
    rises, steps = depth[second] - depth[first], second - first
    low, high = float(((rises - 1.001 * step_mm) / steps).max()), float(((rises + 1.001 * step_mm) / steps).min())
    if low > high or step_mm > _COARSEST_DIGIT * low:
        return None
    return stated_mm if stated_mm and low <= stated_mm <= high else (low + high) / 2


def _grid(one: Plane) -> str:
    columns, rows = one.size
    spacing = one.spacing_mm
    return f"{columns}x{rows}" + (f" at {spacing[0]:.4g}x{spacing[1]:.4g} mm" if spacing else "")
