"""Random transforms: identity, exact rotations, SciPy's resampling, seeds, padding."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from tfsono.augment import Augmentation, random_intensity, random_matrix, resample

SIDES = (9, 7, 11)


@pytest.fixture
def window():
    random = np.random.default_rng(3)
    return random.normal(size=SIDES).astype("float32"), random.integers(0, 4, SIDES).astype("uint8")


def whole(shape):
    return np.array([0, 0, 0, *shape], np.int32)


def call(image, label, box, matrix, patch):
    return [np.asarray(part) for part in resample(tf.constant(image), tf.constant(label), tf.constant(box),
                                                  tf.constant(np.asarray(matrix, np.float32)), patch)]


def test_identity_gives_the_middle_of_the_window(window):
    image, label, valid = call(*window, whole(SIDES), np.eye(3), (5, 3, 7))
    np.testing.assert_allclose(image, window[0][2:7, 2:5, 2:9], atol=1e-6)
    np.testing.assert_array_equal(label, window[1][2:7, 2:5, 2:9])
    assert valid.all()


def test_90_degrees_are_exact(window):
    rotated = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    image, label, _ = call(*window, whole(SIDES), rotated, (7, 9, 11))
    expected = np.rot90(window[0], -1, (0, 1))  # out[i, j] = in[-j, i] about the middle
    np.testing.assert_allclose(image, expected, atol=1e-5)
    np.testing.assert_array_equal(label, np.rot90(window[1], -1, (0, 1)))


def test_a_tilt_agrees_with_scipy(window):
    matrix = np.asarray(random_matrix([4, 5], Augmentation(25.0, 0.2), tf.constant([0.5, 1.0, 2.0])))
    image, label, valid = call(*window, whole(SIDES), matrix, (5, 3, 5))
    middle_in, middle_out = (np.array(SIDES) - 1) / 2, (np.array((5, 3, 5)) - 1) / 2
    offset = middle_in - matrix @ middle_out
    expected = ndimage.affine_transform(window[0], matrix, offset, (5, 3, 5), order=1, mode="nearest")
    np.testing.assert_allclose(image[valid], expected[valid], atol=1e-4)
    nearest = ndimage.affine_transform(window[1], matrix, offset, (5, 3, 5), order=0, mode="nearest")
    assert (label == nearest)[valid].mean() > 0.98  # ties may go either way
    assert valid.any()


def test_outside_the_volume_is_not_valid_and_its_voxels_do_not_leak(window):
    image = window[0].copy()
    image[:3] = 1e9  # padding of the window
    box = np.array([3, 0, 0, *SIDES], np.int32)
    out, _, valid = call(image, window[1], box, np.eye(3), SIDES)
    assert not valid[:3].any() and valid[3:].all()
    assert np.abs(out).max() < 100


def test_millimetres_are_not_sheared():
    spacing = np.array([0.5, 1.0, 3.0], np.float32)
    for position in range(20):
        matrix = np.asarray(random_matrix([7, position], Augmentation(40.0), tf.constant(spacing)))
        in_mm = np.diag(spacing) @ matrix @ np.diag(1 / spacing)
        np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-5)
        assert np.linalg.det(in_mm) == pytest.approx(1, abs=1e-5)


def test_scaling_and_mirror_stay_within_their_range():
    matrices = [np.asarray(random_matrix([1, i], Augmentation(0, 0.2, 0.5), tf.ones(3))) for i in range(60)]
    scales = np.array([1 / abs(m[1, 1]) for m in matrices])
    assert 0.8 <= scales.min() < 0.85 and 1.15 < scales.max() <= 1.2
    flipped = np.mean([m[0, 0] < 0 for m in matrices])
    assert 0.25 < flipped < 0.75
    assert all(m[1, 1] > 0 and m[2, 2] > 0 for m in matrices)


def test_same_seed_same_draw_and_other_seed_other_draw():
    augmentation = Augmentation(10.0, 0.1)
    one, same, other = (np.asarray(random_matrix(seed, augmentation, tf.ones(3))) for seed in ([1, 2], [1, 2], [1, 3]))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_window_holds_a_rotated_patch():
    assert Augmentation(mirror_share=0.5).window((8, 16, 24), np.ones(3)) == (8, 16, 24)


@pytest.mark.parametrize("augmentation", [Augmentation(15.0, 0.15), Augmentation(30.0), Augmentation(180.0, 0.1)])
def test_no_transform_reaches_beyond_the_window(augmentation):
    """The highest reach of 2000 drawn matrices, in voxels."""
    patch, spacing = np.array((8, 16, 24)), np.array([0.6, 0.6, 1.2], np.float32)
    seeds = tf.stack([tf.fill([2000], 7), tf.range(2000)], 1)
    drawn = tf.function(lambda: tf.map_fn(lambda seed: random_matrix(seed, augmentation, spacing), seeds,
                                          fn_output_signature=tf.float32))
    matrices = drawn().numpy()
    reached = (np.abs(matrices) @ ((patch - 1) / 2)).max(axis=0)
    window = np.array(augmentation.window(tuple(patch), spacing))
    assert (reached <= (window - 1) / 2).all() and ((window - patch) % 2 == 0).all()
    assert Augmentation(15.0, 0.15).window((64, 64, 64), np.ones(3)) == (112, 112, 112)  # 107.8 at the farthest


def test_intensity_keeps_the_padding_and_changes_the_rest(window):
    valid = np.ones(SIDES, bool)
    valid[6:] = False
    out = np.asarray(random_intensity(tf.constant(window[0]), tf.constant(valid), [3, 4], 0.4))
    np.testing.assert_array_equal(out[~valid], window[0][~valid])
    assert np.abs(out - window[0])[valid].mean() > 0.01 and np.isfinite(out).all()
    again = np.asarray(random_intensity(tf.constant(window[0]), tf.constant(valid), [3, 4], 0.4))
    np.testing.assert_array_equal(out, again)


def test_intensity_keeps_the_order_of_a_ramp_without_noise_of_note():
    ramp = np.linspace(0, 1, 1000, dtype="float32").reshape(10, 10, 10)
    out = np.asarray(random_intensity(tf.constant(ramp), tf.ones((10, 10, 10), tf.bool), [3, 4], 0.05))
    assert np.corrcoef(out.ravel(), ramp.ravel())[0, 1] > 0.99
