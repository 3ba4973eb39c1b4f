"""Spacing, units, frames and axes that NIfTI, MetaImage, NRRD and MINC headers state, and ITK ignores or makes up."""

from __future__ import annotations

import os
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
from small_dicom import write_slices

from tfsono.data.layout import open_dataset
from tfsono.data.prepare import read_image
from tfsono.errors import UserError
from tfsono.volumes.image import read_volume, write_volume
from tfsono.volumes.image_2d import read_image_2d, read_mask_2d
from tfsono.volumes.dicom import is_series_folder
from tfsono.volumes.volume import NoSpacingError

SIZE = (7, 6, 5)
SPACING = (0.5, 0.75, 1.25)


@pytest.fixture
def image() -> sitk.Image:
    values = np.random.default_rng(3).integers(1, 1000, SIZE[::-1]).astype(np.int16)
    made = sitk.GetImageFromArray(values)
    made.SetSpacing(SPACING)
    made.SetOrigin((10.0, 20.0, 30.0))
    return made


def refusal(path, kind=UserError, read=read_volume) -> str:
    with pytest.raises(kind) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text and Path(path).name in text and "found" in text and len(text) < 500
    return text


def check_stated(path: Path) -> None:
    """Refused without a spacing; read with one, which a note says."""
    assert "--spacing_mm_of_file" in refusal(path, NoSpacingError)
    volume = read_volume(path, spacing_mm=(0.4, 0.5, 0.6))
    assert volume.spacing_mm == (0.4, 0.5, 0.6) and volume.size == SIZE
    assert any("as stated" in note for note in volume.notes)


# ---------------------------------------------------------------------------------------------- MetaImage


def metaimage(folder: Path, image: sitk.Image, spacing: bytes, detached: bool = False) -> Path:
    """A file with other lines instead of its ElementSpacing."""
    path = folder / ("case.mhd" if detached else "case.mha")
    sitk.WriteImage(image, str(path), False)
    line = next(line for line in path.read_bytes().splitlines(True) if line.startswith(b"ElementSpacing"))
    path.write_bytes(path.read_bytes().replace(line, spacing, 1))
    return path


POSES = b"".join(b"Seq_Frame%04d_ProbeToTrackerTransform = 1 0 0 0 0 1 0 0 0 0 1\n" % one for one in range(5))
STATED = b"ElementSpacing = 0.5 0.75 1.25\n"


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("line", [b"", b"ElementSpacing = 0.5 -0.5 1.25\n", b"elementspacing = 0.5 0.75 1.25\n"])
def test_metaimage_without_spacing(tmp_path, image, line, detached):
    check_stated(metaimage(tmp_path, image, line, detached))


@pytest.mark.parametrize("line", [b"ElementSpacing = 0.5 0.75\n", b"ElementSpacing = 0.5 0 1.25\n",
                                  b"ElementSpacing = a b c\n", b"ElementSpacing = 0.5 nan 1.25\n"])  # fmt: skip
def test_metaimage_with_half_a_spacing(tmp_path, image, line):
    assert "ElementSpacing =" in refusal(metaimage(tmp_path, image, line), NoSpacingError)


@pytest.mark.parametrize("line", [STATED, b"  ElementSpacing   =0.5  0.75 1.25\r\n", b"ElementSpacing: 0.5 0.75 1.25\n",
                                  b"ElementSize = 0.5 0.75 1.25\n"])  # fmt: skip
def test_metaimage_with_spacing(tmp_path, image, line):
    volume = read_volume(metaimage(tmp_path, image, line))
    assert volume.spacing_mm == SPACING and volume.notes == ()


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("?", 1), ("um", 1e-3), ("cm", 10)])
def test_units_of_a_metaimage(tmp_path, image, unit, factor):
    check_converted(metaimage(tmp_path, image, STATED + f"DistanceUnits = {unit}\n".encode()), unit, factor)


def check_converted(path: Path, unit: str, factor: float) -> None:
    volume = read_volume(path)
    np.testing.assert_allclose(volume.spacing_mm, np.multiply(SPACING, factor), rtol=1e-6)
    np.testing.assert_allclose(volume.origin_mm, np.multiply((10, 20, 30), factor), rtol=1e-6)
    assert any(f"converted from {unit} to mm" in note for note in volume.notes) is (factor != 1)
    is_unusual = min(volume.spacing_mm) < 0.02 or max(volume.spacing_mm) > 20
    assert any("is the unit right" in note for note in volume.notes) is is_unusual


@pytest.mark.parametrize("lines", [
    b"Kinds = domain domain list\nElementSpacing = 1 1 1\n", b"Kinds = domain domain time\n" + STATED,
    POSES + STATED, b"Kinds = domain domain list\n" + POSES + STATED,
    b"Kinds = domain domain domain\n" + POSES + STATED,
])  # fmt: skip
def test_a_tracked_sweep_in_a_metaimage(tmp_path, image, lines):
    assert "5 frames of a sweep" in refusal(metaimage(tmp_path, image, lines))


def test_a_long_sweep(tmp_path, image):
    """Its header is longer than the piece of the file that is read for it."""
    poses = b"".join(b"Seq_Frame%04d_ProbeToTrackerTransform = %s\n" % (one, b"1 0 0 0 " * 40) for one in range(4000))
    assert "frames of a sweep" in refusal(metaimage(tmp_path, image, STATED + poses))


def test_reconstructed_volumes_are_no_sweeps(tmp_path, image, shared_data):
    """Some of PLUS's own call the third axis a list, some tell of one frame."""
    path = metaimage(tmp_path, image, b"Seq_Frame0000_ImageStatus = OK\n" + STATED)
    assert read_volume(path).notes == ()
    (note,) = read_volume(metaimage(tmp_path, image, b"Kinds = domain domain list\n" + STATED)).notes
    assert "list" in note
    paths = sorted((shared_data / "ultrasound_phantom").glob("*.mha"))
    assert len(paths) > 4
    for path in paths:
        assert max(read_volume(path).spacing_mm) <= 0.5


def test_one_volume_with_the_pose_of_its_frame(tmp_path, image):
    path = tmp_path / "case.mha"
    sitk.WriteImage(sitk.JoinSeries([image]), str(path), False)
    pose = b"Kinds = domain domain domain list\nSeq_Frame0000_ProbeToTrackerTransform = 1 0 0\nElementType"
    path.write_bytes(path.read_bytes().replace(b"ElementType", pose, 1))
    assert read_volume(path).size == SIZE
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(path), False)
    path.write_bytes(path.read_bytes().replace(b"ElementType", pose, 1))
    assert "4D" in refusal(path)


# ---------------------------------------------------------------------------------------------- NRRD


DIRECTIONS = ("space: left-posterior-superior\nspace directions: (0.5,0,0) (0,0.75,0) (0,0,1.25)\n"
              "space origin: (10,20,30)\n")
SPACINGS = "spacings: 0.5 0.75 1.25\n"


def nrrd(folder: Path, fields: str, sizes: str = "7 6 5", values=None, ends: str = "\n") -> Path:
    path = folder / "case.nrrd"
    axes = len(sizes.split())
    head = f"NRRD0005\n# a comment\ntype: short\ndimension: {axes}\nsizes: {sizes}\nendian: little\nencoding: raw\n"
    count = int(np.prod([int(side) for side in sizes.split()]))
    content = np.arange(count, dtype="<i2") if values is None else values
    path.write_bytes((head + fields + "\n").replace("\n", ends).encode() + content.tobytes())
    return path


@pytest.mark.parametrize("fields", [
    "", "thicknesses: 1 1 1\n", "spacings: nan 0.75 1.25\n", "spacings: 0.5 0 1.25\n", "axis mins: 0 0 0\n",
    "spacings: 0.5 0.75 nan\n"])  # fmt: skip
def test_nrrd_without_spacing(tmp_path, fields):
    assert "--spacing_mm_of_file" in refusal(nrrd(tmp_path, fields), NoSpacingError)


def test_nrrd_with_a_stated_spacing(tmp_path):
    check_stated(nrrd(tmp_path, ""))


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("fields", [SPACINGS, DIRECTIONS, "Spacings: 0.5 0.75 1.25\n",
                                    "Seq_Frame0000_X:=OK\nkinds: space space space\n" + DIRECTIONS])  # fmt: skip
def test_nrrd_with_spacing(tmp_path, fields, ends):
    volume = read_volume(nrrd(tmp_path, fields, ends=ends))
    assert volume.spacing_mm == SPACING and volume.notes == ()


@pytest.mark.parametrize(("unit", "factor"), [
    ("mm", 1), ("millimeters", 1), ("", 1), ("???", 1), ("um", 1e-3), ("microns", 1e-3), ("\u00b5m", 1e-3),
    ("Micrometers", 1e-3), ("cm", 10), ("m", 1000), ("metre", 1000), ("inches", 25.4), ("nm", 1e-6)])  # fmt: skip
def test_units_of_a_nrrd(tmp_path, unit, factor):
    units = f'space units: "{unit}" "{unit}" "{unit}"\n'
    check_converted(nrrd(tmp_path, DIRECTIONS + units), unit, factor)


def test_units_by_axis(tmp_path):
    volume = read_volume(nrrd(tmp_path, SPACINGS + 'units: "um" "um" "mm"\n'))
    np.testing.assert_allclose(volume.spacing_mm, (0.5e-3, 0.75e-3, 1.25))
    assert "mm" in refusal(nrrd(tmp_path, DIRECTIONS + 'space units: "um" "um" "mm"\n'))


@pytest.mark.parametrize("unit", ["pixel", "s", "furlong", "mm^2"])
def test_a_unit_that_is_no_length(tmp_path, unit):
    assert repr(unit) in refusal(nrrd(tmp_path, DIRECTIONS + f'space units: "{unit}" "{unit}" "{unit}"\n'))


@pytest.mark.parametrize(("fields", "sizes", "word"), [
    ("kinds: domain domain list\n" + SPACINGS, "7 6 5", "5 frames"),
    ("kinds: domain domain time\n" + SPACINGS, "7 6 5", "5 frames"),
    ("kinds: list domain domain\n" + SPACINGS, "4 6 5", "4 frames"),
    ("kinds: domain domain domain list\nspacings: 1 1 1 nan\n", "7 6 5 3", "3 frames"),
    ("kinds: vector domain domain domain\nspacings: nan 1 1 1\n", "3 7 6 5", "kind 'vector'"),
    ("kinds: RGB-color domain domain domain\nspacings: nan 1 1 1\n", "3 7 6 5", "kind 'rgb-color'"),
    ("Seq_Frame0000_A:=1 0 0 0\nSeq_Frame0001_A:=1 0 0 0\n" + SPACINGS, "7 6 5", "5 frames"),
    ("Segment0_ID:=a\nSegment1_ID:=b\nkinds: list domain domain domain\nspacings: nan 1 1 1\n", "2 7 6 5", "2 layers"),
])  # fmt: skip
def test_axes_of_a_nrrd_that_are_not_space(tmp_path, fields, sizes, word):
    assert word in refusal(nrrd(tmp_path, fields, sizes))


@pytest.mark.parametrize("fields", [
    "kinds: list domain domain domain\nspace: left-posterior-superior\n"
    "space directions: none (0.5,0,0) (0,0.75,0) (0,0,1.25)\n",
    "kinds: stub domain domain domain\nspacings: nan 0.5 0.75 1.25\n"])  # fmt: skip
def test_an_axis_of_one_in_front(tmp_path, fields):
    volume = read_volume(nrrd(tmp_path, fields, "1 7 6 5"))
    assert volume.size == SIZE and volume.spacing_mm == SPACING


# ---------------------------------------------------------------------------------------------- MINC


@pytest.mark.parametrize(("step", "unit", "factor"), [(None, "mm", 1), (0.5, "mm", 1), (0.5, "um", 1e-3)])
def test_minc(tmp_path, shared_data, step, unit, factor):
    """A real file of which one attribute is changed."""
    path = tmp_path / "case.mnc"
    shutil.copy(shared_data / "io_samples/nibabel/nibabel/tests/data/minc2_1_scale.mnc", path)
    whole = read_volume(path)
    with h5py.File(path, "r+") as file:
        for name in ("xspace", "yspace", "zspace"):
            axis = file["minc-2.0/dimensions"][name].attrs
            axis["units"] = np.bytes_(unit)
            if step is None and name == "yspace":
                del axis["step"]
    if step is None:
        assert "step" in refusal(path, NoSpacingError)
    else:
        np.testing.assert_allclose(read_volume(path).spacing_mm, np.multiply(whole.spacing_mm, factor))


# ---------------------------------------------------------------------------------------------- NIfTI


def nifti(folder: Path, image: sitk.Image, *changes: tuple[int, str, tuple], name: str = "case.nii") -> Path:
    """A file of which header fields were overwritten: (offset, layout, values)."""
    path = folder / name
    sitk.WriteImage(image, str(path))
    content = bytearray(path.read_bytes())
    for offset, layout, values in changes:
        struct.pack_into("<" + layout, content, offset, *values)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("code", "unit", "factor"), [(0, "?", 1), (1, "m", 1000), (2, "mm", 1), (3, "um", 1e-3)])
@pytest.mark.parametrize("time", [0, 8, 16])
def test_units_of_a_nifti(tmp_path, image, code, unit, factor, time):
    path = nifti(tmp_path, image, (123, "B", (code + time,)))
    check_converted(path, unit, factor)
    volume = read_volume(path)
    write_volume(tmp_path / "back.nii.gz", volume.array, volume)
    again = read_volume(tmp_path / "back.nii.gz")
    assert (again.spacing_mm, again.origin_mm) == (volume.spacing_mm, volume.origin_mm)


@pytest.mark.parametrize("spacing", [0.0, np.nan])
@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_nifti_without_spacing(tmp_path, image, spacing, codes):
    check_stated(nifti(tmp_path, image, (76, "4f", (1, 0.5, spacing, 1.25)), (252, "2h", codes)))


@pytest.mark.parametrize("sides", [(4, *SIZE, 0, 0, 0, 0), (4, *SIZE, 0, 1, 1, 1), (5, *SIZE, 0, 0, 1, 1),
                                   (7, *SIZE, 1, 0, 1, 0)])  # fmt: skip
def test_unused_dimensions_of_0(tmp_path, image, sides):
    volume = read_volume(nifti(tmp_path, image, (40, "8h", sides)))
    assert volume.size == SIZE and volume.notes == ()
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image).transpose(2, 1, 0))


@pytest.mark.parametrize("sides", [(4, 7, 6, 0, 5, 0, 0, 0), (4, *SIZE, -1, 0, 0, 0), (4, *SIZE, 2, 0, 0, 0)])
def test_other_dimensions_stay_refused(tmp_path, image, sides):
    refusal(nifti(tmp_path, image, (40, "8h", sides)))


def sheared(angle: float) -> tuple[int, str, tuple]:
    """An sform whose second axis leans by `angle`, rotated about z."""
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    lean = np.array([[1, np.sin(angle), 0], [0, np.cos(angle), 0], [0, 0, 1]])
    affine = np.column_stack([turn @ lean @ np.diag(SPACING), (1, 2, 3)])
    return 280, "12f", tuple(affine.ravel())


@pytest.mark.parametrize("angle", [2e-5, 4e-4, 2e-3, 9.5e-3, -5e-3])
def test_a_small_shear_is_read_as_the_nearest_rotation(tmp_path, image, angle):
    path = nifti(tmp_path, image, (252, "2h", (0, 2)), sheared(angle))
    volume = read_volume(path)
    matrix = volume.direction_matrix
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), rtol=0, atol=3e-5)
    leaning = np.array([-0.6 + 0.8 * angle, 0.8 + 0.6 * angle, 0]) * (-1, -1, 1)
    assert np.linalg.norm(matrix[:, 1] - leaning) < 0.51 * abs(angle) + 1e-6
    assert volume.spacing_mm == pytest.approx(SPACING, rel=1e-4)
    assert volume.origin_mm == pytest.approx((-1, -2, 3))
    if abs(angle) > 1e-4:
        assert f"{np.degrees(abs(angle)):.3g} degrees" in volume.notes[0]
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    write_volume(tmp_path / "back.nii.gz", volume.array, volume)
    again = read_volume(tmp_path / "back.nii.gz")
    assert replace(again, array=volume.array, path=volume.path) == volume
    write_volume(tmp_path / "back.nii", volume.array, volume)
    assert (tmp_path / "back.nii").read_bytes()[252:328] == path.read_bytes()[252:328]
    assert "ITK_NIFTI_SFORM_PERMISSIVE" not in os.environ


@pytest.mark.parametrize("angle", [0.012, 0.1])
def test_a_large_shear_is_refused_with_its_angle(tmp_path, image, angle):
    path = nifti(tmp_path, image, (252, "2h", (0, 2)), sheared(angle))
    assert f"{np.degrees(angle):.3g} degrees" in refusal(path) and "resample" in refusal(path)


@pytest.mark.parametrize(("lean", "word"), [(2e-4, "0.0115 degrees"), (5e-3, "0.286 degrees"), (0.05, "")])
def test_a_shear_of_text_headers(tmp_path, image, lean, word):
    directions = f"space: left-posterior-superior\nspace directions: (0.5,0,0) ({0.75 * lean},0.75,0) (0,0,1.25)\n"
    matrix = f"TransformMatrix = 1 0 0 {np.sin(lean)} {np.cos(lean)} 0 0 0 1\n".encode()
    path = metaimage(tmp_path, image, STATED)
    line = next(line for line in path.read_bytes().splitlines(True) if line.startswith(b"TransformMatrix"))
    path.write_bytes(path.read_bytes().replace(line, matrix, 1))
    for one in (path, nrrd(tmp_path, directions)):
        if word:
            volume = read_volume(one)
            assert word in volume.notes[0]
            np.testing.assert_allclose(volume.direction_matrix.T @ volume.direction_matrix, np.eye(3), atol=1e-9)
        else:
            assert "degrees" in refusal(one) and "resample" in refusal(one)


FORMS = [((1, 1), "sform"), ((1, 2), "qform"), ((2, 4), "qform")]


@pytest.mark.parametrize(("codes", "taken"), FORMS)
def test_forms_that_disagree(tmp_path, image, codes, taken):
    """ITK's choice is kept; the sform is 3, 4 and 12 mm away: 13 mm."""
    image.SetOrigin((0, 0, 0))
    rows = (280, "12f", (-0.5, 0, 0, 3, 0, -0.75, 0, 4, 0, 0, 1.25, 12))
    volume = read_volume(nifti(tmp_path, image, (252, "2h", codes), rows))
    (note,) = volume.notes
    assert "up to 13 mm apart" in note and f"the {taken} was taken" in note
    np.testing.assert_allclose(volume.origin_mm, (-3, -4, 12) if taken == "sform" else (0, 0, 0), atol=1e-5)


def test_forms_of_a_rotation_that_disagree(tmp_path, image):
    """Without an offset: the corner farthest from the first voxel counts."""
    image.SetOrigin((0, 0, 0))
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ np.diag(SPACING)
    affine = np.column_stack([np.diag((-1, -1, 1)) @ turn, (0, 0, 0)])
    (note,) = read_volume(nifti(tmp_path, image, (252, "2h", (1, 2)), (280, "12f", tuple(affine.ravel())))).notes
    farthest = np.hypot(*np.multiply(SPACING[:2], (6, 5))) * np.sqrt(2)
    assert f"up to {farthest:.3g} mm apart" in note


@pytest.mark.parametrize("direction", [0, 1, 2])
@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (0, 2), (2, 0), (0, 0)])
@pytest.mark.parametrize("unit", [2, 3])
def test_forms_that_agree_are_not_mentioned(tmp_path, image, direction, codes, unit):
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.3, -0.2, 0.5)
    matrix = np.reshape(turn.GetMatrix(), (3, 3)) @ np.diag([(1, 1, 1), (1, -1, 1), (-1, 1, 1)][direction])
    image.SetDirection(matrix.ravel())
    image.SetSpacing(np.multiply(SPACING, 1 if unit == 2 else 1000))
    notes = read_volume(nifti(tmp_path, image, (252, "2h", codes), (123, "B", (unit,)))).notes
    assert not any("form" in note for note in notes)


# ---------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", [b"H\xfcfte.nii", b"H\xfcfte.nii.gz", b"H\xfcfte.mha", b"H\xfcfte.dcm", b"folder\xff"])
def test_names_that_are_not_utf_8(tmp_path, image, name):
    path = tmp_path / os.fsdecode(name)
    plain = tmp_path / "plain.nii"
    sitk.WriteImage(image, str(plain))
    if b"." in name:
        shutil.copy(plain, path)
    else:
        path.mkdir()
        shutil.copy(plain, path / "case.nii")
        assert not is_series_folder(path)
        path = path / "case.nii"
    for read in (read_volume, read_image_2d, lambda one: read_mask_2d(one, (16, 16))):
        with pytest.raises(UserError, match=r"UTF-8.*rename") as caught:
            read(path)
        str(caught.value).encode("utf-8")
    volume = read_volume(plain)
    with pytest.raises(UserError, match="UTF-8"):
        write_volume(path.with_suffix(".nii"), volume.array, volume)


def test_a_series_with_names_that_are_not_utf_8(tmp_path):
    values = np.random.default_rng(1).integers(1, 900, (4, 9, 11))
    folder = write_slices(tmp_path / "series", values, ["0", "1", "2", "3"])
    (folder / os.fsdecode(b"H\xfcfte.txt")).write_text("no DICOM")
    assert read_volume(folder).size == (11, 9, 4)
    path = next(folder.glob("*.dcm"))
    path.rename(folder / os.fsdecode(b"H\xfcfte.dcm"))
    with pytest.raises(UserError, match="UTF-8"):
        read_volume(folder)


def test_umlauts_in_utf_8_are_read(tmp_path, image):
    path = tmp_path / "H\u00fcfte.nii"
    sitk.WriteImage(image, str(path))
    assert read_volume(path).size == SIZE


# ---------------------------------------------------------------------------------------------- field cases


@pytest.mark.parametrize(("name", "words"), [
    ("dicom/enhanced_gap", "missing"), ("dicom/us_cine", "frames in time"), ("dicom/no_pixel_spacing", "PixelSpacing")])
def test_field_cases_that_are_refused(shared_data, name, words):
    assert words in refusal(shared_data / "field_cases" / name)


@pytest.mark.parametrize(("name", "spacing", "words"), [
    ("dicom/rescale_per_slice", (0.8, 0.8, 2), "slope"),
    ("dicom/rounded_positions", (0.8, 0.8, 1.25), "rounded"),
    ("dicom/with_rtstruct", (0.8, 0.8, 2), "RTSTRUCT"),
    ("volume/shear_0.0004.nii.gz", (1, 1, 2), "0.0229 degrees"),
    ("volume/dim4_zero.nii", (1, 1, 2), ""),
    ("dataset/nrrd_microns/images/case_01.nrrd", (0.5, 0.5, 0.8), "microns"),
    ("dataset/forms_disagree/images/case_01.nii.gz", (1, 1, 1), "6.87 mm apart"),
])  # fmt: skip
def test_field_cases_that_are_read(shared_data, name, spacing, words):
    volume = read_volume(shared_data / "field_cases" / name)
    assert volume.spacing_mm == pytest.approx(spacing, rel=1e-6) and words in " ".join(volume.notes)
    assert bool(volume.notes) is bool(words)


def test_notes_of_volumes_reach_a_dataset(tmp_path):
    (tmp_path / "images").mkdir()
    nrrd(tmp_path / "images", DIRECTIONS + 'space units: "cm" "cm" "cm"\n')
    (case,) = open_dataset(tmp_path).cases
    volume, pixel_size_mm, notes = read_image(case)
    assert pixel_size_mm is None and notes == volume.notes and "from cm to mm" in notes[0]
