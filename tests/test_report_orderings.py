"""`report.orderings`: verdicts on the orderings of a paper, and Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest

from tfsono.report.orderings import FAILS, HOLDS, NOTE, UNDECIDED, holm, orderings_tables, verdict
from tfsono.reproduction.plan import Ordering

CASES = 12
LOWER = Ordering("Table 1, distance", "Ours", "Theirs", "mre_mm", (1.0, 2.0))
HIGHER = Ordering("Table 1, DSC", "Ours", "Theirs", "dice", (0.9, 0.8), higher=True)


def rows_of(method: str, mre: float, dice: float = 0.5, seeds: int = 2, cases: int = CASES) -> list[dict]:
    """Rows around two means; the deviations of the seeds cancel out."""
    return [{"method": method, "case": f"case_{case}", "seed": seed, "mre_mm": mre + 0.01 * case + (-1) ** seed,
             "dice": dice + 0.001 * case} for case in range(cases) for seed in range(seeds)]


def lines(rows, *orderings) -> list[dict]:
    table = orderings_tables(rows, orderings)["orderings"]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_an_ordering_holds_in_either_direction_of_its_metric():
    rows = rows_of("Ours", 1.0, 0.9)
    for row in rows_of("Theirs", 2.0, 0.8):
        more = 0.001 * int(row["case"].removeprefix("case_"))
        rows.append({**row, "mre_mm": row["mre_mm"] + more, "dice": row["dice"] - more})
    distance, overlap = lines(rows, LOWER, HIGHER)
    assert (distance["Ordering"], distance["Paper"], distance["Here"]) == ("Ours < Theirs", "1 < 2", HOLDS)
    assert (overlap["Ordering"], overlap["Paper"], overlap["Here"]) == ("Ours > Theirs", "0.9 > 0.8", HOLDS)
    assert distance["Cases"] == CASES and distance["Difference"].mean == pytest.approx(-1 - 0.001 * 5.5)
    assert distance["p, Holm"].value == pytest.approx(2 * 2 / 2 ** CASES), "all twelve of one sign, two tests"
    assert "Holm" in NOTE


def test_the_opposite_and_noise_are_told_apart():
    rng = np.random.default_rng(0)
    opposite = rows_of("Ours", 3.0) + [{**row, "mre_mm": row["mre_mm"] + rng.uniform(0, 0.1)}
                                       for row in rows_of("Theirs", 2.0)]
    assert lines(opposite, LOWER)[0]["Here"] == FAILS
    noise = rows_of("Ours", 2.0) + [{**row, "mre_mm": row["mre_mm"] + 0.1 * (-1) ** int(row["case"][5:])}
                                    for row in rows_of("Theirs", 2.0)]
    assert lines(noise, LOWER)[0]["Here"] == UNDECIDED
    few = rows_of("Ours", 1.0, cases=4) + rows_of("Theirs", 2.0, cases=4)
    assert lines(few, LOWER)[0]["Here"] == UNDECIDED, "four cases cannot reach 0.05"


def test_one_mean_a_case_and_equal_rows():
    same = rows_of("Ours", 1.0) + rows_of("Theirs", 1.0)
    line, = lines(same, LOWER)
    assert line["Here"] == UNDECIDED and np.isnan(line["p, Holm"].value) and line["Cases"] == CASES


def test_a_case_without_a_value_in_one_seed_is_excluded_and_an_absent_label_is_not():
    rows = rows_of("Ours", 1.0) + rows_of("Theirs", 2.0)
    rows[0]["mre_mm"] = float("nan")
    assert lines(rows, LOWER)[0]["Cases"] == CASES - 1
    rows[0]["absent"] = 1.0
    assert lines(rows, LOWER)[0]["Cases"] == CASES


def test_rows_are_found_by_the_papers_name():
    moving = [{**row, "method": f"{row['method']}, norm_at_test moving"}
              for row in rows_of("Ours", 1.0) + rows_of("Theirs", 2.0)]
    assert len(lines(moving, LOWER)) == 1, "what all have in common is no part of the name"
    in_brackets = rows_of("Ours (stand-in, not it)", 1.0) + rows_of("Theirs", 2.0)
    assert len(lines(in_brackets, LOWER)) == 1
    assert orderings_tables(rows_of("Ours, wide", 1.0) + rows_of("Theirs", 2.0), [LOWER]) == {}
    assert orderings_tables(rows_of("Ours", 1.0), [LOWER]) == {}, "its other row was not measured"


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([float("nan"), 0.01])[1] == pytest.approx(0.02) and np.isnan(holm([float("nan"), 0.01])[0])
    assert holm([]) == []


def test_the_verdict_needs_both_the_sign_and_the_p():
    assert verdict(np.array([-1.0]), 0.01, higher=False) == HOLDS
    assert verdict(np.array([-1.0]), 0.01, higher=True) == FAILS
    assert verdict(np.array([-1.0]), 0.05, higher=False) == UNDECIDED
