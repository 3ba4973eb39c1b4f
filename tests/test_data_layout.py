"""The three layouts, dataset.json and its mistakes, and its replacements."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from small_datasets import box_mask, noise, write_cases, write_image, write_json

from tfsono.data.layout import case_landmarks, open_dataset, source_checksums
from tfsono.errors import UserError
from tfsono.volumes.image import read_volume


def describe(root, **entries):
    write_json(root / "dataset.json", entries)


def test_own_layout(tmp_path):
    names = write_cases(tmp_path, 3)
    dataset = open_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == names
    assert (dataset.name, dataset.modality, dataset.labels) == ("small", "MR", {"femur": 1})
    assert dataset.cases[1].label == tmp_path / "labels" / "case_01.nii.gz"
    assert dataset.cases[1].subject == "case_01"
    assert dataset.split is None and dataset.landmarks == () and dataset.notes == ()


def test_case_without_mask(tmp_path):
    write_cases(tmp_path, 2)
    (tmp_path / "labels" / "case_01.nii.gz").unlink()
    assert open_dataset(tmp_path).cases[1].label is None


@pytest.mark.parametrize(
    "labels", [{"background": 0, "head": 1, "tail": 2}, {"0": "background", "2": "tail", "1": "head"}]
)
def test_nnunet_layout_both_directions(tmp_path, labels):
    write_image(tmp_path / "imagesTr" / "hip_7_0000.nii.gz", noise(1))
    write_image(tmp_path / "imagesTr" / "hip_7_0001.nii.gz", noise(2))
    write_image(tmp_path / "labelsTr" / "hip_7.nii.gz", box_mask())
    describe(tmp_path, channel_names={"0": "T1"}, labels=labels, numTraining=1, file_ending=".nii.gz")
    dataset = open_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == ["hip_7"]
    assert dataset.cases[0].image.name == "hip_7_0000.nii.gz" and dataset.cases[0].label is not None
    assert list(dataset.labels.items()) == [("head", 1), ("tail", 2)]
    assert dataset.modality == "T1"
    assert len(dataset.notes) == 1 and "hip_7_0001" in dataset.notes[0]


def test_decathlon_names_without_suffix(tmp_path):
    write_image(tmp_path / "imagesTr" / "hip_007.nii.gz", noise(1))
    assert [case.name for case in open_dataset(tmp_path).cases] == ["hip_007"]


def test_annotation_layout(tmp_path):
    write_image(tmp_path / "volumes" / "a.nii.gz", noise(1))
    (tmp_path / "landmark_anno").mkdir()
    points = {"left": [1, 2, 3], "right": [0, 0, 0]}
    write_json(
        tmp_path / "landmark_anno" / "a_landmark.json",
        {"spacing": [0.5, 0.8, 1.5], "spacing_unit": "mm", "landmarks": points},
    )
    dataset = open_dataset(tmp_path)
    assert dataset.landmarks == ("left", "right")
    found = case_landmarks(dataset.cases[0], read_volume(dataset.cases[0].image))
    np.testing.assert_allclose(found["left"], [-3 + 0.5, 4.5 + 1.6, 10 + 4.5])
    assert np.isnan(found["right"]).all()


def annotate(root, case: str, size, **content):
    """A case of the volumes/ and landmark_anno/ layout."""
    write_image(root / "volumes" / f"{case}.nii.gz", noise(len(case), size))
    (root / "landmark_anno").mkdir(exist_ok=True)
    write_json(root / "landmark_anno" / f"{case}_landmark.json", content)


def test_annotations_with_their_known_faults(tmp_path):
    """Each case is read like the others or refused in one line; the names come from all of them."""
    size, tip = (13, 10, 7), [5, 4, 3]
    annotate(tmp_path, "absent", size, landmarks={"tip": tip, "end": [0, 0, 0]})
    annotate(tmp_path, "null", size, spacing=None, landmarks={"tip": tip, "end": None})
    annotate(tmp_path, "micro", size, spacing=[500, 800, 1500], spacing_unit="um", landmarks={"tip": tip})
    annotate(tmp_path, "other", size, spacing=[1, 1, 1], spacing_unit="mm", landmarks={"tip": tip, "other": tip})
    annotate(tmp_path, "order", size, landmarks={"tip": [3, 4, 12], "end": [3, 3, 3]})
    dataset = open_dataset(tmp_path)
    assert dataset.landmarks == ("end", "other", "tip")
    cases = {case.name: case for case in dataset.cases}
    for name in ("absent", "null", "micro"):
        found = case_landmarks(cases[name], read_volume(cases[name].image))
        np.testing.assert_allclose(found["tip"], [-3 + 2.5, 4.5 + 3.2, 10 + 4.5], rtol=1e-6)
        assert np.isnan(found.get("end", np.full(3, np.nan))).all()
    for name, words in (("other", "its spacing must be that of"), ("order", r"inside if the order is \(z, y, x\)")):
        with pytest.raises(UserError, match=words) as error:
            case_landmarks(cases[name], read_volume(cases[name].image))
        assert f"{name}_landmark.json" in str(error.value) and "\n" not in str(error.value)


def test_annotations_without_a_case_or_names(tmp_path):
    annotate(tmp_path, "a", (13, 10, 7), landmarks={"10": [1, 2, 3], "2": [1, 2, 3], "1": None})
    annotate(tmp_path, "b", (13, 10, 7), landmarks=[[1, 2, 3]])
    write_image(tmp_path / "volumes" / "c.nii.gz", noise(9))
    write_json(tmp_path / "landmark_anno" / "d_landmark.json", {"landmarks": {"9": [1, 2, 3]}})
    dataset = open_dataset(tmp_path)
    assert dataset.landmarks == ("1", "2", "10")  # as numbers
    assert [case.landmarks is None for case in dataset.cases] == [False, False, True]
    notes = " ".join(dataset.notes)
    assert "1 files have no image" in notes and "d_landmark.json" in notes
    assert "1 landmark files" in notes and "b_landmark.json: 'landmarks' must be" in notes


def test_table_of_landmarks(tmp_path):
    write_cases(tmp_path, 2)
    (tmp_path / "landmarks.csv").write_text(
        "case,name,x_mm,y_mm,z_mm\ncase_01,tip,1.5,2,3\nelsewhere,tip,1,2,3\n"
    )
    dataset = open_dataset(tmp_path)
    assert [case.landmarks is None for case in dataset.cases] == [True, False]
    assert dataset.landmarks == ("tip",)
    np.testing.assert_allclose(case_landmarks(dataset.cases[1], None)["tip"], [1.5, 2, 3])


def test_labels_are_found_without_description(tmp_path):
    write_cases(tmp_path, 2)
    write_image(tmp_path / "labels" / "case_01.nii.gz", box_mask((14, 11, 7), value=5))
    (tmp_path / "dataset.json").unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.labels == {"label_1": 1, "label_5": 5}
    assert any("label_5" in note for note in dataset.notes)
    assert dataset.name == tmp_path.name


def test_images_taken_for_masks(tmp_path):
    write_cases(tmp_path, 1)
    (tmp_path / "dataset.json").unlink()
    shutil.copy(tmp_path / "images" / "case_00.nii.gz", tmp_path / "labels" / "case_00.nii.gz")
    with pytest.raises(UserError, match="at most 255; found"):
        open_dataset(tmp_path)


def test_hidden_and_other_files_are_reported(tmp_path):
    write_cases(tmp_path, 1)
    (tmp_path / "images" / "._case_00.nii.gz").write_bytes(b"\0")
    (tmp_path / "images" / "notes.txt").write_text("hello")
    write_image(tmp_path / "labels" / "stranger.nii.gz", box_mask())
    dataset = open_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == ["case_00"]
    notes = " ".join(dataset.notes)
    assert "notes.txt" in notes and "._case_00" in notes and "stranger" in notes


def test_subjects_and_split(tmp_path):
    write_cases(tmp_path, 2)
    describe(
        tmp_path,
        subjects={"case_00": "anna", "case_01": 7},
        split={"train": ["case_01"], "test": ["case_00"]},
    )
    dataset = open_dataset(tmp_path)
    assert [case.subject for case in dataset.cases] == ["anna", "7"]
    assert dataset.split == {"train": ["case_01"], "validation": [], "test": ["case_00"]}


def test_unknown_keys_are_reported(tmp_path):
    write_cases(tmp_path, 1)
    describe(tmp_path, labels={"femur": 1}, lables={"femur": 2}, numTraining=1)
    assert [note for note in open_dataset(tmp_path).notes if "lables" in note and "numTraining" not in note]


@pytest.mark.parametrize(
    "entries,key",
    [
        ({"labels": ["femur"]}, "labels"),
        ({"labels": {"femur": [1, 2]}}, "labels: 'femur'"),
        ({"labels": {"femur": 1.5}}, "labels: 'femur'"),
        ({"labels": {"femur": True}}, "labels: 'femur'"),
        ({"labels": {"femur": -1}}, "labels: 'femur'"),
        ({"labels": {"femur": 1, "tibia": 1}}, "without repetition"),
        ({"name": 3}, "name"),
        ({"modality": ["MR"]}, "modality"),
        ({"landmarks": "tip"}, "landmarks"),
        ({"landmarks": ["tip", "tip"]}, "different names"),
        ({"units": "cm"}, "units"),
        ({"subjects": ["a"]}, "subjects"),
        ({"subjects": {"case_77": "a"}}, "case_77"),
        ({"split": ["case_00"]}, "split"),
        ({"split": {"train": "case_00"}}, "split: train"),
        ({"split": {"train": ["case_99"]}}, "case_99"),
    ],
)
def test_wrong_descriptions_name_file_and_key(tmp_path, entries, key):
    write_cases(tmp_path, 1)
    describe(tmp_path, **entries)
    with pytest.raises(UserError, match=key) as error:
        open_dataset(tmp_path)
    assert "dataset.json" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_description_that_is_no_object(tmp_path, content):
    write_cases(tmp_path, 1)
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match="dataset.json"):
        open_dataset(tmp_path)


def test_no_dataset(tmp_path):
    with pytest.raises(UserError, match="images/, imagesTr/ or volumes/"):
        open_dataset(tmp_path)
    with pytest.raises(UserError, match="nothing there"):
        open_dataset(tmp_path / "none")
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="found none"):
        open_dataset(tmp_path)


def test_two_images_of_one_case(tmp_path):
    write_cases(tmp_path, 1)
    write_image(tmp_path / "images" / "case_00.mha", noise(0))
    with pytest.raises(UserError, match=r"case_00\..* one file; found case_00\."):
        open_dataset(tmp_path)


def test_checksums_follow_contents(tmp_path):
    write_cases(tmp_path, 2)
    (before, other) = (source_checksums(case) for case in open_dataset(tmp_path).cases)
    assert before["label"] and before["landmarks"] == "" and before["image"] != other["image"]
    write_image(tmp_path / "labels" / "case_00.nii.gz", box_mask(value=2))
    after = source_checksums(open_dataset(tmp_path).cases[0])
    assert after["image"] == before["image"] and after["label"] != before["label"]


def test_checksum_of_a_detached_header(tmp_path):
    """The header of an .mhd stays as it is when the voxels change."""
    write_image(tmp_path / "images" / "a.mhd", noise(0))
    case = open_dataset(tmp_path).cases[0]
    before = source_checksums(case)
    write_image(tmp_path / "images" / "a.mhd", noise(1))
    assert source_checksums(case) != before


def test_a_folder_is_one_series(tmp_path):
    folder = tmp_path / "images" / "series_a"
    folder.mkdir(parents=True)
    (folder / "1.dcm").write_bytes(b"one")
    case = open_dataset(tmp_path).cases[0]
    before = source_checksums(case)
    assert case.name == "series_a" and case.image == folder
    (folder / "2.dcm").write_bytes(b"two")
    assert source_checksums(case) != before


def test_real_folder(shared_data):
    dataset = open_dataset(shared_data / "hippocampus_mr")
    assert len(dataset.cases) == 214 and dataset.labels == {"label_1": 1, "label_2": 2}
    assert all(case.label for case in dataset.cases)
