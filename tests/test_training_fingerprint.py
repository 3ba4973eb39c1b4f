"""What a run records of its training cases: in the files' own geometry, of these cases alone, and when it resumes."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest

from small_datasets import write_image, write_json
from small_images_2d import circumference_mm, write_heads
from tfsono.audit.cache_writer import write_cache
from tfsono.config import choose
from tfsono.configs.hip import HIP
from tfsono.data.cache import Cache, thinned
from tfsono.data.layout import open_dataset
from tfsono.data.prepare import CacheSettings
from tfsono.errors import UserError
from tfsono.training.fingerprint import fingerprint_of_images, fingerprint_of_volumes, spread
from tfsono.training.record import record_files
from tfsono.training.run import _complete, open_run, read_run
from tfsono.training.start import Start

PIR = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
# Case -> its size and spacing in LPS, and the brightness of its voxels.
CASES = {"a": ((20, 24, 16), (1.0, 1.0, 2.0), 100), "b": ((30, 20, 12), (0.8, 1.2, 2.5), 200),
         "c": ((40, 44, 36), (0.2, 0.2, 0.2), 9000)}
TRAIN = ["a", "b"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three cases of two labels; `b` is stored in other axes."""
    root = tmp_path_factory.mktemp("fingerprint") / "dataset"
    for number, (name, (size, spacing, brightness)) in enumerate(CASES.items()):
        image = (brightness * np.random.default_rng(number).uniform(0, 1, size)).astype(np.float32)
        mask = np.zeros(size, np.uint8)
        mask[2:12, 2:12, 2:12] = 3
        if name != "b":
            mask[14:16, 14:16, 4:6] = 5
        geometry = {"spacing": spacing, "origin": (0.0, 0.0, 0.0)}
        if name == "b":
            image, mask = (np.ascontiguousarray(array.transpose(1, 2, 0)) for array in (image, mask))
            geometry = {"spacing": np.array(spacing)[[1, 2, 0]], "origin": (0.0, 0.0, 0.0), "direction": PIR}
        write_image(root / "images" / f"{name}.nii.gz", image, **geometry)
        write_image(root / "labels" / f"{name}.nii.gz", mask, **geometry)
    write_json(root / "dataset.json", {"name": "small", "labels": {"bone": 3, "joint": 5}})
    return root


def cache_of(dataset, path, spacing=()):
    write_cache(open_dataset(dataset), path, CacheSettings("hip", "LPS", spacing), progress=lambda text: None)
    return Cache(path, "hip")


@pytest.mark.parametrize("spacing", [(), (2.0, 2.0, 2.0)])
def test_the_record_of_volumes_is_of_the_training_files(dataset, tmp_path, spacing):
    with cache_of(dataset, tmp_path / "small.h5", spacing) as cache:
        record = fingerprint_of_volumes(cache, TRAIN)
    assert record["cases"] == 2
    assert record["spacing_mm"] == {"min": [0.8, 1.0, 2.0], "median": [0.9, 1.1, 2.25], "max": [1.0, 1.2, 2.5]}
    assert record["size"] == {"min": [20, 20, 12], "median": [25, 22, 14], "max": [30, 24, 16]}
    assert record["extent_mm"] == {"min": [20, 24, 30], "median": [22, 24, 31], "max": [24, 24, 32]}
    kept = record["cache_spacing_mm"]["max"]
    np.testing.assert_allclose(kept, spacing or [1.0, 1.2, 2.5], rtol=0.05)
    assert record["intensity_1_percent"]["min"] == pytest.approx(1, abs=0.5)
    assert record["intensity_99_percent"]["max"] == pytest.approx(198, abs=2)
    assert record["intensity_width"]["min"] == pytest.approx(98, abs=1.5)
    volumes = {"bone": spread([1000 * 2.0 / 1000, 1000 * 2.4 / 1000]), "joint": spread([8 * 2.0 / 1000])}
    assert record["labels_ml"] == volumes  # `b` has no joint, and `c` is not of the training
    assert "landmarks_mm" not in record
    assert json.loads(json.dumps(record)) == record


def test_landmarks(tmp_path):
    root = tmp_path / "dataset"
    for number, (name, (size, spacing, _)) in enumerate(CASES.items()):
        image = np.random.default_rng(number).normal(100, 10, size).astype(np.float32)
        write_image(root / "images" / f"{name}.nii.gz", image, spacing=spacing, origin=(0.0, 0.0, 0.0))
    rows = [("a", "head", 0, 0, 0), ("a", "foot", 0, 0, 10), ("a", "hand", 3, 0, 0), ("b", "head", 0, 0, 0),
            ("b", "foot", 0, 0, 4), ("b", "hand", 3, 0, 0), ("c", "head", 0, 0, 0), ("c", "foot", 1, 0, 0)]
    (root / "landmarks.csv").write_text("\n".join(
        ["case,name,x_mm,y_mm,z_mm", *(",".join(map(str, row)) for row in rows)]) + "\n")
    with cache_of(root, tmp_path / "small.h5", (2.0, 2.0, 2.0)) as cache:
        record = fingerprint_of_volumes(cache, TRAIN)
        alone = fingerprint_of_volumes(cache, ["c"])
    np.testing.assert_allclose(record["landmarks_mm"]["max"], np.hypot(10, 3), rtol=1e-4)
    np.testing.assert_allclose(record["landmarks_mm"]["min"], 5, rtol=1e-4)
    np.testing.assert_allclose(alone["landmarks_mm"]["max"], 1, rtol=1e-3)
    assert "labels_ml" not in record


def test_the_record_of_images(tmp_path):
    root = write_heads(tmp_path / "heads", ["a", "b", "c"])
    table = (root / "pixel_sizes.csv").read_text().splitlines()
    (root / "pixel_sizes.csv").write_text("\n".join([table[0], table[1], table[2].replace(",0.2,", ",0.3,")]) + "\n")
    write_cache(open_dataset(root), tmp_path / "heads.h5", CacheSettings("head"), progress=lambda text: None)
    with Cache(tmp_path / "heads.h5", "head") as cache:
        record = fingerprint_of_images(cache, ["a", "b", "c"], {**cache.circumferences_mm, "c": 30.0})
        unknown = fingerprint_of_images(cache, ["c"], {"c": None})
    assert record["size"]["min"] == [131, 90] and record["pixel_size_mm"] == spread([0.2, 0.3])
    np.testing.assert_allclose(record["extent_mm"]["max"], [131 * 0.3, 90 * 0.3])
    assert record["circumference_mm"]["min"] == 30.0
    assert record["circumference_mm"]["max"] == pytest.approx(circumference_mm(), abs=0.01)
    share = circumference_mm() / 0.2 / np.pi / 131  # of `a`; `c` has 30 mm, and the pixels of all are 0.2 or 0.3 mm
    assert record["diameter_share"]["max"] == pytest.approx(share, rel=1e-4)
    assert unknown == {"cases": 1, "size": spread([(131.0, 90.0)])}


def test_a_sample_is_spread_over_the_whole_volume():
    array = np.arange(100 * 7 * 33).reshape(100, 7, 33)
    sample = thinned(array)
    np.testing.assert_array_equal(sample, array[::4, :, ::2])
    assert max(sample.shape) <= 32


# --- the run's folder


def run_of(cache, folder, excluded=()):
    """The run that a training on all cases but the excluded ones opens, its lock released."""
    settings = choose(HIP, "quick", "paper").replaced("test", label_names=("bone", "joint"))
    with contextlib.ExitStack() as until_the_end:
        start = Start(cache, settings, folder, None, kinds=("labels",), until_the_end=until_the_end)
        return start.open_run(SPLIT, "random weights", excluded)


SPLIT = {"train": ["a", "b", "c"], "validation": [], "test": []}


def test_a_run_keeps_the_record_of_the_cases_it_trains_on(dataset, tmp_path):
    with cache_of(dataset, tmp_path / "small.h5") as cache:
        run = run_of(cache, tmp_path / "run", excluded=["c"])
        assert run.data["trained_on"] == fingerprint_of_volumes(cache, TRAIN)
        assert read_run(tmp_path / "run", HIP).data == run.data
        assert run_of(cache, tmp_path / "run", excluded=["c"]).data == run.data


def test_a_run_of_the_release_before_resumes_and_gets_the_record(dataset, tmp_path):
    with cache_of(dataset, tmp_path / "small.h5") as cache:
        run = run_of(cache, tmp_path / "run")
        old = {name: value for name, value in run.data.items() if name != "trained_on"}
        (tmp_path / "run" / "data.json").write_text(json.dumps(old))
        for name in ("run.json", "versions.json"):  # it wrote no run.json, and did not say that there is one
            (tmp_path / "run" / name).unlink()
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        del config["values"]["outside_factor"], config["origins"]["outside_factor"]
        (tmp_path / "run" / "config.json").write_text(json.dumps(config))
        assert "trained_on" not in read_run(tmp_path / "run", HIP).data
        run_of(cache, tmp_path / "run")
        assert read_run(tmp_path / "run", HIP).data == run.data
        assert read_run(tmp_path / "run", HIP).settings == run.settings
        (tmp_path / "run" / "data.json").write_text(json.dumps(old | {"dataset": "other"}))
        record_files(tmp_path / "run")
        with pytest.raises(UserError, match="another data"):
            run_of(cache, tmp_path / "run")
        assert json.loads((tmp_path / "run" / "data.json").read_text()) == old | {"dataset": "other"}


def test_a_record_of_images_that_lacks_what_was_added_is_completed():
    record = {"cases": 3, "circumference_mm": spread([30.0]), "diameter_share": spread([0.4])}
    held = {name: value for name, value in record.items() if name != "diameter_share"}
    data = {"trained_on": dict(held)}
    assert _complete(data, record) and data["trained_on"] == record and not _complete(data, record)
    less = {"trained_on": {"cases": 3}}  # of another cache: refused, as what is there is not what is recorded
    assert not _complete(less, record) and less == {"trained_on": {"cases": 3}}


def test_a_cache_of_the_same_names_and_other_voxels_is_refused(dataset, tmp_path):
    with cache_of(dataset, tmp_path / "small.h5") as cache:
        run = run_of(cache, tmp_path / "run")
    other = {**run.data, "trained_on": {**run.data["trained_on"], "intensity_width": spread([1.0])}}
    with pytest.raises(UserError, match="another data"):
        open_run(tmp_path / "run", run.settings, SPLIT, other)
