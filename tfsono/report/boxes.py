"""Landmarks as boxes over slices: Fig. 4 of the face paper, and a prediction.

Arrays and boxes are on one LPS grid; a box is two corners (x0, y0, z0, x1, y1, z1) in voxel-centre indices, NaN where
there is none. A box that a slice cuts has a full line; one in front of or behind the slice a pale, thin one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from tfsono.geometry.boxes import box_sides
from tfsono.report.plots import PLANES, Plane, label_colour, png_figure, write_line

REFERENCE_COLOUR, FOUND_COLOUR = "#ff453a", "#4f97ff"  # red and blue as in the paper, light enough for an image
PALE = 0.45
FULL_LINE, PALE_LINE = 1.7, 0.8
DASHES = (0, (3, 2))
WIDE, TALL, GAP = 9.6, 3.4, 0.1  # inches: of three slices together, of the tallest at most, between them
KEY_LINE = 0.22


class Look(NamedTuple):
    """How a box is drawn."""

    colour: str
    style: object = "solid"
    mark: str = ""


class BoxPanel(NamedTuple):
    """A prediction over three slices.

    Attributes:
        title: Above it; one line.
        image: [X, Y, Z].
        spacing_mm: Of the three axes.
        at_vox: [3] where the slices cut, such as a landmark.
        boxes_vox: [K, 6] predicted.
        references_vox: [K, 6].
    """

    title: str
    image: np.ndarray
    spacing_mm: Sequence[float]
    at_vox: Sequence[float]
    boxes_vox: np.ndarray
    references_vox: np.ndarray


def boxes_figure(path: str | Path, panels: Sequence[BoxPanel], title: str = "", names: Sequence[str] = ()) -> None:
    """Writes reference (red) and predicted (blue) boxes in three orthogonal slices, a row a prediction (Fig. 4).

    Args:
        path: Of the PNG.
        panels: Top down: methods on one case, or several cases. A box carries its landmark's number.
        title: Above.
        names: The landmarks, for the key below; () for none.
    """
    scales = [_scale(panel.image.shape, panel.spacing_mm) for panel in panels]
    talls = [_tallest(panel.image.shape, panel.spacing_mm) * scale for panel, scale in zip(panels, scales, strict=True)]
    numbers = "   ".join(f"{number} {_words(name)}" for number, name in enumerate(names, 1))
    key = ["Red: reference, blue: prediction, each with its centre; pale: in front of or behind the slice.",
           *[numbers] * bool(names)]
    top = 0.45 if title else 0.1
    height = top + sum(talls) + 0.34 * len(panels) + KEY_LINE * len(key) + 0.15
    with png_figure(path, WIDE + 2 * GAP, height) as figure:
        write_line(figure, title, 0.12)
        above = top
        for panel, scale, tall in zip(panels, scales, talls, strict=True):
            write_line(figure, panel.title, 0.12, above + 0.04, 10)
            _draw_panel(figure, panel, scale, above + 0.28)
            above += tall + 0.34
        for number, line in enumerate(key):
            write_line(figure, line, 0.12, below=above + 0.04 + KEY_LINE * number, size=9, colour="#444444")


def face_preview(path: str | Path, volume: np.ndarray, points_vox: np.ndarray, boxes_vox: np.ndarray | None,
                 spacing_mm: Sequence[float], names: Sequence[str], title: str = "",
                 candidates: np.ndarray | None = None) -> None:
    """Writes a prediction: the boxes with their landmarks' names in three orthogonal slices.

    Each slice is where it cuts the boxes best (`best_place`).

    Args:
        path: Of the PNG.
        volume: [X, Y, Z], LPS.
        points_vox: [K, 3], NaN for a missing one, named in the key.
        boxes_vox: [K, 6]; None, or boxes without sides, for a method without boxes.
        spacing_mm: Of the three axes.
        names: [K].
        title: A heading, such as the file's name.
        candidates: [K, N, 6], dashed where they are not the landmark's box; None for none.
    """
    points = np.asarray(points_vox, np.float64)
    boxes = np.full((len(names), 6), np.nan) if boxes_vox is None else np.array(boxes_vox, np.float64)
    boxes[~(box_sides(boxes) > 0).all(axis=1)] = np.nan
    others = _others(boxes, candidates)
    scale = _scale(volume.shape, spacing_mm)
    tall = _tallest(volume.shape, spacing_mm) * scale
    key = _key(points, boxes, names, bool(len(others)))
    top = 0.4 if title else 0.1
    with png_figure(path, WIDE + 2 * GAP, top + tall + KEY_LINE * len(key) + 0.2) as figure:
        figure.set_facecolor("black")
        write_line(figure, title, 0.12, 0.1, colour="white")
        left = GAP
        for plane in PLANES:
            place = best_place(boxes, points, plane.cut, volume.shape[plane.cut])
            axes, wide = _slice_axes(figure, volume, spacing_mm, plane, (place, left, top, scale))
            for number, box in others:
                _draw_box(axes, box, spacing_mm=spacing_mm, plane=plane, place=place,
                          look=Look(label_colour(number + 1), DASHES))
            for number, box in enumerate(boxes):
                look = Look(label_colour(number + 1), mark=_words(names[number]))
                _draw_box(axes, box, spacing_mm=spacing_mm, plane=plane, place=place, look=look)
            _draw_points(axes, points, spacing_mm=spacing_mm, plane=plane, place=place, count=len(names))
            left += wide + GAP
        _write_key(figure, key, top + tall + 0.08)


def best_place(boxes_vox: np.ndarray, points_vox: np.ndarray, axis: int, count: int) -> int:
    """The index along an axis of `count` voxels at which a slice passes through many boxes, near their middles.

    A box counts 1 in its middle and less towards its faces. Without boxes it is the points' middle, without points
    the volume's.
    """
    boxes, points = (each[np.isfinite(each).all(axis=1)] for each in (boxes_vox, points_vox))
    places = np.arange(count)
    middle = points[:, axis].mean() if len(points) else (count - 1) / 2
    centres, halves = (boxes[:, axis, None] + boxes[:, axis + 3, None]) / 2, np.ptp(boxes[:, axis::3], axis=1) / 2
    depth = np.clip(1 - np.abs(places - centres) / np.maximum(halves[:, None], 1e-9), 0, 1).sum(axis=0)
    best = np.flatnonzero(depth >= depth.max() - 1e-9)
    return int(best[np.argmin(np.abs(best - middle))])


def _others(boxes: np.ndarray, candidates: np.ndarray | None) -> list[tuple[int, np.ndarray]]:
    """The candidates that are not the landmark's box, with the landmark's place."""
    if candidates is None:
        return []
    return [(number, np.asarray(box, np.float64)) for number, group in enumerate(candidates) for box in group
            if (box_sides(np.asarray(box)) > 0).all() and not np.allclose(box, boxes[number], atol=1e-3)]


def _words(name: str) -> str:
    return name.replace("_", " ")


# --- drawing ------------------------------------------------------------------------------------------------


def _scale(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Inches a millimetre, so that three slices stand side by side."""
    sides = np.multiply(shape, spacing_mm)
    wide = sum(sides[plane.right] for plane in PLANES)
    return float(min((WIDE - 2 * GAP) / wide, TALL / _tallest(shape, spacing_mm)))


def _tallest(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Millimetres of the tallest of the three slices."""
    return float(max(shape[plane.side] * spacing_mm[plane.side] for plane in PLANES))


def _draw_panel(figure: Figure, panel: BoxPanel, scale: float, above: float) -> None:
    left = GAP
    for plane in PLANES:
        place = int(np.clip(round(float(panel.at_vox[plane.cut])), 0, panel.image.shape[plane.cut] - 1))
        axes, wide = _slice_axes(figure, panel.image, panel.spacing_mm, plane, (place, left, above, scale))
        pairs = zip(np.asarray(panel.references_vox, np.float64), np.asarray(panel.boxes_vox, np.float64), strict=True)
        for number, (reference, found) in enumerate(pairs, 1):
            lost = str(number) if not np.isfinite(found).all() else ""  # the reference carries the number then
            _draw_box(axes, reference, spacing_mm=panel.spacing_mm, plane=plane, place=place,
                      look=Look(REFERENCE_COLOUR, mark=lost), centre=True)
            _draw_box(axes, found, spacing_mm=panel.spacing_mm, plane=plane, place=place,
                      look=Look(FOUND_COLOUR, mark=str(number)), centre=True)
        left += wide + GAP


def _slice_axes(figure: Figure, image: np.ndarray, spacing_mm: Sequence[float], plane: Plane,
                place: tuple[int, float, float, float]) -> tuple[Axes, float]:
    """Axes in millimetres with the grey slice, and their width in inches.

    `place` is the slice's index, its inches from the left and from above, and inches a millimetre.
    """
    index, left, above, scale = place
    width, height = figure.get_size_inches()
    right, side = ((-0.5 * spacing_mm[axis], (image.shape[axis] - 0.5) * spacing_mm[axis])
                   for axis in (plane.right, plane.side))
    wide, tall = scale * (right[1] - right[0]), scale * (side[1] - side[0])
    axes = figure.add_axes((left / width, 1 - (above + tall) / height, wide / width, tall / height))
    low, high = np.percentile(image, (0.5, 99.5))
    axes.imshow(np.take(image, index, axis=plane.cut).T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6),
                origin="lower", extent=(*right, *side), interpolation="bilinear", aspect="auto")
    axes.set(xlim=right, ylim=side[::-1] if plane.down else side)
    axes.set_axis_off()
    _write(axes, 0.02, y=0.02, text=f"{'xyz'[plane.cut]} = {index * spacing_mm[plane.cut]:.0f} mm", colour="white",
           align="bottom")
    return axes, wide


def _write(axes: Axes, x: float, y: float, text: str, colour: str, align: str) -> None:
    """A small text at a place in shares of the axes."""
    axes.text(x, y, text, color=colour, fontsize=7, ha="left", va=align, transform=axes.transAxes, zorder=9,
              parse_math=False, path_effects=[withStroke(linewidth=1.5, foreground="black")])


def _draw_box(axes: Axes, box_vox: np.ndarray, spacing_mm: Sequence[float], plane: Plane, place: int, look: Look,
              centre: bool = False) -> None:
    """A box as its slice shows it, with its mark and, with `centre`, its centre; a box with NaN is skipped."""
    if not np.isfinite(box_vox).all():
        return
    cut = bool(box_vox[plane.cut] <= place <= box_vox[plane.cut + 3])
    x0, y0, x1, y1 = (box_vox[axis + end] * spacing_mm[axis] for end in (0, 3) for axis in (plane.right, plane.side))
    line = {"linewidth": FULL_LINE if cut else PALE_LINE, "linestyle": look.style, "alpha": 1 if cut else PALE}
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=look.colour, zorder=5 if cut else 4,
                             **line))
    if cut and centre:
        axes.plot([(x0 + x1) / 2], [(y0 + y1) / 2], "+", color=look.colour, markersize=6, markeredgewidth=1.3, zorder=6)
    if cut and look.mark:
        axes.text(x0, y0 if plane.down else y1, f" {look.mark}", color=look.colour, fontsize=7.5, ha="left",
                  va="bottom", zorder=8, clip_on=True, parse_math=False,
                  path_effects=[withStroke(linewidth=1.6, foreground="black")])


def _draw_points(axes: Axes, points: np.ndarray, spacing_mm: Sequence[float], plane: Plane, place: int,
                 count: int) -> None:
    """The landmarks as crosses, the paler the farther from the slice."""
    for number in range(count):
        if np.isfinite(points[number]).all():
            away = abs(points[number][plane.cut] - place) * spacing_mm[plane.cut]
            x, y = (points[number][axis] * spacing_mm[axis] for axis in (plane.right, plane.side))
            axes.plot([x], [y], "+", color=label_colour(number + 1), markersize=7, markeredgewidth=1.4, zorder=6,
                      alpha=float(np.clip(np.exp(-away / 8.0), 0.4, 1.0)))


def _key(points: np.ndarray, boxes: np.ndarray, names: Sequence[str], dashed: bool) -> list[list[tuple[str, str]]]:
    """The lines below a prediction: (colour, text) side by side."""
    found = [(label_colour(number + 1), f"{_words(name)}{'' if np.isfinite(points[number]).all() else ': not found'}")
             for number, name in enumerate(names)]
    words = ["pale: in front of or behind the slice"] if np.isfinite(boxes).any() else []
    words += ["dashed: other candidates"] * dashed
    return [found, [("#aaaaaa", "; ".join(words))]] if words else [found]


def _write_key(figure: Figure, key: Sequence[Sequence[tuple[str, str]]], above: float) -> None:
    for row, entries in enumerate(key):
        for number, (colour, text) in enumerate(entries):
            left = 0.12 + (WIDE - 0.2) / len(entries) * number
            write_line(figure, text, left=left, below=above + KEY_LINE * row, size=9, colour=colour)
