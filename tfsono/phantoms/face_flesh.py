"""The tissue of a fetal head, painted on a canvas: flesh, skull and brain, orbits and eyes, jaws, nose, throat.

Positions are those of `face_anatomy`: in parts of the distance between the eyes, from the middle between them. It is
mirror symmetric if the face is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tfsono.phantoms.canvas import FAR_MM, Canvas, FleshLook, draw_flesh_look
from tfsono.phantoms.distance import along, blend, carve, ellipsoid, minus, sphere, torus
from tfsono.phantoms.face_anatomy import EYE, FILLET, Ball, Face, Part, Rod, sides, skin_parts, solid

FLUID_DB = -75.0
# Thickness of the skin and of the bones of vault and orbit, millimetres.
SKIN_MM, SKULL_MM, ORBIT_MM = 1.1, 1.2, 0.9
# Where the vault ends: at the brow's level in front, by how much lower a millimetre further back.
VAULT_EDGE, VAULT_SLOPE = 0.24, 0.42
# The vault's gaps: half a suture's width in millimetres; where the fontanelle lies, backwards from the vault's middle,
# and how far it reaches to the side and to front and back, in parts of the vault's half axes.
SUTURE_MM, FONTANELLE, FONTANELLE_SIZE = 0.7, -0.30, (0.17, 0.24)
# An orbit: how far its middle lies behind the globe's, its half widths, how far behind the globe's middle it opens.
ORBIT_BACK, ORBIT, ORBIT_OPENS = 0.13, (0.285, 0.36, 0.275), -0.07
RIM, RIM_RADIUS = 0.285, 0.036
# The lens: how far it lies before the globe's middle, and its radius, in parts of the globe's radius.
LENS_PLACE, LENS = 0.56, 0.40
# Bones of the face: nose at the maxilla, cheekbone, zygomatic arch, upper dental arch, upper jaw, lower jaw in parts.
BONES = (
    Rod((0.13, -0.21, -0.02), (0.17, -0.24, -0.42), (0.030, 0.035)),
    Rod((0.64, -0.02, -0.12), (0.50, -0.13, -0.31), (0.050, 0.055)),
    Rod((0.66, 0.00, -0.18), (0.82, 0.50, -0.26), (0.035, 0.030)),
    Rod((0.50, -0.13, -0.31), (0.26, -0.10, -0.52), (0.050, 0.050)),
    Rod((0.015, -0.31, -0.58), (0.19, -0.24, -0.59), (0.050, 0.050)),
    Rod((0.19, -0.24, -0.59), (0.31, -0.04, -0.58), (0.050, 0.050)),
    Rod((0.31, -0.04, -0.58), (0.33, 0.16, -0.56), (0.050, 0.045)),
    Rod((0.025, -0.27, -1.08), (0.18, -0.20, -1.08), (0.060, 0.055)),
    Rod((0.18, -0.20, -1.08), (0.42, 0.08, -0.97), (0.055, 0.050)),
    Rod((0.42, 0.08, -0.97), (0.56, 0.36, -0.82), (0.050, 0.050)),
    Rod((0.56, 0.36, -0.82), (0.64, 0.44, -0.42), (0.050, 0.045)),
    Rod((0.02, 0.35, -0.22), (0.02, 0.85, -0.55), (0.060, 0.070)),
    Rod((0.12, 0.30, -0.12), (0.55, 0.20, 0.02), (0.035, 0.030)),
    Rod((0.18, 0.62, -0.42), (0.72, 0.85, -0.42), (0.075, 0.060)),
)
PALATE, SEPTUM = Ball((0, 0.02, -0.50), (0.29, 0.34, 0.028)), Ball((0, 0.00, -0.30), (0.018, 0.32, 0.20))
# Nasal passages and nostrils, the gap between tongue and palate, the throat: free of echoes but for debris.
HOLLOWS = (Ball((0.09, -0.03, -0.30), (0.055, 0.27, 0.15)), Ball((0.065, -0.44, -0.475), (0.032, 0.055, 0.045)),
           Ball((0, 0.10, -0.61), (0.20, 0.30, 0.035)), Rod((0, 0.46, -0.45), (0, 0.50, -1.15), (0.055, 0.075)))
TONGUE = Ball((0, 0.08, -0.82), (0.25, 0.34, 0.17))
EAR = (0.055, 0.20, 0.32)
VERTEBRAE = 9
# What the falx arches over, in parts of the vault's half axes.
FALX = np.asarray((0.5, 0.72, 0.55))


def draw_face_look(rng: np.random.Generator) -> FleshLook:
    """Random levels as in real images."""
    return draw_flesh_look(rng, flesh_db=(-38, -31), skin_db=(4, 9), brain_db=(-58, -48), bone_loss=(3.0, 6.0),
                           skull_loss=(2.0, 5.0), skin_echo=(0.15, 0.35))


def paint_face(canvas: Canvas, face: Face, look: FleshLook) -> None:
    """Paints the head, the neck and the visible part of the chest."""
    _paint_skin(canvas, face, look)
    _paint_throat(canvas, face, look)
    _paint_spine(canvas, face, look)
    _paint_vault(canvas, face, look)
    _paint_bones(canvas, face, look)
    for mirror in sides(EYE[0]):
        _paint_orbit(canvas, face, look, mirror)
        _paint_eye(canvas, face, mirror)


def _paint_skin(canvas: Canvas, face: Face, look: FleshLook) -> None:
    """One body of flesh with its ears, its skin at 0, uneven by the textures; the line between the lips."""
    parts = list(skin_parts(face))
    middles, reaches = np.asarray([middle for _, middle, _ in parts]), np.asarray([[reach] for *_, reach in parts])
    part = canvas.window((middles - reaches).min(axis=0), (middles + reaches).max(axis=0))
    if part is None:
        return
    fillet = FILLET * face.eyes_mm
    distance = united(part, parts, fillet)
    for place in _ears_mm(face):
        radii = face.eyes_mm * np.asarray(EAR)
        near = part.place(place - max(radii), place + max(radii))
        if near is not None:
            ear = ellipsoid(part.points_at(near), place, radii, face.axes)
            distance[near] = blend(distance[near], ear, 0.5 * fillet)
    broad, coarse = part.fields
    distance += np.float32(0.15) * coarse
    texture = np.float32(2.0) * coarse + np.float32(1.5) * broad
    level = np.where(distance > -SKIN_MM, np.float32(look.skin_db), np.float32(look.flesh_db)) + texture
    part.cover(distance, level)
    part.film(distance, np.float32(look.skin_echo))


def _ears_mm(face: Face) -> list[np.ndarray]:
    """The ears' middles, [3] each: on the head's sides behind the jaws."""
    behind = (face.at((0, 0.95, -0.32)) - face.middle_mm) @ face.axes.T
    aside = face.vault_mm[0] + 0.02 * face.eyes_mm
    return [face.middle_mm + np.asarray((side * aside, *behind[1:])) @ face.axes for side in (-1, 1)]


def united(part: Canvas, parts: Iterable[Part], fillet: float) -> np.ndarray:
    """The smooth union of bodies on a canvas; a large distance where none is near."""
    distance = np.full(part.scatter.shape, FAR_MM)
    for body, middle, reach in parts:
        near = part.place(middle - reach - fillet, middle + reach + fillet)
        if near is not None:
            distance[near] = blend(distance[near], body(part.points_at(near)), fillet)
    return distance


def _paint_throat(canvas: Canvas, face: Face, look: FleshLook) -> None:
    """Nasal passages, mouth, tongue and throat; the lips' line, wider where the mouth is open."""
    for level, bodies in ((look.flesh_db - 3, (TONGUE,)), (FLUID_DB + 8, HOLLOWS)):
        for part, distance in _near(canvas, [solid(face, body) for body in bodies]):
            part.cover(distance, np.float32(level))
            part.film(distance, np.float32(0.10))
    gap = Ball((0, -0.36, -0.755), (0.20, 0.16, 0.012 + 0.5 * face.open))
    for part, distance in _near(canvas, [solid(face, gap)]):
        part.cover(distance, np.float32(FLUID_DB + 5))
        part.film(distance, np.float32(0.2))


def _near(canvas: Canvas, parts: Iterable[Part]):
    """Each body's window of the canvas with its distance there, where it is in view."""
    for body, middle, reach in parts:
        part = canvas.window(middle - reach, middle + reach)
        if part is not None:
            yield part, body(part.points)


def _paint_spine(canvas: Canvas, face: Face, look: FleshLook) -> None:
    """Vertebrae from the skull to the chest: a body and both halves of an arch behind it each."""
    size, axes = face.eyes_mm, face.spine_axes()
    for place in face.neck_mm(np.linspace(0.0, 2.6, VERTEBRAE)):
        bodies = [(place + size * np.asarray((0, 0.22, 0)) @ axes, 0.075 * size)]
        bodies += [(place + size * np.asarray((side * 0.15, 0.36, 0)) @ axes, 0.055 * size) for side in (-1, 1)]
        for middle, radius in bodies:
            part = canvas.window(middle - radius, middle + radius)
            if part is not None:
                paint_bone(part, sphere(part.points, middle, radius), look.bone_db, look.bone_loss)


def _paint_vault(canvas: Canvas, face: Face, look: FleshLook) -> None:
    """The vault with sutures and fontanelle, and the brain in it: midline, choroid plexuses, dark around them."""
    vault = face.vault()
    part = canvas.window(vault.middle_mm - max(vault.radii_mm), vault.middle_mm + max(vault.radii_mm))
    if part is None:
        return
    size, coarse = face.vault_mm, part.fields[1]
    outer = ellipsoid(part.points, *vault)
    inside = outer + np.float32(SKULL_MM)
    offset = minus(part.points, vault.middle_mm)
    left, back, up = (along(offset, row) for row in vault.axes)
    edge = (face.at((0, -0.40, VAULT_EDGE)) - face.middle_mm) @ face.axes.T
    above = up - np.float32(edge[2]) + np.float32(VAULT_SLOPE) * (back - np.float32(edge[1]))
    brain = np.maximum(inside, np.float32(-0.30 * size[2]) - above)
    part.cover(brain, np.float32(look.brain_db) + np.float32(1.5) * coarse)
    floor = -above - np.float32(0.30 * size[2])
    part.film(np.where(inside < -1, floor, FAR_MM), np.float32(0.25))
    below = ellipsoid(part.points, vault.middle_mm - 0.15 * size[2] * vault.axes[2], size * FALX, vault.axes)
    falx = np.maximum(np.abs(left) - np.float32(0.3), np.maximum(brain, -below))
    part.cover(falx, np.float32(look.flesh_db + 3))
    part.film(np.where(falx < 1, left, FAR_MM), np.float32(0.12))
    for side in (-1, 1):
        middle = vault.middle_mm + size * np.asarray((side * 0.36, 0.25, 0.10)) @ vault.axes
        plexus = ellipsoid(part.points, middle, size * np.asarray((0.13, 0.34, 0.14)), vault.axes)
        part.cover(plexus + np.float32(0.4) * coarse, np.float32(look.brain_db + 12))
        middle = vault.middle_mm + size * np.asarray((side * 0.30, 0.58, -0.55)) @ vault.axes
        lobe = ellipsoid(part.points, middle, size * np.asarray((0.30, 0.22, 0.24)), vault.axes)
        part.cover(np.maximum(lobe + np.float32(0.4) * coarse, inside), np.float32(look.brain_db + 7))
    shell = np.maximum(np.maximum(outer, -inside), np.float32(0.9) * -above)
    wide, long = np.asarray(FONTANELLE_SIZE) * size[:2]
    behind = np.abs(back - np.float32(FONTANELLE * size[1]))
    diamond = (np.abs(left) / np.float32(wide) + behind / np.float32(long) - 1) * np.float32(min(wide, long))
    gaps = np.minimum(np.minimum(np.abs(left), behind) - np.float32(SUTURE_MM), diamond)
    shell = np.where(up > 0, carve(shell, gaps), shell)
    paint_bone(part, shell, look.bone_db + np.float32(2.5) * coarse, look.skull_loss)


def _paint_bones(canvas: Canvas, face: Face, look: FleshLook) -> None:
    """Jaws, cheekbones, the skull's base, palate and septum, and the nasal bones."""
    for part, distance in _near(canvas, [solid(face, body) for body in (PALATE, SEPTUM)]):
        paint_bone(part, distance, look.bone_db - 4, 0.5 * look.bone_loss)
    start = np.asarray((0.035, -0.27, 0.08))
    step = np.asarray((0.0, -0.13, -0.25))
    end = start + face.nasal_mm / face.eyes_mm * step / np.linalg.norm(step)
    nasal = Rod(tuple(start), tuple(end), (0.034, 0.026))
    for part, distance in _near(canvas, [solid(face, rod) for rod in (*BONES, nasal)]):
        paint_bone(part, distance, look.bone_db, look.bone_loss)


def _paint_orbit(canvas: Canvas, face: Face, look: FleshLook, mirror: np.ndarray) -> None:
    """The bony cone behind the globe, open in front, filled with fat; its rim."""
    size, eye = face.eyes_mm, face.at(mirror * EYE)
    middle, radii = eye + ORBIT_BACK * size * face.axes[1], size * np.asarray(ORBIT)
    part = canvas.window(middle - max(radii) - 1, middle + max(radii) + 1)
    if part is None:
        return
    distance = ellipsoid(part.points, middle, radii, face.axes)
    facing = mirror * np.asarray((0.30, -1.0, 0.05)) @ face.axes
    facing /= np.linalg.norm(facing)
    front = along(minus(part.points, eye), facing) + np.float32(ORBIT_OPENS * size)
    part.cover(np.maximum(distance, front), np.float32(look.flesh_db + 2))
    shell = np.maximum(np.abs(distance) - np.float32(0.5 * ORBIT_MM), front)
    paint_bone(part, shell, look.bone_db - 2, 0.6 * look.bone_loss)
    ring = torus(part.points, eye - ORBIT_OPENS * size * facing, facing, (RIM * size, RIM_RADIUS * size))
    paint_bone(part, ring, look.bone_db, look.bone_loss)


def _paint_eye(canvas: Canvas, face: Face, mirror: np.ndarray) -> None:
    """The globe, free of echoes, with its wall and the ring of its lens."""
    eye, radius = face.at(mirror * EYE), face.globe_mm
    part = canvas.window(eye - radius, eye + radius)
    if part is None:
        return
    globe = sphere(part.points, eye, radius)
    part.cover(globe, np.float32(FLUID_DB))
    part.film(globe, np.float32(0.35))
    aside, raised = face.gaze
    look_to = np.asarray((np.sin(aside), -np.cos(aside) * np.cos(raised), np.sin(raised))) @ face.axes
    lens = ellipsoid(part.points, eye + LENS_PLACE * radius * look_to, LENS * radius * np.ones(3), face.axes)
    part.cover(lens, np.float32(-22.0))
    part.film(lens, np.float32(0.4))
    part.cover(lens + np.float32(0.16 * radius), np.float32(FLUID_DB + 8))


def paint_bone(part: Canvas, distance: np.ndarray, level_db, loss: float) -> None:
    """A body that scatters strongly, reflects as a mirror, and absorbs."""
    part.cover(distance, level_db)
    part.film(distance, np.float32(0.5))
    part.absorb(distance, loss)
