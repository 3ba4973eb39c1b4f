"""The field of view of a whole body's volume: its middle, the probe above it, the directions in which a body lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from tfsono.phantoms.sweep import Sweep

ANY_DIRECTION = 180.0
# Where a body's left, back and upwards point in a sagittal view of one on its back: away, down, to the side.
SAGITTAL = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def check_turn(turn_degrees: float, variety: float) -> None:
    """Raises ValueError where a turn out of the standard view, or a variety, is none."""
    if not 0 <= turn_degrees <= ANY_DIRECTION:
        raise ValueError(f"turn_degrees must be from 0 to {ANY_DIRECTION:g}: {turn_degrees}")
    if not 0 < variety <= 1:
        raise ValueError(f"variety must be above 0 and up to 1: {variety}")


def middle_mm(size, spacing_mm) -> np.ndarray:
    """The middle of the field of view, seen from the first voxel's centre."""
    return (np.asarray(size) - 1) / 2 * np.asarray(spacing_mm)


def draw_sweep(rng: np.random.Generator, size, spacing_mm) -> Sweep:
    """The probe, held not quite in the middle, with its sliders somewhere; wide, as for a whole body."""
    sweep = Sweep.over(size, spacing_mm)
    aside = rng.uniform(-0.02, 0.02, 2) * [size[0] * spacing_mm[0], size[2] * spacing_mm[2]]
    wider = rng.uniform(1.0, 1.12, 2)
    return replace(
        sweep,
        position_mm=(sweep.position_mm[0] + aside[0], sweep.position_mm[1], sweep.position_mm[2] + aside[1]),
        half_angles=tuple(float(half * part) for half, part in zip(sweep.half_angles, wider, strict=True)),
        focus_mm=sweep.focus_mm * rng.uniform(0.75, 1.25),
        gain_db=tuple(rng.uniform([-4, -1, -4], [1, 2, 3]).tolist()),
        noise_db=rng.uniform(-56, -47),
        clutter_db=rng.uniform(-29, -22),
    )


def draw_direction(rng: np.random.Generator, turn_degrees: float) -> np.ndarray:
    """A rotation [3, 3] from a body's frame (left, back, upwards): a point p goes to p @ rotation.

    It is turned by up to `turn_degrees` out of `SAGITTAL` about any axis; with 180 all directions are alike.
    """
    if turn_degrees == ANY_DIRECTION:
        return Rotation.from_quat(rng.normal(size=4)).as_matrix()  # all alike
    axis = rng.normal(size=3)
    angle = np.deg2rad(rng.uniform(0, turn_degrees))
    return SAGITTAL @ Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
