"""Distances solved by hand; fields, shading and noise against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from tfsono.phantoms import distance, fields


def at(*points):
    """Points [N] in the form the distances take."""
    return tuple(np.asarray(axis, np.float32) for axis in zip(*points, strict=True))


def test_sphere_capsule_torus_and_box_solved_by_hand():
    np.testing.assert_allclose(distance.sphere(at((3, 4, 0), (0, 0, 0)), (0, 0, 0), 2), [3, -2])
    rod = distance.capsule(at((5, 3, 0), (12, 0, 0), (-1, 0, 0)), (0, 0, 0), (10, 0, 0), (1, 3))
    np.testing.assert_allclose(rod, [3 - 2, 2 - 3, 1 - 1], atol=1e-6)
    ring = distance.torus(at((7, 0, 0), (0, 5, 2), (0, 0, 0)), (0, 0, 0), (0, 0, 1), (5, 1))
    np.testing.assert_allclose(ring, [1, 1, 4], atol=1e-6)
    body = distance.box(at((0, 0, 0), (4, 0, 0), (0, 0, 5)), (0, 0, 0), (1, 2, 3), np.eye(3))
    np.testing.assert_allclose(body, [-1, 3, 2])


def test_ellipsoid_is_zero_on_its_surface_and_exact_near_it():
    surface = distance.ellipsoid(at((2, 0, 0), (0, 3, 0), (0, 0, 5), (2.1, 0, 0)), (0, 0, 0), (2, 3, 5))
    np.testing.assert_allclose(surface, [0, 0, 0, 0.1], atol=2e-3)
    rotated = distance.ellipsoid(at((0, 2, 0)), (0, 0, 0), (2, 3, 5), ((0, 1, 0), (1, 0, 0), (0, 0, 1)))
    np.testing.assert_allclose(rotated, [0], atol=1e-6)


def test_flat_rod_has_an_elliptic_section():
    points = at((0, 2, 0), (0, 0, 3))
    inside = distance.capsule(points, (-9, 0, 0), (9, 0, 0), (3, 3), flat=(0, 1.5, 0))
    np.testing.assert_allclose(inside, [0, 0], atol=1e-5)


def test_blend_adds_a_fillet_only_where_both_surfaces_are_near():
    first, second = np.float32([1, 5, 0]), np.float32([1, -5, 7])
    np.testing.assert_allclose(distance.blend(first, second, 4.0), [1 - 4 / 4, -5, 0])
    np.testing.assert_allclose(distance.trim(first, second, 4.0), [1 + 4 / 4, 5, 7])
    np.testing.assert_allclose(distance.carve(np.float32([-3, -3]), np.float32([-1, 2])), [1, -2])


def test_coverage_is_the_part_of_the_voxel_behind_a_face():
    np.testing.assert_allclose(
        distance.coverage(np.float32([-2, -0.5, 0, 0.5, 2]), 2.0), [1, 0.75, 0.5, 0.25, 0]
    )


def test_voxel_centers_lie_around_the_middle():
    x, y, z = fields.centers_mm((4, 3, 1), (2.0, 1.5, 9.0))
    np.testing.assert_allclose(x, [-3, -1, 1, 3])
    np.testing.assert_allclose(y, [-1.5, 0, 1.5])
    np.testing.assert_allclose(z, [0])


def test_a_field_is_a_function_of_millimetres():
    field = fields.draw_field(np.random.default_rng(3), (4.0, 5.0, 6.0), cells=16)
    axes = fields.centers_mm((41, 33, 27), (1.1, 1.3, 1.7))
    whole = field.sample(axes)
    part = field.sample((axes[0][5::7], axes[1][::4], axes[2][20:]))
    assert whole.shape == (41, 33, 27) and whole.dtype == np.float32
    np.testing.assert_allclose(part, whole[5::7, ::4, 20:], atol=1e-5)
    moved = field.sample((axes[0] + 16 * 4, axes[1] - 16 * 5, axes[2]))
    np.testing.assert_allclose(moved, whole, atol=1e-4)


def test_a_field_has_unit_deviation_and_is_smooth():
    field = fields.draw_field(np.random.default_rng(4), 3.0, cells=24)
    values = field.sample(tuple(np.arange(0, 72, 1.0) for _ in range(3)))
    assert abs(values.mean()) < 0.1 and values.std() == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(values, axis=0)).max() < 2


def test_field_weights_against_scipy_spline():
    from scipy.interpolate import BSpline

    position = np.linspace(2, 6, 23)
    weights = fields._spline_weights(position, 12)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    basis = BSpline.basis_element(np.arange(-2, 3), extrapolate=False)
    expected = np.nan_to_num(basis(position[:, None] - np.arange(12)[None]))
    np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_shading_stays_within_its_amplitude_and_is_smooth():
    axes = fields.centers_mm((31, 21, 11), (6, 6, 11))
    shade = fields.shading(np.random.default_rng(5), axes, 0.25)
    assert shade.min() >= 0.75 and shade.max() <= 1.25 and np.ptp(shade) > 0.05
    assert np.abs(np.diff(shade, n=2, axis=0)).max() < 0.05


def test_slice_profile_leaves_a_constant_and_mixes_neighbours():
    volume = np.zeros((3, 5, 7), np.float32)
    volume[1, 2, 3] = 10
    mixed = fields.slice_profile(volume, 0.1)
    np.testing.assert_allclose(mixed[1, 2], [0, 0, 1, 8, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(fields.slice_profile(np.full((2, 3, 4), 5, np.float32), 0.1), 5, rtol=1e-6)


def test_rician_noise_in_air_and_in_bright_tissue():
    rng = np.random.default_rng(6)
    air = fields.rician(rng, np.zeros((40, 50, 60), np.float32), 7.0)
    assert air.min() >= 0 and air.mean() == pytest.approx(7 * np.sqrt(np.pi / 2), rel=0.01)
    bright = fields.rician(rng, np.full((40, 50, 60), 200, np.float32), 7.0)
    assert np.square(bright).mean() == pytest.approx(200**2 + 2 * 7**2, rel=0.01)
    assert bright.std() == pytest.approx(7, rel=0.02)
