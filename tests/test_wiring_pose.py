"""The wiring of `train/pose.py` and `evaluate/pose.py`: whose arm is whose in a mirror image, and millimetres.

Every landmark is a block of its own brightness, so the image shows which landmark a point is.
"""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from tfsono.__main__ import run as tfsono
from tfsono.config import choose, evaluation_parser
from tfsono.configs.pose import POSE
from tfsono.evaluation.evaluation import Evaluation, with_values_set
from tfsono.training.run import Run
from wiring import (batches_of, blocks, cached, evaluate, modules_once, peaks, ranks, read_points, script, similarity,
                    train, write_points, write_split, write_volume)

NAMES = ("head", "shoulder_b", "neck", "shoulder_a", "elbow_a", "wrist_a", "spine", "sacrum", "elbow_b", "wrist_b",
         "hip_a", "knee_a", "ankle_a", "hip_b", "knee_b", "ankle_b")
IN_A_MIRROR = [NAMES.index(name[:-1] + {"a": "b", "b": "a"}[name[-1]] if name[-2:] in ("_a", "_b") else name)
               for name in NAMES]
ERROR, MEAN_ERROR, LENGTH, REFERENCE_LENGTH = "error_{}_mm", "mre_mm", "length_{}_{}_mm", "length_reference_{}_{}_mm"
SIZE, NATIVE_MM, ASKED = (37, 33, 29), (0.9, 1.0, 1.2), "1.1,1.2,0.9"
CENTRES = np.array([15, 13, 10]) + 7 * np.array([*itertools.product((0, 1), (0, 1), (0, 1)),
                                                 *itertools.product((-1, 2), (0, 1), (0, 1)),
                                                 *itertools.product((0, 1), (-1, 2), (0, 1))])[:16]
SMALL = ["--widths", "3,4,4", "--spacing_mm", ASKED]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three cases, their cache at another spacing than the files', and splits, one with a validation case."""
    place = tmp_path_factory.mktemp("wiring")
    for number in range(3):
        centres = CENTRES + [number, 0, 0]
        write_volume(place / "dataset" / "images" / f"case_{number}.nii.gz",
                     blocks(SIZE, centres, 60 + 20 * np.arange(16), 3), NATIVE_MM)
        write_points(place / "dataset" / "landmarks" / f"case_{number}.mrk.json", centres, NATIVE_MM, NAMES)
    (place / "dataset" / "dataset.json").write_text(json.dumps({"name": "blocks", "modality": "US", "labels": {},
                                                                "landmarks": NAMES}))
    tfsono(["cache", "pose", str(place / "dataset"), str(place / "small.h5"), "--spacing_mm", ASKED])
    write_split(place / "split.json", ["case_0"], ["case_1"])
    write_split(place / "validated.json", ["case_0"], ["case_1"], ["case_2"])
    return place


@pytest.mark.parametrize("ratio", [1.0, 0.8])
def test_a_mirror_image_exchanges_the_sides_and_a_rotation_does_not(place, ratio):
    """Preset paper's 8 versions; which landmark lies where is read from the image's brightness."""
    spacing = np.array(SIZE) * NATIVE_MM / cached(place / "small.h5", "case_0", "image").shape
    seen = []
    for image, targets in batches_of(
            "pose", 8, "--data", place / "small.h5", "--split", place / "split.json", "--run_dir",
            place / f"ratio_{ratio}", "--preset", "paper", *SMALL, "--ratio", ratio, "--heatmap_sigma_mm", "1.5"):
        points = peaks(targets["heatmaps"][0])
        values = [image[0, ..., 0][tuple(np.rint(point).astype(int))] for point in points]
        names = ranks(values)
        scale, angle, mirrored, residual = similarity((CENTRES * NATIVE_MM)[names], points * spacing)
        assert names == (IN_A_MIRROR if mirrored else list(range(16)))
        assert np.corrcoef(values, names)[0, 1] > 0.9999  # whole blocks, not their edges
        assert abs(scale - ratio) < 0.03 and residual < 0.5 and angle < 30.5
        seen.append((mirrored, angle))
    assert sum(mirrored for mirrored, _ in seen) == 6  # along each axis, plain and in a rotation
    assert sum(angle < 1.5 for _, angle in seen) == 4 and max(angle for _, angle in seen) > 8


@pytest.fixture(scope="module")
def run(place):
    """A run of one step, with a confidence."""
    run = place / "runs" / "short"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfsono.training.confidence.LEAST_CASES", 1)
        patch.setattr("tfsono.training.confidence.LEAST_LANDMARKS", 16)
        train("pose", "--data", place / "small.h5", "--split", place / "validated.json", "--run_dir", run, "--preset",
              "quick", *SMALL, "--precision", "float32", "--iterations", "1", "--record_every", "1",
              "--refine_atlases", "1")
    return run


@modules_once()
def test_landmarks_are_measured_in_the_files_own_millimetres(place, run):
    """Distances and lengths of cases.csv from the written markups and the files on disk, in the patient's space.

    And what the run says of their confidence, in the evaluation and the prediction.
    """
    out = place / "results"
    row, = evaluate("pose", "--data", place / "small.h5", "--runs", run, "--out", out)
    reference = read_points(place / "dataset" / "landmarks" / "case_1.mrk.json")
    found = read_points(out / "runs" / row["file"])
    errors = {name: np.linalg.norm(found[name] - reference[name]) for name in NAMES}
    for name in NAMES:
        assert float(row[ERROR.format(name)]) == pytest.approx(errors[name], rel=1e-4)
    assert float(row[MEAN_ERROR]) == pytest.approx(np.mean(list(errors.values())), rel=1e-4)
    for ends in (("head", "neck"), ("elbow_a", "wrist_a"), ("knee_b", "ankle_b")):
        for column, points in ((LENGTH, found), (REFERENCE_LENGTH, reference)):
            length = np.linalg.norm(points[ends[0]] - points[ends[1]])
            assert float(row[column.format(*ends)]) == pytest.approx(length, rel=1e-4)
    assert min(errors.values()) > 0.5
    image = place / "dataset" / "images" / "case_1.nii.gz"
    tfsono(["predict", str(run), str(image), "--out", str(place / "predicted")])
    for name, point in read_points(place / "predicted" / "case_1.mrk.json").items():
        np.testing.assert_allclose(point, found[name], atol=1e-3)
    assert json.loads((run / "confidence.json").read_text())["landmarks"] == 16
    with open(place / "predicted" / "landmarks.csv", newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            assert float(line["probability"]) == pytest.approx(float(row[f"probability_{line['landmark']}"]), abs=1e-3)
    assert (out / "figures" / "calibration.png").is_file() and (out / "calibration.csv").is_file()


def test_values_that_an_evaluation_sets_change_its_prediction(place, run, monkeypatch):
    """Two rows, one as trained; without a probability where the values are others than its fit's."""
    evaluation = script("evaluate", "pose")
    monkeypatch.setattr(evaluation, "figures", lambda evaluation, rows: [])
    evaluation.main(["--data", str(place / "small.h5"), "--runs", str(run), "--out", str(place / "set"), "--set",
                     "norm_at_test=moving", "--as_trained"])
    with open(place / "set" / "cases.csv", newline="", encoding="utf-8") as file:
        trained, changed = csv.DictReader(file)
    assert (trained["method"], changed["method"]) == ("LandGCP", "LandGCP, norm_at_test moving")
    assert trained["probability_neck"] and not changed["probability_neck"]
    found = [read_points(place / "set" / "runs" / row["file"]) for row in (trained, changed)]
    assert max(np.linalg.norm(found[0][name] - found[1][name]) for name in NAMES) > 0.1
    assert trained["mre_mm"] != changed["mre_mm"]


def run_of(name: str, variant: str, **values) -> Run:
    return Run(Path("runs") / name, choose(POSE, "quick", variant, values), {"train": ["a"]}, {})


def groups(runs: list[Run], *options: str, refine: bool = False) -> list[tuple[str, int]]:
    """The rows of an evaluation, and how many runs are in each; nothing is measured."""
    arguments = evaluation_parser(POSE, "", "").parse_args(
        ["--data", ".", "--runs", ".", "--out", "a", *options])
    evaluation = Evaluation(with_values_set(runs, arguments), None, Path("out"), "auto", arguments.ensemble)
    return [(group.method, len(group.runs)) for group in script("evaluate", "pose").groups_of(evaluation, refine)]


def test_the_rows_of_an_evaluation_have_the_papers_names():
    runs = [run_of("land", "land_gcp"), run_of("again", "land_gcp", seed="2"), run_of("r4", "land_r4"),
            run_of("rnn", "rnn_gcp"), run_of("from", "rnn_gcp", start_from="runs/land"), run_of("gan", "gan_gcp")]
    names = [("LandGCP", 1), ("LandGCP", 1), ("Land-R4", 1), ("RNNGCP, in one stage", 1), ("RNNGCP", 1), ("GANGCP", 1)]
    assert groups(runs) == names
    assert groups(runs, refine=True) == [*names, ("SSLGCP", 1), ("SSLGCP", 1), ("SSL-R4", 1)]
    other = [runs[0], run_of("slow", "land_gcp", learning_rate="1e-9")]
    assert groups(other) == [("LandGCP", 1), ("LandGCP, learning_rate 1e-09", 1)]


def test_the_rows_of_ensembles_and_of_values_set_have_their_names():
    runs = [run_of("land", "land_gcp"), run_of("gan", "gan_gcp"), run_of("r4", "land_r4")]
    given = "norm_at_test tile, heatmap_decode wide_centroid"
    assert groups(runs, "--ensemble", "--set", "norm_at_test=tile", "heatmap_decode=wide_centroid") == [
        (f"LandGCP, {given}", 1), (f"GANGCP, {given}", 1), (f"Land-R4, {given}", 1),
        (f"all 2 of ratio 0.5 with {given.replace(',', ' and')} together", 2)]
    body = [run_of(name, "land_canonical", finder_run="runs/finder", seed=name) for name in "12"]
    assert groups(body, "--ensemble")[-1][1] == 2
