"""PCK curves: the percentage of landmarks predicted nearer than a distance, over that distance (pose, Fig. 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tfsono.metrics.landmarks import area_scores
from tfsono.report.plots import png_figure, write_line

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5f6673", "#8c564b")
DASHED = (0, (4, 1.6))
ALL = "all landmarks"
PLAIN = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}  # behind the digits


class Curve(NamedTuple):
    """A method's predictions.

    Attributes:
        errors_mm: [N, K] distances, NaN where a prediction or its reference is missing.
        known: [N, K] bool, where there is a reference; None for everywhere.
        colour: Of its line, unless an earlier one has it; "" for a free one.
        dashed: Whether its line is dashed.
    """

    errors_mm: np.ndarray
    known: np.ndarray | None = None
    colour: str = ""
    dashed: bool = False


def pck_figure(path: str | Path, curves: Mapping[str, Curve], landmarks: Sequence[str], shown: Sequence[str],
               limit_mm: float = 10.0, title: str = "") -> None:
    """Writes a panel for each shown landmark and one for all of them, with the area under each curve in percent.

    The curves are exact: a step at every distance, nothing sampled.

    Args:
        path: Of the PNG.
        curves: Method -> its predictions, in the order of the legend.
        landmarks: [K] names of the columns.
        shown: Those that get a panel.
        limit_mm: End of the axis and of the area.
        title: Above.

    Raises:
        ValueError: A shown name is no landmark, or errors do not have K columns.
    """
    if set(shown) - set(landmarks):
        raise ValueError(f"shown must be landmarks {list(landmarks)}; found {sorted(set(shown) - set(landmarks))}")
    panels = [*shown, ALL]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    looks = curve_looks(curves)
    top, legend = 0.45 if title else 0.1, 0.3 * -(-len(curves) // 4) + 0.15
    with png_figure(path, 4.1 * columns, 3.4 * rows + top + legend) as figure:
        grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            _draw_panel(axes, panel, curves=curves, landmarks=landmarks, looks=looks, limit_mm=limit_mm)
        for axes in grid[len(panels):]:
            axes.set_axis_off()
        handles = [Line2D([], [], color=colour, linestyle=dashes, linewidth=2, label=name)
                   for name, (colour, dashes) in looks.items()]
        figure.legend(handles=handles, loc="lower center", ncols=4, handlelength=3)
        write_line(figure, title, 0.15)
        tall = figure.get_figheight()
        figure.tight_layout(rect=(0, legend / tall, 1, 1 - top / tall))


def curve_looks(curves: Mapping[str, Curve]) -> dict[str, tuple[str, object]]:
    """Colour and dashes of each method's line, all different while the colours last."""
    looks: dict[str, tuple[str, object]] = {}
    for name, curve in curves.items():
        dashes = DASHED if curve.dashed else "solid"
        free = [colour for colour in (curve.colour, *COLOURS) if colour and (colour, dashes) not in looks.values()]
        looks[name] = (free[0] if free else COLOURS[len(looks) % len(COLOURS)], dashes)
    return looks


def pck_steps(errors_mm: np.ndarray, known: np.ndarray, limit_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the exact curve: distances from 0 to the limit, and percent up to each; for `steps-post`."""
    total = np.count_nonzero(known)
    found = np.sort(errors_mm[known & np.isfinite(errors_mm) & (errors_mm < limit_mm)])
    x = np.concatenate([[0.0], found, [limit_mm]])
    y = np.concatenate([[0.0], np.arange(1, len(found) + 1), [len(found)]])
    return x, 100 * y / max(total, 1)


def _draw_panel(axes: Axes, panel: str, curves: Mapping[str, Curve], landmarks: Sequence[str], looks: Mapping,
                limit_mm: float) -> None:
    chosen = slice(None) if panel == ALL else [list(landmarks).index(panel)]
    for number, (name, curve) in enumerate(curves.items()):
        errors, known = _checked(curve, landmarks)
        errors, known = errors[:, chosen].ravel(), known[:, chosen].ravel()
        colour, dashes = looks[name]
        axes.plot(*pck_steps(errors, known, limit_mm), drawstyle="steps-post", color=colour, linestyle=dashes,
                  linewidth=1.6)
        area = 100 * float(area_scores(errors, limit_mm, known)[known].mean()) if known.any() else float("nan")
        text = "–" if np.isnan(area) else f"{area:.1f}"
        axes.text(0.985, 0.03 + 0.066 * (len(curves) - 1 - number), text, color=colour, fontsize=8.5, ha="right",
                  transform=axes.transAxes, fontweight="bold", bbox=PLAIN)
    axes.text(0.985, 0.03 + 0.066 * len(curves), "AUC %", fontsize=8.5, ha="right", transform=axes.transAxes,
              bbox=PLAIN)
    number = "" if panel == ALL else f"L{list(landmarks).index(panel) + 1} "
    axes.set_title(number + panel.replace("_", " "), loc="left")
    axes.set(xlim=(0, limit_mm), ylim=(0, 102), xlabel="distance threshold (mm)", ylabel="PCK (%)")
    axes.grid(color="#e2e2e2", linewidth=0.6)


def _checked(curve: Curve, landmarks: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    errors = np.asarray(curve.errors_mm, np.float64)
    known = np.ones(errors.shape, bool) if curve.known is None else np.asarray(curve.known, bool)
    if errors.ndim != 2 or errors.shape[1] != len(landmarks) or known.shape != errors.shape:
        raise ValueError(f"errors and known must be [N, {len(landmarks)}]; found {errors.shape} and {known.shape}")
    return errors, known
