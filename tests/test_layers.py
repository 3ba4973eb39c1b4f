"""Standardising, and the blocks' normalisation, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.layers.batch_normalization import BatchNormalization
from tfsono.layers.blocks import BlockStyle
from tfsono.layers.standardise import standardise


def test_standardise_counts_the_valid_voxels_alone():
    random = np.random.default_rng(1)
    image = random.normal(5, 3, (2, 3, 5, 7, 1)).astype("float32")
    valid = (random.random(image.shape) < 0.6).astype("float32")
    result = keras.ops.convert_to_numpy(standardise(image, valid))
    for one, inside, out in zip(image, valid, result):
        chosen = one[inside > 0]
        np.testing.assert_allclose(out[inside > 0], (chosen - chosen.mean()) / chosen.std(), rtol=1e-4, atol=1e-5)
        assert not out[inside == 0].any()


@pytest.mark.parametrize("valid", [0.0, 1.0])
def test_standardise_of_a_constant_or_an_empty_patch_is_zero(valid):
    image = np.full((1, 3, 4, 5, 1), 7.0, "float32")
    result = keras.ops.convert_to_numpy(standardise(image, np.full_like(image, valid)))
    assert np.abs(result).max() < 1e-3


def test_weight_decay_has_the_gradient_of_caffe():
    # lambda * psi with gradient 0.005 w: Keras's L2 adds l * sum(w^2), so l must be half of it
    regularizer = BlockStyle(0.01, 0.005, 0.9, 1e-5).kernel()["kernel_regularizer"]
    step = np.float32(1e-2)
    at = [float(regularizer(keras.ops.convert_to_tensor(np.float32([w])))) for w in (2 - step, 2 + step)]
    assert (at[1] - at[0]) / (2 * step) == pytest.approx(0.005 * 2, rel=1e-3)


def test_tile_normalisation_takes_each_tiles_own_statistics_at_test_and_the_batchs_in_training():
    random = np.random.default_rng(2)
    x = random.normal([[[[1.0, -4.0]]]], [[[[2.0, 0.5]]]], (3, 5, 3, 7, 2)).astype("float32")
    x[1] *= 5
    ours, kerass = BatchNormalization("tile", 0.9, 1e-3), keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-3)
    for layer in (ours, kerass):
        layer.build(x.shape)
        layer.gamma.assign([1.5, 0.7])
        layer.beta.assign([-0.3, 2.0])
    for _ in range(2):
        trained, expected = (keras.ops.convert_to_numpy(layer(x, training=True)) for layer in (ours, kerass))
        np.testing.assert_allclose(trained, expected, atol=1e-5)
    for mine, theirs in zip(ours.weights, kerass.weights, strict=True):
        assert mine.path.split("/")[-1] == theirs.path.split("/")[-1]
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    tested = keras.ops.convert_to_numpy(ours(x, training=False))
    for one, out in zip(x, tested, strict=True):
        by_hand = (one - one.mean((0, 1, 2))) / np.sqrt(one.var((0, 1, 2)) + 1e-3) * [1.5, 0.7] + [-0.3, 2.0]
        np.testing.assert_allclose(out, by_hand, atol=1e-4)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours(x[2:], training=False))[0], tested[2], atol=1e-5)
    ours.at_test = "batch"
    together = keras.ops.convert_to_numpy(ours(x, training=False))
    by_hand = (x - x.mean((0, 1, 2, 3))) / np.sqrt(x.var((0, 1, 2, 3)) + 1e-3) * [1.5, 0.7] + [-0.3, 2.0]
    np.testing.assert_allclose(together, by_hand, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 5, 3, 7, 2), (3, 5, 7, 2), (3, 9, 2), (7, 2), (1, 1, 1, 1, 2)])
def test_normalisation_in_training_learns_as_kerass_and_a_single_tile_is_like_many(shape):
    random = np.random.default_rng(4)
    x = tf.Variable(random.normal([50.0, -4.0], [1.0, 0.5], shape).astype("float32"))  # a mean far from 0
    weight = random.normal(size=shape).astype("float32")
    layers = BatchNormalization("tile"), keras.layers.BatchNormalization()
    found = []
    for layer in layers:
        layer.build(shape)
        layer.gamma.assign([1.5, 0.7])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(weight * layer(x, training=True))
        found.append(tape.gradient(loss, [x, *(variable.value for variable in layer.trainable_variables)]))
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-3 * np.abs(theirs).max() + 1e-6)
    np.testing.assert_allclose(layers[0].moving_variance, layers[1].moving_variance, rtol=1e-4)
    if len(shape) == 2:
        return  # a tile of one number has no statistics
    one, many = layers[0](x[:1]), layers[0](tf.concat([x[:1], x * 2], 0))
    np.testing.assert_allclose(one[0], many[0], atol=1e-4)


@pytest.mark.parametrize("at_test, shape", [("tile", (1, 5, 3, 7, 4)), ("tile", (2, 5, 3, 7, 4)), ("moving", (2, 9, 8)),
                                            ("moving", (1, 6, 7, 4))])
@pytest.mark.parametrize("training", [True, False])
def test_a_rectified_normalisation_equals_one_followed_by_relu(at_test, shape, training):
    """In a graph, where TensorFlow makes one operation of both, and there with its gradient."""
    random = np.random.default_rng(6)
    x = tf.constant(random.normal([5.0, -4.0, 0, 1] if shape[-1] == 4 else 0, 1.0, shape).astype("float32"))
    weight = random.normal(size=shape).astype("float32")
    found = []
    for rectified in (True, False):
        layer = BatchNormalization(at_test, rectified=rectified)
        layer.build(shape)
        layer.gamma.assign(np.linspace(-1, 2, shape[-1]))
        layer.beta.assign(np.linspace(0.5, -0.5, shape[-1]))

        @tf.function
        def prediction(x, layer=layer, rectified=rectified):
            with tf.GradientTape() as tape:
                tape.watch(x)
                out = layer(x, training=training) if rectified else tf.nn.relu(layer(x, training=training))
                loss = tf.reduce_sum(weight * out)
            return out, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])

        found.append([*prediction(x), layer.moving_mean, layer.moving_variance])
    assert (found[0][0].numpy() == 0).any() and (found[0][0].numpy() > 0).any()
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_normalisation_in_half_precision_keeps_float32_inside():
    x = np.random.default_rng(5).normal([50.0, -4.0], 1.0, (1, 16, 9, 7, 2)).astype("float32")
    for at_test, training in (("tile", False), ("tile", True)):
        layer = BatchNormalization(at_test)
        layer.dtype_policy = "mixed_bfloat16"
        given = keras.ops.cast(x, "bfloat16")
        out = layer(given, training=training)
        assert keras.backend.standardize_dtype(out.dtype) == "bfloat16" and layer.moving_mean.dtype == "float32"
        exact = np.asarray(keras.ops.cast(given, "float32"))
        exact = (exact - exact.mean((0, 1, 2, 3))) / np.sqrt(exact.var((0, 1, 2, 3)) + 1e-3)
        np.testing.assert_allclose(keras.ops.cast(out, "float32"), exact, rtol=1e-2, atol=1e-2)
