"""A tiny dataset of faces of bright spots, and the smallest settings that train on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from small_datasets import write_image, write_json
from tfsono.configs.face import LANDMARKS
from tfsono.volumes.image import read_volume
from tfsono.volumes.landmarks import points_to_mm, write_markups

SPACING = (1.0, 1.1, 0.9)
CASES = 13
TINY_FACE = ["--preset", "quick", "--widths", "3,4,5", "--head_width", "6", "--anchor_sides", "6,10", "--box_sides",
             "6,9,6,9,9", "--max_positives", "12", "--proposals", "8", "--proposal_pool", "60", "--roi_side", "2",
             "--roi_width", "8", "--iterations", "2", "--record_every", "1", "--test_cases", "2", "--top_k", "3"]
FACE = np.array([[-6.0, 0, 2], [0, 2, 5], [6, 0, 2], [0, 5, 0], [0, 3, -8]])


def face(number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of odd unequal sides with a spot of its own brightness at each of 5 points, and the points [5, 3]."""
    random = np.random.default_rng(number)
    size = np.array([31, 27, 29]) - random.integers(0, 3, 3)
    points = (size - 1) / 2 + FACE + random.normal(0, 0.7, (5, 3))
    image = random.normal(60, 10, size)
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    for place, point in enumerate(points):
        image += (60 + 30 * place) * np.exp(-((grid - point) ** 2).sum(-1) / 8)
    return image.astype(np.int16), points


def write_small_face_dataset(root: Path, cases: int = CASES, missing: tuple[tuple[int, str], ...] = ()) -> Path:
    """Cases face_00, ... with the 5 landmarks, less those of `missing`: (number of the case, name)."""
    (root / "landmarks").mkdir(parents=True)
    for number in range(cases):
        image, points = face(number)
        name = f"face_{number:02d}"
        path = root / "images" / f"{name}.nii.gz"
        write_image(path, image, SPACING)
        named = dict(zip(LANDMARKS, points_to_mm(points, read_volume(path)), strict=True))
        kept = {landmark: point for landmark, point in named.items() if (number, landmark) not in missing}
        write_markups(root / "landmarks" / f"{name}.mrk.json", kept)
    write_json(root / "dataset.json", {"name": "faces", "modality": "US", "labels": {}, "landmarks": list(LANDMARKS)})
    return root
