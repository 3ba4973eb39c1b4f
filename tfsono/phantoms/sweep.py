"""A swept probe: the image of a volume of tissue in a mechanical 3D ultrasound transducer.

The physics is computed as in a scanner, on the grid of its beams [samples, lines, frames], and is scan converted into
the volume at the end. A frame is a plane sector (`ultrasound.Sector`) that looks along +y with x to the right; the
frames are rotated about an axis parallel to x, so that they fan out along z.

Lengths are millimetres in the volume's own frame: its origin is the first voxel's centre, a voxel's centre is at
index * spacing. Amplitudes are relative: 1 (0 dB) is white.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from tfsono.phantoms.ultrasound import (
    Sector,
    amplitude,
    blur_by_depth,
    echo_of_surfaces,
    log_compress,
    pulse,
    specular_db,
    transmission,
)

# Standard deviations of the pulse's Gaussian amplitude in its focus: along the beam, across it, across the frames.
PULSE_MM = (0.3, 0.7, 1.1)
SILENT_DB = -90.0
# The echo of a surface that the sound grazes; 45 degrees from the normal half as many decibels.
GRAZING_DB = -30.0
# The volume's axes (x, y, z) along which the pulse's axes (axial, lateral, elevational) are in the middle.
AXES = (1, 0, 2)
POINTS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Tissue:
    """Tissue as arrays [X, Y, Z] on the volume's own grid, float32.

    Attributes:
        scatter_db: diffuse echogenicity in dB below white (0 is white); `SILENT_DB` and below, -inf too, is free of
            echoes (fluid).
        surface: reflectivity 0 to 1 of smooth interfaces, peaked at the interface and a voxel or more wide; 0
            elsewhere. An interface of 1 met at right angles, without loss on the way, is white; a small or curved
            one is dimmer, as only part of the beam meets it at right angles at one time, and may have more than 1.
            The echo of rough bone at any angle is diffuse: a shell of about a millimetre in `scatter_db`.
        loss_db_mm: loss of an echo there and back, dB per millimetre, beyond what time gain compensates:
            bone 10 to 20, soft tissue 0 to 0.3. Tissue behind it is in its shadow.
        normal: [X, Y, Z, 3] unit normals where `surface` is above 0, float16 or float32; or None.
        body: where `normal` is None, anything whose gradient is normal to the interfaces near them, such as a signed
            distance in millimetres. Needed where there is a surface.
    """

    scatter_db: np.ndarray
    surface: np.ndarray
    loss_db_mm: np.ndarray
    normal: np.ndarray | None = None
    body: np.ndarray | None = None


@dataclass(frozen=True)
class Sweep:
    """The probe and its field of view.

    Attributes:
        position_mm: the middle (x, y, z) of the probe's face.
        depth_mm: distances from the face, measured along a beam, at which the image begins and ends.
        half_angles: radians between the middle and the outer lines of a frame, and the outer frames.
        bend_mm: the radii of the face's curvature, within a frame and across frames: 0 for a phased array.
        samples, lines, frames: points along a beam, beams of a frame, frames; ends included.
        focus_mm: the distance from the face where the beams are narrowest.
        focal_mm: how far from the focus, lateral and elevational, they are sqrt(2) times as wide.
        gain_db: the sliders of time gain, near to far, spread evenly over the depth; the loss in
            average tissue is compensated without them.
        noise_db: the receiver's noise at the far end, dB below white.
        noise_db_mm: how much weaker the noise is closer to the probe, as time gain amplifies it with depth.
        clutter_db: haze that side lobes and reverberation spread around echoes, dB below their mean power.
        clutter_mm: how far it spreads: backwards along the beam, and in total across it, in the middle of the depth.
    """

    position_mm: tuple[float, float, float]
    depth_mm: tuple[float, float]
    half_angles: tuple[float, float]
    bend_mm: tuple[float, float]
    samples: int
    lines: int
    frames: int
    focus_mm: float
    focal_mm: tuple[float, float] = (45.0, 35.0)
    gain_db: tuple[float, ...] = (0.0,)
    noise_db: float = -50.0
    noise_db_mm: float = 0.2
    clutter_db: float = -23.0
    clutter_mm: tuple[float, float] = (6.0, 14.0)

    def __post_init__(self):
        if min(self.shape) < 2:
            raise ValueError(f"samples, lines, frames: must be 2 and more, found {self.shape}")
        if not 0 <= self.depth_mm[0] < self.depth_mm[1]:
            raise ValueError(f"depth_mm: must be 0 and more, the lower first, found {self.depth_mm}")
        if not all(0 < half < np.pi / 2 for half in self.half_angles):
            raise ValueError(f"half_angles: must be above 0 and below pi / 2, found {self.half_angles}")
        if min(self.bend_mm) < 0:
            raise ValueError(f"bend_mm: must be 0 and more, found {self.bend_mm}")

    @classmethod
    def over(cls, size: Sequence[int], spacing_mm: Sequence[float]) -> Sweep:
        """A sweep that covers most of a volume: the face above the middle of the low y end, looking along +y.

        Its grid is about as fine as the voxels or the pulse (`PULSE_MM`), whichever is coarser. Use
        `dataclasses.replace` to move it or to change its angles, gains and noise.
        """
        width, depth, height = (count * step for count, step in zip(size, spacing_mm, strict=True))
        bend = (0.3 * depth, 0.28 * depth)
        sides = zip((width, height), bend, strict=True)
        angles = tuple(float(np.arctan2(0.5 * side, part + 0.4 * depth)) for side, part in sides)
        arcs = [2 * angle * (part + 0.5 * depth) for angle, part in zip(angles, bend, strict=True)]
        finest = [0.7 * value for value in PULSE_MM]
        steps = np.maximum(finest, np.asarray(spacing_mm)[[1, 0, 2]] * [0.5, 1, 1])
        samples, lines, frames = np.ceil((depth, *arcs) / steps).astype(int).tolist()
        position = (0.5 * (width - spacing_mm[0]), -0.5 * spacing_mm[1], 0.5 * (height - spacing_mm[2]))
        return cls(position_mm=position, depth_mm=(0.0, depth), half_angles=angles, bend_mm=bend, samples=samples + 1,
                   lines=lines + 1, frames=frames + 1, focus_mm=0.5 * depth)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The beams' grid: samples, lines, frames."""
        return self.samples, self.lines, self.frames

    @property
    def frame(self) -> Sector:
        """The plane of one frame: x from the middle, y from the middle of the face along the middle line."""
        radii = (self.bend_mm[0] + self.depth_mm[0], self.bend_mm[0] + self.depth_mm[1])
        return Sector((0.0, -self.bend_mm[0]), radii, self.half_angles[0], self.samples, self.lines)

    @property
    def turns(self) -> np.ndarray:
        """The angles of the frames, radians, float32 [frames]."""
        return np.linspace(-self.half_angles[1], self.half_angles[1], self.frames, dtype=np.float32)

    @property
    def depths(self) -> np.ndarray:
        """The distances of the samples from the face, millimetres, float32 [samples]."""
        return np.linspace(*self.depth_mm, self.samples, dtype=np.float32)

    def points(self, samples: slice = slice(None)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates (x, y, z) in millimetres of the beams' grid, of some samples; shapes that broadcast."""
        x, down = (axis[samples, :, None] for axis in self.frame.points())
        from_axis = down + np.float32(self.bend_mm[1])
        y = from_axis * np.cos(self.turns) + np.float32(self.position_mm[1] - self.bend_mm[1])
        return x + np.float32(self.position_mm[0]), y, from_axis * np.sin(self.turns) + np.float32(self.position_mm[2])

    def places(self, x_mm, y_mm, z_mm) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fractional indices (sample, line, frame) of points in millimetres; beyond the grid outside the view."""
        below = np.asarray(y_mm) - np.float32(self.position_mm[1] - self.bend_mm[1])
        aside = np.asarray(z_mm) - np.float32(self.position_mm[2])
        down = np.hypot(below, aside) - np.float32(self.bend_mm[1])
        sample, line = self.frame.places(np.asarray(x_mm) - np.float32(self.position_mm[0]), down)
        pitch = 2 * self.half_angles[1] / (self.frames - 1)
        return sample, line, (np.arctan2(aside, below) + self.half_angles[1]) / pitch

    def holds(self, points_mm: np.ndarray) -> np.ndarray:
        """Whether points [..., 3] in millimetres are in the field of view; bool [...]."""
        return self.reaches(self.places(*np.moveaxis(np.asarray(points_mm, np.float32), -1, 0)))

    def directions(self, points_mm: np.ndarray) -> np.ndarray:
        """The unit vectors [..., 3] in which the sound travels at points [..., 3] in millimetres."""
        x, y, z = np.moveaxis(np.asarray(points_mm, np.float32) - np.float32(self.position_mm), -1, 0)
        below = y + np.float32(self.bend_mm[1])
        down = np.hypot(below, z)
        line = np.arctan2(x, down + np.float32(self.bend_mm[0] - self.bend_mm[1]))
        turn = np.arctan2(z, below)
        return np.stack([np.sin(line), np.cos(line) * np.cos(turn), np.cos(line) * np.sin(turn)], axis=-1)

    def pulse_steps(self, psf_mm: Sequence[float]) -> tuple[float, np.ndarray, np.ndarray]:
        """The pulse's standard deviations in steps of the grid: axial, and by depth lateral and elevational.

        Across the beam the width is that of a Gaussian beam: w sqrt(1 + ((r - focus) / focal)^2) at the depth r. The
        elevational one holds on the middle line; as the frames fan out, it is a little wider there than at the sides.
        """
        depths = self.depths
        widths = [
            width * np.sqrt(1 + np.square((depths - self.focus_mm) / focal))
            for width, focal in zip(psf_mm[1:], self.focal_mm, strict=True)
        ]
        return psf_mm[0] / self.frame.step_mm, *self.across(widths)

    def across(self, widths_mm: Sequence) -> list[np.ndarray]:
        """Two widths in millimetres across the beams, numbers or by depth, in lines and in frames; each [samples]."""
        steps = []
        for width, half, count, bend in zip(widths_mm, self.half_angles, self.shape[1:], self.bend_mm, strict=True):
            arcs = 2 * half / (count - 1) * (bend + self.depths)
            steps.append(width / np.maximum(arcs, 0.02 * width))  # beams meet at a straight face
        return steps

    def reaches(self, places) -> np.ndarray:
        """Whether fractional indices (sample, line, frame) are on the grid, its border included."""
        inside = [(place >= 0) & (place <= count - 1) for place, count in zip(places, self.shape, strict=True)]
        return inside[0] & inside[1] & inside[2]


def ultrasound_volume(
    rng: np.random.Generator,
    tissue: Tissue,
    sweep: Sweep,
    spacing_mm: Sequence[float],
    range_db: float = 55.0,
    psf_mm: Sequence[float] = PULSE_MM,
    looks: int = 1,
) -> np.ndarray:
    """The probe's image of the tissue, uint8 [X, Y, Z]; 0 outside the field of view.

    Args:
        range_db: the range of amplitudes that is shown, from black to white; 50 to 60 dB is usual.
        psf_mm: the pulse's standard deviations (axial, lateral, elevational) in the focus.
        looks: images whose intensities are averaged (spatial compounding): smoother speckle.

    Raises:
        ValueError: the arrays of `tissue` do not match, or a surface has neither normals nor a body.
    """
    shown = log_compress(envelope(rng, tissue, sweep=sweep, spacing_mm=spacing_mm, psf_mm=psf_mm,
                                  looks=looks), range_db)
    _smooth_for_voxels(shown, sweep, spacing_mm, psf_mm)
    return _scan_convert(shown, sweep, tissue.scatter_db.shape, spacing_mm)


def envelope(
    rng: np.random.Generator,
    tissue: Tissue,
    sweep: Sweep,
    spacing_mm: Sequence[float],
    psf_mm: Sequence[float] = PULSE_MM,
    looks: int = 1,
) -> np.ndarray:
    """The received echoes before compression: amplitudes float32 [samples, lines, frames].

    The tissue scatters with a complex Gaussian amplitude at each point of the grid (fully developed speckle, Goodman
    1976), interfaces add an echo of fixed phase, bone dims what is behind it, and the pulse blurs all.
    """
    _check(tissue)
    scatter, mirrors, passed = _along_beams(tissue, sweep, spacing_mm)
    scatter *= passed
    mirrors *= passed
    del passed
    _add_clutter(scatter, mirrors, sweep)
    axial, lateral, elevational = sweep.pulse_steps(psf_mm)
    mirrors = echo_of_surfaces(mirrors, axial)
    blur_by_depth(mirrors, lateral, 1, order=1)
    blur_by_depth(mirrors, elevational, 2, order=1)
    noise = amplitude(sweep.noise_db - sweep.noise_db_mm * (sweep.depth_mm[1] - sweep.depths))[:, None, None]
    power = np.zeros(sweep.shape, np.float32)
    for part in range(2 * looks):  # the real and the imaginary part of each look
        echo = rng.standard_normal(sweep.shape, dtype=np.float32)
        echo *= scatter
        blur_by_depth(echo, lateral, 1)
        blur_by_depth(echo, elevational, 2)
        echo += rng.standard_normal(sweep.shape, dtype=np.float32) * noise
        echo = _along(echo, pulse(axial))
        if part % 2 == 0:  # the power is halved below, also that of a single part
            echo += np.float32(np.sqrt(2)) * mirrors
        power += np.square(echo, out=echo)
    power *= np.float32(1 / (2 * looks))
    gain_db = np.interp(np.linspace(0, 1, sweep.samples), np.linspace(0, 1, len(sweep.gain_db)), sweep.gain_db)
    return np.sqrt(power, out=power) * amplitude(gain_db)[:, None, None]


def _check(tissue: Tissue) -> None:
    shape = tissue.scatter_db.shape
    if len(shape) != 3:
        raise ValueError(f"scatter_db: must be [X, Y, Z], found the shape {shape}")
    for name in ("surface", "loss_db_mm", "body", "normal"):
        values = getattr(tissue, name)
        expected = (*shape, 3) if name == "normal" else shape
        if values is not None and values.shape != expected:
            raise ValueError(f"{name}: must have the shape {expected}, found {values.shape}")
    if tissue.normal is None and tissue.body is None and (tissue.surface > 0).any():
        raise ValueError("surface: needs its normals, in `normal` or from the gradient of `body`")


def _along(field: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlates along axis 0; the ends, where the kernel is cut off, are as bright as the middle."""
    if kernel.size == 1:
        return field
    kept = np.sqrt(ndimage.correlate1d(np.ones(len(field), np.float32), kernel**2, mode="constant"))
    field = ndimage.correlate1d(field, kernel, axis=0, mode="constant")
    field /= kept[:, None, None]
    return field


def _along_beams(tissue: Tissue, sweep: Sweep, spacing_mm) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """On the beams' grid: the amplitudes of scattering and of the interfaces, and the remaining part of both.

    Beyond the volume its outer tissue continues, without interfaces and loss.
    """
    scatter = amplitude(tissue.scatter_db)
    scatter[tissue.scatter_db <= SILENT_DB] = 0
    sources = ((scatter, "nearest"), (_mirrors(tissue, sweep, spacing_mm), "constant"), (tissue.loss_db_mm, "constant"))
    found = [np.zeros(sweep.shape, np.float32) for _ in sources]
    each = max(1, POINTS_AT_ONCE // (sweep.lines * sweep.frames))
    for first in range(0, sweep.samples, each):
        part = slice(first, min(first + each, sweep.samples))
        points = np.broadcast_arrays(*sweep.points(part))
        indices = np.stack([axis * np.float32(1 / step) for axis, step in zip(points, spacing_mm, strict=True)])
        for (values, beyond), into in zip(sources, found, strict=True):
            if values.any():
                ndimage.map_coordinates(values, indices, into[part], order=1, mode=beyond)
    found[2] *= np.float32(sweep.frame.step_mm)
    return found[0], found[1], transmission(found[2])


def _add_clutter(scatter: np.ndarray, mirrors: np.ndarray, sweep: Sweep) -> None:
    """Adds to `scatter`, in place, the haze of side lobes and of reverberation."""
    part = amplitude(sweep.clutter_db) ** 2
    if part == 0:
        return
    power = np.square(scatter)
    power += np.square(mirrors)
    back, beside = sweep.clutter_mm
    sizes = [np.median(steps) for steps in sweep.across((beside, beside))]
    for axis, size in enumerate((back / sweep.frame.step_mm, *sizes)):
        size = max(1, int(round(size)))
        origin = (size - 1) // 2 if axis == 0 else 0  # the window ends at the sample, as reverberation is late
        ndimage.uniform_filter1d(power, size, axis=axis, output=power, mode="nearest", origin=origin)
    np.maximum(power, 0, out=power)  # running sums round to just below
    power *= np.float32(part)
    power += np.square(scatter)
    np.sqrt(power, out=scatter)


def _mirrors(tissue: Tissue, sweep: Sweep, spacing_mm) -> np.ndarray:
    """The echo of each voxel's interface, by the angle at which the sound meets it; [X, Y, Z]."""
    result = np.zeros(tissue.surface.shape, np.float32)
    places = np.nonzero(tissue.surface > 0)
    if not places[0].size:
        return result
    if tissue.normal is None:
        normal = _gradient(tissue.body, places, spacing_mm)
    else:
        normal = tissue.normal[places].astype(np.float32)
    points = np.stack([place * np.float32(step) for place, step in zip(places, spacing_mm, strict=True)], axis=-1)
    cosine = np.sum(normal * sweep.directions(points), axis=-1)
    result[places] = tissue.surface[places] * amplitude(specular_db(np.clip(cosine, -1, 1), GRAZING_DB))
    return result


def _gradient(body: np.ndarray, places, spacing_mm) -> np.ndarray:
    """Unit gradients [N, 3] of `body` at some voxels; zeros where it is flat."""
    parts = []
    for axis, step in enumerate(spacing_mm):
        ends = []
        for side in (-1, 1):
            index = list(places)
            index[axis] = np.clip(places[axis] + side, 0, body.shape[axis] - 1)
            ends.append((body[tuple(index)], index[axis]))
        across = np.maximum(ends[1][1] - ends[0][1], 1) * np.float32(step)
        parts.append((ends[1][0] - ends[0][0]) / across)
    gradient = np.stack(parts, axis=-1)
    return gradient / np.maximum(np.linalg.norm(gradient, axis=-1, keepdims=True), np.float32(1e-9))


def _smooth_for_voxels(shown: np.ndarray, sweep: Sweep, spacing_mm, psf_mm) -> None:
    """Averages, in place, details finer than the voxels: a Gaussian that with the pulse is half a voxel wide."""
    axial, *across = (
        np.sqrt(max(0.0, (0.5 * spacing_mm[axis]) ** 2 - width**2)) for axis, width in zip(AXES, psf_mm, strict=True)
    )
    if axial > 0:
        ndimage.gaussian_filter1d(shown, axial / sweep.frame.step_mm, axis=0, output=shown, mode="nearest")
    for axis, sigmas in enumerate(sweep.across(np.maximum(across, 1e-6)), 1):
        blur_by_depth(shown, sigmas, axis, order=1)


def _scan_convert(shown: np.ndarray, sweep: Sweep, shape, spacing_mm) -> np.ndarray:
    """Brightness 0 to 1 on the beams' grid as a volume of grey values, uint8 [X, Y, Z]; linear, 0 outside."""
    result = np.zeros(shape, np.uint8)
    x, y, z = _centres(shape, spacing_mm)
    each = max(1, POINTS_AT_ONCE // (x.size * y.size))
    for first in range(0, z.size, each):
        part = slice(first, first + each)
        places = sweep.places(x[:, None, None], y[:, None], z[part])
        inside = sweep.reaches(places)
        indices = np.stack([place[inside] for place in np.broadcast_arrays(*places)])
        bright = ndimage.map_coordinates(shown, indices, np.float32, order=1, mode="nearest")
        grey = np.zeros(inside.shape, np.uint8)
        grey[inside] = np.rint(bright * np.float32(255))
        result[:, :, part] = grey
    return result


def _centres(size, spacing_mm) -> list[np.ndarray]:
    """The voxel centres' coordinates in millimetres along each axis."""
    return [np.arange(count, dtype=np.float32) * np.float32(step) for count, step in zip(size, spacing_mm, strict=True)]
