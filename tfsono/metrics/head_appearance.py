"""How a head looks along its ellipse, and how far that is from the heads of a training.

A network finds an ellipse in images without a head too: slices of MR, discs, other anatomy. In ultrasound a skull is
brighter than what is on both sides of it, tissue is around it, and both are grainy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from tfsono.geometry.ellipse import Ellipse

SIDE = 96.0
"""Pixels of the mean semi-axis at which images are compared: grain depends on the size of a pixel."""

RING, INNER, OUTER, INSIDE = (0.92, 1.0), (0.7, 0.86), (1.06, 1.25), (0.0, 0.85)
"""Bands between two shares of the ellipse's radius."""

BLACK = 2
"""The highest grey level that counts as nothing: beyond the sector, or the background of another modality."""

LEAST_CASES = 30
"""Fewer training images give no distribution of four numbers."""

SHARE = 0.98
"""Of the training's heads within the limit."""


def appearance(pixels: np.ndarray, ellipse: Ellipse) -> np.ndarray | None:
    """Four numbers of a head in an image uint8 [Y, X]; None where its centre is not in the image, or nothing of
    the image is around it.

    The ring's brightness above that inside, and above that around it, in standard deviations of the inside; the share
    of black around it; the logarithm of the grain inside, relative to the brightness.
    """
    if not (0 <= ellipse.center_px[0] < pixels.shape[1] and 0 <= ellipse.center_px[1] < pixels.shape[0]):
        return None
    image, ellipse = _rescaled(pixels, ellipse)
    radius = _radius(image.shape, ellipse)
    ring, inner, outer, inside = (image[(radius >= low) & (radius <= high)] for low, high in (RING, INNER, OUTER,
                                                                                             INSIDE))
    if not (len(ring) and len(inner) and len(outer) and len(inside)):
        return None
    deviation = image[radius <= 1].std() + 1
    grain = np.abs(image - cv2.GaussianBlur(image, (0, 0), 2))[radius <= INSIDE[1]].mean()
    return np.array([(ring.mean() - inner.mean()) / deviation, (ring.mean() - outer.mean()) / deviation,
                     (outer <= BLACK).mean(), math.log((grain + 0.1) / (inside.mean() + 5))])


def learned_appearance(values: Sequence[np.ndarray | None]) -> dict | None:
    """The distribution of `appearance` over training heads, and the distance that `SHARE` of them are within.

    None with fewer than `LEAST_CASES` heads, or where they do not vary.
    """
    table = np.array([value for value in values if value is not None], np.float64).reshape(-1, 4)
    if len(table) < LEAST_CASES:
        return None
    covariance = np.cov(table.T)
    if np.linalg.cond(covariance) > 1e12:
        return None
    found = {"mean": table.mean(axis=0).tolist(), "precision": np.linalg.inv(covariance).tolist()}
    return found | {"limit": float(np.quantile([appearance_distance(value, found) for value in table], SHARE))}


def appearance_distance(value: np.ndarray, learned: Mapping) -> float:
    """Mahalanobis's distance of one `appearance` from the training's heads."""
    off = value - np.asarray(learned["mean"])
    with np.errstate(over="ignore", invalid="ignore"):  # a record may hold any numbers
        return float(np.sqrt(np.maximum(off @ np.asarray(learned["precision"]) @ off, 0.0)))


def _rescaled(pixels: np.ndarray, ellipse: Ellipse) -> tuple[np.ndarray, Ellipse]:
    """The surroundings of the ellipse, float32, with a mean semi-axis of `SIDE` pixels."""
    reach = OUTER[1] * ellipse.semi_major_px + 2
    x, y = ellipse.center_px
    left, top = max(math.floor(x - reach), 0), max(math.floor(y - reach), 0)
    part = pixels[top:math.ceil(y + reach), left:math.ceil(x + reach)].astype(np.float32)
    scale = SIDE / math.sqrt(ellipse.semi_major_px * ellipse.semi_minor_px)
    size = tuple(max(1, round(side * scale)) for side in part.shape[::-1])
    image = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    center = (x - left + 0.5) * scale - 0.5, (y - top + 0.5) * scale - 0.5
    return image, Ellipse(center, ellipse.semi_major_px * scale, ellipse.semi_minor_px * scale, ellipse.angle_rad)


def _radius(size_yx: tuple[int, int], ellipse: Ellipse) -> np.ndarray:
    """[Y, X]: each pixel's distance from the centre in units of the ellipse."""
    x, y = np.arange(size_yx[1]) - ellipse.center_px[0], np.arange(size_yx[0])[:, None] - ellipse.center_px[1]
    cosine, sine = math.cos(ellipse.angle_rad), math.sin(ellipse.angle_rad)
    return np.hypot((cosine * x + sine * y) / ellipse.semi_major_px, (cosine * y - sine * x) / ellipse.semi_minor_px)
