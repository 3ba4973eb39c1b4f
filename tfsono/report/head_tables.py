"""The tables of `head`: one row a method, the mean of its runs (folds) with their deviation.

Rows are those of `metrics.head_case.head_metrics`, one a test case and run, with `case`, `run` and `method`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from tfsono.report.agreement import Measurement, agreement_table, agreements_of
from tfsono.report.head_sizes import RATES, TRIMESTERS, coverage_table, size_table
from tfsono.report.rows import by_method, case_means
from tfsono.report.tables import (
    NAN, Metric, Probability, Summary, Table, metric_values, paired_table, summarise,
)

Rows = Sequence[Mapping[str, object]]
Methods = Mapping[str, Rows]

LENGTHS = ("bpd", "ofd", "hc")
FOLD_NOTE = (
    "Each run's mean over the test cases, and the mean of these: ± standard deviation over the runs of a method (its "
    "folds), where there are several; in brackets the 95 % bootstrap interval over the cases. Undefined: predictions "
    "that no ellipse fits; they are in no mean of lengths, have a Dice of the ellipses of 0, the image's diagonal as "
    "outline distance, and are detected within no distance. Any order: the ends of a pair in the order that is "
    "nearer; any name: also the longer pair as OFD."
)


def unit_of(rows: Rows) -> str:
    """`mm` where a case has a pixel size, else `px`."""
    return "mm" if np.isfinite([float(row["hc_reference_mm"]) for row in rows]).any() else "px"


def outline_metrics(unit: str) -> tuple[Metric, ...]:
    """Columns of the segmentation's table: the masks' Dice, and the measures of the HC18 challenge."""
    return (Metric("dice_percent", "Dice of masks %", 2), Metric("dsc_percent", "DSC of ellipses %", 2),
            Metric(f"hc_error_{unit}", f"DF {unit}", 2), Metric(f"hc_abs_error_{unit}", f"ADF {unit}", 2),
            Metric(f"hd_{unit}", f"HD {unit}", 2))


def landmark_metrics(unit: str) -> tuple[Metric, ...]:
    """Columns of the landmarks' table; a rate needs millimetres."""
    names = {"ofd_1": "OFD 1", "ofd_2": "OFD 2", "bpd_1": "BPD 1", "bpd_2": "BPD 2"}
    return (Metric(f"mre_{unit}", f"MRE {unit}", 2),
            Metric(f"mre_exchanged_{unit}", f"MRE {unit}, any order", 2),
            Metric(f"mre_renamed_{unit}", f"MRE {unit}, any name", 2),
            *(Metric(*rate) for rate in RATES if unit == "mm"),
            *(Metric(f"{key}_{unit}", f"{name} {unit}", 2) for key, name in names.items()))


def length_metrics(unit: str) -> tuple[Metric, ...]:
    """Columns of the measurements' table: signed and absolute errors of BPD, OFD and HC, `unit` or `percent`."""
    shown = "%" if unit == "percent" else unit
    return tuple(Metric(f"{key}_{kind}_{unit}", f"{key.upper()} {word} {shown}", 2)
                 for key in LENGTHS for kind, word in (("error", "signed"), ("abs_error", "absolute")))


def measurements_of(unit: str) -> tuple[Measurement, ...]:
    """BPD, OFD and HC, for their agreement with the reference."""
    return tuple(Measurement(key.upper(), f"{key}_{unit}", f"{key}_reference_{unit}", unit) for key in LENGTHS)


def compared_metrics(unit: str) -> tuple[Metric, ...]:
    """Columns by which methods are compared pair by pair and by trimester."""
    return (Metric("dsc_percent", "DSC of ellipses %", 2), Metric(f"mre_exchanged_{unit}", f"MRE {unit}, any order", 2),
            *(Metric(f"{key}_abs_error_{unit}", f"{key.upper()} absolute {unit}", 2) for key in LENGTHS))


def by_run(rows: Rows) -> dict[str, list[Mapping]]:
    """The rows of each run, in their order."""
    runs: dict[str, list[Mapping]] = {}
    for row in rows:
        runs.setdefault(str(row["run"]), []).append(row)
    return runs


def fold_summary(rows: Rows, metric: Metric, seed: int = 0) -> Summary:
    """The mean of the runs' means, their deviation (ddof 1), and the interval of the mean over the cases.

    Args:
        rows: of one method, a row a case and run; undefined values are counted, and excluded from every mean.
        metric: the column.
        seed: of the bootstrap.
    """
    values = metric_values(rows, metric)
    means = []
    for group in by_run(rows).values():
        own = metric_values(group, metric)
        if np.isfinite(own).any():
            means.append(float(own[np.isfinite(own)].mean()))
    undefined = int(np.sum(~np.isfinite(values)))
    if not means:
        return Summary(NAN, undefined=undefined)
    cases: dict[str, list[float]] = {}
    for row, value in zip(rows, values, strict=True):
        cases.setdefault(str(row["case"]), []).append(value)
    of_cases = [np.mean([v for v in group if math.isfinite(v)] or [NAN]) for group in cases.values()]
    interval = summarise(of_cases, seed)
    deviation = float(np.std(means, ddof=1)) if len(means) > 1 else NAN
    return Summary(mean=float(np.mean(means)), std=deviation, low=interval.low, high=interval.high,
                   count=len(values) - undefined, undefined=undefined)


def fold_table(title: str, methods: Methods, metrics: Sequence[Metric], note: str = FOLD_NOTE) -> Table:
    """One row a method: how many runs and cases, predictions without an ellipse, and the means of its columns.

    A column that no method has is omitted.
    """
    cells = {name: [fold_summary(rows, metric) for metric in metrics] for name, rows in methods.items()}
    shown = [i for i in range(len(metrics)) if any(cells[name][i].count for name in methods)]
    rows = []
    for name, group in methods.items():
        found = (_without_count(cells[name][i], group) for i in shown)
        cases = len({str(row["case"]) for row in group})
        rows.append((name, len(by_run(group)), cases, int(sum(float(row["undefined"]) for row in group)), *found))
    headings = ("Method", "Runs", "Cases", "Undefined", *(metrics[i].heading for i in shown))
    return Table(title, headings, tuple(rows), note, (None, 0, 0, 0, *(metrics[i].digits for i in shown)))


def _without_count(summary: Summary, rows: Rows) -> Summary:
    """The cell without its count of undefined values where that is the row's."""
    of_row = int(sum(float(row["undefined"]) for row in rows))
    same = summary.undefined == of_row or summary.count == 0
    return Summary(mean=summary.mean, std=summary.std, low=summary.low, high=summary.high, count=summary.count,
                   undefined=0 if same else summary.undefined)


def held_out_table(methods: Methods, unit: str) -> Table | None:
    """The images that every run tests, where runs test different folds: single networks beside their ensemble."""
    tests = [{str(row["case"]) for row in rows} for held in methods.values() for rows in by_run(held).values()]
    common = set.intersection(*tests)
    if not common or all(test == common for test in tests):
        return None
    held = {name: [row for row in rows if str(row["case"]) in common] for name, rows in methods.items()}
    return fold_table("Images held out of all folds", held, compared_metrics(unit))


def trimester_table(methods: Methods, unit: str) -> Table | None:
    """The compared columns by trimester of the reference head circumference; None without millimetres."""
    groups = {}
    for name, rows in methods.items():
        for number, word in enumerate(TRIMESTERS, 1):
            held = [row for row in rows if float(row["trimester"]) == number]
            if held:
                groups[f"{name}, {word}"] = held
    if not groups:
        return None
    note = ("Trimester by the reference head circumference: under 14 weeks, under 28, and from 28 by Hadlock's formula "
            "(1984). " + FOLD_NOTE)
    return fold_table("By trimester", groups, compared_metrics(unit), note)


def difference_table(methods: Methods, unit: str) -> Table:
    """Paired differences of every two methods, over the cases' means of their runs."""
    metrics = compared_metrics(unit)
    means = {name: case_means(rows, [metric.key for metric in metrics]) for name, rows in methods.items()}
    return paired_table("Paired differences", means, metrics)


def uncertainty_table(methods: Methods, unit: str) -> Table | None:
    """The mean deviation over dropout's samples and over members, and its rank correlation with the error.

    None without samples and members.
    """
    rows = []
    for name, group in methods.items():
        for key in LENGTHS:
            for spread in ("dropout", "members"):
                spreads = metric_values(group, Metric(f"{key}_sd_{spread}_{unit}", "", 0))
                errors = metric_values(group, Metric(f"{key}_abs_error_{unit}", "", 0))
                both = np.isfinite(spreads) & np.isfinite(errors)
                if both.sum() > 2:
                    inside = 100 * float((errors[both] <= 1.96 * spreads[both]).mean())
                    rows.append((name, key.upper(), spread, int(both.sum()), float(spreads[both].mean()),
                                 float(errors[both].mean()), inside,
                                 *_rank_correlation(spreads[both], errors[both])))
    if not rows:
        return None
    note = ("Standard deviation of the measurement over passes with dropout on, or over the members of an ensemble, "
            "and the absolute error; within: errors of up to 1.96 deviations, 95 % if these were their size; rho is "
            "Spearman's rank correlation of the two over the predictions.")
    headings = ("Method", "Measurement", "Over", "Predictions", f"Deviation {unit}", f"Absolute error {unit}",
                "Within %", "rho", "p")
    return Table("Uncertainty", headings, tuple(rows), note, (None, None, None, 0, 2, 2, 1, 2, None))


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> tuple[float, Probability]:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return NAN, Probability(NAN)
    found = stats.spearmanr(one, other)
    return float(found.statistic), Probability(float(found.pvalue))


def floor_table(floors_mm: Mapping[str, Sequence[float]]) -> Table:
    """The label floor: how far the reference masks' own ellipses are from the official circumference, in mm."""
    rows = []
    for name, values in floors_mm.items():
        values = np.asarray(values, float)
        rows.append((name, len(values), float(values.mean()), float(np.abs(values).mean()),
                     float(np.abs(values).max())))
    note = "A network trained on the masks cannot be expected to be nearer to the official circumference."
    headings = ("Circumference minus the official one", "Cases", "Mean mm", "Mean absolute mm", "Largest mm")
    return Table("Label floor", headings, tuple(rows), note, (None, 0, 3, 3, 3))


def head_tables(rows: Rows, floors_mm: Mapping[str, Sequence[float]]) -> dict[str, Table]:
    """Every table by the name of its file.

    Args:
        rows: of cases.csv, a row a case and run.
        floors_mm: for `floor_table`; empty without official circumferences.
    """
    unit, methods = unit_of(rows), by_method(rows)
    note = FOLD_NOTE + missing_note(rows, unit)
    tables = {
        "segmentation": fold_table("Head outline", methods, outline_metrics(unit), note),
        "landmarks": fold_table("Landmarks", methods, landmark_metrics(unit), note),
        "measurements": fold_table("Measurements", methods, length_metrics(unit), note),
        "measurements_percent": fold_table("Measurements, percent of the reference", methods, length_metrics("percent"),
                                           note),
        "held_out": held_out_table(methods, unit),
        "trimesters": trimester_table(methods, unit),
        "sizes": size_table(methods),
        "intervals": coverage_table(methods),
        "agreement": agreement_table(agreements_of(methods, measurements_of(unit))),
        "uncertainty": uncertainty_table(methods, unit),
        "differences": difference_table(methods, unit) if len(methods) > 1 else None,
        "label_floor": floor_table(floors_mm) if floors_mm else None,
    }
    return {name: table for name, table in tables.items() if table is not None}


def missing_note(rows: Rows, unit: str) -> str:
    """A sentence on the cases without a pixel size; "" if all have one."""
    cases = {str(row["case"]) for row in rows}
    lacking = {str(row["case"]) for row in rows if not math.isfinite(float(row["hc_reference_mm"]))}
    if not lacking:
        return ""
    if unit == "px":
        return " No case has a pixel size: lengths are pixels, and detection rates in millimetres are not available."
    return f" {len(lacking)} of {len(cases)} cases have no pixel size and are in no mean of millimetres."
