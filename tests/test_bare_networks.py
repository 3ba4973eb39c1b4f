"""ONNX of the bare networks, and another precision, at export; the stored runs of all five systems."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tarfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from scipy.special import softmax

from tfsono import bare_networks
from tfsono.bare_networks import LARGEST_DIFFERENCE, largest_difference
from tfsono.config import choose
from tfsono.configs.femur import FEMUR
from tfsono.configs.head import HEAD, NETWORKS
from tfsono.errors import UserError
from tfsono.export import load_exported, read_manifest
from tfsono.layers.proposals import RegionFeatures
from tfsono.models import femur, head
from tfsono.predict.sources import Options
from tfsono.systems import NAMES, system
from tfsono.systems.commands import _trained_in, export_run

STORED = Path(__file__).resolve().parent / "stored"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    for name in NAMES:
        with tarfile.open(STORED / f"{name}.tar.xz") as archive:
            archive.extractall(place / name, filter="data")
    return {name: place / name / "run" for name in NAMES}


def need_extra():
    for name in bare_networks.EXTRA:
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'tfsono[onnx]'")


@pytest.mark.parametrize("name", NAMES)
def test_onnx_is_float32_with_dynamic_sides_and_predicts_what_tensorflow_does(name, runs, tmp_path):
    need_extra()
    import onnx
    import onnxruntime

    folder = export_run(runs[name], tmp_path / "model", onnx=True)
    entry = read_manifest(folder)["onnx"]
    _, module = system(name).load_runs([runs[name]], options=Options(precision="float32"))
    networks = system(name).bare_networks(module)
    assert entry["around"] == system(name).AROUND
    assert set(entry["networks"]) == {f"{stem}.onnx" for stem in networks}
    for stem, network in networks.items():
        path, held = folder / f"{stem}.onnx", entry["networks"][f"{stem}.onnx"]
        model = onnx.load(path)
        assert [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")] == [17]
        (image,) = model.graph.input
        assert image.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        sides = [side.dim_value or None for side in image.type.tensor_type.shape.dim]
        assert sides == list(network.input.shape) == held["input"]["image"]
        assert sides[0] is None and (name == "head" or not any(sides[:-1]))
        given = np.random.default_rng(3).normal(size=[side or 16 for side in sides]).astype(np.float32)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = dict(zip(held["output"], session.run(held["output"], {"image": given}), strict=True))
        worst = largest_difference(found, bare_networks.outputs_of(network, given), path)
        assert worst <= LARGEST_DIFFERENCE and held["largest_difference"] <= LARGEST_DIFFERENCE


@pytest.mark.parametrize("name", ["hip", "femur", "pose"])
def test_an_ensemble_in_onnx_is_the_mean_of_its_members_alone(name, runs, tmp_path):
    need_extra()
    other = tmp_path / "other"
    shutil.copytree(runs[name], other)
    with_other_weights(other)
    folders = [export_run(runs[name], tmp_path / "both", Options(ensemble_with=(other,)), onnx=True),
               *(export_run(run, tmp_path / f"alone_{number}", onnx=True)
                 for number, run in enumerate((runs[name], other)))]
    image = np.random.default_rng(3).normal(size=(1, 32, 16, 32, 1)).astype(np.float32)
    both, *alone = (outputs_in_onnx(folder / "network.onnx", image) for folder in folders)
    for output in set(both) & {"output", "heatmaps"}:
        one, two = (found[output] for found in alone)
        assert np.abs(one - two).max() > 1e-3
        np.testing.assert_allclose(both[output], (one + two) / 2, atol=1e-5)
    if "mask" in both:  # logits of the mean probabilities
        one, two = (softmax(found["mask"], axis=-1) for found in alone)
        np.testing.assert_allclose(softmax(both["mask"], axis=-1), (one + two) / 2, atol=1e-5)
    if "member_heatmaps" in both:
        np.testing.assert_allclose(both["member_heatmaps"][0], [found["heatmaps"][0] for found in alone], atol=1e-5)


def test_onnx_of_a_tile_is_what_the_saved_model_gives(runs, tmp_path):
    need_extra()
    folder = export_run(runs["hip"], tmp_path / "model", onnx=True)
    module, manifest = load_exported(folder)
    tile = np.random.default_rng(3).normal(100, 30, manifest["network"]["patch"]).astype(np.float32)
    found = outputs_in_onnx(folder / "network.onnx", ((tile - tile.mean()) / tile.std())[None, ..., None])
    np.testing.assert_allclose(found["output"][0], module.probabilities(tile).numpy(), atol=1e-4)


@pytest.mark.parametrize("variant, values", [
    *((network, {}) for network in NETWORKS), ("coordinate_maps", {}), ("attention_pyramid_maps", {}),
    ("transformer", {"transformer_stem": "convolutions"})])
def test_every_network_of_head_has_an_onnx(variant, values, tmp_path):
    need_extra()
    config = dataclasses.replace(
        choose(HEAD, "quick", variant).config, unet_widths=(4, 6, 8, 10), aspp_channels=8, aspp_rates=(1, 2),
        transformer_width=16, transformer_depth=1, transformer_heads=2, **values)
    bare_networks.write_onnx({"network": head.build(config)}, tmp_path)  # it compares them


def test_a_missing_proposal_has_no_features_in_onnx_either(tmp_path):
    need_extra()
    boxes = np.float32([[[1, 2, 3, 9, 12, 11], [np.nan] * 6, [4, 0, 2, 15, 9, 7]]])
    image = keras.Input(name="image", batch_shape=(1, None, None, None, 2))
    found_boxes = keras.layers.Lambda(lambda x: boxes + 0 * keras.ops.mean(x), output_shape=lambda shape: boxes.shape)
    network = keras.Model(image, {"features": RegionFeatures(2, 3, "features")([image, found_boxes(image)])})
    bare_networks.convert(network, tmp_path / "network.onnx")
    given = np.random.default_rng(0).normal(size=(1, 9, 7, 6, 2)).astype(np.float32)
    found = outputs_in_onnx(tmp_path / "network.onnx", given)["features"]
    np.testing.assert_allclose(found, bare_networks.outputs_of(network, given)["features"], atol=1e-5)
    assert (found[0, 1] == 0).all() and found[0, 0].any() and found[0, 2].any()


def with_other_weights(run: Path) -> None:
    """Changes the weights of a run's network in all of its files."""
    for path in run.glob("*.weights.h5"):
        with h5py.File(path, "r+") as file:
            file.visititems(lambda name, held: held.write_direct(1.1 * held[...]) if isinstance(held, h5py.Dataset)
                            and held.dtype.kind == "f" else None)


def outputs_in_onnx(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    return bare_networks._run(bare_networks._session(path), image)


def test_a_network_that_differs_is_refused_and_nothing_is_left_under_the_name(runs, tmp_path, monkeypatch):
    need_extra()
    monkeypatch.setattr(bare_networks, "LARGEST_DIFFERENCE", 0.0)
    with pytest.raises(UserError, match="network.onnx differs from TensorFlow by .* export without --onnx"):
        export_run(runs["hip"], tmp_path / "model", onnx=True)
    assert not (tmp_path / "model").exists()
    monkeypatch.undo()
    export_run(runs["hip"], tmp_path / "model")  # what was left is removed
    assert not list(tmp_path.glob("*.partial"))


def test_without_the_extra_it_is_refused_before_the_run_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(bare_networks, "EXTRA", ("tf2onnx_that_is_not_installed",))
    with pytest.raises(UserError, match=r"--onnx: needs tf2onnx_.*pip install 'tfsono\[onnx\]'"):
        export_run(tmp_path / "no_run", tmp_path / "model", onnx=True)


def test_differences_are_seen():
    one = {"mask": np.zeros((2, 3), np.float32)}
    assert largest_difference(one, one, Path("network.onnx")) == 0
    assert largest_difference({"mask": one["mask"] + 2}, one, Path("network.onnx")) == 2
    points = {"points": np.float32([-200, 100, np.nan])}
    assert largest_difference({"points": points["points"] + 1}, points, Path("network.onnx")) == pytest.approx(1 / 200)
    assert largest_difference({"mask": one["mask"] * np.nan}, one, Path("network.onnx")) == float("inf")
    for other in ({"heatmaps": one["mask"]}, {"mask": np.zeros((3, 2), np.float32)}):
        with pytest.raises(UserError, match="output mask is"):
            largest_difference(other, one, Path("network.onnx"))


ANOTHER = [("hip", "mixed_bfloat16"), ("femur", "mixed_bfloat16"), ("pose", "float32")]


@pytest.mark.parametrize("name, precision", [
    ANOTHER[0], *(pytest.param(*words, marks=pytest.mark.slow) for words in ANOTHER[1:])])
def test_another_precision_is_exported_and_its_difference_written(name, precision, runs, tmp_path):
    folder = export_run(runs[name], tmp_path / "model", Options(precision=precision))
    module, manifest = load_exported(folder)
    assert manifest["network"]["precision"] == precision
    trained = manifest["network"]["trained_in"]
    assert_small_differences(trained, name, runs, precision)
    assert json.loads((runs[name] / "config.json").read_text())["values"]["precision"] == trained["precision"]
    volume = np.random.default_rng(7).normal(100, 30, (27, 23, 25)).astype(np.float32)
    changed = module(volume, np.float32([0.8, 1.0, 1.1]))
    assert changed and all(np.isfinite(value.numpy()).all() for value in changed.values())


def assert_small_differences(trained, name, runs, precision):
    assert trained["precision"] == system(name).load_runs([runs[name]])[0][0].config.precision != precision
    assert trained["differences_on_noise"]
    for held in trained["differences_on_noise"].values():
        assert 0 < held["mean"] < held["largest"] < 0.5


@pytest.mark.parametrize("name, precision", ANOTHER[1:])
def test_the_differences_of_another_precision_are_small(name, precision, runs):
    """Of each network as an export writes them."""
    one, options = system(name), Options(precision=precision)
    loaded, module = one.load_runs([runs[name]], options=options)
    assert loaded[0].config.precision == precision
    assert_small_differences(_trained_in(one, [runs[name]], module), name, runs, precision)


def test_networks_are_compared_on_images_with_their_channels():
    """`unet_roi` takes a slice and its neighbours."""
    quick = choose(FEMUR, "quick", "unet_roi").config
    config = dataclasses.replace(quick, label_names=("femur",), roi_widths=(3, 4, 5))
    assert config.roi_slices == 3
    network, other = (femur.build(dataclasses.replace(config, precision=precision))
                      for precision in ("float32", "mixed_bfloat16"))
    held = bare_networks.differences({"first_stage": network}, {"first_stage": other})
    assert held["first_stage: mask"]["largest"] > 0
    shapes = [image.shape for image in bare_networks.samples(network)]
    assert shapes == [(1, 32, 64, 3), (2, 64, 32, 3)]


def test_the_precision_of_the_training_has_no_difference(runs):
    one, folders = system("hip"), [runs["hip"]]
    held = _trained_in(one, folders, one.load_runs(folders, options=Options(precision="float32"))[1])
    assert held["precision"] == "float32"
    assert set(held["differences_on_noise"]) == {"network: output"}
    assert held["differences_on_noise"]["network: output"] == {"largest": 0, "mean": 0}
