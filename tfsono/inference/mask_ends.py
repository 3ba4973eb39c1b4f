"""A second opinion on two landmarks at the ends of a bone: the ends of its mask, inside the graph."""

from __future__ import annotations

import tensorflow as tf

from tfsono.metrics.calibration import LOW_PEAK

SLAB_MM = 2.0
"""The part of the mask at an end whose middle is taken."""

FAR_MM = 10.0
"""A landmark farther than this from its end of the mask contradicts it."""


def second_opinion(mask, points_vox, peaks, spacing_mm) -> dict:
    """The ends of a mask, and which of two landmarks contradict them.

    Args:
      mask: [X, Y, Z], foreground above 0.
      points_vox: [2, 3] float32, of the heatmaps.
      peaks: [2] float32, the heatmaps' maxima: of the two orders of the ends, that one is taken which is nearer to the
        points, weighted by them.
      spacing_mm: [3] of the voxels.

    Returns:
      "ends_vox": [2, 3] float32, the end for each landmark, NaN without a mask; "doubtful": [2] boolean, where there is
      an end, and the peak is low or its point far from the end.
    """
    some = tf.reduce_any(mask > 0)
    ends = tf.cond(some, lambda: ends_of_mask(mask > 0, spacing_mm), lambda: tf.fill([2, 3], float("nan")))
    away = tf.norm(ends[:, None] - (points_vox * spacing_mm)[None], axis=-1)  # [end, landmark]
    weights = tf.maximum(peaks, 0.0) + 1e-3
    kept = weights[0] * away[0, 0] + weights[1] * away[1, 1]
    swapped = weights[0] * away[1, 0] + weights[1] * away[0, 1]
    ends = tf.where(swapped < kept, ends[::-1], ends)
    far = tf.norm(ends - points_vox * spacing_mm, axis=-1) > FAR_MM
    return {"ends_vox": ends / spacing_mm, "doubtful": some & ((peaks < LOW_PEAK) | far)}


def ends_of_mask(voxels, spacing_mm):
    """The two ends [2, 3] of voxels [X, Y, Z] along their principal axis, in mm from the first voxel's centre.

    An end is the middle of the voxels within `SLAB_MM` of the last one, moved along the axis to that one.
    """
    places = tf.cast(tf.where(voxels), tf.float32) * spacing_mm
    middle = tf.reduce_mean(places, 0)
    centred = places - middle
    axis = tf.linalg.eigh(tf.matmul(centred, centred, transpose_a=True))[1][:, -1]
    along = tf.linalg.matvec(centred, axis)
    return tf.stack([_end(places, sign * along, sign * axis) for sign in (1.0, -1.0)])


def _end(places, along, axis):
    last = tf.reduce_max(along)
    inside = along >= last - SLAB_MM
    near = tf.boolean_mask(along, inside)
    return tf.reduce_mean(tf.boolean_mask(places, inside), 0) + (last - tf.reduce_mean(near)) * axis
