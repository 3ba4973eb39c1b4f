"""Fetal biometry: BPD, OFD and head circumference, their errors, the HC18 challenge's measures, and gestational age.

BPD is the short and OFD the long axis of the head's ellipse, both from outer to outer edge of the skull, as HC18
annotates them. Everything is one case at a time; millimetres where a pixel size is given, else pixels. Gestational ages
are for comparison between methods, not for clinical use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tfsono.geometry.ellipse import Ellipse
from tfsono.metrics.overlap import overlap_metrics

MEASUREMENTS = ("bpd", "ofd", "hc")

# Hadlock, Deter, Harrist, Park: Estimating fetal age: computer-assisted analysis of multiple fetal growth parameters,
# Radiology 152:497-501, 1984: 361 fetuses of 14 to 42 menstrual weeks. Lengths in centimetres, ages in weeks.
HADLOCK_WEEKS = (14.0, 42.0)
# The ends of the first and second trimester are 13 weeks 6 days and 27 weeks 6 days (ACOG).
TRIMESTER_WEEKS = (14.0, 28.0)
CONTOUR_POINTS = 4000
# Two standard deviations of an age by HC, as a share of it: Hadlock and Bowie, in the table "Methods for Determining
# Menstrual Age" (radiologykey.com/measurements-frequently-used-to-estimate-gestational-age-and-fetal-biometry), for the
# second and third trimester. Hadlock's own bands of 1984 could not be compared with a published copy.
AGE_2SD_SHARE = 0.08


@dataclass(frozen=True)
class Biometry:
    """One head's measurements, in millimetres or pixels; NaN where undefined.

    Attributes:
        bpd: Biparietal diameter, the short axis.
        ofd: Occipitofrontal diameter, the long axis.
        hc: Head circumference.
    """

    bpd: float
    ofd: float
    hc: float


UNDEFINED = Biometry(math.nan, math.nan, math.nan)


def biometry_of_ellipse(ellipse: Ellipse | None, unit_size: float = 1.0) -> Biometry:
    """The ellipse's axes and circumference, times `unit_size` (millimetres a pixel); NaN without an ellipse."""
    if ellipse is None:
        return UNDEFINED
    size = _checked_size(unit_size)
    return Biometry(
        2 * ellipse.semi_minor_px * size, 2 * ellipse.semi_major_px * size, ellipse.circumference_px() * size
    )


def measurement_errors(prediction: Biometry, reference: Biometry) -> dict[str, float]:
    """For bpd, ofd and hc: `bpd_error` (prediction minus reference), `bpd_abs_error`, and both in % of the reference.

    NaN where either is; `undefined` is 1 where the prediction lacks a measurement that the reference has, else 0.
    """
    errors: dict[str, float] = {}
    for name in MEASUREMENTS:
        found, expected = getattr(prediction, name), getattr(reference, name)
        error = found - expected
        percent = 100 * error / expected if expected > 0 else math.nan
        errors |= {f"{name}_error": error, f"{name}_abs_error": abs(error),
                   f"{name}_error_percent": percent, f"{name}_abs_error_percent": abs(percent)}
    missing = [not math.isfinite(getattr(prediction, name)) and math.isfinite(getattr(reference, name))
               for name in MEASUREMENTS]
    return {**errors, "undefined": int(any(missing))}


def hc18_metrics(
    prediction: Ellipse | None,
    reference: Ellipse,
    pixel_size_mm: float,
    size_yx: tuple[int, int],
) -> dict[str, float]:
    """The four measures of the HC18 challenge (van den Heuvel et al., PLoS ONE 13(8), 2018) for one image.

    - `df_mm`: circumference of the prediction minus the reference's; `adf_mm`: its absolute value. NaN if undefined.
    - `hd_mm`: Hausdorff distance between the two outlines.
    - `dsc_percent`: overlap of the two filled ellipses, on the image's pixels.
    - `undefined`: 1 without a prediction: overlap 0, and the image's diagonal as the distance.

    Args:
        prediction: In the image's pixels; None where no ellipse fits.
        reference: In the image's pixels.
        pixel_size_mm: Millimetres a pixel.
        size_yx: Rows and columns of the image.

    Raises:
        ValueError: The pixel size is not above 0.

    Example:
        >>> found = hc18_metrics(Ellipse((50, 40), 30, 22, 0.1), Ellipse((50, 41), 30, 22, 0.1), 0.2, size_yx=(80, 100))
        >>> round(found["df_mm"], 2), round(found["hd_mm"], 2), round(found["dsc_percent"], 1)
        (0.0, 0.2, 97.2)
    """
    size = _checked_size(pixel_size_mm)
    if prediction is None:
        return {"df_mm": math.nan, "adf_mm": math.nan, "hd_mm": math.hypot(*size_yx) * size, "dsc_percent": 0.0,
                "undefined": 1}
    error = (prediction.circumference_px() - reference.circumference_px()) * size
    overlap = overlap_metrics(prediction.mask(size_yx), reference.mask(size_yx))
    return {"df_mm": error, "adf_mm": abs(error), "hd_mm": outline_distance_px(prediction, reference) * size,
            "dsc_percent": 100 * overlap["dice"], "undefined": 0}


def outline_distance_px(a: Ellipse, b: Ellipse) -> float:
    """The Hausdorff distance between the outlines of two ellipses: the largest distance to the other, either way.

    Between 4000 points of each: too large by (step / 2)^2 / (2 d) at most, a hundredth of a pixel for d = 1.
    """
    from scipy.spatial import cKDTree  # `predict` needs the rest of this module, and not this

    outlines = a.contour(CONTOUR_POINTS), b.contour(CONTOUR_POINTS)
    return max(float(cKDTree(other).query(one)[0].max()) for one, other in (outlines, outlines[::-1]))


def outer_to_inner_mm(bpd_mm: float) -> float:
    """BPD from the outer to the inner edge of the skull, of one from outer to outer: -0.403 + 0.9714 BPD.

    Wong et al.: Biparietal diameter measurements using the outer-to-outer versus outer-to-inner measurement,
    Australas J Ultrasound Med 21(3):161-168, 2018: 543 fetuses of 14 to 40 weeks.
    """
    return -0.403458 + 0.9714153 * bpd_mm


def gestational_age_by_bpd(bpd_mm: float) -> float | None:
    """Hadlock 1984: 9.54 + 1.482 BPD + 0.1676 BPD^2, in weeks; None outside 14 to 42, the range of its data.

    Hadlock measured BPD from the outer to the inner edge of the skull, see `outer_to_inner_mm`: from outer to outer it
    gives 5 days more than HC does (benchmarks/head_flags.py).
    """
    bpd = bpd_mm / 10
    return _within_range(9.54 + 1.482 * bpd + 0.1676 * bpd**2)


def gestational_age_by_hc(hc_mm: float) -> float | None:
    """Hadlock 1984: 8.96 + 0.540 HC + 0.0003 HC^3, in weeks; None outside 14 to 42."""
    return _within_range(_weeks_by_hc(hc_mm))


def gestational_age(bpd_mm: float, hc_mm: float) -> float | None:
    """Hadlock 1984, from both: 10.32 + 0.009 HC^2 + 1.3200 BPD + 0.00012 HC^3, in weeks; None outside 14 to 42.

    BPD from outer to inner edge, as above.
    """
    bpd, hc = bpd_mm / 10, hc_mm / 10
    return _within_range(10.32 + 0.009 * hc**2 + 1.32 * bpd + 0.00012 * hc**3)


def gestational_age_by_fl(fl_mm: float) -> float | None:
    """Hadlock 1984, from the femur's length: 10.35 + 2.460 FL + 0.170 FL^2, in weeks; None outside 14 to 42."""
    fl = fl_mm / 10
    return _within_range(10.35 + 2.460 * fl + 0.170 * fl**2)


def trimester(hc_mm: float) -> int | None:
    """1, 2 or 3 by the head circumference: Hadlock's age under 14, under 28, or from 28 weeks (89.4 and 257.6 mm).

    The cut-offs are ours: HC18 defines its trimesters by ages that are not in its files. Below 14 weeks the
    formula only orders the cases. None for NaN or what is not above 0.
    """
    if not (math.isfinite(hc_mm) and hc_mm > 0):
        return None
    return 1 + sum(_weeks_by_hc(hc_mm) >= weeks for weeks in TRIMESTER_WEEKS)


def _weeks_by_hc(hc_mm: float) -> float:
    hc = hc_mm / 10
    return 8.96 + 0.540 * hc + 0.0003 * hc**3


def _within_range(weeks: float) -> float | None:
    return weeks if HADLOCK_WEEKS[0] <= weeks <= HADLOCK_WEEKS[1] else None


def _checked_size(unit_size: float) -> float:
    if not (math.isfinite(unit_size) and unit_size > 0):
        raise ValueError(f"the size of a pixel must be a number above 0; found {unit_size}")
    return float(unit_size)
