"""An image of a head with its prediction: outline, ellipse, the two axes and the numbers.

Images are [Y, X], rows first, and points (x, y), as in every other module of `head`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfsono.files import replacing
from tfsono.geometry.ellipse import Ellipse
from tfsono.report.plots import own_style

# Okabe and Ito's colours, told apart by colour-blind readers too.
OUTLINE, ELLIPSE, OFD, BPD = "#e69f00", "#56b4e9", "#f0e442", "#cc79a7"
WIDTH_INCHES, DOTS_PER_INCH = 8.0, 120
LINE_INCHES = 0.24


def head_overlay(path: str | Path, pixels: np.ndarray, mask: np.ndarray | None, ellipse: Ellipse | None,
                 points_px: np.ndarray | None, lines: Sequence[str] = (), title: str = "") -> None:
    """Writes a PNG of the image with the prediction, and lines of text below it.

    Args:
      path: of the PNG.
      pixels: [Y, X] grey levels 0..255.
      mask: [Y, X] boolean, its outline is drawn; None without one.
      ellipse: in the image's pixels; None where none fits.
      points_px: [4, 2] (x, y), OFD 1, OFD 2, BPD 1, BPD 2; None without them.
      lines: below.
      title: above.
    """
    rows, columns = pixels.shape
    above, below = LINE_INCHES + 0.08, LINE_INCHES * (len(lines) + 1) + 0.1
    tall = min(max(WIDTH_INCHES * rows / columns, 1.0), 2.5 * WIDTH_INCHES)
    height = tall + above + below
    with own_style({"font.family": "DejaVu Sans", "font.size": 10, "text.parse_math": False}):
        figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DOTS_PER_INCH, facecolor="black")
        axes = figure.add_axes((0, below / height, 1, tall / height))
        _draw(axes, pixels, mask, ellipse, points_px)
        _write(figure, title, 1 - 0.6 * above / height)
        for row, line in enumerate(("", *lines)):
            _write(figure, line, (below - LINE_INCHES * (row + 0.6)) / height)
        _legend(figure, mask is not None, ellipse, points_px, (below - LINE_INCHES * 0.6) / height)
        with replacing(path) as partial:
            figure.savefig(partial, format="png", pil_kwargs={"compress_level": 3})


def _draw(axes: Axes, pixels, mask, ellipse: Ellipse | None, points_px) -> None:
    rows, columns = pixels.shape
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    if ellipse is not None:
        outline = ellipse.contour(360)
        axes.plot(*np.vstack([outline, outline[:1]]).T, color=ELLIPSE, linewidth=2.0, zorder=2)
    if mask is not None and mask.any() and not mask.all() and min(mask.shape) > 1:
        # On the ellipse and thinner, so that both are seen where they agree.
        axes.contour(mask.astype(np.float32), [0.5], colors=OUTLINE, linewidths=0.7, zorder=3)
    if points_px is not None:
        for pair, colour in ((points_px[:2], OFD), (points_px[2:], BPD)):
            axes.plot(*pair.T, color=colour, linewidth=1.1, marker="+", markersize=10, markeredgewidth=1.6,
                      zorder=4)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    axes.set_axis_off()


def _legend(figure: Figure, outline: bool, ellipse, points_px, at: float) -> None:
    """The meaning of the colours, in one line."""
    words = [("predicted outline", OUTLINE)] * outline
    words += [("ellipse", ELLIPSE)] * (ellipse is not None)
    words += [("OFD", OFD), ("BPD", BPD)] * (points_px is not None)
    for place, (word, colour) in enumerate(words):
        figure.text(0.015 + 0.17 * place, at, f"— {word}", color=colour, va="center")


def _write(figure: Figure, text: str, at: float) -> None:
    """One line of text, smaller where it would not fit."""
    if text:
        size = min(10.0, 10.0 * 118 / len(text))
        figure.text(0.015, at, text, color="white", va="center", fontsize=size)
