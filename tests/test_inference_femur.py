"""From a raw volume to region, mask and points on its own grid, with networks of known outputs."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from tfsono.inference import femur
from tfsono.inference.femur import (
    FemurModule,
    RegionFinder,
    RegionReader,
    SliceModule,
    box_of_voxels,
    box_on,
    large_parts,
    largest_part,
    nearest,
)
from tfsono.predict.femur import end_flags


def threshold_network(axes, heatmaps=0, mask=True, level=1.0):
    """Standardised intensity above `level` is the label; the heatmaps are the image, and the negated image."""
    image = keras.Input((None,) * axes + (1,))
    outputs = {}
    if mask:
        layer = (keras.layers.Conv2D if axes == 2 else keras.layers.Conv3D)(2, 1, name="logits")
        outputs["mask"] = layer(image)
        layer.set_weights([np.array([0.0, 20.0]).reshape((1,) * axes + (1, 2)), np.array([0.0, -20.0 * level])])
    if heatmaps:
        layer = (keras.layers.Conv2D if axes == 2 else keras.layers.Conv3D)(heatmaps, 1, use_bias=False, name="maps")
        outputs["heatmaps"] = layer(image)
        signs = np.array([1.0, -1.0, 1.0][:heatmaps]).reshape((1,) * axes + (1, heatmaps))
        layer.set_weights([signs])
    return keras.Model(image, outputs)


def scene(shape=(29, 23, 19)):
    """A bar of 10, its brightest voxel, a dark one in it, and a speck in a slice of its own."""
    volume = np.zeros(shape, np.float32)
    volume[8:19, 9:13, 5:10] += 10
    volume[9, 10, 6], volume[17, 11, 8] = 14, -3
    volume[2:4, 20, 16] += 10  # two pixels
    return volume


def finder(smallest=3, batch=4):
    return RegionFinder(threshold_network(2, level=1.5), 8, batch, smallest)


def reader(margin=3, ratio=1.0, decode="argmax", heatmaps=2, mask=True):
    return RegionReader(threshold_network(3, heatmaps, mask), 8, margin, ratio, decode)


@pytest.mark.parametrize("smallest", [0, 2, 5, 9, 30])
def test_small_parts_of_slices_are_scipys(smallest):
    random = np.random.default_rng(smallest)
    voxels = random.random((37, 41, 6)) > 0.72
    voxels[3:30, 5, 2] = voxels[30, 5:40, 2] = True  # a long thin part, whose numbers take many steps to spread
    expected = np.zeros_like(voxels)
    for z in range(6):
        parts, _ = ndimage.label(voxels[..., z], np.ones((3, 3)))
        large = np.bincount(parts.ravel()) >= smallest
        large[0] = False
        expected[..., z] = large[parts]
    np.testing.assert_array_equal(large_parts(tf.constant(voxels), smallest).numpy(), expected)


@pytest.mark.parametrize("side", [128, 10])
def test_the_largest_part_is_scipys(monkeypatch, side):
    """On a grid of 10 of 23 voxels a cell is 3 wide: parts that come so close are one, and no voxel is added."""
    monkeypatch.setattr(femur, "PART_SIDE", side)
    factor, differ = -(-23 // side), 0
    for seed in range(4):
        voxels = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(17, 23, 13)), 1.5) > 0.1
        cells = np.pad(voxels, [(0, -n % factor) for n in voxels.shape])
        shape = [length for n in cells.shape for length in (n // factor, factor)]
        coarse = cells.reshape(shape).any(axis=(1, 3, 5))
        numbers, _ = ndimage.label(coarse, np.ones((3, 3, 3)))
        numbers = numbers.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)[tuple(map(slice, voxels.shape))]
        sizes = np.bincount((numbers * voxels).ravel())[1:]
        expected = voxels & (numbers == sizes.argmax() + 1)
        np.testing.assert_array_equal(largest_part(tf.constant(voxels)).numpy(), expected)
        differ += expected.sum() < voxels.sum()
    assert differ


def test_the_largest_part_of_a_winding_one_and_of_none():
    voxels = np.zeros((9, 31, 3), bool)
    voxels[::2], voxels[1::4, -1], voxels[3::4, 0] = True, True, True  # a snake of 5 rows, all connected
    voxels[2, 10:14], voxels[8, 3] = False, False  # now three parts
    numbers, count = ndimage.label(voxels, np.ones((3, 3, 3)))
    assert count == 3
    expected = numbers == np.bincount(numbers.ravel())[1:].argmax() + 1
    np.testing.assert_array_equal(largest_part(tf.constant(voxels)).numpy(), expected)
    assert not largest_part(tf.zeros((4, 5, 3), tf.bool)).numpy().any()


def test_the_box_of_the_largest_part_alone_and_of_large_ones():
    volume = scene()
    volume[2:5, 17:21, 14:18] = 12  # a false part, of a sixth of the bar's voxels
    volume[25:28, 2:5, 2] = 12  # and one that counts in its slice, of a 24th
    boxes = [SliceModule(dataclasses.replace(finder(), part=part))(volume, [1.0, 1.0, 1.0])["box"].numpy().tolist()
             for part in ("all", "large", "largest")]
    assert boxes == [[2, 2, 2, 28, 21, 18], [2, 9, 5, 19, 21, 18], [8, 9, 5, 19, 13, 10]]


def test_the_box_of_some_voxels_and_of_none():
    voxels = np.zeros((7, 9, 5), bool)
    box, found = box_of_voxels(tf.constant(voxels))
    assert box.numpy().tolist() == [0, 0, 0, 7, 9, 5] and not found.numpy()
    voxels[2, 3, 4] = voxels[5, 1, 4] = True
    box, found = box_of_voxels(tf.constant(voxels))
    assert box.numpy().tolist() == [2, 1, 4, 6, 4, 5] and found.numpy()


def test_boxes_and_masks_on_another_grid():
    box = box_on(tf.constant([2, 0, 3, 5, 4, 6]), tf.constant([10, 10, 10]), tf.constant([20, 5, 10])).numpy()
    assert box.tolist() == [4, 0, 3, 10, 2, 6]
    mask = np.random.default_rng(0).integers(0, 3, (5, 6, 7)).astype(np.uint8)
    np.testing.assert_array_equal(nearest(mask, [10, 6, 21]).numpy(), mask.repeat(2, 0).repeat(3, 2))


def test_slices_give_mask_and_box_whatever_the_batch():
    volume = scene()
    predictions = [SliceModule(finder(batch=batch))(volume, [1.0, 1.0, 1.0]) for batch in (1, 4, 64)]
    for prediction in predictions:
        np.testing.assert_array_equal(prediction["mask"], predictions[0]["mask"])
        assert prediction["box"].numpy().tolist() == [8, 9, 5, 19, 13, 10] and prediction["found"].numpy()
    assert predictions[0]["mask"].numpy()[2:4, 20, 16].all()  # the speck is in the mask, and not in the box
    kept = SliceModule(finder(smallest=0))(volume, [1.0, 1.0, 1.0])
    assert kept["box"].numpy().tolist() == [2, 9, 5, 19, 21, 17]


def test_the_box_in_every_other_slice_reaches_to_the_next_ones():
    """The bar is in the slices 5 to 9: with every third slice it is seen in 6 and 9, and may be in 4 and 11."""
    for every, ends in ((2, (5, 10)), (3, (4, 12)), (7, (1, 14)), (10, (0, 19))):
        sparse = dataclasses.replace(finder(), every=every)
        box = SliceModule(sparse)(scene(), [1.0, 1.0, 1.0])["box"].numpy().tolist()
        assert box == ([8, 9, ends[0], 19, 13, ends[1]] if every < 10 else [0, 0, 0, 29, 23, 19])
        found = FemurModule(reader(), sparse)(scene(), [1.0, 1.0, 1.0])
        assert found["box"].numpy().tolist() == box and found["found"].numpy() == (every < 10)


@pytest.mark.parametrize("margin", [0, 3, 100])
def test_end_to_end_on_the_volumes_own_grid(margin):
    volume = scene()
    prediction = FemurModule(reader(margin), finder())(volume, [0.5, 0.7, 1.1])
    assert prediction["box"].numpy().tolist() == [8, 9, 5, 19, 13, 10] and prediction["found"].numpy()
    np.testing.assert_array_equal(prediction["points_vox"], [[9, 10, 6], [17, 11, 8]])
    expected = volume > 5
    expected[2:4, 20, 16] &= margin == 100  # nothing is predicted outside the region
    if margin:  # without background in the region its standardised values are others
        np.testing.assert_array_equal(prediction["mask"].numpy() > 0, expected)
    assert prediction["mask"].shape == volume.shape and prediction["peaks"].shape == (2,)


def test_a_given_box_is_used_and_absent_outputs_are_omitted():
    volume = scene()
    only_points = FemurModule(reader(mask=False, heatmaps=3), None)
    prediction = only_points.predict_in(volume, [1.0, 1.0, 1.0], [8, 9, 5, 19, 13, 10])
    assert "mask" not in prediction and prediction["points_vox"].numpy()[0].tolist() == [9, 10, 6]
    only_mask = FemurModule(reader(heatmaps=0), None)(volume, [1.0, 1.0, 1.0])
    assert "points_vox" not in only_mask and not only_mask["found"].numpy()
    assert only_mask["box"].numpy().tolist() == [0, 0, 0, *volume.shape] and only_mask["mask"].numpy()[2, 20, 16]


@pytest.mark.parametrize("ratio", [0.65, 0.5])
def test_a_rescaled_region_is_mapped_back_to_its_place(ratio):
    grid = np.stack(np.meshgrid(*map(np.arange, (41, 37, 33)), indexing="ij"), -1)
    centre = np.array([18.3, 20.6, 15.2])
    volume = np.exp(-((grid - centre) ** 2).sum(-1) / (2 * 4.0**2)).astype(np.float32)
    module = FemurModule(reader(2, ratio, "centroid", heatmaps=1), None)
    prediction = module.predict_in(volume, [1.0, 1.0, 1.0], [11, 12, 8, 27, 29, 24])
    assert np.abs(prediction["points_vox"].numpy()[0] - centre).max() < 0.5
    found = np.argwhere(prediction["mask"].numpy())
    assert np.abs(found.mean(0) - centre).max() < 0.35 and not prediction["mask"].numpy()[:9].any()


def test_resampling_to_the_training_spacing_is_undone():
    volume = scene().repeat(2, 0).repeat(2, 2)
    module = FemurModule(reader(), finder(), (1.0, 1.0, 1.0))
    prediction = module(volume, [0.5, 1.0, 0.5])
    assert prediction["box"].numpy().tolist() == [16, 9, 10, 38, 13, 20] and prediction["mask"].shape == volume.shape
    np.testing.assert_allclose(prediction["points_vox"], [[18.5, 10, 12.5], [34.5, 11, 16.5]], atol=1e-4)
    again = module.predict_in(volume, [0.5, 1.0, 0.5], prediction["box"])
    np.testing.assert_array_equal(again["mask"], prediction["mask"])


def test_a_saved_model_predicts_the_same(tmp_path):
    volume = scene()
    module = FemurModule(dataclasses.replace(reader(ratio=0.65), passes=2, from_mask=True), finder())
    tf.saved_model.save(module, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    one, other = module(volume, [1.0, 1.0, 1.0]), loaded(volume, tf.constant([1.0, 1.0, 1.0]))
    assert set(one) == set(other) == {"box", "found", "mask", "points_vox", "peaks", "second_peaks", "second_peak_mm",
                                      "ends_vox", "doubtful"}
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("every", [1, 2])
def test_the_first_stage_sees_the_neighbours_of_a_slice(every):
    """A network that gives the slice after: the mask is the volume's, moved by one; the last slice sees itself."""
    network = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])
    kernel = np.zeros((1, 1, 3, 2))
    kernel[0, 0, 2, 1] = 20
    network.layers[-1].set_weights([kernel, np.array([0.0, -30.0])])
    network = keras.Model(network.inputs[0], {"mask": network.outputs[0]})
    volume = np.zeros((16, 16, 9), np.float32)
    volume[4:7, 5:9, 3:6] = volume[11:13, 2:4, 8] = 10
    found = femur.slice_mask(RegionFinder(network, 8, 4, 0), tf.constant(volume), every).numpy()
    after = np.concatenate([volume[..., 1:], volume[..., -1:]], -1) > 5
    np.testing.assert_array_equal(found, after[..., ::every])


@pytest.mark.parametrize("depth, every, size, batches", [
    (9, 1, 3, [(0, 3, 6), (1, 4, 7), (2, 5, 8)]), (7, 1, 4, [(0, 2, 4, 6), (1, 3, 5)]),
    (9, 2, 3, [(0, 4, 8), (2, 6)]), (3, 1, 64, [(0, 1, 2)])])
def test_a_batch_has_slices_from_all_of_the_volume(depth, every, size, batches):
    """A network that marks the voxels above the mean of its batch."""
    image = keras.Input((None, None, 1))
    above = keras.layers.Lambda(lambda x: keras.ops.concatenate([0 * x, x - keras.ops.mean(x)], -1),
                                output_shape=lambda shape: (*shape[:-1], 2))(image)
    network = keras.Model(image, {"mask": above})
    volume = np.random.default_rng(depth).normal(size=(16, 24, depth)).astype(np.float32)
    found = femur.slice_mask(RegionFinder(network, 8, size, 0), tf.constant(volume), every).numpy()
    standard = (volume - volume.mean((0, 1))) / volume.std((0, 1))
    for places in batches:
        part = standard[..., list(places)]
        agree = found[..., [place // every for place in places]] == (part > part.mean())
        assert agree.mean() > 0.999, places


def test_a_second_pass_reads_the_box_of_the_mask():
    """The first stage finds the bar's bright part; the enlarged box cuts the bar, and each pass reaches farther."""
    volume = scene((60, 23, 19))
    volume[8:50, 9:13, 5:10] = 10
    volume[8:14, 9:13, 5:10] = 30
    first = RegionFinder(threshold_network(2, level=4.0), 8, 4, 3)
    second = RegionReader(threshold_network(3, 2, level=0.0), 8, 4, 1.0, "argmax")
    ends = [FemurModule(dataclasses.replace(second, passes=passes), first)(volume, [1.0, 1.0, 1.0])["box"].numpy()
            for passes in (1, 2, 3)]
    assert ends[0].tolist() == [8, 9, 5, 14, 13, 10] and ends[1].tolist() == [8, 9, 5, 18, 13, 10]
    assert ends[2].tolist() == [8, 9, 5, 22, 13, 10]
    blind = dataclasses.replace(first, network=threshold_network(2, level=99.0))
    twice = FemurModule(dataclasses.replace(second, passes=2), blind)
    found = twice(scene(), [1.0, 1.0, 1.0])
    assert found["box"].numpy().tolist() == [8, 9, 5, 19, 13, 10] and not found["found"].numpy()
    empty = twice(np.zeros((9, 9, 9), np.float32), [1.0] * 3)
    assert empty["box"].numpy().tolist() == [0, 0, 0, 9, 9, 9] and np.isnan(empty["ends_vox"].numpy()).all()
    assert not empty["doubtful"].numpy().any()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.5, 0.8)])
def test_the_ends_of_a_mask_are_those_of_its_axis(spacing):
    """A tilted bar, by its own two ends; the order is that of the points, the lower peak counting less."""
    spacing = np.float32(spacing)
    low, high = np.array([12.0, 9.0, 10.0]), np.array([40.0, 26.0, 18.0])  # mm
    places = np.stack(np.meshgrid(*[np.arange(60)] * 3, indexing="ij"), -1) * spacing
    part = np.clip((places - low) @ (high - low) / ((high - low) ** 2).sum(), 0, 1)
    mask = np.uint8(np.linalg.norm(places - low - part[..., None] * (high - low), axis=-1) < 2)
    axis = (high - low) / np.linalg.norm(high - low)
    expected = np.array([low - 2 * axis, high + 2 * axis])
    for order, peaks, points in (([0, 1], [1.0, 0.9], expected), ([1, 0], [0.9, 1.0], expected[::-1]),
                                 ([1, 0], [0.9, 0.1], [expected[1], expected[1]])):
        found = femur.second_opinion(mask, tf.constant(points / spacing, tf.float32), tf.constant(peaks), spacing)
        assert np.abs(found["ends_vox"].numpy() * spacing - expected[order]).max() < 1.5
        assert found["doubtful"].numpy().tolist() == [False, peaks[1] < 0.3]


def test_doubtful_landmarks_are_taken_from_the_mask():
    """The bar's bright voxel is at one end; the dark one, the other landmark, in its middle."""
    volume = scene((60, 23, 19))
    volume[8:50, 9:13, 5:10] = 10
    volume[9, 10, 6], volume[25, 11, 8] = 14, -3
    plain, taken = (FemurModule(dataclasses.replace(reader(), from_mask=taken), finder())(volume, [1.0, 1.0, 1.0])
                    for taken in (False, True))
    assert plain["doubtful"].numpy().tolist() == [False, True]
    assert plain["points_vox"].numpy().tolist() == [[9, 10, 6], [25, 11, 8]]
    np.testing.assert_array_equal(taken["points_vox"], [[9, 10, 6], plain["ends_vox"][1]])
    np.testing.assert_allclose(taken["points_vox"][1], [49, 10.5, 7], atol=0.3)
    flags = end_flags({key: value.numpy() for key, value in plain.items()}, (1.0, 1.0, 1.0), ("a", "b"))
    assert flags == ["b 24 mm from the end of the mask"]
    assert end_flags({key: value.numpy() for key, value in taken.items()}, (1.0, 1.0, 1.0), ("a", "b")) == [
        "b from the end of the mask"]
    assert end_flags({"points_vox": []}, (1.0, 1.0, 1.0), ("a", "b")) == []
