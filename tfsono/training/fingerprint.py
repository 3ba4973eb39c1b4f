"""What a run is trained on, for its data.json and manifest: `predict` flags inputs that lie outside of it.

Each quantity has its smallest value, median and largest value over the training cases. Spacing and size are those of
the files (before the cache resampled them) in the cache's orientation, as `predict` meets them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfsono.data.cache import Cache, CachedCase
from tfsono.data.heads import ellipse_of_case
from tfsono.metrics.head_appearance import appearance, learned_appearance

TRAINED_ON = "trained_on"  # the record's name in data.json and in a manifest
DIGITS = 6


def fingerprint_of_volumes(cache: Cache, names: Sequence[str]) -> dict:
    """Spacing, size, extent, intensities, volumes of the labels and extent of the landmarks of these cases."""
    grids = [cache.own_grid(name) for name in names]
    sizes, spacings = (np.array(column, np.float64) for column in zip(*grids, strict=True))
    low, high = np.transpose([intensity_range(cache.own_sample(name)) for name in names])
    record = {
        "cases": len(names), "spacing_mm": spread(spacings), "size": spread(sizes),
        "extent_mm": spread(sizes * spacings), "cache_spacing_mm": spread([cache.spacing_mm(name) for name in names]),
        "intensity_1_percent": spread(low), "intensity_99_percent": spread(high), "intensity_width": spread(high - low),
    }
    if cache.labels:
        voxels = np.array([cache.own_label_voxels(name) for name in names])
        volumes_ml = voxels * (spacings.prod(axis=1) / 1000)[:, None]
        record["labels_ml"] = {label: spread(column[column > 0]) for label, column
                               in zip(cache.labels, volumes_ml.T, strict=True) if column.any()}
    points_mm = [(cache.points_vox(name), cache.spacing_mm(name)) for name in names if cache.landmarks]
    extents = [extent_of(points * spacing) for points, spacing in points_mm if points is not None]
    return record | _if_known("landmarks_mm", extents)


def fingerprint_of_images(cache: Cache, names: Sequence[str], circumferences_mm: Mapping[str, float | None]) -> dict:
    """Size, field of view, pixel size and head circumference of 2D images, where known; their shares and appearance."""
    sizes = {name: np.array(cache.shape(name)[:2], np.float64) for name in names}
    pixels = {name: cache.pixel_sizes_mm[name] for name in names if cache.pixel_sizes_mm[name]}
    lengths = {name: circumferences_mm.get(name) or np.nan for name in names}
    record = {"cases": len(names), "size": spread(list(sizes.values()))}
    record |= _if_known("pixel_size_mm", list(pixels.values()))
    record |= _if_known("extent_mm", [sizes[name] * pixel for name, pixel in pixels.items()])
    record |= _if_known("circumference_mm", list(lengths.values()))
    record |= _if_known("diameter_share", [diameter_share(lengths[name] / pixel, sizes[name])
                                           for name, pixel in pixels.items()])
    learned = learned_appearance([_appearance_of(cache.read(name)) for name in names])
    return record | ({"appearance": {key: _rounded(value) for key, value in learned.items()}} if learned else {})


def diameter_share(circumference_px: float, size: Sequence[float]) -> float:
    """The mean diameter of a head as a share of the longer side of its image."""
    return float(circumference_px / np.pi / max(size))


def _appearance_of(case: CachedCase) -> np.ndarray | None:
    from tfsono.data.images_2d import image_pixels  # loads Keras, which `predict` needs not

    ellipse = ellipse_of_case(case)
    return None if ellipse is None else appearance(image_pixels(case), ellipse)


def intensity_range(values: np.ndarray) -> np.ndarray:
    """The 1st and the 99th percentile."""
    return np.percentile(np.asarray(values, np.float64), (1, 99))


def extent_of(points_mm: np.ndarray) -> float:
    """The largest distance between two points [K, 3]; NaN with fewer than two known ones."""
    known = points_mm[np.isfinite(points_mm).all(axis=1)]
    apart = np.linalg.norm(known[:, None] - known[None], axis=-1)
    return float(apart.max()) if len(known) > 1 else np.nan


def spread(values) -> dict:
    """Smallest value, median and largest value over the cases: of numbers, or of each axis of [cases, axes]."""
    table = np.asarray(values, np.float64)
    found = {"min": table.min(axis=0), "median": np.median(table, axis=0), "max": table.max(axis=0)}
    return {key: _rounded(value.tolist()) for key, value in found.items()}


def _if_known(name: str, values) -> dict:
    table = np.asarray(values, np.float64)
    known = table[np.isfinite(table)] if table.ndim == 1 else table
    return {name: spread(known)} if len(known) else {}


def _rounded(value):
    """Few digits, so that the record of the same cache is the same on every machine."""
    return [_rounded(each) for each in value] if isinstance(value, list) else float(f"{value:.{DIGITS}g}")
