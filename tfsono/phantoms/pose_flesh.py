"""The tissue of a posed fetus, painted on a canvas: flesh, skull and face, spine, ribs, limb bones, organs.

Numbers in the bodies' descriptions are parts of the crown-rump length, in the frames of `pose_skeleton`. All of it is
mirror symmetric, the organs too, so that only the body's handedness tells left from right.
"""

from __future__ import annotations

import numpy as np

from tfsono.phantoms.canvas import FAR_MM, Canvas, FleshLook
from tfsono.phantoms.distance import along, blend, capsule, ellipsoid, minus, sphere
from tfsono.phantoms.pose_skeleton import BUTTOCK, Fetus, Segment
from tfsono.phantoms.womb import FLUID_DB

# Rounding of the flesh where bodies meet; the skin's thickness; the depth of skull and ribs under the skin.
FILLET, SKIN_MM, SKULL_DEPTH, RIB_DEPTH = 0.035, 0.9, 0.014, 0.030
SKULL_MM = 1.0
RIB_PITCH, RIB_TILT = 0.038, 0.35
VERTEBRAE, NECK_VERTEBRAE = 20, 5
# Where the shaft of a segment is ossified, its radius, and how far apart a pair of bones lies.
BONES = {"upper_arm": (0.10, 0.88, 0.015, 0.0), "forearm": (0.08, 0.92, 0.011, 0.022),
         "hand": (0.15, 0.85, 0.008, 0.016), "thigh": (0.12, 0.90, 0.017, 0.0), "shin": (0.08, 0.92, 0.012, 0.024),
         "foot": (0.05, 0.85, 0.009, 0.016)}
# Positions of organs: in the chest's frame from the neck, in the pelvis's from the sacrum.
HEART, BLADDER, NAVEL = (0.0, -0.10, -0.122), (0.0, -0.105, 0.015), (0.0, -0.232, 0.11)
# From the head's middle, in its own frame: an eye (of the left side), chin, nose.
EYE, CHIN, NOSE = (0.068, -0.162, -0.072), (0.0, -0.145, -0.158), (0.0, -0.218, -0.095)


def paint_fetus(canvas: Canvas, fetus: Fetus, look: FleshLook) -> None:
    """Paints the whole fetus."""
    _paint_flesh(canvas, fetus, look)
    _paint_organs(canvas, fetus, look)
    _paint_ribs(canvas, fetus, look)
    _paint_spine(canvas, fetus, look)
    _paint_girdles(canvas, fetus, look)
    for segment in fetus.segments():
        _paint_shafts(canvas, fetus, segment, look)
    _paint_skull(canvas, fetus, look)
    _paint_face(canvas, fetus, look)


def navel_mm(fetus: Fetus) -> np.ndarray:
    """Where the cord leaves the belly, [3]."""
    return fetus.next_to("sacrum", fetus.pelvis, NAVEL)


def _trunk_parts(fetus: Fetus):
    """Head, face, neck, chest and belly: a distance, the middle and the radius of a ball around each."""
    size = fetus.build.crown_rump_mm
    for body in fetus.bodies().values():
        yield (lambda points, body=body: ellipsoid(points, *body)), body.middle_mm, max(body.radii_mm)
    low = fetus.next_to("neck", fetus.chest, (0, -0.03, -0.08))
    high = fetus.next_to("head", fetus.head, (0, 0.02, -0.1))
    reach = 0.5 * np.linalg.norm(high - low) + 0.08 * size
    yield (lambda points: capsule(points, low, high, (0.08 * size, 0.075 * size))), 0.5 * (low + high), reach
    for offset, radius in (((0, -0.135, -0.09), 0.088), (CHIN, 0.04), (NOSE, 0.02)):
        yield _ball(fetus.next_to("head", fetus.head, offset), radius * size)


def _side_parts(fetus: Fetus):
    """Limbs, shoulders and buttocks, as in `_trunk_parts`."""
    for segment in fetus.segments():
        ends = (segment.start_mm, segment.end_mm, segment.radii_mm)
        reach = 0.5 * np.linalg.norm(segment.end_mm - segment.start_mm) + max(segment.radii_mm)
        yield (lambda points, ends=ends: capsule(points, *ends)), 0.5 * (segment.start_mm + segment.end_mm), reach
    for side in "ab":
        yield _ball(fetus.at(f"hip_{side}"), BUTTOCK * fetus.build.crown_rump_mm)
        yield _ball(fetus.at(f"shoulder_{side}"), 0.046 * fetus.build.crown_rump_mm)


def _ball(middle, radius_mm: float):
    return (lambda points: sphere(points, middle, radius_mm)), middle, radius_mm


def _paint_flesh(canvas: Canvas, fetus: Fetus, look: FleshLook) -> None:
    """One body of flesh, its skin at 0, uneven by the textures.

    Limbs have a fillet with the trunk, not with one another, so that the order of the sides does not matter.
    """
    outline = fetus.outline_mm()
    part = canvas.window(outline.min(axis=0) - 1, outline.max(axis=0) + 1)
    if part is None:
        return
    fillet = FILLET * fetus.build.crown_rump_mm
    trunk = np.full(part.scatter.shape, FAR_MM)
    for body, middle, reach in _trunk_parts(fetus):
        near = part.place(middle - reach - fillet, middle + reach + fillet)
        if near is not None:
            trunk[near] = blend(trunk[near], body(part.points_at(near)), fillet)
    distance = trunk.copy()
    for body, middle, reach in _side_parts(fetus):
        near = part.place(middle - reach - fillet, middle + reach + fillet)
        if near is not None:
            np.minimum(distance[near], blend(trunk[near], body(part.points_at(near)), fillet), out=distance[near])
    broad, coarse = part.fields
    distance += np.float32(0.15) * coarse
    texture = np.float32(2.0) * coarse + np.float32(1.5) * broad
    level = np.where(distance > -SKIN_MM, np.float32(look.skin_db), np.float32(look.flesh_db)) + texture
    part.cover(distance, level)
    part.film(distance, np.float32(look.skin_echo))


def _paint_organs(canvas: Canvas, fetus: Fetus, look: FleshLook) -> None:
    """Lungs and bowel brighter than the liver, the heart's chambers and the bladder free of echoes."""
    size, girth = fetus.build.crown_rump_mm, fetus.build.girth
    for name, scale, change in (("chest", 0.74, 3.0), ("belly", 0.80, -4.0)):
        body = fetus.bodies()[name]
        part = canvas.window(body.middle_mm - max(body.radii_mm), body.middle_mm + max(body.radii_mm))
        if part is not None:
            distance = ellipsoid(part.points, body.middle_mm, scale * body.radii_mm, body.axes)
            part.cover(distance, np.float32(look.flesh_db + change) + np.float32(2.5) * part.fields[1])
    heart = fetus.next_to("neck", fetus.chest, HEART)
    balls = [(heart, 0.054 * girth, look.flesh_db + 5)]
    balls += [(heart + size * np.asarray((side * 0.021, 0.0, up)) @ fetus.chest, 0.017, -62.0)
              for side in (-1, 1) for up in (-0.018, 0.02)]
    bowel = fetus.next_to("sacrum", fetus.pelvis, (0.0, -0.115, 0.06))
    balls += [(bowel, 0.055, look.flesh_db + 6), (fetus.next_to("sacrum", fetus.pelvis, BLADDER), 0.030, FLUID_DB)]
    balls += [(fetus.next_to("sacrum", fetus.pelvis, (side * 0.055, -0.035, 0.10)), 0.026, look.flesh_db + 4)
              for side in (-1, 1)]  # kidneys
    for middle, radius, level in balls:
        part = _ball_window(canvas, middle, radius * size)
        if part is not None:
            part.cover(sphere(part.points, middle, radius * size), np.float32(level))


def _paint_ribs(canvas: Canvas, fetus: Fetus, look: FleshLook) -> None:
    """Stripes of a shell under the chest's skin, behind and at the sides, a little lower in front."""
    size, body = fetus.build.crown_rump_mm, fetus.bodies()["chest"]
    part = canvas.window(body.middle_mm - max(body.radii_mm), body.middle_mm + max(body.radii_mm))
    if part is None:
        return
    shell = np.abs(ellipsoid(part.points, *body) + np.float32(RIB_DEPTH * size)) - np.float32(0.009 * size)
    offset = minus(part.points, body.middle_mm)
    back, up = along(offset, fetus.chest[1]), along(offset, fetus.chest[2])
    phase = (up - np.float32(RIB_TILT) * back) * np.float32(2 * np.pi / (RIB_PITCH * size))
    stripes = np.float32(0.25 * RIB_PITCH * size) * -np.cos(phase)
    ends = np.maximum(-back - np.float32(0.07 * size), np.abs(up) - np.float32(0.135 * size))
    _bone(part, np.maximum(np.maximum(shell, stripes), ends), look, look.bone_db - 3, 0.5 * look.bone_loss)


def _paint_spine(canvas: Canvas, fetus: Fetus, look: FleshLook) -> None:
    """Vertebrae from the skull to the tail: a body and both halves of an arch behind it each."""
    size = fetus.build.crown_rump_mm
    places = fetus.spine_mm(np.linspace(0.0, 1.12, VERTEBRAE))
    upper = np.linspace(0.62, 0.10, NECK_VERTEBRAE)[:, None]
    base = fetus.next_to("head", fetus.head, (0, 0.05, -0.17))
    places = np.concatenate([upper * base + (1 - upper) * fetus.at("neck"), places])
    part = np.linspace(0, 1, len(places))[:, None]
    frames = [(1 - part) * fetus.chest[row] + part * fetus.pelvis[row] for row in (0, 1)]
    left, back = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in frames)
    thick = np.interp(part[:, 0], [0, 0.3, 0.8, 1], [0.8, 1.0, 1.1, 0.5])
    for place, aside, behind, radius in zip(places, left, back, thick, strict=True):
        bodies = [(place, 0.0125 * radius)]
        bodies += [(place + size * radius * (side * 0.024 * aside + 0.022 * behind), 0.0095 * radius)
                   for side in (-1, 1)]
        for middle, ball in bodies:
            part = _ball_window(canvas, middle, ball * size)
            if part is not None:
                _bone(part, sphere(part.points, middle, ball * size), look, look.bone_db)


def _paint_girdles(canvas: Canvas, fetus: Fetus, look: FleshLook) -> None:
    """Collar bones, shoulder blades, and the wings of the pelvis."""
    for side, sign in (("a", 1), ("b", -1)):
        shoulder = fetus.next_to(f"shoulder_{side}", fetus.chest, (-0.02 * sign, -0.01, 0.012))
        middle = fetus.next_to("neck", fetus.chest, (0.02 * sign, -0.085, -0.045))
        _rod(canvas, fetus, (middle, shoulder, 0.009), look)
        blade = fetus.next_to(f"shoulder_{side}", fetus.chest, (-0.035 * sign, 0.045, -0.015))
        _rod(canvas, fetus, (blade, blade + fetus.build.crown_rump_mm * -0.05 * fetus.chest[2], 0.010), look)
        wing = fetus.next_to(f"hip_{side}", fetus.pelvis, (-0.012 * sign, 0.015, 0.012))
        top = fetus.next_to(f"hip_{side}", fetus.pelvis, (0.004 * sign, 0.0, 0.055))
        _rod(canvas, fetus, (wing, top, 0.013), look)


def _paint_shafts(canvas: Canvas, fetus: Fetus, segment: Segment, look: FleshLook) -> None:
    """The ossified middle of a segment's one or two bones; the ends are cartilage, which is dark."""
    size, (first, last, radius, apart) = fetus.build.crown_rump_mm, BONES[segment.name]
    step = segment.end_mm - segment.start_mm
    axes = fetus.chest if segment.limb.startswith("arm") else fetus.pelvis
    across = np.cross(step, axes[1] if abs(step @ axes[1]) < 0.7 * np.linalg.norm(step) else axes[0])
    across *= 0.5 * apart * size / np.linalg.norm(across)
    start, end, radius = segment.start_mm + first * step, segment.start_mm + last * step, radius * size
    reach = radius + np.abs(across)
    part = canvas.window(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
    if part is not None:
        pair = (capsule(part.points, start + aside, end + aside, (radius,) * 2) for aside in (across, -across))
        _bone(part, np.minimum(*pair), look, look.bone_db)


def _paint_skull(canvas: Canvas, fetus: Fetus, look: FleshLook) -> None:
    """The vault of the skull with the brain in it: midline, choroid plexuses, dark around them."""
    size, head = fetus.build.crown_rump_mm, fetus.bodies()["head"]
    part = canvas.window(head.middle_mm - max(head.radii_mm), head.middle_mm + max(head.radii_mm))
    if part is None:
        return
    points, coarse = part.points, part.fields[1]
    vault = ellipsoid(points, head.middle_mm, head.radii_mm - SKULL_DEPTH * size, head.axes)
    part.cover(vault + np.float32(SKULL_MM), np.float32(look.brain_db) + np.float32(1.5) * coarse)
    offset = minus(points, head.middle_mm)
    left, back, up = (along(offset, row) for row in head.axes)
    inside = vault + np.float32(SKULL_MM + 0.02 * size)
    falx = np.maximum(np.abs(left) - np.float32(0.006 * size), np.maximum(inside, np.float32(-0.03 * size) - up))
    part.cover(falx, np.float32(look.flesh_db + 4))
    part.film(np.where(falx < 1, left, FAR_MM), np.float32(0.2))
    for side in (-1, 1):
        middle = head.middle_mm + size * np.asarray((side * 0.062, 0.01, 0.035)) @ head.axes
        plexus = ellipsoid(points, middle, size * np.asarray((0.034, 0.098, 0.05)), head.axes)
        part.cover(np.maximum(plexus + np.float32(0.3) * coarse, inside), np.float32(look.flesh_db + 9))
    stem = capsule(points, head.middle_mm, fetus.next_to("head", head.axes, (0, 0.05, -0.16)), (0.05 * size,) * 2)
    part.cover(np.maximum(stem, inside), np.float32(look.flesh_db - 4))
    below = np.float32(-0.04 * size) - up - np.float32(0.5) * back  # from the brow to the nape
    shell = np.abs(vault + np.float32(0.5 * SKULL_MM)) - np.float32(0.5 * SKULL_MM)
    shell = np.maximum(shell, np.float32(0.9) * below)
    _bone(part, shell, look, look.bone_db + np.float32(2.5) * coarse, look.skull_loss)


def _paint_face(canvas: Canvas, fetus: Fetus, look: FleshLook) -> None:
    """Eyes free of echoes, the upper and the lower jaw, the nasal bone, the base of the skull."""
    size, head = fetus.build.crown_rump_mm, fetus.head

    def place(*offset):
        return fetus.next_to("head", head, offset)

    for sign in (-1, 1):
        eye = place(EYE[0] * sign, *EYE[1:])
        part = _ball_window(canvas, eye, 0.034 * size)
        if part is not None:
            distance = sphere(part.points, eye, 0.034 * size)
            part.cover(distance, np.float32(FLUID_DB))
            part.film(distance, np.float32(0.25))
        rods = ((place(sign * 0.078, -0.055, -0.14), place(sign * 0.012, -0.16, -0.172), 0.010),
                (place(sign * 0.055, -0.12, -0.105), place(sign * 0.012, -0.185, -0.115), 0.013),
                (place(sign * 0.03, -0.03, -0.125), place(sign * 0.075, 0.02, -0.13), 0.012))
        for rod in rods:
            _rod(canvas, fetus, rod, look)
    _rod(canvas, fetus, (place(0, -0.198, -0.045), place(0, -0.216, -0.078), 0.008), look)
    _rod(canvas, fetus, (place(0, -0.06, -0.12), place(0, 0.06, -0.15), 0.012), look)


def _ball_window(canvas: Canvas, middle, radius_mm: float) -> Canvas | None:
    return canvas.window(middle - radius_mm, middle + radius_mm)


def _rod(canvas: Canvas, fetus: Fetus, rod, look: FleshLook) -> None:
    """A rod of bone: both ends [3] and its radius as part of the crown-rump length."""
    start, end, radius = rod
    radius *= fetus.build.crown_rump_mm
    part = canvas.window(np.minimum(start, end) - radius, np.maximum(start, end) + radius)
    if part is not None:
        _bone(part, capsule(part.points, start, end, (radius,) * 2), look, look.bone_db)


def _bone(part: Canvas, distance: np.ndarray, look: FleshLook, level_db, loss: float | None = None) -> None:
    """A body that scatters strongly, reflects as a mirror, and absorbs."""
    part.cover(distance, level_db)
    part.film(distance, np.float32(0.5))
    part.absorb(distance, look.bone_loss if loss is None else loss)
