"""One case of a face: distances in millimetres, overlaps of the boxes, and errors of the choice.

Points and boxes lie on the volume's own grid as voxel-centre indices. Sec. 3 and Tables 1 and 2 of the face paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tfsono.geometry.boxes import box_sides, centred_boxes, iou
from tfsono.metrics.detection import IOU_THRESHOLDS, PRINTED_THRESHOLDS, hit_rate
from tfsono.metrics.landmarks import finite_mean, radial_errors, whole_points
from tfsono.metrics.overlap import check_spacing

HIT = 0.5
"""From this IoU on a box counts as found (face, Sec. 3: positive above 0.5)."""


def face_metrics(
    prediction: Mapping[str, np.ndarray | None],
    reference_vox: np.ndarray,
    sides: Sequence[float] | np.ndarray,
    spacing_mm: Sequence[float],
    names: Sequence[str],
    mirrored: Sequence[tuple[str, str]] = (),
) -> dict[str, float]:
    """The numbers of one case.

    - `error_NAME_mm`: the distance of a landmark to its reference, NaN where either is missing; `mre_mm` the mean of
      those that are defined.
    - `iou_NAME`: of the final box with the box of its side around the reference landmark, not cut at the volume's
      border; 0 where the prediction is missing, NaN where the reference is, or where a method has no boxes
      (heatmaps); `mean_iou` the mean of those that are defined.
    - `hit_35`, `hit_50`, `hit_75`, `hit_mean`: the share of the defined IoUs that reach the threshold, and the mean of
      the shares over .50:.05:.95 (`tfsono.metrics.detection`).
    - `score_NAME`: of the final box, NaN where it is missing.
    - `missing`: landmarks with a reference and no prediction. `without_reference`: those without a reference, which
      are excluded.
    - `sides_exchanged`: mirrored pairs of which both ends are nearer to the other's reference than to their own.
    - `second_taken`: landmarks for which the prior chose a candidate other than the one with the highest score.
    - `hit_not_taken`: landmarks whose final box overlaps the reference by less than 0.5 or is missing, though one of
      the top-k candidates reaches that. Both are NaN without boxes or candidates, and without any reference.

    Args:
        prediction: `points_vox` [K, 3] and `scores` [K]; for methods with boxes also `boxes_vox` [K, 6],
            `candidate_boxes_vox` [K, N, 6], `chosen` [K]. NaN where there is none; heatmaps have no boxes, or boxes
            without sides.
        reference_vox: [K, 3], NaN for a missing landmark.
        sides: Of the reference boxes, in voxels: [K], or [K, 3] where voxels are not cubes.
        spacing_mm: Of the grid of both.
        names: [K], in the points' order.
        mirrored: Pairs of names of one landmark on both sides; pairs with an end that is no landmark are ignored.

    Raises:
        ValueError: An array has not a row for each name, the spacing is not three positive numbers, or a side not above
            0.
    """
    spacing = check_spacing(spacing_mm, 3)
    reference, found = whole_points(reference_vox, names), whole_points(prediction["points_vox"], names)
    sides = np.asarray(sides, np.float64)
    if sides.shape not in ((len(names),), (len(names), 3)) or not (sides > 0).all():
        raise ValueError(f"sides must be {len(names)} numbers above 0, one for each of {list(names)}, or three; "
                         f"found {sides}")
    known, predicted = np.isfinite(reference).all(axis=1), np.isfinite(found).all(axis=1)
    errors = radial_errors(found * spacing, reference * spacing)
    targets = centred_boxes(reference, sides)
    ious = final_ious(prediction.get("boxes_vox"), predicted, targets)
    scores = np.where(predicted, np.asarray(prediction["scores"], np.float64), math.nan)
    row = {f"error_{name}_mm": float(error) for name, error in zip(names, errors, strict=True)}
    row["mre_mm"] = finite_mean(errors)
    row |= {f"iou_{name}": float(overlap) for name, overlap in zip(names, ious, strict=True)}
    row["mean_iou"] = finite_mean(ious)
    row |= {f"hit_{round(100 * at)}": float(rate)
            for at, rate in zip(PRINTED_THRESHOLDS, hit_rate(ious, PRINTED_THRESHOLDS), strict=True)}
    row["hit_mean"] = float(hit_rate(ious, IOU_THRESHOLDS).mean())
    row |= {f"score_{name}": float(score) for name, score in zip(names, scores, strict=True)}
    row |= {"missing": float((known & ~predicted).sum()), "without_reference": float((~known).sum()),
            "sides_exchanged": float(exchanged_sides(found * spacing, reference * spacing, names, mirrored))}
    return row | _choices(prediction, predicted, ious, targets)


def final_ious(boxes_vox: np.ndarray | None, predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The IoU of each landmark's final box [K] with its target.

    Args:
        boxes_vox: [K, 6], NaN where there is none; None for a method without boxes.
        predicted: bool [K], where there is a point.
        targets: [K, 6], NaN without a reference.

    Returns:
        0 where nothing was predicted, NaN without a reference; all NaN for a method without boxes, or boxes without
        sides.
    """
    if boxes_vox is None:
        return np.full(len(targets), math.nan)
    boxes = np.asarray(boxes_vox, np.float64)
    if boxes.shape != targets.shape:
        raise ValueError(f"boxes_vox must be {list(targets.shape)}; found {boxes.shape}")
    boxed = (box_sides(boxes) > 0).all(axis=1).any() or not predicted.any()
    known = np.isfinite(targets).all(axis=1)
    return np.where(known & boxed, iou(boxes, targets), math.nan)  # a box with NaN has 0


def exchanged_sides(found_mm: np.ndarray, reference_mm: np.ndarray, names: Sequence[str],
                    mirrored: Sequence[tuple[str, str]]) -> int:
    """How many mirrored pairs have both ends nearer to the reference of the other side than to their own."""
    count = 0
    for first, last in mirrored:
        if first in names and last in names:
            pair = [list(names).index(first), list(names).index(last)]
            found, reference = np.asarray(found_mm)[pair], np.asarray(reference_mm)[pair]
            # NaN compares as False: a pair with a missing end is not exchanged.
            count += bool((radial_errors(found, reference[::-1]) < radial_errors(found, reference)).all())
    return count


def _choices(prediction: Mapping, predicted: np.ndarray, ious: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """How often the prior chose another candidate or missed a better one; NaN without boxes or candidates."""
    candidates, chosen = prediction.get("candidate_boxes_vox"), prediction.get("chosen")
    row = {"second_taken": math.nan, "hit_not_taken": math.nan}
    if not np.isfinite(ious).any():
        return row
    if chosen is not None:
        row["second_taken"] = float((predicted & (np.asarray(chosen) > 0)).sum())
    if candidates is None:
        return row
    count = 0
    for place in np.flatnonzero(np.isfinite(ious) & (ious < HIT)):
        count += bool((iou(np.asarray(candidates[place], np.float64), targets[place]) >= HIT).any())  # NaN has 0
    return row | {"hit_not_taken": float(count)}
