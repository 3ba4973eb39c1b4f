"""Masks: rounded values, other orders of axes on the same grid, and segmentations of 3D Slicer."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tfsono.errors import UserError
from tfsono.volumes.image import Volume, case_name, is_volume_file, read_mask, read_volume, reorient, write_volume
from tfsono.volumes.volume import LabelValueError, OtherGridError

SIZE = (7, 6, 5)
LABELS = np.random.default_rng(4).integers(0, 4, SIZE).astype(np.uint8)


@pytest.fixture
def like(tmp_path) -> Volume:
    """An oblique image."""
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.3, -0.2, 0.5)
    array = np.random.default_rng(3).integers(1, 1000, SIZE).astype(np.int16)
    made = Volume(array, (0.5, 0.75, 1.25), (10.0, -20.0, 30.0), tuple(turn.GetMatrix()))
    write_volume(tmp_path / "image.nii.gz", array, made)
    return read_volume(tmp_path / "image.nii.gz")


def refusal(path, kind, like=None) -> str:
    with pytest.raises(kind) as caught:
        read_mask(path, like)
    text = str(caught.value)
    assert "\n" not in text and Path(path).name in text and "found" in text
    return text


def same_grid(one: Volume, other: Volume) -> bool:
    return (one.size, one.spacing_mm, one.origin_mm, one.direction) == (
        other.size, other.spacing_mm, other.origin_mm, other.direction)


# ---------------------------------------------------------------------------------------------- values


def scaled_mask(path: Path, labels: np.ndarray, like: Volume, kind) -> Path:
    """Stored as nibabel stores floats in integers: the range of the values over the range of the type."""
    limits = np.iinfo(kind)
    slope = float(labels.max()) / (int(limits.max) - int(limits.min))
    inter = -int(limits.min) * slope
    write_volume(path, np.rint((labels - inter) / slope).astype(kind), like)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2f", content, 112, slope, inter)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("values", [(0, 1), (0, 1, 2), (0, 1, 3), (0, 2, 5)])
def test_labels_stored_with_a_slope(tmp_path, like, kind, values):
    labels = np.array(values)[LABELS % len(values)]
    mask = read_mask(scaled_mask(tmp_path / "mask.nii", labels, like, kind), like)
    assert mask.array.dtype == np.uint8 and same_grid(mask, like)
    np.testing.assert_array_equal(mask.array, labels)


def test_rounding_is_noted_and_whole_numbers_are_not(tmp_path, like):
    floats = LABELS.astype(np.float32)
    write_volume(tmp_path / "mask.nrrd", floats, like)
    assert read_mask(tmp_path / "mask.nrrd", like).notes == ()
    write_volume(tmp_path / "mask.nrrd", floats * np.float32(1.0000153), like)
    mask = read_mask(tmp_path / "mask.nrrd", like)
    np.testing.assert_array_equal(mask.array, LABELS)
    assert "rounded" in mask.notes[0]


@pytest.mark.parametrize("labels", [LABELS / 255.0, LABELS * 0.3, LABELS / 1000.0 + 0.01, LABELS + 0.1 * (LABELS == 2)])
def test_fractions_are_refused_without_harmful_advice(tmp_path, like, labels):
    """Labels divided by 255 are within 0.02 of 0: rounding would delete them."""
    write_volume(tmp_path / "mask.nrrd", labels.astype(np.float32), like)
    text = refusal(tmp_path / "mask.nrrd", LabelValueError, like)
    assert "threshold" not in text and "integers" in text


def test_large_labels_are_rounded_by_their_size(tmp_path, like):
    write_volume(tmp_path / "mask.nrrd", (LABELS.astype(int) * 250).astype(np.float32) * np.float32(1.00001), like)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nrrd", like).array, LABELS.astype(int) * 250)


# ---------------------------------------------------------------------------------------------- axes


ORDERS = itertools.permutations(("LR", "PA", "SI"))
CODES = ["".join(code) for pairs in ORDERS for code in itertools.product(*pairs)]


@pytest.mark.parametrize("code", CODES)
def test_a_mask_in_other_axes_on_the_same_grid(tmp_path, like, code):
    turned = reorient(Volume(LABELS, like.spacing_mm, like.origin_mm, like.direction), code)
    write_volume(tmp_path / "mask.nii.gz", turned.array, turned)
    mask = read_mask(tmp_path / "mask.nii.gz", like)
    np.testing.assert_array_equal(mask.array, LABELS)
    assert same_grid(mask, like) and mask.path.endswith("mask.nii.gz")
    assert bool(mask.notes) is (turned.direction != like.direction)
    assert all("reoriented" in note for note in mask.notes)


def test_at_45_degrees_the_axes_of_the_image_count(tmp_path):
    """The nearest axes of the patient are ambiguous there."""
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.0, 0.0, np.pi / 4)
    one = Volume(LABELS.astype(np.int16), (1.0, 1.0, 1.0), (1.0, 2.0, 3.0), tuple(turn.GetMatrix()))
    matrix = one.direction_matrix
    direction = np.column_stack([matrix[:, 1], -matrix[:, 0], matrix[:, 2]])
    origin = one.origin_mm + matrix[:, 0] * (SIZE[0] - 1)
    other = Volume(LABELS.transpose(1, 0, 2)[:, ::-1], (1.0, 1.0, 1.0), tuple(origin), tuple(direction.ravel()))
    write_volume(tmp_path / "mask.nrrd", np.ascontiguousarray(other.array), other)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nrrd", one).array, LABELS)


def test_another_grid_stays_refused(tmp_path, like):
    for change in ({"spacing_mm": (0.5, 0.75, 1.3)}, {"origin_mm": (10.2, -20.0, 30.0)}):
        grid = {"spacing_mm": like.spacing_mm, "origin_mm": like.origin_mm, "direction": like.direction, **change}
        turned = reorient(Volume(LABELS, **grid), "SAL")
        write_volume(tmp_path / "mask.nrrd", turned.array, turned)
        assert "grid" in refusal(tmp_path / "mask.nrrd", OtherGridError, like)


def test_notes_of_the_image_are_not_the_masks(tmp_path):
    array = LABELS.astype(np.int16)
    wide = Volume(array, (50.0, 50.0, 50.0), (0.0, 0.0, 0.0), tuple(np.eye(3).flat))
    write_volume(tmp_path / "image.nrrd", array, wide)
    image = read_volume(tmp_path / "image.nrrd")
    assert len(image.notes) == 1
    assert len(read_mask(tmp_path / "image.nrrd", image).notes) == 1


# ---------------------------------------------------------------------------------------------- 3D Slicer


def segmentation(path: Path, labels: np.ndarray, like: Volume, first=(0, 0, 0), layers: int = 1) -> Path:
    """As 3D Slicer writes it: a NRRD of labels, in layers if segments overlap, whose grid begins at voxel `first`."""
    matrix = like.direction_matrix * like.spacing_mm
    vectors = ["(" + ",".join(map(repr, map(float, column))) + ")" for column in matrix.T]
    origin = ",".join(map(repr, map(float, like.origin_mm + matrix @ first)))
    sizes, kinds = list(labels.shape), ["domain"] * 3
    if layers > 1:
        sizes, kinds, vectors = [layers, *sizes], ["list", *kinds], ["none", *vectors]
    fields = ["NRRD0004", "type: unsigned char", f"dimension: {len(sizes)}", "space: left-posterior-superior",
              f"sizes: {' '.join(map(str, sizes))}", f"space directions: {' '.join(vectors)}",
              f"kinds: {' '.join(kinds)}", "encoding: raw", f"space origin: ({origin})", "Segment0_ID:=Segment_1",
              "Segment0_LabelValue:=1", "Segment0_Layer:=0", "Segment0_Name:=head"]
    content = np.repeat(labels.ravel(order="F"), layers)
    path.write_bytes(("\n".join(fields) + "\n\n").encode() + content.tobytes())
    return path


def test_a_segmentation_of_one_layer(tmp_path, like):
    mask = read_mask(segmentation(tmp_path / "image.seg.nrrd", LABELS, like), like)
    np.testing.assert_array_equal(mask.array, LABELS)
    assert mask.notes == () and same_grid(mask, like)
    assert case_name("masks/image.seg.nrrd") == "image" and is_volume_file("image.seg.nrrd")


def test_a_segmentation_without_its_margin(tmp_path, like):
    """3D Slicer stores the smallest box around the segments."""
    part = LABELS[2:6, 1:4, 3:5]
    mask = read_mask(segmentation(tmp_path / "image.seg.nrrd", part, like, (2, 1, 3)), like)
    expected = np.zeros_like(LABELS)
    expected[2:6, 1:4, 3:5] = part
    np.testing.assert_array_equal(mask.array, expected)
    assert "padded" in mask.notes[0] and same_grid(mask, like)


@pytest.mark.parametrize("first", [(4, 1, 3), (-1, 1, 3), (2.5, 1, 3)])
def test_a_segmentation_that_leaves_the_image(tmp_path, like, first):
    path = segmentation(tmp_path / "image.seg.nrrd", LABELS[2:6, 1:4, 3:5], like, first)
    assert "grid" in refusal(path, OtherGridError, like)


def test_only_segmentations_are_padded(tmp_path, like):
    path = segmentation(tmp_path / "image.nrrd", LABELS[2:6, 1:4, 3:5], like, (2, 1, 3))
    assert "size 4x3x2" in refusal(path, OtherGridError, like)


def test_segments_in_layers(tmp_path, like):
    path = segmentation(tmp_path / "image.seg.nrrd", LABELS, like, layers=2)
    assert "2 layers" in refusal(path, UserError, like)


def test_field_cases(shared_data):
    for name in ("nrrd_microns", "mask_slope_two"):
        folder = shared_data / "field_cases" / "dataset" / name
        for path in sorted((folder / "labels").iterdir()):
            mask = read_mask(path, read_volume(folder / "images" / path.name))
            assert mask.array.dtype == np.uint8 and len(mask.notes) == 1
            assert set(np.unique(mask.array)) == ({0, 1, 2} if name == "mask_slope_two" else {0, 1})
