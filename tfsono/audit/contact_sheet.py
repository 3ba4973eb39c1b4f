"""A page of previews: a slice of each case with the outline of its labels, cases with problems framed and first.

And a page of the cases whose landmarks fit worst, with their points.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from tfsono.files import replacing
from tfsono.volumes.image import Volume

TILE_PIXELS = 160
MOST_TILES = 60
COLUMNS = 10
TITLE_LETTERS = 20
OUTLINES = ("#ffd700", "#00e5ff", "#ff4fd8", "#7cff4f", "#ff9a3c", "#b18cff")
FRAMES = {"error": "red", "warning": "orange", "": "#bbbbbb"}
PAIRS = (("OFD", "#00e5ff"), ("BPD", "#ff4fd8"))
"""Names and colours of the landmarks' pairs, as the file calls them."""

LANDMARK_COLUMNS = 6


@dataclass(frozen=True)
class Tile:
    """One slice with square pixels.

    Attributes:
        image: uint8 [rows, columns], at most 160 pixels a side.
        labels: uint8 [rows, columns], 0 background.
    """

    image: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class LandmarkTile:
    """A 2D image with its points, two pairs of the ends of an axis each, and the ellipse of its mask.

    Attributes:
        name: the case.
        image: uint8 [rows, columns], at most `SIDE` pixels a side.
        points_px: [4, 2] (x, y) in it, NaN where missing: the ends of OFD, then of BPD.
        outline_px: [N, 2] of the ellipse, or None.
        text: the caption.
        fits: False draws a frame.
    """

    SIDE: ClassVar[int] = 320

    name: str
    image: np.ndarray
    points_px: np.ndarray
    outline_px: np.ndarray | None
    text: str
    fits: bool


def make_tile(image: Volume, labels: np.ndarray | None) -> Tile:
    """The slice through the middle of the labels (or else of the volume), across the axis of largest spacing.

    A 2D image, one voxel thick, has only one.

    Args:
        image: in orientation LPS, so that the tile has the patient's right on its left, and anterior or superior
            on top.
        labels: [X, Y, Z] in the image's grid, or None.
    """
    spacing = np.asarray(image.spacing_mm)
    flat = image.size[2] == 1 or np.ptp(spacing) <= 0.01 * spacing.max()
    axis = 2 if flat else int(spacing.argmax())
    labels = np.zeros(image.size, np.uint8) if labels is None else labels
    counts = np.count_nonzero(labels, axis=tuple(other for other in range(3) if other != axis))
    inside = np.repeat(np.arange(len(counts)), counts)
    index = int(np.median(inside)) if len(inside) else image.size[axis] // 2
    across = [other for other in range(3) if other != axis]
    extent = [image.size[other] * spacing[other] for other in across]
    pixels = tuple(max(1, round(TILE_PIXELS * side / max(extent))) for side in extent)
    preview = _displayed(_grey(image.array.take(index, axis)), axis)
    outline = _displayed(labels.take(index, axis), axis)
    return Tile(
        cv2.resize(preview, pixels, interpolation=cv2.INTER_LINEAR),
        cv2.resize(outline, pixels, interpolation=cv2.INTER_NEAREST),
    )


def write_sheet(path: Path, heading: str, tiles: list[tuple[str, Tile | None, str, str]]) -> None:
    """Draws the first 60 of `tiles` (name, preview or None, level or "" if sound, caption) into a PNG."""
    shown = tiles[:MOST_TILES]
    rows = max(1, -(-len(shown) // COLUMNS))
    hidden = len(tiles) - len(shown)
    with _sheet(path, 1.6 * COLUMNS, 1.95 * rows + 0.5) as figure:
        figure.suptitle(heading + (f"; {hidden} cases not shown" if hidden else ""), fontsize=11)
        for position, tile in enumerate(shown, start=1):
            _draw(figure.add_subplot(rows, COLUMNS, position), *tile)
        figure.subplots_adjust(left=0.01, bottom=0.25 / (1.95 * rows + 0.5), right=0.99,
                               top=1 - 0.75 / (1.95 * rows + 0.5), wspace=0.08, hspace=0.35)


def write_landmark_sheet(path: Path, heading: str, tiles: list[LandmarkTile]) -> None:
    """Draws every tile into one PNG, in their order."""
    rows = max(1, -(-len(tiles) // LANDMARK_COLUMNS))
    height = 2.6 * rows + 0.6
    with _sheet(path, 3.2 * LANDMARK_COLUMNS, height) as figure:
        figure.suptitle(f"{heading}\n{PAIRS[0][0]} blue, {PAIRS[1][0]} pink, as the file names them; ellipse of the "
                        "mask yellow", fontsize=12)
        for position, tile in enumerate(tiles, start=1):
            _draw_landmarks(figure.add_subplot(rows, LANDMARK_COLUMNS, position), tile)
        figure.subplots_adjust(left=0.01, bottom=0.25 / height, right=0.99, top=1 - 0.85 / height, wspace=0.04,
                               hspace=0.22)


@contextlib.contextmanager
def _sheet(path: Path, width: float, height: float) -> Iterator:
    """Yields a figure of that size in inches, then writes it."""
    from matplotlib.figure import Figure  # half a second that training saves

    from tfsono.report.plots import own_style

    with own_style({"text.parse_math": False}):
        figure = Figure(figsize=(width, height), dpi=100)
        yield figure
        with replacing(path) as partial:
            figure.savefig(partial, format="png")


def _draw_landmarks(axes, tile: LandmarkTile) -> None:
    axes.imshow(tile.image, cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    colour = FRAMES["" if tile.fits else "warning"]
    axes.set_title(tile.name, fontsize=9, pad=2)
    axes.set_xlabel(tile.text[:60], fontsize=8, labelpad=2, color="black" if tile.fits else "#b05500")
    for spine in axes.spines.values():
        spine.set_edgecolor(colour)
        spine.set_linewidth(0.5 if tile.fits else 2.5)
    if tile.outline_px is not None:
        axes.plot(*np.append(tile.outline_px, tile.outline_px[:1], axis=0).T, color=OUTLINES[0], linewidth=1.2)
    for (_, pair_colour), ends in zip(PAIRS, tile.points_px.reshape(2, 2, 2), strict=True):
        axes.plot(*ends.T, color=pair_colour, linewidth=1.2, marker="o", markersize=4)
        for number, (x, y) in enumerate(ends, start=1):
            if np.isfinite((x, y)).all():
                axes.annotate(str(number), (x, y), (3, 3), textcoords="offset points", color=pair_colour, fontsize=8)
    axes.set_xlim(-0.5, tile.image.shape[1] - 0.5)
    axes.set_ylim(tile.image.shape[0] - 0.5, -0.5)


def _draw(axes, name: str, tile: Tile | None, level: str, text: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    # A title longer than the tile would overlap its neighbour's; names differ at their ends.
    axes.set_title(name if len(name) <= TITLE_LETTERS else "…" + name[1 - TITLE_LETTERS :], fontsize=7, pad=2)
    axes.set_xlabel(text, fontsize=6, labelpad=2, color=FRAMES[level])
    axes.set_facecolor("#444444")
    for spine in axes.spines.values():
        spine.set_edgecolor(FRAMES[level])
        spine.set_linewidth(2.5 if level else 0.5)
    axes.set_xlim(-0.5, TILE_PIXELS - 0.5)
    axes.set_ylim(TILE_PIXELS - 0.5, -0.5)
    axes.set_aspect("equal")
    if tile is None:
        axes.text(TILE_PIXELS / 2, TILE_PIXELS / 2, "no preview", color="white", ha="center", fontsize=7)
        return
    rows, columns = tile.image.shape
    left, top = (TILE_PIXELS - columns) / 2, (TILE_PIXELS - rows) / 2
    extent = (left - 0.5, left + columns - 0.5, top + rows - 0.5, top - 0.5)
    axes.imshow(tile.image, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
    for value in np.unique(tile.labels[tile.labels > 0]):
        _outline(axes, tile.labels == value, left, top, OUTLINES[(int(value) - 1) % len(OUTLINES)])


def _outline(axes, region: np.ndarray, left: float, top: float, colour: str) -> None:
    padded = np.pad(region, 1).astype(np.uint8)  # so that an outline at the tile's edge closes
    rings, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for ring in rings:
        points = np.concatenate([ring[:, 0], ring[:1, 0]]) - 1
        axes.plot(points[:, 0] + left, points[:, 1] + top, color=colour, linewidth=0.8)


def _grey(image: np.ndarray) -> np.ndarray:
    """uint8, from the 1st to the 99th percentile of the slice."""
    low, high = np.percentile(image, (1, 99))
    scaled = (image.astype(np.float32) - low) / max(float(high - low), 1e-6)
    return (255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def _displayed(image: np.ndarray, axis: int) -> np.ndarray:
    """[first, second] of an LPS slice -> [rows, columns]: superior up if it has that axis, else anterior."""
    upright = image.T if axis == 2 else image.T[::-1]
    return np.ascontiguousarray(upright)
