"""Whole volumes and the targets of their anchors: boxes about moved landmarks, the sample, restarts."""

import numpy as np
import pytest

from test_data_landmark_volumes import HANDS, NAMES, points_of, write_bodies
from tfsono.data.boxes import BoxSampling, box_dataset
from tfsono.data.cache import Cache, CacheSettings
from tfsono.audit.cache_writer import write_cache
from tfsono.data.layout import open_dataset
from tfsono.data.landmark_volumes import WholeSampling, whole_sources
from tfsono.geometry.anchors import anchors as anchors_of
from tfsono.geometry.boxes import pairwise_iou

BOXES = BoxSampling((8.0, 6.0, 6.0, 8.0), (2, 4), (6.0, 9.0), 0.5, 0.25, 12, 3)


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory):
    root = tmp_path_factory.mktemp("boxes")
    write_cache(open_dataset(write_bodies(root / "dataset")), root / "bodies.h5", CacheSettings("face"),
                progress=lambda text: None)
    return root / "bodies.h5"


def drawn(path, steps, augmentation="none"):
    sampling = WholeSampling(1.0, 4, 1.0, augmentation, 25.0, 0, exchanged=HANDS)
    with Cache(path, "face") as cache:
        sources, _ = whole_sources(cache, cache.names, sampling)
    return [(image.numpy(), {name: value.numpy()[0] for name, value in reference.items()})
            for image, reference in box_dataset(path, "face", sources, sampling, BOXES, steps)]


def test_boxes_and_anchors_of_a_plain_volume(cache_path):
    (image, reference), _ = drawn(cache_path, range(2))
    first = image.shape[1] == 44
    size = (41, 27, 33) if first else (25, 37, 29)
    expected = points_of(size)
    centres = (reference["boxes"][:, :3] + reference["boxes"][:, 3:]) / 2
    np.testing.assert_allclose(centres, expected, atol=0.02)
    sides = reference["boxes"][:, 3:] - reference["boxes"][:, :3]
    np.testing.assert_allclose(sides, np.tile([[8], [6], [6], [8]], 3), atol=1e-4)
    anchors = np.concatenate([anchors_of(tuple(n // stride for n in image.shape[1:4]), stride, (6.0, 9.0))
                              for stride in (2, 4)])
    assert len(reference["labels"]) == len(anchors)
    best = pairwise_iou(anchors, reference["boxes"]).max(axis=1)
    middles = (anchors[:, :3] + anchors[:, 3:]) / 2
    inside = (middles < np.array(size) - 0.5).all(axis=1)
    np.testing.assert_array_equal(reference["labels"] == 0, (best < 0.25) & inside)
    assert (reference["labels"][(best > 0.5) & inside] > 0).all() and set(reference["labels"]) == {-1, 0, 1, 2, 3, 4}


def test_the_sample_is_of_the_right_kinds_and_differs_by_step(cache_path):
    steps = drawn(cache_path, range(6), "random")
    for _, reference in steps:
        positives, negatives = reference["positives"], reference["negatives"]
        used = positives[positives >= 0]
        assert len(positives) == 12 and len(negatives) == 36 and len(used) == min(12, (reference["labels"] > 0).sum())
        assert (reference["labels"][used] > 0).all() and len(set(used)) == len(used)
        assert (reference["labels"][negatives] == 0).all() and len(set(negatives)) == 36
    assert len({tuple(reference["negatives"]) for _, reference in steps}) == 6


def test_a_mirror_image_exchanges_the_sides_and_rotates_no_box(cache_path):
    """Each spot's brightness identifies it: a hand's box is around the other hand in a mirror image."""
    mirrored = 0
    for image, reference in drawn(cache_path, range(12), "random"):
        known = np.isfinite(reference["boxes"]).all(axis=1)
        np.testing.assert_allclose((reference["boxes"][:, 3:] - reference["boxes"][:, :3])[known],
                                   np.tile([[8], [6], [6], [8]], 3)[known], atol=1e-4)
        if known[1] and known[2]:
            centres = np.round((reference["boxes"][:, :3] + reference["boxes"][:, 3:]) / 2).astype(int)
            values = [image[0, *np.clip(centre, 0, np.array(image.shape[1:4]) - 1), 0] for centre in centres[1:3]]
            mirrored += values[0] > values[1]
    assert 2 <= mirrored <= 10  # `NAMES`: hand_a is the darker one


def test_a_step_is_the_same_wherever_the_run_began(cache_path):
    whole, later = drawn(cache_path, range(5), "random"), drawn(cache_path, range(3, 5), "random")
    for (image, reference), (again, reference_again) in zip(whole[3:], later, strict=True):
        np.testing.assert_array_equal(image, again)
        for name, value in reference.items():
            np.testing.assert_array_equal(value, reference_again[name])
    assert NAMES[1:3] == ("hand_a", "hand_b")
