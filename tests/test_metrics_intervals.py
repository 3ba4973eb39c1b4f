"""Intervals of lengths: the share of new images that they hold, by size; what they are fitted to; what reads them."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tfsono.errors import UserError
from tfsono.manifest import check_intervals
from tfsono.metrics.intervals import first_of_cases, fitted, held_out_coverage, percent_of
from tfsono.predict.head import half_widths_mm, lengths_of
from tfsono.report.head_sizes import coverage_table


def rows_of(count, seed, run="fold_0", percent_at=lambda hc: 4.0 if hc < 150 else 1.0):
    """Heads of 50 to 350 mm whose errors have this deviation in percent of the predicted length."""
    random = np.random.default_rng(seed)
    rows = []
    for number, hc in enumerate(random.uniform(50, 350, count)):
        row = {"case": f"{run}_{number}", "subject": f"{run}_{number // 2}", "run": run, "hc_mm": hc}
        for name, share in (("bpd", 0.28), ("ofd", 0.36), ("hc", 1.0)):
            row |= {f"{name}_mm": hc * share,
                    f"{name}_error_mm": hc * share * random.normal(0, percent_at(hc)) / 100}
        rows.append(row)
    return rows


def inside(rows, intervals, sizes):
    shares = [abs(row["hc_error_mm"]) / row["hc_mm"] * 100 <= percent_of(intervals, row["hc_mm"])["hc"]
              for row in rows if sizes[0] < row["hc_mm"] < sizes[1]]
    return 100 * np.mean(shares)


def test_nine_of_ten_new_images_of_every_size_are_inside():
    intervals, new = fitted(rows_of(4000, 0)), rows_of(4000, 1)
    for sizes in ((55, 110), (170, 230), (230, 345)):
        assert inside(new, intervals, sizes) == pytest.approx(90, abs=3)
    widths = intervals["percent"]["hc"]
    assert widths[0] == pytest.approx(4 * 1.645, rel=0.1) and widths[-1] == pytest.approx(1.645, rel=0.1)
    check_intervals("a", intervals, "b")


def test_the_rank_of_the_quantile_and_few_images():
    rows = rows_of(89, 0)
    intervals = fitted(rows)
    errors = sorted(100 * abs(row["hc_error_mm"]) / row["hc_mm"] for row in rows)
    assert intervals["percent"]["hc"] == [round(errors[81 - 1], 3)] and len(intervals["edges_mm"]) == 2  # 0.9 x 90
    undefined = {key: np.nan if key.endswith("mm") else value for key, value in rows[0].items()}
    assert fitted([*rows, undefined]) == intervals
    with pytest.raises(ValueError, match="needs 80 images with lengths in millimetres; found 79"):
        fitted(rows[:79])


def test_no_interval_outside_of_the_sizes():
    intervals = fitted(rows_of(300, 0))
    low, high = intervals["edges_mm"][0], intervals["edges_mm"][-1]
    assert percent_of(intervals, low)["hc"] == intervals["percent"]["hc"][0]
    assert percent_of(intervals, high)["hc"] == intervals["percent"]["hc"][-1]
    assert percent_of(intervals, low - 1) == percent_of(intervals, high + 1) == percent_of(intervals, np.nan) == {}


def test_coverage_is_that_of_folds_with_the_intervals_of_the_others():
    """Were a bad fold judged by its own errors, 90 % would seem right."""
    good = [row for fold in range(4) for row in rows_of(150, fold, f"fold_{fold}", lambda hc: 1.0)]
    bad = rows_of(150, 9, "fold_4", lambda hc: 5.0)
    judged = held_out_coverage([*good, *bad])
    share = {name: np.mean([row["hc_inside"] for row in judged if row["case"].startswith(name)])
             for name in ("fold_0", "fold_4")}
    assert share["fold_4"] < 0.5 < 0.9 < share["fold_0"]
    table = coverage_table({"unet": [*good, *bad]})
    assert table.rows[0][:2] == ("unet", "all") and len(table.rows) == 6
    assert coverage_table({"unet": bad[:70]}) is None


def test_an_image_of_all_runs_counts_once_and_subjects_stay_together():
    rows = [{**row, "run": run} for run in ("a", "b") for row in rows_of(400, 0)]
    assert first_of_cases(rows) == rows[:400]
    judged = held_out_coverage(rows)
    assert 380 < len(judged) <= 400
    assert 100 * np.mean([row["hc_inside"] for row in judged]) == pytest.approx(90, abs=4)


def test_the_line_has_intervals_inside_of_the_sizes_alone():
    intervals = {"coverage": 0.9, "cases": 400, "edges_mm": [50.0, 100.0, 300.0],
                 "percent": {"bpd": [4.0, 2.0], "ofd": [4.0, 2.0], "hc": [3.0, 1.0]}}
    row = {"bpd_mm": 50.0, "ofd_mm": 65.0, "hc_mm": 182.0, "flagged": 0}
    assert lengths_of(row, half_widths_mm(intervals, row)) == {
        "bpd": "50.0 ± 1.0 mm", "ofd": "65.0 ± 1.3 mm", "hc": "182.0 ± 1.8 mm"}
    assert lengths_of(row, half_widths_mm(None, row)) == {"bpd": "50.0 mm", "ofd": "65.0 mm", "hc": "182.0 mm"}
    assert half_widths_mm(intervals, {**row, "flagged": 1}) == {}
    assert half_widths_mm(intervals, {**row, "hc_mm": 301.0}) == half_widths_mm(intervals, {"hc_mm": ""}) == {}


@pytest.mark.parametrize("change, found", [
    ({"edges_mm": [100.0, 50.0, 300.0]}, "edges_mm must be rising"), ({"edges_mm": [50.0]}, "edges_mm must be rising"),
    ({"percent": {"bpd": [1.0], "ofd": [1.0, 2.0], "hc": [1.0, 2.0]}}, "percent must have numbers"),
    ({"percent": {"hc": [1.0, 2.0]}}, "percent must have numbers"), ({"coverage": 90.0}, "coverage must be 0.9")])
def test_other_intervals_in_a_manifest_are_refused(change, found):
    intervals = {"coverage": 0.9, "cases": 400, "edges_mm": [50.0, 100.0, 300.0],
                 "percent": {name: [2.0, 1.0] for name in ("bpd", "ofd", "hc")}}
    check_intervals("a", copy.deepcopy(intervals), "b")
    with pytest.raises(UserError, match=found):
        check_intervals("a", {**intervals, **change}, "b")
