"""The columns of cases.csv on the confidence of landmarks and on an ensemble's members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfsono.manifest import PeakModel
from tfsono.metrics.calibration import probabilities
from tfsono.metrics.spread import length_spread


def confidence_columns(found: Mapping[str, np.ndarray], spacing_mm: Sequence[float], landmarks: Sequence[str],
                       lengths: Mapping[str, tuple[int, int]], models: Sequence[PeakModel] = ()) -> dict[str, float]:
    """Of each landmark `peak_NAME` and, where there is one, `probability_NAME`; of an ensemble `spread_NAME_mm`.

    Args:
      found: the outputs of a module; without landmarks there are no columns.
      spacing_mm: of the grid of its points.
      landmarks: names.
      lengths: column of the members' spread -> places of the length's two ends.
      models: of `training.confidence`.
    """
    row = {}
    if "peaks" in found:
        row |= _named("peak_{}", landmarks, found["peaks"])
    if "second_peaks" in found:
        row |= _named("second_peak_{}", landmarks, found["second_peaks"])
        row |= _named("second_peak_{}_mm", landmarks, found["second_peak_mm"])
    if models:
        values = (found[name] for name in ("peaks", "second_peaks", "second_peak_mm"))
        row |= _named("probability_{}", landmarks, probabilities(models, *values)) | {"limit_mm": models[0]["limit_mm"]}
    if "member_points_vox" in found:
        members = np.asarray(found["member_points_vox"], np.float64) * np.asarray(spacing_mm)
        row |= _named("spread_{}_mm", landmarks, found["spread_mm"])
        row |= dict(zip(lengths, length_spread(members, list(lengths.values())).tolist(), strict=True))
    return row


def _named(column: str, landmarks: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return {column.format(name): float(value) for name, value in zip(landmarks, values, strict=True)}
