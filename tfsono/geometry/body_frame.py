"""The frame of a body: one position and direction for all bodies, in which a second network sees them. NumPy, mm.

Landmarks of the midline (head, neck, spine, sacrum) lie in the body's plane of symmetry, on a bent line. So the proper
rotation that maps them onto those of another body also maps its left onto the left, whatever the direction of the
volume. In a mirror image of a body, whose left and right are exchanged by name, the same holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfsono.geometry.regions import padded_sides
from tfsono.geometry.rigid import aligned_poses, fit_rigid

ROUNDS = 20  # of the alignment to the mean, which then changes by less than a micrometre


@dataclass(frozen=True)
class BodyFrame:
    """A box around the bodies of an atlas set, whose middle is the origin.

    Attributes:
      midline: indices of its landmarks among all.
      midline_mm: float64 [M, 3], the mean of their positions.
      sides_mm: float64 [3], of the box.
    """

    midline: tuple[int, ...]
    midline_mm: np.ndarray
    sides_mm: np.ndarray

    def fit(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """R [3, 3] and t [3] that map a body [K, 3] into the frame, R p + t, by its midline; NaN where missing."""
        return fit_rigid(np.asarray(points_mm)[list(self.midline)], self.midline_mm)

    def size(self, voxel_mm: float, stride: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Voxels along each axis of the box, and padded to multiples of `stride`."""
        size = tuple(int(side) for side in np.ceil(self.sides_mm / voxel_mm))
        return size, padded_sides(size, stride)


def body_frame(poses_mm: np.ndarray, midline: Sequence[int], margin_mm: float) -> BodyFrame:
    """The frame of poses [N, K, 3], NaN where missing.

    Its axes are the principal ones of all landmarks, the longest first, so that the box is small.

    Args:
      poses_mm: of the training cases, each in its own frame.
      midline: indices of the landmarks by which bodies are moved.
      margin_mm: of the box around all landmarks.
    """
    aligned = aligned_poses(poses_mm, midline, ROUNDS)
    points = aligned[np.isfinite(aligned).all(-1)]
    _, axes = np.linalg.eigh(np.cov(points.T))
    axes = axes[:, ::-1] * np.sign(axes[np.abs(axes).argmax(0), range(3)])[::-1]
    axes[:, 2] *= np.sign(np.linalg.det(axes))  # no mirror image
    low, high = (points @ axes).min(0) - margin_mm, (points @ axes).max(0) + margin_mm
    middle = (low + high) / 2
    mean = np.nanmean(aligned[:, list(midline)], axis=0) @ axes - middle
    return BodyFrame(tuple(midline), mean, high - low)
