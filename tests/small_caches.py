"""Tiny caches of `hip` and `head`, and the smallest settings that train on them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from small_datasets import write_image, write_json
from tfsono.audit.cache_writer import write_cache
from tfsono.data.cache import checksum_of, stored_arrays, stored_parts
from tfsono.data.layout import open_dataset
from tfsono.data.prepare import CacheSettings
from tfsono.phantoms.dataset import write_head_dataset

TINY = ["--preset", "quick", "--patch", "16,16,16", "--widths", "4,4,6,6", "--lower_widths", "4,3", "--middle_widths",
        "3", "--iterations", "6", "--record_every", "2", "--test_cases", "2", "--tiling", "half"]

TINY_HEAD = ["--preset", "quick", "--input_size", "32,64", "--unet_widths", "4,6,8", "--backbone_widths", "4,4,6,8,8",
             "--heatmap_widths", "8,8,8", "--head_widths", "16,8", "--pyramid_channels", "8", "--pyramid_fused", "8",
             "--transformer_size", "32,64", "--transformer_width", "16", "--transformer_depth", "2",
             "--transformer_heads", "2", "--aspp_channels", "8", "--low_level_channels", "4",
             "--attention_reduction", "4", "--clahe_tiles", "4", "--segmentation_batch", "2", "--landmark_batch", "2",
             "--segmentation_iterations", "2", "--segmentation_record_every", "1", "--landmark_iterations", "2",
             "--landmark_record_every", "1", "--restart_records", "1", "--test_cases", "2", "--folds", "2",
             "--monte_carlo_samples", "2"]


def write_small_dataset(root: Path, sizes) -> Path:
    """Cases case_0, case_1, ... of the sizes given, with two labels, `head` and `body`, brighter than the rest."""
    for number, size in enumerate(sizes):
        random = np.random.default_rng(number)
        mask = np.zeros(size, np.uint8)
        middle = [n // 2 for n in size]
        mask[middle[0] - 2:middle[0] + 1, middle[1] - 2:middle[1] + 2, 2:-2] = 1
        mask[middle[0] + 1:middle[0] + 2, middle[1] - 2:middle[1] + 2, 2:-2] = 2
        image = (random.normal(100, 10, size) + 80 * (mask > 0) + 30 * (mask > 1)).astype(np.int16)
        write_image(root / "images" / f"case_{number}.nii.gz", image)
        write_image(root / "labels" / f"case_{number}.nii.gz", mask)
    write_json(root / "dataset.json", {"name": "small", "modality": "MR", "labels": {"head": 1, "body": 2}})
    return root


def write_small_cache(root: Path, sizes) -> Path:
    """The cache of such a dataset."""
    dataset = open_dataset(write_small_dataset(root / "dataset", sizes))
    write_cache(dataset, root / "small.h5", CacheSettings("hip"), progress=lambda text: None)
    return root / "small.h5"


def write_small_head_dataset(root: Path, cases: int = 8) -> Path:
    """Head phantoms head_001, ... of 54x80 pixels, in the dataset layout."""
    return write_head_dataset(root, cases, 0, (54, 80), (0.52, 3.26), progress=lambda text: None)


def write_head_cache(dataset: Path, path: Path) -> Path:
    """The cache of a dataset of 2D images."""
    write_cache(open_dataset(dataset), path, CacheSettings("head"), progress=lambda text: None)
    return path


def seal(file: h5py.File) -> None:
    """Makes the checksums of an open cache fit what a test has changed; a case without masks has no voxels of them."""
    for group in file["cases"].values():
        if "label" not in group and "foreground" in group:
            del group["foreground"]
        group.attrs["checksum"] = checksum_of(stored_parts(group, stored_arrays(group)))
