"""Slices: which of them an epoch shows, standardising, padding of unequal sizes, restarts, bad input."""

from collections import Counter

import h5py
import numpy as np
import pytest
from scipy import ndimage

from small_caches import seal
from small_datasets import write_image, write_json
from tfsono.data.cache import Cache, CacheSettings
from tfsono.audit.cache_writer import write_cache
from tfsono.data.layout import open_dataset
from tfsono.data.slices import (
    SliceSampling,
    draw_slices,
    load_slices,
    slice_dataset,
    slices_of,
    transform_of,
    transformed,
)
from tfsono.errors import UserError

SIZES = {"a": (13, 18, 11), "b": (21, 9, 14), "c": (13, 18, 9)}
FOREGROUND = {"a": range(3, 6), "b": range(0, 5), "c": range(7, 9)}  # 10 slices, 24 empty ones


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory):
    """Three volumes; the first voxel of every slice tells its case and z, 1000 * case + z; the rest is noise."""
    root = tmp_path_factory.mktemp("slices")
    for number, (name, size) in enumerate(SIZES.items()):
        mask = np.zeros(size, np.uint8)
        mask[2:6, 3:7, FOREGROUND[name].start:FOREGROUND[name].stop] = 1
        image = np.random.default_rng(number).normal(100, 30, size).astype(np.float32)
        image[0, 0] = 1000 * number + np.arange(size[2])
        write_image(root / "dataset" / "images" / f"{name}.nii.gz", image)
        write_image(root / "dataset" / "labels" / f"{name}.nii.gz", mask)
    write_json(root / "dataset" / "dataset.json", {"name": "s", "modality": "US", "labels": {"femur": 1}})
    write_cache(open_dataset(root / "dataset"), root / "s.h5", CacheSettings("femur"), progress=lambda text: None)
    return root / "s.h5"


@pytest.fixture(scope="module")
def stacks(cache_path):
    with Cache(cache_path, "femur") as cache:
        return load_slices(cache, cache.names)


def batches(stacks, steps, batch=4, stride=8, seed=2):
    return [(image.numpy(), targets["mask"].numpy())
            for image, targets in slice_dataset(stacks, SliceSampling(batch, stride, seed), steps)]


def test_the_slices_are_sorted_by_what_they_show(stacks):
    expected = {(case, z) for case, name in enumerate(SIZES) for z in FOREGROUND[name]}
    assert set(map(tuple, stacks.foreground.tolist())) == expected and len(stacks.foreground) == 10
    every = {(case, z) for case, size in enumerate(SIZES.values()) for z in range(size[2])}
    assert set(map(tuple, stacks.empty.tolist())) == every - expected and len(stacks.empty) == 24


def test_an_epoch_shows_all_bone_and_as_many_empty_slices(stacks):
    assert stacks.epoch == 20
    epochs = [[tuple(s) for s in slices_of(stacks, epoch, 2).tolist()] for epoch in range(40)]
    bone = set(map(tuple, stacks.foreground.tolist()))
    for shown in epochs:
        assert len(shown) == len(set(shown)) == 20 and bone < set(shown)
    empty = Counter(s for shown in epochs for s in shown if s not in bone)
    assert len(empty) == 24 and max(empty.values()) < 30  # 400 draws of 24: 17 each in the mean
    assert epochs[0] != epochs[1]
    firsts = Counter(shown[0] in bone for shown in epochs)
    assert 5 < firsts[True] < 35  # bone and empty ones are mixed


def test_few_empty_slices_are_all_shown_once(cache_path, stacks):
    with Cache(cache_path, "femur") as cache:
        one = load_slices(cache, ["b"])
    kept = type(one)(**{**vars(one), "empty": one.empty[:2]})
    assert kept.epoch == 7 and sorted(map(tuple, slices_of(kept, 0, 0).tolist())) == sorted(
        map(tuple, np.concatenate([one.foreground, one.empty[:2]]).tolist()))


def test_the_order_continues_across_epochs(stacks):
    order = np.concatenate([slices_of(stacks, epoch, 2) for epoch in range(4)])
    drawn = [one for step in range(9) for one in draw_slices(stacks, step, SliceSampling(8, 8, 2))[0]]
    assert [image[0, 0, 0] for image in drawn] == [1000 * case + z for case, z in order[:72]]


def test_slices_are_standardised_without_their_padding(cache_path, stacks):
    with Cache(cache_path, "femur") as cache:
        volumes = [cache.read(name) for name in cache.names]
    rows = [(one, m) for image, mask in batches(stacks, range(5)) for one, m in zip(image, mask)]
    for (case, z), (image, mask) in zip(slices_of(stacks, 0, 2), rows, strict=True):
        x, y = volumes[case].image.shape[:2]
        pixels = volumes[case].image[:, :, z].astype(np.float64)
        np.testing.assert_allclose(image[:x, :y, 0], (pixels - pixels.mean()) / pixels.std(), atol=1e-4)
        assert not image[x:].any() and not image[:, y:].any()
        np.testing.assert_array_equal(mask[:x, :y, 0], volumes[case].label[:, :, z])


def test_batches_are_padded_to_what_they_hold(stacks):
    shapes = set()
    for step in range(20):
        image, mask = draw_slices(stacks, step, SliceSampling(2, 4, 2))
        order = np.concatenate([slices_of(stacks, epoch, 2) for epoch in range(3)])[2 * step:2 * step + 2]
        sides = np.array([list(SIZES.values())[case][:2] for case, _ in order])
        expected = tuple(-(-n // 4) * 4 for n in sides.max(axis=0))
        assert image.shape == mask.shape == (2, *expected, 1) and mask.dtype == np.int8
        for row, (x, y) in enumerate(sides):
            outer = np.ones(expected, bool)
            outer[:x, :y] = False
            assert (mask[row, ..., 0][outer] == -1).all() and not image[row, ..., 0][outer].any()
            assert (mask[row, :x, :y] >= 0).all()
        shapes.add(expected)
    assert shapes == {(16, 20), (24, 20), (24, 12)}


def test_a_restart_gives_the_same_batches_and_a_seed_others(stacks):
    whole, rest = batches(stacks, range(8)), batches(stacks, range(5, 8))
    for (image, mask), (image_again, mask_again) in zip(whole[5:], rest, strict=True):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(mask, mask_again)
    assert not np.array_equal(slices_of(stacks, 0, 2), slices_of(stacks, 0, 3))


def test_a_transform_is_scipys():
    """By an anisotropic spacing, odd sides and one mirrored axis, against an independent resampling."""
    random = np.random.default_rng(3)
    image = ndimage.gaussian_filter(random.normal(size=(19, 33)), 2).astype(np.float32)
    mask = (image > 0.05).astype(np.int8)
    sampling = SliceSampling(1, 1, 0, varied=True)
    matrix = transform_of(4, (0.7, 1.3, 2.0), sampling)
    new_image, new_mask = transformed(image, mask, matrix)
    middle = (np.array(image.shape) - 1) / 2
    offset = middle - matrix @ middle
    expected = ndimage.affine_transform(image, matrix, offset, order=1, cval=np.nan)
    sure = np.isfinite(expected) & (new_mask >= 0)
    assert sure.mean() > 0.5 and (new_mask < 0).any()
    np.testing.assert_allclose(new_image[sure], expected[sure], atol=0.02 * np.ptp(image))  # OpenCV's steps of 1/32
    assert not new_image[new_mask < 0].any()
    labels = ndimage.affine_transform(mask, matrix, offset, order=0, cval=-1)
    assert (labels == new_mask).mean() > 0.97


def test_transforms_differ_from_slice_to_slice_and_not_between_runs(stacks):
    sampling = SliceSampling(4, 8, 2, varied=True)
    matrices = [transform_of(position, (1.0, 1.0, 1.0), sampling) for position in range(400)]
    assert len({matrix.tobytes() for matrix in matrices}) == 400
    mirrored = np.mean([np.linalg.det(matrix) < 0 for matrix in matrices])
    assert 0.4 < mirrored < 0.6
    scales = np.abs([np.linalg.det(matrix) for matrix in matrices]) ** -0.5
    assert 0.9 <= scales.min() < 0.92 and 1.08 < scales.max() <= 1.1 + 1e-9
    still = SliceSampling(4, 8, 2, varied=True, flips=False)
    assert all(np.linalg.det(transform_of(p, (1.0, 1.0, 1.0), still)) > 0 for p in range(50))
    first, again = draw_slices(stacks, 3, sampling), draw_slices(stacks, 3, sampling)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0], draw_slices(stacks, 3, SliceSampling(4, 8, 2))[0])
    bone = [draw_slices(stacks, step, sampling)[1] == 1 for step in range(5)]  # an epoch of 10 slices with 16 pixels
    assert 80 < sum(mask.sum() for mask in bone) < 240


def test_whole_numbers_are_held_in_small_types(tmp_path):
    random = np.random.default_rng(0)
    root = tmp_path / "dataset"
    images = {"bytes": random.integers(0, 256, (9, 8, 7)).astype(np.int16),
              "words": random.integers(-1000, 2000, (9, 8, 7)).astype(np.int16),
              "fractions": random.random((9, 8, 7)).astype(np.float32)}
    for name, image in images.items():
        write_image(root / "images" / f"{name}.nii.gz", image)
        write_image(root / "labels" / f"{name}.nii.gz", np.pad(np.ones((3, 3, 3), np.uint8), ((3, 3), (3, 2), (2, 2))))
    write_json(root / "dataset.json", {"name": "s", "modality": "US", "labels": {"femur": 1}})
    write_cache(open_dataset(root), tmp_path / "s.h5", CacheSettings("femur"), progress=lambda text: None)
    with Cache(tmp_path / "s.h5", "femur") as cache:
        stacks = load_slices(cache, ["bytes", "words", "fractions"])
    assert [stack.dtype for stack in stacks.images] == [np.uint8, np.int16, np.float32]
    for stack, image in zip(stacks.images, images.values(), strict=True):
        np.testing.assert_array_equal(np.moveaxis(stack, 0, 2), image)


def test_cases_without_a_mask_are_excluded(cache_path, tmp_path):
    path = tmp_path / "torn.h5"
    path.write_bytes(cache_path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["cases"]["a"]["label"]
        file["cases"]["c"]["label"][...] = 0
        seal(file)
    with Cache(path, "femur") as cache:
        stacks = load_slices(cache, cache.names)
        assert stacks.names == ("b",) and stacks.excluded == ("a", "c")
        with pytest.raises(UserError, match="slices.*none among 2"):
            load_slices(cache, ["a", "c"])


def test_labels_of_the_sides_are_exchanged_in_mirrored_slices(stacks):
    seen = set()
    for step in range(6):
        plain, other = (draw_slices(stacks, step, SliceSampling(1, 8, 2, varied=True, exchanged_labels=pairs))[1]
                        for pairs in ((), ((1, 2),)))
        spacing = stacks.spacings_mm[0]
        mirrored = np.linalg.det(transform_of(step, spacing, SliceSampling(1, 8, 2, varied=True))) < 0
        np.testing.assert_array_equal(other, np.where(plain > 0, 2, plain) if mirrored else plain)
        seen.add((mirrored, bool((plain > 0).any())))
    assert (True, True) in seen


@pytest.mark.parametrize("varied", [False, True])
def test_neighbouring_slices_are_channels(stacks, varied):
    """Each channel is the slice at its own z, the volume's first or last one beyond it, moved as the slice itself."""
    for step in range(3):
        one, of_one = draw_slices(stacks, step, SliceSampling(4, 8, 2, varied=varied))
        three, of_three = draw_slices(stacks, step, SliceSampling(4, 8, 2, varied=varied, channels=3))
        assert three.shape == (*one.shape[:3], 3)
        np.testing.assert_allclose(three[..., 1:2], one, atol=1e-3)
        np.testing.assert_array_equal(of_one, of_three)
        if not varied:
            for image, (case, z) in zip(three, slices_of(stacks, 0, 2)[4 * step:], strict=False):
                last = len(stacks.images[case]) - 1
                assert image[0, 0].tolist() == [1000 * case + np.clip(n, 0, last) for n in (z - 1, z, z + 1)]
    image, targets = next(iter(slice_dataset(stacks, SliceSampling(4, 8, 2, channels=3), range(1))))
    shown = image.numpy()[0][targets["mask"].numpy()[0, ..., 0] >= 0]
    assert abs(shown.mean()) < 1e-4 and abs(shown.std() - 1) < 1e-3
