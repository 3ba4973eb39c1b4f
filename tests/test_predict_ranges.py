"""Inputs and predictions outside of what a model was trained on: flagged, or refused where far outside; all systems.

Modules are callables that return arrays; volumes and images are made here, in other orientations and units too.
"""

from __future__ import annotations

import csv
import json
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from tfsono.errors import UserError
from tfsono.predict import face, femur, head, hip, pose
from tfsono.predict.loop import predict_all
from tfsono.predict.ranges import Ranges, joined, ranges_of, times_outside
from tfsono.predict.sources import Model, Options, model_key
from tfsono.systems.manifest import trained_on
from tfsono.training.fingerprint import extent_of, spread
from tfsono.volumes.image import Volume, write_volume

LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
PIR = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
ORDER = (2, 0, 1)  # the file's axes of "PIR" that are x, y and z of "LPS"
SIZE, SPACING = (20, 24, 16), (1.0, 1.0, 2.0)
RECORD = {
    "cases": 3, "spacing_mm": spread([(0.8, 0.8, 1.6), SPACING, (1.2, 1.2, 2.4)]), "size": spread([SIZE]),
    "extent_mm": spread([(18, 22, 30), (24, 26, 34)]), "intensity_1_percent": spread([0, 10]),
    "intensity_99_percent": spread([180, 220]), "intensity_width": spread([170, 220]),
    "labels_ml": {"bone": spread([1.0, 2.0])}, "landmarks_mm": spread([20.0, 30.0])}
IMAGES = {"cases": 3, "size": spread([(300, 200), (400, 300)]), "pixel_size_mm": spread([0.3, 0.5]),
          "extent_mm": spread([(120, 90), (160, 120)]), "circumference_mm": spread([150.0, 200.0])}
KNOWN, KNOWN_IMAGES = Ranges(RECORD, 2.0), Ranges(IMAGES, 2.0)


def volume(spacing=SPACING, size=SIZE, low=0.0, high=200.0):
    """Intensities from `low` to `high`, evenly; in LPS."""
    array = np.random.default_rng(0).permutation(np.linspace(low, high, int(np.prod(size)), dtype=np.float32))
    return Volume(array.reshape(size), tuple(map(float, spacing)), (3.0, -4.0, 5.0), LPS)


def flags_of(given, ranges=KNOWN):
    return ranges.of_volume(Path("case.nii.gz"), given)


# --- the input


@pytest.mark.parametrize("given", [
    volume(), volume((0.8, 0.8, 1.6), (24, 28, 20)), volume((1.25, 1.25, 2.5), (17, 20, 14)), volume(low=-20, high=250),
    volume(size=(15, 20, 12))])
def test_what_is_like_the_training_has_no_flag(given):
    assert flags_of(given) == []


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 1.4), (1.5, 1.5, 2.0), (1.0, 1.0, 3.0)])
def test_another_voxel_size_is_flagged(spacing):
    given = volume(spacing, [round(n * s / new) for n, s, new in zip(SIZE, SPACING, spacing, strict=True)])
    flag, = flags_of(given)
    texts = " x ".join(f"{value:g}" for value in spacing)
    assert flag == f"spacing {texts} mm (LPS), trained on 0.8 to 1.2 x 0.8 to 1.2 x 1.6 to 2.4"


@pytest.mark.parametrize("spacing", [
    (0.4, 0.4, 0.8), (0.402, 1.0, 2.0), (2.4, 2.4, 4.8), (1.0, 1.0, 5.0), (0.001, 0.001, 0.002), (1000, 1000, 2000)])
def test_a_voxel_size_far_outside_is_refused_unless_allowed(spacing):
    given = volume(spacing)
    with pytest.raises(UserError) as error:
        flags_of(given)
    text = str(error.value)
    assert text.startswith("case.nii.gz: spacing ") and "\n" not in text
    assert all(words in text for words in ("trained on 0.8 to 1.2", "about 1 x 1 x 2 mm", "--outside allow"))
    assert flags_of(given, Ranges(RECORD, 2.0, allow=True))[0] in text  # the same words as a flag


def test_the_factor_is_the_configs():
    given = volume((1.0, 1.0, 5.0), (20, 24, 6))
    assert len(flags_of(given, Ranges(RECORD, 3.0))) == 1
    with pytest.raises(UserError, match="from 1.5 times"):
        flags_of(volume((1.9, 1.0, 2.0)), Ranges(RECORD, 1.5))


def test_axes_are_compared_in_the_models_orientation():
    given = volume((1.0, 1.0, 2.0))
    back = np.argsort(ORDER)
    in_pir = Volume(np.ascontiguousarray(given.array.transpose(back)), tuple(np.array(SPACING)[back].tolist()),
                    given.origin_mm, PIR)
    assert in_pir.spacing_mm != given.spacing_mm and flags_of(in_pir) == []
    with pytest.raises(UserError, match=r"spacing 1 x 2 x 1 mm \(LPS\)"):  # slices along another axis of the patient
        flags_of(volume((1.0, 2.0, 1.0)), Ranges(RECORD, 1.5))


def test_a_model_that_resamples_takes_any_voxel_size_of_a_like_extent():
    ranges = Ranges(RECORD, 2.0, resamples=True)
    assert flags_of(volume((0.4, 0.4, 0.8), (50, 60, 40)), ranges) == []
    flag, = flags_of(volume((0.1, 0.1, 0.2)), ranges)  # the unit is wrong
    assert flag == "extent 2 x 2.4 x 3.2 mm (LPS), trained on 18 to 24 x 22 to 26 x 30 to 34"


@pytest.mark.parametrize("low, high", [(0, 1), (-1000, 200), (0, 60000), (100, 120)])
def test_other_intensities_are_flagged(low, high):
    flag, = flags_of(volume(low=low, high=high))
    assert flag.startswith("intensities ") and flag.endswith("trained on 0 to 220")


def test_equal_axes_are_one_number():
    record = {**RECORD, "spacing_mm": spread([(0.8,) * 3, (1.2,) * 3])}
    flags = flags_of(volume((0.5,) * 3, (40, 48, 64)), Ranges(record, 2.0))
    assert flags == ["spacing 0.5 mm, trained on 0.8 to 1.2"]


def test_images():
    def flags(size, pixel):
        return KNOWN_IMAGES.of_image(Path("head.png"), size, pixel)

    assert flags((350, 250), 0.4) == [] and flags((700, 500), 0.2) == [] and flags((350, 250), None) == []
    flag, = flags((350, 250), 0.2)
    assert flag == "field of view 70 x 50 mm (x,y), trained on 120 to 160 x 90 to 120"
    for pixel in (0.04, 4.0):  # centimetres, micrometres / 100
        with pytest.raises(UserError, match="head.png: field of view .*check the pixel size.*--outside allow"):
            flags((350, 250), pixel)
    flag, = flags((90, 60), None)
    assert flag == "size 90 x 60 pixels (x,y), trained on 300 to 400 x 200 to 300"
    sizes_alone = Ranges({name: IMAGES[name] for name in ("cases", "size")}, 2.0)
    assert sizes_alone.of_image(Path("head.png"), (350, 250), 4.0) == []


# --- the prediction


def test_sizes_of_predictions():
    assert KNOWN.of_label("bone", 0.21) == KNOWN.of_label("bone", 9.9) == KNOWN.of_label("bone", 0.0) == []
    assert KNOWN.of_label("bone", 10.5) == ["volume 10.5 mL, trained on 1 to 2"]
    assert KNOWN.of_label("bone", 0.15) == ["volume 0.15 mL, trained on 1 to 2"]
    assert KNOWN.of_label("other", 99.0) == []
    points = np.array([[0, 0, 0], [0, 60.0, 0], [np.nan, 0, 0]])
    assert KNOWN.of_points(points) == ["largest distance between landmarks 60 mm, trained on 20 to 30"]
    assert KNOWN.of_points(points / 2.4) == KNOWN.of_points(points[1:]) == KNOWN.of_points(None) == []
    assert KNOWN_IMAGES.of_head(210.0, 0.9) == ["HC 210 mm, trained on 150 to 200"]
    assert KNOWN_IMAGES.of_head(np.nan, np.nan) == KNOWN_IMAGES.of_head(203.0, 0.9) == []
    with_shares = Ranges({**IMAGES, "diameter_share": spread([0.3, 0.6])}, 2.0)
    assert with_shares.of_head(148.0, 0.2) == ["mean diameter 0.2 of the image's longer side, trained on 0.3 to 0.6"]
    assert with_shares.of_head(np.nan, 0.9) and not with_shares.of_head(180.0, 0.4)
    assert extent_of(points) == 60 and np.isnan(extent_of(points[2:]))


# --- where the record comes from


def model(record, **manifest):
    return Model(Path("saved"), None, {"trained_on": record, **manifest})


def test_ranges_of_a_manifest():
    opened = model({**RECORD, "outside_factor": 3.0}, network={"spacing_mm": [1, 1, 1]})
    ranges = ranges_of([opened], Options(outside="allow"), "PIR")
    assert (ranges.factor, ranges.allow, ranges.resamples, ranges.orientation) == (3.0, True, True, "PIR")
    ranges = ranges_of([model({**RECORD, "outside_factor": 3.0}, network={"spacing_mm": []})], Options())
    assert (ranges.allow, ranges.resamples) == (False, False) and ranges.note == ""


def test_a_model_without_a_record_has_one_note_and_no_flags():
    ranges = ranges_of([model({**RECORD, "outside_factor": 2.0}), model(None), model(None)], Options())
    assert "\n" not in ranges.note and ranges.note.startswith("saved: this model does not say what it was trained on")
    assert flags_of(volume((0.001,) * 3, low=-9999, high=9999), ranges) == []
    assert ranges.of_label("bone", 1e9) == ranges.of_points(np.eye(3)) == ranges.of_head(1e9, 1e9) == []
    assert ranges.of_image(Path("head.png"), (1, 1), 9.0) == []


def test_several_runs_have_the_union():
    other = {**RECORD, "spacing_mm": spread([(0.5, 1.0, 3.0)]), "labels_ml": {"bone": spread([7.0])}}
    del other["landmarks_mm"]
    runs = [types.SimpleNamespace(data={"trained_on": record}, config=types.SimpleNamespace(outside_factor=factor))
            for record, factor in ((RECORD, 4.0), (other, 2.0))]
    union = trained_on(runs)
    assert union["spacing_mm"] == {"min": [0.5, 0.8, 1.6], "median": [1.0, 1.0, 2.0], "max": [1.2, 1.2, 3.0]}
    assert union["labels_ml"]["bone"] == {"min": 1.0, "median": 1.5, "max": 7.0}
    assert union["outside_factor"] == 4.0 and "landmarks_mm" not in union
    assert joined([RECORD]) == RECORD
    assert trained_on([runs[0], types.SimpleNamespace(data={})]) is None
    assert times_outside([1.0, 5.0], {"min": [2.0, 1.0], "max": [3.0, 2.0]}) == 2.5


def test_the_option_is_no_part_of_a_predictions_key(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert model_key([tmp_path], Options(outside="allow")) == model_key([tmp_path], Options())
    assert model_key([tmp_path], Options(samples=1)) != model_key([tmp_path], Options())


# --- every system, with a callable instead of a network


class Array(np.ndarray):
    """An array with TensorFlow's `numpy()`."""

    def numpy(self):
        return np.asarray(self)


def arrays(**values):
    return {name: np.asarray(value).view(Array) for name, value in values.items()}


def half_of(array, spacing_mm):
    """Half of the volume is label 1: of `SIZE` voxels of `SPACING`, 7.68 mL."""
    first = np.arange(array.shape[0]) < array.shape[0] // 2
    return arrays(mask=first[:, None, None] * np.ones(array.shape, np.uint8))


ENDS = np.float32([[1, 1, 1], [1, 1, 14]])  # in voxels; of `SPACING` 26 mm apart


def hip_predictor(ranges):
    return hip.HipPredictor(half_of, "key", "LPS", {"bone": 1}, False, holes=False, ranges=ranges)


def femur_predictor(ranges):
    def module(array, spacing_mm):
        return {**half_of(array, spacing_mm), **arrays(found=True, points_vox=ENDS, peaks=[0.9, 0.9])}

    return femur.FemurPredictor(module=module, key="key", orientation="LPS", labels={"bone": 1}, landmarks=("a", "b"),
                                largest=False, holes=False, ranges=ranges)


def pose_predictor(ranges):
    return pose.PosePredictor(lambda array, spacing_mm: arrays(points_vox=ENDS, peaks=[0.9, 0.9]), "key", "LPS",
                              ("a", "b"), ranges=ranges)


def face_predictor(ranges):
    def module(array, spacing_mm):
        boxes = np.concatenate([ENDS - 1, ENDS + 1], 1)
        return arrays(points_vox=ENDS, scores=[0.9, 0.9], boxes_vox=boxes, candidate_boxes_vox=boxes[:, None],
                      candidate_scores=[[0.9], [0.9]], chosen=[0, 0])

    return face.FacePredictor(module, "key", "LPS", ("a", "b"), 1, ranges=ranges)


OF_VOLUMES = {"hip": (hip, hip_predictor), "femur": (femur, femur_predictor), "pose": (pose, pose_predictor),
              "face": (face, face_predictor)}


def written(path, given):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, given.array, given)
    return path


def rows_of(folder):
    with open(folder / "measurements.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", OF_VOLUMES)
def test_a_volume_far_outside_is_refused_and_the_others_are_predicted(name, tmp_path, capsys):
    system, make = OF_VOLUMES[name]
    record = {**RECORD, "labels_ml": {"bone": spread([7.0])}}
    fine, half = ((0.5 * np.array(SPACING)).tolist(), [2 * n for n in SIZE])
    paths = [written(tmp_path / "half.nii.gz", volume(fine, half)), written(tmp_path / "like.nii.gz", volume())]
    paths.append(written(tmp_path / "near.nii.gz", volume((1.5, 1.5, 2.0))))
    ranges = Ranges(record, 1.5)
    assert predict_all(system.OUTPUTS, lambda: make(ranges), paths, tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 2 and "1 of 3 failed" in printed.err
    assert f"{paths[0]}: spacing 0.5 x 0.5 x 1 mm (LPS), trained on 0.8 to 1.2" in printed.err
    flags = {row["case"]: row["flags"] for row in rows_of(tmp_path / "out")}
    assert set(flags) == {"like", "near"}
    assert "trained on" not in flags["like"] and "spacing 1.5 x 1.5 x 2 mm" in flags["near"]
    assert "spacing 1.5 x 1.5 x 2 mm" in printed.out  # in the line too
    allowed = Ranges(record, 1.5, allow=True)
    assert predict_all(system.OUTPUTS, lambda: make(allowed), paths, tmp_path / "out") == 0
    flags = {row["case"]: row["flags"] for row in rows_of(tmp_path / "out")}
    assert "spacing 0.5 x 0.5 x 1 mm (LPS), trained on 0.8 to 1.2" in flags["half"]


@pytest.mark.parametrize("name, word", [("hip", "volume"), ("femur", "bone: volume"), ("femur", "largest distance"),
                                        ("pose", "largest distance"), ("face", "largest distance")])
def test_a_prediction_of_another_size_is_flagged(name, word, tmp_path, capsys):
    system, make = OF_VOLUMES[name]
    record = {**RECORD, "labels_ml": {"bone": spread([1.0])}, "landmarks_mm": spread([100.0])}
    path = written(tmp_path / "case.nii.gz", volume())
    assert predict_all(system.OUTPUTS, lambda: make(Ranges(record, 2.0)), [path], tmp_path / "out") == 0
    row, = rows_of(tmp_path / "out")
    assert f"{word} " in row["flags"] and ", trained on 1" in row["flags"]
    assert row["flags"] in capsys.readouterr().out


def test_a_head_of_another_size_and_a_field_of_view_far_outside(tmp_path, capsys):
    def module(pixels):
        return arrays(points_px=[[10.0, 100], [310, 100], [160, 10], [160, 190]])

    def make(ranges):
        member = head.Member(module, "landmarks", None, seed=0, samples=0)
        return lambda: head.HeadPredictor([member], "key", head.PixelSizes(single=0.4), ranges=ranges)

    path = tmp_path / "head.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (200, 320)).astype(np.uint8))
    record = {**IMAGES, "circumference_mm": spread([100.0])}
    assert predict_all(head.OUTPUTS, make(Ranges(record, 2.0)), [path], tmp_path / "out") == 0
    row, = rows_of(tmp_path / "out")
    assert "; HC 306 mm, trained on 100; " in row["flags"] in capsys.readouterr().out
    assert row["flags"].startswith("field of view 128 x 80 mm (x,y), trained on 120 to 160 x 90 to 120; ")
    ranges = {**IMAGES, "extent_mm": spread([(12, 9), (16, 12)])}
    assert predict_all(head.OUTPUTS, make(Ranges(ranges, 2.0)), [path], tmp_path / "far") == 2
    assert f"{path}: field of view 128 x 80 mm" in capsys.readouterr().err
    assert predict_all(head.OUTPUTS, make(Ranges(ranges, 2.0, allow=True)), [path], tmp_path / "far") == 0
    assert "field of view" in rows_of(tmp_path / "far")[0]["flags"]


def test_a_record_survives_json():
    record = json.loads(json.dumps(RECORD))
    assert record == RECORD and flags_of(volume(), Ranges(record, 2.0)) == []
