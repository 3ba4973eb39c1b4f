"""`face` end to end through the commands and scripts, on tiny volumes: what a user types, and what it leaves."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf

from small_face import CASES, TINY_FACE, write_small_face_dataset
from test_training import arrays
from tfsono.__main__ import run as tfsono
from tfsono.config import choose
from tfsono.configs.face import FACE, LANDMARKS
from tfsono.errors import UserError
from tfsono.inference.face_prior import PRIOR, read_prior
from tfsono.predict import sources
from tfsono.systems.commands import check_options
from tfsono.training.run import read_history, read_run
from tfsono.volumes.landmarks import read_landmarks
from wiring import eagerly, opened_once, script

pytestmark = pytest.mark.usefixtures("blank_figures")

VARIANTS = ("ig_rpn", "rpn", "ig_ssd", "ssd", "faster_rcnn", "heatmap")


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def train(place, name, *more, graphs=False):
    script("train", "face", graphs).main(["--data", str(place / "small.h5"), "--run_dir", str(place / "runs" / name),
                                          *TINY_FACE, *map(str, more)])


def evaluation():
    """The script, which takes the time of one call instead of twenty."""
    module = script("evaluate", "face")
    module.TIMED, module.WARM_UP = 1, 0
    return module


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A dataset of which one case lacks the chin, its cache, and a run of every variant."""
    place = tmp_path_factory.mktemp("face")
    write_small_face_dataset(place / "dataset", missing=((0, "chin"),))
    assert tfsono(["audit", str(place / "dataset")]) == 0
    tfsono(["cache", "face", str(place / "dataset"), str(place / "small.h5"), "--preset", "quick", "--verify"])
    train(place, "ig_rpn")
    for variant in VARIANTS[1:]:
        train(place, variant, "--variant", variant, "--split", place / "runs" / "ig_rpn" / "split.json",
              graphs=variant == "faster_rcnn")
    return place


@pytest.fixture(scope="module", autouse=True)
def opened():
    with opened_once():
        yield


@pytest.fixture(scope="module")
def results(place):
    evaluation().main(["--data", str(place / "small.h5"), "--runs", *(
        str(place / "runs" / name) for name in VARIANTS), "--out", str(place / "results")])
    return place / "results"


def test_a_run_keeps_its_prior_and_the_parts_of_its_loss(place):
    run = read_run(place / "runs" / "ig_rpn", FACE)
    prior = read_prior(run.folder / PRIOR, LANDMARKS)
    assert len(prior.graph) == 6 and max(prior.fitted.count) == CASES - 2 and sources.PRIOR == PRIOR
    history, weight = read_history(run.folder / "history.csv"), run.config.regression_weight
    assert len(history) == 2 and all(np.isfinite(value) for row in history for value in row.values())
    for row in history:
        assert row["loss"] == pytest.approx(row["classification"] + weight * row["regression"], rel=1e-3)
    two = read_history(place / "runs" / "faster_rcnn" / "history.csv")[-1]
    parts = [two[f"{stage}{part}"] * times for stage in ("", "proposal_")
             for part, times in (("classification", 1), ("regression", weight))]
    assert two["loss"] == pytest.approx(sum(parts), rel=1e-3)
    assert not (place / "runs" / "heatmap" / PRIOR).exists()


def test_a_reader_errs_by_millimetres():
    """The same in every epoch, of its own in each case; and nobody by default."""
    as_read, points = script("train", "face").as_read, np.full((400, 3), 20.0)
    exact, noisy = (choose(FACE, "quick", "rpn", changes).config for changes in ({}, {"reader_noise_mm": "2"}))
    assert as_read("a", points, (1, 2, 4), exact) is points and as_read("a", None, (1, 2, 4), noisy) is None
    found = as_read("a", points, (1, 2, 4), noisy)
    np.testing.assert_allclose((found - points).std(axis=0), [2, 1, 0.5], rtol=0.15)
    np.testing.assert_array_equal(found, as_read("a", points, (1, 2, 4), noisy))
    assert np.abs(found - as_read("b", points, (1, 2, 4), noisy)).min(axis=1).mean() > 0.1


def test_a_run_that_was_stopped_ends_with_the_same_weights(place, monkeypatch):
    from tfsono.training import fit as training

    same = ("--split", place / "runs" / "ig_rpn" / "split.json")
    save = training.save_state

    def stopped(path, network, step):
        save(path, network, step)
        raise KeyboardInterrupt  # after the first record

    monkeypatch.setattr(training, "save_state", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(place, "again", *same)
    monkeypatch.setattr(training, "save_state", save)
    train(place, "again", *same)
    assert [row["step"] for row in read_history(place / "runs" / "again" / "history.csv")] == [1, 2]
    one, other = (arrays(place / "runs" / run / "last.weights.h5") for run in ("ig_rpn", "again"))
    assert one.keys() == other.keys() and len(one) > 20
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_a_face_is_rotated_by_its_midline(place):
    """A finder, a network that sees faces in their frame, and its prediction without the finder's own folder."""
    split = ("--split", place / "runs" / "ig_rpn" / "split.json", "--iterations", "1")
    with pytest.raises(UserError, match="give the run folder of --variant finder"):
        train(place, "canonical", *split, "--variant", "ig_rpn_canonical")
    train(place, "finder", *split, "--variant", "finder", "--flips", "true")
    train(place, "canonical", *split, "--variant", "ig_rpn_canonical", "--finder_run", place / "runs" / "finder",
          "--frame_margin_mm", "6", "--flips", "true", "--score_threshold", "0")
    (place / "runs" / "finder").rename(place / "runs" / "away")
    volume, out = place / "dataset" / "images" / "face_01.nii.gz", place / "canonical_predicted"
    with eagerly():
        assert tfsono(["predict", str(place / "runs" / "canonical"), str(volume), "--out", str(out)]) == 0
    assert all(row["x_mm"] and row["side_x_mm"] for row in rows_of(out / "landmarks.csv"))


def test_tables_have_the_papers_rows_beside_ours(results):
    first, second = (rows_of(results / f"table{number}.csv") for number in (1, 2))
    ours = {row["Method"] for row in first if row["Source"] == "ours"}
    assert ours == {"Faster R-CNN", "Heatmap", "IG-SSD", "IG-RPN"}
    assert [(row["IoU-balance"], row["Prior"], row["Method"]) for row in second if row["Source"] == "ours"] == [
        (balance, prior, method) for method in ("SSD", "RPN") for prior in ("–", "yes") for balance in ("–", "yes")]
    assert [row["d-mean mm"] for row in first if (row["Method"], row["Source"]) == ("IG-RPN", "paper")] == ["4.38"]
    assert (results / "average_precision.md").is_file() and (results / "differences.csv").is_file()
    assert "IG-RPN < RPN" in (results / "orderings.csv").read_text(encoding="utf-8")


def test_rows_figures_and_landmarks(results):
    rows = rows_of(results / "cases.csv")
    assert len(rows) == 2 * 10 and {row["prior"] for row in rows} == {"0", "1"}
    assert all(float(row["time_ms"]) > 0 and row["device"] for row in rows)
    names = {path.name for path in (results / "figures").glob("*.png")}
    assert names >= {"ratios.png", "boxes_best.png", "boxes_worst.png", "methods.png", "history_ssd.png"}
    assert (results / "report.html").is_file()
    kept = results / "runs" / rows[0]["file"]
    assert set(read_landmarks(kept)) == set(LANDMARKS)


def test_a_stopped_evaluation_resumes(place, results, capsys):
    evaluation().main(["--data", str(place / "small.h5"), "--runs", *(
        str(place / "runs" / name) for name in VARIANTS), "--out", str(results)])
    assert "1/2" not in capsys.readouterr().out


@pytest.mark.slow
def test_runs_are_measured_together(place):
    evaluation().main(["--data", str(place / "small.h5"), "--runs", *(
        str(place / "runs" / name) for name in ("ig_rpn", "rpn", "heatmap")), "--out", str(place / "together"),
        "--ensemble", "--set", "prior_weight=0.3", "prior_noise_mm=2"])
    rows, words = rows_of(place / "together" / "cases.csv"), "prior_weight 0.3, prior_noise_mm 2.0"
    assert {row["method"] for row in rows if row["members"] == "2"} == {
        f"all 2 of rpn with {words} together{prior}" for prior in ("", " with the prior")}
    assert {row["method"] for row in rows if row["members"] == "1"} >= {
        f"{name}, {words}" for name in ("RPN", "I-RPN", "IG-RPN", "Heatmap")}


@pytest.fixture(scope="module")
def exported(place):
    tfsono(["export", str(place / "runs" / "ig_rpn"), str(place / "saved_model"), "--set",
            "prior_in_prediction=always"])
    return place / "saved_model"


def test_a_training_starts_from_a_run_or_an_exported_model(place, exported, monkeypatch):
    started, run = [], read_run(place / "runs" / "ig_rpn", FACE)
    monkeypatch.setattr("tfsono.training.fit.fit", lambda run, trained, *_: started.append(trained))
    split = "--split", run.folder / "split.json"
    for name, source in (("of_run", run.folder), ("of_exported", exported)):
        train(place, name, "--start_from", source, *split)
        assert (place / "runs" / name / "initialisation.txt").read_text(encoding="utf-8").startswith("from ")
    one, other = (network.get_weights() for network in started)
    assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
    with pytest.raises(UserError, match="of another network or data .method"):
        train(place, "refused", "--start_from", place / "runs" / "heatmap", *split)


def test_without_boxes_there_are_points_alone(place):
    volume, out = str(place / "dataset" / "images" / "face_01.nii.gz"), place / "of_heatmap"
    with eagerly():
        assert tfsono(["predict", str(place / "runs" / "heatmap"), volume, "--out", str(out)]) == 0
    assert all(row["x_mm"] and not row["side_x_mm"] for row in rows_of(out / "landmarks.csv"))


@pytest.mark.parametrize("name", ["faster_rcnn", *(pytest.param(name, marks=pytest.mark.slow)
                                                   for name in ("ig_ssd", "heatmap"))])
def test_every_network_exports_and_predicts(place, name):
    folder = place / f"export_{name}"
    tfsono(["export", str(place / "runs" / name), str(folder)])
    volume = str(place / "dataset" / "images" / "face_01.nii.gz")
    for source, out in ((folder, "from_export"), (place / "runs" / name, "from_run")):
        assert tfsono(["predict", str(source), volume, "--out", str(place / f"{out}_{name}"), "--candidates", "3"]) == 0
    for file in ("landmarks.csv", "candidates.csv", "measurements.csv", "face_01.mrk.json"):
        assert (place / f"from_export_{name}" / file).read_text() == (place / f"from_run_{name}" / file).read_text()
    assert (place / f"from_run_{name}" / "face_01.png").is_file()
    found = rows_of(place / f"from_run_{name}" / "landmarks.csv")
    assert [row["landmark"] for row in found] == list(LANDMARKS)


def test_the_saved_model_needs_neither_keras_nor_the_package(exported):
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["landmarks"] == list(LANDMARKS) and manifest["network"]["prior"] is True
    assert manifest["postprocessing"]["prior_because"] == "prior_in_prediction is always"
    prediction = tf.saved_model.load(str(exported))(np.zeros((9, 23, 21), np.float32), np.float32([0.5, 0.6, 0.7]))
    assert set(prediction) == set(manifest["output"])
    for name, value in prediction.items():
        assert list(value.shape) == manifest["output"][name]["shape"], name


@pytest.mark.parametrize("more, words", [
    (["--landmark_names", "left_eye,chin", "--box_sides", "6"], "leave the option out"),
    (["--spacing_mm", "1,1,1"], "tfsono cache face"),
    (["--precision", "mixed_float16"], "needs a GPU"), (["--test_cases", "99"], "test_cases"),
    (["--test_cases", "5"], "at least 10 training cases"), (["--box_sides", "6,9"], "each of the 5 landmarks"),
])
def test_bad_input_is_one_line_and_leaves_no_folder(place, more, words):
    with pytest.raises(UserError, match=words) as error:
        train(place, "bad", *more)
    assert "\n" not in str(error.value) and not (place / "runs" / "bad").exists()


def test_more_candidates_than_there_are_is_refused(place, exported):
    volume = str(place / "dataset" / "images" / "face_01.nii.gz")
    for source in (exported, place / "runs" / "ig_rpn"):
        with pytest.raises(UserError, match="expected 1 to 3"):
            tfsono(["predict", str(source), volume, "--candidates", "9", "--out", str(place / "no")])
    with pytest.raises(UserError, match="--set: is fixed at the export"):
        check_options(exported, sources.Options(set=("prior_weight=1",)))
    with pytest.raises(UserError, match="--set: expected FIELD=VALUE"):
        tfsono(["predict", str(place / "runs" / "ig_rpn"), volume, "--set", "widths=3", "--out", str(place / "no")])
    with pytest.raises(UserError, match="only for a model of hip"):
        check_options(place / "runs" / "ig_rpn", sources.Options(tiling="fast"))
