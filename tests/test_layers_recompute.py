"""Recomputing: the same loss, gradients, statistics and weights as the plain network, and what is kept."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfsono.config import choose
from tfsono.configs.femur import FEMUR
from tfsono.configs.hip import HIP
from tfsono.layers.blocks import BlockStyle, classifier, convolution
from tfsono.layers.recompute import recomputed, segments
from tfsono.models import femur, hip
from tfsono.training.adversarial import AdversarialSettings, AdversarialTrainer
from tfsono.training.checkpoint import load_state, save_state, save_weights
from wiring import eagerly


def femur_config(variant="brndc", **values):
    return dataclasses.replace(choose(FEMUR, "quick", variant).config, label_names=("femur",),
                               landmark_names=("proximal", "distal"), widths=(4, 6, 8, 10),
                               discriminator_widths=(3, 4, 5, 6, 7, 8), **values)


def pair_of(variant):
    """A plain network and one that recomputes, with the same weights; channels of the input."""
    keras.utils.set_random_seed(0)
    if variant in ("paper", "no_deep_supervision", "lineage4"):
        config = dataclasses.replace(choose(HIP, "quick", variant).config, label_names=("femur",), widths=(4, 6, 8, 10),
                                     lower_widths=(5, 3), middle_widths=(3,))
        plain, other = (hip.build(dataclasses.replace(config, recompute=again)) for again in (False, True))
        channels = 1
        assert plain.losses, "the regularisation is a part of the comparison"
    elif variant == "discriminator":
        plain, other = (femur.discriminator(femur_config(recompute=again)) for again in (False, True))
        channels = 3
    else:
        precision = "mixed_bfloat16" if variant == "bfloat16" else "float32"
        variant = "brndc" if variant == "bfloat16" else variant
        plain, other = (femur.build(femur_config(variant, recompute=again, precision=precision))
                        for again in (False, True))
        channels = 1
    other.set_weights(plain.get_weights())
    return plain, other, channels


def batch(network, channels, sides=(16, 8, 24)):
    """An image and random targets. In bfloat16 the lowest level needs sides of 3 or more: with less, the gradient of
    TensorFlow's Conv3D on a CPU reads memory that it did not write."""
    random = np.random.default_rng(1)
    image = random.normal(size=(2, *sides, channels)).astype("float32")
    shapes = keras.tree.map_structure(lambda tensor: tensor.shape, network(image))
    reference = keras.tree.map_shape_structure(lambda shape: random.normal(size=tuple(shape)).astype("float32"), shapes)
    return image, reference


def fit(network, image, reference, epochs=1, graph=False):
    network.compile(keras.optimizers.SGD(0.1, momentum=0.5), "mse", run_eagerly=not graph)
    return network.fit(image, reference, batch_size=len(image), epochs=epochs, verbose=0).history["loss"]


def assert_equal(plain, other, share=1e-6):
    for one, two in zip(plain.variables, other.variables, strict=True):
        one, two = keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(two)
        np.testing.assert_allclose(two, one, rtol=0, atol=share * np.abs(one).max() + 1e-12)


@pytest.mark.parametrize("variant", [
    "brndc", "discriminator", "bfloat16",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("paper", "unet_l", "no_deep_supervision", "lineage4"))])
def test_a_fit_gives_the_loss_weights_and_moving_statistics_of_the_plain_network(variant):
    plain, other, channels = pair_of(variant)
    sides = {"bfloat16": (24, 32, 24), "lineage4": (32, 16, 48)}.get(variant, (16, 8, 24))
    image, reference = batch(plain, channels, sides)
    start = plain.get_weights()
    graph = variant in ("discriminator", "paper")
    found, expected = (fit(each, image, reference, 2, graph) for each in (other, plain))
    assert found == pytest.approx(expected, rel=1e-6)
    assert_equal(plain, other)
    for variable, before in zip(plain.variables, start, strict=True):
        assert (keras.ops.convert_to_numpy(variable) != before).any(), f"{variable.path} did not move"
    assert_equal_predictions(plain(image), other(image))


def assert_equal_predictions(plain, other):
    keras.tree.map_structure(lambda one, two: np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5), plain, other)


@pytest.mark.parametrize("graph", [False, True])
def test_every_gradient_is_the_plain_networks(graph):
    plain, other, channels = pair_of("brndc")
    image, reference = batch(plain, channels)
    image = tf.constant(image)

    def gradients(network):
        with tf.GradientTape() as tape:
            tape.watch(image)
            prediction = network(image, training=True)
            loss = sum(tf.reduce_mean((prediction[name] - reference[name]) ** 2) for name in prediction)
        return tape.gradient(loss, [image, *(v.value for v in network.trainable_variables)])

    expected, found = ((tf.function(gradients) if graph else gradients)(network) for network in (plain, other))
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-6 * np.abs(one).max())


def test_moving_statistics_move_once_by_the_statistics_of_the_batch():
    _, network, _ = pair_of("unet_s")
    image, reference = batch(network, 1)
    x = keras.ops.convert_to_numpy(keras.Model(network.input, network.get_layer("e1a").output)(image))
    fit(network, image, reference)
    layer = network.get_layer("e1a_norm")
    np.testing.assert_allclose(layer.moving_mean, 0.1 * x.mean((0, 1, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * x.var((0, 1, 2, 3)), rtol=1e-4)


def test_an_inference_moves_nothing_and_is_the_plain_networks():
    plain, other, _ = pair_of("unet_s")
    before = other.get_weights()
    image, _ = batch(other, 1)
    assert_equal_predictions(plain(image), other(image))
    assert_equal_predictions(plain.predict(image, verbose=0), other.predict(image, verbose=0))
    for one, two in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@eagerly()
def test_weights_and_states_are_interchangeable(tmp_path):
    plain, other, _ = pair_of("unet_s")
    assert [v.path for v in plain.variables] == [v.path for v in other.variables]
    assert plain.count_params() == other.count_params()
    image, reference = batch(plain, 1)
    for network in (plain, other):
        network.compile(keras.optimizers.SGD(0.1, momentum=0.5), "mse")
    for place, (writer, reader) in enumerate(((plain, other), (other, plain))):
        writer.train_on_batch(image, reference)
        save_weights(tmp_path / f"{place}.weights.h5", writer)
        keras.Model(reader.input, reader.output, name=reader.name).load_weights(tmp_path / f"{place}.weights.h5")
        assert_equal(writer, reader, share=0)
        writer.train_on_batch(image, reference)
        save_state(tmp_path / "state.h5", writer, place)
        reader.optimizer.build(reader.trainable_variables)
        assert load_state(tmp_path / "state.h5", reader) == place
        assert_equal(writer, reader, share=0)
        for one, two in zip(writer.optimizer.variables, reader.optimizer.variables, strict=True):
            np.testing.assert_array_equal(one, two)


def small_pair(again):
    """A joint network of two blocks, and its discriminator of one."""
    style = BlockStyle(0.0, 0.0, 0.9, 1e-5, "tile")
    image, pair = keras.Input((None, None, None, 1)), keras.Input((None, None, None, 2))
    one = convolution(image, 3, style, "one")
    two = convolution(layers.Concatenate()([one, image]), 3, style, "two")
    network = keras.Model(image, {"mask": classifier(two, 2, style, "mask"),
                                  "heatmaps": classifier(one, 1, style, "heatmaps")})
    mean = layers.GlobalAveragePooling3D()(convolution(pair, 3, style, "judge"))
    judge = keras.Model(pair, layers.Dense(1)(mean))
    return (recomputed(network, ["one_norm", "two_norm"]), recomputed(judge, ["judge_norm"])) if again else (
        network, judge)


def test_the_adversarial_stage_is_the_same_in_the_branches_of_its_graph():
    random = np.random.default_rng(2)
    image = random.normal(size=(1, 6, 4, 8, 1)).astype("float32")
    reference = {"mask": random.integers(-1, 2, (1, 6, 4, 8, 1)).astype("int8"),
                 "heatmaps": random.random((1, 6, 4, 8, 1)).astype("float32")}
    states = []
    for again in (False, True):
        keras.utils.set_random_seed(0)
        trainer = AdversarialTrainer(*small_pair(again), keras.optimizers.SGD(0.1),
                                     AdversarialSettings(branch_steps=1, noise=0.05))
        trainer.compile(keras.optimizers.SGD(0.1), {"mask": lambda _, prediction: keras.ops.mean(prediction ** 2),
                                                    "heatmaps": "mse"})
        trainer.fit(tf.data.Dataset.from_tensors((image, reference)).repeat(3), shuffle=False, verbose=0)
        states.append(trainer.training_state())
    for group in ("network", "discriminator"):
        for one, two in zip(states[0][group], states[1][group], strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-7, err_msg=one.path)


class Counted(layers.Layer):
    """Passes its input on, and counts its calls with values."""

    def __init__(self, name):
        super().__init__(name=name)
        self.calls = 0

    def call(self, x):
        self.calls += isinstance(x, (tf.Tensor, tf.Variable))
        return x * 1.0

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_layers_between_kept_tensors_run_twice_and_the_last_ones_once():
    x = first = keras.Input((5,))
    for name in ("a", "b", "c", "d"):
        x = Counted(name)(layers.Dense(3, name=f"dense_{name}")(x))
    network = recomputed(keras.Model(first, x), kept=["b", "dense_d"])
    for training, expected in ((True, [2, 2, 2, 1]), (False, [1, 1, 1, 1])):
        counters = [network.get_layer(name) for name in "abcd"]
        for counter in counters:
            counter.calls = 0
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network(tf.ones((2, 5)), training=training) ** 2)
        tape.gradient(loss, [v.value for v in network.trainable_variables])
        assert [counter.calls for counter in counters] == expected


def branched():
    """Two inputs; `inner` is in the first block and needed after it; `twice` takes one tensor twice."""
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    inner = layers.Dense(3, activation="tanh", name="inner")(left)
    twice = layers.Multiply(name="twice")([inner, inner])
    end = layers.BatchNormalization(name="end")(layers.Add(name="sum")([twice, right]))
    late = layers.Concatenate(name="late")([inner, end, right])
    return keras.Model([left, right], {"end": end, "late": layers.Dense(2, name="head")(late)}, name="branched")


@pytest.mark.parametrize("kept", [["end"], ["late", "end"], ["inner", "end", "late"], ["twice", "late"], ["head"], []])
def test_branches_and_tensors_needed_outside_their_block(kept):
    keras.utils.set_random_seed(3)
    plain = branched()
    other = recomputed(branched(), kept)
    other.set_weights(plain.get_weights())
    random = np.random.default_rng(0)
    data = [random.normal(size=(6, sides)).astype("float32") for sides in (4, 3)]
    reference = {name: random.normal(size=(6, sides)).astype("float32") for name, sides in (("end", 3), ("late", 2))}
    assert fit(other, data, reference, 2) == pytest.approx(fit(plain, data, reference, 2), rel=1e-6)
    assert_equal(plain, other)


def test_segments_of_a_network_solved_by_hand():
    network = branched()
    found = [({tensor is network.inputs[0] or tensor is network.inputs[1] for tensor in piece.needs}, len(piece.gives),
              sorted(layer.name for layer in piece.model.layers if layer.weights), piece.again)
             for piece in segments(network, ["end"])]
    # The first ends at `end` and has to give `inner` too; the second is what comes after.
    assert found == [({True}, 2, ["end", "inner"], True), ({True, False}, 1, ["head"], False)]
    assert segments(network, ["end"])[0].gives[0] is network.get_layer("end").output


def test_a_float32_layer_in_a_mixed_network_sees_weights_that_were_not_rounded():
    x = first = keras.Input((4,))
    x = layers.Dense(3, dtype="mixed_bfloat16", name="low")(x)
    x = layers.Dense(2, dtype="float32", name="high")(x)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        plain, other = keras.Model(first, x), recomputed(keras.Model(first, x), ["high"])
    finally:
        keras.config.set_dtype_policy("float32")
    assert other.dtype_policy.name == plain.dtype_policy.name == "mixed_bfloat16"  # by it Keras scales losses
    image = tf.constant(np.random.default_rng(0).normal(size=(5, 4)).astype("float32"))
    np.testing.assert_array_equal(other(image, training=True), plain(image, training=True))


def test_networks_that_cannot_be_recomputed_are_refused():
    first = keras.Input((4,))
    dense = layers.Dense(4, name="dense")
    dropped = layers.Dropout(0.5, name="drop")(dense(first))
    with pytest.raises(ValueError, match="random"):
        recomputed(keras.Model(first, dropped), ["drop"])
    with pytest.raises(ValueError, match="'conv7'"):
        recomputed(keras.Model(first, dropped), ["conv7"])
    with pytest.raises(ValueError, match="more than once"):
        recomputed(keras.Model(first, dense(dense(first))), [])


def test_jax_trains_it_as_the_plain_network(tmp_path):
    pytest.importorskip("jax")
    code = ("import sys, keras, numpy as np; sys.path[:0] = sys.argv[1:]\n"
            "from tfsono.layers.blocks import BlockStyle, classifier, convolution, deconvolution, pooling\n"
            "from tfsono.layers.recompute import recomputed\n"
            "assert keras.backend.backend() == 'jax'\n"
            "style = BlockStyle(0.0, 0.0, 0.9, 1e-5, 'tile')\n"
            "image = keras.Input((None, None, None, 1))\n"
            "one = convolution(image, 3, style, 'one')\n"
            "two = deconvolution(convolution(pooling(one, 'pool'), 4, style, 'two'), 3, style, 'up')\n"
            "mask = classifier(keras.layers.Concatenate()([one, two]), 2, style, 'mask')\n"
            "plain = keras.Model(image, mask)\n"
            "other = recomputed(plain, ['one_norm', 'up_norm'])\n"
            "start, random = plain.get_weights(), np.random.default_rng(0)\n"
            "data = [random.normal(size=(2, 8, 4, 6, n)).astype('float32') for n in (1, 2)]\n"
            "ends = []\n"
            "for network in (plain, other):\n"
            "    network.set_weights(start)\n"
            "    network.compile(keras.optimizers.SGD(0.1), 'mse')\n"
            "    network.fit(*data, epochs=2, verbose=0)\n"
            "    ends.append(network.get_weights())\n"
            "for first, one, two in zip(start, *ends, strict=True):\n"
            "    np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)\n"
            "    assert (one != first).any()\n"
            "assert 'tensorflow' not in sys.modules")
    subprocess.run([sys.executable, "-c", code, Path(__file__).resolve().parents[1]], check=True,
                   env={**os.environ, "KERAS_BACKEND": "jax"}, cwd=tmp_path)
