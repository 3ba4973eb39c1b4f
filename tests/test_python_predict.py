"""`tfsono.predict(model, file)` from Python: what the command writes to files, and nothing is written or printed."""

from __future__ import annotations

import contextlib
import csv
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
import tensorflow as tf

import tfsono
from tfsono.errors import UserError
from tfsono.predict.head import CHALLENGE
from tfsono.predict.sources import Options
from tfsono.systems import NAMES, system
from tfsono.systems.commands import open_predictor, predict
from tfsono.volumes.landmarks import points_to_mm
from tfsono.training.record import record_files
from wiring import eagerly

pytestmark = pytest.mark.usefixtures("blank_figures")

STORED = Path(__file__).resolve().parent / "stored"
DIRECTION = (0.0, -1, 0, 1, 0, 0, 0, 0, 1)


@pytest.fixture(scope="module", params=NAMES)
def case(request, tmp_path_factory):
    """A system's name, the folder of its stored run and export, an input, and options."""
    return unpacked(request.param, tmp_path_factory.mktemp(request.param))


def unpacked(name, place):
    with tarfile.open(STORED / f"{name}.tar.xz") as archive:
        archive.extractall(place, filter="data")
    record_files(place / "run")
    if name == "head":
        return name, place, head_image(place / "scan.png"), Options(pixel_size_mm="0.2")
    return name, place, volume_file(place / "scan.nii.gz"), Options()


def head_image(path):
    image = np.random.default_rng(1).integers(0, 60, (61, 85)).astype(np.uint8)
    cv2.ellipse(image, (42, 30), (30, 22), 10, 0, 360, 220, 3)
    cv2.imwrite(str(path), image)
    return path


def volume_file(path):
    array = np.random.default_rng(2).normal(100, 30, (25, 23, 27)).astype(np.float32)
    array[8:18, 7:16, 9:20] += 120
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.8, 1.0, 1.1))
    image.SetOrigin((-12.0, 7.5, 31.0))
    image.SetDirection(DIRECTION)
    sitk.WriteImage(image, str(path))
    return path


def content(folder):
    """Every file's name, size and time."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize("source", [pytest.param("run", marks=pytest.mark.slow), "saved_model"])
def test_it_is_what_the_command_writes(case, source, tmp_path, capsys, monkeypatch):
    with eagerly() if case[0] != "head" else contextlib.nullcontext():  # head's CLAHE takes tensors alone
        check_prediction(*case, source, tmp_path, capsys, monkeypatch)


def check_prediction(name, place, path, options, source, tmp_path, capsys, monkeypatch):
    assert predict(place / source, [path], tmp_path / "out", options) == 0
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    before = content(place), content(tmp_path)
    found = tfsono.predict(str(place / source), str(path), options)
    assert (content(place), content(tmp_path)) == before
    assert capsys.readouterr() == ("", "")
    assert "does not say what it was trained on" in found.notes[0]
    assert_tables(found, tmp_path / "out")
    assert_mask(found, tmp_path / "out")
    assert_markups(found, tmp_path / "out")
    assert found.mask is not None or found.landmarks_mm
    assert bool(found.landmarks_vox) == (name != "hip")


def assert_tables(found, out):
    assert set(found.tables) == {path.name for path in out.glob("*.csv")} - {CHALLENGE}  # of all cases
    for name, rows in found.tables.items():
        with open(out / name, newline="", encoding="utf-8") as file:
            written = list(csv.DictReader(file))
        columns = written[0] if written else {}
        assert [{key: str(row.get(key, "")) for key in columns} for row in rows] == written
    assert found.measurements and all(flag in str(found.measurements) for flag in found.flags)


def assert_mask(found, out):
    files = [*out.glob("*_mask.nii.gz"), *out.glob("*_mask.png")]
    assert bool(files) == (found.mask is not None)
    for path in files:
        if path.suffix == ".png":
            np.testing.assert_array_equal(found.mask.array[:, :, 0].T, cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
            assert found.mask.spacing_mm[:2] == (0.2, 0.2)
            continue
        image = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(found.mask.array, sitk.GetArrayFromImage(image).transpose(2, 1, 0))
        np.testing.assert_allclose(found.mask.spacing_mm, image.GetSpacing(), rtol=1e-6)
        np.testing.assert_allclose(found.mask.origin_mm, image.GetOrigin(), atol=1e-5)
        np.testing.assert_allclose(found.mask.direction, image.GetDirection(), atol=1e-6)
        assert set(np.unique(found.mask.array)) <= {0, *found.labels.values()}


def assert_markups(found, out):
    files = list(out.glob("*.mrk.json"))
    assert bool(files) == bool(found.landmarks_mm)
    for path in files:
        markups = json.loads(path.read_text(encoding="utf-8"))["markups"]
        written = {point["label"]: point["position"] for point in markups[0]["controlPoints"]
                   if point.get("positionStatus") != "missing"}
        seen = {name: point for name, point in found.landmarks_mm.items() if np.isfinite(point).all()}
        assert set(written) == set(seen)
        for name, point in seen.items():
            np.testing.assert_allclose(point, written[name], atol=1e-3)
            np.testing.assert_allclose(points_to_mm(found.landmarks_vox[name], found.image), point, atol=1e-3)
        boxes = {markup["name"]: markup["center"] for markup in markups if markup["type"] == "ROI"}
        assert set(boxes) == set(found.boxes_mm)
        for name, centre in boxes.items():
            np.testing.assert_allclose(found.boxes_mm[name].centre_mm, centre, atol=1e-3)


def test_a_model_that_is_opened_once_predicts_many_files(tmp_path):
    name, place, path, options = unpacked("face", tmp_path)
    predictor = open_predictor(place / "saved_model", options)
    first, second = predictor.of_file(path), predictor.of_file(str(path), "other")
    assert first.tables == {name: [{**row, "case": "case"} for row in rows] for name, rows in second.tables.items()}
    second.write(tmp_path)
    assert (tmp_path / system(name).outputs().files("other")[0]).is_file()


def test_mistakes_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="expected a run folder"):
        tfsono.predict(tmp_path, "scan.nii.gz")


def test_the_import_is_light_and_the_name_stays_callable():
    code = ("import sys, tfsono; assert callable(tfsono.predict)\n"
            "assert not {'numpy', 'tensorflow', 'keras'} & set(sys.modules)\n"
            "import tfsono.predict.sources\n"
            "from tfsono.predict import sources\n"
            "assert callable(tfsono.predict) and 'source' in tfsono.predict.__call__.__doc__\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=STORED.parents[1], capture_output=True, encoding="utf-8",
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_mask_has_the_datasets_values(tmp_path):
    from tfsono.predict.hip import HipPredictor

    def brightest(array, spacing_mm):
        return {"mask": tf.cast(array > 150, tf.uint8)}

    predictor = HipPredictor(brightest, "key", "LPS", {"bone": 7}, largest=True, holes=False)
    found = predictor.of_file(volume_file(tmp_path / "scan.nii.gz"))
    assert set(np.unique(found.mask.array)) == {0, 7} and found.mask.array.dtype == np.uint8
    assert found.measurements[0]["voxels"] == np.count_nonzero(found.mask.array == 7)
    assert found.flags == () and found.image.direction == found.mask.direction
