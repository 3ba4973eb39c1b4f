"""Boxes of voxels around structures, and the network's grid on a box; NumPy, without weights.

A box counts voxels from `low` up to, but not including, `high`. On a box of `n` voxels the network's grid has
`m = max(1, floor(n * ratio))` voxels along each axis, which cover the same extent (`geometry.resampling`), so that

    native = low + (i + 0.5) * n / m - 0.5

and is padded at its high end to a multiple of the network's stride. Source: femur, Sec. II-A and III-A.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfsono.geometry.resampling import resampled_size


@dataclass(frozen=True)
class Box:
    """Voxels `low` .. `high` (exclusive) along each axis; at least one.

    Attributes:
        low: the first voxel.
        high: one more than the last voxel.
    """

    low: tuple[int, ...]
    high: tuple[int, ...]

    def __post_init__(self):
        object.__setattr__(self, "low", tuple(int(value) for value in self.low))
        object.__setattr__(self, "high", tuple(int(value) for value in self.high))
        if len(self.low) != len(self.high) or any(a >= b for a, b in zip(self.low, self.high, strict=False)):
            raise ValueError(f"low must be below high along every axis; found {self.low} and {self.high}")

    @property
    def sides(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(b - a for a, b in zip(self.low, self.high, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The slices of the box in an array."""
        return tuple(slice(a, b) for a, b in zip(self.low, self.high, strict=True))

    @property
    def middle(self) -> np.ndarray:
        """The point in the middle, in voxel-centre indices: float64."""
        return (np.array(self.low) + np.array(self.high) - 1) / 2

    @property
    def voxels(self) -> int:
        """Their number."""
        return int(np.prod(self.sides, dtype=np.int64))


def box_of(mask: np.ndarray | None, points_vox: np.ndarray | None = None) -> Box | None:
    """The smallest box around the mask's foreground, or without any around the voxels of the known points.

    Args:
        mask: [X, Y, Z], foreground above 0; or None.
        points_vox: [K, 3], NaN where missing; or None. They do not enlarge the box of a mask.

    Returns:
        None where there is neither.
    """
    if mask is not None:
        found = _ends(np.asarray(mask) > 0)
        if found is not None:
            return found
    if points_vox is None:
        return None
    points = np.asarray(points_vox, np.float64)
    points = points[np.isfinite(points).all(axis=-1)]
    if not len(points):
        return None
    voxels = np.floor(points + 0.5).astype(np.int64)
    return Box(voxels.min(axis=0), voxels.max(axis=0) + 1)


def enlarged(box: Box, margin: int, shape) -> Box:
    """`margin` voxels more on each side of every axis, within the volume of that shape.

    A box outside the volume, around points outside, gives the volume's nearest voxels.
    """
    last = np.array(shape) - 1
    low = np.clip(np.array(box.low) - margin, 0, last)
    high = np.clip(np.array(box.high) + margin, low + 1, last + 1)
    return Box(low, high)


def box_iou(one: Box, other: Box) -> float:
    """Voxels in both boxes over voxels in either."""
    sides = np.minimum(one.high, other.high) - np.maximum(one.low, other.low)
    shared = int(np.prod(np.maximum(sides, 0), dtype=np.int64))
    return shared / (one.voxels + other.voxels - shared)


@dataclass(frozen=True)
class NetworkGrid:
    """The network's grid on a box of a volume.

    Attributes:
        box: of native voxels.
        size: voxels of the grid on it.
        padded: the sides of the network's input: `size`, and padding at the high end.
    """

    box: Box
    size: tuple[int, ...]
    padded: tuple[int, ...]

    @property
    def scale(self) -> np.ndarray:
        """Native voxels in one of the network's, along each axis: native = scale * network + offset."""
        return np.array(self.box.sides, np.float64) / np.array(self.size)

    @property
    def offset(self) -> np.ndarray:
        """The centre of the grid's first voxel, in native voxels."""
        return np.array(self.box.low) + 0.5 * self.scale - 0.5


def network_grid(box: Box, ratio: float, stride: int) -> NetworkGrid:
    """The grid at `ratio` (network's voxels per native voxel) on a box, padded to multiples of `stride`."""
    size = resampled_size(box.sides, (ratio,) * len(box.sides))
    return NetworkGrid(box, size, padded_sides(size, stride))


def largest_grid(shapes, ratio: float, stride: int) -> tuple[int, ...]:
    """The padded sides of the network's grid on the volume or region of these shapes that takes most voxels."""
    grids = (network_grid(Box((0,) * len(shape), shape), ratio, stride).padded for shape in shapes)
    return max(grids, key=lambda sides: int(np.prod(sides, dtype=np.int64)))


def padded_sides(sides, stride: int) -> tuple[int, ...]:
    """The smallest multiples of `stride` that hold the sides."""
    return tuple(-(-int(side) // stride) * stride for side in sides)


def _ends(foreground: np.ndarray) -> Box | None:
    """The box of a boolean array's true voxels, None without any."""
    axes = range(foreground.ndim)
    found = [np.flatnonzero(foreground.any(axis=tuple(a for a in axes if a != axis))) for axis in axes]
    return Box([f[0] for f in found], [f[-1] + 1 for f in found]) if len(found[0]) else None
