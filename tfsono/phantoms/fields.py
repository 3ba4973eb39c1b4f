"""Random fields that depend on millimetres, not on voxels; a scanner's shading, slice profile and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# The squared weights of a cubic B-spline sum to 151/315 in the mean, per axis: the remaining variance.
SPLINE_DEVIATION = (151 / 315) ** 1.5


def centers_mm(size: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> tuple[np.ndarray, ...]:
    """The voxel centres' coordinates along each axis, in millimetres from the middle of the field of view."""
    return tuple(
        ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)
        for count, step in zip(size, spacing_mm, strict=True)
    )


@dataclass(frozen=True)
class Field:
    """White noise on a periodic lattice, interpolated by cubic B-splines: about zero mean and unit deviation."""

    values: np.ndarray
    scale_mm: tuple[float, float, float]

    def sample(self, axes_mm: tuple[np.ndarray, ...]) -> np.ndarray:
        """The field at the grid spanned by three coordinate axes: float32 [X, Y, Z]."""
        result = self.values
        for axis_mm, scale in zip(axes_mm, self.scale_mm, strict=True):
            weights = _spline_weights(axis_mm / scale, result.shape[0])
            result = np.tensordot(result, weights, axes=(0, 1))
        return np.ascontiguousarray(result)


def draw_field(rng: np.random.Generator, scale_mm, cells: int = 24) -> Field:
    """A field of lattice pitch `scale_mm` (a number, or one per axis), periodic in `cells` points."""
    scales = tuple(float(scale) for scale in np.broadcast_to(scale_mm, 3))
    values = rng.standard_normal((cells, cells, cells), dtype=np.float32) / np.float32(SPLINE_DEVIATION)
    return Field(values, scales)


def _spline_weights(position: np.ndarray, cells: int) -> np.ndarray:
    """Weights [N, cells] of a periodic cubic B-spline at fractional lattice positions [N]."""
    base = np.floor(position).astype(int)
    rest = (position - base).astype(np.float64)
    parts = (
        (1 - rest) ** 3 / 6,
        (3 * rest**3 - 6 * rest**2 + 4) / 6,
        (-3 * rest**3 + 3 * rest**2 + 3 * rest + 1) / 6,
        rest**3 / 6,
    )
    weights = np.zeros((position.size, cells), np.float32)
    for step, part in enumerate(parts):
        np.add.at(weights, (np.arange(position.size), (base + step - 1) % cells), part)
    return weights


def shading(rng: np.random.Generator, axes_mm: tuple[np.ndarray, ...], amplitude: float) -> np.ndarray:
    """A coil's smooth multiplicative bias, float32 [X, Y, Z], within 1 - amplitude and 1 + amplitude.

    A quadratic in millimetres / 80 behind a tanh: independent of the resolution.
    """
    linear, square, mixed = rng.normal(0, 0.8, 3), rng.normal(0, 0.5, 3), rng.normal(0, 0.4, 3)
    x, y, z = np.meshgrid(*(axis / np.float32(80) for axis in axes_mm), indexing="ij", sparse=True)
    value = sum(np.float32(weight) * axis for weight, axis in zip(linear, (x, y, z), strict=True))
    value = value + sum(np.float32(weight) * axis**2 for weight, axis in zip(square, (x, y, z), strict=True))
    value = value + np.float32(mixed[0]) * x * y + np.float32(mixed[1]) * y * z + np.float32(mixed[2]) * x * z
    return np.float32(1) + np.float32(amplitude) * np.tanh(value)


def slice_profile(image: np.ndarray, cross_talk: float) -> np.ndarray:
    """The image with a part `cross_talk` of both neighbouring slices (along z) mixed into each."""
    kernel = np.asarray([cross_talk, 1 - 2 * cross_talk, cross_talk], np.float32)
    return ndimage.correlate1d(image, kernel, axis=2, mode="nearest")


def rician(rng: np.random.Generator, image: np.ndarray, sigma: float) -> np.ndarray:
    """The magnitude with Gaussian noise of `sigma` in both channels; air has the mean sigma sqrt(pi / 2)."""
    real = rng.standard_normal(image.shape, dtype=np.float32)
    real *= np.float32(sigma)
    real += image
    imaginary = rng.standard_normal(image.shape, dtype=np.float32)
    imaginary *= np.float32(sigma)
    real *= real
    imaginary *= imaginary
    real += imaginary
    return np.sqrt(real, out=real)
