"""Components and holes in the graph against SciPy, voxel for voxel."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from tfsono.inference.components import CORNERS, FACES, Postprocessing, components, postprocessed
from tfsono.inference.segmentation import postprocess_mask

CHOICES = [(True, True), (True, False), (False, True), (False, False)]


def compiled(settings):
    return tf.function(lambda mask: postprocessed(mask, settings),
                       input_signature=[tf.TensorSpec([None, None, None], tf.uint8)])


def random_masks(classes):
    """Salt, grown salt and blobs, sparse to dense, with odd unequal sides, flat ones and single voxels too."""
    for seed in range(30):
        random = np.random.default_rng(seed)
        shape = random.integers(1, 14, 3)
        mask = (random.random(shape) < random.uniform(0.02, 0.98)) * random.integers(1, classes, shape)
        if seed % 3 == 1:
            mask = mask.repeat(3, 0).repeat(2, 1).repeat(2, 2)[:17, :15, :13]
        if seed % 3 == 2:
            field = ndimage.gaussian_filter(random.normal(size=shape + 6), 1.2)
            mask = np.digitize(field, np.quantile(field, np.linspace(0.4, 1, classes + 1)[:-1])).clip(max=classes - 1)
        yield mask.astype(np.uint8)


@pytest.mark.parametrize("largest, holes", CHOICES)
@pytest.mark.parametrize("classes", [2, 4])
def test_random_masks_are_those_of_scipy(classes, largest, holes):
    graph = compiled(Postprocessing(classes, largest, holes))
    for mask in random_masks(classes):
        expected = postprocess_mask(mask, classes, largest, holes)
        found = graph(mask).numpy()
        assert found.dtype == np.uint8 and found.shape == mask.shape
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(postprocess_mask(found, classes, largest, holes), found)  # once is enough


def test_equal_components_are_decided_by_their_place():
    graph = compiled(Postprocessing(2))
    for first, second in (((0, 6, 6), (4, 0, 0)), ((2, 0, 5), (2, 4, 0)), ((1, 1, 0), (1, 1, 5))):
        mask = np.zeros((5, 7, 7), np.uint8)
        mask[first] = mask[second] = 1
        assert np.argwhere(graph(mask).numpy()).tolist() == [list(first)]


@pytest.mark.parametrize("steps, structure", [(FACES, None), (CORNERS, np.ones((3, 3, 3)))])
def test_a_long_thin_path_is_one_component(steps, structure):
    """A snake through the whole volume, whose ends are neighbours of nothing else: many steps of a flood, few here."""
    mask = np.zeros((31, 23, 9), np.uint8)
    for number, row in enumerate(range(0, 31, 2)):
        mask[row, :, ::4] = 1
        mask[row, 0 if number % 2 else -1, :] = 1
        mask[row + 1:row + 2, -1 if number % 2 else 0, 0] = 1
    roots, _ = components(tf.constant(mask), steps)
    found = roots.numpy().reshape(mask.shape)[mask > 0]
    assert len(np.unique(found)) == ndimage.label(mask, structure)[1]


def test_nothing_to_do_changes_nothing():
    mask = np.zeros((5, 4, 3), np.uint8)
    assert (compiled(Postprocessing(3))(mask).numpy() == 0).all()
    mask[2, 2, 1] = 2
    assert (compiled(None)(mask).numpy() == mask).all()
