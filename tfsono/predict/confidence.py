"""What a prediction says of its own landmarks: probabilities, the spread of an ensemble's members, low confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfsono.manifest import PeakModel
from tfsono.metrics.calibration import LOW_PEAK, probabilities
from tfsono.metrics.spread import length_spread
from tfsono.predict.tables import rounded

LOW_PROBABILITY = 0.5
MOST_NAMED = 4
"""A line or flag names at most this many landmarks; all are in landmarks.csv."""


@dataclass(frozen=True)
class Confidence:
    """Of K landmarks.

    Attributes:
      peaks: [K] the highest values of the heatmaps.
      probabilities: [K] of an error below `limit_mm`; NaN without a model.
      limit_mm: NaN without a model.
      spread_mm: [K] the standard deviation of the members; NaN for a single one.
      members_mm: [M, K, 3] their points, in axes of the volume's orientation or another; M is 0 for a single one.
    """

    peaks: np.ndarray
    probabilities: np.ndarray
    limit_mm: float
    spread_mm: np.ndarray
    members_mm: np.ndarray

    def columns(self, place: int) -> dict[str, float | str]:
        """The columns of a landmark; "" for NaN."""
        return {"peak": round(float(self.peaks[place]), 4), "probability": rounded(self.probabilities[place]),
                "spread_mm": rounded(self.spread_mm[place])}

    def unsure(self, landmarks: Sequence[str]) -> list[str]:
        """The landmarks of low confidence: by their probability, without one by their peak; also for NaN."""
        low = ~(self.probabilities >= LOW_PROBABILITY) if self.limit_mm == self.limit_mm else ~(self.peaks >= LOW_PEAK)
        return [name for name, is_low in zip(landmarks, low, strict=True) if is_low]

    def flags(self, landmarks: Sequence[str]) -> list[str]:
        """A flag for the landmarks of low confidence."""
        unsure = self.unsure(landmarks)
        named = ", ".join(unsure) if len(unsure) <= MOST_NAMED else f"{len(unsure)} of {len(landmarks)} landmarks"
        return [f"low confidence: {named}"] if unsure else []

    def text(self, landmarks: Sequence[str]) -> str:
        """The probabilities in words: of each of a few landmarks, else the lowest; "" without."""
        if not self.limit_mm == self.limit_mm:
            return ""
        order = np.argsort(np.nan_to_num(self.probabilities), kind="stable")[:MOST_NAMED]
        named = ", ".join(f"{landmarks[place]} {100 * self.probabilities[place]:.0f} %" for place in
                          (sorted(order) if len(landmarks) <= MOST_NAMED else order))
        return (f"probability of an error below {self.limit_mm:g} mm: {named}"
                + ", the others more" * (len(landmarks) > MOST_NAMED))


def confidence_of(found: Mapping[str, np.ndarray], spacing_mm: Sequence[float], models: Sequence[PeakModel] = ()
                  ) -> Confidence:
    """The confidence of a module's outputs.

    Args:
      found: with "peaks"; for `models` also "second_peaks" and "second_peak_mm"; of an ensemble its members' points.
      spacing_mm: of the grid of the points.
      models: the manifest's "confidence".
    """
    peaks = np.asarray(found["peaks"], np.float64)
    none = np.full(len(peaks), np.nan)
    members = np.asarray(found.get("member_points_vox", np.zeros((0, len(peaks), 3))), np.float64)
    return Confidence(
        peaks=peaks, limit_mm=models[0]["limit_mm"] if models else np.nan,
        probabilities=probabilities(models, peaks, found["second_peaks"], found["second_peak_mm"]) if models else none,
        spread_mm=np.asarray(found.get("spread_mm", none), np.float64), members_mm=members * np.asarray(spacing_mm))


def lengths_of_members(confidence: Confidence, landmarks: Sequence[str], pairs: Sequence[tuple[str, str]]
                       ) -> np.ndarray:
    """[S] the standard deviation of the members' distances between the landmarks of each pair; NaN for a single one."""
    ends = [(landmarks.index(first), landmarks.index(last)) for first, last in pairs]
    return length_spread(confidence.members_mm, ends)
