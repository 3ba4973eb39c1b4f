"""Runs and SavedModels of the version before still open, and predict what they predicted.

`stored/SYSTEM.tar.xz` holds a tiny run, its export, and what both predicted for `given` when they were made, at commit
86695a6 (version 0.1.0): before fields, files and manifest keys were renamed.
"""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from tfsono.config import load_settings
from tfsono.export import load_exported
from tfsono.inference.segmentation import postprocess_mask
from tfsono.predict.sources import Options
from tfsono.systems import NAMES, system
from tfsono.systems.commands import open_predictor
from wiring import opened_once

pytestmark = pytest.mark.usefixtures("optimised_graphs")
STORED = Path(__file__).resolve().parent / "stored"
TOLERANCE = {"mask": 0.0, "points_vox": 1e-3, "points_px": 1e-2}
OF_POSE = {"peaks": 2e-3}  # it is in bfloat16, to which its folded kernels are rounded


@pytest.fixture(scope="module", autouse=True)
def opened():
    with opened_once():
        yield


@pytest.fixture(scope="module", params=NAMES)
def stored(request, tmp_path_factory):
    """The name of a system, and the folder of its run and its export."""
    place = tmp_path_factory.mktemp(request.param)
    with tarfile.open(STORED / f"{request.param}.tar.xz") as archive:
        archive.extractall(place, filter="data")
    return request.param, place


def given(name):
    """The arguments that the module was given when the archive was made."""
    random = np.random.default_rng(7)
    if name == "head":
        return (random.integers(0, 255, (61, 85)).astype(np.float32),)
    return random.normal(100, 30, (27, 23, 25)).astype(np.float32), np.float32([0.8, 1.0, 1.1])


SINCE = {"femur": {"ends_vox", "doubtful", "second_peaks", "second_peak_mm"},
         "pose": {"second_peaks", "second_peak_mm"}}
"""Outputs that a run has now, and had not when it was stored."""


def assert_predicts_as_before(name, place, module, run=None):
    """What was stored; a run's mask, which was the arg-max then, is postprocessed in the graph now."""
    expected = dict(np.load(place / "predicted.npz", allow_pickle=False))
    if run is not None and "mask" in expected:
        config = run.config
        expected["mask"] = postprocess_mask(expected["mask"], config.classes, config.largest_component,
                                            config.fill_holes)
    found = {key: np.asarray(value) for key, value in module(*given(name)).items()}
    assert set(found) == set(expected) | (set() if run is None else SINCE.get(name, set()))
    if name == "face":
        assert_the_same_candidates(found, expected)
        return
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], err_msg=key,
                                   atol=(OF_POSE if name == "pose" else {}).get(key, TOLERANCE.get(key, 1e-4)))


def assert_the_same_candidates(found, expected):
    """In bfloat16, which rounds differently on other CPUs: of nearly equal candidates the order and the last vary."""
    scores, boxes = found["candidate_scores"], found["candidate_boxes_vox"]
    np.testing.assert_allclose(scores, expected["candidate_scores"], atol=1e-3)
    for own, stored_boxes in zip(boxes, expected["candidate_boxes_vox"], strict=True):
        apart = np.abs(own[:, None] - stored_boxes).max(axis=-1)
        assert (apart.min(axis=0) < 0.05).sum() >= 2, apart
    own = (np.arange(len(boxes)), found["chosen"])
    np.testing.assert_array_equal(found["boxes_vox"], boxes[own])
    np.testing.assert_array_equal(found["scores"], scores[own])
    np.testing.assert_allclose(found["points_vox"], boxes[own].reshape(-1, 2, 3).mean(axis=1), rtol=1e-5)


def test_a_run_opens_and_predicts_as_before(stored):
    name, place = stored
    (run,), module = system(name).load_runs([place / "run"])
    assert run.config == load_settings(place / "run" / "config.json", system(name).CHOICES).config
    assert_predicts_as_before(name, place, module, run)


def test_an_export_opens_and_predicts_as_before(stored):
    name, place = stored
    assert_predicts_as_before(name, place, load_exported(place / "saved_model")[0])


def test_tfsono_predict_takes_both(stored):
    name, place = stored
    for folder in ("run", "saved_model"):
        assert open_predictor(place / folder, Options()).key
