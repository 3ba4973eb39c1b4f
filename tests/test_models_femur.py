"""Networks of `femur`: the numbers of the specification, what leads to which output, receptive fields."""

import dataclasses

import keras
import numpy as np
import pytest

from tfsono.config import choose
from tfsono.configs.femur import FEMUR
from tfsono.models.femur import build, discriminator
from zero_kernels import zero_kernels

PAPERS_REGION = (152, 88, 128)  # at ratio 0.65, on average, padded


def config(variant="brndc", preset="paper", labels=("femur",), landmarks=("proximal", "distal"), **values):
    return dataclasses.replace(choose(FEMUR, preset, variant).config, label_names=labels, landmark_names=landmarks,
                               **values)


def narrow(variant="brndc", **values):
    return config(variant, "quick", widths=(4, 6, 8, 10), roi_widths=(3, 4, 5, 6, 7),
                  discriminator_widths=(3, 4, 5, 6, 7, 8), **values)


def trainable(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def multiplications(network, shape):
    """Multiply-accumulates of all convolutions: of a transposed one each input voxel goes to each place of a kernel."""
    chosen = [layer for layer in network.layers if isinstance(getattr(layer, "kernel", None), keras.Variable)
              and len(layer.kernel.shape) > 2]
    both = keras.Model(network.input, [[layer.input, layer.output] for layer in chosen])
    shapes = both.compute_output_shape(shape)
    return sum(int(np.prod((before if "Transpose" in type(layer).__name__ else after)[1:-1]))
               * int(np.prod(layer.kernel.shape)) for layer, (before, after) in zip(chosen, shapes, strict=True))


@pytest.mark.parametrize("variant, parameters, total, giga, outputs", [
    ("unet_s", 1_929_570, 1_931_042, 357.3, {"mask"}),
    ("unet_l", 7_871_586, 7_874_850, 337.7, {"heatmaps"}),
    ("brn", 8_942_308, 8_946_148, 592.9, {"mask", "heatmaps"}),
    ("brnd", 8_942_308, 8_946_148, 592.9, {"mask", "heatmaps"}),
    ("brndc", 9_604_836, 9_608_676, 677.9, {"mask", "heatmaps"}),
    ("brndc_d", 9_604_836, 9_608_676, 677.9, {"mask", "heatmaps"}),
])
@zero_kernels()
def test_numbers_of_the_specification(variant, parameters, total, giga, outputs):
    network = build(config(variant))
    assert trainable(network) == parameters and network.count_params() == total
    assert set(network.output) == outputs == set(config(variant).outputs)
    assert multiplications(network, (1, *PAPERS_REGION, 1)) / 1e9 == pytest.approx(giga, abs=0.05)


@zero_kernels()
def test_numbers_of_the_first_stage():
    network = build(config("unet_roi"))
    assert trainable(network) == 31_037_506 and network.count_params() == 31_051_202
    assert multiplications(network, (1, 416, 416, 1)) / 1e9 == pytest.approx(127.0, abs=0.05)


@zero_kernels()
def test_numbers_of_the_discriminator():
    network = discriminator(config("brndc_d"))
    assert trainable(network) == 8_003_489 and network.count_params() == 8_005_153
    assert multiplications(network, (1, *PAPERS_REGION, 3)) / 1e9 == pytest.approx(215.2, abs=0.05)
    last = keras.Model(network.input, network.get_layer("conv6_relu").output)
    assert last.compute_output_shape((1, *PAPERS_REGION, 3)) == (1, 38, 22, 32, 256)


@pytest.mark.parametrize("variant", ["unet_s", "unet_l", "brn", "brndc"])
def test_outputs_have_the_input_size_and_as_many_channels_as_classes_and_landmarks(variant):
    values = {"labels": ("a", "b"), "landmarks": tuple("abcdefg")}
    prediction = build(narrow(variant, **values))(np.zeros((2, 16, 8, 24, 1), np.float32))
    expected = {"mask": (2, 16, 8, 24, 3), "heatmaps": (2, 16, 8, 24, 7)}
    assert {name: tuple(value.shape) for name, value in prediction.items()} == {
        name: expected[name] for name in config(variant).outputs}
    judge = discriminator(narrow("brndc_d", **values))
    assert tuple(judge(np.zeros((2, 16, 8, 24, 8), np.float32)).shape) == (2, 1)


def test_a_slice_has_its_own_sides():
    prediction = build(narrow("unet_roi", labels=("a", "b")))(np.zeros((3, 32, 48, 3), np.float32))
    assert set(prediction) == {"mask"} and tuple(prediction["mask"].shape) == (3, 32, 48, 3)


@pytest.mark.parametrize("variant, leads", [
    ("unet_s", {"e1": "m", "e2": "m", "e3": "m", "s2": "m", "s1": "m"}),
    ("unet_l", {"e1": "h", "e2": "h", "e3": "h", "l4": "h", "l3": "h", "l2": "h", "l1": "h"}),
    ("brn", {"e1": "hm", "e2": "hm", "e3": "hm", "l4": "h", "l3": "h", "s2": "m", "l2": "h", "s1": "m", "l1": "h"}),
    ("brndc", {"e1": "hm", "e2": "hm", "e3": "hm", "l4": "hm", "l3": "hm", "s2": "hm", "l2": "h", "s1": "hm",
               "l1": "h"}),
])
def test_which_node_leads_to_which_output(variant, leads):
    """Two cross connections to the heatmaps and one to the mask (Sec. II-B), in brndc alone."""
    network = build(narrow(variant, norm_at_test="moving"))
    nodes = {layer.name[:2] for layer in network.layers if layer.name[0] in "els" and layer.name[1:2].isdigit()}
    assert nodes == set(leads)
    image = np.random.default_rng(0).normal(size=(1, 16, 8, 24, 1)).astype("float32")
    before = {name: keras.ops.convert_to_numpy(value) for name, value in network(image).items()}
    for node, expected in leads.items():
        kernel = network.get_layer(f"{node}b").kernel
        value = keras.ops.convert_to_numpy(kernel)
        kernel.assign(-value)
        moved = {name[0] for name, now in network(image).items() if (before[name] != now).numpy().any()}
        kernel.assign(value)
        assert moved == set(expected), node


@pytest.mark.parametrize("skip, node, expected", [
    ("e1", "s1", True), ("e2", "s2", True), ("e3", "l3", True), ("e1", "l1", False), ("e2", "l2", False)])
def test_skip_connections_are_two_in_one_branch_and_one_in_the_other(skip, node, expected):
    network = build(narrow("brn"))
    source = network.get_layer(f"{skip}b_norm").output
    concatenated = {layer.name: layer.input for layer in network.layers if layer.name.endswith("_concat")}
    assert any(part is source for part in concatenated.get(f"{node}_concat", [])) == expected


def receptive_fields(network, outputs, side, thick):
    """Smallest and largest number of input places along x that an output place in the middle depends on.

    A slab of one x is raised at a time. All paths are open: positive weights, no dead ReLU.
    """
    for variable in network.trainable_variables:
        value = {"kernel": 0.02, "gamma": 1.0}.get(variable.path.split("/")[-1], 0.0)
        variable.assign(np.full(variable.shape, value, np.float32))
    network = keras.Model(network.input, outputs)
    shape = (side, *[thick] * (len(network.input.shape) - 3), network.input.shape[-1])
    zero = network(np.zeros((1, *shape), np.float32))
    moved = {name: [] for name in outputs}
    for first in range(0, side, 16):
        raised = np.zeros((16, *shape), np.float32)
        raised[np.arange(16), np.arange(first, first + 16)] = 1e3
        for name, value in network(raised).items():
            change = keras.ops.convert_to_numpy(value - zero[name])
            moved[name] += list(change.max(tuple(range(2, change.ndim))) > 0)
    measured = {}
    for name, rows in moved.items():
        inputs = np.array(rows)  # [side of the input, side of the output]
        middle = inputs[:, inputs.shape[1] * 15 // 32:inputs.shape[1] * 17 // 32]
        assert not middle[[0, -1]].any(), "the field reaches the border: a larger side is needed"
        sides = [int(np.ptp(np.flatnonzero(column))) + 1 for column in middle.T]
        measured[name] = (min(sides), max(sides))
    return measured


@pytest.mark.parametrize("variant, specified", [
    ("unet_s", {"e3": 32, "mask": 50}),
    ("unet_l", {"l4": 68, "heatmaps": 110}),
    ("brn", {"e3": 32, "l4": 68, "mask": 50, "heatmaps": 110}),
    ("brndc", {"e3": 32, "l4": 68, "mask": 110, "heatmaps": 118}),
])
def test_receptive_fields_of_the_specification(variant, specified):
    network = build(narrow(variant, norm_at_test="moving"))  # a tile's statistics see all of it
    inner = {name: network.get_layer(f"{name}b_norm").output for name in specified if name in ("e3", "l4")}
    measured = receptive_fields(network, {**inner, **network.output}, side=160, thick=8)
    assert set(measured) == set(specified) | set(network.output)
    for name, field in specified.items():
        lowest, highest = measured[name]
        if name in inner:
            assert (lowest, highest) == (field, field)
        # The specification counts a deconvolution as one more input step; where exactly depends on the output's place.
        assert lowest <= field <= highest and highest - lowest <= 12, (name, measured[name])


def test_receptive_field_of_the_first_stage():
    network = build(narrow("unet_roi", roi_norm_at_test="moving"))
    lowest, highest = receptive_fields(network, network.output, side=320, thick=16)["mask"]
    # A 2x2 deconvolution of stride 2 tells its output's place, so each place has another field.
    assert lowest <= 200 <= highest


def test_receptive_field_of_the_discriminator():
    network = discriminator(narrow(norm_at_test="moving"))
    last = {"last": network.get_layer("conv6_relu").output}
    assert receptive_fields(network, last, side=96, thick=8) == {"last": (58, 58)}


def test_every_weight_of_the_networks_has_a_gradient():
    import tensorflow as tf

    random = np.random.default_rng(0)
    for network, channels in ((build(narrow()), 1), (discriminator(narrow()), 3)):
        image = random.normal(size=(1, 16, 24, 8, channels)).astype("float32")
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_sum(out ** 3) for out in keras.tree.flatten(network(image, training=True)))
        variables = [v.value for v in network.trainable_variables]
        for variable, gradient in zip(network.trainable_variables, tape.gradient(loss, variables), strict=True):
            assert gradient is not None and np.abs(gradient).max() > 0, variable.path


def test_a_region_is_normalised_by_itself_at_test_and_a_slice_by_the_averages_of_training():
    region, slices = build(narrow()), build(narrow("unet_roi", roi_norm_at_test="moving"))
    for network, name in ((region, "e1a_norm"), (slices, "enc1a_norm")):
        shape = (2, *[16] * (len(network.input.shape) - 2), network.input.shape[-1])
        image = np.random.default_rng(0).normal(size=shape).astype("float32")
        before = keras.ops.convert_to_numpy(network(image)["mask"])
        network.get_layer(name).moving_mean.assign_add(np.ones(network.get_layer(name).moving_mean.shape, "float32"))
        same = np.array_equal(before, keras.ops.convert_to_numpy(network(image)["mask"]))
        assert same == (network is region)


def test_a_slice_may_be_normalised_by_its_batch_and_never_by_itself():
    networks = [build(narrow("unet_roi", roi_norm_at_test=kind)) for kind in ("moving", "batch")]
    networks[1].set_weights(networks[0].get_weights())
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")
    images *= np.float32([1, 2, 3, 4])[:, None, None, None]
    alone = [keras.ops.convert_to_numpy(network(images[:1])["mask"])[0] for network in networks]
    among = [keras.ops.convert_to_numpy(network(images)["mask"])[0] for network in networks]
    np.testing.assert_allclose(alone[0], among[0], atol=1e-5)
    assert np.abs(alone[1] - among[1]).max() > 0.1
    trained = keras.ops.convert_to_numpy(networks[0](images, training=True)["mask"])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(networks[1](images)["mask"]), trained, atol=1e-5)


def test_outputs_are_float32_and_the_precision_is_restored_in_any_case():
    image = np.random.default_rng(0).normal(size=(1, 24, 24, 24, 1)).astype("float32")
    network, judge = build(narrow(precision="mixed_bfloat16")), discriminator(narrow(precision="mixed_bfloat16"))
    assert network.get_layer("e1a").compute_dtype == judge.get_layer("conv1").compute_dtype == "bfloat16"
    prediction = network(image)
    assert {str(keras.backend.standardize_dtype(value.dtype)) for value in prediction.values()} == {"float32"}
    assert keras.backend.standardize_dtype(judge(np.concatenate([image] * 3, -1)).dtype) == "float32"
    with pytest.raises(ValueError):
        build(narrow(precision="mixed_bfloat16", labels=(), landmarks=()))  # no channel of the heatmaps
    assert keras.config.dtype_policy().name == "float32"


def test_a_heatmap_may_be_negative_and_above_one():
    network = build(narrow("unet_l", norm_at_test="moving"))
    image = np.random.default_rng(0).normal(size=(1, 8, 16, 8, 1)).astype("float32")
    head = network.get_layer("heatmaps")
    for bias in (-2.0, 3.0):
        head.kernel.assign(np.zeros(head.kernel.shape, "float32"))
        head.bias.assign(np.full(2, bias, "float32"))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(network(image)["heatmaps"]), np.float32(bias))
