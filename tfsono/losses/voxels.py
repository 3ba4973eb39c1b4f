"""Losses of volumes with one label a voxel: plain functions of (y_true, y_pred) that give one number per sample, [B].

A label of -1 marks a voxel outside the volume (padding), which does not count.
"""

from __future__ import annotations

from keras import ops


def _counted(labels):
    """The labels [B, X, Y, Z] with padding as 0, and 1.0 where a voxel counts, 0.0 in the padding."""
    labels = ops.cast(ops.squeeze(labels, -1), "int32")
    return ops.maximum(labels, 0), ops.cast(labels >= 0, "float32")


def _mean(values, counted):
    axes = tuple(range(1, len(values.shape)))
    return ops.sum(values * counted, axis=axes) / ops.maximum(ops.sum(counted, axis=axes), 1.0)


def cross_entropy(labels, logits):
    """Mean of -log p(label) over the counted voxels (hip, Eq. 1, as a mean).

    Args:
      labels: [B, X, Y, Z, 1] integers; -1 is padding.
      logits: [B, X, Y, Z, C].

    Returns:
      [B].
    """
    labels, counted = _counted(labels)
    logits = ops.cast(logits, "float32")
    one_hot = ops.one_hot(labels, logits.shape[-1], dtype="float32")
    return _mean(-ops.sum(one_hot * ops.log_softmax(logits, axis=-1), axis=-1), counted)


def dice_loss(labels, logits, smooth: float = 1e-5):
    """1 - mean over the foreground classes of 2 sum(p g) / (sum p + sum g), over the counted voxels.

    A class that a patch lacks is excluded from its mean, as its Dice is undefined there.

    Args:
      labels: [B, X, Y, Z, 1] integers; -1 is padding.
      logits: [B, X, Y, Z, C].
      smooth: added to the numerator and the denominator.

    Returns:
      [B].
    """
    labels, counted = _counted(labels)
    probabilities = ops.softmax(ops.cast(logits, "float32"), axis=-1) * counted[..., None]
    one_hot = ops.one_hot(labels, logits.shape[-1], dtype="float32") * counted[..., None]
    axes = tuple(range(1, len(one_hot.shape) - 1))
    overlap = ops.sum(probabilities * one_hot, axis=axes)[:, 1:]
    reference = ops.sum(one_hot, axis=axes)[:, 1:]
    dice = (2 * overlap + smooth) / (ops.sum(probabilities, axis=axes)[:, 1:] + reference + smooth)
    present = ops.cast(reference > 0, "float32")
    classes = ops.sum(present, axis=-1)
    return ops.where(classes > 0, 1 - ops.sum(dice * present, axis=-1) / ops.maximum(classes, 1.0), 0.0)


def cross_entropy_dice(labels, logits):
    """`cross_entropy` plus `dice_loss`: [B]."""
    return cross_entropy(labels, logits) + dice_loss(labels, logits)
