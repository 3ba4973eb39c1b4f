"""One case of a joint segmentation and localisation: Tables 1 and 2 of the femur paper, and their agreement.

Masks and points lie on the volume's own grid; points are voxel-centre indices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfsono.geometry.regions import Box
from tfsono.metrics.landmarks import radial_errors
from tfsono.metrics.surface import NSD_MM, boundary, segmentation_metrics

CONTRADICTION_MM = 5.0
"""A tip farther than this from the mask contradicts it."""


@dataclass(frozen=True)
class MaskAndPoints:
    """A mask and landmarks, predicted or reference.

    Attributes:
        mask: [X, Y, Z] integers, 0 background; None without a mask.
        points_vox: [K, 3], NaN for a missing one; None without landmarks.
    """

    mask: np.ndarray | None
    points_vox: np.ndarray | None


def joint_metrics(
    found: MaskAndPoints,
    reference: MaskAndPoints,
    spacing_mm: Sequence[float],
    labels: Mapping[str, int],
    landmarks: Sequence[str],
    empty_is: str = "absent",
    nsd_mm: float = NSD_MM,
) -> dict[str, float]:
    """The numbers of one case; NaN where a prediction or its reference is missing.

    - The entries of `segmentation_metrics`, means over the labels that are in reference or prediction; `undefined`
      is the number of labels with one empty mask, `absent` of those in neither.
    - `error_NAME_mm` of each landmark, `mre_mm` their mean. Errors are index to index; `exchanged_mm` is the mean
      with the first two exchanged, where that is less: a diagnosis, no result.
    - With two landmarks: `length_reference_mm`, `length_mm`, `length_error_mm` (signed), `length_abs_error_mm`.
    - `mask_distance_NAME_mm`: from each predicted landmark to the predicted mask, 0 inside; `contradiction`: 1 where
      a landmark within 5 mm of the mask in the reference is predicted farther than that from the predicted mask.

    Args:
        found: The prediction.
        reference: What it is compared with.
        spacing_mm: Of both.
        labels: Name -> value in the masks.
        landmarks: Names, in the points' order.
        empty_is: What a label in neither mask is: `absent` or `perfect`, as in `segmentation_metrics`.
        nsd_mm: The tolerance of the surface Dice.
    """
    spacing = np.asarray(spacing_mm, np.float64)
    row = _mask_metrics(found.mask, reference.mask, spacing, labels, empty_is=empty_is, nsd_mm=nsd_mm)
    row |= _point_metrics(_millimetres(found.points_vox, spacing, len(landmarks)),
                          _millimetres(reference.points_vox, spacing, len(landmarks)), landmarks)
    distances, expected = (distances_to_mask(one, spacing, len(landmarks)) for one in (found, reference))
    row |= {f"mask_distance_{name}_mm": float(value) for name, value in zip(landmarks, distances, strict=True)}
    judged = np.isfinite(distances) & (expected <= CONTRADICTION_MM)
    row["contradiction"] = float((distances[judged] > CONTRADICTION_MM).any()) if judged.any() else math.nan
    return row


def coverage(region: Box | None, reference: MaskAndPoints) -> dict[str, float]:
    """What an enlarged box holds of the reference: what is outside is lost before the second stage.

    Returns:
        `mask_inside`, the share of the mask's voxels, and `landmarks_inside`, 1 if every known landmark is inside, else
        0; NaN without a mask, a landmark or a region.
    """
    found = {"mask_inside": math.nan, "landmarks_inside": math.nan}
    if region is None:
        return found
    if reference.mask is not None and reference.mask.any():
        found["mask_inside"] = float((reference.mask[region.slices] > 0).sum() / (reference.mask > 0).sum())
    points = np.zeros((0, 3)) if reference.points_vox is None else np.asarray(reference.points_vox, np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points):
        inside = (points >= np.array(region.low) - 0.5) & (points < np.array(region.high) - 0.5)
        found["landmarks_inside"] = float(inside.all())
    return found


def distances_to_mask(prediction: MaskAndPoints, spacing_mm: np.ndarray, count: int) -> np.ndarray:
    """From each point to the nearest voxel of the mask in mm [count], 0 inside; NaN where one of the two is missing."""
    if prediction.mask is None or prediction.points_vox is None or not prediction.mask.any():
        return np.full(count, math.nan)
    shell = np.argwhere(boundary(prediction.mask > 0)) * spacing_mm
    last = np.array(prediction.mask.shape) - 1
    found = []
    for point in prediction.points_vox:
        if not np.isfinite(point).all():
            found.append(math.nan)
            continue
        nearest = tuple(np.clip(np.rint(point), 0, last).astype(int))
        inside = prediction.mask[nearest] > 0 and np.abs(point - nearest).max() <= 0.5
        found.append(0.0 if inside else float(np.linalg.norm(shell - point * spacing_mm, axis=1).min()))
    return np.array(found)


def _mask_metrics(found, reference, spacing: np.ndarray, labels: Mapping[str, int], empty_is: str,
                  nsd_mm: float) -> dict[str, float]:
    one = np.zeros((1, 1, 1), bool)
    names = segmentation_metrics(one, one, (1, 1, 1), nsd_mm=nsd_mm)
    if found is None or reference is None:
        return dict.fromkeys(names, math.nan) | {"undefined": 0.0, "absent": 0.0}
    rows = [segmentation_metrics(found == value, reference == value, spacing, empty_is, nsd_mm)
            for value in labels.values()]
    counted = [row for row in rows if empty_is == "perfect" or not row["absent"]]
    means = {name: float(np.mean([row[name] for row in counted])) if counted else math.nan for name in names}
    return means | {flag: float(sum(row[flag] for row in rows)) for flag in ("undefined", "absent")}


def _millimetres(points_vox, spacing: np.ndarray, count: int) -> np.ndarray:
    return np.full((count, 3), math.nan) if points_vox is None else np.asarray(points_vox, np.float64) * spacing


def _point_metrics(found: np.ndarray, reference: np.ndarray, landmarks: Sequence[str]) -> dict[str, float]:
    errors = radial_errors(found, reference)
    row = {f"error_{name}_mm": float(error) for name, error in zip(landmarks, errors, strict=True)}
    known = errors[np.isfinite(errors)]
    row["mre_mm"] = float(known.mean()) if known.size else math.nan
    if len(landmarks) != 2:
        return row
    row["exchanged_mm"] = float(min(errors.mean(), radial_errors(found[::-1], reference).mean()))
    (found_1, found_2), (expected_1, expected_2) = found, reference
    row["length_reference_mm"] = float(np.linalg.norm(expected_2 - expected_1))
    row["length_mm"] = float(np.linalg.norm(found_2 - found_1))
    row["length_error_mm"] = row["length_mm"] - row["length_reference_mm"]
    return row | {"length_abs_error_mm": abs(row["length_error_mm"])}
