"""Resampling keeps the physical extent; checked by hand and against SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from tfsono.geometry.resampling import (
    nearest_indices,
    resample_volume,
    resampled_points,
    resampled_size,
    resampled_spacing,
    source_coordinates,
)

SIZE = (7, 12, 9)


def itk_resampled(array: np.ndarray, new_size: tuple[int, ...], interpolator: int) -> np.ndarray:
    """The same by SimpleITK: a grid with the same outer faces; its own edge rule replicates."""
    image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
    spacing = [n / m for n, m in zip(array.shape, new_size, strict=True)]
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(new_size)
    resampler.SetOutputSpacing(spacing)
    resampler.SetOutputOrigin([0.5 * s - 0.5 for s in spacing])
    resampler.SetInterpolator(interpolator)
    resampler.SetUseNearestNeighborExtrapolator(False)
    return sitk.GetArrayFromImage(resampler.Execute(image)).transpose(2, 1, 0)


def test_size_is_the_floor_of_the_extent():
    assert resampled_size((7, 12, 9), (0.5, 2.0, 1.0)) == (3, 24, 9)


def test_size_is_never_zero():
    assert resampled_size((2, 3, 1), (0.1, 0.4, 0.9)) == (1, 1, 1)


@pytest.mark.parametrize(
    "spacing,new,size,expected", [(0.3, 0.1, 10, 30), (float(np.float32(0.7)), 1.4, 400, 200)]
)
def test_size_survives_rounding_errors(spacing, new, size, expected):
    assert resampled_size((size,), (spacing / new,)) == (expected,)


def test_spacing_keeps_the_extent():
    new_size = resampled_size(SIZE, (0.7, 1.3, 0.31))
    spacing = resampled_spacing(SIZE, new_size, (0.5, 0.8, 2.0))
    extent = np.array(SIZE) * (0.5, 0.8, 2.0)
    np.testing.assert_allclose(np.array(new_size) * spacing, extent)


def test_coordinates_solved_by_hand():
    np.testing.assert_allclose(source_coordinates(2, 4), [0.5, 2.5])
    np.testing.assert_allclose(source_coordinates(4, 2), [-0.25, 0.25, 0.75, 1.25])
    np.testing.assert_allclose(source_coordinates(3, 3), [0, 1, 2])


def test_nearest_ties_go_up():
    assert nearest_indices(2, 4).tolist() == [1, 3]
    assert nearest_indices(4, 2).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("n_out,n_in", [(5, 13), (13, 5), (7, 7), (9, 10)])
def test_nearest_is_the_rounded_coordinate(n_out, n_in):
    expected = np.floor(source_coordinates(n_out, n_in) + 0.5 + 1e-9)
    np.testing.assert_array_equal(nearest_indices(n_out, n_in), expected)


def test_linear_solved_by_hand():
    array = np.array([0, 10, 40], np.float32)
    np.testing.assert_allclose(resample_volume(array, (6,)), [0, 2.5, 7.5, 17.5, 32.5, 40])


@pytest.mark.parametrize("new_size", [(13, 5, 9), (3, 25, 4), (7, 11, 31)])
def test_linear_agrees_with_simpleitk(new_size):
    array = np.random.default_rng(3).normal(size=SIZE).astype(np.float32)
    expected = itk_resampled(array, new_size, sitk.sitkLinear)
    np.testing.assert_allclose(resample_volume(array, new_size), expected, atol=1e-5)


@pytest.mark.parametrize("new_size", [(13, 5, 8), (3, 25, 4), (4, 11, 31)])
def test_nearest_agrees_with_simpleitk(new_size):
    array = np.random.default_rng(4).integers(0, 200, SIZE).astype(np.uint8)
    expected = itk_resampled(array, new_size, sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(resample_volume(array, new_size, nearest=True), expected)


def test_same_size_changes_nothing():
    array = np.random.default_rng(5).normal(size=SIZE).astype(np.float32)
    np.testing.assert_array_equal(resample_volume(array, SIZE), array)


def test_points_follow_the_image():
    """A linear ramp has at the new point the value that it had at the old one."""
    ramp = np.arange(12, dtype=np.float32)[:, None, None] * np.ones((1, 5, 3), np.float32)
    point = resampled_points(np.array([[4.0, 2.0, 1.0], [np.nan] * 3]), (12, 5, 3), (24, 5, 3))
    doubled = resample_volume(ramp, (24, 5, 3))[:, 2, 1]
    assert np.interp(point[0, 0], np.arange(24), doubled) == pytest.approx(4.0)
    assert np.isnan(point[1]).all()


def test_wrong_number_of_axes_is_a_programming_error():
    with pytest.raises(ValueError, match="3 axes"):
        resample_volume(np.zeros(SIZE), (3, 4))
    with pytest.raises(ValueError, match="same length"):
        resampled_size(SIZE, (1.0, 1.0))
