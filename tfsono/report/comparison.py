"""One slice of a validation case for TensorBoard: the reference beside the prediction, drawn with NumPy alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = np.array([(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167)])
LEAST_SIDE = 192  # pixels; a smaller slice is enlarged
TINT = 0.25  # of a label's colour inside of its outline
ARM = 4  # pixels of a landmark's cross

Pair = tuple[np.ndarray | None, np.ndarray | None]


def comparison_image(volume: np.ndarray, masks: Pair = (None, None), points_vox: Pair = (None, None)) -> np.ndarray:
    """A slice across z with the reference on the left and the prediction on the right, uint8 [rows, columns, 3].

    Each label has a colour, and so has each landmark, which is drawn wherever its z is. The slice is the one with most
    of the reference mask, or that of the reference landmarks' mean: the same at each record.

    Args:
      volume: [X, Y, Z].
      masks: reference and prediction, [X, Y, Z] of label values.
      points_vox: reference and prediction, [K, 3]; NaN where there is none.
    """
    place = _place(volume.shape[2], masks[0], points_vox[0])
    grey = volume[:, :, place].T.astype(np.float32)
    low, high = np.percentile(grey, (1, 99))
    grey = np.clip((grey - low) / max(high - low, 1e-6), 0, 1) * 255
    factor = -(-LEAST_SIDE // max(grey.shape))
    panels = []
    for mask, points in zip(masks, points_vox, strict=True):
        panel = np.repeat(_larger(grey, factor)[..., None], 3, axis=-1)
        if mask is not None:
            _tint(panel, _larger(mask[:, :, place].T, factor))
        if points is not None:
            _draw_crosses(panel, (np.asarray(points)[:, :2] + 0.5) * factor - 0.5)
        panels.append(panel)
    return np.concatenate(panels, axis=1).astype(np.uint8)


def _place(count: int, mask: np.ndarray | None, points_vox: np.ndarray | None) -> int:
    """The index of the slice."""
    if mask is not None and (mask > 0).any():
        return int(np.argmax((mask > 0).sum((0, 1))))
    places = np.zeros(0) if points_vox is None else np.asarray(points_vox)[:, 2:]  # none in 2D
    places = places[np.isfinite(places)]
    return int(np.clip(np.round(places.mean()), 0, count - 1)) if places.size else count // 2


def _larger(array: np.ndarray, factor: int) -> np.ndarray:
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _tint(panel: np.ndarray, labels: np.ndarray) -> None:
    """Colours the labels [rows, columns]: a tint, and their outlines."""
    inside = np.pad(labels, 1, mode="edge")
    same = [inside[1:-1, 2:], inside[1:-1, :-2], inside[2:, 1:-1], inside[:-2, 1:-1]]
    outline = np.any([each != labels for each in same], axis=0)
    for value in np.unique(labels[labels > 0]):
        colour, of_label = COLOURS[(int(value) - 1) % len(COLOURS)], labels == value
        panel[of_label] = (1 - TINT) * panel[of_label] + TINT * colour
        panel[of_label & outline] = colour


def _draw_crosses(panel: np.ndarray, points_px: np.ndarray) -> None:
    """Draws points (x, y) [K, 2]; none that is NaN, and of one at the border what is inside."""
    for number, point in enumerate(points_px):
        if np.isfinite(point).all():
            for x, y in _cross(*np.clip(np.round(point), -ARM, 1 << 20).astype(int)):
                if 0 <= x < panel.shape[1] and 0 <= y < panel.shape[0]:
                    panel[y, x] = COLOURS[number % len(COLOURS)]


def _cross(x: int, y: int) -> Iterator[tuple[int, int]]:
    for step in range(-ARM, ARM + 1):
        yield x + step, y
        yield x, y + step
