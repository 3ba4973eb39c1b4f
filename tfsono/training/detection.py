"""Training a network of anchors: its losses need all outputs at once, and Keras's losses take one output each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import keras
import tensorflow as tf

from tfsono.geometry.anchors import anchors_at
from tfsono.layers.proposals import SECOND_STAGE
from tfsono.losses.detection import DetectionLoss, anchor_losses, proposal_losses


@dataclass(frozen=True)
class DetectionSettings:
    """The settings of the losses.

    Attributes:
      strides: voxels in a cell of each map with anchors, the finest first.
      anchor_sides: along each axis.
      regression_weight: of the smooth L1 losses relative to the classification's.
      positive: a proposal above this IoU with a target is positive.
      loss: the sample and the weights by IoU.
      proposal_deviations: of the second stage's offsets.
    """

    strides: Sequence[int]
    anchor_sides: Sequence[float]
    regression_weight: float
    positive: float
    loss: DetectionLoss
    proposal_deviations: Sequence[float]


class DetectionTrainer(keras.Model):
    """A network of anchors, with the losses of `losses.detection`; its layers, weights and outputs are the network's.

    The reference is that of `data.boxes`, one volume a step. The logs are `loss`, and each of its parts, unweighted.
    """

    def __init__(self, network: keras.Model, settings: DetectionSettings):
        """`network`: functional, image [1, X, Y, Z, 1] -> {"offsets", and "classes" or "objectness"} and more."""
        super().__init__(network.input, network.output, name=network.name)
        self.settings = settings
        parts = ["classification", "regression"]
        parts += ["proposal_classification", "proposal_regression"] if "proposals" in network.output else []
        self.parts = {name: keras.metrics.Mean(name) for name in parts}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        reference, prediction = ({name: tf.squeeze(value, 0) for name, value in each.items()} for each in (y, y_pred))
        losses = self._parts(tf.shape(x)[1:4], reference, prediction)
        for name, value in losses.items():
            self.parts[name].update_state(value)
        weights = {name: self.settings.regression_weight if name.endswith("regression") else 1.0 for name in losses}
        return tf.add_n([weights[name] * value for name, value in losses.items()] + self.losses)

    def _parts(self, sides, reference: dict, prediction: dict) -> dict:
        """The parts by name, of one volume of the padded `sides`."""
        settings = self.settings
        levels = [(sides // stride, stride) for stride in settings.strides]
        anchors = anchors_at(tf.maximum(reference["positives"], 0), levels, settings.anchor_sides)
        first = prediction["objectness" if "proposals" in prediction else "classes"]
        losses = anchor_losses(reference, first, prediction["offsets"], anchors, settings.loss)
        if "proposals" in prediction:
            boxes, second = reference["boxes"], replace(settings.loss, deviations=settings.proposal_deviations)
            losses |= proposal_losses(boxes, *self._proposed(boxes, prediction), second, settings.positive)
        return losses

    def _proposed(self, boxes, prediction: dict) -> tuple:
        """Classes, offsets and boxes of the proposals and, as in Faster R-CNN's training, of the reference boxes."""
        at_reference = self.get_layer(SECOND_STAGE)([prediction["features"][None], boxes[None]])
        return (*(tf.concat([prediction[name], at_reference[name][0]], 0) for name in ("classes", "proposal_offsets")),
                tf.concat([prediction["proposals"], boxes], 0))
