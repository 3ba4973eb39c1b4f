"""`pose` end to end through the commands and scripts, on tiny volumes: what a user types, and what it leaves."""

import csv
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from small_pose import SIZES, SPACING, TINY_POSE, body, write_small_pose_dataset
from test_training import arrays
from tfsono.__main__ import run as tfsono
from tfsono.bare_networks import EXTRA
from tfsono.configs.pose import LANDMARKS, POSE, SEGMENTS
from tfsono.errors import UserError
from tfsono.export import load_exported
from tfsono.inference.atlases import ATLASES, read_atlases
from tfsono.models.pose import build
from tfsono.predict.sources import Options
from tfsono.report.pose_tables import refinement_title
from tfsono.systems.commands import export_run
from tfsono.systems.pose import load_refiner, load_runs, module_to_refine
from tfsono.training.run import read_history, read_run
from tfsono.volumes.landmarks import read_landmarks
from wiring import eagerly, script

pytestmark = pytest.mark.usefixtures("blank_figures")


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def train(place, name, *more):
    """Eagerly; test_surroundings.py trains and refines as users do."""
    script("train", "pose").main(["--data", str(place / "small.h5"), "--run_dir", str(place / "runs" / name),
                                  *TINY_POSE, *map(str, more)])


def evaluate(place, names, out, *more):
    script("evaluate", "pose").main(["--data", str(place / "small.h5"), "--runs", *(
        str(place / "runs" / name) for name in names), "--out", str(place / out), *more])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A dataset of which one case lacks a wrist, its cache, and runs: both ratios, recurrence, discriminator."""
    place = tmp_path_factory.mktemp("pose")
    write_small_pose_dataset(place / "dataset", missing=((0, "wrist_a"),))
    assert tfsono(["audit", str(place / "dataset")]) == 0
    tfsono(["cache", "pose", str(place / "dataset"), str(place / "small.h5"), "--preset", "quick", "--verify"])
    train(place, "land")
    split = ["--split", place / "runs" / "land" / "split.json"]
    train(place, "land_r4", *split, "--variant", "land_r4")
    started = "--start_from", place / "runs" / "land"
    train(place, "gan", *split, "--variant", "gan_gcp", *started)
    train(place, "rnn_land", *split, "--variant", "rnn_gcp", *started, "--learning_rate", "1e-9")
    train(place, "canonical", *split, "--variant", "land_canonical", "--finder_run", place / "runs" / "land")
    return place


@pytest.fixture(scope="module")
def results(place):
    evaluate(place, ("land_r4", "land", "rnn_land", "gan", "canonical"), "results", "--refine")
    return place / "results"


def test_a_run_keeps_the_poses_that_it_was_trained_on(place):
    run = read_run(place / "runs" / "land", POSE)
    atlases = read_atlases(run.folder / ATLASES, LANDMARKS)
    assert atlases.cases == tuple(run.split["train"]) and len(atlases) == 4
    reference = read_landmarks(place / "dataset" / "landmarks" / f"{atlases.cases[1]}.mrk.json")
    own = atlases.poses_mm[1]
    between = np.linalg.norm(own[0] - own[7])
    assert between == pytest.approx(np.linalg.norm(reference["head"] - reference["sacrum"]), abs=1e-3)
    assert "fewer" not in (run.folder / "initialisation.txt").read_text(encoding="utf-8")
    losses = [row["loss"] for row in read_history(run.folder / "history.csv")]
    assert len(losses) == 2 and np.isfinite(losses).all()


def test_the_adversarial_run_started_from_the_detector(place):
    run = place / "runs" / "gan"
    assert "after 2 steps" in (run / "initialisation.txt").read_text(encoding="utf-8")
    history = read_history(run / "history.csv")
    assert [row["step"] for row in history] == [1] and history[0]["discriminator_loss"] > 0


def test_the_recurrence_starts_from_the_detectors_weights(place):
    run = read_run(place / "runs" / "rnn_land", POSE)
    assert "; initialised at random: heatmaps" in (run.folder / "initialisation.txt").read_text(encoding="utf-8")
    assert [row["step"] for row in read_history(run.folder / "history.csv")] == [1]
    network, detector = build(run.config), build(read_run(place / "runs" / "land", POSE).config)
    network.load_weights(run.weights("last"))
    detector.load_weights(place / "runs" / "land" / "last.weights.h5")
    before = {weight.path: weight.numpy() for weight in detector.trainable_weights}
    same = [np.allclose(weight.numpy(), before[weight.path], atol=1e-6) for weight in network.trainable_weights
            if weight.path in before]
    assert len(same) == len(before) - 2 and all(same)


def test_the_same_command_ends_with_the_same_weights(place):
    train(place, "again", "--split", place / "runs" / "land" / "split.json")
    one, other = (arrays(place / "runs" / run / "last.weights.h5") for run in ("land", "again"))
    assert one.keys() == other.keys() and len(one) > 20
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_tables_have_the_papers_rows_beside_ours(results):
    for number, value in ((1, 6.59), (2, 53.8)):
        table = rows_of(results / f"table{number}.csv")
        ours = [list(row.values())[0] for row in table if "ours" in row.values()]
        assert set(ours) == {"Land-R4", "LandGCP", "RNNGCP, learning_rate 1e-09", "GANGCP", "SSL-R4", "SSLGCP",
                             "Land, canonical", "SSL, canonical"}
        paper = [row for row in table if "paper" in row.values() and "Land-R4" in row.values()]
        assert len(paper) == 1 and str(value) in paper[0].values()


def test_the_refinements_title_names_each_method():
    rows = {"SSL-R4": [{"refined": 1.0, "seconds": 1.26}, {"refined": 0.0, "seconds": 1.26}],
            "SSLGCP": [{"refined": 1.0, "seconds": 3.0}]}
    title = refinement_title(rows)
    assert "1 of 3" in title and title.endswith("SSL-R4 1.3 s, SSLGCP 3.0 s")


def test_the_page_and_its_figures(results):
    assert (results / "report.html").is_file() and len(list((results / "figures").glob("*.png"))) >= 5
    rows = rows_of(results / "cases.csv")
    assert {row["run"] for row in rows} >= {"land", "land_r4", "rnn_land", "gan"}


@pytest.mark.slow
def test_runs_are_measured_together(place):
    script("evaluate", "pose").main(["--data", str(place / "small.h5"), "--runs", *(
        str(place / "runs" / name) for name in ("land", "gan", "land_r4")), "--out", str(place / "together"),
        "--ensemble", "--set", "norm_at_test=tile", "heatmap_decode=wide_centroid"])
    rows, words = rows_of(place / "together" / "cases.csv"), "norm_at_test tile, heatmap_decode wide_centroid"
    both = words.replace(",", " and")
    assert {(row["method"], row["members"]) for row in rows} == {
        (f"LandGCP, {words}", "1"), (f"GANGCP, {words}", "1"), (f"Land-R4, {words}", "1"),
        (f"all 2 of ratio 0.5 with {both} together", "2")}
    one, mean = (next(row for row in rows if row["members"] == count) for count in "12")
    assert one["case"] == mean["case"] and one["mre_mm"] != mean["mre_mm"]
    assert one["spread_neck_mm"] == "" and float(mean["spread_neck_mm"]) > 0
    assert float(mean["length_spread_head_neck_mm"]) > 0 and "probability_neck" not in mean  # values are set
    spread = rows_of(place / "together" / "spread.csv")
    assert [row["Of"] for row in spread] == [name.replace("_", " ") for name in LANDMARKS] + [
        f"length {first} {last}".replace("_", " ") for first, last in SEGMENTS]
    assert {(row["Members"], row["Cases"]) for row in spread} == {("2", "2")}


@eagerly()
def test_a_refinement_changes_the_prediction_and_not_the_network(place):
    (run,), _ = load_runs([place / "runs" / "land"])
    module = module_to_refine([run])
    before = [value.copy() for value in module.network.get_weights()]
    refiner = load_refiner(run, module)
    volume = np.random.default_rng(0).normal(60, 20, (25, 23, 27)).astype(np.float32)
    spacing = np.float32([1, 1.1, 0.9])
    found = refiner(volume, spacing)
    assert found.path_vox.shape == (3, 16, 3) and np.isfinite(found.losses).all() and found.refined
    np.testing.assert_allclose(found.path_vox[0], module(volume, spacing)["points_vox"].numpy(), rtol=1e-6)
    for one, other in zip(before, module.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def exported(place):
    tfsono(["export", str(place / "runs" / "canonical"), str(place / "saved_model")])
    return place / "saved_model"


def test_a_saved_model_and_its_run_predict_alike(place, exported):
    volume = str(place / "dataset" / "images" / "body_1.nii.gz")
    assert tfsono(["predict", str(exported), volume, "--out", str(place / "from_export")]) == 0
    run = place / "moved"  # alone, without its finder's run
    shutil.copytree(place / "runs" / "canonical", run)
    assert tfsono(["predict", str(run), volume, "--out", str(place / "from_run")]) == 0
    for name in ("landmarks.csv", "segments.csv", "measurements.csv", "body_1.mrk.json"):
        assert (place / "from_export" / name).read_text() == (place / "from_run" / name).read_text()
    with eagerly():
        assert tfsono(["predict", str(run), volume, "--refine", "--out", str(place / "refined")]) == 0
    assert rows_of(place / "refined" / "measurements.csv")[0]["refined"] == "yes"
    markups = json.loads((place / "from_run" / "body_1.mrk.json").read_text())
    assert [markup["type"] for markup in markups["markups"]].count("Line") == 15


def test_onnx_of_the_finder_and_of_the_network_give_what_the_saved_model_gives(place):
    for name in EXTRA:
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'tfsono[onnx]'")
    from onnxruntime import InferenceSession

    options, run = Options(precision="float32"), place / "runs" / "canonical"
    module, manifest = load_exported(export_run(run, place / "in_onnx", options, onnx=True))
    assert set(manifest["onnx"]["networks"]) == {"finder.onnx", "network.onnx"}
    finder, network = (InferenceSession(str(place / "in_onnx" / name)) for name in ("finder.onnx", "network.onnx"))
    reader = load_runs([run], options=options)[1].reader
    volume, spacing = body(1, SIZES[1])[0].astype(np.float32), np.float32(SPACING)
    grid = reader.finder.read(volume, spacing)
    np.testing.assert_allclose(finder.run(["heatmaps"], {"image": grid.image.numpy()})[0],
                               reader.finder.network(grid.image)["heatmaps"], atol=1e-5)
    grid = reader.read(volume, spacing)
    maps = grid.inside(network.run(["heatmaps"], {"image": grid.image.numpy()})[0])
    np.testing.assert_allclose(tf.reduce_max(maps, (0, 1, 2, 3)), module(volume, spacing)["peaks"], atol=1e-5)


def test_the_saved_model_needs_neither_keras_nor_the_package(exported):
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["landmarks"] == list(LANDMARKS) and manifest["network"]["finder"]["ratio"] == 0.5
    assert len(manifest["poses"]["lengths"]) == 15 and len(manifest["poses"]["midline_mm"]) == 4
    prediction = tf.saved_model.load(str(exported))(np.zeros((9, 23, 21), np.float32), np.float32([0.5, 0.6, 0.7]))
    assert set(prediction) == set(manifest["output"]) and prediction["points_vox"].shape == (16, 3)


@pytest.mark.parametrize("more, words", [
    (["--variant", "gan_gcp", "--start_from", "runs/land_r4"], "of another network"),
    (["--landmark_names", "head,neck"], "leave the option out"), (["--spacing_mm", "1,1,1"], "tfsono cache pose"),
    (["--precision", "mixed_float16"], "needs a GPU"), (["--test_cases", "9"], "test_cases"),
    (["--start_from", "runs/land"], "rnn and gan start from"),
    (["--variant", "land_canonical"], "give the run folder of --variant finder as --finder_run"),
    (["--variant", "land_canonical", "--finder_run", "runs/canonical"], "expected a run of --frame volume"),
    (["--variant", "land_canonical", "--finder_run", "runs/land", "--test_cases", "4", "--seed", "5"],
     "a test case here"),
])
def test_bad_input_is_one_line_and_leaves_no_folder(place, more, words):
    more = [str(place / word) if word.startswith("runs/") else word for word in more]
    with pytest.raises(UserError, match=words) as error:
        train(place, "bad", *more)
    assert "\n" not in str(error.value) and not (place / "runs" / "bad").exists()


def test_an_exported_model_does_not_refine(place, exported):
    volume = str(place / "dataset" / "images" / "body_1.nii.gz")
    with pytest.raises(UserError, match="give the run folder"):
        tfsono(["predict", str(exported), volume, "--refine", "--out", str(place / "no")])
