"""Shared by the systems with landmarks in volumes: the call of the module, the columns of a position, flags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tfsono.inference.module_input import module_input
from tfsono.predict.tables import rounded
from tfsono.volumes.image import Volume, reorient

LANDMARKS = "landmarks.csv"
PLACE = ("x_mm", "y_mm", "z_mm", "x_vox", "y_vox", "z_vox")
COINCIDING_MM = 1.0
"""Where a landmark and its mirrored one are closer than this, one of them is wrong."""


def run_module(module: Callable, volume: Volume, orientation: str) -> tuple[Volume, dict[str, np.ndarray]]:
    """The volume in the module's orientation, and the module's outputs on that grid."""
    oriented = reorient(volume, orientation)
    found = module(*module_input(oriented.array, oriented.spacing_mm))
    return oriented, {name: value.numpy() for name, value in found.items()}


def place_columns(point_mm: np.ndarray, voxel: np.ndarray) -> dict:
    """The columns `PLACE` of a landmark: LPS millimetres, and voxel indices of the file; "" for NaN."""
    return {**{f"{axis}_mm": rounded(value) for axis, value in zip("xyz", point_mm, strict=True)},
            **{f"{axis}_vox": rounded(value, 3) for axis, value in zip("xyz", voxel, strict=True)}}


def coinciding(points_mm: np.ndarray, landmarks: Sequence[str], mirrored: Iterable[tuple[str, str]]) -> list[str]:
    """A flag for each mirrored pair of known landmarks whose positions coincide."""
    flags = []
    for first, last in mirrored:
        if first in landmarks and last in landmarks:
            apart = np.linalg.norm(points_mm[landmarks.index(first)] - points_mm[landmarks.index(last)])
            flags += [f"{first} and {last} coincide"] if apart < COINCIDING_MM else []  # NaN is not
    return flags
