"""HDF5 cache -> whole volumes and the targets of their anchors -> tf.data, one a step, by the seed and the step.

Volumes and landmarks are rotated and mirrored as in `landmark_volumes`; the boxes are built around the landmarks
afterwards, never rotated with them (`face`, Sec. 3). A landmark that leaves the volume is missing in that step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfsono.data.cache import Cache
from tfsono.data.resampled import resampled_parts, resampled_dataset
from tfsono.data.landmark_volumes import WholeSampling, WholeSource, draw_whole
from tfsono.geometry.anchors import assign
from tfsono.geometry.boxes import centred_boxes
from tfsono.layers.standardise import standardise

SAMPLE = 7  # what a random stream is for; part of its seed, next to those of `resampled`


@dataclass(frozen=True)
class BoxSampling:
    """Which anchors a step trains on.

    Attributes:
      sides: of each landmark's box, voxels of the network's grid, [K].
      strides: voxels in a cell of each map with anchors, the finest first.
      anchor_sides: along each axis.
      positive: IoU above which an anchor is positive.
      negative: IoU below which, with every target, it is negative.
      most_positives: of a volume; more are drawn from at random.
      negatives_per_positive: of the sample; drawn at random here, as many as the largest sample may need.
    """

    sides: tuple[float, ...]
    strides: tuple[int, ...]
    anchor_sides: tuple[float, ...]
    positive: float
    negative: float
    most_positives: int
    negatives_per_positive: int

    @property
    def most_negatives(self) -> int:
        return self.most_positives * self.negatives_per_positive


def draw_boxes(cache: Cache, sources: list[WholeSource], position: int, sampling: WholeSampling,
               boxes: BoxSampling) -> dict:
    """The result of `draw_whole`, with the targets of `box_dataset`."""
    drawn = draw_whole(cache, sources, position, sampling)
    targets = centred_boxes(drawn["points"], np.array(boxes.sides)).astype(np.float32)
    levels = [(tuple(drawn["padded"] // stride), stride) for stride in boxes.strides]
    labels = assign(targets, levels, base_sizes=boxes.anchor_sides, size=drawn["size"], positive=boxes.positive,
                    negative=boxes.negative).labels
    random = np.random.default_rng([sampling.seed, SAMPLE, position])
    positives, negatives = np.flatnonzero(labels > 0), np.flatnonzero(labels == 0)
    return {**drawn, "boxes": targets, "labels": labels,
            "positives": _some(random, positives, boxes.most_positives),
            "negatives": _some(random, negatives, boxes.most_negatives)}


def _some(random: np.random.Generator, places: np.ndarray, most: int) -> np.ndarray:
    """int32 [most]: up to `most` of the places, in random order; then -1."""
    found = np.full(most, -1, np.int32)
    number = min(most, len(places))
    found[:number] = random.choice(places, number, replace=False, shuffle=True)
    return found


def box_dataset(path, system: str, sources: list[WholeSource], sampling: WholeSampling, boxes: BoxSampling,
                steps: range) -> tf.data.Dataset:
    """The volumes of the given steps, one a step, each of its own size.

    Args:
      path: of the cache; system: that it was written for.
      sources: of `whole_sources`.
      sampling: how to rescale and augment.
      boxes: the targets of the anchors.
      steps: the steps; step s gives the same volume and sample wherever the run began.

    Returns:
      image [1, X, Y, Z, 1] float32, standardised over its valid voxels, 0 elsewhere; and, as `losses.detection` takes
      it, "boxes" [1, K, 6], "labels" [1, A] int8, "positives" [1, P] and "negatives" [1, N] int32.
    """
    landmarks = len(sources[0].points_vox)
    dataset = resampled_dataset(
        lambda cache, step: draw_boxes(cache, sources, step, sampling, boxes), path, system=system, steps=steps,
        landmarks=landmarks,
        besides={"sigma": tf.TensorSpec([], tf.float32), "boxes": tf.TensorSpec([landmarks, 6], tf.float32),
                 "labels": tf.TensorSpec([None], tf.int8),
                 "positives": tf.TensorSpec([boxes.most_positives], tf.int32),
                 "negatives": tf.TensorSpec([boxes.most_negatives], tf.int32)})
    return dataset.map(_prepare, tf.data.AUTOTUNE, deterministic=True).prefetch(2)  # volumes are large


@tf.autograph.experimental.do_not_convert
def _prepare(drawn: dict):
    """Resample, pad and standardise the volume; the targets as they are, of a batch of one."""
    image, _, valid = resampled_parts(drawn)
    targets = {name: drawn[name][None] for name in ("boxes", "labels", "positives", "negatives")}
    return standardise(image, valid), targets
