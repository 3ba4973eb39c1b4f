"""Losses of landmarks: plain functions of (y_true, y_pred) that give one number per sample, [B] float32.

Points are [B, K, 2] as (x, y) pixels of the network's frame. A point with NaN in the reference is unknown and does not
count; a sample without a known one has a loss of 0. `longest` is the frame's longer side in pixels: errors are
fractions of it, or pixels of a frame of 512, so that their weights do not depend on the image's size. The four points
of a head are the ends of OFD and BPD: [OFD 1, OFD 2, BPD 1, BPD 2].
"""

from __future__ import annotations

import math

from keras import ops

REFERENCE = 512  # the frame in which the lengths of the wing loss are given
SMALLEST_LENGTH = 1e-6  # fraction of the frame, so that collapsed axes do not divide by 0
RATIO = (0.6, 0.95)  # BPD over OFD of a head
POSITIVE = 0.01  # a target above it counts as a positive cell: within three deviations of the landmark


def _errors(points, predicted, longest: float):
    """Differences as fractions of the frame [B, K, 2], 0 for unknown points, and 1.0 for known points [B, K]."""
    points, predicted = ops.cast(points, "float32"), ops.cast(predicted, "float32")
    known = ops.all(ops.isfinite(points), axis=-1)
    points = ops.where(known[..., None], points, predicted)  # before the subtraction: a NaN would reach the gradient
    return (predicted - points) / longest, ops.cast(known, "float32")


def _mean_known(values, known):
    """The mean of [B, K] over the known ones: [B]."""
    return ops.sum(values * known, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1.0)


def squared_error(points, predicted, longest: float):
    """The mean squared error of the coordinates, as fractions of the frame: [B]."""
    errors, known = _errors(points, predicted, longest)
    return _mean_known(ops.mean(ops.square(errors), axis=-1), known)


def smooth_l1(points, predicted, longest: float, beta: float = 0.01):
    """e^2 / (2 beta) where |e| < beta, else |e| - beta / 2, of coordinates as fractions of the frame: [B].

    With the usual `beta` of 1 it would be an L2 loss for every error inside the frame.
    """
    errors, known = _errors(points, predicted, longest)
    size = ops.abs(errors)
    values = ops.where(size < beta, 0.5 * ops.square(errors) / beta, size - 0.5 * beta)
    return _mean_known(ops.mean(values, axis=-1), known)


def wing(points, predicted, longest: float, width: float = 10.0, curvature: float = 2.0):
    """w ln(1 + |e| / eps) where |e| < w, else |e| - C, with C = w - w ln(1 + w / eps): [B].

    Feng et al., CVPR 2018, Eq. 5; errors, `width` w and `curvature` eps in pixels of a frame of 512.
    """
    errors, known = _errors(points, predicted, longest)
    return _mean_known(ops.mean(wing_of(ops.abs(errors) * REFERENCE, width, curvature), axis=-1), known)


def wing_of(size, width: float, curvature: float):
    """The wing function of absolute errors, of any shape."""
    constant = width - width * math.log(1 + width / curvature)
    near = width * ops.log1p(ops.minimum(size, width) / curvature)
    return ops.where(size < width, near, size - constant)


def _axes(points, longest: float):
    """OFD and BPD as vectors, and the vector between their midpoints: each [B, 2], fractions of the frame."""
    points = points / longest
    ofd, bpd = points[:, 1] - points[:, 0], points[:, 3] - points[:, 2]
    return ofd, bpd, (points[:, 0] + points[:, 1] - points[:, 2] - points[:, 3]) / 2


def _squared_length(vectors):
    return ops.sum(ops.square(vectors), axis=-1) + SMALLEST_LENGTH ** 2


def _all_known(points):
    return ops.cast(ops.all(ops.isfinite(points), axis=(1, 2)), "float32")


def perpendicular(points, predicted, longest: float):
    """The squared cosine of the predicted angle between OFD and BPD: [B], 0 where a reference point is unknown."""
    ofd, bpd, _ = _axes(ops.cast(predicted, "float32"), longest)
    cosine = ops.square(ops.sum(ofd * bpd, axis=-1)) / (_squared_length(ofd) * _squared_length(bpd))
    return cosine * _all_known(points)


def relation(points, predicted, longest: float):
    """The two axes of an ellipse share their midpoint and have a plausible ratio: [B].

    The squared distance of the predicted midpoints, over the reference OFD squared, plus the distance of the predicted
    BPD below 0.6 or above 0.95 of the predicted OFD, over the reference OFD. The reference does not collapse, so the
    gradient is finite at the start. 0 where a reference point is unknown. Our choice: the text has no formula.
    """
    points, predicted = ops.cast(points, "float32"), ops.cast(predicted, "float32")
    known = _all_known(points)
    reference_ofd, _, _ = _axes(ops.where(ops.isfinite(points), points, 0.0), longest)
    scale = ops.maximum(_squared_length(reference_ofd), 1e-4)  # a hundredth of the frame is no head
    ofd, bpd, midpoints = _axes(predicted, longest)
    long, short = ops.sqrt(_squared_length(ofd)), ops.sqrt(_squared_length(bpd))
    beyond = ops.relu(RATIO[0] * long - short) + ops.relu(short - RATIO[1] * long)
    return known * (ops.sum(ops.square(midpoints), axis=-1) / scale + beyond / ops.sqrt(scale))


def _mean_map(values, targets):
    """Values [B, y, x, K] summed over each map, per positive cell; the mean over the maps that have any: [B]."""
    positive = ops.sum(ops.cast(targets >= POSITIVE, "float32"), axis=(1, 2))
    summed = ops.sum(values, axis=(1, 2)) / ops.maximum(positive, 1.0)
    return _mean_known(summed, ops.cast(positive > 0, "float32"))


def heatmap_squared_error(targets, maps):
    """The squared error of maps [B, y, x, K], summed over a map and divided by its positive cells: [B].

    A mean over all cells would always be near 0, as nearly all of them are background. A target of 0 everywhere is an
    unknown landmark and does not count.
    """
    targets, maps = ops.cast(targets, "float32"), ops.cast(maps, "float32")
    return _mean_map(ops.square(maps - targets), targets)


def adaptive_wing(targets, maps, mask_weight: float = 10.0):
    """The adaptive wing loss of maps, summed over a map and divided by its positive cells: [B].

    Wang et al., ICCV 2019, Eq. 3 with its weighted map (Eq. 6): cells within one of a target of at least 0.2 count
    `mask_weight` more. Only for heatmaps between 0 and 1: the exponent is meaningless for coordinates.
    """
    targets, maps = ops.cast(targets, "float32"), ops.cast(maps, "float32")
    near = ops.cast(ops.max_pool(targets, 3, strides=1, padding="same") >= 0.2, "float32")
    return _mean_map(adaptive_wing_of(maps - targets, targets) * (1 + mask_weight * near), targets)


def adaptive_wing_of(errors, targets, alpha: float = 2.1, omega: float = 14.0, epsilon: float = 1.0,
                     theta: float = 0.5):
    """The adaptive wing function of errors: logarithmic near 0, linear beyond theta; the target is in the exponent."""
    power, size = alpha - targets, ops.abs(errors)
    ratio = theta / epsilon
    slope = omega * power * ratio ** (power - 1) / ((1 + ratio ** power) * epsilon)
    constant = theta * slope - omega * ops.log1p(ratio ** power)
    near = omega * ops.log1p((ops.maximum(ops.minimum(size, theta), 1e-6) / epsilon) ** power)
    return ops.where(size < theta, near, slope * size - constant)
