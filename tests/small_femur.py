"""A tiny dataset of bars with two ends, and the smallest settings that train on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from small_datasets import write_image, write_json
from tfsono.audit.cache_writer import write_cache
from tfsono.data.layout import open_dataset
from tfsono.data.prepare import CacheSettings
from tfsono.volumes.image import read_volume
from tfsono.volumes.landmarks import points_to_mm, write_markups

SIZES = ((30, 21, 19), (27, 23, 21), (29, 19, 23), (31, 21, 17), (28, 22, 18))
SPACING = (0.5, 0.6, 0.7)
NAMES = ("proximal", "distal")
TINY_FEMUR = ["--preset", "quick", "--widths", "4,4,6,6", "--roi_widths", "4,6,8", "--discriminator_widths",
              "4,4,4,4,4,4", "--roi_margin", "2", "--slice_batch", "4", "--roi_iterations", "2", "--iterations", "2",
              "--adversarial_iterations", "1", "--record_every", "1", "--test_cases", "2"]


def bar(number: int, size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, mask and ends [2, 3] of a bar along x, thicker at its first end."""
    random = np.random.default_rng(number)
    start, stop = 5 + number % 3, size[0] - 6
    y, z = size[1] // 2, size[2] // 2
    mask = np.zeros(size, np.uint8)
    mask[start:stop, y - 2:y + 2, z - 2:z + 2] = 1
    mask[start:start + 4, y - 3:y + 3, z - 3:z + 3] = 1
    image = (random.normal(60, 10, size) + 90 * mask).astype(np.int16)
    return image, mask, np.array([[start, y, z], [stop - 1, y, z]], float)


def write_small_femur_dataset(root: Path, sizes=SIZES) -> Path:
    """Cases bone_0, ... with masks and landmarks."""
    for number, size in enumerate(sizes):
        image, mask, points = bar(number, size)
        path = root / "images" / f"bone_{number}.nii.gz"
        write_image(path, image, SPACING)
        write_image(root / "labels" / f"bone_{number}.nii.gz", mask, SPACING)
        (root / "landmarks").mkdir(exist_ok=True)
        ends = points_to_mm(points, read_volume(path))
        write_markups(root / "landmarks" / f"bone_{number}.mrk.json", dict(zip(NAMES, ends, strict=True)))
    write_json(root / "dataset.json", {"name": "bars", "modality": "US", "labels": {"femur": 1},
                                       "landmarks": list(NAMES)})
    return root


def write_femur_cache(dataset: Path, path: Path) -> Path:
    """Its cache."""
    write_cache(open_dataset(dataset), path, CacheSettings("femur"), progress=lambda text: None)
    return path
