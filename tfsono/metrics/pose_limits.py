"""What no pose of the training cases is like: lengths of segments, and left and right against the spine. NumPy, mm.

The landmarks of the midline lie in the body's plane of symmetry on a bent line, so they alone tell left from right
(`tfsono.geometry.body_frame`). Pairs that cross in a training case, as hands may, are not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfsono.geometry.rigid import aligned_poses, fit_rigid
from tfsono.metrics.pose_case import Segments, known_segments, segment_lengths

FACTOR = 1.5  # a length this many times below the shortest or above the longest of the training cases is odd
ROUNDS = 20


@dataclass(frozen=True)
class PoseLimits:
    """By names of landmarks.

    Attributes:
      lengths_mm: segment (two landmarks) -> shortest and longest of the training cases.
      midline_mm: landmark -> its mean position in a frame of the body; {} where there is no midline.
      sides_mm: pair (left and right) -> the mean way from the second to the first in that frame.
    """

    lengths_mm: Mapping[tuple[str, str], Sequence[float]]
    midline_mm: Mapping[str, Sequence[float]]
    sides_mm: Mapping[tuple[str, str], Sequence[float]]

    def odd_lengths(self, points_mm: np.ndarray, landmarks: Sequence[str]) -> dict[tuple[str, str], float]:
        """The segments whose length is far outside of the training's, and their lengths."""
        segments = known_segments(self.lengths_mm, landmarks)
        lengths = segment_lengths(points_mm, landmarks, segments)
        return {segment: float(length) for segment, length in zip(segments, lengths, strict=True)
                if length < self.lengths_mm[segment][0] / FACTOR or length > self.lengths_mm[segment][1] * FACTOR}

    def exchanged(self, points_mm: np.ndarray, landmarks: Sequence[str]) -> list[tuple[str, str]]:
        """The pairs whose sides contradict the midline."""
        if not set(self.midline_mm) <= set(landmarks) or not self.midline_mm:
            return []
        place = {name: np.asarray(point) for name, point in zip(landmarks, points_mm, strict=True)}
        rotation, _ = fit_rigid([place[name] for name in self.midline_mm], list(self.midline_mm.values()))
        return [(first, last) for first, last in known_segments(self.sides_mm, landmarks)
                if rotation @ (place[first] - place[last]) @ self.sides_mm[first, last] < 0]  # NaN is not

    def described(self) -> dict:
        """For a manifest; `limits_described` reads it."""
        return {
            "lengths": [{"ends": list(ends), "range_mm": _rounded(both)} for ends, both in self.lengths_mm.items()],
            "midline_mm": {name: _rounded(point) for name, point in self.midline_mm.items()},
            "sides": [{"pair": list(pair), "way_mm": _rounded(way)} for pair, way in self.sides_mm.items()]}


def limits_described(content: Mapping) -> PoseLimits:
    """The limits of `PoseLimits.described`; none of an empty object."""
    return PoseLimits({tuple(each["ends"]): each["range_mm"] for each in content.get("lengths", ())},
                      content.get("midline_mm", {}),
                      {tuple(each["pair"]): each["way_mm"] for each in content.get("sides", ())})


def pose_limits(poses_mm: np.ndarray, landmarks: Sequence[str], segments: Segments, mirrored: Segments,
                midline: Sequence[str]) -> PoseLimits:
    """The limits of the poses [N, K, 3] of the training cases, NaN where missing.

    Args:
      poses_mm: each in its own frame.
      landmarks: K names.
      segments: pairs of names whose distance is a length.
      mirrored: pairs of names, left and right.
      midline: names; without all of them sides are not judged.
    """
    poses, lengths = np.asarray(poses_mm, np.float64), {}
    for segment in known_segments(segments, landmarks):
        found = np.array([segment_lengths(pose, landmarks, [segment])[0] for pose in poses])
        if np.isfinite(found).any():
            lengths[segment] = [float(np.nanmin(found)), float(np.nanmax(found))]
    places = [landmarks.index(name) for name in midline if name in landmarks]
    whole = np.isfinite(poses[:, places]).all((1, 2))
    if len(places) < len(midline) or not whole.any():
        return PoseLimits(lengths, {}, {})
    aligned, sides = aligned_poses(poses[whole], places, ROUNDS), {}
    for first, last in known_segments(mirrored, landmarks):
        ways = aligned[:, landmarks.index(first)] - aligned[:, landmarks.index(last)]
        ways = ways[np.isfinite(ways).all(1)]
        if len(ways) and (ways @ ways.mean(0) > 0).all():
            sides[first, last] = ways.mean(0).tolist()
    middles = aligned[:, places].mean(0)
    return PoseLimits(lengths, dict(zip(midline, middles.tolist(), strict=True)), sides)


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 4) for value in values]
