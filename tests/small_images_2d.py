"""Tiny 2D images of heads, written by OpenCV alone: a bright ellipse on grain, its mask and the ends of its axes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

ROWS, COLUMNS = 90, 131
CENTRE, AXES, TURN = (60, 47), (38, 29), 20.0
POINTS = np.array([(24.291, 34.003), (95.709, 59.997), (69.919, 19.749), (50.081, 74.251)])
"""Ends of the long axis from left to right, of the short one downwards: the centre -+ 38 or 29 times (cos, sin)."""

COLUMN_NAMES = "image_name,ofd_1_x,ofd_1_y,ofd_2_x,ofd_2_y,bpd_1_x,bpd_1_y,bpd_2_x,bpd_2_y"


def mask() -> np.ndarray:
    """uint8 [90, 131] 0/1."""
    return cv2.ellipse(np.zeros((ROWS, COLUMNS), np.uint8), CENTRE, AXES, TURN, 0, 360, 1, -1)


def outline() -> np.ndarray:
    """uint8 [90, 131] 0/255: one pixel wide, closed over corners."""
    return cv2.ellipse(np.zeros((ROWS, COLUMNS), np.uint8), CENTRE, AXES, TURN, 0, 360, 255, 1)


def image(number: int) -> np.ndarray:
    """uint8 [90, 131]."""
    grain = np.random.default_rng(number).normal(60, 10, (ROWS, COLUMNS))
    return np.rint(grain + 80 * mask()).astype(np.uint8)


def write_image_2d(path: Path, pixels: np.ndarray) -> Path:
    """Writes by the suffix; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def row(name: str, points=POINTS) -> str:
    """A row of the table of points."""
    return ",".join([name, *(f"{value:.3f}" for value in np.ravel(points))])


def write_heads(root: Path, names) -> Path:
    """images/, labels/, pixel_sizes.csv and points.csv (as they should be) of the names given."""
    names = list(names)
    for number, name in enumerate(names):
        write_image_2d(root / "images" / f"{name}.png", image(number))
        write_image_2d(root / "labels" / f"{name}.png", mask())
    sizes = [f"{name}.png,0.2,{circumference_mm():.2f}" for name in names]
    (root / "pixel_sizes.csv").write_text("\n".join(["image_name,pixel_size_mm,head_circumference_mm", *sizes]))
    (root / "points.csv").write_text("\n".join([COLUMN_NAMES, *(row(f"{name}.png") for name in names)]))
    return root


def circumference_mm() -> float:
    """Of the ellipse, by a sum over short chords, at 0.2 mm a pixel."""
    angle = np.linspace(0, 2 * np.pi, 100_001)
    return 0.2 * float(np.hypot(*np.diff([AXES[0] * np.cos(angle), AXES[1] * np.sin(angle)])).sum())
