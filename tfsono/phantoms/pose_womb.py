"""The womb around a posed fetus: its cavity, placenta and cord."""

from __future__ import annotations

import numpy as np

from tfsono.phantoms.pose_flesh import navel_mm
from tfsono.phantoms.pose_skeleton import Fetus
from tfsono.phantoms.womb import Womb, draw_shadows, reach_mm, smallest_ellipsoid

CORD_STEPS = 40


def draw_womb(rng: np.random.Generator, fetus: Fetus, top_mm: float) -> Womb:
    """A womb around a placed fetus; `top_mm` is the probe's face along y."""
    size, outline = fetus.build.crown_rump_mm, fetus.outline_mm()
    middle, radii, axes = smallest_ellipsoid(outline)
    radii = np.maximum(radii, 0.62 * radii.max()) + rng.uniform(1.5, 3)
    thick = size * rng.uniform(0.17, 0.28)
    side = rng.normal(size=3)
    side /= np.linalg.norm(side)
    grown = radii + 0.6 * thick + rng.uniform(0, 5)
    middle = middle + side * (grown - radii).mean()  # off the fetus, where the placenta is
    edge = middle + side * reach_mm(side, grown, axes)
    amnion = (float(rng.uniform(0.88, 0.96)), rng.normal(0, 0.6, 3))
    away = rng.normal(size=3)
    away /= np.linalg.norm(away)
    yolk = middle + away * (0.93 * reach_mm(away, grown, axes))
    room = outline[:, 1].min() - top_mm
    layers = np.cumsum(rng.uniform([0.12, 0.14, 0.2], [0.22, 0.26, 0.34])) * min(room, 30.0)
    cord = _draw_cord(rng, fetus, middle=middle, radii=grown, axes=axes, end=edge - side * 0.8 * thick)
    wall, wide, ring, round_mm = rng.uniform([5, 0.6 * size, 1.8, 0.028 * size], [10, 0.85 * size, 2.8, 0.038 * size])
    shadows = draw_shadows(rng, fetus.points_mm, top_mm)
    return Womb(middle_mm=middle, radii_mm=grown, axes=axes, wall_mm=wall, placenta_mm=edge, placenta_thick_mm=thick,
                placenta_radius_mm=wide, amnion=amnion, layers_mm=tuple((top_mm + layers).tolist()), shadows=shadows,
                yolk_mm=yolk, yolk_radius_mm=ring, cord_mm=cord, cord_radius_mm=round_mm)


def _draw_cord(rng: np.random.Generator, fetus: Fetus, middle, radii, axes, end) -> np.ndarray:
    """From the navel outwards, through a few points in the fluid, to the placenta; a wound course [N, 3]."""
    size, start = fetus.build.crown_rump_mm, navel_mm(fetus)
    places = [start, start - 0.14 * size * fetus.pelvis[1]]
    for _ in range(rng.integers(1, 4)):
        inside = rng.normal(size=3)
        inside *= rng.uniform(0.45, 0.8) / np.linalg.norm(inside)
        places.append(middle + inside * radii @ axes)
    places = np.asarray([*places, end])
    t = np.linspace(0, 1, CORD_STEPS + 1)
    course = _bezier(places, t)
    turns = rng.uniform(2, 5) * 2 * np.pi * t
    first = np.linalg.svd((end - start)[None])[2][1:]
    wound = np.cos(turns)[:, None] * first[0] + np.sin(turns)[:, None] * first[1]
    return course + 0.035 * size * (np.sin(np.pi * t)[:, None] * wound)


def _bezier(places: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The Bezier curve of control points [M, 3] at parameters [N], by de Casteljau; [N, 3]."""
    levels = np.repeat(places[:, None], len(t), axis=1)
    while len(levels) > 1:
        levels = (1 - t)[:, None] * levels[:-1] + t[:, None] * levels[1:]
    return levels[0]
