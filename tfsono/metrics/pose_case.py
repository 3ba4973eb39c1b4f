"""One case of a pose: distances, the area under the PCK curve, and the lengths of the segments.

Points are voxel-centre indices on the volume's own grid; results are in millimetres. Sec. 3 and Tables 1
and 2 of the pose paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfsono.metrics.landmarks import area_scores, finite_mean, radial_errors, trapezoid_scores, whole_points
from tfsono.metrics.overlap import check_spacing

Segments = Sequence[tuple[str, str]]


def known_segments(segments: Segments, landmarks: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The segments of which both ends are among the landmarks, in their order."""
    return tuple((first, last) for first, last in segments if first in landmarks and last in landmarks)


def segment_lengths(points_mm: np.ndarray, landmarks: Sequence[str], segments: Segments) -> np.ndarray:
    """The length of each segment in the points' unit [S]; NaN where an end is missing.

    Args:
        points_mm: [K, 3], NaN for a missing one.
        landmarks: [K] names, in the points' order.
        segments: Pairs of names.

    Raises:
        ValueError: A segment joins a name that is no landmark, or there are not K points of three numbers.
    """
    points = np.asarray(points_mm, np.float64)
    if points.shape != (len(landmarks), 3):
        raise ValueError(f"points_mm must be [{len(landmarks)}, 3], a row for each of {list(landmarks)}; "
                         f"found {points.shape}")
    unknown = {name for pair in segments for name in pair} - set(landmarks)
    if unknown:
        raise ValueError(f"segments must join landmarks {list(landmarks)}; found {sorted(unknown)}")
    place = {name: index for index, name in enumerate(landmarks)}
    ends = [(place[first], place[last]) for first, last in segments]
    return np.array([np.linalg.norm(points[first] - points[last]) for first, last in ends]).reshape(-1)


def pose_metrics(
    found_vox: np.ndarray,
    reference_vox: np.ndarray,
    spacing_mm: Sequence[float],
    landmarks: Sequence[str],
    segments: Segments = (),
    mirrored: Segments = (),
    limit_mm: float = 10.0,
) -> dict[str, float]:
    """The numbers of one case.

    - `error_NAME_mm`: the distance of a landmark to its reference, NaN where either is missing; `mre_mm` the mean of
      those that are defined.
    - `auc_NAME`: the exact area under the PCK curve from 0 to `limit_mm`, as a share: 0 where the prediction is
      missing, NaN where the reference is; `auc` their mean, and `auc_trapezoid` that of the curve sampled at each
      tenth of the limit.
    - `length_A_B_mm`, `length_reference_A_B_mm` and `length_error_A_B_mm` (signed) of each segment, NaN where an
      end is missing; `length_abs_error_mm` the mean of the absolute errors.
    - `missing`: landmarks without a reference. `undefined`: those with a reference and without a prediction.
    - `exchanged`: mirrored pairs whose two ends together are nearer to the reference when exchanged; a diagnosis, not a
      result.

    Args:
        found_vox: [K, 3] the prediction, NaN for a missing landmark.
        reference_vox: [K, 3] the reference, NaN for a missing landmark.
        spacing_mm: Of the grid of both.
        landmarks: [K] names, in the points' order.
        segments: Pairs of names whose distance is a length; pairs with an end that is no landmark are ignored.
        mirrored: Pairs of names of one landmark on both sides; likewise.
        limit_mm: End of the PCK curve.

    Raises:
        ValueError: The points are not [K, 3], the spacing not three positive numbers, or the limit not above 0.
    """
    spacing = check_spacing(spacing_mm, 3)
    found, reference = (whole_points(points, landmarks) * spacing for points in (found_vox, reference_vox))
    known = np.isfinite(reference).all(axis=1)
    errors = radial_errors(found, reference)
    areas, sampled = area_scores(errors, limit_mm, known), trapezoid_scores(errors, limit_mm, known=known)
    row = {f"error_{name}_mm": float(error) for name, error in zip(landmarks, errors, strict=True)}
    row["mre_mm"] = finite_mean(errors)
    row |= {f"auc_{name}": float(area) for name, area in zip(landmarks, areas, strict=True)}
    row |= {"auc": finite_mean(areas), "auc_trapezoid": finite_mean(sampled)}
    row |= _lengths(found, reference, landmarks, known_segments(segments, landmarks))
    row |= {"missing": float(np.count_nonzero(~known)),
            "undefined": float(np.count_nonzero(known & ~np.isfinite(errors))),
            "exchanged": float(exchanged_pairs(found, reference, landmarks, mirrored))}
    return row


def exchanged_pairs(found_mm: np.ndarray, reference_mm: np.ndarray, landmarks: Sequence[str],
                    mirrored: Segments) -> int:
    """How many mirrored pairs are nearer to the reference, both ends together, when exchanged."""
    count = 0
    for first, last in known_segments(mirrored, landmarks):
        pair = [landmarks.index(first), landmarks.index(last)]
        plain = radial_errors(found_mm[pair], reference_mm[pair]).sum()
        count += bool(radial_errors(found_mm[pair[::-1]], reference_mm[pair]).sum() < plain)  # NaN compares as False
    return count


def _lengths(found: np.ndarray, reference: np.ndarray, landmarks: Sequence[str], segments: Segments
             ) -> dict[str, float]:
    row, differences = {}, []
    measured = (segment_lengths(points, landmarks, segments) for points in (found, reference))
    for (first, last), length, expected in zip(segments, *measured, strict=True):
        row |= {f"length_{first}_{last}_mm": float(length), f"length_reference_{first}_{last}_mm": float(expected),
                f"length_error_{first}_{last}_mm": float(length - expected)}
        differences.append(abs(length - expected))
    return row | ({"length_abs_error_mm": finite_mean(np.array(differences))} if segments else {})
