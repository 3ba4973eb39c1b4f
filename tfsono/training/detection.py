"""Training a network of anchors: its losses need all of its answers at once; Keras's losses see one output each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from tfsono.geometry.anchors import anchors_at
from tfsono.layers.proposals import SECOND_STAGE
from tfsono.losses.detection import DetectionLoss, anchor_losses, proposal_losses


@dataclass(frozen=True)
class DetectionSettings:
    """What the losses are of.

    Attributes:
      strides: voxels in a cell of each map with anchors, the finest first.
      anchor_sides: along each axis.
      regression_weight: of the smooth L1 losses beside the classification's.
      positive: a proposal above this IoU with a target holds it.
      loss: of the sample, and of the weights by IoU.
    """

    strides: Sequence[int]
    anchor_sides: Sequence[float]
    regression_weight: float
    positive: float
    loss: DetectionLoss


class DetectionTrainer(keras.Model):
    """A network of anchors (its layers, its weights, its answers), with the losses of `losses.detection`.

    Reference of `data.boxes`, of one volume a step. The logs are `loss`, and each of its parts, unweighted.
    """

    def __init__(self, network: keras.Model, settings: DetectionSettings):
        """`network`: functional, image [1, X, Y, Z, 1] -> {"offsets", and "classes" or "objectness"} and more."""
        super().__init__(network.input, network.output, name=network.name)
        self.settings = settings
        parts = ["classification", "regression"]
        parts += ["proposal_classification", "proposal_regression"] if "proposals" in network.output else []
        self.parts = {name: keras.metrics.Mean(name) for name in parts}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        reference, prediction = ({name: tf.squeeze(value, 0) for name, value in values.items()} for values in (y, y_pred))
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
            losses |= proposal_losses(reference["boxes"], *self._proposed(reference["boxes"], prediction), settings.loss,
                                      settings.positive)
        return losses

    def _proposed(self, boxes, prediction: dict) -> tuple:
        """Classes, offsets and boxes of the proposals and, as in Faster R-CNN's training, of the true boxes."""
        true = self.get_layer(SECOND_STAGE)([prediction["features"][None], boxes[None]])
        return (*(tf.concat([prediction[name], true[name][0]], 0) for name in ("classes", "proposal_offsets")),
                tf.concat([prediction["proposals"], boxes], 0))
