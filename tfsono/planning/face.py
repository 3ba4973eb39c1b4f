"""Rules of `face`; docs/planning.md has the measurement behind each."""

from __future__ import annotations

import numpy as np

from tfsono.configs.face import LANDMARKS
from tfsono.planning.draft import ALIKE, NOT_MEASURED, Draft, Training, common_values, grid_of, warnings_of
from tfsono.planning.facts import Facts, listed
from tfsono.sides import side_pairs

VOXELS = 64**3
"""Of a volume: preset `quick`."""

OF_FACES_MM = (18.2, 31.2, 18.2, 31.2, 31.2)  # the paper's boxes of 14 and 24 voxels
BOX_SHARE = 0.39  # of the largest distance between landmarks: 16 of 40.8 mm (fetal brain)
OF_SIZES, OF_ONE_SIZE = (6.5 / 7, 8 / 7, 10 / 7, 2.0), (6.5 / 8, 1.0, 10 / 8, 14 / 8)
SMALLEST_BOX = 6.0
FEWEST_OF_PRIOR = 10  # training cases


def draft(facts: Facts, share: float = 1.0) -> Draft:
    """The detector of boxes; a `share` of the voxels that were measured."""
    voxels = int(share * VOXELS)
    spacing_mm, why = isotropic(facts, voxels)
    _, spacing = grid_of(facts, spacing_mm)
    of_face = facts.landmarks == LANDMARKS
    if of_face:
        sides_mm, reason = np.array(OF_FACES_MM), "the paper's, in millimetres"
    else:
        extent = float(np.median(facts.landmarks_mm)) if len(facts.landmarks_mm) else float(facts.extent_mm.max())
        reason = f"{BOX_SHARE:g} of the landmarks' {extent:.3g} mm (fetal brain)"
        sides_mm = np.array([BOX_SHARE * extent])
    sides = np.maximum(sides_mm / spacing.mean(), SMALLEST_BOX)
    anchors = min(sides) * np.array(OF_SIZES if of_face else OF_ONE_SIZE)
    sided = side_pairs(facts.landmarks)
    values = {
        "spacing_mm": (spacing_mm, why),
        "box_sides": (rounded(sides), f"{reason}; voxels of {spacing.mean():.3g} mm"),
        "anchor_sides": (rounded(anchors), "in the proportion to the smallest box of "
                         + ("the paper" if of_face else "the fetal brain's run")),
        "prior_noise_mm": (4.0, "phantoms 3.85 mm instead of 4.50, fetal brain 3.60 instead of 6.09; depends on the "
                                "data"),
        "prior_weight": (0.3, "as prior_noise_mm"),
        "flips": (False, "mirror images exchange left and right (fetal brain: 1.9 mm; 17.1 with them)" if sided else
                  "as in `quick`"),
        **common_values(facts),
    }
    if 0.75 * facts.cases < FEWEST_OF_PRIOR:
        values["use_prior"] = (False, f"it is fitted to {FEWEST_OF_PRIOR} training cases or more")
    warnings = [*warnings_of(facts, spacing_mm), *small_boxes(sides_mm, spacing)]
    if not facts.landmarks:
        warnings.append("face learns from landmarks, and there are none")
    training = Training("face", "ig_rpn", values, fewest=480, most=4000, measuring=("--use_prior", "false"))
    return Draft((training,), spacing_mm, tuple(warnings))


def isotropic(facts: Facts, voxels: int) -> tuple[tuple[float, ...], str]:
    """One spacing for all axes, such that the median volume has at most `voxels`."""
    if facts.cached:
        return facts.spacing_mm, "the cache's"
    side = max(float(np.median(np.prod(facts.sides_mm, axis=1)) / voxels) ** (1 / 3), float(facts.spacing.min()))
    if facts.spread <= ALIKE and np.ptp(facts.spacing) < 0.1 * side and side < ALIKE * facts.spacing.min():
        return (), f"each volume's own: they have fewer than {voxels:,} voxels"
    return (float(f"{side:.2g}"),) * 3, (f"at most {voxels:,} voxels in the median volume, as in `quick`; fetal brain: "
                                         "2 mm")


def small_boxes(sides_mm: np.ndarray, spacing: np.ndarray):
    """Boxes that had to grow."""
    if min(sides_mm) / spacing.mean() < SMALLEST_BOX:
        yield (f"a box of {min(sides_mm):.3g} mm is smaller than {SMALLEST_BOX:g} voxels of {listed(spacing)} mm, the "
               f"smallest that was measured: boxes are that large ({NOT_MEASURED})")


def rounded(values) -> tuple[float, ...]:
    return tuple(round(float(value), 2) for value in values)
