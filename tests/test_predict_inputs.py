"""What is predicted of what a user names; tables of pixel sizes."""

from __future__ import annotations

import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset

from tfsono.errors import UserError
from tfsono.predict.inputs import find_inputs, unique_names
from tfsono.predict.pixel_sizes import check_pixel_sizes, read_pixel_sizes
from tfsono.volumes.image_2d import is_image_2d_file, image_2d_name


def write_dicom(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    one = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    one.SeriesInstanceUID, one.StudyInstanceUID, one.Modality = "1.2.3", "1.2", "MR"
    one.Rows = one.Columns = 4
    one.BitsAllocated = one.BitsStored = 8
    one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 7, 0, 1
    one.PhotometricInterpretation, one.PixelData = "MONOCHROME2", bytes(16)
    one.save_as(path, enforce_file_format=True)


def inputs_of(folder, out="out", **options):
    return [str(path.relative_to(folder)) for path in find_inputs([folder], folder / out, **options)]


def test_volumes_and_dicom_folders_side_by_side(tmp_path, capsys):
    (tmp_path / "P1.nii.gz").touch()
    write_dicom(tmp_path / "P2" / "a.dcm")
    assert inputs_of(tmp_path) == ["P1.nii.gz", "P2"]
    assert capsys.readouterr().err == ""


def test_what_is_no_input_is_named(tmp_path, capsys):
    for name in ("P1.nii.gz", "notes.txt", "IM1.dcm", "P3.mhd", "P3.raw"):
        (tmp_path / name).touch()
    for name in ("empty", "old", "@eaDir", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "old" / "a.txt").touch()
    assert inputs_of(tmp_path) == ["P1.nii.gz", "P3.mhd"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "4 files or folders" in said and "IM1.dcm, empty, notes.txt, ..." in said


def test_dicom_folders_beside_a_note(tmp_path, capsys):
    write_dicom(tmp_path / "P1" / "a.dcm")
    write_dicom(tmp_path / "P2" / "a.dcm")
    (tmp_path / "readme.txt").touch()
    assert inputs_of(tmp_path) == ["P1", "P2"] and "readme.txt" in capsys.readouterr().err


def test_a_series_with_a_folder_inside(tmp_path, capsys):
    write_dicom(tmp_path / "a.dcm")
    write_dicom(tmp_path / "more" / "a.dcm")
    assert find_inputs([tmp_path], tmp_path / "out") == [tmp_path] and "more" in capsys.readouterr().err


def test_folders_of_systems_are_no_inputs(tmp_path):
    for name in ("P1", "P2", "__MACOSX"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").touch()
    (tmp_path / "empty").mkdir()
    assert inputs_of(tmp_path) == ["P1", "P2"]


def test_names_of_outputs_are_safe(tmp_path):
    paths = [tmp_path / ("x" * 240 + ".nii"), tmp_path / ("x" * 241 + ".nii"), tmp_path / "a:b.nii"]
    names = unique_names(paths, {})
    assert len(set(names)) == 3 and max(map(len, names)) <= 104 and names[2].startswith("a_b_")


# ------------------------------------------------------------------------------------------------ pixel sizes


def table(tmp_path, *rows, head="image_name,pixel_size_mm"):
    (tmp_path / "t.csv").write_text("\n".join([head, *rows]))
    return str(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["000_HC", "000_HC.png", "000_hc.PNG", " 000_HC ", "images/000_HC.png"])
def test_sizes_are_found_by_name(tmp_path, name):
    given, path = table(tmp_path, f"{name},0.25"), tmp_path / "000_HC.png"
    check_pixel_sizes(given, [path])
    assert read_pixel_sizes(given).of(path, None) == 0.25


def test_zeros_that_excel_drops_and_its_semicolons(tmp_path):
    given = table(tmp_path, "7;0,25", head="filename;pixel size(mm)")
    assert "'7' as 007.png" in check_pixel_sizes(given, [tmp_path / "007.png"])[0]
    assert read_pixel_sizes(given).of(tmp_path / "007.png", None) == 0.25


def test_rows_and_images_that_do_not_fit_are_counted(tmp_path):
    given = table(tmp_path, "a,0.2", "b,0.3", "c,0.4")
    lines = check_pixel_sizes(given, [tmp_path / "a.png", tmp_path / "d.png"])
    assert len(lines) == 2 and "2 rows" in lines[0] and "1 of 2 images" in lines[1] and "d.png" in lines[1]
    assert read_pixel_sizes(given).of(tmp_path / "d.png", 0.7) == 0.7


def test_a_table_of_other_images_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--pixel_size_mm .*t\.csv: .*found b"):
        check_pixel_sizes(table(tmp_path, "b,0.2"), [tmp_path / "a.png"])


def test_a_name_of_two_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="--pixel_size_mm .*'1'"):
        check_pixel_sizes(table(tmp_path, "1,0.2"), [tmp_path / "01.png", tmp_path / "001.png"])


@pytest.mark.parametrize("given", ["", "0.2"])
def test_without_a_table_nothing_is_matched(tmp_path, given):
    assert check_pixel_sizes(given, [tmp_path / "a.png"]) == []


def test_field_cases(shared_data, tmp_path):
    folder = shared_data / "field_cases"
    assert inputs_of(folder / "dicom" / "mixed_folder") == ["P1.nii.gz", "P2"]
    images = find_inputs([folder / "picture" / "hc18_folder"], tmp_path, "image",
                         lambda path: is_image_2d_file(path) and image_2d_name(path).endswith("HC"))
    given = str(folder / "picture" / "sizes_without_suffix.csv")
    assert len(check_pixel_sizes(given, images)) == 1 and read_pixel_sizes(given).of(images[0], None) == 0.2
