"""Linear interpolation in the graph against SciPy, SimpleITK and the NumPy rule."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import tensorflow as tf
from scipy import ndimage

from tfsono.geometry import resampling
from tfsono.inference.resample import resample_linear, resampled_arg_max, resampled_size

SIZES = [((7, 5, 9), (11, 3, 9)), ((6, 13, 4), (3, 26, 1)), ((5, 1, 3), (8, 4, 7))]


@pytest.mark.parametrize("size, new_size", SIZES)
def test_linear_agrees_with_scipy(size, new_size):
    volume = np.random.default_rng(0).normal(size=size).astype(np.float32)
    axes = [(np.arange(new) + 0.5) * old / new - 0.5 for old, new in zip(size, new_size, strict=True)]
    places = np.clip(np.stack(np.meshgrid(*axes, indexing="ij")), 0, np.array(size).reshape(3, 1, 1, 1) - 1)
    expected = ndimage.map_coordinates(volume.astype(float), places, order=1, mode="nearest")
    prediction = tf.function(resample_linear)(volume, tf.constant(new_size)).numpy()
    np.testing.assert_allclose(prediction, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size, new_size", SIZES)
def test_linear_agrees_with_the_numpy_rule(size, new_size):
    volume = np.random.default_rng(1).normal(size=size).astype(np.float32)
    prediction = resample_linear(volume, tf.constant(new_size))
    np.testing.assert_allclose(prediction, resampling.resample_volume(volume, new_size), rtol=1e-5, atol=1e-6)


def test_linear_agrees_with_simpleitk_inside_the_volume():
    size, new_size = (9, 7, 12), (13, 10, 5)
    volume = np.random.default_rng(2).normal(size=size).astype(np.float32)
    image = sitk.GetImageFromArray(volume.transpose(2, 1, 0))
    spacing = [old / new for old, new in zip(size, new_size, strict=True)]
    origin = [0.5 * step - 0.5 for step in spacing]
    resampled = sitk.Resample(image, new_size, sitk.Transform(), sitk.sitkLinear, origin, spacing,
                              (1, 0, 0, 0, 1, 0, 0, 0, 1), 0.0, sitk.sitkFloat32)
    expected = sitk.GetArrayFromImage(resampled).transpose(2, 1, 0)
    inner = (slice(1, -1),) * 3
    prediction = resample_linear(volume, tf.constant(new_size))
    np.testing.assert_allclose(prediction[inner], expected[inner], atol=1e-5)


def test_the_same_size_changes_nothing():
    volume = np.random.default_rng(4).normal(size=(5, 7, 3)).astype(np.float32)
    assert (resample_linear(volume, tf.constant((5, 7, 3))).numpy() == volume).all()


def test_sizes_agree_with_the_numpy_rule():
    random = np.random.default_rng(5)
    for _ in range(60):
        size = random.integers(1, 400, 3)
        spacing, target = random.uniform(0.2, 3, 3).astype(np.float32), random.uniform(0.2, 3, 3)
        expected = resampling.resampled_size(tuple(size), tuple(spacing / target))
        assert tuple(resampled_size(size, spacing, target).numpy()) == expected


def test_sizes_survive_spacings_of_32_bits():
    spacing = np.array([0.7, 0.3, 1.1], np.float32)
    assert resampled_size((100, 100, 100), spacing, (1.4, 0.6, 2.2)).numpy().tolist() == [50, 50, 50]
    assert resampled_size((300, 200, 100), spacing, (0.7, 0.3, 1.1)).numpy().tolist() == [300, 200, 100]
    assert resampled_size((3, 2, 1), spacing, (9.0, 9.0, 9.0)).numpy().tolist() == [1, 1, 1]


def test_a_needless_change_keeps_the_size_as_the_cache_does():
    assert resampled_size((300, 200, 100), np.float32([0.9995, 1, 1]), (1.0, 1.0, 1.0)).numpy().tolist() \
        == [300, 200, 100]
    assert resampled_size((300, 200, 100), np.float32([0.99, 1, 1]), (1.0, 1.0, 1.0)).numpy().tolist() \
        == [297, 200, 100]


def test_impossible_spacing_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="spacing_mm"):
        resampled_size((3, 4, 5), np.float32([1, 0, 1]), (1.0, 1.0, 1.0))


def test_arg_max_is_that_of_all_classes_at_once():
    probabilities = np.random.default_rng(6).dirichlet(np.ones(4), (5, 7, 6)).astype(np.float32)
    new_size = tf.constant((11, 4, 13))
    every = np.stack([resample_linear(probabilities[..., label], new_size) for label in range(4)], -1)
    prediction = tf.function(resampled_arg_max)(probabilities, new_size).numpy()
    assert prediction.dtype == np.uint8
    assert (prediction == every.argmax(-1)).all()
