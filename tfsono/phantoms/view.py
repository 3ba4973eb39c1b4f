"""The field of view of a whole body's volume: its middle, the probe above it, the image, the body's orientation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from tfsono.phantoms.canvas import Canvas
from tfsono.phantoms.fields import centers_mm, draw_field
from tfsono.phantoms.sweep import PULSE_MM, Sweep, ultrasound_volume

ANY_DIRECTION = 180.0
# Where a body's left, back and upwards point in a sagittal view of one on its back: away, down, to the side.
SAGITTAL = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def check_turn(turn_degrees: float, variety: float) -> None:
    """Raises ValueError for an invalid rotation out of the standard view, or an invalid variety."""
    if not 0 <= turn_degrees <= ANY_DIRECTION:
        raise ValueError(f"turn_degrees must be from 0 to {ANY_DIRECTION:g}: {turn_degrees}")
    if not 0 < variety <= 1:
        raise ValueError(f"variety must be above 0 and up to 1: {variety}")


def middle_mm(size, spacing_mm) -> np.ndarray:
    """The middle of the field of view, relative to the first voxel's centre."""
    return (np.asarray(size) - 1) / 2 * np.asarray(spacing_mm)


def draw_sweep(rng: np.random.Generator, size, spacing_mm, aside=0.02, wider=(1.0, 1.12),
               gain_db=((-4, -1, -4), (1, 2, 3)), noise_db=(-56, -47), clutter_db=(-29, -22)) -> Sweep:
    """The probe, not quite in the middle, with random settings; by default wide, as for a whole body.

    Args:
        aside: how far off the middle at most, in parts of the field of view.
        wider, gain_db, noise_db, clutter_db: ranges that are drawn from: the angles' factor, the gains of three
            depths, and the noise's and the clutter's level.
    """
    sweep = Sweep.over(size, spacing_mm)
    shift = rng.uniform(-aside, aside, 2) * [size[0] * spacing_mm[0], size[2] * spacing_mm[2]]
    factors = rng.uniform(*wider, 2)
    return replace(
        sweep,
        position_mm=(sweep.position_mm[0] + shift[0], sweep.position_mm[1], sweep.position_mm[2] + shift[1]),
        half_angles=tuple(float(half * part) for half, part in zip(sweep.half_angles, factors, strict=True)),
        focus_mm=sweep.focus_mm * rng.uniform(0.75, 1.25),
        gain_db=tuple(rng.uniform(*gain_db).tolist()),
        noise_db=rng.uniform(*noise_db),
        clutter_db=rng.uniform(*clutter_db),
    )


def scanned(textures: np.random.SeedSequence, sweep: Sweep, size, spacing_mm,
            paint: Callable[[Canvas], None]) -> np.ndarray:
    """The image uint8 [X, Y, Z] of the canvas that `paint` fills, textures and speckle from the seed."""
    texture_rng, speckle_rng = (np.random.default_rng(part) for part in textures.spawn(2))
    axes = centers_mm(size, spacing_mm)
    fields = tuple(draw_field(texture_rng, scale, cells).sample(axes) for scale, cells in ((26, 12), (6, 32)))
    canvas = Canvas.blank(axes, float(np.mean(spacing_mm)), fields)
    paint(canvas)
    settings = {"range_db": texture_rng.uniform(50, 60), "looks": int(texture_rng.choice([1, 1, 2]))}
    psf_mm = np.asarray(PULSE_MM) * texture_rng.uniform([0.75] * 3, [1.05, 1.1, 1.1])
    tissue = canvas.tissue()
    del canvas, fields
    return ultrasound_volume(speckle_rng, tissue, sweep, spacing_mm, psf_mm=psf_mm, **settings)


def draw_direction(rng: np.random.Generator, turn_degrees: float) -> np.ndarray:
    """A rotation [3, 3] from a body's frame (left, back, upwards): a point p goes to p @ rotation.

    It deviates by up to `turn_degrees` from `SAGITTAL` about any axis; with 180 all directions are equally likely.
    """
    if turn_degrees == ANY_DIRECTION:
        return Rotation.from_quat(rng.normal(size=4)).as_matrix()  # all equally likely
    axis = rng.normal(size=3)
    angle = np.deg2rad(rng.uniform(0, turn_degrees))
    return SAGITTAL @ Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
