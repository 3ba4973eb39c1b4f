"""Losses of detection: the weights of Eq. 3, the sample, and both stages, by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.geometry.boxes import centred_boxes, encode
from tfsono.losses.detection import (DetectionLoss, anchor_losses, balanced_weights, cross_entropies, proposal_losses,
                                     smooth_l1)

PLAIN = DetectionLoss(None, 3, 0.5, (1.0, 1.0))
BALANCED = DetectionLoss(1.75, 3, 0.5, (1.0, 1.0))


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def softmax_losses(logits, classes):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return -np.log((shifted / shifted.sum(-1, keepdims=True))[np.arange(len(classes)), classes])


def test_weights_leave_the_sum_and_grow_with_the_iou():
    random = np.random.default_rng(0)
    ious, losses = random.uniform(0.1, 0.9, 7).astype("float32"), random.uniform(0.1, 3, 7).astype("float32")
    counted = np.array([1, 1, 1, 1, 1, 0, 0], "float32")
    weights = numpy(balanced_weights(ious, losses, counted, 1.75))
    shares = ious[:5] ** 1.75
    np.testing.assert_allclose(weights[:5], shares * losses[:5].sum() / (shares * losses[:5]).sum(), rtol=1e-4)
    assert (weights * losses).sum() == pytest.approx(losses[:5].sum(), rel=1e-5) and not weights[5:].any()
    np.testing.assert_allclose(numpy(balanced_weights(0 * ious, losses, counted, 1.75))[:5], 1, rtol=1e-5)
    order = np.argsort(ious[:5])
    assert (np.diff(weights[:5][order]) > 0).all()
    np.testing.assert_allclose(numpy(balanced_weights(ious, losses, counted, 0.0))[:5], 1, rtol=1e-5)  # eta = 0


def test_weights_are_constants_for_the_gradient():
    ious, losses = tf.Variable([0.3, 0.8]), tf.Variable([1.0, 2.0])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(balanced_weights(ious, losses, tf.ones(2), 1.75) * losses)
    by_iou, by_loss = tape.gradient(total, [ious, losses], unconnected_gradients="zero")
    assert not by_iou.numpy().any()
    np.testing.assert_allclose(by_loss, numpy(balanced_weights(ious, losses, tf.ones(2), 1.75)))


def test_cross_entropy_and_smooth_l1_by_hand():
    logits = np.array([[1.0, 2.0, -1.0], [1e3, 0.0, 0.0]], "float32")
    np.testing.assert_allclose(numpy(cross_entropies(logits, np.array([2, 0]))),
                               [np.log(np.exp([2.0, 3.0, 0.0]).sum()), 0.0], rtol=1e-6)
    away = numpy(smooth_l1(np.zeros((1, 6), "float32"), np.array([[0.5, -2, 0, 1, 0, 0]], "float32")))
    assert away[0] == pytest.approx(0.125 + 1.5 + 0.5)


KNOWN = [0, 1, 3]  # classes of `scene`


def scene():
    """Eight anchors: two positive for the first box, one for the third (the second is missing), one ignored."""
    boxes = centred_boxes(np.array([[10.0, 12, 9], [np.nan] * 3, [20, 8, 14]]), np.array([6.0, 6, 8])).astype("float32")
    centres = np.array([[10, 12, 10], [9, 12, 9], [20, 8, 13], [11, 14, 9], [30, 30, 30], [40, 3, 2], [1, 1, 1],
                        [25, 30, 2]], float)
    anchors = centred_boxes(centres, np.full(8, 7.0)).astype("float32")
    labels = np.array([1, 1, 3, -1, 0, 0, 0, 0], np.int8)
    reference = {"boxes": boxes, "labels": labels, "positives": np.array([2, 0, 1, -1], np.int32),
                 "negatives": np.array([7, 4, 6, 5, -1, -1, -1, -1, -1, -1, -1, -1], np.int32)}
    random = np.random.default_rng(1)
    logits = random.normal(size=(8, 4)).astype("float32")
    offsets = random.normal(0, 0.2, (8, 6)).astype("float32")
    return reference, logits, offsets, anchors


def losses_of(reference, logits, offsets, anchors, settings):
    return anchor_losses(reference, logits, offsets, anchors[reference["positives"]], settings)


def test_a_volume_by_hand_without_balance():
    """Three positives want nine negatives: the five hardest, of which there are four, and four at random."""
    reference, logits, offsets, anchors = scene()
    found = {name: float(value) for name, value in losses_of(reference, logits, offsets, anchors, PLAIN).items()}
    positive = softmax_losses(logits[[2, 0, 1]][:, KNOWN], [2, 1, 1]).sum()
    background = softmax_losses(logits[4:, KNOWN], [0] * 4)
    assert found["classification"] == pytest.approx((positive + 2 * background.sum()) / (3 + 4 + 4), rel=1e-5)
    targets = numpy(encode(reference["boxes"][[2, 0, 0]], anchors[[2, 0, 1]]))
    assert found["regression"] == pytest.approx(numpy(smooth_l1(targets, offsets[[2, 0, 1]])).sum() / 3, rel=1e-5)


def test_hard_negatives_are_the_worst_ones():
    reference, logits, offsets, anchors = scene()
    reference |= {"positives": np.array([2, -1], np.int32), "negatives": np.array([7, 4, 6], np.int32)}
    one_hard = DetectionLoss(None, 1, 1.0, (1.0, 1.0))
    found = float(losses_of(reference, logits, offsets, anchors, one_hard)["classification"])
    worst = softmax_losses(logits[4:, KNOWN], [0] * 4).max()
    assert found == pytest.approx((softmax_losses(logits[2:3, KNOWN], [2])[0] + worst) / 2, rel=1e-5)
    one_random = DetectionLoss(None, 1, 0.0, (1.0, 1.0))
    found = float(losses_of(reference, logits, offsets, anchors, one_random)["classification"])
    assert found == pytest.approx((softmax_losses(logits[[2, 7]][:, KNOWN], [2, 0])).sum() / 2, rel=1e-5)


def test_an_unknown_landmark_is_no_background():
    """Its logits get no gradient, however high they are, and no negative counts as hard because of them."""
    reference, logits, offsets, anchors = scene()
    logits[:, 2] += 9
    logits = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = losses_of(reference, logits, offsets, anchors, BALANCED)["classification"]
    slopes = tf.convert_to_tensor(tape.gradient(loss, logits)).numpy()
    assert not slopes[:, 2].any() and np.abs(slopes[4:, 0]).min() > 0
    lower = logits.numpy() - [0, 0, 9, 0]
    expected = losses_of(reference, lower, offsets, anchors, BALANCED)["classification"]
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_balance_moves_the_gradient_and_not_the_loss():
    reference, logits, offsets, anchors = scene()
    logits = tf.Variable(logits)
    values, gradients = [], []
    for settings in (PLAIN, BALANCED):
        with tf.GradientTape() as tape:
            loss = losses_of(reference, logits, offsets, anchors, settings)["classification"]
        values.append(float(loss))
        gradients.append(tf.convert_to_tensor(tape.gradient(loss, logits)).numpy())
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    np.testing.assert_allclose(gradients[0][4:], gradients[1][4:], rtol=1e-5)
    assert np.abs(gradients[0][:3] - gradients[1][:3]).max() > 1e-3 and not gradients[1][3].any()


def test_two_classes_are_any_box_or_none():
    reference, logits, offsets, anchors = scene()
    positive = softmax_losses(logits[:3, :2], [1, 1, 1]).sum()
    background = softmax_losses(logits[4:, :2], [0] * 4).sum()
    found = float(losses_of(reference, logits[:, :2], offsets, anchors, PLAIN)["classification"])
    assert found == pytest.approx((positive + background) / 7, rel=1e-5)  # one is unknown: no hard ones
    reference["boxes"][1] = reference["boxes"][0] + 90
    found = float(losses_of(reference, logits[:, :2], offsets, anchors, PLAIN)["classification"])
    assert found == pytest.approx((positive + 2 * background) / 11, rel=1e-5)


def test_a_volume_without_landmarks_gives_a_finite_loss():
    reference, logits, offsets, anchors = scene()
    reference |= {"boxes": np.full((3, 6), np.nan, "float32"), "labels": np.zeros(8, np.int8),
                  "positives": np.full(4, -1, np.int32)}
    found = losses_of(reference, logits, offsets, anchors, BALANCED)
    assert np.isfinite(float(found["classification"])) and float(found["regression"]) == 0


def test_proposals_by_hand():
    """One is of the first box, one of the background, one is missing; the second box is missing too."""
    boxes = centred_boxes(np.array([[10.0, 12, 9], [np.nan] * 3]), np.array([6.0, 6])).astype("float32")
    proposals = np.concatenate([centred_boxes(np.array([[10, 12, 9.5], [30, 30, 30]]), np.full(2, 6.0)),
                                np.full((1, 6), np.nan)]).astype("float32")
    random = np.random.default_rng(2)
    classes, offsets = random.normal(size=(3, 3)).astype("float32"), random.normal(size=(3, 6)).astype("float32")
    found = proposal_losses(boxes, classes, offsets, proposals, PLAIN, 0.5)
    expected = softmax_losses(classes[:2, :2], [1, 0]).sum() / 2
    assert float(found["proposal_classification"]) == pytest.approx(expected, rel=1e-5)
    away = numpy(smooth_l1(numpy(encode(boxes[:1], proposals[:1])), offsets[:1]))[0]
    assert float(found["proposal_regression"]) == pytest.approx(away, rel=1e-5)
    balanced = proposal_losses(boxes, classes, offsets, proposals, BALANCED, 0.5)
    assert float(balanced["proposal_classification"]) == pytest.approx(expected, rel=1e-4)  # one positive: weight 1


def test_background_proposals_have_three_times_the_weight_of_positive_ones():
    boxes = centred_boxes(np.array([[10.0, 12, 9]]), np.array([6.0])).astype("float32")
    proposals = np.concatenate([boxes, centred_boxes(np.full((6, 3), 30.0), np.full(6, 6.0))]).astype("float32")
    classes = np.random.default_rng(3).normal(size=(7, 2)).astype("float32")
    losses = softmax_losses(classes, [1] + [0] * 6)
    for settings in (PLAIN, BALANCED):  # a single positive has the weight 1
        found = proposal_losses(boxes, classes, np.zeros((7, 6), "float32"), proposals, settings, 0.5)
        assert float(found["proposal_classification"]) == pytest.approx((losses[0] + losses[1:].mean() * 3) / 4,
                                                                        rel=1e-4)
    nothing = proposal_losses(boxes + 90, classes, np.zeros((7, 6), "float32"), proposals, PLAIN, 0.5)
    expected = softmax_losses(classes, [0] * 7).mean()
    assert float(nothing["proposal_classification"]) == pytest.approx(expected, rel=1e-4)
    assert float(nothing["proposal_regression"]) == 0
