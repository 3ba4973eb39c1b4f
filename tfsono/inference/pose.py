"""`pose` from a raw volume to its landmarks on its own grid: in one graph, and refined on the volume.

The whole volume is rescaled, standardised and padded (Sec. 3), and the network's points are mapped back to its grid.
Refinement on a test volume (Sec. 2.2) trains the network, so no SavedModel contains it.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from tfsono.geometry.heatmaps import decoded
from tfsono.inference.atlases import AtlasSet
from tfsono.inference.refine import Refinement, Refiner, RefineSettings
from tfsono.inference.resample import at_spacing, padded, resample_linear, rescaled_size
from tfsono.layers.standardise import standardise

VOLUME = tf.TensorSpec([None, None, None], tf.float32, "volume")
SPACING_MM = tf.TensorSpec([3], tf.float32, "spacing_mm")


@dataclass(frozen=True)
class PoseReader:
    """The network and its input.

    Attributes:
      network: standardised volumes [B, X, Y, Z, 1] -> {"heatmaps": [B, X, Y, Z, K]}.
      stride: sides are padded to multiples of it.
      ratio: by which the volume is rescaled.
      decode: how a heatmap becomes a point: `argmax`, `centroid` or `wide_centroid`.
      spacing_mm: of the network's training, before `ratio`; () for each volume's own.
      sigma_mm: of the Gaussian targets of training, for `wide_centroid`.
    """

    network: keras.Model
    stride: int
    ratio: float
    decode: str
    spacing_mm: tuple[float, ...] = ()
    sigma_mm: float = 0.0

    def read(self, volume, spacing_mm):
        """The network's input [1, X', Y', Z', 1], and its sides [3] int32 without the padding.

        Args:
          volume: [X, Y, Z] float32, raw intensities.
          spacing_mm: [3].
        """
        volume = at_spacing(volume, spacing_mm, self.spacing_mm)
        size = rescaled_size(tf.shape(volume), self.ratio)
        image, valid = padded(resample_linear(volume, size), self.stride)
        return standardise(image, valid), size


class PoseModule(tf.Module):
    """A raw volume of any size and its spacing -> landmarks."""

    def __init__(self, reader: PoseReader):
        super().__init__(name="pose_module")
        self.reader = reader
        self.network = reader.network  # so that its variables are tracked

    @tf.function(input_signature=[VOLUME, SPACING_MM], autograph=False)
    def __call__(self, volume, spacing_mm):
        """{"points_vox": [K, 3], "peaks": [K]} float32 of a `volume` [X, Y, Z] float32, raw intensities, any size.

        Points are indices of the volume's own voxel centres; a peak is the maximum of a landmark's heatmap, 1 in the
        targets of training.
        """
        image, size = self.reader.read(volume, spacing_mm)
        maps = self.network(image, training=False)["heatmaps"]
        maps = tf.cast(maps, tf.float32)[:, :size[0], :size[1], :size[2]]
        voxel_mm = tf.reduce_mean(self.reader.spacing_mm or spacing_mm) / self.reader.ratio
        points = decoded(maps, self.reader.decode, self.reader.sigma_mm / voxel_mm)[0]
        step = tf.cast(tf.shape(volume), tf.float32) / tf.cast(size, tf.float32)
        return {"points_vox": (points + 0.5) * step - 0.5, "peaks": tf.reduce_max(maps, axis=(0, 1, 2, 3))}


@dataclass(frozen=True)
class RefinedPose:
    """A refined prediction on the volume's own grid; T iterations, K landmarks.

    Attributes:
      points_vox: [K, 3] float32.
      peaks: [K] float32.
      path_vox: [T + 1, K, 3] float32, before the first step and after each; NaN after the first where it failed.
      losses: [T] float32.
      distances_mm: [T] float32, the mean distance of a landmark of the atlases to the pose.
      refined: false where the refinement failed; the prediction is then the network's own, and `note` says why.
      note: one line, or "".
    """

    points_vox: np.ndarray
    peaks: np.ndarray
    path_vox: np.ndarray
    losses: np.ndarray
    distances_mm: np.ndarray
    refined: bool
    note: str


class PoseRefiner:
    """A module's predictions, refined on each volume; see `tfsono.inference.refine.Refiner`."""

    def __init__(self, module: PoseModule, atlas_set: AtlasSet, settings: RefineSettings):
        """Raises `UserError` where the atlas set is not of the network's landmarks."""
        self.reader = module.reader
        self.refiner = Refiner(module.network, atlas_set, settings)
        self._read = tf.function(self.reader.read, input_signature=[VOLUME, SPACING_MM], autograph=False)

    def __call__(self, volume, spacing_mm) -> RefinedPose:
        """The refined prediction; the arguments of a `PoseModule`."""
        image, size = self._read(volume, spacing_mm)
        step = np.array(tf.shape(volume), np.float64) / size.numpy()
        found: Refinement = self.refiner(image, size, np.asarray(spacing_mm) * step)
        points, path = (((grid.astype(np.float64) + 0.5) * step - 0.5).astype(np.float32)
                        for grid in (found.points_vox, found.path_vox))
        return RefinedPose(points_vox=points, peaks=found.peaks, path_vox=path, losses=found.losses,
                           distances_mm=found.distances_mm, refined=found.refined, note=found.note)
