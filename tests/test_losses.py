"""Losses on cases solved by hand."""

import keras
import numpy as np
import pytest

from tfsono.losses import cross_entropy, cross_entropy_dice, dice_loss


def logits_of(probabilities):
    return np.log(np.asarray(probabilities, np.float32))


@pytest.fixture
def case():
    """One sample of 3 x 1 x 1 voxels: probabilities of label 1 are 0.8, 0.4, 0.1; labels 1, 0 and padding."""
    foreground = np.array([0.8, 0.4, 0.1], np.float32).reshape(1, 3, 1, 1)
    labels = np.array([1, 0, -1], np.int8).reshape(1, 3, 1, 1, 1)
    return labels, logits_of(np.stack([1 - foreground, foreground], -1))


def test_cross_entropy_is_the_mean_over_counted_voxels(case):
    loss = keras.ops.convert_to_numpy(cross_entropy(*case))
    assert loss == pytest.approx([-(np.log(0.8) + np.log(0.6)) / 2], rel=1e-5)


def test_cross_entropy_agrees_with_keras_without_padding():
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 4, (2, 3, 5, 4, 1)), random.normal(size=(2, 3, 5, 4, 4)).astype("float32")
    expected = keras.losses.SparseCategoricalCrossentropy(True, reduction=None)(labels[..., 0], logits)
    ours = keras.ops.convert_to_numpy(cross_entropy(labels, logits))
    assert ours == pytest.approx(keras.ops.convert_to_numpy(expected).mean((1, 2, 3)), rel=1e-5)


def test_dice_loss_by_hand(case):
    # counted: p = 0.8, 0.4 and g = 1, 0: 2 * 0.8 / (1.2 + 1)
    assert keras.ops.convert_to_numpy(dice_loss(*case)) == pytest.approx([1 - 1.6 / 2.2], abs=1e-4)


def test_dice_loss_excludes_absent_classes():
    labels = np.zeros((1, 3, 1, 1, 1), np.int8)
    labels[0, 0] = 2
    probabilities = np.full((1, 3, 1, 1, 4), 1e-6, np.float32)
    probabilities[0, :, 0, 0, 0] = 1
    probabilities[0, 0, 0, 0] = [0.5, 0, 0.5, 0]
    loss = keras.ops.convert_to_numpy(dice_loss(labels, np.log(probabilities + 1e-9)))
    assert loss == pytest.approx([1 - 2 * 0.5 / 1.5], abs=1e-3)


def test_dice_loss_of_background_alone_is_zero():
    labels = np.zeros((1, 3, 5, 2, 1), np.int8)
    assert keras.ops.convert_to_numpy(dice_loss(labels, np.zeros((1, 3, 5, 2, 3), np.float32))) == pytest.approx([0])


def test_the_sum_is_the_sum(case):
    parts = [keras.ops.convert_to_numpy(loss(*case)) for loss in (cross_entropy, dice_loss, cross_entropy_dice)]
    assert parts[0] + parts[1] == pytest.approx(parts[2])


def test_all_padding_is_zero_and_not_nan():
    labels = np.full((1, 2, 3, 1, 1), -1, np.int8)
    assert keras.ops.convert_to_numpy(cross_entropy_dice(labels, np.ones((1, 2, 3, 1, 2), np.float32))) == [0]
