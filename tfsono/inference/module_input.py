"""The arguments of a module of volumes."""

from __future__ import annotations

import numpy as np


def module_input(array: np.ndarray, spacing_mm) -> tuple[np.ndarray, np.ndarray]:
    """Raw intensities [X, Y, Z] float32, contiguous, and their spacing [3] float32.

    Args:
      array: [X, Y, Z] of any type, in the orientation of the module.
      spacing_mm: [3].
    """
    return np.ascontiguousarray(array, np.float32), np.asarray(spacing_mm, np.float32)
