"""From a head's lengths: gestational age, and z-scores and centiles for a known age; columns of a table and words.

For comparison, not for clinical use.
"""

from __future__ import annotations

from collections.abc import Mapping

from tfsono.metrics.biometry import (
    AGE_2SD_SHARE, HADLOCK_WEEKS, gestational_age, gestational_age_by_bpd, gestational_age_by_hc, outer_to_inner_mm,
)
from tfsono.metrics.growth import CHART, bpd_z_score, centile, hc_z_score, weeks_and_days
from tfsono.predict.tables import rounded

WEEKS = {"BPD": "gestational_age_bpd_weeks", "HC": "gestational_age_hc_weeks", "both": "gestational_age_weeks"}
COLUMNS = (*WEEKS.values(), "gestational_age", "gestational_age_2sd_weeks", "no_gestational_age", "given_age",
           "hc_z_score", "hc_centile", "bpd_z_score", "bpd_centile")


def ages(bpd_mm: float, hc_mm: float) -> dict:
    """Columns of the ages by Hadlock's formulas, with the reason where there is none.

    Args:
      bpd_mm: from outer to outer edge of the skull; converted, as Hadlock measured to the inner one.
      hc_mm: head circumference.
    """
    bpd_inner_mm = outer_to_inner_mm(bpd_mm)
    weeks = {"BPD": gestational_age_by_bpd(bpd_inner_mm), "HC": gestational_age_by_hc(hc_mm),
             "both": gestational_age(bpd_inner_mm, hc_mm)}
    row: dict = {WEEKS[key]: rounded(value, 2) for key, value in weeks.items() if value is not None}
    if weeks["HC"] is not None:
        row |= {"gestational_age": weeks_and_days(weeks["HC"]),
                "gestational_age_2sd_weeks": rounded(AGE_2SD_SHARE * weeks["HC"], 2)}
    absent = [key for key, value in weeks.items() if value is None]
    reason = f"outside {HADLOCK_WEEKS[0]:.0f} to {HADLOCK_WEEKS[1]:.0f} weeks"
    which = "" if len(absent) == len(weeks) else f"by {' and '.join(absent)}: "
    return row | ({"no_gestational_age": which + reason} if absent else {})


def growth(bpd_mm: float, hc_mm: float, days: int | None) -> dict:
    """Columns of the z-scores and centiles at a given age; none without one."""
    if days is None:
        return {}
    row: dict = {"given_age": weeks_and_days(days / 7)}
    for key, score in (("hc", hc_z_score(hc_mm, days)), ("bpd", bpd_z_score(bpd_mm, days))):
        row |= {f"{key}_z_score": rounded(score, 2), f"{key}_centile": rounded(centile(score), 1)}
    return row


def age_text(row: Mapping) -> str:
    """The ages of a row in weeks and days, or why there is none."""
    if not row["gestational_age"]:
        return f"no gestational age: {row['no_gestational_age']}"
    others = [f"{weeks_and_days(row[WEEKS[key]])} by {word}" for key, word in (("BPD", "BPD"), ("both", "both"))
              if row[WEEKS[key]] != ""]
    return (f"age {row['gestational_age']} ± {weeks_and_days(row['gestational_age_2sd_weeks'])} (2 sd) by HC"
            f"{''.join(f', {other}' for other in others)} (Hadlock 1984)")


def growth_text(row: Mapping) -> str:
    """z-scores and centiles of a row in words; "" without them."""
    if not row["given_age"]:
        return ""
    parts = [f"{key.upper()} z {row[f'{key}_z_score']:+.1f}, centile {row[f'{key}_centile']:.0f}"
             for key in ("hc", "bpd")]
    return f"at {row['given_age']}: {'; '.join(parts)} ({CHART})"
