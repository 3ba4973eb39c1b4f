"""One synthetic ultrasound image of a fetal head in an axial plane, with its mask, ellipse and four points.

It stands in for the images of the HC18 set (800x540, 0.05 to 0.33 mm per pixel), to which the numbers below
were fitted: a curved array's sector, the skull bright where the sound meets it at right angles and almost invisible
where it grazes, the shadows at its sides and under it, midline, cavum, choroid plexus, fluid and uterine wall around,
speckle, and the scanner's own marks. The image is painted along the rays in millimetres and converted last, so one
seed gives one image at every resolution.

Images are [Y, X] here (rows, columns), unlike the volumes elsewhere in this package; points are (x, y).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tfsono.geometry.ellipse import Ellipse
from tfsono.phantoms.distance import capsule, coverage, ellipsoid
from tfsono.phantoms.fields import draw_field
from tfsono.phantoms.head_anatomy import Head, Line, draw_head
from tfsono.phantoms.ultrasound import (
    Sector, amplitude, log_compress, specular_db, speckle, transmission,
)

PAPER_SIZE_YX = (540, 800)
PIXEL_RANGE_MM = (0.052, 0.326)
SAMPLES, RAYS = 560, 400
FLUID_DB = -66.0
FRAME_MARGIN = 0.012
# How much weaker the skull's echo is at its edges than in the middle of the wall.
EDGE_DB = 9.0
ZERO = np.float32(0)


class HeadReference(NamedTuple):
    """The reference measurements of the image.

    The ellipse is the skull's outer edge. `points_px` [4, 2] are the ends of its axes as `head_labels.LANDMARKS`:
    ofd the long axis, bpd the short one; ofd_1 is left of ofd_2, and bpd_1 above bpd_2, like most of the public
    points.
    """

    ellipse: Ellipse
    points_px: np.ndarray
    pixel_size_mm: float
    circumference_mm: float


class HeadPhantom(NamedTuple):
    """An image uint8 [Y, X], its filled mask uint8 [Y, X] (0 or 1), the reference, and what was drawn (for JSON)."""

    image: np.ndarray
    mask: np.ndarray
    reference: HeadReference
    description: dict


class _Surroundings(NamedTuple):
    """The amniotic cavity, the bands of skin and uterus above it, and limbs: millimetres of the image."""

    tissue_db: float
    cavity_center_mm: np.ndarray
    cavity_radii_mm: np.ndarray
    cavity_angle: float
    uneven_mm: float
    wall_db: float
    bands: tuple[tuple[float, float, float, float], ...]
    limbs: tuple[tuple[np.ndarray, np.ndarray, float, float], ...]


class _Scanner(NamedTuple):
    """The scanner's settings."""

    range_db: float
    pulse_mm: tuple[float, float]
    looks: int
    noise_db: float
    depth_db: np.ndarray
    contact_db: tuple[tuple[float, float, float], ...]
    boxes: tuple[tuple[float, float, float, float], ...]
    bar: bool


class _Scene(NamedTuple):
    """A placed head (millimetres from the image's middle), and how it is viewed."""

    head: Head
    pixel_mm: float
    center_mm: np.ndarray
    angle: float
    sector: Sector
    around: _Surroundings
    scanner: _Scanner
    texture_seed: np.random.SeedSequence


def head_phantom(
    seed: int,
    size_yx: tuple[int, int] = PAPER_SIZE_YX,
    pixel_range_mm: tuple[float, float] = PIXEL_RANGE_MM,
    subject: int | None = None,
) -> HeadPhantom:
    """A head in an axial plane drawn from `seed`.

    Args:
        seed: determines the image; not the resolution.
        size_yx: rows and columns. With half of the paper's 540x800 and pixels twice as large the field of view
            is the same; another shape shows more at two sides.
        pixel_range_mm: the smallest and the largest pixel at this size. A head that is too large for the
            largest gets a larger one: all of it is in every image.
        subject: the seed of the fetus, for several images of one head; default: `seed`.

    Raises:
        ValueError: a side of less than 16 pixels, or an invalid range.
    """
    scene, reference = _scene_and_reference(seed, size_yx, pixel_range_mm, subject)
    x_mm, y_mm = _pixel_axes(size_yx, reference.pixel_size_mm)
    shown = scene.sector.scan_convert(_rays(scene, reference.pixel_size_mm), x_mm[None], y_mm[:, None])
    image = np.rint(shown * np.float32(255)).astype(np.uint8)
    _overlays(image, scene.scanner)
    description = {
        "seed": int(seed),
        "subject": int(seed if subject is None else subject),
        "early": scene.head.early,
        "wall_mm": scene.head.wall_mm,
        "half_angle": float(scene.sector.half_angle),
    }
    return HeadPhantom(image, reference.ellipse.mask(size_yx).astype(np.uint8), reference, description)


def head_reference(
    seed: int,
    size_yx: tuple[int, int] = PAPER_SIZE_YX,
    pixel_range_mm: tuple[float, float] = PIXEL_RANGE_MM,
    subject: int | None = None,
) -> HeadReference:
    """The reference of `head_phantom` with the same arguments, without painting it."""
    return _scene_and_reference(seed, size_yx, pixel_range_mm, subject)[1]


def _scene_and_reference(seed: int, size_yx, pixel_range_mm, subject: int | None) -> tuple[_Scene, HeadReference]:
    if len(size_yx) != 2 or min(size_yx) < 16:
        raise ValueError(f"size_yx must be 2 sides of at least 16 pixels: {size_yx}")
    if len(pixel_range_mm) != 2 or not 0 < pixel_range_mm[0] <= pixel_range_mm[1]:
        raise ValueError(f"pixel_range_mm must be 2 positive numbers, the smaller first: {pixel_range_mm}")
    coarser = max(whole / side for whole, side in zip(PAPER_SIZE_YX, size_yx, strict=True))
    paper_range_mm = tuple(float(pixel_mm) / coarser for pixel_mm in pixel_range_mm)
    scene = _draw_scene(seed, seed if subject is None else subject, paper_range_mm)
    return scene, _reference(scene, size_yx, scene.pixel_mm * coarser)


def _reference(scene: _Scene, size_yx, pixel_mm: float) -> HeadReference:
    center = (np.asarray(size_yx[::-1]) - 1) / 2 + scene.center_mm / pixel_mm
    major, minor = (axis / pixel_mm for axis in scene.head.semi_axes_mm)
    ellipse = Ellipse(tuple(center), major, minor, scene.angle)
    return HeadReference(ellipse, ellipse.end_points(), float(pixel_mm), scene.head.circumference_mm)


def _pixel_axes(size_yx, pixel_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """The columns' x and the rows' y, millimetres from the image's middle."""
    rows, columns = size_yx
    return (np.arange(columns) - (columns - 1) / 2) * pixel_mm, (np.arange(rows) - (rows - 1) / 2) * pixel_mm


# ------------------------------------------------------------------------------------------------- what is drawn


def _draw_scene(seed: int, subject: int, pixel_range_mm: tuple[float, float]) -> _Scene:
    fetus = np.random.default_rng(np.random.SeedSequence([subject, 0]))
    view, textures = np.random.SeedSequence([seed, 1]).spawn(2)
    rng = np.random.default_rng(view)
    head = _seen_from(rng, draw_head(fetus))
    angle = rng.normal(0, 0.12) if rng.random() < 0.75 else rng.uniform(-np.pi / 2, np.pi / 2)
    angle = (angle + np.pi / 2) % np.pi - np.pi / 2
    pixel_mm, center_mm = _draw_position(rng, head, angle, pixel_range_mm)
    sector = _draw_sector(rng, head, pixel_mm, center_mm, angle)
    around = _draw_surroundings(rng, head, pixel_mm, center_mm)
    return _Scene(head=head, pixel_mm=pixel_mm, center_mm=center_mm, angle=angle, sector=sector, around=around,
                  scanner=_draw_scanner(rng, head), texture_seed=textures)


def _seen_from(rng: np.random.Generator, head: Head) -> Head:
    """Two planes through one head differ by about one percent."""
    return replace(head, semi_axes_mm=tuple(float(axis * rng.normal(1, 0.01)) for axis in head.semi_axes_mm))


def _draw_position(
    rng: np.random.Generator, head: Head, angle: float, pixel_range_mm: tuple[float, float]
) -> tuple[float, np.ndarray]:
    """The paper-size pixel [mm] and the head's middle [mm], so that all of the head is in the image."""
    target = rng.normal(165, 38) if head.early else rng.normal(240, 34)
    pixel_mm = head.semi_axes_mm[0] / np.clip(target, 97, 325)
    extent = Ellipse((0, 0), *head.semi_axes_mm, angle).contour().max(axis=0)
    free = (0.5 - FRAME_MARGIN) * np.asarray(PAPER_SIZE_YX[::-1])
    pixel_mm = max(float(np.clip(pixel_mm, *pixel_range_mm)), float((extent / free).max()))
    room = np.maximum(free * pixel_mm - extent, 0)
    return pixel_mm, np.clip(rng.normal(0, [45, 34]) * pixel_mm, -room, room)


def _draw_sector(rng: np.random.Generator, head: Head, pixel_mm: float, center_mm, angle: float) -> Sector:
    """A field of view that excludes at most a twentieth of the skull; if none does, the widest of those tried."""
    x, y = Ellipse(tuple(center_mm), *head.semi_axes_mm, angle).contour(180).T
    best, most = None, -1.0
    for _ in range(60):
        sector = _any_sector(rng, pixel_mm)
        seen = sector.holds(x, y).mean()
        if seen > most:
            best, most = sector, seen
        if seen >= 0.95:
            break
    return best


def _any_sector(rng: np.random.Generator, pixel_mm: float) -> Sector:
    rows, columns = (side * pixel_mm for side in PAPER_SIZE_YX)
    half_angle = np.deg2rad(rng.uniform(13, 37))
    apex = -rows / 2 - rng.uniform(0.24, 0.5) * columns / np.tan(half_angle)
    top, bottom = -rows / 2 + rng.uniform(-0.15, 0.09) * rows, rows / 2 + rng.uniform(-0.07, 0.2) * rows
    apex_x = rng.normal(0, 0.02) * columns
    return Sector((apex_x, apex), (top - apex, bottom - apex), half_angle, SAMPLES, RAYS)


def _draw_surroundings(rng: np.random.Generator, head: Head, pixel_mm: float, center_mm) -> _Surroundings:
    rows = PAPER_SIZE_YX[0] * pixel_mm
    minor = head.semi_axes_mm[1]
    gap = minor * (rng.uniform([0.2, 0.1], [1.3, 0.9]) if head.early else rng.uniform([-0.05, -0.1], [0.45, 0.18]))
    radii = np.asarray(head.semi_axes_mm) + gap
    top = max(center_mm[1] - minor, -rows / 2 + 0.05 * rows)
    bands = tuple(
        (rng.uniform(-rows / 2, top), rng.normal(0, 0.12), rng.uniform(0.4, 1.3), rng.uniform(-38, -22))
        for _ in range(rng.integers(1, 5))
    )
    limbs = []
    for _ in range(rng.choice([0, 0, 1, 2, 3])):
        away = rng.uniform(-np.pi, np.pi)
        place = center_mm + (radii + rng.uniform(0.05, 0.4) * minor) * [np.cos(away), np.sin(away)]
        end = place + rng.normal(0, 0.25 * minor, 2)
        limbs.append((place, end, rng.uniform(0.06, 0.2) * minor, rng.uniform(-36, -24)))
    return _Surroundings(
        tissue_db=rng.uniform(-54, -40),
        cavity_center_mm=center_mm + rng.normal(0, 0.5, 2) * np.abs(gap),
        cavity_radii_mm=radii,
        cavity_angle=rng.normal(0, 0.35),
        uneven_mm=rng.uniform(0.03, 0.1) * minor,
        wall_db=rng.uniform(-48, -28),
        bands=bands,
        limbs=tuple(limbs),
    )


def _draw_scanner(rng: np.random.Generator, head: Head) -> _Scanner:
    """Finer pulses for early heads, as a higher frequency is chosen there; poor contact at some rays."""
    axial = rng.uniform(0.2, 0.32) if head.early else rng.uniform(0.24, 0.4)
    range_db = rng.uniform(56, 66)
    contact = [(rng.uniform(-1, 1), rng.uniform(0.05, 0.3), rng.uniform(-14, -4)) for _ in range(rng.choice([0, 0, 1]))]
    contact += [(side, rng.uniform(0.15, 0.5), rng.uniform(-26, 0)) for side in (-1.0, 1.0)]
    boxes = [(rng.uniform(0.72, 0.79), rng.uniform(0.76, 0.84), 0.975, rng.uniform(0.95, 0.98))] * (rng.random() < 0.8)
    boxes += [(rng.uniform(0.85, 0.9), -0.01, 1.0, rng.uniform(0.12, 0.2))] * (rng.random() < 0.2)
    return _Scanner(
        range_db=range_db,
        pulse_mm=(axial, axial * rng.uniform(2.0, 2.8)),
        looks=int(rng.integers(3, 7)),
        noise_db=-range_db + rng.uniform(-7, 5),
        depth_db=rng.normal(0, [2.5, 2.0]),
        contact_db=tuple(contact),
        boxes=tuple(boxes),
        bar=bool(rng.random() < 0.9),
    )


# ---------------------------------------------------------------------------------------- painting along the rays


class _Canvas(NamedTuple):
    """The rays' points in millimetres of the image (x, y) and of the head (u, v), and random fields there."""

    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    broad: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray
    streaks: np.ndarray
    step_mm: float


def _rays(scene: _Scene, pixel_mm: float) -> np.ndarray:
    """Brightness 0 to 1 along the rays, float32 [SAMPLES, RAYS]; details finer than a pixel are blurred."""
    sector, scanner = scene.sector, scene.scanner
    textures, noise = (np.random.default_rng(part) for part in scene.texture_seed.spawn(2))
    canvas = _canvas(scene, textures)
    scatter, loss_db = _surroundings(scene, canvas)
    loss_db += _head(scene, canvas, scatter)
    scatter *= transmission(loss_db * np.float32(sector.step_mm)) * amplitude(_gain_db(scene))
    radius, _ = sector.axes()
    axial, lateral = scanner.pulse_mm
    cell = (axial / sector.step_mm, lateral / (float(radius.mean()) * sector.pitch))
    envelope = speckle(noise, np.hypot(scatter, amplitude(scanner.noise_db)), cell, scanner.looks)
    shown = log_compress(envelope, scanner.range_db)
    blur = 0.35 * pixel_mm
    return ndimage.gaussian_filter(shown, (blur / sector.step_mm, blur / (float(radius.mean()) * sector.pitch)))


def _canvas(scene: _Scene, rng: np.random.Generator) -> _Canvas:
    x, y = scene.sector.points()
    cosine, sine = np.float32(np.cos(scene.angle)), np.float32(np.sin(scene.angle))
    dx, dy = x - np.float32(scene.center_mm[0]), y - np.float32(scene.center_mm[1])
    radius, angle = scene.sector.axes()
    axes = (np.zeros(1, np.float32), radius, angle * radius.mean())  # the single plane first: far less to multiply
    long_mm = scene.head.semi_axes_mm[0]
    broad, coarse, fine, streaks = (
        draw_field(rng, np.asarray((1, *scale)) * long_mm, cells=40).sample(axes)[0]
        for scale in ((0.6, 0.6), (0.2, 0.26), (0.05, 0.07), (0.025, 0.14))
    )
    return _Canvas(x=x, y=y, u=cosine * dx + sine * dy, v=cosine * dy - sine * dx, broad=broad, coarse=coarse,
                   fine=fine, streaks=streaks, step_mm=scene.sector.step_mm)


def _cover(scatter: np.ndarray, part: np.ndarray, level_db) -> None:
    """Blends in a body that fills `part` (0 to 1) of each point."""
    scatter += part * (amplitude(level_db) - scatter)


def _ellipse(x: np.ndarray, y: np.ndarray, center, radii, angle: float) -> np.ndarray:
    """The distance from an ellipse whose first radius has the direction `angle`; millimetres, to first order."""
    cosine, sine = np.cos(angle), np.sin(angle)
    axes = ((cosine, sine, 0), (-sine, cosine, 0), (0, 0, 1))
    return ellipsoid((x, y, ZERO), (*center, 0), (*radii, 1), axes)


def _surroundings(scene: _Scene, canvas: _Canvas) -> tuple[np.ndarray, np.ndarray]:
    """The surroundings of the head: amplitudes, and the loss in dB per millimetre."""
    around, step = scene.around, canvas.step_mm
    level_db = np.float32(around.tissue_db) + np.float32(3.5) * canvas.coarse + np.float32(5) * canvas.broad
    scatter = amplitude(level_db + np.float32(2) * canvas.fine + np.float32(3) * canvas.streaks)
    loss_db = np.full(scatter.shape, np.float32(0))
    for depth, slope, width, band_db in around.bands:
        distance = np.abs(canvas.y - np.float32(slope) * canvas.x - np.float32(depth) - np.float32(1.5) * canvas.coarse)
        _cover(scatter, coverage(distance - np.float32(width), 1.5), band_db + np.float32(4) * canvas.streaks)
    cavity = _ellipse(canvas.x, canvas.y, around.cavity_center_mm, around.cavity_radii_mm, around.cavity_angle)
    cavity += np.float32(around.uneven_mm) * (canvas.coarse + canvas.broad)
    facing = np.abs(canvas.y - np.float32(around.cavity_center_mm[1])) / np.float32(around.cavity_radii_mm[1])
    wall = coverage(np.abs(cavity) - np.float32(0.5), 1.0)
    _cover(scatter, wall * np.clip(facing, 0, 1) ** 3, around.wall_db + np.float32(6) * (canvas.coarse + canvas.broad))
    _cover(scatter, coverage(cavity, 2.0), FLUID_DB + np.float32(2) * canvas.coarse)
    for start, end, radius, limb_db in around.limbs:
        distance = capsule((canvas.x, canvas.y, ZERO), (*start, 0), (*end, 0), (radius, 0.7 * radius))
        _cover(scatter, coverage(distance, 1.0), around.tissue_db + np.float32(3) * canvas.fine)
        bone = coverage(distance + np.float32(0.6 * radius), max(step, 0.5))
        _cover(scatter, bone, limb_db + np.float32(4) * canvas.streaks)
        loss_db += np.float32(2.0) * bone
    return scatter, loss_db


def _head(scene: _Scene, canvas: _Canvas, scatter: np.ndarray) -> np.ndarray:
    """Paints brain and skull over `scatter`; returns the bone's loss in dB per millimetre."""
    head, step = scene.head, canvas.step_mm
    turn = np.arctan2(canvas.v * np.float32(head.semi_axes_mm[0]), canvas.u * np.float32(head.semi_axes_mm[1]))
    outside = _ellipse(canvas.u, canvas.v, (0, 0), head.semi_axes_mm, 0.0)
    for order, phase, part in head.ripple:
        outside += np.float32(part * head.semi_axes_mm[1]) * np.cos(np.float32(order) * turn + np.float32(phase))
    brain = _brain(scene, canvas, outside)
    inside = coverage(outside, step)
    scatter += inside * (brain - scatter)
    level_db = np.float32(head.skull_db) + np.float32(3.5) * canvas.coarse + np.float32(2) * canvas.broad
    level_db += np.float32(2) * canvas.fine
    for angle, half_width, gap_db in head.gaps:
        offset = np.abs((turn - np.float32(angle) + np.float32(np.pi)) % np.float32(2 * np.pi) - np.float32(np.pi))
        level_db += np.float32(gap_db) * coverage(offset - np.float32(half_width), 0.6 * half_width)
    thickness = np.float32(0.5 * head.wall_mm) * (np.float32(1) + np.float32(0.3) * np.tanh(canvas.coarse))
    from_middle = (outside / thickness + np.float32(1)) ** 2
    level_db += specular_db(_facing(scene, canvas), head.grazing_db) - np.float32(EDGE_DB) * from_middle
    np.maximum(scatter, amplitude(level_db), out=scatter, where=from_middle < 6)
    return (inside - coverage(outside + np.float32(head.wall_mm), step)) * np.float32(head.loss_db_mm)


def _facing(scene: _Scene, canvas: _Canvas) -> np.ndarray:
    """The cosine between the rays and the normals of the ellipses around the head's middle."""
    major, minor = scene.head.semi_axes_mm
    normal_u, normal_v = canvas.u / np.float32(major**2), canvas.v / np.float32(minor**2)
    x, y = scene.sector.directions()
    cosine, sine = np.float32(np.cos(scene.angle)), np.float32(np.sin(scene.angle))
    length = np.maximum(np.hypot(normal_u, normal_v), np.float32(1e-9))
    return ((cosine * x + sine * y) * normal_u + (cosine * y - sine * x) * normal_v) / length


def _brain(scene: _Scene, canvas: _Canvas, outside: np.ndarray) -> np.ndarray:
    """Amplitudes of the inside of the skull."""
    head = scene.head
    depth = (canvas.y - np.float32(scene.center_mm[1])) / np.float32(head.semi_axes_mm[1])
    haze = np.float32(head.haze_db) * np.clip(np.float32(0.25) - np.float32(0.75) * depth, 0, 1)
    texture_db = np.float32(2.2) * canvas.fine + np.float32(1.8) * canvas.streaks + np.float32(1.5) * canvas.coarse
    scatter = amplitude(np.float32(head.brain_db) + haze + texture_db)
    size = head.semi_axes_mm[1]
    for part in head.parts:
        distance = _ellipse(canvas.u, canvas.v, part.center_mm, part.radii_mm, part.angle)
        distance += np.float32(0.035 * size) * canvas.fine + np.float32(0.02 * size) * canvas.coarse
        _cover(scatter, coverage(distance, 0.12 * size), part.level_db + haze + texture_db)
    for line in head.lines:
        _stroke(scatter, scene, canvas, line)
    edge = coverage(outside + np.float32(head.wall_mm + 0.04 * size), 0.06 * size)
    return scatter * (np.float32(0.5) + np.float32(0.5) * edge)


def _stroke(scatter: np.ndarray, scene: _Scene, canvas: _Canvas, line: Line) -> None:
    """A thin surface, weaker where the sound does not meet it at right angles."""
    u, v = (end - start for start, end in zip(line.start_mm, line.end_mm, strict=True))
    tangent = np.arctan2(v, u) + scene.angle
    x, y = scene.sector.directions()
    cosine = np.float32(-np.sin(tangent)) * x + np.float32(np.cos(tangent)) * y
    bent = canvas.v + np.float32(0.02 * scene.head.semi_axes_mm[1]) * canvas.coarse
    distance = capsule((canvas.u, bent, ZERO), (*line.start_mm, 0), (*line.end_mm, 0), (line.width_mm,) * 2)
    level_db = line.level_db + specular_db(cosine, -14) + np.float32(4) * canvas.fine
    _cover(scatter, coverage(distance, max(canvas.step_mm, line.width_mm)), level_db)


def _gain_db(scene: _Scene) -> np.ndarray:
    """Over- and undercompensated depth, and rays whose part of the probe has poor contact: dB [SAMPLES, RAYS]."""
    scanner = scene.scanner
    depth = np.linspace(-1, 1, SAMPLES, dtype=np.float32)[:, None]
    ray = np.linspace(-1, 1, RAYS, dtype=np.float32)[None]
    gain_db = np.float32(scanner.depth_db[0]) * depth + np.float32(scanner.depth_db[1]) * depth**2
    for place, width, loss_db in scanner.contact_db:
        gain_db = gain_db + np.float32(loss_db) * np.exp(-(((ray - np.float32(place)) / np.float32(width)) ** 2))
    return gain_db


def _overlays(image: np.ndarray, scanner: _Scanner) -> None:
    """The scanner's grey bar at the left, and the black boxes that hide names and dates."""
    rows, columns = image.shape
    for left, top, right, bottom in scanner.boxes:
        image[max(0, int(top * rows)) : int(bottom * rows), int(left * columns) : int(right * columns)] = 0
    if scanner.bar:
        first, last = int(0.037 * rows), int(0.287 * rows)
        column = np.linspace(255, 0, last - first).astype(np.uint8)
        image[first:last, int(0.003 * columns) : int(0.0125 * columns)] = column[:, None]
