"""Bad input to commands and scripts: one line that names the file or argument and says what to do, and no debris."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import wiring
from small_caches import TINY, write_small_dataset, write_small_head_dataset
from small_datasets import write_image, write_json
from tfsono.__main__ import run as tfsono
from tfsono.errors import UserError
from tfsono.training.record import record_files

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((19, 17, 21), (17, 21, 19), (21, 19, 17), (17, 17, 21))
SHORT = [*TINY, "--iterations", "2"]


def script(folder):
    spec = importlib.util.spec_from_file_location(f"{folder}_hip", ROOT / folder / "hip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


train, evaluate = script("train"), script("evaluate")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset, its cache and a finished run."""
    place = tmp_path_factory.mktemp("made")
    write_small_dataset(place / "dataset", SIZES)
    tfsono(["cache", "hip", str(place / "dataset"), str(place / "small.h5")])
    wiring.script("train").main(["--data", str(place / "small.h5"), "--run_dir", str(place / "run"), *SHORT])
    return place


@pytest.fixture
def place(made, tmp_path):
    """A copy of them that a test may damage."""
    return shutil.copytree(made, tmp_path / "place")


def listing(folder):
    """Every file below a folder with what changes when it is written."""
    files = {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
    return {**files, **{path: "folder" for path in folder.rglob("*") if path.is_dir()}}


def refusal(place, main, *words, new=()):
    """The one line with which a command is refused; beside `new` nothing may have changed."""
    before = listing(place)
    with pytest.raises(UserError) as caught:
        main([str(word) for word in words])
    text = str(caught.value)
    assert text and "\n" not in text and len(text) < 400
    assert {path: now for path, now in listing(place).items() if path not in new} == before
    return text


def fresh_run(place, *more):
    """What a new training on the cache of `place` is refused with."""
    return refusal(place, train, "--data", place / "small.h5", "--run_dir", place / "new", *SHORT, *more)


# --- datasets


def unlisted_label(dataset):
    mask = np.zeros(SIZES[1], np.uint8)
    mask[5:8, 5:8, 5:9] = 7
    write_image(dataset / "labels" / "case_1.nii.gz", mask)


def empty_mask(dataset):
    write_image(dataset / "labels" / "case_1.nii.gz", np.zeros(SIZES[1], np.uint8))


def without_mask(dataset):
    (dataset / "labels" / "case_1.nii.gz").unlink()


def mask_elsewhere(dataset):
    write_image(dataset / "labels" / "case_1.nii.gz", np.ones(SIZES[1], np.uint8), origin=(9, 9, 9))


def truncated_image(dataset):
    path = dataset / "images" / "case_1.nii.gz"
    path.write_bytes(path.read_bytes()[:-50])


def image_with_nan(dataset):
    image = np.random.default_rng(0).normal(size=SIZES[1]).astype(np.float32)
    image[3, 4, 5] = np.nan
    write_image(dataset / "images" / "case_1.nii.gz", image)


SPOILED = {"unknown_label": unlisted_label, "empty_mask": empty_mask, "no_mask": without_mask,
           "geometry": mask_elsewhere, "unreadable": truncated_image, "nan": image_with_nan}


@pytest.mark.parametrize("code", SPOILED)
def test_a_bad_case(place, code, capsys):
    """`cache` refuses and writes nothing; `audit` says it too, after its table and its two files are written."""
    SPOILED[code](place / "dataset")
    text = refusal(place, tfsono, "cache", "hip", place / "dataset", place / "new.h5")
    assert str(place / "dataset") in text and f"case_1 ({code})" in text and "--exclude_bad" in text
    audit = place / "dataset" / "audit"
    text = refusal(place, tfsono, "audit", place / "dataset", new=(audit, audit / "audit.json", audit / "audit.png"))
    assert "1 of 4 cases have errors" in text and "--exclude_bad" in text
    assert f"error: case_1: {code}: " in capsys.readouterr().out


def test_options_of_the_release_before(place, capsys):
    empty_mask(place / "dataset")
    assert not tfsono(["cache", "hip", str(place / "dataset"), str(place / "new.h5"), "--leave_out_bad"])
    assert capsys.readouterr().err == "note: --leave_out_bad is now --exclude_bad\n" and (place / "new.h5").is_file()
    words = ("predict", place / "run", place / "dataset" / "images", "--out", place / "out", "--again")
    for also in (("--also", place / "none"), (f"--also={place / 'none'}",)):
        assert str(place / "none") in refusal(place, tfsono, *words, *also)
        notes = capsys.readouterr().err.splitlines()
        assert notes == ["note: --again is now --overwrite", "note: --also is now --ensemble_with"]
    with pytest.raises(SystemExit):
        tfsono(["predict", "--help"])
    shown = capsys.readouterr().out
    assert "--overwrite" in shown and "--ensemble_with" in shown and "--again" not in shown and "--also" not in shown


def test_a_dataset_without_masks(place):
    shutil.rmtree(place / "dataset" / "labels")
    text = refusal(place, tfsono, "cache", "hip", place / "dataset", place / "new.h5", "--exclude_bad")
    assert "4 of 4 cases" in text and "no_mask" in text and "none is left" in text


@pytest.mark.parametrize("words", [["audit"], ["cache", "hip"]])
@pytest.mark.parametrize("name, found", [("nowhere", "nothing there"), ("small.h5", "a file")])
def test_a_dataset_that_is_no_folder(place, words, name, found):
    more = [place / "new.h5"] if words[0] == "cache" else []
    text = refusal(place, tfsono, *words, place / name, *more)
    assert str(place / name) in text and found in text and "give the folder" in text


def test_a_folder_that_is_no_dataset(place):
    text = refusal(place, tfsono, "audit", place / "run")
    assert str(place / "run") in text and "images/" in text


def test_a_cache_of_images_for_a_system_of_volumes_and_vice_versa(place, tmp_path):
    text = refusal(place, tfsono, "cache", "head", place / "dataset", place / "new.h5")
    assert "head takes images; found volumes, such as case_0" in text
    write_small_head_dataset(tmp_path / "heads", 1)
    for system in ("hip", "femur"):
        text = refusal(place, tfsono, "cache", system, tmp_path / "heads", place / "new.h5")
        assert f"{system} takes volumes; found images, such as head_001" in text


def test_a_description_that_is_not_json(place):
    (place / "dataset" / "dataset.json").write_text("{half")
    text = refusal(place, tfsono, "cache", "hip", place / "dataset", place / "new.h5")
    assert "dataset.json" in text and "mend it" in text


def test_places_that_cannot_be_written(place):
    text = refusal(place, tfsono, "cache", "hip", place / "dataset", place / "no" / "new.h5")
    assert str(place / "no" / "new.h5") in text and "make it first" in text
    text = refusal(place, tfsono, "cache", "hip", place / "dataset", place / "run")
    assert str(place / "run") in text and "choose another name" in text
    for main, *words in ((tfsono, "audit", place / "dataset", "--out", place / "small.h5"),
                         (evaluate, "--data", place / "small.h5", "--runs", place / "run", "--out", place / "small.h5"),
                         (train, "--data", place / "small.h5", "--run_dir", place / "small.h5", *SHORT)):
        assert f"{place / 'small.h5'}: the folder" in refusal(place, main, *words)


def test_a_phantom_in_a_folder_of_other_data(place):
    text = refusal(place, tfsono, "phantom", "hip", place / "dataset", "--cases", "1", "--preset", "quick")
    assert "dataset.json" in text and "choose another folder" in text
    for system in ("hip", "femur", "head"):
        text = refusal(place, tfsono, "phantom", system, place / "new", "--cases", "0", "--preset", "quick")
        assert "--cases" in text and "at least 1" in text
    text = refusal(place, tfsono, "phantom", "hip", place / "new", "--phantom_rotation_degrees", "5")
    assert text.startswith("--phantom_rotation_degrees: no such field")


# --- caches


@pytest.mark.parametrize("attribute, value, words", [
    ("system", "femur", "found one of femur"), ("format_version", 99, "found format 99"),
    ("complete", False, "never finished")])
def test_a_cache_of_another_system_or_version(place, attribute, value, words):
    with h5py.File(place / "small.h5", "r+") as file:
        file.attrs[attribute] = value
    results = (evaluate, "--data", place / "small.h5", "--runs", place / "run", "--out", place / "results")
    for text in (fresh_run(place), refusal(place, *results)):
        assert str(place / "small.h5") in text and words in text and "tfsono cache" in text


@pytest.mark.parametrize("name, found", [("none.h5", "found no such file"),
                                         ("dataset/dataset.json", "another kind of file")])
def test_a_file_that_is_no_cache(place, name, found):
    text = refusal(place, train, "--data", place / name, "--run_dir", place / "new", *SHORT)
    assert str(place / name) in text and found in text and "tfsono cache" in text


def test_a_cache_of_another_spacing(place):
    text = fresh_run(place, "--spacing_mm", "1,1,1")
    assert str(place / "small.h5") in text and "spacing_mm" in text and "tfsono cache" in text


# --- settings and splits


@pytest.mark.parametrize("more, words", [
    (["--test_cases", "4"], ["--test_cases 4", "found 4 cases", "lower the counts"]),
    (["--test_cases", "2", "--validation_cases", "2"], ["--validation_cases 2", "lower the counts"]),
    (["--colour", "3"], ["--colour", "--help"]),
    (["--iter", "3"], ["--iter", "--help"]),
    (["--preset", "huge"], ["--preset", "'huge'", "'quick'"]),
    (["--variant", "best"], ["--variant", "'best'", "'tuned'"]),
    (["--batch", "many"], ["--batch", "expected int", "'many'"]),
    (["--patch", "15,16,16"], ["--patch", "multiples of 8", "(15, 16, 16)"]),
    (["--c3d_weights", "nowhere.pth"], ["nowhere.pth", "no such file"]),
    (["--c3d_weights", __file__], [__file__, "formats that are read"]),
    (["--split", "nowhere.json"], ["nowhere.json", "give a file"])])
def test_a_setting(place, more, words):
    text = fresh_run(place, *more)
    assert all(word in text for word in words), text


@pytest.mark.parametrize("split, words", [
    ({"train": ["case_0"], "validation": [], "test": ["case_9"]}, "'case_9', which is none"),
    ({"train": ["case_0"], "validation": [], "test": ["case_0"]}, "take it out"),
    ({"train": [], "validation": [], "test": ["case_0"]}, "train must name"),
    ({"train": ["case_0"], "test": ["case_1"]}, "train, validation, test"),
    ([], "train, validation, test")])
def test_a_split_file(place, split, words):
    write_json(place / "split.json", split)
    text = fresh_run(place, "--split", place / "split.json")
    assert str(place / "split.json") in text and words in text


def test_words_that_are_no_command(place):
    assert "segment" in refusal(place, tfsono, "segment") and "COMMAND" in refusal(place, tfsono)
    assert "'knee'" in refusal(place, tfsono, "cache", "knee", place / "dataset", place / "new.h5")
    assert "--run_dir" in refusal(place, train, "--data", place / "small.h5")
    assert "--weights" in refusal(place, evaluate, "--data", "a", "--runs", "b", "--out", "c", "--weights", "d")


# --- runs


def test_a_run_of_another_configuration(place):
    words = ("--data", place / "small.h5", "--run_dir", place / "run", *SHORT)
    text = refusal(place, train, *words, "--batch", "3")
    assert str(place / "run") in text and "batch: 2, 3" in text and "--run_dir" in text
    text = refusal(place, train, *words[:3], place / "dataset", *SHORT)
    assert str(place / "dataset") in text and "not a run folder" in text and "--run_dir" in text
    (place / "run" / "config.json").write_text("{half")
    text = refusal(place, train, *words)
    assert "config.json" in text and "must be JSON" in text and "train again" in text


@pytest.mark.parametrize("words", [["export", "RUN", "OUT"], ["predict", "RUN", "IMAGE", "--out", "OUT"]])
def test_export_and_predict_need_a_run_with_weights(place, words):
    at = {"OUT": place / "out", "IMAGE": place / "dataset" / "images" / "case_0.nii.gz"}

    def refused(run):
        return refusal(place, tfsono, *[{**at, "RUN": run}.get(word, word) for word in words])

    assert str(place / "none") in refused(place / "none") and "run folder" in refused(place / "none")
    assert str(place / "dataset") in refused(place / "dataset") and "run folder" in refused(place / "dataset")
    (place / "run" / "last.weights.h5").unlink()
    assert "last.weights.h5: missing" in refused(place / "run")
    record_files(place / "run")  # as before the first record
    assert str(place / "run") in refused(place / "run") and "train/hip.py" in refused(place / "run")


def test_evaluation_looks_at_every_run_before_it_measures_the_first(place):
    words = ("--data", place / "small.h5", "--out", place / "results", "--runs", place / "run")
    assert str(place / "none") in refusal(place, evaluate, *words, place / "none")
    shutil.copytree(place / "run", place / "young")
    (place / "young" / "last.weights.h5").unlink()
    assert "last.weights.h5: missing" in refusal(place, evaluate, *words, place / "young")
    record_files(place / "young")  # as before the first record
    text = refusal(place, evaluate, *words, place / "young")
    assert str(place / "young") in text and "train/hip.py" in text
    other = shutil.copytree(place / "run", place / "other")
    split = json.loads((other / "split.json").read_text(encoding="utf-8"))
    write_json(other / "split.json", {**split, "train": split["test"], "test": split["train"]})
    assert "split.json: is not the file" in refusal(place, evaluate, *words, other)
    record_files(other)
    text = refusal(place, evaluate, *words, other)
    assert str(other) in text and "other test cases" in text and "--split" in text
    write_json(other / "split.json", {**split, "test": []})
    record_files(other)
    assert "--test_cases" in refusal(place, evaluate, *words[:4], "--runs", other)


def test_evaluation_on_the_cache_of_something_else(place):
    dataset = write_small_dataset(place / "fewer", SIZES[:1])
    tfsono(["cache", "hip", str(dataset), str(place / "fewer.h5")])
    words = ("--runs", place / "run", "--out", place / "results")
    text = refusal(place, evaluate, "--data", place / "fewer.h5", *words)
    assert str(place / "fewer.h5") in text and "lacks the test case" in text and "give the cache of" in text
    with h5py.File(place / "small.h5", "r+") as file:
        file.attrs["labels"] = json.dumps({"neck": 1, "body": 2})
    text = refusal(place, evaluate, "--data", place / "small.h5", *words)
    assert "('neck', 'body')" in text and "give the cache of that run" in text


# --- predictions: each file is predicted or refused separately


def test_a_volume_that_does_not_exist(place):
    before = listing(place)
    text = refusal(place, tfsono, "predict", place / "run", place / "none.nii.gz", "--out", place / "out")
    assert str(place / "none.nii.gz") in text and "must exist" in text and listing(place) == before


@pytest.mark.parametrize("name, words", [
    ("letter.nii.gz", "NIfTI header"), ("letter.nrrd", "must be NIfTI"), ("empty", "no DICOM file")])
def test_a_file_that_is_no_volume(place, name, words, capsys):
    (place / "letter.nii.gz").write_text("This is a letter.\n" * 40)
    (place / "letter.nrrd").write_text("This is a letter.\n" * 40)
    (place / "empty").mkdir()
    before = listing(place)
    assert tfsono(["predict", str(place / "run"), str(place / name), "--out", str(place / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "error:" in lines[0] and str(place / name) in lines[0] and words in lines[0]
    assert listing(place) == before


def test_the_exit_status(tmp_path):
    """Of the real command: one line on stderr, status 2, no traceback."""
    done = subprocess.run([sys.executable, "-m", "tfsono", "cache", "hip", "/nowhere", "x.h5"], encoding="utf-8",
                          capture_output=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: /nowhere: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_files_are_refused_before_tensorflow_is_loaded(tmp_path):
    code = """if True:
        import sys
        from tfsono.__main__ import run
        from tfsono.errors import UserError
        cache = ["--data", sys.argv[1]]
        for words in (["predict", "nowhere", "image.png", "--out", "out"], ["export", "nowhere", "out"],
                      ["predict", "pretrained/head", "nowhere.png", "--out", "out"],
                      ["train", "hip", "--data", "nowhere.h5", "--run_dir", "out"],
                      ["train", "femur", *cache, "--run_dir", "out", "--roi_run", "nowhere"],
                      ["train", "pose", *cache, "--run_dir", "out", "--split", "nowhere.json"],
                      ["evaluate", "face", *cache, "--runs", "nowhere", "--out", "out"]):
            try:
                run(words)
            except UserError as error:
                print("nowhere" in str(error), "tensorflow" in sys.modules, "keras" in sys.modules)
    """
    (tmp_path / "small.h5").write_bytes(b"")
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    done = subprocess.run([sys.executable, "-c", code, "small.h5"], cwd=tmp_path, check=True, capture_output=True,
                          encoding="utf-8", env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.stdout.splitlines() == ["True False False"] * 7
    assert {path.name for path in tmp_path.iterdir()} == {"small.h5", "pretrained"}
