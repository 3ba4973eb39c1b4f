"""DICOM series: three real ones, an awkward real folder, and small ones written with a known mistake."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tfsono.errors import UserError
from tfsono.volumes.dicom import is_series_folder, read_series
from tfsono.volumes.image import orientation_code, read_mask, read_volume, write_volume

SIZE = (11, 9, 6)
RESAMPLED = np.array([[0.8, 0.0, 0.6], [0.6, 0.0, -0.8], [0.0, 1.0, 0.0]])
"""Columns: along the rows, down the columns, and their cross product."""


def write_slices(folder: Path, positions_mm, values, uid: str = "1.2.3.4", axes=RESAMPLED) -> None:
    """One file a slice [x, y]; the names are in no order."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, (position, value) in enumerate(zip(positions_mm, values, strict=True)):
        image = sitk.GetImageFromArray(np.ascontiguousarray(value.T)[None])
        image.SetSpacing((0.5, 0.75, 1.0))
        tags = {
            "0008|0060": "MR", "0020|000d": "1.2.3", "0020|000e": uid, "0020|0013": str(number + 1),
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4", "0008|0018": f"{uid}.{number + 1}",
            "0020|0032": "\\".join(f"{one:.8g}" for one in position),
            "0020|0037": "\\".join(f"{one:.8g}" for one in [*axes[:, 0], *axes[:, 1]]),
        }  # fmt: skip
        for tag, text in tags.items():
            image.SetMetaData(tag, text)
        writer.SetFileName(str(folder / f"{uid}.{(number * 7) % 10}{number}.dcm"))
        writer.Execute(image)


def stack(depths_mm) -> np.ndarray:
    return np.array([5.0, -6.0, 7.0]) + np.outer(depths_mm, RESAMPLED[:, 2])


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 900, SIZE).astype(np.int16)


def refusal(folder, **arguments) -> str:
    with pytest.raises(UserError) as caught:
        read_series(folder, **arguments)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


def test_oblique_series_is_in_the_order_of_positions(tmp_path, values):
    """Slices written from the last to the first, under names in a third order."""
    write_slices(tmp_path, stack(2.5 * np.arange(6))[::-1], np.moveaxis(values, 2, 0)[::-1])
    volume = read_series(tmp_path)
    np.testing.assert_array_equal(volume.array, values)
    np.testing.assert_allclose(volume.spacing_mm, (0.5, 0.75, 2.5), rtol=1e-6)
    np.testing.assert_allclose(volume.origin_mm, (5, -6, 7), atol=1e-6)
    np.testing.assert_allclose(np.reshape(volume.direction, (3, 3)), RESAMPLED, atol=1e-6)
    assert volume.array.flags.c_contiguous and volume.path == str(tmp_path)


@pytest.mark.parametrize(
    ("series", "size"), [("Study1", (35, 51, 32)), ("Study2", (36, 48, 35)), ("Study3", (34, 50, 40))]
)
def test_real_series(shared_data, series, size, tmp_path):
    """Against the files one by one, through SimpleITK and ordered by InstanceNumber; and back into NIfTI."""
    folder = next((shared_data / "dicom_series" / series).iterdir())
    volume = read_volume(folder)
    assert volume.size == size and orientation_code(volume) == "LPS"
    assert volume.spacing_mm == (1, 1, 1) and volume.origin_mm == (0, 0, 1)
    for number in range(size[2]):
        single = sitk.ReadImage(str(folder / f"{number + 1}.dcm"))
        np.testing.assert_array_equal(volume.array[:, :, number], sitk.GetArrayFromImage(single)[0].T)
    write_volume(tmp_path / "back.nii.gz", (volume.array > 50).astype(np.uint8), volume)
    mask = read_mask(tmp_path / "back.nii.gz", volume)
    assert mask.direction == volume.direction and mask.array.sum() == (volume.array > 50).sum()


def test_order_is_not_of_names(shared_data, tmp_path):
    folder = next((shared_data / "dicom_series" / "Study1").iterdir())
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, tmp_path / f"{(number * 13) % 32:02d}")
    (tmp_path / "notes.txt").write_text("no DICOM")
    np.testing.assert_array_equal(read_series(tmp_path).array, read_series(folder).array)


def test_several_series_are_refused_with_their_counts(shared_data):
    folder = shared_data / "dicom_series" / "pydicom_98892003" / "MR2"
    text = refusal(folder)
    assert "found 3: " in text and text.count("(one of 3 files)") == 2 and text.count("(one of 1 files)") == 1
    assert "1.3.6.1" not in text.removeprefix(str(folder))
    assert "parallel" in refusal(folder, series_id="1.3.6.1.4.1.5962.1.1.0.0.0.1196533885.18148.0.136")
    assert "single" in refusal(folder, series_id="1.3.6.1.4.1.5962.1.1.0.0.0.1196533885.18148.0.481")
    assert "must hold the series 1.2.3" in refusal(folder, series_id="1.2.3")


def test_rotating_stack_is_refused(shared_data):
    """Seven angiography projections about one axis; ITK makes a volume with 25 mm between slices of them."""
    assert "parallel" in refusal(shared_data / "dicom_series" / "pydicom_98892003" / "MR700")


def test_one_of_two_series_is_read(tmp_path, values):
    write_slices(tmp_path, stack(np.arange(6)), np.moveaxis(values, 2, 0), uid="1.2.3.4")
    write_slices(tmp_path, stack(np.arange(3)), np.moveaxis(values[..., :3] * 2, 2, 0), uid="1.2.3.5")
    text = refusal(tmp_path)
    assert re.search(r"found 2: 1.2.3.4.\d\d.dcm \(one of 6 files\), 1.2.3.5.\d\d.dcm \(one of 3 files\);", text)
    np.testing.assert_array_equal(read_series(tmp_path, "1.2.3.5").array, values[..., :3] * 2)


def test_missing_slices(tmp_path, values):
    write_slices(tmp_path, stack(2.5 * np.array([0, 1, 2, 4, 5, 6])), np.moveaxis(values, 2, 0))
    assert "found 1 missing of 7 at 2.5 mm" in refusal(tmp_path)


def test_uneven_spacing(tmp_path, values):
    write_slices(tmp_path, stack([0, 1, 2, 3.4, 4.4, 5.4]), np.moveaxis(values, 2, 0))
    assert "gaps from 1 to 1.4 mm" in refusal(tmp_path)


def test_two_slices_at_one_place(tmp_path, values):
    write_slices(tmp_path, stack([0, 1, 2, 0, 1, 2]), np.moveaxis(values, 2, 0))
    assert "found 6 slices at 3 positions" in refusal(tmp_path)


def test_tilted_gantry(tmp_path, values):
    positions = stack(np.arange(6)) + np.outer(np.arange(6), 0.2 * RESAMPLED[:, 1])
    write_slices(tmp_path, positions, np.moveaxis(values, 2, 0))
    assert "shift of 1 mm" in refusal(tmp_path)


def test_slices_of_two_sizes(tmp_path, values):
    write_slices(tmp_path, stack(np.arange(3)), np.moveaxis(values[..., :3], 2, 0))
    for path in tmp_path.iterdir():
        path.rename(path.with_suffix(".first"))
    write_slices(tmp_path, stack(np.arange(3, 6)), np.moveaxis(values[:-1, :, 3:], 2, 0))
    assert "one size" in refusal(tmp_path)


def test_slice_without_position(tmp_path, values):
    """The position's tag (0020,0032) is renamed in one file's bytes."""
    write_slices(tmp_path, stack(np.arange(6)), np.moveaxis(values, 2, 0))
    path = sorted(tmp_path.iterdir())[3]
    tag, other = b"\x20\x00\x32\x00", b"\x20\x00\x33\x00"
    assert path.read_bytes().count(tag) == 1
    path.write_bytes(path.read_bytes().replace(tag, other))
    assert "ImagePositionPatient" in refusal(tmp_path)


def test_single_slice(tmp_path, values):
    write_slices(tmp_path, stack([0]), np.moveaxis(values[..., :1], 2, 0))
    assert "single" in refusal(tmp_path)
    with pytest.raises(UserError, match="give the folder"):
        read_volume(next(tmp_path.iterdir()))


@pytest.mark.parametrize("left", [0, 200, 700, -100])
@pytest.mark.parametrize("number", [1, 17, 32])
def test_damaged_file(shared_data, tmp_path, number, left):
    """Also the first and the last slice, without which the others would make an even stack."""
    source = next((shared_data / "dicom_series" / "Study1").iterdir())
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    cut = tmp_path / f"{number}.dcm"
    cut.write_bytes(cut.read_bytes()[:left])
    assert f"{number}.dcm: each DICOM file" in refusal(tmp_path)


def test_no_dicom(tmp_path, shared_data):
    (tmp_path / "notes.txt").write_text("no DICOM")
    assert "no DICOM file" in refusal(tmp_path)
    assert "must exist" in refusal(tmp_path / "nobody")
    assert not is_series_folder(tmp_path) and not is_series_folder(tmp_path / "nobody")
    assert "no DICOM file" in refusal(shared_data / "dicom_series" / "Study1")
    assert is_series_folder(next((shared_data / "dicom_series" / "Study1").iterdir()))
