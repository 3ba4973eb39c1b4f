"""All metrics of one prediction of `head` against its reference, as one row of numbers.

Keys end in their unit, `_px`, `_mm` or `_percent`. Undefined values are NaN: millimetres without a pixel size, and what
needs an ellipse where none fits, except overlap (0) and outline distance (the diagonal), as HC18 ranks them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tfsono.geometry.ellipse import Ellipse
from tfsono.geometry.head_labels import LANDMARKS, canonical
from tfsono.metrics.biometry import (
    MEASUREMENTS, UNDEFINED, Biometry, biometry_of_ellipse, hc18_metrics, measurement_errors, trimester,
)
from tfsono.metrics.landmarks import THRESHOLDS_MM, exchangeable_errors, radial_errors
from tfsono.metrics.overlap import overlap_metrics

MISSING = np.full((4, 2), np.nan)


@dataclass(frozen=True)
class HeadOutline:
    """A head, predicted or reference, in the image's own pixels.

    Attributes:
        ellipse: None where undefined.
        points_px: [4, 2] (x, y), OFD 1, OFD 2, BPD 1, BPD 2; None where undefined.
        mask: bool [Y, X]; of a prediction the largest component with its holes filled; None for landmarks.
    """

    ellipse: Ellipse | None
    points_px: np.ndarray | None
    mask: np.ndarray | None = None


def head_metrics(
    found: HeadOutline,
    reference: HeadOutline,
    size_yx: tuple[int, int],
    pixel_size_mm: float | None = None,
    hc_mm: float | None = None,
) -> dict[str, float]:
    """The numbers of one case.

    - `mre_U`, `mre_exchanged_U` (ends of a pair in the order that is nearer), `mre_renamed_U` (the same with the
      longer pair as OFD), `ofd_1_U` ...: radial errors, U being px or mm. `sdr_2` ...: percent of the four points
      within 2 mm ...; an undefined point is in none.
    - `dice_percent`: of the masks. `dsc_percent`, `hd_U`: of the ellipses, filled, and their outlines.
    - `bpd_reference_U`, `bpd_U`, `bpd_error_U`, `bpd_abs_error_U`, and the last two in percent; ofd and hc alike.
    - `trimester`, by the reference circumference. `undefined`: 1 where no ellipse fits the prediction.

    Args:
        found: The prediction.
        reference: With an ellipse and points.
        size_yx: Rows and columns of the image.
        pixel_size_mm: None where unknown.
        hc_mm: The official circumference; None takes that of the reference ellipse.
    """
    row: dict[str, float] = {"undefined": float(found.ellipse is None)}
    for unit, size in (("px", 1.0), ("mm", pixel_size_mm or math.nan)):
        row |= _point_errors(found, reference, unit, size)
        row |= _lengths(found, reference, unit, size, hc_mm if unit == "mm" else None)
    row |= {f"sdr_{threshold:g}": _share_within(found, reference, threshold, pixel_size_mm)
            for threshold in THRESHOLDS_MM}
    outlines = hc18_metrics(found.ellipse, reference.ellipse, 1.0, size_yx)
    row |= {"dsc_percent": outlines["dsc_percent"], "hd_px": outlines["hd_mm"],
            "hd_mm": outlines["hd_mm"] * (pixel_size_mm or math.nan), "dice_percent": _dice_percent(found, reference)}
    row["trimester"] = float(trimester(row["hc_reference_mm"]) or math.nan)
    return row


def _point_errors(found: HeadOutline, reference: HeadOutline, unit: str, size: float) -> dict[str, float]:
    points = MISSING if found.points_px is None else found.points_px
    errors = radial_errors(points, reference.points_px) * size
    exchanged = exchangeable_errors(points, reference.points_px) * size
    renamed = exchangeable_errors(canonical(points), reference.points_px) * size
    return {f"mre_{unit}": float(errors.mean()), f"mre_exchanged_{unit}": float(exchanged.mean()),
            f"mre_renamed_{unit}": float(renamed.mean()),
            **{f"{name}_{unit}": float(error) for name, error in zip(LANDMARKS, errors, strict=True)}}


def _share_within(found: HeadOutline, reference: HeadOutline, threshold: float, pixel_size_mm: float | None) -> float:
    if not pixel_size_mm:
        return math.nan
    if found.points_px is None:
        return 0.0
    return 100 * float((radial_errors(found.points_px, reference.points_px, pixel_size_mm) <= threshold).mean())


def _lengths(found: HeadOutline, reference: HeadOutline, unit: str, size: float, hc_mm: float | None
             ) -> dict[str, float]:
    """BPD, OFD and HC of reference and prediction, and their errors; percentages do not depend on the unit."""
    if math.isnan(size):
        known = expected = UNDEFINED
    else:
        expected, known = biometry_of_ellipse(reference.ellipse, size), biometry_of_ellipse(found.ellipse, size)
        expected = Biometry(expected.bpd, expected.ofd, hc_mm or expected.hc)
    errors = measurement_errors(known, expected)
    row = {}
    for name in MEASUREMENTS:
        row |= {f"{name}_reference_{unit}": getattr(expected, name), f"{name}_{unit}": getattr(known, name),
                f"{name}_error_{unit}": errors[f"{name}_error"],
                f"{name}_abs_error_{unit}": errors[f"{name}_abs_error"]}
        if not math.isnan(size):
            row |= {f"{name}_{kind}_percent": errors[f"{name}_{kind}_percent"] for kind in ("error", "abs_error")}
    return row


def _dice_percent(found: HeadOutline, reference: HeadOutline) -> float:
    """Of the masks, before any ellipse; NaN for landmarks, and without a reference mask."""
    if found.mask is None or reference.mask is None:
        return math.nan
    return 100 * overlap_metrics(found.mask, reference.mask)["dice"]
