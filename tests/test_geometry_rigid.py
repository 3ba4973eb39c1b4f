"""Rigid registration against SciPy and brute force; missing points, weights, and sets that determine no rotation."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tfsono.geometry.rigid import fit_rigid, moved


def points_of(seed, shape=(9, 3), spread=(30.0, 12.0, 7.0)):
    return np.random.default_rng(seed).normal(0, spread, shape)


def rotations(seed, count=None):
    return Rotation.random(count, rng=np.random.default_rng(seed)).as_matrix()


def by_scipy(moving, fixed, weights):
    """Rotation and translation of one pair of sets by SciPy, of the points that both have."""
    kept = np.isfinite(moving).all(-1) & np.isfinite(fixed).all(-1) & (weights > 0)
    moving, fixed, weights = moving[kept], fixed[kept], weights[kept]
    here, there = (np.average(points, axis=0, weights=weights) for points in (moving, fixed))
    rotation = Rotation.align_vectors(fixed - there, moving - here, weights)[0].as_matrix()
    return rotation, there - rotation @ here


def error(moving, fixed, weights, rotation, translation):
    return (weights * ((moved(moving, rotation, translation) - fixed) ** 2).sum(-1)).sum(-1)


def test_a_rotation_and_a_shift_by_hand():
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(moved([[1.0, 0, 5], [np.nan, 0, 0]], quarter, np.array([10.0, 20, 30])),
                               [[10, 21, 35], [np.nan] * 3])
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    rotation, translation = fit_rigid(corners, moved(corners, quarter, np.array([1.0, 2, 3])))
    np.testing.assert_allclose(rotation, quarter, atol=1e-12)
    np.testing.assert_allclose(translation, [1, 2, 3], atol=1e-12)


@pytest.mark.parametrize("count", [3, 4, 16])
def test_every_motion_is_recovered(count):
    """Three points are in a plane, which determines a rotation as well."""
    moving, turns, shifts = points_of(0, (50, count, 3)), rotations(1, 50), points_of(2, (50, 3))
    rotation, translation = fit_rigid(moving, moved(moving, turns, shifts))
    np.testing.assert_allclose(rotation, turns, atol=1e-9)
    np.testing.assert_allclose(translation, shifts, atol=1e-7)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_noisy_sets_are_registered_as_by_scipy(mirrored, missing):
    random = np.random.default_rng(3)
    fixed, moving = points_of(4), points_of(5, (40, 9, 3))
    moving[:20] = moved(np.broadcast_to(fixed, (20, 9, 3)), rotations(6, 20), points_of(7, (20, 3)))
    moving += random.normal(0, 2, moving.shape)
    if mirrored:
        moving[..., 0] *= -1
    if missing:
        moving[(random.random((40, 9)) < 0.3) & (np.arange(9) > 3)] = np.nan  # four stay, which fix a rotation
        fixed[8, 1] = np.nan  # one coordinate is as good as none
    weights = random.random((40, 9)) * (random.random((40, 9)) < 0.8)
    weights[:, :4] += 0.1
    rotation, translation = fit_rigid(moving, fixed, weights)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-9)
    np.testing.assert_allclose(rotation @ np.swapaxes(rotation, -1, -2), np.broadcast_to(np.eye(3), (40, 3, 3)),
                               atol=1e-9)
    for place in range(40):
        one, other = by_scipy(moving[place], fixed, weights[place])
        np.testing.assert_allclose(rotation[place], one, atol=1e-6)
        np.testing.assert_allclose(translation[place], other, atol=1e-4)


def test_no_other_motion_is_better():
    """Brute force: small and large rotations, each with its best shift."""
    moving, fixed, weights = points_of(8), points_of(9), np.random.default_rng(10).random(9)
    rotation, translation = fit_rigid(moving, fixed, weights)
    least = error(moving, fixed, weights, rotation, translation)
    small = Rotation.from_rotvec(np.random.default_rng(11).normal(0, 0.05, (3000, 3))).as_matrix() @ rotation
    turns = np.concatenate([small, rotations(12, 3000)])
    here, there = (np.average(points, axis=0, weights=weights) for points in (moving, fixed))
    assert (error(moving, fixed, weights, turns, there - turns @ here) > least).all()


def test_missing_points_and_weights_of_zero_are_as_if_they_were_not_there():
    moving, fixed = points_of(13), points_of(14)
    expected = fit_rigid(moving[[0, 2, 3, 5, 8]], fixed[[0, 2, 3, 5, 8]])
    gaps = moving.copy(), fixed.copy()
    gaps[0][[1, 4]], gaps[1][6, 2] = np.nan, np.inf
    weights = np.ones(9)
    weights[7] = 0
    for one, other in zip(fit_rigid(*gaps, weights), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


LINE = np.outer([0.0, 1, 2.5, -4], [3.0, -1, 2]) + 50


@pytest.mark.parametrize("moving, fixed", [
    (LINE, points_of(15, (4, 3))), (points_of(15, (4, 3)), LINE), (LINE, LINE @ rotations(16).T),
    (LINE.astype(np.float32).round(3), points_of(17, (4, 3))),  # as it is read from a file
    (np.ones((4, 3)), points_of(18, (4, 3))), (points_of(19, (2, 3)), points_of(20, (2, 3))),
    (points_of(19, (1, 3)), points_of(20, (1, 3)))],
    ids=["from a line", "to a line", "line to line", "rounded line", "one place", "two points", "one point"])
def test_sets_that_determine_no_rotation_are_only_shifted(moving, fixed):
    rotation, translation = fit_rigid(moving, fixed)
    np.testing.assert_array_equal(rotation, np.eye(3))
    np.testing.assert_allclose(translation, fixed.mean(0) - moving.mean(0), atol=1e-5)


def test_one_such_set_does_not_disturb_the_others():
    fixed = points_of(21, (4, 3))
    sets = np.stack([LINE, points_of(22, (4, 3)), np.full((4, 3), np.nan)])
    rotation, translation = fit_rigid(sets, fixed)
    np.testing.assert_array_equal(rotation[[0, 2]], [np.eye(3)] * 2)
    np.testing.assert_allclose(rotation[1], by_scipy(sets[1], fixed, np.ones(4))[0], atol=1e-7)
    assert np.isnan(translation[2]).all() and np.isfinite(translation[:2]).all()


def test_a_mirror_is_not_undone():
    body = points_of(23)
    rotation, translation = fit_rigid(body * [-1, 1, 1], body)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert np.sqrt(error(body * [-1, 1, 1], body, np.ones(9), rotation, translation) / 9) > 2


@pytest.mark.parametrize("moving, fixed, weights", [
    (np.ones((4, 3)), np.ones((5, 3)), None), (np.ones((4, 2)), np.ones((4, 2)), None),
    (np.ones((4, 3)), np.ones((4, 3)), np.ones(3)), (np.ones((4, 3)), np.ones((4, 3)), -np.ones(4)),
    (np.ones((4, 3)), np.ones((4, 3)), np.full(4, np.nan))])
def test_what_does_not_fit_is_refused(moving, fixed, weights):
    with pytest.raises(ValueError, match="must be"):
        fit_rigid(moving, fixed, weights)
