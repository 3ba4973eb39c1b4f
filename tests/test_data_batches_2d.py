"""2D images in memory and their batches: places, order, restarts, padding, targets."""

import dataclasses

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.augment_2d import Augmentation2D
from tfsono.contrast import network_image
from tfsono.data.images_2d import (
    load_images,
    mask_and_distance_target,
    mask_target,
    ordered_dataset,
    image_dataset,
    image_of,
    image_pixels,
    points_target,
)
from tfsono.errors import UserError
from tfsono.layers.standardise import standardise

FRAME = (48, 64)
SIZES = ((97, 131), (54, 80), (61, 45), (40, 40))  # rows, columns
STRONG = Augmentation2D(rotation_degrees=15, scaling=0.1, shift=0.05, flip_share=0.5, elastic_share=0.3,
                             brightness=0.1, contrast=0.2, gamma=0.2, speckle=0.1, noise=0.02, blur_sigma=2,
                             shadow_share=0.2)


@dataclasses.dataclass
class Case:
    """The part of a `CachedCase` that the loader uses."""

    name: str
    image: np.ndarray
    label: np.ndarray | None
    points_vox: np.ndarray | None
    pixel_size_mm: float | None


class Cases:
    """The part of a `Cache` that the loader uses."""

    path = "small.h5"

    def __init__(self, cases, landmarks=("ofd_1", "ofd_2", "bpd_1", "bpd_2")):
        self.cases = {case.name: case for case in cases}
        self.landmarks = landmarks
        self.names = sorted(self.cases)

    def read(self, name):
        return self.cases[name]


def ellipse_case(number: int, size) -> Case:
    """A bright ellipse on grain, its mask and the ends of its axes, as a cache holds them: [X, Y, 1]."""
    rows, columns = size
    centre, axes, turn = (columns // 2, rows // 2), (min(size) // 3, min(size) // 4), 10 * number
    mask = cv2.ellipse(np.zeros(size, np.uint8), centre, axes, turn, 0, 360, 1, -1)
    image = np.random.default_rng(number).normal(60, 10, size) + 100 * mask
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    ends = [(-axes[0], 0), (axes[0], 0), (0, -axes[1]), (0, axes[1])]
    points = [(centre[0] + a * cosine - b * sine, centre[1] + a * sine + b * cosine, 0.0) for a, b in ends]
    return Case(f"case_{number}", np.rint(image).T[:, :, None].astype(np.float32), mask.T[:, :, None],
                np.array(points, np.float32), None if number == 3 else 0.1 + number / 100)


def cases():
    return Cases([ellipse_case(number, size) for number, size in enumerate(SIZES)])


def loaded(source=None, **values):
    source = source or cases()
    settings = {"input_size": FRAME, "clahe_clip": 0.0, "clahe_tiles": 8, **values}
    return load_images(source, source.names, **settings)


def left_first(points):
    """The ends of each pair from left to right."""
    pairs = points.reshape(2, 2, 2)
    return np.stack([pair[np.argsort(pair[:, 0], kind="stable")] for pair in pairs]).reshape(4, 2)


def both_targets(mask, points_px):
    return {"mask": mask, "points": points_px}


def batches(stored, steps, augmentation=STRONG, targets=both_targets, seed=4):
    dataset = image_dataset(stored, targets, augmentation, left_first, 3, seed, steps)
    assert int(dataset.cardinality()) == len(steps)
    return [(image.numpy(), {key: value.numpy() for key, value in target.items()}) for image, target in dataset]


# --- loading


def test_an_image_is_transposed_so_that_rows_come_first():
    case = ellipse_case(0, SIZES[0])
    pixels = image_pixels(case)
    assert pixels.shape == SIZES[0] and pixels.dtype == np.uint8
    assert pixels[7, 99] == case.image[99, 7, 0]


def test_a_volume_is_refused():
    with pytest.raises(UserError, match=r"case_0: .*2D.*\(131, 97, 2\)"):
        image_pixels(dataclasses.replace(ellipse_case(0, SIZES[0]), image=np.zeros((131, 97, 2), np.float32)))


def test_loaded_images_are_placed_as_the_letterbox_says():
    stored = loaded()
    assert stored.names == ("case_0", "case_1", "case_2", "case_3")
    assert stored.pixel_sizes_mm == tuple(case.pixel_size_mm for case in cases().cases.values())
    assert stored.pixel_sizes_mm[3] is None
    for number, box in enumerate(stored.letterboxes):
        assert box.source_yx == SIZES[number]
        np.testing.assert_array_equal(stored.valid[number], box.valid)
        assert not stored.images[number][~box.valid].any()
        back = (stored.points_px[number] - box.points_to_target([0, 0])) / box.scale
        np.testing.assert_allclose(back, ellipse_case(number, SIZES[number]).points_vox[:, :2], atol=1e-4)
        # bright where the mask is, and the ends of the axes on the mask's border
        mask = stored.masks[number] > 0
        assert stored.images[number][mask].mean() > stored.images[number][~mask & box.valid].mean() + 70
        distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
        x, y = np.rint(stored.points_px[number]).astype(int).T
        assert distance[y, x].max() < 2.5


def test_contrast_changes_the_pixels_alone():
    plain, other = loaded(), loaded(clahe_clip=2.0)
    assert np.abs(other.images.astype(int) - plain.images).mean() > 1
    np.testing.assert_array_equal(other.masks, plain.masks)
    np.testing.assert_array_equal(other.points_px, plain.points_px)


def test_clahe_comes_before_the_letterbox():
    pixels = image_pixels(ellipse_case(0, SIZES[0]))
    equalised = cv2.createCLAHE(2.0, (8, 8)).apply(pixels)
    case = dataclasses.replace(ellipse_case(0, SIZES[0]), image=equalised.T[:, :, None].astype(np.float32))
    np.testing.assert_array_equal(loaded(clahe_clip=2.0).images[0], loaded(Cases([case])).images[0])


def test_points_after_a_policy_take_the_place_of_the_caches():
    given = {"case_1": np.array([[10.0, 20.0], [30.0, 20.0], [20.0, 10.0], [np.nan, np.nan]])}
    stored = loaded(points_px=given)
    box = stored.letterboxes[1]
    back = (stored.points_px[1] - box.points_to_target([0, 0])) / box.scale
    np.testing.assert_allclose(back, given["case_1"], atol=1e-4)
    assert np.isnan(stored.points_px[[0, 2, 3]]).all()


def test_cases_without_masks_or_landmarks():
    plain = [dataclasses.replace(ellipse_case(n, SIZES[n]), label=None, points_vox=None) for n in range(2)]
    stored = loaded(Cases(plain, landmarks=()))
    assert not stored.masks.any()
    assert stored.points_px.shape == (2, 0, 2)
    image, target = batches(stored, range(1))[0]
    assert image.shape == (3, *FRAME, 1) and target["points"].shape == (3, 0, 2)


def test_no_cases_is_an_error():
    with pytest.raises(UserError, match="small.h5: at least one case"):
        load_images(cases(), [], FRAME, 2.0, 8)


# --- order


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order():
    first, second = ([image_of(p + epoch * 50, 50, 1) for p in range(50)] for epoch in range(2))
    assert sorted(first) == sorted(second) == list(range(50)) and first != second
    assert first != [image_of(p, 50, 2) for p in range(50)]


def test_a_restart_gives_the_same_batches():
    stored = loaded()
    whole, rest = batches(stored, range(6)), batches(stored, range(4, 6))
    for (image, target), (image_again, target_again) in zip(whole[4:], rest, strict=True):
        np.testing.assert_array_equal(image, image_again)
        for key in target:
            np.testing.assert_array_equal(target[key], target_again[key])
    assert np.abs(whole[0][0] - whole[1][0]).max() > 0.1
    assert np.abs(whole[0][0] - batches(stored, range(1), seed=5)[0][0]).max() > 0.1


def test_the_same_image_is_never_augmented_twice_alike():
    stored = loaded()
    drawn = [image for images, _ in batches(stored, range(8)) for image in images]
    assert len({image.tobytes() for image in drawn}) == 24


# --- what comes out


@pytest.mark.parametrize("augmentation", [Augmentation2D(), STRONG], ids=["plain", "strong"])
def test_images_are_standardised_over_their_own_pixels(augmentation):
    for images, _ in batches(loaded(), range(5), augmentation):
        assert images.shape == (3, *FRAME, 1) and images.dtype == np.float32
        for image in images:
            shown = image[image != 0]
            assert shown.mean() == pytest.approx(0, abs=1e-3) and shown.std() == pytest.approx(1, abs=2e-2)
            assert 0.2 < shown.size / image.size <= 1


def test_without_augmentation_training_and_validation_see_the_same():
    stored = loaded()
    images = np.concatenate([image.numpy() for image, _ in ordered_dataset(stored, mask_target, 3)])
    assert len(images) == 4  # the last batch is smaller
    drawn = [image for batch, _ in batches(stored, range(2), Augmentation2D()) for image in batch]
    for position, image in enumerate(drawn):
        np.testing.assert_array_equal(image, images[image_of(position, 4, 4)])
    shown = stored.images[0][stored.valid[0]].astype(float)
    np.testing.assert_allclose(images[0, ..., 0][stored.valid[0]], (shown - shown.mean()) / shown.std(), atol=1e-3)
    assert not images[0, ..., 0][~stored.valid[0]].any()


def test_validation_images_are_those_of_the_graph():
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32)])
    def graph(image):
        pixels, valid = network_image(image, FRAME, 2.0, 8)
        return standardise(pixels[None, ..., None], valid[None, ..., None])

    images = np.concatenate([image.numpy() for image, _ in ordered_dataset(loaded(clahe_clip=2.0), mask_target, 3)])
    for number, size in enumerate(SIZES):
        raw = image_pixels(ellipse_case(number, size)).astype(np.float32)
        np.testing.assert_allclose(graph(tf.constant(raw))[0], images[number], atol=1e-5)


def test_masks_and_points_follow_the_images():
    for images, target in batches(loaded(), range(12)):
        for image, mask, points in zip(images[..., 0], target["mask"][..., 0], target["points"], strict=True):
            assert set(np.unique(mask)) <= {0.0, 1.0}
            inside = mask > 0
            assert image[inside].mean() > image[~inside & (image != 0)].mean() + 0.5
            edge = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
            edge += cv2.distanceTransform(1 - mask.astype(np.uint8), cv2.DIST_L2, 5)
            x, y = np.rint(points).astype(int).T
            assert edge[np.clip(y, 0, FRAME[0] - 1), np.clip(x, 0, FRAME[1] - 1)].max() < 3.5
            np.testing.assert_array_equal(points, left_first(points))


def test_targets():
    stored = loaded()
    points = next(iter(ordered_dataset(stored, points_target("heatmaps"), 4)))[1]["heatmaps"].numpy()
    np.testing.assert_array_equal(points, stored.points_px)
    mask = next(iter(ordered_dataset(stored, mask_target, 4)))[1]["mask"].numpy()
    np.testing.assert_array_equal(mask[..., 0], stored.masks)


def test_the_distance_map_is_that_of_the_augmented_mask():
    for _, target in batches(loaded(), range(3), targets=mask_and_distance_target):
        both = target["mask"]
        assert both.shape == (3, *FRAME, 2) and both.dtype == np.float32
        for mask, distance in zip(both[..., 0], both[..., 1], strict=True):
            assert (distance[mask > 0] <= 0).all() and (distance[mask == 0] >= 1).all()
            far = np.unravel_index(distance.argmax(), FRAME)
            rows, columns = np.nonzero(mask)
            assert distance.max() == pytest.approx(np.hypot(rows - far[0], columns - far[1]).min(), abs=1e-4)


def test_standardise_works_on_images_as_on_patches():
    random = np.random.default_rng(1)
    image = random.normal(5, 3, (2, 7, 9, 1)).astype(np.float32)
    valid = (random.random(image.shape) < 0.6).astype(np.float32)
    out = keras.ops.convert_to_numpy(standardise(image, valid))
    for one, inside, found in zip(image, valid, out, strict=True):
        chosen = one[inside > 0]
        np.testing.assert_allclose(found[inside > 0], (chosen - chosen.mean()) / chosen.std(), rtol=1e-4, atol=1e-5)
        assert not found[inside == 0].any()
    deep = keras.ops.convert_to_numpy(standardise(image[:, None], valid[:, None]))
    np.testing.assert_allclose(deep[:, 0], out, atol=1e-5)
