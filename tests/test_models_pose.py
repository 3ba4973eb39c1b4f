"""Networks of `pose`: the numbers of the specification, receptive fields, recomputing, the tree, and the estimate."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.config import choose
from tfsono.configs.pose import LANDMARKS, POSE, SEGMENTS
from tfsono.layers.blocks import BlockStyle
from tfsono.layers.nodes import two_convolutions
from tfsono.losses.joint import heatmap_error
from tfsono.models.pose import build, discriminator, kept, parents
from tfsono.training.checkpoint import load_state, save_state, save_weights
from tfsono.training.memory import estimate
from wiring import eagerly
from zero_kernels import zero_kernels

R4, R5 = (96, 96, 112), (112, 112, 144)  # the mean volume at ratios 0.4 and 0.5, padded
GIB = 2 ** 30


def config(variant="land_gcp", preset="paper", landmarks=LANDMARKS, **values):
    return dataclasses.replace(choose(POSE, preset, variant).config, landmark_names=landmarks, **values)


def narrow(variant="land_gcp", landmarks=("a", "b", "c"), widths=(3, 4, 5), **values):
    values = {"widths": widths, "rnn_hidden": 2, "discriminator_widths": (3, 4, 5, 6), "precision": "float32", **values}
    return config(variant, "quick", landmarks, **values)


def trainable(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def multiplications(network, shape):
    """Multiply-accumulates of all convolutions: of a transposed one each input voxel goes to each place of a kernel."""
    chosen = [layer for layer in network.layers if isinstance(getattr(layer, "kernel", None), keras.Variable)
              and len(layer.kernel.shape) > 2]
    first = [keras.tree.flatten(layer.input)[0] for layer in chosen]
    both = keras.Model(network.input, [first, [layer.output for layer in chosen]])
    shapes = zip(*both.compute_output_shape(shape), strict=True)
    return sum(int(np.prod((before if "Transpose" in type(layer).__name__ else after)[1:-1]))
               * int(np.prod(layer.kernel.shape)) for layer, (before, after) in zip(chosen, shapes, strict=True))


@pytest.fixture(scope="module")
@zero_kernels()
def of_the_paper():
    """Plain at ratio 0.4, recomputed at 0.5."""
    return {variant: build(config(variant)) for variant in ("land_r4", "land_gcp")}


@pytest.mark.parametrize("variant, size, giga", [("land_r4", R4, 1035), ("land_gcp", R5, 1811)])
def test_numbers_of_the_specification(of_the_paper, variant, size, giga):
    network = of_the_paper[variant]
    assert trainable(network) == 84_203_600 and network.count_params() == 84_215_248
    assert multiplications(network, (1, *size, 1)) / 1e9 == pytest.approx(giga, abs=0.6)


@zero_kernels()
def test_numbers_of_the_other_networks():
    """Of the recurrence: 16 joints with 64 * 48 + 48 + 16 + 1 weights, and the kernels that they share."""
    land, rnn, gan = (build(config(variant, widths=(64, 2, 2))) for variant in ("land_gcp", "rnn_gcp", "gan_gcp"))
    assert trainable(rnn) == trainable(land) - (64 * 16 + 16) + 16 * (64 * 48 + 48 + 16 + 1) + 27 * 16 * 48
    assert [v.path for v in gan.variables] == [v.path for v in land.variables]
    # 4^3 (17 * 32 + 32 * 64 + 64 * 128 + 128 * 256), the first one's biases, three gammas and betas, the last layer.
    assert trainable(discriminator(config("gan_gcp"))) == 64 * (544 + 2048 + 8192 + 32768) + 32 + 2 * 448 + 257


@pytest.mark.parametrize("variant", ["land_gcp", "rnn_gcp", "gan_r4"])
@pytest.mark.parametrize("landmarks", [("a",), LANDMARKS])
def test_the_output_has_the_inputs_size_and_a_channel_for_each_landmark(variant, landmarks):
    network = build(narrow(variant, landmarks))
    image = keras.KerasTensor((2, 8, 4, 12, 1))
    prediction = network(image)
    assert set(prediction) == {"heatmaps"} and prediction["heatmaps"].shape == (2, 8, 4, 12, len(landmarks))
    assert prediction["heatmaps"].dtype == "float32"
    judge = discriminator(narrow(variant, landmarks))
    assert judge(keras.KerasTensor((2, 8, 4, 12, 1 + len(landmarks)))).shape == (2, 1)


@pytest.mark.parametrize("levels", [3, 4, 5])
def test_levels_are_joined_with_those_of_their_size(levels):
    network = build(narrow("land_r4", widths=tuple(range(2, 2 + levels))))
    nodes = {layer.name[:2] for layer in network.layers if layer.name[0] in "ed"}
    assert nodes == {f"e{n}" for n in range(1, levels + 1)} | {f"d{n}" for n in range(1, levels)}
    for level in range(1, levels):
        raised, skipped = network.get_layer(f"d{level}_concat").input
        assert raised is network.get_layer(f"d{level}_up_norm").output
        assert skipped is network.get_layer(f"e{level}b_norm").output
    recomputing = build(narrow(widths=tuple(range(2, 2 + levels))))
    assert not [layer for layer in recomputing.layers if layer.name.endswith("_concat")]
    names = {layer.name for layer in recomputing.layers}
    assert len(set(kept(levels))) == 2 * levels + 1 and set(kept(levels)) < names


def test_receptive_fields_of_the_specification():
    """140 places at the bottom, 230 at the output. One step in the network's arithmetic: which input places move it."""
    network = build(narrow("land_r4", ("a",), widths=(1, 1, 1, 1, 1), norm_at_test="moving"))
    for variable in network.trainable_variables:  # all paths open: no dead ReLU
        value = {"kernel": 0.1, "gamma": 1.0}.get(variable.path.split("/")[-1], 0.0)
        variable.assign(np.full(variable.shape, value, np.float32))
    side, thick, measured = 304, 16, {}
    both = keras.Model(network.input, [network.get_layer("e5b_norm").output, network.output["heatmaps"]])
    zero = both(np.zeros((1, side, thick, thick, 1), np.float32))
    moved = [[], []]
    for first in range(0, side, 16):
        raised = np.zeros((16, side, thick, thick, 1), np.float32)
        raised[np.arange(16), first + np.arange(16)] = 1e6
        for kind, (value, rest) in enumerate(zip(both(raised), zero, strict=True)):
            moved[kind] += list(np.abs(keras.ops.convert_to_numpy(value - rest)).max((2, 3, 4)) > 0)
    for name, rows in zip(("bottom", "output"), map(np.array, moved), strict=True):
        count = rows.shape[1]
        middle = rows[:, count * 15 // 32:count * 17 // 32 + 1]
        assert not middle[[0, -1]].any(), "the field reaches the border"
        sides = [int(np.ptp(np.flatnonzero(column))) + 1 for column in middle.T]
        measured[name] = min(sides), max(sides)
    assert measured["bottom"] == (140, 140)
    # The specification counts a deconvolution as one more input step; where exactly depends on the output's place.
    lowest, highest = measured["output"]
    assert lowest <= 230 <= highest and highest - lowest <= 30, measured


def test_receptive_field_of_the_discriminator():
    """1 + 3 (1 + 2 + 4 + 8): from the strides and sides of its kernels."""
    network = discriminator(narrow("gan_r4"))
    field, step = 1, 1
    for place in range(1, 5):
        layer = network.get_layer(f"conv{place}")
        field, step = field + (layer.kernel_size[0] - 1) * step, step * layer.strides[0]
    assert field == 46 and step == 16


# --- the tree


def test_the_tree_leads_from_the_neck_to_every_joint_along_the_segments():
    found = parents(LANDMARKS)
    pairs = {frozenset((name, LANDMARKS[parent])) for name, parent in zip(LANDMARKS, found, strict=True) if parent >= 0}
    assert pairs == set(map(frozenset, SEGMENTS)) and found[LANDMARKS.index("neck")] == -1
    by_name = {name: LANDMARKS[parent] for name, parent in zip(LANDMARKS, found, strict=True) if parent >= 0}
    assert by_name["wrist_b"] == "elbow_b" and by_name["head"] == "neck" and by_name["hip_a"] == "sacrum"


@pytest.mark.parametrize("names, expected", [
    (("ankle_a", "neck", "hip_a"), (2, -1, 1)),  # without the knee, the spine and the sacrum
    (("wrist_a", "ankle_b"), (-1, -1)),
    (("knee_b",), (-1,)),
    (("skull", "left ear", "neck"), (-1, 0, 1)),  # not all of them the paper's: a chain
])
def test_missing_joints_and_other_names(names, expected):
    assert parents(names) == expected


# --- recomputing


def pair_of(variant, widths=(3, 4, 5), **values):
    """A plain network and one that recomputes, with the same weights."""
    keras.utils.set_random_seed(0)
    names = ("neck", "head", "spine", "sacrum", "hip_a", "hip_b")
    plain, other = (build(narrow(variant, names, widths, recompute=again, **values)) for again in (False, True))
    other.set_weights(plain.get_weights())
    return plain, other


def batch(sides=(8, 12, 4), samples=1):
    random = np.random.default_rng(1)
    reference = random.random((samples, *sides, 6), np.float32)
    reference[..., -2:, :, 0] = np.nan  # does not count
    return random.normal(size=(samples, *sides, 1)).astype("float32"), {"heatmaps": reference}


@pytest.mark.parametrize("variant, graph", [("land_gcp", False), ("land_gcp", True), ("rnn_gcp", True)])
def test_loss_gradients_and_moving_statistics_are_the_plain_networks(variant, graph):
    """To rounding those of the network that concatenates; much nearer those of the same sums, calculated once."""
    image, reference = batch()

    def gradients(network):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(heatmap_error(reference["heatmaps"], network(image, training=True)["heatmaps"]))
        return loss, tape.gradient(loss, [v.value for v in network.trainable_variables])

    plain, other = pair_of(variant)
    once = keras.Model(other.input, other.output)
    start = other.get_weights()
    found = []
    for network in (other, once, plain):
        network.set_weights(start)
        loss, gradient = (tf.function(gradients) if graph else gradients)(network)
        states = [keras.ops.convert_to_numpy(v) for v in network.non_trainable_variables]
        found.append([np.asarray(loss), *map(np.asarray, gradient), *states])
    names = ["loss", *(v.path for v in (*plain.trainable_variables, *plain.non_trainable_variables))]
    for name, ours, same, concatenated in zip(names, *found, strict=True):
        largest = np.abs(ours).max()
        assert largest > 0, name
        np.testing.assert_allclose(ours, same, rtol=0, atol=2e-6 * largest, err_msg=name)
        np.testing.assert_allclose(ours, concatenated, rtol=0, atol=1e-4 * largest, err_msg=name)
    after = dict(zip(names, found[0], strict=True))
    assert all((after[v.path] != (1.0 if "variance" in v.path else 0.0)).all() for v in plain.non_trainable_variables)


@eagerly()
def test_weights_and_states_are_interchangeable(tmp_path):
    plain, other = pair_of("land_gcp")
    image, reference = batch()
    assert [v.path for v in plain.variables] == [v.path for v in other.variables]
    for network in (plain, other):
        network.compile(keras.optimizers.Adam(1e-2), {"heatmaps": heatmap_error})
    for place, (writer, reader) in enumerate(((plain, other), (other, plain))):
        writer.train_on_batch(image, reference)
        save_weights(tmp_path / f"{place}.weights.h5", writer)
        keras.Model(reader.input, reader.output, name=reader.name).load_weights(tmp_path / f"{place}.weights.h5")
        for one, two in zip(writer.get_weights(), reader.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
        writer.train_on_batch(image, reference)
        save_state(tmp_path / "state.h5", writer, place)
        reader.optimizer.build(reader.trainable_variables)
        assert load_state(tmp_path / "state.h5", reader) == place
        for one, two in zip(writer.variables, reader.variables, strict=True):
            np.testing.assert_array_equal(one, two)


def test_parts_give_what_their_concatenation_gives():
    style = BlockStyle(0.0, 0.0, 0.9, 1e-5, "tile")
    inputs = [keras.Input((None, None, None, channels)) for channels in (2, 1, 4)]
    whole, apart = (keras.Model(inputs, two_convolutions(inputs, 3, style, "n", apart=each)) for each in (False, True))
    apart.set_weights(whole.get_weights())
    random = np.random.default_rng(0)
    values = [random.normal(size=(2, 5, 3, 4, channels)).astype("float32") for channels in (2, 1, 4)]
    np.testing.assert_allclose(apart(values), whole(values), rtol=1e-4, atol=1e-5)
    exchanged = keras.ops.convert_to_numpy(apart([values[0], values[1], -values[2]]))
    assert np.abs(exchanged - keras.ops.convert_to_numpy(apart(values))).max() > 0.1


def test_the_layers_have_low_precision_and_the_output_float32():
    for variant in ("land_gcp", "rnn_gcp"):
        network = build(narrow(variant, precision="mixed_bfloat16"))
        assert {network.get_layer(name).compute_dtype for name in ("e1a", "d1a", "d1_up")} == {"bfloat16"}
        image = np.random.default_rng(0).normal(size=(1, 12, 16, 12, 1)).astype("float32")
        prediction = network(image, training=True)["heatmaps"]
        assert keras.backend.standardize_dtype(prediction.dtype) == "float32" and np.isfinite(prediction).all()
    assert keras.config.dtype_policy().name == "float32"


# --- the estimate of a step's memory


def test_an_estimate_counted_by_hand():
    """A volume of 4x4x8 voxels, widths 1, 2, 3, one landmark."""
    network = build(narrow("land_r4", ("a",), widths=(1, 2, 3)))
    counted = estimate(network, [], (1, 4, 4, 8, 1))
    fine, middle, coarse = 128, 16, 2
    encoder = fine * (1 + 4 * 1) + middle * (1 + 4 * 2) + coarse * (2 + 4 * 3)  # input or pooled; two of conv and ReLU
    decoder = (middle * 2 + fine * 1) * 2 + middle * (4 + 4 * 2) + fine * (2 + 4 * 1)  # up; concatenated; two of each
    assert counted.retained == 4 * (encoder + decoder)
    assert counted.working == 2 * 4 * fine * 2 and counted.weights == 4 * 4 * trainable(network)
    # Recomputed, the backward pass holds most at the last convolution, d1b: what is kept before it, convolution, ReLU.
    again = build(narrow("land_gcp", ("a",), widths=(1, 2, 3)))
    held = fine * (1 + 1) + middle * 2 + coarse * 3 + middle * 2 + fine * (1 + 1) + fine * 2
    assert estimate(again, kept(3), (1, 4, 4, 8, 1)).retained == 4 * held


def test_the_papers_claim_on_a_card_of_12_gb(of_the_paper):
    """Plain 6.3 GiB at ratio 0.4 and 10.1 at 0.5 (specification); with whole nodes recomputed more than the former."""
    plain = of_the_paper["land_r4"]
    lower, higher = (estimate(plain, [], (1, *size, 1)).peak / GIB for size in (R4, R5))
    assert lower == pytest.approx(6.3, abs=0.15) and higher == pytest.approx(10.1, abs=0.25)
    nodes = [name for name in kept(5) if name.endswith("b_norm")]
    blocks = estimate(plain, nodes, (1, *R5, 1)).peak / GIB
    ours = estimate(of_the_paper["land_gcp"], kept(5), (1, *R5, 1)).peak / GIB
    assert ours < 0.8 * lower and lower < blocks < 7.9
