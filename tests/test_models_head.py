"""Networks of `head`: the specification's counts, outputs, dropout at test, weights from a file, another backend."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from tfsono.config import choose
from tfsono.configs.head import HEAD, NETWORKS
from tfsono.errors import UserError
from tfsono.geometry.heatmaps import gaussian_maps
from tfsono.losses.masks import signed_distance
from tfsono.models.head import build, load_backbone, losses
from tfsono.models.head.localisation import MeanPoints
from zero_kernels import zero_kernels

ROOT = Path(__file__).resolve().parents[1]
WITH_ALL_LAYERS = ("heatmap", "attention_pyramid", "transformer", "attention_unet", "deeplabv3plus")


def config(variant, preset="paper", **values):
    return dataclasses.replace(choose(HEAD, preset, variant).config, **values)


def narrow(variant, **values):
    """A network of a few thousand weights, for images of 64 rows and 96 columns."""
    sizes = {"input_size": (64, 96), "backbone_widths": (4, 6, 8, 10, 12), "heatmap_widths": (8, 8, 6),
             "head_widths": (12, 8), "pyramid_channels": 8, "pyramid_fused": 12, "attention_reduction": 4,
             "transformer_size": (32, 48), "transformer_patch": 8, "transformer_width": 16, "transformer_depth": 2,
             "transformer_heads": 2, "unet_widths": (4, 6, 8, 10), "aspp_channels": 8, "aspp_rates": (1, 2),
             "low_level_channels": 4}
    return config(variant, "quick", **{**sizes, **values})


def array(value):
    return keras.ops.convert_to_numpy(value)


def count(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


@pytest.mark.parametrize("variant, trainable, total", [
    ("heatmap", 34_523_204, 34_578_244), ("coordinate", 11_618_096, 11_706_935),
    ("unet", 31_037_506 - 65, 31_051_202 - 65),  # the specification's has two outputs, of 64 weights and a bias
])
@zero_kernels()
def test_parameters_of_the_specification(variant, trainable, total):
    network = build(config(variant))
    assert (count(network.trainable_variables), network.count_params()) == (trainable, total)


@pytest.mark.parametrize("variant, low, high", [("attention_unet", 31e6, 33e6), ("attention_pyramid", 26e6, 30e6),
                                                ("deeplabv3plus", 26e6, 28e6), ("transformer", 14e6, 15e6)])
@zero_kernels()
def test_the_other_full_networks_build(variant, low, high):
    found = config(variant)
    network = build(found)
    assert low < network.count_params() < high
    shape = {"points": (None, 4, 2), "mask": (None, 512, 512, 1)}[found.output]
    assert {name: value.shape for name, value in network.output.items()} == {found.output: shape}


@zero_kernels()
def test_the_raw_map_of_the_heatmap_network_is_halved():
    network = build(config("heatmap"))
    assert network.get_layer("maps").output.shape == (None, 256, 256, 4)
    assert network.output["heatmaps"].shape == (None, 128, 128, 4)


@zero_kernels()
def test_deeplab_has_an_output_stride_of_16():
    backbone = build(config("deeplabv3plus")).get_layer("backbone")
    assert [tuple(output.shape[1:]) for output in backbone.outputs] == [
        (128, 128, 256), (64, 64, 512), (32, 32, 1024), (32, 32, 2048)]


@pytest.mark.parametrize("variant", NETWORKS)
@zero_kernels()
def test_quick_networks_are_small(variant):
    assert build(config(variant, "quick")).count_params() < 2e6


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("variant", NETWORKS)
def test_outputs_have_their_shape_and_float32(variant, precision):
    found = narrow(variant, precision=precision, heatmap_widths=(8, 8, 6, 4))
    prediction = build(found)(np.random.default_rng(0).normal(size=(2, 64, 96, 1)).astype("float32"))
    shape = {"heatmaps": (2, 16, 24, 4), "points": (2, 4, 2), "mask": (2, 64, 96, 1)}[found.output]
    assert list(prediction) == [found.output] and tuple(prediction[found.output].shape) == shape
    assert array(prediction[found.output]).dtype == np.float32
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("variant", ["coordinate", "attention_pyramid", "transformer"])
def test_points_are_pixels_of_the_frame(variant):
    network = build(narrow(variant))
    dense = network.get_layer("shares")
    shares = np.linspace(0.05, 0.95, dense.bias.shape[0])
    dense.kernel.assign(np.zeros(dense.kernel.shape))
    dense.bias.assign(np.log(shares / (1 - shares)) if variant == "transformer" else shares)
    points = array(network(np.zeros((1, 64, 96, 1), np.float32))["points"])[0]
    expected = np.broadcast_to(shares.reshape(-1, 2), (4, 2)) * (96, 64) - 0.5
    assert points == pytest.approx(expected, abs=1e-4)


def test_regression_starts_near_the_centre():
    keras.utils.set_random_seed(0)  # one draw in some hundred starts further off
    points = array(build(narrow("coordinate"))(np.random.default_rng(0).normal(size=(2, 64, 96, 1)))["points"])
    assert np.abs(points - (47.5, 31.5)).max() < 3


@pytest.mark.parametrize("variant", ["coordinate_grid", "coordinate_maps", "attention_pyramid_grid",
                                     "attention_pyramid_maps", "transformer_stem"])
def test_other_heads_give_points_near_the_centre_and_learn_their_sizes(variant):
    """No normalisation over heads and no dropout is between the features and the points of their variants."""
    keras.utils.set_random_seed(0)
    network = build(narrow(variant))
    points = array(network(np.random.default_rng(0).normal(size=(2, 64, 96, 1)))["points"])
    assert points.shape == (2, 4, 2) and points.dtype == np.float32
    assert np.abs(points - (47.5, 31.5)).max() < (48 if variant == "transformer_stem" else 16)
    assert all(getattr(layer, "rate", 0) == 0 for layer in network.layers)
    names = {layer.name for layer in network.layers}
    assert not {"mean", "dense1_norm"} & names
    if variant.endswith("maps"):
        assert network.get_layer("maps").output.shape[1:] == ((16, 24, 4) if "pyramid" in variant else (8, 12, 4))


def test_points_from_maps_are_the_places_of_their_peaks():
    maps = np.zeros((1, 8, 12, 4), np.float32)
    places = [(3, 2), (11, 0), (0, 7), (6, 5)]
    for landmark, (x, y) in enumerate(places):
        maps[0, y, x, landmark] = 50
    points = array(MeanPoints((64, 96), "points")(maps))
    np.testing.assert_allclose(points[0], np.array(places) * 8 + 3.5, atol=1e-3)


@pytest.mark.parametrize("variant", NETWORKS)
def test_dropout_can_stay_on_at_test(variant):
    found = narrow(variant, dropout=0.5)
    plain, sampling = build(found), build(found, monte_carlo=True)
    for weight in plain.weights:  # whatever their start, the image must reach the output
        if "shares" in weight.path or "maps" in weight.path:
            weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    assert [tuple(w.shape) for w in plain.weights] == [tuple(w.shape) for w in sampling.weights]
    sampling.set_weights(plain.get_weights())
    image = np.random.default_rng(1).normal(size=(1, 64, 96, 1)).astype("float32")
    same = [array(plain(image)[found.output]) for _ in range(2)]
    samples = [array(sampling(image)[found.output]) for _ in range(3)]
    assert (same[0] == same[1]).all() and (samples[0] != samples[1]).any()
    for before, after in zip(plain.get_weights(), sampling.get_weights(), strict=True):
        assert (before == after).all()  # the normalisations stay as they are


@pytest.mark.parametrize("variant", NETWORKS)
def test_one_step_of_training_with_points_or_masks(variant):
    """The reference of a heatmap network is points; Keras must take it, with a landmark unknown."""
    found = narrow(variant, boundary_weight=0.01 if variant == "unet" else 0.0)
    random = np.random.default_rng(0)
    image = random.normal(size=(2, 64, 96, 1)).astype("float32")
    if found.output == "mask":
        rows, columns = np.mgrid[:64, :96]
        mask = ((columns - 50) / 30) ** 2 + ((rows - 30) / 20) ** 2 < 1
        reference = np.stack([mask, signed_distance(mask)] if found.boundary_weight else [mask], -1)
        reference = np.stack([reference] * 2).astype("float32")
    else:
        reference = random.uniform(10, 60, (2, 4, 2)).astype("float32")
        reference[1, 2] = np.nan
    network = build(found)
    network.compile(keras.optimizers.AdamW(1e-3, global_clipnorm=1.0), loss=losses(found), run_eagerly=True)
    before = [array(v).copy() for v in network.trainable_variables]
    assert np.isfinite(network.train_on_batch(image, {found.output: reference}))
    after = [array(v) for v in network.trainable_variables]
    assert all(np.isfinite(value).all() for value in after)
    assert np.mean([(old != new).any() for old, new in zip(before, after, strict=True)]) > 0.9


@pytest.mark.parametrize("variant", NETWORKS)
def test_the_loss_is_one_number_a_sample_and_lower_for_the_reference(variant):
    found = narrow(variant)
    points = np.array([[[20, 30], [70, 30], [45, 12], [45, 49]]] * 2, np.float32)
    mask = np.zeros((2, 64, 96, 1), np.float32)
    mask[:, 12:50, 20:70] = 1
    reference = mask if found.output == "mask" else points
    right = {"mask": 40 * mask - 20, "points": points, "heatmaps": gaussian_maps(points, (16, 24), 1.5, 4)}
    wrong = {"mask": -right["mask"], "points": points[:, ::-1] + 9, "heatmaps": right["heatmaps"][:, ::-1]}
    (name, loss), = losses(found).items()
    good, bad = array(loss(reference, right[name])), array(loss(reference, wrong[name]))
    assert name == found.output and good.shape == bad.shape == (2,)
    assert (good < 0.01).all() and (bad > 0.1).all()


# --- ImageNet weights from a file

def write_legacy(path, model):
    """The format of the files that Keras applications publishes: one group a layer, in the model's order."""
    with h5py.File(path, "w") as file:
        held = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.4.0"
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{place}:0".encode() for place in range(len(layer.weights))]
            group.attrs["weight_names"] = names
            for name, weight in zip(names, layer.get_weights() if layer in held else [], strict=True):
                group[name.decode()] = weight


def random_weights(model, seed=0):
    random = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights([random.uniform(0.01, 0.02, weight.shape) if weight.ndim else weight
                           for weight in layer.get_weights()])
    return model


@pytest.fixture(scope="module")
@zero_kernels()
def resnet(tmp_path_factory):
    """A model of Keras applications with random weights, and its file in the published format."""
    model = random_weights(keras.applications.ResNet50(include_top=False, weights=None, input_shape=(64, 96, 3)))
    path = tmp_path_factory.mktemp("weights") / "resnet50_notop.h5"
    write_legacy(path, model)
    return model, path


def imagenet(variant):
    return narrow(variant, backbone="imagenet")


@pytest.mark.parametrize("variant", ["heatmap", "deeplabv3plus"])
@zero_kernels()
def test_resnet_weights_of_a_file_are_all_read(resnet, variant):
    model, path = resnet
    network = build(imagenet(variant))
    report = load_backbone(network, path)
    assert "ResNet50" in report and "23,587,712" in report and str(path) in report
    backbone = network.get_layer("backbone")
    image = np.random.default_rng(0).normal(size=(1, 64, 96, 3)).astype("float32")
    fourth = keras.Model(model.input, model.get_layer("conv4_block6_out").output)
    np.testing.assert_allclose(array(backbone(image)[2]), array(fourth(image)), rtol=1e-3)
    for layer in (layer for layer in model.layers if layer.weights):
        for ours, theirs in zip(backbone.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
@zero_kernels()
def efficientnet():
    return build(imagenet("coordinate"))


@pytest.fixture(scope="module")
@zero_kernels()
def b3():
    """The model of Keras applications."""
    return keras.applications.EfficientNetB3(include_top=False, weights=None, input_shape=(64, 96, 3))


@pytest.mark.parametrize("name", ["efficientnetb3_notop.h5", pytest.param("b3.weights.h5", marks=pytest.mark.slow)])
def test_efficientnet_weights_are_read_except_the_normalisation_of_images(efficientnet, b3, tmp_path, name):
    """As Keras applications publishes them, and as `save_weights` writes them."""
    random_weights(b3, seed=len(name))
    write_legacy(tmp_path / name, b3) if name.endswith("notop.h5") else b3.save_weights(tmp_path / name)
    report = load_backbone(efficientnet, tmp_path / name)
    assert "EfficientNetB3" in report and f"{10_783_535 - 7:,}" in report
    backbone = efficientnet.get_layer("backbone")
    for layer in b3.layers:
        if layer.weights and not isinstance(layer, keras.layers.Normalization):
            for ours, theirs in zip(backbone.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(ours, theirs)
    held = {type(layer).__name__: layer for layer in backbone.layers}
    mean, variance, _ = held["Normalization"].get_weights()
    assert (mean == 0).all() and (variance == 1).all()


def test_a_wrong_file_is_one_line(resnet, efficientnet, tmp_path):
    (_, path), network = resnet, efficientnet
    (tmp_path / "text.h5").write_text("no weights")
    small = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    small.save_weights(tmp_path / "small.weights.h5")
    before = network.get_weights()
    for wrong, words in ((path, "EfficientNetB3"), (tmp_path / "text.h5", "EfficientNetB3"),
                         (tmp_path / "small.weights.h5", "EfficientNetB3"), (tmp_path / "none.h5", "no such file")):
        with pytest.raises(UserError, match=words) as error:
            load_backbone(network, wrong)
        assert "\n" not in str(error.value) and str(wrong) in str(error.value)
    assert all((old == new).all() for old, new in zip(before, network.get_weights(), strict=True))
    with pytest.raises(UserError, match="ImageNet"):
        load_backbone(build(narrow("heatmap")), path)


def test_jax_gives_the_same_outputs_and_losses(tmp_path):
    pytest.importorskip("jax")
    random = np.random.default_rng(0)
    points = random.uniform(5, 60, (2, 4, 2)).astype("float32")
    points[1, 0] = np.nan
    case = {"image": random.normal(size=(2, 64, 96, 1)).astype("float32"), "points": points,
            "mask": (random.random((2, 64, 96, 1)) < 0.3).astype("float32")}
    np.savez(tmp_path / "case.npz", **case)
    for variant in WITH_ALL_LAYERS:
        build(narrow(variant)).save_weights(tmp_path / f"{variant}.weights.h5")
    code = ("import sys, numpy as np; sys.path[:0] = [sys.argv[2], sys.argv[3]]\n"
            "from test_models_head import predictions; import keras\n"
            "assert keras.backend.backend() == 'jax'\n"
            "np.savez(sys.argv[1] + '/output.npz', **predictions(sys.argv[1]))\n"
            "assert 'tensorflow' not in sys.modules")
    subprocess.run([sys.executable, "-c", code, tmp_path, ROOT, ROOT / "tests"], check=True,
                   env={**os.environ, "KERAS_BACKEND": "jax"})
    with np.load(tmp_path / "output.npz") as found:
        for name, value in predictions(tmp_path).items():
            np.testing.assert_allclose(found[name], value, atol=2e-4, rtol=1e-3, err_msg=name)


def predictions(folder):
    """Output and loss of the networks on the case in a folder; also called on the other backend."""
    held = {}
    with np.load(Path(folder) / "case.npz") as case:
        for variant in WITH_ALL_LAYERS:
            found = narrow(variant)
            network = build(found)
            network.load_weights(Path(folder) / f"{variant}.weights.h5")
            output = network(case["image"])[found.output]
            reference = case["mask" if found.output == "mask" else "points"]
            held[variant] = array(output)
            held[f"{variant} loss"] = array(losses(found)[found.output](reference, output))
    return held
