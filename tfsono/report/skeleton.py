"""Skeletons in three dimensions: Figs. 1b, 1c and 6 of the pose paper, and a prediction with its slices.

Orthographic, never mirrored: `right`, `up` and `towards` (the eye) of a `View` are a right-handed frame, or the two
sides of a body would be exchanged in the figure. Nearer parts are thicker and darker, and hide those behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from tfsono.metrics.pose_case import segment_lengths
from tfsono.report.plots import PLANES, PREDICTION_COLOUR, label_colour, png_figure, write_line
from tfsono.report.surface import View

INDEX_COLOUR, LENGTH_COLOUR, ERROR_COLOUR = "#1f3fd0", "#14792b", "#d02020"  # the first two as in the paper's Fig. 6
TRUNK_COLOUR, GHOST_COLOUR = "#5f6673", "#c4c8d0"
SIDES = ("_a", "_b")  # endings of the two sides of one landmark
LIMB_COLOURS = {"_a": ("#0072b2", "#35a7dd"), "_b": ("#d55e00", "#e69f00")}
PIECES = 14  # of a segment, so that of two which cross the nearer hides the other
WIDE, TALL = 3.2, 3.5  # inches, at most, of a skeleton in its panel
MARGIN = 0.36  # around it, for its digits
NARROWEST = 2.3  # panel, for its title
KEY_LINE, KEY_LETTER = 0.21, 0.077
NO_BREAK = "\u00a0"
LEGEND = "Blue: landmark; green: length in mm; red: from reference (pale) to prediction."


class Panel(NamedTuple):
    """One skeleton.

    Attributes:
        title: Above it; several lines are allowed.
        points_mm: [K, 3], NaN for a missing one; all panels of a row in one frame.
        reference_mm: [K, 3], drawn pale, with a red line from each landmark to its prediction; None for none.
        paths_mm: [T, K, 3], each landmark's path; None for none.
    """

    title: str
    points_mm: np.ndarray
    reference_mm: np.ndarray | None = None
    paths_mm: np.ndarray | None = None


# --- views and colours --------------------------------------------------------------------------------------


def body_views(points_mm: np.ndarray) -> tuple[View, View]:
    """Two views of a pose: of its flattest side, and from the right of that.

    The first one is along the direction in which the points vary least; up is that in which they vary most, with the
    first landmark above the middle.

    Args:
        points_mm: [K, 3], or [N, K, 3] of many aligned poses; points with NaN are ignored.
    """
    points = np.asarray(points_mm, np.float64).reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        points = np.zeros((1, 3))
    middle = points - points.mean(axis=0)
    axes = np.linalg.svd(middle, full_matrices=True)[2]
    up = axes[0] if middle[0] @ axes[0] >= 0 else -axes[0]
    right = axes[1]
    towards = np.cross(right, up)
    frame = (tuple(map(float, axis)) for axis in (right, up, towards))
    front = View("flattest side", *frame)
    return front, View("from the right of it", tuple(map(float, -towards)), front.up, front.right)


def projected(points_mm: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Places in the view's plane [..., 2], right and up, and heights towards the eye [...], in millimetres."""
    points = np.asarray(points_mm, np.float64)
    return points @ np.array([view.right, view.up], np.float64).T, points @ np.array(view.towards, np.float64)


def segment_colours(landmarks: Sequence[str], segments: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """A colour for each segment: one a limb, similar on one side; the trunk grey.

    Sides are the names' endings `_a` and `_b`; a limb is a connected part without the middle. Where no name has such
    an ending, every segment has its own colour.
    """
    sided = {name for name in landmarks if name.endswith(SIDES)}
    if not sided:
        return tuple(label_colour(number) for number in range(1, len(segments) + 1))
    limb = {name: name for name in sided}
    for _ in sided:  # spreads along the chains
        for first, last in segments:
            if first in sided and last in sided:
                limb[first] = limb[last] = min(limb[first], limb[last])
    order: dict[str, list[str]] = {side: [] for side in SIDES}
    for name in landmarks:
        if name in sided and limb[name] not in order[name[-2:]]:
            order[name[-2:]].append(limb[name])
    colours = []
    for pair in segments:
        ends = [name for name in pair if name in sided]
        side = ends[0][-2:] if ends else ""
        shades = LIMB_COLOURS.get(side, (TRUNK_COLOUR,))
        place = order[side].index(limb[ends[0]]) if ends else 0
        colours.append(shades[place % len(shades)])
    return tuple(colours)


def landmark_colours(landmarks: Sequence[str], segments: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """A colour for each landmark: that of its limb, else the trunk's grey."""
    limbs = {name: colour for pair, colour in zip(segments, segment_colours(landmarks, segments), strict=True)
             for name in pair if name.endswith(SIDES)}
    return tuple(limbs.get(name, TRUNK_COLOUR) for name in landmarks)


# --- one skeleton -------------------------------------------------------------------------------------------


def draw_skeleton(axes: Axes, panel: Panel, view: View, landmarks: Sequence[str], segments: Sequence[tuple[str, str]],
                  inches_per_mm: float) -> None:
    """Draws a panel's skeleton into axes in millimetres of the view, with its digits.

    Args:
        axes: Of one scale along both sides, its limits set.
        panel: What to draw.
        view: From where.
        landmarks: [K] names, in the points' order.
        segments: Pairs of them.
        inches_per_mm: Of the axes.
    """
    points = np.array(panel.points_mm, np.float64)
    if panel.reference_mm is not None:
        _draw_ghost(axes, np.asarray(panel.reference_mm, np.float64), found=points, view=view, landmarks=landmarks,
                    segments=segments)
    if panel.paths_mm is not None:
        paths = np.moveaxis(projected(panel.paths_mm, view)[0], 0, 1)
        axes.add_collection(LineCollection(list(paths), colors="#333333", linewidths=0.8, zorder=4))
    _draw_segments(axes, points, view, landmarks, segments)
    places, _ = projected(points, view)
    fills = landmark_colours(landmarks, segments)
    axes.scatter(*places.T, s=30, c=fills, edgecolors="white", linewidths=0.8, zorder=5)
    _draw_digits(axes, points, places=places, landmarks=landmarks, segments=segments, scale=inches_per_mm)


def _ends(points: np.ndarray, landmarks: Sequence[str], segments: Sequence[tuple[str, str]]) -> np.ndarray:
    """[S, 2, 3] both ends of each segment, NaN where missing."""
    place = {name: index for index, name in enumerate(landmarks)}
    return points[np.array([[place[name] for name in pair] for pair in segments], int).reshape(-1, 2)]


def _draw_ghost(axes: Axes, reference: np.ndarray, found: np.ndarray, view: View, landmarks, segments) -> None:
    """The reference, pale, and a red line from each of its landmarks to the prediction."""
    bones, _ = projected(_ends(reference, landmarks, segments), view)
    axes.add_collection(LineCollection(list(bones), colors=GHOST_COLOUR, linewidths=3, capstyle="round", zorder=1))
    there, here = projected(reference, view)[0], projected(found, view)[0]
    errors = list(np.stack([there, here], 1))
    axes.add_collection(LineCollection(errors, colors=ERROR_COLOUR, linewidths=1.3, zorder=6))
    axes.scatter(*there.T, s=15, facecolors="white", edgecolors=GHOST_COLOUR, linewidths=1, zorder=2)


def _draw_segments(axes: Axes, points: np.ndarray, view: View, landmarks, segments) -> None:
    """Every segment in pieces, from the farthest to the nearest, each with a white rim that cuts those behind it."""
    ends = _ends(points, landmarks, segments)
    whole = np.isfinite(ends).all(axis=(1, 2))
    if not whole.any():
        return
    colours = np.array([to_rgb(colour) for colour in segment_colours(landmarks, segments)])[whole]
    steps = np.linspace(0, 1, PIECES + 1)
    pieces = np.stack([steps[:-1], steps[1:]], 1)
    # The colour reaches beyond its rim, or every rim would show as a seam across the piece before.
    longer = np.stack([pieces, (pieces + np.array([-0.3, 0.3]) / PIECES).clip(0, 1)])
    along = ends[whole, None, 0] + longer[..., None, :, None] * (ends[whole, 1] - ends[whole, 0])[:, None]
    lines, heights = projected(along, view)  # [rim or colour, piece, segment, end, axis]
    height = heights[0].mean(axis=-1)
    near = (height - height.min()) / max(float(np.ptp(height)), 1e-9)
    shades = colours + (1 - colours) * 0.45 * (1 - near)[..., None]
    widths = 2.4 + 2.4 * near
    order = np.argsort(height.ravel(), kind="stable")
    axes.add_collection(LineCollection(
        np.moveaxis(lines, 0, 2).reshape(-1, 2, 2, 2)[order].reshape(-1, 2, 2), capstyle="butt", zorder=3,
        colors=np.stack([np.ones_like(shades), shades], 2).reshape(-1, 2, 3)[order].reshape(-1, 3),
        linewidths=np.stack([widths + 2.6, widths], 2).reshape(-1, 2)[order].ravel()))


# --- digits -------------------------------------------------------------------------------------------------


class Digit(NamedTuple):
    """A text to place: its anchor in millimetres of the view, the text, colour and size in points."""

    anchor: np.ndarray
    text: str
    colour: str
    size: float


def _draw_digits(axes: Axes, points: np.ndarray, places: np.ndarray, landmarks, segments, scale: float) -> None:
    """Indices from 1 in blue, lengths in millimetres in green, each where it hides least."""
    digits = [Digit(place, str(number), INDEX_COLOUR, 9.0) for number, place in enumerate(places, 1)]
    ends = projected_ends(places, landmarks, segments)
    lengths = segment_lengths(points, landmarks, segments)
    digits += [Digit(pair.mean(axis=0), f"{length:.1f}", LENGTH_COLOUR, 7.5)
               for pair, length in zip(ends, lengths, strict=True)]
    digits = [digit for digit in digits if np.isfinite(digit.anchor).all()]
    along = np.linspace(0, 1, 9)[:, None]
    obstacles = np.concatenate([places, *(pair[0] + along * (pair[1] - pair[0]) for pair in ends)])
    centres = place_texts([digit.anchor * scale for digit in digits], [_text_size(digit) for digit in digits],
                          obstacles[np.isfinite(obstacles).all(axis=1)] * scale)
    for digit, centre in zip(digits, centres, strict=True):
        text = axes.text(*(centre / scale), digit.text, color=digit.colour, fontsize=digit.size, ha="center",
                         va="center", zorder=8, fontweight="bold")
        text.set_path_effects([withStroke(linewidth=2.2, foreground="white")])


def projected_ends(places: np.ndarray, landmarks: Sequence[str], segments: Sequence[tuple[str, str]]) -> np.ndarray:
    """[S, 2, 2] the places of both ends of each segment."""
    place = {name: index for index, name in enumerate(landmarks)}
    return places[np.array([[place[name] for name in pair] for pair in segments], int).reshape(-1, 2)]


def _text_size(digit: Digit) -> np.ndarray:
    """Width and height of a text in inches, nearly."""
    return np.array([0.68 * len(digit.text) * digit.size, 0.95 * digit.size]) / 72


def place_texts(anchors: Sequence[np.ndarray], sizes: Sequence[np.ndarray], obstacles: np.ndarray) -> list[np.ndarray]:
    """A centre for each text near its anchor, where it covers few obstacles and no other text.

    Args:
        anchors: N places [2].
        sizes: N widths and heights [2], in the anchors' unit.
        obstacles: [M, 2] places to leave free.

    Returns:
        N centres [2].
    """
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], 1)
    taken_at, taken_half = np.zeros((0, 2)), np.zeros((0, 2))
    centres = []
    for anchor, size in zip(anchors, sizes, strict=True):
        half = np.asarray(size, np.float64) / 2
        # The box just clears the anchor in each direction, then moves farther away.
        reach = np.minimum(half[0] / np.maximum(np.abs(around[:, 0]), 1e-9),
                           half[1] / np.maximum(np.abs(around[:, 1]), 1e-9)) + 0.06
        candidates = np.concatenate([anchor + around * (reach * far)[:, None] for far in (1.0, 1.5, 2.1, 2.8)])
        cost = np.repeat([0.0, 1.5, 3.5, 6.0], len(around))
        cost += (np.abs(candidates[:, None] - obstacles) < half + 0.03).all(axis=2).sum(axis=1)
        cost += 20 * (np.abs(candidates[:, None] - taken_at) < half + taken_half).all(axis=2).sum(axis=1)
        best = candidates[int(np.argmin(cost))]
        centres.append(best)
        taken_at, taken_half = np.vstack([taken_at, best]), np.vstack([taken_half, half])
    return centres


# --- figures ------------------------------------------------------------------------------------------------


def skeleton_figure(path: str | Path, rows: Sequence[Sequence[Panel]], landmarks: Sequence[str],
                    segments: Sequence[tuple[str, str]], title: str = "") -> None:
    """Writes skeletons side by side (Fig. 6): blue landmark indices, green lengths in mm, red errors.

    Each row twice, from the front and from the side.

    Args:
        path: Of the PNG.
        rows: A list of panels for each case; its first panel (the reference) defines the views, and all have one scale.
        landmarks: [K] names, in the points' order.
        segments: Pairs of names.
        title: Above.
    """
    drawn = [(panels, view) for panels in rows for view in body_views(panels[0].points_mm)[:2]]
    frames = [_frame(panels, view) for panels, view in drawn]
    heads = [_head(panels, number == 0 or drawn[number - 1][0] is not panels)
             for number, (panels, _) in enumerate(drawn)]
    panel = _panel_width(frames)
    wide = panel * max(len(panels) for panels in rows)
    key = _key_lines(landmarks, wide, LEGEND)
    talls = [head + frame.size[1] * frame.scale + 2 * MARGIN for head, frame in zip(heads, frames, strict=True)]
    top = 0.45 if title else 0.1
    height = top + sum(talls) + KEY_LINE * len(key) + 0.2
    with png_figure(path, wide, height) as figure:
        write_line(figure, title, 0.15)
        above = top
        for (panels, view), frame, head, tall in zip(drawn, frames, heads, talls, strict=True):
            _draw_row(figure, (above, head, tall, panel), panels=panels, view=view, frame=frame,
                      names=(landmarks, segments))
            above += tall
        _write_key(figure, key, above)


class Frame(NamedTuple):
    """The middle and the size of a row's panels, in millimetres of the view [2], and inches a millimetre."""

    middle: np.ndarray
    size: np.ndarray
    scale: float


def _frame(panels: Sequence[Panel], view: View) -> Frame:
    points = np.concatenate([np.asarray(each, np.float64) for panel in panels
                             for each in (panel.points_mm, panel.reference_mm) if each is not None])
    places, _ = projected(points[np.isfinite(points).all(axis=1)], view)
    if not len(places):
        places = np.zeros((1, 2))
    low, high = places.min(axis=0), places.max(axis=0)
    size = np.maximum(high - low, 1.0)
    return Frame((low + high) / 2, size, float((np.array([WIDE, TALL]) / size).min()))


def _panel_width(frames: Sequence[Frame]) -> float:
    """The width in inches of the widest frame."""
    return max(NARROWEST, max(frame.size[0] * frame.scale for frame in frames) + 2 * MARGIN)


def _head(panels: Sequence[Panel], first: bool) -> float:
    """Inches above a row for its titles; the second view of the same panels has none."""
    return 0.12 + 0.2 * max(len(panel.title.splitlines()) for panel in panels) if first else 0.05


def _draw_row(figure: Figure, place: tuple[float, float, float, float], panels: Sequence[Panel], view: View,
              frame: Frame, names: tuple[Sequence[str], Sequence[tuple[str, str]]]) -> None:
    """Draws the panels at `place`: inches above the row, for its titles, of the row in all, and of a panel's width."""
    above, head, tall, wide = place
    for number, panel in enumerate(panels):
        axes = skeleton_axes(figure, (wide * number, above + head, wide, tall - head), frame)
        draw_skeleton(axes, panel, view, *names, frame.scale)
        if head > 0.1:
            write_line(figure, panel.title, wide * number + 0.12, above + 0.04, 10)
    write_line(figure, view.name, 0.12, below=above + tall - 0.2, size=8, colour="#777777")
    length = max((step for step in (1, 2, 5, 10, 20, 50, 100) if step * frame.scale <= 1.0), default=1)
    low = axes.get_ylim()[0] + 0.1 / frame.scale
    left = axes.get_xlim()[1] - (length + 0.15 / frame.scale)
    axes.plot([left, left + length], [low, low], color="black", linewidth=2.5, solid_capstyle="butt")
    axes.text(left + length / 2, low + 0.05 / frame.scale, f"{length} mm", ha="center", va="bottom", fontsize=8)


def skeleton_axes(figure: Figure, box: tuple[float, float, float, float], frame: Frame) -> Axes:
    """Axes of a frame's scale at (left, below the upper edge, width, height) in inches, without ticks."""
    width, height = figure.get_size_inches()
    left, above, wide, tall = box
    axes = figure.add_axes((left / width, 1 - (above + tall) / height, wide / width, tall / height))
    half = np.array([wide, tall]) / (2 * frame.scale)
    axes.set(xlim=frame.middle[0] + half[0] * np.array([-1, 1]), ylim=frame.middle[1] + half[1] * np.array([-1, 1]))
    axes.set_axis_off()
    return axes


def _key_lines(landmarks: Sequence[str], wide: float, *texts: str) -> list[str]:
    """The texts, and the landmarks with their indices, in lines that fit into so many inches."""
    names = "   ".join(f"{number}{NO_BREAK}{name.replace('_', NO_BREAK)}" for number, name in enumerate(landmarks, 1))
    letters = max(int((wide - 0.3) / KEY_LETTER), 24)
    return [line for text in (*texts, names) for line in fill(text, letters).splitlines()]


def _write_key(figure: Figure, key: Sequence[str], above: float) -> None:
    for number, line in enumerate(key):
        write_line(figure, line, 0.15, below=above + 0.06 + KEY_LINE * number, size=9, colour="#444444")


def poses_figure(path: str | Path, poses_mm: np.ndarray, landmarks: Sequence[str], segments: Sequence[tuple[str, str]],
                 title: str = "") -> None:
    """Writes one pose with its indices (Fig. 1b), and all poses over one another from two sides (Fig. 1c).

    Args:
        path: Of the PNG.
        poses_mm: [N, K, 3], aligned already; NaN for a missing landmark. The first one is the example.
        landmarks: [K] names.
        segments: Pairs of names.
        title: Above.
    """
    poses = np.asarray(poses_mm, np.float64)
    views, colours = body_views(poses), segment_colours(landmarks, segments)
    frames = [_frame([Panel("", pose) for pose in poses], view) for view in views]
    frames = [frame._replace(scale=min(each.scale for each in frames)) for frame in frames]
    tall = max(frame.size[1] * frame.scale for frame in frames) + 2 * MARGIN
    wide, top = _panel_width(frames), 0.75
    key = _key_lines(landmarks, 3 * wide)
    strength = float(np.clip(6 / np.sqrt(max(len(poses), 1)) / 3, 0.12, 0.8))
    with png_figure(path, 3 * wide, top + tall + KEY_LINE * len(key) + 0.2) as figure:
        write_line(figure, title, 0.15)
        example = Panel("one pose", poses[0])
        axes = skeleton_axes(figure, (0, top, wide, tall), frames[0])
        draw_skeleton(axes, example, view=views[0], landmarks=landmarks, segments=segments,
                      inches_per_mm=frames[0].scale)
        write_line(figure, "one pose", 0.15, 0.45, 10)
        for number, (view, frame) in enumerate(zip(views, frames, strict=True), 1):
            axes = skeleton_axes(figure, (wide * number, top, wide, tall), frame)
            for pose in poses:
                bones, _ = projected(_ends(pose, landmarks, segments), view)
                axes.add_collection(LineCollection(list(bones), colors=colours, linewidths=0.9, alpha=strength))
                axes.scatter(*projected(pose, view)[0].T, s=3, color="#333333", alpha=strength, linewidths=0)
            write_line(figure, f"all {len(poses)}, {view.name}", wide * number + 0.15, 0.45, 10)
        _write_key(figure, key, top + tall)


# --- a prediction -------------------------------------------------------------------------------------------


def pose_preview(path: str | Path, image: np.ndarray, points_vox: np.ndarray, spacing_mm: Sequence[float],
                 landmarks: Sequence[str], segments: Sequence[tuple[str, str]], text: str = "") -> None:
    """Writes a prediction: the skeleton over three slices through its middle, and from two sides with its lengths.

    A landmark is the paler the farther it is from the slice.

    Args:
        path: Of the PNG.
        image: [X, Y, Z].
        points_vox: [K, 3] on its grid, NaN for a missing one.
        spacing_mm: Of the three axes.
        landmarks: [K] names.
        segments: Pairs of names.
        text: A heading, such as the file's name.
    """
    spacing = np.asarray(spacing_mm, np.float64)
    points_mm = np.asarray(points_vox, np.float64) * spacing
    views = body_views(points_mm)
    frames = [_frame([Panel("", points_mm)], view) for view in views]
    sides = np.array(image.shape) * spacing
    scale = min(9.6 / sum(sides[plane.right] for plane in PLANES), 3.6 / max(sides[plane.side] for plane in PLANES))
    slices_tall = scale * max(sides[plane.side] for plane in PLANES)
    body_tall = max(frame.size[1] * frame.scale for frame in frames) + 2 * MARGIN
    panel = _panel_width(frames)
    wide = max(scale * sum(sides[plane.right] for plane in PLANES) + 0.4, 2 * panel + 0.2)
    key = _key_lines(landmarks, wide)
    top = 0.4 if text else 0.1
    with png_figure(path, wide, top + slices_tall + 0.1 + body_tall + KEY_LINE * len(key) + 0.2) as figure:
        write_line(figure, text, 0.1, 0.1)
        left = 0.1
        for plane in PLANES:
            size = (scale * sides[plane.right], scale * sides[plane.side])
            _draw_slice(figure, (left, top, *size), image=image, points_mm=points_mm, spacing=spacing, plane=plane,
                        names=(landmarks, segments))
            left += size[0] + 0.1
        for number, (view, frame) in enumerate(zip(views, frames, strict=True)):
            box = ((wide - 2 * panel) / 3 * (number + 1) + panel * number, top + slices_tall + 0.1, panel, body_tall)
            draw_skeleton(skeleton_axes(figure, box, frame), Panel("", points_mm), view=view, landmarks=landmarks,
                          segments=segments, inches_per_mm=frame.scale)
        _write_key(figure, key, top + slices_tall + body_tall + 0.1)


def _draw_slice(figure: Figure, box: tuple[float, float, float, float], image: np.ndarray, points_mm: np.ndarray,
                spacing: np.ndarray, plane, names: tuple[Sequence[str], Sequence[tuple[str, str]]]) -> None:
    """The slice through the middle of the points, with the skeleton as seen along the cut axis."""
    width, height = figure.get_size_inches()
    left, above, wide, tall = box
    axes = figure.add_axes((left / width, 1 - (above + tall) / height, wide / width, tall / height))
    whole = points_mm[np.isfinite(points_mm).all(axis=1)]
    middle = whole.mean(axis=0) if len(whole) else (np.array(image.shape) - 1) / 2 * spacing
    index = int(np.clip(np.rint(middle[plane.cut] / spacing[plane.cut]), 0, image.shape[plane.cut] - 1))
    right, side = ((-0.5 * spacing[axis], (image.shape[axis] - 0.5) * spacing[axis])
                   for axis in (plane.right, plane.side))
    low, high = np.percentile(image, (0.5, 99.5))
    axes.imshow(np.take(image, index, axis=plane.cut).T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6),
                origin="lower", extent=(*right, *side), interpolation="bilinear", aspect="auto")
    shown = points_mm[:, [plane.right, plane.side]]
    bones = projected_ends(shown, *names)
    away = np.abs(points_mm[:, plane.cut] - index * spacing[plane.cut])
    near = np.clip(np.exp(-np.nan_to_num(away) / 8.0), 0.25, 1.0)
    between = projected_ends(np.stack([near, near], 1), *names)[..., 0].mean(axis=1)
    colours = ["white" if colour == TRUNK_COLOUR else colour for colour in segment_colours(*names)]
    if colours:
        axes.add_collection(LineCollection(list(bones), colors=colours, linewidths=1.8, alpha=between))
    axes.scatter(*shown.T, s=14, color=PREDICTION_COLOUR, alpha=near, linewidths=0)
    axes.set(xlim=right, ylim=side[::-1] if plane.down else side)
    axes.set_axis_off()
