"""Rules of `head`; docs/planning.md has the measurement behind each."""

from __future__ import annotations

import math

from tfsono.planning.draft import NOT_MEASURED, Draft, Training, common_values, few_cases
from tfsono.planning.facts import Facts, listed

VOXELS = 8 * 192 * 256
"""Pixels of a step: HC18 in docs/results/head.md."""

MULTIPLE = 32


def draft(facts: Facts, share: float = 1.0) -> Draft:
    """The network of masks, or of points where there are none; a `share` of the pixels that were measured."""
    voxels = int(share * VOXELS)
    masks = any(len(volumes) for volumes in facts.labels_ml.values())
    part, variant = ("segmentation", "unet") if masks else ("landmark", "heatmap")
    frame = frame_of(facts.size[1], facts.size[0], voxels)
    batch = max(1, min(8, voxels // math.prod(frame)))
    values = {
        "input_size": (frame, f"rows, columns, in the proportion of the images, {listed(facts.size[1::-1])}: the "
                              "letterbox then hardly pads; as many pixels as on HC18 (DSC 97.6 %)"),
        f"{part}_batch": (batch, "HC18"),
        "landmark_policy": ("ellipse" if masks else "repair", "HC18: 2.5 mm instead of 5.0 with points of the masks' "
                            "ellipses" if masks else "there are no masks; HC18: 5.1 mm, as with dropped rows"),
        "folds": (1, "all that is not tested is trained on, as on HC18"),
        **common_values(facts),
    }
    training = Training("head", variant, values, f"{part}_iterations", f"{part}_record_every", most=4000, records=30)
    warnings = list(few_cases(facts))
    if not masks and not facts.landmarks:
        warnings.append("head learns from masks or from the points of BPD and OFD, and there are neither")
    if not masks and facts.landmarks:
        warnings.append(f"without masks: HC18's errors are 2.5 mm with them, 5.1 without; {NOT_MEASURED} elsewhere")
    return Draft((training,), (), tuple(warnings))


def frame_of(rows: float, columns: float, voxels: int) -> tuple[int, int]:
    """Of the frames of at most an eighth of the pixels the one in which such an image is largest; multiples of 32."""
    frames = [(high, voxels // 8 // high // MULTIPLE * MULTIPLE) for high in range(MULTIPLE, 1025, MULTIPLE)]
    frames = [frame for frame in frames if frame[1]] or [(MULTIPLE, MULTIPLE)]
    return max(frames, key=lambda frame: min(frame[0] / rows, frame[1] / columns))
