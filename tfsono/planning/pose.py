"""Rules of `pose`; docs/planning.md has the measurement behind each."""

from __future__ import annotations

import math

from tfsono.configs.pose import MIDLINE
from tfsono.planning.draft import NOT_MEASURED, Draft, Training, common_values, grid_of, spacing_of, warnings_of
from tfsono.planning.facts import Facts, listed

VOXELS = 80_000
"""Of the volume on the network's grid: 61,000 (fetal brain, ratio 0.25) and 77,000 (phantoms of `quick`)."""

SIGMA_MM, FEWEST, MOST = 5.0, 1.56, 2.5  # mm, and its limits in voxels of the network's grid


def draft(facts: Facts, share: float = 1.0) -> Draft:
    """The detector; a `share` of the voxels that were measured."""
    voxels = int(share * VOXELS)
    spacing_mm, why = spacing_of(facts)
    size, spacing = grid_of(facts, spacing_mm)
    ratio = max(math.floor(100 * min(1.0, (voxels / math.prod(size)) ** (1 / 3))) / 100, 0.06)
    voxel = float(spacing.mean()) / ratio
    sigma = round(min(max(SIGMA_MM, FEWEST * voxel), MOST * voxel), 2)
    values = {
        "spacing_mm": (spacing_mm, why),
        "ratio": (ratio, f"volumes of {listed(size)} voxels in at most {voxels:,} (fetal brain: 1.7 mm at 61,000; "
                         "phantoms of `quick`: 77,000)"),
        "heatmap_sigma_mm": (sigma, f"{sigma / voxel:.3g} voxels of the network's grid; 1.56 to 2.5 of 5 mm were "
                                    "measured (fetal brain, phantoms)"),
        "heatmap_loss": ("weighted_l2", "fetal brain: all seven landmarks after 125 steps; with l2 four flat maps"),
        "flips": (False, "mirror images exchange left and right (fetal brain: 1.4 mm; 8.3 with them)"),
        **common_values(facts),
    }
    warnings = list(warnings_of(facts, spacing_mm))
    if not facts.landmarks:
        warnings.append("pose learns from landmarks, and there are none")
    if set(MIDLINE) <= set(facts.landmarks):
        warnings.append("bodies in any direction need --variant finder and land_canonical (docs/tutorials/pose.md), "
                        f"which no plan chooses: which data needs them is {NOT_MEASURED}")
    return Draft((Training("pose", "land_r4", values, most=4000),), spacing_mm, tuple(warnings))
