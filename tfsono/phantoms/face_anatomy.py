"""One fetal head of 16 to 36 weeks: sizes by age, what differs between faces, its skin, and the five landmarks.

The head's own frame is in millimetres with its origin in the middle of the skull's vault, and as a patient's: x to the
left, y to the back, z upwards (right-handed). Positions in the face are offsets from the middle between the eyes, in
parts of the distance between the eyes' middles. Apart from individual differences both sides are mirror images of one
another, so that only handedness tells left from right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from tfsono.configs.face import LANDMARKS
from tfsono.phantoms.distance import Body, Points, blend, capsule, ellipsoid

YOUNGEST, OLDEST = 16.0, 36.0
# Head circumference in millimetres by week, a + b w + c w^3: Hadlock and others, Radiology 152 (1984) 497.
HADLOCK = (-114.8, 15.6, -0.002548)
# Cephalic index (biparietal by occipitofrontal diameter) and its deviation: Hadlock and others, AJR 137 (1981) 83.
CEPHALIC, CEPHALIC_SPREAD = 0.783, 0.044
# Binocular and interocular distance in millimetres by week, a + b w: Sukonpan and Phupong, Journal of the Medical
# Association of Thailand 91 (2008) 1318. Half their difference is an orbit, half their sum the eyes' distance.
BINOCULAR, INTEROCULAR = (2.590, 1.420), (2.304, 0.510)
# Nasal bone, 4 mm at 14 and 12 mm at 35 weeks: Guis and others, Ultrasound in Obstetrics and Gynecology 5 (1995) 304.
NASAL_BONE = ((14.0, 35.0), (4.0, 12.0))

# All below is ours, after the proportions of newborns' faces. Height of the vault by its width, of the brow in it.
VAULT_HEIGHT, BROW_HEIGHT = 0.98, -0.18
# The skin over the forehead, in parts of the eyes' distance; the globe in parts of the orbit's diameter.
SCALP, GLOBE = 0.10, 0.94
# Where the brow's skin, the eyes, the nose's and the chin's round tips and the mouth lie in the average face; the
# radii of both tips. An eyebrow lies 0.28 above the eyes, the skin of the forehead 0.40 before them.
BROW, EYE = (0.0, -0.40, 0.28), (0.50, 0.0, 0.0)
NOSE, MOUTH, CHIN = (0.0, -0.53, -0.37), (0.0, -0.36, -0.755), (0.0, -0.29, -1.13)
NOSE_RADIUS, CHIN_RADIUS = 0.13, 0.155
# Which of them differ between faces, and by how much: one standard deviation to the left, to the back, upwards.
ANCHORS = {"brow": (BROW, (0.010, 0.012, 0.035)), "left": (EYE, (0.012, 0.012, 0.010)),
           "right": ((-0.50, 0.0, 0.0), (0.012, 0.012, 0.010)), "nose": (NOSE, (0.012, 0.035, 0.030)),
           "mouth": (MOUTH, (0.012, 0.020, 0.020)), "chin": (CHIN, (0.018, 0.040, 0.050))}
# How far an anchor moves its surroundings; how firmly the rest stays.
REACH, FIRMNESS = 0.30, 0.10
# The chin's tip on its round: the most forward and lowest point (gnathion), 40 degrees below forwards.
CHIN_TIP = (0.0, -np.cos(np.deg2rad(40)), -np.sin(np.deg2rad(40)))
FORWARDS = (0.0, -1.0, 0.0)
# How far the head is bent back at most to free its chin, radians.
LIFTED = -0.4
FILLET = 0.10


class Ball(NamedTuple):
    """An ellipsoid along the head's axes: its middle and half widths; one off the midline has a mirror image."""

    middle: tuple[float, float, float]
    radii: tuple[float, float, float]


class Rod(NamedTuple):
    """A rod with round ends: both ends and the radii there; one off the midline has a mirror image."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radii: tuple[float, float]


# The soft face over the vault: midface, muzzle, cheeks, lids, nose with its wings, lips, jaw, what is under the chin.
SKIN = (
    Ball((0, 0.20, -0.45), (0.88, 0.62, 0.72)),
    Ball((0, -0.08, -0.70), (0.42, 0.33, 0.30)),
    Ball((0.50, -0.04, -0.50), (0.30, 0.30, 0.30)),
    Ball((0.50, 0.01, 0.0), (0.28, 0.26, 0.235)),
    Rod((0, -0.20, 0.06), (0, -0.48, -0.33), (0.09, 0.105)),
    Ball(NOSE, (NOSE_RADIUS,) * 3),
    Ball((0.125, -0.42, -0.42), (0.075, 0.10, 0.085)),
    Rod((0, -0.49, -0.42), (0, -0.36, -0.55), (0.055, 0.06)),
    Rod((0.25, -0.30, -0.71), (0.03, -0.425, -0.655), (0.045, 0.080)),
    Rod((0.21, -0.30, -0.80), (0, -0.405, -0.835), (0.040, 0.080)),
    Ball(CHIN, (CHIN_RADIUS,) * 3),
    Rod((0.56, 0.30, -0.80), (0.12, -0.20, -1.10), (0.22, 0.17)),
    Rod((0, -0.15, -1.05), (0, 0.45, -1.05), (0.20, 0.35)),
)


@dataclass(frozen=True)
class Face:
    """A head, in its own frame or (`moved`) in the volume's.

    Attributes:
        weeks: the age.
        vault_mm: the half axes [3] of the skull's vault, its bone included: half the biparietal and the
            occipitofrontal diameter, and half its height.
        eyes_mm: the distance between the eyes' middles that sizes of the face are parts of.
        globe_mm: the eyeball's radius.
        nasal_mm: the length of the nasal bone.
        shifts: [6, 3], by how much the anchors of this face are off those of the average, in parts of `eyes_mm`.
        open: how far the lips are apart, in parts of `eyes_mm`; 0 for a closed mouth.
        gaze: direction of the eyes: angles to the left and upwards, radians.
        flexion: how far the chin is bent towards the chest, and the head to its left; radians.
        middle_mm: of the vault.
        axes: rows left, back, up.
        points_mm: the landmarks [5, 3], in the order of `LANDMARKS`.
    """

    weeks: float
    vault_mm: np.ndarray
    eyes_mm: float
    globe_mm: float
    nasal_mm: float
    shifts: np.ndarray
    open: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)
    flexion: tuple[float, float] = (0.0, 0.0)
    middle_mm: np.ndarray = field(default_factory=lambda: np.zeros(3))
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    points_mm: np.ndarray = field(default_factory=lambda: np.full((5, 3), np.nan))

    @property
    def between_mm(self) -> np.ndarray:
        """The middle between the average eyes, seen from the vault's [3]: from the brow, where it lies on the vault."""
        height = BROW_HEIGHT * self.vault_mm[2]
        front = self.vault_mm[1] * np.sqrt(1 - BROW_HEIGHT**2) + SCALP * self.eyes_mm
        return np.asarray([0, -front, height]) - self.eyes_mm * np.asarray(BROW)

    def at(self, offset) -> np.ndarray:
        """The position [3] in this face that is at `offset` in the average one, moved by the anchors."""
        offset = np.asarray(offset, np.float64)
        anchors = np.asarray([place for place, _ in ANCHORS.values()])
        weights = np.exp(-0.5 * np.sum(np.square((anchors - offset) / REACH), axis=1))
        shift = weights @ self.shifts / (weights.sum() + FIRMNESS)
        return self.middle_mm + (self.between_mm + self.eyes_mm * (offset + shift)) @ self.axes

    def landmark(self, name: str) -> np.ndarray:
        """A landmark's position [3], millimetres."""
        return self.points_mm[LANDMARKS.index(name)]

    def moved(self, rotation: np.ndarray, shift_mm) -> Face:
        """Rotated and shifted: a point p goes to p @ rotation + shift_mm."""
        return replace(self, middle_mm=self.middle_mm @ rotation + shift_mm, axes=self.axes @ rotation,
                       points_mm=self.points_mm @ rotation + shift_mm)

    def vault(self, beyond_mm: float = 0.0) -> Body:
        """The vault, or a body around it at a distance."""
        return Body(self.middle_mm, self.vault_mm + beyond_mm, self.axes)

    def spine_axes(self) -> np.ndarray:
        """Left, back and up of the neck and the chest, [3, 3]: the head's, bent."""
        nod, lean = self.flexion
        back = np.asarray([[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]])
        aside = np.asarray([[np.cos(lean), 0, np.sin(lean)], [0, 1, 0], [-np.sin(lean), 0, np.cos(lean)]])
        return aside @ back @ self.axes

    def neck_mm(self, parts: np.ndarray) -> np.ndarray:
        """Positions [N, 3] along the middle of the neck: part 0 is under the skull, 1 between the shoulders."""
        low = self.eyes_mm * np.asarray((0, 0.10, -1.05)) @ self.spine_axes()
        return self.at((0, 0.62, -0.75)) + np.asarray(parts, np.float64)[:, None] * low

    def chest(self) -> Body:
        """The chest, an ellipsoid below the neck."""
        axes = self.spine_axes()
        middle = self.neck_mm(np.ones(1))[0] + self.eyes_mm * np.asarray((0, -0.10, -1.25)) @ axes
        return Body(middle, self.eyes_mm * np.asarray((1.10, 0.92, 1.45)), axes)

    def outline_mm(self) -> np.ndarray:
        """Points [N, 3] on the skin of head and face, those that reach farthest among them."""
        around = np.concatenate([np.eye(3), -np.eye(3)])
        corners = np.asarray([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / np.sqrt(3)
        vault = self.vault(SCALP * self.eyes_mm)
        jaws = [self.at((side * 0.80, 0.35, -0.80)) for side in (-1, 1)]
        return np.concatenate([vault.middle_mm + np.concatenate([around, corners]) * vault.radii_mm @ vault.axes,
                               jaws, self.points_mm[1:2], self.points_mm[3:]])


def head_circumference_mm(weeks: float) -> float:
    """Of an average fetus, by Hadlock's curve."""
    first, linear, cubic = HADLOCK
    return first + linear * weeks + cubic * weeks**3


def ocular_mm(weeks: float) -> tuple[float, float]:
    """Of an average fetus: the distance between the eyes' middles, and the orbit's diameter."""
    outer, inner = (first + slope * weeks for first, slope in (BINOCULAR, INTEROCULAR))
    return 0.5 * (outer + inner), 0.5 * (outer - inner)


def average_face(weeks: float) -> Face:
    """A face as the average of its age: mirror symmetric, the mouth closed."""
    length = 2 * head_circumference_mm(weeks) / np.pi / (1 + CEPHALIC)  # the circumference is pi times the mean axis
    vault = 0.5 * length * np.asarray([CEPHALIC, 1, VAULT_HEIGHT * CEPHALIC])
    eyes, orbit = ocular_mm(weeks)
    return with_landmarks(Face(weeks=weeks, vault_mm=vault, eyes_mm=eyes, globe_mm=0.5 * GLOBE * orbit,
                               nasal_mm=float(np.interp(weeks, *NASAL_BONE)), shifts=np.zeros((len(ANCHORS), 3))))


def draw_face(rng: np.random.Generator, weeks: tuple[float, float], variety: float = 1.0) -> Face:
    """A face of an age within `weeks`; `variety` scales how far it differs from the average of its age."""
    average = average_face(float(rng.uniform(*weeks)))
    normal = variety * np.clip(rng.normal(size=9), -2.5, 2.5)
    index = CEPHALIC + CEPHALIC_SPREAD * normal[0]
    vault = average.vault_mm * (1 + 0.03 * normal[1])
    vault *= np.asarray([index / CEPHALIC, 1, index / CEPHALIC]) * (1 + CEPHALIC) / (1 + index)
    eyes = average.eyes_mm * (1 + 0.02 * normal[1] + 0.03 * normal[2])
    deviations = np.asarray([deviation for _, deviation in ANCHORS.values()])
    shifts = variety * deviations * np.clip(rng.normal(size=deviations.shape), -2.5, 2.5)
    parted = max(0.0, float(rng.normal(0.01, 0.05 * variety)))
    shifts[-1] += parted * np.asarray([0, 0.15, -0.5])
    shifts[:, 2] -= 0.06 * normal[3] * np.asarray([0, 0, 0, 0.4, 0.75, 1.1])  # long and short faces
    face = replace(
        average, vault_mm=vault, eyes_mm=float(eyes), shifts=shifts, open=parted,
        globe_mm=float(average.globe_mm * (1 + 0.04 * normal[4]) * eyes / average.eyes_mm),
        nasal_mm=float(average.nasal_mm * (1 + 0.08 * normal[5])),
        gaze=tuple((0.2 * normal[6:8]).tolist()),
        flexion=(float(0.1 + 0.2 * normal[8]), float(variety * rng.normal(0, 0.1))),
    )
    return with_landmarks(_clear_of_chest(face))


def _clear_of_chest(face: Face) -> Face:
    """The head lifted until its chin is free, or as far as it goes."""
    nod, lean = face.flexion
    clear = (CHIN_RADIUS + FILLET) * face.eyes_mm
    while nod > LIFTED and _trunk_mm(tuple(face.at(CHIN)[:, None]), face)[0] < clear:
        nod -= 0.04
        face = replace(face, flexion=(nod, lean))
    return face


def with_landmarks(face: Face) -> Face:
    """The face with its landmarks: the globes' middles, and points of the skin, found along rays outwards."""
    ways = {"mid_eyebrow": (np.asarray(BROW) + [0, 0.30, 0], FORWARDS), "nose_tip": (NOSE, FORWARDS),
            "chin": (CHIN, CHIN_TIP)}
    found = to_skin(face, np.stack([face.at(start) for start, _ in ways.values()]),
                    np.asarray([way for _, way in ways.values()]) @ face.axes)
    places = {"left_eye": face.at(EYE), "right_eye": face.at((-EYE[0], *EYE[1:]))} | dict(zip(ways, found, strict=True))
    return replace(face, points_mm=np.stack([places[name] for name in LANDMARKS]))


def to_skin(face: Face, starts: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """Where rays [N, 3] from inside the head finally leave it, within the eyes' distance; [N, 3]."""
    parts, reach = list(skin_parts(face)), face.eyes_mm
    for _ in range(4):
        steps = np.linspace(0, reach, 24)
        points = starts[:, None] + steps[:, None] * ways[:, None]
        inside = _united(parts, tuple(points.reshape(-1, 3).T), FILLET * face.eyes_mm).reshape(len(starts), -1) < 0
        last = (inside * np.arange(steps.size)).max(axis=1)
        starts, reach = starts + steps[last][:, None] * ways, steps[1]
    return starts


# --- the skin as a signed distance; its parts in order, so that painting blends them as the search for landmarks does


Part = tuple[Callable[[Points], np.ndarray], np.ndarray, float]


def skin_parts(face: Face) -> Iterator[Part]:
    """Trunk, head and face: a distance, and the middle and the radius of a ball around each."""
    yield from _trunk_parts(face)
    vault = face.vault(SCALP * face.eyes_mm)
    yield (lambda points: ellipsoid(points, *vault)), vault.middle_mm, float(max(vault.radii_mm))
    yield from (solid(face, body) for body in SKIN)


def solid(face: Face, body: Ball | Rod) -> Part:
    """A body of a table, with its mirror image where it is off the midline, as in `skin_parts`."""
    size, found = face.eyes_mm, []
    for mirror in sides(body.middle[0] if isinstance(body, Ball) else max(body.start[0], body.end[0])):
        if isinstance(body, Ball):
            middle, radii = face.at(np.asarray(body.middle) * mirror), size * np.asarray(body.radii)
            found.append(((lambda points, ends=(middle, radii): ellipsoid(points, *ends, face.axes)), middle,
                          float(max(radii))))
        else:
            found.append(rod_part(*(face.at(np.asarray(place) * mirror) for place in (body.start, body.end)),
                                  tuple(size * radius for radius in body.radii)))
    return found[0] if len(found) == 1 else _both(*found)


def rod_part(start: np.ndarray, end: np.ndarray, radii: tuple[float, float]) -> Part:
    """A rod with round ends, as in `skin_parts`."""
    reach = 0.5 * float(np.linalg.norm(end - start)) + max(radii)
    return (lambda points: capsule(points, start, end, radii)), 0.5 * (start + end), reach


def _both(first: Part, second: Part) -> Part:
    """One body of two, so that it does not matter which side is blended first."""
    apart = 0.5 * float(np.linalg.norm(first[1] - second[1]))
    return (lambda points: np.minimum(first[0](points), second[0](points)), 0.5 * (first[1] + second[1]),
            apart + max(first[2], second[2]))


def sides(aside: float) -> tuple[np.ndarray, ...]:
    """Factors of offsets: one for a body on the midline, else one each for left and right."""
    left = np.ones(3)
    return (left, np.asarray([-1.0, 1, 1])) if aside > 0 else (left,)


def _trunk_parts(face: Face) -> Iterator[Part]:
    """Neck, shoulders and chest."""
    size, chest = face.eyes_mm, face.chest()
    high, low = face.neck_mm(np.asarray([0, 1]))
    radii = (0.58 * size, 0.62 * size)
    yield rod_part(high, low, radii)
    yield (lambda points: ellipsoid(points, *chest)), chest.middle_mm, float(max(chest.radii_mm))
    places = [low + size * np.asarray((side * 0.95, 0.02, -0.30)) @ chest.axes for side in (-1, 1)]
    yield _both(*(rod_part(place, place + 1e-3 * chest.axes[2], (0.42 * size,) * 2) for place in places))


def skin_mm(points: Points, face: Face) -> np.ndarray:
    """The signed distance of points to the skin, below 0 inside; near the skin as it is painted."""
    return _united(skin_parts(face), points, FILLET * face.eyes_mm)


def _trunk_mm(points: Points, face: Face) -> np.ndarray:
    return _united(_trunk_parts(face), points, FILLET * face.eyes_mm)


def _united(parts: Iterable[Part], points: Points, fillet: float) -> np.ndarray:
    distance = None
    for body, _, _ in parts:
        found = body(points)
        distance = found if distance is None else blend(distance, found, fillet)
    return distance
