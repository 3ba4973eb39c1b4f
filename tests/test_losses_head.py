"""Losses of points and of masks: the specification's numbers, cases solved by hand, and other implementations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.geometry.heatmaps import gaussian_maps
from tfsono.losses import landmarks, masks

NAN = np.nan


def array(value):
    return keras.ops.convert_to_numpy(value)


def number(value):
    value = array(value)
    assert value.shape == (1,) and value.dtype == np.float32
    return float(value[0])


def points_of(*pairs):
    return np.array([pairs], np.float32)


# A head with its long axis along x, the short one along y; both have the midpoint (100, 80).
HEAD = points_of((40, 80), (160, 80), (100, 33), (100, 127))


# --- points

def test_wing_has_the_numbers_of_the_specification():
    constant = 10 - 10 * np.log(1 + 10 / 2)
    assert constant == pytest.approx(-7.9176, abs=1e-4)
    values = array(landmarks.wing_of(np.array([0, 1, 10, 30], np.float32), 10, 2))
    assert values == pytest.approx([0, 4.0547, 17.9176, 30 - constant], abs=1e-4)
    near = array(landmarks.wing_of(np.array([9.9999, 10.0001], np.float32), 10, 2))
    assert near[1] - near[0] == pytest.approx(0, abs=1e-3)


def test_wing_takes_pixels_of_a_frame_of_512():
    moved = HEAD + 1
    assert number(landmarks.wing(HEAD, moved, 512)) == pytest.approx(4.0547, abs=1e-3)
    assert number(landmarks.wing(HEAD, HEAD + 0.5, 256)) == pytest.approx(4.0547, abs=1e-3)


def test_adaptive_wing_has_the_numbers_of_the_specification():
    values = array(landmarks.adaptive_wing_of(np.array([0.5, 1.0, -1.0], np.float32), np.ones(3, np.float32)))
    assert values == pytest.approx([5.3605, 10.2594, 10.2594], abs=1e-4)
    near = array(landmarks.adaptive_wing_of(np.array([0.49999, 0.50001], np.float32), np.ones(2, np.float32)))
    assert near[1] - near[0] == pytest.approx(0, abs=1e-3)


def test_smooth_l1_is_keras_huber_over_beta():
    random = np.random.default_rng(0)
    reference = random.uniform(0, 512, (3, 4, 2)).astype("float32")
    predicted = reference + random.normal(0, 8, reference.shape).astype("float32")
    expected = [float(keras.losses.huber(t.ravel() / 512, p.ravel() / 512, delta=0.01)) / 0.01
                for t, p in zip(reference, predicted, strict=True)]
    assert array(landmarks.smooth_l1(reference, predicted, 512, 0.01)) == pytest.approx(expected, rel=1e-4)


def test_squared_error_by_hand():
    predicted = HEAD + np.array([3, 4], np.float32)
    assert number(landmarks.squared_error(HEAD, predicted, 100)) == pytest.approx((0.03 ** 2 + 0.04 ** 2) / 2, rel=1e-4)


@pytest.mark.parametrize("loss", [landmarks.squared_error, landmarks.smooth_l1, landmarks.wing])
def test_an_unknown_point_does_not_count(loss):
    predicted = HEAD + np.array([[[1, 1], [2, 2], [3, 3], [50, 50]]], np.float32)
    unknown = HEAD.copy()
    unknown[0, 3, 1] = NAN
    three = number(loss(HEAD[:, :3], predicted[:, :3], 512))
    assert number(loss(unknown, predicted, 512)) == pytest.approx(three)
    assert number(loss(np.full_like(HEAD, NAN), predicted, 512)) == 0


@pytest.mark.parametrize("loss", [landmarks.squared_error, landmarks.smooth_l1, landmarks.wing,
                                  landmarks.perpendicular, landmarks.relation])
@pytest.mark.parametrize("case", ["unknown", "collapsed", "perfect", "all unknown"])
def test_gradients_are_finite(loss, case):
    reference, predicted = HEAD.copy(), tf.constant(HEAD + 2)
    if "unknown" in case:
        reference[0, 0 if case == "unknown" else slice(None)] = NAN
    if case == "collapsed":
        predicted = tf.constant(np.full_like(HEAD, 64))
    if case == "perfect":
        predicted = tf.constant(HEAD)
    with tf.GradientTape() as tape:
        tape.watch(predicted)
        value = tf.reduce_sum(loss(reference, predicted, 512))
    gradient = tape.gradient(value, predicted)
    assert np.isfinite(value.numpy())
    assert gradient is None or np.isfinite(tf.convert_to_tensor(gradient).numpy()).all()
    if case == "unknown" and gradient is not None:
        assert (gradient.numpy()[0, 0] == 0).all()


@pytest.mark.parametrize("degrees, expected", [(90, 0.0), (60, 0.25), (45, 0.5), (0, 1.0), (180, 1.0)])
def test_perpendicular_is_the_squared_cosine(degrees, expected):
    angle = np.radians(degrees)
    half = np.array([np.cos(angle), np.sin(angle)]) * 47
    predicted = points_of((40, 80), (160, 80), (100, 80) - half, (100, 80) + half)
    assert number(landmarks.perpendicular(HEAD, predicted, 512)) == pytest.approx(expected, abs=1e-5)


def test_perpendicular_ignores_size_place_and_the_order_of_ends():
    slanted = points_of((40, 80), (160, 100), (100, 33), (60, 127))
    value = number(landmarks.perpendicular(HEAD, slanted, 512))
    assert value > 0.01
    assert number(landmarks.perpendicular(HEAD, slanted[:, [1, 0, 2, 3]], 512)) == pytest.approx(value, rel=1e-4)
    assert number(landmarks.perpendicular(HEAD, slanted * 0.3 + 7, 512)) == pytest.approx(value, rel=1e-3)


def test_relation_by_hand():
    assert number(landmarks.relation(HEAD, HEAD, 512)) == pytest.approx(0, abs=1e-5)  # 94 / 120 = 0.78
    aside = HEAD.copy()
    aside[0, 2:, 0] += 12  # the midpoints are 12 apart, a tenth of the OFD
    assert number(landmarks.relation(HEAD, aside, 512)) == pytest.approx(0.01, rel=1e-3)
    round_head = points_of((40, 80), (160, 80), (100, 20), (100, 140))  # BPD is the OFD: 0.05 too much
    assert number(landmarks.relation(HEAD, round_head, 512)) == pytest.approx(0.05, rel=1e-3)
    narrow = points_of((40, 80), (160, 80), (100, 50), (100, 110))  # half of it: 0.1 too little
    assert number(landmarks.relation(HEAD, narrow, 512)) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("loss", [landmarks.perpendicular, landmarks.relation])
def test_without_one_of_the_points_there_is_no_relation(loss):
    unknown = HEAD.copy()
    unknown[0, 1, 0] = NAN
    slanted = points_of((40, 80), (160, 120), (150, 33), (100, 127))
    assert number(loss(HEAD, slanted, 512)) > 0.01
    assert number(loss(unknown, slanted, 512)) == 0


def test_heatmap_loss_by_hand():
    # one positive cell of 1, predicted as 0.25, 0.5 in one background cell; the second map is unknown
    targets, maps = np.zeros((1, 5, 3, 2), np.float32), np.zeros((1, 5, 3, 2), np.float32)
    targets[0, 2, 1, 0] = 1
    maps[0, 2, 1, 0], maps[0, 0, 0, 0], maps[0, 1, 1, 1] = 0.25, 0.5, 9
    assert number(landmarks.heatmap_squared_error(targets, maps)) == pytest.approx(0.75 ** 2 + 0.5 ** 2)


def test_heatmap_loss_does_not_shrink_with_the_size_of_the_map():
    point = np.array([[[60.0, 50.0]]], np.float32)
    small, large = (gaussian_maps(point, size, 2, 1) for size in ((101, 121), (301, 401)))
    values = [number(landmarks.heatmap_squared_error(maps, maps * 0)) for maps in (small, large)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    # pi sigma^2 over the cells within sqrt(2 ln 100) deviations, a circle of that radius
    assert values[0] == pytest.approx(1 / (2 * np.log(100)), rel=0.03)


def test_adaptive_wing_of_maps_weighs_the_neighbourhood():
    targets, maps = np.zeros((1, 7, 9, 1), np.float32), np.zeros((1, 7, 9, 1), np.float32)
    targets[0, 3, 4] = 1
    maps[0, 3, 4] = 1
    for place, weight in (((3, 5), 11), ((2, 3), 11), ((3, 6), 1), ((0, 0), 1)):
        prediction = maps.copy()
        prediction[(0, *place)] = 0.5
        single = float(array(landmarks.adaptive_wing_of(np.float32([0.5]), np.float32([0])))[0])
        assert number(landmarks.adaptive_wing(targets, prediction)) == pytest.approx(weight * single, rel=1e-3)
    assert number(landmarks.adaptive_wing(targets, maps)) == pytest.approx(0, abs=1e-3)


# --- masks

@pytest.fixture
def masked():
    random = np.random.default_rng(3)
    reference = (random.random((3, 5, 7, 1)) < 0.4).astype("float32")
    return reference, random.normal(0, 2, reference.shape).astype("float32")


def test_cross_entropy_and_focal_agree_with_keras(masked):
    reference, logits = masked
    entropy = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)(reference, logits)
    assert array(masks.mask_cross_entropy(*masked)) == pytest.approx(array(entropy).mean((1, 2)), rel=1e-4)
    focal = keras.losses.BinaryFocalCrossentropy(True, 0.25, 2.0, from_logits=True, reduction=None)(reference, logits)
    assert array(masks.mask_focal(*masked)) == pytest.approx(array(focal).mean((1, 2)), rel=1e-4)


def test_focal_without_focus_is_half_the_cross_entropy(masked):
    assert array(masks.mask_focal(*masked, 0.5, 0.0)) == pytest.approx(
        0.5 * array(masks.mask_cross_entropy(*masked)), rel=1e-5)


def test_dice_by_hand():
    reference = np.array([1, 1, 0, 0], np.float32).reshape(1, 1, 4, 1)
    logits = np.log(np.array([0.8, 0.6, 0.4, 0.2]) / (1 - np.array([0.8, 0.6, 0.4, 0.2]))).reshape(1, 1, 4, 1)
    assert number(masks.mask_dice(reference, logits)) == pytest.approx(1 - (2 * 1.4 + 1) / (2 + 2 + 1), rel=1e-5)
    loss = number(masks.mask_focal_dice(reference, logits, 4 / 3))
    assert loss == pytest.approx((1 - 3.8 / 5) ** 0.75, rel=1e-5)


def test_empty_masks_are_defined():
    nothing, no = np.zeros((1, 3, 5, 1), np.float32), np.full((1, 3, 5, 1), -100, np.float32)
    for loss in (masks.mask_dice, masks.mask_cross_entropy, masks.mask_focal):
        assert number(loss(nothing, no)) == pytest.approx(0, abs=1e-6)
    assert number(masks.mask_focal_dice(nothing, no)) < 1e-3


@pytest.mark.parametrize("loss", [masks.mask_dice, masks.mask_focal_dice, masks.mask_cross_entropy, masks.mask_focal])
def test_certain_predictions_give_finite_gradients(loss):
    reference = np.zeros((1, 3, 5, 1), np.float32)
    reference[0, 1] = 1
    for logits in (tf.constant(reference * 400 - 200), tf.constant(200 - reference * 400)):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(reference, logits)
        assert np.isfinite(value.numpy()).all() and np.isfinite(tape.gradient(value, logits).numpy()).all()


def test_signed_distance_by_hand():
    mask = np.zeros((3, 7), bool)
    mask[:, 2:5] = True
    assert masks.signed_distance(mask)[1].tolist() == [2, 1, 0, -1, 0, 1, 2]
    assert masks.signed_distance(mask).dtype == np.float32
    assert (masks.signed_distance(np.zeros((3, 5))) == 0).all() and (masks.signed_distance(np.ones((3, 5))) == 0).all()


def test_signed_distance_agrees_with_another_program():
    cv2 = pytest.importorskip("cv2")
    rows, columns = np.mgrid[:61, :93]
    mask = ((columns - 40) / 30) ** 2 + ((rows - 28) / 20) ** 2 < 1
    out, inside = (cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
                   for part in (~mask, mask))
    expected = np.where(mask, 1 - inside, out)
    np.testing.assert_allclose(masks.signed_distance(mask), expected, atol=1e-3)


def test_boundary_loss_is_lowest_for_the_reference_mask():
    rows, columns = np.mgrid[:31, :41]
    radii = ((columns - 20) / 14) ** 2 + ((rows - 15) / 10) ** 2
    mask = radii < 1
    reference = np.stack([mask, masks.signed_distance(mask)], -1)[None].astype("float32")
    logits = {share: 40 * ((radii < share) - 0.5).astype("float32")[None, ..., None] for share in (0.5, 1.0, 1.6)}
    values = {share: number(masks.mask_boundary(reference, each)) for share, each in logits.items()}
    assert values[1.0] < values[0.5] < 0 and values[1.0] < values[1.6]
    assert values[1.0] == pytest.approx(reference[0, ..., 1][mask].sum() / mask.size, rel=1e-4)
