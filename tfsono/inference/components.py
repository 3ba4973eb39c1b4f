"""Largest components and holes of a mask inside the graph, voxel for voxel as `tfsono.inference.segmentation`.

Runs of one value along z are the nodes, and runs that touch are the edges: a mask of 300x200x100 has some ten thousand
of them. Every round hooks each root to the lowest root beside it and shortens the trees to a depth of one, so that the
number of trees at least halves: a long spiral takes as few rounds as a ball.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import tensorflow as tf

FACES = ((1, 0, 0), (0, 1, 0))  # half of the 6 neighbours but those along z, which are in the same run
CORNERS = tuple(step for step in itertools.product((0, 1), (-1, 0, 1), (-1, 0, 1)) if step[:2] > (0, 0))  # of the 26


@dataclass(frozen=True)
class Postprocessing:
    """"Remove isolated small volumes and internal holes" (Sec. 3.4), as `segmentation.postprocess_mask`.

    Attributes:
      classes: the background and the labels.
      largest: keep only the largest 26-connected component of each label; of equal ones the first in array order.
      holes: then fill every hole that touches one label only.
    """

    classes: int
    largest: bool = True
    holes: bool = True


def postprocessed(mask, settings: Postprocessing | None):
    """A mask [X, Y, Z] uint8, 0 is background, postprocessed; unchanged for None."""
    if settings is None or not (settings.largest or settings.holes):
        return mask
    return tf.cond(tf.reduce_any(mask > 0), lambda: _in_box(mask, settings), lambda: mask)


@tf.function(autograph=False, reduce_retracing=True)
def _in_box(mask, settings: Postprocessing):
    """Postprocesses the box around the labels and a voxel around it; all background beyond reaches the border.

    Traced once for all modules of a process, which takes as long as a module's other half.
    """
    size = tf.shape(mask)
    places = [tf.where(tf.reduce_any(mask > 0, [other for other in range(3) if other != axis]))[:, 0]
              for axis in range(3)]
    start = tf.maximum(tf.stack([tf.cast(place[0], tf.int32) for place in places]) - 1, 0)
    stop = tf.minimum(tf.stack([tf.cast(place[-1], tf.int32) for place in places]) + 2, size)
    box = tf.slice(mask, start, stop - start)
    if settings.largest:
        box = _largest_of_each(box, settings.classes)
    if settings.holes:
        box = _filled(box)
    return tf.ensure_shape(tf.pad(box, tf.stack([start, size - stop], 1)), mask.shape)


def _largest_of_each(mask, classes: int):
    """The largest 26-connected component of each label."""
    roots, runs = components(mask, CORNERS)
    flat = tf.reshape(mask, [-1])
    voxels = tf.math.unsorted_segment_sum(tf.ones_like(roots), roots, runs)  # of each component, at its root
    label = tf.cast(tf.math.unsorted_segment_max(tf.cast(flat, tf.int32), roots, runs), tf.int32)
    label = tf.where(voxels > 0, label, 0)  # runs that are no roots
    most = tf.math.unsorted_segment_max(voxels, label, classes)
    candidates = tf.where((voxels > 0) & (voxels == tf.gather(most, label)), tf.range(runs), runs)
    first = tf.math.unsorted_segment_min(candidates, label, classes)
    kept = roots == tf.gather(first, tf.cast(flat, tf.int32))
    return tf.reshape(tf.where(kept, flat, tf.zeros_like(flat)), tf.shape(mask))


def _filled(mask):
    """Fills 6-connected components of the background that touch one label only and not the border."""
    roots, runs = components(mask, FACES)
    flat, shape = tf.cast(tf.reshape(mask, [-1]), tf.int32), tf.shape(mask)
    volume, labels = tf.reshape(roots, shape), tf.reshape(flat, shape)
    lowest, highest = tf.fill([runs], tf.int32.max), tf.zeros([runs], tf.int32)
    for axis in range(3):
        ahead, behind = (_part(shape, axis, first) for first in (1, 0))
        for here, there in ((ahead, behind), (behind, ahead)):
            label, beside = tf.slice(labels, *here), tf.slice(labels, *there)
            touching = (label == 0) & (beside > 0)
            place = tf.boolean_mask(tf.slice(volume, *here), touching)
            beside = tf.boolean_mask(beside, touching)
            lowest = tf.tensor_scatter_nd_min(lowest, place[:, None], beside)
            highest = tf.tensor_scatter_nd_max(highest, place[:, None], beside)
    owner = tf.where(lowest == highest, highest, 0)
    for axis in range(3):
        for place in (0, -1):
            outer = tf.reshape(tf.gather(volume, place % shape[axis], axis=axis), [-1, 1])
            owner = tf.tensor_scatter_nd_update(owner, outer, tf.zeros_like(outer[:, 0]))
    return tf.cast(tf.reshape(tf.where(flat == 0, tf.gather(owner, roots), flat), shape), mask.dtype)


def _part(shape, axis: int, first: int):
    """Start and size of a volume without its first (1) or its last (0) plane of an axis."""
    step = tf.one_hot(axis, 3, dtype=tf.int32)
    return first * step, shape - step


def components(mask, steps):
    """The connected components of equal values.

    Args:
      mask: [X, Y, Z] integers.
      steps: neighbours besides those along z, half of them: the others are their opposites.

    Returns:
      [X Y Z] int32, the number of the first run of each voxel's component, in array order; and the number of runs.
    """
    starts = tf.concat([tf.ones_like(mask[..., :1], tf.bool), mask[..., 1:] != mask[..., :-1]], -1)
    numbers = tf.cumsum(tf.reshape(tf.cast(starts, tf.int32), [-1])) - 1
    volume, shape = tf.reshape(numbers, tf.shape(mask)), tf.shape(mask)
    edges = tf.concat([_edges(mask, volume, shape, step) for step in steps], 0)
    runs = numbers[-1] + 1
    return tf.gather(_joined(edges, runs), numbers), runs


def _edges(mask, numbers, shape, step):
    """Pairs of runs of one value that touch in the direction `step`, each pair once or a few times; [E, 2] int32."""
    offset = tf.constant(step)
    size = shape - tf.abs(offset)
    here, there = tf.maximum(-offset, 0), tf.maximum(offset, 0)
    first, second = tf.slice(numbers, here, size), tf.slice(numbers, there, size)
    touching = tf.slice(mask, here, size) == tf.slice(mask, there, size)
    # Along z only where one of the two runs begins: the pair before is the same one.
    new = (first[..., 1:] != first[..., :-1]) | (second[..., 1:] != second[..., :-1])
    touching &= tf.concat([tf.ones_like(touching[..., :1]), new], -1)
    return tf.stack([tf.boolean_mask(first, touching), tf.boolean_mask(second, touching)], 1)


def _joined(edges, count):
    """The lowest node of each node's tree, [count] int32, for edges [E, 2] between nodes."""
    def join(roots, edges):
        ends = tf.gather(roots, edges)
        low, high = tf.reduce_min(ends, 1), tf.reduce_max(ends, 1)
        apart = low != high
        low, high = tf.boolean_mask(low, apart), tf.boolean_mask(high, apart)
        roots = tf.tensor_scatter_nd_min(roots, high[:, None], low)
        return _shortened(roots), tf.stack([low, high], 1)

    return tf.while_loop(lambda _, edges: tf.shape(edges)[0] > 0, join, (tf.range(count), edges),
                         shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None, 2])),
                         parallel_iterations=1)[0]


def _shortened(roots):
    """Every node's root, for the parent of every node."""
    return tf.while_loop(lambda before, now: tf.reduce_any(before != now),
                         lambda _, now: (now, tf.gather(now, now)), (roots, tf.gather(roots, roots)),
                         parallel_iterations=1)[1]
