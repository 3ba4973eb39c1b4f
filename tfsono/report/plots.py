"""The figures: PNG files drawn with matplotlib's Agg, without its global state or a window.

Slices and previews take LPS arrays (`tfsono.volumes.image.reorient`): x to the patient's left, y to
posterior, z to superior. They are drawn in radiological convention: the patient's left on the right, anterior
and superior at the top.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tfsono.files import replacing
from tfsono.report.surface import VIEWS, Surface, extent_mm, point_values, render, smooth_values, surface_nets
from tfsono.report.tables import Metric, present_values

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.frameon": False,
    "text.parse_math": False,  # names of users may hold dollars
}
DOTS_PER_INCH = 130

# Okabe and Ito's colours, told apart by colour-blind readers too; without black, which is lost on an image.
LABEL_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#bbbbbb")
REFERENCE_COLOUR, PREDICTION_COLOUR = "#35c9ff", "#ff9a1f"

# Bone where the surfaces agree, then yellow, red and dark violet; all but the end light enough to show the
# shading.
DISTANCE_COLOURS = LinearSegmentedColormap.from_list(
    "distance", ["#efe9dc", "#fbd86a", "#f58b2e", "#d42a35", "#7a1160", "#38083f"]
)


def label_colour(label: int) -> str:
    """Returns the colour of a label (1, 2, ...) in every figure."""
    return LABEL_COLOURS[(label - 1) % len(LABEL_COLOURS)]


def own_style(style: Mapping[str, object]) -> AbstractContextManager[None]:
    """Matplotlib's defaults with `style`: a user's matplotlibrc, such as one with text.usetex, has no effect."""
    return matplotlib.style.context(["default", style])


@contextmanager
def png_figure(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """Yields a figure of that size in inches, then writes it."""
    with own_style(STYLE):
        figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
        yield figure
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # Noise does not compress: higher levels take twice the time and gain a tenth.
        with replacing(path) as partial:
            figure.savefig(partial, format="png", pil_kwargs={"compress_level": 3})


# --- slices -------------------------------------------------------------------------------------------------

LETTERS = {"L": "left", "R": "right", "P": "posterior", "A": "anterior", "S": "superior", "I": "inferior"}


class Plane(NamedTuple):
    """A slice: the axis it cuts, those to the right and along its side, and whether the side points down."""

    name: str
    cut: int
    right: int
    side: int
    down: bool


# y points to posterior, so downwards in the axial slice: anterior is above.
PLANES = (
    Plane("coronal", 1, 0, 2, False),
    Plane("sagittal", 0, 1, 2, False),
    Plane("axial", 2, 0, 1, True),
)


def middle_voxel(mask: np.ndarray | None, shape: Sequence[int]) -> tuple[int, int, int]:
    """Returns the voxel nearest to the mask's centre of gravity; without a mask, the volume's middle."""
    if mask is None or not np.any(mask):
        return tuple(int(side) // 2 for side in shape)  # type: ignore[return-value]
    inside = np.asarray(mask) > 0
    counts = [inside.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
    return tuple(int(round(float(np.average(range(len(c)), weights=c)))) for c in counts)  # type: ignore


def _cut(array: np.ndarray, axis: int, index: int) -> np.ndarray:
    """Returns the slice as rows and columns: `[along the side, to the right]`."""
    return np.take(array, index, axis=axis).T


def _extent(
    shape: Sequence[int], spacing_mm: Sequence[float], right: int, side: int
) -> tuple[float, float, float, float]:
    """Returns the slice's left, right, first and last edge in mm; the first voxel's centre is 0."""
    low_x, low_y = -0.5 * spacing_mm[right], -0.5 * spacing_mm[side]
    return low_x, low_x + shape[right] * spacing_mm[right], low_y, low_y + shape[side] * spacing_mm[side]


def _grey_range(image: np.ndarray) -> tuple[float, float]:
    """Returns the 0.5 % and 99.5 % quantiles, so that single bright voxels do not darken the figure."""
    low, high = np.percentile(image[np.isfinite(image)], (0.5, 99.5)) if image.size else (0.0, 1.0)
    return float(low), float(high if high > low else low + 1)


def _draw_plane(
    axes: Axes,
    image: np.ndarray,
    spacing_mm: Sequence[float],
    plane: Plane,
    index: int,
    grey: tuple[float, float],
) -> None:
    """Draws the grey slice with edges in mm; a millimetre has one length along both axes.

    Nothing that is drawn over it changes the limits of the axes.
    """
    _, cut, right, side, down = plane
    extent = _extent(image.shape, spacing_mm, right, side)
    axes.imshow(
        _cut(image, cut, index),
        cmap="gray",
        vmin=grey[0],
        vmax=grey[1],
        origin="lower",
        extent=extent,
        interpolation="bilinear",
        aspect="equal",
    )
    axes.set(xlim=extent[:2], ylim=extent[:1:-1] if down else extent[2:])


def _outline(
    axes: Axes, piece: np.ndarray, spacing_mm: Sequence[float], plane: Plane, line: Mapping[str, object]
) -> None:
    """Draws the outline of a boolean slice (as `_cut` gives it), closed at the volume's border."""
    if not piece.any():
        return
    piece = np.pad(piece.astype(float), 1)
    x = (np.arange(piece.shape[1]) - 1) * spacing_mm[plane.right]
    y = (np.arange(piece.shape[0]) - 1) * spacing_mm[plane.side]
    look = {"colors": [line["color"]], "linewidths": [line["linewidth"]], "linestyles": [line["linestyle"]]}
    axes.contour(x, y, piece, levels=[0.5], **look)


def _draw_points(
    axes: Axes, points_vox: np.ndarray | None, spacing_mm: Sequence[float], plane: Plane, colour: str
) -> None:
    """Draws landmarks `[K, 3]` as seen along the plane's cut axis; those with NaN are missing."""
    if points_vox is None or not len(points_vox):
        return
    points = np.asarray(points_vox, float) * np.asarray(spacing_mm)
    x, y = points[:, plane.right], points[:, plane.side]
    axes.plot(x, y, color=colour, linestyle="-" if len(points) == 2 else "", linewidth=1, alpha=0.8)
    # The first one has another mark: which end is which matters.
    axes.plot(x[:1], y[:1], color=colour, linestyle="", marker="o", markersize=8, fillstyle="none", markeredgewidth=1.6)
    axes.plot(x[1:], y[1:], color=colour, linestyle="", marker="x", markersize=8, markeredgewidth=1.6)


def _labels_in(*masks: np.ndarray | None) -> list[int]:
    """Returns the labels above 0 that any of the masks holds."""
    # Counting is ten times as fast as np.unique, which sorts the volume.
    counts = [np.bincount(np.asarray(mask).astype(np.int64).ravel()) for mask in masks if mask is not None]
    return sorted({int(label) for count in counts for label in np.flatnonzero(count) if label > 0})


def _name(label: int, label_names: Sequence[str]) -> str:
    """Returns the name of label 1, 2, ...; label_names holds the foreground's names in their order."""
    return label_names[label - 1] if label <= len(label_names) else f"label {label}"


class Outline(NamedTuple):
    """What is outlined, and how: a label of the "reference" or the "prediction", its legend, its line."""

    label: int
    kind: str
    text: str
    line: dict[str, object]


def _outlines(labels: Sequence[int], label_names: Sequence[str]) -> list[Outline]:
    """Returns the outlines of reference and prediction of each label.

    One label: reference and prediction differ by colour. Several: each label has its colour, and the reference is
    dashed.
    """
    outlines = []
    for label in labels:
        name = f"{_name(label, label_names)}: " if len(labels) > 1 or label_names else ""
        if len(labels) > 1:
            looks = ((label_colour(label), 2.2, (0, (2.5, 1.2))), (label_colour(label), 1.2, "solid"))
        else:
            looks = ((REFERENCE_COLOUR, 2.6, "solid"), (PREDICTION_COLOUR, 1.3, "solid"))
        for kind, (colour, width, dashes) in zip(("reference", "prediction"), looks, strict=True):
            line = {"color": colour, "linewidth": width, "linestyle": dashes}
            outlines.append(Outline(label, kind, name + kind, line))
    return outlines


def _axis_text(axis: int, orientation: str) -> str:
    """Returns for example `x (mm), to the patient's left`; without an orientation, `x (mm)`."""
    name = f"{'xyz'[axis]} (mm)"
    if not orientation:
        return name
    word = LETTERS[orientation[axis].upper()]
    return f"{name}, to the patient's {word}" if word in ("left", "right") else f"{name}, to {word}"


# Inches around and between the slices, for their axes' texts.
MARGINS = {"left": 0.75, "gap_x": 0.95, "gap_y": 1.0, "bottom": 0.65, "right": 0.3}


def slices_figure(
    path: str | Path,
    image: np.ndarray,
    reference: np.ndarray | None,
    prediction: np.ndarray | None,
    spacing_mm: Sequence[float],
    title: str = "",
    label_names: Sequence[str] = (),
    orientation: str = "LPS",
    points_vox: Mapping[str, np.ndarray | None] | None = None,
) -> None:
    """Writes coronal, sagittal and axial slices with the outlines of reference and prediction.

    They cut through the reference's centre of gravity; without reference, the prediction's; without either, the
    middle.

    Args:
        path: of the PNG.
        image: `[X, Y, Z]`.
        reference: `[X, Y, Z]` labels (or boolean), or None.
        prediction: the same.
        spacing_mm: of the three axes.
        title: above; several lines are allowed.
        label_names: names of labels 1, 2, ...
        orientation: the directions of x, y, z, named at the axes; "" for volumes without a known orientation.
        points_vox: under "reference" and "prediction" landmarks `[K, 3]`, all projected along the cut axis onto
            the slice; two of them are joined by a line.
    """
    kinds = {"reference": reference, "prediction": prediction}
    given = [mask for mask in kinds.values() if mask is not None and np.any(mask)]
    middle = middle_voxel(given[0] if given else None, image.shape)
    outlines = _outlines(_labels_in(*kinds.values()) or [1], label_names)
    outlines = [outline for outline in outlines if kinds[outline.kind] is not None]
    title_lines = len(title.splitlines())
    size, boxes, corner = _slices_layout(image.shape, spacing_mm, title_lines, len(outlines))
    grey = _grey_range(image)
    with png_figure(path, *size) as figure:
        for plane in PLANES:
            axes = _axes(figure, boxes[plane.name])
            _draw_plane(axes, image, spacing_mm=spacing_mm, plane=plane, index=middle[plane.cut], grey=grey)
            # The reference's thicker lines are drawn first, or they would hide the prediction's.
            for outline in sorted(outlines, key=lambda one: one.kind != "reference"):
                piece = _cut(kinds[outline.kind], plane.cut, middle[plane.cut]) == outline.label
                _outline(axes, piece, spacing_mm, plane, outline.line)
            for kind, colour in (("reference", REFERENCE_COLOUR), ("prediction", PREDICTION_COLOUR)):
                _draw_points(axes, (points_vox or {}).get(kind), spacing_mm, plane, colour)
            _name_axes(axes, plane, middle[plane.cut] * spacing_mm[plane.cut], orientation)
        if outlines:
            _slices_legend(figure, outlines, corner)
        write_line(figure, title, MARGINS["left"])


def _slices_layout(
    shape: Sequence[int], spacing_mm: Sequence[float], title_lines: int, legend_lines: int
) -> tuple[tuple[float, float], dict[str, tuple], tuple[float, float]]:
    """Returns, in inches: the figure's size, each plane's box, and the legend's upper left corner.

    All planes have one scale. Coronal and sagittal are side by side on one z, the axial plane is below the
    coronal on one x; the legend is in the free quarter.
    """
    sides = np.multiply(shape, spacing_mm)
    scale = min(8.5 / (sides[0] + sides[1]), 8.0 / (sides[1] + sides[2]))
    x, y, z = (float(side) for side in sides * scale)
    left, gap_x, gap_y = MARGINS["left"], MARGINS["gap_x"], MARGINS["gap_y"]
    top = 0.4 + 0.25 * title_lines
    width = left + gap_x + MARGINS["right"] + max(x + y, x + 2.9)
    height = top + z + gap_y + max(y, 0.3 * legend_lines) + MARGINS["bottom"]
    boxes = {
        "coronal": (left, height - top - z, x, z),
        "sagittal": (left + x + gap_x, height - top - z, y, z),
        "axial": (left, height - top - z - gap_y - y, x, y),
    }
    return (width, height), boxes, (left + x + gap_x, height - top - z - gap_y)


def _axes(figure: Figure, box: Sequence[float]) -> Axes:
    """Adds axes at (left, bottom, width, height) in inches."""
    width, height = figure.get_size_inches()
    return figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))


def write_line(
    figure: Figure,
    text: str,
    left: float,
    below: float = 0.12,
    size: float = 12,
    colour: str = "black",
    align: str = "left",
) -> None:
    """Writes text so many inches from the left and the upper edge, smaller where it would not fit."""
    width, height = figure.get_size_inches()
    # A letter is some 0.6 of its size wide: a long line is made smaller, down to 6 points, not cut off.
    longest = max((len(line) for line in text.splitlines()), default=1) or 1
    size = min(size, max(6, (width - left - 0.1) * 72 / (0.6 * longest)))
    place = (left / width, 1 - below / height)
    # A dollar sign in a file's name must not start mathematics.
    figure.text(*place, text, va="top", ha=align, fontsize=size, color=colour, parse_math=False)


def _name_axes(axes: Axes, plane: Plane, place_mm: float, orientation: str) -> None:
    axes.set_title(f"{plane.name}, {'xyz'[plane.cut]} = {place_mm:.1f} mm", loc="left", pad=5)
    axes.set_xlabel(_axis_text(plane.right, orientation))
    axes.set_ylabel(_axis_text(plane.side, orientation))


def _slices_legend(figure: Figure, outlines: Sequence[Outline], corner: tuple[float, float]) -> None:
    """Puts the legend into the free quarter; its lines are made for a grey image and need a dark background."""
    width, height = figure.get_size_inches()
    handles = [Line2D([], [], label=outline.text, **outline.line) for outline in outlines]
    legend = figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(corner[0] / width, corner[1] / height),
        handlelength=2.6,
        borderaxespad=0,
        fontsize=11,
        labelcolor="white",
        facecolor="#3a3a3a",
        edgecolor="none",
        framealpha=1,
        frameon=True,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


# --- preview ------------------------------------------------------------------------------------------------


def preview_figure(
    path: str | Path,
    image: np.ndarray,
    mask: np.ndarray,
    spacing_mm: Sequence[float],
    label_names: Sequence[str] = (),
    text: str = "",
    points_vox: np.ndarray | None = None,
) -> None:
    """Writes a compact preview of a prediction: three planes in colour, and each label's volume.

    Args:
        path: of the PNG.
        image: `[X, Y, Z]`.
        mask: `[X, Y, Z]` labels (or boolean).
        spacing_mm: of the three axes.
        label_names: names of labels 1, 2, ...
        text: a heading, such as the file's name.
        points_vox: landmarks `[K, 3]`, as in `slices_figure`.
    """
    mask = np.asarray(mask).astype(np.int64)
    middle, grey = middle_voxel(mask, image.shape), _grey_range(image)
    volumes = _volume_lines(mask, spacing_mm, label_names)
    size, boxes, below = _preview_layout(image.shape, spacing_mm, bool(text), len(volumes))
    with png_figure(path, *size) as figure:
        figure.set_facecolor("black")
        for plane in PLANES:
            axes = _axes(figure, boxes[plane.name])
            _draw_plane(axes, image, spacing_mm=spacing_mm, plane=plane, index=middle[plane.cut], grey=grey)
            _colour_labels(axes, _cut(mask, plane.cut, middle[plane.cut]), spacing_mm, plane)
            _draw_points(axes, points_vox, spacing_mm, plane, PREDICTION_COLOUR)
            _name_edges(axes, plane)
        write_line(figure, text, 0.08, 0.1, colour="white")
        for row, (colour, line) in enumerate(volumes):
            write_line(figure, "■", 0.08, below + 0.24 * row, colour=colour)
            write_line(figure, line, left=0.28, below=below + 0.24 * row, size=11, colour="white")


def _preview_layout(
    shape: Sequence[int], spacing_mm: Sequence[float], heading: bool, lines: int
) -> tuple[tuple[float, float], dict[str, tuple], float]:
    """Returns, in inches: the figure's size, each plane's box (one scale), and where the lines begin."""
    sides = np.multiply(shape, spacing_mm).astype(float)
    gap, top, bottom = 0.08, 0.42 if heading else 0.1, 0.14 + 0.24 * lines
    across, tallest = sum(sides[plane.right] for plane in PLANES), max(sides[plane.side] for plane in PLANES)
    scale = min(9.0 / across, 4.0 / tallest)
    height = scale * tallest + top + bottom
    boxes, left = {}, gap
    for plane in PLANES:
        w, h = scale * sides[plane.right], scale * sides[plane.side]
        boxes[plane.name] = (left, bottom + (scale * tallest - h) / 2, w, h)
        left += w + gap
    return (max(left, 4.5), height), boxes, height - bottom + 0.06


def _colour_labels(axes: Axes, piece: np.ndarray, spacing_mm: Sequence[float], plane: Plane) -> None:
    """Draws the labels of a slice in thin colour with a full outline."""
    extent = _extent(piece.T.shape, (spacing_mm[plane.right], spacing_mm[plane.side]), 0, 1)
    for label in _labels_in(piece):
        rgba = np.zeros((*piece.shape, 4))
        rgba[..., :3] = matplotlib.colors.to_rgb(label_colour(label))
        rgba[..., 3] = 0.35 * (piece == label)
        axes.imshow(rgba, origin="lower", extent=extent, interpolation="nearest", aspect="equal")
        line = {"color": label_colour(label), "linewidth": 1.3, "linestyle": "solid"}
        _outline(axes, piece == label, spacing_mm, plane, line)
    axes.set_axis_off()


def _name_edges(axes: Axes, plane: Plane) -> None:
    """Writes the letters of the patient's directions at the slice's left and right edge."""
    for x, text, align in ((0.015, "RAI"[plane.right], "left"), (0.985, "LPS"[plane.right], "right")):
        axes.text(x, 0.5, text, color="white", fontsize=9, ha=align, va="center", transform=axes.transAxes)


def _volume_lines(
    mask: np.ndarray, spacing_mm: Sequence[float], label_names: Sequence[str]
) -> list[tuple[str, str]]:
    """Returns (colour, `femur 83.2 mL`) per label; for an empty mask one line, `nothing found`."""
    labels = sorted({*range(1, len(label_names) + 1), *_labels_in(mask)})
    millilitres = float(np.prod(np.asarray(spacing_mm, dtype=float))) / 1000
    lines = []
    for label in labels:
        voxels = int(np.count_nonzero(mask == label))
        amount = f"{voxels * millilitres:.1f} mL" if voxels else "nothing found"
        lines.append((label_colour(label), f"{_name(label, label_names)}  {amount}"))
    return lines or [("#bbbbbb", "nothing found")]


# --- surface ------------------------------------------------------------------------------------------------


def surface_distance_figure(
    path: str | Path,
    mask: np.ndarray,
    points_vox: np.ndarray,
    distances_mm: np.ndarray,
    spacing_mm: Sequence[float],
    title: str = "",
) -> None:
    """Writes the mask's surface, from four sides, coloured by its distance to the other one (hip, Fig. 2).

    The colour bar ends at the 99.5 % quantile of the distances, and at 1 mm at least.

    Args:
        path: of the PNG.
        mask: `[X, Y, Z]` boolean, one label of an LPS volume.
        points_vox: `[N, 3]` the mask's boundary voxels, of `tfsono.metrics.surface.surface_distances`.
        distances_mm: `[N]` their distances.
        spacing_mm: of the three axes.
        title: above.
    """
    surface = surface_nets(mask, spacing_mm)
    if not len(surface.points_mm):
        _empty_figure(path, title, "The mask is empty: there is no surface to show.")
        return
    distances_mm = np.asarray(distances_mm, dtype=float)
    values = smooth_values(surface, point_values(surface, np.shape(mask), points_vox, distances_mm))
    highest = float(max(1.0, np.percentile(distances_mm, 99.5)))
    _draw_views(path, surface, values, highest, (title, _distance_text(distances_mm)))


def _distance_text(distances_mm: np.ndarray) -> str:
    most = np.percentile(distances_mm, 95)
    return f"mean {distances_mm.mean():.2f} mm, 95 % below {most:.2f} mm, largest {distances_mm.max():.2f} mm"


def _draw_views(
    path: str | Path, surface: Surface, values: np.ndarray, highest: float, texts: tuple[str, str]
) -> None:
    """Draws the four views side by side at one scale, with a colour bar and a scale bar."""
    sides = [np.subtract(*extent_mm(surface, view)[::-1]) for view in VIEWS]
    # Inches a millimetre.
    scale = min(10.5 / sum(side[0] for side in sides), 6.0 / max(side[1] for side in sides))
    gap, top, bottom = 0.3, 1.05, 0.6
    tall = scale * max(side[1] for side in sides)
    width = max(scale * sum(side[0] for side in sides) + 5 * gap + 1.1, 7.0)
    norm = Normalize(0, highest)
    with png_figure(path, width, tall + top + bottom) as figure:
        left = gap
        for view, side in zip(VIEWS, sides, strict=True):
            w, h = scale * side
            axes = _axes(figure, (left, bottom + tall - h, w, h))
            # Two rendered pixels a printed one, averaged when drawn: smooth edges.
            seen = render(surface, values, view, 1 / (scale * DOTS_PER_INCH * 2))
            axes.imshow(_shaded(seen.value, seen.light, norm), interpolation="antialiased", aspect="auto")
            axes.set_axis_off()
            write_line(figure, f"from {view.name}", left + w / 2, top - 0.27, 11, align="center")
            left += w + gap
        _colour_bar(figure, norm, (left, bottom, 0.16, tall), values)
        _scale_bar(figure, scale, gap, 0.22)
        write_line(figure, texts[0], gap)
        write_line(figure, texts[1], gap, below=0.42, size=10, colour="#444444")


def _shaded(value: np.ndarray, light: np.ndarray, norm: Normalize) -> np.ndarray:
    """Returns the RGBA image `[rows, columns, 4]`, transparent where there is no surface."""
    rgba = DISTANCE_COLOURS(norm(np.nan_to_num(value)))
    rgba[np.isnan(value), :3] = 0.8
    rgba[..., :3] = np.clip(rgba[..., :3] * np.nan_to_num(light)[..., None], 0, 1)
    rgba[..., 3] = np.isfinite(light)
    return rgba


def _colour_bar(figure: Figure, norm: Normalize, box: Sequence[float], values: np.ndarray) -> None:
    mappable = matplotlib.cm.ScalarMappable(norm, DISTANCE_COLOURS)
    beyond = np.nanmax(values) > norm.vmax
    bar = figure.colorbar(mappable, cax=_axes(figure, box), extend="max" if beyond else "neither")
    bar.set_label("distance between the surfaces (mm)")
    bar.outline.set_visible(False)


def _scale_bar(figure: Figure, scale: float, left: float, low: float) -> None:
    """Draws a bar of a round length, about an inch, and writes its millimetres."""
    width, height = figure.get_size_inches()
    length = max((step for step in (1, 2, 5, 10, 20, 50, 100) if step * scale <= 1.3), default=1)
    x = np.array([left, left + length * scale]) / width
    figure.add_artist(Line2D(x, [low / height] * 2, color="black", linewidth=3, solid_capstyle="butt"))
    figure.text(x[1] + 0.08 / width, low / height, f"{length} mm", va="center")


def _empty_figure(path: str | Path, title: str, text: str) -> None:
    with png_figure(path, 7, 1.6) as figure:
        write_line(figure, title, 0.2)
        write_line(figure, text, 0.2, below=0.7, size=11, colour="#444444")


# --- history ------------------------------------------------------------------------------------------------


class Panel(NamedTuple):
    """A part of the history: its columns, a logarithmic axis or not, a moving mean over noise or not."""

    heading: str
    columns: tuple[str, ...]
    logarithmic: bool = False
    smoothed: bool = False


HISTORY_PANELS = (
    Panel("loss", ("loss", "validation_loss"), logarithmic=True, smoothed=True),
    Panel("learning rate", ("learning_rate",), logarithmic=True),
    Panel("validation Dice", ("validation_dice",)),
    Panel("validation MRE (mm)", ("validation_mre_mm",)),
    Panel("validation MRE (px)", ("validation_mre_px",)),
)


def history_figure(path: str | Path, rows: Sequence[Mapping[str, object]], title: str = "") -> None:
    """Writes curves over the training steps, one of `HISTORY_PANELS` below the other.

    Args:
        path: of the PNG.
        rows: one dict a recorded step, under "step"; missing, empty and NaN values are excluded, and so are panels
            without values.
        title: above.
    """
    curves = [{c: _curve(rows, c) for c in panel.columns} for panel in HISTORY_PANELS]
    curves = [{c: xy for c, xy in columns.items() if len(xy[0])} for columns in curves]
    drawn = [(panel, columns) for panel, columns in zip(HISTORY_PANELS, curves, strict=True) if columns]
    if not drawn:
        _empty_figure(path, title, "The history has no values yet.")
        return
    with png_figure(path, 8, 2.1 * len(drawn) + 1) as figure:
        all_axes = np.atleast_1d(figure.subplots(len(drawn), 1, sharex=True))
        for axes, (panel, columns) in zip(all_axes, drawn, strict=True):
            _history_panel(axes, panel, columns)
        all_axes[-1].set_xlabel("step")
        figure.align_ylabels(all_axes)
        figure.tight_layout(rect=(0, 0, 1, 1 - (0.4 if title else 0) / figure.get_figheight()))
        write_line(figure, title, 0.15)


def _history_panel(axes: Axes, panel: Panel, columns: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#777777")
    for number, (column, (x, y)) in enumerate(columns.items()):
        colour, name = colours[number % len(colours)], column.replace("_", " ")
        if panel.smoothed and len(x) > 200:
            _noisy_line(axes, x, y, colour, name)
        else:
            marker = "o" if len(x) <= 40 else None
            axes.plot(x, y, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=name)
    axes.set_ylabel(panel.heading)
    axes.grid(color="#dddddd", linewidth=0.6)
    if len(columns) > 1 or panel.smoothed:
        axes.legend(loc="best")
    if panel.logarithmic and all((y > 0).all() for _, y in columns.values()):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _noisy_line(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, name: str) -> None:
    """Draws every value thinly, and their moving mean over a fiftieth of the run."""
    window = len(x) // 50
    mean = np.convolve(y, np.ones(window) / window, mode="valid")
    middle = x[(window - 1) // 2 :][: len(mean)]
    axes.plot(x, y, color=colour, linewidth=0.6, alpha=0.35)
    axes.plot(middle, mean, color=colour, linewidth=1.8, label=f"{name}, mean of {window} records")


def _curve(rows: Sequence[Mapping[str, object]], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns steps and values `[N]` where the column has one."""
    points = [(row.get("step"), row.get(column)) for row in rows]
    numbers = [(float(x), float(y)) for x, y in points if x not in (None, "") and y not in (None, "")]
    x, y = np.array(numbers, dtype=float).reshape(-1, 2).T
    return x[np.isfinite(y)], y[np.isfinite(y)]


# --- cases --------------------------------------------------------------------------------------------------


def cases_figure(
    path: str | Path,
    ours: Mapping[str, Sequence[Mapping[str, object]]],
    metrics: Sequence[Metric | tuple],
) -> None:
    """Writes, per metric, every case as a dot over its variant, quartiles, and median.

    Args:
        path: of the PNG.
        ours: per variant its cases.
        metrics: `Metric`s, or tuples (key, heading, digits[, scale]), a panel each.
    """
    metrics = [Metric(*metric) for metric in metrics]
    panel = max(3.2, 0.8 + 1.1 * len(ours))
    columns = max(1, min(len(metrics), int(13 / panel)))
    rows = -(-len(metrics) // columns)
    with png_figure(path, max(panel * columns, 4), 3.4 * rows) as figure:
        grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axes, metric in zip(grid, metrics, strict=False):
            _cases_panel(axes, ours, metric)
        for axes in grid[len(metrics) :]:
            axes.set_axis_off()
        figure.tight_layout()


def _cases_panel(axes: Axes, ours: Mapping, metric: Metric) -> None:
    names = []
    for place, (variant, cases) in enumerate(ours.items()):
        values = present_values(cases, metric)
        defined = values[np.isfinite(values)]
        _strip(axes, place, defined, label_colour(place + 1))
        lacking = f"\n{len(values) - len(defined)} undefined" if len(defined) < len(values) else ""
        lacking += f"\n{len(cases) - len(values)} absent" if len(values) < len(cases) else ""
        names.append(f"{fill(variant, 13)}\nn = {len(defined)}{lacking}")
    axes.set_xticks(range(len(names)), names, parse_math=False)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_title(metric.heading)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _strip(axes: Axes, place: float, values: np.ndarray, colour: str) -> None:
    """Draws a box of quartiles, the median, and every value, shifted a little, the same each time."""
    if not len(values):
        return
    low, median, high = np.percentile(values, (25, 50, 75))
    axes.bar(place, high - low, 0.5, low, facecolor=colour, edgecolor="none", alpha=0.3)
    axes.plot([place - 0.25, place + 0.25], [median] * 2, color="#222222", linewidth=1.6)
    shift = np.random.default_rng(0).uniform(-0.16, 0.16, len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(place + shift, values, "o", ms=4.5, color=colour, mec="#333333", mew=0.5)
