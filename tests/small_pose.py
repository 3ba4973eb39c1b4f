"""A tiny dataset of bodies of bright spots, and the smallest settings that train on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from small_datasets import write_image, write_json
from tfsono.configs.pose import LANDMARKS
from tfsono.volumes.image import read_volume
from tfsono.volumes.landmarks import points_to_mm, write_markups

SIZES = ((30, 25, 27), (29, 27, 25), (31, 23, 29), (27, 29, 26), (28, 26, 30), (30, 24, 25))
SPACING = (1.0, 1.1, 0.9)
TINY_POSE = ["--preset", "quick", "--widths", "4,4,6", "--discriminator_widths", "3,3,4,4", "--rnn_hidden", "3",
             "--iterations", "2", "--second_iterations", "1", "--record_every", "1", "--test_cases", "2",
             "--refine_atlases", "3", "--refine_iterations", "2"]


def body(number: int, size) -> tuple[np.ndarray, np.ndarray]:
    """An image with a spot of its own brightness at each of 16 points, and the points [16, 3]."""
    random = np.random.default_rng(number)
    points = random.uniform(3, np.array(size) - 4, (len(LANDMARKS), 3)).round()
    image = random.normal(60, 10, size)
    for place, point in enumerate(points.astype(int)):
        image[tuple(slice(index - 1, index + 2) for index in point)] += 40 + 10 * place
    return image.astype(np.int16), points


def write_small_pose_dataset(root: Path, sizes=SIZES, missing: tuple[tuple[int, str], ...] = ()) -> Path:
    """Cases body_0, ... with the 16 landmarks, less those of `missing`: (number of the case, name)."""
    for number, size in enumerate(sizes):
        image, points = body(number, size)
        path = root / "images" / f"body_{number}.nii.gz"
        write_image(path, image, SPACING)
        (root / "landmarks").mkdir(exist_ok=True)
        named = dict(zip(LANDMARKS, points_to_mm(points, read_volume(path)), strict=True))
        kept = {name: point for name, point in named.items() if (number, name) not in missing}
        write_markups(root / "landmarks" / f"body_{number}.mrk.json", kept)
    write_json(root / "dataset.json", {"name": "bodies", "modality": "US", "labels": {}, "landmarks": list(LANDMARKS)})
    return root
