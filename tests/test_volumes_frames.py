"""DICOM: multi-frame objects, spacing, rescaling and rounding by slice, and objects that are no images."""

from __future__ import annotations

import numpy as np
import pytest
from small_dicom import CLASSES, NAME, dataset, item, save, with_pixels, write_frames, write_slices

from tfsono.errors import UserError
from tfsono.volumes.dicom_planes import read_header
from tfsono.volumes.image import read_volume
from tfsono.volumes.volume import NoSpacingError

SLICES = 6


@pytest.fixture
def values() -> np.ndarray:
    """uint16 [slices, Y, X]"""
    return np.random.default_rng(5).integers(10, 900, (SLICES, 9, 11)).astype(np.uint16)


def refusal(path, kind=UserError, **arguments) -> str:
    with pytest.raises(kind) as caught:
        read_volume(path, **arguments)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text and "found" in text and NAME not in text
    return text


def only_note(volume) -> str:
    (note,) = volume.notes
    assert NAME not in note
    return note


# ---------------------------------------------------------------------------------------------- multi-frame


@pytest.mark.parametrize("kind", ["enhanced mr", "enhanced us"])
def test_frames_are_in_the_order_of_their_positions(tmp_path, values, kind):
    order = [3, 0, 5, 1, 4, 2]
    path = write_frames(tmp_path / "a.dcm", values[order], [2.5 * place for place in order], kind=kind)
    for source in (path, tmp_path):
        volume = read_volume(source)
        np.testing.assert_array_equal(volume.array, values.transpose(2, 1, 0))
        assert volume.spacing_mm == (0.5, 0.7, 2.5) and volume.notes == ()
        assert volume.origin_mm == (0, 0, 0) and volume.direction == tuple(np.eye(3).ravel())


def test_oblique_frames_are_where_the_same_slices_are(tmp_path, values):
    axes = ["0.8", "0.6", "0", "0", "0", "1"]
    normal = np.array([0.6, -0.8, 0.0])
    places = [[f"{one:.6f}" for one in 3 * index * normal + (1, 2, 3)] for index in range(SLICES)]
    slices = write_slices(tmp_path / "slices", values, places, ImageOrientationPatient=axes)
    made = dataset("enhanced mr", "MR")
    made.SharedFunctionalGroupsSequence = item(PixelMeasuresSequence=item(PixelSpacing=["0.7", "0.5"]),
                                               PlaneOrientationSequence=item(ImageOrientationPatient=axes))
    made.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=item(ImagePositionPatient=place))[0] for place in places]
    frames = save(with_pixels(made, values), tmp_path / "frames.dcm")
    one, other = read_volume(slices), read_volume(frames)
    np.testing.assert_array_equal(one.array, other.array)
    for name in ("spacing_mm", "origin_mm", "direction"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("places", "word"), [
    ([0, 1, 2, 4, 5, 6], "found 1 missing of 7"),
    ([0, 1, 2, 0, 1, 2], "6 slices at 3 positions"),
    ([0, 1, 2, 3.4, 4.4, 5.4], "evenly"),
])  # fmt: skip
def test_frames_that_make_no_grid(tmp_path, values, places, word):
    assert word in refusal(write_frames(tmp_path / "a.dcm", values, places))


def test_frames_rotated_against_each_other(tmp_path, values):
    made = dataset("enhanced mr", "MR")
    made.SharedFunctionalGroupsSequence = item(PixelMeasuresSequence=item(PixelSpacing=["0.7", "0.5"]))
    made.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=item(ImagePositionPatient=[0, 0, index]),
             PlaneOrientationSequence=item(ImageOrientationPatient=[np.cos(index), np.sin(index), 0, 0, 0, 1]))[0]
        for index in range(SLICES)]
    assert "parallel" in refusal(save(with_pixels(made, values), tmp_path / "a.dcm"))


@pytest.mark.parametrize(("modality", "fields"), [
    ("US", {}), ("US", {"FrameTime": "33.3"}), ("OT", {"FrameTimeVector": ["0", "40", "40"]}), ("XA", {}),
    ("OT", {"CineRate": 25}),
])  # fmt: skip
def test_frames_in_time_are_no_volume(tmp_path, values, modality, fields):
    path = save(with_pixels(dataset("us frames", modality, **fields), values), tmp_path / "cine.dcm")
    for arguments in ({}, {"spacing_mm": (1, 1, 1)}):
        assert "6 frames in time" in refusal(path, **arguments)
        assert "6 frames in time" in refusal(tmp_path, **arguments)


def test_frames_without_geometry_need_a_stated_one(tmp_path, values):
    path = save(with_pixels(dataset("capture frames", "OT", PixelSpacing=["1", "1"]), values), tmp_path / "a.dcm")
    assert "6 frames without positions" in refusal(path, NoSpacingError)
    volume = read_volume(path, spacing_mm=(0.5, 0.7, 2))
    np.testing.assert_array_equal(volume.array, values.transpose(2, 1, 0))
    assert volume.spacing_mm == (0.5, 0.7, 2.0) and "as stated" in volume.notes[0]


def test_a_slice_of_its_own_is_no_volume(tmp_path, values):
    assert "give the folder" in refusal(write_frames(tmp_path / "a.dcm", values[:1], [0]))


# ---------------------------------------------------------------------------------------------- spacing


@pytest.mark.parametrize(("fields", "found"), [
    ({}, "no PixelSpacing"),
    ({"PixelSpacing": ["0", "0.5"]}, "PixelSpacing 0, 0.5"),
    ({"PixelSpacing": ["0.5", "-0.5"]}, "PixelSpacing 0.5, -0.5"),
    ({"PixelSpacing": ["0.5"]}, "no PixelSpacing"),
    ({"ImagerPixelSpacing": ["0.2", "0.2"]}, "ImagerPixelSpacing only"),
])  # fmt: skip
def test_slices_without_spacing(tmp_path, values, fields, found):
    for index, one in enumerate(values):
        made = dataset("mr", "MR", number=index + 1, ImagePositionPatient=[0, 0, 2 * index],
                       ImageOrientationPatient=[1, 0, 0, 0, 1, 0], **fields)
        save(with_pixels(made, one), tmp_path / f"{index}.dcm")
    text = refusal(tmp_path, NoSpacingError)
    assert found in text and "--spacing_mm_of_file" in text
    volume = read_volume(tmp_path, spacing_mm=(0.5, 0.7, 2))
    assert volume.spacing_mm == (0.5, 0.7, 2.0) and "as stated" in only_note(volume)
    np.testing.assert_array_equal(volume.array, values.transpose(2, 1, 0))


def test_frames_without_spacing(tmp_path, values):
    path = write_frames(tmp_path / "a.dcm", values, range(SLICES), PixelMeasuresSequence=item(SliceThickness="1"))
    assert "no PixelSpacing" in refusal(path, NoSpacingError)


def test_a_stated_spacing_and_the_files(tmp_path, values):
    write_slices(tmp_path, values, [str(2 * index) for index in range(SLICES)])
    volume = read_volume(tmp_path, spacing_mm=(1, 1, 3))
    assert volume.spacing_mm == (1, 1, 3) and "0.5 x 0.7 x 2 mm" in only_note(volume)
    for wrong in ((1, 1), (1, 1, 0), (1, 1, np.nan)):
        with pytest.raises(UserError, match="three positive numbers"):
            read_volume(tmp_path, spacing_mm=wrong)


@pytest.mark.parametrize(("spacing", "noted"), [("0.5", False), ("0.001", True), ("300", True)])
def test_an_unusual_voxel_is_noted(tmp_path, values, spacing, noted):
    write_slices(tmp_path, values, [str(index) for index in range(SLICES)], PixelSpacing=[spacing, spacing])
    assert any("is the unit right" in note for note in read_volume(tmp_path).notes) is noted


# ---------------------------------------------------------------------------------------------- rescaling


SLOPES = [(1, 0), (0.001, 0), (0.5, -3), (2, 0), (0.25, 7), (1, 1)]


def rescaled(values: np.ndarray) -> np.ndarray:
    slope, intercept = np.array(SLOPES).T[:, :, None, None]
    return (values * slope + intercept).transpose(2, 1, 0)


def test_each_slice_has_its_own_slope(tmp_path, values):
    volume = read_volume(write_slices(tmp_path, values, [str(index) for index in range(SLICES)], SLOPES))
    assert volume.array.dtype == np.float32 and "slope" in only_note(volume)
    np.testing.assert_allclose(volume.array, rescaled(values), rtol=1e-6)


def test_each_frame_has_its_own_slope(tmp_path, values):
    volume = read_volume(write_frames(tmp_path / "a.dcm", values, range(SLICES), SLOPES))
    assert volume.array.dtype == np.float32 and "slope" in only_note(volume)
    np.testing.assert_allclose(volume.array, rescaled(values), rtol=1e-6)


@pytest.mark.parametrize("slope", [(1, 0), (0.5, -3), (2, 10)])
def test_one_slope_of_all_slices_or_frames(tmp_path, values, slope):
    expected = values.transpose(2, 1, 0) * slope[0] + slope[1]
    slices = write_slices(tmp_path / "slices", values, [str(index) for index in range(SLICES)], [slope] * SLICES)
    frames = write_frames(tmp_path / "a.dcm", values, range(SLICES), [slope] * SLICES)
    shared = write_frames(tmp_path / "b.dcm", values, range(SLICES), PixelValueTransformationSequence=item(
        RescaleSlope=str(slope[0]), RescaleIntercept=str(slope[1]), RescaleType="US"))
    for path in (slices, frames, shared):
        volume = read_volume(path)
        np.testing.assert_allclose(volume.array, expected, rtol=1e-6)
        assert volume.notes == ()


def test_signed_and_unsigned_slices(tmp_path, values):
    """GDCM reads all slices with the sign of the first."""
    write_slices(tmp_path, values, [str(index) for index in range(SLICES)])
    made = dataset("mr", "MR", number=4, ImagePositionPatient=[0, 0, 3], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                   PixelSpacing=["0.7", "0.5"])
    with_pixels(made, values[3])
    made.PixelRepresentation = 1
    made.PixelData = (-values[3].astype(np.int16)).tobytes()
    save(made, tmp_path / "1_3.dcm")
    expected = values.astype(int)
    expected[3] *= -1
    np.testing.assert_array_equal(read_volume(tmp_path).array, expected.transpose(2, 1, 0))


def test_frames_with_own_slopes_that_are_truncated(tmp_path, values):
    path = write_frames(tmp_path / "a.dcm", values, range(SLICES), SLOPES)
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged" in refusal(path)


# ---------------------------------------------------------------------------------------------- rounding


@pytest.mark.parametrize(("spacing", "decimals"), [(1.25, 1), (2.0 / 3, 1), (0.125, 2), (3.3333, 0)])
@pytest.mark.parametrize("stated", [True, False])
def test_positions_rounded_in_the_header(tmp_path, spacing, decimals, stated):
    values = np.random.default_rng(1).integers(10, 900, (16, 9, 11)).astype(np.uint16)
    places = [f"{spacing * index:.{decimals}f}" for index in range(16)]
    fields = {"SpacingBetweenSlices": f"{spacing:.6g}"} if stated else {}
    if 10.0**-decimals > 0.25 * spacing:
        assert "evenly" in refusal(write_slices(tmp_path, values, places, **fields))
        return
    volume = read_volume(write_slices(tmp_path, values, places, **fields))
    assert volume.spacing_mm[2] == pytest.approx(spacing, rel=1e-5 if stated else 5e-3)
    assert "rounded" in only_note(volume)
    np.testing.assert_array_equal(volume.array, values.transpose(2, 1, 0))


@pytest.mark.parametrize("between", [None, "1.25", "1.2", "1.5"])
@pytest.mark.parametrize("gone", [1, 7, 14])
def test_a_slice_missing_among_rounded_positions(tmp_path, between, gone):
    values = np.random.default_rng(1).integers(10, 900, (15, 9, 11)).astype(np.uint16)
    places = [f"{1.25 * index:.1f}" for index in range(16) if index != gone]
    fields = {} if between is None else {"SpacingBetweenSlices": between}
    assert "missing" in refusal(write_slices(tmp_path, values, places, **fields))


def test_whole_numbers_do_not_hide_a_missing_slice(tmp_path, values):
    fields = {"SpacingBetweenSlices": "1"}
    assert "missing" in refusal(write_slices(tmp_path, values, ["0", "1", "2", "4", "5", "6"], **fields))


def test_a_wrong_spacing_between_slices_is_not_taken(tmp_path):
    values = np.random.default_rng(1).integers(10, 900, (16, 9, 11)).astype(np.uint16)
    places = [f"{1.25 * index:.1f}" for index in range(16)]
    volume = read_volume(write_slices(tmp_path, values, places, SpacingBetweenSlices="2.5"))
    assert volume.spacing_mm[2] == pytest.approx(1.25, rel=5e-3)


def test_axes_rounded_to_three_digits(tmp_path, values):
    """The slices move along the true normal, which the rounded axes miss by a thousandth."""
    angle = np.deg2rad(17.3)
    axes = [f"{one:.3f}" for one in (np.cos(angle), np.sin(angle), 0, 0, 0, 1)]
    normal = np.array([np.sin(angle), -np.cos(angle), 0])
    places = [[f"{one:.4f}" for one in 30 * index * normal] for index in range(SLICES)]
    volume = read_volume(write_slices(tmp_path, values, places, ImageOrientationPatient=axes))
    assert volume.spacing_mm[2] == pytest.approx(30, rel=1e-4)


# ---------------------------------------------------------------------------------------------- other objects


@pytest.mark.parametrize("kind", ["RTSTRUCT", "SR", "PR", "KO", "SEG"])
@pytest.mark.parametrize("series", ["1.2.3.4", "1.2.3.5"])
def test_an_object_beside_the_series_is_named_and_passed_over(tmp_path, values, kind, series):
    write_slices(tmp_path, values, [str(index) for index in range(SLICES)])
    made = dataset(kind, kind, series, number=50)
    if kind == "SEG":
        with_pixels(made, values[:2])
    path = save(made, tmp_path / "other.dcm")
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, values.transpose(2, 1, 0))
    assert f"other.dcm ({kind})" in only_note(volume)
    assert f"found {kind}" in refusal(path)
    for slice_path in tmp_path.glob("?_?.dcm"):
        slice_path.unlink()
    assert f"other.dcm ({kind})" in refusal(tmp_path)


def test_many_objects_are_counted(tmp_path, values):
    write_slices(tmp_path, values, [str(index) for index in range(SLICES)])
    for number in range(5):
        save(dataset("SR", "SR", "1.2.3.9", number=number + 1), tmp_path / f"report{number}.dcm")
    assert "and 2 more" in only_note(read_volume(tmp_path))


def test_a_truncated_slice_is_no_other_object(tmp_path, values):
    """Cut before its pixels, but after its class."""
    write_slices(tmp_path, values, [str(index) for index in range(SLICES)])
    path = tmp_path / "5_5.dcm"
    path.write_bytes(path.read_bytes()[:480])
    assert "damaged" in refusal(tmp_path)


def test_no_field_of_the_patient_is_read(tmp_path, values):
    path = write_frames(tmp_path / "a.dcm", values, range(SLICES))
    assert NAME in path.read_bytes().decode("latin-1") and NAME not in repr(read_header(path))
    assert set(CLASSES) >= {"SEG", "RTSTRUCT"}
