"""What is done with a mask before it becomes a file, whichever system found it."""

from __future__ import annotations

import numpy as np


def label_values(mask: np.ndarray, labels: dict[str, int]) -> np.ndarray:
    """Classes 0, 1, ... -> 0 and the values of the dataset's own masks; uint8 where they fit, else int32."""
    values = np.array([0, *labels.values()])
    kind = np.uint8 if values.min() >= 0 and values.max() <= 255 else np.int32
    return values.astype(kind)[mask]


def touches_border(voxels: np.ndarray) -> bool:
    """Whether any voxel lies on a face of the volume."""
    return any(np.take(voxels, [0, -1], axis).any() for axis in range(3))
