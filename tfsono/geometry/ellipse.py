"""The ellipse of a head: its measurements, and its robust fit to a mask, without a bias of half pixels.

Images are [Y, X], rows first; points are (x, y) indices of pixel centres, the first pixel's centre being 0.0. x goes
right and y down, so that a positive angle is clockwise on the screen.

Source: head, Sec. "Part B", approach 4: "RANSAC for robust ellipse fitting, morphological operations", without numbers.
All numbers are our choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

REFERENCE_SIDE = 512
"""Lengths in pixels refer to a frame whose longer side has this many, and scale with the image."""

LEAST_INLIER_PX = 1.0  # an edge between pixels is known to half a pixel at best
SCORED_POINTS = 400  # of the edge, enough to tell a good trial from a bad one
MOST_TRIALS = 10  # times the requested number, while too few of the points agree
CONFIDENCE = 0.999  # that one trial had no outlier, before trials stop early
REFITS = 10
SPREADS = 3.0  # standard deviations within which a point stays in the refit, but
WIDEST_REFIT = 4.0  # times a trial's inlier distance at most
MEDIAN_TO_STD = 1.4826  # of the absolute values of normal errors
SECTORS = 72
LEAST_COVERED = 0.5
"""Share of the ellipse's outline, in sectors of 5 degrees, that must have an edge nearby."""
LEAST_OVERLAP = 0.6
"""Dice of a mask and its ellipse: half a head still has 2/3, other shapes less."""


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in pixels.

    Attributes:
        center_px: (x, y).
        semi_major_px: Half the long axis; OFD is twice this.
        semi_minor_px: Half the short axis; BPD is twice this.
        angle_rad: Direction of the long axis, x right and y down, in [-pi/2, pi/2); others are normalised.

    Raises:
        ValueError: A number is not finite, or not semi_major_px >= semi_minor_px > 0.
    """

    center_px: tuple[float, float]
    semi_major_px: float
    semi_minor_px: float
    angle_rad: float

    def __post_init__(self):
        x, y = (float(value) for value in self.center_px)
        major, minor, angle = float(self.semi_major_px), float(self.semi_minor_px), float(self.angle_rad)
        if not (all(map(math.isfinite, (x, y, major, minor, angle))) and major >= minor > 0):
            raise ValueError(f"an ellipse needs finite numbers and semi_major_px >= semi_minor_px > 0; found {self}")
        angle = (angle + math.pi / 2) % math.pi - math.pi / 2
        values = {"center_px": (x, y), "semi_major_px": major, "semi_minor_px": minor, "angle_rad": angle}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def circumference_px(self) -> float:
        """Ramanujan's second approximation, exact to 1e-9 for heads: pi (a + b) (1 + 3h / (10 + sqrt(4 - 3h)))."""
        a, b = self.semi_major_px, self.semi_minor_px
        h = ((a - b) / (a + b)) ** 2
        return math.pi * (a + b) * (1 + 3 * h / (10 + math.sqrt(4 - 3 * h)))

    def end_points(self) -> np.ndarray:
        """The ends of the axes [4, 2], (x, y): OFD 1, OFD 2, BPD 1, BPD 2.

        OFD 1 is the left end of the long axis and BPD 1 the upper end of the short one (of a level long axis; in
        general the end 90 degrees counter-clockwise from OFD 2). `head_labels.EndOrder` may order them otherwise.
        """
        cosine, sine = math.cos(self.angle_rad), math.sin(self.angle_rad)
        long, short = self.semi_major_px * np.array([cosine, sine]), self.semi_minor_px * np.array([-sine, cosine])
        center = np.array(self.center_px)
        return np.stack([center - long, center + long, center - short, center + short])

    def contour(self, n: int = 360) -> np.ndarray:
        """`n` points of the outline [n, 2], (x, y), in equal steps of the parameter, clockwise on the screen."""
        return self.center_px + self._rotated(*self._unit_circle(n))

    def mask(self, size_yx: tuple[int, int]) -> np.ndarray:
        """bool [size_yx]: True where the centre of a pixel is inside or on the outline."""
        rows, columns = size_yx
        x, y = np.arange(columns) - self.center_px[0], np.arange(rows)[:, None] - self.center_px[1]
        return _radius(x, y, self) <= 1

    def distances(self, points_px: np.ndarray) -> np.ndarray:
        """Approximate distances of points [N, 2] from the outline, in pixels [N]: exact to first order near it.

        The level r - 1, where r is the point's radius in units of the ellipse, over its gradient. (Times the short
        semi-axis instead, it would be a quarter too small at the ends of the long one.)
        """
        x, y = self._own_axes(np.asarray(points_px, np.float64))
        radius = np.sqrt((x / self.semi_major_px) ** 2 + (y / self.semi_minor_px) ** 2)
        slope = np.sqrt((x / self.semi_major_px**2) ** 2 + (y / self.semi_minor_px**2) ** 2)
        # At the centre, which has no direction, the short semi-axis.
        step = np.divide(radius, slope, out=np.full_like(radius, self.semi_minor_px), where=slope > 0)
        return np.abs(radius - 1) * step

    def grown(self, by_px: float) -> Ellipse:
        """Both semi-axes longer by `by_px`, or shorter if negative.

        Raises:
            ValueError: The ellipse vanishes.
        """
        return Ellipse(self.center_px, self.semi_major_px + by_px, self.semi_minor_px + by_px, self.angle_rad)

    def _unit_circle(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        angle = np.arange(n) * (2 * math.pi / n)
        return self.semi_major_px * np.cos(angle), self.semi_minor_px * np.sin(angle)

    def _own_axes(self, points_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates along the long and the short axis, from the centre."""
        x, y = points_px[..., 0] - self.center_px[0], points_px[..., 1] - self.center_px[1]
        cosine, sine = math.cos(self.angle_rad), math.sin(self.angle_rad)
        return cosine * x + sine * y, cosine * y - sine * x

    def _rotated(self, along: np.ndarray, across: np.ndarray) -> np.ndarray:
        """From the ellipse's own axes to the image's [N, 2]."""
        cosine, sine = math.cos(self.angle_rad), math.sin(self.angle_rad)
        return np.stack([cosine * along - sine * across, sine * along + cosine * across], axis=-1)


@dataclass(frozen=True)
class EllipseSearch:
    """The numbers of the search; lengths and areas in pixels of a frame whose longer side is 512.

    Attributes:
        threshold: Of a probability.
        morphology_px: Side of the opening and closing; 0 keeps the mask.
        area_px: Smallest and largest head.
        iterations: Fewest trials of RANSAC.
        sample_points: Points of one trial, at least 5.
        inlier_px: Largest distance of a point that agrees.
        axis_ratio: Smallest and largest short over long axis.
    """

    threshold: float = 0.5
    morphology_px: int = 5
    area_px: tuple[float, float] = (5000.0, 150000.0)
    iterations: int = 200
    sample_points: int = 8
    inlier_px: float = 2.0
    axis_ratio: tuple[float, float] = (0.4, 1.0)


SEARCH = EllipseSearch()
# A reference mask needs no morphology, and a head of any size is accepted.
REFERENCE = EllipseSearch(morphology_px=0, area_px=(0.0, math.inf))


def ellipse_of_mask(mask: np.ndarray, seed: int = 0, search: EllipseSearch = SEARCH) -> Ellipse | None:
    """The ellipse of the largest piece of a mask, even if much of its outline is damaged or missing.

    Holes are filled, the mask is opened and closed, its largest piece is filled, and `fit_ellipse` gets the middles
    of the pixel sides where it ends: these are on the outline on average, while the centres of the outermost pixels
    are up to half a pixel inside. Where a mask touches the image's border its edge is unknown, and not used.

    Args:
        mask: [Y, X], boolean or numbers of which every one but 0 is inside.
        seed: Of the random trials.
        search: The numbers; lengths scale with the image.

    Returns:
        The ellipse in the image's pixels; None if no head of a possible size and shape is found.

    Raises:
        ValueError: The mask is not [Y, X].
    """
    if mask.ndim != 2:
        raise ValueError(f"mask must be [Y, X]; found {mask.ndim} axes")
    return _searched(mask != 0, None, seed, search)


def ellipse_of_probabilities(
    probability: np.ndarray, seed: int = 0, search: EllipseSearch = SEARCH
) -> Ellipse | None:
    """The same for a map of probabilities [Y, X] float: its edge is where it crosses the threshold between two pixels.

    Returns, raises: as `ellipse_of_mask`; a NaN counts as outside.
    """
    if probability.ndim != 2:
        raise ValueError(f"probability must be [Y, X]; found {probability.ndim} axes")
    values = np.nan_to_num(np.asarray(probability, np.float32))
    return _searched(values >= search.threshold, values - search.threshold, seed, search)


def head_of_mask(mask: np.ndarray, morphology_px: int) -> np.ndarray:
    """The largest piece of a mask without its holes and threads, bool [Y, X]; all False for an empty one.

    Args:
        mask: bool [Y, X].
        morphology_px: Side of the opening and closing in the mask's own pixels; under 2 does nothing.
    """
    # Holes first: opening would remove a thin outline.
    whole = _filled(mask)
    if morphology_px > 1:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (morphology_px, morphology_px))
        whole = cv2.morphologyEx(whole, cv2.MORPH_OPEN, kernel)
        whole = cv2.morphologyEx(whole, cv2.MORPH_CLOSE, kernel)
    count, labels, numbers, _ = cv2.connectedComponentsWithStats(whole, connectivity=8)
    if count < 2:
        return np.zeros(mask.shape, bool)
    return _filled(labels == 1 + np.argmax(numbers[1:, cv2.CC_STAT_AREA])) > 0


def ellipse_of_points(points_px: np.ndarray) -> Ellipse | None:
    """The ellipse of four landmarks [4, 2] in any order of the pairs, for heads without a mask.

    Centre: the mean of the four. Semi-axes: half the lengths of the two pairs. Direction: the longer pair's.

    Returns:
        None where a point is missing or a pair has no length.
    """
    points = np.asarray(points_px, np.float64)
    pairs = sorted((points[1] - points[0], points[3] - points[2]), key=np.linalg.norm, reverse=True)
    long, short = (float(np.linalg.norm(pair)) / 2 for pair in pairs)
    if not (np.isfinite(points).all() and short > 0):
        return None
    return Ellipse(tuple(points.mean(axis=0)), long, short, math.atan2(pairs[0][1], pairs[0][0]))


def ellipse_by_moments(mask: np.ndarray) -> Ellipse | None:
    """The ellipse with the area's second moments of a mask [Y, X]: a hundred times faster than a fit, and not robust.

    None for an empty mask, or one of a single row or column.
    """
    moments = cv2.moments(np.ascontiguousarray(mask, np.uint8), binaryImage=True)
    if not moments["m00"]:
        return None
    center = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    covariance = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]]) / moments["m00"]
    (short, long), axes = np.linalg.eigh(covariance)
    if short <= 0:
        return None
    return Ellipse(center, 2 * math.sqrt(long), 2 * math.sqrt(short), math.atan2(axes[1, 1], axes[0, 1]))


def fit_ellipse(
    points_px: np.ndarray,
    seed: int = 0,
    *,
    inlier_px: float = 2.0,
    iterations: int = 200,
    sample_points: int = 8,
    axis_ratio: tuple[float, float] = (0.4, 1.0),
) -> Ellipse | None:
    """The ellipse with the most inliers: RANSAC over direct fits (Fitzgibbon's), refitted on these.

    Trials take `sample_points` points each and continue past `iterations`, up to ten times as many, until one of them
    had no outlier with a probability of 99.9 %. The best is refitted by least distances to the points within
    `inlier_px` of it, then to those within three of their own standard deviations (at most four times `inlier_px`),
    until these stay the same. One seed gives one ellipse.

    Args:
        points_px: [N, 2] (x, y), in any order; those with NaN are ignored.
        seed: Of the trials.
        inlier_px: Largest distance of an inlier, in pixels.
        iterations: Fewest trials.
        sample_points: Points of a trial, at least 5.
        axis_ratio: Smallest and largest short over long axis, of a trial and of the result.

    Returns:
        None where no ellipse fits: too few points, no trial of a possible ratio, or points along less than half of
        the ellipse's outline.

    Raises:
        ValueError: `sample_points` is under 5, or the points are not [N, 2].
    """
    points = np.asarray(points_px, np.float64)
    if sample_points < 5 or points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"sample_points must be at least 5 and points [N, 2]; found {sample_points}, {points.shape}")
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < sample_points:
        return None
    generator = np.random.default_rng(seed)
    scored = points
    if len(points) > SCORED_POINTS:
        scored = points[generator.choice(len(points), SCORED_POINTS, replace=False)]
    best = _best_trial(scored, generator, inlier_px=inlier_px, iterations=iterations, sample_points=sample_points,
                       axis_ratio=axis_ratio)
    return None if best is None else _refitted(best, points, inlier_px, axis_ratio)


def _searched(inside: np.ndarray, values: np.ndarray | None, seed: int, search: EllipseSearch) -> Ellipse | None:
    """The ellipse of the largest piece of `inside`; `values` [Y, X] are 0 at its edge, None where there is none."""
    scale = max(inside.shape) / REFERENCE_SIDE
    # Odd, so that the kernel has a middle; small images keep the smallest effective kernel.
    side = 2 * round((search.morphology_px * scale - 1) / 2) + 1
    head = head_of_mask(inside, max(side, 3) if search.morphology_px > 1 else 0)
    if not search.area_px[0] <= head.sum() / scale**2 <= search.area_px[1]:
        return None
    found = fit_ellipse(
        _edge_points(head, values),
        seed,
        inlier_px=max(search.inlier_px * scale, LEAST_INLIER_PX),
        iterations=search.iterations,
        sample_points=search.sample_points,
        axis_ratio=search.axis_ratio,
    )
    rows, columns = inside.shape
    if found is None or not (0 <= found.center_px[0] < columns and 0 <= found.center_px[1] < rows):
        return None
    return found if _overlap(head, found) >= LEAST_OVERLAP else None


def _overlap(head: np.ndarray, ellipse: Ellipse) -> float:
    """Dice of a mask and the part of an ellipse inside the image."""
    outline = ellipse.mask(head.shape)
    return 2 * float((head & outline).sum()) / max(float(head.sum() + outline.sum()), 1.0)


def _filled(mask: np.ndarray) -> np.ndarray:
    """uint8 [Y, X]: the mask with everything that its outer contours enclose."""
    mask = np.ascontiguousarray(mask, np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED)


def _edge_points(inside: np.ndarray, values: np.ndarray | None) -> np.ndarray:
    """Where the lines between neighbouring pixel centres leave a mask [N, 2] (x, y): half way, or where `values` are 0.

    Half way too where filling or closing moved the edge away from the zeros of `values`.
    """
    found = []
    for axis in (0, 1):
        low, high = (inside[:-1], inside[1:]) if axis == 0 else (inside[:, :-1], inside[:, 1:])
        before = np.argwhere(low != high)
        share = np.full(len(before), 0.5)
        if values is not None and len(before):
            after = before + np.eye(2, dtype=np.int64)[axis]
            first, second = (values[tuple(index.T)].astype(np.float64) for index in (before, after))
            crossed = (first >= 0) != (second >= 0)
            share[crossed] = first[crossed] / (first - second)[crossed]
        place = before.astype(np.float64)
        place[:, axis] += share
        found.append(place[:, ::-1])
    return np.concatenate(found)


def _best_trial(
    points: np.ndarray,
    generator: np.random.Generator,
    inlier_px: float,
    iterations: int,
    sample_points: int,
    axis_ratio: tuple[float, float],
) -> Ellipse | None:
    """The direct fit to a few random points with the most inliers; None where none was possible.

    The sum of their distances instead of their number sometimes prefers a round defect to the head (measured).
    """
    best, most, trial, needed = None, 0, 0, iterations
    while trial < needed and most < len(points):  # with all of them no trial can be better
        trial += 1
        candidate = _direct_fit(points[generator.choice(len(points), sample_points, replace=False)], axis_ratio)
        if candidate is None:
            continue
        agreeing = int((candidate.distances(points) <= inlier_px).sum())
        if agreeing > most:
            best, most = candidate, agreeing
            needed = min(max(iterations, _trials_needed(most / len(points), sample_points)), MOST_TRIALS * iterations)
    return best


def _trials_needed(share: float, sample_points: int) -> int:
    """After how many trials one had only points of this share, with a probability of 99.9 %."""
    clean = min(share**sample_points, 1 - 1e-12)
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-clean)) if clean > 1e-9 else 10**9


def _direct_fit(points: np.ndarray, axis_ratio: tuple[float, float]) -> Ellipse | None:
    """Fitzgibbon's fit of an ellipse; None where OpenCV finds none, or one of an impossible ratio."""
    try:
        center, axes, degrees = cv2.fitEllipseDirect(points.astype(np.float32))
    except cv2.error:
        return None
    # OpenCV returns whole axes, and the direction of the first, the short one.
    minor, major = sorted(axes)
    if not (all(map(math.isfinite, (*center, *axes, degrees))) and minor > 0):
        return None
    if not axis_ratio[0] <= minor / major <= axis_ratio[1]:
        return None
    return Ellipse(center, major / 2, minor / 2, math.radians(degrees + (90 if axes[0] <= axes[1] else 0)))


def _refitted(
    ellipse: Ellipse, points: np.ndarray, inlier_px: float, axis_ratio: tuple[float, float]
) -> Ellipse | None:
    """The ellipse of least distances to its inliers; None where they cover too little of it."""
    agrees = ellipse.distances(points) <= inlier_px
    for _ in range(REFITS):
        moved = _least_distances(ellipse, points[agrees]) if agrees.sum() >= 5 else None
        if moved is None:
            return None
        ellipse, before = moved, agrees
        agrees = _agreeing(ellipse.distances(points), inlier_px)
        if np.array_equal(before, agrees):
            break
    ratio = ellipse.semi_minor_px / ellipse.semi_major_px
    if not axis_ratio[0] <= ratio <= axis_ratio[1] or _covered(ellipse, points, inlier_px) < LEAST_COVERED:
        return None
    return ellipse


def _agreeing(distances: np.ndarray, inlier_px: float) -> np.ndarray:
    """bool [N]: within three standard deviations, estimated by the median of the points not far away.

    An exactly drawn outline keeps nothing of a defect, not even of its beginning, where all points are on one side; a
    wavy one, as a network's, is averaged over and not cut to what agrees by chance.
    """
    widest = WIDEST_REFIT * inlier_px
    near = distances[distances <= widest]
    if not len(near):
        return np.zeros(len(distances), bool)
    spread = MEDIAN_TO_STD * float(np.median(near))
    return distances <= min(max(SPREADS * spread, LEAST_INLIER_PX), widest)


def _covered(ellipse: Ellipse, points: np.ndarray, inlier_px: float) -> float:
    """The share of the outline's sectors, of equal steps of its parameter, with a point within `inlier_px` of it."""
    along, across = ellipse._own_axes(points[ellipse.distances(points) <= inlier_px])
    angle = np.arctan2(across / ellipse.semi_minor_px, along / ellipse.semi_major_px)
    return len(np.unique((angle * (SECTORS / (2 * math.pi))).astype(np.int64) % SECTORS)) / SECTORS


def _least_distances(ellipse: Ellipse, points: np.ndarray, steps: int = 3) -> Ellipse | None:
    """Gauss-Newton on the distances of the points along the outline's normals, from an ellipse close to them.

    A direct fit minimises an algebraic distance instead, which makes noisy and partial outlines too small.

    Returns:
        None where the points do not determine an ellipse.
    """
    for _ in range(steps):
        a, b = ellipse.semi_major_px, ellipse.semi_minor_px
        along, across = ellipse._own_axes(points)
        radius = np.maximum(np.hypot(along / a, across / b), 1e-12)
        cosine, sine = along / a / radius, across / b / radius
        normal = np.stack([cosine / a, sine / b], axis=-1)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        # How the nearest point of the outline moves along the normal with centre (own axes), a, b, angle.
        jacobian = np.stack(
            [normal[:, 0], normal[:, 1], normal[:, 0] * cosine, normal[:, 1] * sine,
             normal[:, 1] * a * cosine - normal[:, 0] * b * sine], axis=-1)
        residual = normal[:, 0] * (along - a * cosine) + normal[:, 1] * (across - b * sine)
        change, _, rank, _ = np.linalg.lstsq(jacobian, residual, rcond=1e-10)
        # A circle has no direction: the angle's column is 0, and the angle stays.
        if rank < 4 or not a + change[2] > 0 or not b + change[3] > 0:
            return None
        ellipse = _changed(ellipse, change)
    return ellipse


def _changed(ellipse: Ellipse, change: np.ndarray) -> Ellipse:
    """The ellipse after a step of centre (along its own axes), long and short semi-axis, and angle."""
    shift = ellipse._rotated(change[0], change[1])
    a, b = ellipse.semi_major_px + change[2], ellipse.semi_minor_px + change[3]
    angle = ellipse.angle_rad + change[4] + (math.pi / 2 if b > a else 0)
    return Ellipse(tuple(np.add(ellipse.center_px, shift)), max(a, b), min(a, b), angle)


def _radius(x: np.ndarray, y: np.ndarray, ellipse: Ellipse) -> np.ndarray:
    """The radius of offsets from the centre in units of the ellipse: 1 on its outline."""
    cosine, sine = math.cos(ellipse.angle_rad), math.sin(ellipse.angle_rad)
    return np.hypot((cosine * x + sine * y) / ellipse.semi_major_px, (cosine * y - sine * x) / ellipse.semi_minor_px)
