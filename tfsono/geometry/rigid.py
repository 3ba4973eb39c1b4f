"""Rigid registration of point sets in closed form (Kabsch): a proper rotation and a translation, no scale, no mirror.

NumPy, float64, many pairs of sets at once; [...] are any leading axes, which broadcast. A missing point is NaN and is
ignored. Points are in a unit that is the same along all axes (millimetres, not voxels).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Of the second to the first singular value of the covariance: below it the points are on a line (a thousand times as
# long as wide) or in one place, and no rotation about the line is better than another.
DEFICIENT = 1e-6


def fit_rigid(moving: np.ndarray, fixed: np.ndarray, weights: np.ndarray | None = None
              ) -> tuple[np.ndarray, np.ndarray]:
    """The R and t that minimise sum_k w_k |R moving_k + t - fixed_k|^2, det R = +1 (Kabsch 1976; Umeyama 1991).

    Where the points determine no rotation (all on a line, all in one place, fewer than three) R is the identity, and t
    maps one centroid to the other. Points in a plane do determine one. A mirrored set gets the best proper rotation,
    which does not undo the mirror.

    Args:
      moving: [..., K, 3] points to be moved; NaN where missing.
      fixed: [..., K, 3] their targets; NaN where missing.
      weights: [K] or [..., K], 0 or more; 0 ignores a point. None weights all alike.

    Returns:
      R [..., 3, 3] and t [..., 3], float64; t is NaN without any point.

    Raises:
      ValueError: the shapes do not fit, or a weight is negative or not finite.
    """
    moving, fixed = np.asarray(moving, np.float64), np.asarray(fixed, np.float64)
    if moving.shape[-2:] != fixed.shape[-2:] or moving.shape[-1:] != (3,):
        raise ValueError(f"points must be [..., K, 3] and as many; found {moving.shape} and {fixed.shape}")
    weights = np.ones(moving.shape[-2]) if weights is None else np.asarray(weights, np.float64)
    if weights.shape[-1:] != moving.shape[-2:-1] or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"weights must be [..., {moving.shape[-2]}], finite, 0 or more; found shape {weights.shape}")
    counted = np.isfinite(moving).all(-1) & np.isfinite(fixed).all(-1)
    weights = weights * counted
    moving, fixed = np.nan_to_num(moving * 1.0), np.nan_to_num(fixed * 1.0)
    from_centre, to_centre = centroid(moving, weights), centroid(fixed, weights)
    moving, fixed = moving - from_centre[..., None, :], fixed - to_centre[..., None, :]
    covariance = np.swapaxes(moving * weights[..., None], -1, -2) @ fixed
    rotation = best_rotation(np.nan_to_num(covariance))
    return rotation, to_centre - (rotation @ from_centre[..., None])[..., 0]


def centroid(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean of points [..., K, 3] by weights [..., K]: [..., 3]; NaN where all weights are 0."""
    total = weights.sum(-1)[..., None]
    summed = (points * weights[..., None]).sum(-2)
    return np.divide(summed, total, out=np.full(np.broadcast_shapes(summed.shape, total.shape), np.nan),
                     where=total > 0)


def best_rotation(covariance: np.ndarray) -> np.ndarray:
    """The proper rotation R that maximises trace(R H), H = sum w m f^T [..., 3, 3]; the identity where many do."""
    left, values, right = np.linalg.svd(covariance)
    right, left = np.swapaxes(right, -1, -2), np.swapaxes(left, -1, -2)
    signs = np.ones_like(values)
    signs[..., 2] = np.where(np.linalg.det(right @ left) < 0, -1.0, 1.0)
    rotation = (right * signs[..., None, :]) @ left
    fixed = values[..., 1] > DEFICIENT * values[..., 0]
    return np.where(fixed[..., None, None], rotation, np.eye(3))


def moved(points: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """R p + t of points [..., K, 3]: the same shape, float64; NaN stays NaN."""
    return np.asarray(points, np.float64) @ np.swapaxes(rotation, -1, -2) + translation[..., None, :]


def aligned_poses(poses_mm: np.ndarray, places: Sequence[int], rounds: int = 3) -> np.ndarray:
    """Poses registered rigidly to their mean: rotation and translation, neither scale nor mirror.

    Args:
      poses_mm: [N, K, 3], NaN where missing.
      places: landmarks of the fit.
      rounds: updates of the mean, which starts as the first pose.

    Returns:
      [N, K, 3].
    """
    poses = np.asarray(poses_mm, np.float64)
    weights = np.zeros(poses.shape[1])
    weights[list(places)] = 1
    mean = poses[0]
    for _ in range(rounds):
        poses = moved(poses, *fit_rigid(poses, mean, weights))
        known = np.isfinite(poses).all(axis=-1)
        total = np.where(known[..., None], poses, 0).sum(axis=0)
        count = known.sum(axis=0)[:, None]
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return poses
