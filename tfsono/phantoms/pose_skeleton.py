"""One fetus of 10 to 14 weeks as an articulated skeleton: sizes by age, joint angles within limits, 16 points.

The fetus's own frame is in millimetres with its origin at the neck, and as a patient's: x to the left, y to the back,
z to the head (right-handed). Lengths are parts of the crown-rump length. Both sides are mirror images of one another,
and side A is the fetus's left: only handedness (belly, face, direction of the knees) tells it from B.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from tfsono.configs.pose import LANDMARKS
from tfsono.phantoms.distance import Body, ellipsoid

# Robinson and Fleming, A critical evaluation of sonar "crown-rump length" measurements, British Journal of Obstetrics
# and Gynaecology 82 (1975) 702-710: days of gestation = 8.052 sqrt(1.037 millimetres) + 23.73.
ROBINSON = (8.052, 1.037, 23.73)
# How far crown-rump lengths of one age differ: 4.7 days are two standard deviations of the age, some 4 % of the length.
LENGTH_SPREAD = 0.04
# The thigh from joint to joint at 10 weeks and what it gains a week, as parts of the crown-rump length: its bone, four
# fifths of it, is then 7.7 mm at 12 weeks and 14 mm at 14 (Hadlock 1984, extrapolated: 7.2 and 14.0 mm).
THIGH, THIGH_A_WEEK = 0.150, 0.0165
# Other segments, as parts of the thigh.
SHIN, UPPER_ARM, FOREARM, HAND, FOOT = 0.90, 0.98, 0.86, 0.36, 0.52
# Half widths of the head (biparietal and fronto-occipital diameters are 0.35 and 0.43 of the crown-rump length at 11 to
# 14 weeks), chest and belly: left, back, up.
HEAD_RADII = (0.175, 0.215, 0.19)
CHEST_RADII, BELLY_RADII = (0.135, 0.122, 0.185), (0.148, 0.132, 0.180)
# Positions: the head from the neck, in the head's frame; shoulder (of the left side) and chest from the neck, in the
# chest's frame; hip and belly from the sacrum, in the pelvis's frame.
HEAD, SHOULDER, CHEST = (0.0, -0.045, 0.205), (0.128, -0.03, -0.062), (0.0, -0.083, -0.155)
HIP, BELLY = (0.075, -0.05, -0.05), (0.0, -0.098, 0.125)
BUTTOCK = 0.085
# Half the way from the neck to the sacrum along a straight back.
BACK = 0.235
# Radii of the flesh where a segment begins and where it ends.
LIMB_RADII = {"thigh": (0.054, 0.040), "shin": (0.037, 0.025), "upper_arm": (0.040, 0.031), "forearm": (0.030, 0.022),
              "hand": (0.023, 0.018), "foot": (0.026, 0.018)}

UPWARDS = np.eye(3)[2]
MOST_DRAWS = 400
SIDES = {"a": 1, "b": -1}


class Bend(NamedTuple):
    """The position of a limb, radians: `lift` from hanging down, in a plane rotated by `aside` from forwards to
    outwards; `inwards` is the rotation about its upper part that brings the lower part to the middle; `flexion` of
    elbow or knee."""

    lift: float
    aside: float
    inwards: float
    flexion: float


class Posture(NamedTuple):
    """All joint angles in radians: the head's nod, turn and tilt; the back's curl, lean and twist; limbs A and B."""

    head: tuple[float, float, float]
    back: tuple[float, float, float]
    arms: tuple[Bend, Bend]
    legs: tuple[Bend, Bend]


# Limits of the joints, degrees.
HEAD_LIMITS = ((-18, 22), (-45, 45), (-16, 16))
BACK_LIMITS = ((0, 60), (-15, 15), (-15, 15))
ARM_LIMITS = Bend((0, 165), (-25, 110), (-75, 80), (8, 142))
LEG_LIMITS = Bend((5, 125), (-12, 70), (-45, 50), (6, 138))
# Usual positions of limbs, degrees, and their frequency: hand in front of the face, on the chest, at the side,
# above the head; legs drawn up, feet crossed, knees half bent, stretched.
ARM_HABITS = ((0.42, Bend(65, 41, 20, 108)), (0.24, Bend(50, 53, 40, 88)), (0.20, Bend(38, 70, 6, 32)),
              (0.14, Bend(122, 62, 4, 62)))
LEG_HABITS = ((0.42, Bend(97, 45, 2, 108)), (0.26, Bend(82, 42, 28, 82)), (0.18, Bend(66, 20, 4, 44)),
              (0.14, Bend(26, 18, 0, 22)))
# Deviation from these, degrees, and how often both sides have the same.
ARM_SPREAD, LEG_SPREAD = Bend(9, 9, 9, 11), Bend(9, 8, 8, 11)
SAME_HABIT = 0.72


@dataclass(frozen=True)
class Build:
    """Sizes: age, crown-rump length, and how one differs from the average (1) in limbs, girth and head."""

    weeks: float
    crown_rump_mm: float
    limbs: float = 1.0
    girth: float = 1.0
    head: float = 1.0

    @property
    def thigh_mm(self) -> float:
        """The thigh from hip to knee."""
        return self.crown_rump_mm * self.limbs * (THIGH + THIGH_A_WEEK * (self.weeks - 10))

    def segment_mm(self, part: float) -> float:
        """A segment that is `part` of the thigh."""
        return part * self.thigh_mm

    def radii_mm(self, segment: str) -> tuple[float, float]:
        """The flesh's radii at both ends of a segment of `LIMB_RADII`."""
        return tuple(self.crown_rump_mm * self.girth * part for part in LIMB_RADII[segment])


class Segment(NamedTuple):
    """A tapered rod of flesh of limb `limb` (arm_a, ...): its name in `LIMB_RADII`, its ends and radii; mm."""

    limb: str
    name: str
    start_mm: np.ndarray
    end_mm: np.ndarray
    radii_mm: tuple[float, float]


@dataclass(frozen=True)
class Fetus:
    """A posed fetus, in its own frame or (`moved`) in the volume's.

    Attributes:
        build: its sizes.
        points_mm: the landmarks [16, 3], in the order of `LANDMARKS`.
        tips_mm: ends of hands A and B and feet A and B, [4, 3].
        head, chest, pelvis: frames [3, 3], rows left, back, up.
    """

    build: Build
    points_mm: np.ndarray
    tips_mm: np.ndarray
    head: np.ndarray
    chest: np.ndarray
    pelvis: np.ndarray

    def at(self, name: str) -> np.ndarray:
        """A landmark's position [3], millimetres."""
        return self.points_mm[LANDMARKS.index(name)]

    def next_to(self, name: str, axes: np.ndarray, offset) -> np.ndarray:
        """The position [3] at `offset` from a landmark, in parts of the crown-rump length along `axes`."""
        return self.at(name) + self.build.crown_rump_mm * np.asarray(offset) @ axes

    def moved(self, rotation: np.ndarray, shift_mm) -> Fetus:
        """Rotated and shifted: a point p goes to p @ rotation + shift_mm."""
        return replace(self, points_mm=self.points_mm @ rotation + shift_mm, tips_mm=self.tips_mm @ rotation + shift_mm,
                       head=self.head @ rotation, chest=self.chest @ rotation, pelvis=self.pelvis @ rotation)

    def bodies(self) -> dict[str, Body]:
        """Skull with its skin, chest and belly."""
        size, girth = self.build.crown_rump_mm, self.build.girth
        return {
            "head": Body(self.at("head"), size * self.build.head * np.asarray(HEAD_RADII), self.head),
            "chest": Body(self.next_to("neck", self.chest, CHEST), size * girth * np.asarray(CHEST_RADII), self.chest),
            "belly": Body(self.next_to("sacrum", self.pelvis, BELLY), size * girth * np.asarray(BELLY_RADII),
                          self.pelvis),
        }

    def segments(self) -> Iterator[Segment]:
        """The limbs from the trunk outwards."""
        for number, side in enumerate(SIDES):
            chains = (("arm", ("shoulder", "elbow", "wrist"), ("upper_arm", "forearm", "hand"), self.tips_mm[number]),
                      ("leg", ("hip", "knee", "ankle"), ("thigh", "shin", "foot"), self.tips_mm[2 + number]))
            for limb, joints, names, tip in chains:
                places = [*(self.at(f"{joint}_{side}") for joint in joints), tip]
                for name, start, end in zip(names, places[:-1], places[1:], strict=True):
                    yield Segment(f"{limb}_{side}", name, start, end, self.build.radii_mm(name))

    def spine_mm(self, parts: np.ndarray) -> np.ndarray:
        """Positions [N, 3] along the curve of the back: part 0 is the neck, 0.5 the spine's landmark, 1 the sacrum."""
        neck, middle, sacrum = (self.at(name) for name in ("neck", "spine", "sacrum"))
        bent = 2 * middle - 0.5 * (neck + sacrum)  # the Bezier curve's middle control point
        t = np.asarray(parts, np.float64)[:, None]
        return (1 - t) ** 2 * neck + 2 * t * (1 - t) * bent + t**2 * sacrum

    def outline_mm(self) -> np.ndarray:
        """Points [N, 3] on the skin, those that reach farthest among them."""
        around = np.concatenate([np.eye(3), -np.eye(3)])
        corners = np.asarray([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / np.sqrt(3)
        found = [body.middle_mm + np.concatenate([around, corners]) * body.radii_mm @ body.axes
                 for body in self.bodies().values()]
        for segment in self.segments():
            found += [end + radius * around for end, radius in
                      zip((segment.start_mm, segment.end_mm), segment.radii_mm, strict=True)]
        return np.concatenate(found)


def crown_rump_mm(weeks: float) -> float:
    """The crown-rump length of an average fetus at a gestational age, by Robinson's and Fleming's curve (1975)."""
    slope, scale, start = ROBINSON
    return ((7 * weeks - start) / slope) ** 2 / scale


def draw_build(rng: np.random.Generator, weeks: tuple[float, float]) -> Build:
    """The sizes of a fetus of an age within `weeks`."""
    age = rng.uniform(*weeks)
    spread = 1 + np.asarray([LENGTH_SPREAD, 0.04, 0.05, 0.03]) * np.clip(rng.normal(size=4), -2, 2)
    return Build(float(age), float(crown_rump_mm(age) * spread[0]), *spread[1:].tolist())


def draw_fetus(rng: np.random.Generator, build: Build, variety: float = 1.0) -> Fetus:
    """A fetus in a usual posture, whose limbs intersect neither one another nor trunk and head."""
    for _ in range(MOST_DRAWS):
        fetus = pose(build, draw_posture(rng, variety))
        if clearance_mm(fetus) >= 0:
            return fetus
    raise RuntimeError(f"no posture without self-contact in {MOST_DRAWS} draws")


def draw_posture(rng: np.random.Generator, variety: float = 1.0) -> Posture:
    """Joint angles about usual habits, within the limits; limbs may still touch.

    `variety` scales the deviation from the usual positions; with less of it, rare positions are rarer.
    """
    curl = 0.5 + variety * (rng.beta(2, 2) - 0.5)
    head = _within(rng.normal([4, 0, 0], variety * np.array([9, 16, 6])), HEAD_LIMITS)
    back = _within([60 * curl + rng.normal(0, 4 * variety), *rng.normal(0, 5 * variety, 2)], BACK_LIMITS)
    arms = _draw_limbs(rng, ARM_HABITS, variety * np.array(ARM_SPREAD), ARM_LIMITS, variety)
    return Posture(tuple(head), tuple(back), arms,
                   _draw_limbs(rng, LEG_HABITS, variety * np.array(LEG_SPREAD), LEG_LIMITS, variety))


def _draw_limbs(rng: np.random.Generator, habits, spread, limits: Bend, variety: float) -> tuple[Bend, Bend]:
    odds = np.array([odd for odd, _ in habits]) ** (1 / variety)
    odds /= odds.sum()
    first, other = rng.choice(len(habits), 2, p=odds)
    chosen = (first, first if rng.random() < SAME_HABIT else other)
    both = rng.normal(size=4)  # shared by both sides
    bends = []
    for habit in chosen if rng.random() < 0.5 else chosen[::-1]:
        apart = 0.75 * both + 0.66 * rng.normal(size=4)
        bends.append(Bend(*_within(np.asarray(habits[habit][1]) + apart * spread, limits)))
    return tuple(bends)


def _within(degrees, limits) -> list[float]:
    """Angles cut off at their limits, in radians."""
    return np.deg2rad(np.clip(degrees, *np.asarray(limits, float).T)).tolist()


def pose(build: Build, posture: Posture) -> Fetus:
    """The fetus with these sizes and joint angles, in its own frame."""
    size, chest = build.crown_rump_mm, np.eye(3)
    nod, turn, tilt = posture.head
    curl, lean, twist = posture.back
    head = _turned(chest, turn, tilt, nod)
    pelvis = _turned(chest, twist, lean, -curl)
    bent = -BACK * size * UPWARDS
    places = {"neck": np.zeros(3), "head": size * np.asarray(HEAD) @ head}
    places["sacrum"] = bent - BACK * size * pelvis[2]
    places["spine"] = 0.5 * bent + 0.25 * places["sacrum"]
    tips = {}
    for number, (side, sign) in enumerate(SIDES.items()):
        mirror = np.asarray([sign, 1, 1])
        shoulder = size * np.asarray(SHOULDER) * mirror @ chest
        lengths = [build.segment_mm(part) for part in (UPPER_ARM, FOREARM, HAND)]
        arm = _limb(shoulder, chest, bend=posture.arms[number], sign=sign, lengths=lengths, joint=(-1, 0.12))
        hip = places["sacrum"] + size * np.asarray(HIP) * mirror @ pelvis
        lengths = [build.segment_mm(part) for part in (1, SHIN, FOOT)]
        leg = _limb(hip, pelvis, bend=posture.legs[number], sign=sign, lengths=lengths, joint=(1, -1.4))
        for joints, found in ((("shoulder", "elbow", "wrist"), arm), (("hip", "knee", "ankle"), leg)):
            places |= {f"{joint}_{side}": place for joint, place in zip(joints, found, strict=False)}
        tips[number], tips[2 + number] = arm[3], leg[3]
    points = np.stack([places[name] for name in LANDMARKS])
    return Fetus(build=build, points_mm=points, tips_mm=np.stack([tips[number] for number in range(4)]), head=head,
                 chest=chest, pelvis=pelvis)


def _turned(axes: np.ndarray, about_up: float, about_back: float, about_left: float) -> np.ndarray:
    """A frame rotated about its own axes: rows left, back, up of the new one."""
    turn = Rotation.from_euler("ZYX", [about_up, about_back, about_left])
    return turn.as_matrix().T @ axes


def _limb(root: np.ndarray, axes: np.ndarray, bend: Bend, sign: int, lengths, joint) -> list[np.ndarray]:
    """Four points of a limb: root, joint, end, tip.

    Args:
        axes: of the trunk at the root.
        sign: 1 for the left side, -1 for the right.
        joint: to which side the lower part bends, -1 forwards (elbow) or 1 backwards (knee), and how far the tip turns
            the same way, as the tangent of the angle.
    """
    way, tip = joint
    outwards = sign * axes[0]
    plane = -np.cos(bend.aside) * axes[1] + np.sin(bend.aside) * outwards
    lift = Rotation.from_rotvec(bend.lift * np.cross(-axes[2], plane))
    upper = lift.apply(-axes[2])
    towards = Rotation.from_rotvec(-way * sign * bend.inwards * upper).apply(lift.apply(way * axes[1]))
    lower = np.cos(bend.flexion) * upper + np.sin(bend.flexion) * towards
    across = np.cos(bend.flexion) * towards - np.sin(bend.flexion) * upper
    end = lower + tip * across
    steps = (upper, lower, end / np.linalg.norm(end))
    places = [root]
    for step, length in zip(steps, lengths, strict=True):
        places.append(places[-1] + length * step)
    return places


def clearance_mm(fetus: Fetus) -> float:
    """The smallest gap between a limb and another, the trunk or the head; below 0 where they intersect.

    Touching skin yields a little: radii are scaled by 0.85. The half of a limb's upper part next to the trunk is not
    checked, nor a limb against itself: the limits of elbow and knee prevent that.
    """
    limbs: dict[str, list[np.ndarray]] = {}
    for segment in fetus.segments():
        part = np.linspace(0.55 if segment.name in ("upper_arm", "thigh") else 0.0, 1, 6)[:, None]
        places = (1 - part) * segment.start_mm + part * segment.end_mm
        radii = segment.radii_mm[0] + part * (segment.radii_mm[1] - segment.radii_mm[0])
        limbs.setdefault(segment.limb, []).append(np.hstack([places, 0.85 * radii]))
    spheres = {limb: np.concatenate(parts) for limb, parts in limbs.items()}
    every = np.concatenate(list(spheres.values()))
    gaps = [np.min(ellipsoid(tuple(every[:, :3].T), *body) - every[:, 3]) for body in fetus.bodies().values()]
    names = list(spheres)
    for number, name in enumerate(names):
        for other in names[number + 1:]:
            first, second = spheres[name][:, None], spheres[other][None]
            apart = np.linalg.norm(first[..., :3] - second[..., :3], axis=-1)
            gaps.append(np.min(apart - first[..., 3] - second[..., 3]))
    return float(min(gaps))
