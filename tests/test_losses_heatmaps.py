"""Losses of heatmaps in volumes, against loops over voxels in NumPy; what does not count; maps they tell apart."""

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


def test_top_cross_entropy_by_hand(case):
    def of_map(target, found, most):
        values = -(target * np.log(found) + (1 - target) * np.log(1 - found))
        return np.sort(values)[::-1][:most].sum() / target.sum()

    most = int(np.ceil(0.2 * np.prod(SIZE)))  # of all voxels, as nnLandmark
    expected = [np.mean([of_map(*pair, most) for pair in known_maps(*each)]) for each in zip(*case, strict=True)]
    assert array(heatmaps.top_cross_entropy(*case)) == pytest.approx(expected, rel=1e-5)


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


def test_the_overlap_by_hand(case):
    expected = []
    for target, found in zip(*case, strict=True):
        counted = np.isfinite(target)
        t, m = np.where(counted, target, 0).astype(float), np.where(counted, found, 0).astype(float)
        expected.append(sum(max(0, np.sum(m[..., i] * m[..., j]) - np.sum(t[..., i] * t[..., j]))
                            for i, j in ((0, 1), (0, 2), (1, 2))))
    assert array(heatmaps.overlap(*case)) == pytest.approx(expected, rel=1e-4)
    both = array(heatmaps.detector_loss("weighted_l2", 0.5)(*case))
    assert both == pytest.approx(array(heatmaps.weighted_error(*case)) + 0.5 * np.array(expected), rel=1e-4)


def test_two_half_peaks_each_overlap_and_the_targets_do_not():
    targets = maps_of([[1, 1, 1], [7, 5, 6]])
    halves = np.repeat(targets.mean(-1, keepdims=True), 2, -1)
    assert array(heatmaps.overlap(targets, targets)) == pytest.approx(0, abs=1e-5)
    assert array(heatmaps.overlap(targets, halves)) > 5
    near = maps_of([[4, 3, 4], [5, 3, 4]])  # of neighbours the targets overlap themselves
    assert array(heatmaps.overlap(near, near)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("kind, exclusion", [(kind, weight) for kind in HEATMAP_LOSSES for weight in (0.0, 1.0)])
def test_voxels_that_do_not_count_have_no_influence_and_no_gradient(case, kind, exclusion):
    targets, maps = case
    loss = heatmaps.detector_loss(kind, exclusion)
    value, gradient = gradient_of(loss, targets, maps)
    other = np.where(np.isfinite(targets), maps, 0.5)
    assert array(loss(targets, other)) == pytest.approx(value, rel=1e-6)
    assert value.dtype == np.float32 and value.shape == (2,) and np.isfinite(gradient).all()
    assert (gradient[np.isnan(targets)] == 0).all() and gradient[1].any()
    value, gradient = gradient_of(loss, np.full_like(targets, NAN), maps)
    assert (value == 0).all() and (gradient == 0).all()


def test_the_cross_entropy_of_certain_logits_is_finite_and_wrong_ones_keep_their_gradient():
    targets = maps_of([[4, 3, 4]])
    wrong = np.where(targets > 0.5, -60, 10).astype(np.float32)
    value, gradient = gradient_of(lambda t, logits: heatmaps.top_cross_entropy(t, tf.sigmoid(logits)), targets, wrong)
    assert np.isfinite(value).all() and (gradient[targets > 0.5] < 0).all()
    assert gradient[targets == targets.max()] == pytest.approx(-1 / targets.sum(), rel=1e-3)
