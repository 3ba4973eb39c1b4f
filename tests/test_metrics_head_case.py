"""One case of `head`: every number by hand, and what is undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tfsono.geometry.ellipse import Ellipse
from tfsono.metrics.head_case import HeadOutline, head_metrics

SIZE = (243, 361)
EXPECTED = Ellipse((170.0, 118.0), 90.0, 70.0, 0.0)
REFERENCE = HeadOutline(EXPECTED, EXPECTED.end_points(), EXPECTED.mask(SIZE))


def moved(by_x=3.0, by_y=4.0, longer=0.0):
    """The reference head elsewhere, its long axis `longer` pixels longer at each end."""
    ellipse = Ellipse((170.0 + by_x, 118.0 + by_y), 90.0 + longer, 70.0, 0.0)
    return HeadOutline(ellipse, ellipse.end_points(), ellipse.mask(SIZE))


def test_a_moved_head_has_the_distance_it_was_moved_by():
    row = head_metrics(moved(), REFERENCE, SIZE, 0.5)
    for name in ("mre", "mre_exchanged", "ofd_1", "ofd_2", "bpd_1", "bpd_2"):
        assert (row[f"{name}_px"], row[f"{name}_mm"]) == pytest.approx((5.0, 2.5))
    assert [row[f"sdr_{t}"] for t in ("2", "2.5", "3", "4")] == [0, 100, 100, 100]  # at the threshold counts
    assert row["hd_px"] == pytest.approx(5, abs=0.02) and row["hd_mm"] == pytest.approx(row["hd_px"] / 2)
    for key, length in (("bpd", 140), ("ofd", 180)):
        assert (row[f"{key}_reference_px"], row[f"{key}_px"], row[f"{key}_reference_mm"]) == pytest.approx(
            (length, length, length / 2))
        assert row[f"{key}_error_mm"] == pytest.approx(0) and row[f"{key}_abs_error_percent"] == pytest.approx(0)
    overlap = 2 * np.sum(moved().mask & REFERENCE.mask) / (moved().mask.sum() + REFERENCE.mask.sum())
    assert row["dice_percent"] == row["dsc_percent"] == pytest.approx(100 * overlap)
    assert row["undefined"] == 0


def test_a_longer_head_has_signed_errors_and_percentages():
    row = head_metrics(moved(0, 0, -9.0), REFERENCE, SIZE, 0.5)
    assert (row["ofd_error_px"], row["ofd_error_mm"], row["ofd_abs_error_mm"]) == pytest.approx((-18, -9, 9))
    assert (row["ofd_error_percent"], row["ofd_abs_error_percent"]) == pytest.approx((-10, 10))
    assert (row["ofd_1_px"], row["bpd_1_px"], row["mre_px"]) == pytest.approx((9, 0, 4.5))
    steps = np.linspace(0, 2 * np.pi, 200_001)
    lengths = [np.hypot(np.diff(a * np.cos(steps)), np.diff(70 * np.sin(steps))).sum() / 2 for a in (81, 90)]
    assert row["hc_error_mm"] == pytest.approx(lengths[0] - lengths[1], abs=1e-3)
    assert row["hc_reference_mm"] == pytest.approx(lengths[1], abs=1e-3)


def test_the_official_circumference_is_the_reference_in_millimetres_alone():
    own = head_metrics(REFERENCE, REFERENCE, SIZE, 0.5)
    row = head_metrics(REFERENCE, REFERENCE, SIZE, 0.5, hc_mm=own["hc_reference_mm"] - 2)
    assert (row["hc_error_mm"], row["hc_error_px"]) == pytest.approx((2, 0))
    assert row["hc_abs_error_percent"] == pytest.approx(100 * 2 / row["hc_reference_mm"])


def test_without_a_pixel_size_there_are_no_millimetres():
    row = head_metrics(moved(), REFERENCE, SIZE, None, hc_mm=250.0)
    assert all(math.isnan(value) for key, value in row.items() if key.endswith("_mm"))
    assert all(math.isnan(row[f"sdr_{t}"]) for t in ("2", "2.5", "3", "4")) and math.isnan(row["trimester"])
    assert row["mre_px"] == pytest.approx(5) and row["hc_error_percent"] == pytest.approx(0)


def test_exchanged_ends_and_exchanged_names_differ():
    ends = HeadOutline(EXPECTED, REFERENCE.points_px[[1, 0, 2, 3]])
    row = head_metrics(ends, REFERENCE, SIZE, 0.5)
    assert (row["mre_px"], row["mre_exchanged_px"]) == pytest.approx((90, 0))
    names = head_metrics(HeadOutline(EXPECTED, REFERENCE.points_px[[2, 3, 0, 1]]), REFERENCE, SIZE, 0.5)
    assert (names["mre_exchanged_px"], names["mre_renamed_px"]) == pytest.approx((math.hypot(90, 70), 0))
    assert math.isnan(names["dice_percent"])  # no mask


def test_nothing_found_is_undefined_and_no_number():
    row = head_metrics(HeadOutline(None, None, np.zeros(SIZE, bool)), REFERENCE, SIZE, 0.5)
    assert row["undefined"] == 1
    assert row["hd_mm"] == pytest.approx(math.hypot(*SIZE) / 2)
    assert (row["dsc_percent"], row["dice_percent"], row["sdr_4"]) == (0, 0, 0)
    for key in ("mre_mm", "ofd_1_mm", "bpd_mm", "ofd_error_mm", "hc_abs_error_mm", "hc_error_percent"):
        assert math.isnan(row[key])
    assert row["hc_reference_mm"] > 0 and row["trimester"] == 2
