"""The landmarks of a whole body checked by themselves and against the other bodies. Every problem is a warning.

For one pose (`judge_pose`):

    landmark_missing        how many, and their names
    few_landmarks           fewer than three are known: no rotation can be found
    landmark_outside        beyond the faces of the volume
    coincident_landmarks    two less than a voxel apart: one point, written twice
    landmarks_on_a_line     all known ones, within a voxel: no rotation about the line can be found
    no_spacing              millimetres are unknown, and so are lengths

For each pose against all others (`judge_poses`), with at least 5:

    implausible_length      a segment far from usual in a body of this size (2 times, 4 standard deviations)
    implausible_size        the body above three times or below a third of the median: is the spacing right?
    sides_exchanged         it fits the others better as its mirror image: left and right are exchanged, or the volume
                            is mirrored (a symmetric body does not show which); the majority counts as right
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from tfsono.geometry.rigid import fit_rigid, moved

LEAST_APART = 1.0
"""Voxels. Hips and sacrum of a fetus of 10 weeks are 2 to 3 mm apart."""

LEAST_POSES = 5
"""Fewer have no useful median."""

LENGTH_FACTOR, DEVIATIONS = 2.0, 4.0
"""A segment is this many times too long or short, and this many standard deviations from the other bodies' (of the
logarithm, robust): short segments vary most, as joints are marked to a millimetre or two."""

SIZE_FACTOR = 3.0
"""From 10 to 14 weeks the crown-rump length grows from 31 to 80 mm: to 1.6 times a median in between."""

NEAREST = 3
"""Poses vary: a pose is compared with the few most similar ones."""

BETTER_MIRRORED = 0.8
"""The mirror image must be this much nearer to count."""

Problem = tuple[str, str]


# ------------------------------------------------------------------------------------------------ one pose


def judge_pose(points_vox: np.ndarray, spacing_mm, names: tuple[str, ...], shape=None) -> list[Problem]:
    """The problems of one pose, with the measured numbers.

    Args:
        points_vox: [K, 3], NaN where missing.
        spacing_mm: [3], or None where unknown (as if one is not a positive number).
        names: of the K landmarks.
        shape: sides of the volume; None does not check for points outside.

    Returns:
        (code, text) of each.
    """
    points = np.asarray(points_vox, np.float64)
    spacing = np.full(3, np.nan) if spacing_mm is None else np.asarray(spacing_mm, np.float64)
    in_mm = bool((np.isfinite(spacing) & (spacing > 0)).all())
    known = np.isfinite(points).all(axis=1)
    problems = []
    if not in_mm:
        problems.append(("no_spacing", "the volume's spacing is unknown: lengths and errors have no millimetres"))
    if not known.all():
        missing = [name for name, there in zip(names, known, strict=True) if not there]
        problems.append(("landmark_missing", f"{len(missing)} of {len(names)} landmarks: {_some(missing)}"))
    problems += _outside(points, known, names, shape)
    problems += _coincident(points, known, names)
    scale, unit = (spacing, "mm") if in_mm else (np.ones(3), "voxels")
    problems += _without_rotation(points[known] * scale, float(np.mean(scale)), unit)
    return problems


def _outside(points: np.ndarray, known: np.ndarray, names, shape):
    if shape is None:
        return
    out = known & ~((points >= -0.5) & (points <= np.array(shape) - 0.5)).all(axis=1)
    for name, point in zip(np.array(names)[out], points[out], strict=True):
        yield "landmark_outside", (f"{name} at voxel ({', '.join(f'{value:.1f}' for value in point)}) is outside the "
                                   f"volume of {'x'.join(str(side) for side in shape)}")


def _coincident(points: np.ndarray, known: np.ndarray, names):
    for one, other in combinations(np.flatnonzero(known), 2):
        apart = np.linalg.norm(points[one] - points[other])
        if apart < LEAST_APART:
            yield "coincident_landmarks", (f"{names[one]} and {names[other]} are {apart:.1f} voxels apart; expected at "
                                           f"least {LEAST_APART:g}")


def _without_rotation(points: np.ndarray, voxel: float, unit: str):
    """Whether a rigid registration of the points [n, 3] is determined."""
    if len(points) < 3:
        yield "few_landmarks", f"{len(points)} known; three are needed to find the body's rotation"
        return
    from_line = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[1:]
    deviation = float(np.sqrt(np.square(from_line).sum() / len(points)))
    if deviation < voxel:
        yield "landmarks_on_a_line", (f"all {len(points)} known landmarks are within {deviation:.2g} {unit} of a line: "
                                      "the body's rotation about it cannot be found")


# ------------------------------------------------------------------------------------------------ all poses


def judge_poses(poses_mm: dict[str, np.ndarray], names: tuple[str, ...], segments=(), mirrored=()
                ) -> dict[str, list[Problem]]:
    """The problems of each pose against all others.

    Args:
        poses_mm: case -> [K, 3] in a right-handed frame, such as LPS millimetres (a frame with a reversed axis
            mirrors the body); NaN where missing.
        names: of the K landmarks.
        segments: pairs of names that are joined by a bone; unknown names are ignored. Without any, lengths are not
            checked, and the size is that of all distances.
        mirrored: pairs of names that are each other's mirror images; without any the points themselves are mirrored.

    Returns:
        case -> (code, text) of each problem, for every case.
    """
    problems: dict[str, list[Problem]] = {case: [] for case in poses_mm}
    if len(poses_mm) < LEAST_POSES or len(names) < 2:
        return problems
    cases, poses = list(poses_mm), np.array([np.asarray(pose, np.float64) for pose in poses_mm.values()])
    joined = _numbers(names, segments)
    pairs = joined or list(combinations(range(len(names)), 2))
    lengths = np.stack([np.linalg.norm(poses[:, a] - poses[:, b], axis=-1) for a, b in pairs], axis=1)
    sizes, shape = _sizes_and_shape(lengths)
    limits = _length_limits(lengths / (sizes[:, None] * shape))
    for case, size, row in zip(cases, sizes, lengths, strict=True):
        problems[case] += _size_problems(size)
        if joined:
            problems[case] += _length_problems(row, size * shape, limits, [(names[a], names[b]) for a, b in pairs])
    usual = float(np.median(shape[np.isfinite(shape)])) if np.isfinite(shape).any() else np.nan
    for number, plain, mirror in _exchanged(poses / sizes[:, None, None], _numbers(names, mirrored)):
        problems[cases[number]].append(_exchanged_problem(*(sizes[number] * np.array([plain, mirror, usual]))))
    return problems


def _numbers(names: tuple[str, ...], pairs) -> list[tuple[int, int]]:
    """Pairs of names -> pairs of numbers, of the known names."""
    return [(names.index(a), names.index(b)) for a, b in pairs if a in names and b in names]


def _sizes_and_shape(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N] sizes and [S] lengths of a usual body of size 1, whose product is usual in each body.

    Medians, so that a few misplaced points change neither; NaN where nothing is known. The median size is 1, so that
    the usual body's lengths are millimetres.
    """
    sizes = _medians(lengths, axis=1)
    for _ in range(3):  # a body's median depends on which of its segments are known: alternate
        shape = _medians(lengths / sizes[:, None], axis=0)
        sizes = _medians(lengths / shape[None, :], axis=1)
    middle = _medians(sizes[None, :], axis=1)[0]
    return sizes / middle, shape * middle


def _medians(values: np.ndarray, axis: int) -> np.ndarray:
    """Medians of the values above 0; NaN (without a warning) where there are none."""
    values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    nothing = np.isnan(values).all(axis=axis, keepdims=True)
    found = np.nanmedian(np.where(nothing, 0.0, values), axis=axis)
    return np.where(np.squeeze(nothing, axis), np.nan, found)


def _size_problems(size: float):
    if size > SIZE_FACTOR or size < 1 / SIZE_FACTOR:
        yield "implausible_size", (f"the body has {size:.2g} times the median size; expected {1 / SIZE_FACTOR:.2g} to "
                                   f"{SIZE_FACTOR:g}: is the spacing in millimetres, and the volume's own?")


def _length_limits(ratios: np.ndarray) -> np.ndarray:
    """[S]: how many times too long or short a segment may be, by the ratios [N, S] to the usual lengths."""
    deviations = 1.4826 * _medians(np.abs(np.log(np.where(ratios > 0, ratios, np.nan))), axis=0)
    return np.maximum(LENGTH_FACTOR, np.exp(DEVIATIONS * np.nan_to_num(deviations)))


def _length_problems(lengths: np.ndarray, usual: np.ndarray, limits: np.ndarray, ends: list[tuple[str, str]]):
    for (a, b), found, expected, limit in zip(ends, lengths, usual, limits, strict=True):
        ratio = found / expected
        if ratio > limit or ratio < 1 / limit:
            yield "implausible_length", (f"{a} - {b} has {found:.1f} mm, {ratio:.2g} times the {expected:.1f} mm "
                                         f"usual in a body of this size; expected {1 / limit:.2g} to {limit:.2g}")


def _exchanged_problem(plain_mm: float, mirror_mm: float, usual_mm: float) -> Problem:
    return "sides_exchanged", (f"{plain_mm:.1f} mm from the most similar poses, its mirror image {mirror_mm:.1f} mm (a "
                               f"usual length is {usual_mm:.1f} mm): are sides exchanged, or is the volume mirrored?")


def _exchanged(poses: np.ndarray, mirrored: list[tuple[int, int]]):
    """The poses that fit the others better as their mirror image.

    Args:
        poses: [N, K, 3], all of size 1.
        mirrored: pairs of landmarks that are exchanged.

    Yields:
        Number of the pose, its distance to the most similar poses, and the mirror image's.
    """
    plain, mirror = _distances(poses, mirrored)
    nearer = np.fmin(plain, mirror)
    if not np.isfinite(nearer).any():
        return
    signs = _majority_signs(plain, mirror, nearer)
    for number in range(len(poses)):
        as_it_is = _nearest(np.where(signs > 0, plain[number], mirror[number]))
        as_mirrored = _nearest(np.where(signs > 0, mirror[number], plain[number]))
        if as_mirrored < BETTER_MIRRORED * as_it_is:
            yield number, as_it_is, as_mirrored


def _distances(poses: np.ndarray, mirrored: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """[N, N] each: root mean square distance of two poses, and of one and the other's mirror image, best aligned.

    NaN on the diagonal, and where fewer than four points are known in both: three have no handedness.
    """
    count = len(poses)
    images = poses.copy() if mirrored else poses * (-1.0, 1.0, 1.0)
    for a, b in mirrored:
        images[:, [a, b]] = images[:, [b, a]]
    plain, mirror = np.full((count, count), np.nan), np.full((count, count), np.nan)
    for number in range(count - 1):  # a row at a time: memory
        others = slice(number + 1, count)
        for found, fixed in ((plain, poses[number]), (mirror, images[number])):
            found[number, others] = found[others, number] = _misfits(poses[others], fixed)
    return plain, mirror


def _misfits(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """[N]: root mean square distances of poses [N, K, 3] to one [K, 3] after registration."""
    squared = np.square(moved(moving, *fit_rigid(moving, fixed)) - fixed).sum(axis=-1)
    common = np.isfinite(squared)
    count = common.sum(axis=-1)
    return np.where(count > 3, np.sqrt(np.where(common, squared, 0.0).sum(axis=-1) / np.maximum(count, 1)), np.nan)


def _majority_signs(plain: np.ndarray, mirror: np.ndarray, nearer: np.ndarray) -> np.ndarray:
    """[N] of 1 and -1: the handedness of each pose, 1 for that of most.

    Each pair is alike (the mirror image fits worse) or not, with a weight that is largest for similar poses. The signs
    that agree best with all pairs are those of the first eigenvector (spectral synchronisation), so that any number
    below half may be exchanged.
    """
    scale = np.nanmedian(np.nanmin(np.where(np.isfinite(nearer), nearer, np.inf), axis=1)) + 1e-12
    agreement = np.log((mirror + 1e-3 * scale) / (plain + 1e-3 * scale)) * np.exp(-np.square(nearer / (2 * scale)))
    _, vectors = np.linalg.eigh(np.nan_to_num(agreement))
    signs = np.where(vectors[:, -1] < 0, -1.0, 1.0)
    return signs if signs.sum() >= 0 else -signs


def _nearest(distances: np.ndarray) -> float:
    """The mean of the few smallest."""
    known = np.sort(distances[np.isfinite(distances)])
    return float(known[:NEAREST].mean()) if len(known) else np.nan


def _some(names: list[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
