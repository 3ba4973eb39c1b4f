"""Losses of detection with anchors, of one volume: `keras.ops` alone, scalars float32.

A volume's loss is over a sample of its anchors: two million negatives would drown some hundred positives. Positives [P]
and random negatives [N] are given as indices of anchors, padded by -1; the hard negatives are found here, as they
depend on the prediction. Equations are those of `face` (ISBI 2020); IoU-balance is Wu & Li's (arXiv 1908.05641), whose
code gives the weights no gradient, nor does this.

A landmark whose position is unknown may be at any anchor, so none is taught that it is not: its class is left out of
every cross entropy of that volume. Where all landmarks are one class (`faster_rcnn`, first stage) the negatives of such
a volume are random ones alone, as the hardest ones may be those on that landmark.
"""

from __future__ import annotations

from dataclasses import dataclass

from keras import ops

from tfsono.geometry.boxes import decode, encode, iou

SMALLEST = 1e-12  # a denominator
NEVER = -1e9  # the logit of a class that is left out
LOWEST_IOU = 0.01  # where every regressed box misses its target the weights are all 1, not all 0


@dataclass(frozen=True)
class DetectionLoss:
    """The sample and the weights of `anchor_losses`.

    Attributes:
      balance: eta of Eq. 3; None weights all positives equally.
      negatives_per_positive: of the sample.
      hard: the share of the negatives that are those of the highest loss.
      deviations: of the offsets (`geometry.boxes.encode`).
    """

    balance: float | None
    negatives_per_positive: int
    hard: float
    deviations: tuple[float, float]


def balanced_weights(ious, cross_entropy, counted, power: float):
    """w_i of Eq. 3, [P]: proportional to the IoU to the `power`, keeping the sum of the losses; no gradient.

    Args:
      ious: [P] of the regressed boxes with their targets.
      cross_entropy: [P].
      counted: [P], 1.0 or 0.0.
      power: eta.
    """
    shares = ops.power(ops.maximum(ious, LOWEST_IOU), power) * counted
    whole = ops.sum(cross_entropy * counted)
    return ops.stop_gradient(shares * whole / (ops.sum(shares * cross_entropy) + SMALLEST))


def cross_entropies(logits, classes, known=None):
    """-log p of the class of each row: logits [N, C], classes [N] integers, known [C] bool or None for all -> [N]."""
    logits = ops.cast(logits, "float32")
    logits = logits if known is None else ops.where(known, logits, NEVER)
    one_hot = ops.one_hot(classes, logits.shape[-1], dtype="float32")
    return ops.logsumexp(logits, axis=-1) - ops.sum(logits * one_hot, axis=-1)


def smooth_l1(reference, prediction):
    """The sum over the 6 offsets of e^2 / 2 where |e| < 1, else |e| - 1/2: [N, 6] twice -> [N] (Fast R-CNN, Eq. 3)."""
    size = ops.abs(ops.cast(prediction, "float32") - reference)
    return ops.sum(ops.where(size < 1, 0.5 * size * size, size - 0.5), axis=-1)


def anchor_losses(reference: dict, logits, offsets, positive_anchors, settings: DetectionLoss) -> dict:
    """Eq. 2 over the number of sampled anchors, and smooth L1 over the number of positives: scalars.

    Args:
      reference: "boxes" [K, 6], NaN where missing; "labels" [A] integers, 0 negative, k the k-th box, -1 ignored;
        "positives" [P] and "negatives" [N], indices of anchors in random order, padded by -1.
      logits: [A, C]; where C is 2, class 1 is any of the boxes.
      offsets: [A, 6].
      positive_anchors: [P, 6], the anchors of the positives; finite in the padding.
      settings: the sample and the weights.

    Returns:
      {"classification", "regression"}.
    """
    places = ops.maximum(reference["positives"], 0)
    counted = ops.cast(reference["positives"] >= 0, "float32")
    number = ops.maximum(ops.sum(counted), 1.0)
    labels = ops.maximum(ops.cast(ops.take(reference["labels"], places), "int32"), 1)
    targets = ops.take(reference["boxes"], labels - 1, axis=0)
    offsets = ops.take(offsets, places, axis=0)
    targets = ops.where(counted[:, None] > 0, targets, positive_anchors)  # finite in the padding
    logits, known = ops.cast(logits, "float32"), _known_classes(reference["boxes"])
    by_landmark = logits.shape[-1] == known.shape[0]
    classes = (labels, known) if by_landmark else (ops.ones_like(labels),)
    positive = cross_entropies(ops.take(logits, places, axis=0), *classes)
    weights = counted
    if settings.balance is not None:
        ious = iou(decode(offsets, positive_anchors, settings.deviations), targets)
        weights = balanced_weights(ious, positive, counted, settings.balance)
    negative, sampled = _negative_losses(reference, logits, number, settings, known if by_landmark else None)
    away = smooth_l1(encode(targets, positive_anchors, settings.deviations), offsets)
    return {"classification": (ops.sum(weights * positive) + negative) / (ops.sum(counted) + sampled),
            "regression": ops.sum(away * counted) / number}


def _known_classes(boxes):
    """bool [K + 1]: the background, and which of the boxes [K, 6] are known."""
    return ops.pad(ops.all(ops.isfinite(boxes), axis=-1), ((1, 0),), constant_values=True)


def _negative_losses(reference: dict, logits, positives, settings: DetectionLoss, known):
    """The sum of the cross entropies of the hard and the random negatives, and their number.

    `known` [C] are the classes that count, None where a class is any of the landmarks.
    """
    most = reference["negatives"].shape[0]  # in the largest sample
    wanted = ops.minimum(settings.negatives_per_positive * positives, most)
    hard_wanted = ops.floor(settings.hard * wanted + 0.5)
    if known is None:
        hard_wanted *= ops.cast(ops.all(_known_classes(reference["boxes"])), "float32")
    order, rank = ops.stop_gradient(logits), ops.arange(most, dtype="float32")
    odds = ops.exp(ops.minimum(order[:, 1:] - order[:, :1], 80.0))  # their sum rises with the cross entropy
    odds = ops.sum(odds if known is None else odds * ops.cast(known[1:], "float32"), axis=-1)
    odds = ops.where(ops.equal(reference["labels"], 0), odds, -1.0)
    values, hard = ops.top_k(ops.pad(odds, ((0, most),), constant_values=-1.0), most)  # a small volume has fewer
    hard = ops.minimum(hard, ops.shape(odds)[0] - 1)
    hard_counted = ops.cast((rank < hard_wanted) & (values >= 0), "float32")
    random_counted = ops.cast((rank < wanted - hard_wanted) & (reference["negatives"] >= 0), "float32")
    total = sampled = 0.0
    for places, counted in ((hard, hard_counted), (ops.maximum(reference["negatives"], 0), random_counted)):
        rows = ops.take(logits, places, axis=0)
        total += ops.sum(cross_entropies(rows, ops.zeros_like(places), known) * counted)
        sampled += ops.sum(counted)
    return total, sampled


def proposal_losses(boxes, classes, offsets, proposals, settings: DetectionLoss, positive: float) -> dict:
    """The second stage of Faster R-CNN: cross entropy over the proposals, smooth L1 over the positive ones.

    Fast R-CNN draws a batch with at most a quarter of positives (Sec. 2.3). Here all proposals count, and the
    background has `settings.negatives_per_positive` times the weight of the positives: the average of such a draw.

    Args:
      boxes: [K, 6], NaN where missing.
      classes: [P, K + 1] logits; offsets: [P, 6].
      proposals: [P, 6], NaN where there is none.
      settings: for the offsets' deviations, the weights of Eq. 3, and the share of the background.
      positive: a proposal whose best IoU is above this is of that landmark; any other is background.

    Returns:
      {"proposal_classification", "proposal_regression"}.
    """
    there = ops.all(ops.isfinite(proposals), axis=-1)
    proposals = ops.stop_gradient(ops.where(there[:, None], proposals, _UNIT))
    known = ops.where(ops.isfinite(boxes), boxes, 0.0)  # an empty box overlaps nothing
    overlaps = iou(proposals[:, None], known[None])
    best, highest = ops.argmax(overlaps, axis=-1), ops.max(overlaps, axis=-1)
    counted, found = ops.cast(there, "float32"), ops.cast(there & (highest > positive), "float32")
    labels = ops.cast(best + 1, "int32") * ops.cast(found, "int32")
    losses = cross_entropies(classes, labels, _known_classes(boxes))
    targets = ops.where(found[:, None] > 0, ops.take(known, best, axis=0), proposals)
    number, others = ops.maximum(ops.sum(found), 1.0), counted - found
    others *= ops.minimum(settings.negatives_per_positive * number / ops.maximum(ops.sum(others), 1.0), 1.0)
    weights = found
    if settings.balance is not None:
        weights = balanced_weights(iou(decode(offsets, proposals, settings.deviations), targets), losses, found,
                                   settings.balance)
    away = smooth_l1(encode(targets, proposals, settings.deviations), offsets)
    return {"proposal_classification": ops.sum((weights + others) * losses) / ops.maximum(ops.sum(found + others), 1.0),
            "proposal_regression": ops.sum(away * found) / number}


_UNIT = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]  # in place of a missing proposal
