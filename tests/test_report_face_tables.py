"""The tables of a face: the paper's rows beside ours, its arithmetic, average precision, flaws and differences."""

from __future__ import annotations

import numpy as np
import pytest

from tfsono.configs.face import LANDMARKS, MIRRORED
from tfsono.geometry.boxes import centred_boxes
from tfsono.metrics.detection import CaseDetections, average_precision, suppressed
from tfsono.metrics.face_case import face_metrics
from tfsono.report.face_tables import (
    PAPER_TABLE_1, PAPER_TABLE_2, base_of, face_tables, in_order, marks_of,
)
from tfsono.report.tables import DASH, Summary, to_csv, to_latex, to_markdown

NAN = float("nan")
SIDES = np.array([14.0, 24, 14, 24, 24])
SPACING = (1.3, 1.3, 1.3)


def evaluated(method: str, spread: float, cases: int = 6, seeds: int = 2, boxes: bool = True):
    """Rows of cases.csv and the candidates, as an evaluation gives them."""
    rows, detected = [], {}
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        for case in range(cases):
            reference = generator.uniform(30, 90, (5, 3))
            found = reference + generator.normal(0, spread, (2, 5, 3))
            given = {"points_vox": found[0], "scores": generator.random(5)}
            if boxes:
                candidates = np.stack([centred_boxes(points, SIDES) for points in found], axis=1)
                given |= {"boxes_vox": candidates[:, 0], "candidate_boxes_vox": candidates, "chosen": np.arange(5) % 2}
                both = np.stack([given["scores"], given["scores"] / 2], axis=1)
                detected.setdefault(f"{method}_{seed}", []).append(
                    CaseDetections(candidates, both, centred_boxes(reference, SIDES)))
            rows.append({"method": method, "case": f"face_{case}", "run": f"{method}_{seed}", "seed": seed,
                         **face_metrics(given, reference, SIDES, SPACING, LANDMARKS, MIRRORED),
                         "time_ms": 10.0 + seed, "device": "two cores"})
    return rows, detected


@pytest.fixture(scope="module")
def results():
    spreads = {"IG-RPN": 1.5, "RPN": 2.5, "Faster R-CNN": 2.0, "I-SSD, width 8": 3.0}
    rows, detections = [], {}
    for method, spread in spreads.items():
        more, detections[method] = evaluated(method, spread)
        rows += more
    rows += evaluated("Heatmap", 2.0, boxes=False)[0]
    return rows, detections


@pytest.fixture(scope="module")
def tables(results):
    return face_tables(*results, LANDMARKS)


def cells(table, method, source="ours"):
    """A row of a table by its headings."""
    (row,) = [row for row in table.rows if method in row and source in row]
    return dict(zip(table.columns, row, strict=True))


def test_the_papers_tables_hang_together():
    """All but one AP is a multiple of 1/160, the two tables agree, and the prior costs 30 ms or 31."""
    printed = {**PAPER_TABLE_1, **PAPER_TABLE_2}
    for name, values in printed.items():
        shares = [value for value in values[:4] if value is not None]
        off = [value for value in shares if abs(value * 1.6 - round(value * 1.6)) > 0.02]
        assert off == ([22.88] if name == "G-SSD" else [])
        assert len(values) == 7 and all(abs(a - b) < 0.64 for a, b in zip(shares[:1], shares[2:3]))
    assert all(PAPER_TABLE_1[name] == PAPER_TABLE_2[name] for name in ("IG-SSD", "IG-RPN"))
    for detector in ("SSD", "RPN"):
        times = [PAPER_TABLE_2[f"{letters}{detector}"][-1] for letters in ("", "I-", "G-", "IG-")]
        assert np.diff(times).tolist() == [0, {"SSD": 30, "RPN": 31}[detector], 0]


def test_table_1_has_our_rows_the_papers_and_the_papers_arithmetic(results, tables):
    table = tables["table1"]
    assert [row[:2] for row in table.rows] == [
        ("Faster R-CNN", "ours"), ("Faster R-CNN", "paper"), ("IG-SSD", "paper"), ("Heatmap", "ours"),
        ("Heatmap", "paper"), ("IG-RPN", "ours"), ("IG-RPN", "paper")]
    ours, paper = cells(table, "IG-RPN"), cells(table, "IG-RPN", "paper")
    assert (ours["Cases"], ours["Runs"], ours["Missing"], ours["Time ms"]) == (6, 2, 0, 10.5)
    assert (paper["Cases"], paper["Runs"], paper["AP50 %"].mean, paper["d-mean mm"].mean) == (32, None, 82.5, 4.38)
    ious = np.array([[row[f"iou_{name}"] for name in LANDMARKS] for row in results[0] if row["method"] == "IG-RPN"])
    for heading, threshold in (("AP35 %", 0.35), ("AP50 %", 0.5), ("AP75 %", 0.75)):
        assert ours[heading].mean == pytest.approx(100 * (ious >= threshold).mean())
        assert ours[heading].low <= ours[heading].mean <= ours[heading].high
    steps = [100 * (ious >= step / 100).mean() for step in range(50, 100, 5)]
    assert ours["AP %"].mean == pytest.approx(np.mean(steps)) and 5 < np.mean(steps) < 95
    assert ours["mIoU %"].mean == pytest.approx(100 * ious.mean())
    errors = np.array([row["mre_mm"] for row in results[0] if row["method"] == "IG-RPN"]).reshape(2, 6)
    assert ours["d-mean mm"].mean == pytest.approx(errors.mean())
    assert ours["d-mean mm"].std == pytest.approx(errors.mean(axis=0).std(ddof=1))
    assert "two cores" in table.note and "not average precision" in table.note


def test_heatmaps_have_dashes_where_the_paper_has(tables):
    table = tables["table1"]
    for source in ("ours", "paper"):
        row = cells(table, "Heatmap", source)
        assert all(np.isnan(row[heading].mean) for heading in ("AP %", "AP35 %", "AP50 %", "AP75 %", "mIoU %"))
        assert row["d-mean mm"].mean > 1
    assert "Heatmap" not in {row[0] for row in tables["overlaps"].rows} | {row[0] for row in
                                                                          tables["average_precision"].rows}
    assert "| Heatmap      | ours   |     6 |    2 |       0 |" in to_markdown(table)


def test_rates_are_of_all_boxes_and_missing_ones_are_misses():
    """Two landmarks without a reference in one case: 8 boxes, of which 3 hit, and not the mean of 1/3 and 2/5."""
    rows, _ = evaluated("IG-RPN", 0.1, cases=2, seeds=1)
    for name, iou in zip(LANDMARKS, (0.6, 0.0, 0.2, NAN, NAN), strict=True):
        rows[0][f"iou_{name}"] = iou
    for name, iou in zip(LANDMARKS, (0.6, 0.0, 0.9, 0.1, 0.1), strict=True):
        rows[1][f"iou_{name}"] = iou
    rows[0]["missing"] = rows[1]["missing"] = 1.0
    row = cells(face_tables(rows, {}, LANDMARKS)["table1"], "IG-RPN")
    assert row["AP50 %"].mean == pytest.approx(100 * 3 / 8) and row["Missing"] == 2
    assert row["mIoU %"].mean == pytest.approx(100 * np.mean([0.6, 0, 0.55, 0.1, 0.1]))


def test_table_2_has_eight_rows_of_the_paper_with_their_marks(tables):
    table = tables["table2"]
    assert table.columns[:4] == ("IoU-balance", "Prior", "Method", "Source")
    printed = [row[:3] for row in table.rows if row[3] == "paper"]
    assert printed == [(balance, prior, name) for name in ("SSD", "RPN") for prior in (DASH, "yes")
                       for balance in (DASH, "yes")]
    assert [row[8].mean for row in table.rows if row[3] == "paper"] == [90, 91.25, 90.62, 92.5, 95, 95, 95.63, 95]
    ours = [row[:4] for row in table.rows if row[3] == "ours"]
    assert ours == [("yes", DASH, "SSD, width 8", "ours"), (DASH, DASH, "RPN", "ours"), ("yes", "yes", "RPN", "ours")]
    after = {row[:3]: table.rows[place + 1][:4] for place, row in enumerate(table.rows[:-1]) if row[3] == "ours"}
    assert after[DASH, DASH, "RPN"] == (DASH, DASH, "RPN", "paper")
    place = [row[:3] for row in table.rows].index(("yes", DASH, "SSD, width 8"))
    assert table.rows[place - 1][:4] == ("yes", DASH, "SSD", "paper")  # above: another width is no row of the paper
    assert marks_of("G-RPN") == (DASH, "yes", "RPN") and base_of("IG-SSD, quick") == "IG-SSD"


def test_average_precision_is_of_each_run(results, tables):
    table = tables["average_precision"]
    assert [row[0] for row in table.rows] == ["Faster R-CNN", "I-SSD, width 8", "RPN", "IG-RPN"]  # the paper's order
    row = dict(zip(table.columns, table.rows[-1], strict=True))
    runs = [[suppressed(case, 0.3) for case in cases] for cases in results[1]["IG-RPN"].values()]
    values = [100 * average_precision(cases).mean() for cases in runs]
    assert (row["Cases"], row["Runs"]) == (6, 2)
    assert row["COCO AP %"].mean == pytest.approx(np.mean(values))
    assert row["COCO AP %"].std == pytest.approx(np.std(values, ddof=1))
    fixed = [100 * average_precision(cases, (0.75,), "voc")[0] for cases in runs]
    assert row["VOC AP75 %"].mean == pytest.approx(np.mean(fixed)) and 1 < np.mean(fixed) < 99
    first = {name: {run: cases} for name, runs in results[1].items() for run, cases in list(runs.items())[:1]}
    alone = face_tables(results[0], first, LANDMARKS)["average_precision"].rows[-1]
    assert alone[3].mean == pytest.approx(values[0]) and np.isnan(alone[3].std)


def test_flaws_are_counted():
    rows, _ = evaluated("IG-RPN", 1.0, seeds=1)
    rows += evaluated("Heatmap", 1.0, seeds=1, boxes=False)[0]
    rows[0] |= {"error_chin_mm": NAN, "missing": 1.0, "error_left_eye_mm": 10.0, "error_right_eye_mm": 11.0,
                "sides_exchanged": 1.0}
    for row in rows:
        row |= {"hit_not_taken": 1.0 if row["case"] == "face_3" else 0.0} if row["method"] == "IG-RPN" else {}
    table = face_tables(rows, {}, LANDMARKS)["flaws"]
    ours = dict(zip(table.columns, table.rows[1], strict=True))
    assert table.rows[1][0] == "IG-RPN" and ours["Cases"] == 6
    assert ours["Missing"].mean == ours["Sides exchanged"].mean == pytest.approx(1 / 6)
    assert ours["Errors of 10 mm or more, %"].mean == pytest.approx(100 * 2 / 4 / 6)
    assert ours["Not the best score"].mean == 2 and ours["Found, not chosen"].mean == pytest.approx(1 / 6)
    heatmap = dict(zip(table.columns, table.rows[0], strict=True))
    assert heatmap["Missing"].mean == 0 and np.isnan(heatmap["Found, not chosen"].mean)
    assert heatmap["Found, not chosen"].undefined == 0
    landmarks = cells(face_tables(rows, {}, LANDMARKS)["landmarks"], "IG-RPN")
    assert (landmarks["Missing"], landmarks["Undefined"], landmarks["chin"].count) == (0, 1, 5)


def test_differences_are_paired_where_both_have_a_value(tables):
    table = tables["differences"]
    rows = {(row[0], row[1]): row[2:] for row in table.rows}
    assert rows["IG-RPN minus RPN", "MRE mm"][0] == 6
    assert rows["IG-RPN minus RPN", "MRE mm"][1].mean < 0 < rows["IG-RPN minus RPN", "mIoU points"][1].mean
    with_heatmap = [metric for variants, metric in rows if "Heatmap" in variants]
    assert set(with_heatmap) == {"MRE mm"} and len(with_heatmap) == 4


def test_other_landmarks_and_single_methods():
    rows, _ = evaluated("mine", 1.0, cases=1, seeds=1)
    rows[0] |= {"time_ms": None, "device": ""}
    tables = face_tables(rows, {}, LANDMARKS, papers=False)
    assert set(tables) == {"table1", "landmarks", "overlaps", "flaws"}
    assert [row[:2] for row in tables["table1"].rows] == [("mine", "ours")] and "Time: of" not in tables["table1"].note
    assert tables["table1"].rows[0][-1] != tables["table1"].rows[0][-1]  # NaN: it was not measured
    del rows[0]["time_ms"], rows[0]["device"]
    assert face_tables(rows, {}, LANDMARKS)["table1"].rows[-1][:2] == ("mine", "ours")  # below the paper's


def test_the_order_is_the_papers_and_every_form_is_written(results, tables):
    names = list(dict.fromkeys(row["method"] for row in in_order(results[0])))
    assert names == ["Faster R-CNN", "I-SSD, width 8", "Heatmap", "RPN", "IG-RPN"]
    for table in tables.values():
        assert all(form(table).count("\n") > len(table.rows) for form in (to_csv, to_markdown, to_latex))
    assert any(isinstance(cell, Summary) for cell in tables["table2"].rows[0])
