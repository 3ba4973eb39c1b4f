"""The surroundings of a fetal face: hands, loops of the cord, the womb with its fluid and the placenta.

Hands and cord touch neither the face nor one another. They are there to be confused with parts of it: a finger's or the
cord's section is a dark round with a bright rim, as an orbit, and a knuckle protrudes into the fluid, as a nose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from tfsono.phantoms.canvas import FAR_MM, Canvas, FleshLook
from tfsono.phantoms.distance import capsule
from tfsono.phantoms.face_anatomy import Face, rod_part, skin_mm
from tfsono.phantoms.face_flesh import FLUID_DB, SKIN_MM, paint_bone, united
from tfsono.phantoms.womb import Womb, draw_shadows, reach_mm, smallest_ellipsoid

# How often none, one and two of them are drawn; the cord's radius in parts of the distance between the eyes.
HANDS, CORDS, CORD_RADIUS = (0.30, 0.45, 0.25), (0.35, 0.45, 0.20), (0.20, 0.27)
# Where a hand is held, as offsets from the middle between the eyes, on either side: mouth, cheek, eye, brow,
# chin, straight in front of the nose.
HELD = ((0.22, -0.42, -0.75), (0.62, -0.20, -0.50), (0.55, -0.30, 0.0), (0.40, -0.40, 0.50), (0.30, -0.35, -1.20),
        (0.05, -0.65, -0.35))
# A hand, in parts of the distance between the eyes: along the fingers, across, and of a finger's three phalanges; the
# radii of fingers, palm and forearm, of their bones; how far the palm is from the wrist; the forearm's length.
FINGERS_ACROSS, PHALANGES, THUMB = (-0.23, -0.08, 0.07, 0.21), (0.29, 0.19, 0.15), (0.22, 0.18)
FINGER, PALM, FOREARM, PHALANX_BONE, FOREARM_BONE = 0.080, 0.115, (0.16, 0.25), 0.036, 0.055
KNUCKLES, WRIST, FOREARM_LENGTH = 0.30, -0.30, 1.5
# How many are tried before one is omitted for lack of room; how often one is moved further away, how far in parts of
# the distance between the eyes, and the least gap, millimetres.
TRIES, MOST_MOVES, FARTHEST, APART_MM = 4, 12, 1.6, 0.8
CORD_STEPS = 56


class Bone(NamedTuple):
    """A rod of flesh with one or two bones in it: its ends [3], its radii, the bones' radius, and [3] by how much two
    are off its middle; 0 where it holds one, and a radius of 0 where none."""

    start_mm: np.ndarray
    end_mm: np.ndarray
    radii_mm: tuple[float, float]
    bone_mm: float
    beside_mm: np.ndarray


class Cord(NamedTuple):
    """A loop of the cord: its course [N, 3], its radius, and courses [N, 3] and radii of its three vessels."""

    course_mm: np.ndarray
    radius_mm: float
    vessels: tuple[tuple[np.ndarray, float], ...]
    jelly_db: float


class Surroundings(NamedTuple):
    """Bodies around the head; hands of rods each, and loops of the cord."""

    hands: tuple[tuple[Bone, ...], ...]
    cords: tuple[Cord, ...]
    womb: Womb


def draw_surroundings(rng: np.random.Generator, face: Face, top_mm: float, variety: float = 1.0) -> Surroundings:
    """Hands and cord in front of a placed face, and a womb around them; `top_mm` is the probe's face along y."""
    hands: list[tuple[Bone, ...]] = []
    cords: list[Cord] = []

    def free(points: np.ndarray) -> np.ndarray:
        """The distance of points [N, 3] from all that is drawn so far."""
        found = [skin_mm(tuple(points.T), face)]
        found += [capsule(tuple(points.T), *bone[:3]) for hand in hands for bone in hand]
        found += [np.linalg.norm(points[:, None] - cord.course_mm, axis=-1).min(axis=1) - cord.radius_mm
                  for cord in cords]
        return np.min(found, axis=0)

    sides = rng.permutation([-1, 1])
    for side in sides[: rng.choice(3, p=_likely(HANDS, variety))]:
        tries = (_draw_hand(rng, face, side, free) for _ in range(TRIES))
        hands += list(islice((hand for hand in tries if hand), 1))
    for _ in range(rng.choice(3, p=_likely(CORDS, variety))):
        tries = (_draw_cord(rng, face, free) for _ in range(TRIES))
        cords += list(islice((cord for cord in tries if cord), 1))
    return Surroundings(tuple(hands), tuple(cords), _draw_womb(rng, face, hands, cords, top_mm))


def _likely(odds: Sequence[float], variety: float) -> np.ndarray:
    """Less variety makes the usual more frequent."""
    powers = np.asarray(odds) ** (1 / variety)
    return powers / powers.sum()


# --- hands


def _draw_hand(rng: np.random.Generator, face: Face, side: int, free: Callable) -> tuple[Bone, ...] | None:
    """A hand, bent more or less, held in front of the face; None if there is no room."""
    size = face.eyes_mm
    held = np.asarray(HELD[rng.integers(len(HELD))]) * [side, 1, 1]
    away = held - [0, 0.5, 0.6 * held[2]] + rng.normal(0, 0.12, 3)
    away = _unit(away @ face.axes)
    upwards = Rotation.from_rotvec(rng.uniform(-1.2, 1.2) * away).apply(_unit(_aside(face.axes[2], away)))
    across = np.cross(upwards, away)
    curl = rng.uniform(0.05, 1.25)
    bones = _pose_hand(rng, size, np.stack([upwards, across, away]), curl)
    ends = np.concatenate([np.linspace(bone.start_mm, bone.end_mm, 4) for bone in bones])
    radii = np.concatenate([np.linspace(*bone.radii_mm, 4) for bone in bones])
    gap = APART_MM + rng.exponential(2.5)
    shift = _free_place(face.at(held) + away * (gap + PALM * size), away, face,
                        lambda place: gap - float(np.min(free(ends + place) - radii)))
    if shift is None:
        return None
    return tuple(bone._replace(start_mm=bone.start_mm + shift, end_mm=bone.end_mm + shift) for bone in bones)


def _free_place(place: np.ndarray, away: np.ndarray, face: Face, short: Callable) -> np.ndarray | None:
    """A position moved further away until nothing is `short` of room; None if that is too far."""
    farthest = FARTHEST * face.eyes_mm
    moved = 0.0
    for _ in range(MOST_MOVES):
        lacking = short(place + moved * away)
        if lacking <= 0:
            return place + moved * away
        moved += lacking + 0.2
        if moved > farthest:
            return None
    return None


def _pose_hand(rng: np.random.Generator, size: float, axes: np.ndarray, curl: float) -> list[Bone]:
    """A hand around its palm's middle; rows of `axes`: along the fingers, across, away from the face.

    `curl` is by how much a finger's first joint is bent, radians.
    """
    bones, none = [], np.zeros(3)

    def place(along, across, off=0.0):
        return size * np.asarray((along, across, off)) @ axes

    for across in FINGERS_ACROSS:
        knuckle, spread, bent = place(KNUCKLES, across), across * rng.uniform(0.3, 1.0), curl * rng.uniform(0.8, 1.2)
        bones.append(Bone(place(WRIST, 0.5 * across), knuckle, (PALM * size,) * 2, PHALANX_BONE * size, none))
        start, angle = knuckle, 0.0
        for length, part in zip(PHALANGES, (0.7, 1.0, 0.7), strict=True):
            angle += part * bent
            step = np.cos(angle) * np.asarray((np.cos(spread), np.sin(spread), 0)) - [0, 0, np.sin(angle)]
            end = start + length * size * step @ axes
            bones.append(Bone(start, end, (FINGER * size,) * 2, PHALANX_BONE * size, none))
            start = end
    start, side = place(-0.05, 0.22), rng.uniform(0.5, 1.0)
    for length, bent in zip(THUMB, (0.3, 0.3 + 0.4 * curl), strict=True):
        step = np.asarray((np.cos(side), np.sin(side), 0)) * np.cos(bent) - [0, 0, np.sin(bent)]
        end = start + length * size * step @ axes
        bones.append(Bone(start, end, (1.1 * FINGER * size,) * 2, PHALANX_BONE * size, none))
        start = end
    lifted = rng.uniform(-0.1, 0.5)
    elbow = FOREARM_LENGTH * np.asarray((-np.cos(lifted), rng.normal(0, 0.15), np.sin(lifted)))
    bones.append(Bone(place(WRIST, 0), place(WRIST, 0) + place(*elbow), tuple(size * radius for radius in FOREARM),
                      FOREARM_BONE * size, 0.085 * size * axes[1]))
    return bones


# --- the cord


def _draw_cord(rng: np.random.Generator, face: Face, free: Callable) -> Cord | None:
    """A loop in front of the face whose ends lead aside, of three wound vessels; None if there is no room."""
    size = face.eyes_mm
    radius = size * rng.uniform(*CORD_RADIUS)
    away = _unit((np.asarray((0, -1.0, 0)) + rng.normal(0, 0.35, 3)) @ face.axes)
    axis = _unit(away + rng.normal(0, 0.8, 3))
    first = _unit(_aside(rng.normal(size=3), axis))
    second = np.cross(axis, first)
    span, ring = rng.uniform(3.0, 7.0), size * rng.uniform(0.45, 0.95)
    turn = np.linspace(-0.5, 0.5, CORD_STEPS)
    angle = np.clip(span * turn, -0.35 * span, 0.35 * span)
    beyond = np.sign(turn) * np.maximum(np.abs(turn) - 0.35, 0) * 14 * size  # its ends leave straight on
    course = ring * (np.cos(angle)[:, None] * first + np.sin(angle)[:, None] * second)
    course += beyond[:, None] * (np.cos(angle)[:, None] * second - np.sin(angle)[:, None] * first)
    course += (2.4 * radius * span / (2 * np.pi) * turn)[:, None] * axis * 1.2
    for waves in (1, 2):
        course += 0.07 * size * np.sin(2 * np.pi * waves * turn + rng.uniform(0, 6.3))[:, None] * rng.normal(size=3)
    gap = APART_MM + rng.exponential(4.0)
    shift = face.at((rng.normal(0, 0.45), -0.45, rng.normal(-0.35, 0.5))) + away * (gap + radius)
    shift = _free_place(shift, away, face, lambda place: gap + radius - float(np.min(free(course + place))))
    if shift is None:
        return None
    return Cord(course + shift, radius, _draw_vessels(rng, course + shift, radius, axis), rng.uniform(-58, -42))


def _draw_vessels(rng: np.random.Generator, course: np.ndarray, radius: float, axis: np.ndarray):
    """A vein and two arteries, wound about the cord's middle."""
    step = np.gradient(course, axis=0)
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    first = np.cross(step, axis)
    first /= np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-6)
    second = np.cross(step, first)
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(course, axis=0), axis=1))])
    phase = rng.uniform(0, 6.3) + rng.choice([-1, 1]) * lengths / (radius * rng.uniform(1.6, 3.0))
    vessels = []
    for part, off, turned in ((0.40, 0.36, 0.0), (0.20, 0.52, 2.3), (0.20, 0.52, 4.0)):
        beside = np.cos(phase + turned)[:, None] * first + np.sin(phase + turned)[:, None] * second
        vessels.append((course + off * radius * beside, part * radius))
    return tuple(vessels)


# --- the womb


def _draw_womb(rng: np.random.Generator, face: Face, hands, cords, top_mm: float) -> Womb:
    """A womb whose fluid reaches around head, hands and cord, a placenta somewhere on its wall."""
    outline = face.outline_mm()
    size = face.eyes_mm
    near = [np.stack([bone.start_mm for bone in hand]) for hand in hands] + [cord.course_mm for cord in cords]
    near = [points[np.linalg.norm(points - face.at((0, -0.4, -0.4)), axis=1) < 2.5 * size] for points in near]
    before = face.at((0, -0.6, -0.4)) - rng.uniform(0.3, 1.2) * size * face.axes[1]
    middle, radii, axes = smallest_ellipsoid(np.concatenate([outline, before[None], *near]))
    radii = np.maximum(radii, 0.75 * radii.max()) + rng.uniform(2, 8)
    thick = rng.uniform(18, 30) * face.weeks / 25
    side = _unit(rng.normal(size=3))
    grown = radii + 0.35 * thick
    middle = middle + 0.35 * thick * side  # off the head, where the placenta is
    edge = middle + side * reach_mm(side, grown, axes)
    room = float(np.clip(outline[:, 1].min() - top_mm, 5.0, 40.0)) * rng.uniform(0.6, 1.0)
    layers = top_mm + room * np.cumsum(rng.uniform([0.12, 0.14, 0.2], [0.22, 0.26, 0.34]))
    amnion = (float(rng.uniform(0.97, 1.0)), rng.normal(0, 0.6, 3))
    return Womb(middle_mm=middle, radii_mm=grown, axes=axes, wall_mm=float(rng.uniform(5, 9)), placenta_mm=edge,
                placenta_thick_mm=float(thick), placenta_radius_mm=float(rng.uniform(40, 65)), amnion=amnion,
                layers_mm=tuple(layers.tolist()), shadows=draw_shadows(rng, face.points_mm, top_mm))


# --- painting


def paint_hands(canvas: Canvas, hands, face: Face, look: FleshLook) -> None:
    """Flesh and skin of all hands, then their bones, of which the middle is ossified."""
    for hand in hands:
        ends = np.concatenate([[bone.start_mm, bone.end_mm] for bone in hand])
        reach = max(max(bone.radii_mm) for bone in hand)
        part = canvas.window(ends.min(axis=0) - reach, ends.max(axis=0) + reach)
        if part is None:
            continue
        distance = united(part, [rod_part(*bone[:3]) for bone in hand], 0.04 * face.eyes_mm)
        level = np.where(distance > -SKIN_MM, np.float32(look.skin_db), np.float32(look.flesh_db))
        part.cover(distance, level + np.float32(2.0) * part.fields[1])
        part.film(distance, np.float32(look.skin_echo))
        for bone in hand:
            _paint_shaft(canvas, bone, look)


def _paint_shaft(canvas: Canvas, bone: Bone, look: FleshLook) -> None:
    step = bone.end_mm - bone.start_mm
    start, end = bone.start_mm + 0.18 * step, bone.start_mm + 0.84 * step
    reach = bone.bone_mm + np.abs(bone.beside_mm)
    part = canvas.window(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
    if part is not None:
        pair = [capsule(part.points, start + aside, end + aside, (bone.bone_mm,) * 2)
                for aside in ((bone.beside_mm, -bone.beside_mm) if bone.beside_mm.any() else (bone.beside_mm,))]
        paint_bone(part, np.min(pair, axis=0), look.bone_db, look.bone_loss)


def paint_cords(canvas: Canvas, cords: Iterable[Cord]) -> None:
    """Tubes of jelly with a bright skin, and the bright walls of dark vessels in them."""
    for cord in cords:
        for course, radius, level, echo in ((cord.course_mm, cord.radius_mm, cord.jelly_db, 0.22),
                                            *((course, radius, FLUID_DB + 6, 0.20) for course, radius in cord.vessels)):
            part = canvas.window(course.min(axis=0) - radius, course.max(axis=0) + radius)
            if part is None:
                continue
            distance = tube(part, course, radius)
            part.cover(distance, np.float32(level) + np.float32(1.5) * part.fields[1])
            part.film(distance, np.float32(echo))


def tube(part: Canvas, course: np.ndarray, radius: float) -> np.ndarray:
    """The distance to a tube along a course [N, 3]; a large distance where it is not near."""
    distance = np.full(part.scatter.shape, FAR_MM)
    for start, end in zip(course[:-1], course[1:], strict=True):
        near = part.place(np.minimum(start, end) - radius, np.maximum(start, end) + radius)
        if near is not None:
            found = capsule(part.points_at(near), start, end, (radius, radius))
            np.minimum(distance[near], found, out=distance[near])
    return distance


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _aside(vector: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The part of a vector at right angles to a unit vector."""
    return vector - (vector @ axis) * axis
