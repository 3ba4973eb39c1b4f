"""Tables with a column for each landmark: means over the cases, ours and the paper's rows, and the mean of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tfsono.report.tables import NAN, Metric, Summary, Table, metric_values, summarise

NOTE = (
    "Means over the cases; in the last column ± standard deviation over them (95 % bootstrap interval of the mean). "
    "Missing: landmarks without a reference, excluded. Undefined: landmarks without a prediction. "
    "Paper: as printed, measured on the paper's own data, which are not ours."
)


def landmark_table(title: str, ours: Mapping[str, Sequence[Mapping]], paper_rows: Mapping[str, Sequence[float]],
                   columns: Sequence[Metric | tuple], paper_cases: int = 0, note: str = NOTE) -> Table:
    """A row for each of our variants with the paper's of the same name below it, then the paper's others.

    Args:
        title: The table's heading.
        ours: Per variant its cases, each the mean of its runs.
        paper_rows: Per variant what the paper printed, one number a column, in the headings' units.
        columns: `Metric`s or tuples (key, heading, digits[, scale]): one a landmark, and last that of their mean, which
            gets deviation and interval.
        paper_cases: How many cases the paper had.
        note: Below the table.

    Raises:
        ValueError: A paper's row does not have one number a column.
    """
    metrics = [Metric(*column) for column in columns]
    wrong = [name for name, values in paper_rows.items() if len(values) != len(metrics)]
    if wrong:
        raise ValueError(f"the paper's row {wrong[0]!r} must have {len(metrics)} numbers")
    rows = []
    for name, cases in ours.items():
        rows.append(_our_row(name, cases, metrics))
        if name in paper_rows:
            rows.append((name, "paper", paper_cases, None, None, *map(_printed, paper_rows[name])))
    rows += [(name, "paper", paper_cases, None, None, *map(_printed, values)) for name, values in paper_rows.items()
             if name not in ours]
    headings = ("Variant", "Source", "Cases", "Missing", "Undefined", *(metric.heading for metric in metrics))
    return Table(title, headings, tuple(rows), note, (None, None, 0, 0, 0, *(metric.digits for metric in metrics)))


def _our_row(name: str, cases: Sequence[Mapping], metrics: Sequence[Metric]) -> tuple:
    missing, undefined = (round(float(metric_values(cases, Metric(key, "", 0)).sum()))
                          for key in ("missing", "undefined"))
    means = [summarise(metric_values(cases, metric), interval=False) for metric in metrics[:-1]]
    return (name, "ours", len(cases), missing, undefined, *(Summary(cell.mean, count=cell.count) for cell in means),
            replace(summarise(metric_values(cases, metrics[-1])), undefined=0))  # undefined has its own column


def _printed(value: float | None) -> Summary:
    return Summary(NAN if value is None else float(value))
