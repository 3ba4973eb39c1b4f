"""`pose` from a raw volume to its landmarks on its own grid: in one graph, and refined on the volume.

The whole volume is rescaled, standardised and padded (Sec. 3), and the network's points are mapped back to its grid.
Or, an option, a first network finds the midline, and the volume is resampled once, rotated by it into the frame of all
bodies (`tfsono.geometry.body_frame`). Refinement on a test volume (Sec. 2.2) trains the network, so no SavedModel
contains it.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from tfsono.geometry.body_frame import BodyFrame
from tfsono.geometry.heatmaps import decoded
from tfsono.inference.atlases import AtlasSet
from tfsono.inference.framed import Grid, framed_grid, whole_grid
from tfsono.inference.peaks import member_outputs, peak_outputs
from tfsono.inference.refine import Refinement, Refiner, RefineSettings

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

    def read(self, volume, spacing_mm) -> Grid:
        """The network's input: the whole volume.

        Args:
          volume: [X, Y, Z] float32, raw intensities.
          spacing_mm: [3].
        """
        return whole_grid(volume, spacing_mm, self.spacing_mm, self.ratio, self.stride)

    def voxel_mm(self, spacing_mm):
        """The mean side of a voxel of the network's grid, for volumes of `spacing_mm`."""
        return tf.reduce_mean(self.spacing_mm or spacing_mm) / self.ratio


@dataclass(frozen=True)
class FramedReader:
    """As a `PoseReader`, for a network that sees the body in its frame.

    Attributes:
      reader: of the network.
      finder: of the first network, which finds the midline.
      frame: of the network's training.
    """

    reader: PoseReader
    finder: PoseReader
    frame: BodyFrame

    @property
    def network(self) -> keras.Model:
        return self.reader.network

    def read(self, volume, spacing_mm) -> Grid:
        """The network's input: the frame's box, resampled once from the volume; the arguments of a `PoseReader`."""
        reader = self.reader
        points = predicted(self.finder, self.finder.read(volume, spacing_mm), spacing_mm)["points_vox"]
        return framed_grid(volume, spacing_mm, reader.spacing_mm, reader.ratio, reader.stride, points_vox=points,
                           frame=self.frame)

    def voxel_mm(self, spacing_mm):
        """The side of a voxel of the network's grid."""
        return self.reader.voxel_mm(spacing_mm)


def predicted(reader: PoseReader | FramedReader, grid: Grid, spacing_mm) -> dict:
    """The outputs of a `PoseModule`, of a volume that `reader` has read."""
    plain = reader.reader if isinstance(reader, FramedReader) else reader
    found = reader.network(grid.image, training=False)
    sigma = plain.sigma_mm / plain.voxel_mm(spacing_mm)

    def points(maps):
        return grid.on_volume(decoded(maps, plain.decode, sigma))

    maps = grid.inside(found["heatmaps"])
    output = {"points_vox": points(maps)[0], **peak_outputs(maps, grid.spacing_mm(spacing_mm), plain.sigma_mm)}
    if "member_heatmaps" in found:
        output |= member_outputs(points(grid.inside(found["member_heatmaps"][0])), spacing_mm)
    return output


class PoseModule(tf.Module):
    """A raw volume of any size and its spacing -> landmarks."""

    def __init__(self, reader: PoseReader | FramedReader):
        super().__init__(name="pose_module")
        self.reader = reader
        self.network = reader.network  # so that its variables are tracked
        self.finder = reader.finder.network if isinstance(reader, FramedReader) else None

    @tf.function(input_signature=[VOLUME, SPACING_MM], autograph=False)
    def __call__(self, volume, spacing_mm):
        """The landmarks of a `volume` [X, Y, Z] float32, raw intensities, any size.

        Returns:
          "points_vox": [K, 3] float32, indices of the volume's own voxel centres; `peak_outputs` of the heatmaps, whose
          maximum is 1 in the targets of training; of an ensemble `member_outputs`.
        """
        return predicted(self.reader, self.reader.read(volume, spacing_mm), spacing_mm)


@dataclass(frozen=True)
class RefinedPose:
    """A refined prediction on the volume's own grid; T iterations, K landmarks.

    Attributes:
      points_vox: [K, 3] float32.
      peaks: [K] float32.
      path_vox: [T + 1, K, 3] float32, before the first step and after each; NaN after the first where it failed.
      losses: [T] float32.
      distances_mm: [T] float32, the mean distance of a landmark of the atlases to the pose.
      refined: false where it failed or was declined; the prediction is then the network's own, and `note` says why.
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
        grid = self._read(volume, spacing_mm)
        found: Refinement = self.refiner(grid.image, grid.size, grid.spacing_mm(spacing_mm), grid.valid)
        points, path = (grid.on_volume(points).numpy() for points in (found.points_vox, found.path_vox))
        return RefinedPose(points_vox=points, peaks=found.peaks, path_vox=path, losses=found.losses,
                           distances_mm=found.distances_mm, refined=found.refined, note=found.note)
