"""Boxes in volumes: overlap, the offsets by which a network moves one, and non-maximum suppression.

A box is two corners `(x0, y0, z0, x1, y1, z1)` in continuous voxel-centre indices, its sides are their differences
(no "+1"), and a volume of n voxels reaches from -0.5 to n - 0.5. A missing box is NaN.

Functions of networks take tensors of any backend, of sizes unknown to the graph, and return float32 tensors; for NumPy
arrays they return NumPy arrays. Keras is imported only for tensors, as the metrics do without it.
"""

from __future__ import annotations

import math

import numpy as np

LARGEST_GROWTH = math.log(1000 / 16)
"""Of a side in `decode`, as a logarithm: keeps exp() finite in an untrained network (Detectron's number)."""
SMALLEST_SIDE = 1e-3
"""Voxels; smaller sides count as this in offsets, which stay finite for an empty box."""


def numbers_of(*values):
    """NumPy, and the values as arrays of floats, where none is a tensor; else `keras.ops`, and float32 tensors."""
    if all(map(_is_plain, values)):
        arrays = map(np.asarray, values)
        return np, *(x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float64) for x in arrays)
    from keras import ops

    return ops, *(ops.cast(ops.convert_to_tensor(value), "float32") for value in values)


def _is_plain(value) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, (np.ndarray, np.generic, int, float))


# --- boxes


def centred_boxes(points: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Boxes around points; NumPy, float64. NaN stays NaN.

    Args:
      points: [..., 3].
      sides: one a box, [...] or broadcast to it; or one an axis, with as many axes as `points`, [..., 3].

    Returns:
      [..., 6].

    Raises:
      ValueError: points do not have three coordinates.
    """
    points, sides = np.asarray(points, np.float64), np.asarray(sides, np.float64)
    if points.shape[-1:] != (3,):
        raise ValueError(f"points must be [..., 3]; found {points.shape}")
    halves = (sides if sides.ndim == points.ndim else sides[..., None]) / 2
    return np.concatenate([points - halves, points + halves], axis=-1)


def box_centres(boxes):
    """[..., 6] -> [..., 3], arrays or tensors."""
    return (boxes[..., :3] + boxes[..., 3:]) / 2


def box_sides(boxes):
    """[..., 6] -> [..., 3], arrays or tensors."""
    return boxes[..., 3:] - boxes[..., :3]


def clipped(boxes, size):
    """Boxes [..., 6] cut to a volume of `size` [3] voxels; one wholly outside gets a side or more of 0."""
    numbers, boxes, size = numbers_of(boxes, size)
    high = numbers.concatenate([size, size], axis=-1) - 0.5
    return numbers.maximum(numbers.minimum(boxes, high), -0.5)


# --- overlap


def iou(one, other):
    """Intersection over union of the volumes of boxes: [..., 6] and [..., 6], broadcast -> [...].

    0 where a box is empty, inverted, or NaN.
    """
    numbers, one, other = numbers_of(one, other)
    common, total = _common_and_total(numbers, _columns(numbers, one), _columns(numbers, other))
    full = total > 0
    return numbers.where(full, common / numbers.where(full, total, 1.0), 0.0)


def pairwise_iou(one, other):
    """`iou` of all pairs: [N, 6] and [M, 6] -> [N, M]."""
    _, one, other = numbers_of(one, other)
    return iou(one[:, None], other[None])


def _columns(numbers, boxes) -> list:
    """The six coordinates of boxes [..., 6] and their volumes, each [...] and contiguous."""
    if numbers is np:
        columns = list(np.ascontiguousarray(np.moveaxis(boxes, -1, 0)))
    else:
        columns = list(numbers.unstack(boxes, 6, axis=-1))
    x, y, z = (numbers.maximum(columns[axis + 3] - columns[axis], 0.0) for axis in range(3))
    return [*columns, x * y * z]


def _common_and_total(numbers, one: list, other: list):
    """Intersection and union of boxes as `_columns`, which broadcast."""
    x, y, z = (numbers.maximum(numbers.minimum(one[axis + 3], other[axis + 3])
                               - numbers.maximum(one[axis], other[axis]), 0.0) for axis in range(3))
    common = x * y * z
    return common, one[6] + other[6] - common


def _overlap_above(numbers, one: list, other: list, threshold: float):
    """Whether the IoU of boxes as `_columns` is above a threshold; faster, without a division."""
    common, total = _common_and_total(numbers, one, other)
    return common > threshold * total


# --- offsets


def encode(boxes, anchors, deviations=(1.0, 1.0)):
    """The network's target for an anchor with a box; the inverse of `decode` (face, Eq. 1).

    t_x = (x - x_a) / w_a of the centres, t_w = log(w / w_a) of the sides, and so along y and z, over the deviations.

    Args:
      boxes: [..., 6].
      anchors: [..., 6], which broadcast.
      deviations: standard deviations of the centres' and of the sides' offsets, (1, 1) for the equation as it stands.

    Returns:
      [..., 6] as (t_x, t_y, t_z, t_w, t_h, t_d).
    """
    numbers, boxes, anchors = numbers_of(boxes, anchors)
    (centres, sides), (places, units) = _centres_and_sides(numbers, boxes), _centres_and_sides(numbers, anchors)
    moves, growths = (centres - places) / (units * deviations[0]), numbers.log(sides / units) / deviations[1]
    return numbers.concatenate([moves, growths], axis=-1)


def decode(offsets, anchors, deviations=(1.0, 1.0)):
    """The boxes that a network predicts: x = x_a + t_x w_a, w = w_a exp(t_w) (face, Eq. 1).

    No side grows beyond 62.5 times the anchor's.

    Args:
      offsets: [..., 6] as returned by `encode`.
      anchors: [..., 6], which broadcast.
      deviations: as in `encode`.

    Returns:
      [..., 6].
    """
    numbers, offsets, anchors = numbers_of(offsets, anchors)
    centres, sides = _centres_and_sides(numbers, anchors)
    centres = centres + offsets[..., :3] * deviations[0] * sides
    halves = sides * numbers.exp(numbers.minimum(offsets[..., 3:] * deviations[1], LARGEST_GROWTH)) / 2
    return numbers.concatenate([centres - halves, centres + halves], axis=-1)


def _centres_and_sides(numbers, boxes):
    return box_centres(boxes), numbers.maximum(box_sides(boxes), SMALLEST_SIDE)


# --- non-maximum suppression


def keep_best(boxes, scores, threshold: float | None, count: int):
    """Greedy non-maximum suppression: repeatedly keeps the best box, and drops those that overlap it too much.

    Tensors of any backend, N may be unknown, no [N, N] matrix: `count` passes over all boxes. No gradient.

    Args:
      boxes: [N, 6], N at least 1; one that is not finite is never taken.
      scores: [N]; -inf and NaN are never taken; of equals the first is better.
      threshold: drops a box whose IoU with a better kept one is above it, 0 or more; None keeps all.
      count: boxes to return.

    Returns:
      Indices [count] int32, the best first, and bool [count]: False, with index 0, where none was left.

    Raises:
      ValueError: the threshold is below 0 or NaN.
    """
    from keras import ops

    if threshold is not None and not threshold >= 0:
        raise ValueError(f"threshold must be an IoU of 0 or more, or None; found {threshold}")
    boxes, scores = (ops.stop_gradient(ops.cast(ops.convert_to_tensor(x), "float32")) for x in (boxes, scores))
    usable = ops.logical_and(ops.all(ops.isfinite(boxes), axis=-1), scores > -math.inf)
    scores = ops.where(usable, scores, -math.inf)
    if threshold is None:
        values, kept = ops.top_k(ops.concatenate([scores, ops.full((count,), -math.inf, "float32")]), count)
        return ops.where(values > -math.inf, ops.cast(kept, "int32"), 0), values > -math.inf
    columns, places = _columns(ops, boxes), ops.arange(ops.shape(scores)[0], dtype="int32")
    steps = ops.arange(count, dtype="int32")

    def take_one(step, state):
        left, kept, there = state
        highest = ops.max(left)
        # argmax does not promise the first of equals on every device
        best = ops.min(ops.where(left >= highest, places, np.iinfo(np.int32).max))
        above = _overlap_above(ops, columns, [ops.take(column, best) for column in columns], threshold)
        gone = ops.logical_or(above, places == best)
        return (ops.where(gone, -math.inf, left), ops.where(steps == step, best, kept),
                ops.where(steps == step, highest > -math.inf, there))

    state = (scores, ops.zeros((count,), "int32"), ops.zeros((count,), "bool"))
    _, kept, there = ops.fori_loop(0, count, take_one, state)
    return kept, there
