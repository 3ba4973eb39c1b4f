"""Signed distances of simple bodies in millimetres (negative inside), their unions and differences.

`points` is always a tuple of three arrays of one shape, the coordinates in millimetres. Distances of
ellipsoids, of tapered or flat rods and of blended bodies are to first order: exact near the surface,
approximate far away.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Points = tuple[np.ndarray, np.ndarray, np.ndarray]


class Body(NamedTuple):
    """An ellipsoid of flesh: its middle [3], its half widths [3] along the rows of its axes [3, 3]; millimetres."""

    middle_mm: np.ndarray
    radii_mm: np.ndarray
    axes: np.ndarray


def length(vector: Points) -> np.ndarray:
    """The Euclidean length of each vector."""
    return np.sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2])


def along(points: Points, direction) -> np.ndarray:
    """The inner product of each point with a fixed direction [3]."""
    return points[0] * _f(direction[0]) + points[1] * _f(direction[1]) + points[2] * _f(direction[2])


def minus(points: Points, center) -> Points:
    """The points seen from `center` [3]."""
    return tuple(axis - _f(value) for axis, value in zip(points, center, strict=True))


def sphere(points: Points, center, radius_mm: float) -> np.ndarray:
    """A ball; exact."""
    return length(minus(points, center)) - _f(radius_mm)


def ellipsoid(points: Points, center, radii_mm, axes=((1, 0, 0), (0, 1, 0), (0, 0, 1))) -> np.ndarray:
    """An ellipsoid whose half axes `radii_mm` [3] are along the rows of `axes`; to first order."""
    offset = minus(points, center)
    scaled = tuple(along(offset, axis) / _f(radius) for axis, radius in zip(axes, radii_mm, strict=True))
    unit = length(scaled)
    gradient = length(tuple(part / _f(radius) for part, radius in zip(scaled, radii_mm, strict=True)))
    return unit * (unit - _f(1)) / np.maximum(gradient, _f(1e-6))


def capsule(points: Points, start, end, radii_mm: tuple[float, float], flat=None) -> np.ndarray:
    """A rod from `start` to `end` with round ends; its radius is linear between `radii_mm`.

    Args:
        flat: a vector [3], or None; the section is thinner along it, by its length (1.5: 1.5 to 1).
    """
    axis = np.asarray(end, np.float64) - np.asarray(start, np.float64)
    offset = minus(points, start)
    part = np.clip(along(offset, axis / (axis @ axis)), 0, 1)
    side = tuple(value - part * _f(step) for value, step in zip(offset, axis, strict=True))
    radius = _f(radii_mm[0]) + _f(radii_mm[1] - radii_mm[0]) * part
    if flat is None:
        return length(side) - radius
    factor = float(np.linalg.norm(flat))
    thin = along(side, np.asarray(flat) / factor)
    squared = side[0] * side[0] + side[1] * side[1] + side[2] * side[2]
    return (np.sqrt(squared + _f(factor**2 - 1) * thin * thin) - radius) * _f(factor**-0.5)


def torus(points: Points, center, axis, radii_mm: tuple[float, float]) -> np.ndarray:
    """A ring of `radii_mm` = (of the ring, of its section) around the unit vector `axis`; exact."""
    offset = minus(points, center)
    height = along(offset, axis)
    squared = offset[0] * offset[0] + offset[1] * offset[1] + offset[2] * offset[2]
    across = np.sqrt(np.maximum(squared - height * height, 0)) - _f(radii_mm[0])
    return np.sqrt(across * across + height * height) - _f(radii_mm[1])


def box(points: Points, center, half_sides_mm, axes) -> np.ndarray:
    """A box whose half sides [3] are along the rows of `axes` [3, 3]; exact but beyond edges and corners."""
    offset = minus(points, center)
    faces = [np.abs(along(offset, axis)) - _f(half) for axis, half in zip(axes, half_sides_mm, strict=True)]
    return np.maximum(np.maximum(faces[0], faces[1]), faces[2])


def blend(first: np.ndarray, second: np.ndarray, radius_mm: float) -> np.ndarray:
    """The union of two bodies with a fillet of about `radius_mm` (polynomial smooth minimum)."""
    overlap = np.maximum(_f(radius_mm) - np.abs(first - second), 0)
    return np.minimum(first, second) - overlap * overlap * _f(0.25 / radius_mm)


def trim(body: np.ndarray, keep: np.ndarray, radius_mm: float) -> np.ndarray:
    """The part of `body` inside `keep`, its new edge rounded by about `radius_mm`."""
    return -blend(-body, -keep, radius_mm)


def carve(body: np.ndarray, tool: np.ndarray) -> np.ndarray:
    """`body` without `tool`."""
    return np.maximum(body, -tool)


def coverage(distance_mm: np.ndarray, voxel_mm: float) -> np.ndarray:
    """The part of a voxel that a body fills, 0 to 1: the partial volume of a flat face."""
    return np.clip(_f(0.5) - distance_mm * _f(1 / voxel_mm), 0, 1)


def smooth_step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, a cubic between them."""
    part = np.clip((value - _f(low)) * _f(1 / (high - low)), 0, 1)
    return part * part * (_f(3) - _f(2) * part)


def _f(value) -> np.float32:
    return np.float32(value)
