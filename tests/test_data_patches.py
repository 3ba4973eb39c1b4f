"""Patches: the paper's order, its 8 versions, the share with foreground, padding, restarts."""

import numpy as np
import pytest

from small_caches import write_small_cache
from tfsono.augment import Augmentation
from tfsono.data.cache import Cache
from tfsono.data.patches import (
    RIGHT_ANGLES,
    Sampling,
    draw_patch,
    draw_start,
    image_of,
    patch_dataset,
    read_sources,
    rotated,
)

PATCH = (8, 8, 16)


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory):
    """Three cases of unequal odd sides; the second is smaller than a patch along x."""
    return write_small_cache(tmp_path_factory.mktemp("pipeline"), ((25, 11, 19), (5, 17, 21), (31, 9, 17)))


def sampling(**values):
    return Sampling(**{"patch": PATCH, "batch": 2, "patches_in_a_row": 10, "foreground_share": 0.5,
                       "right_angles": True, "seed": 4, **values})


def batches(path, steps, augmentation=Augmentation(), **values):
    with Cache(path, "hip") as cache:
        names = cache.names
    dataset = patch_dataset(path, "hip", names, sampling(**values), augmentation, steps)
    return [(image.numpy(), label.numpy()) for image, label in dataset]


def test_an_epoch_shows_every_version_of_every_image_equally():
    drawn = [image_of(p, 10, sampling()) for p in range(10 * RIGHT_ANGLES * 10)]
    pairs, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(pairs) == 80 and set(counts) == {10}
    assert len({tuple(d) for d in drawn[:10]}) == 1  # n = 5 batches of 2 from one image, then the next
    assert drawn[0] != drawn[10]
    second = [image_of(p + 800, 10, sampling()) for p in range(800)]
    assert second != drawn and sorted(second) == sorted(drawn)


def test_the_versions_are_the_eight_symmetries_of_a_square():
    array = np.arange(2 * 3 * 2).reshape(2, 3, 2)
    versions = [rotated(array, v) for v in range(8)]
    assert {v.shape for v in versions[::2]} == {(2, 3, 2)} and {v.shape for v in versions[1::2]} == {(3, 2, 2)}
    assert len({v.tobytes() + bytes(v.shape) for v in map(np.ascontiguousarray, versions)}) == 8
    np.testing.assert_array_equal(versions[1], np.rot90(array, 1, (0, 1)))
    np.testing.assert_array_equal(versions[4], array[:, ::-1])


def test_a_start_with_foreground_holds_the_voxel():
    random = np.random.default_rng(0)
    voxels = {1: np.array([[0, 10, 3]]), 2: np.array([[12, 0, 18]])}
    for _ in range(50):
        start = draw_start((13, 11, 19), np.array(PATCH), voxels, 1.0, random)
        assert any((start <= v[0]).all() and (v[0] < start + PATCH).all() for v in voxels.values())
        assert (start >= 0).all() and (start + PATCH <= (13, 11, 19)).all()


def test_a_small_volume_is_within_the_patch():
    random = np.random.default_rng(0)
    starts = np.array([draw_start((5, 17, 21), np.array(PATCH), {}, 0.0, random) for _ in range(200)])
    assert set(starts[:, 0]) == {-3, -2, -1, 0} and starts[:, 1].min() == 0 and starts[:, 1].max() == 9


def test_windows_hold_what_the_volume_holds(cache_path):
    with Cache(cache_path, "hip") as cache:
        sources = read_sources(cache, cache.names)
        whole = {name: cache.read(name) for name in cache.names}
        for position in range(60):
            drawn = draw_patch(cache, sources, position, sampling(patches_in_a_row=1), Augmentation())
            image, version = image_of(position, 3, sampling(patches_in_a_row=1))
            a, b = drawn["box"][:3], drawn["box"][3:]
            inside = drawn["image"][a[0]:b[0], a[1]:b[1], a[2]:b[2]]
            assert drawn["image"].shape == PATCH and np.count_nonzero(drawn["image"]) <= inside.size
            held = rotated(whole[cache.names[image]].image, version)
            assert set(np.unique(inside)) <= set(np.unique(held))


def test_images_are_standardised_and_padding_is_marked(cache_path):
    padded = 0
    for image, label in batches(cache_path, range(20)):
        assert image.shape == (2, *PATCH, 1) and label.shape == (2, *PATCH, 1)
        assert set(np.unique(label)) <= {-1, 0, 1, 2}
        for one, marks in zip(image, label):
            assert not one[marks < 0].any()
            assert one[marks >= 0].mean() == pytest.approx(0, abs=1e-4)
            assert one[marks >= 0].std() == pytest.approx(1, abs=1e-3)
            padded += bool((marks < 0).any())
    assert 0 < padded < 40


def test_the_share_of_patches_with_foreground(cache_path):
    for share, low in ((1.0, 1.0), (0.0, 0.0)):
        found = np.mean([(label > 0).any() for _, labels in batches(cache_path, range(15), foreground_share=share)
                         for label in labels])
        assert found >= low
    assert found < 1.0


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(15.0, 0.2, 0.5, 0.3)],
                         ids=["right_angles", "all"])
def test_a_restart_gives_the_same_batches(cache_path, augmentation):
    whole, rest = batches(cache_path, range(6), augmentation), batches(cache_path, range(4, 6), augmentation)
    for (image, label), (image_again, label_again) in zip(whole[4:], rest, strict=True):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(label, label_again)
    assert np.abs(whole[0][0] - whole[1][0]).max() > 0.1


def test_another_seed_gives_other_batches(cache_path):
    one, other = batches(cache_path, range(2)), batches(cache_path, range(2), seed=5)
    assert np.abs(one[0][0] - other[0][0]).max() > 0.1


def test_augmented_labels_follow_the_image(cache_path):
    # the small datasets are bright where they are labelled: a transform that moved one alone would lose this
    for image, label in batches(cache_path, range(10), Augmentation(15.0, 0.15, 0.5), foreground_share=1.0):
        for one, marks in zip(image, label):
            if (marks > 0).sum() > 20:
                assert one[marks > 0].mean() > one[marks == 0].mean()


def test_labels_of_the_sides_are_exchanged_in_mirror_images(cache_path):
    """The labels of the test volumes are not sides: with and without the exchange, a patch is the same otherwise."""
    for augmentation in (Augmentation(), Augmentation(mirror_share=1.0)):
        changed = 0
        for position, (plain, exchanged) in enumerate(zip(*(
                batches(cache_path, range(40), augmentation, batch=1, patches_in_a_row=1, exchanged_labels=pairs)
                for pairs in ((), ((1, 2),))), strict=True)):
            _, version = image_of(position, 3, sampling(patches_in_a_row=1))
            mirrored = (version >= 4) != bool(augmentation.mirror_share)
            np.testing.assert_array_equal(plain[0], exchanged[0])
            order = np.array([0, 2, 1, -1]) if mirrored else np.array([0, 1, 2, -1])
            np.testing.assert_array_equal(order[plain[1]], exchanged[1])
            changed += mirrored and bool((plain[1] > 0).any())
        assert changed > 5
