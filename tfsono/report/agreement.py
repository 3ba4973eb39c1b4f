"""Bland and Altman's table and plots: the agreement of measurements with their reference, by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill, shorten
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from tfsono.metrics.agreement import bland_altman
from tfsono.report.rows import case_means
from tfsono.report.plots import label_colour, png_figure, write_line
from tfsono.report.tables import Metric, Table, metric_values


class Measurement(NamedTuple):
    """A measurement: its name, its columns of prediction and reference in `cases.csv`, and their unit."""

    name: str
    found: str
    reference: str
    unit: str


Agreements = Mapping[str, Mapping[Measurement, Mapping]]
"""Method -> measurement -> what `metrics.agreement.bland_altman` gives."""


def agreement(rows: Sequence[Mapping], measurement: Measurement) -> dict:
    """`bland_altman` of one measurement over the cases: the runs' mean prediction against the reference."""
    means = case_means(rows, [measurement.found, measurement.reference])
    found, expected = (metric_values(means, Metric(key, "", 0)) for key in (measurement.found, measurement.reference))
    defined = np.isfinite(found) & np.isfinite(expected)
    return bland_altman(found[defined], expected[defined])


def agreements_of(methods: Mapping[str, Sequence[Mapping]], measurements: Sequence[Measurement]) -> Agreements:
    """Every measurement of every method."""
    return {name: {one: agreement(rows, one) for one in measurements} for name, rows in methods.items()}


def agreement_table(agreements: Agreements) -> Table:
    """Bias, limits and the share inside them; one row a method and measurement."""
    rows = []
    for name, own in agreements.items():
        for measurement, one in own.items():
            rows.append((name, measurement.name, measurement.unit, one["cases"], one["bias"], one["std"], one["lower"],
                         one["upper"], 100 * one["share_inside"]))
    note = ("Prediction minus reference; limits are the bias ± 1.96 standard deviations over the cases. With several "
            "runs in a row the prediction is the mean of their measurements, whose limits are narrower than one run's.")
    headings = ("Method", "Measurement", "Unit", "Cases", "Bias", "Deviation", "Lower limit", "Upper limit", "Inside %")
    return Table("Agreement (Bland and Altman)", headings, tuple(rows), note, (None, None, None, 0, 2, 2, 2, 2, 0))


def agreement_figure(path: str | Path, agreements: Agreements, title: str = "") -> None:
    """Writes Bland and Altman's plots, a row a method and a column a measurement, on one scale a column.

    Args:
        path: of the PNG.
        agreements: of `agreements_of`.
        title: above.
    """
    columns = list(next(iter(agreements.values())))
    with png_figure(path, 3.9 * len(columns), 2.9 * len(agreements) + 0.5) as figure:
        grid = figure.subplots(len(agreements), len(columns), squeeze=False, sharex="col", sharey="col")
        for row, (method, own) in enumerate(agreements.items()):
            for axes, column in zip(grid[row], columns, strict=True):
                axes.set_visible(own[column]["cases"] > 0)  # a method may not predict it
                _panel(axes, own[column], label_colour(row + 1))
                heading = shorten(f"{column.name} ({own[column]['cases']} cases): {method}", 84, placeholder=" ...")
                axes.set_title(fill(heading, 44), fontsize=9.5, parse_math=False)
                axes.set_ylabel(f"prediction minus reference ({column.unit})")
        for axes, column in zip(grid[-1], columns, strict=True):
            axes.set_xlabel(f"mean of prediction and reference ({column.unit})")
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.4 / figure.get_figheight()))
        write_line(figure, title, 0.15)


def _panel(axes: Axes, found: Mapping, colour: str) -> None:
    axes.axhline(0, color="#bbbbbb", linewidth=0.8)
    axes.plot(found["mean"], found["difference"], "o", ms=4, color=colour, mec="#333333", mew=0.4, alpha=0.8)
    for key, dashes in (("bias", "solid"), ("lower", "dashed"), ("upper", "dashed")):
        if np.isfinite(found[key]):
            axes.axhline(found[key], color="#222222", linewidth=1.1, linestyle=dashes)
            axes.annotate(f"{found[key]:+.2f}", (1, found[key]), (-2, 2), xycoords=("axes fraction", "data"),
                          textcoords="offset points", ha="right", fontsize=8, color="#222222")
