"""Histograms of ratios with the normal distributions fitted to them (face, Fig. 3 b-d)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tfsono.report.plots import label_colour, png_figure, write_line

NORMAL_COLOUR = "#d42a35"  # red, as the paper's
REACH = 3.5  # standard deviations of the curve that are shown at least


def ratio_histograms(path: str | Path, values: Mapping[str, np.ndarray], normals: Mapping[str, tuple[float, float]],
                     title: str = "") -> None:
    """Writes a panel for each ratio: a histogram, and the fitted curve scaled to the number of values.

    The paper shows three ratios; this figure shows all.

    Args:
        path: Of the PNG.
        values: Ratio, in words -> [N] values; those that are not finite are excluded and counted.
        normals: Ratio -> mean and standard deviation of the fitted distribution.
        title: Above.

    Raises:
        ValueError: There is no ratio, or one has no fitted distribution.
    """
    if not values or set(values) - set(normals):
        raise ValueError("expected at least one ratio, each with a mean and a deviation; found values of "
                         f"{sorted(values)} and distributions of {sorted(normals)}")
    columns = min(3, len(values))
    rows = -(-len(values) // columns)
    top, legend = 0.45 if title else 0.1, 0.4
    with png_figure(path, max(4.1 * columns, 5.5), 3.3 * rows + top + legend) as figure:
        grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axes, (name, found) in zip(grid, values.items(), strict=False):
            _draw_panel(axes, name, np.asarray(found, np.float64).ravel(), normals[name])
        for axes in grid[len(values):]:
            axes.set_axis_off()
        curve = Line2D([], [], color=NORMAL_COLOUR, linewidth=2, label="fitted normal distribution, mean ± SD")
        figure.legend(handles=[curve], loc="lower center")
        write_line(figure, title, 0.15)
        tall = figure.get_figheight()
        figure.tight_layout(rect=(0, legend / tall, 1, 1 - top / tall))


def edges_of(values: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    """The bins' edges: half a standard deviation wide, with the mean at an edge; the outermost bins include all beyond.

    Bins reach to 3.5 standard deviations, and to six if values do.
    """
    away = np.abs(values - mean).max(initial=0) / deviation
    half = int(np.ceil(2 * np.clip(away, REACH, 6)))
    return mean + deviation * np.arange(-half, half + 1) / 2


def label_of(name: str) -> str:
    """A ratio's name on lines of 46 letters, broken neither inside brackets nor at an equals sign."""
    kept = re.sub(r"\([^)]*\)| = ", lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), name.replace("_", " "))
    return fill(kept, 46, break_long_words=False, break_on_hyphens=False)


def _draw_panel(axes: Axes, name: str, values: np.ndarray, normal: tuple[float, float]) -> None:
    mean, deviation = normal
    known = values[np.isfinite(values)]
    edges = edges_of(known, mean, deviation)
    inside = np.clip(known, edges[0], edges[-1])
    axes.hist(inside, edges, color=label_colour(1), edgecolor="white", linewidth=0.6)
    x = np.linspace(edges[0], edges[-1], 301)
    density = np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
    axes.plot(x, len(known) * (edges[1] - edges[0]) * density, color=NORMAL_COLOUR, linewidth=2)
    axes.set(xlim=(edges[0], edges[-1]), ylabel="faces")
    axes.set_xlabel(label_of(name), parse_math=False)
    axes.xaxis.get_major_locator().set_params(nbins=6)
    beyond = int(np.count_nonzero((known < edges[0]) | (known > edges[-1])))
    lines = [f"n = {len(known)}", *([f"{len(values) - len(known)} undefined"] if len(known) < len(values) else []),
             *([f"{beyond} beyond 6 SD"] if beyond else [])]
    axes.set_title(", ".join(lines), loc="left", fontsize=9)
    axes.set_title(f"{mean:.3f} ± {deviation:.3f}", loc="right", fontsize=9, color=NORMAL_COLOUR)
    axes.yaxis.get_major_locator().set_params(integer=True)
