"""`tiling.json` of a run of `hip`: whether `fast` gives what the paper's tiles give, measured on its validation cases.

    {"compared": "fast", "with": "paper", "dice": {CASE: Dice, ...}, "memory_gb": 12.0}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from tfsono.errors import printable
from tfsono.files import read_json, write_text
from tfsono.metrics.overlap import overlap_metrics
from tfsono.structure import check_structure
from tfsono.training.record import recorded
from tfsono.training.run import DAMAGED

TILING = "tiling.json"
LEAST_DICE = 0.999


class Compared(TypedDict):
    """What the measurement found: mean foreground Dice of each case, and the memory that `fast` had."""

    dice: dict[str, float]
    memory_gb: float


def agreement(cache, names: Sequence[str], one: Callable, other: Callable, classes: int) -> dict[str, float]:
    """The mean foreground Dice between two modules' masks of each case; without cases in which both are empty."""
    dice = {}
    for name in names:
        volume = cache.read(name).own
        masks = [module(np.float32(volume.array), np.float32(volume.spacing_mm))["mask"].numpy()
                 for module in (one, other)]
        scores = [overlap_metrics(masks[0] == k, masks[1] == k)["dice"] for k in range(1, classes)]
        scores = [score for score in scores if score == score]
        if scores:
            dice[name] = float(np.mean(scores))
            print(f"{printable(name)}: Dice {dice[name]:.4f} between the tilings fast and paper", flush=True)
    return dice


def mean_dice(found: Compared) -> float:
    """The mean of the cases."""
    return sum(found["dice"].values()) / len(found["dice"])


def write_compared(folder: Path, dice: Mapping[str, float], memory_gb: float) -> None:
    """Writes tiling.json, as a file of the run."""
    content = {"compared": "fast", "with": "paper", "dice": dict(dice), "memory_gb": memory_gb}
    with recorded(folder, TILING) as (path,):
        write_text(path, json.dumps(content, indent=2) + "\n")


def fast_memory_gb(folder: Path) -> float:
    """The memory with which `fast` gives what the paper's tiles give; 0 where it does not, or was not measured."""
    path = folder / TILING
    if not path.exists():
        return 0.0
    found = read_json(path, DAMAGED)
    check_structure(found, Compared, path)
    return found["memory_gb"] if found["dice"] and mean_dice(found) >= LEAST_DICE else 0.0
