"""The memory that a prediction may take."""

from __future__ import annotations

import tensorflow as tf

from tfsono.surroundings import probe_memory

MOST_GB = 12.0  # also of larger machines: where the size of a tile matters, they predict the same


def default_memory_gb() -> float:
    """12 on a GPU; else half of the machine's memory or of its container's, at most 12."""
    if tf.config.list_physical_devices("GPU"):
        return MOST_GB
    found = probe_memory()
    return min([MOST_GB, *(found[name] / 2 for name in ("total", "limit") if name in found)])
