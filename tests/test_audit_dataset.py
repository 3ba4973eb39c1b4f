"""The audit reports the problem of each broken file, and none of sound ones."""

from __future__ import annotations

import gzip
import json
import os

import numpy as np
import pytest
import SimpleITK as sitk
from corpus import time_limit
from small_datasets import RAS, SIZE, SPACING_MM, box_mask, noise, write_cases, write_image, write_json

from tfsono.audit.dataset import (
    audit_case,
    audit_cases,
    audit_dataset,
    errors_of,
    read_audit,
)
from tfsono.audit.table import codes_of
from tfsono.audit.contact_sheet import make_tile, write_sheet
from tfsono.data.layout import open_dataset
from tfsono.data.prepare import read_image
from tfsono.errors import UserError
from tfsono.locks import locked
from tfsono.volumes.image import read_volume


def quiet(line: str) -> None:
    """Instead of print."""


def problems_of(root, case: str = "case_00") -> dict[str, str]:
    """Code -> level, of one case after an audit of all."""
    entry = audit_cases(open_dataset(root), None, quiet)[case]
    return {problem["code"]: problem["level"] for problem in entry["problems"]}


@pytest.fixture
def root(tmp_path):
    write_cases(tmp_path, 3)
    return tmp_path


def test_sound_cases(root):
    audit = audit_dataset(open_dataset(root), None, quiet)
    assert all(entry["problems"] == [] for entry in audit["cases"])
    first = audit["cases"][0]
    assert first["size"] == list(SIZE) and first["spacing_mm"] == pytest.approx(SPACING_MM)
    assert first["orientation"] == "LPS"
    assert first["range"] == [noise(0).min(), noise(0).max()]
    femur = first["labels"]["femur"]
    assert (femur["voxels"], femur["pieces"], femur["border_voxels"]) == (24, 1, 0)
    assert femur["volume_ml"] == pytest.approx(24 * 0.5 * 0.8 * 1.5 / 1000)
    assert len(first["checksums"]["image"]) == 64


def test_truncated_image(root):
    path = root / "images" / "case_00.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    assert problems_of(root) == {"unreadable": "error"}


def test_truncated_inside_a_whole_gzip(root):
    path = root / "images" / "case_00.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))
    assert problems_of(root) == {"unreadable": "error"}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nan(root, suffix, kind):
    """In NIfTI files ITK silently replaces it by 0."""
    array = noise(0).astype(kind)
    array[3, 4, 5] = np.nan
    (root / "images" / "case_00.nii.gz").unlink()
    write_image(root / "images" / f"case_00{suffix}", array)
    assert problems_of(root) == {"nan": "error"}


def test_nan_in_a_constant_image(root):
    array = np.zeros(SIZE, np.float32)
    array[3, 4, 5] = np.inf
    write_image(root / "images" / "case_00.nii.gz", array)
    assert problems_of(root) == {"nan": "error"}


def test_constant(root):
    write_image(root / "images" / "case_00.nii.gz", np.full(SIZE, 7, np.int16))
    assert problems_of(root) == {"constant": "error"}


@pytest.mark.parametrize("change", [{"origin": (0, 0, 0)}, {"spacing": (0.5, 0.8, 1.6)}, {"direction": RAS}])
def test_mask_elsewhere(root, change):
    write_image(root / "labels" / "case_00.nii.gz", box_mask(), **change)
    assert problems_of(root) == {"geometry": "error"}


def test_mask_of_another_size(root):
    write_image(root / "labels" / "case_00.nii.gz", box_mask((12, 10, 7)))
    assert problems_of(root) == {"geometry": "error"}


def test_unknown_label(root):
    mask = box_mask()
    mask[8, 5, 3] = 4
    write_image(root / "labels" / "case_00.nii.gz", mask)
    entry = audit_cases(open_dataset(root), None, quiet)["case_00"]
    assert errors_of(entry) == ["unknown_label"]
    assert "4 (1 voxels)" in entry["problems"][0]["text"] and "lists 1" in entry["problems"][0]["text"]


def test_mask_that_is_no_whole_number(root):
    write_image(root / "labels" / "case_00.nii.gz", box_mask().astype(np.float32) * 0.5)
    assert problems_of(root) == {"unknown_label": "error"}


def test_empty_mask(root):
    write_image(root / "labels" / "case_00.nii.gz", np.zeros(SIZE, np.uint8))
    assert problems_of(root) == {"empty_mask": "error"}


def test_no_mask(root):
    (root / "labels" / "case_00.nii.gz").unlink()
    assert problems_of(root) == {"no_mask": "error"}


def test_one_label_of_two_is_absent(root):
    write_json(root / "dataset.json", {"labels": {"femur": 1, "tibia": 2}})
    mask = box_mask()
    mask[8:11, 5:8, 2:5] = 2
    write_image(root / "labels" / "case_01.nii.gz", np.pad(mask, ((0, 1), (0, 1), (0, 0))))
    assert problems_of(root) == {"label_absent": "warning"}
    assert problems_of(root, "case_01") == {}


def test_touching_the_border(root):
    """The box reaches two faces: 4x3 voxels on the high z face, and of the others 4 on the low y face."""
    mask = np.zeros(SIZE, np.uint8)
    mask[3:7, 0:3, 5:7] = 1
    write_image(root / "labels" / "case_00.nii.gz", mask)
    entry = audit_cases(open_dataset(root), None, quiet)["case_00"]
    assert entry["labels"]["femur"]["border_voxels"] == 12 + 4
    assert [problem["code"] for problem in entry["problems"]] == ["touches_border"]


def test_pieces(root):
    """A voxel that touches at a corner belongs to the box; one a voxel away does not."""
    mask = box_mask()
    mask[7, 5, 4] = 1
    mask[10, 7, 5] = 1
    write_image(root / "labels" / "case_00.nii.gz", mask)
    entry = audit_cases(open_dataset(root), None, quiet)["case_00"]
    assert [problem["code"] for problem in entry["problems"]] == ["several_pieces"]
    femur = entry["labels"]["femur"]
    assert femur["pieces"] == 2 and femur["largest_voxels"] == 25


def test_spacing_far_from_the_others(root):
    for folder, array in (("images", noise(0)), ("labels", box_mask())):
        write_image(root / folder / "case_00.nii.gz", array, spacing=(0.5, 0.8, 7.5))
    assert problems_of(root) == {"implausible_geometry": "warning"}
    assert problems_of(root, "case_01") == {}


def test_tiny_label(root):
    mask = np.zeros(SIZE, np.uint8)
    mask[5:7, 5, 3] = 1
    write_image(root / "labels" / "case_00.nii.gz", mask)
    texts = [
        problem["text"] for problem in audit_cases(open_dataset(root), None, quiet)["case_00"]["problems"]
    ]
    assert any("only 2 voxels" in text for text in texts) and any("the median is" in text for text in texts)


def test_duplicates_in_another_orientation_and_type(root):
    """The same voxels, stored as floats and with two axes reversed."""
    reversed_axes = noise(0)[::-1, ::-1].astype(np.float32)
    origin = (-3.0 + 12 * 0.5, 4.5 + 9 * 0.8, 10.0)
    write_image(root / "images" / "case_02.nii.gz", reversed_axes, origin=origin, direction=RAS)
    write_image(root / "labels" / "case_02.nii.gz", box_mask()[::-1, ::-1], origin=origin, direction=RAS)
    assert problems_of(root) == {"duplicate_image": "warning"} == problems_of(root, "case_02")
    assert problems_of(root, "case_01") == {}
    split = {"train": ["case_00", "case_01"], "test": ["case_02"]}
    write_json(root / "dataset.json", {"labels": {"femur": 1}, "split": split})
    assert problems_of(root) == {"duplicate_image": "error"}


def test_subject_in_two_splits(root):
    split = {"train": ["case_00", "case_01"], "test": ["case_02"]}
    subjects = {"case_00": "anna", "case_02": "anna"}
    write_json(root / "dataset.json", {"labels": {"femur": 1}, "split": split, "subjects": subjects})
    assert problems_of(root) == {"subject_in_two_splits": "error"} == problems_of(root, "case_02")
    assert problems_of(root, "case_01") == {}


def test_landmarks(root):
    """case_00 has one outside (voxel 13 of 13) and one missing; case_01 has both; case_02 has no rows."""
    rows = ["case,name,x_mm,y_mm,z_mm", "case_00,tip,3.5,5,11", "case_01,tip,3.0,5,11", "case_01,end,0,5,11"]
    (root / "landmarks.csv").write_text("\n".join(rows) + "\n")
    write_json(root / "dataset.json", {"labels": {"femur": 1}, "landmarks": ["tip", "end"]})
    assert problems_of(root) == {"landmark_outside": "error", "landmark_missing": "warning"}
    assert problems_of(root, "case_01") == {}
    assert problems_of(root, "case_02") == {"landmark_missing": "warning", "mask_without_landmarks": "warning"}


def test_a_volume_with_landmarks_may_lack_its_mask(root):
    """It is of use to a network that learns both; a case with neither is refused."""
    (root / "landmarks.csv").write_text("case,name,x_mm,y_mm,z_mm\ncase_00,tip,0,5,11\ncase_01,end,0,5,11\n")
    write_json(root / "dataset.json", {"labels": {"femur": 1}, "landmarks": ["tip", "end"]})
    (root / "labels" / "case_00.nii.gz").unlink()
    (root / "labels" / "case_02.nii.gz").unlink()
    write_image(root / "labels" / "case_01.nii.gz", np.zeros((14, 11, 7), np.uint8))
    expected = {"landmark_missing": "warning", "landmarks_without_mask": "warning"}
    assert problems_of(root) == problems_of(root, "case_01") == expected
    assert problems_of(root, "case_02") == {"landmark_missing": "warning", "no_mask": "error"}


def test_landmarks_alone_need_no_mask(root):
    (root / "landmarks.csv").write_text("case,name,x_mm,y_mm,z_mm\ncase_00,tip,0,5,11\n")
    write_json(root / "dataset.json", {"labels": {}, "landmarks": ["tip"]})
    for path in (root / "labels").iterdir():
        path.unlink()
    assert problems_of(root) == {}


def test_problems_are_sorted_errors_first(root):
    mask = np.zeros(SIZE, np.uint8)
    mask[0, 5, 3] = mask[3, 5, 3] = 1
    mask[6, 6, 6] = 9
    write_image(root / "labels" / "case_00.nii.gz", mask)
    problems = audit_cases(open_dataset(root), None, quiet)["case_00"]["problems"]
    keys = [(problem["level"], problem["code"], problem["text"]) for problem in problems]
    assert keys == sorted(keys) and keys[0][:2] == ("error", "unknown_label") and len(keys) > 2


def test_written_files_and_table(root):
    write_image(root / "images" / "case_00.nii.gz", np.full(SIZE, 7, np.int16))
    lines: list[str] = []
    audit = audit_dataset(open_dataset(root), root / "out" / "deep", lines.append)
    assert read_audit(root / "out" / "deep" / "audit.json") == audit == json.loads(json.dumps(audit))
    assert sorted(path.name for path in (root / "out" / "deep").iterdir()) == ["audit.json", "audit.png"]
    assert all(len(line) <= 120 for line in lines if not line.startswith(("error", "warning", "written")))
    assert any(line.startswith("case_01") and "14x11x7" in line and "femur 24" in line for line in lines)
    assert any(line.startswith("error: case_00: constant") for line in lines)
    assert "3 cases, 1 with errors" in lines[-2]


@pytest.mark.parametrize("cases, lines_of_it", [(5, 5), (6, 1)])
def test_a_warning_of_many_cases_is_reported_once(root, cases, lines_of_it):
    """The hip's shaft always leaves the volume: one line; other warnings of a case have their own."""
    write_cases(root, 7)
    for number in range(cases):
        mask = box_mask()
        mask[3:7, 2:5, :4] = 1
        mask[10, 8, 5] = number == 2
        write_image(root / "images" / f"case_{number:02d}.nii.gz", noise(number))
        write_image(root / "labels" / f"case_{number:02d}.nii.gz", mask)
    lines: list[str] = []
    audit = audit_dataset(open_dataset(root), None, lines.append)
    warnings = [line for line in lines if line.startswith("warning")]
    assert len([line for line in warnings if "touches_border" in line]) == lines_of_it
    assert len([line for line in warnings if line.startswith("warning: case_02: several_pieces")]) == 1
    assert sum(codes_of(entry).count("touches_border") for entry in audit["cases"]) == cases
    if lines_of_it == 1:
        text = "warning: touches_border in 6 of 7 cases, such as case_00: femur reaches the volume's border (12 voxels)"
        assert any(line.startswith(text) for line in warnings) and len(warnings) == 2


def test_table_with_long_names_and_many_labels(root):
    labels = {f"a_rather_long_name_{number}": number for number in range(1, 4)}
    write_cases(root, 3, labels)
    for folder in ("images", "labels"):
        for path in list((root / folder).iterdir()):
            path.rename(path.with_name("a_name_so_long_that_it_must_be_cut_" + path.name))
    lines: list[str] = []
    audit_dataset(open_dataset(root), None, lines.append)
    rows = [line for line in lines if line.startswith("a_name_so_l")]
    assert len(rows) == 3 and len({row.split()[0] for row in rows}) == 3 and max(map(len, rows)) <= 120


def test_unchanged_cases_are_taken_from_an_earlier_audit(root, monkeypatch):
    audit = audit_dataset(open_dataset(root), None, quiet)
    write_image(root / "images" / "case_01.nii.gz", noise(9, (14, 11, 7)))
    read: list[str] = []

    def counted(case, dataset):
        read.append(case.name)
        return audit_case(case, dataset)

    monkeypatch.setattr("tfsono.audit.dataset.audit_case", counted)
    entries = audit_cases(open_dataset(root), audit, quiet)
    assert read == ["case_01"]
    assert entries["case_00"] == audit["cases"][0] and entries["case_01"] != audit["cases"][1]
    write_json(root / "dataset.json", {"labels": {"femur": 2}})  # what was known is not unknown any more
    assert errors_of(audit_cases(open_dataset(root), audit, quiet)["case_00"]) == ["unknown_label"]
    assert read == ["case_01", "case_00", "case_01", "case_02"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 99, "cases": []}'])
def test_other_json_is_no_audit(tmp_path, content):
    (tmp_path / "audit.json").write_text(content)
    with pytest.raises(UserError, match="audit.json"):
        read_audit(tmp_path / "audit.json")


def test_folder_that_cannot_be_made(root):
    (root / "out").write_text("a file")
    with pytest.raises(UserError, match="cannot be made"):
        audit_dataset(open_dataset(root), root / "out", quiet)


def test_tile_has_the_proportions_of_the_body(root):
    """13 x 10 voxels of 0.5 x 0.8 mm are 6.5 x 8 mm, seen along z, whose spacing is largest."""
    volume = read_volume(root / "images" / "case_00.nii.gz")
    tile = make_tile(volume, box_mask())
    assert tile.image.shape == (160, 130) == tile.labels.shape
    rows, columns = np.nonzero(tile.labels)
    assert (columns.min(), columns.max() + 1) == (30, 70)  # x 3..7 of 13
    assert (rows.min(), rows.max() + 1) == (32, 80)  # y 2..5 of 10


def test_sheet_of_more_cases_than_tiles(tmp_path, root):
    tile = make_tile(read_volume(root / "images" / "case_00.nii.gz"), box_mask())
    rows = [("broken", None, "error", "unreadable")] + [(f"case_{i}", tile, "", "") for i in range(70)]
    write_sheet(tmp_path / "sheet.png", "71 cases", rows)
    image = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "sheet.png")))[..., :3].astype(int)
    red = (image[..., 0] > 200) & (image[..., 1:] < 80).all(axis=-1)
    assert red.any() and not red[len(red) // 3 :].any(), "the broken case is framed red and stands first"


# --- surroundings


def test_names_that_are_not_utf_8_are_errors_of_their_cases(root):
    for folder in ("images", "labels"):
        os.rename(root / folder / "case_01.nii.gz", os.fsencode(root / folder) + b"/H\xfcfte.nii.gz")
    lines = []
    audit = audit_dataset(open_dataset(root), root / "out", lines.append)
    bad = {entry["name"]: entry["problems"] for entry in audit["cases"] if errors_of(entry)}
    assert list(bad) == ["H\udcfcfte"]
    assert r"H\xfcfte.nii.gz: the name must be UTF-8" in bad["H\udcfcfte"][0]["text"]
    assert read_audit(root / "out" / "audit.json")["cases"] == audit["cases"]
    assert (root / "out" / "audit.png").stat().st_size > 1000


@pytest.mark.parametrize("error", [RuntimeError, ValueError, MemoryError, KeyError])
def test_an_error_of_a_library_is_the_error_of_its_case(root, monkeypatch, error):
    def read(case):
        if case.name == "case_01":
            raise error("in\nITK")
        return read_image(case)

    monkeypatch.setattr("tfsono.audit.dataset.read_image", read)
    entries = audit_cases(open_dataset(root), None, quiet)
    assert [errors_of(entry) for entry in entries.values()] == [[], ["unreadable"], []]
    assert error.__name__ in entries["case_01"]["problems"][0]["text"]


def test_an_output_that_another_command_writes_is_refused(root):
    with locked(root / "out"), pytest.raises(UserError, match="is being written"):
        audit_dataset(open_dataset(root), root / "out", quiet)
    audit_dataset(open_dataset(root), root / "out", quiet)


@pytest.mark.parametrize("place", ["images/case_01.nii.gz", "labels/case_01.nii.gz", "landmarks/case_01.mrk.json"])
@pytest.mark.parametrize("kind", ["FIFO", "device", "sparse", "nested"])
def test_a_special_file_is_the_error_of_its_case(root, place, kind):
    path = root / place
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "sparse":
        path.touch()
        os.truncate(path, 200 << 30)
    else:
        path.write_text("[" * 60_000)
    with time_limit():
        entries = audit_cases(open_dataset(root), None, quiet)
    assert [errors_of(entry) for entry in entries.values()][::2] == [[], []]
    if kind == "nested" and "landmarks" in place:  # of a dataset without landmarks they are no errors
        return
    assert "unreadable" in errors_of(entries["case_01"])


def test_no_output_has_the_place_of_the_dataset_unless_it_is_wanted(root):
    (root / "labels" / "case_01.nii.gz").write_bytes(b"broken")
    (root / "labels" / "notes.txt").write_text("")
    audit_dataset(open_dataset(root), root / "audit", quiet)
    text = (root / "audit" / "audit.json").read_text()
    assert str(root) not in text and str(root.parent) not in text and "images/case_00.nii.gz" in text
    assert "notes.txt" in text
    audit_dataset(open_dataset(root), root / "audit", quiet, absolute_paths=True)
    audit = read_audit(root / "audit" / "audit.json")
    assert audit["root"] == str(root) and audit["cases"][0]["files"]["image"] == f"{root}/images/case_00.nii.gz"
    assert audit["cases"][0]["files"]["landmarks"] == ""


def test_control_characters_of_names_are_not_printed(root):
    (root / "images" / "case_01.nii.gz").rename(root / "images" / "case\x1b[2J$x$.nii.gz")
    (root / "images" / "more\x1b.txt").write_text("")
    lines = []
    dataset = open_dataset(root)
    audit_dataset(dataset, root / "audit", lines.append)
    assert all(line.isprintable() for line in [*lines, *dataset.notes])
    assert any(r"\x1b[2J$x$" in line for line in lines)
    assert (root / "audit" / "audit.png").is_file()
