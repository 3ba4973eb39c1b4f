"""Losses of the heatmaps of landmarks in volumes: functions of (y_true, y_pred) that give [B] float32.

    targets   [B, X, Y, Z, K] of amplitude 1, NaN where a voxel does not count; an unknown landmark is NaN in all voxels
    maps      [B, X, Y, Z, K]; probabilities for `top_cross_entropy`

Nearly all voxels are background. L2 over a sum lets a hard landmark's map stay at 0, or at half a peak on each of two
similar places, while other landmarks are learned; the others give its peak more weight. Each is a sum over a map in
which a landmark's target adds up to about 1, and the mean over the known landmarks.
"""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from tfsono.losses.joint import heatmap_error
from tfsono.losses.landmarks import adaptive_wing_of

TOP = 0.2  # share of a map's voxels
SMALLEST_PROBABILITY = 1e-30  # float32 still divides by it
LARGEST_PROBABILITY = 1 - 1e-7
PEAK_WEIGHT = 20.0
NEAR = 0.2  # a target above it is near the landmark: within 1.8 deviations


def detector_loss(kind: str = "l2", exclusion_weight: float = 0.0) -> Callable:
    """The loss of that name, and `exclusion_weight` times the overlap of different landmarks, of (targets, maps)."""
    of_kind = {"l2": heatmap_error, "weighted_l2": weighted_error, "adaptive_wing": adaptive_wing,
               "top20_cross_entropy": top_cross_entropy}[kind]
    if not exclusion_weight:
        return of_kind
    return lambda targets, maps: of_kind(targets, maps) + exclusion_weight * overlap(targets, maps)


def weighted_error(targets, maps, weight: float = PEAK_WEIGHT):
    """0.5 sum (1 + w H) (H^ - H)^2, as `heatmap_error` with more weight where the target H is high: [B]."""
    reference, maps, counted = _counted(targets, maps)
    values = 0.5 * (1 + weight * reference) * ops.square(maps - reference)
    return ops.sum(values * counted, axis=(1, 2, 3, 4))


def adaptive_wing(targets, maps, mask_weight: float = 10.0):
    """The adaptive wing loss, summed over a map; the mean over the known landmarks: [B].

    Wang et al., Adaptive Wing Loss for Robust Face Alignment via Heatmap Regression, ICCV 2019, Eq. 3, with its
    weighted map (Eq. 6): voxels within one of a target of at least 0.2 count `mask_weight` more.
    """
    reference, maps, counted = _counted(targets, maps)
    near = ops.cast(ops.max_pool(reference, 3, strides=1, padding="same") >= NEAR, "float32")
    values = adaptive_wing_of(maps - reference, reference) * (1 + mask_weight * near)
    return _per_landmark(values, reference, counted)


def top_cross_entropy(targets, maps, share: float = TOP):
    """-H log H^ - (1 - H) log(1 - H^), of the highest fifth of each map's voxels: [B].

    As nnLandmark (Ertl et al., 2025; MIC-DKFZ/nnLandmark): the mean over the 20 % of voxels with the highest loss. Here
    their sum over that of the target, so that the size of a volume does not change a landmark's weight.
    """
    reference, maps, counted = _counted(targets, maps)
    log_in = ops.log(ops.maximum(maps, SMALLEST_PROBABILITY))
    log_out = ops.log(1 - ops.minimum(maps, LARGEST_PROBABILITY))
    values = -(reference * log_in + (1 - reference) * log_out) * counted
    return _per_landmark(_highest(values, counted, share), reference, counted)


def _highest(values, counted, share: float):
    """Values [B, X, Y, Z, K] >= 0 -> the `share` of the highest that count, the others 0."""
    flat = ops.reshape(values, (ops.shape(values)[0], -1, values.shape[-1]))
    number = ops.shape(flat)[1]
    most = ops.cast(ops.ceil(share * ops.cast(number, "float32")), "int32")
    ranked, _ = ops.top_k(ops.transpose(ops.stop_gradient(flat), (0, 2, 1)), most)
    return values * ops.cast(values >= ranked[:, None, None, None, :, -1], "float32")


def overlap(targets, maps):
    """The sum of H^_i H^_j over voxels and pairs of landmarks, beyond that of their targets: [B].

    Two maps with a peak in one place, or with half a peak in each of two places, have a high one.
    """
    reference, maps, counted = _counted(targets, maps)
    beyond = ops.relu(_products(ops.relu(maps) * counted) - _products(reference * counted))
    landmarks = beyond.shape[-1]
    return 0.5 * ops.sum(beyond * (1 - ops.eye(landmarks)), axis=(1, 2))


def _products(maps):
    """The sums of products of each two maps: [B, K, K]."""
    flat = ops.reshape(maps, (ops.shape(maps)[0], -1, maps.shape[-1]))
    return ops.matmul(ops.transpose(flat, (0, 2, 1)), flat)


def _counted(targets, maps):
    """Targets with 0 for NaN, maps in float32, and 1.0 where a voxel counts."""
    targets = ops.cast(targets, "float32")
    counted = ops.isfinite(targets)
    return ops.where(counted, targets, 0.0), ops.cast(maps, "float32"), ops.cast(counted, "float32")


def _per_landmark(values, reference, counted):
    """Values [B, X, Y, Z, K] summed over each map and divided by the target's sum; the mean of known landmarks: [B]."""
    axes = (1, 2, 3)
    summed = ops.sum(values * counted, axis=axes) / ops.maximum(ops.sum(reference, axis=axes), 1.0)
    known = ops.cast(ops.any(counted > 0, axis=axes), "float32")
    return ops.sum(summed * known, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1.0)
