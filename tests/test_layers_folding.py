"""Normalisations by moving statistics in the convolutions before them: the same outputs."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from test_inference_hip import with_random_statistics
from tfsono.config import choose
from tfsono.configs.face import FACE
from tfsono.configs.face import LANDMARKS as FACE_POINTS
from tfsono.configs.head import HEAD
from tfsono.configs.hip import HIP
from tfsono.configs.pose import LANDMARKS, POSE
from tfsono.layers.batch_normalization import BatchNormalization
from tfsono.layers.folding import folded, startable_names, unfold
from tfsono.models import face, head, hip, pose


def norms(network):
    return [layer.name for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]


@pytest.mark.parametrize("architecture, precision", [("ds_u3", "float32"), ("lineage4", "mixed_bfloat16")])
def test_a_folded_network_of_hip_gives_what_the_network_gives(architecture, precision):
    keras.utils.set_random_seed(1)
    config = dataclasses.replace(choose(HIP, "quick", "tuned").config, norm_at_test="moving", label_names=("femur",),
                                 widths=(2, 4, 4, 4), lower_widths=(4, 2), middle_widths=(2,),
                                 architecture=architecture, precision=precision, branch_weights=(0.3, 0.6, 0.9, 1.0))
    network = with_random_statistics(hip.build(config))
    image = np.random.default_rng(2).normal(size=(2, 16, 32, 16, 1)).astype("float32")
    expected = {name: np.asarray(keras.ops.cast(value, "float32")) for name, value in network(image).items()}
    of_prediction = hip.build(config, apart=True)
    of_prediction.set_weights(network.get_weights())
    found = folded(of_prediction)
    assert not norms(found) and folded(found) is found
    for name, value in found(image, training=False).items():
        near = 1e-4 if precision == "float32" else 0.1
        np.testing.assert_allclose(keras.ops.cast(value, "float32"), expected[name],
                                   atol=near * np.abs(expected[name]).max())


def small_head(network):
    return head.build(dataclasses.replace(
        choose(HEAD, "quick", network).config, input_size=(32, 32), unet_widths=(2, 4, 4), backbone_widths=(4,) * 5,
        aspp_channels=4, aspp_rates=(1, 2), low_level_channels=3, head_widths=(6, 5)))


def small_pose(method):
    return pose.build(dataclasses.replace(
        choose(POSE, "quick", method).config, landmark_names=LANDMARKS, widths=(2, 3, 4), norm_at_test="moving",
        recompute=True, precision="float32"))


def small_face(method):
    return face.build(dataclasses.replace(
        choose(FACE, "quick", method).config, landmark_names=FACE_POINTS, widths=(2, 3, 4), head_width=4,
        anchor_sides=(6.0,), box_sides=(6.0,) * 5, norm_at_test="moving"))


@pytest.mark.parametrize("build, kind, shape, startable, left", [
    (small_head, "attention_unet", (32, 32), True, []), (small_head, "deeplabv3plus", (32, 32), True, []),
    (small_head, "coordinate", (32, 32), True, []), (small_face, "rpn", (8, 16, 8), True, []),
    (small_pose, "land_gcp", (8, 16, 8), False, [])])
def test_a_folded_network_of_the_others_gives_what_the_network_gives(build, kind, shape, startable, left):
    """Gates, residual, separable and dense layers; a convolution of two tensors in a checkpointed network.

    And its kernels are unfolded, in float32 where the network calculates in bfloat16 (`face`).
    """
    keras.utils.set_random_seed(1)
    network = with_random_statistics(build(kind))
    image = np.random.default_rng(2).normal(size=(2, *shape, 1)).astype("float32")
    expected, near = network(image, training=False), 0.1 if build is small_face else 2e-5
    found = folded(network, startable)
    assert norms(found) == left and folded(found, startable) is found
    for name, value in found(image, training=False).items():
        value, plain = (keras.ops.cast(one, "float32") for one in (value, expected[name]))
        np.testing.assert_allclose(value, plain, atol=near * np.abs(plain).max())
    if startable:
        assert len(startable_names(found)) == len(norms(network)) - len(left)
        check_unfolded(network, found)


def check_unfolded(network, found):
    """The kernels of the network, exchanged, are again what they were."""
    expected = network.get_weights()
    for name in startable_names(found):
        network.get_layer(name).kernel.assign(np.ones(network.get_layer(name).kernel.shape))
    unfold(found)
    for one, value in zip(network.get_weights(), expected, strict=True):
        np.testing.assert_allclose(one, value, rtol=1e-6)


def test_a_channel_that_a_training_would_lose_is_not_folded():
    """Of a scale of 0: its kernel would be 0 too. Only that convolution is left as it is, also where it is loaded."""
    def build():
        x = image = keras.Input((8, 8, 3))
        for name in "ab":
            x = keras.layers.BatchNormalization(name=f"{name}_norm")(keras.layers.Conv2D(4, 3, name=name)(x))
        return keras.Model(image, x)

    network = with_random_statistics(build())
    gamma = network.get_layer("a_norm").gamma
    gamma.assign(np.float32([1, 0, 2, 1]))
    of_start = folded(network, startable=True)
    assert norms(of_start) == ["a_norm"] and startable_names(of_start) == ["b"]
    other = build()
    inside = folded(other, startable=True, names=["b"])
    inside.set_weights(of_start.get_weights())
    unfold(inside)
    for one, value in zip(other.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(one, value, rtol=1e-6)


def test_a_network_in_a_network_is_folded():
    layers = keras.layers
    image = inside = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, depth_multiplier=2)(inside))
    inner = with_random_statistics(keras.Model(inside, [x, inside], name="inner"))
    outputs = inner(image)
    network = keras.Model(image, [layers.BatchNormalization(name="after_inner")(outputs[0]), outputs[1]])
    given = np.random.default_rng(2).normal(size=(2, 8, 8, 3)).astype("float32")
    expected = network(given, training=False)
    found = folded(network)
    assert norms(found) == ["after_inner"] and not norms(found.get_layer("inner"))
    for one, other in zip(found(given, training=False), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_what_is_no_convolutions_alone_is_not_folded():
    """A convolution that another layer reads, one with an activation, a pooling, and a tile's own statistics."""
    layers = keras.layers
    image = keras.Input((None, None, 3))
    read = layers.Conv2D(4, 3, padding="same")(image)
    x = BatchNormalization(name="read_twice")(read)
    x = BatchNormalization(name="activated")(layers.Conv2D(4, 3, activation="relu")(x))
    x = BatchNormalization(name="pooled")(layers.MaxPooling2D(2)(x))
    x = BatchNormalization("tile", name="own")(layers.Conv2D(4, 3)(x))
    x = BatchNormalization(rectified=True, name="folded")(layers.Conv2DTranspose(5, 2, 2)(x))
    network = with_random_statistics(keras.Model(image, [x, read]))
    given = np.random.default_rng(2).normal(size=(2, 20, 18, 3)).astype("float32")
    expected = network(given, training=False)
    found = folded(network)
    assert norms(found) == ["read_twice", "activated", "pooled", "own"]
    for one, other in zip(found(given, training=False), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
