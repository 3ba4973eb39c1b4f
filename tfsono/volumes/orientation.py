"""Permutation and flips between orientations: nothing is interpolated, so the inverse is exact.

An orientation is three letters, one an array axis, for the direction of the axis: L or R, P or A, S or I
("LPS" is the identity direction, as in DICOM and ITK; NIfTI's "RAS+" follows the same convention).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfsono.volumes.volume import Volume

_AXES = "RLAPIS"
"""Two letters a physical axis: negative end first, in LPS order."""


def orientation_code(volume: Volume) -> str:
    """The three letters of the volume's nearest axes, such as "LPS" or "PIR"."""
    return "".join(_AXES[2 * row + (sign > 0)] for row, sign in _nearest_axes(volume.direction))


def reorient(volume: Volume, orientation: str = "LPS") -> Volume:
    """The same voxels at the same places, with the array's axes nearest to `orientation`.

    An oblique volume keeps its residual rotation: axes are only exchanged and reversed. The array is C-contiguous.

    Raises:
        ValueError: `orientation` is not one letter of each pair L/R, P/A, S/I.
    """
    order, flips = _axis_plan(volume.direction, orientation)
    array = np.ascontiguousarray(_flip(volume.array.transpose(_with_rest(order, volume.array)), flips))
    matrix = volume.direction_matrix
    signs = np.where(flips, -1.0, 1.0)
    far = np.array([volume.size[axis] - 1 if flip else 0 for axis, flip in zip(order, flips, strict=True)])
    spacing = np.asarray(volume.spacing_mm)[order]
    origin = np.asarray(volume.origin_mm) + matrix[:, order] @ (spacing * far)
    direction = (matrix[:, order] * signs).ravel() + 0.0  # no negative zeros
    return replace(
        volume,
        array=array,
        spacing_mm=tuple(spacing.tolist()),
        origin_mm=tuple(origin.tolist()),
        direction=tuple(direction.tolist()),
    )


def restore_orientation(array: np.ndarray, native: Volume, orientation: str = "LPS") -> np.ndarray:
    """The inverse of `reorient`: an array on the reoriented grid back on the native one.

    Args:
        array: [X', Y', Z'] or with further axes, on the reoriented grid.
        native: the volume before `reorient`; only its direction and size are used.
        orientation: as given to `reorient`.

    Returns:
        A C-contiguous array [X, Y, Z, ...] of native's size.

    Raises:
        ValueError: the array's size is not that of the reoriented grid.
    """
    order, flips = _axis_plan(native.direction, orientation)
    expected = tuple(native.size[axis] for axis in order)
    if array.shape[:3] != expected:
        raise ValueError(f"array must have the reoriented size {expected}; found {array.shape[:3]}")
    back = np.argsort(order).tolist()
    return np.ascontiguousarray(_flip(array, flips).transpose(_with_rest(back, array)))


def _axis_plan(direction, orientation: str) -> tuple[list[int], list[bool]]:
    """For each new axis: the old axis, and whether it is reversed."""
    wanted = _parse(orientation)
    found = _nearest_axes(direction)
    rows = [row for row, _ in found]
    order = [rows.index(row) for row, _ in wanted]
    flips = [found[axis][1] != sign for axis, (_, sign) in zip(order, wanted, strict=True)]
    return order, flips


def _parse(orientation: str) -> list[tuple[int, int]]:
    pairs = [divmod(_AXES.find(letter), 2) for letter in orientation]
    if sorted(row for row, _ in pairs) != [0, 1, 2]:
        raise ValueError(f"orientation must be one letter of each of L/R, P/A, S/I; found {orientation!r}")
    return [(row, 1 if positive else -1) for row, positive in pairs]


def _nearest_axes(direction) -> list[tuple[int, int]]:
    """For each array axis its physical axis (0 L, 1 P, 2 S) and sign.

    The largest cosine of the whole matrix is assigned first, then the largest of the rest, as in ITK: so no
    physical axis is assigned twice, however oblique the volume is.
    """
    matrix = np.array(direction, np.float64).reshape(3, 3)
    left = np.abs(matrix)
    nearest: list[tuple[int, int]] = [(0, 1)] * 3
    for _ in range(3):
        row, column = (int(index) for index in np.unravel_index(left.argmax(), left.shape))
        nearest[column] = (row, 1 if matrix[row, column] > 0 else -1)
        left[row, :] = -1
        left[:, column] = -1
    return nearest


def _flip(array: np.ndarray, flips: list[bool]) -> np.ndarray:
    return array[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def _with_rest(order: list[int], array: np.ndarray) -> list[int]:
    return [*order, *range(3, array.ndim)]
