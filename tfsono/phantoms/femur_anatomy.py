"""One fetal leg as signed distances: numbers drawn from anatomy's ranges, and the bodies they make.

Everything is in the femur's own frame in millimetres: the origin midway between the two tips, u medial, v anterior,
w proximal, so that the proximal tip is near +w and the distal one near -w. A right leg is the mirror image of a
left one. Sizes scale with the femur's length: numbers in a body's description are parts of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfsono.phantoms.distance import Points, along, blend, capsule, ellipsoid, length, minus, sphere

# Hadlock, Deter, Harrist, Park: Estimating fetal age: computer-assisted analysis of multiple fetal growth parameters,
# Radiology 152 (1984) 497-501: the length of the ossified shaft in centimetres by menstrual weeks, and its table.
HADLOCK = (-3.91, 0.427, -0.0034)
# How far femora of one age differ, as part of the length: about as much as a length's ages do (one to two weeks).
LENGTH_SPREAD = 0.03
# Positions of the tips, as parts of the length: the trochanter's top, lateral of the axis; the end plate, behind it.
PROXIMAL_U, DISTAL_V = -0.035, -0.02

OUTWARD, FORWARD, UPWARD = np.eye(3)


@dataclass(frozen=True)
class Femur:
    """The drawn numbers of a femur as a scan shows it.

    Attributes:
        weeks: the gestational age.
        length_mm: from tip to tip.
        shaft_mm: the radius of the shaft's middle.
        bow_mm: how far the middle is bowed forwards.
        neck: how far the neck reaches inwards, as part of the length.
        flare: the half widths of both ends, as parts of the usual ones.
    """

    weeks: float
    length_mm: float
    shaft_mm: float
    bow_mm: float
    neck: float
    flare: tuple[float, float]

    @property
    def tips_mm(self) -> np.ndarray:
        """The proximal and the distal tip in the femur's frame, [2, 3]."""
        half = 0.5 * np.sqrt(1 - PROXIMAL_U**2 - DISTAL_V**2)
        return self.length_mm * np.asarray([[PROXIMAL_U, 0, half], [0, DISTAL_V, -half]])


@dataclass(frozen=True)
class Leg:
    """A femur and its surroundings: bodies by the femur's frame, angles in radians.

    Attributes:
        thigh: the radii of the flesh at the hip and at the knee, as parts of the femur's length.
        hip: the angle by which the femur is bent forwards from the trunk's axis.
        knee: the angle by which the lower leg is bent backwards from the femur's axis.
        shin: the tibia's length as part of the femur's.
        trunk: the radii of the trunk, sideways, front to back and along, as parts of the femur's length.
    """

    femur: Femur
    thigh: tuple[float, float]
    hip: float
    knee: float
    shin: float
    trunk: tuple[float, float, float]

    @property
    def trunk_axes(self) -> np.ndarray:
        """Rows: the trunk's sideways, forward and upward directions."""
        sine, cosine = np.sin(self.hip), np.cos(self.hip)
        return np.asarray([OUTWARD, cosine * FORWARD - sine * UPWARD, sine * FORWARD + cosine * UPWARD])

    @property
    def shin_axis(self) -> np.ndarray:
        """The direction from the knee to the ankle."""
        return -np.cos(self.knee) * UPWARD - np.sin(self.knee) * FORWARD

    @property
    def hip_mm(self) -> np.ndarray:
        """The middle of the femoral head, which is still cartilage."""
        femur = self.femur
        return femur.length_mm * np.asarray([femur.neck + 0.05, 0.0, 0.47])

    @property
    def knee_mm(self) -> np.ndarray:
        """The middle of the joint."""
        return self.femur.tips_mm[1] - 0.075 * self.femur.length_mm * UPWARD


def femur_length_mm(weeks: float) -> float:
    """The length of an average femur at a gestational age, by Hadlock's curve (1984)."""
    return 10 * float(np.polyval(HADLOCK[::-1], weeks))


def draw_leg(rng: np.random.Generator, weeks: tuple[float, float]) -> Leg:
    """A leg of a fetus of an age within `weeks`, in any usual posture."""
    age = rng.uniform(*weeks)
    millimetres = femur_length_mm(age) * (1 + LENGTH_SPREAD * np.clip(rng.normal(), -2.5, 2.5))
    femur = Femur(
        weeks=float(age),
        length_mm=float(millimetres),
        shaft_mm=float(millimetres * 0.07 * np.clip(rng.normal(1, 0.08), 0.8, 1.2)),
        bow_mm=float(millimetres * rng.uniform(0.015, 0.06)),
        neck=float(rng.uniform(0.1, 0.125)),
        flare=tuple(rng.uniform(0.92, 1.1, 2).tolist()),
    )
    return Leg(
        femur=femur,
        thigh=tuple(rng.uniform([0.34, 0.22], [0.46, 0.3]).tolist()),
        hip=float(np.deg2rad(rng.uniform(40, 115))),
        knee=float(np.deg2rad(rng.uniform(15, 115))),
        shin=float(rng.uniform(0.84, 0.92)),
        trunk=tuple((rng.uniform([0.55, 0.5, 1.3], [0.7, 0.64, 1.7])).tolist()),
    )


def femur(points: Points, bone: Femur) -> np.ndarray:
    """A bowed shaft, trochanter and neck at its proximal end, a broad plate with condyles at its distal one."""
    size = bone.length_mm
    (_, _, top), (_, behind, bottom) = bone.tips_mm
    part = points[2] * np.float32(1 / top)
    bow = np.float32(bone.bow_mm) * np.maximum(1 - part * part, 0)
    points = (points[0], points[1] - bow, points[2])
    shaft = capsule(points, (0, behind, bottom + 0.16 * size), (0, 0, top - 0.17 * size), (bone.shaft_mm,) * 2)
    body = blend(shaft, _proximal_end(points, bone, top), 0.05 * size)
    return blend(body, _distal_end(points, bone, behind, bottom), 0.05 * size)


def _proximal_end(points: Points, bone: Femur, top: float) -> np.ndarray:
    """The trochanter, whose top is the tip, and the short neck, obliquely inwards and a little lower."""
    size, wide = bone.length_mm, bone.flare[0]
    radii = size * np.asarray([0.066 * wide, 0.072 * wide, 0.095])
    trochanter = ellipsoid(points, (PROXIMAL_U * size, 0, top - radii[2]), radii)
    radius = 0.062 * wide * size
    end = (bone.neck * size, 0, top - 0.03 * size - radius)
    neck = capsule(points, (0, 0, top - 0.24 * size), end, (0.9 * radius, radius))
    return blend(trochanter, neck, 0.04 * size)


def _distal_end(points: Points, bone: Femur, behind: float, bottom: float) -> np.ndarray:
    """The flaring end plate, whose middle is the tip, and two condyles behind."""
    size, wide = bone.length_mm, bone.flare[1]
    radii = size * np.asarray([0.112 * wide, 0.088 * wide, 0.105])
    plate = ellipsoid(points, (0, behind, bottom + radii[2]), radii)
    flare = capsule(
        points,
        (0, 0.5 * behind, bottom + 0.34 * size),
        (0, behind, bottom + 0.135 * size),
        (bone.shaft_mm, 0.092 * wide * size),
    )
    body = blend(plate, flare, 0.04 * size)
    radius = 0.06 * wide * size
    for side in (-1, 1):
        center = (side * 0.068 * wide * size, behind - 0.06 * size, bottom + 0.03 * size + radius)
        body = blend(body, sphere(points, center, radius), 0.03 * size)
    return body


def volume_ml(bone: Femur) -> float:
    """The femur's volume, counted on cubes of a hundredth of its length; millilitres."""
    step = bone.length_mm / 100
    axes = (np.arange(-half, half, step, dtype=np.float32) for half in bone.length_mm * np.asarray([0.25, 0.2, 0.55]))
    inside = femur(tuple(np.meshgrid(*axes, indexing="ij", sparse=True)), bone) < 0
    return float(np.count_nonzero(inside) * step**3 / 1000)


def cartilage(points: Points, leg: Leg) -> np.ndarray:
    """The cartilage of both ends, not ossified at these ages: head and trochanter, condyles, the tibia's plateau."""
    size = leg.femur.length_mm
    proximal, distal = leg.femur.tips_mm
    head = sphere(points, leg.hip_mm, 0.125 * size)
    body = blend(head, sphere(points, proximal + 0.01 * size * UPWARD, 0.085 * size), 0.06 * size)
    condyles = ellipsoid(points, distal, size * np.asarray([0.16, 0.14, 0.1]))
    plateau = ellipsoid(points, leg.knee_mm + 0.06 * size * leg.shin_axis, size * np.asarray([0.14, 0.11, 0.08]))
    return np.minimum(body, np.minimum(condyles, plateau))


def shin_bones(points: Points, leg: Leg) -> np.ndarray:
    """Tibia and fibula: thinner than the femur, side by side."""
    size = leg.femur.length_mm
    front = np.cos(leg.knee) * FORWARD - np.sin(leg.knee) * UPWARD
    start = leg.knee_mm + 0.09 * size * leg.shin_axis
    end = start + leg.shin * size * leg.shin_axis
    tibia = capsule(points, start, end, (0.058 * size, 0.05 * size))
    for place, radius in ((start + 0.06 * size * leg.shin_axis, 0.095), (end - 0.05 * size * leg.shin_axis, 0.075)):
        tibia = blend(tibia, sphere(points, place, radius * size), 0.07 * size)
    beside = -0.16 * size * OUTWARD - 0.05 * size * front
    fibula = capsule(points, start + beside + 0.05 * size * leg.shin_axis, end + 0.8 * beside, (0.034 * size,) * 2)
    return np.minimum(tibia, fibula)


def pelvis(points: Points, leg: Leg) -> np.ndarray:
    """Ilium, ischium, sacrum and the lowest vertebrae: separate bones at these ages, off the femur."""
    size = leg.femur.length_mm
    side, front, up = leg.trunk_axes
    hip = leg.hip_mm + 0.06 * size * side
    wing = hip + size * (0.04 * side + 0.27 * up - 0.04 * front)
    body = ellipsoid(points, wing, size * np.asarray([0.05, 0.17, 0.2]), leg.trunk_axes)
    body = np.minimum(body, capsule(points, hip + size * (0.08 * side - 0.02 * front - 0.1 * up),
                                    hip + size * (0.12 * side - 0.1 * front - 0.2 * up), (0.06 * size, 0.05 * size)))
    for number in range(6):
        place = hip + size * (0.32 * side - (0.3 - 0.02 * number) * front + (0.05 + 0.13 * number) * up)
        body = np.minimum(body, sphere(points, place, 0.05 * size))
    return body


def thigh(points: Points, leg: Leg) -> np.ndarray:
    """The flesh around the femur, its skin at 0."""
    size, (at_hip, at_knee) = leg.femur.length_mm, leg.thigh
    middle = np.asarray([0.0, -0.02, 0.0]) * size
    return capsule(points, middle + 0.36 * size * UPWARD, leg.knee_mm, (at_hip * size, at_knee * size))


def shin(points: Points, leg: Leg) -> np.ndarray:
    """The flesh of the lower leg, its skin at 0."""
    size, (_, at_knee) = leg.femur.length_mm, leg.thigh
    ankle = leg.knee_mm + (0.12 + leg.shin) * size * leg.shin_axis
    return capsule(points, leg.knee_mm, ankle, (0.95 * at_knee * size, 0.13 * size))


def trunk(points: Points, leg: Leg) -> np.ndarray:
    """The lower trunk, its skin at 0."""
    size, (side, front, up) = leg.femur.length_mm, leg.trunk_axes
    radii = size * np.asarray(leg.trunk)
    center = leg.hip_mm + 0.32 * size * side + 0.5 * radii[2] * up + 0.05 * size * front
    return ellipsoid(points, center, radii, leg.trunk_axes)


def septa(points: Points, leg: Leg) -> np.ndarray:
    """The distance to the three sheets of fascia that separate the thigh's muscles along the bone."""
    size = leg.femur.length_mm
    sheets = []
    for angle, away in ((0.4, 0.14), (2.4, 0.15), (4.6, 0.13)):
        across = (np.cos(angle), np.sin(angle), 0.12)
        sheets.append(np.abs(along(points, across) - np.float32(away * size)))
    return np.minimum(np.minimum(sheets[0], sheets[1]), sheets[2])


def towards_tip_mm(points: Points, tip_mm: np.ndarray) -> np.ndarray:
    """The distance to a tip."""
    return length(minus(points, tip_mm))
