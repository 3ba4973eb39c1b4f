"""Reading and writing volumes: real files of five orientations, and every refusal."""

from __future__ import annotations

import gzip
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tfsono.errors import UserError
from tfsono.volumes.image import (
    Volume,
    case_name,
    is_volume_file,
    read_mask,
    read_volume,
    write_volume,
)
from tfsono.volumes.nifti import copy_geometry, parse_header

SIZE = (11, 9, 7)


@pytest.fixture
def image() -> sitk.Image:
    """A small oblique image; its array is [z, y, x]."""
    values = np.random.default_rng(3).integers(1, 1000, SIZE[::-1]).astype(np.int16)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.5, 0.7, 2.5))
    image.SetOrigin((1.25, -20.5, 3.75))
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.3, -0.2, 0.5)
    image.SetDirection(turn.GetMatrix())
    return image


def save(image: sitk.Image, path: Path) -> Path:
    sitk.WriteImage(image, str(path), path.suffix != ".nii")
    return path


def geometry(volume: Volume) -> tuple:
    return volume.size, volume.spacing_mm, volume.origin_mm, volume.direction


def with_header(image: sitk.Image, path: Path, *changes: tuple[int, str, tuple]) -> Path:
    """A NIfTI file of which single header fields were overwritten: (offset, layout, values)."""
    content = bytearray(save(image, path).read_bytes())
    for offset, layout, values in changes:
        struct.pack_into("<" + layout, content, offset, *values)
    path.write_bytes(content)
    return path


def refusal(path, read=read_volume) -> str:
    """The message of the refusal: one line, which names the file."""
    with pytest.raises(UserError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text and Path(path).stem in text and len(text) < 500
    return text


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd", ".mhd", ".nhdr", ".hdr"])
def test_axes_are_x_y_z_and_geometry_is_the_files(image, tmp_path, suffix):
    volume = read_volume(save(image, tmp_path / f"case{suffix}"))
    assert volume.size == SIZE and volume.array.dtype == np.int16
    assert volume.array.flags.c_contiguous
    assert all(volume.array[i, j, k] == image[i, j, k] for i, j, k in [(0, 0, 0), (10, 0, 3), (4, 8, 6)])
    np.testing.assert_allclose(volume.spacing_mm, (0.5, 0.7, 2.5), rtol=1e-6)
    np.testing.assert_allclose(volume.origin_mm, image.GetOrigin(), rtol=1e-6)
    np.testing.assert_allclose(volume.direction, image.GetDirection(), atol=1e-6)


def readable_samples(shared_data: Path) -> list[Path]:
    files = sorted(path for path in (shared_data / "io_samples").rglob("*") if is_volume_file(path))
    assert len(files) > 40
    return [path for path in files if "example4d" not in path.name]


def test_every_sample_goes_back_bit_for_bit(shared_data, tmp_path):
    """Voxels and geometry, read, written in the file's own format and read again, are the same."""
    for number, path in enumerate(readable_samples(shared_data)):
        volume = read_volume(path)
        suffix = path.name[len(case_name(path)) :].replace(".mnc", ".mha")
        back = tmp_path / f"back{number}{suffix}"
        write_volume(back, volume.array, volume)
        again = read_volume(back)
        assert geometry(again) == geometry(volume), path
        assert again.array.dtype == volume.array.dtype
        np.testing.assert_array_equal(again.array, volume.array)


def test_result_in_another_format_keeps_the_geometry(shared_data, tmp_path):
    """MetaImage to the last bit; NRRD to the last but one; NIfTI, from another format, to 32-bit floats."""
    source = read_volume(shared_data / "io_samples/niivue_demos/FLAIR.nrrd")
    for suffix, relative in ((".mha", 0.0), (".nrrd", 1e-15), (".nii.gz", 1e-7)):
        mask = np.zeros(source.size, np.uint8)
        mask[3, 5, 7] = 2
        write_volume(tmp_path / f"mask{suffix}", mask, source)
        again = read_mask(tmp_path / f"mask{suffix}")
        assert again.array.dtype == np.uint8 and again.array[3, 5, 7] == 2 and again.array.sum() == 2
        for one, other in zip(geometry(again)[1:], geometry(source)[1:], strict=True):
            np.testing.assert_allclose(one, other, rtol=relative, atol=relative * 200)


def test_the_same_image_in_two_formats_is_the_same(shared_data):
    folder = shared_data / "io_samples" / "niivue_demos"
    first, second = read_volume(folder / "FLAIR.nii.gz"), read_volume(folder / "FLAIR.nrrd")
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_allclose(first.direction, second.direction, atol=1e-6)


def test_nifti_written_from_a_big_endian_file_has_its_affine(shared_data, tmp_path):
    source = shared_data / "io_samples/nibabel/nibabel/tests/data/anatomical.nii"
    volume = read_volume(source)
    write_volume(tmp_path / "back.nii", volume.array, volume)
    start, back = source.read_bytes()[:348], (tmp_path / "back.nii").read_bytes()[:348]
    assert parse_header(start).order == ">" and parse_header(back).order == "<"
    assert struct.unpack_from(">2h18f", start, 252) == struct.unpack_from("<2h18f", back, 252)


def test_a_changed_geometry_is_written_and_not_the_sources(image, tmp_path):
    volume = read_volume(save(image, tmp_path / "case.nii.gz"))
    moved = replace(volume, origin_mm=(8.0, 9.0, 10.0))
    write_volume(tmp_path / "moved.nii.gz", volume.array, moved)
    np.testing.assert_allclose(read_volume(tmp_path / "moved.nii.gz").origin_mm, (8, 9, 10), rtol=1e-6)


def test_copy_geometry_needs_headers():
    with pytest.raises(ValueError, match="NIfTI-1"):
        copy_geometry(b"\0" * 348, b"\0" * 348)


@pytest.mark.parametrize(
    ("written", "read"),
    [(np.int8, np.int8), (np.uint16, np.uint16), (np.int32, np.int32), (np.uint32, np.uint32),
     (np.int64, np.int32), (np.uint64, np.int32), (np.float32, np.float32), (np.float64, np.float32)],
)  # fmt: skip
def test_types(tmp_path, written, read):
    values = (np.arange(11 * 9 * 7) % 101).reshape(SIZE).astype(written)
    sitk.WriteImage(sitk.GetImageFromArray(values.transpose(2, 1, 0).copy()), str(tmp_path / "case.nrrd"))
    volume = read_volume(tmp_path / "case.nrrd")
    assert volume.array.dtype == read
    np.testing.assert_array_equal(volume.array, values)


def test_rescaled_integers_are_floats(image, tmp_path):
    volume = read_volume(with_header(image, tmp_path / "case.nii", (112, "2f", (2.5, -7.0))))
    assert volume.array.dtype == np.float32
    expected = sitk.GetArrayFromImage(image).transpose(2, 1, 0) * 2.5 - 7
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)


def test_integers_beyond_32_bits_are_refused(tmp_path):
    values = np.arange(11 * 9 * 7, dtype=np.int64).reshape(7, 9, 11) + 2**40
    path = save(sitk.GetImageFromArray(values), tmp_path / "case.mha")
    assert "32 bits" in refusal(path) and str(2**40) in refusal(path)


def test_a_fourth_axis_of_one_is_dropped_and_of_two_refused(image, tmp_path):
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        one = read_volume(save(sitk.JoinSeries([image]), tmp_path / f"one{suffix}"))
        assert one.size == SIZE and len(one.direction) == 9
        two = save(sitk.JoinSeries([image, image]), tmp_path / f"two{suffix}")
        assert "found 4D, size 11x9x7x2" in refusal(two)


def test_real_4d_file_is_refused(shared_data):
    path = shared_data / "io_samples/nibabel/nibabel/tests/data/example4d.nii.gz"
    assert "found 4D, size 128x96x24x2" in refusal(path)


def test_missing_file_and_folder(tmp_path):
    assert "must exist" in refusal(tmp_path / "nobody.nii.gz")
    assert "no DICOM file" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.98])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("compressed", [True, False])
def test_truncated_files_are_refused(image, tmp_path, suffix, share, compressed, capfd):
    path = tmp_path / f"case{suffix}"
    sitk.WriteImage(image, str(path), compressed)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refusal(path)
    assert capfd.readouterr().err == ""


def test_what_simpleitk_does_with_a_truncated_nifti(image, tmp_path):
    """The reason for `completeness`: half of the file becomes zeros, without an error."""
    path = save(image, tmp_path / "case.nii.gz")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) == 0).mean() > 0.3
    assert "truncated" in refusal(path)


def test_a_gzipped_nifti_next_to_a_plain_one_is_refused(image, tmp_path):
    """SimpleITK reads the voxels of case.nii instead of those of case.nii.gz."""
    save(image, tmp_path / "case.nii")
    path = save(image + 5, tmp_path / "case.nii.gz")
    assert sitk.ReadImage(str(path))[0, 0, 0] == image[0, 0, 0]
    assert "case.nii," in refusal(path)
    assert read_volume(tmp_path / "case.nii").array[0, 0, 0] == image[0, 0, 0]


def test_damaged_gzip_is_refused(image, tmp_path):
    path = save(image, tmp_path / "case.nii.gz")
    content = bytearray(path.read_bytes())
    content[-20] ^= 0xFF
    path.write_bytes(content)
    assert "gzip" in refusal(path)


def test_missing_and_short_data_files(image, tmp_path):
    path = save(image, tmp_path / "case.mhd")
    data = next(one for one in tmp_path.iterdir() if "raw" in one.name)
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    assert "truncated" in refusal(path)
    data.unlink()
    assert data.name in refusal(path)
    pair = save(image, tmp_path / "pair.hdr")
    (tmp_path / "pair.img").write_bytes(b"\0" * 600)
    assert "truncated" in refusal(pair)
    (tmp_path / "pair.img").unlink()
    assert "pair.img" in refusal(pair)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".dcm"])
@pytest.mark.parametrize("text", ["", "This is a letter, not a volume.\n" * 40])
def test_text_with_a_medical_name_is_refused(tmp_path, suffix, text, capfd):
    path = tmp_path / f"letter{suffix}"
    path.write_text(text)
    assert "must be" in refusal(path) or "must begin" in refusal(path)
    assert capfd.readouterr().err == ""


def test_gzipped_text_is_refused(tmp_path):
    with gzip.open(tmp_path / "letter.nii.gz", "wt") as file:
        file.write("This is a letter.\n" * 40)
    assert "NIfTI header" in refusal(tmp_path / "letter.nii.gz")


def test_formats_whose_truncation_is_not_noticed_are_refused(image, tmp_path):
    for suffix, name in ((".gipl", "Gipl"), (".vtk", "VTK"), (".tif", "TIFF")):
        assert name in refusal(save(image, tmp_path / f"case{suffix}"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_nan_and_infinity_are_refused(image, tmp_path, bad):
    image = sitk.Cast(image, sitk.sitkFloat64)
    image[4, 2, 6] = bad
    assert "found 1 of 693" in refusal(save(image, tmp_path / "case.nrrd"))
    assert "(4, 2, 6)" in refusal(tmp_path / "case.nrrd")


def test_constant_image_is_refused_but_an_empty_mask_is_not(image, tmp_path):
    path = save(image * 0 + 5, tmp_path / "case.nii.gz")
    assert "every voxel is 5" in refusal(path)
    assert (read_mask(path).array == 5).all()


def test_zero_size_is_refused(image, tmp_path):
    for sides in ((3, 11, 0, 7, 1, 1, 1, 1), (3, 11, -9, 7, 1, 1, 1, 1), (0, 11, 9, 7, 1, 1, 1, 1)):
        assert "voxels" in refusal(with_header(image, tmp_path / "case.nii", (40, "8h", sides)))
    for suffix, old, new in ((".mha", b"DimSize = 11 9 7", b"DimSize = 11 0 7"),
                             (".nrrd", b"sizes: 11 9 7", b"sizes: 11 0 7")):  # fmt: skip
        path = tmp_path / f"case{suffix}"
        sitk.WriteImage(image, str(path), False)
        path.write_bytes(path.read_bytes().replace(old, new))
        assert "0" in refusal(path)


def test_two_dimensions_and_a_single_slice_are_refused(image, tmp_path):
    assert "found 2D" in refusal(save(image[:, :, 3], tmp_path / "flat.nii.gz"))
    assert "found size 11x9x1" in refusal(save(image[:, :, 3:4], tmp_path / "slice.nii.gz"))


def test_colours_and_vectors_are_refused(image, tmp_path):
    assert "no colour" in refusal(save(sitk.Compose(image, image, image), tmp_path / "vector.nii.gz"))
    colour = np.zeros((9, 11, 3), np.uint8)
    assert "PNG" in refusal(save(sitk.GetImageFromArray(colour, isVector=True), tmp_path / "colour.png"))


@pytest.mark.parametrize("spacing", [0.0, -0.5, np.nan, np.inf])
def test_impossible_spacing_is_refused(image, tmp_path, spacing):
    path = with_header(image, tmp_path / "case.nii", (76, "4f", (1, spacing, 0.7, 2.5)))
    assert "spacing must be positive" in refusal(path)


def test_shear_is_refused(image, tmp_path, capfd):
    """ITK refuses a sheared sform without a qform and silently takes the qform where there is one."""
    sheared = (280, "12f", (0.5, 0.07, 0, 1, 0, 0.7, 0, 2, 0, 0, 2.5, 3))
    for qform in (0, 1):
        path = with_header(image, tmp_path / "case.nii", (252, "2h", (qform, 1)), sheared)
        assert "shear" in refusal(path)
    sitk.WriteImage(image, str(tmp_path / "case.mha"), False)
    content = (tmp_path / "case.mha").read_bytes()
    start = content.index(b"TransformMatrix")
    end = content.index(b"\n", start)
    for matrix, word in ((b"1 0.2 0 0 1 0 0 0 1", "perpendicular"), (b"0 0 0 0 1 0 0 0 1", "determinant")):
        line = b"TransformMatrix = " + matrix
        (tmp_path / "case.mha").write_bytes(content[:start] + line + content[end:])
        assert word in refusal(tmp_path / "case.mha")
    assert capfd.readouterr().err == ""


def test_sform_with_nan_is_refused(image, tmp_path, capfd):
    rows = (280, "12f", (0.5, 0, 0, np.nan, 0, 0.7, 0, 2, 0, 0, 2.5, 3))
    assert "not finite" in refusal(with_header(image, tmp_path / "case.nii", (252, "2h", (1, 1)), rows))
    assert capfd.readouterr().err == ""


def test_differing_qform_and_sform_both_go_back(image, tmp_path):
    """Each code and both transforms are the source's, whichever of them SimpleITK took."""
    rows = (280, "12f", (0.5, 0, 0, 100, 0, 0.7, 0, 200, 0, 0, 2.5, 300))
    for codes in ((1, 1), (1, 2), (2, 4), (0, 2), (1, 0), (0, 0)):
        path = with_header(image, tmp_path / "case.nii", (252, "2h", codes), rows)
        volume = read_volume(path)
        write_volume(tmp_path / "back.nii", volume.array, volume)
        assert geometry(read_volume(tmp_path / "back.nii")) == geometry(volume)
        assert (tmp_path / "back.nii").read_bytes()[252:328] == path.read_bytes()[252:328]


def test_sform_that_contradicts_the_spacing_is_refused(image, tmp_path):
    twice = (280, "12f", (1.0, 0, 0, 1, 0, 1.4, 0, 2, 0, 0, 5.0, 3))
    path = with_header(image, tmp_path / "case.nii", (252, "2h", (1, 1)), twice)
    assert "columns of (1, 1.4, 5)" in refusal(path)


def test_masks_of_the_samples_fit_their_images(shared_data):
    folder = shared_data / "io_samples"
    for image, mask, labels in (
        ("sct/t2/t2.nii.gz", "sct/t2/t2_seg-manual.nii.gz", {0, 1}),
        ("sct/t2s/t2s.nii.gz", "sct/t2s/t2s_gmseg_manual.nii.gz", {0, 1}),
        ("niivue_demos/FLAIR.nrrd", "niivue_demos/lesion.nii.gz", {0, 1, 2, 3}),
        ("totalsegmentator/example_mr_sm.nii.gz", "totalsegmentator/example_seg_mr.nii.gz", None),
    ):
        like = read_volume(folder / image)
        found = read_mask(folder / mask, like)
        assert geometry(found) == geometry(like) and found.array.dtype == np.uint8
        assert labels is None or set(np.unique(found.array)) == labels


def test_float_mask_of_whole_numbers_is_read(shared_data):
    like = read_volume(shared_data / "io_samples/sct/t2/t2.nii.gz")
    mask = read_mask(shared_data / "io_samples/sct/t2/t2_seg-manual_labeled.nii.gz", like)
    assert mask.array.dtype == np.uint8 and mask.array.max() > 1


def test_mask_on_another_grid_is_refused(image, tmp_path):
    like = read_volume(save(image, tmp_path / "image.nii.gz"))
    mask = sitk.Cast(image > 500, sitk.sitkUInt8)

    def found(changed: sitk.Image) -> str:
        path = save(changed, tmp_path / "mask.nii.gz")
        return refusal(path, lambda one: read_mask(one, like))

    assert "size 10x9x7 against 11x9x7" in found(mask[:10])
    moved = sitk.Image(mask)
    moved.SetOrigin((1.25, -20.5, 3.85))
    assert "origin" in found(moved) and "spacing" not in found(moved)
    wider = sitk.Image(mask)
    wider.SetSpacing((0.5, 0.71, 2.5))
    assert "spacing (0.5, 0.71, 2.5) against (0.5, 0.7, 2.5)" in found(wider)
    turned = sitk.Image(mask)
    turned.SetDirection(np.eye(3).ravel())
    assert "direction" in found(turned)
    assert "image.nii.gz" in found(turned)
    nearly = sitk.Image(mask)
    nearly.SetOrigin((1.25, -20.5, 3.7501))
    assert read_mask(save(nearly, tmp_path / "mask.nii.gz"), like).origin_mm == like.origin_mm


def test_mask_with_fractions_is_refused(image, tmp_path):
    path = save(sitk.Cast(image, sitk.sitkFloat32) / 7, tmp_path / "mask.nii.gz")
    assert "whole numbers" in refusal(path, read_mask)


def test_mask_types(image, tmp_path):
    assert read_mask(save(image, tmp_path / "mask.nii.gz")).array.dtype == np.int32
    assert read_mask(save(image * -1, tmp_path / "mask.nii.gz")).array.dtype == np.int32


def test_nothing_is_left_when_writing_fails(image, tmp_path):
    volume = read_volume(save(image, tmp_path / "case.mha"))
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UserError, match=r"\.nii\.gz, \.nii, \.mha, \.nrrd; found 'out.mhd'"):
        write_volume(tmp_path / "out.mhd", volume.array, volume)
    with pytest.raises(UserError, match="could not be written"):
        write_volume(tmp_path / "out.nrrd", volume.array.astype(np.float16), volume)
    with pytest.raises(UserError, match="folder"):
        write_volume(tmp_path / "nowhere" / "out.nii.gz", volume.array, volume)
    with pytest.raises(ValueError, match="size of like"):
        write_volume(tmp_path / "out.nii.gz", volume.array[1:], volume)
    assert sorted(os.listdir(tmp_path)) == before


def test_equal_volumes_are_equal_files_and_replace_older_ones(image, tmp_path):
    volume = read_volume(save(image, tmp_path / "case.nii.gz"))
    (tmp_path / "b.nii.gz").write_text("older")
    write_volume(tmp_path / "a.nii.gz", volume.array, volume)
    write_volume(tmp_path / "b.nii.gz", volume.array, volume)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.nii.gz", "b.nii.gz", "case.nii.gz"]


def test_names():
    names = {"a.b.nii.gz": "a.b", "A.NRRD": "A", "x.mha": "x", "study_3": "study_3", "s.nii": "s"}
    assert {name: case_name("some/" + name) for name in names} == names
    assert all(is_volume_file(name) for name in names if name != "study_3")
    others = ("._a.nii.gz", ".nii.gz", "a.txt", "a.json", "a.gz", "nii", "a.img", "a.raw")
    assert not any(is_volume_file(name) for name in others)
