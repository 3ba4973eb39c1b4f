"""Tiny datasets written by SimpleITK alone, for the tests of tfsono.data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SIZE = (13, 10, 7)
SPACING_MM = (0.5, 0.8, 1.5)
ORIGIN_MM = (-3.0, 4.5, 10.0)
RAS = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


def noise(seed: int, size=SIZE) -> np.ndarray:
    """int16 [X, Y, Z]."""
    return np.random.default_rng(seed).integers(-100, 1000, size).astype(np.int16)


def box_mask(size=SIZE, value: int = 1) -> np.ndarray:
    """uint8 [X, Y, Z]: a box of 4 x 3 x 2 = 24 voxels of `value` that touches nothing."""
    mask = np.zeros(size, np.uint8)
    mask[3:7, 2:5, 2:4] = value
    return mask


def write_image(path: Path, array: np.ndarray, spacing=SPACING_MM, origin=ORIGIN_MM, direction=None) -> None:
    """Writes [X, Y, Z] with its geometry."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing([float(value) for value in spacing])
    image.SetOrigin([float(value) for value in origin])
    if direction is not None:
        image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def write_json(path: Path, content) -> None:
    """Writes any JSON."""
    path.write_text(json.dumps(content))


def write_cases(root: Path, count: int, labels: dict[str, int] | None = None) -> list[str]:
    """`count` sound cases of different sizes in the package's own layout; their names."""
    names = [f"case_{number:02d}" for number in range(count)]
    for number, name in enumerate(names):
        size = (13 + number % 3, 10 + number % 2, 7)
        write_image(root / "images" / f"{name}.nii.gz", noise(number, size))
        write_image(root / "labels" / f"{name}.nii.gz", box_mask(size))
    write_json(root / "dataset.json", {"name": "small", "modality": "MR", "labels": labels or {"femur": 1}})
    return names
