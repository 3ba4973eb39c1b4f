"""Linear resampling of a volume inside the graph, by the rule of `tfsono.geometry.resampling` (NumPy).

n_out = max(1, floor(n_in ratio)), source = (i + 0.5) n_in / n_out - 0.5, clamped to the volume: the physical extent is
kept.
"""

from __future__ import annotations

import tensorflow as tf

from tfsono.data.prepare import NEEDLESS_CHANGE
from tfsono.geometry.resampling import ROUNDING


def resampled_size(size: tf.Tensor, spacing_mm: tf.Tensor, new_spacing_mm) -> tf.Tensor:
    """The number of voxels along each axis at another spacing, at least 1; [3] int32.

    A volume whose spacing differs by at most a thousandth keeps its size, and so its voxels, as in the cache.
    """
    tf.debugging.assert_positive(spacing_mm, "spacing_mm: expected positive millimetres")
    new_spacing_mm = tf.constant(new_spacing_mm, tf.float64)
    ratio = tf.cast(spacing_mm, tf.float64) / new_spacing_mm
    needless = tf.reduce_all(tf.abs(ratio - 1) <= NEEDLESS_CHANGE)
    new_size = tf.cast(tf.floor(tf.cast(size, tf.float64) * ratio + ROUNDING), tf.int32)
    return tf.where(needless, size, tf.maximum(new_size, 1))


def at_spacing(volume, spacing_mm, wanted_mm: tuple[float, ...]):
    """The volume at another spacing; itself where `wanted_mm` is ()."""
    if not wanted_mm:
        return volume
    return resample_linear(volume, resampled_size(tf.shape(volume), spacing_mm, wanted_mm))


def rescaled_size(size: tf.Tensor, ratio: float) -> tf.Tensor:
    """The number of voxels along each axis of the network's grid at `ratio`, at least 1; [3] int32."""
    return tf.maximum(tf.cast(tf.floor(tf.cast(size, tf.float64) * ratio + ROUNDING), tf.int32), 1)


def padded(volume, stride: int):
    """A volume [X, Y, Z] -> [1, X', Y', Z', 1], 0 at the high ends, sides multiples of `stride`; and 1 inside it."""
    size = tf.shape(volume)
    beyond = tf.stack([tf.zeros(3, tf.int32), -size % stride], 1)
    valid = tf.pad(tf.ones_like(volume), beyond)
    return tf.pad(volume, beyond)[None, ..., None], valid[None, ..., None]


def cropped(maps, size):
    """Maps [1, X', Y', Z', K] without the padding, float32."""
    return tf.cast(maps, tf.float32)[:, :size[0], :size[1], :size[2]]


def lowest_outside(maps, valid):
    """Maps whose values are as low as anywhere where `valid` is 0, so that no point is decoded there."""
    return tf.where(valid > 0, maps, tf.reduce_min(maps))


def resample_linear(volume: tf.Tensor, new_size: tf.Tensor) -> tf.Tensor:
    """The volume [X, Y, Z] float32 on a grid of `new_size` over the same extent; linear along each axis."""
    for axis in range(3):
        volume = _linear_along(volume, axis, new_size[axis])
    return volume


def _linear_along(volume: tf.Tensor, axis: int, n_out: tf.Tensor) -> tf.Tensor:
    n_in = tf.shape(volume)[axis]
    ratio = tf.cast(n_in, tf.float64) / tf.cast(n_out, tf.float64)
    source = (tf.range(tf.cast(n_out, tf.float64), dtype=tf.float64) + 0.5) * ratio - 0.5
    source = tf.clip_by_value(source, 0.0, tf.cast(n_in - 1, tf.float64))
    low = tf.cast(source, tf.int32)
    weight = tf.reshape(tf.cast(source - tf.cast(low, tf.float64), tf.float32),
                        [-1 if each == axis else 1 for each in range(3)])
    below = tf.gather(volume, low, axis=axis)
    above = tf.gather(volume, tf.minimum(low + 1, n_in - 1), axis=axis)
    return below + weight * (above - below)


def resampled_arg_max(probabilities: tf.Tensor, new_size: tf.Tensor) -> tf.Tensor:
    """The most probable class on another grid, [X', Y', Z'] uint8; a tie goes to the lower class.

    Classes are resampled one at a time against a running maximum: resampled at once they would take `classes` times the
    memory of the native volume, which is often the larger one.
    """
    best = resample_linear(probabilities[..., 0], new_size)
    mask = tf.zeros(new_size, tf.uint8)
    for label in range(1, probabilities.shape[-1]):
        candidate = resample_linear(probabilities[..., label], new_size)
        mask = tf.where(candidate > best, tf.constant(label, tf.uint8), mask)
        best = tf.maximum(candidate, best)
    return mask
