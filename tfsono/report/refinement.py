"""When the refinement of a test volume helps: by iteration, initial error and distance to the atlas set.

Rows are those of cases.csv of refined predictions, with `mre_mm`, `initial_mm` (the MRE before), `atlas_mm` (the mean
distance of a landmark of the reference pose to that of the nearest atlas, registered to it), and
`iteration_0_mm`, `iteration_1_mm` ...; and of each landmark `error_NAME_mm` and `initial_NAME_mm`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from tfsono.metrics.agreement import paired_wilcoxon
from tfsono.report.plots import png_figure, write_line
from tfsono.report.tables import NAN, Metric, Probability, Table, metric_values, summarise

Rows = Sequence[Mapping[str, object]]
INITIAL_MM = (2.5, 5.0, 10.0)
"""Limits between groups of initial errors."""

BETTER, WORSE = "#0072b2", "#d55e00"
NOTE = (
    "Number: predictions (one run on one case) or landmarks of the group, and the shares of them that improved and "
    "worsened. The errors are means over cases, each the mean of its values in the group; change: after minus before, "
    "mean ± standard deviation (95 % bootstrap interval), less is better; p of the two-sided paired Wilcoxon "
    "signed-rank test, not corrected for the number of tests. In groups by initial error, part of the change is "
    "regression to the mean. Distance to the atlas set: from the reference pose to the nearest atlas registered to "
    "it, mean of its landmarks; thirds of the predictions."
)


def benefit_table(methods: Mapping[str, Rows], landmarks: Sequence[str], title: str = "Refinement: before and after",
                  seed: int = 0) -> Table:
    """Errors before and after in every group of predictions, by initial error and by distance to the atlas set.

    Args:
        methods: Refined method -> its rows.
        landmarks: Names, for the groups of landmarks.
        title: Of the table.
        seed: Of the bootstrap.
    """
    rows = []
    for method, predictions in methods.items():
        before, after = (_values(predictions, key) for key in ("initial_mm", "mre_mm"))
        cases = np.array([str(row["case"]) for row in predictions])
        groups = [("all", np.ones(len(predictions), bool)), *_by_limits(before, INITIAL_MM, "initial error"),
                  *_by_thirds(_values(predictions, "atlas_mm"), "distance to the atlas set")]
        rows += [_group_row((method, "predictions", name), before[chosen], after[chosen], cases[chosen], seed)
                 for name, chosen in groups]
        before, after = (np.concatenate([_values(predictions, f"{word}_{name}_mm") for name in landmarks])
                         for word in ("initial", "error"))
        cases = np.tile(cases, len(landmarks))
        rows += [_group_row((method, "landmarks", name), before[chosen], after[chosen], cases[chosen], seed)
                 for name, chosen in _by_limits(before, INITIAL_MM, "initial error")]
    columns = ("Variant", "Of", "Group", "Number", "Cases", "Before mm", "After mm", "Change mm", "Better %", "Worse %",
               "p")
    return Table(title, columns, tuple(rows), NOTE, (None, None, None, 0, 0, 2, 2, 2, 0, 0, None))


def _group_row(names: tuple[str, ...], before: np.ndarray, after: np.ndarray, cases: np.ndarray, seed: int) -> tuple:
    both = np.isfinite(before) & np.isfinite(after)
    before, after, cases = before[both], after[both], cases[both]
    if not len(before):
        return (*names, 0, 0, NAN, NAN, summarise([]), NAN, NAN, Probability(NAN))
    change = after - before
    # A case gives one value to the group: its landmarks and runs are not independent.
    first, last = (np.array([values[cases == case].mean() for case in np.unique(cases)]) for values in (before, after))
    return (*names, len(before), len(first), float(first.mean()), float(last.mean()), summarise(last - first, seed),
            100 * float((change < 0).mean()), 100 * float((change > 0).mean()),
            Probability(paired_wilcoxon(last, first)))


def _by_limits(values: np.ndarray, limits: Sequence[float], what: str) -> list[tuple[str, np.ndarray]]:
    """Groups between limits: the lower one included, the upper one excluded."""
    ends = [0.0, *limits, np.inf]
    names = [f"under {limits[0]:g}", *(f"{low:g} to {high:g}" for low, high in zip(limits, limits[1:])),
             f"{limits[-1]:g} and more"]
    return [(f"{what} {name} mm", (values >= low) & (values < high))
            for name, low, high in zip(names, ends[:-1], ends[1:], strict=True)]


def _by_thirds(values: np.ndarray, what: str) -> list[tuple[str, np.ndarray]]:
    """The nearest, middle and farthest third; none for fewer than three values or equal ones."""
    known = values[np.isfinite(values)]
    if len(known) < 3 or np.ptp(known) == 0:
        return []
    low, high = np.quantile(known, (1 / 3, 2 / 3))
    return [(f"{what} up to {low:.1f} mm", values <= low),
            (f"{what} {low:.1f} to {high:.1f} mm", (values > low) & (values <= high)),
            (f"{what} above {high:.1f} mm", values > high)]


def refinement_figure(path: str | Path, methods: Mapping[str, Rows], title: str = "") -> None:
    """Writes, a row for each refined method: errors by iteration, and the change by initial error and atlas distance.

    Args:
        path: Of the PNG.
        methods: Refined method -> its rows.
        title: Above.
    """
    top = 0.45 if title else 0.1
    with png_figure(path, 13, 3.6 * len(methods) + top) as figure:
        grid = figure.subplots(len(methods), 3, squeeze=False)
        for line, (method, rows) in zip(grid, methods.items(), strict=True):
            change = _values(rows, "mre_mm") - _values(rows, "initial_mm")
            _draw_iterations(line[0], rows, change)
            _draw_change(line[1], _values(rows, "initial_mm"), change, "mean error before (mm)")
            _draw_change(line[2], _values(rows, "atlas_mm"), change, "distance to the atlas set (mm)")
            line[0].set_title(f"{method}, {len(rows)} predictions", loc="left", parse_math=False)
        write_line(figure, title, 0.15)
        figure.tight_layout(rect=(0, 0, 1, 1 - top / figure.get_figheight()))


def iteration_errors(rows: Rows) -> np.ndarray:
    """[N, T + 1] the mean error before the first step and after each; [N, 0] without any."""
    count = 0
    while rows and f"iteration_{count}_mm" in rows[0]:
        count += 1
    return np.stack([_values(rows, f"iteration_{step}_mm") for step in range(count)], 1) if count else np.zeros(
        (len(rows), 0))


def _draw_iterations(axes: Axes, rows: Rows, change: np.ndarray) -> None:
    """Every prediction as a thin line, coloured by better or worse at the end, and their mean."""
    errors = iteration_errors(rows)
    for line, worse in zip(errors, change > 0, strict=True):
        axes.plot(line, color=WORSE if worse else BETTER, linewidth=0.7, alpha=0.45)
    whole = errors[np.isfinite(errors).all(axis=1)]
    if whole.size:
        axes.plot(whole.mean(axis=0), color="#222222", linewidth=2.4, marker="o", markersize=4, label="mean")
        axes.legend(loc="upper right")
    axes.set(xlabel="iteration", ylabel="mean error (mm)")
    axes.set_ylim(bottom=0)
    axes.grid(color="#e2e2e2", linewidth=0.6)


def _draw_change(axes: Axes, x: np.ndarray, change: np.ndarray, what: str) -> None:
    known = np.isfinite(x) & np.isfinite(change)
    x, change = x[known], change[known]
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.scatter(x, change, s=16, c=np.where(change > 0, WORSE, BETTER), alpha=0.75, linewidths=0)
    axes.set(xlabel=what, ylabel="change (mm), below 0 is better")
    if len(x) > 2 and np.ptp(x) > 0 and np.ptp(change) > 0:
        rank = stats.spearmanr(x, change)
        text = f"Spearman's rank correlation {rank.statistic:.2f}, p {rank.pvalue:.2g}"
        axes.set_title(text, loc="right", fontsize=9)
    axes.grid(color="#e2e2e2", linewidth=0.6)


def _values(rows: Rows, key: str) -> np.ndarray:
    return metric_values(rows, Metric(key, "", 0))
