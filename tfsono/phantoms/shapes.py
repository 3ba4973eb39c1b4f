"""Volumes of simple bodies: OUR replacement for the videos of C3D, to pre-train an encoder without its weights.

Ellipsoids, rods, boxes and rings in clutter, with several textures, some bright with a dark shell; the
label is the kind of body. They contain no anatomy.
"""

from __future__ import annotations

import numpy as np

from tfsono.phantoms.distance import Points, box, capsule, coverage, ellipsoid, torus
from tfsono.phantoms.fields import centers_mm, draw_field, rician, shading, slice_profile

SHAPES = ("ellipsoid", "rod", "box", "ring")


def shapes_phantom(
    seed: int, size: tuple[int, int, int], spacing_mm: tuple[float, float, float], classes: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Bodies of random kind, size, direction, signal and texture; later ones cover earlier ones.

    Args:
        classes: with the background: 2 has ellipsoids only, 5 all of `SHAPES`.

    Returns:
        float32 image [X, Y, Z] of whole numbers, and uint8 label: 0 background, k the body `SHAPES[k - 1]`.

    Raises:
        ValueError: `classes` is not 2 to 5.
    """
    if not 2 <= classes <= len(SHAPES) + 1:
        raise ValueError(f"classes: must be 2 to {len(SHAPES) + 1}, found {classes}")
    rng = np.random.default_rng(seed)
    axes_mm = centers_mm(size, spacing_mm)
    extent = np.asarray(size) * np.asarray(spacing_mm)
    voxel = float(np.mean(spacing_mm))
    image, label = _clutter(rng, axes_mm, extent, voxel), np.zeros(size, np.uint8)
    for _ in range(int(rng.integers(35, 65))):
        _add_body(rng, (image, label), axes_mm=axes_mm, extent=extent, kind=int(rng.integers(1, classes)), voxel=voxel)
    image = slice_profile(image, 0.08) * shading(rng, axes_mm, rng.uniform(0.05, 0.3))
    gain = rng.uniform(300, 1500)
    return np.rint(rician(rng, image * np.float32(gain), gain * rng.uniform(0.02, 0.08))), label


def _clutter(rng: np.random.Generator, axes_mm, extent: np.ndarray, voxel: float) -> np.ndarray:
    """A background of clouds, a few layers, and streaks."""
    side = float(extent.min())
    image = np.float32(rng.uniform(0.25, 0.6)) + np.float32(0.12) * draw_field(rng, side / 6).sample(axes_mm)
    layers = draw_field(rng, side / 3).sample(axes_mm)
    for level in rng.uniform(-1.2, 1.2, 3):
        image += np.float32(rng.normal(0, 0.2)) * coverage(layers - np.float32(level), 0.15)
    image += np.float32(0.06) * draw_field(rng, rng.uniform(1.2, 6, 3) * voxel).sample(axes_mm)
    return image.clip(0, None)


def _add_body(
    rng: np.random.Generator, volumes, axes_mm, extent: np.ndarray, kind: int, voxel: float
) -> None:
    center = rng.uniform(-0.5, 0.5, 3) * extent
    reach = float(extent.min()) * rng.uniform(0.12, 0.34)
    crop = tuple(
        slice(*np.searchsorted(axis, (c - reach, c + reach))) for axis, c in zip(axes_mm, center, strict=True)
    )
    if any(part.start == part.stop for part in crop):
        return
    axes = tuple(axis[part] for axis, part in zip(axes_mm, crop, strict=True))
    points = tuple(np.broadcast_arrays(*np.meshgrid(*axes, indexing="ij", sparse=True)))
    distance = _body(rng, points, center, reach, kind)
    image, label = (volume[crop] for volume in volumes)
    label[distance < 0] = kind
    signal = np.float32(rng.uniform(0.05, 1.1)) + np.float32(rng.choice([0.0, 0.1, 0.2])) * draw_field(
        rng, rng.uniform(1.5, 6) * voxel
    ).sample(axes)
    shell = rng.choice([0.0, rng.uniform(1, 3) * voxel])
    if shell:
        image += coverage(distance, voxel) * (np.float32(rng.uniform(0.02, 0.15)) - image)
    image += coverage(distance + np.float32(shell), voxel) * (signal.clip(0, None) - image)


def _body(
    rng: np.random.Generator, points: Points, center: np.ndarray, reach: float, kind: int
) -> np.ndarray:
    """The distance of a body of `SHAPES[kind - 1]`, in any direction, within `reach` of `center`."""
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if SHAPES[kind - 1] == "ellipsoid":
        return ellipsoid(points, center, reach * rng.uniform(0.45, 1.0, 3), axes)
    if SHAPES[kind - 1] == "rod":
        radii = reach * rng.uniform(0.16, 0.34, 2)
        half = axes[0] * (reach - radii.max())
        return capsule(points, center - half, center + half, tuple(radii))
    if SHAPES[kind - 1] == "box":
        return box(points, center, reach * rng.uniform(0.25, 0.57, 3), axes)
    section = rng.uniform(0.15, 0.3) * reach
    return torus(points, center, axes[0], (reach - section, section))
