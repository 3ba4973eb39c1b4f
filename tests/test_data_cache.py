"""The cache: right contents, whole or absent, resumed after a kill, and one line for every misuse."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
from small_datasets import (
    ORIGIN_MM,
    RAS,
    SPACING_MM,
    box_mask,
    noise,
    write_cases,
    write_image,
    write_json,
)

from tfsono.__main__ import run as tfsono
from tfsono.audit import cache_writer
from tfsono.audit.dataset import audit_dataset
from tfsono.data.cache import Cache, CacheSettings, verify_cache
from tfsono.audit.cache_writer import write_cache
from tfsono.data.layout import open_dataset
from tfsono.errors import UserError
from tfsono.locks import LOCK, locked_file

HIP = CacheSettings("hip")


def quiet(line: str) -> None:
    """Instead of print."""


def write(root: Path, path: Path, settings: CacheSettings = HIP, exclude_bad: bool = False) -> list[str]:
    """Writes the cache of the folder `root`; the messages."""
    lines: list[str] = []
    write_cache(open_dataset(root), path, settings, None, exclude_bad, lines.append)
    return lines


def contents(path: Path) -> dict:
    """Every array and attribute of a file by name: an independent look, with h5py alone."""
    found: dict = {}
    with h5py.File(path) as file:
        found.update({f"@{key}": np.array(value).tolist() for key, value in file.attrs.items()})

        def add(name, item):
            found.update({f"{name}@{key}": np.array(value).tolist() for key, value in item.attrs.items()})
            if isinstance(item, h5py.Dataset):
                found[name] = (item.dtype.str, item.shape, item[...].tobytes())

        file.visititems(add)
    return found


@pytest.fixture
def root(tmp_path):
    write_cases(tmp_path / "data", 3)
    return tmp_path / "data"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "small.h5"


# ------------------------------------------------------------------------------------------------ contents


def test_what_is_read_back(root, path):
    write(root, path)
    with Cache(path, "hip") as cache:
        assert cache.names == ["case_00", "case_01", "case_02"]
        assert cache.labels == {"femur": 1} and cache.settings == HIP and cache.split is None
        assert cache.subjects["case_01"] == "case_01" and cache.shape("case_02") == (15, 10, 7)
        case = cache.read("case_00")
        assert cache.spacing_mm("case_00") == case.spacing_mm == pytest.approx(SPACING_MM)
        assert cache.points_vox("case_00") is None
    assert case.image.dtype == np.float32 and case.label.dtype == np.uint8
    np.testing.assert_array_equal(case.image, noise(0))
    np.testing.assert_array_equal(case.label, box_mask())
    assert case.origin_mm == pytest.approx(ORIGIN_MM) and case.native is None and case.points_vox is None
    assert verify_cache(path) == [] and not path.with_name("small.h5.partial").exists()


def test_arrays_are_contiguous_and_plain(root, path):
    write(root, path)
    with h5py.File(path) as file:
        image = file["cases/case_00/image"]
        assert image.chunks is None and image.compression is None


def test_labels_are_counted_in_their_order(root, path):
    """Values 3 and 7 of the files are 1 and 2 of the cache."""
    write_json(root / "dataset.json", {"labels": {"tibia": 7, "femur": 3}})
    for number in range(3):
        size = (13 + number % 3, 10 + number % 2, 7)
        mask = box_mask(size, 3)
        mask[8:10, 6:8, 2:4] = 7
        write_image(root / "labels" / f"case_{number:02d}.nii.gz", mask)
    write(root, path)
    cache = Cache(path, "hip")
    assert list(cache.labels.items()) == [("femur", 3), ("tibia", 7)]
    label = cache.read("case_00").label
    assert label[3, 2, 2] == 1 and label[8, 6, 2] == 2 and np.bincount(label.ravel()).tolist()[1:] == [24, 8]
    voxels = cache.foreground("case_00")
    assert {value: len(found) for value, found in voxels.items()} == {1: 24, 2: 8}
    assert all((label[tuple(found.T)] == value).all() for value, found in voxels.items())


def test_an_absent_label_has_no_voxels(root, path):
    write_json(root / "dataset.json", {"labels": {"femur": 1, "tibia": 2}})
    write(root, path)
    assert Cache(path, "hip").foreground("case_00")[2].shape == (0, 3)


def test_many_voxels_are_drawn_without_repetition(root, path):
    size = (41, 30, 19)
    mask = np.zeros(size, np.uint8)
    mask[2:-2, 2:-2, 2:-2] = 1
    write_image(root / "images" / "case_00.nii.gz", noise(5, size))
    write_image(root / "labels" / "case_00.nii.gz", mask)
    write(root, path)
    voxels = Cache(path, "hip").foreground("case_00")[1]
    assert voxels.shape == (10_000, 3) and len(np.unique(voxels, axis=0)) == 10_000
    assert mask[tuple(voxels.T)].all()
    assert voxels.mean(axis=0) == pytest.approx(np.argwhere(mask).mean(axis=0), abs=0.5)


def test_everything_is_reoriented(root, path):
    """RAS files: LPS reverses the first two axes."""
    write_image(root / "images" / "case_00.nii.gz", noise(0), direction=RAS)
    write_image(root / "labels" / "case_00.nii.gz", box_mask(), direction=RAS)
    write(root, path)
    case = Cache(path, "hip").read("case_00")
    np.testing.assert_array_equal(case.image, noise(0)[::-1, ::-1])
    np.testing.assert_array_equal(case.label, box_mask()[::-1, ::-1])
    assert case.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert case.origin_mm == pytest.approx((-3 - 12 * 0.5, 4.5 - 9 * 0.8, 10))


def test_resampled_cases_keep_the_extent_and_their_native_grid(root, path):
    write(root, path, CacheSettings("hip", "LPS", (1.0, 0.8, 0.75)))
    cache = Cache(path, "hip")
    case = cache.read("case_00")
    assert case.image.shape == case.label.shape == (6, 10, 14) == cache.shape("case_00")
    assert case.spacing_mm == pytest.approx((13 * 0.5 / 6, 0.8, 0.75))
    low = np.array(case.origin_mm) - 0.5 * np.array(case.spacing_mm)
    np.testing.assert_allclose(low, np.array(ORIGIN_MM) - 0.5 * np.array(SPACING_MM))
    np.testing.assert_array_equal(case.native.array, noise(0))
    np.testing.assert_array_equal(case.native.label, box_mask())
    assert case.native.spacing_mm == pytest.approx(SPACING_MM)
    assert case.native.origin_mm == pytest.approx(ORIGIN_MM)
    assert set(np.unique(case.label)) == {0, 1} and verify_cache(path) == []


def test_a_spacing_that_is_there_already_is_not_resampled(root, path):
    write(root, path, CacheSettings("hip", "LPS", SPACING_MM))
    assert Cache(path, "hip").read("case_00").native is None


@pytest.mark.parametrize("spacing", [(), (1.0, 0.8, 0.75)])
def test_landmarks_stay_at_their_place(root, path, spacing):
    """The tip is at voxel (4, 3, 2) of the RAS file, so at (8, 6, 2) in LPS."""
    tip_mm = np.array(ORIGIN_MM) + np.array([-4, -3, 2]) * SPACING_MM
    rows = "case,name,x_mm,y_mm,z_mm\ncase_00,tip,{:.6f},{:.6f},{:.6f}\n".format(*tip_mm)
    (root / "landmarks.csv").write_text(rows)
    write_json(root / "dataset.json", {"labels": {"femur": 1}, "landmarks": ["end", "tip"]})
    write_image(root / "images" / "case_00.nii.gz", noise(0), direction=RAS)
    write_image(root / "labels" / "case_00.nii.gz", box_mask(), direction=RAS)
    write(root, path, CacheSettings("hip", "LPS", spacing))
    cache = Cache(path, "hip")
    case = cache.read("case_00")
    assert cache.landmarks == ("end", "tip") and np.isnan(case.points_vox[0]).all()
    np.testing.assert_array_equal(cache.points_vox(case.name), case.points_vox)
    found_mm = np.array(case.origin_mm) + case.points_vox[1] * np.array(case.spacing_mm)
    np.testing.assert_allclose(found_mm, tip_mm, atol=1e-4)
    if not spacing:
        np.testing.assert_allclose(case.points_vox[1], [8, 6, 2], atol=1e-4)


def test_landmarks_alone(root, path):
    (root / "landmarks.csv").write_text("case,name,x_mm,y_mm,z_mm\ncase_00,tip,0,5,11\n")
    write_json(root / "dataset.json", {"labels": {}, "landmarks": ["tip"]})
    for mask in (root / "labels").iterdir():
        mask.unlink()
    write(root, path)
    cache = Cache(path, "hip")
    assert cache.read("case_00").label is None and cache.foreground("case_00") == {}
    assert cache.read_patch("case_00", (0, 0, 0), (2, 2, 2))[1] is None


def test_the_split_is_kept_without_the_excluded_cases(root, path):
    split = {"train": ["case_00", "case_01"], "validation": [], "test": ["case_02"]}
    write_json(root / "dataset.json", {"labels": {"femur": 1}, "split": split})
    (root / "labels" / "case_01.nii.gz").unlink()
    write(root, path, exclude_bad=True)
    assert Cache(path, "hip").split == {"train": ["case_00"], "validation": [], "test": ["case_02"]}


def test_a_split_of_many_names_fits_into_an_attribute(root, path, monkeypatch):
    """HDF5 stores an attribute of a fixed size only up to 64 KB."""
    header = cache_writer._header
    long = '{"train": ["' + "x" * 200_000 + '"]}'
    monkeypatch.setattr(cache_writer, "_header", lambda *given: {**header(*given), "split": long})
    write(root, path)
    assert len(Cache(path, "hip").split["train"][0]) == 200_000


# ------------------------------------------------------------------------------------------------ patches


@pytest.mark.parametrize(
    "start,size",
    [
        ((2, 3, 1), (4, 5, 3)),
        ((-3, -1, -2), (6, 6, 6)),
        ((10, 7, 5), (6, 6, 6)),
        ((-2, -2, -2), (40, 40, 40)),
    ],
)
def test_patch_is_the_window_of_the_padded_volume(root, path, start, size):
    """Against cutting it out of a volume padded by 50 voxels with a mark."""
    write(root, path)
    image, label, offset = Cache(path, "hip").read_patch("case_00", start, size)
    padded = np.pad(noise(0).astype(np.float32), 50, constant_values=-9999)
    expected = padded[tuple(slice(50 + s, 50 + s + d) for s, d in zip(start, size, strict=True))]
    window = np.full(size, -9999, np.float32)
    window[tuple(slice(o, o + n) for o, n in zip(offset, image.shape, strict=True))] = image
    np.testing.assert_array_equal(window, expected)
    assert label.shape == image.shape


def test_window_outside_the_volume(root, path):
    write(root, path)
    for start in ((-20, 0, 0), (0, 0, 30)):
        image, label, offset = Cache(path, "hip").read_patch("case_00", start, (4, 4, 4))
        assert image.size == label.size == 0 and all(0 <= value <= 4 for value in offset)


def test_unknown_case_is_a_programming_error(root, path):
    write(root, path)
    with pytest.raises(ValueError, match="case_99"):
        Cache(path, "hip").read("case_99")


def test_forked_and_pickled_caches_open_the_file_themselves(root, path):
    write(root, path)
    cache = Cache(path, "hip")
    expected = cache.read("case_01").image
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cache)).read("case_01").image, expected)
    child = os.fork()
    if child == 0:
        same = np.array_equal(cache.read("case_01").image, expected)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(cache.read("case_01").image, expected)
    cache.close()
    np.testing.assert_array_equal(cache.read("case_01").image, expected)


# ------------------------------------------------------------------------------------------------ refused


def refused(path, system="hip") -> str:
    with pytest.raises(UserError) as error:
        Cache(path, system)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_missing(path):
    assert "tfsono cache" in refused(path)


def test_unfinished(root, path):
    write(root, path)
    path.rename(path.with_name("small.h5.partial"))
    assert "small.h5.partial" in refused(path)


def test_renamed_by_hand_before_it_was_whole(root, path):
    write(root, path)
    with h5py.File(path, "r+") as file:
        file.attrs["complete"] = False
    assert "never finished" in refused(path)


def test_no_hdf5(path):
    path.write_text("hello")
    assert "another kind of file" in refused(path)


def test_another_hdf5(path):
    h5py.File(path, "w").close()
    assert "another HDF5 file" in refused(path)


def test_another_system(root, path):
    write(root, path)
    assert "found one of hip" in refused(path, "femur") and "tfsono cache femur" in refused(path, "femur")


def test_another_version(root, path):
    write(root, path)
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 99
    assert "found format 99" in refused(path)


def test_truncated_file(root, path):
    write(root, path)
    path.write_bytes(path.read_bytes()[:-500])
    assert "damaged" in refused(path)
    assert len(verify_cache(path)) == 1


@pytest.mark.parametrize("array", ["image", "label", "foreground/1"])
def test_verify_finds_a_changed_voxel(root, path, array):
    write(root, path)
    with h5py.File(path, "r+") as file:
        file["cases/case_01"][array][1] += 1
    assert [line.split(":")[0] for line in verify_cache(path)] == ["case_01"]


def test_verify_finds_a_changed_spacing(root, path):
    write(root, path)
    with h5py.File(path, "r+") as file:
        file["cases/case_02"].attrs["spacing_mm"] = np.array([1.0, 1.0, 1.0])
    assert [line.split(":")[0] for line in verify_cache(path)] == ["case_02"]


def test_bad_cases_are_refused_or_excluded(root, path):
    mask = box_mask()
    mask[9, 8, 3] = 4
    write_image(root / "labels" / "case_00.nii.gz", mask)
    (root / "labels" / "case_02.nii.gz").unlink()
    with pytest.raises(
        UserError, match=r"2 of 3 cases.*case_00 \(unknown_label\), case_02 \(no_mask\)"
    ) as error:
        write(root, path)
    assert "\n" not in str(error.value) and "--exclude_bad" in str(error.value)
    assert [found.name for found in path.parent.iterdir()] == ["data"]
    lines = write(root, path, exclude_bad=True)
    assert any("2 of 3" in line and "excluded" in line for line in lines)
    assert Cache(path, "hip").names == ["case_01"]


def test_no_case_left(root, path):
    for mask in (root / "labels").iterdir():
        mask.unlink()
    with pytest.raises(UserError, match="none is left"):
        write(root, path, exclude_bad=True)
    assert not path.exists()


def test_a_stale_audit_is_not_trusted(root, path):
    dataset = open_dataset(root)
    audit = audit_dataset(dataset, None, quiet)
    write_image(root / "labels" / "case_01.nii.gz", np.zeros((14, 11, 7), np.uint8))
    with pytest.raises(UserError, match=r"case_01 \(empty_mask\)"):
        write_cache(dataset, path, HIP, audit, False, quiet)


def test_a_fresh_audit_is_trusted(root, path, monkeypatch):
    dataset = open_dataset(root)
    audit = audit_dataset(dataset, None, quiet)
    monkeypatch.setattr("tfsono.audit.dataset.audit_case", lambda *given: pytest.fail("audited again"))
    write_cache(dataset, path, HIP, audit, False, quiet)
    assert Cache(path, "hip").names == ["case_00", "case_01", "case_02"]


def test_too_little_room(root, path, monkeypatch):
    usage = cache_writer.shutil.disk_usage(root)
    monkeypatch.setattr(cache_writer.shutil, "disk_usage", lambda folder: usage._replace(free=100))
    with pytest.raises(UserError, match="GB free"):
        write(root, path)
    assert [found.name for found in path.parent.iterdir()] == ["data"]


def test_a_disk_that_fills_up(root, path, monkeypatch):
    def full(groups, case, *rest):
        if case.name == "case_01":
            raise OSError(28, "No space left on device")
        return write_case(groups, case, *rest)

    write_case = cache_writer._write_case
    with monkeypatch.context() as patch:
        patch.setattr(cache_writer, "_write_case", full)
        with pytest.raises(UserError, match="disk full"):
            write(root, path)
    assert not path.exists()
    assert any("1 of 3 cases are there" in line for line in write(root, path))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 0.0, 1.0), (1.0, float("nan"), 1.0)])
def test_impossible_spacing(root, path, spacing):
    with pytest.raises(UserError, match="spacing_mm"):
        write(root, path, CacheSettings("hip", "LPS", spacing))


def test_nothing_else_is_overwritten(root, path):
    path.write_text("precious")
    with pytest.raises(UserError, match="another file"):
        write(root, path)
    assert path.read_text(encoding="utf-8") == "precious"
    path.unlink()
    write(root, path, CacheSettings("femur"))
    with pytest.raises(UserError, match="a cache of femur"):
        write(root, path)
    with pytest.raises(UserError, match="must exist"):
        write(root, path.parent / "nowhere" / "small.h5")


# ------------------------------------------------------------------------------------------------ resuming


KILLED = """
    import sys, time
    from tfsono.audit import cache_writer as cache
    from tfsono.data.layout import open_dataset

    prepare = cache.prepare_case

    def slow(case, dataset, settings):
        print(case.name, flush=True)
        time.sleep(0.05)
        return prepare(case, dataset, settings)

    cache.prepare_case = slow
    settings = cache.CacheSettings("hip")
    cache.write_cache(open_dataset(sys.argv[1]), sys.argv[2], settings, progress=lambda line: None)
"""


def kill_in_the_middle(root: Path, path: Path, at_case: str) -> None:
    """Starts a process that writes the cache, and kills it when it begins `at_case`."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(root), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=environment) as process:
        for line in process.stdout:
            if line.strip() == at_case:
                process.kill()
        assert process.wait() == -signal.SIGKILL


def test_a_killed_cache_is_resumed(tmp_path, path):
    root = tmp_path / "data"
    write_cases(root, 16)
    kill_in_the_middle(root, path, "case_06")
    assert not path.exists() and path.with_name("small.h5.partial").exists()
    kill_in_the_middle(root, path, "case_11")
    lines = write(root, path)
    assert any("11 of 16 cases are there" in line for line in lines), lines
    assert verify_cache(path) == []
    write(root, tmp_path / "undisturbed.h5")
    assert contents(path) == contents(tmp_path / "undisturbed.h5")
    assert not path.with_name("small.h5.partial").exists()


def interrupted(root, path, monkeypatch, at_case: str) -> None:
    """Leaves a partial file as Ctrl-C does while `at_case` is read."""
    prepare = cache_writer.prepare_case

    def stop(case, dataset, settings):
        if case.name == at_case:
            raise KeyboardInterrupt
        return prepare(case, dataset, settings)

    with monkeypatch.context() as patch:
        patch.setattr(cache_writer, "prepare_case", stop)
        with pytest.raises(KeyboardInterrupt):
            write(root, path)
    assert not path.exists()


def test_interrupted_and_changed_in_between(root, path, monkeypatch):
    """case_00 has another mask now, so it is written again; case_01 is kept."""
    interrupted(root, path, monkeypatch, "case_02")
    mask = box_mask()
    mask[3, 2, 2] = 0
    write_image(root / "labels" / "case_00.nii.gz", mask)
    lines = write(root, path)
    assert any("1 of 3 cases are there" in line for line in lines)
    np.testing.assert_array_equal(Cache(path, "hip").read("case_00").label, mask)
    assert verify_cache(path) == []


def test_a_case_damaged_in_the_partial_file_is_redone(root, path, monkeypatch):
    interrupted(root, path, monkeypatch, "case_02")
    with h5py.File(path.with_name("small.h5.partial"), "r+") as file:
        file["cases/case_00/image"][1] += 1
        file["cases/case_01"].attrs["complete"] = False
    assert any("0 of 3 cases are there" in line for line in write(root, path))
    np.testing.assert_array_equal(Cache(path, "hip").read("case_00").image, noise(0))


def test_other_settings_start_again(root, path, monkeypatch):
    interrupted(root, path, monkeypatch, "case_02")
    settings = CacheSettings("hip", "RAS")
    assert any("other settings" in line for line in write(root, path, settings))
    assert Cache(path, "hip").settings == settings


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_a_partial_file_that_cannot_be_opened_is_removed(root, path, monkeypatch, damage):
    interrupted(root, path, monkeypatch, "case_02")
    partial = path.with_name("small.h5.partial")
    whole = partial.read_bytes()
    partial.write_bytes({"truncated": whole[: len(whole) // 2], "garbage": b"x" * 99, "empty": b""}[damage])
    assert any("damaged" in line for line in write(root, path))
    assert verify_cache(path) == []


def test_two_writers(root, path):
    partial = path.with_name("small.h5.partial")
    with h5py.File(partial, "w"):
        command = "import sys, h5py; h5py.File(sys.argv[1], 'r+')"
        other = subprocess.run([sys.executable, "-c", command, str(partial)], capture_output=True, encoding="utf-8")
        if "BlockingIOError" not in other.stderr:
            pytest.skip("this file system does not lock files")
        script = textwrap.dedent(KILLED)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        second = [sys.executable, "-c", script, str(root), str(path)]
        errors = subprocess.run(second, capture_output=True, encoding="utf-8", env=environment).stderr
    assert "another process" in errors and partial.exists()


def test_a_second_writer_is_told_of_the_first_even_without_locks_of_hdf5(root, path, monkeypatch):
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    with locked_file(path), pytest.raises(UserError, match=f"is being written by process {os.getpid()}"):
        write(root, path)
    assert not path.exists()
    write(root, path)
    assert verify_cache(path) == []


def test_a_leftover_lock_of_a_dead_process_is_removed(root, path):
    """Of a killed one; whether the number is in use again does not matter."""
    lock = path.with_name(f".{path.name}{LOCK}")
    lock.write_text('{"pid": 1, "host": "here", "since": "today", "command": "tfsono cache"}')
    write(root, path)
    assert verify_cache(path) == [] and not lock.exists()


@pytest.mark.parametrize("absolute", [False, True])
def test_the_place_of_the_dataset_is_stored_only_if_it_is_wanted(root, path, absolute):
    words = ["cache", "hip", str(root), str(path), "--preset", "quick", *["--absolute_paths"] * absolute]
    tfsono(words)
    with h5py.File(path) as file:
        found = [group.attrs["source"].decode() for group in file["cases"].values()]
    assert found == [f"{root}/" * absolute + f"images/case_{number:02d}.nii.gz" for number in range(3)]
    assert (str(root.parent).encode() in path.read_bytes()) is absolute


def test_written_again_only_when_something_changed(root, path, monkeypatch):
    write(root, path)
    with monkeypatch.context() as patch:
        patch.setattr(cache_writer, "prepare_case", lambda *given: pytest.fail("written again"))
        assert any("nothing to do" in line for line in write(root, path))
    write_image(root / "images" / "case_00.nii.gz", noise(77))
    write(root, path)
    np.testing.assert_array_equal(Cache(path, "hip").read("case_00").image, noise(77))


def test_real_folder(shared_data, path):
    """Against SimpleITK alone: RAS files of 1 mm are reoriented to LPS."""
    root = path.parent / "few"
    for name in ("hippocampus_001", "hippocampus_003"):
        for folder in ("images", "labels"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            source = shared_data / "hippocampus_mr" / folder / f"{name}.nii.gz"
            (root / folder / source.name).symlink_to(source)
    write(root, path)
    case = Cache(path, "hip").read("hippocampus_003")
    for found, folder in ((case.image, "images"), (case.label, "labels")):
        read = sitk.ReadImage(str(root / folder / "hippocampus_003.nii.gz"))
        expected = sitk.GetArrayFromImage(sitk.DICOMOrient(read, "LPS")).transpose(2, 1, 0)
        np.testing.assert_array_equal(found, expected)
