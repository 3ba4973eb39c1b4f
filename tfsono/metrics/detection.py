"""Boxes against their reference: the hit rate of `face`, and average precision as COCO and as VOC count it. NumPy.

The columns AP, AP35, AP50 and AP75 of the paper's tables are multiples of 1/160 = 1/(32 volumes x 5 landmarks): not
average precision, but the share of the final boxes, one a landmark and volume, that overlap the reference enough. Here
that is `hit_rate`; `average_precision` is the real one, of all candidates with their scores.

Boxes are two corners (x0, y0, z0, x1, y1, z1); their unit does not matter. What is missing is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfsono.geometry.boxes import pairwise_iou

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Of the mean "averaged on IoUs from 0.5 to 0.95" (face, Sec. 3) and of COCO."""
PRINTED_THRESHOLDS = (0.35, 0.5, 0.75)
"""Of the columns AP35, AP50 and AP75 (face, Tables 1 and 2)."""
STYLES = ("coco", "voc")
MOST_OF_A_CASE = 100
"""Candidates of a class that COCO counts in one image, the best ones."""
RECALLS = np.linspace(0, 1, 101)
"""Where COCO samples the curve."""


class CaseDetections(NamedTuple):
    """All candidates and all reference boxes of one volume; K classes (landmarks).

    Attributes:
        boxes: [K, N, 6], in any order; boxes with NaN are ignored.
        scores: [K, N]; candidates with NaN are ignored.
        references: [K, 6], or [K, G, 6] with several of a class; boxes with NaN are ignored.
    """

    boxes: np.ndarray
    scores: np.ndarray
    references: np.ndarray


# --- the final boxes ----------------------------------------------------------------------------------------


def hit_rate(ious: np.ndarray, thresholds: Sequence[float] = PRINTED_THRESHOLDS) -> np.ndarray:
    """The share of the final boxes that overlap the reference at least so much: AP in the tables of face.

    The paper defines its column AP as the mean over `IOU_THRESHOLDS`; what it prints there is the share at 0.5.

    Args:
        ious: [N, ...] of the final boxes with their references, NaN where undefined.
        thresholds: [T].

    Returns:
        [T] from 0 to 1; NaN without a box.
    """
    values = _known(ious)
    if not values.size:
        return np.full(len(thresholds), np.nan)
    return (values >= np.asarray(thresholds, np.float64)[:, None]).mean(axis=1)


def class_mean_iou(ious: np.ndarray) -> float:
    """mIoU: the mean over the classes of the mean IoU of their final boxes (face, Sec. 3).

    Args:
        ious: [N, K], NaN where undefined.

    Returns:
        From 0 to 1; a class without a box does not count, and without any it is NaN.

    Raises:
        ValueError: `ious` is not [N, K].
    """
    ious = np.asarray(ious, np.float64)
    if ious.ndim != 2:
        raise ValueError(f"ious must be [N, K], a column a class; found {ious.shape}")
    means = [float(column.mean()) for column in map(_known, ious.T) if column.size]
    return float(np.mean(means)) if means else float("nan")


def _known(ious: np.ndarray) -> np.ndarray:
    ious = np.asarray(ious, np.float64)
    return ious[np.isfinite(ious)]


# --- all candidates -----------------------------------------------------------------------------------------


def suppressed(case: CaseDetections, threshold: float) -> CaseDetections:
    """The candidates without those that overlap a better one of their class by more than an IoU (greedily).

    Average precision counts every second candidate of a landmark as false, also where it is a neighbour of the first.
    """
    scores = np.array(case.scores, np.float64)
    for boxes, row in zip(np.asarray(case.boxes, np.float64), scores, strict=True):
        for place in np.argsort(-np.nan_to_num(row, nan=-np.inf), kind="stable"):
            if np.isfinite(row[place]):
                worse = (row < row[place]) | ((row == row[place]) & (np.arange(len(row)) > place))
                row[worse & (pairwise_iou(boxes, boxes[place:place + 1])[:, 0] > threshold)] = np.nan
    return case._replace(scores=scores)


def average_precision(cases: Sequence[CaseDetections], thresholds: Sequence[float] = IOU_THRESHOLDS,
                      style: str = "coco") -> np.ndarray:
    """The mean over the classes of `class_precision`.

    Returns:
        [T] from 0 to 1; a class without a reference does not count, and without any it is NaN.
    """
    values = class_precision(cases, thresholds, style)
    counted = values[:, ~np.isnan(values).any(axis=0)]
    return counted.mean(axis=1) if counted.size else np.full(len(values), np.nan)


def class_precision(cases: Sequence[CaseDetections], thresholds: Sequence[float] = IOU_THRESHOLDS, style: str = "coco"
                    ) -> np.ndarray:
    """The area under the curve of precision over recall, of each class over all volumes.

    - `coco` (cocoeval): the 100 best of a volume; in order of score, each matches the unmatched reference that it
      overlaps most, if enough (>=; the last of equals); the mean of the precision at 101 recalls.
    - `voc` (the devkit since 2010): each matches the reference that it overlaps most, and is a false positive where
      that is matched already; the area under all points of the curve.

    In both the precision at a recall is the highest at that or any higher one, and candidates of equal score stay in
    the order of the volumes.

    Args:
        cases: All volumes.
        thresholds: [T] IoUs.
        style: `coco` or `voc`.

    Returns:
        [T, K] from 0 to 1; NaN for a class without a reference.

    Raises:
        ValueError: No volume, an unknown style, or arrays of other shapes.
    """
    if style not in STYLES:
        raise ValueError(f"style must be one of {', '.join(STYLES)}; found {style!r}")
    if not cases:
        raise ValueError("cases must be one volume or more; found none")
    cases = [_checked(case, len(cases[0].scores)) for case in cases]
    limits = np.asarray(thresholds, np.float64)
    classes = [[_of_class(case, k) for case in cases] for k in range(len(cases[0].scores))]
    return np.stack([_precision(volumes, limits, style) for volumes in classes], axis=1)


def _checked(case: CaseDetections, classes: int) -> CaseDetections:
    boxes, scores, references = (np.asarray(each, np.float64) for each in case)
    references = references[:, None] if references.ndim == 2 else references
    if (scores.ndim != 2 or len(scores) != classes or boxes.shape != (*scores.shape, 6)
            or references.shape != (classes, references.shape[1] if references.ndim == 3 else 1, 6)):
        raise ValueError(f"boxes must be [{classes}, N, 6], scores [{classes}, N] and references [{classes}, 6] or "
                         f"[{classes}, G, 6]; found {boxes.shape}, {scores.shape} and {references.shape}")
    return CaseDetections(boxes, scores, references)


def _of_class(case: CaseDetections, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [D, 6] and scores [D] of one class, the best first, and its references [G, 6]; all of them finite."""
    boxes, scores, references = (each[place] for each in case)
    known = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    boxes, scores = boxes[known], scores[known]
    order = np.argsort(-scores, kind="stable")
    return boxes[order], scores[order], references[np.isfinite(references).all(axis=1)]


def _precision(volumes: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], limits: np.ndarray, style: str
               ) -> np.ndarray:
    """[T] of one class."""
    total = sum(len(references) for _, _, references in volumes)
    if not total:
        return np.full(len(limits), np.nan)
    most = MOST_OF_A_CASE if style == "coco" else None
    scores = np.concatenate([scores[:most] for _, scores, _ in volumes])
    hits = [_hits(pairwise_iou(boxes[:most], references), limits, style) for boxes, _, references in volumes]
    hits = np.concatenate(hits, axis=1)[:, np.argsort(-scores, kind="stable")].cumsum(axis=1)
    recall, precision = hits / total, hits / np.arange(1, len(scores) + 1)
    highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    if style == "voc":
        return (np.diff(recall, axis=1, prepend=0) * highest).sum(axis=1)
    places = np.stack([np.searchsorted(row, RECALLS, side="left") for row in recall])
    return np.take_along_axis(np.pad(highest, ((0, 0), (0, 1))), places, axis=1).mean(axis=1)  # 0 beyond the last


def _hits(ious: np.ndarray, limits: np.ndarray, style: str) -> np.ndarray:
    """[T, D] whether each candidate matches a reference, the best first; `ious` are [D, G]."""
    found, taken = np.zeros((len(limits), len(ious)), bool), np.zeros((len(limits), ious.shape[1]), bool)
    if not ious.size:
        return found
    rows, last = np.arange(len(limits)), ious.shape[1] - 1
    for number, overlaps in enumerate(ious):
        if style == "coco":
            free = np.where(taken, -1.0, overlaps)
            best, enough = last - free[:, ::-1].argmax(axis=1), np.minimum(limits, 1 - 1e-10)
        else:
            best, enough = np.full(len(limits), overlaps.argmax()), limits
        found[:, number] = (overlaps[best] >= enough) & ~taken[rows, best]
        taken[rows[found[:, number]], best[found[:, number]]] = True
    return found
