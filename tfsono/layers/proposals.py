"""Proposals of a region proposal network, and the features inside them: the two halves of Faster R-CNN (batch 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras import KerasTensor, layers, ops

from tfsono.geometry.anchors import anchors_at
from tfsono.geometry.boxes import decode, keep_best
from tfsono.geometry.roi_align import roi_align

SECOND_STAGE = "second_stage"
"""The layer that classifies boxes: [features [1, X, Y, Z, C], boxes [1, P, 6]] -> {"classes", "proposal_offsets"};
training gives it the reference boxes besides the proposals."""


class Proposals(layers.Layer):
    """[fused map [1, X, Y, Z, C], logits [1, A, 2], offsets [1, A, 6]] -> boxes [1, P, 6], without a gradient.

    The `pool` best anchors are decoded, and non-maximum suppression keeps P of them; NaN where fewer remain. Faster
    R-CNN (Ren et al., 2015), Sec. 3.3.
    """

    def __init__(self, stride: int, sides: Sequence[float], deviations: Sequence[float], count: int, pool: int,
                 highest_iou: float, name: str):
        """
        Args:
          stride: voxels in a cell of the map.
          sides: of the anchors, along each axis.
          deviations: of the offsets.
          count: P.
          pool: anchors before the suppression.
          highest_iou: of two proposals.
          name: of the layer.
        """
        super().__init__(name=name, dtype="float32", trainable=False)
        self.stride, self.sides, self.deviations = stride, tuple(sides), tuple(deviations)
        self.count, self.pool, self.highest_iou = count, pool, highest_iou

    def call(self, inputs):
        fused, logits, offsets = (ops.stop_gradient(x) for x in inputs)
        scores = logits[0, :, 1] - logits[0, :, 0]
        scores, places = ops.top_k(ops.pad(scores, ((0, self.pool),), constant_values=-math.inf), self.pool)
        places = ops.minimum(places, ops.shape(logits)[1] - 1)  # a small map has fewer; -inf is never chosen
        anchors = anchors_at(places, [(ops.shape(fused)[1:4], self.stride)], self.sides)
        boxes = decode(ops.take(offsets[0], places, axis=0), anchors, self.deviations)
        kept, there = keep_best(boxes, scores, self.highest_iou, self.count)
        return ops.where(there[:, None], ops.take(boxes, kept, axis=0), math.nan)[None]

    def compute_output_spec(self, inputs):
        return KerasTensor((1, self.count, 6), "float32")


class RegionFeatures(layers.Layer):
    """[map [1, X, Y, Z, C], boxes [1, P, 6]] -> the map inside each box, [1, P, side^3 * C]; 0 for a box of NaN."""

    def __init__(self, stride: int, side: int, name: str):
        super().__init__(name=name, autocast=False)  # half precision would move the boxes
        self.stride, self.side = stride, side

    def call(self, inputs):
        features, boxes = inputs
        boxes = boxes[0]
        there = ops.all(ops.isfinite(boxes), axis=-1)
        features = ops.cast(features[0], self.compute_dtype)
        # `where` would be a product in ONNX, and NaN there.
        cut = roi_align(features, ops.nan_to_num(boxes), self.stride, self.side)
        cut = ops.where(there[:, None, None, None, None], cut, ops.zeros_like(cut))
        return ops.reshape(cut, (1, ops.shape(boxes)[0], self.side ** 3 * features.shape[-1]))

    def compute_output_spec(self, inputs):
        features, boxes = inputs
        return KerasTensor((1, boxes.shape[1], self.side ** 3 * features.shape[-1]), self.compute_dtype)
