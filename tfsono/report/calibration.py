"""Whether the confidence of landmarks is true: the reliability diagram and its table; and whether members' spreads are.

Rows are those of cases.csv with `probability_NAME`, `error_NAME_mm` and `limit_mm`; of an ensemble with
`spread_NAME_mm` and `length_spread_..._mm`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from tfsono.metrics.calibration import Bin, brier_score, expected_calibration_error, reliability
from tfsono.report.page import Figure
from tfsono.report.plots import png_figure
from tfsono.report.tables import NAN, Metric, Table, metric_values, summarise

Rows = Sequence[Mapping]

COLOUR, EXACT = "#0072b2", "#888888"
PANELS = 4  # side by side
LOW = 0.5  # as `predict` flags
NOTE = (
    "Of the landmarks with a reference, each in each run: the mean probability of an error below {limit:g} mm, and the "
    "share with one. Brier: the mean squared difference of probability and outcome, and what the share itself gives as "
    "probability of all. ECE: the mean distance of probability and share in ten bins. Flagged: the landmarks below "
    "50 %, of those with a larger and of those with a smaller error. Probabilities are fitted to validation cases.")
SPREAD_NOTE = (
    "Spread: the standard deviation of the members (over one less than their number) around their mean, of points in "
    "three dimensions or of lengths. Errors are the ensemble's, of lengths absolute. Mean ± standard deviation over "
    "cases; rank: Spearman's correlation of the two over the cases.")


def confident(rows: Rows, landmarks: Sequence[str]) -> tuple[np.ndarray, np.ndarray, float]:
    """Of every landmark with both: its probability [N], whether its error is below the limit [N]; and the limit, mm."""
    predicted, errors = (np.concatenate([_values(rows, key.format(name)) for name in landmarks] or [np.zeros(0)])
                         for key in ("probability_{}", "error_{}_mm"))
    limits = _values(rows, "limit_mm")  # NaN of runs without a model, which may share a row with others
    limit = np.concatenate([limits[np.isfinite(limits)], [NAN]])[0]
    known = np.isfinite(predicted) & np.isfinite(errors)
    return predicted[known], errors[known] < limit, float(limit)


def calibration_tables(methods: Mapping[str, Rows], landmarks: Sequence[str]) -> dict[str, Table]:
    """The tables `calibration` and `spread`, as far as the rows have what they need."""
    rows, limit = [], NAN
    for method, group in methods.items():
        predicted, right, own = confident(group, landmarks)
        if len(predicted):
            rows.append((method, *of_landmarks(predicted, right)))
            limit = own
    tables = {"calibration": Table("Confidence of landmarks", (
        "Variant", "Landmarks", "Probability %", "Share %", "Brier", "Brier of the share", "ECE", "Larger flagged %",
        "Smaller flagged %"), tuple(rows), NOTE.format(limit=limit), (None, 0, 1, 1, 3, 3, 3, 1, 1))} if rows else {}
    spreads = [row for method, group in methods.items() for row in _spreads(method, group)]
    if spreads:
        tables["spread"] = Table("Spread of the members", ("Variant", "Members", "Of", "Cases", "Error mm", "Spread mm",
                                                           "Rank"), tuple(spreads), SPREAD_NOTE,
                                 (None, 0, None, 0, 2, 2, 2))
    return tables


def of_landmarks(predicted: np.ndarray, right: np.ndarray) -> tuple[float, ...]:
    """The numbers of a row of `calibration`."""
    share, flagged = right.mean(), predicted < LOW
    parts = [100 * float(flagged[chosen].mean()) if chosen.any() else NAN for chosen in (~right, right)]
    return (len(right), 100 * float(predicted.mean()), 100 * float(share), brier_score(predicted, right),
            float(share * (1 - share)), expected_calibration_error(reliability(predicted, right)), *parts)


def _spreads(method: str, rows: Rows) -> Iterator[tuple]:
    """A row for each landmark and length that has a spread."""
    for key in dict.fromkeys(name for row in rows for name in row if name.startswith(("spread_", "length_spread_"))):
        spread, error = _values(rows, key), np.abs(_values(rows, key.replace("spread", "error", 1)))
        both = np.isfinite(spread) & np.isfinite(error)
        if not both.any():
            continue
        varied = both.sum() > 2 and np.ptp(spread[both]) > 0 and np.ptp(error[both]) > 0
        rank = float(stats.spearmanr(spread[both], error[both]).statistic) if varied else NAN
        words = key.removesuffix("_mm").replace("length_spread", "length", 1).removeprefix("spread_").replace("_", " ")
        yield (method, int(rows[0]["members"]), words, int(both.sum()),
               *(summarise(values[both], interval=False) for values in (error, spread)), rank)


def calibration_figures(path: Path, methods: Mapping[str, Rows], landmarks: Sequence[str]) -> list[Figure]:
    """Writes the reliability diagram, a panel for each method with probabilities; [] without any."""
    found = {method: confident(rows, landmarks) for method, rows in methods.items()}
    found = {method: one for method, one in found.items() if len(one[0])}
    if not found:
        return []
    columns = min(PANELS, len(found))
    rows = -(-len(found) // columns)
    with png_figure(path, 4.2 * columns, 5.0 * rows) as figure:
        grid = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[3, 1] * rows)
        for place in range(rows * columns):
            pair = grid[2 * (place // columns):, place % columns][:2]
            if place < len(found):
                method, (predicted, right, limit) = list(found.items())[place]
                _draw(pair[0], reliability(predicted, right), f"{method}, {len(right)} landmarks", limit)
                _draw_counts(pair[1], predicted, right)
            else:
                pair[0].set_axis_off(), pair[1].set_axis_off()
        figure.tight_layout()
    limit = next(iter(found.values()))[2]
    return [Figure(path, f"Reliability: the share of landmarks with an error below {limit:g} mm, by their predicted "
                   "probability of it, in ten bins; numbers are landmarks, bars Wilson's 95 % intervals as if these "
                   "were independent, the dashed line is perfect. Below: landmarks in each bin, orange those with a "
                   "larger error.")]


def _draw(axes: Axes, bins: Sequence[Bin], title: str, limit: float) -> None:
    axes.plot([0, 1], [0, 1], color=EXACT, linestyle=(0, (4, 2)), linewidth=1)
    x, y = (np.array([getattr(one, name) for one in bins]) for name in ("predicted", "observed"))
    ends = np.abs(np.array([[one.low, one.high] for one in bins]).T - y)
    axes.errorbar(x, y, ends, color=COLOUR, marker="o", markersize=5, linewidth=1.2, capsize=2)
    for one in bins:
        axes.annotate(str(one.count), (one.predicted, one.observed), (6, 4), textcoords="offset points", fontsize=8)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05), ylabel=f"share below {limit:g} mm")
    axes.set_title(title, loc="left", parse_math=False)
    axes.grid(color="#e2e2e2", linewidth=0.6)


def _draw_counts(axes: Axes, predicted: np.ndarray, right: np.ndarray) -> None:
    axes.hist([predicted[right], predicted[~right]], bins=np.linspace(0, 1, 11), stacked=True,
              color=[COLOUR, "#d55e00"])
    axes.set(xlim=(-0.02, 1.02), xlabel="predicted probability", ylabel="landmarks")


def _values(rows: Rows, key: str) -> np.ndarray:
    return metric_values(rows, Metric(key, "", 0))
