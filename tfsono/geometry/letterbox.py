"""A 2D image of any size in the middle of a frame of fixed size, with its aspect ratio kept.

Images are [Y, X], rows first, as in OpenCV and for the ImageNet weights; sizes are (rows, columns). Points are (x, y)
indices of pixel centres, the first pixel's centre being 0.0, so that a scale r maps `i` to `(i + 0.5) * r - 0.5`. Both
axes have one scale (head, Sec. "Preprocessing Strategy": "preserving aspect ratio"): with two, the axes of an ellipse
would no longer be perpendicular, and BPD and OFD not the lengths of its axes.

`tfsono.contrast.letterbox` maps the pixels with the same scale and offsets, in a graph, and `inference.head` maps them
back; this module maps points and masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Letterbox:
    """The place of an image in a frame.

    Attributes:
        source_yx: Rows and columns of the image.
        target_yx: Rows and columns of the frame.
        scale: Frame pixels per image pixel, the same along both axes.
        start_yx: First row and column of the frame that show the image; the padding is split evenly, an odd row or
            column goes to the high end.
        new_yx: Rows and columns that show it; a fraction under half a pixel of the image's edge is cut off.

    Raises:
        ValueError: A size is not two whole numbers above 0.
    """

    source_yx: tuple[int, int]
    target_yx: tuple[int, int]
    scale: float = field(init=False)
    start_yx: tuple[int, int] = field(init=False)
    new_yx: tuple[int, int] = field(init=False)

    def __post_init__(self):
        source, target = (_checked(getattr(self, name), name) for name in ("source_yx", "target_yx"))
        scale = min(t / s for t, s in zip(target, source, strict=True))
        # Half up, not to even, as in the graph.
        new = tuple(min(max(math.floor(s * scale + 0.5), 1), t) for t, s in zip(target, source, strict=True))
        start = tuple((t - n) // 2 for t, n in zip(target, new, strict=True))
        values = {"source_yx": source, "target_yx": target, "scale": scale, "start_yx": start, "new_yx": new}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def valid(self) -> np.ndarray:
        """bool [target_yx]: True where the frame shows the image."""
        inside = np.zeros(self.target_yx, bool)
        rows, columns = self._window()
        inside[rows, columns] = True
        return inside

    def points_to_target(self, points_px: np.ndarray) -> np.ndarray:
        """Points of the image [..., 2] (x, y) -> of the frame, float64; NaN stays NaN."""
        return (np.asarray(points_px, np.float64) + 0.5) * self.scale + self._start_xy() - 0.5

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The image [Y, X] or [Y, X, C] in the frame, in its own type, 0 around it.

        Shrunk by the mean over a pixel's area, enlarged linearly. Networks get `tfsono.contrast.letterbox` instead,
        which a SavedModel can hold; this is for figures, and for files outside a graph.

        Raises:
            ValueError: The image is not of `source_yx`.
        """
        self._check(image, self.source_yx, "image")
        if self.scale < 1:
            values = self._shrunk(image)
        else:
            start = tuple(s / self.scale for s in self.start_yx)
            values = _sampled(image.astype(np.float32), 1 / self.scale, start, self.target_yx)
        rows, columns = self._window()
        framed = np.zeros((*self.target_yx, *image.shape[2:]), image.dtype)
        framed[rows, columns] = _as_type(values[rows, columns], image.dtype)
        return framed

    def apply_mask(self, mask: np.ndarray) -> np.ndarray:
        """The mask [Y, X] in the frame, bool: True where at least half of a pixel's area was in the mask.

        Args:
            mask: Boolean, or numbers of which every one but 0 is inside.

        Raises:
            ValueError: The mask is not of `source_yx`, or has channels.
        """
        self._check(mask, self.source_yx, "mask")
        if mask.ndim != 2:
            raise ValueError(f"mask must be [Y, X]; found {mask.ndim} axes")
        return self.apply((mask != 0).astype(np.float32)) >= 0.5 - 1e-6

    def _start_xy(self) -> np.ndarray:
        return np.array(self.start_yx[::-1], np.float64)

    def _window(self) -> tuple[slice, slice]:
        """The rows and columns of the frame that show the image."""
        rows, columns = (slice(s, s + n) for s, n in zip(self.start_yx, self.new_yx, strict=True))
        return rows, columns

    def _check(self, array: np.ndarray, size_yx: tuple[int, int], name: str) -> None:
        if array.shape[:2] != size_yx or array.ndim > 3:
            raise ValueError(f"{name} must be {list(size_yx)} or [*, *, channels]; found {list(array.shape)}")

    def _shrunk(self, image: np.ndarray) -> np.ndarray:
        """The mean of the image over the area of every pixel of the frame, float64 [target_yx, ...].

        As a product of two matrices, one an axis: OpenCV's INTER_AREA rounds the scale to whole sizes first.
        """
        values = image.astype(np.float64)
        for axis in (0, 1):
            weights = _areas(self.source_yx[axis], self.target_yx[axis], self.start_yx[axis], self.scale)
            values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
        return values


def _checked(size_yx: tuple[int, int], name: str) -> tuple[int, int]:
    size = tuple(int(n) for n in size_yx)
    if len(size) != 2 or min(size) < 1 or size != tuple(size_yx):
        raise ValueError(f"{name} must be two whole numbers above 0, rows and columns; found {size_yx}")
    return size


def _areas(source: int, target: int, start: int, scale: float) -> np.ndarray:
    """[target, source]: the share of each pixel of the image in each of the frame; rows add up to 1 or 0."""
    edges = (np.arange(target + 1) - start) / scale
    low, high = (np.clip(edge, 0, source)[:, None] for edge in (edges[:-1], edges[1:]))
    pixel = np.arange(source)[None, :]
    overlap = np.clip(np.minimum(high, pixel + 1) - np.maximum(low, pixel), 0, None)
    return overlap / np.maximum(overlap.sum(axis=1, keepdims=True), 1e-12)


def _as_type(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Rounded into the range of a whole-number type, or as the float it is."""
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(kind)


def _sampled(values: np.ndarray, scale: float, start_yx: tuple[float, float], size_yx: tuple[int, int]) -> np.ndarray:
    """`values` [y, x, ...] linearly at `(i + 0.5) * scale - 0.5 - start` for the pixels i of `size_yx`, float32.

    One axis at a time, in NumPy: OpenCV's `remap` and `warpAffine` round positions to 1/32 pixel.
    """
    for axis, (start, count) in enumerate(zip(start_yx, size_yx, strict=True)):
        most = values.shape[axis] - 1
        place = np.clip((np.arange(count) + 0.5) * scale - 0.5 - start, 0, most)
        low = np.floor(place).astype(np.int64)
        share = (place - low).astype(np.float32).reshape([-1 if other == axis else 1 for other in range(values.ndim)])
        below, above = values.take(low, axis), values.take(np.minimum(low + 1, most), axis)
        values = below + share * (above - below)
    return values.astype(np.float32)
