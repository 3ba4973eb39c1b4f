"""Datasets of 2D images: the three layouts, the tables and their mistakes, the audit of landmarks, the cache."""

from __future__ import annotations

import json
import shutil

import cv2
import h5py
import numpy as np
import pytest
import SimpleITK as sitk
from small_datasets import box_mask, noise, write_cases, write_image, write_json
from small_images_2d import (
    COLUMN_NAMES,
    COLUMNS,
    POINTS,
    ROWS,
    circumference_mm,
    mask,
    outline,
    image,
    row,
    write_heads,
    write_image_2d,
)

from tfsono.audit.dataset import audit_cases, audit_dataset, read_audit
from tfsono.audit.table import codes_of
from tfsono.data.cache import Cache, CacheSettings, verify_cache
from tfsono.audit.cache_writer import write_cache
from tfsono.data.layout import case_landmarks, open_dataset, source_checksums
from tfsono.data.prepare import prepare_case, read_image
from tfsono.errors import UserError
from tfsono.geometry.head_labels import LANDMARKS

NAMES = ("010_HC", "010_2HC", "011_HC", "012_HC")
HEAD = CacheSettings("head")


def quiet(line: str) -> None:
    """Instead of print."""


def codes(root, case: str = "010_HC") -> dict[str, str]:
    """Code -> level, of one case after an audit of all."""
    entry = audit_cases(open_dataset(root), None, quiet)[case]
    return {problem["code"]: problem["level"] for problem in entry["problems"]}


def refused(root, *words) -> None:
    """`open_dataset` refuses in one line that has the words."""
    with pytest.raises(UserError) as caught:
        open_dataset(root)
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words), str(caught.value)


@pytest.fixture
def root(tmp_path):
    return write_heads(tmp_path / "heads", NAMES)


# ----------------------------------------------------------------------------------------------- layouts


def test_own_layout(root):
    dataset = open_dataset(root)
    assert dataset.of_images and dataset.labels == {"head": 1} and dataset.landmarks == LANDMARKS
    assert [case.name for case in dataset.cases] == sorted(NAMES)
    case = dataset.cases[1]
    assert (case.name, case.subject, case.pixel_size_mm) == ("010_HC", "010", 0.2)
    assert case.hc_mm == pytest.approx(circumference_mm(), abs=0.006) and case.label.name == "010_HC.png"
    assert [case.subject for case in dataset.cases] == ["010", "010", "011", "012"]
    assert dataset.notes == ()


def test_hc18_as_downloaded(tmp_path):
    """Images and outlines in one folder, the table next to it; the test set's table belongs to another one."""
    folder = tmp_path / "training_set"
    for number, name in enumerate(NAMES):
        write_image_2d(folder / f"{name}.png", image(number))
        write_image_2d(folder / f"{name}_Annotation.png", outline())
    header = "filename,pixel size(mm),head circumference (mm)"
    (tmp_path / "training_set_pixel_size_and_HC.csv").write_text(
        "\n".join([header, *(f"{name}.png,0.2,{circumference_mm()}" for name in NAMES)])
    )
    (tmp_path / "test_set_pixel_size.csv").write_text("filename,pixel size(mm)\n010_HC.png,0.7\n")
    dataset = open_dataset(folder)
    assert [case.name for case in dataset.cases] == sorted(NAMES) and dataset.labels == {"head": 1}
    assert all(case.pixel_size_mm == 0.2 and case.hc_mm for case in dataset.cases) and dataset.notes == ()
    assert all(case.label.name == f"{case.name}_Annotation.png" for case in dataset.cases)
    prepared = prepare_case(dataset.cases[0], dataset, HEAD)
    filled = prepared.label[:, :, 0].T
    assert np.count_nonzero(filled != mask()) < 0.02 * mask().sum()
    refused(tmp_path, "010_HC.png", f"give {folder}")
    (tmp_path / "training_set_pixel_size_and_HC.csv").rename(folder / "training_set_pixel_size_and_HC.csv")
    assert open_dataset(folder).cases[0].pixel_size_mm == 0.2


def test_hc18_test_set_has_no_masks(tmp_path):
    folder = tmp_path / "test_set"
    write_image_2d(folder / "010_HC.png", image(1))
    (tmp_path / "training_set_pixel_size_and_HC.csv").write_text(
        "filename,pixel size(mm),head circumference (mm)\n010_HC.png,0.2,100\n"
    )
    (tmp_path / "test_set_pixel_size.csv").write_text("filename,pixel size(mm)\n010_HC.png,0.7\n")
    dataset = open_dataset(folder)
    assert dataset.cases[0].pixel_size_mm == 0.7 and dataset.cases[0].hc_mm is None
    assert dataset.labels == {} and dataset.cases[0].label is None


def test_masks_folder(root):
    (root / "labels").rename(root / "masks")
    for path in list((root / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    dataset = open_dataset(root)
    assert all(case.label.name == f"{case.name}_mask.png" for case in dataset.cases) and dataset.notes == ()


def test_the_description_overrides_the_files(root):
    write_json(root / "dataset.json", {"name": "small", "modality": "US", "labels": {"background": 0, "skull": 255},
                                       "subjects": {"011_HC": "anna"}, "landmarks": ["ofd_1", "ofd_2"]})
    dataset = open_dataset(root)
    assert (dataset.name, dataset.labels, dataset.landmarks) == ("small", {"skull": 1}, ("ofd_1", "ofd_2"))
    assert [case.subject for case in dataset.cases] == ["010", "010", "anna", "012"]
    write_json(root / "dataset.json", {"labels": {"skull": 1, "brain": 2}})
    refused(root, "dataset.json", "must be one", "skull, brain")


def test_other_names_are_their_own_subjects(tmp_path):
    dataset = open_dataset(write_heads(tmp_path, ["a_1", "010_HC_x"]))
    assert [case.subject for case in dataset.cases] == ["010_HC_x", "a_1"]


def test_no_mixture(root):
    write_image(root / "images" / "hip.nii.gz", noise(1))
    refused(root, "hip.nii.gz", "not both")


def test_no_mixture_of_masks(root):
    write_image(root / "labels" / "hip.nii.gz", box_mask())
    refused(root, "hip.nii.gz", "not both")


def test_other_files_are_reported(root):
    (root / "images" / "Thumbs.db").write_bytes(b"x")
    (root / "images" / "._010_HC.png").write_bytes(b"x")
    write_image_2d(root / "labels" / "099_HC.png", mask())
    notes = " ".join(open_dataset(root).notes)
    assert "Thumbs.db" in notes and "._010_HC" in notes and "099_HC.png" in notes


def test_two_files_of_one_case(root):
    write_image_2d(root / "images" / "010_HC.bmp", image(1))
    refused(root, "one file", "010_HC")


def test_tables_next_to_volumes_are_ignored(tmp_path):
    write_cases(tmp_path, 1)
    (tmp_path / "points.csv").write_text("image_name,ofd_1_x\na,b\n")
    assert open_dataset(tmp_path).notes == () and not open_dataset(tmp_path).of_images


# ------------------------------------------------------------------------------------------------ tables


def rewrite(path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new))


def test_without_pixel_sizes(root):
    (root / "pixel_sizes.csv").unlink()
    dataset = open_dataset(root)
    assert {case.pixel_size_mm for case in dataset.cases} == {None}
    assert any("4 of 4 images have no pixel size" in note for note in dataset.notes)
    np.testing.assert_allclose(case_landmarks(dataset.cases[0], read_image(dataset.cases[0])[0])["ofd_2"],
                               [*POINTS[1], 0])


@pytest.mark.parametrize("cell", ["", "abc", "0", "-0.1", "inf", "nan"])
def test_a_pixel_size_that_is_none(root, cell):
    path = root / "pixel_sizes.csv"
    rewrite(path, "010_HC.png,0.2", f"010_HC.png,{cell}")
    dataset = open_dataset(root)
    assert [case.pixel_size_mm for case in dataset.cases] == [0.2, None, 0.2, 0.2]
    assert all(case.hc_mm for case in dataset.cases)
    notes = [note for note in dataset.notes if "skipped" in note]
    assert len(notes) == (cell not in ("", "nan")) and all(f"010_HC ({cell})" in note for note in notes)
    assert any("1 of 4 images have no pixel size" in note for note in dataset.notes)


def test_unknown_and_repeated_names(root):
    with open(root / "pixel_sizes.csv", "a") as file:
        file.write("\n099_HC.png,0.2,100\n011_HC.png,0.3,100\n012_HC.png,0.2,100")
    dataset = open_dataset(root)
    notes = "\n".join(dataset.notes)
    assert [case.pixel_size_mm for case in dataset.cases] == [0.2, 0.2, None, 0.2], "the same twice is no conflict"
    assert "1 rows have no image" in notes and "099_HC" in notes
    assert "different pixel_size_mm" in notes and "011_HC" in notes


@pytest.mark.parametrize("header, words", [
    ("image_name,head_circumference_mm", ["no pixel_size_mm"]),
    ("image,pixel_size_mm", ["image_name or filename"]),
    ("image_name;pixel_size_mm", ["pixel_size"]),
])
def test_missing_columns(root, header, words):
    (root / "pixel_sizes.csv").write_text(f"{header}\n010_HC.png,0.2\n")
    refused(root, "pixel_sizes.csv", *words)


def test_table_without_rows_or_of_other_images(root):
    (root / "pixel_sizes.csv").write_text("image_name,pixel_size_mm\n")
    refused(root, "no row")
    (root / "pixel_sizes.csv").write_text("image_name,pixel_size_mm\n1.png,0.2\n2.png,0.2\n")
    refused(root, "names", "010_2HC", "1, 2")
    (root / "pixel_sizes.csv").write_text("image_name,pixel_size_mm\n010_HC.png,x\n011_HC.png,y\n")
    refused(root, "none of 2 rows usable", "010_HC (x)")


def test_two_tables_of_one_kind(root):
    shutil.copy(root / "points.csv", root / "landmarks.csv")
    refused(root, "one table of points", "landmarks.csv, points.csv")


def test_tables_of_something_else(root):
    (root / "notes.csv").write_text("who,when\nme,now\n")
    (root / "._points.csv").write_bytes(b"\xff\xfe\x00")
    assert [note for note in open_dataset(root).notes if "notes.csv" in note and "_points" not in note]


def test_points_in_pixels_and_millimetres(root):
    """A pixel of 0.2 mm: (95.709, 59.997) pixels are (19.142, 11.999) mm."""
    case = open_dataset(root).cases[1]
    found = case_landmarks(case, read_image(case)[0])
    assert tuple(found) == LANDMARKS
    np.testing.assert_allclose(found["ofd_2"], [19.1418, 11.9994, 0])
    np.testing.assert_allclose(found["bpd_1"], np.append(0.2 * POINTS[2], 0))


def test_points_missing_wrong_unknown_twice(root):
    rows = [COLUMN_NAMES, row("010_HC.png").replace("24.291,34.003", "24.291,"), row("010_2HC.png").replace("24.", "a"),
            row("011_HC.png"), row("011_HC.png", POINTS + 1), row("099_HC"), row("images/012_HC.jpg")]
    (root / "points.csv").write_text("\n".join(rows))
    dataset = open_dataset(root)
    assert [case.landmarks is None for case in dataset.cases] == [True, False, True, False]
    found = case_landmarks(dataset.cases[1], read_image(dataset.cases[1])[0])
    assert np.isnan(found["ofd_1"]).all() and np.isfinite(found["ofd_2"]).all()
    notes = "\n".join(dataset.notes)
    assert "010_2HC (a" in notes and "011_HC" in notes and "099_HC" in notes
    assert codes(root) == {"landmark_missing": "warning", "landmarks_do_not_fit": "warning"}
    assert codes(root, "010_2HC") == {"landmark_missing": "warning"}


def test_points_without_a_column(root):
    rewrite(root / "points.csv", "bpd_2_y", "bpd_2_z")
    refused(root, "points.csv", "no bpd_2_y")


def test_checksums_follow_the_tables(root):
    before = source_checksums(open_dataset(root).cases[1])
    rewrite(root / "pixel_sizes.csv", "010_HC.png,0.2", "010_HC.png,0.21")
    after = source_checksums(open_dataset(root).cases[1])
    assert before != after and before["image"] == after["image"]
    assert source_checksums(open_dataset(root).cases[0]) == source_checksums(open_dataset(root).cases[0])


# ------------------------------------------------------------------------------------------------- audit


def test_sound_images(root):
    lines: list[str] = []
    audit = audit_dataset(open_dataset(root), root / "out", lines.append)
    assert all(entry["problems"] == [] for entry in audit["cases"])
    entry = audit["cases"][1]
    assert entry["size"] == [COLUMNS, ROWS, 1] and entry["pixel_size_mm"] == 0.2
    assert entry["labels"]["head"]["voxels"] == mask().sum() and entry["labels"]["head"]["border_voxels"] == 0
    assert entry["judgement"]["fits"] and entry["judgement"]["mean_error_px"] < 1
    assert entry["landmarks"]["bpd_1"] == pytest.approx([*POINTS[2], 0])
    assert read_audit(root / "out" / "audit.json") == audit
    assert sorted(path.name for path in (root / "out").iterdir()) == ["audit.json", "audit.png", "landmarks.png"]
    area = f"head {mask().sum()} ({mask().sum() * 0.04 / 100:.3g})"
    assert any(line.startswith("010_HC") and "131x90" in line and "0.2 " in line and area in line for line in lines)
    summary = [line for line in lines if line.startswith("landmarks")]
    assert "4 cases judged, 4 of them against the ellipse" in summary[0] and summary[0].endswith(" 4")
    assert " mm from the ends" in summary[1] and "0 of 0 rows over 5 mm off" in summary[2]


def test_labels_with_mistakes(root):
    """Names exchanged; ends exchanged; misplaced points. All are warnings, and the cache accepts the cases."""
    rows = [row("010_HC.png", POINTS[[2, 3, 0, 1]]), row("010_2HC.png", POINTS[[1, 0, 2, 3]]),
            row("011_HC.png", POINTS + (40, 0)), row("012_HC.png")]
    (root / "points.csv").write_text("\n".join([COLUMN_NAMES, *rows]))
    lines: list[str] = []
    audit = audit_dataset(open_dataset(root), root / "out", lines.append)
    found = {entry["name"]: codes_of(entry) for entry in audit["cases"]}
    assert found["010_HC"] == ["names_exchanged"] and found["010_2HC"] == ["ends_exchanged"]
    assert found["012_HC"] == [] and "landmarks_do_not_fit" in found["011_HC"]
    moved = next(entry for entry in audit["cases"] if entry["name"] == "011_HC")["judgement"]
    assert moved["mean_error_mm"] == pytest.approx(0.2 * 40, abs=0.2)
    assert audit["with_errors"] == 0 and audit["with_warnings"] == 3
    summary = next(line for line in lines if line.startswith("landmarks:"))
    assert "exchanged in 1, ends in 1; 1 do not fit" in summary and summary.endswith(" 3")
    assert any("1 of 1 rows over 5 mm off flagged" in line for line in lines)


def test_distances_in_pixels_without_a_pixel_size(root):
    (root / "pixel_sizes.csv").unlink()
    lines: list[str] = []
    audit_dataset(open_dataset(root), None, lines.append)
    summary = [line for line in lines if line.startswith("landmarks")]
    assert " px from the ends" in summary[1] and not any(" mm" in line for line in summary)
    table = next(line for line in lines if line.startswith("010_HC")).split()
    assert table[2] == "?"


def test_landmarks_without_a_mask_are_judged_by_themselves(root):
    shutil.rmtree(root / "labels")
    (root / "points.csv").write_text("\n".join([COLUMN_NAMES, row("010_HC.png"), row("011_HC.png", POINTS * (1, 0.2))]))
    audit = audit_dataset(open_dataset(root), root / "out", quiet)
    found = {entry["name"]: entry for entry in audit["cases"]}
    assert found["010_HC"]["judgement"]["fits"] and found["010_HC"]["ellipse"] is None
    assert found["011_HC"]["problems"][0]["code"] == "landmarks_do_not_fit"
    assert found["012_HC"]["judgement"] is None and (root / "out" / "landmarks.png").is_file()


def test_a_point_outside_is_a_warning(root):
    (root / "points.csv").write_text("\n".join([COLUMN_NAMES, row("010_HC.png", POINTS + (40, 0))]))
    assert codes(root)["landmark_outside"] == "warning"


def test_mask_at_the_border_and_in_pieces(root):
    cut = np.pad(mask()[:, 30:], ((0, 0), (0, 30)))
    cut[2:4, 100:102] = 1
    write_image_2d(root / "labels" / "010_HC.png", cut)
    entry = audit_cases(open_dataset(root), None, quiet)["010_HC"]
    texts = {problem["code"]: problem["text"] for problem in entry["problems"]}
    assert f"the image's border ({cut[:, 0].sum()} pixels)" in texts["touches_border"]
    assert "2 pieces, 4 pixels" in texts["several_pieces"]


@pytest.mark.parametrize("pixels, code", [
    (0 * mask(), "empty_mask"), (mask()[:, :-1], "geometry"), (image(1), "unknown_label"),
])
def test_masks_with_errors(root, pixels, code):
    write_image_2d(root / "labels" / "010_HC.png", np.ascontiguousarray(pixels))
    assert codes(root)[code] == "error"


@pytest.mark.parametrize("content, code", [(b"", "unreadable"), (b"GIF89a", "unreadable")])
def test_images_with_errors(root, content, code):
    (root / "images" / "010_HC.png").write_bytes(content)
    assert codes(root) == {code: "error"} and codes(root, "011_HC") == {}


def test_constant_image(root):
    write_image_2d(root / "images" / "010_HC.png", np.full((ROWS, COLUMNS), 9, np.uint8))
    assert codes(root) == {"constant": "error"}


def test_converted_images_are_reported(root):
    write_image_2d(root / "images" / "010_HC.png", image(1).astype(np.uint16) * 100)
    assert codes(root) == {"converted": "warning"}


@pytest.mark.parametrize("of_table, reported", [("0.2", True), ("0.3001", False), ("", False)])
def test_a_pixel_size_in_file_and_table(root, of_table, reported):
    """The table comes first, as it was written for this dataset; a difference from the file is reported."""
    frame = sitk.GetImageFromArray(image(0))
    frame.SetSpacing((0.3, 0.3))
    frame.SetMetaData("0008|0016", "1.2.840.10008.5.1.4.1.1.4")
    (root / "images" / "010_HC.png").unlink()
    sitk.WriteImage(frame, str(root / "images" / "010_HC.dcm"), imageIO="GDCMImageIO")
    rewrite(root / "pixel_sizes.csv", f"010_HC.png,0.2,{circumference_mm():.2f}", f"010_HC.png,{of_table},")
    entry = audit_cases(open_dataset(root), None, quiet)["010_HC"]
    assert entry["pixel_size_mm"] == (float(of_table) if of_table else pytest.approx(0.3))
    assert any("0.3 mm by the file: the table's 0.2 mm" in problem["text"] for problem in entry["problems"]) == reported


def test_no_ellipse(root):
    square = np.zeros((ROWS, COLUMNS), np.uint8)
    square[40:44, 10:120] = 1
    write_image_2d(root / "labels" / "010_HC.png", square)
    assert codes(root)["no_ellipse"] == "warning"


@pytest.mark.parametrize("cells, code", [("0.2,50", "circumference_differs"), ("2.0,", "implausible_geometry"),
                                         ("0.002,", "implausible_geometry")])
def test_numbers_that_do_not_fit(root, cells, code):
    rewrite(root / "pixel_sizes.csv", f"010_HC.png,0.2,{circumference_mm():.2f}", f"010_HC.png,{cells}")
    assert codes(root)[code] == "warning"


def test_pixel_sizes_of_all_kinds_are_no_fault(root):
    """HC18's differ sixfold, and a head grows sixfold: neither is compared with the median."""
    (root / "pixel_sizes.csv").write_text(
        "image_name,pixel_size_mm\n010_HC,0.05\n010_2HC,0.3\n011_HC,0.1\n012_HC,0.1\n"
    )
    (root / "points.csv").unlink()
    small = cv2.ellipse(np.zeros((ROWS, COLUMNS), np.uint8), (60, 40), (12, 9), 0, 0, 360, 1, -1)
    write_image_2d(root / "labels" / "010_HC.png", small)
    assert all(codes(root, name) == {} for name in NAMES)


def test_one_image_twice_and_a_subject_in_two_parts(root):
    shutil.copy(root / "images" / "011_HC.png", root / "images" / "012_HC.png")
    write_json(root / "dataset.json", {"labels": {"head": 1}, "split": {"train": ["010_HC"], "test": ["010_2HC"]}})
    assert codes(root) == {"subject_in_two_splits": "error"}
    assert codes(root, "012_HC") == {"duplicate_image": "warning"}


def test_unchanged_images_are_taken_from_an_earlier_audit(root):
    audit = json.loads(json.dumps(audit_dataset(open_dataset(root), None, quiet)))
    audit["cases"][1]["range"] = [-7, -7]
    assert audit_cases(open_dataset(root), audit, quiet)["010_HC"]["range"] == [-7, -7]
    rewrite(root / "pixel_sizes.csv", "010_HC.png,0.2", "010_HC.png,0.21")
    entries = audit_cases(open_dataset(root), audit, quiet)
    assert entries["010_HC"]["range"] != [-7, -7] and entries["010_HC"]["pixel_size_mm"] == 0.21


# ------------------------------------------------------------------------------------------------- cache


def test_what_the_cache_holds(root, tmp_path):
    rewrite(root / "pixel_sizes.csv", "011_HC.png,0.2", "011_HC.png,")
    rewrite(root / "pixel_sizes.csv", f"012_HC.png,0.2,{circumference_mm():.2f}", "012_HC.png,0.3,")
    path = tmp_path / "heads.h5"
    write_cache(open_dataset(root), path, HEAD, progress=quiet)
    assert verify_cache(path) == []
    with Cache(path, "head") as cache:
        assert cache.landmarks == LANDMARKS and cache.subjects["010_2HC"] == "010"
        assert cache.pixel_sizes_mm == {"010_2HC": 0.2, "010_HC": 0.2, "011_HC": None, "012_HC": 0.3}
        assert cache.circumferences_mm["010_HC"] == pytest.approx(circumference_mm(), abs=0.006)
        assert cache.circumferences_mm["012_HC"] is None
        cases = {name: cache.read(name) for name in cache.names}
    case = cases["010_HC"]
    assert case.image.dtype == np.uint8 and case.image.shape == (COLUMNS, ROWS, 1) and case.native is None
    np.testing.assert_array_equal(case.image[:, :, 0].T, image(0))
    np.testing.assert_array_equal(case.label[:, :, 0].T, mask())
    for name in NAMES:  # in pixels, whatever their size
        np.testing.assert_allclose(cases[name].points_vox, np.pad(POINTS, ((0, 0), (0, 1))), atol=1e-3)
    assert (case.pixel_size_mm, cases["011_HC"].pixel_size_mm, cases["012_HC"].hc_mm) == (0.2, None, None)
    assert cases["011_HC"].spacing_mm == (1.0, 1.0, 1.0) and case.spacing_mm == (0.2, 0.2, 1.0)
    with h5py.File(path) as file:
        assert np.isnan(file["cases/011_HC"].attrs["pixel_size_mm"])


def test_the_cache_follows_a_pixel_size(root, tmp_path):
    path, lines = tmp_path / "heads.h5", []
    write_cache(open_dataset(root), path, HEAD, progress=quiet)
    write_cache(open_dataset(root), path, HEAD, progress=lines.append)
    assert any("nothing to do" in line for line in lines)
    rewrite(root / "pixel_sizes.csv", "010_HC.png,0.2", "010_HC.png,0.21")
    write_cache(open_dataset(root), path, HEAD, progress=quiet)
    assert Cache(path, "head").pixel_sizes_mm["010_HC"] == 0.21 and verify_cache(path) == []


def test_a_changed_number_in_the_cache_is_noticed(root, tmp_path):
    path = tmp_path / "heads.h5"
    write_cache(open_dataset(root), path, HEAD, progress=quiet)
    with h5py.File(path, "r+") as file:
        file["cases/010_HC"].attrs["pixel_size_mm"] = 0.3
    assert [line for line in verify_cache(path) if line.startswith("010_HC")]


def test_volumes_have_no_numbers(tmp_path):
    write_cases(tmp_path / "hips", 1)
    write_cache(open_dataset(tmp_path / "hips"), tmp_path / "hips.h5", CacheSettings("hip"), progress=quiet)
    with h5py.File(tmp_path / "hips.h5") as file:
        assert "pixel_size_mm" not in file["cases/case_00"].attrs
    case = Cache(tmp_path / "hips.h5", "hip").read("case_00")
    assert case.pixel_size_mm is None and case.hc_mm is None and case.image.dtype == np.float32


def test_bad_images_are_excluded_on_request(root, tmp_path):
    (root / "images" / "010_HC.png").write_bytes(b"")
    with pytest.raises(UserError, match="1 of 4 cases have errors"):
        write_cache(open_dataset(root), tmp_path / "heads.h5", HEAD, progress=quiet)
    lines: list[str] = []
    write_cache(open_dataset(root), tmp_path / "heads.h5", HEAD, exclude_bad=True, progress=lines.append)
    assert Cache(tmp_path / "heads.h5", "head").names == ["010_2HC", "011_HC", "012_HC"]
    assert any("1 of 4" in line and "excluded" in line for line in lines)


# --------------------------------------------------------------------------------------------- real data


def test_real_folder(shared_data):
    dataset = open_dataset(shared_data / "hc18")
    assert len(dataset.cases) == 490 and len({case.subject for case in dataset.cases}) == 401
    assert dataset.labels == {"head": 1} and dataset.landmarks == LANDMARKS and dataset.notes == ()
    case = next(case for case in dataset.cases if case.name == "000_HC")
    assert case.pixel_size_mm == 0.0691358041432 and case.hc_mm == 44.3
    assert all(c.pixel_size_mm and c.hc_mm and c.label and c.landmarks for c in dataset.cases)


@pytest.mark.slow
def test_real_audit_finds_the_wrong_rows(shared_data):
    """Every row over 5 mm off is flagged, with under 12 % false alarms, with the masks and without."""
    lines: list[str] = []
    audit = audit_dataset(open_dataset(shared_data / "hc18"), None, lines.append)
    judged = [entry["judgement"] for entry in audit["cases"]]
    far = [one for one in judged if one["mean_error_mm"] > 5]
    near = [one for one in judged if one["mean_error_mm"] <= 5]
    assert len(far) > 150 and sum(not one["fits"] for one in far) >= 0.97 * len(far)
    assert sum(not one["fits"] for one in near) < 0.12 * len(near)
    assert audit["with_errors"] == 0
    assert any(f"of {len(far)} rows over 5 mm off flagged" in line for line in lines)
