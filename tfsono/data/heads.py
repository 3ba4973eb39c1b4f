"""The reference of each head in a cache (ellipse of the mask, four points, circumference) and the training points.

Images are [Y, X]; points are (x, y) indices of the image's own pixel centres, OFD 1, OFD 2, BPD 1, BPD 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tfsono.data.cache import Cache, CachedCase
from tfsono.errors import UserError
from tfsono.geometry.ellipse import REFERENCE, Ellipse, ellipse_by_moments, ellipse_of_mask, ellipse_of_points
from tfsono.geometry.head_labels import DEFAULT_ORDER, LANDMARKS, EndOrder, apply_policy, judge

LEAST_MARGINS, LEAST_MARGIN_PX = 5, 0.25


@dataclass(frozen=True)
class KnownHead:
    """The reference of one case, in the image's own pixels.

    Attributes:
      ellipse: of the mask; None without a mask, or where no ellipse fits it.
      margin_px: how far the mask's edge lies outside this ellipse; 0 except after `official_outlines`.
      points_px: [4, 2] as the file names them, NaN where missing; None where all are missing.
      pixel_size_mm: None where unknown.
      hc_mm: the official head circumference; None where unknown.
    """

    ellipse: Ellipse | None
    points_px: np.ndarray | None
    pixel_size_mm: float | None
    hc_mm: float | None
    margin_px: float = 0.0

    @property
    def size(self) -> float | None:
        """The size that folds are stratified by: the official HC, else the ellipse's, in mm; None if unknown."""
        if self.hc_mm:
            return self.hc_mm
        return self.ellipse.circumference_px() * self.pixel_size_mm if self.ellipse and self.pixel_size_mm else None

    def reference_points(self, policy: str, order: EndOrder) -> np.ndarray | None:
        """The points to compare predictions with [4, 2]: the ends of the mask's ellipse, else the policy's, or None.

        A mask's ellipse is the better reference: over a third of the public points do not fit their head.
        """
        if self.ellipse is not None:
            return order.ordered(self.ellipse.end_points())
        points = self.learned_points(policy, order)
        return points if points is not None and np.isfinite(points).all() else None

    def learned_points(self, policy: str, order: EndOrder = DEFAULT_ORDER) -> np.ndarray | None:
        """The points [4, 2] to learn from under a policy of `head_labels`; None for a case to exclude."""
        if self.points_px is None and policy != "ellipse":
            return None
        points = np.full((4, 2), np.nan) if self.points_px is None else self.points_px
        return apply_policy(points, self.ellipse, self.pixel_size_mm, policy, order)


def known_head(case: CachedCase) -> KnownHead:
    """The reference of a cached image."""
    ellipse = None
    if case.label is not None and case.label.any():
        ellipse = ellipse_of_mask(np.ascontiguousarray(case.label[:, :, 0].T), search=REFERENCE)
    points = None if case.points_vox is None else np.asarray(case.points_vox[:, :2], np.float64)
    known = points is not None and np.isfinite(points).any()
    return KnownHead(ellipse, points if known else None, case.pixel_size_mm, case.hc_mm)


def ellipse_of_case(case: CachedCase) -> Ellipse | None:
    """Roughly, but fast: the ellipse of a cached image's mask by its moments, else of its points if they fit a head."""
    if case.label is not None and case.label.any():
        return ellipse_by_moments(np.ascontiguousarray(case.label[:, :, 0].T))
    points = known_head(case).learned_points("drop")
    return None if points is None else ellipse_of_points(points)


def known_heads(cache: Cache, names: Iterable[str]) -> dict[str, KnownHead]:
    """Case -> reference.

    Raises:
      UserError: the cache has landmarks, but not the four of a head.
    """
    if cache.landmarks and tuple(cache.landmarks) != LANDMARKS:
        raise UserError(f"{cache.path}: head needs the landmarks {', '.join(LANDMARKS)}; found "
                        f"{', '.join(cache.landmarks)}; rename the table's columns")
    return {name: known_head(cache.read(name)) for name in names}


def learned_order(heads: Mapping[str, KnownHead], names: Iterable[str], policy: str) -> EndOrder:
    """The order of the ends, from the training points that the policy keeps."""
    found = [heads[name].learned_points(policy) for name in names]
    found = [points for points in found if points is not None]
    return EndOrder.learned(np.stack(found)) if found else DEFAULT_ORDER


def outline_margin_px(heads: Mapping[str, KnownHead], names: Iterable[str]) -> float | None:
    """How far the edge of the training masks lies outside the ellipses of the official circumferences, in pixels.

    HC18's filled outlines include the drawn line, in every image. The median over the cases; None where fewer than
    five have both, or where it is under a quarter of a pixel: too little to correct.
    """
    found = []
    for head in (heads[name] for name in names):
        if head.hc_mm and head.ellipse is not None and head.pixel_size_mm:
            found.append((head.ellipse.circumference_px() - head.hc_mm / head.pixel_size_mm) / (2 * math.pi))
    margin = float(np.median(found)) if len(found) >= LEAST_MARGINS else 0.0
    return margin if abs(margin) >= LEAST_MARGIN_PX else None


def official_outlines(heads: Mapping[str, KnownHead], margin_px: float | None) -> dict[str, KnownHead]:
    """The heads with their ellipses shrunk by `outline_margin_px`; unchanged for None.

    An ellipse that would vanish becomes None.
    """
    if margin_px is None:
        return dict(heads)
    found = {}
    for name, head in heads.items():
        left = head.ellipse is not None and head.ellipse.semi_minor_px > margin_px
        found[name] = replace(head, ellipse=head.ellipse.grown(-margin_px) if left else None, margin_px=margin_px)
    return found


def policy_line(heads: Mapping[str, KnownHead], names: list[str], policy: str) -> str:
    """The effect of a policy on the training labels, in one line."""
    learned = {name: heads[name].learned_points(policy) for name in names}
    used = [name for name, points in learned.items() if points is not None]
    excluded = f", {len(names) - len(used)} excluded" if len(used) < len(names) else ""
    if policy == "ellipse":
        return (f"landmark policy ellipse: {len(used)} of {len(names)} cases{excluded}; the points are the ends of "
                "their ellipses")
    judged = [(heads[name], judge(heads[name].points_px, heads[name].ellipse, heads[name].pixel_size_mm))
              for name in used]
    counts = {"names exchanged": sum(judgement.names_exchanged for _, judgement in judged),
              "ends exchanged": sum(judgement.ends_exchanged for _, judgement in judged),
              "not fitting their head": sum(not judgement.fits for _, judgement in judged)}
    done = "kept as they are" if policy == "keep" else "names and ends corrected"
    faults = ", ".join(f"{count} {what}" for what, count in counts.items())
    return (f"landmark policy {policy}: {len(used)} of {len(names)} cases{excluded}; of the labels used, {faults}: "
            f"{done}")
