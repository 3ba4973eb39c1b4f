"""One fetal head in an axial plane: its skull and its content, in millimetres of the head's own frame.

u runs along the long axis (OFD), v along the short one (BPD), the middle is 0. Echo levels are in dB
relative to white.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfsono.geometry.ellipse import Ellipse

# Head circumference in millimetres and share: about 10 to 14 weeks, around the examination at 20 weeks, later.
GROUPS = ((0.30, (45.0, 120.0)), (0.60, (150.0, 195.0)), (0.10, (195.0, 330.0)))
EARLY_MM = 120.0


@dataclass(frozen=True)
class Part:
    """An ellipse (`radii_mm` and the direction of the first) with an echo level."""

    center_mm: tuple[float, float]
    radii_mm: tuple[float, float]
    angle: float
    level_db: float


@dataclass(frozen=True)
class Line:
    """A thin surface seen edge on, of a width and an echo level."""

    start_mm: tuple[float, float]
    end_mm: tuple[float, float]
    width_mm: float
    level_db: float


@dataclass(frozen=True)
class Head:
    """What was drawn of one head.

    Attributes:
        semi_axes_mm: of the skull's outer edge, the long one first.
        wall_mm: the bone's thickness.
        skull_db: its echo where the sound meets it at right angles.
        grazing_db: how much weaker it is where the sound grazes.
        loss_db_mm: loss of an echo per millimetre of bone, both ways.
        ripple: (order, phase, part of the short axis) of waves in the skull's ellipse.
        gaps: (angle, half width, dB) of arcs where it echoes less: sutures, fontanelles, shadows from outside.
        brain_db: the echo of the inside of the skull.
        haze_db: how much brighter the part under the near wall is, by reverberation.
        parts: bodies in the skull, later over earlier.
        lines: falx, cavum, ventricle walls, sulci, over the bodies.
    """

    semi_axes_mm: tuple[float, float]
    wall_mm: float
    skull_db: float
    grazing_db: float
    loss_db_mm: float
    ripple: tuple[tuple[int, float, float], ...]
    gaps: tuple[tuple[float, float, float], ...]
    brain_db: float
    haze_db: float
    parts: tuple[Part, ...]
    lines: tuple[Line, ...]

    @property
    def circumference_mm(self) -> float:
        """Of the outer edge."""
        return Ellipse((0, 0), *self.semi_axes_mm, 0).circumference_px()

    @property
    def early(self) -> bool:
        """Whether the choroid plexuses still fill most of the skull."""
        return self.circumference_mm < EARLY_MM


def draw_head(rng: np.random.Generator) -> Head:
    """A head of random age; the cephalic index is 0.80 on average."""
    group = GROUPS[rng.choice(len(GROUPS), p=[share for share, _ in GROUPS])][1]
    target_mm = rng.triangular(group[0], 0.6 * group[0] + 0.4 * group[1], group[1])
    index = float(np.clip(rng.normal(0.80, 0.045), 0.68, 0.93))
    long_mm = float(target_mm / Ellipse((0, 0), 1, index, 0).circumference_px())
    axes_mm = (long_mm, index * long_mm)
    early = target_mm < EARLY_MM
    mirror = rng.choice([-1.0, 1.0])
    draw = _draw_early if early else _draw_late
    parts, lines = draw(rng, np.asarray([mirror * long_mm, index * long_mm]))
    return Head(
        semi_axes_mm=axes_mm,
        wall_mm=rng.uniform(0.6, 1.2) if early else rng.uniform(1.5, 2.6),
        skull_db=rng.uniform(-19, -8) if early else rng.uniform(-13, -3),
        grazing_db=rng.uniform(-20, -9) if early else rng.uniform(-34, -16),
        loss_db_mm=rng.uniform(0.1, 0.5) if early else rng.uniform(0.3, 1.1),
        ripple=tuple((order, rng.uniform(0, 6.3), rng.normal(0, 0.016 / order)) for order in (3, 4, 5, 6)),
        gaps=_draw_gaps(rng),
        brain_db=rng.uniform(-57, -49) if early else rng.uniform(-58, -47),
        haze_db=rng.uniform(0, 5) if early else rng.uniform(1, 10),
        parts=parts,
        lines=lines,
    )


def _draw_gaps(rng: np.random.Generator) -> tuple[tuple[float, float, float], ...]:
    """Narrow sutures, and in a third of the heads one wide arc that is hardly visible."""
    gaps = [(rng.uniform(-np.pi, np.pi), rng.uniform(0.02, 0.09), rng.uniform(-24, -8)) for _ in range(rng.integers(5))]
    if rng.random() < 0.35:
        gaps.append((rng.uniform(-np.pi, np.pi), rng.uniform(0.15, 0.5), rng.uniform(-26, -10)))
    return tuple(gaps)


def _draw_late(rng: np.random.Generator, axes: np.ndarray) -> tuple[tuple[Part, ...], tuple[Line, ...]]:
    """The transthalamic or transventricular plane: thalami, cavum, far ventricle with its choroid plexus."""
    size = float(np.abs(axes).min())

    def part(center, radii, angle, level_db):
        center = np.asarray(center) + rng.normal(0, 0.02, 2)
        radii = np.asarray(radii) * rng.uniform(0.85, 1.2, 2) * np.abs(axes)
        return Part(tuple(center * axes), tuple(radii), angle * np.sign(axes[0]), level_db + rng.normal(0, 2.5))

    middle = rng.uniform(-50, -41)
    far = rng.uniform(0.30, 0.42)
    parts = [
        part((0.0, 0.0), (0.52, 0.42), 0, middle),
        part((-0.05, 0.16), (0.2, 0.13), 0.1, middle - rng.uniform(0, 8)),
        part((-0.05, -0.16), (0.2, 0.13), -0.1, middle - rng.uniform(0, 8)),
        part((-0.38, far), (0.34, 0.12), -0.15, -58),
        part((0.38, 0.0), (0.12, 0.07), 0, -58),
        part((-0.42, far + 0.01), (0.16, 0.12), rng.normal(-0.25, 0.15), rng.uniform(-36, -26)),
    ]
    if rng.random() < 0.4:
        parts.append(part((-0.42, -far), (0.15, 0.1), 0.25, rng.uniform(-44, -36)))
    return tuple(parts), (*_midline(rng, axes, size), *_walls(rng, axes, size, far), *_sulci(rng, axes, size))


def _midline(rng: np.random.Generator, axes: np.ndarray, size: float) -> tuple[Line, ...]:
    """The falx in pieces, and the two walls of the cavum septi pellucidi."""
    level, width, wall = rng.uniform(-38, -24), 0.009 * size, rng.uniform(0.05, 0.09)
    front, back = rng.uniform(0.8, 0.96), rng.uniform(-0.95, -0.75)
    rows = [
        ((back, 0.0), (rng.uniform(-0.65, -0.4), 0.0), level - rng.uniform(0, 8)),
        ((0.55, 0.0), (front, 0.0), level - rng.uniform(0, 5)),
        ((0.27, wall), (0.48, wall), level + 2),
        ((0.27, -wall), (0.48, -wall), level + 2),
        ((-0.36, 0.04), (-0.2, 0.16), level - 4),
        ((-0.36, -0.04), (-0.2, -0.16), level - 4),
    ]
    for start in rng.uniform(-0.4, 0.15, rng.integers(1, 4)):
        rows.append(((start, 0.0), (start + rng.uniform(0.03, 0.15), 0.0), level - rng.uniform(0, 8)))
    return tuple(_line(rng, axes, start=start, end=end, width_mm=width * rng.uniform(0.7, 1.8),
                       level_db=db) for start, end, db in rows)


def _walls(rng: np.random.Generator, axes: np.ndarray, size: float, far: float) -> tuple[Line, ...]:
    """The far lateral ventricle's two walls and the insula."""
    level, width = rng.uniform(-37, -26), 0.01 * size
    rows = (
        ((-0.66, far - 0.06), (0.12, far - 0.13), level),
        ((-0.66, far + 0.16), (-0.1, far + 0.11), level - 3),
        ((-0.05, 0.62), (0.28, 0.6), level - 2),
        ((-0.05, -0.62), (0.25, -0.6), level - 9),
    )
    return tuple(_line(rng, axes, start=row[0], end=row[1], width_mm=width * rng.uniform(0.7, 1.8),
                       level_db=row[2]) for row in rows)


def _sulci(rng: np.random.Generator, axes: np.ndarray, size: float) -> tuple[Line, ...]:
    """Short echoes here and there."""
    lines = []
    for _ in range(rng.integers(4, 16)):
        start = np.asarray([rng.uniform(-0.75, 0.75), rng.uniform(-0.6, 0.6)])
        end = start + rng.normal(0, [0.09, 0.03])
        lines.append(_line(rng, axes, start=start, end=end, width_mm=rng.uniform(0.008, 0.02) * size,
                           level_db=rng.uniform(-44, -30)))
    return tuple(lines)


def _draw_early(rng: np.random.Generator, axes: np.ndarray) -> tuple[tuple[Part, ...], tuple[Line, ...]]:
    """Two large choroid plexuses next to the falx in dark fluid, and coarse echoes at the base."""
    size = float(np.abs(axes).min())
    parts, level = [], rng.uniform(-44, -33)
    for side in (-1, 1):
        center = np.asarray([rng.normal(-0.2, 0.07), side * rng.normal(0.4, 0.03)]) * axes
        radii = np.asarray([rng.uniform(0.3, 0.48), rng.uniform(0.2, 0.29)]) * np.abs(axes)
        parts.append(Part(tuple(center), tuple(radii), rng.normal(0, 0.15), level + rng.normal(0, 2)))
    for _ in range(rng.integers(6, 24)):
        place = rng.uniform(-0.75, 0.75, 2) * np.asarray([1.0, 0.8]) * axes
        radii = rng.uniform(0.05, 0.17, 2) * np.abs(axes)
        parts.append(Part(tuple(place), tuple(radii), rng.uniform(-1.5, 1.5), rng.choice([-58, -44, -38, -33])))
    level = rng.uniform(-46, -32)
    pieces = ((-0.9, rng.uniform(-0.5, 0.1)), (rng.uniform(0.0, 0.5), 0.9))
    falx = (_line(rng, axes, start=(start, 0.0), end=(end, 0.0), width_mm=0.018 * size,
                  level_db=level) for start, end in pieces)
    return tuple(parts), tuple(falx)


def _line(rng: np.random.Generator, axes: np.ndarray, start, end, width_mm: float, level_db: float) -> Line:
    """Ends given in parts of the semi-axes, each off by a little."""
    ends = [tuple((np.asarray(end) + rng.normal(0, 0.012, 2)) * axes) for end in (start, end)]
    return Line(ends[0], ends[1], float(width_mm), float(level_db))
