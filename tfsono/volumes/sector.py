"""The part of a 2D image that shows the ultrasound: a screen capture has a border around it.

A network sees the whole image in a frame of fixed size, so that in a wide border a head becomes small.
"""

from __future__ import annotations

import cv2
import numpy as np

LEVELS = 2
"""How far from the border's grey level a pixel is part of the content: dark tissue is, and most of what compression
leaves in a border is not."""

CELLS, DENSITY = 64, 0.1
"""Cells along the longer side of the image, and the share of content in one from which on it counts."""

THINNEST, SMALLEST_PART = 3, 0.02
"""Cells across a part of the content, and its share of the largest part's area: others are text, scales and logos."""

LEAST_SIDE = 32
"""Pixels of a side; less content is no ultrasound image."""

BOTH, EITHER = 0.8, 0.65
"""Shares of the image's rows and columns: content is cut out where it fills less than `BOTH` of both, or less than
`EITHER` of one. In 787 images of HC18 it fills 0.81 of one, and 0.656 of the other, or more: none is cut."""


def sector_of(pixels: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of an image uint8 [Y, X] that show the ultrasound: all of it without a wide border.

    Example:
        >>> screen = np.zeros((90, 120), np.uint8)
        >>> screen[20:60, 30:90] = np.random.default_rng(0).integers(20, 200, (40, 60))
        >>> sector_of(screen)
        (slice(20, 60, None), slice(30, 90, None))
    """
    whole = slice(0, pixels.shape[0]), slice(0, pixels.shape[1])
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    content = cv2.threshold(cv2.absdiff(pixels, float(np.median(border))), LEVELS, 1, cv2.THRESH_BINARY)[1]
    side = -(-max(pixels.shape) // CELLS)
    cells = _large_parts(content, side)
    if not cells.any() or not _is_cut(_extent(cells), cells.shape):
        return whole
    near = cv2.dilate(cells, np.ones((3, 3), np.uint8)).repeat(side, 0).repeat(side, 1)
    found = _extent(content & near[:pixels.shape[0], :pixels.shape[1]])
    large = min(part.stop - part.start for part in found) >= LEAST_SIDE
    return found if large and _is_cut(found, pixels.shape) else whole


def _large_parts(content: np.ndarray, side: int) -> np.ndarray:
    """uint8 0/1, one for each cell of `side` pixels: whether it is in a large part of the content [Y, X]."""
    size = tuple(-(-length // side) for length in content.shape)
    padded = cv2.copyMakeBorder(content, 0, size[0] * side - content.shape[0], 0, size[1] * side - content.shape[1],
                                borderType=cv2.BORDER_CONSTANT)
    shares = cv2.resize(padded.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    thick = cv2.morphologyEx((shares >= DENSITY).astype(np.uint8), cv2.MORPH_OPEN,
                             np.ones((THINNEST, THINNEST), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(thick, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.isin(labels, 1 + np.flatnonzero(areas >= SMALLEST_PART * areas.max(initial=0))).astype(np.uint8)


def _extent(inside: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of what is not 0; there is some."""
    places = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(int(at[0]), int(at[-1]) + 1) for at in places)
    return rows, columns


def _is_cut(part: tuple[slice, slice], size: tuple[int, int]) -> bool:
    """Whether rows and columns of content are so few that the rest is a border."""
    shares = [(one.stop - one.start) / length for one, length in zip(part, size, strict=True)]
    return max(shares) < BOTH or min(shares) < EITHER
