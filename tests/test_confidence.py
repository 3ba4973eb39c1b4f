"""The confidence of landmarks, solved by hand: second peaks, the fitted model, its scores, spreads, file and flags."""

from __future__ import annotations

import dataclasses
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from tfsono.config import choose
from tfsono.configs.pose import POSE
from tfsono.errors import UserError
from tfsono.evaluation.confidence import confidence_columns
from tfsono.geometry.heatmaps import second_peaks
from tfsono.inference.peaks import member_outputs
from tfsono.metrics.calibration import (brier_score, expected_calibration_error, features, fitted, probabilities,
                                        reliability, wilson_interval)
from tfsono.metrics.spread import length_spread
from tfsono.predict.confidence import confidence_of, lengths_of_members
from tfsono.report.calibration import calibration_figures, calibration_tables
from tfsono.training import confidence
from tfsono.training.record import RECORD, check_files
from tfsono.training.run import Run

NAN = float("nan")
MODEL = {"limit_mm": 5.0, "intercept": 0.0, "peak": 2.0, "second_peak": -2.0, "second_peak_far": 0.0, "cases": 5,
         "landmarks": 80, "right": 70}


# --- second peaks


def test_the_second_peak_is_the_highest_beyond_the_radius():
    maps = np.zeros((2, 12, 5, 6, 3), np.float32)
    maps[0, 2, 2, 2, 0], maps[0, 2, 2, 3, 0], maps[0, 8, 2, 2, 0] = 1, 0.9, 0.5  # 3 and 6 mm away
    maps[1, :, :, :, 1] = -1
    maps[1, 11, 4, 5, 2], maps[1, 0, 0, 0, 2] = 0.2, 0.2  # equal ones: the first counts as the highest
    for radius, height, distance in ((2.9, 0.9, 3), (3.0, 0.5, 6), (6.0, 0, 0)):
        heights, distances = (value.numpy() for value in second_peaks(maps, (1.0, 2.0, 3.0), radius))
        assert heights[0, 0] == pytest.approx(height) and distances[0, 0] == pytest.approx(distance)
        assert (heights[1, 1], distances[1, 1]) == (0, 0)
        assert heights[1, 2] == pytest.approx(0.2)
        assert distances[1, 2] == pytest.approx(np.linalg.norm([11, 8, 15]))


# --- the model


def test_features_are_the_peak_and_the_share_and_distance_of_the_second():
    found = features([0.8, 1.2, 0.0, NAN], [0.4, 1.5, 0.0, 0.1], [25, 500, 0, 1])
    np.testing.assert_allclose(found[:3], [[1, 0.8, 0.5, 0.25], [1, 1, 1, 1], [1, 0, 1, 0]])
    assert np.isnan(found[3, 2])


def test_equal_features_give_the_mean_of_platts_targets():
    """8 right and 2 wrong: targets 9 / 10 and 1 / 4, mean 0.77."""
    values = features(np.full(10, 0.5), np.full(10, 0.1), np.full(10, 20))
    model = fitted(values, np.arange(10) < 8)
    assert probabilities([model], 0.5, 0.1, 20) == pytest.approx(0.77, abs=1e-3)
    alone = fitted(values, np.ones(10, bool))
    assert probabilities([alone], 0.5, 0.1, 20) == pytest.approx(11 / 12, abs=1e-3)  # never certain


def test_two_groups_have_their_own_probabilities_and_a_wrong_direction_is_none():
    """Peaks of 0.9 and 0.1, 20 each: Platt's targets are 21 / 22 and 1 / 22, met by two weights."""
    peaks, right = np.repeat([0.9, 0.1], 20), np.repeat([True, False], 20)
    nothing = np.zeros(40)
    model = fitted(features(peaks, nothing, nothing), right)
    np.testing.assert_allclose(probabilities([model], [0.9, 0.1], [0, 0], [0, 0]), [21 / 22, 1 / 22], atol=2e-3)
    assert model["second_peak"] == model["second_peak_far"] == 0
    backwards = fitted(features(peaks, nothing, nothing), ~right)
    assert backwards["peak"] == 0
    np.testing.assert_allclose(probabilities([backwards], [0.9, 0.1], [0, 0], [0, 0]), 0.5, atol=1e-3)


def test_the_second_peak_counts_against_and_the_mean_of_models_is_taken():
    rivals = np.repeat([0.0, 0.9], 30)
    model = fitted(features(np.ones(60), rivals, np.full(60, 40.0)), np.arange(60) < 30)
    assert model["second_peak"] < 0 or model["second_peak_far"] < 0
    one, other = (float(probabilities([each], 1.0, 0.9, 40.0)) for each in (model, MODEL))
    assert one < 0.1 and probabilities([model, MODEL], 1.0, 0.9, 40.0) == pytest.approx((one + other) / 2)
    assert np.isnan(probabilities([], [1.0], [0.1], [1.0])).all()


# --- whether it is true


def test_scores_by_hand():
    predicted, right = np.array([0.05, 0.05, 0.95, 1.0]), np.array([False, True, True, True])
    bins = reliability(predicted, right)
    assert [(one.count, one.predicted, one.observed) for one in bins] == [(2, 0.05, 0.5), (2, 0.975, 1.0)]
    assert brier_score(predicted, right) == pytest.approx((0.05**2 + 0.95**2 + 0.05**2) / 4)
    assert expected_calibration_error(bins) == pytest.approx((0.45 + 0.025) / 2)
    assert np.isnan(brier_score(np.zeros(0), np.zeros(0, bool))) and np.isnan(expected_calibration_error([]))
    assert wilson_interval(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def rows_of(errors, chances, members=1, **more):
    return [{"case": str(number), "members": members, "limit_mm": 5.0, "error_a_mm": error, "probability_a": chance,
             **{name: values[number] for name, values in more.items()}}
            for number, (error, chance) in enumerate(zip(errors, chances, strict=True))]


def test_tables_and_figure_of_an_evaluation(tmp_path):
    methods = {"one": rows_of([1, 9, 4.9, NAN], [0.95, 0.05, 0.45, 0.5]),
               "two": rows_of([1, 2, 3], [NAN] * 3, members=2, spread_a_mm=[0.1, 0.2, 0.5],
                              length_spread_mm=[1, 2, 3], length_error_mm=[-3, 2, 1])}
    tables = calibration_tables(methods, ["a"])
    (name, count, mean, share, brier, base, ece, larger, smaller), = tables["calibration"].rows
    assert (name, count, larger, smaller) == ("one", 3, 100, 50) and share == pytest.approx(200 / 3)
    assert mean == pytest.approx(145 / 3) and brier == pytest.approx((0.05**2 * 2 + 0.55**2) / 3)
    assert base == pytest.approx(2 / 9) and ece == pytest.approx((0.05 + 0.05 + 0.55) / 3)
    points, lengths = tables["spread"].rows
    assert points[:4] == ("two", 2, "a", 3) and (points[4].mean, points[6]) == (2, 1)
    assert lengths[2] == "length" and (lengths[4].mean, lengths[5].mean, lengths[6]) == (2, 2, -1)
    assert calibration_tables({"two": rows_of([1], [NAN])}, ["a"]) == {}
    without = [{key: value for key, value in row.items() if key not in ("probability_a", "limit_mm")}
               for row in rows_of([2.0], [NAN])]  # a run of the same row, without a model
    assert calibration_tables({"one": [*without, *methods["one"]]}, ["a"])["calibration"] == tables["calibration"]
    figure, = calibration_figures(tmp_path / "calibration.png", methods, ["a"])
    assert figure.path.is_file() and "below 5 mm" in figure.caption
    assert calibration_figures(tmp_path / "none.png", {"two": methods["two"]}, ["a"]) == []


# --- members


def test_spreads_of_two_members_by_hand():
    points = np.array([[[0, 0, 0], [10, 0, 0]], [[2, 0, 0], [14, 0, 0]]], np.float32)
    found = {name: value.numpy() for name, value in member_outputs(tf.constant(points), [1.5, 1, 1]).items()}
    np.testing.assert_allclose(found["spread_mm"], np.array([3, 6]) / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(length_spread(points * [1.5, 1, 1], [(0, 1)]), [3 / np.sqrt(2)])  # 15 and 18 mm
    assert np.isnan(length_spread(points[:1], [(0, 1)])).all()
    row = confidence_columns({"peaks": [1, 1], **found}, (1.5, 1, 1), ("a", "b"), {"length_spread_mm": (0, 1)})
    assert row == pytest.approx({"peak_a": 1, "peak_b": 1, "spread_a_mm": 3 / 2**0.5, "spread_b_mm": 6 / 2**0.5,
                                 "length_spread_mm": 3 / 2**0.5})
    told = confidence_of({"peaks": [1, 1], **found}, (1.5, 1, 1))
    assert lengths_of_members(told, ("a", "b"), [("b", "a")]) == pytest.approx(3 / 2**0.5)
    assert told.columns(1) == {"peak": 1, "probability": "", "spread_mm": round(6 / 2**0.5, 4)}


# --- flags and words


def test_low_confidence_is_of_the_probability_where_there_is_one():
    names, peaks = ("a", "b", "c"), [0.9, 0.2, NAN]
    assert confidence_of({"peaks": peaks}, (1, 1, 1)).flags(names) == ["low confidence: b, c"]
    assert confidence_of({"peaks": peaks}, (1, 1, 1)).text(names) == ""
    found = {"peaks": [0.9, 0.2, 0.9], "second_peaks": [0.9, 0, 0], "second_peak_mm": [9, 0, 0]}
    told = confidence_of(found, (1, 1, 1), [MODEL])  # logits -0.2, 0.4, 1.8
    assert told.flags(names) == ["low confidence: a"]
    assert told.text(names) == "probability of an error below 5 mm: a 45 %, b 60 %, c 86 %"
    many = confidence_of({name: values * 2 for name, values in found.items()}, (1, 1, 1), [MODEL])
    assert many.text("abcdef").endswith(": a 45 %, d 45 %, b 60 %, e 60 %, the others more")


# --- the file


class Cases:
    """A cache of cases without voxels: `own.array` is the number of the case."""

    def __init__(self, references):
        self.references = references

    def points_vox(self, name):
        return self.references[name]

    def read(self, name):
        own = types.SimpleNamespace(array=float(name), spacing_mm=(1.0, 1.0, 1.0))
        return types.SimpleNamespace(own=own, own_points_vox=lambda count: self.references[name])


def run_of(folder, validation):
    folder.mkdir()
    settings = choose(POSE, "quick", "land_gcp").replaced("test", landmark_names=tuple("abcdefgh"))
    return Run(folder, settings, {"train": [], "validation": validation, "test": []}, {})


def module(volume, spacing_mm):
    """The first four landmarks of 8 have a high peak and are right, the others are 6 mm away."""
    points = np.zeros((8, 3))
    points[4:, 0] = 6
    arrays = {"points_vox": points, "peaks": np.repeat([0.9, 0.1], 4), "second_peaks": np.zeros(8),
              "second_peak_mm": np.zeros(8)}
    return {name: types.SimpleNamespace(numpy=lambda array=array: array) for name, array in arrays.items()}


def test_a_run_keeps_the_model_of_its_validation_cases(tmp_path, capsys):
    references = {str(number): np.zeros((8, 3)) for number in range(6)}
    references["5"][0] = NAN  # 47 landmarks with a reference
    run = run_of(tmp_path / "run", list(references))
    confidence.keep_confidence(run, Cases(references), lambda runs: module)
    assert "fitted to 47 of 6 validation cases; 49 % of them" in capsys.readouterr().out
    check_files(run.folder)
    assert confidence.CONFIDENCE in json.loads((run.folder / RECORD).read_text())["files"]
    model, = confidence.confidence_models([run])
    assert (model["cases"], model["landmarks"], model["right"]) == (6, 47, 23)
    np.testing.assert_allclose(probabilities([model], [0.9, 0.1], [0, 0], [0, 0]), [24 / 25, 1 / 26], atol=3e-3)
    set_later = dataclasses.replace(run, settings=run.settings.set_at_test({"norm_at_test": "tile"}))
    assert confidence.confidence_models([set_later]) == []
    other = run_of(tmp_path / "other", [])
    assert confidence.confidence_models([run, other]) == []
    assert confidence.confidence_files([run, other]) == [run.folder / confidence.CONFIDENCE]
    confidence.keep_confidence(run, None, None)  # is there already


@pytest.mark.parametrize("count", [0, 4])
def test_too_few_validation_cases_say_how_many_are_needed(count, tmp_path, capsys):
    references = {str(number): np.zeros((8, 3)) for number in range(count)}
    run = run_of(tmp_path / "run", list(references))
    confidence.keep_confidence(run, Cases(references), lambda runs: module)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and f"not fitted, as {count} validation cases" in said
    assert "--validation_cases 5" in said and not (run.folder / confidence.CONFIDENCE).exists()


@pytest.mark.parametrize("change, words", [
    ({"peak": "high"}, "confidence.json: peak must be a number"), ({"limit_mm": -5}, "limit_mm must be one number"),
    ({"peak": None}, "must be a number")])
def test_a_damaged_file_is_refused_in_one_line(change, words, tmp_path):
    run = run_of(tmp_path / "run", [])
    (run.folder / confidence.CONFIDENCE).write_text(json.dumps(MODEL | change))
    with pytest.raises(UserError) as error:
        confidence.confidence_models([run])
    assert words in str(error.value) and "\n" not in str(error.value)
