"""The validation score of landmarks, which selects the best weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tfsono.errors import UserError
from tfsono.metrics.landmarks import radial_errors
from tfsono.report.comparison import comparison_image
from tfsono.training.fit import Score

MEAN_RADIAL_ERROR = Score("validation_mre_mm", less_is_better=True)


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
