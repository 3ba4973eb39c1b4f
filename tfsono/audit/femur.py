"""The tips of a bone checked against its mask, before training. Every problem is a warning.

    coincident_tips         two tips less than 2 voxels apart
    tip_far_from_mask       a tip more than 5 mm from the mask
    two_bones               the mask's second part is at least a tenth of its largest
    mask_without_landmarks  no tip is known
    landmarks_without_mask  no mask, or an empty one

A single missing tip is the audit's `landmark_missing`, one beyond the faces of the volume its `landmark_outside`.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy import ndimage

LEAST_APART = 2.0
"""Voxels: closer tips are one point, written twice."""

MOST_FROM_MASK_MM = 5.0
"""The largest distance of a tip from its mask."""

SECOND_BONE = 0.1
"""Share of the largest component: smaller ones are fragments, larger ones another bone."""

Problem = tuple[str, str]


def judge_tips(mask: np.ndarray | None, points_vox: np.ndarray | None, spacing_mm,
               names: tuple[str, ...] = ("proximal", "distal"), one_bone: bool = True) -> list[Problem]:
    """The problems of one case, with the measured numbers.

    Args:
        mask: [X, Y, Z], foreground above 0; or None.
        points_vox: [K, 3], NaN where missing; or None.
        spacing_mm: [3].
        names: of the K landmarks; numbers replace missing names.
        one_bone: whether the mask is of one body and the landmarks are its ends: else only what is missing is reported.

    Returns:
        (code, text) of each; none for a case with neither mask nor tips, which the audit refuses.
    """
    tips = _known_tips(points_vox, names)
    foreground = None if mask is None or not np.any(mask) else np.asarray(mask) > 0
    if foreground is None and not tips:
        return []
    spacing, problems = np.asarray(spacing_mm, np.float64), []
    if one_bone:
        problems += _coincident(tips, spacing)
    if foreground is None:
        found = "the mask is empty" if mask is not None else "there is no mask"
        return [*problems, ("landmarks_without_mask", f"{found}, and {len(tips)} landmark{'s' * (len(tips) > 1)} "
                                                      f"({', '.join(tips)}): trained and scored on these only")]
    if one_bone:
        problems += _far_from_mask(tips, foreground, spacing)
        problems += _two_bones(foreground, spacing)
    if not tips:
        problems.append(("mask_without_landmarks", f"a mask of {np.count_nonzero(foreground)} voxels and no landmark: "
                                                   "trained and scored on the mask only"))
    return problems


def distance_to_mask_mm(point_vox: np.ndarray, voxels: np.ndarray, spacing_mm: np.ndarray) -> float:
    """Millimetres from a point [3] to the nearest of the voxels [n, 3], which are boxes: 0 inside one."""
    away = np.maximum(np.abs(voxels - point_vox) - 0.5, 0.0) * spacing_mm
    return float(np.sqrt(np.square(away).sum(axis=1).min()))


def _known_tips(points_vox: np.ndarray | None, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    points = np.zeros((0, 3)) if points_vox is None else np.asarray(points_vox, np.float64)
    named = [*names, *(f"landmark {number}" for number in range(len(names) + 1, len(points) + 1))]
    return {name: point for name, point in zip(named, points, strict=False) if np.isfinite(point).all()}


def _coincident(tips: dict[str, np.ndarray], spacing_mm: np.ndarray):
    for (one, a), (other, b) in combinations(tips.items(), 2):
        apart = np.linalg.norm(a - b)
        if apart < LEAST_APART:
            millimetres = np.linalg.norm((a - b) * spacing_mm)
            yield "coincident_tips", (f"{one} and {other} are {apart:.1f} voxels apart ({millimetres:.1f} mm); "
                                      f"expected at least {LEAST_APART:g} voxels")


def _far_from_mask(tips: dict[str, np.ndarray], foreground: np.ndarray, spacing_mm: np.ndarray):
    voxels = np.argwhere(foreground)
    for name, point in tips.items():
        millimetres = distance_to_mask_mm(point, voxels, spacing_mm)
        if millimetres > MOST_FROM_MASK_MM:
            yield "tip_far_from_mask", (f"{name} at voxel {_text(point)} is {millimetres:.1f} mm from the mask; "
                                        f"expected at most {MOST_FROM_MASK_MM:g} mm")


def _two_bones(foreground: np.ndarray, spacing_mm: np.ndarray):
    parts, count = ndimage.label(foreground, np.ones((3,) * foreground.ndim, bool))
    if count > 1:
        largest, second = np.sort(np.bincount(parts.ravel())[1:])[:-3:-1] * float(np.prod(spacing_mm)) / 1000
        if second >= SECOND_BONE * largest:
            yield "two_bones", (f"the mask's two largest parts have {largest:.3g} mL and {second:.3g} mL "
                                f"({100 * second / largest:.0f} %): is one of them another bone?")


def _text(point: np.ndarray) -> str:
    return f"({', '.join(f'{value:.1f}' for value in point)})"
