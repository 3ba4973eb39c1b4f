"""Orientation: the way there against SimpleITK, the way back against the start."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from tfsono.volumes.image import (
    Volume,
    is_volume_file,
    orientation_code,
    read_volume,
    reorient,
    restore_orientation,
)
from tfsono.volumes.landmarks import points_to_mm
from tfsono.volumes.volume import image_from_array

ORDERS = itertools.permutations(("LR", "PA", "SI"))
CODES = ["".join(code) for pairs in ORDERS for code in itertools.product(*pairs)]


def volume_of(direction, size=(5, 7, 3)) -> Volume:
    array = np.random.default_rng(1).permutation(int(np.prod(size))).reshape(size).astype(np.int16)
    return Volume(array, (0.5, 0.8, 2.5), (1.5, -20.0, 33.25), tuple(np.ravel(direction).tolist()))


def rotation(seed: int) -> np.ndarray:
    """A uniformly random rotation: any obliqueness, not only near the axes."""
    matrix, upper = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.sign(np.diag(upper))


def check_against_simpleitk(volume: Volume, code: str) -> None:
    found = reorient(volume, code)
    expected = sitk.DICOMOrient(image_from_array(volume.array, volume), code)
    np.testing.assert_array_equal(found.array, sitk.GetArrayViewFromImage(expected).transpose(2, 1, 0))
    np.testing.assert_allclose(found.spacing_mm, expected.GetSpacing())
    np.testing.assert_allclose(found.origin_mm, expected.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(found.direction, expected.GetDirection(), atol=1e-12)
    assert orientation_code(found) == code and found.array.flags.c_contiguous
    back = restore_orientation(found.array, volume, code)
    np.testing.assert_array_equal(back, volume.array)
    assert back.flags.c_contiguous


def test_hand_solved():
    """RAS (NIfTI's usual) to LPS reverses x and y; the origin moves to the far corner of both."""
    volume = replace(volume_of(np.diag([-1, -1, 1])), origin_mm=(10.0, 20.0, 30.0))
    assert orientation_code(volume) == "RAS"
    found = reorient(volume)
    assert found.array[0, 0, 0] == volume.array[4, 6, 0] and found.array[4, 1, 2] == volume.array[0, 5, 2]
    assert found.origin_mm == (10 - 4 * 0.5, 20 - 6 * 0.8, 30)
    assert found.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)


def test_permutation_hand_solved():
    """PIR: x runs to posterior, y to inferior, z to the right."""
    volume = volume_of([[0, 0, -1], [1, 0, 0], [0, -1, 0]])
    assert orientation_code(volume) == "PIR"
    found = reorient(volume)
    assert found.size == (3, 5, 7) and found.spacing_mm == (2.5, 0.5, 0.8)
    assert found.array[0, 1, 2] == volume.array[1, 4, 2]


@pytest.mark.parametrize("code", CODES)
def test_all_48_orientations_are_simpleitks(code):
    assert len(CODES) == 48
    check_against_simpleitk(volume_of(np.eye(3)), code)
    check_against_simpleitk(reorient(volume_of(np.eye(3)), code), "LPS")


@pytest.mark.parametrize("seed", range(12))
def test_oblique_volumes_are_simpleitks(seed):
    volume = volume_of(rotation(seed))
    expected = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(volume.direction)
    assert orientation_code(volume) == expected
    for code in ("LPS", "RAS", "PIR"):
        check_against_simpleitk(volume, code)


@pytest.mark.parametrize("seed", range(6))
def test_marked_voxel_keeps_its_place(seed):
    """The brightest voxel's LPS position, by SimpleITK before and by our own arithmetic after."""
    volume = volume_of(rotation(seed))
    before = np.unravel_index(volume.array.argmax(), volume.size)
    image = image_from_array(volume.array, volume)
    place = image.TransformIndexToPhysicalPoint([int(index) for index in before])
    found = reorient(volume, "RAS")
    after = np.array(np.unravel_index(found.array.argmax(), found.size))
    np.testing.assert_allclose(points_to_mm(after, found), place, atol=1e-9)


def test_restoring_more_channels_and_the_wrong_size():
    volume = volume_of([[0, 0, -1], [1, 0, 0], [0, -1, 0]])
    channels = np.stack([reorient(volume).array, -reorient(volume).array], axis=-1)
    back = restore_orientation(channels, volume)
    np.testing.assert_array_equal(back[..., 1], -volume.array)
    with pytest.raises(ValueError, match=r"\(3, 5, 7\)"):
        restore_orientation(volume.array, volume)


@pytest.mark.parametrize("code", ["LP", "LPX", "LLS", "lps", "LRS", ""])
def test_impossible_codes(code):
    with pytest.raises(ValueError, match="orientation"):
        reorient(volume_of(np.eye(3)), code)


def test_every_sample_there_and_back(shared_data):
    found = set()
    for path in sorted((shared_data / "io_samples").rglob("*")):
        if is_volume_file(path) and "example4d" not in path.name and path.stat().st_size < 3_000_000:
            volume = read_volume(path)
            found.add(orientation_code(volume))
            check_against_simpleitk(volume, "LPS")
    assert {"RAS", "LAS", "LPS", "PIR", "PSR"} <= found
