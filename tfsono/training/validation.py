"""The validation score of landmarks, which selects the best weights; and which of their heatmaps say nothing yet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tfsono.errors import UserError
from tfsono.metrics.calibration import LOW_PEAK
from tfsono.metrics.landmarks import radial_errors
from tfsono.report.comparison import comparison_image
from tfsono.training.fit import Score

MEAN_RADIAL_ERROR = Score("validation_mre_mm", less_is_better=True)
MOST_NAMED = 4


class Watched:
    """A module of heatmaps that remembers the peaks and points of its predictions, for a remark on them."""

    def __init__(self, module: Callable, landmarks: Sequence[str], ratio: float):
        """
        Args:
          module: (volume, spacing_mm) -> {"points_vox": [K, 3], "peaks": [K]}.
          landmarks: their K names.
          ratio: voxels of the heatmaps per voxel of the volume, along an axis.
        """
        self.module, self.landmarks, self.ratio, self.seen = module, tuple(landmarks), ratio, []

    def __call__(self, volume, spacing_mm) -> dict:
        found = self.module(volume, spacing_mm)
        self.seen.append((np.asarray(found["points_vox"]) * self.ratio, np.asarray(found["peaks"])))
        return found

    def remark(self) -> str:
        """The flat maps, and those others whose peaks are within a voxel, in most predictions since the last call."""
        points, peaks = (np.stack(values) for values in zip(*self.seen, strict=True))
        self.seen = []
        is_flat = np.median(peaks, axis=0) < LOW_PEAK
        apart = np.median(np.linalg.norm(points[:, :, None] - points[:, None], axis=-1), axis=0)
        flat = [name for name, flat in zip(self.landmarks, is_flat, strict=True) if flat]
        together = [f"{self.landmarks[one]} and {self.landmarks[other]}" for one, other in itertools.combinations(
            np.flatnonzero(~is_flat), 2) if apart[one, other] < 1]
        parts = {"flat maps": flat, "maps that coincide": together}
        return "; ".join(f"{word}: {named(found)}" for word, found in parts.items() if found)


def named(found: Sequence[str]) -> str:
    """The names, or their number where they are many."""
    return ", ".join(found) if len(found) <= MOST_NAMED else str(len(found))


def mean_radial_error(module: Callable, cache, names: Iterable[str]) -> tuple[float, np.ndarray]:
    """The mean radial error over the cases with landmarks, in mm on the cache's grid, and an image of the first one.

    A landmark that is not found counts as the diagonal of its volume, or else finding none would score best.

    Args:
      module: (volume, spacing_mm) -> {"points_vox": [K, 3]}.
      cache: open `data.cache.Cache`.
      names: of the cases.

    Raises:
      UserError: no case has a landmark.
    """
    values, image = [], None
    for name in names:
        case = cache.read(name)
        if case.points_vox is None:
            continue
        spacing = np.asarray(case.spacing_mm)
        points = np.asarray(module(np.float32(case.image), np.float32(case.spacing_mm))["points_vox"])
        if image is None:
            image = comparison_image(case.image, points_vox=(case.points_vox, points))
        errors = radial_errors(points * spacing, case.points_vox * spacing)
        lost = np.isfinite(case.points_vox).all(axis=1) & ~np.isfinite(points).all(axis=1)
        errors = np.where(lost, np.linalg.norm(np.array(case.image.shape) * spacing), errors)
        values += [float(np.nanmean(errors))] if np.isfinite(errors).any() else []
    if not values:
        raise UserError(f"{cache.path}: no validation case has a landmark")
    return float(np.mean(values)), image
