"""The modules of the systems: the same names with the same signatures; ensembles of runs of every system."""

from __future__ import annotations

import csv
import functools
import inspect
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.config import Choices, choose
from tfsono.configs.face import LANDMARKS as FACE_POINTS
from tfsono.configs.pose import LANDMARKS as JOINTS
from tfsono.errors import UserError
from tfsono.export import load_exported
from tfsono.inference.atlases import AtlasSet, atlases_file, write_atlases
from tfsono.inference.head import mean_output
from tfsono.models import face, femur, head, hip, pose
from tfsono.predict.sources import Options, model_key
from tfsono.systems import NAMES, system
from tfsono.systems.commands import export_run, predict
from tfsono.reproduction.plan import Paper
from tfsono.systems.runs import networks_of, read_runs, with_values
from tfsono.training.record import record_files
from tfsono.training.run import open_run, read_run
from tfsono.volumes.image import Volume, write_volume
from wiring import eagerly, networks_once

pytestmark = pytest.mark.usefixtures("blank_figures")

ROOT = Path(__file__).resolve().parents[1]
SPACING_MM = np.float32([1, 1.1, 0.9])
FUNCTIONS = ("load_runs", "module_of", "check_together", "bare_networks", "manifest_of", "outputs", "predictor",
             "draft", "write_phantoms")
VALUES = {"CHOICES": Choices, "TAKES": str, "AROUND": str, "OPTIONS": tuple, "TOGETHER": str, "PAPER": Paper}
BONE = {"label_names": ("femur",), "landmark_names": ("proximal", "distal"), "widths": (4, 4, 6, 6),
        "roi_widths": (4, 6, 8), "roi_margin": 2, "slice_batch": 4, "roi_passes": 1,
        "tips_from_mask": False}
EYES = {"landmark_names": FACE_POINTS, "widths": (3, 4, 5), "head_width": 6, "anchor_sides": (6.0, 10.0),
        "box_sides": (6.0, 9.0, 6.0, 9.0, 9.0), "proposals": 8, "proposal_pool": 60, "roi_side": 2, "roi_width": 8,
        "top_k": 3, "use_prior": False}
SKULL = {"input_size": (64, 96), "unet_widths": (4, 6, 8), "monte_carlo_samples": 2}
KINDS = {  # system, variant, what builds its network, values of the config
    "hip": ("hip", "paper", hip.build, {"label_names": ("femur",), "patch": (16, 16, 16), "widths": (4, 4, 4, 4),
                                        "lower_widths": (4, 2), "middle_widths": (2,)}),
    "unet_roi": ("femur", "unet_roi", femur.build, BONE),
    "brndc": ("femur", "brndc", femur.build, BONE),
    "land": ("pose", "land_gcp", pose.build, {"landmark_names": JOINTS, "widths": (4, 4, 6)}),
    **{variant: ("face", variant, face.build, EYES) for variant in ("rpn", "ssd", "faster_rcnn", "heatmap")},
    "unet": ("head", "unet", head.build, SKULL)}
MEANS = [kind for kind in KINDS if kind not in ("hip", "unet", "faster_rcnn")]  # whose outputs `models.mean` averages


# --- the modules


@pytest.mark.parametrize("name", NAMES)
def test_every_system_has_the_same_names(name):
    one = system(name)
    for value, kind in VALUES.items():
        assert isinstance(getattr(one, value), kind), value
    assert one.CHOICES.system == name and one.TAKES in ("volumes", "images")
    assert one.TOGETHER in ("networks", "predictions") and set(one.OPTIONS) < set(vars(Options()))
    for function in FUNCTIONS:
        here, hips = (inspect.signature(getattr(each, function)).parameters for each in (one, system("hip")))
        assert [(each.name, each.default) for each in here.values()] == [
            (each.name, each.default) for each in hips.values()], function
    assert one.outputs().files("case") and one.outputs().tables


def test_there_is_no_other_system():
    with pytest.raises(ValueError, match="expected hip, .*found 'knee'"):
        system("knee")


def test_a_system_loads_without_tensorflow_and_keras():
    code = ("import sys; from tfsono.systems import NAMES, system\n"
            "for name in NAMES: system(name)\n"
            "import tfsono.__main__, tfsono.demo, tfsono.plan\n"
            "sys.exit(str([name for name in ('tensorflow', 'keras', 'numpy') if name in sys.modules] or 0)[:99]"
            " if any(name in sys.modules for name in ('tensorflow', 'keras', 'numpy')) else 0)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 0, done.stderr


# --- ensembles


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two runs of every kind with random weights, and a volume."""
    place = tmp_path_factory.mktemp("systems")
    for kind in KINDS:
        for seed in (0, 1):
            random_weights(make_run(place / f"{kind}_{seed}", kind), kind, seed)
    random = np.random.default_rng(5)
    array = random.normal(60, 20, (23, 19, 21)).astype(np.float32)
    array[6:16, 6:14, 5:15] += 90
    volume = Volume(array, (1.0, 1.1, 0.9), (10.0, -20.0, 5.5), (0.0, 0, -1, 1, 0, 0, 0, -1, 0))
    write_volume(place / "volume.nii.gz", array, volume)
    return place


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    with networks_once():
        yield


def make_run(folder, kind, **changes):
    name, variant, _, values = KINDS[kind]
    settings = choose(system(name).CHOICES, "quick", variant).replaced("test", **{**values, **changes})
    labels = {label: 1 for label in getattr(settings.config, "label_names", ("head",))}
    landmarks = list(getattr(settings.config, "landmark_names", ()))
    return open_run(folder, settings, {"train": ["a"], "validation": [], "test": ["b"]},
                    {"dataset": "phantom", "cases": ["a", "b"], "labels": labels, "landmarks": landmarks})


@functools.cache
def built(kind, config):
    """A network and its first weights."""
    keras.utils.set_random_seed(0)
    network = KINDS[kind][2](config)
    return network, network.get_weights()


def random_weights(run, kind, seed):
    (network, first), random = built(kind, run.config), np.random.default_rng(seed)
    network.set_weights([weight if weight.ndim < 2 else weight + random.normal(0, 0.2, weight.shape)
                         for weight in first])
    network.save_weights(run.folder / "last.weights.h5")
    if kind == "land":
        poses = np.random.default_rng(0).uniform(0, 20, (2, len(JOINTS), 3))
        write_atlases(atlases_file(run.folder), AtlasSet(JOINTS, poses, ("a", "c")))
    record_files(run.folder)


@functools.cache
def outputs_of(place, kind, *seeds) -> dict:
    """The outputs of the network of runs of these seeds for one image."""
    one = system(KINDS[kind][0])
    _, module = one.load_runs([place / f"{kind}_{seed}" for seed in seeds])
    shape = (3, 16, 16, 3) if kind == "unet_roi" else (1, 16, 24, 16, 1)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    network = module.reader.network if kind == "brndc" else module.network
    return {name: value.numpy() for name, value in network(image, training=False).items()}


def softmax(logits):
    parts = np.exp(logits - logits.max(-1, keepdims=True))
    return parts / parts.sum(-1, keepdims=True)


def test_two_equal_runs_are_the_one_run(place):
    """Of two stages, as no mean of their outputs is known; of the other networks it follows from the next test."""
    alone, twice = outputs_of(place, "faster_rcnn", 0), outputs_of(place, "faster_rcnn", 0, 0)
    assert set(twice) == {"proposals", "classes", "proposal_offsets"}
    for name, value in twice.items():
        expected = alone[name]
        if name == "classes":
            value, expected = softmax(value), softmax(expected)
        np.testing.assert_allclose(value, expected, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", MEANS)
def test_two_runs_give_the_mean_of_probabilities_heatmaps_and_offsets(place, kind):
    both = outputs_of(place, kind, 0, 1)
    single = [outputs_of(place, kind, seed) for seed in (0, 1)]
    of_members = {"member_heatmaps"} & set(both)
    assert set(both) - of_members == set(single[0]) and bool(of_members) == (kind in ("brndc", "land"))
    for name in of_members:
        np.testing.assert_allclose(both[name], np.stack([one["heatmaps"] for one in single], 1), atol=1e-5)
    for name, value in both.items():
        if name in of_members:
            continue
        members = [one[name] for one in single]
        if name in ("mask", "classes"):
            value, members = softmax(value), [softmax(member) for member in members]
        assert np.abs(members[0] - members[1]).max() > 1e-3, name
        np.testing.assert_allclose(value, np.mean(members, 0), atol=1e-5, err_msg=name)


def test_two_second_stages_share_the_proposals_of_the_mean_first_stage(place):
    from tfsono.layers.proposals import SECOND_STAGE

    runs, module = system("face").load_runs([place / f"faster_rcnn_{seed}" for seed in (0, 1)])
    image = np.random.default_rng(0).normal(size=(1, 16, 24, 16, 1)).astype(np.float32)
    both = {name: value.numpy() for name, value in module.network(image, training=False).items()}
    networks = [system("face").module_of([run]).network for run in runs]
    single = [network(image, training=False) for network in networks]
    shown = np.isfinite(both["proposals"]).all(-1)[0]
    assert shown.any() and np.abs(both["proposals"] - single[0]["proposals"].numpy())[:, shown].max() > 1e-3
    held = [network.get_layer(SECOND_STAGE)([one["features"], tf.constant(both["proposals"])], training=False)
            for network, one in zip(networks, single, strict=True)]
    expected = np.mean([softmax(one["classes"].numpy()) for one in held], 0)
    np.testing.assert_allclose(softmax(both["classes"])[:, shown], expected[:, shown], atol=1e-5)
    expected = np.mean([one["proposal_offsets"].numpy() for one in held], 0)
    np.testing.assert_allclose(both["proposal_offsets"][:, shown], expected[:, shown], atol=1e-5)


@functools.cache
def exported(place, kind) -> Path:
    """The SavedModel of two runs."""
    options = Options(ensemble_with=(str(place / f"{kind}_1"),))
    return export_run(place / f"{kind}_0", place / f"{kind}_model", options)


@pytest.mark.parametrize("kind", [
    "hip", "land", "unet", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("brndc", "rpn"))])
def test_the_export_of_two_runs_is_their_module(place, kind):
    """The module is not traced once more for this: it runs eagerly."""
    one, folders = system(KINDS[kind][0]), [place / f"{kind}_{seed}" for seed in (0, 1)]
    module, manifest = load_exported(exported(place, kind))
    assert [run["run"] for run in manifest["together_with"]] == [folders[1].name]
    random = np.random.default_rng(0)
    given = [random.uniform(0, 255, (70, 90)).astype(np.float32)]
    if kind != "unet":
        size = (17, 13, 15) if kind == "hip" else (19, 17, 18)  # two tiles
        given = [random.normal(60, 20, size).astype(np.float32), SPACING_MM]
    found = module(*given)
    with eagerly():
        both = one.load_runs(folders)[1](*map(tf.constant, given))
    assert set(found) == set(both) == set(manifest["output"])
    for name, described in manifest["output"].items():
        assert [side for side in described["shape"] if isinstance(side, int)] == [
            size for side, size in zip(described["shape"], both[name].shape, strict=True) if isinstance(side, int)]
    for name, value in both.items():
        np.testing.assert_allclose(found[name].numpy(), value.numpy(), atol=1e-4, err_msg=name)


@pytest.mark.parametrize("kind", ["brndc", "land"])
@eagerly()
def test_members_points_are_those_of_each_run_alone_and_the_spread_is_theirs(place, kind):
    """Also that the manifest describes every output: brndc is exported by the slow tests alone."""
    one, folders = system(KINDS[kind][0]), [place / f"{kind}_{seed}" for seed in (0, 1)]
    given = [tf.constant(np.random.default_rng(0).normal(60, 20, (19, 17, 18)), tf.float32), SPACING_MM]
    runs, module = one.load_runs(folders)
    both = {name: value.numpy() for name, value in module(*given).items()}
    described = one.manifest_of(runs)["output"]
    assert {name: [side for side in held["shape"] if isinstance(side, int)] for name, held in described.items()} == {
        name: [size for side, size in zip(described[name]["shape"], value.shape, strict=True) if isinstance(side, int)]
        for name, value in both.items()}
    for member, folder in zip(both["member_points_vox"], folders, strict=True):
        alone = one.load_runs([folder])[1](*given)["points_vox"].numpy()
        np.testing.assert_allclose(member, alone, atol=1e-3)
    points = both["member_points_vox"] * SPACING_MM
    apart = np.linalg.norm(points[0] - points[1], axis=-1)
    assert apart.max() > 1
    np.testing.assert_allclose(both["spread_mm"], apart / np.sqrt(2), rtol=1e-4, atol=1e-4)


def test_modules_of_images_give_the_mean_probability(place):
    one, folders = system("head"), [place / f"unet_{seed}" for seed in (0, 1)]
    image = np.random.default_rng(0).uniform(0, 255, (70, 90)).astype(np.float32)
    both, *single = (one.load_runs(group)[1](image)["probability"].numpy()
                     for group in (folders, folders[:1], folders[1:]))
    assert np.abs(single[0] - single[1]).max() > 1e-2
    np.testing.assert_allclose(both, np.mean(single, 0), atol=1e-5)  # the members of an ensemble are folded


@pytest.mark.parametrize("kind", ["land", "rpn"])
def test_moving_statistics_of_one_run_are_folded(place, kind):
    name, _, build, _ = KINDS[kind]
    (run,) = with_values(read_runs([place / f"{kind}_0"], system(name).CHOICES), {"norm_at_test": "moving"})
    network, plain = system(name).module_of([run]).network, networks_of([run], build)[0]
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)
    image = np.random.default_rng(0).normal(size=(1, 16, 16, 16, 1)).astype(np.float32)
    expected = plain(image, training=False)
    for output, value in network(image, training=False).items():
        tolerance = 0.05 * float(tf.reduce_max(tf.abs(tf.cast(expected[output], tf.float32))))  # in bfloat16
        np.testing.assert_allclose(tf.cast(value, tf.float32), tf.cast(expected[output], tf.float32), atol=tolerance)


def test_two_runs_and_their_export_predict_the_same_files(place, tmp_path):
    first, second = place / "land_0", str(place / "land_1")
    for source, others, out in ((first, (second,), "runs"), (exported(place, "land"), (), "export"),
                                (first, (), "alone")):
        assert predict(source, [place / "volume.nii.gz"], tmp_path / out, Options(ensemble_with=others)) == 0
    tables = {out: [numbers(tmp_path / out / name) for name in system("pose").outputs().tables]
              for out in ("runs", "export", "alone")}
    for runs, export in zip(tables["runs"], tables["export"], strict=True):
        np.testing.assert_allclose(export, runs, atol=2e-3)
    places = [places_of(tmp_path / out / "landmarks.csv") for out in ("runs", "alone")]
    assert np.abs(places[0] - places[1]).max() > 1
    for name in ("landmarks.csv", "segments.csv"):
        spread = {out: [row["spread_mm"] for row in rows_of(tmp_path / out / name)] for out in ("runs", "alone")}
        assert all(float(value) >= 0 for value in spread["runs"]) and set(spread["alone"]) == {""}
    with pytest.raises(UserError, match="was exported"):
        others = (str(exported(place, "land")),)
        predict(first, [place / "volume.nii.gz"], tmp_path / "mixed", Options(ensemble_with=others))


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def places_of(path):
    return np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in rows_of(path)])


def numbers(path):
    """All numbers of a table."""
    found = [value for row in rows_of(path) for value in row.values()]
    return np.array([float(value) for value in found if value.replace(".", "").replace("-", "").isdigit()])


def test_points_are_averaged_in_the_first_members_order():
    first = np.array([[10.0, 20], [90, 22], [50, 5], [52, 60]], np.float32)
    moved = first + np.float32([2, -4])
    exchanged = moved[[1, 0, 2, 3]]
    found = mean_output([{"points_px": tf.constant(each)} for each in (first, exchanged)])["points_px"].numpy()
    np.testing.assert_allclose(found, first + np.float32([1, -2]))


@pytest.mark.parametrize("kind, changes, words", [
    ("brndc", {"landmark_names": ("distal", "proximal")}, "landmark_names"),
    ("brndc", {"network": "unet_l"}, "outputs"), ("brndc", {"roi_ratio": 0.5}, "roi_ratio"),
    ("land", {"spacing_mm": (1.0, 1.0, 1.0)}, "spacing_mm"), ("land", {"ratio": 0.3}, "ratio"),
    ("land", {"widths": (4, 4, 6, 6)}, "stride"), ("rpn", {"anchor_sides": (6.0, 9.0)}, "anchor_sides"),
    ("rpn", {"method": "ssd"}, "method"), ("unet", {"network": "coordinate"}, "part")])
def test_runs_that_do_not_agree_are_refused(place, kind, changes, words, tmp_path):
    other = make_run(tmp_path / "other", kind, **changes)
    one = system(KINDS[kind][0])
    with pytest.raises(UserError, match=f"other: {words} ") as error:
        one.check_together([read_run(place / f"{kind}_0", one.CHOICES), other])
    assert "\n" not in str(error.value)


def test_a_key_changes_with_the_weights_the_runs_and_the_options(place, tmp_path):
    sources = [place / "land_0", place / "land_1"]
    keys = [model_key(sources[:1], Options()), model_key(sources[1:], Options()), model_key(sources, Options()),
            model_key(sources[:1], Options(refine=True))]
    table = tmp_path / "sizes.csv"
    for text in ("image_name,pixel_size_mm\na.png,0.1\n", "image_name,pixel_size_mm\na.png,0.2\n"):
        table.write_text(text, encoding="utf-8")
        keys.append(model_key(sources[:1], Options(pixel_size_mm=str(table))))
    assert len(set(keys)) == len(keys)
    assert model_key(sources, Options(ensemble_with=("x",))) == model_key(sources, Options())
