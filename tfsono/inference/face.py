"""`face` from a raw volume to its landmarks and their boxes on its own grid, in one graph.

The volume is resampled to the network's spacing, standardised and padded; the network predicts for all anchors; the
best boxes of each landmark after non-maximum suppression are its candidates; the graph prior chooses among the first
ones of each (Sec. 2.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import keras
import tensorflow as tf

from tfsono.geometry.anchors import anchors_at, centres_inside
from tfsono.geometry.body_frame import BodyFrame
from tfsono.geometry.boxes import box_centres, box_sides, clipped, decode, keep_best, pairwise_iou
from tfsono.geometry.heatmaps import argmax_points, centroid_points
from tfsono.inference.face_prior import FacePrior
from tfsono.inference.framed import Grid, framed_grid
from tfsono.inference.resample import at_spacing, padded, resample_linear, rescaled_size
from tfsono.layers.standardise import standardise

VOLUME = tf.TensorSpec([None, None, None], tf.float32, "volume")
SPACING_MM = tf.TensorSpec([3], tf.float32, "spacing_mm")
NAN = float("nan")
ROUNDING = 1e-4  # of a difference of logits
SMALLEST = 1e-12  # a denominator


class View(NamedTuple):
    """A volume as a network sees it.

    Attributes:
      image: [1, X', Y', Z', 1] standardised.
      size: [3] int32, the sides without the padding.
      on_volume: boxes [..., 6] of the network's grid -> in the volume's own voxels.
    """

    image: tf.Tensor
    size: tf.Tensor
    on_volume: Callable


@dataclass(frozen=True)
class FaceReader:
    """The network, its input, and how its output is decoded.

    Attributes:
      network: standardised volumes [B, X, Y, Z, 1] -> the outputs of `models.face`.
      stride: sides are padded to multiples of it.
      spacing_mm: of the network's training; () for each volume's own.
      landmarks: K.
      strides: voxels in a cell of each map with anchors, the finest first.
      anchor_sides: along each axis.
      deviations: of the offsets of the predicted boxes.
      highest_iou: of two candidates of a landmark; 1 suppresses none.
      merged_above: a candidate becomes the mean of the boxes that overlap it by this IoU; 0 leaves it as it is.
      top_k: L, candidates of a landmark in the output.
      chosen_from: the prior chooses among so many of them.
      lowest_score: of a candidate.
      clip_boxes: at the volume's border.
      decode: how a heatmap becomes a point, `argmax` or `centroid`; only for `heatmap`.
      ratio: by which the volume is rescaled.
    """

    network: keras.Model
    stride: int
    spacing_mm: tuple[float, ...]
    landmarks: int
    strides: tuple[int, ...]
    anchor_sides: tuple[float, ...]
    deviations: tuple[float, float]
    highest_iou: float
    top_k: int
    chosen_from: int
    lowest_score: float
    merged_above: float = 0.0
    clip_boxes: bool = False
    decode: str = "argmax"
    ratio: float = 1.0

    def read(self, volume, spacing_mm) -> View:
        """The whole volume.

        Args:
          volume: [X, Y, Z] float32, raw intensities.
          spacing_mm: [3].
        """
        native = tf.cast(tf.shape(volume), tf.float32)
        volume = at_spacing(volume, spacing_mm, self.spacing_mm)
        if self.ratio != 1:
            volume = resample_linear(volume, rescaled_size(tf.shape(volume), self.ratio))
        image, valid = padded(volume, self.stride)
        step = native / tf.cast(tf.shape(volume), tf.float32)
        return View(image=standardise(image, valid), size=tf.shape(volume),
                    on_volume=lambda boxes: (boxes + 0.5) * tf.tile(step, [2]) - 0.5)

    def candidates(self, image, size):
        """Boxes [K, L, 6] on the network's grid, the best first, NaN where there are fewer; and scores [K, L], 0 there.

        Args:
          image: of `read`.
          size: [3], without the padding.
        """
        prediction = self.network(image, training=False)
        if "heatmaps" in prediction:
            return self._points(tf.cast(prediction["heatmaps"], tf.float32)[:, :size[0], :size[1], :size[2]])
        return self.best(*self.detections(prediction, image, size))

    def detections(self, prediction: dict, image, size) -> tuple:
        """All boxes [N, 6] of the network's prediction that may have a score, and their scores [N, K]."""
        if "proposals" in prediction:
            found = [self._proposed(prediction, size)]
        else:
            cells = [tf.shape(image)[1:4] // stride for stride in self.strides]
            rows = [tf.reduce_prod(sides) * len(self.anchor_sides) ** 3 for sides in cells]
            parts = (tf.split(prediction[name][0], rows) for name in ("classes", "offsets"))
            found = [self._sure(*part, size) for part in zip(*parts, cells, self.strides, strict=True)]
        boxes, scores = (tf.concat(parts, 0) for parts in zip(*found, strict=True))
        return clipped(boxes, size) if self.clip_boxes else boxes, scores

    def _sure(self, logits, offsets, cells, stride: int, size):
        """Boxes and scores of the anchors of a map that may reach the lowest score: thousands, not millions."""
        valid = centres_inside(cells, stride, size, len(self.anchor_sides) ** 3)
        # p of a class is at least t only where it is t / (1 - t) of the background's: avoids a softmax of all anchors
        lowest = math.log(self.lowest_score / (1 - self.lowest_score)) if self.lowest_score else -math.inf
        above = tf.reduce_max(logits[:, 1:], axis=-1) - logits[:, 0]
        places = tf.where(valid & (above >= lowest - ROUNDING))[:, 0]
        boxes = decode(tf.gather(offsets, places), anchors_at(places, [(cells, stride)], self.anchor_sides),
                       self.deviations)
        return boxes, tf.nn.softmax(tf.gather(logits, places))[:, 1:]

    def _proposed(self, prediction, size):
        """Boxes and scores of the proposals whose centre is in the volume."""
        boxes, offsets, logits = (prediction[name][0] for name in ("proposals", "proposal_offsets", "classes"))
        centres = box_centres(boxes)
        valid = tf.reduce_all((centres >= -0.5) & (centres < tf.cast(size, tf.float32) - 0.5), axis=-1)
        boxes, scores = decode(offsets, boxes, self.deviations), tf.nn.softmax(logits)[:, 1:]
        return tf.boolean_mask(boxes, valid), tf.boolean_mask(scores, valid)

    def best(self, boxes, scores) -> tuple:
        """The candidates of each landmark among boxes [N, 6] with scores [N, K]."""
        one = tf.constant([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])  # never chosen; without it there might be no box at all
        boxes = tf.concat([boxes, one], 0)
        scores = tf.pad(tf.where(scores >= self.lowest_score, scores, -float("inf")), [[0, 1], [0, 0]],
                        constant_values=-float("inf"))
        limit = self.highest_iou if self.highest_iou < 1 else None
        kept = [keep_best(boxes, scores[:, landmark], limit, self.top_k) for landmark in range(self.landmarks)]
        places, there = (tf.stack(parts) for parts in zip(*kept, strict=True))
        found = tf.gather(tf.transpose(scores), places, batch_dims=1)
        best = tf.gather(boxes, places)
        if self.merged_above:
            best = tf.stack([self._merged(best[landmark], boxes, scores[:, landmark])
                             for landmark in range(self.landmarks)])
        return tf.where(there[..., None], best, NAN), tf.where(there, found, 0.0)

    def _merged(self, best, boxes, scores):
        """Each of the candidates [L, 6] as the mean, weighted by the scores, of the boxes [N, 6] that overlap it."""
        weights = tf.where(pairwise_iou(best, boxes) >= self.merged_above, tf.maximum(scores, 0.0), 0.0)
        return weights @ boxes / tf.maximum(tf.reduce_sum(weights, axis=1, keepdims=True), SMALLEST)

    def _points(self, maps):
        """The one candidate of each heatmap: an empty box at its point."""
        points = (argmax_points if self.decode == "argmax" else centroid_points)(maps)[0]
        boxes = tf.concat([points, points], -1)[:, None]
        peaks = tf.reduce_max(maps, axis=(0, 1, 2, 3))[:, None]
        more = [[0, 0], [0, self.top_k - 1]]
        return tf.pad(boxes, [*more, [0, 0]], constant_values=NAN), tf.pad(peaks, more)


@dataclass(frozen=True)
class FramedFaceReader:
    """As a `FaceReader`, for a network that sees faces in their frame.

    Attributes:
      reader: of the network.
      finder: of the first network, which finds the midline.
      frame: of the network's training.
    """

    reader: FaceReader
    finder: FaceReader
    frame: BodyFrame

    @property
    def network(self) -> keras.Model:
        return self.reader.network

    @property
    def chosen_from(self) -> int:
        return self.reader.chosen_from

    def read(self, volume, spacing_mm) -> View:
        """The frame's box, resampled once from the volume; the arguments of a `FaceReader`."""
        view, reader = self.finder.read(volume, spacing_mm), self.reader
        points = box_centres(view.on_volume(self.finder.candidates(view.image, view.size)[0])[:, 0])
        grid = framed_grid(volume, spacing_mm, reader.spacing_mm, 1.0, reader.stride, points_vox=points,
                           frame=self.frame)
        return View(grid.image, grid.size, lambda boxes: upright(boxes, grid, spacing_mm))

    def candidates(self, image, size):
        """Those of the `FaceReader`, on the frame's grid."""
        return self.reader.candidates(image, size)


def upright(boxes, grid: Grid, spacing_mm):
    """Boxes [..., 6] of a rotated grid on the volume's own: cubes of the same size around the rotated centre.

    Reference boxes are cubes along the volume's axes too, built around the landmark after a rotation (Sec. 3).
    """
    sides = tf.maximum(box_sides(boxes), 0.0) * grid.spacing_mm(spacing_mm)
    halves = tf.reduce_prod(sides, axis=-1, keepdims=True) ** (1 / 3) / spacing_mm / 2
    centres = grid.on_volume(box_centres(boxes))
    return tf.concat([centres - halves, centres + halves], axis=-1)


class FaceModule(tf.Module):
    """A raw volume of any size and its spacing -> landmarks, boxes, candidates."""

    def __init__(self, reader: FaceReader | FramedFaceReader, prior: FacePrior | None = None,
                 prior_weight: float = 0.0):
        """Takes the parts.

        Args:
          reader: the network and how its output is decoded.
          prior: chooses among candidates; without one the first of each landmark is predicted.
          prior_weight: of the prior against the scores; 0 uses the prior alone (Eq. 4).
        """
        super().__init__(name="face_module")
        self.reader, self.prior, self.prior_weight = reader, prior, prior_weight
        self.network = reader.network  # so that its variables are tracked
        self.finder = reader.finder.network if isinstance(reader, FramedFaceReader) else None

    @tf.function(input_signature=[VOLUME, SPACING_MM], autograph=False)
    def __call__(self, volume, spacing_mm):
        """The landmarks of a `volume` [X, Y, Z] float32, raw intensities, any size, on its own grid.

        Returns:
          {"points_vox": [K, 3], "scores": [K], "boxes_vox": [K, 6], "candidate_boxes_vox": [K, L, 6],
          "candidate_scores": [K, L], "chosen": [K] int32}: candidates the best first, NaN and 0 where there is none; a
          landmark without a candidate is NaN. Boxes of heatmaps are empty.
        """
        view = self.reader.read(volume, spacing_mm)
        boxes, scores = self.reader.candidates(view.image, view.size)
        boxes = view.on_volume(boxes)
        chosen = tf.zeros(tf.shape(boxes)[:1], tf.int32)
        if self.prior is not None:
            few = self.reader.chosen_from
            points_mm = box_centres(boxes[:, :few]) * spacing_mm
            chosen = tf.cast(self.prior.choose(points_mm, scores[:, :few], self.prior_weight), tf.int32)
        taken, sure = (tf.gather(values, chosen, batch_dims=1) for values in (boxes, scores))
        return {"points_vox": box_centres(taken), "scores": sure, "boxes_vox": taken, "candidate_boxes_vox": boxes,
                "candidate_scores": scores, "chosen": chosen}
