"""Losses of a mask and heatmaps together, against NumPy and the specification's magnitudes; what does not count."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

from tfsono.geometry.heatmaps import argmax_points, gaussian_maps
from tfsono.losses import joint

NAN = np.nan
MASK_LOSSES = [joint.hybrid, joint.lineage_hybrid, joint.weighted_cross_entropy, joint.squared_dice_loss]
HEATMAP_LOSSES = [joint.heatmap_error, joint.centre_distance, joint.heatmap_loss(0.5)]


def array(value):
    return keras.ops.convert_to_numpy(value)


def number(value):
    value = array(value)
    assert value.shape == (1,) and value.dtype == np.float32
    return float(value[0])


def gradient_of(loss, reference, prediction):
    """The loss [B] and its gradient by the prediction, as arrays."""
    variable = tf.constant(prediction)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = loss(reference, variable)
        total = tf.reduce_sum(value)
    gradient = tape.gradient(total, variable, unconnected_gradients="zero")
    return value.numpy(), gradient.numpy()


def maps_of(points, size, sigma=1.5):
    """Gaussian maps [1, X, Y, Z, K] of points [K, 3]."""
    return array(gaussian_maps(np.array([points], np.float32), size, sigma))


@pytest.fixture
def case():
    """Two samples of unequal odd sides with three classes; some voxels of the second do not count."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (2, 5, 3, 7, 1)).astype(np.int8)
    labels[1, 3:] = -1
    labels[1][labels[1] == 2] = 1  # the second sample does not hold class 2
    return labels, random.normal(0, 2, (2, 5, 3, 7, 3)).astype(np.float32)


# --- the mask, by a loop over classes and the counted voxels alone


def by_hand(labels, logits, kind):
    """(L_wCross, L_DSC) of one sample, class by class."""
    reference, z = labels[labels >= 0], logits[labels[..., 0] >= 0].astype(np.float64)
    p, log_p = softmax(z, -1), log_softmax(z, -1)
    cross, dices = 0.0, []
    for c in range(z.shape[-1]):
        g = (reference == c).astype(np.float64)
        log_c = np.log(np.clip(p[:, c], 0.005, 1)) if kind == "lineage" else log_p[:, c]
        cross -= np.mean((1 - g.mean()) * g * log_c)
        if kind == "lineage":
            dices.append(2 * np.mean(z[:, c] * g) / (np.sum(z[:, c] ** 2) + np.sum(g)))
        elif g.any():
            dices.append(2 * np.sum(p[:, c] * g) / (np.sum(p[:, c] ** 2) + np.sum(g)))
    return cross, -sum(dices) if kind == "lineage" else 1 - np.mean(dices)


@pytest.mark.parametrize("kind", ["corrected", "lineage"])
def test_hybrid_is_the_formula(case, kind):
    parts = [by_hand(labels, logits, kind) for labels, logits in zip(*case, strict=True)]
    expected = [cross + 7 * dice for cross, dice in parts]
    of_kind = {"corrected": joint.hybrid, "lineage": joint.lineage_hybrid}[kind]
    assert array(of_kind(*case, 7.0)) == pytest.approx(expected, rel=1e-4)
    if kind == "corrected":
        assert array(joint.weighted_cross_entropy(*case)) == pytest.approx([c for c, _ in parts], rel=1e-5)
        assert array(joint.squared_dice_loss(*case)) == pytest.approx([d for _, d in parts], rel=1e-5)


@pytest.mark.parametrize("kind", ["corrected", "lineage"])
def test_the_mask_loss_is_of_the_whole_batch(case, kind):
    cross, dice = by_hand(*case, kind)
    assert array(joint.mask_loss(kind, 7.0)(*case)) == pytest.approx([cross + 7 * dice] * 2, rel=1e-4)


def test_false_bone_in_an_empty_slice_costs_as_much_as_in_another():
    """Each slice by itself would forgive it: the background's Dice alone hardly changes."""
    labels = np.zeros((2, 15, 9, 1), np.int8)
    labels[0, 4:8, 3:6] = 1
    right = 20.0 * labels - 10
    costs = []
    for row in (0, 1):
        wrong = right.copy()
        wrong[row, 10:14, 3:6] = 10
        costs.append(number(joint.mask_loss()(labels, np.concatenate([-wrong, wrong], -1))[:1]))
    assert costs[0] == pytest.approx(costs[1], rel=1e-4) and costs[0] > 15


@pytest.mark.parametrize("loss", MASK_LOSSES)
def test_slices_are_treated_as_volumes(case, loss):
    labels, logits = case
    flat = loss(labels.reshape(2, 15, 7, 1), logits.reshape(2, 15, 7, 3))
    assert array(flat) == pytest.approx(array(loss(labels, logits)), rel=1e-5)


@pytest.mark.parametrize("loss", MASK_LOSSES)
def test_predictions_in_voxels_that_do_not_count_have_no_influence(case, loss):
    labels, logits = case
    other = np.where(labels >= 0, logits, 50 - 3 * logits)
    before, gradient = gradient_of(loss, labels, logits)
    after, _ = gradient_of(loss, labels, other)
    assert after == pytest.approx(before, rel=1e-6)
    assert (gradient[np.broadcast_to(labels < 0, gradient.shape)] == 0).all() and gradient[1].any()


def test_magnitudes_at_the_start_are_the_specifications():
    """3 % foreground and a network that knows nothing: L_wCross about 0.04, theta L_DSC 55, of the foreground 89."""
    labels = np.zeros((1, 20, 10, 5, 1), np.int8)
    labels.reshape(-1)[:30] = 1
    logits = np.zeros((1, 20, 10, 5, 2), np.float32)
    assert number(joint.weighted_cross_entropy(labels, logits)) == pytest.approx(2 * 0.03 * 0.97 * np.log(2), rel=1e-4)
    foreground, background = 0.03 / 0.28, 0.97 / 1.22  # 2 sum(p g) / (sum p^2 + sum g^2), p = 0.5
    assert 100 * (1 - foreground) == pytest.approx(89, abs=1)
    assert number(joint.hybrid(labels, logits)) == pytest.approx(
        0.0403 + 100 * (1 - (foreground + background) / 2), rel=1e-4)
    assert abs(number(joint.lineage_hybrid(labels, logits, 0.0))) == pytest.approx(0.0403, rel=1e-2)


def test_the_lineages_dice_is_a_millionth():
    labels = np.zeros((1, 40, 40, 40, 1), np.int8)
    labels[0, :20, :3] = 1
    random = np.random.default_rng(0)
    logits = random.normal(1, 0.5, (1, 40, 40, 40, 2)).astype(np.float32)
    assert 0 < abs(number(joint.lineage_hybrid(labels, logits, 1.0)) - number(
        joint.lineage_hybrid(labels, logits, 0.0))) < 1e-4
    assert number(joint.squared_dice_loss(labels, logits)) > 0.1


@pytest.mark.parametrize("wrong", [False, True])
def test_certain_predictions_have_finite_gradients_and_wrong_ones_keep_theirs(wrong):
    labels = np.zeros((1, 4, 3, 5, 1), np.int8)
    labels[0, 0] = 1
    sign = (2.0 * labels - 1) * (-1 if wrong else 1)
    logits = np.concatenate([-60 * sign, 60 * sign], -1).astype(np.float32)
    value, gradient = gradient_of(joint.hybrid, labels, logits)
    assert np.isfinite(gradient).all()
    if wrong:
        assert value[0] > 100 and (np.abs(gradient) > 1e-6).all()
        _, clipped = gradient_of(joint.mask_loss("lineage", 0.0), labels, logits)
        assert (clipped == 0).all()  # the lineage's clip
    else:
        assert value[0] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("loss", MASK_LOSSES)
def test_no_mask_is_no_loss(loss):
    random = np.random.default_rng(0)
    value, gradient = gradient_of(loss, np.full((2, 3, 5, 2, 1), -1, np.int8), random.normal(
        0, 9, (2, 3, 5, 2, 2)).astype(np.float32))
    assert (value == 0).all() and (gradient == 0).all()


# --- heatmaps


def test_heatmap_error_is_half_the_sum_of_squares_that_count():
    random = np.random.default_rng(1)
    targets, maps = random.random((2, 2, 5, 3, 7, 3)).astype(np.float32)
    targets[0, 3:] = NAN
    targets[1, ..., 1] = NAN
    expected = 0.5 * np.nansum(np.square(maps - targets), (1, 2, 3, 4))
    value, gradient = gradient_of(joint.heatmap_error, targets, maps)
    assert value == pytest.approx(expected, rel=1e-5)
    assert gradient == pytest.approx(np.nan_to_num(maps - targets), abs=1e-6)


def test_heatmap_error_of_two_landmarks_at_the_start_is_150():
    targets = maps_of([[14, 20, 16.3], [30, 13.5, 18]], (45, 33, 35), 3.0)
    assert number(joint.heatmap_error(targets, 0 * targets)) == pytest.approx(150, abs=1)


def test_centre_distance_by_hand():
    size = (31, 21, 17)
    points = np.array([[5, 4, 12], [25, 15, 6]])
    maps = maps_of(points, size)
    squared = (20 ** 2 + 11 ** 2 + 6 ** 2) / (31 ** 2 + 21 ** 2 + 17 ** 2)
    for softening in (0.0025, 0.5):
        found = number(joint.centre_distance(maps, maps, softening=softening))
        assert found == pytest.approx(1 / (squared + softening), rel=1e-3)
    assert number(joint.centre_distance(maps, maps)) == pytest.approx(1 / (squared + 0.0025), rel=1e-3)


def test_centre_distance_has_the_specifications_magnitude():
    """8 at 0.35 diagonals."""
    size = (91, 9, 9)
    maps = maps_of([[20, 4, 4], [52, 4, 4]], size)
    share = 32 / np.sqrt(91 ** 2 + 2 * 9 ** 2)
    assert share == pytest.approx(0.35, abs=0.003)
    assert number(joint.centre_distance(maps, maps, softening=1e-6)) == pytest.approx(share ** -2, rel=1e-3)
    assert number(joint.centre_distance(maps, maps)) == pytest.approx(8, abs=0.2)


def test_the_gradient_separates_two_peaks():
    maps = maps_of([[6, 4, 5], [9, 4, 5]], (17, 9, 11))
    gradient = gradient_of(joint.centre_distance, maps, maps)[1][0]
    descent = -gradient[:, 4, 5]
    assert descent[4, 0] > 0 > descent[8, 0]  # the left map grows further left,
    assert descent[11, 1] > 0 > descent[7, 1]  # the right one further right
    flat = gradient_of(joint.centre_distance, maps, np.zeros_like(maps))
    assert flat[0] == pytest.approx(400) and np.isfinite(flat[1]).all()


def test_flat_maps_do_not_drown_the_heatmap_error():
    """Why more than the specification's 1e-6 is added: the gradients of a network that is at its start."""
    random = np.random.default_rng(0)
    targets = maps_of([[8, 6, 5], [24, 15, 12]], (33, 21, 19))
    maps = random.normal(0, 0.003, targets.shape).astype(np.float32)
    regression = np.linalg.norm(gradient_of(joint.heatmap_error, targets, maps)[1])
    losses = [lambda t, m, s=s: joint.centre_distance(t, m, softening=s) for s in (joint.SOFTENING, 1e-6)]
    ours, tiny = (np.linalg.norm(gradient_of(loss, targets, maps)[1]) for loss in losses)
    assert ours < 10 * regression and tiny > 1000 * regression


def test_noise_drowns_the_heatmap_error_unless_the_distance_waits_for_peaks():
    random = np.random.default_rng(0)
    targets = maps_of([[8, 6, 5], [24, 15, 12]], (33, 21, 19))
    maps = random.normal(0, 0.05, targets.shape).astype(np.float32)
    regression = np.linalg.norm(gradient_of(joint.heatmap_error, targets, maps)[1])
    assert np.linalg.norm(gradient_of(joint.centre_distance, targets, maps)[1]) > 10 * regression

    def waits(t, m):
        return joint.centre_distance(t, m, from_peak=0.3)

    loss, gradient = gradient_of(waits, targets, maps)
    assert loss == 0 and not gradient.any()
    loss, gradient = gradient_of(waits, targets, maps + 0.5 * np.nan_to_num(targets))
    assert loss > 0 and gradient.any() and np.isfinite(gradient).all()


def test_seven_landmarks_give_the_mean_of_their_pairs_that_are_known():
    random = np.random.default_rng(5)
    points, size = random.uniform(3, (20, 16, 12), (7, 3)).round(), (24, 20, 16)
    maps = maps_of(points, size, 1.0)
    targets = maps.copy()
    targets[..., 2] = NAN

    def mean(known):
        squared = [np.sum((points[i] - points[j]) ** 2) for i, j in itertools.combinations(known, 2)]
        return np.mean([1 / (each / np.sum(np.square(size)) + 0.0025) for each in squared])

    assert number(joint.centre_distance(maps, maps)) == pytest.approx(mean(range(7)), rel=1e-3)
    assert number(joint.centre_distance(targets, maps)) == pytest.approx(mean([0, 1, 3, 4, 5, 6]), rel=1e-3)


@pytest.mark.parametrize("known", [0, 1])
def test_without_a_pair_there_is_no_distance(known):
    maps = maps_of([[6, 4, 5], [9, 4, 5]], (17, 9, 11))
    targets = maps.copy()
    targets[..., known:] = NAN
    value, gradient = gradient_of(joint.centre_distance, targets, maps)
    assert value == [0] and (gradient == 0).all()
    assert number(joint.centre_distance(maps[..., :1], maps[..., :1])) == 0


def test_padding_changes_nothing():
    maps = maps_of([[6, 4, 5], [9, 7, 5]], (17, 9, 11))
    padding = ((0, 0), (0, 7), (0, 3), (0, 5), (0, 0))
    targets = np.pad(maps, padding, constant_values=NAN)
    prediction = np.pad(maps, padding, constant_values=5)  # any prediction is allowed there
    for loss in (joint.heatmap_error, joint.centre_distance):
        padded, gradient = gradient_of(loss, targets, prediction)
        assert padded == pytest.approx(array(loss(maps, maps)), rel=1e-5)
        assert (gradient[np.isnan(targets)] == 0).all()


@pytest.mark.parametrize("loss", HEATMAP_LOSSES)
def test_no_landmark_is_no_loss(loss):
    random = np.random.default_rng(0)
    maps = random.normal(0, 9, (2, 5, 7, 3, 2)).astype(np.float32)
    value, gradient = gradient_of(loss, np.full_like(maps, NAN), maps)
    assert (value == 0).all() and (gradient == 0).all()


def test_the_bracket_of_equation_2():
    maps = maps_of([[6, 4, 5], [9, 7, 5]], (17, 9, 11))
    parts = number(joint.heatmap_error(maps, 0.9 * maps)), number(joint.centre_distance(maps, 0.9 * maps))
    assert number(joint.heatmap_loss(0.5)(maps, 0.9 * maps)) == pytest.approx(parts[0] + 0.5 * parts[1])
    assert number(joint.heatmap_loss(0.0)(maps, 0.9 * maps)) == pytest.approx(parts[0])


def descend(maps, targets, distance_weight, steps=120):
    """Maps [1, X, Y, Z, K] after steps of Adam on the mean loss over all targets [B, X, Y, Z, K]."""
    variable, adam = keras.Variable(maps), keras.optimizers.Adam(0.02, beta_1=0.5)
    adam.build([variable])
    loss = joint.heatmap_loss(distance_weight)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(targets, tf.repeat(variable.value, len(targets), 0)))
        adam.apply([tape.gradient(value, variable.value)], [variable])

    for _ in range(steps):
        step()
    return array(variable)


def test_centre_distance_separates_merged_peaks_where_regression_does_not():
    """The paper's problem in its purest form: two ends that look the same, so that no image tells them apart.

    The same maps are predicted for two regions whose tips have exchanged names. Regression converges to the mean of the
    references, both ends in both maps, equally high. From there the centre distance separates them: each map takes one
    end.
    """
    ends = [[6, 6, 5], [18, 6, 5]]
    one = maps_of(ends, (25, 13, 11))
    targets = np.concatenate([one, one[..., ::-1]])
    noise = np.random.default_rng(0).normal(0, 1e-3, one.shape).astype(np.float32)
    merged = descend(noise, targets, 0.0)
    stays, parts = (descend(merged, targets, weight) for weight in (0.0, 0.5))
    for maps in (merged, stays):
        assert maps[0, [6, 18], 6, 5] == pytest.approx(0.5, abs=0.01)  # [end, landmark]
        assert number(joint.centre_distance(one, maps)) > 100
    assert number(joint.centre_distance(one, parts)) < 10
    found = array(argmax_points(parts))[0]
    assert np.abs(found[found[:, 0].argsort()] - ends).max() <= 1
    near = np.array([parts[0, 4:9, 6, 5].max(0), parts[0, 16:21, 6, 5].max(0)])
    assert (np.abs(near[0] - near[1]) > 0.1).all() and near.argmax(0).tolist() in ([0, 1], [1, 0])
