"""RoIAlign against SciPy's interpolation, a plane of 2D written out, functions it must not change, and its gradient."""

import itertools

import keras
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from tfsono.geometry.boxes import centred_boxes
from tfsono.geometry.roi_align import CHUNK, roi_align


def array(value):
    return keras.ops.convert_to_numpy(value)


def slow_align(features, boxes, stride, side):
    """The mean of 2^3 samples a bin, by SciPy; 0 farther than a cell beyond the outer centres."""
    sizes, channels = features.shape[:3], features.shape[3]
    out = np.zeros((len(boxes), side, side, side, channels))
    for number, box in enumerate(np.asarray(boxes, np.float64)):
        axes = []
        for axis in range(3):
            low, high = ((box[axis + end] + 0.5) / stride - 0.5 for end in (0, 3))
            axes.append([low + (high - low) * (p + (s + 0.5) / 2) / side for p in range(side) for s in range(2)])
        grid = np.stack(np.meshgrid(*axes, indexing="ij"))
        there = np.all([(g >= -1) & (g <= n) for g, n in zip(grid, sizes)], axis=0)
        for channel in range(channels):
            values = map_coordinates(features[..., channel].astype(np.float64), grid, order=1, mode="nearest") * there
            out[number, ..., channel] = values.reshape(side, 2, side, 2, side, 2).mean((1, 3, 5))
    return out


def some(seed, count, sizes=(9, 7, 11), channels=3, stride=4):
    random = np.random.default_rng(seed)
    features = random.normal(0, 1, (*sizes, channels)).astype(np.float32)
    points = random.uniform(-4, stride * np.array(sizes) + 4, (count, 3))
    return features, centred_boxes(points, random.uniform(2, 40, (count, 3))).astype(np.float32)


@pytest.mark.parametrize("count, stride, side", [(1, 4, 7), (CHUNK, 4, 3), (2 * CHUNK + 3, 2, 2), (5, 8, 1)])
def test_it_is_interpolation_at_the_samples(count, stride, side):
    features, boxes = some(count, count, stride=stride)
    found = array(roi_align(features, boxes, stride, side))
    assert found.shape == (count, side, side, side, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found, slow_align(features, boxes, stride, side), atol=2e-4)


def test_a_linear_function_keeps_its_value_at_the_bins_centres():
    """Inside the map interpolation is exact, and the mean of the samples lies at the bin's middle."""
    x, y, z = (4 * np.arange(n) + 1.5 for n in (9, 7, 11))  # the cells' centres in voxels
    features = (x[:, None, None] + 10 * y[:, None] - 3 * z + 5)[..., None].astype(np.float32)
    boxes = np.array([[4, 6, 3, 18, 13, 38], [10, 10, 10, 11, 12, 13]], np.float32)
    found = array(roi_align(features, boxes, 4, 7))[..., 0]
    for box, values in zip(boxes, found):
        x, y, z = (box[a] + (box[a + 3] - box[a]) * (np.arange(7) + 0.5) / 7 for a in range(3))
        np.testing.assert_allclose(values, x[:, None, None] + 10 * y[:, None] - 3 * z + 5, atol=1e-3)


def test_a_cell_alone_is_its_own_value():
    features = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4, 1)
    box = centred_boxes([[1 * 4 + 1.5, 2 * 4 + 1.5, 1.5]], 0)
    assert array(roi_align(features, box, 4, 2)).ravel().tolist() == [features[1, 2, 0, 0]] * 8


def test_samples_beyond_the_map():
    """Up to a cell beyond the outer centres the border's value counts, farther out nothing."""
    features = np.ones((4, 4, 4, 1), np.float32)
    inner = [1.5, 1.5, 1.5]
    for x, expected in ((-0.99, 1), (-1.01, 0), (3.99, 1), (4.01, 0)):
        box = centred_boxes([[4 * x + 1.5, *inner[1:]]], 0)  # a point: all samples lie on it
        assert array(roi_align(features, box, 4, 1)).item() == expected
    half = np.array([[-6.5, 1.5, 1.5, 1.5 - 4.0 + 0.5, 1.5, 1.5]], np.float32)  # samples at -1.75 and -1.25 cells: none
    assert array(roi_align(features, half, 4, 1)).item() == 0
    reaching = np.array([[-2.5 - 8, 1.5, 1.5, -2.5 + 8, 1.5, 1.5]], np.float32)  # at -2 and 0 cells: one of two
    assert array(roi_align(features, reaching, 4, 1)).item() == 0.5


def slow_plane(features, box, stride, side):
    """torchvision's bilinear loop in a plane [X, Y], aligned, two samples a bin and axis, written out."""
    width, height = features.shape
    start = [box[a] / stride - 0.5 for a in (0, 1)]  # edges, the first pixel's being 0
    bins = [(box[a + 2] - box[a]) / stride / side for a in (0, 1)]
    out = np.zeros((side, side))
    for i, j, s, t in itertools.product(range(side), range(side), range(2), range(2)):
        x, y = start[0] + bins[0] * (i + (s + 0.5) / 2), start[1] + bins[1] * (j + (t + 0.5) / 2)
        if x < -1 or x > width or y < -1 or y > height:
            continue
        x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
        left, low = int(x), int(y)
        right, high = min(left + 1, width - 1), min(low + 1, height - 1)
        u, v = x - left, y - low
        out[i, j] += ((1 - u) * (1 - v) * features[left, low] + (1 - u) * v * features[left, high]
                      + u * (1 - v) * features[right, low] + u * v * features[right, high]) / 4
    return out


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_map_constant_along_one_axis_is_the_plane(axis):
    random = np.random.default_rng(axis)
    plane = random.normal(0, 1, (9, 6))
    features = np.repeat(np.expand_dims(plane, axis), 5, axis=axis)[..., None].astype(np.float32)
    for _ in range(5):
        low = random.uniform(-6, 12, 2)
        flat = np.concatenate([low, low + random.uniform(3, 30, 2)])  # edges, the first pixel's being 0
        box = np.insert(np.insert(flat - 0.5, 2 + axis, 12.0), axis, 5.0)  # and a part of the constant axis
        found = array(roi_align(features, box[None].astype(np.float32), 4, 5))[0, ..., 0]
        expected = slow_plane(plane, flat, 4, 5)
        assert np.abs(expected).max() > 0.2
        np.testing.assert_allclose(found, np.repeat(np.expand_dims(expected, axis), 5, axis=axis), atol=1e-4)


def test_a_missing_box_gives_nothing_and_leaves_the_others_alone():
    features, boxes = some(3, 4)
    expected = array(roi_align(features, boxes, 4, 3))
    boxes[1] = np.nan
    found = array(roi_align(features, boxes, 4, 3))
    assert not found[1].any() and expected[1].any()
    np.testing.assert_array_equal(found[[0, 2, 3]], expected[[0, 2, 3]])


def test_the_type_is_the_features():
    features, boxes = some(4, 3)
    found = roi_align(keras.ops.cast(features, "bfloat16"), boxes, 4, 3)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    np.testing.assert_allclose(array(keras.ops.cast(found, "float32")), slow_align(features, boxes, 4, 3), atol=0.06)


@pytest.mark.parametrize("graph", [False, True])
def test_its_slope_is_the_weights(graph):
    """It is linear in the features: <roi(f), g> = <f, slope>, for any f; and nothing flows into the boxes."""
    tf = pytest.importorskip("tensorflow")
    features, boxes = some(5, CHUNK + 2)
    pull = np.random.default_rng(6).normal(0, 1, (CHUNK + 2, 3, 3, 3, 3)).astype(np.float32)

    def slopes(features, boxes):
        with tf.GradientTape() as tape:
            tape.watch([features, boxes])
            total = tf.reduce_sum(roi_align(features, boxes, 4, 3) * pull)
        return tape.gradient(total, [features, boxes])

    slope, none = (tf.function(slopes) if graph else slopes)(tf.constant(features), tf.constant(boxes))
    assert none is None
    for other in (features, some(7, 1)[0]):
        expected = (slow_align(other, boxes, 4, 3) * pull).sum()
        assert (other * slope.numpy()).sum() == pytest.approx(expected, abs=0.02)


def test_a_graph_that_knows_neither_the_map_nor_the_number():
    tf = pytest.importorskip("tensorflow")

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, 6])])
    def cut(features, boxes):
        return roi_align(features, boxes, 4, 3)

    for count, sizes in ((1, (5, 8, 3)), (CHUNK + 5, (6, 4, 9))):
        features, boxes = some(count, count, sizes)
        np.testing.assert_allclose(cut(features, boxes), slow_align(features, boxes, 4, 3), atol=2e-4)
