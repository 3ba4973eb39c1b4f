"""The figure of `head`: prediction and reference over the image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from tfsono.metrics.head_case import HeadOutline
from tfsono.report.plots import PREDICTION_COLOUR, REFERENCE_COLOUR, png_figure, write_line

WIDTH = 8.0  # inches
LINE = 0.25


def comparison_figure(path: str | Path, pixels: np.ndarray, reference: HeadOutline, found: HeadOutline, title: str = "",
                      lines: Sequence[str] = ()) -> None:
    """Writes an image with the ellipse and points of reference and prediction, and the outline of the predicted mask.

    Args:
        path: of the PNG.
        pixels: [Y, X] grey levels 0..255.
        reference, found: in the image's pixels.
        title: above.
        lines: below, such as the measurements.
    """
    rows, columns = pixels.shape
    tall = float(np.clip(WIDTH * rows / columns, 1.5, 1.5 * WIDTH))
    above, below = LINE + 0.12, LINE * (len(lines) + 1) + 0.12
    height = above + tall + below
    with png_figure(path, WIDTH, height) as figure:
        figure.set_facecolor("black")
        axes = figure.add_axes((0, below / height, 1, tall / height))
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
        if found.mask is not None and found.mask.any() and not found.mask.all():
            axes.contour(found.mask.astype(np.float32), [0.5], colors="#f0e442", linewidths=0.8)
        _draw_head(axes, reference, REFERENCE_COLOUR, 2.2, "+")
        _draw_head(axes, found, PREDICTION_COLOUR, 1.2, "x")
        axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
        axes.set_axis_off()
        write_line(figure, title, 0.12, 0.1, colour="white")
        _legend(figure, found.mask is not None, found.ellipse is not None, above + tall + 0.06)
        for number, line in enumerate(lines, 1):
            write_line(figure, line, left=0.12, below=above + tall + 0.06 + LINE * number, size=10.5, colour="white")


def _draw_head(axes: Axes, head: HeadOutline, colour: str, width: float, marker: str) -> None:
    if head.ellipse is not None:
        axes.plot(*np.vstack([head.ellipse.contour(360), head.ellipse.contour(1)]).T, color=colour, linewidth=width)
    if head.points_px is not None:
        for pair in (head.points_px[:2], head.points_px[2:]):
            axes.plot(*pair.T, color=colour, linewidth=0.5 * width, linestyle=(0, (4, 3)))
        for point, name in zip(head.points_px, ("O1", "O2", "B1", "B2"), strict=True):
            axes.plot(*point, marker, color=colour, markersize=9, markeredgewidth=1.6)
            if marker == "+":
                axes.annotate(name, point, (6, 6), textcoords="offset points", color=colour, fontsize=9,
                              annotation_clip=True)


def _legend(figure, mask: bool, ellipse: bool, below: float) -> None:
    words = [("reference", REFERENCE_COLOUR), ("prediction" if ellipse else "no prediction", PREDICTION_COLOUR)]
    words += [("outline of the predicted mask", "#f0e442")] * mask
    left = 0.12
    for word, colour in words:
        write_line(figure, f"— {word}", left=left, below=below, size=10.5, colour=colour)
        left += 0.5 + 0.1 * len(word)
