"""`predict` of `face` with a module that reads its landmarks from marked voxels: files, frames, what is missing.

The module stands in for a trained network, so that the correct prediction is known to the voxel.
"""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf

from test_predict_pose import PIR, SIZE, SPACING
from tfsono.configs.face import LANDMARKS
from tfsono.errors import UserError
from tfsono.export import export_module, load_exported
from tfsono.predict.face import OUTPUTS, FacePredictor, predictor_of
from tfsono.predict.loop import predict_all
from tfsono.predict.sources import Model, Options
from tfsono.volumes.image import Volume, write_volume
from tfsono.volumes.landmarks import points_to_mm, read_landmarks

SIDES = (4.0, 2.0, 6.0)  # of every box, voxels of the module's grid
SECOND = (3.0, 0.0, 0.0)  # from the best candidate to the second one


class Marks(tf.Module):
    """The voxel 1000 + 50 k is landmark k; one that is not in the volume is missing. The last one's score is `last`."""

    def __init__(self, last=0.9, sides=SIDES):
        super().__init__()
        self.last, self.sides = last, tf.constant(sides)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float32), tf.TensorSpec([3], tf.float32)])
    def __call__(self, volume, spacing_mm):
        away = tf.abs(tf.reshape(volume, [1, -1]) - (1000 + 50 * tf.range(5, dtype=tf.float32))[:, None])
        points = tf.cast(tf.transpose(tf.unravel_index(tf.argmin(away, 1), tf.cast(tf.shape(volume), tf.int64))),
                         tf.float32)
        there = tf.reduce_min(away, 1) < 1
        points = tf.where(there[:, None], points, float("nan"))
        scores = tf.where(there, tf.constant([0.9, 0.9, 0.9, 0.9, self.last]), 0.0)
        candidates = tf.stack([points, points + SECOND, points * float("nan")], 1)
        boxes = tf.concat([candidates - self.sides / 2, candidates + self.sides / 2], -1)
        found = tf.stack([scores, scores / 2, 0 * scores], 1)
        return {"points_vox": points, "scores": scores, "boxes_vox": boxes[:, 0], "candidate_boxes_vox": boxes,
                "candidate_scores": found, "chosen": tf.zeros(5, tf.int32)}


def marked_file(folder, marks=5):
    """A file in another orientation than the module's, and the LPS places of its marks."""
    random = np.random.default_rng(3)
    array = random.normal(100, 30, SIZE).astype(np.float32)
    points = np.stack(np.unravel_index(random.choice(array.size, 5, replace=False), SIZE), 1)[:marks]
    array[tuple(points.T)] = 1000 + 50 * np.arange(marks)
    volume = Volume(array, SPACING, (10.0, -20.0, 5.5), PIR)
    write_volume(folder / "face.nii.gz", array, volume)
    return folder / "face.nii.gz", points_to_mm(points.astype(float), volume)


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_landmarks_and_boxes_are_where_the_marks_are(tmp_path, capsys):
    path, points_mm = marked_file(tmp_path)
    predictor = FacePredictor(Marks(0.2), "key", "LPS", LANDMARKS, 2)
    assert predict_all(OUTPUTS, lambda: predictor, [path], tmp_path / "out") == 0
    assert "5 of 5 landmarks, lowest score 0.20 (low confidence: chin)" in capsys.readouterr().out
    found = read_landmarks(tmp_path / "out" / "face.mrk.json")
    np.testing.assert_allclose([found[name] for name in LANDMARKS], points_mm, atol=1e-3)
    markups = json.loads((tmp_path / "out" / "face.mrk.json").read_text(encoding="utf-8"))["markups"]
    assert [markup["type"] for markup in markups] == ["Fiducial"] + ["ROI"] * 5
    # The module's grid is the file's, reoriented to LPS: its axes are the file's third, first and second.
    rotated_mm = np.array(SPACING)[[2, 0, 1]]
    np.testing.assert_allclose(sorted(markups[1]["size"]), sorted(np.array(SIDES) * rotated_mm), atol=1e-3)
    np.testing.assert_allclose(markups[1]["center"], points_mm[0], atol=1e-3)
    written = rows_of(tmp_path / "out" / "landmarks.csv")
    np.testing.assert_allclose([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in written], points_mm, atol=1e-3)
    np.testing.assert_allclose([float(written[0][f"side_{axis}_mm"]) for axis in "xyz"], SIDES * rotated_mm, atol=1e-3)
    voxels = np.array([[float(row[f"{axis}_vox"]) for axis in "xyz"] for row in written])
    assert (voxels == voxels.round()).all() and (voxels < SIZE).all()
    row = rows_of(tmp_path / "out" / "measurements.csv")[0]
    assert (row["found"], row["missing"], row["changed_by_prior"]) == ("5", "", "0")
    assert row["flags"] == "low confidence: chin"
    assert (tmp_path / "out" / "face.png").stat().st_size > 10000


@pytest.mark.parametrize("top_k, rows", [(1, 5), (2, 10), (3, 10)])
def test_candidates_are_written_and_the_selected_one_is_marked(tmp_path, top_k, rows):
    path, points_mm = marked_file(tmp_path)
    predictor = FacePredictor(Marks(), "key", "LPS", LANDMARKS, top_k)
    assert predict_all(OUTPUTS, lambda: predictor, [path], tmp_path / "out") == 0
    found = rows_of(tmp_path / "out" / "candidates.csv")
    assert len(found) == rows  # there is no third one
    assert [(row["candidate"], row["taken"]) for row in found] == [("1", "yes"), ("2", "no")][:top_k] * 5
    if top_k > 1:
        away = np.subtract(*([float(found[place][f"{axis}_mm"]) for axis in "xyz"] for place in (1, 0)))
        np.testing.assert_allclose(away, (3 * SPACING[2], 0, 0), atol=1e-3)


def test_a_landmark_that_is_not_found_is_not_invented(tmp_path):
    path, points_mm = marked_file(tmp_path, marks=3)
    predictor = FacePredictor(Marks(), "key", "LPS", LANDMARKS, 2)
    assert predict_all(OUTPUTS, lambda: predictor, [path], tmp_path / "out") == 0
    row = rows_of(tmp_path / "out" / "measurements.csv")[0]
    assert (row["found"], row["missing"], row["flags"]) == ("3", "nose_tip; chin", "not found: nose_tip, chin")
    landmarks = rows_of(tmp_path / "out" / "landmarks.csv")
    assert [(row["x_mm"], row["x_vox"], row["score"]) for row in landmarks[3:]] == [("", "", "")] * 2
    found = read_landmarks(tmp_path / "out" / "face.mrk.json")
    assert np.isnan(found["chin"]).all() and np.isfinite(found["right_eye"]).all()
    assert len(rows_of(tmp_path / "out" / "candidates.csv")) == 6


def test_points_alone_have_no_boxes(tmp_path):
    path, points_mm = marked_file(tmp_path)
    predictor = FacePredictor(Marks(sides=(0.0, 0.0, 0.0)), "key", "LPS", LANDMARKS, 1)
    assert predict_all(OUTPUTS, lambda: predictor, [path], tmp_path / "out") == 0
    markups = json.loads((tmp_path / "out" / "face.mrk.json").read_text(encoding="utf-8"))["markups"]
    assert [markup["type"] for markup in markups] == ["Fiducial"]
    assert {row["side_x_mm"] for row in rows_of(tmp_path / "out" / "landmarks.csv")} == {""}


def test_coinciding_eyes_are_flagged():
    predictor = FacePredictor(Marks(), "key", "LPS", LANDMARKS, 1)
    array = np.full(SIZE, 100, np.float32)
    array[3, 4, 5], array[3, 4, 6] = 1000, 1100
    prediction = predictor.predict_volume(Volume(array, (0.5, 0.5, 0.5), (0.0, 0, 0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1)))
    assert "left_eye and right_eye coincide" in predictor.flags(prediction, [])


def test_a_saved_model_gives_the_same_files(tmp_path):
    path, _ = marked_file(tmp_path)
    output = {"candidate_scores": {"shape": [5, 3]}}
    folder = export_module(Marks(), tmp_path / "model", {"system": "face", "input": {"volume": {"orientation": "LPS"}},
                                                         "output": output, "landmarks": list(LANDMARKS)})
    opened = Model(folder, *load_exported(folder))
    for name, make in (("run", lambda: FacePredictor(Marks(), "k", "LPS", LANDMARKS, 3)),
                       ("export", lambda: predictor_of(opened, "k", Options(candidates=3)))):
        assert predict_all(OUTPUTS, make, [path], tmp_path / name) == 0
    for name in ("face.mrk.json", "landmarks.csv", "candidates.csv", "measurements.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "export" / name).read_bytes()
    with pytest.raises(UserError, match="--candidates 4: expected 1 to 3"):
        predictor_of(opened, "k", Options(candidates=4))
