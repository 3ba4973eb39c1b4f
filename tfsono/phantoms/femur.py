"""One synthetic ultrasound volume of a fetal thigh, with the mask of its femur and the femur's two tips.

It stands in for the 50 volumes of the femur paper (Sec. III-A: 416x416x284 voxels of 0.38 mm, 23 to 31 weeks). A leg
(`femur_anatomy`) lies in the fluid of the womb in any direction, surrounded by the fetus's pelvis, lower
leg, trunk and an arm, placenta, membranes, the mother's tissue. The probe (`sweep`) then images it.
Tips are difficult on purpose, as the paper reports of its own: bone fades towards them, cartilage without contrast
follows, and shadows of bodies in front fall on many.

The anatomy is drawn in millimetres from the middle of the field of view, so one seed gives one leg at every resolution;
only the speckle differs. A mask is the bone as a scan shows it, about as thick as an expert would draw it, including
what a shadow hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np

from tfsono.errors import UserError
from tfsono.phantoms import femur_anatomy as anatomy
from tfsono.phantoms.canvas import Canvas, check_grid, check_weeks
from tfsono.phantoms.distance import Points, along, capsule, ellipsoid, minus, sphere
from tfsono.phantoms.femur_anatomy import Leg
from tfsono.phantoms.fields import Field, centers_mm, draw_field
from tfsono.phantoms.sweep import PULSE_MM, Sweep, Tissue, ultrasound_volume
from tfsono.phantoms.ultrasound import amplitude
from tfsono.phantoms.view import draw_sweep, middle_mm

PAPER_SIZE, PAPER_SPACING_MM = (416, 416, 284), (0.38, 0.38, 0.38)
PAPER_WEEKS = (23.0, 31.0)
# The side of the blocks that are painted one by one: small ones fit in the processor's cache, and bodies far from a
# block are not computed there.
BLOCK_SIDE = 52
FLUID_DB = -75.0
# Poses that are tried before a field of view counts as too small for the bone.
MOST_TRIES = 400


@dataclass(frozen=True)
class FemurReference:
    """What was drawn, the same at every resolution: the age in weeks, the distance of the tips, the bone's volume.

    `right` is whether the leg is a right one.
    """

    weeks: float
    length_mm: float
    volume_ml: float
    right: bool


class FemurPhantom(NamedTuple):
    """An image uint8 [X, Y, Z] (y is the depth), its mask uint8 (0 or 1), the tips [2, 3], and what was drawn.

    `points_vox` are the proximal and the distal tip as voxel-centre indices, float64.
    """

    image: np.ndarray
    mask: np.ndarray
    points_vox: np.ndarray
    about: FemurReference


class _Mother(NamedTuple):
    """The womb: the cavity with its fluid, the placenta, a membrane in the fluid, the layers above."""

    cavity_mm: np.ndarray
    cavity_radii_mm: np.ndarray
    placenta_mm: np.ndarray
    placenta_radii_mm: np.ndarray
    placenta_axes: np.ndarray
    membrane: tuple[np.ndarray, float]
    layers_mm: tuple[float, ...]


class _Limb(NamedTuple):
    """An arm with one or two bones, millimetres."""

    start_mm: np.ndarray
    end_mm: np.ndarray
    radius_mm: float
    bone_mm: float
    apart_mm: np.ndarray


class _Look(NamedTuple):
    """Levels of the tissues: decibels below white; the bone's loss in dB a millimetre; how the tips fade."""

    mother_db: float
    wall_db: float
    placenta_db: float
    flesh_db: float
    fat_db: float
    skin_db: float
    septa_db: float
    cartilage_db: float
    bone_db: float
    marrow_db: float
    bone_loss: float
    shell_mm: float
    tips_db: tuple[float, float]
    fading_mm: tuple[float, float]


class _Scene(NamedTuple):
    """A placed leg and all that surrounds it; millimetres from the middle of the field of view.

    `rotation` has the rows u, v, w of the femur's frame; a right leg has u mirrored. `shadows` are balls (middle,
    radius, dB a millimetre) that absorb sound, as gas, a scar or poor contact do.
    """

    leg: Leg
    right: bool
    center_mm: np.ndarray
    rotation: np.ndarray
    mother: _Mother
    limbs: tuple[_Limb, ...]
    shadows: tuple[tuple[np.ndarray, float, float], ...]
    look: _Look

    @property
    def tips_mm(self) -> np.ndarray:
        return self.leg.femur.tips_mm @ self.rotation + self.center_mm


def femur_phantom(
    seed: int,
    size: Sequence[int] = PAPER_SIZE,
    spacing_mm: Sequence[float] = PAPER_SPACING_MM,
    weeks: tuple[float, float] = PAPER_WEEKS,
) -> FemurPhantom:
    """A fetal femur drawn from `seed`, in a sector of `size * spacing_mm` in which all of it lies.

    Args:
        seed: determines the leg, its pose, its surroundings and the speckle; not the resolution.
        size: voxels along x, y (the depth) and z.
        spacing_mm: the voxel's sides.
        weeks: the lowest and the highest gestational age.

    Raises:
        ValueError: invalid sizes, spacings or weeks.
        UserError: the field of view is too small for the bone.
    """
    scene, sweep, textures = _draw(seed, size, spacing_mm, weeks)
    size, spacing_mm = tuple(size), tuple(spacing_mm)
    texture_rng, speckle_rng = (np.random.default_rng(part) for part in textures.spawn(2))
    fields = tuple(draw_field(texture_rng, scale, cells) for scale, cells in ((34, 12), (9, 24), (3.2, 48)))
    tissue, mask = _paint(scene, fields, size, spacing_mm)
    settings = {"range_db": texture_rng.uniform(50, 60), "looks": int(texture_rng.choice([1, 1, 2]))}
    psf_mm = np.asarray(PULSE_MM) * texture_rng.uniform([0.85] * 3, [1.2, 1.3, 1.3])
    image = ultrasound_volume(speckle_rng, tissue, sweep, spacing_mm, psf_mm=psf_mm, **settings)
    return FemurPhantom(image, mask, *_reference(scene, size, spacing_mm))


def femur_reference(seed: int, size: Sequence[int] = PAPER_SIZE, spacing_mm: Sequence[float] = PAPER_SPACING_MM,
                weeks: tuple[float, float] = PAPER_WEEKS) -> tuple[np.ndarray, FemurReference]:
    """`points_vox` and `about` of `femur_phantom` with the same arguments, without painting it."""
    return _reference(_draw(seed, size, spacing_mm, weeks)[0], size, spacing_mm)


def _reference(scene: _Scene, size, spacing_mm) -> tuple[np.ndarray, FemurReference]:
    bone = scene.leg.femur
    points_vox = (scene.tips_mm + middle_mm(size, spacing_mm)) / np.asarray(spacing_mm)
    return points_vox, FemurReference(bone.weeks, bone.length_mm, anatomy.volume_ml(bone), scene.right)


def _draw(seed: int, size, spacing_mm, weeks) -> tuple[_Scene, Sweep, np.random.SeedSequence]:
    check_grid(size, spacing_mm)
    check_weeks(weeks, 14, 42)
    person, textures = np.random.SeedSequence(seed).spawn(2)
    rng = np.random.default_rng(person)
    sweep = draw_sweep(rng, tuple(size), tuple(spacing_mm), aside=0.03, wider=(0.92, 1.06),
                       gain_db=((-4, -1, -5), (2, 2, 3)), noise_db=(-56, -46), clutter_db=(-27, -20))
    return _draw_scene(rng, sweep, np.asarray(size) * spacing_mm, middle_mm(size, spacing_mm), weeks), sweep, textures


# ------------------------------------------------------------------------------------------------- what is drawn


def _draw_scene(rng: np.random.Generator, sweep: Sweep, extent_mm: np.ndarray, middle_mm: np.ndarray, weeks) -> _Scene:
    leg, right = anatomy.draw_leg(rng, weeks), bool(rng.integers(2))
    rotation, center = _draw_pose(rng, leg, right=right, sweep=sweep, extent_mm=extent_mm, middle_mm=middle_mm)
    tips = leg.femur.tips_mm @ rotation + center
    beams = sweep.directions(tips + middle_mm).astype(np.float64)
    mother = _draw_mother(rng, leg.femur.length_mm, center, extent_mm)
    limbs = tuple(_draw_limb(rng, leg.femur.length_mm, center, tips, beams) for _ in range(rng.choice([0, 1, 1, 2])))
    return _Scene(leg=leg, right=right, center_mm=center, rotation=rotation, mother=mother, limbs=limbs,
                  shadows=_draw_shadows(rng, tips, beams), look=_draw_look(rng, leg))


def _draw_pose(rng: np.random.Generator, leg: Leg, right: bool, sweep: Sweep, extent_mm, middle_mm):
    """A frame [3, 3] (rows u, v, w) and a middle [mm]: any direction and roll, the whole bone in the field of view.

    Three of four lie across the beam within some 40 degrees, as a sonographer turns the probe until they do; the
    others in any direction but along it, where the shaft would be invisible.
    """
    bone = leg.femur
    around = np.asarray(list(product((-1, 1), repeat=3))) * 0.16 * bone.length_mm
    probes = np.concatenate([tip + around for tip in bone.tips_mm])
    for _ in range(MOST_TRIES):
        rotation = _draw_rotation(rng)
        if right:
            rotation[0] *= -1
        center = rng.uniform([-0.25, -0.14, -0.25], [0.25, 0.24, 0.25]) * extent_mm
        if sweep.holds(probes @ rotation + center + middle_mm).all():
            return rotation, center
    raise UserError(f"size and spacing_mm: the field of view must hold a femur of {bone.length_mm:.0f} mm; found "
                    f"{' x '.join(f'{side:.0f}' for side in extent_mm)} mm, too small for it")


def _draw_rotation(rng: np.random.Generator) -> np.ndarray:
    """The rows u, v, w of a right-handed frame, w across the beam or nearly so."""
    if rng.random() < 0.75:
        tilt = np.deg2rad(np.clip(rng.normal(0, 17), -40, 40))
    else:
        tilt = np.arcsin(rng.uniform(-0.87, 0.87))
    turn, roll = rng.uniform(0, 2 * np.pi, 2)
    w = np.asarray([np.cos(tilt) * np.cos(turn), np.sin(tilt), np.cos(tilt) * np.sin(turn)])
    first = np.cross(w, [-np.sin(turn), 0, np.cos(turn)])
    second = np.cross(w, first)
    u = np.cos(roll) * first + np.sin(roll) * second
    return np.stack([u, np.cross(w, u), w])


def _draw_mother(rng: np.random.Generator, length_mm: float, center, extent_mm) -> _Mother:
    top = -0.5 * extent_mm[1]
    radii = length_mm * rng.uniform([1.1, 0.62, 1.0], [1.7, 1.05, 1.5])
    cavity = center + rng.normal(0, 0.16, 3) * radii
    layers = np.cumsum(rng.uniform([3, 4, 6, 4], [6, 14, 14, 9]))
    cavity[1] = max(cavity[1], top + layers[-1] + 0.8 * radii[1])
    inwards = rng.normal(0, [0.5, 0.2, 0.5]) + [0, rng.choice([-1.0, 1.0]), 0]
    inwards /= np.linalg.norm(inwards)
    across = np.cross(inwards, [0, 0, 1])
    across /= np.linalg.norm(across)
    axes = np.stack([inwards, across, np.cross(inwards, across)])
    edge = cavity - inwards / np.linalg.norm(inwards / radii)
    membrane = inwards + rng.normal(0, 0.25, 3)
    membrane /= np.linalg.norm(membrane)
    return _Mother(cavity_mm=cavity, cavity_radii_mm=radii, placenta_mm=edge,
                   placenta_radii_mm=length_mm * rng.uniform([0.25, 0.7, 0.7], [0.5, 1.3, 1.3]), placenta_axes=axes,
                   membrane=(membrane, float(membrane @ edge + length_mm * rng.uniform(0.35, 0.8))),
                   layers_mm=tuple(top + layers))


def _draw_limb(rng: np.random.Generator, length_mm: float, center, tips, beams) -> _Limb:
    """An arm in front of the thigh or next to it; half of them are between the probe and one of the tips."""
    which = rng.integers(2)
    if rng.random() < 0.5:
        middle = tips[which] - beams[which] * length_mm * rng.uniform(0.42, 0.75)
    else:
        away = rng.normal(0, 1, 3)
        middle = center + away / np.linalg.norm(away) * length_mm * rng.uniform(0.7, 1.1)
    direction = rng.normal(0, [1, 0.35, 1])
    direction /= np.linalg.norm(direction)
    half = 0.5 * length_mm * rng.uniform(0.5, 0.8)
    middle = middle + direction * half * rng.uniform(-0.7, 0.7)
    apart = np.cross(direction, rng.normal(0, 1, 3))
    apart *= rng.choice([0.0, 0.06]) * length_mm / np.linalg.norm(apart)  # an upper arm or a forearm
    bone = length_mm * rng.uniform(0.034, 0.048)
    return _Limb(middle - direction * half, middle + direction * half, length_mm * rng.uniform(0.14, 0.19), bone, apart)


def _draw_shadows(rng: np.random.Generator, tips, beams) -> tuple[tuple[np.ndarray, float, float], ...]:
    """Balls that absorb 8 to 22 dB: in front of a tip in a third of the cases, and anywhere."""
    shadows = []
    for tip, beam in zip(tips, beams, strict=True):
        radius, hit, away = rng.uniform(4, 8), rng.random() < 0.35, rng.uniform(28, 50)
        place = tip - beam * away + rng.normal(0, 1.5, 3)
        if hit:
            shadows.append((place, radius, rng.uniform(8, 22) / (2 * radius)))
    middle = tips.mean(axis=0)
    for _ in range(rng.integers(3)):
        radius = rng.uniform(3, 7)
        place = middle + rng.uniform([-60, -60, -40], [60, -25, 40])
        shadows.append((place, radius, rng.uniform(6, 18) / (2 * radius)))
    return tuple(shadows)


def _draw_look(rng: np.random.Generator, leg: Leg) -> _Look:
    fades = np.where(rng.random(2) < 0.7, rng.uniform(-18, -6, 2), 0.0)
    flesh = rng.uniform(-46, -38)
    return _Look(
        mother_db=rng.uniform(-42, -34),
        wall_db=rng.uniform(-34, -27),
        placenta_db=rng.uniform(-33, -26),
        flesh_db=flesh,
        fat_db=flesh + rng.uniform(2, 8),
        skin_db=rng.uniform(-33, -25),
        septa_db=rng.uniform(-30, -20),
        cartilage_db=flesh - rng.uniform(5, 12),
        bone_db=rng.uniform(-10, -2),
        marrow_db=rng.uniform(-24, -13),
        bone_loss=rng.uniform(2.0, 5.0),
        shell_mm=rng.uniform(0.9, 1.4),
        tips_db=tuple(fades.tolist()),
        fading_mm=tuple((leg.femur.length_mm * rng.uniform(0.1, 0.22, 2)).tolist()),
    )


# --------------------------------------------------------------------------------------------------- painting it


def _paint(scene: _Scene, fields: tuple[Field, ...], size, spacing_mm) -> tuple[Tissue, np.ndarray]:
    """The tissue and the femur's mask; block by block, each with its part of the fields, broad to fine."""
    canvas = Canvas.blank(centers_mm(size, spacing_mm), float(np.mean(spacing_mm)))
    mask = np.zeros(size, np.uint8)
    for corner in product(*(range(0, side, BLOCK_SIDE) for side in size)):
        place = tuple(slice(start, start + BLOCK_SIDE) for start in corner)
        block = canvas.part(place)
        block = replace(block, fields=tuple(field.sample(block.axes) for field in fields))
        mask[place] = _paint_block(scene, block)
    return canvas.tissue(), mask


def _near(canvas: Canvas, center_mm, radius_mm: float) -> bool:
    """Whether a ball reaches this block, or nearly."""
    middle = np.asarray([0.5 * (axis[0] + axis[-1]) for axis in canvas.axes])
    reach = 0.5 * np.linalg.norm([axis[-1] - axis[0] for axis in canvas.axes])
    return np.linalg.norm(middle - center_mm) < reach + radius_mm + 3


def _paint_block(scene: _Scene, canvas: Canvas) -> np.ndarray:
    """Paints from the outside in: later bodies cover earlier ones. Returns the femur's mask."""
    _mother(scene, canvas)
    for limb in scene.limbs:
        _limb(scene, canvas, limb)
    leg, size = scene.leg, scene.leg.femur.length_mm
    shifted = minus(canvas.points, scene.center_mm)
    points = tuple(along(shifted, row) for row in scene.rotation)  # in the femur's axes
    if _near(canvas, scene.center_mm, 3.2 * size):
        _trunk(scene, canvas, points)
    mask = np.zeros(canvas.scatter.shape, np.uint8)
    if _near(canvas, scene.center_mm, 2.2 * size):
        bone = anatomy.femur(points, leg.femur)
        _flesh(scene, canvas, anatomy.shin(points, leg))
        _thigh(scene, canvas, points)
        gap = np.float32(0.05 * size)
        _bone(scene, canvas, np.maximum(anatomy.shin_bones(points, leg), gap - bone))
        _bone(scene, canvas, np.maximum(anatomy.pelvis(points, leg), gap - bone))
        _bone(scene, canvas, bone, _fading_db(scene, points))
        mask[bone < 0] = 1
    for place, radius, rate in scene.shadows:
        if _near(canvas, place, radius):
            canvas.absorb(sphere(canvas.points, place, radius), rate, 2.0)
    return mask


def _mother(scene: _Scene, canvas: Canvas) -> None:
    """Layers of the belly's wall, the womb, the cavity with its fluid, the placenta and a membrane."""
    mother, look, (broad, coarse, fine) = scene.mother, scene.look, canvas.fields
    texture = np.float32(3.5) * coarse + np.float32(2.5) * broad + np.float32(1.5) * fine
    canvas.scatter[...] = amplitude(np.float32(look.mother_db) + texture)
    depth = canvas.points[1] - np.float32(1.2) * coarse - np.float32(2.0) * broad
    for number, place in enumerate(mother.layers_mm):
        level = look.mother_db + (6.0, -5.0, 3.0, 0.0)[number]
        canvas.cover(place - depth, np.float32(level) + texture)
        canvas.film(depth - np.float32(place), np.float32(0.12))
    cavity = ellipsoid(canvas.points, mother.cavity_mm, mother.cavity_radii_mm)
    cavity += np.float32(1.3) * coarse + np.float32(2.5) * broad
    if cavity.min() > 12:
        return
    canvas.cover(cavity - np.float32(7), np.float32(look.wall_db) + texture)
    canvas.cover(cavity, np.float32(FLUID_DB))
    canvas.film(cavity, np.float32(0.12))
    sheet = along(canvas.points, mother.membrane[0]) - np.float32(mother.membrane[1]) + np.float32(4) * broad
    canvas.film(sheet, np.float32(0.1) * (cavity < -2))
    lens = ellipsoid(canvas.points, mother.placenta_mm, mother.placenta_radii_mm, mother.placenta_axes)
    lens = np.maximum(lens + np.float32(1.2) * coarse, cavity - np.float32(3))
    canvas.cover(lens, np.float32(look.placenta_db) + np.float32(2) * fine + np.float32(1.5) * coarse)
    canvas.film(lens, np.float32(0.1) * (cavity < 0))


def _limb(scene: _Scene, canvas: Canvas, limb: _Limb) -> None:
    middle, reach = 0.5 * (limb.start_mm + limb.end_mm), 0.5 * np.linalg.norm(limb.end_mm - limb.start_mm)
    if not _near(canvas, middle, reach + 2 * limb.radius_mm):
        return
    _flesh(scene, canvas, capsule(canvas.points, limb.start_mm, limb.end_mm, (limb.radius_mm, 0.8 * limb.radius_mm)))
    inside = 0.1 * (limb.end_mm - limb.start_mm)
    for side in (-1, 1) if limb.apart_mm.any() else (0,):
        ends = (limb.start_mm + inside + side * limb.apart_mm, limb.end_mm - inside + side * limb.apart_mm)
        _bone(scene, canvas, capsule(canvas.points, *ends, (limb.bone_mm, 0.85 * limb.bone_mm)))


def _trunk(scene: _Scene, canvas: Canvas, points: Points) -> None:
    """The lower trunk; its inside is darker, and uneven by bowel and bladder."""
    _, coarse, _ = canvas.fields
    distance = anatomy.trunk(points, scene.leg)
    _flesh(scene, canvas, distance)
    level = np.float32(scene.look.flesh_db - 2) + np.float32(5) * coarse
    canvas.cover(distance + np.float32(0.13 * scene.leg.femur.length_mm), level)


def _thigh(scene: _Scene, canvas: Canvas, points: Points) -> None:
    """Flesh with sheets of fascia along the bone, and the cartilage of its ends."""
    look, (broad, coarse, _) = scene.look, canvas.fields
    distance = anatomy.thigh(points, scene.leg)
    _flesh(scene, canvas, distance)
    sheets = anatomy.septa(points, scene.leg) + np.float32(0.5) * np.abs(coarse)
    within = np.maximum(sheets - np.float32(0.5), distance + np.float32(0.07 * scene.leg.femur.length_mm))
    canvas.cover(within, np.float32(look.septa_db) + np.float32(5) * broad)
    gristle = anatomy.cartilage(points, scene.leg)
    canvas.cover(gristle, np.float32(look.cartilage_db) + np.float32(1.5) * coarse)


def _flesh(scene: _Scene, canvas: Canvas, distance: np.ndarray) -> None:
    """Skin, fat under it, muscle under that."""
    look, (broad, coarse, fine) = scene.look, canvas.fields
    texture = np.float32(2.5) * coarse + np.float32(1.5) * broad + np.float32(2) * fine
    uneven = distance + np.float32(0.4) * coarse
    canvas.cover(uneven, np.float32(look.skin_db) + texture)
    canvas.cover(uneven + np.float32(1.2), np.float32(look.fat_db) + texture)
    canvas.cover(uneven + np.float32(3.6) + np.float32(0.5) * coarse, np.float32(look.flesh_db) + texture)
    canvas.film(uneven, np.float32(0.12))


def _bone(scene: _Scene, canvas: Canvas, distance: np.ndarray, change_db=0.0) -> None:
    """A rough bright shell, a dim inside, a mirror on the outside, and the loss that casts the shadow."""
    if distance.min() > 3:
        return
    look, (_, coarse, _) = scene.look, canvas.fields
    level = np.float32(look.bone_db) + np.float32(2.5) * coarse + change_db
    canvas.cover(distance, level)
    canvas.cover(distance + np.float32(look.shell_mm), np.float32(look.marrow_db))
    canvas.film(distance, np.float32(0.8) * amplitude(change_db))
    canvas.absorb(distance, look.bone_loss)


def _fading_db(scene: _Scene, points: Points) -> np.ndarray:
    """The loss of the femur's echo towards the tips, dB: there it is porous, and its edge is cartilage."""
    change = np.zeros(points[0].shape, np.float32)
    look = scene.look
    for tip, fade, width in zip(scene.leg.femur.tips_mm, look.tips_db, look.fading_mm, strict=True):
        away = anatomy.towards_tip_mm(points, tip) * np.float32(1 / width)
        change += np.float32(fade) * np.exp(-away * away)
    return change
