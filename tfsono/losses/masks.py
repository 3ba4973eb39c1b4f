"""Losses of images with one logit a pixel: plain functions of (y_true, logits) that give one number per sample, [B].

`y_true` is [B, Y, X, 1], 1 in the head and 0 elsewhere; the padding of a letterbox is background and counts. A second
channel, where there is one, is `signed_distance` of the first, which the boundary loss alone reads.
"""

from __future__ import annotations

import numpy as np
from keras import ops
from scipy import ndimage

SMOOTH = 1.0  # pixels, added above and below the line of the Dice


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Pixels to the edge, positive outside, 0 on the mask's outermost pixels, negative inside: [Y, X] float32.

    The distance map of the boundary loss (Kervadec et al., MIDL 2019) as its authors compute it. A mask without an
    edge, empty or full, gives 0 everywhere.
    """
    inside = np.asarray(mask) > 0
    if inside.all() or not inside.any():
        return np.zeros(inside.shape, np.float32)
    outwards, inwards = ndimage.distance_transform_edt(~inside), ndimage.distance_transform_edt(inside)
    return np.where(inside, 1 - inwards, outwards).astype(np.float32)


def _reference_and_logits(reference, logits):
    return ops.cast(reference[..., 0], "float32"), ops.cast(logits[..., 0], "float32")


def mask_dice(reference, logits):
    """1 - (2 sum(p g) + 1) / (sum p + sum g + 1): [B]."""
    reference, logits = _reference_and_logits(reference, logits)
    probability = ops.sigmoid(logits)
    overlap = ops.sum(probability * reference, axis=(1, 2))
    sizes = ops.sum(probability, axis=(1, 2)) + ops.sum(reference, axis=(1, 2))
    return 1 - (2 * overlap + SMOOTH) / (sizes + SMOOTH)


def mask_focal_dice(reference, logits, gamma: float = 4 / 3):
    """`mask_dice` to the power of 1 / gamma (as the focal Tversky loss, Abraham and Khan, ISBI 2019): [B].

    Near a perfect mask its gradient is unbounded, so a loss below 1e-6 counts as 1e-6.
    """
    return ops.power(ops.maximum(mask_dice(reference, logits), 1e-6), 1 / gamma)


def _pixel_cross_entropy(reference, logits):
    """-log p of the reference, [B, Y, X], stable for logits of any size."""
    return ops.relu(logits) - logits * reference + ops.log1p(ops.exp(-ops.abs(logits)))


def mask_cross_entropy(reference, logits):
    """The mean of -log p over all pixels: [B]."""
    return ops.mean(_pixel_cross_entropy(*_reference_and_logits(reference, logits)), axis=(1, 2))


def mask_focal(reference, logits, alpha: float = 0.25, gamma: float = 2.0):
    """The mean of alpha_t (1 - p_t)^gamma (-log p_t) (Lin et al., ICCV 2017, Eq. 5): [B].

    p_t is the probability of a pixel's reference class; alpha_t is `alpha` in the head and 1 - `alpha` elsewhere.
    """
    reference, logits = _reference_and_logits(reference, logits)
    wrong = ops.sigmoid(logits * (1 - 2 * reference))
    balance = alpha * reference + (1 - alpha) * (1 - reference)
    return ops.mean(balance * ops.power(wrong, gamma) * _pixel_cross_entropy(reference, logits), axis=(1, 2))


def mask_boundary(reference, logits):
    """The mean of p times the signed distance (Kervadec et al., MIDL 2019, Eq. 5): [B], negative for a good mask.

    `reference` is [B, Y, X, 2] with `signed_distance` in its second channel. Pixels far outside cost most.
    """
    probability, distance = ops.sigmoid(ops.cast(logits[..., 0], "float32")), ops.cast(reference[..., 1], "float32")
    return ops.mean(probability * distance, axis=(1, 2))
