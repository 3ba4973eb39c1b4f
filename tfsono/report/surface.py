"""A closed surface from a mask, and its rendering, in NumPy.

Surface nets (Gibson, "Constrained elastic surface nets", 1998): one point in each cube of eight voxel centres
that the mask's boundary crosses, one quadrilateral at each voxel edge that it crosses. Taubin's smoothing
(1995) removes the voxels' stairs without shrinking the body. The rendering is orthographic with a depth
buffer; a plotting library that sorts polygons needs minutes for a femur's 10^5 of them, and draws some
wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

CORNERS = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])


@dataclass(frozen=True)
class Surface:
    """A closed surface of quadrilaterals.

    Attributes:
        points_mm: `[N, 3]` positions from the first voxel's centre, voxel axes times spacing.
        quads: `[M, 4]` indices of points, anticlockwise seen from outside.
        cells_vox: `[N, 3]` voxel index of each point's cube (its lowest corner, -1 outside the volume's border).
    """

    points_mm: np.ndarray
    quads: np.ndarray
    cells_vox: np.ndarray


@dataclass(frozen=True)
class View:
    """A direction to look at LPS arrays from: unit vectors to the right, up, and to the camera."""

    name: str
    right: tuple[float, float, float]
    up: tuple[float, float, float]
    towards: tuple[float, float, float]


VIEWS = (
    View("anterior", (1, 0, 0), (0, 0, 1), (0, -1, 0)),
    View("left", (0, 1, 0), (0, 0, 1), (1, 0, 0)),
    View("posterior", (-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    View("right", (0, -1, 0), (0, 0, 1), (-1, 0, 0)),
)


# --- the surface --------------------------------------------------------------------------------------------


def surface_nets(mask: np.ndarray, spacing_mm: Sequence[float], rounds: int = 30) -> Surface:
    """Returns the smoothed surface of a mask.

    Args:
        mask: `[X, Y, Z]` boolean; outside the volume counts as background, so the surface is closed.
        spacing_mm: of the three axes.
        rounds: of smoothing; 0 keeps the stairs.

    Returns:
        The surface; of an empty mask, one without points.
    """
    box, corner = _crop(np.asarray(mask, dtype=bool))
    cells, number = _crossed_cells(box)
    points = (cells + _crossing(box, cells)) * np.asarray(spacing_mm, dtype=float)
    quads = _quads(box, number)
    points = _smooth(points, quads, rounds) if len(points) else points
    # The box has a border of one background voxel: its first voxel is voxel corner - 1 of the volume.
    return Surface(points + (corner - 1) * np.asarray(spacing_mm), quads, cells + corner - 1)


def _crop(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mask's bounding box with one background voxel around it, and the box's first voxel."""
    inside = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if not len(inside[0]):
        return np.zeros((2, 2, 2), dtype=bool), np.zeros(3, dtype=int)
    low, high = [int(i[0]) for i in inside], [int(i[-1]) + 1 for i in inside]
    box = mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return np.pad(box, 1), np.array(low)


def _crossed_cells(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cubes `[N, 3]` with both kinds of voxels at their corners, and each cube's number or -1."""
    sides = np.array(box.shape) - 1
    inside = np.zeros(sides, dtype=np.uint8)
    for i, j, k in CORNERS:
        inside += box[i : i + sides[0], j : j + sides[1], k : k + sides[2]]
    crossed = (inside > 0) & (inside < 8)
    number = np.full(sides, -1, dtype=np.int64)
    number[crossed] = np.arange(np.count_nonzero(crossed))
    return np.argwhere(crossed), number


def _crossing(box: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Returns `[N, 3]`: in each cube, the mean of the midpoints of those of its 12 edges that are crossed."""
    corner = cells[:, None, :] + CORNERS
    inside = box[corner[..., 0], corner[..., 1], corner[..., 2]]
    total, count = np.zeros((len(cells), 3)), np.zeros((len(cells), 1))
    for a in range(8):
        for b in range(a + 1, 8):
            if np.abs(CORNERS[a] - CORNERS[b]).sum() != 1:
                continue
            crossed = (inside[:, a] != inside[:, b])[:, None]
            total += crossed * (CORNERS[a] + CORNERS[b]) / 2
            count += crossed
    return total / np.maximum(count, 1)


def _quads(box: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Returns `[M, 4]`: for every voxel edge from inside to outside, the four cubes around it."""
    quads = []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        step = np.diff(box.astype(np.int8), axis=axis)
        for sign in (-1, 1):
            edges = np.argwhere(step == sign)
            around = np.repeat(edges[:, None, :], 4, axis=1)
            around[:, (0, 3), first] -= 1
            around[:, (0, 1), second] -= 1
            quad = number[around[..., 0], around[..., 1], around[..., 2]]
            # step -1: the mask ends along the axis, its outside is ahead; +1: behind.
            quads.append(quad if sign < 0 else quad[:, ::-1])
    return np.concatenate(quads)


def _smooth(points: np.ndarray, quads: np.ndarray, rounds: int) -> np.ndarray:
    """Returns points after Taubin's smoothing: a step to the neighbours' mean, and a longer one back."""
    for factor in (0.5, -0.53) * rounds:
        points = points + factor * (_neighbours_mean(points, quads) - points)
    return points


def _neighbours_mean(values: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Returns `[N, A]`: at each point the mean of its neighbours' values `[N, A]`."""
    # Each edge belongs to two quads, which run along it in opposite directions: so every neighbour counts
    # once.
    start, end = quads.ravel(), np.roll(quads, -1, axis=1).ravel()
    count = np.maximum(np.bincount(start, minlength=len(values)), 1)
    total = [np.bincount(start, column[end], len(values)) for column in values.T]
    return np.stack(total, axis=1) / count[:, None]


def smooth_values(surface: Surface, values: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Returns values `[N]` smoothed over a few neighbours.

    Distances between voxel centres come in steps of the spacing; drawn as they are, a good surface shows wood
    grain.
    """
    for _ in range(rounds):
        values = (values + _neighbours_mean(values[:, None], surface.quads)[:, 0]) / 2
    return values


def point_normals(surface: Surface) -> np.ndarray:
    """Returns `[N, 3]` unit normals to the outside: the mean of the faces around each point, by area."""
    faces = _face_normals(surface)
    index = surface.quads.ravel()
    weights = np.repeat(faces, 4, axis=0)
    total = np.stack([np.bincount(index, weights[:, a], len(surface.points_mm)) for a in range(3)], axis=1)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def _face_normals(surface: Surface) -> np.ndarray:
    corners = surface.points_mm[surface.quads]
    return np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])


def point_values(
    surface: Surface, shape: Sequence[int], points_vox: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Returns `[N]`: at each point the mean of the values at those of its cube's eight voxels that have one.

    Args:
        surface: of a mask.
        shape: of the mask.
        points_vox: `[K, 3]` integer voxels. With the mask's whole boundary every point has a value: each cube that
            the surface crosses holds a voxel with a neighbour outside.
        values: `[K]`.

    Returns:
        The values; NaN where no voxel of the cube has one.
    """
    grid = np.full(np.asarray(shape) + 2, np.nan)
    grid[tuple(np.asarray(points_vox).T + 1)] = values
    corner = surface.cells_vox[:, None, :] + 1 + CORNERS
    near = grid[corner[..., 0], corner[..., 1], corner[..., 2]]
    known = np.isfinite(near)
    total = np.where(known, near, 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


# --- rendering ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rendering:
    """Two images `[rows, columns]`, first row at the top: each pixel's value (NaN: nothing) and its light."""

    value: np.ndarray
    light: np.ndarray


def extent_mm(surface: Surface, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Returns the surface's lowest and highest corner `[2]` in the view's plane (right, up), in mm."""
    plane = surface.points_mm @ np.array([view.right, view.up], dtype=float).T
    return plane.min(axis=0), plane.max(axis=0)


def render(surface: Surface, values: np.ndarray, view: View, pixel_mm: float, margin: int = 2) -> Rendering:
    """Returns the surface as seen from far away, `margin` pixels around it, square pixels of `pixel_mm`."""
    low, high = extent_mm(surface, view)
    columns, rows = np.ceil((high - low) / pixel_mm).astype(int) + 2 * margin
    axes = np.array([view.right, view.up, view.towards], dtype=float)
    seen = surface.points_mm @ axes.T
    position = np.stack(
        [(seen[:, 0] - low[0]) / pixel_mm + margin, (high[1] - seen[:, 1]) / pixel_mm + margin, seen[:, 2]],
        axis=1,
    )
    attributes = np.column_stack([np.asarray(values, dtype=float), _light(point_normals(surface) @ axes.T)])
    facing = surface.quads[_face_normals(surface) @ axes[2] > 0]
    image = _fill(position, attributes, facing, int(rows), int(columns))
    return Rendering(image[..., 0], image[..., 1])


def _light(normals: np.ndarray) -> np.ndarray:
    """Returns the light `[N]` of normals (right, up, towards): a lamp above the left shoulder, and haze."""
    lamp = np.array([-0.45, 0.55, 0.75])
    lambert = np.clip(normals @ (lamp / np.linalg.norm(lamp)), 0, 1)
    return 0.38 + 0.22 * np.clip(normals[:, 2], 0, 1) + 0.45 * lambert


def _fill(
    position: np.ndarray, attributes: np.ndarray, quads: np.ndarray, rows: int, columns: int
) -> np.ndarray:
    """Returns `[rows, columns, A]`: the attributes of the nearest quad in each pixel, NaN without one."""
    nearest = np.full(rows * columns, -np.inf)
    image = np.full((rows * columns, attributes.shape[1]), np.nan)
    for part, weights in _parts(position, quads):
        corners = position[part]
        samples = np.matmul(weights, corners).reshape(-1, 3)
        pixel = samples[:, 1].astype(int) * columns + samples[:, 0].astype(int)
        np.maximum.at(nearest, pixel, samples[:, 2])
        wins = np.flatnonzero(samples[:, 2] == nearest[pixel])
        quad, sample = np.divmod(wins, len(weights))
        image[pixel[wins]] = np.einsum("nc,nca->na", weights[sample], attributes[part[quad]])
    return image.reshape(rows, columns, -1)


def _parts(position: np.ndarray, quads: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields quads of one size and the weights `[S, 4]` of samples closer than a pixel."""
    corners = position[quads][..., :2]
    longest = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=2).max(axis=1)
    steps = np.ceil(1.5 * longest).astype(int) + 1
    for count in np.unique(steps):
        middle = (np.arange(count) + 0.5) / count
        u, v = (grid.ravel() for grid in np.meshgrid(middle, middle))
        weights = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=1)
        same = quads[steps == count]
        for start in range(0, len(same), max(1, 2_000_000 // len(weights))):
            yield same[start : start + max(1, 2_000_000 // len(weights))], weights
