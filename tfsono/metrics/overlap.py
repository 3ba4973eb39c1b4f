"""The overlap of two masks, and the difference of their volumes. NumPy, one case."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CUBIC_MM_PER_ML = 1000.0
OVERLAP_METRICS = ("dice", "jaccard", "precision", "recall")


def overlap_metrics(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Dice, Jaccard, precision and recall of one case, as fractions.

    With A the prediction's voxels and B the reference's: Dice = 2|A&B| / (|A|+|B|), Jaccard = |A&B| / |A or B|,
    precision P = |A&B| / |A|, recall R = |A&B| / |B|. So Jaccard = D / (2-D) and D = 2PR / (P+R) in every
    case, though not in means over cases. Both masks empty: all NaN, as in nnU-Net's evaluation, whose
    means exclude such cases. One empty: all 0, also where the fraction is 0/0. Columns DICE, Jaccard,
    Precision and Recall of the hip paper's Tables 1 and 2.

    Args:
        prediction: Boolean mask [X, Y, Z] (or [X, Y]).
        reference: Boolean mask of the same shape.

    Returns:
        `dice`, `jaccard`, `precision`, `recall`.

    Raises:
        ValueError: The masks are not boolean, differ in shape or have no voxel.

    Example:
        >>> reference = np.zeros((4, 4, 4), bool)
        >>> reference[1:3, 1:3, 1:3] = True
        >>> overlap_metrics(np.roll(reference, 1, axis=0), reference)
        {'dice': 0.5, 'jaccard': 0.3333333333333333, 'precision': 0.5, 'recall': 0.5}
    """
    check_masks(prediction, reference)
    predicted, expected = _count(prediction), _count(reference)
    if predicted == 0 or expected == 0:
        return dict.fromkeys(OVERLAP_METRICS, 0.0 if predicted or expected else math.nan)
    shared = _count(prediction & reference)
    return {
        "dice": 2 * shared / (predicted + expected),
        "jaccard": shared / (predicted + expected - shared),
        "precision": shared / predicted,
        "recall": shared / expected,
    }


def volume_metrics(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]
) -> dict[str, float]:
    """The two volumes and their difference, in millilitres: voxels times the voxel's volume / 1000.

    Args:
        prediction: Boolean mask [X, Y, Z].
        reference: Boolean mask of the same shape.
        spacing_mm: Size of a voxel along x, y, z in millimetres.

    Returns:
        `volume_ml` (the prediction's), `reference_volume_ml`, `volume_error_ml` (absolute) and
        `volume_difference_ml` (prediction minus reference); these two are NaN where both masks are empty.

    Raises:
        ValueError: The masks are not boolean, not 3D or of different shapes, or the spacing is not three
            positive numbers.
    """
    check_masks(prediction, reference)
    if prediction.ndim != 3:
        raise ValueError(f"a volume needs masks of 3 axes; found {prediction.ndim}")
    voxel_ml = float(np.prod(check_spacing(spacing_mm, 3))) / CUBIC_MM_PER_ML
    predicted, expected = _count(prediction), _count(reference)
    difference = predicted - expected if predicted or expected else math.nan
    return {
        "volume_ml": predicted * voxel_ml,
        "reference_volume_ml": expected * voxel_ml,
        "volume_error_ml": abs(difference) * voxel_ml,
        "volume_difference_ml": difference * voxel_ml,
    }


def check_mask(mask: np.ndarray, name: str = "mask") -> None:
    """Raises ValueError unless `mask` is a boolean array of 2 or 3 axes with at least one voxel.

    Integers are refused because a label image would pass as a mask: write `label == 1`.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        raise ValueError(f"{name} must be a boolean array (write label == value); "
                         f"found {getattr(mask, 'dtype', type(mask).__name__)}")
    if mask.ndim not in (2, 3) or mask.size == 0:
        raise ValueError(f"{name} must have 2 or 3 axes and no empty one; found the shape {mask.shape}")


def check_masks(prediction: np.ndarray, reference: np.ndarray) -> None:
    """Raises ValueError unless both are boolean masks of one shape; a shape is never broadcast."""
    check_mask(prediction, "prediction")
    check_mask(reference, "reference")
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction and reference must have one shape; found {prediction.shape}, {reference.shape}")


def check_spacing(spacing_mm: Sequence[float], axes: int) -> np.ndarray:
    """`spacing_mm` as float64 [axes]; ValueError unless it is one positive finite number an axis."""
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (axes,) or not np.all(np.isfinite(spacing)) or np.any(spacing <= 0):
        raise ValueError(f"spacing_mm must be {axes} positive finite numbers; found {spacing_mm!r}")
    return spacing


def _count(mask: np.ndarray) -> int:
    return int(np.count_nonzero(mask))
