"""How far the members of an ensemble are apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def length_spread(members_mm: np.ndarray, ends: Sequence[tuple[int, int]]) -> np.ndarray:
    """The standard deviation (M - 1) of the members' lengths [S]; NaN for fewer than two members.

    Args:
        members_mm: [M, K, 3] the landmarks of each.
        ends: Places of the two landmarks of each length.
    """
    points = np.asarray(members_mm, np.float64)
    if len(points) < 2:
        return np.full(len(ends), np.nan)
    first, last = (points[:, [pair[end] for pair in ends]] for end in (0, 1))
    return np.linalg.norm(last - first, axis=-1).std(axis=0, ddof=1)
