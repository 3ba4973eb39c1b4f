"""The tables of `face`: the paper's Tables 1 and 2 with its rows beside ours, average precision, flaws, differences.

Rows are those of cases.csv: what `tfsono.metrics.face_case` measures, with `method`, `case` and `run`, and with
`time_ms` and `device` where the time of a volume was measured (the median after a warm-up).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tfsono.metrics.detection import (
    IOU_THRESHOLDS, PRINTED_THRESHOLDS, STYLES, CaseDetections, average_precision, class_mean_iou, hit_rate, suppressed,
)
from tfsono.report.landmark_tables import landmark_table
from tfsono.report.rows import by_method
from tfsono.report.rows import case_means
from tfsono.report.tables import (
    DASH, NAN, Metric, Summary, Table, metric_values, paired_table, summarise,
)

Rows = Sequence[Mapping]
Detections = Mapping[str, Mapping[str, Sequence[CaseDetections]]]

PAPER_CASES = 32
PAPER_COLUMNS = ("hit_mean", "hit_35", "hit_50", "hit_75", "mean_iou", "mre_mm", "time_ms")
PAPER_TABLE_1 = {
    "Faster R-CNN": (80.63, 94.38, 81.25, 26.87, 62.87, 4.74, 575),
    "IG-SSD": (80.00, 92.50, 80.00, 22.50, 61.46, 5.21, 449),
    "Heatmap": (None, None, None, None, None, 5.30, 1100),
    "IG-RPN": (82.50, 95.00, 82.50, 27.50, 63.77, 4.38, 515),
}
PAPER_TABLE_2 = {  # I: with IoU-balance, G: with the graph prior, as the paper's own IG
    "SSD": (78.12, 90.00, 78.75, 20.62, 60.29, 5.42, 419),
    "I-SSD": (78.12, 91.25, 78.12, 22.50, 61.31, 5.38, 419),
    "G-SSD": (77.50, 90.62, 77.50, 22.88, 61.10, 5.28, 449),
    "IG-SSD": (80.00, 92.50, 80.00, 22.50, 61.46, 5.21, 449),
    "RPN": (78.12, 95.00, 78.12, 24.37, 62.24, 4.77, 484),
    "I-RPN": (81.25, 95.00, 81.87, 26.87, 63.54, 4.43, 484),
    "G-RPN": (81.25, 95.63, 81.88, 28.13, 63.74, 4.52, 515),
    "IG-RPN": (82.50, 95.00, 82.50, 27.50, 63.77, 4.38, 515),
}
ORDER = ("Faster R-CNN", "SSD", "I-SSD", "G-SSD", "IG-SSD", "Heatmap", "RPN", "I-RPN", "G-RPN", "IG-RPN")
FAR_MM = 10.0
"""From here on an error counts as large."""
COMPARED = (("mre_mm", "MRE mm", 2), ("mean_iou", "mIoU points", 1, 100.0),
            ("hit_50", "AP50 points", 1, 100.0))
HEADINGS = ("AP %", "AP35 %", "AP50 %", "AP75 %", "mIoU %", "d-mean mm", "Time ms")
DIGITS = (2, 2, 2, 2, 2, 2, 0)
NOTE = (
    "AP35, AP50 and AP75 follow the paper and are not average precision: the share of the final boxes, one a landmark "
    "and volume, with at least that IoU. AP is the mean of the shares over .50:.05:.95, as the paper's text defines "
    "it; its printed column cannot be that (IG-RPN's AP50 and AP75 allow 55 at most) and is nearly its AP50. mIoU is "
    "the mean over the landmarks, d-mean the mean radial error (MRE). With several runs (seeds) of a method, their "
    "mean. In brackets the 95 % bootstrap interval over the cases; ± standard deviation over them. Missing: landmarks "
    "without a prediction; they have an IoU of 0 and are in no mean of distances. Paper: as printed, measured on the "
    "paper's own data, which are not ours."
)
SUPPRESSED_ABOVE = 0.3
"""IoU of two candidates of which average precision counts the better one alone."""
PRECISION_NOTE = (
    "Average precision of all candidates of a prediction, with their scores, of which none overlaps a better one by an "
    f"IoU above {SUPPRESSED_ABOVE:g}: the mean over the landmarks. COCO: "
    "precision at 101 recalls, at most 100 candidates of a landmark and volume, at the IoUs .50:.05:.95 (AP) and at "
    "the one named; VOC: all points of the curve. With several runs, mean ± standard deviation over the runs. The "
    "prior changes neither boxes nor scores: rows with and without it have the same values where the candidates are "
    "the same."
)
LANDMARK_NOTE = (
    "Means over the cases, each the mean of its runs; in the last column ± standard deviation over them (95 % "
    "bootstrap interval of the mean). Missing: landmarks without a reference, excluded. Undefined: landmarks without "
    "a prediction; they have no distance, and an IoU of 0."
)
FLAWS = (("without_prediction", "Missing", 2), ("sides_exchanged", "Sides exchanged", 2),
         ("far", f"Errors of {FAR_MM:g} mm or more, %", 1, 100.0), ("second_taken", "Not the best score", 2),
         ("hit_not_taken", "Found, not chosen", 2), ("lowest_score", "Lowest score", 2))
FLAWS_NOTE = (
    "Means over the cases, each the mean of its runs, ± standard deviation over them (95 % bootstrap interval), of "
    "landmarks in a case. Sides exchanged: pairs of which both ends are nearer to the other's reference. Not the best "
    "score: the prior chose a candidate other than the one with the highest score. Found, not chosen: the prediction "
    "overlaps the reference by less than 0.5 or is missing, and a candidate overlaps it by more. A dash: not "
    "applicable."
)


def face_tables(rows: Rows, detections: Detections, names: Sequence[str], papers: bool = True) -> dict[str, Table]:
    """All tables by the names of their files.

    Args:
        rows: Of cases.csv; runs that differ in the seed alone share a `method`. Methods are named as the keys of
            `PAPER_TABLE_1` and `PAPER_TABLE_2`; anything after a comma (a width, a preset) omits the paper's row.
        detections: Method -> run -> candidates and references of each case. Methods without boxes are absent; without
            any the table `average_precision` is omitted.
        names: The landmarks.
        papers: Whether the landmarks are the paper's, so that its rows are shown beside ours.
    """
    methods = by_method(in_order(rows))
    means = means_of(rows, names)
    first = {name: group for name, group in methods.items()
             if base_of(name) in PAPER_TABLE_1 or base_of(name) not in PAPER_TABLE_2}
    second = {name: group for name, group in methods.items() if base_of(name) in PAPER_TABLE_2}
    boxed = {name: cases for name, cases in means.items() if np.isfinite([case["mean_iou"] for case in cases]).any()}
    detected = {name: detections[name] for name in methods if detections.get(name)}
    note = NOTE + time_note(rows)
    tables = {
        "table1": paper_table("Table 1. Comparison among methods", first, means=means, names=names,
                              printed=PAPER_TABLE_1 if papers else {}, note=note),
        "table2": marked(paper_table("Table 2. IoU-balance loss and graph prior", second, means=means, names=names,
                                     printed=PAPER_TABLE_2 if papers else {}, note=note)) if second else None,
        "average_precision": precision_table(detected) if detected else None,
        "landmarks": landmark_table("Distance to the reference, mm", means, {}, landmark_columns(names, "error"),
                                    note=LANDMARK_NOTE),
        "overlaps": landmark_table("IoU of the final box, %", boxed, {}, landmark_columns(names, "iou"),
                                   note=LANDMARK_NOTE) if boxed else None,
        "flaws": flaws_table(means),
        "differences": difference_table(means) if len(means) > 1 else None,
    }
    return {stem: table for stem, table in tables.items() if table is not None}


# --- names --------------------------------------------------------------------------------------------------


def base_of(method: str) -> str:
    """The paper's part of a method's name."""
    return method.split(",")[0].strip()


def in_order(rows: Rows) -> list[Mapping]:
    """The rows with the methods in the order of the paper's tables; others after them, in their own order."""
    return sorted(rows, key=lambda row: _place(row["method"]))


def _place(method: str) -> tuple[int, bool]:
    """The paper's order, a plain name before one with more after the comma."""
    return ORDER.index(base_of(method)) if base_of(method) in ORDER else len(ORDER), method not in ORDER


def marks_of(method: str) -> tuple[str, str, str]:
    """Whether a row of Table 2 has IoU-balance and prior ("yes" or a dash), and its name without I and G."""
    letters, hyphen, _ = base_of(method).rpartition("-")
    return (*("yes" if letter in letters else DASH for letter in "IG"), method.removeprefix(letters + hyphen))


def marked(table: Table) -> Table:
    """The table with the columns of `marks_of` before the others, as the paper prints it."""
    rows = tuple((*marks_of(row[0]), *row[1:]) for row in table.rows)
    return Table(table.title, ("IoU-balance", "Prior", *table.columns), rows, table.note, (None, None, *table.digits))


# --- Tables 1 and 2 -----------------------------------------------------------------------------------------


def paper_table(title: str, methods: Mapping[str, Rows], means: Mapping[str, Rows], names: Sequence[str],
                printed: Mapping[str, Sequence], note: str = NOTE) -> Table:
    """A row for each of our methods with the paper's of the same name below it, in the paper's order."""
    rows = []
    for name in sorted(dict.fromkeys((*methods, *printed)), key=_place):
        if name in methods:
            rows.append((name, "ours", *_our_cells(methods[name], means[name], names)))
        if name in printed:
            rows.append(_paper_row(name, printed[name]))
    headings = ("Method", "Source", "Cases", "Runs", "Missing", *HEADINGS)
    return Table(title, headings, tuple(rows), note, (None, None, 0, 0, 0, *DIGITS))


def _paper_row(name: str, values: Sequence) -> tuple:
    cells = [Summary(NAN) if value is None else Summary(float(value), count=PAPER_CASES) for value in values[:-1]]
    return (name, "paper", PAPER_CASES, None, None, *cells, values[-1])


def _our_cells(rows: Rows, means: Rows, names: Sequence[str]) -> tuple:
    """Cases, runs, missing landmarks (of all runs), and the columns of the paper."""
    runs = by_run(rows)
    missing = round(sum(float(row["missing"]) for row in rows))
    ious = [_ious(group, names) for group in runs.values()]
    rates = np.array([[hit_rate(run, IOU_THRESHOLDS).mean(), *hit_rate(run, PRINTED_THRESHOLDS)] for run in ious])
    cells = [_with_interval(float(value), means, key) for value, key in zip(rates.mean(axis=0), PAPER_COLUMNS)]
    cells.append(_with_interval(float(np.mean([class_mean_iou(run) for run in ious])), means, "mean_iou"))
    distance = summarise(metric_values(means, Metric("mre_mm", "", 2)))
    cells.append(Summary(distance.mean, distance.std, distance.low, distance.high, distance.count))
    return (len(means), len(runs), missing, *cells, _time_ms(runs))


def _with_interval(share: float, means: Rows, key: str) -> Summary:
    """A share in percent, with the interval over the cases."""
    cases = summarise(metric_values(means, Metric(key, "", 2, 100.0)))
    return Summary(100 * share, NAN, cases.low, cases.high, cases.count)


def _ious(rows: Rows, names: Sequence[str]) -> np.ndarray:
    """[N, K]; 0 where the prediction is missing, NaN without a reference."""
    return np.array([[float(row[f"iou_{name}"]) for name in names] for row in rows]).reshape(-1, len(names))


def by_run(rows: Rows) -> dict[str, list[Mapping]]:
    """The rows of each run of a method, in their order."""
    runs: dict[str, list[Mapping]] = {}
    for row in rows:
        runs.setdefault(str(row["run"]), []).append(row)
    return runs


def _time_ms(runs: Mapping[str, Rows]) -> float:
    """The mean over the runs of the time of a volume; NaN where it was not measured.

    A resumed evaluation measures the time again: of a run's rows the median.
    """
    measured = (metric_values(group, Metric("time_ms", "", 0)) for group in runs.values())
    times = [float(np.median(values[np.isfinite(values)])) for values in measured if np.isfinite(values).any()]
    return float(np.mean(times)) if times else NAN


def time_note(rows: Rows) -> str:
    """The device of the timing; "" without timing."""
    timed = np.isfinite(metric_values(rows, Metric("time_ms", "", 0)))
    devices = sorted({str(row.get("device") or "an unnamed device")
                      for row, known in zip(rows, timed, strict=True) if known})
    if not devices:
        return ""
    return f" Time: median of a volume after a warm-up, on {'; '.join(devices)}; the paper does not name its device."


# --- average precision --------------------------------------------------------------------------------------


def precision_table(detections: Detections) -> Table:
    """A row for each method: COCO's and VOC's average precision, the mean over its runs."""
    headings = [f"{style.upper()} {name} %" for style in STYLES for name in ("AP", "AP35", "AP50", "AP75")]
    rows = []
    for method, runs in detections.items():
        values = np.array([_precisions(cases) for cases in runs.values()])
        deviations = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], NAN)
        cells = [Summary(100 * float(mean), 100 * float(deviation), count=len(values))
                 for mean, deviation in zip(values.mean(axis=0), deviations, strict=True)]
        first = next(iter(runs.values()))
        rows.append((method, len(first), len(runs), *cells))
    return Table("Average precision of all candidates", ("Method", "Cases", "Runs", *headings), tuple(rows),
                 PRECISION_NOTE, (None, 0, 0, *(2,) * len(headings)))


def _precisions(cases: Sequence[CaseDetections]) -> list[float]:
    """AP, AP35, AP50, AP75 of each style."""
    values: list[float] = []
    cases = [suppressed(case, SUPPRESSED_ABOVE) for case in cases]
    for style in STYLES:
        found = average_precision(cases, (*IOU_THRESHOLDS, *PRINTED_THRESHOLDS), style)
        values += [float(found[:len(IOU_THRESHOLDS)].mean()), *map(float, found[len(IOU_THRESHOLDS):])]
    return values


# --- cases --------------------------------------------------------------------------------------------------


def landmark_columns(names: Sequence[str], kind: str) -> list[tuple]:
    """A column a landmark and their mean: `error`, millimetres, or `iou`, percent."""
    if kind == "error":
        return [*((f"error_{name}_mm", name.replace("_", " "), 2) for name in names), ("mre_mm", "MRE mm", 2)]
    return [*((f"iou_{name}", name.replace("_", " "), 1, 100.0) for name in names),
            ("mean_iou", "Mean %", 1, 100.0)]


def means_of(rows: Rows, names: Sequence[str]) -> dict[str, list[dict]]:
    """Method -> a row a case, the mean over its runs.

    As in the shared tables `missing` are landmarks without a reference, and `undefined` (the sum of the runs) those
    without a prediction, whose mean is `without_prediction`.
    """
    keys = [column[0] for kind in ("error", "iou") for column in landmark_columns(names, kind)]
    keys += ["hit_mean", "hit_35", "hit_50", "hit_75", "missing", "without_prediction", "far", "sides_exchanged",
             "second_taken", "hit_not_taken", "lowest_score"]
    longer = [_longer(row, names) for row in in_order(rows)]
    return {method: case_means(group, keys) for method, group in by_method(longer).items()}


def _longer(row: Mapping, names: Sequence[str]) -> dict:
    """The row with the share of large errors, the lowest score, and the keys of the shared tables."""
    errors, scores = (np.array([float(row[key.format(name)]) for name in names])
                      for key in ("error_{}_mm", "score_{}"))
    errors, scores = errors[np.isfinite(errors)], scores[np.isfinite(scores)]
    return {**row, "far": float((errors >= FAR_MM).mean()) if errors.size else NAN,
            "lowest_score": float(scores.min()) if scores.size else NAN,
            "without_prediction": row["missing"], "undefined": row["missing"], "missing": row["without_reference"]}


def flaws_table(means: Mapping[str, Rows]) -> Table:
    """Missing landmarks, exchanged sides, large errors, and choices among candidates; a row a method."""
    metrics = [Metric(*flaw) for flaw in FLAWS]
    rows = [(name, len(cases), *(_unless_none(summarise(metric_values(cases, metric))) for metric in metrics))
            for name, cases in means.items()]
    return Table("Where predictions fail", ("Method", "Cases", *(metric.heading for metric in metrics)),
                 tuple(rows), FLAWS_NOTE, (None, 0, *(metric.digits for metric in metrics)))


def _unless_none(summary: Summary) -> Summary:
    return summary if summary.count else Summary(NAN)


def difference_table(means: Mapping[str, Rows]) -> Table:
    """Every two methods on the same cases, in the metrics that both have."""
    table = paired_table("Paired differences", means, COMPARED)
    return replace(table, rows=tuple(row for row in table.rows if row[2]))
