"""One synthetic ultrasound volume of a fetal face of 16 to 36 weeks, with its five landmarks.

It stands in for the 152 volumes of the face paper (Sec. 3: voxels of 1.3 mm; their size and the ages are not stated). A
head (`face_anatomy`, `face_flesh`) lies in any direction, or close to that of a sagittal view of a face that looks at
the probe, in the fluid of the womb, with hands and the cord in front of it and the placenta and the mother's tissue
around (`face_surroundings`); the probe (`sweep`) then images it.

Everything is drawn in millimetres from the middle of the field of view, so one seed gives one face at every resolution;
only the speckle differs. Landmarks are exact, also where a shadow hides them: the middles of the globes, and
on the skin the middle between the eyebrows (glabella), the nose's most forward point, and the chin's most forward and
lowest one (gnathion). Left is the fetus's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from tfsono.configs.face import LANDMARKS
from tfsono.errors import UserError
from tfsono.phantoms.canvas import Canvas, FleshLook, check_grid, check_weeks
from tfsono.phantoms.face_anatomy import OLDEST, YOUNGEST, Face, draw_face
from tfsono.phantoms.face_flesh import draw_face_look, paint_face
from tfsono.phantoms.face_surroundings import Surroundings, draw_surroundings, paint_cords, paint_hands
from tfsono.phantoms.womb import WombLook, draw_womb_look, paint_womb
from tfsono.phantoms.sweep import Sweep
from tfsono.phantoms.view import ANY_DIRECTION, check_turn, draw_direction, draw_sweep, middle_mm, scanned

PAPER_SIZE, PAPER_SPACING_MM = (128, 128, 128), (1.3, 1.3, 1.3)
WEEKS = (20.0, 30.0)
# Directions that are tried before a field of view counts as too small for a face, and positions for each.
DIRECTIONS, PLACES = 60, 64
# How far landmarks stay off the sides of the volume: half the side of the paper's larger boxes, 12 voxels of 1.3 mm.
# They are as far within the sector as the smaller boxes' half. The skin of the head stays off the probe's face.
OFF_SIDES_MM, OFF_BEAMS_MM, OFF_PROBE_MM = 15.6, 9.1, 9.0
# How much of the head's outline is in the volume, if there is room for it.
SHOWN = 0.8
# Larger voxels are painted in parts, with fewer beams, and averaged, so that as in a scanner the brightness of thin
# bright walls and a dark eye is averaged, not their amplitudes.
COARSEST_MM, FEWER_BEAMS = 1.7, 0.6


@dataclass(frozen=True)
class FaceReference:
    """What was drawn, the same at every resolution.

    Attributes:
        weeks: the gestational age.
        biparietal_mm, occipitofrontal_mm: the skull's diameters.
        distances_mm: between each two landmarks, by their names in the order of `LANDMARKS`.
        axes: where the face's left, back and upwards point in the volume, three rows.
        hands, cords: number of hands and loops of the cord in front of the face.
    """

    weeks: float
    biparietal_mm: float
    occipitofrontal_mm: float
    distances_mm: dict[tuple[str, str], float]
    axes: tuple[tuple[float, float, float], ...]
    hands: int
    cords: int


class FacePhantom(NamedTuple):
    """An image uint8 [X, Y, Z] (y is the depth), the landmarks [5, 3], and what was drawn.

    `points_vox` are voxel-centre indices, float64, in the order of `configs.face.LANDMARKS`.
    """

    image: np.ndarray
    points_vox: np.ndarray
    about: FaceReference


class _Scene(NamedTuple):
    """The placed head, its surroundings, and their levels; millimetres from the middle of the view."""

    face: Face
    around: Surroundings
    look: FleshLook
    tissue: WombLook


def face_phantom(
    seed: int,
    size: Sequence[int] = PAPER_SIZE,
    spacing_mm: Sequence[float] = PAPER_SPACING_MM,
    weeks: tuple[float, float] = WEEKS,
    variety: float = 1.0,
    turn_degrees: float = ANY_DIRECTION,
) -> FacePhantom:
    """A face drawn from `seed`, in a sector of `size * spacing_mm` in which all its landmarks lie.

    Args:
        seed: determines the face, its direction, its surroundings and the speckle; not the resolution.
        size: voxels along x, y (the depth) and z.
        spacing_mm: the voxel's sides.
        weeks: the lowest and the highest gestational age.
        variety: of faces and of what is in front of them; 1 is usual, 0 makes them all alike.
        turn_degrees: largest rotation, about any axis, out of a sagittal view of a face that looks at the probe;
            with 180 all directions are equally likely.

    Raises:
        ValueError: invalid sizes, spacings, weeks, degrees or variety.
        UserError: the field of view is too small for the face.
    """
    scene, sweep, textures = _draw(seed, size, spacing_mm=spacing_mm, weeks=weeks, variety=variety,
                                   turn_degrees=turn_degrees)
    parts, fine_size, fine_mm = _finer(size, spacing_mm)

    def paint(canvas: Canvas) -> None:
        paint_womb(canvas, scene.around.womb, scene.tissue)
        paint_cords(canvas, scene.around.cords)
        paint_face(canvas, scene.face, scene.look)
        paint_hands(canvas, scene.around.hands, scene.face, scene.look)

    image = scanned(textures, sweep, fine_size, fine_mm, paint)
    return FacePhantom(_averaged(image, parts), *_reference(scene, size, spacing_mm))


def face_reference(seed: int, size: Sequence[int] = PAPER_SIZE, spacing_mm: Sequence[float] = PAPER_SPACING_MM,
               weeks: tuple[float, float] = WEEKS, variety: float = 1.0,
               turn_degrees: float = ANY_DIRECTION) -> tuple[np.ndarray, FaceReference]:
    """The landmarks and description of `face_phantom` with the same arguments, without painting it."""
    return _reference(_draw(seed, size, spacing_mm=spacing_mm, weeks=weeks, variety=variety,
                        turn_degrees=turn_degrees)[0], size, spacing_mm)


def _reference(scene: _Scene, size, spacing_mm) -> tuple[np.ndarray, FaceReference]:
    face = scene.face
    points_vox = (face.points_mm + middle_mm(size, spacing_mm)) / np.asarray(spacing_mm)
    distances = {(first, second): float(np.linalg.norm(face.landmark(first) - face.landmark(second)))
                 for first, second in combinations(LANDMARKS, 2)}
    width, length, _ = (2 * face.vault_mm).tolist()
    axes = tuple(tuple(row) for row in face.axes.tolist())
    return points_vox, FaceReference(weeks=face.weeks, biparietal_mm=width, occipitofrontal_mm=length,
                                 distances_mm=distances, axes=axes, hands=len(scene.around.hands),
                                 cords=len(scene.around.cords))


def _draw(seed: int, size, spacing_mm, weeks, variety, turn_degrees) -> tuple[_Scene, Sweep, np.random.SeedSequence]:
    check_grid(size, spacing_mm)
    check_weeks(weeks, YOUNGEST, OLDEST)
    check_turn(turn_degrees, variety)
    person, surroundings, textures = np.random.SeedSequence(seed).spawn(3)
    rng = np.random.default_rng(person)
    parts, fine_size, fine_mm = _finer(size, spacing_mm)
    sweep = draw_sweep(rng, fine_size, fine_mm)
    face = _draw_placed(rng, sweep, size=np.asarray(fine_size), spacing_mm=np.asarray(fine_mm),
                        face=draw_face(rng, weeks, variety), turn_degrees=turn_degrees)
    if max(parts) > 1:
        beams = {name: round(FEWER_BEAMS * getattr(sweep, name)) for name in ("samples", "lines", "frames")}
        sweep = replace(sweep, **beams)
    rng = np.random.default_rng(surroundings)
    look, tissue = draw_face_look(rng), draw_womb_look(rng)
    around = draw_surroundings(rng, face, -0.5 * size[1] * spacing_mm[1], variety)
    return _Scene(face, around, look, tissue), sweep, textures


def _finer(size, spacing_mm) -> tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]:
    """The parts of a voxel along each axis, and the grid to paint on: sides and spacings."""
    parts = tuple(int(np.ceil(step / COARSEST_MM)) for step in spacing_mm)
    fine_size = tuple(int(side) * part for side, part in zip(size, parts, strict=True))
    return parts, fine_size, tuple(float(step) / part for step, part in zip(spacing_mm, parts, strict=True))


def _averaged(image: np.ndarray, parts: tuple[int, ...]) -> np.ndarray:
    """The mean grey value of blocks of `parts` voxels."""
    if max(parts) == 1:
        return image
    x, y, z = (side // part for side, part in zip(image.shape, parts, strict=True))
    blocks = image.reshape((x, parts[0], y, parts[1], z, parts[2]))
    return np.rint(blocks.mean(axis=(1, 3, 5), dtype=np.float32)).astype(np.uint8)


def _draw_placed(rng: np.random.Generator, sweep: Sweep, size, spacing_mm, face: Face, turn_degrees: float) -> Face:
    """The face, rotated and placed so that its landmarks are well within the field of view."""
    middle = middle_mm(size, spacing_mm)
    for _ in range(DIRECTIONS):
        rotated = face.moved(draw_direction(rng, turn_degrees), 0)
        shift = _draw_place(rng, rotated, sweep, middle, spacing_mm)
        if shift is not None:
            return rotated.moved(np.eye(3), shift)
    reach = np.linalg.norm(face.landmark("mid_eyebrow") - face.landmark("chin")) + 2 * OFF_SIDES_MM
    raise UserError(f"size and spacing_mm: the field of view must hold a face of {reach:.0f} mm with its boxes; found "
                    f"{' x '.join(f'{side:.0f}' for side in size * spacing_mm)} mm, too small for it")


def _draw_place(rng: np.random.Generator, face: Face, sweep: Sweep, middle, spacing_mm) -> np.ndarray | None:
    """A shift that puts the landmarks well into the volume and the sector; None if none was found."""
    points, half = face.points_mm, middle + 0.5 * spacing_mm
    low, high = -half + OFF_SIDES_MM - points.min(axis=0), half - OFF_SIDES_MM - points.max(axis=0)
    low[1] = max(low[1], -half[1] + OFF_PROBE_MM - face.outline_mm()[:, 1].min())
    if (low > high).any():
        return None
    shifts = rng.uniform(low, high, (PLACES, 3))
    around = points[:, None] + OFF_BEAMS_MM * np.concatenate([np.eye(3), -np.eye(3)])
    inside = sweep.holds(around.reshape(-1, 3) + shifts[:, None] + middle).all(axis=1)
    if not inside.any():
        return None
    shown = (np.abs(face.outline_mm() + shifts[inside, None]) <= half).all(axis=2).mean(axis=1)
    return shifts[inside][np.argmax(shown >= min(SHOWN, shown.max()))]
