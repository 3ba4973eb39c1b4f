"""The tissue around the bones of one hip: skin, fat, muscles separated by fatty septa, vessels, nerves, bladder.

The same body frame as in `hip_bones`: millimetres from the femoral head's centre, u lateral, v posterior,
w superior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfsono.phantoms.distance import Points, capsule, coverage, ellipsoid
from tfsono.phantoms.hip_bones import Bones


@dataclass(frozen=True)
class Rod:
    """A body drawn as a tapered rod, its section flattened along `flat`, with a T1 signal relative to fat."""

    start: np.ndarray
    end: np.ndarray
    radii_mm: tuple[float, float]
    flat: tuple[float, float, float] | None
    signal: float

    def distance(self, points: Points) -> np.ndarray:
        """Millimetres from the surface, negative inside."""
        return capsule(points, self.start, self.end, self.radii_mm, self.flat)


@dataclass(frozen=True)
class Tissue:
    """The drawn soft tissue of one hip."""

    muscles: tuple[Rod, ...]
    inclusions: tuple[Rod, ...]
    body_center: tuple[float, float]
    body_radii_mm: tuple[float, float]
    fat_mm: float
    septum_mm: float
    swell_mm: float
    bladder_center: np.ndarray
    bladder_radii_mm: np.ndarray


def draw_tissue(rng: np.random.Generator, bones: Bones) -> Tissue:
    """Soft tissue that fits these bones: muscles run between their attachments, the skin encloses them."""
    scale = bones.scale
    bulk = rng.uniform(0.88, 1.15)
    fat_mm = float(rng.triangular(8, 16, 38))
    lateral = bones.base[0] + 26 * scale + 14 * bulk + fat_mm
    front = 54 * scale + 8 * bulk + fat_mm * rng.uniform(0.4, 0.8)
    back = 72 * scale + 10 * bulk + fat_mm
    return Tissue(
        muscles=tuple(_draw_muscle(rng, bones, bulk, row) for row in MUSCLES),
        inclusions=_draw_inclusions(rng, scale),
        body_center=(-85.0, (back - front) / 2),
        body_radii_mm=(85.0 + lateral, (back + front) / 2),
        fat_mm=fat_mm,
        septum_mm=rng.uniform(0.7, 1.8),
        swell_mm=rng.uniform(5.5, 9),
        bladder_center=np.asarray([-88.0, -8.0, 8.0]) * scale + rng.normal(0, 4, 3),
        bladder_radii_mm=rng.uniform([22, 18, 18], [38, 28, 30]),
    )


# Name, from, to, radii, flattening. Points in millimetres for a head of 24 mm radius; those called "base" are
# relative to where the neck's axis meets the shaft's, the others from the head's centre.
MUSCLES = (
    ("iliopsoas, pelvic part", (-34, -26, 70), (-6, -37, 4), (19, 15), None),
    ("iliopsoas, lower part", (-6, -37, 4), "base (-12, 8, -32)", (15, 8), None),
    ("rectus femoris", (18, -38, 40), (26, -50, -110), (9, 14), (0, 1.2, 0)),
    ("sartorius", (34, -46, 60), (-18, -58, -110), (7, 9), (0, 1.4, 0)),
    ("tensor fasciae latae", (48, -34, 60), "base (22, -26, -50)", (12, 11), (1.4, 0.4, 0)),
    ("gluteus minimus", (10, -8, 62), "base (15, -8, 20)", (17, 7), (1.3, -0.6, 0)),
    ("gluteus medius", (32, -4, 84), "base (22, 2, 16)", (24, 9), (1.3, -0.3, 0)),
    ("gluteus maximus, upper", (-40, 62, 70), "base (26, 26, -20)", (24, 12), (0.4, 1.3, 0)),
    ("gluteus maximus, lower", (-36, 70, 5), "base (16, 24, -60)", (25, 12), (0.4, 1.3, 0)),
    ("obturator internus", (-39, -16, -18), (-37, 26, 12), (8, 11), (1.6, 0, 0)),
    ("obturator internus, tendon", (-26, 34, -8), "base (2, 12, 18)", (8, 4), (0, 0, 1.2)),
    ("obturator externus", (-52, -14, -42), "base (-4, 12, 2)", (13, 6), (0, 1.2, 0)),
    ("piriformis", (-50, 56, 40), "base (4, 10, 26)", (13, 4), None),
    ("pectineus", (-50, -38, -24), "base (-10, 2, -52)", (12, 9), (0.5, 1.2, 0)),
    ("adductor brevis and longus", (-60, -34, -46), "base (-12, 2, -110)", (15, 16), None),
    ("adductor magnus", (-44, 14, -70), "base (-10, 14, -130)", (20, 22), None),
    ("quadratus femoris", (-4, 30, -50), "base (-2, 16, -20)", (11, 10), (0, 1.3, 0)),
    ("hamstrings", (-10, 44, -62), (6, 46, -140), (10, 17), None),
    ("vastus lateralis", "base (17, -4, -22)", "base (14, -4, -130)", (12, 22), None),
    ("vastus intermedius", "base (-2, -18, -40)", "base (-6, -18, -140)", (9, 17), None),
    ("gracilis", (-68, -22, -66), (-50, 0, -140), (9, 10), (1.3, 0, 0)),
)


def _draw_muscle(rng: np.random.Generator, bones: Bones, bulk: float, row) -> Rod:
    _, start, end, radii_mm, flat = row
    thicker = bulk * bones.scale * rng.uniform(0.92, 1.1)
    return Rod(
        start=_place(start, bones) + rng.normal(0, 1.5, 3),
        end=_place(end, bones) + rng.normal(0, 1.5, 3),
        radii_mm=tuple(thicker * radius for radius in radii_mm),
        flat=flat,
        signal=0.33 * rng.uniform(0.9, 1.1),
    )


def _place(point, bones: Bones) -> np.ndarray:
    """A point of the table in millimetres: from the head's centre, or from the base of the neck."""
    if isinstance(point, str):
        numbers = [float(number) for number in point[len("base (") : -1].split(",")]
        return bones.base + bones.scale * np.asarray(numbers)
    return bones.scale * np.asarray(point, np.float64)


def _draw_inclusions(rng: np.random.Generator, scale: float) -> tuple[Rod, ...]:
    """Femoral artery, vein and nerve, deep femoral artery, sciatic nerve, gluteal branches, bowel."""
    rows = [
        ((-26, -40, 60), (-14, -50, -110), 4.2, 0.06),
        ((-37, -38, 60), (-24, -48, -110), 5.2, 0.12),
        ((-16, -43, 60), (-6, -50, -60), 2.6, 0.5),
        ((-17, -43, -28), (8, -26, -110), 2.6, 0.06),
        ((-10, 50, 60), (14, 42, -110), 5.0, 0.45),
    ]
    for _ in range(6):
        start = np.asarray([rng.uniform(-40, 50), rng.uniform(30, 60), rng.uniform(-50, 50)])
        rows.append((tuple(start), tuple(start + rng.normal(0, 22, 3)), rng.uniform(0.9, 1.8), 0.08))
    for _ in range(int(rng.integers(1, 5))):
        start = np.asarray([rng.uniform(-100, -70), rng.uniform(-30, 40), rng.uniform(-10, 60)])
        rows.append(
            (tuple(start), tuple(start + rng.normal(0, 22, 3)), rng.uniform(7, 12), rng.uniform(0.25, 0.5))
        )
    return tuple(
        Rod(
            start=scale * (np.asarray(start) + rng.normal(0, 1.5, 3)),
            end=scale * (np.asarray(end) + rng.normal(0, 1.5, 3)),
            radii_mm=(scale * radius, scale * radius),
            flat=None,
            signal=signal,
        )
        for start, end, radius, signal in rows
    )


def skin(points: Points, tissue: Tissue) -> np.ndarray:
    """The trunk and thigh's outline, an elliptic column around the body's middle."""
    (u, v), (width, depth) = tissue.body_center, tissue.body_radii_mm
    across = (points[0] - np.float32(u)) * np.float32(1 / width)
    front = (points[1] - np.float32(v)) * np.float32(1 / depth)
    across, front = across * across, front * front
    ratio = np.float32(0.5) * (np.sqrt(across + front) + np.sqrt(np.sqrt(across * across + front * front)))
    slope = np.sqrt(across * np.float32(width**-2) + front * np.float32(depth**-2))
    return ratio * (ratio - np.float32(1)) / np.maximum(slope, np.float32(1e-6))


def muscle_layer(
    points: Points, tissue: Tissue, uneven_mm: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All muscles together: their distance, that from the septum to the neighbour, the nearest one's signal.

    Neighbours that overlap are separated halfway, where the distances to both surfaces are the same.
    """
    nearest = np.full(points[0].shape, 1e3, np.float32)
    second = nearest.copy()
    signal = np.zeros_like(nearest)
    for muscle in within_reach(tissue.muscles, points, margin_mm=12):
        distance = muscle.distance(points)
        closer = distance < nearest
        second = np.minimum(second, np.maximum(nearest, distance))
        signal[closer] = muscle.signal
        nearest = np.minimum(nearest, distance)
    return nearest + uneven_mm - np.float32(tissue.swell_mm), (second - nearest) * np.float32(0.5), signal


def within_reach(rods: tuple[Rod, ...], points: Points, margin_mm: float) -> list[Rod]:
    """The rods that come within `margin_mm` of a block of points; the others are not computed there."""
    corners = [
        np.asarray([axis[x, y, z] for axis in points]) for x in (0, -1) for y in (0, -1) for z in (0, -1)
    ]
    center = np.mean(corners, axis=0)
    reach = max(np.linalg.norm(corner - center) for corner in corners)
    middle = tuple(np.asarray([value], np.float32) for value in center)
    steepest = [1.0 if rod.flat is None else float(np.linalg.norm(rod.flat)) ** 0.5 for rod in rods]
    return [
        rod
        for rod, slope in zip(rods, steepest, strict=True)
        if rod.distance(middle)[0] < slope * (reach + margin_mm)
    ]


def bladder(points: Points, tissue: Tissue) -> np.ndarray:
    """The bladder, at the medial edge of the field of view."""
    return ellipsoid(points, tissue.bladder_center, tissue.bladder_radii_mm)


def septa(part_mm: np.ndarray, width_mm: float, voxel_mm: float) -> np.ndarray:
    """The part of a voxel within half of `width_mm` of the plane at `part_mm`, 0 to 1."""
    half = np.float32(width_mm / 2)
    return coverage(part_mm - half, voxel_mm) - coverage(part_mm + half, voxel_mm)
