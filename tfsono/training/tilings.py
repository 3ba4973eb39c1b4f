"""`tiling.json` of a run of `hip`: whether `fast` gives what the paper's tiles give, measured on its validation cases.

    {"compared": "fast", "with": "paper", "dice": {CASE: Dice, ...}, "memory_gb": 12.0}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from tfsono.files import read_json, write_text
from tfsono.structure import check_structure
from tfsono.training.record import recorded
from tfsono.training.run import DAMAGED

TILING = "tiling.json"
LEAST_DICE = 0.999


class Compared(TypedDict):
    """What the measurement found: mean foreground Dice of each case, and the memory that `fast` had."""

    dice: dict[str, float]
    memory_gb: float


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
