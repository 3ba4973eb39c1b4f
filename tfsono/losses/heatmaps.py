"""Losses of the heatmaps of landmarks in volumes: functions of (y_true, y_pred) that give [B] float32.

    targets   [B, X, Y, Z, K] of amplitude 1, NaN where a voxel does not count; an unknown landmark has NaN everywhere
    maps      [B, X, Y, Z, K]

Nearly all voxels are background. The plain L2 loss leaves a landmark that is hard to tell from another, such as the
left one of a pair, with a flat map for long. The others give the voxels near the landmark more weight.
"""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from tfsono.losses.joint import heatmap_error
from tfsono.losses.landmarks import adaptive_wing_of

PEAK_WEIGHT = 20.0
NEAR = 0.2  # a target above it is near the landmark: within 1.8 deviations
AXES = (1, 2, 3)


def detector_loss(kind: str) -> Callable:
    """The loss of a config's `heatmap_loss`, of (targets, maps)."""
    return {"l2": heatmap_error, "weighted_l2": weighted_error, "adaptive_wing": adaptive_wing}[kind]


def weighted_error(targets, maps, weight: float = PEAK_WEIGHT):
    """0.5 sum (1 + w H) (H^ - H)^2, as `heatmap_error` with more weight where the target H is high: [B]."""
    reference, maps, counted = _counted(targets, maps)
    values = 0.5 * (1 + weight * reference) * ops.square(maps - reference)
    return ops.sum(values * counted, axis=(*AXES, 4))


def adaptive_wing(targets, maps, mask_weight: float = 10.0):
    """The adaptive wing loss, summed over a map and divided by its target's sum; the mean of known landmarks: [B].

    Wang et al., Adaptive Wing Loss for Robust Face Alignment via Heatmap Regression, ICCV 2019, Eq. 3, with its
    weighted map (Eq. 6): voxels within one of a target of at least 0.2 count `mask_weight` more.
    """
    reference, maps, counted = _counted(targets, maps)
    near = ops.cast(ops.max_pool(reference, 3, strides=1, padding="same") >= NEAR, "float32")
    values = adaptive_wing_of(maps - reference, reference) * (1 + mask_weight * near)
    summed = ops.sum(values * counted, axis=AXES) / ops.maximum(ops.sum(reference, axis=AXES), 1.0)
    known = ops.max(counted, axis=AXES)
    return ops.sum(summed * known, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1.0)


def _counted(targets, maps):
    """Targets with 0 for NaN, maps in float32, and 1.0 where a voxel counts."""
    targets = ops.cast(targets, "float32")
    counted = ops.isfinite(targets)
    return ops.where(counted, targets, 0.0), ops.cast(maps, "float32"), ops.cast(counted, "float32")
