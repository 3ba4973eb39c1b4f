"""Boxes and the network's grid on them: by hand, by brute force, and round trips."""

import itertools

import numpy as np
import pytest

from tfsono.geometry.regions import (
    Box,
    box_iou,
    box_of,
    enlarged,
    network_grid,
    padded_sides,
)
from tfsono.geometry.resampling import source_coordinates

SHAPE = (11, 7, 13)


def test_a_box_counts_voxels():
    box = Box((1, 0, 4), (3, 5, 5))
    assert box.sides == (2, 5, 1) and box.voxels == 10
    assert np.zeros(SHAPE)[box.slices].shape == box.sides
    np.testing.assert_array_equal(box.middle, [1.5, 2.0, 4.0])
    assert Box(np.array([1, 0, 4]), [3.0, 5, 5]) == box  # whole numbers of any kind


@pytest.mark.parametrize("low, high", [((1, 2, 3), (2, 2, 4)), ((5, 0, 0), (4, 1, 1)), ((0, 0), (1, 1, 1))])
def test_an_empty_or_crooked_box_is_refused(low, high):
    with pytest.raises(ValueError, match="low must be"):
        Box(low, high)


def test_the_box_of_a_mask_holds_its_foreground_and_no_more():
    random = np.random.default_rng(0)
    for _ in range(20):
        mask = (random.random(SHAPE) < 0.004) * random.integers(1, 4, SHAPE)
        mask[tuple(random.integers(0, SHAPE))] = 3
        box = box_of(mask)
        where = np.argwhere(mask)
        assert box == Box(where.min(axis=0), where.max(axis=0) + 1)


def test_points_give_a_box_only_where_there_is_no_mask():
    points = np.array([[2.4, 3.0, 9.5], [np.nan] * 3, [5.6, 1.2, 9.49]])
    assert box_of(None, points) == Box((2, 1, 9), (7, 4, 11))  # 5.6 lies in voxel 6, 9.5 in voxel 10, 9.49 in 9
    assert box_of(np.zeros(SHAPE), points) == box_of(None, points)
    mask = np.zeros(SHAPE)
    mask[1, 1, 1] = 1
    assert box_of(mask, points) == Box((1, 1, 1), (2, 2, 2))
    assert box_of(None, points[2:]) == Box((6, 1, 9), (7, 2, 10))  # K = 1


def test_neither_mask_nor_points_give_no_box():
    assert box_of(None) is None and box_of(np.zeros(SHAPE)) is None
    assert box_of(np.zeros(SHAPE), np.full((2, 3), np.nan)) is None
    assert box_of(None, np.zeros((0, 3))) is None


def test_enlarging_stops_at_the_volume():
    box = Box((2, 3, 5), (4, 5, 6))
    assert enlarged(box, 2, SHAPE) == Box((0, 1, 3), (6, 7, 8))
    assert enlarged(box, 100, SHAPE) == Box((0, 0, 0), SHAPE)
    assert enlarged(box, 0, SHAPE) == box
    outside = enlarged(Box((-9, 3, 20), (-8, 4, 21)), 1, SHAPE)  # a point outside its volume
    assert outside == Box((0, 2, 12), (1, 5, 13))


def test_overlap_of_boxes_by_brute_force():
    random = np.random.default_rng(2)
    for _ in range(30):
        low = random.integers(0, 5, (2, 3))
        high = low + random.integers(1, 6, (2, 3))
        masks = np.zeros((2, 12, 12, 12), bool)
        boxes = [Box(a, b) for a, b in zip(low, high)]
        for mask, box in zip(masks, boxes):
            mask[box.slices] = True
        expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
        assert box_iou(*boxes) == pytest.approx(expected) == box_iou(*boxes[::-1])
    assert box_iou(Box((0, 0, 0), (1, 1, 1)), Box((1, 0, 0), (2, 1, 1))) == 0  # they touch
    # two axes apart: the product of two negative sides must not count
    assert box_iou(Box((0, 0, 0), (1, 1, 1)), Box((3, 3, 0), (4, 4, 1))) == 0


def test_the_papers_mean_region():
    grid = network_grid(Box((50, 60, 40), (278, 184, 230)), 0.65, 8)  # 228 x 124 x 190 voxels
    assert grid.size == (148, 80, 123) and grid.padded == (152, 80, 128)
    np.testing.assert_allclose(0.38 * grid.scale, 0.38 / 0.65, rtol=0.01)


@pytest.mark.parametrize("ratio", [0.65, 1.0, 0.5, 0.31])
def test_the_grid_keeps_the_extent(ratio):
    box = Box((3, 0, 7), (20, 9, 18))
    grid = network_grid(box, ratio, 8)
    for axis, (m, n) in enumerate(zip(grid.size, box.sides)):
        assert m == max(1, int(np.floor(n * ratio + 1e-9)))
        assert grid.padded[axis] % 8 == 0 and 0 <= grid.padded[axis] - m < 8
        ends = np.array([-0.5, m - 0.5]) * grid.scale[axis] + grid.offset[axis]
        np.testing.assert_allclose(ends, [box.low[axis] - 0.5, box.high[axis] - 0.5])
        centres = grid.scale[axis] * np.arange(m) + grid.offset[axis]
        np.testing.assert_allclose(centres, source_coordinates(m, n) + box.low[axis])


def test_a_tiny_box_has_a_grid():
    grid = network_grid(Box((4, 4, 4), (5, 6, 5)), 0.3, 8)
    assert grid.size == (1, 1, 1) and grid.padded == (8, 8, 8)
    np.testing.assert_allclose(grid.offset, [4, 4.5, 4])


def test_padded_sides_are_the_smallest_multiples():
    for side, stride in itertools.product(range(1, 40), (1, 2, 8, 16)):
        padded, = padded_sides((side,), stride)
        assert padded == min(m for m in range(stride, 99, stride) if m >= side)
