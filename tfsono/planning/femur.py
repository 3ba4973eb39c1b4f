"""Rules of `femur`; docs/planning.md has the measurement behind each."""

from __future__ import annotations

import math

import numpy as np

from tfsono.planning.draft import Draft, Training, common_values, grid_of, spacing_of, warnings_of
from tfsono.planning.facts import Facts, listed
from tfsono.sides import side_pairs

VOXELS = 135_000
"""Of the region on the network's grid: the fetal brain at ratio 0.4; phantoms of `quick` have about as many at 1."""

MARGIN_MM = 12.0  # quick: 8 voxels of 1.52 mm; paper: 30 of 0.38
SMALLEST_MM2 = 7.0  # quick: 3 pixels of 1.52 mm
SIGMA = 3.0
REACHED = 1.1  # the region's jitter in training


def draft(facts: Facts, share: float = 1.0) -> Draft:
    """The first stage, where there are masks, and the second; a `share` of the voxels that were measured."""
    voxels = int(share * VOXELS)
    spacing_mm, why = spacing_of(facts)
    size, spacing = grid_of(facts, spacing_mm)
    margin = max(1, round(MARGIN_MM / float(spacing.mean())))
    sided = side_pairs(facts.landmarks) or side_pairs(tuple(facts.labels_ml))
    shared = {
        "spacing_mm": (spacing_mm, why),
        "roi_margin": (margin, f"{MARGIN_MM:g} mm, as in `quick` and the paper, of voxels of {spacing.mean():.3g} mm"),
        "flips": (not sided, "names differ in left and right (fetal brain: 2.1 mm; 9.9 with them)" if sided else
                  "no name differs in left and right"),
        **common_values(facts),
    }
    masks = any(len(volumes) for volumes in facts.labels_ml.values())
    trainings = [second_stage(facts, shared, size, voxels=voxels, spacing=spacing, masks=masks)]
    if masks:
        part = max(1, round(SMALLEST_MM2 / float(spacing[0] * spacing[1])))
        values = {**shared, "roi_smallest_part": (part, f"{SMALLEST_MM2:g} mm2, as in `quick`")}
        trainings.insert(0, Training("roi", "unet_roi", values, "roi_iterations", share=0.27, fewest=240, most=3000))
    warnings = list(warnings_of(facts, spacing_mm))
    if not masks:
        warnings.append("no masks: there is no first stage, and a prediction searches the whole volume")
    if not masks and not facts.landmarks:
        warnings.append("femur learns from masks, landmarks or both, and there are none")
    return Draft(tuple(trainings), spacing_mm, tuple(warnings))


def second_stage(facts: Facts, shared: dict, size: np.ndarray, voxels: int, spacing: np.ndarray, masks: bool
                 ) -> Training:
    """The network of the region."""
    variant = "brndc" if masks and facts.landmarks else "unet_s" if masks else "unet_l"
    region = np.minimum(REACHED * facts.extent_mm / spacing + 2 * shared["roi_margin"][0], size)
    ratio = min(1.0, (voxels / math.prod(region)) ** (1 / 3))
    values = {
        **shared,
        "roi_ratio": (max(math.floor(100 * ratio) / 100, 0.06),
                      f"a region of {listed(region)} voxels in at most {voxels:,} (fetal brain: 2.3 mm at voxels of "
                      "2 mm; phantoms of `quick`)"),
        "heatmap_sigma": (SIGMA, "voxels of that grid (fetal brain: 2.1 mm; 3.9 with 2, 2.8 with 4.5)"),
    }
    words = ("--roi_run", "{runs}/roi", "--split", "{runs}/roi/split.json") if masks else ()
    return Training("femur", variant, values, share=0.73 if masks else 1.0, most=6000, words=words)
