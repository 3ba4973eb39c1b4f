"""Refinement of a landmark network on one test volume, against an atlas set (FetusMap, Sec. 2.2).

In each iteration the network predicts the landmarks, the atlases nearest to that pose are moved onto it, the mean of
their Gaussian maps is the proxy, and one step of the optimizer brings the network's maps nearer to it. Afterwards the
network's weights are restored.

All iterations are one compiled function. Its retrieval (`tfsono.inference.atlases`) is NumPy, so it cannot be exported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from tfsono.errors import UserError
from tfsono.geometry.heatmaps import decoded
from tfsono.inference.atlases import AtlasSet
from tfsono.inference.resample import cropped, lowest_outside
from tfsono.layers.recompute import output_for_gradient
from tfsono.losses.joint import heatmap_error
from tfsono.training.optimizers import optimizer

IMAGE = tf.TensorSpec([1, None, None, None, 1], tf.float32, "image")
SIZE = tf.TensorSpec([3], tf.int32, "size")
SPACING = tf.TensorSpec([3], tf.float32, "spacing_mm")
VALID = tf.TensorSpec([1, None, None, None, 1], tf.float32, "valid")
NOT_FINITE = "the refinement gave values that are not finite; this is the prediction without refinement"
NO_ATLAS = "no atlas could be moved onto the pose; this is the prediction without refinement"
TOO_FAR = ("the nearest atlas is {:.1f} mm from the prediction, farther than the detector's mean error on validation "
           "cases ({:.1f} mm); this is the prediction without refinement")


@dataclass(frozen=True)
class RefineSettings:
    """The numbers of a refinement.

    Attributes:
      atlases: how many make a proxy (K of Eq. 1); all where the set has fewer.
      iterations: steps of the optimizer.
      learning_rate: of Adam, whose state is new for each volume.
      beta_1: Adam's.
      norm: `moving`: the moving averages of training, unchanged, or `batch`: the volume's own mean and variance.
      sigma_mm: of the proxy's Gaussians, as in the targets of training.
      robust: indices of the landmarks by which atlases are moved.
      pairs: of landmarks, left and right, whose cost is that of the cheaper order.
      decode: how a heatmap becomes a point: `argmax`, `centroid` or `wide_centroid`.
      expected_mm: the detector's mean error; where the nearest atlas is farther from the prediction, a landmark's mean,
        the volume is not refined: such an atlas would move the landmarks away. Infinite refines every volume.
    """

    atlases: int
    iterations: int
    learning_rate: float
    beta_1: float
    norm: str
    sigma_mm: float
    robust: tuple[int, ...]
    decode: str = "argmax"
    pairs: tuple[tuple[int, int], ...] = ()
    expected_mm: float = math.inf


@dataclass(frozen=True)
class Refinement:
    """The result of a refinement of one volume; T iterations, K landmarks, on the network's grid.

    Attributes:
      maps: [X, Y, Z, K] float32, the final heatmaps, without the padding.
      points_vox: [K, 3] float32, theirs.
      path_vox: [T + 1, K, 3] float32, before the first step and after each; NaN after the first where it failed.
      losses: [T] float32, against each iteration's proxy before its step.
      distances_mm: [T] float32, the mean distance of a landmark of the atlases to the pose; NaN without any.
      refined: false where it failed or was declined; the prediction is then the network's own, and `note` says why.
      note: one line, or "".
    """

    maps: np.ndarray
    points_vox: np.ndarray
    path_vox: np.ndarray
    losses: np.ndarray
    distances_mm: np.ndarray
    refined: bool
    note: str

    @property
    def peaks(self) -> np.ndarray:
        """[K] the maximum of each map."""
        return self.maps.max((0, 1, 2))


class Refiner:
    """Refines one volume after another; traced once for all sizes.

    Not for several volumes at once: it trains the given network and then restores its weights, also after an exception
    or Ctrl-C (which takes effect after the last iteration of the volume).
    """

    def __init__(self, network: keras.Model, atlas_set: AtlasSet, settings: RefineSettings):
        """
        Args:
          network: standardised [1, X, Y, Z, 1] -> {"heatmaps": [1, X, Y, Z, K]}; a checkpointed one stays so.
          atlas_set: with the network's landmarks in its order.
          settings: the numbers.

        Raises:
          UserError: the atlas set has another number of landmarks, or no atlas.
        """
        landmarks = network.output["heatmaps"].shape[-1]
        if len(atlas_set.names) != landmarks or not len(atlas_set):
            raise UserError(f"atlas set: expected atlases of the detector's {landmarks} landmarks, found "
                            f"{len(atlas_set)} of {len(atlas_set.names)}")
        self.network, self.poses, self.settings = network, atlas_set, settings
        self.atlases = min(settings.atlases, len(atlas_set))
        self.optimizer = optimizer("adam", settings.learning_rate, beta_1=settings.beta_1)
        self.optimizer.build(network.trainable_variables)
        inputs = [IMAGE, SIZE, SPACING, VALID]
        self._run = tf.function(self._iterations, input_signature=inputs, autograph=False)
        self._plain = tf.function(self._unrefined, input_signature=inputs, autograph=False)

    def __call__(self, image, size, spacing_mm, valid=None) -> Refinement:
        """The refined prediction.

        Args:
          image: [1, X', Y', Z', 1] float32, standardised, padded at the high ends.
          size: [3] the sides without the padding, which has no influence.
          spacing_mm: [3] of the network's grid.
          valid: [1, X', Y', Z', 1], 1 inside the volume, 0 outside, which has no influence either; None: all inside.
        """
        valid = tf.ones_like(image) if valid is None else valid
        given = (tf.cast(image, tf.float32), tf.cast(size, tf.int32), tf.cast(spacing_mm, tf.float32),
                 tf.cast(valid, tf.float32))
        declined = self._declined(*given)
        if declined:
            return declined
        with weights_restored(self.network):
            self._reset_optimizer()
            maps, path, losses, distances = (
                value.numpy() for value in self._run(*given))
        note = ""
        if not np.isfinite(distances).all():
            note = NO_ATLAS
        if not (np.isfinite(losses).all() and np.isfinite(maps).all()):
            note = NOT_FINITE
        points = path[-1]
        if note:
            maps, points = (value.numpy() for value in self._plain(*given))
            path = np.concatenate([points[None], np.full_like(path[1:], np.nan)])
        return Refinement(maps=maps, points_vox=points, path_vox=path, losses=losses, distances_mm=distances,
                          refined=not note, note=note)

    def _declined(self, image, size, spacing_mm, valid) -> Refinement | None:
        """The prediction without refinement where the nearest atlas is farther than `expected_mm`; else None."""
        expected = self.settings.expected_mm
        if math.isinf(expected):
            return None
        maps, points = (value.numpy() for value in self._plain(image, size, spacing_mm, valid))
        away = self.poses.distance_mm(points * spacing_mm.numpy(), self.settings.robust)
        if not away > expected:  # or no atlas can be compared, which the refinement says
            return None
        none = np.full(self.settings.iterations, np.nan, np.float32)
        return Refinement(maps=maps, points_vox=points, path_vox=np.stack([points, *[points * np.nan] * len(none)]),
                          losses=none, distances_mm=none, refined=False, note=TOO_FAR.format(away, expected))

    def _reset_optimizer(self) -> None:
        """Sets the moments and the step count to 0."""
        for variable in self.optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        self.optimizer.learning_rate = self.settings.learning_rate

    def _iterations(self, image, size, spacing_mm, valid):
        """All steps and the pass after them: maps [X, Y, Z, K], path [T + 1, K, 3], losses [T], distances [T]."""
        count, landmarks = self.settings.iterations, len(self.poses.names)
        path = tf.TensorArray(tf.float32, count + 1, element_shape=[landmarks, 3])
        losses, distances = (tf.TensorArray(tf.float32, count, element_shape=[]) for _ in range(2))

        def step(index, path, losses, distances):
            pose, loss, distance = self._step(image, size, spacing_mm, valid)
            return index + 1, path.write(index, pose), losses.write(index, loss), distances.write(index, distance)

        _, path, losses, distances = tf.while_loop(
            lambda index, *_: index < count, step, (0, path, losses, distances), parallel_iterations=1)
        maps = lowest_outside(self._maps(image, size), cropped(valid, size))
        path = path.write(count, self._points(maps, spacing_mm))
        return maps[0], path.stack(), losses.stack(), distances.stack()

    def _step(self, image, size, spacing_mm, valid):
        """One iteration: the pose [K, 3] before it, the loss against its proxy, the distance of the atlases in mm."""
        with tf.GradientTape() as tape:
            maps = self._maps(image, size)
            with tape.stop_recording():
                valid = cropped(valid, size)
                pose = self._points(lowest_outside(maps, valid), spacing_mm)
                proxy, distance = self._proxy(pose, size, spacing_mm)
                proxy = tf.where(valid > 0, proxy, float("nan"))  # which the loss ignores
            loss = heatmap_error(proxy, maps)[0]
        variables = self.network.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return pose, loss, distance

    def _maps(self, image, size):
        """The heatmaps [1, X, Y, Z, K] float32 without the padding."""
        maps = output_for_gradient(self.network, image, self.settings.norm == "batch")["heatmaps"]
        return cropped(maps, size)

    def _points(self, maps, spacing_mm):
        return decoded(maps, self.settings.decode, self._sigma(spacing_mm))[0]

    def _sigma(self, spacing_mm):
        """The width of the Gaussians, in voxels."""
        return self.settings.sigma_mm / tf.reduce_mean(spacing_mm)

    def _unrefined(self, image, size, spacing_mm, valid):
        """The network's own prediction: maps [X, Y, Z, K] and points [K, 3]."""
        maps = lowest_outside(cropped(self.network(image, training=False)["heatmaps"], size), cropped(valid, size))
        return maps[0], self._points(maps, spacing_mm)

    def _proxy(self, pose, size, spacing_mm):
        """The proxy [1, X, Y, Z, K] of a pose [K, 3], and the mean distance of a landmark of its atlases, mm."""
        found, distance = tf.numpy_function(self._support, [pose * spacing_mm], [tf.float32, tf.float32])
        found = tf.ensure_shape(found, [self.atlases, len(self.poses.names), 3])
        return mean_gaussian_maps(found / spacing_mm, size, self._sigma(spacing_mm)), tf.ensure_shape(distance, [])

    def _support(self, pose_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The atlases [A, K, 3] on a pose, NaN where fewer were found, and their mean distance."""
        found = self.poses.nearest(pose_mm, self.settings.robust, self.atlases, self.settings.pairs)
        points = np.full((self.atlases, *pose_mm.shape), np.nan, np.float32)
        points[:len(found.places)] = found.points_mm
        distance = found.costs_mm.mean() / len(pose_mm) if len(found.places) else np.nan
        return points, np.float32(distance)


def mean_gaussian_maps(points_vox, size, sigma):
    """The mean over the atlases of exp(-|v - p|^2 / (2 sigma^2)): [1, X, Y, Z, K] float32, a proxy.

    Not the Gaussian of the mean point: where the atlases disagree the peak is below 1. The sum of products of three
    profiles is one matrix product for each landmark, so that only one map of each is held.

    Args:
      points_vox: [A, K, 3] float32; NaN where an atlas lacks a landmark, which is then the mean over the others.
      size: [3] int32.
      sigma: voxels.

    Returns:
      The maps; all NaN for a landmark that no atlas has.
    """
    known = tf.reduce_all(tf.math.is_finite(points_vox), -1)  # [A, K]
    number = tf.reduce_sum(tf.cast(known, tf.float32), 0)
    share = tf.where(known, tf.math.divide_no_nan(1.0, number), 0.0)
    points = tf.transpose(tf.where(known[..., None], points_vox, 0.0), [2, 1, 0])  # [3, K, A]
    along = [tf.exp(-tf.square(tf.range(tf.cast(side, tf.float32))[:, None, None] - points[axis])
                    / (2 * sigma * sigma)) for axis, side in enumerate(tf.unstack(size, num=3))]  # each [side, K, A]
    first = along[0] * tf.transpose(share)
    plane = tf.transpose(first[:, None] * along[1][None], [2, 0, 1, 3])  # [K, X, Y, A]
    flat = tf.reshape(plane, [tf.shape(plane)[0], -1, tf.shape(plane)[3]])
    maps = tf.matmul(flat, tf.transpose(along[2], [1, 2, 0]))  # [K, X Y, Z]
    maps = tf.where(number[:, None, None] > 0, maps, float("nan"))
    return tf.reshape(tf.transpose(maps, [1, 2, 0]), [1, size[0], size[1], size[2], points_vox.shape[1]])


@contextmanager
def weights_restored(network: keras.Model) -> Iterator[None]:
    """Restores every variable of the network afterwards, to the bit, also after an exception."""
    before = [tf.identity(variable.value) for variable in network.variables]
    try:
        yield
    finally:
        for variable, value in zip(network.variables, before, strict=True):
            variable.assign(value)
