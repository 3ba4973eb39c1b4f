"""Losses of a mask and of the landmarks' heatmaps together: functions of (y_true, y_pred) that give [B] float32.

    mask       labels [B, X, Y, Z, 1] integers, -1 where a voxel does not count; logits [B, X, Y, Z, C]
    heatmaps   targets [B, X, Y, Z, K] of amplitude 1, NaN where a voxel does not count; maps of the same shape

Padding, an unknown landmark (NaN in all of its map) and a missing mask (-1 everywhere) do not count: they give 0, and
no gradient. Slices [B, X, Y, 1] are treated as volumes. Numbers and equations are those of the `femur` paper (BHI
2019); "the lineage" is the public code of its first author's group.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from keras import ops

from tfsono.geometry.heatmaps import soft_argmax_points

SMALLEST = 1e-6  # a denominator without voxels
LINEAGE_CLIP = 0.005  # the smallest probability in the lineage's cross entropy
# Added to the squared distance of two centres, in squared diagonals of the region. The centres of two flat maps are
# both at the centre of the region: with 1e-6 this loss has 1000 to 800,000 times the gradient of `heatmap_error` there
# (measured on random maps) and dominates the start of a training. With a twentieth of the diagonal, squared, it has
# about the gradient of `heatmap_error`, is at most 400, and hardly changes for distant landmarks.
SOFTENING = 0.05 ** 2


def hybrid(labels, logits, dice_weight: float = 100.0):
    """L_wCross + theta L_DSC (Sec. II-C), corrected: [B].

    The text gives no formulas, and the lineage's Dice has two mistakes (`lineage_hybrid`). Here it takes
    probabilities and sums in the numerator and the denominator, and is 1 for no overlap and 0 for a perfect one.
    """
    return weighted_cross_entropy(labels, logits) + dice_weight * squared_dice_loss(labels, logits)


def lineage_hybrid(labels, logits, dice_weight: float = 100.0):
    """L_wCross + theta L_DSC as the lineage computes them, mistakes included: [B].

    Its cross entropy clips probabilities at 0.005, so that very wrong voxels have no gradient. Its Dice uses logits as
    probabilities, and a mean over the voxels in the numerator but sums in the denominator, so that it is of the order
    of 1e-6 before theta.
    """
    one_hot, counted, axes = _one_hot(labels, logits)
    logits = ops.cast(logits, "float32")
    number = ops.maximum(ops.sum(counted, axis=axes), 1.0)
    probabilities = ops.maximum(ops.softmax(logits, axis=-1), LINEAGE_CLIP)
    cross = _weighted_cross_entropy(one_hot, counted, ops.log(probabilities), axes)
    overlap = ops.sum(logits * one_hot, axis=axes) / number
    sizes = ops.sum(ops.square(logits) * counted, axis=axes) + ops.sum(one_hot, axis=axes)
    return cross - dice_weight * ops.sum(2 * overlap / ops.maximum(sizes, SMALLEST), axis=-1)


def weighted_cross_entropy(labels, logits):
    """-sum_c w_c mean_v[g_c log p_c] with w_c = 1 - N_c / N, over the counted voxels of each sample: [B].

    Rare classes have more weight. log p is taken from the logits, so it needs no clip and very wrong voxels keep their
    gradient. A sample of a single class has a loss of 0, as that class's weight is 0.
    """
    one_hot, counted, axes = _one_hot(labels, logits)
    return _weighted_cross_entropy(one_hot, counted, ops.log_softmax(ops.cast(logits, "float32"), axis=-1), axes)


def squared_dice_loss(labels, logits):
    """1 - mean over the classes of 2 sum(p g) / (sum p^2 + sum g^2), over the counted voxels: [B].

    The background is one of the classes. A class that a sample lacks is excluded from its mean, as its Dice is 0
    whatever the prediction.
    """
    one_hot, counted, axes = _one_hot(labels, logits)
    probabilities = ops.softmax(ops.cast(logits, "float32"), axis=-1) * counted
    reference = ops.sum(one_hot, axis=axes)
    sizes = ops.sum(ops.square(probabilities), axis=axes) + reference
    dice = 2 * ops.sum(probabilities * one_hot, axis=axes) / ops.maximum(sizes, SMALLEST)
    present = ops.cast(reference > 0, "float32")
    classes = ops.sum(present, axis=-1)
    return ops.where(classes > 0, 1 - ops.sum(dice * present, axis=-1) / ops.maximum(classes, 1.0), 0.0)


def _one_hot(labels, logits):
    """The reference [B, ..., C], 0 where a voxel does not count; 1 where one counts [B, ..., 1]; the spatial axes."""
    labels = ops.cast(labels, "int32")
    counted = ops.cast(labels >= 0, "float32")
    one_hot = ops.one_hot(ops.maximum(ops.squeeze(labels, -1), 0), logits.shape[-1], dtype="float32") * counted
    return one_hot, counted, tuple(range(1, len(logits.shape) - 1))


def _weighted_cross_entropy(one_hot, counted, log_probabilities, axes):
    number = ops.maximum(ops.sum(counted, axis=axes), 1.0)
    share = ops.sum(one_hot, axis=axes) / number
    summed = ops.sum(one_hot * log_probabilities, axis=axes)
    return -ops.sum((1 - share) * summed / number, axis=-1)


def heatmap_error(targets, maps):
    """0.5 sum (H^ - H)^2 over the counted voxels and all landmarks (Sec. II-C, L_reg): [B].

    A sum: the mean over a million voxels would have gradients below Adam's epsilon. Maps of 0 give 0.5 pi^1.5 sigma^3 a
    landmark.
    """
    targets = ops.cast(targets, "float32")
    counted = ops.isfinite(targets)
    reference = ops.where(counted, targets, 0.0)  # before the subtraction: a NaN would reach the gradient
    errors = ops.where(counted, ops.cast(maps, "float32") - reference, 0.0)
    return 0.5 * ops.sum(ops.square(errors), axis=tuple(range(1, len(targets.shape))))


def centre_distance(targets, maps, beta: float = 50.0, softening: float = SOFTENING, from_peak: float = 0.0):
    """1 / ||M(H1^) - M(H2^)||^2 (Eq. 1), the mean over all pairs of known landmarks: [B]; 0 without a pair.

    It separates the centres of two maps, whatever their distance. The targets only tell which landmarks and voxels
    count. Distances are in diagonals of the counted part of the region: in voxels, as in the equation, the gradient at
    a distance of 80 is 4e-6. M is the soft-argmax of the map's positive part: the text's highest voxel has no gradient.

    Args:
      targets: [B, X, Y, Z, K].
      maps: [B, X, Y, Z, K], as predicted.
      beta: the soft-argmax's inverse temperature.
      softening: added to the squared distance, in diagonals squared.
      from_peak: a landmark whose map has no higher value is in no pair: the centre of noise is none.
    """
    known_voxels = ops.isfinite(ops.cast(targets, "float32"))
    axes = tuple(range(1, len(targets.shape) - 1))
    maps = ops.cast(maps, "float32")
    points = soft_argmax_points(ops.relu(maps), beta, counted=known_voxels)
    points = points / _diagonal(known_voxels, axes)[:, None, None]
    known = ops.cast(ops.any(known_voxels, axis=axes), "float32")
    if from_peak:
        known = known * ops.cast(ops.max(ops.where(known_voxels, maps, 0.0), axis=axes) > from_peak, "float32")
    total, pairs = ops.zeros_like(known[:, 0]), ops.zeros_like(known[:, 0])
    for one, other in itertools.combinations(range(targets.shape[-1]), 2):
        both = known[:, one] * known[:, other]
        squared = ops.sum(ops.square(points[:, one] - points[:, other]), axis=-1)
        total, pairs = total + both / (squared + softening), pairs + both
    return total / ops.maximum(pairs, 1.0)


def _diagonal(known_voxels, axes):
    """The length [B] of the diagonal of the counted voxels, in voxels; at least 1. Padding does not lengthen it."""
    squared = 0.0
    for axis in axes:
        others = tuple(other for other in range(1, len(known_voxels.shape)) if other != axis)
        squared = squared + ops.square(ops.sum(ops.cast(ops.any(known_voxels, axis=others), "float32"), axis=-1))
    return ops.sqrt(ops.maximum(squared, 1.0))


def mask_loss(kind: str = "corrected", dice_weight: float = 100.0) -> Callable:
    """L_hybrid as a function of (labels, logits): `corrected` or the `lineage`'s; of the whole batch, for each sample.

    The weights and the Dice are over all voxels of a batch, as in the lineage. Per slice, false positives in an empty
    slice would cost almost nothing: its only class is the background, whose Dice hardly changes.
    """
    of_kind = {"corrected": hybrid, "lineage": lineage_hybrid}[kind]

    def loss(labels, logits):
        value = of_kind(_as_one_sample(labels), _as_one_sample(logits), dice_weight)
        return ops.broadcast_to(value, ops.shape(labels)[:1])

    return loss


def _as_one_sample(batch):
    """[B, X, ..., C] -> [1, B X, ..., C]."""
    shape = ops.shape(batch)
    return ops.reshape(batch, (1, shape[0] * shape[1], *shape[2:]))


def heatmap_loss(distance_weight: float = 0.5, beta: float = 50.0, from_peak: float = 0.0) -> Callable:
    """L_reg + gamma L_CD (Eq. 2's bracket) as a function of (targets, maps); a weight of 0 omits L_CD."""

    def loss(targets, maps):
        value = heatmap_error(targets, maps)
        if not distance_weight:
            return value
        return value + distance_weight * centre_distance(targets, maps, beta, from_peak=from_peak)

    return loss
