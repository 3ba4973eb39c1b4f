"""Components, holes and orientation around the graph."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from tfsono.inference.segmentation import postprocess_mask, fill_holes, largest_component, segment_volume
from tfsono.volumes.image import Volume, orientation_code


def test_largest_component_joins_across_corners():
    voxels = np.zeros((7, 5, 9), bool)
    voxels[1, 1, 1] = voxels[2, 2, 2] = voxels[3, 3, 3] = True  # three that touch at corners only
    voxels[5:7, 0, 6:7] = True  # two that touch at a face
    kept = largest_component(voxels)
    assert kept.sum() == 3 and kept[2, 2, 2] and not kept[5, 0, 6]


def test_equal_components_are_decided_by_their_place():
    voxels = np.zeros((5, 3, 7), bool)
    voxels[0, 0, 0] = voxels[4, 2, 6] = True
    assert np.argwhere(largest_component(voxels)).tolist() == [[0, 0, 0]]


def test_holes_are_filled_in_three_dimensions():
    mask = np.zeros((9, 7, 11), np.uint8)
    mask[1:8, 1:6, 1:10] = 1
    mask[3:5, 3, 4:6] = 0  # closed
    mask[6, 3, :3] = 0  # open to the outside along z
    filled = fill_holes(mask)
    assert filled[3:5, 3, 4:6].all() and not filled[6, 3, :3].any()
    assert (filled == ndimage.binary_fill_holes(mask)).all()
    assert mask[3, 3, 4] == 0  # the input is left as it was


def test_random_masks_of_one_label_agree_with_scipy():
    for seed in range(5):
        mask = (np.random.default_rng(seed).random((13, 9, 11)) < 0.7).astype(np.uint8)
        assert (fill_holes(mask) == ndimage.binary_fill_holes(mask)).all()


def test_holes_between_labels_belong_to_none():
    mask = np.zeros((9, 7, 13), np.uint8)
    mask[1:8, 1:6, 1:6] = 1
    mask[1:8, 1:6, 6:12] = 2
    mask[4, 3, 3] = 0  # inside 1
    mask[4, 3, 9] = 0  # inside 2
    mask[4, 3, 5:7] = 0  # a closed joint space between them
    filled = fill_holes(mask)
    assert filled[4, 3, 3] == 1 and filled[4, 3, 9] == 2 and not filled[4, 3, 5:7].any()


def test_a_label_inside_another_stays():
    mask = np.zeros((9, 9, 11), np.uint8)
    mask[1:8, 1:8, 1:10] = 1
    mask[3:6, 3:6, 3:8] = 2
    mask[4, 4, 5] = 0  # a hole of the inner one
    filled = fill_holes(mask)
    assert filled[4, 4, 5] == 2 and (filled == 2).sum() == 3 * 3 * 5
    assert (filled == 1).sum() == (mask == 1).sum()


def test_background_at_the_border_is_no_hole():
    mask = np.ones((5, 7, 3), np.uint8)
    mask[0, 3, 1] = 0
    assert fill_holes(mask)[0, 3, 1] == 0


def test_each_label_is_postprocessed_by_itself():
    mask = np.zeros((15, 9, 7), np.uint8)
    mask[1:5, 1:5, 1:5] = 1
    mask[2, 2, 2] = 0
    mask[12, 7, 5] = 1
    mask[8:11, 2:4, 2:4] = 2
    mask[14, 0, 0] = 2
    kept = postprocess_mask(mask, 3)
    assert (kept == 1).sum() == 64 and (kept == 2).sum() == 12
    assert (postprocess_mask(mask, 3, largest=False)[[12, 14], [7, 0], [5, 0]] == [1, 2]).all()
    assert postprocess_mask(mask, 3, holes=False)[2, 2, 2] == 0
    assert not postprocess_mask(np.zeros((4, 3, 5), np.uint8), 3).any()


@pytest.mark.parametrize("direction", [
    (1, 0, 0, 0, 1, 0, 0, 0, 1),  # LPS
    (0, 0, -1, 1, 0, 0, 0, -1, 0),  # PIR: x to posterior, y to inferior, z to right
    (0, -0.6, 0.8, 0, 0.8, 0.6, -1, 0, 0),  # oblique
])
def test_the_mask_is_on_the_inputs_own_grid(direction):
    seen = {}

    def module(array, spacing_mm):
        seen["shape"], seen["spacing_mm"] = array.shape, spacing_mm
        return {"mask": tf.constant((array > 5).astype(np.uint8))}

    image = np.random.default_rng(0).normal(size=(7, 5, 9)).astype(np.float32)
    image[2:5, 1:3, 4:8] += 20
    volume = Volume(image, (0.5, 0.75, 2.0), (1.0, -2.0, 3.0), direction)
    mask = segment_volume(module, volume, "LPS", 2)
    assert mask.shape == image.shape and mask.dtype == np.uint8
    assert (mask == (image > 5)).all()
    axes = orientation_code(volume).translate(str.maketrans("RAI", "LPS"))
    order = [axes.index(letter) for letter in "LPS"]
    assert seen["shape"] == tuple(image.shape[axis] for axis in order)
    np.testing.assert_allclose(seen["spacing_mm"], np.array(volume.spacing_mm)[order])
