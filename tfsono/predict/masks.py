"""Label values, border contact and postprocessing of a predicted mask."""

from __future__ import annotations

import numpy as np


def label_values(mask: np.ndarray, labels: dict[str, int]) -> np.ndarray:
    """Classes 0, 1, ... -> 0 and the dataset's label values; uint8 if they fit, else int32."""
    values = np.array([0, *labels.values()])
    kind = np.uint8 if values.min() >= 0 and values.max() <= 255 else np.int32
    return values.astype(kind)[mask]


def postprocessing_left(manifest: dict) -> tuple[bool, bool]:
    """Whether the largest components are still to be kept, and the holes to be filled, in a model's mask.

    The SavedModels of the release before left both to `predict`.
    """
    wanted = manifest["postprocessing"]
    if wanted.get("in_graph"):
        return False, False
    return wanted["largest_component"], wanted["fill_holes"]


def touches_border(voxels: np.ndarray) -> bool:
    """Whether any voxel is on a face of the volume."""
    return any(np.take(voxels, [0, -1], axis).any() for axis in range(3))
