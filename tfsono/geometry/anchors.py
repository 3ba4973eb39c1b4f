"""Anchors: the boxes that a network's map starts from, and their targets.

Each cell of a map has one anchor for each combination of the base sizes along the three axes (face, Sec. 2.2: four
sizes, 64 anchors), the side along x changing slowest. The centre of cell (i, j, k) is ((i + 0.5) * stride - 0.5, ...)
in voxel-centre indices. The anchors of a map are numbered with the cells' x slowest, then y, z, then the anchors of a
cell, as a network's output [X, Y, Z, n^3 * 6] is reshaped to [A, 6].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TIE = 1e-9  # IoUs nearer than this are equal: rounding must not separate what symmetry makes equal


def anchor_sides(base_sizes: Sequence[float]) -> np.ndarray:
    """[n^3, 3] float32: the sides of a cell's anchors, the one along x slowest."""
    sides = np.asarray(base_sizes, np.float32)
    return np.stack(np.meshgrid(sides, sides, sides, indexing="ij"), axis=-1).reshape(-1, 3)


def cell_centres(cells: Sequence[int], stride: float) -> list[np.ndarray]:
    """The centres of a map's cells in voxels, one array [cells of the axis] float64 an axis."""
    return [(np.arange(count) + 0.5) * stride - 0.5 for count in cells]


def anchors(cells: Sequence[int], stride: float, base_sizes: Sequence[float]) -> np.ndarray:
    """All anchors of a map; NumPy.

    Args:
      cells: of the map along x, y and z.
      stride: voxels in a cell.
      base_sizes: [n] sides in voxels.

    Returns:
      [X * Y * Z * n^3, 6] float32.
    """
    centres = np.stack(np.meshgrid(*cell_centres(cells, stride), indexing="ij"), axis=-1)[:, :, :, None]
    centres, halves = centres.astype(np.float32), anchor_sides(base_sizes) / 2
    return np.concatenate([centres - halves, centres + halves], axis=-1).reshape(-1, 6)


def anchors_at(places, levels, base_sizes: Sequence[float]):
    """Some of the anchors of consecutive maps, without making the others; of any backend.

    Args:
      places: [N] integers.
      levels: (cells along x, y and z, stride) of each map; cells are three numbers or tensors, or a tensor [3].
      base_sizes: [n] sides in voxels.

    Returns:
      [N, 6] float32, a tensor.
    """
    from keras import ops

    halves, boxes = anchor_sides(base_sizes) / 2, None
    places = ops.cast(places, "int32")
    for cells, stride in levels:
        x, y, z = (ops.cast(cells[axis], "int32") for axis in range(3))
        cell = places // len(halves)
        centres = _places(ops, ops.stack([cell // (y * z), cell // z % y, cell % z], axis=-1), stride)
        half = ops.take(halves, places % len(halves), axis=0)
        found = ops.concatenate([centres - half, centres + half], axis=-1)
        boxes = found if boxes is None else ops.where(places[:, None] >= 0, found, boxes)
        places -= x * y * z * len(halves)
    return boxes


def centres_inside(cells, stride: float, size, per_cell: int = 1):
    """Which anchors have their centre inside the volume: a map may reach into the padding at its high end.

    Args:
      cells: of the map; three numbers or tensors, or a tensor [3].
      stride: voxels in a cell.
      size: voxels of the volume along each axis, without padding; as `cells`.
      per_cell: anchors in a cell.

    Returns:
      bool [X * Y * Z * per_cell], a tensor, in the order of the anchors.
    """
    from keras import ops

    x, y, z = (ops.less(_centres(ops, cells[axis], stride) + 0.5, size[axis]) for axis in range(3))
    inside = ops.logical_and(ops.logical_and(x[:, None, None], y[:, None]), z)
    return ops.reshape(ops.repeat(ops.reshape(inside, (-1, 1)), per_cell, axis=1), (-1,))


def _centres(ops, count, stride: float):
    return _places(ops, ops.arange(count, dtype="float32"), stride)


def _places(ops, indices, stride: float):
    """The centres of cells, in voxels."""
    return (ops.cast(indices, "float32") + 0.5) * float(stride) - 0.5


# --- assignment


@dataclass(frozen=True)
class Assignment:
    """The target of each anchor; A anchors, K targets.

    Attributes:
      labels: int8 [A]: k from 1 to K is assigned to target k - 1 of the array, 0 is background, -1 is ignored.
      best_iou: float64 [K]: the highest IoU of an anchor with each target; 0 where none overlaps, NaN where missing.
      positives: int64 [K]: the number of anchors assigned to each target.
    """

    labels: np.ndarray
    best_iou: np.ndarray
    positives: np.ndarray


@dataclass(frozen=True)
class _Map:
    """One map while targets are assigned; all arrays [X, Y, Z, n, n, n].

    Attributes:
      centres: of the cells inside the volume, an array an axis.
      sides: the base sizes.
      labels: int8; a view of the result.
      highest: float64, the highest IoU with a target so far.
      owner: int8, that target's number from 1 on.
      start: the index of the map's first anchor among those of all maps.
    """

    centres: list[np.ndarray]
    sides: np.ndarray
    labels: np.ndarray
    highest: np.ndarray
    owner: np.ndarray
    start: int


def assign(boxes: np.ndarray, levels: Sequence[tuple[Sequence[int], float]], base_sizes: Sequence[float],
           size: Sequence[int], positive: float = 0.5, negative: float = 0.25) -> Assignment:
    """Labels of all anchors (face, Sec. 3: positive by "the highest IoU with the ground truth or ... above 0.5").

    An anchor is assigned to the target of its highest IoU, the first of equals, if that is above `positive`; to the
    background if it is below `negative`; and ignored in between, or where its centre is outside the volume. Whatever
    the IoU, all anchors with the highest one for a target are assigned to it; of two such targets, to that of the
    larger IoU, the first of equals. NumPy; equal to comparing each anchor with each target, but looks only at anchors
    near a target, and one axis at a time, as sides and centres are Cartesian products.

    Args:
      boxes: [K, 6] targets, at most 127; one with a NaN is missing and gets no anchor.
      levels: (cells along x, y and z; stride) of each map; their anchors are concatenated.
      base_sizes: [n] sides of the anchors along each axis, the same on all maps.
      size: voxels of the volume along each axis, without padding.
      positive: an IoU.
      negative: an IoU.

    Raises:
      ValueError: boxes have not six coordinates, or are too many for int8.
    """
    boxes = np.asarray(boxes, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 6 or len(boxes) > 127:
        raise ValueError(f"boxes must be [K, 6], K at most 127; found {boxes.shape}")
    labels, maps = _maps(levels, base_sizes, size)
    best, forced, touched = np.full(len(boxes), np.nan), {}, []
    for place in np.flatnonzero(~np.isnan(boxes).any(axis=-1)):
        near = [_near(boxes[place], level, negative) for level in maps]
        best[place] = max((ious.max(initial=0.0) for _, ious in near), default=0.0)
        if best[place] < negative:  # then the best may be outside the cells looked at
            near = [_near(boxes[place], level, 0.0) for level in maps]
            best[place] = max((ious.max(initial=0.0) for _, ious in near), default=0.0)
        if best[place] > 0:
            forced[place] = np.concatenate([_indices(level, part, ious >= best[place] - TIE)
                                            for level, (part, ious) in zip(maps, near, strict=True)])
        for level, (part, ious) in zip(maps, near, strict=True):
            np.copyto(level.owner[part], place + 1, where=ious > level.highest[part])
            np.maximum(level.highest[part], ious, out=level.highest[part])
            touched.append((level, part))
    for level, part in touched:
        high = level.highest[part]
        level.labels[part] = np.where(high > positive, level.owner[part], np.where(high < negative, 0, -1))
    for place in sorted(forced, key=lambda place: (best[place], -place)):  # the last one prevails
        labels[forced[place]] = place + 1
    counts = np.bincount(labels[labels > 0], minlength=len(boxes) + 1)[1:]
    return Assignment(labels, best, counts)


def _maps(levels, base_sizes, size) -> tuple[np.ndarray, list[_Map]]:
    """The labels of all anchors, 0 inside the volume and -1 outside, and the maps with their views."""
    sides = np.asarray(base_sizes, np.float64)
    shapes = [(*map(int, cells), *[len(sides)] * 3) for cells, _ in levels]
    starts = np.concatenate([[0], np.cumsum([np.prod(shape, dtype=np.int64) for shape in shapes])]).astype(int)
    labels, maps = np.full(starts[-1], -1, np.int8), []
    for (cells, stride), shape, start, end in zip(levels, shapes, starts[:-1], starts[1:], strict=True):
        centres = [axis[axis < side - 0.5] for axis, side in zip(cell_centres(shape[:3], stride), size, strict=True)]
        view = labels[start:end].reshape(shape)
        view[tuple(slice(len(axis)) for axis in centres)] = 0
        maps.append(_Map(centres=centres, sides=sides, labels=view, highest=np.zeros(shape),
                         owner=np.zeros(shape, np.int8), start=int(start)))
    return labels, maps


def _near(box: np.ndarray, level: _Map, limit: float) -> tuple[tuple[slice, ...], np.ndarray]:
    """The cells of a map that may hold an anchor whose IoU with the box is at least `limit` and above 0, as slices,
    and the IoUs of their anchors [x, y, z, n, n, n] float64. An IoU never exceeds that of the sides along one axis."""
    parts, shared = [], []
    for axis, centres in enumerate(level.centres):
        low, high = centres[:, None] - level.sides / 2, centres[:, None] + level.sides / 2
        common = np.maximum(np.minimum(high, box[axis + 3]) - np.maximum(low, box[axis]), 0.0)
        alone = common / (level.sides + max(box[axis + 3] - box[axis], 0.0) - common)
        cells = np.flatnonzero(((alone >= limit - TIE) & (alone > 0)).any(axis=1))
        parts.append(slice(cells[0], cells[-1] + 1) if len(cells) else slice(0, 0))
        shared.append(common[parts[-1]])
    x, y, z = shared
    common = (x[:, None, None, :, None, None] * y[:, None, None, :, None]) * z[:, None, None, :]
    volumes = (level.sides[:, None, None] * level.sides[:, None]) * level.sides
    return tuple(parts), common / (volumes + np.prod(np.maximum(box[3:] - box[:3], 0.0)) - common)


def _indices(level: _Map, part: tuple[slice, ...], chosen: np.ndarray) -> np.ndarray:
    """The numbers, among those of all maps, of the anchors chosen in a part of a map."""
    places = np.nonzero(chosen)
    places = [where + (part[axis].start if axis < 3 else 0) for axis, where in enumerate(places)]
    return level.start + np.ravel_multi_index(places, level.labels.shape)
