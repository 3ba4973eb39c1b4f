"""Shapes, and phantoms on disk: the layout, resuming, and folders that hold something else."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from tfsono.data.layout import open_dataset
from tfsono.errors import UserError
from tfsono.phantoms.dataset import write_dataset, write_hip_dataset, write_shapes_dataset
from tfsono.phantoms.hip import hip_phantom
from tfsono.phantoms.shapes import SHAPES, shapes_phantom

SIZE, SPACING_MM = (21, 17, 13), (8.0, 7.0, 9.0)


def files(root):
    """Every file below root with its content."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def write(root, cases=3, seed=5, progress=lambda line: None):
    return write_hip_dataset(root, cases, seed, SIZE, SPACING_MM, progress)


def test_layout_and_geometry(tmp_path):
    lines = []
    root = write(tmp_path / "hips", progress=lines.append)
    entry = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    assert entry["labels"] == {"femur": 1} and entry["landmarks"] == [] and entry["units"] == "mm"
    assert entry["phantom"]["seed"] == 5 and "split" not in entry
    names = [f"hip_{number:03d}.nii.gz" for number in (1, 2, 3)]
    assert [path.name for path in sorted((root / "images").iterdir())] == names
    assert [path.name for path in sorted((root / "labels").iterdir())] == names
    image, label = (sitk.ReadImage(str(root / folder / names[1])) for folder in ("images", "labels"))
    assert image.GetSize() == SIZE and image.GetSpacing() == pytest.approx(SPACING_MM)
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert image.GetOrigin() == label.GetOrigin() and any(image.GetOrigin())
    assert image.GetPixelID() == sitk.sitkInt16 and label.GetPixelID() == sitk.sitkUInt8
    assert len(lines) == 3 and "left" in lines[0]


def test_volumes_come_back_as_they_were_drawn(tmp_path):
    root = write(tmp_path, cases=2)
    seeds = [int(np.random.SeedSequence([5, number]).generate_state(1)[0]) for number in range(2)]
    for name, seed in zip(("hip_001", "hip_002"), seeds, strict=True):
        phantom = hip_phantom(seed, SIZE, SPACING_MM)
        for folder, array in (("images", phantom.image), ("labels", phantom.label)):
            stored = sitk.GetArrayFromImage(sitk.ReadImage(str(root / folder / f"{name}.nii.gz"))).T
            np.testing.assert_array_equal(stored, array)


def test_the_package_reads_what_it_wrote(tmp_path):
    dataset = open_dataset(write(tmp_path / "hips", cases=2))
    assert [case.name for case in dataset.cases] == ["hip_001", "hip_002"]
    assert dataset.labels == {"femur": 1}


def test_an_interrupted_run_resumes_to_the_same_files(tmp_path):
    whole = files(write(tmp_path / "whole"))

    def stop(line):
        raise KeyboardInterrupt

    root = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        write(root, progress=stop)
    (root / "images" / ".partial_hip_002.nii.gz").write_bytes(b"half")
    first = root / "images" / "hip_001.nii.gz"
    before = first.stat().st_mtime_ns
    lines = []
    write(root, progress=lines.append)
    assert first.stat().st_mtime_ns == before and "1 of 3 cases exist" in lines[0]
    found = files(root)
    assert {name: found[name] for name in found if ".partial" not in name} == whole


def test_a_missing_or_broken_file_is_written_again(tmp_path):
    root = write(tmp_path)
    whole = files(root)
    (root / "labels" / "hip_002.nii.gz").unlink()
    (root / "images" / "hip_003.nii.gz").write_bytes(b"")
    write(root)
    assert files(root) == whole


def test_more_cases_may_follow_but_not_fewer(tmp_path):
    root = write(tmp_path, cases=2)
    two = files(root)
    write(root, cases=3)
    assert len(files(root)) == 7 and two.items() <= files(root).items()
    with pytest.raises(UserError, match="hip_003"):
        write(root, cases=2)


def test_a_folder_of_other_settings_is_refused(tmp_path):
    write(tmp_path, cases=1)
    with pytest.raises(UserError, match="seed 5 there, 6"):
        write(tmp_path, cases=1, seed=6)
    with pytest.raises(UserError, match="other settings"):
        write_shapes_dataset(tmp_path, 1, 5, SIZE, SPACING_MM, lambda line: None)
    (tmp_path / "dataset.json").write_text("{half")
    with pytest.raises(UserError, match="JSON"):
        write(tmp_path, cases=1)
    with pytest.raises(UserError, match="cases"):
        write(tmp_path / "none", cases=0)
    assert not (tmp_path / "none").exists()


def test_nobody_elses_folder_is_written_into(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "scan.nii.gz").write_bytes(b"mine")
    with pytest.raises(UserError, match="no dataset.json"):
        write(tmp_path, cases=1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="file/images: .*folder"):
        write(tmp_path / "file", cases=1)
    assert set(files(tmp_path)) == {"images/scan.nii.gz", "file"}


def test_write_dataset_keeps_fractions_and_the_split(tmp_path):
    image = np.linspace(0, 1, 5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
    label = (image > 0.7).astype(np.uint8)
    split = {"train": ["a"], "validation": [], "test": []}
    write_dataset(tmp_path, "mine", "MR", {"top": 1}, [("a", image, label, (1, 2, 3))], split)
    stored = sitk.ReadImage(str(tmp_path / "images" / "a.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(stored).T, image)
    assert stored.GetSpacing() == (1, 2, 3)
    assert json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))["split"] == split
    with pytest.raises(ValueError, match="shape"):
        write_dataset(tmp_path, "mine", "MR", {"top": 1}, [("b", image, label[1:], (1, 2, 3))], split)


def test_shapes_form_seed_and_classes():
    image, label = shapes_phantom(3, (45, 37, 31), (2.0, 2.5, 3.0))
    again, _ = shapes_phantom(3, (45, 37, 31), (2.0, 2.5, 3.0))
    other, _ = shapes_phantom(4, (45, 37, 31), (2.0, 2.5, 3.0))
    assert image.shape == label.shape == (45, 37, 31)
    assert image.dtype == np.float32 and label.dtype == np.uint8
    np.testing.assert_array_equal(again, image)
    assert not np.array_equal(other, image)
    np.testing.assert_array_equal(image, np.rint(image))
    seen = set()
    for seed in range(4):
        seen |= set(np.unique(shapes_phantom(seed, (31, 29, 27), (2, 2, 2), classes=5)[1]))
    assert seen == {0, 1, 2, 3, 4}
    assert set(np.unique(shapes_phantom(1, (31, 29, 27), (2, 2, 2), classes=2)[1])) == {0, 1}


def test_shapes_fill_a_part_of_the_volume_at_any_size():
    for size, spacing_mm in (((75, 51, 49), (2.4, 2.4, 2.4)), ((25, 33, 21), (0.5, 0.5, 0.5))):
        filled = [(shapes_phantom(seed, size, spacing_mm)[1] > 0).mean() for seed in range(3)]
        assert 0.03 < np.mean(filled) < 0.6


def test_shapes_refuse_a_number_of_classes_they_do_not_have():
    with pytest.raises(ValueError, match="classes"):
        shapes_phantom(1, (9, 9, 9), (1, 1, 1), classes=len(SHAPES) + 2)


def test_shapes_dataset_names_its_labels(tmp_path):
    write_shapes_dataset(tmp_path, 1, 7, SIZE, SPACING_MM, lambda line: None)
    entry = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    assert entry["labels"] == {"ellipsoid": 1, "rod": 2, "box": 3}
    assert (tmp_path / "images" / "shapes_001.nii.gz").is_file()
