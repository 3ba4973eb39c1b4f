"""Rules of `hip`; docs/planning.md has the measurement behind each."""

from __future__ import annotations

import math

import numpy as np

from tfsono.planning.draft import NOT_MEASURED, Draft, Training, common_values, grid_of, spacing_of, up_to, warnings_of
from tfsono.planning.facts import Facts, listed

VOXELS = 4 * 40 * 56 * 40
"""Of a step: the hippocampus in docs/results/hip.md."""

STRIDE, LEAST = 8, 24  # 16 along x gives wrong gradients in bfloat16 on a CPU
SEEN = 0.5  # of the labels' box by a patch: phantoms of docs/planning.md had a Dice of 0.21 at 0.35, 0.949 at 0.8
WHOLE = 5  # patches in a volume that is predicted at once: equal at 3.5 and 4.6, worse at 5.7 (docs/planning.md)
FEW_STEPS, MANY_STEPS = 600, 4000


def draft(facts: Facts, share: float = 1.0) -> Draft:
    """The training of masks; a `share` of the voxels of a step that was measured."""
    voxels = int(share * VOXELS)
    spacing_mm, why = spacing_of(facts)
    size, spacing = grid_of(facts, spacing_mm)
    batch, patch = patch_of(size, voxels)
    whole = np.prod(size) <= WHOLE * math.prod(patch)
    values = {
        "spacing_mm": (spacing_mm, why),
        "patch": (patch, f"volumes of {listed(size)} voxels, and at most {voxels:,} voxels a step (hippocampus: Dice "
                         "0.888)"),
        "batch": (batch, "4 where it fits, else 2: equal on the hippocampus (0.888, 0.887)"),
        "norm_at_test": ("tile", "averages of the training fail on noisy volumes, even of the training (phantoms)"),
        "tiling": ("whole" if whole else "half", "the same result as tiles up to 4.6 patches in a volume, faster "
                   "(phantoms)" if whole else "better than a volume at once at 5.7 patches in a volume (phantoms)"),
        "rotation_degrees": (5.0, "hippocampus: 0.888, with 15 degrees 0.887"),
        "scaling": (0.1, "hippocampus: 0.888, with 0.15 0.887"),
        **common_values(facts),
    }
    training = Training("hip", "tuned_no_deep_supervision", values, fewest=FEW_STEPS, most=MANY_STEPS)
    warnings = (*warnings_of(facts, spacing_mm), *patch_warnings(facts, patch, spacing))
    return Draft((training,), spacing_mm, warnings)


def patch_of(size: np.ndarray, voxels: int) -> tuple[int, tuple[int, ...]]:
    """Batch and patch: the median volume; the longest sides give way."""
    patch = [max(up_to(side, STRIDE), LEAST if axis == 0 else 2 * STRIDE) for axis, side in enumerate(size)]
    batch = 4 if 4 * math.prod(patch) <= voxels else 2
    while batch * math.prod(patch) > voxels and max(patch) > LEAST:
        patch[int(np.argmax(patch))] -= STRIDE
    return batch, tuple(patch)


def patch_warnings(facts: Facts, patch: tuple[int, ...], spacing: np.ndarray):
    """Patches that no volume fills, or that see little of what they learn."""
    if not facts.labels_ml:
        yield "hip learns from masks, and there are none"
    largest = (facts.sides_mm / spacing).max(axis=0)
    if (np.array(patch) > [up_to(side, STRIDE) for side in largest]).any():
        yield f"the patch {listed(patch)} is larger than any volume ({listed(largest)}): the rest of it is padding"
    seen = np.minimum(np.array(patch) / np.maximum(facts.extent_mm / spacing, 1), 1)
    share = float(np.prod(seen))
    if share < SEEN:
        coarse = listed(spacing * np.where(seen < 1, (SEEN / share) ** (1 / np.sum(seen < 1)), 1))
        yield (f"a patch sees {share:.0%} of the labels' extent: more --minutes or --memory_gb, or a cache with "
               f"--spacing_mm {coarse} ({NOT_MEASURED})")
