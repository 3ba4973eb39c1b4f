"""Tables and `cases.csv`: every form of hand-made values."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from tfsono.errors import UserError
from tfsono.report import tables
from tfsono.report.tables import Metric, Probability, Summary, Table

NAN = float("nan")


@pytest.fixture
def table():
    return Table(
        "Bones & joints_1",
        ("Case", "Dice", "Voxels"),
        (("hip_01", 0.98765, 12), ("50 % | _x_", NAN, 3), ("<b>", -0.0001, None)),
        "n = 3",
        (None, 3, 0),
    )


# --- the forms


def test_csv_keeps_all_digits(table):
    rows = list(csv.reader(io.StringIO(tables.to_csv(table))))
    assert rows == [
        ["Case", "Dice", "Voxels"],
        ["hip_01", "0.98765", "12"],
        ["50 % | _x_", "nan", "3"],
        ["<b>", "-0.0001", ""],
    ]


def test_csv_spreads_summaries():
    table = Table(
        "t", ("Variant", "Dice"), (("a", Summary(0.5, 0.25, 0.125, 0.75, 4, 1)), ("b", Summary(0.6)))
    )
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(table))))
    assert rows[0] == {
        "Variant": "a",
        "Dice": "0.5",
        "Dice std": "0.25",
        "Dice low": "0.125",
        "Dice high": "0.75",
        "Dice count": "4",
        "Dice undefined": "1",
    }
    assert rows[1]["Dice"] == "0.6" and rows[1]["Dice std"] == "nan"


def test_markdown(table):
    lines = tables.to_markdown(table).splitlines()
    assert lines[0] == "**Bones & joints_1**"
    assert lines[2] == "| Case          |  Dice | Voxels |"
    assert lines[3] == "| ------------- | ----: | -----: |"
    assert lines[4] == "| hip_01        | 0.988 |     12 |"
    assert lines[5] == r"| 50 % \| \_x\_ |     – |      3 |"
    assert lines[6] == "| &lt;b>        | 0.000 |        |"
    assert lines[8] == "n = 3"


def test_latex(table):
    text = tables.to_latex(table)
    assert r"\caption{Bones \& joints\_1}" in text
    assert r"\begin{tabular}{lrr}" in text
    assert r"hip\_01 & 0.988 & 12 \\" in text
    assert r"50 \% \textbar{} \_x\_ & -- & 3 \\" in text
    assert r"\textless{}b\textgreater{} & 0.000 &  \\" in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    assert text.count(r"\begin{") == text.count(r"\end{") == 2


def test_latex_sets_minus_signs_and_intervals():
    cell = Summary(-0.25, 0.5, -1.0, 0.5, 3, 2)
    text = tables.to_latex(Table("t", ("A-1", "B"), (("x-1", cell),), digits=(None, 2)))
    assert r"x-1 & $-$0.25 $\pm$ 0.50 \\" in text
    assert r" & {\footnotesize $-$1.00 to 0.50; 2 undefined} \\" in text


@pytest.mark.parametrize("character", list("&%$#_{}\\~^"))
def test_latex_escapes_every_special_character(character):
    escaped = tables.escape_latex(f"a{character}b")
    assert escaped.startswith("a\\") and escaped.endswith("b") and escaped != f"a{character}b"


@pytest.mark.parametrize(
    ("cell", "digits", "text"),
    [
        (0.98765, 3, "0.988"),
        (12.0, 1, "12.0"),
        (7, 3, "7"),
        (np.int64(7), 2, "7"),
        (np.float32(0.5), 2, "0.50"),
        (NAN, 2, "–"),
        (float("inf"), 2, "∞"),
        (None, 2, ""),
        ("text", 2, "text"),
        (True, 0, "yes"),
        (-0.0004, 3, "0.000"),
        (123456.0, None, "1.235e+05"),
        (Probability(0.00002), None, "<0.001"),
        (Probability(0.04), None, "0.040"),
        (Probability(NAN), None, "–"),
        (Summary(NAN, undefined=2), 2, "– (2 undefined)"),
        (Summary(0.5, 0.1), 2, "0.50 ± 0.10"),
        (Summary(0.5, 0.1, 0.4, 0.6, 5, 1), 1, "0.5 ± 0.1 (0.4 to 0.6; 1 undefined)"),
        (Summary(0.5, digits=1), 4, "0.5"),
    ],
)
def test_cells(cell, digits, text):
    assert tables.cell_text(cell, digits) == text


def test_ragged_tables_are_refused():
    with pytest.raises(ValueError, match="2 columns, row 1 has 1"):
        Table("t", ("a", "b"), ((1, 2), (3,)))
    with pytest.raises(ValueError, match="digits for 1"):
        Table("t", ("a", "b"), (), digits=(1,))


def test_an_empty_table_has_every_form():
    table = Table("t", ("a", "b"), ())
    assert tables.to_csv(table) == "a,b\n"
    assert "| a   | b   |" in tables.to_markdown(table)
    assert r"\begin{tabular}{ll}" in tables.to_latex(table)


def test_write_table(tmp_path, table):
    paths = tables.write_table(tmp_path / "new" / "folder", "t1", table)
    assert [path.name for path in paths] == ["t1.csv", "t1.md", "t1.tex"]
    assert paths[0].read_text(encoding="utf-8") == tables.to_csv(table)
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["t1.csv", "t1.md", "t1.tex"]


def test_a_table_of_a_label_with_a_slash_is_one_file(tmp_path, table):
    found = {path.name for label in ("head/acetabulum", "head_acetabulum", "x" * 260)
             for path in tables.write_table(tmp_path, f"label_{label}", table)}
    assert {path.name for path in tmp_path.iterdir()} == found and len(found) == 9


# --- cases.csv


def test_cases_come_back_as_they_went(tmp_path):
    rows = [
        {
            "case": "001",
            "label": "1",
            "dice": 0.1 + 0.2,
            "hausdorff_mm": 1e-17,
            "undefined": 0,
            "scanner": 'A, "x"\nB',
        },
        {
            "case": "ä",
            "label": "2",
            "dice": NAN,
            "hausdorff_mm": np.float32(0.1),
            "undefined": True,
            "scanner": "7",
        },
    ]
    back = tables.read_cases(tables.write_cases(tmp_path / "cases.csv", rows))
    assert [row["case"] for row in back] == ["001", "ä"] and [row["label"] for row in back] == ["1", "2"]
    assert back[0]["dice"] == 0.1 + 0.2 and math.isnan(back[1]["dice"])
    assert back[0]["hausdorff_mm"] == 1e-17 and back[1]["hausdorff_mm"] == float(np.float32(0.1))
    assert [row["undefined"] for row in back] == [0.0, 1.0]
    assert [row["scanner"] for row in back] == ['A, "x"\nB', "7"]
    again = tables.write_cases(tmp_path / "again.csv", back)
    assert tables.read_cases(again)[0] == back[0]


def test_a_missing_key_is_an_empty_cell(tmp_path):
    path = tables.write_cases(tmp_path / "cases.csv", [{"case": "a", "dice": 1.0}, {"case": "b", "extra": 2}])
    assert path.read_text(encoding="utf-8") == "case,dice,extra\na,1.0,\nb,,2\n"
    back = tables.read_cases(path)
    assert math.isnan(back[0]["extra"]) and math.isnan(back[1]["dice"]) and back[1]["extra"] == 2.0


def test_cases_that_are_read_and_written_again_are_the_same_bytes(tmp_path):
    rows = [{"case": "01", "label": "1", "dice": 1.0, "undefined": 0, "gap_mm": NAN, "shift": -2, "large": 1e22},
            {"case": "b", "label": "2", "dice": 0.5, "undefined": True, "shift": -0.0, "more": 2**50, "text": ""},
            {"case": "c", "dice": math.inf, "gap_mm": np.float32(0.1), "seed": np.int64(3), "text": "=1"}]
    written = tables.write_cases(tmp_path / "cases.csv", rows).read_bytes()
    for count in (1, 2, 3):  # an evaluation that was stopped after so many cases
        tables.write_cases(tmp_path / "half.csv", rows[:count])
        resumed = tables.read_cases(tmp_path / "half.csv") + rows[count:]
        assert tables.write_cases(tmp_path / "again.csv", resumed).read_bytes() == written


def test_no_cases(tmp_path):
    assert tables.read_cases(tables.write_cases(tmp_path / "cases.csv", [])) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "needs a column 'case'.*found nothing"),
        (b"name,dice\na,1\n", "found name, dice"),
        (b"case,dice,dice\na,1,2\n", "must differ"),
        (b"case,dice\na,1\nb\n", "line 3 must have 2 cells.*found 1"),
        (b"case,dice\n\xff\xfe,1\n", "UTF-8"),
    ],
)
def test_broken_cases_are_refused(tmp_path, content, message):
    path = tmp_path / "cases.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        tables.read_cases(path)


def test_missing_cases_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        tables.read_cases(tmp_path / "cases.csv")


# --- results


def cases_of(values, key="dice"):
    return [{"case": f"c{i}", key: value} for i, value in enumerate(values)]


def test_summarise():
    summary = tables.summarise([0.8, 0.9, NAN, 1.0], seed=3)
    assert summary.mean == pytest.approx(0.9) and summary.std == pytest.approx(0.1)
    assert 0.8 <= summary.low < 0.9 < summary.high <= 1.0
    assert (summary.count, summary.undefined) == (3, 1)
    assert tables.summarise([0.8, 0.9, NAN, 1.0], seed=3) == summary


def test_summarise_of_few_values():
    one = tables.summarise([0.5, NAN])
    assert (
        one.mean == 0.5
        and math.isnan(one.std)
        and math.isnan(one.low)
        and (one.count, one.undefined) == (1, 1)
    )
    none = tables.summarise([])
    assert math.isnan(none.mean) and none.count == 0


def test_comparison_sets_the_papers_row_below_ours():
    ours = {
        "B": cases_of([0.8, 0.9, 1.0]),
        "A": [{"case": "c0", "dice": 0.0, "undefined": 1}, {"case": "c1"}],
    }
    paper = {"other": {"dice": 81.0}, "B": {"dice": (91.03, 3.0), "cases": 20}}
    table = tables.comparison_table(
        "T", ours, paper, [("dice", "DSC %", 1, 100.0), ("hausdorff_mm", "Hdb", 2)]
    )
    assert table.columns == ("Variant", "Source", "Cases", "Undefined", "DSC %", "Hdb")
    assert [row[:4] for row in table.rows] == [
        ("B", "ours", 3, 3),
        ("B", "paper", 20, None),
        ("A", "ours", 2, 2),
        ("other", "paper", None, None),
    ]
    ours_b, paper_b, ours_a, other = (row[4] for row in table.rows)
    assert ours_b.mean == pytest.approx(90.0) and ours_b.std == pytest.approx(10.0) and 80 <= ours_b.low < 90
    assert (paper_b.mean, paper_b.std, paper_b.count) == (91.03, 3.0, 20)
    assert ours_a.mean == 0.0 and (ours_a.count, ours_a.undefined) == (1, 1)
    assert other.mean == 81.0 and math.isnan(table.rows[3][5].mean)
    assert tables.cell_text(table.rows[1][4], table.digits[4]) == "91.0 ± 3.0"
    assert tables.cell_text(table.rows[0][5], 2) == "– (3 undefined)"


def test_the_undefined_count_a_case_once():
    cases = [
        {"case": "a", "x": NAN, "y": NAN},
        {"case": "b", "x": 1.0, "y": 1.0, "undefined": 1.0},
        {"case": "c", "x": 1, "y": 2},
    ]
    assert tables.count_undefined(cases, [Metric("x", "X", 1), Metric("y", "Y", 1)]) == 2


def test_case_table():
    table = tables.case_table("T", cases_of([0.25, 0.75, NAN]), [("dice", "Dice", 2)], "note")
    assert [row[0] for row in table.rows] == ["c0", "c1", "c2", "Mean ± standard deviation"]
    assert table.rows[1][1] == 0.75 and table.rows[3][1].mean == 0.5 and table.rows[3][1].undefined == 1
    assert "| 0.50 ± 0.35 (1 undefined) |" in tables.to_markdown(table)


def test_paired_table_pairs_by_case_and_label():
    first = [
        {"case": c, "label": label, "dice": d}
        for c, label, d in [
            ("a", "1", 0.5),
            ("a", "2", 0.6),
            ("b", "1", 0.7),
            ("b", "2", NAN),
            ("x", "1", 0.1),
        ]
    ]
    second = [
        {"case": c, "label": label, "dice": d}
        for c, label, d in [
            ("b", "1", 0.8),
            ("b", "2", 0.9),
            ("a", "2", 0.8),
            ("a", "1", 0.8),
            ("y", "1", 0.2),
        ]
    ]
    table = tables.paired_table("T", {"first": first, "second": second}, [("dice", "Dice", 2)])
    variants, metric, pairs, difference, p = table.rows[0]
    assert (variants, metric, pairs) == ("second minus first", "Dice", 3)
    assert difference.mean == pytest.approx((0.3 + 0.2 + 0.1) / 3)
    # Three differences of one sign: the smallest two-sided p of the signed-rank test is 2 / 2**3.
    assert p.value == pytest.approx(0.25)


def test_paired_table_of_equal_or_strange_cases():
    same = cases_of([0.5, 0.6])
    table = tables.paired_table(
        "T", {"a": same, "b": same, "c": [{"case": "z", "dice": 1.0}]}, [("dice", "D", 2)]
    )
    assert [row[0] for row in table.rows] == ["b minus a", "c minus a", "c minus b"]
    assert tables.cell_text(table.rows[0][4]) == "–" and table.rows[1][2] == 0
