"""Gaussian maps and points from maps: cases solved by hand, odd sides, and what goes wrong without a temperature."""

import keras
import numpy as np
import pytest

from tfsono.geometry.heatmaps import (
    argmax_points,
    centroid_points,
    decoded,
    gaussian_maps,
    soft_argmax_points,
    to_cells,
    to_pixels,
)


def array(value):
    return keras.ops.convert_to_numpy(value)


def test_cells_and_pixels_keep_the_extent():
    # 4 pixels 0..3 are one cell: its centre lies at 1.5, its edges at -0.5 and 3.5
    assert to_cells(np.array([1.5, -0.5, 3.5]), 4) == pytest.approx([0, -0.5, 0.5])
    assert to_pixels(to_cells(np.array([7.25, 100.0]), 4), 4) == pytest.approx([7.25, 100])


def test_a_map_is_the_formula_cell_by_cell():
    points = np.array([[[10.0, 3.5], [25.0, 17.25]]], np.float32)
    maps = array(gaussian_maps(points, (5, 7), 1.5, 4))
    assert maps.shape == (1, 5, 7, 2) and maps.dtype == np.float32
    for landmark in range(2):
        x, y = (points[0, landmark] + 0.5) / 4 - 0.5
        for row in range(5):
            for column in range(7):
                expected = np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * 1.5 ** 2))
                assert maps[0, row, column, landmark] == pytest.approx(expected, rel=1e-5)


def test_an_unknown_point_gives_zeros_and_leaves_the_others_alone():
    points = np.array([[[np.nan, 3.0], [4.0, 5.0]]], np.float32)
    maps = array(gaussian_maps(points, (9, 11), 2, 1))
    assert (maps[..., 0] == 0).all() and maps[0, 5, 4, 1] == 1


def test_decoding_comes_back_to_the_point(seed=0):
    random = np.random.default_rng(seed)
    points = random.uniform((12, 12), (240, 176), (6, 4, 2)).astype("float32")
    maps = gaussian_maps(points, (48, 64), 1.5, 4)
    errors = [np.abs(array(found) - points) for found in (
        argmax_points(maps, 4), centroid_points(maps, 4), soft_argmax_points(maps, 50, 4))]
    assert errors[0].max() <= 2 + 1e-3  # half a cell
    assert 1.0 < errors[0].max()  # which is why the other two exist
    assert errors[1].max() < 0.35
    assert errors[2].max() < 1.5


def test_argmax_of_odd_sides_is_x_then_y():
    maps = np.zeros((2, 5, 3, 1), np.float32)
    maps[0, 4, 1], maps[1, 2, 2] = 1, 1
    assert array(argmax_points(maps, 1))[:, 0].tolist() == [[1, 4], [2, 2]]
    assert array(argmax_points(maps, 4))[:, 0].tolist() == [[5.5, 17.5], [9.5, 9.5]]


def test_soft_argmax_needs_a_temperature():
    """The specification's numbers for a map of 128 x 128 and a peak at (20, 100)."""
    maps = gaussian_maps(np.array([[[20.0, 100.0]]], np.float32), (128, 128), 2, 1)
    found = {beta: array(soft_argmax_points(maps, beta, 1))[0, 0] for beta in (1, 5, 10, 20, 50)}
    assert found[1] == pytest.approx([63.4, 63.6], abs=0.1)
    assert found[5] == pytest.approx([61.1, 65.5], abs=0.1)
    assert found[10] == pytest.approx([29, 92], abs=0.5)
    assert found[20] == pytest.approx([20, 100], abs=0.05)
    assert found[50] == pytest.approx([20, 100], abs=0.01)


def test_soft_argmax_of_high_maps_stays_finite_and_has_a_slope():
    maps = keras.Variable(np.random.default_rng(1).normal(0, 100, (1, 7, 9, 1)).astype("float32"))
    found = array(soft_argmax_points(maps, 50, 4))
    assert np.isfinite(found).all()
    tf = pytest.importorskip("tensorflow")
    flat = tf.zeros((1, 7, 9, 1))
    with tf.GradientTape() as tape:
        tape.watch(flat)
        x = tf.reduce_sum(soft_argmax_points(flat, 50, 4)[..., 0])
    slope = tape.gradient(x, flat).numpy()[0, 0, :, 0]
    # x = sum over cells of weight * x: its slope is beta * weight * (x - mean), weights 1 / 63, cells of 4 pixels
    assert slope == pytest.approx(50 / 63 * 4 * (np.arange(9) - 4), abs=1e-4)


def test_a_centroid_without_a_peak_is_the_highest_cell():
    maps = np.zeros((1, 7, 9, 1), np.float32)
    assert array(centroid_points(maps, 1))[0, 0].tolist() == [0, 0]
    maps -= 1
    maps[0, 3, 5] = -0.5
    assert array(centroid_points(maps, 1))[0, 0] == pytest.approx([5, 3])


def test_a_centroid_does_not_see_a_second_peak():
    maps = gaussian_maps(np.array([[[5.3, 6.2], [30.0, 20.0]]], np.float32), (31, 41), 1.5, 1)
    both = array(maps[..., :1] + 0.8 * maps[..., 1:])
    assert array(centroid_points(both, 1))[0, 0] == pytest.approx([5.3, 6.2], abs=0.1)


# --- volumes: maps [B, X, Y, Z, K], points (x, y, z)


def test_a_volumes_map_is_the_formula_voxel_by_voxel():
    points = np.array([[[3.25, 8.5, 1.75]], [[0.0, 2.0, 5.5]]], np.float32)
    size = (5, 11, 7)
    maps = array(gaussian_maps(points, size, 1.5))
    assert maps.shape == (2, *size, 1) and maps.dtype == np.float32
    for sample in range(2):
        squared = sum((axis - p) ** 2 for axis, p in zip(np.indices(size), points[sample, 0], strict=True))
        np.testing.assert_allclose(maps[sample, ..., 0], np.exp(-squared / (2 * 1.5 ** 2)), rtol=1e-4, atol=1e-30)


def test_an_unknown_point_of_a_volume_gives_zeros():
    points = np.array([[[1, np.nan, 2], [1, 2, 2]]], np.float32)
    maps = array(gaussian_maps(points, (5, 3, 7), 1))
    assert not maps[..., 0].any() and maps[0, 1, 2, 2, 1] == 1


def test_argmax_of_a_volume_is_x_y_z_and_the_first_of_equals():
    random = np.random.default_rng(0)
    maps = random.normal(0, 1, (3, 5, 11, 7, 4)).astype(np.float32)
    found = array(argmax_points(maps))
    for sample in range(3):
        for landmark in range(4):
            place = np.unravel_index(np.argmax(maps[sample, ..., landmark]), (5, 11, 7))
            assert found[sample, landmark].tolist() == list(place)
    maps[0, 1, 2, 3, 0] = maps[0, 4, 0, 0, 0] = 99
    assert array(argmax_points(maps))[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_decoding_of_a_volume_comes_back_to_the_point(count):
    random = np.random.default_rng(count)
    size = (33, 21, 27)
    points = random.uniform(5, np.array(size) - 6, (2, count, 3)).astype("float32")
    maps = gaussian_maps(points, size, 2.0)
    errors = [np.abs(array(found) - points).max() for found in (
        argmax_points(maps), centroid_points(maps), soft_argmax_points(maps, 50))]
    assert 0.3 < errors[0] <= 0.5 + 1e-3 and errors[1] < 0.12 and errors[2] < 0.4


def test_a_centroid_of_a_volume_looks_at_five_voxels_a_side():
    maps = np.zeros((1, 13, 11, 17, 1), np.float32)
    maps[0, 6, 5, 8] = 1
    maps[0, 6, 5, 10] = maps[0, 8, 3, 8] = 0.8  # both in the window
    maps[0, 6, 5, 11] = maps[0, 9, 5, 8] = 0.9  # both beyond it
    weights = np.array([0.7, 0.5, 0.5])
    expected = weights @ np.array([[6, 5, 8], [6, 5, 10], [8, 3, 8]]) / weights.sum()
    assert array(centroid_points(maps))[0, 0] == pytest.approx(expected, rel=1e-5)


def test_soft_argmax_of_a_volume_is_the_softmax_over_what_counts():
    random = np.random.default_rng(2)
    size = (5, 9, 7)
    maps = random.normal(0, 0.1, (2, *size, 3)).astype(np.float32)
    counted = random.random((2, *size, 3)) < 0.5
    maps[~counted] += 10 * random.random((~counted).sum())
    grid = np.indices(size)
    for name, chosen in (("each", counted), ("all maps", counted[..., :1]), ("float", counted.astype(np.float32))):
        found = array(soft_argmax_points(maps, 50, counted=chosen))
        chosen = np.broadcast_to(chosen, maps.shape) > 0
        for sample, landmark in np.ndindex(2, 3):
            weights = np.exp(50.0 * np.where(chosen, maps, -np.inf)[sample, ..., landmark].astype(np.float64))
            expected = (grid * weights / weights.sum()).sum((1, 2, 3))
            assert found[sample, landmark] == pytest.approx(expected, rel=1e-4, abs=1e-4), name


def test_soft_argmax_where_nothing_counts_is_finite_and_has_no_slope():
    tf = pytest.importorskip("tensorflow")
    maps = 0.05 * tf.random.stateless_normal((1, 5, 3, 7, 2), (0, 1))
    counted = np.ones((1, 5, 3, 7, 2), bool)
    counted[..., 0] = False
    counted[:, 4] = False
    with tf.GradientTape() as tape:
        tape.watch(maps)
        found = soft_argmax_points(maps, 50, counted=counted)
        total = tf.reduce_sum(found)
    slope = tape.gradient(total, maps).numpy()
    assert found.numpy()[0, 0].tolist() == [0, 0, 0] and found.numpy()[0, 1].any()
    assert (slope[~counted] == 0).all() and np.abs(slope[counted]).max() > 0.01


def test_sides_that_a_graph_does_not_know_beforehand():
    tf = pytest.importorskip("tensorflow")

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, None, 2))])
    def decode(maps):
        return argmax_points(maps), centroid_points(maps), soft_argmax_points(maps, 50, counted=maps > -1)

    for size in ((9, 11, 13), (15, 7, 10)):
        points = np.array([[[3, 4, 5], [6, 2, 7]]], np.float32)
        for found in decode(gaussian_maps(points, size, 1.0)):
            assert found.numpy() == pytest.approx(points, abs=0.02)


@pytest.mark.parametrize(("sigma", "narrow"), [(2.0, 0.05), (3.0, 0.2)])
def test_a_wide_centroid_follows_a_wide_peak(sigma, narrow):
    points = 10 + np.random.default_rng(0).uniform(-0.5, 0.5, (1, 60, 3)).astype(np.float32)
    maps = gaussian_maps(points, (21, 21, 21), sigma)
    missed = {name: np.linalg.norm(array(decoded(maps, name, sigma)) - points, axis=-1).mean()
              for name in ("argmax", "centroid", "wide_centroid")}
    assert missed["wide_centroid"] < 0.02 < narrow < missed["centroid"] < missed["argmax"]
    np.testing.assert_array_equal(array(decoded(maps, "centroid", sigma)), array(centroid_points(maps)))
    np.testing.assert_array_equal(array(decoded(maps, "argmax", sigma)), array(argmax_points(maps)))
