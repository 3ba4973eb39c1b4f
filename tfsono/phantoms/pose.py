"""One synthetic ultrasound volume of a whole fetus of 10 to 14 weeks, with its 16 landmarks.

It stands in for the 152 volumes of the pose paper (Sec. 3: 220x205x260 voxels of 0.5 mm on average). A fetus
(`pose_skeleton`) lies in any posture and direction, or close to that of a sagittal view, in the fluid of the womb,
with the cord, the placenta, the amnion, a yolk sac and the mother's tissue around it; the probe (`sweep`) then images
it.

Everything is drawn in millimetres from the middle of the field of view, so one seed gives one fetus at every
resolution; only the speckle differs. Landmarks are exact, also where a shadow hides them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfsono.errors import UserError
from tfsono.phantoms.canvas import Canvas, FleshLook, check_grid, check_weeks, draw_flesh_look
from tfsono.phantoms.pose_flesh import paint_fetus
from tfsono.phantoms.pose_skeleton import Build, Fetus, draw_build, draw_fetus
from tfsono.phantoms.pose_womb import draw_womb
from tfsono.phantoms.sweep import Sweep
from tfsono.phantoms.view import ANY_DIRECTION, check_turn, draw_direction, draw_sweep, middle_mm, scanned
from tfsono.phantoms.womb import Womb, WombLook, draw_womb_look, paint_womb

PAPER_SIZE, PAPER_SPACING_MM = (220, 205, 260), (0.5, 0.5, 0.5)
PAPER_WEEKS = (10.0, 14.0)
# Postures that are tried before a field of view counts as too small for the fetus, directions and positions for each.
MOST_POSTURES, DIRECTIONS, PLACES = 40, 12, 24
# How far all of the skin stays off the sides of the volume, and off the probe's face; landmarks in voxels.
OFF_SIDES_MM, OFF_PROBE_MM, INSIDE_VOXELS = 2.5, 9.0, 2.0


@dataclass(frozen=True)
class FetusReference:
    """What was drawn, the same at every resolution: the age in weeks, the crown-rump length of its stretched body."""

    weeks: float
    crown_rump_mm: float


class FetusPhantom(NamedTuple):
    """An image uint8 [X, Y, Z] (y is the depth), the landmarks [16, 3], the age and the crown-rump length.

    `points_vox` are voxel-centre indices, float64, in the order of `configs.pose.LANDMARKS`.
    """

    image: np.ndarray
    points_vox: np.ndarray
    weeks: float
    crown_rump_mm: float


class _Scene(NamedTuple):
    """The placed fetus, its surroundings, and their levels; millimetres from the middle of the view."""

    fetus: Fetus
    womb: Womb
    flesh: FleshLook
    tissue: WombLook


def fetus_phantom(
    seed: int,
    size: Sequence[int] = PAPER_SIZE,
    spacing_mm: Sequence[float] = PAPER_SPACING_MM,
    weeks: tuple[float, float] = PAPER_WEEKS,
    turn_degrees: float = ANY_DIRECTION,
    variety: float = 1.0,
) -> FetusPhantom:
    """A fetus drawn from `seed`, in a sector of `size * spacing_mm` in which all of it lies.

    Args:
        seed: determines the fetus, its posture, its surroundings and the speckle; not the resolution.
        size: voxels along x, y (the depth) and z.
        spacing_mm: the voxel's sides.
        weeks: the lowest and the highest gestational age.
        turn_degrees: largest rotation, about any axis, out of a sagittal view of a fetus on its back; with 180 all
            directions are equally likely.
        variety: of the postures; 1 is usual, 0 makes them all alike.

    Raises:
        ValueError: invalid sizes, spacings, weeks, degrees or variety.
        UserError: the field of view is too small for the fetus.
    """
    scene, sweep, textures = _draw(seed, size, spacing_mm=spacing_mm, weeks=weeks, turn_degrees=turn_degrees,
                                   variety=variety)
    size, spacing_mm = tuple(size), tuple(spacing_mm)

    def paint(canvas: Canvas) -> None:
        paint_womb(canvas, scene.womb, scene.tissue)
        paint_fetus(canvas, scene.fetus, scene.flesh)

    image = scanned(textures, sweep, size, spacing_mm, paint)
    points_vox, about = _reference(scene.fetus, size, spacing_mm)
    return FetusPhantom(image, points_vox, about.weeks, about.crown_rump_mm)


def fetus_reference(seed: int, size: Sequence[int] = PAPER_SIZE, spacing_mm: Sequence[float] = PAPER_SPACING_MM,
                weeks: tuple[float, float] = PAPER_WEEKS, turn_degrees: float = ANY_DIRECTION,
                variety: float = 1.0) -> tuple[np.ndarray, FetusReference]:
    """The landmarks, the age and the length of `fetus_phantom` with the same arguments, without painting it."""
    return _reference(_draw(seed, size, spacing_mm=spacing_mm, weeks=weeks, turn_degrees=turn_degrees,
                        variety=variety)[0].fetus, size, spacing_mm)


def _reference(fetus: Fetus, size, spacing_mm) -> tuple[np.ndarray, FetusReference]:
    points_vox = (fetus.points_mm + middle_mm(size, spacing_mm)) / np.asarray(spacing_mm)
    return points_vox, FetusReference(fetus.build.weeks, fetus.build.crown_rump_mm)


def _draw(seed: int, size, spacing_mm, weeks, turn_degrees, variety) -> tuple[_Scene, Sweep, np.random.SeedSequence]:
    check_grid(size, spacing_mm)
    check_weeks(weeks, 9, 15)
    check_turn(turn_degrees, variety)
    person, surroundings, textures = np.random.SeedSequence(seed).spawn(3)
    rng = np.random.default_rng(person)
    sweep = draw_sweep(rng, tuple(size), tuple(spacing_mm))
    fetus = _draw_placed(rng, sweep, size=np.asarray(size), spacing_mm=np.asarray(spacing_mm, np.float64),
                         build=draw_build(rng, weeks), turn_degrees=turn_degrees, variety=variety)
    rng = np.random.default_rng(surroundings)
    top_mm = -0.5 * size[1] * spacing_mm[1]
    scene = _Scene(fetus, draw_womb(rng, fetus, top_mm), _draw_flesh_look(rng), draw_womb_look(rng))
    return scene, sweep, textures


def _draw_placed(rng: np.random.Generator, sweep: Sweep, size, spacing_mm, build: Build, turn_degrees: float,
                 variety: float) -> Fetus:
    """A fetus of these sizes, all of it in the field of view; posture, direction and position are drawn.

    If a posture does not fit in any of some directions, another one is drawn: old fetuses with stretched legs are
    rarer than young ones.
    """
    middle = middle_mm(size, spacing_mm)
    for _ in range(MOST_POSTURES):
        posed = draw_fetus(rng, build, variety)
        for _ in range(DIRECTIONS):
            rotated = posed.moved(draw_direction(rng, turn_degrees), 0)
            shift = _draw_place(rng, rotated, sweep, middle, spacing_mm)
            if shift is not None:
                return rotated.moved(np.eye(3), shift)
    raise UserError(f"size and spacing_mm: the field of view must hold a fetus of {build.crown_rump_mm:.0f} mm "
                    f"crown-rump length; found {' x '.join(f'{side:.0f}' for side in size * spacing_mm)} mm, "
                    "too small for it")


def _draw_place(rng: np.random.Generator, fetus: Fetus, sweep: Sweep, middle, spacing_mm) -> np.ndarray | None:
    """A shift that puts all of the fetus into the volume and the sector; None if none was found."""
    outline, half = fetus.outline_mm(), middle + 0.5 * spacing_mm
    low, high = -half + OFF_SIDES_MM - outline.min(axis=0), half - OFF_SIDES_MM - outline.max(axis=0)
    low[1] = max(low[1], -half[1] + OFF_PROBE_MM - outline[:, 1].min())
    if (low > high).any():
        return None
    shifts = rng.uniform(low, high, (PLACES, 3))
    inside = sweep.holds(outline + shifts[:, None] + middle).all(axis=1)
    points = np.abs(fetus.points_mm + shifts[:, None])
    inside &= (points <= middle - INSIDE_VOXELS * spacing_mm).all(axis=(1, 2))
    return shifts[np.argmax(inside)] if inside.any() else None


def _draw_flesh_look(rng: np.random.Generator) -> FleshLook:
    return draw_flesh_look(rng, flesh_db=(-38, -30), skin_db=(3, 8), brain_db=(-62, -52), bone_loss=(4.0, 8.0),
                           skull_loss=(1.5, 3.2), skin_echo=(0.12, 0.3))
