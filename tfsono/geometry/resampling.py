"""One rule for a change of voxel size: the physical extent of the volume is kept.

Along each axis `n_in` voxels become `n_out = max(1, floor(n_in * ratio))`, where `ratio` is the old spacing
over the requested one. The new grid covers exactly the old one's extent, from the outer face of the first
voxel to that of the last, so its spacing is `spacing * n_in / n_out`: the requested one, except for rounding.
Voxel centres correspond as

    source = (i + 0.5) * n_in / n_out - 0.5

Linear interpolation clamps `source` to `[0, n_in - 1]` (edge values are replicated); nearest takes
`floor(source + 0.5)`, ties going up, which is `((2 i + 1) n_in) // (2 n_out)` in integers, without rounding
errors. Nothing is smoothed before a volume is shrunk. NumPy only: `inference` follows the same rule. Source:
our choice, the papers do not say.
"""

from __future__ import annotations

import math

import numpy as np

# Files store spacings in 32 bits: 100 voxels of float32(0.7) mm at 1.4 mm are 49.9999991, and mean 50.
ROUNDING = 1e-3


def resampled_size(size: tuple[int, ...], ratio: tuple[float, ...]) -> tuple[int, ...]:
    """The number of voxels along each axis after a change by `ratio` (old spacing over new), at least 1."""
    if len(size) != len(ratio):
        raise ValueError(f"size {size} and ratio {ratio} must have the same length")
    return tuple(max(1, math.floor(n * r + ROUNDING)) for n, r in zip(size, ratio, strict=True))


def resampled_spacing(size: tuple[int, ...], new_size: tuple[int, ...], spacing_mm) -> tuple[float, ...]:
    """The spacing [mm] at which `new_size` voxels cover the extent of `size` voxels of `spacing_mm`."""
    return tuple(float(s) * n / m for s, n, m in zip(spacing_mm, size, new_size, strict=True))


def source_coordinates(n_out: int, n_in: int) -> np.ndarray:
    """[n_out] float64: the source index (voxel centres, not clamped) of each new voxel along one axis."""
    return (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5


def nearest_indices(n_out: int, n_in: int) -> np.ndarray:
    """[n_out] int64: the source voxel nearest to each new voxel; a tie goes to the higher one."""
    return ((2 * np.arange(n_out, dtype=np.int64) + 1) * n_in) // (2 * n_out)


def resampled_points(points_vox: np.ndarray, size: tuple[int, ...], new_size: tuple[int, ...]) -> np.ndarray:
    """[K, D] voxel coordinates in the old grid -> in the new one; NaN stays NaN."""
    ratio = np.asarray(new_size, np.float64) / np.asarray(size, np.float64)
    return (np.asarray(points_vox, np.float64) + 0.5) * ratio - 0.5


def resample_volume(array: np.ndarray, new_size: tuple[int, ...], nearest: bool = False) -> np.ndarray:
    """`array` [X, Y, ...] with `new_size` voxels along its axes, linear (float32) or nearest (own type)."""
    if array.ndim != len(new_size):
        raise ValueError(f"new_size {new_size} must have one entry for each of the array's {array.ndim} axes")
    for axis, n_out in enumerate(new_size):
        if nearest:
            array = np.take(array, nearest_indices(n_out, array.shape[axis]), axis=axis)
        else:
            array = _linear_along(array, axis, n_out)
    return np.ascontiguousarray(array) if nearest else np.ascontiguousarray(array, np.float32)


def _linear_along(array: np.ndarray, axis: int, n_out: int) -> np.ndarray:
    """Linear interpolation along one axis; linear in each axis in turn is trilinear."""
    n_in = array.shape[axis]
    if n_in == n_out:
        return array
    source = np.clip(source_coordinates(n_out, n_in), 0.0, n_in - 1.0)
    low = np.floor(source).astype(np.int64)
    shape = [1] * array.ndim
    shape[axis] = n_out
    weight = (source - low).astype(np.float32).reshape(shape)
    below = np.take(array, low, axis=axis).astype(np.float32)
    above = np.take(array, np.minimum(low + 1, n_in - 1), axis=axis).astype(np.float32)
    return below + weight * (above - below)
