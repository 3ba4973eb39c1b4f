"""Random transforms of a patch in the TensorFlow graph: image and label together, then the image's intensity.

Every draw comes from a stateless seed of two integers, so the same seed gives the same patch, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the random transforms; 0 switches one off.

    Attributes:
      rotation_degrees: rotation about each axis, uniform up to this angle either way.
      scaling: isotropic scaling, uniform in 1 - scaling to 1 + scaling.
      mirror_share: probability of a flip of x.
      intensity: gamma exp(+-intensity), a linear bias field of +-intensity, and Gaussian noise of a quarter of it.
    """

    rotation_degrees: float = 0.0
    scaling: float = 0.0
    mirror_share: float = 0.0
    intensity: float = 0.0

    @property
    def geometric(self) -> bool:
        """Whether image and label are resampled."""
        return bool(self.rotation_degrees or self.scaling or self.mirror_share)

    def window(self, patch: tuple[int, ...], spacing_mm) -> tuple[int, ...]:
        """The sides [3] to read, so that no transformed patch reaches beyond them, around the patch's middle.

        A row of the rotation is a unit vector whose own component is at least cos² - sin³ of the largest angle; the
        others reach farthest where they point along the diagonal of their sides.
        """
        if not (self.rotation_degrees or self.scaling):
            return tuple(patch)
        angle = np.radians(min(self.rotation_degrees, 90.0))
        half = (np.array(patch) - 1) / 2 * spacing_mm
        others = np.sqrt((half ** 2).sum() - half ** 2)
        tilt = np.minimum(np.arccos(np.cos(angle) ** 2 - np.sin(angle) ** 3), np.arctan2(others, half))
        reach = (np.cos(tilt) * half + np.sin(tilt) * others) / (1 - self.scaling)
        return tuple(int(n + 2 * np.ceil(r)) for n, r in zip(patch, (reach - half) / spacing_mm, strict=True))


def random_matrix(seed, augmentation: Augmentation, spacing_mm):
    """A random map from offsets in the patch to offsets in the window, both in voxels from the middle: [3, 3].

    Rotation and scaling happen in millimetres, so that unequal spacing does not shear.
    """
    draws = tf.random.stateless_uniform([5], seed, -1.0, 1.0)
    angles = draws[:3] * np.radians(augmentation.rotation_degrees)
    matrix = tf.eye(3)
    for axis in range(3):
        matrix = tf.matmul(matrix, _rotation(angles[axis], axis))
    scale = 1.0 + draws[3] * augmentation.scaling
    flip = tf.where((draws[4] + 1) / 2 < augmentation.mirror_share, -1.0, 1.0)
    matrix = matrix / scale * tf.stack([flip, 1.0, 1.0])[None, :]
    return matrix * spacing_mm[None, :] / spacing_mm[:, None]


def _rotation(angle, axis: int):
    cosine, sine, zero, one = tf.cos(angle), tf.sin(angle), tf.constant(0.0), tf.constant(1.0)
    rows = {
        0: [[one, zero, zero], [zero, cosine, -sine], [zero, sine, cosine]],
        1: [[cosine, zero, sine], [zero, one, zero], [-sine, zero, cosine]],
        2: [[cosine, -sine, zero], [sine, cosine, zero], [zero, zero, one]],
    }[axis]
    return tf.stack([tf.stack(row) for row in rows])


def affine_matrix(axis, degrees: float, scale: float, flips, spacing_mm) -> np.ndarray:
    """A given map like `random_matrix`'s, from offsets in the patch to offsets in the window: float64 [3, 3].

    Args:
      axis: [3] of rotation, of any length above 0, in millimetres.
      degrees: counterclockwise, seen against the axis.
      scale: above 1 enlarges the content of the patch.
      flips: three booleans: which axes of the patch to mirror.
      spacing_mm: [3] of the window's voxels.
    """
    x, y, z = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues
    matrix = rotation.T / scale * np.where(flips, -1.0, 1.0)[None, :]  # transposed: it maps back into the window
    spacing = np.asarray(spacing_mm, np.float64)
    return matrix * spacing[None, :] / spacing[:, None]


def resample(image, label, box, matrix, patch, middle=None):
    """The patch that `matrix` cuts out of a window: image trilinear, label nearest.

    Args:
      image: [X', Y', Z'] window; label: [X', Y', Z'] integers; box: [6] integers, start and stop of the part of the
        window inside the volume; matrix: [3, 3] of `random_matrix` or `affine_matrix`; patch: three sides of the
        result, of which some may be scalar tensors; middle: [3] float32, the patch's middle in the window, by default
        the window's.

    Returns:
      image [patch] float32, label [patch], valid [patch] boolean: inside the volume.
    """
    sides = tf.shape(image)
    low, high = tf.cast(box[:3], tf.float32), tf.cast(box[3:], tf.float32) - 1.0
    lengths = [tf.cast(n, tf.float32) for n in patch]
    axes = [tf.range(n) - (n - 1.0) / 2 for n in lengths]
    middle = (tf.cast(sides, tf.float32) - 1.0) / 2 if middle is None else middle
    valid, base, part = True, [], []
    for axis in range(3):  # one coordinate at a time, as sums of three vectors: no [N, 3] matrix product
        at = (matrix[axis, 0] * axes[0][:, None, None] + matrix[axis, 1] * axes[1][None, :, None]
              + matrix[axis, 2] * axes[2][None, None, :] + middle[axis])
        valid &= (at >= low[axis] - 0.5) & (at <= high[axis] + 0.5)
        at = tf.clip_by_value(at, low[axis], tf.maximum(high[axis], low[axis]))
        lower = tf.floor(at)
        base.append(tf.cast(lower, tf.int32))
        part.append(at - lower)
    strides = [sides[1] * sides[2], sides[2], tf.constant(1)]
    return _trilinear(image, base, part, strides, sides), _nearest(label, base, part, strides, sides), valid


def _trilinear(image, base, part, strides, sides):
    flat = tf.reshape(image, [-1])
    steps = [tf.where(base[a] + 1 < sides[a], strides[a], 0) for a in range(3)]
    corner = base[0] * strides[0] + base[1] * strides[1] + base[2] * strides[2]

    def along_z(index):
        near = tf.gather(flat, index)
        return near + (tf.gather(flat, index + steps[2]) - near) * part[2]

    def along_y(index):
        near = along_z(index)
        return near + (along_z(index + steps[1]) - near) * part[1]

    near = along_y(corner)
    return near + (along_y(corner + steps[0]) - near) * part[0]


def _nearest(label, base, part, strides, sides):
    index = 0
    for axis in range(3):
        nearest = base[axis] + tf.cast(part[axis] >= 0.5, tf.int32)
        index += tf.minimum(nearest, sides[axis] - 1) * strides[axis]
    return tf.gather(tf.reshape(label, [-1]), index)


def random_intensity(image, valid, seed, strength: float):
    """Random gamma, linear bias field and noise of an image [X, Y, Z]; invalid voxels do not change."""
    seeds = tf.unstack(tf.random.split(seed, 2), num=2)
    draws = tf.random.stateless_uniform([4], seeds[0], -strength, strength)
    low = tf.reduce_min(tf.where(valid, image, image.dtype.max))
    high = tf.reduce_max(tf.where(valid, image, image.dtype.min))
    scaled = tf.clip_by_value((image - low) / tf.maximum(high - low, 1e-6), 0.0, 1.0)
    changed = tf.pow(scaled, tf.exp(draws[0]))
    for axis in range(3):
        ramp = tf.linspace(-1.0, 1.0, tf.shape(image)[axis])
        changed *= 1.0 + draws[axis + 1] * tf.reshape(ramp, [-1 if a == axis else 1 for a in range(3)])
    deviation = tf.math.reduce_std(changed) * strength / 4
    changed += tf.random.stateless_normal(tf.shape(image), seeds[1]) * deviation
    return tf.where(valid, changed * (high - low) + low, image)
