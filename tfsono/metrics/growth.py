"""A head's size for its gestational age: z-score and centile by INTERGROWTH-21st. Not for clinical use.

Papageorghiou, Ohuma, Altman et al.: International standards for fetal growth based on serial ultrasound measurements:
the Fetal Growth Longitudinal Study of the INTERGROWTH-21st Project, Lancet 384:869-879, 2014. BPD from outer to outer
edge of the skull, as here; HC by an ellipse around it. The tests compare with the study's published tables.

Hadlock's charts are not here: their standard deviations could not be compared with a published table.
"""

from __future__ import annotations

import math
import re

from tfsono.errors import UserError

CHART = "INTERGROWTH-21st"
CHART_DAYS = (14 * 7, 40 * 7)
"""Gestational ages of the standards."""

_AGE = re.compile(r"(\d{1,2})\s*(?:w|\+|weeks?)\s*(?:([0-6])\s*(?:d|days?)?)?")


def read_gestational_age(text: str, option: str = "--gestational_age") -> int | None:
    """Days of an age such as 20w3d, 20w or 20+3; None for "".

    Raises:
        UserError: another text, or an age outside of the chart's.

    Example:
        >>> read_gestational_age("20w3d")
        143
    """
    if not text:
        return None
    found = _AGE.fullmatch(text.strip().lower())
    if not found:
        raise UserError(f"{option} {text[:80]!r}: expected weeks and days, such as 20w3d, with days from 0 to 6")
    days = 7 * int(found[1]) + int(found[2] or 0)
    low, high = CHART_DAYS
    if not low <= days <= high:
        raise UserError(f"{option} {text[:80]!r}: {CHART} has {weeks_and_days(low / 7)} to {weeks_and_days(high / 7)}; "
                        "leave the option out for other ages")
    return days


def weeks_and_days(weeks: float) -> str:
    """20.43 weeks as 20w3d, to the nearest day."""
    days = round(7 * weeks)
    return f"{days // 7}w{days % 7}d"


def hc_z_score(hc_mm: float, days: int) -> float:
    """Standard deviations of a head circumference above the mean of its age."""
    weeks = days / 7
    log = math.log(weeks)
    mean = -28.2849 + 1.69267 * weeks**2 - 0.397485 * weeks**2 * log
    deviation = 1.98735 + weeks**3 * (0.0136772 - 0.00726264 * log + 0.000976253 * log**2)
    return (hc_mm - mean) / deviation


def bpd_z_score(bpd_mm: float, days: int) -> float:
    """Standard deviations of a biparietal diameter, outer to outer, above the mean of its age."""
    weeks = days / 7
    log = math.log(weeks)
    mean = 5.60878 + 0.158369 * weeks**2 - 0.00256379 * weeks**3
    deviation = math.exp(0.101242 + weeks**3 * (0.00150557 - 0.000771535 * log + 0.0000999638 * log**2))
    return (bpd_mm - mean) / deviation


def centile(z_score: float) -> float:
    """The share of a normal distribution below a z-score, in per cent."""
    return 50 * (1 + math.erf(z_score / math.sqrt(2)))
