"""Losses of heatmaps in volumes, against loops over voxels in NumPy; what does not count."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.configs.pose import HEATMAP_LOSSES
from tfsono.geometry.heatmaps import gaussian_maps
from tfsono.losses import heatmaps
from tfsono.losses.joint import heatmap_error

NAN = np.nan
SIZE = (9, 7, 8)


def array(value):
    return keras.ops.convert_to_numpy(value)


def maps_of(points, size=SIZE, sigma=1.5):
    """Gaussian maps [1, X, Y, Z, K] of points [K, 3]."""
    return array(gaussian_maps(np.array([points], np.float32), size, sigma))


@pytest.fixture
def case():
    """Two samples of three landmarks: some voxels of the second do not count, nor does its last landmark."""
    random = np.random.default_rng(0)
    targets = np.concatenate([maps_of(random.uniform(1, 6, (3, 3))) for _ in range(2)])
    targets[1, 6:] = NAN
    targets[1, ..., 2] = NAN
    return targets, random.uniform(0.01, 0.99, targets.shape).astype(np.float32)


def gradient_of(loss, targets, maps):
    variable = tf.constant(maps)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = loss(targets, variable)
        total = tf.reduce_sum(value)
    return value.numpy(), tape.gradient(total, variable).numpy()


def known_maps(targets, maps):
    """(target, map) of each known landmark of one sample, the voxels that count in a row."""
    for landmark in range(targets.shape[-1]):
        counted = np.isfinite(targets[..., landmark])
        if counted.any():
            yield targets[..., landmark][counted].astype(float), maps[..., landmark][counted].astype(float)


def test_weighted_error_by_hand(case):
    expected = [sum(np.sum(0.5 * (1 + 20 * t) * (m - t) ** 2) for t, m in known_maps(*each))
                for each in zip(*case, strict=True)]
    assert array(heatmaps.weighted_error(*case)) == pytest.approx(expected, rel=1e-5)
    assert array(heatmaps.weighted_error(*case, weight=0.0)) == pytest.approx(array(heatmap_error(*case)), rel=1e-5)


def test_adaptive_wing_by_hand(case):
    targets, maps = case
    expected = []
    for target, found in zip(targets, maps, strict=True):
        values = []
        for landmark in range(3):
            counted = np.isfinite(target[..., landmark])
            if not counted.any():
                continue
            y = np.where(counted, target[..., landmark], 0).astype(float)
            size, power = np.abs(found[..., landmark] - y), 2.1 - y
            slope = 14 * power * 0.5 ** (power - 1) / (1 + 0.5 ** power)  # epsilon is 1
            far = slope * size - (0.5 * slope - 14 * np.log(1 + 0.5 ** power))
            each = np.where(size < 0.5, 14 * np.log(1 + size ** power), far)
            padded = np.pad(y, 1)
            near = np.max([padded[x:x + 9, y_:y_ + 7, z:z + 8] for x, y_, z in itertools.product(range(3), repeat=3)],
                          axis=0) >= 0.2
            values.append(np.sum((each * (1 + 10 * near))[counted]) / y.sum())
        expected.append(np.mean(values))
    assert array(heatmaps.adaptive_wing(targets, maps)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", HEATMAP_LOSSES)
def test_voxels_that_do_not_count_have_no_influence_and_no_gradient(case, kind):
    targets, maps = case
    loss = heatmaps.detector_loss(kind)
    value, gradient = gradient_of(loss, targets, maps)
    other = np.where(np.isfinite(targets), maps, 0.5)
    assert array(loss(targets, other)) == pytest.approx(value, rel=1e-6)
    assert value.dtype == np.float32 and value.shape == (2,) and np.isfinite(gradient).all()
    assert (gradient[np.isnan(targets)] == 0).all() and gradient[1].any()
    value, gradient = gradient_of(loss, np.full_like(targets, NAN), maps)
    assert (value == 0).all() and (gradient == 0).all()
