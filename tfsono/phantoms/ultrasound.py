"""From tissue to an ultrasound image: rays, shadow, speckle, logarithmic compression.

Arrays are of any rank, [X, Y] as well as [X, Y, Z]; `axis` is the one along which the sound travels. On the
grid of the beams, [samples, rays] of a `Sector` or [samples, lines, frames] of a sweep (`phantoms/sweep.py`), the
depth comes first. Amplitudes are relative: 1 (0 dB) is white in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SMALLEST_AMPLITUDE = 1e-6


def amplitude(decibels) -> np.ndarray:
    """10^(dB / 20), float32."""
    return np.power(np.float32(10), np.asarray(decibels, np.float32) / np.float32(20))


@dataclass(frozen=True)
class Sector:
    """The field of view of a curved array: rays from one apex, in millimetres, x to the right, y down.

    Attributes:
        apex_mm: (x, y) where the rays would meet, above the probe.
        radii_mm: distances from the apex at which the rays begin (the probe's face) and end.
        half_angle: radians between the middle, which points down, and the outer rays.
        samples: points along a ray, both ends included.
        rays: their number, from left to right, both borders included.
    """

    apex_mm: tuple[float, float]
    radii_mm: tuple[float, float]
    half_angle: float
    samples: int
    rays: int

    @property
    def step_mm(self) -> float:
        """The distance of two samples of one ray."""
        return (self.radii_mm[1] - self.radii_mm[0]) / (self.samples - 1)

    @property
    def pitch(self) -> float:
        """The angle between two rays, radians."""
        return 2 * self.half_angle / (self.rays - 1)

    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances from the apex [samples] in millimetres, and angles of the rays [rays] in radians."""
        radius = np.linspace(*self.radii_mm, self.samples, dtype=np.float32)
        return radius, np.linspace(-self.half_angle, self.half_angle, self.rays, dtype=np.float32)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates x and y in millimetres of the sector's own grid, each [samples, rays]."""
        radius, angle = self.axes()
        x = np.float32(self.apex_mm[0]) + radius[:, None] * np.sin(angle)
        return x, np.float32(self.apex_mm[1]) + radius[:, None] * np.cos(angle)

    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """The unit vectors (x, y) in which the rays travel, each [1, rays]."""
        angle = self.axes()[1][None]
        return np.sin(angle), np.cos(angle)

    def places(self, x_mm, y_mm) -> tuple[np.ndarray, np.ndarray]:
        """Fractional indices (sample, ray) of points in millimetres; outside the sector beyond its ends."""
        x, y = np.asarray(x_mm) - self.apex_mm[0], np.asarray(y_mm) - self.apex_mm[1]
        sample = (np.hypot(x, y) - self.radii_mm[0]) / self.step_mm
        return sample, (np.arctan2(x, y) + self.half_angle) / self.pitch

    def holds(self, x_mm, y_mm) -> np.ndarray:
        """Whether points in millimetres lie in the field of view, its border included."""
        sample, ray = self.places(x_mm, y_mm)
        return (sample >= 0) & (sample <= self.samples - 1) & (ray >= 0) & (ray <= self.rays - 1)

    def scan_convert(self, rays: np.ndarray, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray:
        """Samples along the rays at the points of an image; linear, 0 outside the field of view.

        Args:
            rays: [samples, rays], or [samples, rays, Z] for Z planes side by side.
            x_mm, y_mm: the points, arrays of one shape, or of shapes that broadcast to one.

        Returns:
            float32, the points' shape, with Z behind it where `rays` has it.
        """
        if rays.shape[:2] != (self.samples, self.rays):
            raise ValueError(f"rays: must be [{self.samples}, {self.rays}, ...], found {rays.shape}")
        places = np.stack(np.broadcast_arrays(*self.places(x_mm, y_mm)))
        inside = self.holds(x_mm, y_mm)

        def plane(values: np.ndarray) -> np.ndarray:
            sampled = ndimage.map_coordinates(values, places, np.float32, order=1, mode="nearest")
            return np.where(inside, sampled, np.float32(0))

        if rays.ndim == 2:
            return plane(rays)
        return np.stack([plane(rays[..., index]) for index in range(rays.shape[2])], axis=-1)


def transmission(loss_db: np.ndarray, axis: int = 0) -> np.ndarray:
    """The amplitude of each voxel's echo relative to that without loss: the shadow.

    Args:
        loss_db: loss in each voxel of an echo that passes it there and back, in dB.
        axis: the one along which the sound travels, from index 0 on.
    """
    behind = np.cumsum(loss_db, axis=axis, dtype=np.float32) - loss_db
    return amplitude(-behind)


def speckle(
    rng: np.random.Generator, scatter: np.ndarray, cell: float | Sequence[float], looks: int = 1
) -> np.ndarray:
    """The envelope of the echoes of many small random scatterers (Goodman 1976: fully developed speckle).

    Each voxel scatters with a complex Gaussian amplitude, and the pulse sums them: the envelope of even tissue
    has a Rayleigh distribution whose mean square is the square of `scatter`. The noise multiplies the tissue
    before the pulse blurs both, so edges are as sharp as speckle is fine.

    Args:
        scatter: the tissue's amplitude, 0 and above, of any rank.
        cell: the Gaussian pulse's standard deviation in voxels, a number or one per axis; 0 is no blur.
        looks: images whose intensities are averaged (spatial compounding); their speckle is independent.

    Returns:
        float32 of the same shape.
    """
    kernels = [pulse(sigma) for sigma in np.broadcast_to(np.asarray(cell, np.float64), scatter.ndim)]
    margins = [kernel.size // 2 for kernel in kernels]
    beyond = np.pad(scatter.astype(np.float32), [(margin, margin) for margin in margins], mode="edge")
    inside = tuple(slice(margin, margin + side) for margin, side in zip(margins, scatter.shape, strict=True))
    power = np.zeros(scatter.shape, np.float32)
    for _ in range(2 * looks):  # the real and the imaginary part of each look
        field = rng.standard_normal(beyond.shape, dtype=np.float32) * beyond
        for axis, kernel in enumerate(kernels):
            field = ndimage.correlate1d(field, kernel, axis=axis) if kernel.size > 1 else field
        power += np.square(field[inside])
    return np.sqrt(power / np.float32(2 * looks))


def pulse(sigma: float, order: int = 2) -> np.ndarray:
    """A Gaussian's samples; their powers of `order` sum to 1.

    With 2, white noise keeps its variance; with 1, an even surface keeps its amplitude. A standard
    deviation of 0 samples gives the single weight 1.
    """
    reach = int(np.ceil(3.5 * max(sigma, 0)))
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / max(sigma, 1e-9)))
    return (weights / np.linalg.norm(weights, order)).astype(np.float32)


def blur_by_depth(field: np.ndarray, sigmas: np.ndarray, axis: int, order: int = 2) -> None:
    """Blurs `field` [samples, ...] in place across the beams, by a width that depends on the depth.

    Beyond the field of view there is nothing; the kernel is scaled up where its end is cut off, so that the border is
    as bright as the middle.

    Args:
        sigmas: [samples], the Gaussian's standard deviation at each depth, in steps along `axis`.
        axis: 1 or more; the depth is axis 0.
        order: what the blur preserves: 2 the variance of white noise, 1 an even amplitude (see `pulse`).
    """
    shape = [-1 if position == axis - 1 else 1 for position in range(field.ndim - 1)]
    ones = np.ones(field.shape[axis], np.float32)
    for plane, sigma in zip(field, sigmas, strict=True):
        kernel = pulse(sigma, order)
        if kernel.size > 1:
            kept = ndimage.correlate1d(ones, kernel**order, mode="constant") ** np.float32(1 / order)
            ndimage.correlate1d(plane, kernel, axis=axis - 1, output=plane, mode="constant")
            plane /= kept.reshape(shape)


def echo_of_surfaces(reflectivity: np.ndarray, sigma: float) -> np.ndarray:
    """The echoes of thin interfaces along axis 0: the pulse's envelope about each, as high as the interface reflects.

    An interface returns the whole pulse, however thin it was drawn: the result is the largest of the envelopes, not
    their sum.

    Args:
        reflectivity: float32 [samples, ...], 0 and above.
        sigma: the standard deviation of the pulse's Gaussian amplitude, in samples.
    """
    echo = reflectivity.copy()
    count = len(reflectivity)
    for lag in range(1, min(int(np.ceil(3.5 * sigma)), count - 1) + 1):
        moved = reflectivity * np.float32(np.exp(-0.5 * (lag / sigma) ** 2))
        np.maximum(echo[lag:], moved[: count - lag], out=echo[lag:])
        np.maximum(echo[: count - lag], moved[lag:], out=echo[: count - lag])
    return echo


def log_compress(envelope: np.ndarray, range_db: float) -> np.ndarray:
    """Amplitudes as brightness: 0 dB and above is 1, `-range_db` and below 0, linear in dB between."""
    decibels = np.float32(20) * np.log10(np.maximum(envelope, np.float32(SMALLEST_AMPLITUDE)))
    return np.clip(np.float32(1) + decibels / np.float32(range_db), 0, 1)


def specular_db(cosine: np.ndarray, floor_db: float, power: float = 2.0) -> np.ndarray:
    """How much of a smooth surface's echo returns to the probe, in dB: 0 at right angles.

    Args:
        cosine: of the angle between ray and surface normal; its sign does not matter.
        floor_db: the remaining echo, in dB, where the sound grazes the surface.
        power: how fast it falls off as the surface tilts away.
    """
    return np.float32(floor_db) * (np.float32(1) - np.abs(cosine) ** np.float32(power))
