"""Distances between landmarks and their reference. NumPy, any number of axes; the unit is that of `unit_size`.

A missing point is NaN. Without a reference there is nothing to measure; without a prediction the point is undefined: it
is counted, is in no mean, and is detected within no distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

THRESHOLDS_MM = (2.0, 2.5, 3.0, 4.0)
"""Of the successful detection rate: head, Sec. "Evaluation Metrics" (2, 2.5, 3), and 4 as in cephalometry."""

PAIRS = ((0, 1), (2, 3))


def whole_points(points_vox: np.ndarray, landmarks: Sequence[str]) -> np.ndarray:
    """[K, 3] float64; a point with any NaN becomes all NaN.

    Raises:
        ValueError: There is not a row for each landmark.
    """
    points = np.array(points_vox, np.float64)
    if points.shape != (len(landmarks), 3):
        raise ValueError(f"points must be [{len(landmarks)}, 3], a row for each of {list(landmarks)}; "
                         f"found {points.shape}")
    points[~np.isfinite(points).all(axis=1)] = np.nan
    return points


def finite_mean(values: np.ndarray) -> float:
    """Of the finite ones; NaN without any."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def radial_errors(prediction: np.ndarray, reference: np.ndarray, unit_size: float = 1.0) -> np.ndarray:
    """The Euclidean distance of each landmark to its reference.

    Args:
        prediction: [..., K, D] indices of pixel or voxel centres.
        reference: The same shape.
        unit_size: Millimetres a pixel, for errors in millimetres; 1 for pixels.

    Returns:
        [..., K]; NaN where either point is missing.

    Raises:
        ValueError: The shapes differ, or the size is not above 0.

    Example:
        >>> radial_errors(np.array([[10.0, 20.0], [5.0, 5.0]]), np.array([[13.0, 24.0], [np.nan, 5.0]]), unit_size=0.2)
        array([ 1., nan])
    """
    prediction, reference = _checked(prediction, reference, unit_size)
    return np.linalg.norm(prediction - reference, axis=-1) * unit_size


def exchangeable_errors(prediction: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`radial_errors`, with the two ends of one of `PAIRS` exchanged where that makes their sum less.

    A length does not depend on which of its ends comes first: the difference from `radial_errors` is due to order
    alone.

    Args:
        prediction: [..., K, D].
        reference: The same shape.

    Returns:
        [..., K]; NaN where a point is missing.

    Raises:
        ValueError: As `radial_errors`.
    """
    errors = radial_errors(prediction, reference)
    other = np.asarray(prediction, np.float64).copy()
    for first, second in PAIRS:
        other[..., [first, second], :] = other[..., [second, first], :]
    swapped = radial_errors(other, reference)
    for pair in map(list, PAIRS):
        # NaN compares as False: a pair with a missing end stays in the order given.
        better = swapped[..., pair].sum(axis=-1, keepdims=True) < errors[..., pair].sum(axis=-1, keepdims=True)
        errors[..., pair] = np.where(better, swapped[..., pair], errors[..., pair])
    return errors


def area_scores(errors: np.ndarray, limit: float, known: np.ndarray | None = None) -> np.ndarray:
    """What each point adds to the area under the PCK curve from 0 to `limit`, as a share of the whole area.

    The curve of one point is a step at its distance d, so its area is 1 - min(d, limit) / limit exactly, and the area
    under the curve of many is the mean of theirs: 1 - mean(min(d, limit)) / limit.

    Args:
        errors: [...] distances, NaN where undefined; in the unit of `limit`.
        limit: Above 0.
        known: bool, the same shape: where there is a reference; None for everywhere.

    Returns:
        [...] from 0 to 1; 0 for a known point without a prediction, NaN where there is no reference.

    Raises:
        ValueError: The shapes differ, or the limit is not above 0.
    """
    errors, known = _masked(errors, known, limit)
    distances = np.where(np.isfinite(errors), errors, limit)
    return np.where(known, 1 - np.minimum(distances, limit) / limit, np.nan)


def trapezoid_scores(errors: np.ndarray, limit: float, steps: int = 10, known: np.ndarray | None = None) -> np.ndarray:
    """As `area_scores`, but of the curve sampled at 0, limit / steps, ..., limit and joined by straight lines.

    Up to half a step from the exact area for one point; less in the mean of many.

    Args:
        errors, limit, known: As in `area_scores`.
        steps: Intervals between the thresholds.

    Returns:
        [...] from 0 to 1 - 1 / (2 steps), as nothing is below 0; NaN where there is no reference.

    Raises:
        ValueError: As `area_scores`, or fewer than one step.
    """
    errors, known = _masked(errors, known, limit)
    if steps < 1:
        raise ValueError(f"steps must be 1 or more; found {steps}")
    correct = errors[..., None] < np.linspace(0, limit, steps + 1)
    area = (correct[..., 1:].sum(axis=-1) + correct[..., :-1].sum(axis=-1)) / (2 * steps)
    return np.where(known, area, np.nan)


def _checked(prediction: np.ndarray, reference: np.ndarray, unit_size: float) -> tuple[np.ndarray, np.ndarray]:
    prediction, reference = np.asarray(prediction, np.float64), np.asarray(reference, np.float64)
    if prediction.shape != reference.shape or prediction.ndim < 2:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} must both be [..., K, axes]")
    if not (np.isfinite(unit_size) and unit_size > 0):
        raise ValueError(f"unit_size must be above 0; found {unit_size}")
    return prediction, reference


def _masked(errors: np.ndarray, known: np.ndarray | None, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Errors and known points as arrays of one shape; ValueError if they are not, or for a limit not above 0."""
    if not (np.isfinite(limit) and limit > 0):
        raise ValueError(f"limit must be above 0; found {limit}")
    errors = np.asarray(errors, np.float64)
    known = np.ones(errors.shape, bool) if known is None else np.asarray(known, bool)
    if known.shape != errors.shape:
        raise ValueError(f"errors {errors.shape} and known {known.shape} must have the same shape")
    return errors, known
