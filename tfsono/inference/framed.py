"""A volume on a network's grid: as it lies, or rotated by its midline into the frame of all bodies, resampled once.

The frame is `tfsono.geometry.body_frame`: points of the plane of symmetry, found by a first network, fix the rotation.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfsono.augment import resample
from tfsono.geometry.body_frame import BodyFrame
from tfsono.geometry.rigid import DEFICIENT
from tfsono.inference.resample import at_spacing, cropped, lowest_outside, padded, resample_linear, rescaled_size
from tfsono.layers.standardise import standardise


class Grid(NamedTuple):
    """A volume on the network's grid.

    Attributes:
      image: [1, X', Y', Z', 1] standardised; 0 in the padding and outside the volume.
      valid: [1, X', Y', Z', 1] float32, 1 inside the volume.
      size: [3] int32, the sides without the padding.
      matrix, offset: [3, 3] and [3] float32: a point p of the grid is `matrix` p + `offset` in the volume's voxels.
    """

    image: tf.Tensor
    valid: tf.Tensor
    size: tf.Tensor
    matrix: tf.Tensor
    offset: tf.Tensor

    def on_volume(self, points):
        """Points [..., 3] of the grid, in the volume's voxels."""
        return tf.linalg.matvec(self.matrix, points) + self.offset

    def spacing_mm(self, spacing_mm):
        """[3] of the grid, of a volume of `spacing_mm`."""
        return tf.norm(self.matrix * tf.cast(spacing_mm, tf.float32)[:, None], axis=0)

    def inside(self, maps):
        """Maps [1, X', Y', Z', K] of the network without the padding, to be decoded."""
        return lowest_outside(cropped(maps, self.size), cropped(self.valid, self.size))


def whole_grid(volume, spacing_mm, network_mm, ratio: float, stride: int) -> Grid:
    """The whole volume.

    Args:
      volume: [X, Y, Z] float32, raw intensities.
      spacing_mm: [3].
      network_mm: the spacing of the network's training, before `ratio`; () for the volume's own.
      ratio: by which the volume is rescaled.
      stride: sides are padded to multiples of it.
    """
    native = tf.cast(tf.shape(volume), tf.float32)
    volume = at_spacing(volume, spacing_mm, network_mm)
    size = rescaled_size(tf.shape(volume), ratio)
    image, valid = padded(resample_linear(volume, size), stride)
    step = native / tf.cast(size, tf.float32)
    return Grid(standardise(image, valid), valid, size, tf.linalg.diag(step), 0.5 * step - 0.5)


def framed_grid(volume, spacing_mm, network_mm, ratio: float, stride: int, points_vox, frame: BodyFrame) -> Grid:
    """The frame's box, resampled once from the volume; the arguments of `whole_grid`, and

    Args:
      points_vox: [K, 3], of which the frame's midline fixes the rotation.
      frame: of the network's training.
    """
    native = tf.cast(tf.shape(volume), tf.float32)
    volume = at_spacing(volume, spacing_mm, network_mm)
    step = native / tf.cast(tf.shape(volume), tf.float32)  # native voxels in one of the resampled
    spacing_mm = spacing_mm * step
    midline = (tf.gather(points_vox, frame.midline) + 0.5) / step - 0.5
    rotation, shift = fitted(midline * spacing_mm, frame.midline_mm)
    voxel_mm = tf.reduce_mean(network_mm or spacing_mm) / ratio
    size = tf.cast(tf.math.ceil(tf.constant(frame.sides_mm, tf.float32) / voxel_mm), tf.int32)
    back = tf.transpose(rotation) / spacing_mm[:, None]  # millimetres in the frame -> voxels
    matrix, middle = back * voxel_mm, -tf.linalg.matvec(back, shift)
    whole = tf.concat([tf.zeros(3, tf.int32), tf.shape(volume)], 0)
    image, _, valid = resample(volume, volume, box=whole, matrix=matrix, patch=tf.unstack(size, num=3), middle=middle)
    beyond = tf.stack([tf.zeros(3, tf.int32), -size % stride], 1)
    image, valid = (tf.pad(tf.cast(part, tf.float32), beyond)[None, ..., None] for part in (image, valid))
    offset = middle - tf.linalg.matvec(matrix, tf.cast(size - 1, tf.float32) / 2)
    return Grid(standardise(image, valid), valid, size, matrix * step[:, None], (offset + 0.5) * step - 0.5)


def fitted(points_mm, frame_mm):
    """The proper rotation [3, 3] and the shift [3] of `geometry.rigid.fit_rigid` for points [M, 3], in the graph."""
    points, targets = (tf.cast(values, tf.float64) for values in (points_mm, frame_mm))
    from_centre, to_centre = tf.reduce_mean(points, 0), tf.reduce_mean(targets, 0)
    values, left, right = tf.linalg.svd(tf.matmul(points - from_centre, targets - to_centre, transpose_a=True))
    mirror = tf.sign(tf.linalg.det(tf.matmul(right, left, transpose_b=True)))
    rotation = tf.matmul(right * tf.stack([1.0, 1.0, mirror]), left, transpose_b=True)
    rotation = tf.where(values[1] > DEFICIENT * values[0], rotation, tf.eye(3, dtype=tf.float64))
    shift = to_centre - tf.linalg.matvec(rotation, from_centre)
    return tf.cast(rotation, tf.float32), tf.cast(shift, tf.float32)
