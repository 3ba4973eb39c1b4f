"""Four landmarks of a head, OFD 1, OFD 2, BPD 1, BPD 2: their order, their plausibility, and policies for wrong ones.

Points are (x, y) indices of pixel centres [4, 2]; a missing one is NaN. OFD is the long axis, BPD the short one. In
the public table of the head paper every plausible row has the two names exchanged, and over a third of the rows do not
fit the head at all: so labels are checked before training.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfsono.errors import UserError
from tfsono.geometry.ellipse import Ellipse

LANDMARKS = ("ofd_1", "ofd_2", "bpd_1", "bpd_2")
POLICIES = ("drop", "keep", "repair", "ellipse")

# Of the points against each other. Angle and offset are chosen on the public table, and find 98.9 % of the rows over
# 5 mm off with 8.6 % false alarms; 75 and 0.15 instead find 96.0 % with 6.4 %. A head's short over long axis is 0.78 on
# average (Hadlock, AJR 1981).
LEAST_ANGLE_DEGREES = 77.0
MOST_MIDDLE_OFFSET = 0.12
AXIS_RATIO = (0.6, 0.95)
# Of the points against the mask's ellipse: 5 mm is too much for any measurement, and small heads need less.
MOST_ERROR_MM = 5.0
MOST_RELATIVE_ERROR = 0.2

SETTLED = 20  # rounds of the learned direction; two or three do


@dataclass(frozen=True)
class EndOrder:
    """Which end of a pair comes first: the one further back along the pair's direction.

    Otherwise the order of the two ends depends on their place in the image, and a rotation or a mirror would give a
    network two names for one place. So the points are reordered after every such change (BiometryNet's dynamic
    orientation, Avisdris et al., MICCAI 2022).

    The default directions are those of the public table: every row that fits its head has the long pair from left to
    right and the short one downwards.

    Attributes:
        ofd_direction: (x, y) from OFD 1 to OFD 2; of any length above 0.
        bpd_direction: (x, y) from BPD 1 to BPD 2.

    Raises:
        ValueError: A direction is not two finite numbers, or has no length.
    """

    ofd_direction: tuple[float, float] = (1.0, 0.0)
    bpd_direction: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        for name in ("ofd_direction", "bpd_direction"):
            direction = tuple(float(value) for value in getattr(self, name))
            length = math.hypot(*direction) if len(direction) == 2 else 0.0
            if not (math.isfinite(length) and length > 0):
                raise ValueError(f"{name} must be two finite numbers of a length above 0; found {direction}")
            object.__setattr__(self, name, (direction[0] / length, direction[1] / length))

    @classmethod
    def learned(cls, points_px: np.ndarray) -> EndOrder:
        """The two directions from training points [N, 4, 2], whose pairs are OFD and BPD but in any order of ends.

        Each end, taken from its pair's middle, belongs to one of two groups of equal size and opposite means; the
        direction goes from one mean to the other. Unlike in BiometryNet's mixture of two Gaussians on the raw points,
        the head's place in the image has no influence. The sign is the one nearer to the default's.
        Pairs with a missing point are ignored; without any other, the default stays.

        Raises:
            ValueError: The points are not [N, 4, 2].
        """
        points = np.asarray(points_px, np.float64)
        if points.ndim != 3 or points.shape[1:] != (4, 2):
            raise ValueError(f"points must be [N, 4, 2]; found {list(points.shape)}")
        default = cls()
        return cls(
            _common_direction(points[:, 1] - points[:, 0], default.ofd_direction),
            _common_direction(points[:, 3] - points[:, 2], default.bpd_direction),
        )

    def reversed_pairs(self, points_px: np.ndarray) -> tuple[bool, bool]:
        """Whether the ends of OFD and of BPD are exchanged in points [4, 2]; False for a missing one."""
        points = np.asarray(points_px, np.float64)
        return (
            bool((points[1] - points[0]) @ self.ofd_direction < 0),
            bool((points[3] - points[2]) @ self.bpd_direction < 0),
        )

    def ordered(self, points_px: np.ndarray) -> np.ndarray:
        """Points [4, 2], whose pairs are OFD and BPD, with the ends of each pair in this order; a copy, float64."""
        ofd, bpd = self.reversed_pairs(points_px)
        order = [1, 0] if ofd else [0, 1], [3, 2] if bpd else [2, 3]
        return np.asarray(points_px, np.float64)[[*order[0], *order[1]]]


DEFAULT_ORDER = EndOrder()


@dataclass(frozen=True)
class Judgement:
    """The check of four points; NaN where unknown.

    Attributes:
        angle_degrees: Between the pairs, 0 to 90; of a head about 90.
        middle_offset: Distance of the pairs' middles over the longer pair's length; of a head about 0.
        ratio: Shorter over longer pair; of a head 0.78.
        mean_error_px: Mean distance to the end points of the mask's ellipse: the longer pair against the long axis,
            the ends of a pair whichever way they are nearer. NaN without an ellipse.
        mean_error_mm: The same in millimetres; NaN without an ellipse or a pixel size.
        names_exchanged: The pair called BPD is the longer one.
        ends_exchanged: With the right names, the ends of a pair are exchanged.
        fits: These can be the ends of this head's two axes, whatever their names and order.
        reasons: Why not; empty where they fit.
    """

    angle_degrees: float
    middle_offset: float
    ratio: float
    mean_error_px: float
    mean_error_mm: float
    names_exchanged: bool
    ends_exchanged: bool
    fits: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class AuditCounts:
    """How well a judgement finds the rows that are far from the ellipses; `str` of it is one line.

    Attributes:
        far: Rows whose points are on average more than 5 mm from the ellipse's own.
        far_flagged: Of those, the rows that do not fit.
        near: The other rows.
        near_flagged: Of those, the rows that do not fit: false alarms.
        names_exchanged: Of all rows.
        ends_exchanged: Of all rows.
    """

    far: int
    far_flagged: int
    near: int
    near_flagged: int
    names_exchanged: int
    ends_exchanged: int

    def __str__(self) -> str:
        return (
            f"{self.far + self.near} rows: {self.far_flagged} of {self.far} rows over {MOST_ERROR_MM:g} mm off flagged"
            f" ({_percent(self.far_flagged, self.far)}), {self.near_flagged} of the {self.near} others"
            f" ({_percent(self.near_flagged, self.near)}); names exchanged in {self.names_exchanged},"
            f" ends in {self.ends_exchanged}"
        )


def canonical(points_px: np.ndarray, order: EndOrder = DEFAULT_ORDER) -> np.ndarray:
    """Points [4, 2] of two pairs with the longer pair as OFD and the ends of each in order; a copy, float64.

    With a missing point the longer pair is unknown: the names stay, and a whole pair's ends are ordered.
    """
    points = _checked(points_px)
    return order.ordered(points[[2, 3, 0, 1]] if _names_exchanged(points) else points)


def judge(
    points_px: np.ndarray,
    ellipse: Ellipse | None = None,
    pixel_size_mm: float | None = None,
    order: EndOrder = DEFAULT_ORDER,
) -> Judgement:
    """Whether four points can be the ends of a head's axes.

    With an ellipse, only the mean distance to its end points counts: at most 5 mm (where the pixel size is known) and
    at most a fifth of its short semi-axis. Without one the points must fit each other: an angle of at
    least 77 degrees, middles at most 0.12 of the long axis apart, a ratio of 0.6 to 0.95.

    Args:
        points_px: [4, 2] as the file names them: ofd_1, ofd_2, bpd_1, bpd_2.
        ellipse: Of the head's mask, in the same pixels.
        pixel_size_mm: Millimetres a pixel; None where unknown.
        order: Of the ends of a pair.
    """
    points = _checked(points_px)
    named_wrong, right = _names_exchanged(points), canonical(points, order)
    ordered = not any(order.reversed_pairs(points[[2, 3, 0, 1]] if named_wrong else points))
    angle, offset, ratio = _shape(right)
    error = float(np.mean(_distances(right, ellipse))) if ellipse else math.nan
    error_mm = error * pixel_size_mm if pixel_size_mm else math.nan
    if not np.isfinite(points).all():
        missing = ", ".join(itertools.compress(LANDMARKS, ~np.isfinite(points).all(axis=1)))
        reasons = [f"{missing} missing"]
    elif ellipse:
        reasons = _reasons_of_ellipse(error, error_mm, ellipse.semi_minor_px)
    else:
        reasons = _reasons_of_shape(angle, offset, ratio)
    return Judgement(angle_degrees=angle, middle_offset=offset, ratio=ratio, mean_error_px=error,
                     mean_error_mm=error_mm, names_exchanged=named_wrong, ends_exchanged=not ordered,
                     fits=not reasons, reasons=tuple(reasons))


def apply_policy(
    points_px: np.ndarray,
    ellipse: Ellipse | None,
    pixel_size_mm: float | None,
    policy: str,
    order: EndOrder = DEFAULT_ORDER,
) -> np.ndarray | None:
    """The points to learn from, or None for a row to exclude.

    - `drop`: rows that do not fit are excluded; names and ends of the others are corrected.
    - `keep`: the points of the file, even with wrong names.
    - `repair`: names and ends are corrected in every row, even if it does not fit. (Pairing the four points otherwise
      rescues no row of the public table.)
    - `ellipse`: the ends of the ellipse's axes; a row without an ellipse is excluded.

    Args:
        points_px: [4, 2] as the file names them.
        ellipse: Of the head's mask; None where there is no mask.
        pixel_size_mm: None where unknown.
        policy: One of `POLICIES`.
        order: Of the ends of a pair.

    Returns:
        [4, 2] float64: OFD 1, OFD 2, BPD 1, BPD 2.

    Raises:
        UserError: Another policy.
    """
    if policy not in POLICIES:
        raise UserError(
            f"--landmark_policy: expected one of {', '.join(POLICIES)}; found {policy!r}; choose one of them"
        )
    points = _checked(points_px)
    if policy == "keep":
        return points
    if policy == "ellipse":
        return order.ordered(ellipse.end_points()) if ellipse else None
    if policy == "drop":
        return canonical(points, order) if judge(points, ellipse, pixel_size_mm).fits else None
    return canonical(points, order)


def audit_counts(
    points_px: np.ndarray,
    ellipses: Sequence[Ellipse],
    pixel_sizes_mm: Sequence[float],
    *,
    with_ellipse: bool = True,
    with_pixel_size: bool = True,
    order: EndOrder = DEFAULT_ORDER,
) -> AuditCounts:
    """The counts of `judge` for rows of known ellipse and pixel size.

    Args:
        points_px: [N, 4, 2] as the file names them.
        ellipses: One a row.
        pixel_sizes_mm: One a row.
        with_ellipse: Whether `judge` uses the ellipse; otherwise only the points.
        with_pixel_size: Whether it uses the pixel size.
        order: Of the ends of a pair.
    """
    rows = [
        (
            not judge(points, ellipse, size).mean_error_mm <= MOST_ERROR_MM,
            judge(points, ellipse if with_ellipse else None, size if with_pixel_size else None, order),
        )
        for points, ellipse, size in zip(points_px, ellipses, pixel_sizes_mm, strict=True)
    ]
    far = [judgement for is_far, judgement in rows if is_far]
    near = [judgement for is_far, judgement in rows if not is_far]
    return AuditCounts(far=len(far), far_flagged=sum(not judgement.fits for judgement in far), near=len(near),
                       near_flagged=sum(not judgement.fits for judgement in near),
                       names_exchanged=sum(judgement.names_exchanged for _, judgement in rows),
                       ends_exchanged=sum(judgement.ends_exchanged for _, judgement in rows))


def _checked(points_px: np.ndarray) -> np.ndarray:
    points = np.array(points_px, np.float64)
    if points.shape != (4, 2):
        raise ValueError(f"points must be [4, 2], {', '.join(LANDMARKS)}; found {list(points.shape)}")
    return points


def _names_exchanged(points: np.ndarray) -> bool:
    ofd, bpd = np.linalg.norm(points[1] - points[0]), np.linalg.norm(points[3] - points[2])
    return bool(bpd > ofd)  # False where a point is missing


def _common_direction(differences: np.ndarray, default: tuple[float, float]) -> tuple[float, float]:
    """The mean of vectors [N, 2] whose signs are not known, each taken with the sign that agrees with it."""
    known = differences[np.isfinite(differences).all(axis=1)]
    if not known.any():
        return default
    # Their main axis, whatever the signs: a start from which the groups converge.
    direction = np.linalg.svd(known, full_matrices=False)[2][0]
    for _ in range(SETTLED):
        settled = (known * np.where(known @ direction < 0, -1.0, 1.0)[:, None]).mean(axis=0)
        if np.allclose(settled, direction):
            break
        direction = settled
    return tuple(direction if direction @ default >= 0 else -direction)


def _shape(points: np.ndarray) -> tuple[float, float, float]:
    """Angle in degrees, offset of the middles over the long pair, and ratio, of points in canonical order."""
    long, short = points[1] - points[0], points[3] - points[2]
    lengths = np.linalg.norm(long), np.linalg.norm(short)
    if not min(lengths) > 0:
        return math.nan, math.nan, math.nan
    cosine = abs(long @ short) / (lengths[0] * lengths[1])
    offset = np.linalg.norm(points[:2].mean(axis=0) - points[2:].mean(axis=0)) / lengths[0]
    return math.degrees(math.acos(min(cosine, 1.0))), float(offset), float(lengths[1] / lengths[0])


def _distances(points: np.ndarray, ellipse: Ellipse) -> np.ndarray:
    """[4] pixels from each point to its end of the ellipse's axes, each pair's ends assigned in the nearer order."""
    ends, found = ellipse.end_points(), []
    for pair in (slice(0, 2), slice(2, 4)):
        ways = [np.linalg.norm(points[pair] - way, axis=1) for way in (ends[pair], ends[pair][::-1])]
        found.append(min(ways, key=np.sum))
    return np.concatenate(found)


def _reasons_of_ellipse(error_px: float, error_mm: float, semi_minor_px: float) -> list[str]:
    reasons = []
    if error_mm > MOST_ERROR_MM:
        reasons.append(f"on average {error_mm:.1f} mm from the ellipse's axes, over {MOST_ERROR_MM:g}")
    if error_px > MOST_RELATIVE_ERROR * semi_minor_px:
        reasons.append(
            f"on average {error_px / semi_minor_px:.2f} of the short semi-axis from the ellipse's axes, over"
            f" {MOST_RELATIVE_ERROR:g}"
        )
    return reasons


def _reasons_of_shape(angle: float, offset: float, ratio: float) -> list[str]:
    reasons = []
    if math.isnan(angle):
        return ["a pair has no length"]
    if angle < LEAST_ANGLE_DEGREES:
        reasons.append(f"{angle:.0f} degrees between the axes, under {LEAST_ANGLE_DEGREES:g}")
    if offset > MOST_MIDDLE_OFFSET:
        reasons.append(f"middles {offset:.2f} of the long axis apart, over {MOST_MIDDLE_OFFSET:g}")
    if not AXIS_RATIO[0] <= ratio <= AXIS_RATIO[1]:
        reasons.append(f"short over long axis {ratio:.2f}, outside {AXIS_RATIO[0]:g} to {AXIS_RATIO[1]:g}")
    return reasons


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"
