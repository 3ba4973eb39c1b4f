"""The wiring of `train/pose.py` and `evaluate/pose.py`: whose arm is whose in a mirror image, and millimetres.

Every landmark is a block of its own brightness, so the image shows which landmark a point is.
"""

import csv
import itertools
import json

import numpy as np
import pytest

from tfsono.__main__ import run as tfsono
from wiring import (batches_of, blocks, cached, evaluate, peaks, ranks, read_points, similarity, train, write_points,
                    write_split, write_volume)

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


def test_landmarks_are_measured_in_the_files_own_millimetres(place, monkeypatch):
    """Distances and lengths of cases.csv from the written markups and the files on disk, in the patient's space.

    And what the run says of their confidence, in the evaluation and the prediction.
    """
    run, out = place / "runs" / "short", place / "results"
    monkeypatch.setattr("tfsono.training.confidence.LEAST_CASES", 1)
    monkeypatch.setattr("tfsono.training.confidence.LEAST_LANDMARKS", 16)
    train("pose", "--data", place / "small.h5", "--split", place / "validated.json", "--run_dir", run, "--preset",
          "quick", *SMALL, "--precision", "float32", "--iterations", "1", "--record_every", "1", "--refine_atlases",
          "1")
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
