"""The bones of one hip as signed distances: numbers drawn from anatomy's ranges, and the bones they make.

Everything is in a body frame in millimetres: the origin in the femoral head's centre, u lateral, v posterior,
w superior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfsono.phantoms.distance import (
    Points,
    along,
    blend,
    capsule,
    carve,
    ellipsoid,
    length,
    minus,
    smooth_step,
    sphere,
    torus,
    trim,
)

REFERENCE_HEAD_MM = 24.0

# Roof, posterior and anterior column: direction from the head's centre, part of the wall's thickness outside,
# half axes in millimetres for a head of the reference size.
COLUMNS = (
    ((0.1, 0.1, 1.0), 0.5, (25, 19, 13)),
    ((-0.45, 0.9, -0.1), 0.5, (14, 12, 28)),
    ((-0.75, -0.75, 0.0), 0.5, (12, 9, 22)),
)


@dataclass(frozen=True)
class Bones:
    """The drawn numbers of a femur and its pelvis; vectors are in the body frame."""

    head_radius_mm: float
    neck_shaft_angle_deg: float
    version_deg: float
    neck_length_mm: float
    neck_radii_mm: tuple[float, float]
    waist_mm: float
    neck_axis: np.ndarray  # unit, from the shaft towards the head
    shaft_up: np.ndarray  # unit
    base: np.ndarray  # where the neck's axis meets the shaft's
    shaft_radii_mm: tuple[float, float]
    bow_mm: float
    trochanter_radii_mm: np.ndarray
    lesser_radius_mm: float
    fovea: np.ndarray  # unit, from the head's centre
    cam_mm: float
    cam_direction: np.ndarray  # unit, across the neck
    cortex_mm: tuple[float, float, float]  # head, neck, shaft
    joint_mm: float
    joint_thin_mm: float
    thin_direction: np.ndarray  # unit
    cup_axis: np.ndarray  # unit, out of the acetabulum
    cup_edge_mm: float
    wall_mm: float
    ilium_angle_deg: float
    ilium_radii_mm: tuple[float, float]
    pelvis_cortex_mm: float

    @property
    def scale(self) -> float:
        """The size of this person relative to a head of 24 mm radius."""
        return self.head_radius_mm / REFERENCE_HEAD_MM


def draw_bones(rng: np.random.Generator) -> Bones:
    """One hip within normal anatomy and its common variants (coxa vara and valga, cam bump, thin joint)."""
    radius = rng.uniform(20, 27)
    scale = radius / REFERENCE_HEAD_MM
    angle = float(np.clip(rng.normal(128, 7), 115, 145))
    version = rng.triangular(0, 13, 35)
    neck_axis, shaft_up = _neck_and_shaft(angle, version, tilt_deg=rng.uniform(3, 9))
    neck_length = scale * rng.uniform(44, 53)
    return Bones(
        head_radius_mm=radius,
        neck_shaft_angle_deg=angle,
        version_deg=version,
        neck_length_mm=neck_length,
        neck_radii_mm=(scale * rng.uniform(15.0, 16.5), scale * rng.uniform(17, 19)),
        waist_mm=scale * rng.uniform(1.5, 3.0),
        neck_axis=neck_axis,
        shaft_up=shaft_up,
        base=-neck_axis * neck_length,
        shaft_radii_mm=(scale * rng.uniform(18.5, 20.5), scale * rng.uniform(12.5, 15)),
        bow_mm=rng.uniform(2, 8),
        trochanter_radii_mm=scale * rng.uniform([12, 16, 19], [14.5, 19, 23]),
        lesser_radius_mm=scale * rng.uniform(7, 10),
        fovea=unit([-0.93, rng.uniform(0.0, 0.25), rng.uniform(-0.4, -0.1)]),
        cam_mm=float(rng.choice([0.0, rng.uniform(1, 5)])),
        cam_direction=_anterosuperior(neck_axis, rng.uniform(20, 70)),
        cortex_mm=(rng.uniform(0.8, 1.3), rng.uniform(1.4, 2.2), rng.uniform(4, 6.5)),
        joint_mm=rng.uniform(2.2, 4),
        joint_thin_mm=rng.uniform(1.0, 1.6),
        thin_direction=unit([rng.uniform(-0.4, 0.6), rng.uniform(-0.5, 0.4), rng.uniform(0.6, 1)]),
        cup_axis=_cup_axis(rng.uniform(38, 48), rng.uniform(12, 25)),
        cup_edge_mm=rng.uniform(-1, 4),
        wall_mm=scale * rng.uniform(8, 10.5),
        ilium_angle_deg=rng.uniform(30, 50),
        ilium_radii_mm=(scale * rng.uniform(24, 30), scale * rng.uniform(9, 12)),
        pelvis_cortex_mm=rng.uniform(1.1, 1.9),
    )


def unit(vector) -> np.ndarray:
    """The vector [3] at length 1."""
    vector = np.asarray(vector, np.float64)
    return vector / np.linalg.norm(vector)


def femur(points: Points, bones: Bones) -> np.ndarray:
    """The proximal femur with its cortex."""
    scale = bones.scale
    body = blend(head_and_neck(points, bones), _trochanters_and_shaft(points, bones), 10 * scale)
    if bones.cam_mm > 0:
        body = blend(body, _cam(points, bones), 5 * scale)
    pit = sphere(points, bones.fovea * (bones.head_radius_mm + 3.0 * scale), 5.5 * scale)
    return carve(body, pit)


def head_and_neck(points: Points, bones: Bones) -> np.ndarray:
    """The ball and the neck without the trochanters: the inside of the joint's capsule."""
    head = length(points) - np.float32(bones.head_radius_mm)
    inward = unit(np.cross(bones.neck_axis, bones.shaft_up))
    neck = capsule(points, bones.base, np.zeros(3), bones.neck_radii_mm[::-1], flat=1.2 * inward)
    part = along(points, -bones.neck_axis) * np.float32(1 / bones.neck_length_mm)
    neck = neck + np.float32(bones.waist_mm) * np.exp(
        -np.square((part - np.float32(0.55)) / np.float32(0.25))
    )
    return blend(head, neck, 6 * bones.scale)


def cortex_mm(points: Points, bones: Bones) -> np.ndarray:
    """The thickness of the femur's cortex: thin at the head, thicker at the calcar, thick at the shaft."""
    head, neck, shaft = bones.cortex_mm
    below = -along(minus(points, bones.base), bones.shaft_up)
    outward = along(points, -bones.neck_axis)
    radius = bones.head_radius_mm
    thickness = np.float32(head) + np.float32(neck - head) * smooth_step(outward, 0.6 * radius, 1.1 * radius)
    thickness += np.float32(shaft - neck) * smooth_step(below, 8 * bones.scale, 65 * bones.scale)
    calcar = bones.base + bones.scale * (15 * bones.neck_axis - 20 * bones.shaft_up)
    distance = length(minus(points, calcar)) * np.float32(1 / (13 * bones.scale))
    return thickness + np.float32(2.2) * np.exp(-distance * distance)


def pelvis(points: Points, bones: Bones, head_mm: np.ndarray) -> np.ndarray:
    """Acetabulum, lower ilium, pubis and ischium, kept off the femur (`head_mm` away) by the joint space."""
    scale = bones.scale
    body = blend(_cup(points, bones), _ilium(points, bones), 7 * scale)
    body = blend(body, _pubis_and_ischium(points, bones), 6 * scale)
    body = carve(body, acetabular_fossa(points, bones))
    return np.maximum(body, joint_space_mm(points, bones) - head_mm)


def joint_space_mm(points: Points, bones: Bones) -> np.ndarray:
    """The gap between the bones in the direction of each point: one width, but narrower at one place."""
    cosine = along(points, bones.thin_direction) / np.maximum(length(points), np.float32(1e-3))
    thin = np.exp((cosine - np.float32(1)) * np.float32(1 / 0.12))
    return np.float32(bones.joint_mm) - np.float32(bones.joint_mm - bones.joint_thin_mm) * thin


def acetabular_fossa(points: Points, bones: Bones) -> np.ndarray:
    """The fat-filled notch in the floor of the acetabulum, open downwards."""
    inner = bones.head_radius_mm + bones.joint_mm
    floor = unit([-0.9, 0.15, -0.35]) * (inner - 8 * bones.scale)
    return capsule(
        points, floor, floor + [8 * bones.scale, 0, -0.5 * inner], (12.5 * bones.scale, 9 * bones.scale)
    )


def labrum(points: Points, bones: Bones) -> np.ndarray:
    """The fibrocartilage ring on the acetabulum's edge."""
    rim = bones.head_radius_mm + bones.joint_mm
    center = bones.cup_axis * bones.cup_edge_mm
    return torus(
        points, center, bones.cup_axis, (np.sqrt(rim**2 - bones.cup_edge_mm**2) + 0.6, 1.7 * bones.scale)
    )


def alpha_deg(bones: Bones) -> float:
    """The alpha angle on the cam's side: from the neck's axis to where the bone leaves the head's circle."""
    angles = np.deg2rad(np.arange(20.0, 180.0))
    radius = bones.head_radius_mm + 1.0
    rays = np.outer(np.cos(angles), -bones.neck_axis) + np.outer(np.sin(angles), bones.cam_direction)
    outside = femur(tuple((radius * rays.T).astype(np.float32)), bones) < 0
    return float(np.rad2deg(angles[outside].max())) if outside.any() else 20.0


def _neck_and_shaft(angle_deg: float, version_deg: float, tilt_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """The neck's direction to the head, and the shaft's upwards; the shaft runs medially on its way down."""
    angle, version, tilt = np.deg2rad([angle_deg, version_deg, tilt_deg])
    shaft_up = np.asarray([np.sin(tilt), 0.0, np.cos(tilt)])
    medial = np.asarray([-np.cos(tilt), 0.0, np.sin(tilt)])
    across = np.cos(version) * medial + np.sin(version) * np.asarray([0.0, -1.0, 0.0])
    return np.sin(angle) * across - np.cos(angle) * shaft_up, shaft_up


def _anterosuperior(neck_axis: np.ndarray, angle_deg: float) -> np.ndarray:
    """A direction across the neck, `angle_deg` from its top towards the front."""
    top = unit(np.asarray([0.0, 0.0, 1.0]) - neck_axis[2] * neck_axis)
    front = np.cross(neck_axis, top)
    front = front if front[1] < 0 else -front
    return np.cos(np.deg2rad(angle_deg)) * top + np.sin(np.deg2rad(angle_deg)) * front


def _cup_axis(inclination_deg: float, version_deg: float) -> np.ndarray:
    """Out of the acetabulum: lateral, forward and down."""
    inclination, version = np.deg2rad([inclination_deg, version_deg])
    return np.asarray(
        [np.sin(inclination) * np.cos(version), -np.sin(inclination) * np.sin(version), -np.cos(inclination)]
    )


def _cam(points: Points, bones: Bones) -> np.ndarray:
    """A bump on the junction of head and neck, `cam_mm` high."""
    radius = bones.head_radius_mm
    center = -0.62 * radius * bones.neck_axis + (0.45 * radius + bones.cam_mm) * bones.cam_direction
    return sphere(points, center, 0.42 * radius)


def _trochanters_and_shaft(points: Points, bones: Bones) -> np.ndarray:
    scale, base, up = bones.scale, bones.base, bones.shaft_up
    greater = base + scale * np.asarray([11.0, 7.0, 0.0]) + 13 * scale * up
    lesser = base + scale * np.asarray([-12.0, 13.0, 0.0]) - 32 * scale * up
    body = blend(_shaft(points, bones), ellipsoid(points, greater, bones.trochanter_radii_mm), 9 * scale)
    radii = np.asarray([1.0, 1.0, 1.5]) * bones.lesser_radius_mm
    return blend(body, ellipsoid(points, lesser, radii), 7 * scale)


def _shaft(points: Points, bones: Bones) -> np.ndarray:
    """A bowed rod that narrows below the trochanters and leaves the field of view."""
    offset = minus(points, bones.base)
    height = along(offset, bones.shaft_up)
    below = np.maximum(-height, 0)
    side = np.asarray([bones.shaft_up[2], 0, -bones.shaft_up[0]])
    forward = np.float32(bones.bow_mm) * np.square(below * np.float32(1 / 100))
    across, depth = along(offset, side), offset[1] + forward
    above = np.maximum(height, 0)
    upper, lower = bones.shaft_radii_mm
    radius = np.float32(upper) + np.float32(lower - upper) * smooth_step(below, 0, 55 * bones.scale)
    return np.sqrt(across * across + depth * depth + above * above) - radius


def _ilium(points: Points, bones: Bones) -> np.ndarray:
    """The wing above the roof: an elliptic column, its section from the front backwards and inwards."""
    angle = np.deg2rad(bones.ilium_angle_deg)
    long, thin = bones.ilium_radii_mm
    start = bones.head_radius_mm + 2.0
    height = points[2] - np.float32(start)
    lean = np.float32(0.1) * np.maximum(height, 0)
    offset = (points[0] + np.float32(4 * bones.scale) + lean, points[1] + np.float32(1), points[2])
    widest = along(offset, [np.cos(angle), -np.sin(angle), 0]) * np.float32(1 / long)
    narrow = along(offset, [np.sin(angle), np.cos(angle), 0])
    taper = np.float32(thin) * (np.float32(1) - np.float32(0.35) * smooth_step(height, 5, 45))
    ratio = np.sqrt(widest * widest + np.square(narrow / taper))
    return np.maximum((ratio - np.float32(1)) * taper, -height - np.float32(14))


def _cup(points: Points, bones: Bones) -> np.ndarray:
    """The socket: a thin medial wall between an anterior and a thicker posterior column, and a roof."""
    scale = bones.scale
    inner = bones.head_radius_mm + bones.joint_mm
    wall = sphere(points, np.asarray([-0.5, 0.0, 0.0]) * scale, inner + 0.4 * bones.wall_mm)
    for direction, reach, radii_mm in COLUMNS:
        center = unit(direction) * (inner + reach * bones.wall_mm)
        wall = blend(wall, ellipsoid(points, center, scale * np.asarray(radii_mm)), 8 * scale)
    opening = along(points, bones.cup_axis) - np.float32(bones.cup_edge_mm)
    return trim(wall, opening, 5 * scale)


def _pubis_and_ischium(points: Points, bones: Bones) -> np.ndarray:
    scale = bones.scale
    rim = bones.head_radius_mm + 6 * scale

    def rod(start, end, radii_mm, flat):
        scaled = tuple(scale * value for value in radii_mm)
        return capsule(points, scale * np.asarray(start), scale * np.asarray(end), scaled, flat)

    root = np.asarray([-0.85, -0.42, -0.3]) * rim / scale
    symphysis = (-68.0, -36.0, -34.0)
    seat = (-14.0, 30.0, -62.0)
    body = rod(root, symphysis, (11, 8.5), (0, 1.0, 0.9))
    body = blend(
        body, rod(np.asarray([-0.55, 0.7, -0.3]) * rim / scale, seat, (14, 16), (1.1, -0.7, 0)), 5 * scale
    )
    return blend(body, rod(seat, (-58.0, -18.0, -66.0), (9, 7), (0.9, 1.0, 0)), 6 * scale)
