"""Datasets as users have them: tables from Excel, markups from Slicer, folders of nnU-Net, BIDS and of systems."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from small_datasets import box_mask, noise, write_cases, write_image, write_json
from small_images_2d import COLUMN_NAMES, image, mask, row, write_heads, write_image_2d

from tfsono.audit.cache_writer import write_cache
from tfsono.audit.dataset import audit_dataset
from tfsono.data.cache import Cache
from tfsono.data.layout import case_landmarks, open_dataset
from tfsono.data.prepare import CacheSettings
from tfsono.errors import UserError
from tfsono.volumes.landmarks import read_landmarks, read_landmarks_csv, skipped_markups

TIPS = {"tip": (1.0, 7.0, 12.0), "end": (-1.0, 5.0, 13.0)}


def audited(root) -> dict:
    return audit_dataset(open_dataset(root), progress=lambda line: None)


def problems(root) -> dict[str, dict[str, str]]:
    """Case -> code -> text."""
    return {entry["name"]: {one["code"]: one["text"] for one in entry["problems"]} for entry in audited(root)["cases"]}


def volumes(root, names, masks=True):
    for number, name in enumerate(names):
        write_image(root / "images" / f"{name}.nii.gz", noise(number))
        if masks:
            write_image(root / "labels" / f"{name}.nii.gz", box_mask())
    return root


def table(root, names, head="case,name,x_mm,y_mm,z_mm", separator=","):
    rows = [separator.join([name, *(map(str, (tip, *point)))]) for name in names for tip, point in TIPS.items()]
    (root / "landmarks.csv").write_text("\n".join([head, *rows, separator * 4, ""]))


def markups(path, *parts):
    """(type, names) of each; names None for one without points."""
    def control(name):
        return {"id": "1", "label": name, "position": [1.0, 7.0, 12.0], "positionStatus": "defined"}

    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"markups": [{"type": kind, "coordinateSystem": "LPS", "controlPoints": [*map(control, names)]}
                                  for kind, names in parts]})


# ------------------------------------------------------------------------------------------ tables and cases


@pytest.mark.parametrize("given", [["1", "2"], ["001.nii.gz", "002.nii.gz"], [" 001", "002 "], ["1.0", "2.0"],
                                   ["images/001.nii", "images/002.nii"], ["001_0000", "002_0000"]])
@pytest.mark.parametrize("masks", [True, False])
def test_a_table_of_landmarks_names_cases_in_its_own_way(tmp_path, given, masks):
    volumes(tmp_path, ["001", "002"], masks)
    table(tmp_path, given)
    dataset = open_dataset(tmp_path)
    assert dataset.landmarks == ("end", "tip")
    for case in dataset.cases:
        np.testing.assert_allclose(case_landmarks(case, None)["tip"], TIPS["tip"])
    assert not any(entry["problems"] for entry in audited(tmp_path)["cases"])


@pytest.mark.parametrize("head, separator", [("Case, Name, X (mm), Y (mm), Z (mm)", ","),
                                             ("case;name;x_mm;y_mm;z_mm", ";"), ("CASE\tname\tx mm\ty mm\tz mm", "\t")])
def test_columns_as_spreadsheets_write_them(tmp_path, head, separator):
    table(tmp_path, ["a"], head, separator)
    np.testing.assert_allclose(read_landmarks_csv(tmp_path / "landmarks.csv")["a"]["end"], TIPS["end"])


def test_rows_without_a_case_are_counted(tmp_path):
    volumes(tmp_path, ["001", "002"])
    table(tmp_path, ["1", "7", "8"])
    assert [case.landmarks is None for case in open_dataset(tmp_path).cases] == [False, True]
    assert any("2 cases have no image" in note and "7, 8" in note for note in open_dataset(tmp_path).notes)


@pytest.mark.parametrize("cases, given, words", [
    (["001", "002"], ["x", "y"], "none of which"), (["001", "01"], ["1"], "fits"),
    (["001", "002"], ["1", "001"], "both")])
def test_a_table_that_cannot_be_matched_is_refused(tmp_path, cases, given, words):
    volumes(tmp_path, cases)
    table(tmp_path, given)
    with pytest.raises(UserError, match=rf"landmarks\.csv: .*{words}") as error:
        open_dataset(tmp_path)
    assert "\n" not in str(error.value)


def test_table_and_files_of_landmarks(tmp_path):
    volumes(tmp_path, ["a", "b"])
    table(tmp_path, ["a"])
    markups(tmp_path / "landmarks" / "b.mrk.json", ("Fiducial", ["tip"]))
    notes = open_dataset(tmp_path).notes
    assert any("landmarks.csv" in note and "files in this folder are not" in note for note in notes)


def test_a_table_that_is_not_read_is_named(tmp_path):
    volumes(tmp_path, ["a"])
    (tmp_path / "Landmarks.xlsx").touch()
    assert any("Landmarks.xlsx" in note for note in open_dataset(tmp_path).notes)


@pytest.mark.parametrize("folder, name", [("labels", "x.nii.gz"), ("landmarks", "x.mrk.json")])
def test_a_folder_of_which_no_file_has_an_image(tmp_path, folder, name):
    volumes(tmp_path, ["a"], masks=False)
    if folder == "labels":
        write_image(tmp_path / folder / name, box_mask())
    else:
        markups(tmp_path / folder / name, ("Fiducial", ["tip"]))
    with pytest.raises(UserError, match=f"{folder}: .*found x"):
        open_dataset(tmp_path)


def test_masks_in_other_capitals_and_of_slicer(tmp_path):
    volumes(tmp_path, ["a", "b"], masks=False)
    write_image(tmp_path / "labels" / "A.nii.gz", box_mask())
    write_image(tmp_path / "labels" / "b.seg.nrrd", box_mask())
    dataset = open_dataset(tmp_path)
    assert [case.label.name for case in dataset.cases] == ["A.nii.gz", "b.seg.nrrd"]
    assert any("'A' as a" in note for note in dataset.notes)


@pytest.mark.parametrize("landmarks, words", [(["x"], "landmarks in"), (None, "no landmarks of this name")])
def test_a_case_without_anything_says_why(tmp_path, landmarks, words):
    volumes(tmp_path, ["a", "b"], masks=False)
    write_json(tmp_path / "dataset.json", {"landmarks": ["tip"], "labels": {"bone": 1}})
    markups(tmp_path / "landmarks" / "a.mrk.json", ("Fiducial", ["tip"]))
    if landmarks:
        markups(tmp_path / "landmarks" / "b.mrk.json", ("Fiducial", landmarks))
    assert words in problems(tmp_path)["b"]["no_mask"]


@pytest.mark.parametrize("name", ["h_1", "H_1.PNG", "images/h_1.png", "h_1_0000.png"])
def test_tables_of_images(tmp_path, name):
    write_heads(tmp_path, ["h_1", "h_2"])
    (tmp_path / "pixel_sizes.csv").write_text(f"Filename;Pixel size(mm)\n{name};0,3\nx;0,4\n")
    (tmp_path / "points.csv").write_text("\n".join([COLUMN_NAMES, row(name)]))
    dataset = open_dataset(tmp_path)
    assert dataset.cases[0].pixel_size_mm == 0.3 and dataset.cases[1].pixel_size_mm is None
    assert len(case_landmarks(dataset.cases[0], read_volume_of(dataset.cases[0]))) == 4
    assert any("1 rows have no image" in note and "x" in note for note in dataset.notes)


def read_volume_of(case):
    from tfsono.data.prepare import read_image

    return read_image(case)[0]


# ------------------------------------------------------------------------------------------------ dataset.json


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_description_with_a_byte_order_mark(tmp_path, encoding):
    volumes(tmp_path, ["a"])
    (tmp_path / "dataset.json").write_text('{"labels": {"bone": 1}}', encoding=encoding)
    assert open_dataset(tmp_path).labels == {"bone": 1}


@pytest.mark.parametrize("name", ["head/acetabulum", "a\\b", "a\0b", "a\nb", "x" * 101, "..", "", "a:b"])
def test_labels_that_cannot_name_files(tmp_path, name):
    volumes(tmp_path, ["a"])
    write_json(tmp_path / "dataset.json", {"labels": {name: 1}})
    with pytest.raises(UserError, match=r"dataset\.json: labels: .* rename") as error:
        open_dataset(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_spaces_around_labels(tmp_path):
    volumes(tmp_path, ["a"])
    write_json(tmp_path / "dataset.json", {"labels": {" femoral head ": 1}})
    assert open_dataset(tmp_path).labels == {"femoral head": 1}


@pytest.mark.parametrize("labels", [{"whole": [1, 2], "core": 2}, {"whole": [1]}])
def test_regions_are_refused(tmp_path, labels):
    volumes(tmp_path, ["a"])
    write_json(tmp_path / "dataset.json", {"labels": labels, "regions_class_order": [1, 2]})
    with pytest.raises(UserError, match="labels: 'whole' .*region"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("labels", [{"background": 0, "bone": 1, "ignore": 2}, {"1": "bone", "2": "Ignore"},
                                    {"bone": 1, "ignore": 255}])
def test_voxels_that_nobody_annotated(tmp_path, labels):
    """They are no class; a case that has some is refused, one that has none is not."""
    volumes(tmp_path, ["a", "b"])
    ignored = max(int(value) if str(value).isdecimal() else int(key) for key, value in labels.items())
    array = box_mask()
    array[9, 9, 5] = ignored
    write_image(tmp_path / "labels" / "b.nii.gz", array)
    write_json(tmp_path / "dataset.json", {"labels": labels})
    dataset = open_dataset(tmp_path)
    assert dataset.labels == {"bone": 1} and dataset.ignored == ignored
    assert any("ignore" in note.lower() for note in dataset.notes)
    found = problems(tmp_path)
    assert found["a"] == {} and list(found["b"]) == ["not_annotated"] and "1 voxels" in found["b"]["not_annotated"]
    with pytest.raises(UserError, match="not_annotated"):
        write_cache(dataset, tmp_path / "c.h5", CacheSettings("hip"), progress=lambda line: None)


@pytest.mark.parametrize("labels", [{"ignore": 0, "bone": 1}, {"0": "ignore", "1": "bone"}])
def test_ignore_is_not_the_background(tmp_path, labels):
    volumes(tmp_path, ["a"])
    write_json(tmp_path / "dataset.json", {"labels": labels})
    with pytest.raises(UserError, match="'ignore'"):
        open_dataset(tmp_path)


def test_ignore_among_the_labels_of_images(tmp_path):
    write_heads(tmp_path, ["a"])
    write_json(tmp_path / "dataset.json", {"labels": {"head": 1, "ignore": 2}})
    with pytest.raises(UserError, match="'ignore'"):
        open_dataset(tmp_path)


def test_an_organ_of_value_0_is_reported(tmp_path):
    volumes(tmp_path, ["a"])
    write_json(tmp_path / "dataset.json", {"labels": {"femur": 0, "tibia": 1}})
    assert any("'femur' is 0" in note for note in open_dataset(tmp_path).notes)


# ---------------------------------------------------------------------------------------- folders and layouts


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_nnunets_layout_of_images(tmp_path, suffix):
    for number, name in enumerate(["a", "b"]):
        write_image_2d(tmp_path / "imagesTr" / f"{name}_0000{suffix}", image(number))
        write_image_2d(tmp_path / "labelsTr" / f"{name}{suffix}", mask())
    write_image_2d(tmp_path / "imagesTr" / f"a_0001{suffix}", image(7))
    (tmp_path / "pixel_sizes.csv").write_text(f"image_name,pixel_size_mm\na_0000{suffix},0.2\nb,0.3\n")
    dataset = open_dataset(tmp_path)
    assert [(case.name, case.pixel_size_mm) for case in dataset.cases] == [("a", 0.2), ("b", 0.3)]
    assert all(case.label for case in dataset.cases) and any("a_0001" in note for note in dataset.notes)


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "lost+found", ".Trash-1000", "empty", "old", "pictures"])
@pytest.mark.parametrize("folder", ["images", "labels"])
def test_folders_that_are_no_cases(tmp_path, folder, name):
    write_cases(tmp_path, 2)
    (tmp_path / folder / name).mkdir()
    inside = {"empty": None, "old": "case_00.nii.gz", "pictures": "a.png"}.get(name, "case_00.nii.gz@SynoEAStream")
    if inside:
        (tmp_path / folder / name / inside).write_bytes(b"1")
    dataset = open_dataset(tmp_path)
    assert [case.name for case in dataset.cases] == ["case_00", "case_01"]
    assert any(name in note for note in dataset.notes)
    assert audited(tmp_path)["with_errors"] == 0


@pytest.mark.parametrize("name", ["Thumbs.db", "._head_1.png", "desktop.ini"])
def test_files_of_systems_among_images(tmp_path, name):
    write_heads(tmp_path, ["head_1"])
    (tmp_path / "images" / name).write_bytes(b"1")
    dataset = open_dataset(tmp_path)
    assert len(dataset.cases) == 1 and any(name in note for note in dataset.notes)


def test_sessions_of_one_person_stay_together(tmp_path):
    volumes(tmp_path, ["sub-01_ses-1_T2w", "sub-01_ses-2_T2w", "sub-02_ses-1_T2w"])
    assert [case.subject for case in open_dataset(tmp_path).cases] == ["sub-01", "sub-01", "sub-02"]
    write_json(tmp_path / "dataset.json", {"labels": {"bone": 1}, "split": {
        "train": ["sub-01_ses-1_T2w", "sub-02_ses-1_T2w"], "test": ["sub-01_ses-2_T2w"]}})
    assert "subject_in_two_splits" in problems(tmp_path)["sub-01_ses-2_T2w"]


def test_subjects_that_are_named_later_reach_the_cache(tmp_path):
    write_cases(tmp_path, 3)
    for subjects in ({}, {"case_00": "one", "case_01": "one"}):
        write_json(tmp_path / "dataset.json", {"labels": {"femur": 1}, "subjects": subjects})
        write_cache(open_dataset(tmp_path), tmp_path / "c.h5", CacheSettings("hip"), progress=lambda line: None)
        with Cache(tmp_path / "c.h5", "hip") as cache:
            assert cache.subjects == {name: subjects.get(name, name) for name in ("case_00", "case_01", "case_02")}


# --------------------------------------------------------------------------------------------------- markups


@pytest.mark.parametrize("kind", ["Fiducial", "Line"])
@pytest.mark.parametrize("name, rest", [("{}-{}", "2"), ("{}_{}", "2"), ("F of {} {}", "2"), ("{}-tip_{}", "2")])
def test_landmarks_named_after_their_node(tmp_path, kind, name, rest):
    cases = ["case_01", "case_02", "case_03"]
    volumes(tmp_path, cases, masks=False)
    for case in cases:
        markups(tmp_path / "landmarks" / f"{case}.mrk.json", (kind, [name.format(case, n) for n in (1, 2, 10)]))
    dataset = open_dataset(tmp_path)
    assert dataset.landmarks == ("1", "2", "10") and rest in case_landmarks(dataset.cases[2], None)
    assert any(repr(name.format("case_01", 1)) in note for note in dataset.notes)
    assert not any("few_landmarks" in found or "landmark_missing" in found for found in problems(tmp_path).values())


def test_landmarks_that_no_two_cases_share(tmp_path):
    volumes(tmp_path, ["a", "b", "c"])
    for case, names in {"a": ["tip"], "b": ["end"], "c": ["x-1"]}.items():
        markups(tmp_path / "landmarks" / f"{case}.mrk.json", ("Fiducial", names))
    with pytest.raises(UserError, match="landmark .* 3 cases .*'tip'") as error:
        open_dataset(tmp_path)
    assert "\n" not in str(error.value)
    write_json(tmp_path / "dataset.json", {"landmarks": []})
    assert open_dataset(tmp_path).landmarks == ()


def test_shared_names_keep_their_start(tmp_path):
    volumes(tmp_path, ["a", "b"])
    for case in ("a", "b"):
        markups(tmp_path / "landmarks" / f"{case}.mrk.json", ("Fiducial", ["F-1", "F-2"]))
    assert open_dataset(tmp_path).landmarks == ("F-1", "F-2")


@pytest.mark.parametrize("parts, names, skipped", [
    ([("Plane", ["p"]), ("Line", ["a", "b"])], ["a", "b"], "1 Plane"),
    ([("ClosedCurve", ["p"]), ("Curve", ["q"]), ("Curve", ["r"])], [], "1 ClosedCurve, 2 Curve"),
    ([("Fiducial", ["a"]), ("ROI", ["r"]), ("Plane", ["p"])], ["a"], "1 ROI, 1 Plane"),
    ([("Fiducial", ["a", "b"]), ("Line", ["a", "b"])], ["a", "b"], ""),
    ([("Fiducial", ["a", "b"]), ("Line", ["c", "d"])], ["a", "b"], "1 Line"),
    ([("Angle", ["a", "b", "c"])], ["a", "b", "c"], "")])
def test_markups_that_are_no_landmarks(tmp_path, parts, names, skipped):
    volumes(tmp_path, ["x"])
    path = tmp_path / "landmarks" / "x.mrk.json"
    markups(path, *parts)
    assert list(read_landmarks(path)) == names and skipped_markups(path) == skipped
    found = problems(tmp_path)["x"].get("markups_skipped", "")
    assert found.startswith(skipped) and bool(found) == bool(skipped)


# ----------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("values", [(1, 1), (1, 2)])
def test_a_mask_without_background(tmp_path, values):
    write_cases(tmp_path, 1, {"femur": 1, "tibia": 2})
    array = np.full((13, 10, 7), values[0], np.uint8)
    array[:6] = values[1]
    write_image(tmp_path / "labels" / "case_00.nii.gz", array)
    entry = audited(tmp_path)["cases"][0]
    assert "no_background" in [one["code"] for one in entry["problems"] if one["level"] == "error"]


def test_a_mask_of_an_image_without_background(tmp_path):
    write_heads(tmp_path, ["a"])
    write_image_2d(tmp_path / "labels" / "a.png", np.full_like(mask(), 255))
    assert "no_background" in problems(tmp_path)["a"]


@pytest.mark.parametrize("colour", [0, 128, 255])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_mask_in_the_transparency(tmp_path, colour, suffix):
    write_heads(tmp_path, ["a"])
    (tmp_path / "labels" / "a.png").unlink()
    write_image_2d(tmp_path / "labels" / f"a{suffix}", np.dstack([*[np.full_like(mask(), colour)] * 3, 255 * mask()]))
    entry = audited(tmp_path)["cases"][0]
    assert entry["labels"]["head"]["voxels"] == np.count_nonzero(mask())
    (problem,) = entry["problems"]
    assert problem["code"] == "converted" and "transparency" in problem["text"]


def test_colours_come_before_transparency(tmp_path):
    write_heads(tmp_path, ["a"])
    half = np.zeros_like(mask())
    half[:40] = 255
    write_image_2d(tmp_path / "labels" / "a.png", cv2.merge([255 * mask()] * 3 + [half]))
    assert audited(tmp_path)["cases"][0]["problems"] == []


def test_what_reading_did_is_shown(tmp_path):
    volumes(tmp_path, ["a"])
    write_image(tmp_path / "labels" / "a.nii.gz", box_mask().astype(np.float32) * np.float32(1.0000153))
    write_json(tmp_path / "dataset.json", {"labels": {"bone": 1}})
    assert "mask: " in problems(tmp_path)["a"]["converted"]


@pytest.mark.parametrize("spacing, wrong", [((500, 500, 800), True), ((0.0005, 0.0005, 0.001), True),
                                            ((0.02, 1, 20), False), ((0.5, 0.5, 25), True)])
def test_voxels_in_another_unit(tmp_path, spacing, wrong):
    write_image(tmp_path / "images" / "a.mha", noise(1), spacing)
    write_image(tmp_path / "labels" / "a.mha", box_mask(), spacing)
    found = problems(tmp_path)["a"].get("implausible_geometry", "")
    assert ("mm are usual" in found) == wrong


# ------------------------------------------------------------------------------------------- the field cases


@pytest.mark.parametrize("name, errors, words", [
    ("dataset/bids_sessions", 0, "8 cases of 4 subjects"), ("dataset/csv_excel_zeros_masks", 0, "'1' as 001"),
    ("dataset/csv_file_names", 0, "distal, proximal"), ("dataset/eadir", 0, "@eaDir"), ("dataset/json_bom", 0, ""),
    ("dataset/slicer_node_names", 0, "'case_01-1'"), ("dataset/nnunet_ignore", 3, "'ignore' (2)"),
    ("picture/nnunet_png", 0, ""), ("picture/mask_alpha", 0, "")])
def test_field_cases(shared_data, name, errors, words):
    report = audited(shared_data / "field_cases" / name)
    assert report["with_errors"] == errors and words in "\n".join(report["notes"])


def test_field_case_of_a_label_with_a_slash(shared_data):
    with pytest.raises(UserError, match="head/acetabulum.*head_acetabulum"):
        open_dataset(shared_data / "field_cases" / "dataset" / "label_slash")
