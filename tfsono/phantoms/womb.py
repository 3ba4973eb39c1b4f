"""The surroundings of the fetus: the womb with its fluid, placenta, cord, amnion, yolk sac, the mother's tissue."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfsono.phantoms.canvas import FAR_MM, Canvas
from tfsono.phantoms.distance import Points, capsule, ellipsoid, minus, sphere, trim

SLAB = 16
FLUID_DB = -75.0


class Womb(NamedTuple):
    """Bodies around the fetus, millimetres from the middle of the field of view.

    Attributes:
        middle_mm, radii_mm, axes: the cavity.
        wall_mm: the thickness of the muscle around it.
        placenta_mm, placenta_thick_mm, placenta_radius_mm: its middle on the wall; how far it reaches from the wall
            there, and along the wall.
        amnion: how large the amnion is as part of the cavity, and [3] by how much it is off its middle.
        layers_mm: depths of the layers of the belly's wall.
        shadows: balls (middle, radius, dB a millimetre) that absorb sound, as gas or poor contact do.
        yolk_mm, yolk_radius_mm: the yolk sac; None if there is none, as at later ages.
        cord_mm, cord_radius_mm: the course [N, 3] of the cord from the navel, and its radius; None if none is drawn.
    """

    middle_mm: np.ndarray
    radii_mm: np.ndarray
    axes: np.ndarray
    wall_mm: float
    placenta_mm: np.ndarray
    placenta_thick_mm: float
    placenta_radius_mm: float
    amnion: tuple[float, np.ndarray]
    layers_mm: tuple[float, ...]
    shadows: tuple[tuple[np.ndarray, float, float], ...]
    yolk_mm: np.ndarray | None = None
    yolk_radius_mm: float = 0.0
    cord_mm: np.ndarray | None = None
    cord_radius_mm: float = 0.0


class WombLook(NamedTuple):
    """Levels: decibels below white."""

    mother_db: float
    wall_db: float
    placenta_db: float
    cord_db: float


def draw_womb_look(rng: np.random.Generator) -> WombLook:
    """Random levels as in real images."""
    return WombLook(rng.uniform(-42, -34), rng.uniform(-36, -29), rng.uniform(-33, -26), rng.uniform(-36, -29))


def smallest_ellipsoid(points: np.ndarray, tolerance: float = 0.02) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ellipsoid of least volume around points [N, 3]: its middle [3], half widths [3] and axes [3, 3] (rows).

    Khachiyan's algorithm (Mathematics of Operations Research 21, 1996); all points lie within 1 + tolerance of it.
    """
    count = len(points)
    lifted = np.vstack([points.T, np.ones(count)])
    weights = np.full(count, 1 / count)
    for _ in range(1000):
        far = np.einsum("in,ij,jn->n", lifted, np.linalg.inv(lifted * weights @ lifted.T), lifted)
        worst = np.argmax(far)
        if far[worst] <= 4 * (1 + tolerance):
            break
        step = (far[worst] - 4) / (4 * (far[worst] - 1))
        weights *= 1 - step
        weights[worst] += step
    middle = weights @ points
    spread = (points - middle).T * weights @ (points - middle)
    values, vectors = np.linalg.eigh(spread)
    radii = np.sqrt(3 * values)
    inside = np.linalg.norm((points - middle) @ vectors / radii, axis=1).max()
    return middle, radii * max(1.0, inside), vectors.T


def reach_mm(direction: np.ndarray, radii: np.ndarray, axes: np.ndarray) -> float:
    """How far an ellipsoid reaches from its middle in a unit direction."""
    return 1 / float(np.linalg.norm(axes @ direction / radii))


def draw_shadows(rng: np.random.Generator, points_mm: np.ndarray, top_mm: float):
    """Up to two balls above the fetus that absorb 6 to 16 dB."""
    shadows = []
    for _ in range(rng.integers(3)):
        radius = rng.uniform(3, 6)
        place = points_mm[rng.integers(len(points_mm))] + rng.normal(0, 8, 3)
        place[1] = top_mm + rng.uniform(0, 6)
        shadows.append((place, float(radius), float(rng.uniform(6, 16) / (2 * radius))))
    return tuple(shadows)


def paint_womb(canvas: Canvas, womb: Womb, look: WombLook) -> None:
    """Paints everything but the fetus on the whole canvas."""
    for slab in canvas.slabs(SLAB):
        _paint_mother(slab, womb, look)
    if womb.yolk_mm is not None:
        _paint_yolk_sac(canvas, womb)
    if womb.cord_mm is not None:
        _paint_cord(canvas, womb, look)
    for place, radius, rate in womb.shadows:
        part = canvas.window(place - radius, place + radius)
        if part is not None:
            part.absorb(sphere(part.points, place, radius), rate, 2.0)


def _paint_mother(slab: Canvas, womb: Womb, look: WombLook) -> None:
    """Layers of the belly's wall, the womb's muscle, the fluid, the placenta, the amnion."""
    broad, coarse = slab.fields
    texture = np.float32(3.0) * coarse + np.float32(2.5) * broad
    slab.scatter[...] = np.power(np.float32(10), (np.float32(look.mother_db) + texture) * np.float32(0.05))
    depth = slab.points[1] - np.float32(0.5) * coarse - np.float32(1.5) * broad
    for place, change in zip(womb.layers_mm, (6.0, -5.0, 2.0), strict=True):
        slab.cover(place - depth, np.float32(look.mother_db + change) + texture)
        slab.film(depth - np.float32(place), np.float32(0.12))
    whole = ellipsoid(slab.points, womb.middle_mm, womb.radii_mm, womb.axes)
    whole += np.float32(0.6) * coarse + np.float32(1.2) * broad
    if whole.min() > womb.wall_mm + 3:
        return
    cavity = trim(whole, np.float32(womb.layers_mm[-1] + 2) - depth, 6.0)
    slab.cover(cavity - np.float32(womb.wall_mm), np.float32(look.wall_db) + texture)
    slab.cover(cavity, np.float32(FLUID_DB))
    slab.film(cavity, np.float32(0.12))
    lens = _placenta(slab.points, womb, cavity) + np.float32(0.8) * coarse
    lens = np.maximum(lens, cavity - np.float32(2))
    slab.cover(lens, np.float32(look.placenta_db) + np.float32(2.5) * coarse)
    slab.film(np.where(cavity < 0, lens, FAR_MM), np.float32(0.12))
    part, shift = womb.amnion
    sheet = ellipsoid(slab.points, womb.middle_mm + shift, part * womb.radii_mm, womb.axes) + np.float32(0.4) * broad
    slab.film(np.where((cavity < -1) & (lens > 1), sheet, FAR_MM), np.float32(0.06))


def _placenta(points: Points, womb: Womb, cavity: np.ndarray) -> np.ndarray:
    """A crescent on the wall of the cavity, thickest in the middle; to first order."""
    aside = minus(points, womb.placenta_mm)
    squared = aside[0] * aside[0] + aside[1] * aside[1] + aside[2] * aside[2]
    thick = np.float32(womb.placenta_thick_mm) * (1 - squared * np.float32(womb.placenta_radius_mm**-2))
    return np.float32(0.8) * (-cavity - thick)


def _paint_yolk_sac(canvas: Canvas, womb: Womb) -> None:
    """A small ring."""
    part = canvas.window(womb.yolk_mm - womb.yolk_radius_mm, womb.yolk_mm + womb.yolk_radius_mm)
    if part is not None:
        ball = sphere(part.points, womb.yolk_mm, womb.yolk_radius_mm)
        part.film(ball, np.float32(0.3))
        part.cover(ball + np.float32(0.5), np.float32(FLUID_DB))


def _paint_cord(canvas: Canvas, womb: Womb, look: WombLook) -> None:
    """A bright tube with a dark vessel in it."""
    radius = womb.cord_radius_mm
    part = canvas.window(womb.cord_mm.min(axis=0) - radius, womb.cord_mm.max(axis=0) + radius)
    if part is None:
        return
    distance = np.full(part.scatter.shape, FAR_MM)
    for start, end in zip(womb.cord_mm[:-1], womb.cord_mm[1:], strict=True):
        near = part.place(np.minimum(start, end) - radius, np.maximum(start, end) + radius)
        if near is not None:
            tube = capsule(part.points_at(near), start, end, (radius, radius))
            np.minimum(distance[near], tube, out=distance[near])
    part.cover(distance, np.float32(look.cord_db) + np.float32(2) * part.fields[1])
    part.film(distance, np.float32(0.15))
    part.cover(distance + np.float32(0.55 * radius), np.float32(FLUID_DB + 12))
