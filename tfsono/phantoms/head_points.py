"""The points of a synthetic head as a careless table has them, like the public one of the head paper.

There BPD and OFD have each other's names in every row that fits its head, and over a third of the rows do not fit. Of
those 195 of HC18's 490 rows, 60 % of the points are within 0.15 radii of the outline, the others up to 5.4 radii
from its middle; the points are on average 0.66 to 1.6 short semi-axes (quartiles) from the axes' ends, the angle of
the pairs is anything (60 degrees in the median), and 63 % of the rows have the longer pair as BPD
(`benchmarks/head_wrong_points.py` measures both tables).

So here each point of a wrong row is turned around the outline, from its own place, by a normal angle, and two in five
are nearer to the middle or farther. Unlike the public ones, wrong rows are as frequent among large heads as among small
ones.
"""

from __future__ import annotations

import numpy as np

from tfsono.geometry.ellipse import Ellipse
from tfsono.geometry.head_labels import judge
from tfsono.phantoms.head import HeadReference

TURN_DEGREES = 45.0
ON_OUTLINE = 0.6
RADII = (0.5, 3.0)


def wrong_rows(seed: int, cases: int, share: float) -> list[bool]:
    """Which rows of a dataset are wrong: at even steps from a random start, so that few rows have the share too.

    More cases do not change the earlier ones.
    """
    start = np.random.default_rng(np.random.SeedSequence([seed, 0, 2])).random()
    return (np.diff(np.floor(start + share * np.arange(cases + 1))) > 0).tolist()


def table_points(reference: HeadReference, seed: int, size_yx: tuple[int, int], wrong: bool) -> np.ndarray:
    """The points [4, 2] of a row in the table's order, ofd_1, ofd_2, bpd_1, bpd_2; the names are exchanged.

    Args:
        reference: of the phantom.
        seed: of the phantom.
        size_yx: rows and columns of the image, in which all points are.
        wrong: whether the points do not fit the head, as `judge` says.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))  # 0 and 1 draw the head and its image
    points = right = reference.points_px[[2, 3, 0, 1]]
    while wrong and judge(points, reference.ellipse, reference.pixel_size_mm).fits:
        points = _misplaced(rng, right, reference.ellipse, size_yx)
    return points


def _misplaced(rng: np.random.Generator, ends: np.ndarray, ellipse: Ellipse, size_yx) -> np.ndarray:
    """The ends [4, 2] of the ellipse's axes, moved around its outline, and some towards or away from its middle."""
    cosine, sine = np.cos(ellipse.angle_rad), np.sin(ellipse.angle_rad)
    to_image = np.array([[cosine, -sine], [sine, cosine]]) * [ellipse.semi_major_px, ellipse.semi_minor_px]
    along, across = np.linalg.solve(to_image, (ends - ellipse.center_px).T)  # on the unit circle
    turned = np.arctan2(across, along) + rng.normal(0, np.deg2rad(TURN_DEGREES), len(ends))
    radii = np.where(rng.random(len(ends)) < ON_OUTLINE, 1.0, rng.uniform(*RADII, len(ends)))
    moved = ellipse.center_px + (to_image @ (radii * [np.cos(turned), np.sin(turned)])).T
    return np.clip(moved, 0, np.subtract(size_yx[::-1], 1))
