"""Contrast and letterbox of 2D images: OpenCV's CLAHE to the last level, exact places, one graph for all uses."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfsono.contrast import clahe, letterbox, network_image
from tfsono.geometry.letterbox import Letterbox


def textured(size, seed=0):
    """uint8 [Y, X]: smooth structure with grain and a black border, as ultrasound has."""
    random = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(random.normal(size=size).astype(np.float32), (0, 0), 4)
    image = 110 + 60 * smooth / max(smooth.std(), 1e-6) + random.normal(0, 8, size)
    image[: size[0] // 6] = 0
    return np.clip(image, 0, 255).astype(np.uint8)


# --- CLAHE

SIZES = [(540, 800), (541, 799), (64, 64), (64, 65), (37, 101), (5, 7), (2, 3), (1, 9), (1, 1)]


@pytest.mark.parametrize("clip_limit,tiles", [(2.0, 8), (40.0, 8), (0.5, 3), (3.3, 5)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equal_to_opencv(size, clip_limit, tiles):
    image = textured(size)
    expected = cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(image)
    found = clahe(tf.constant(image), clip_limit, tiles).numpy()
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("image", [np.zeros((33, 40), np.uint8), np.full((33, 40), 255, np.uint8)])
def test_equal_to_opencv_on_constant_images(image):
    expected = cv2.createCLAHE(2.0, (8, 8)).apply(image)
    np.testing.assert_array_equal(clahe(tf.constant(image), 2.0, 8).numpy(), expected)


def test_real_images_are_equal_to_opencv(shared_data):
    paths = sorted((shared_data / "hc18" / "images").glob("*.png"))[::100]
    assert len(paths) >= 4
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        expected = cv2.createCLAHE(2.0, (8, 8)).apply(image)
        np.testing.assert_array_equal(clahe(tf.constant(image), 2.0, 8).numpy(), expected)


def test_float_grey_levels_are_rounded_and_cut():
    image = textured((31, 45))
    levels = image.astype(np.float32) + np.random.default_rng(1).uniform(-0.4, 0.4, image.shape).astype(np.float32)
    levels[0, 0], levels[-1, -1] = -7.0, 300.0
    whole = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(clahe(tf.constant(levels), 2.0, 8), clahe(tf.constant(whole), 2.0, 8))


@pytest.mark.parametrize("clip_limit,tiles", [(0.0, 8), (-1.0, 8), (2.0, 0)])
def test_clahe_without_a_limit_or_tiles_is_refused(clip_limit, tiles):
    with pytest.raises(ValueError, match="clip_limit"):
        clahe(tf.constant(textured((16, 16))), clip_limit, tiles)


# --- letterbox


def frame_of(image, target):
    pixels, valid = letterbox(tf.constant(image), target)
    return pixels.numpy(), valid.numpy()


@pytest.mark.parametrize("size,target,rows,columns", [
    ((540, 800), (192, 256), (9, 182), (0, 256)),  # 0.32: 172.8 rows are 173, 19 are left, 9 of them above
    ((540, 800), (512, 512), (83, 429), (0, 512)),  # 0.64: 345.6 rows are 346
    ((801, 333), (192, 256), (0, 192), (88, 168)),  # 0.2397: 79.8 columns are 80
    ((40, 30), (96, 96), (0, 96), (12, 84)),  # enlarged 2.4 times
    ((192, 256), (192, 256), (0, 192), (0, 256)),
    ((259, 256), (192, 128), (31, 161), (0, 128)),  # 129.5 rows are 130; the last one's centre is the image's edge
])
def test_the_place_of_the_image(size, target, rows, columns):
    pixels, valid = frame_of(np.full(size, 200, np.uint8), target)
    expected = np.zeros(target, bool)
    expected[slice(*rows), slice(*columns)] = True
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(pixels, np.where(expected, 200.0, 0.0))


def test_it_agrees_with_the_geometry_for_points():
    random = np.random.default_rng(0)
    for size in [(259, 256), (2, 900), (900, 3), *map(tuple, random.integers(5, 1300, (40, 2)).tolist())]:
        for target in ((192, 256), (96, 64)):
            pixels, valid = frame_of(np.full(size, 9, np.uint8), target)
            np.testing.assert_array_equal(valid, Letterbox(size, target).valid)
            if min(size) > 5:  # an image thinner than half a pixel of the frame is not visible
                np.testing.assert_array_equal(pixels, 9.0 * valid)


def test_a_dot_is_at_its_point():
    rows, columns = np.mgrid[:541, :803]
    for x, y in ((100.3, 70.6), (402.0, 270.0), (700.9, 500.2)):
        dot = np.rint(250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 12.0**2))).astype(np.uint8)
        pixels, _ = frame_of(dot, (192, 256))
        at_y, at_x = np.mgrid[:192, :256]
        found = np.array([(pixels * at_x).sum(), (pixels * at_y).sum()]) / pixels.sum()
        expected = Letterbox(dot.shape, (192, 256)).points_to_target(np.array([x, y]))
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_the_same_size_changes_nothing():
    image = textured((48, 63))
    np.testing.assert_array_equal(frame_of(image, (48, 63))[0], image)


def test_equal_to_tensorflows_resize_where_the_sizes_divide():
    image = textured((120, 200))
    expected = tf.image.resize(image[..., None].astype(np.float32), (48, 80), antialias=True)[..., 0].numpy()
    np.testing.assert_array_equal(frame_of(image, (64, 80))[0][8:56], np.rint(expected))


@pytest.mark.parametrize("size,target", [((541, 803), (192, 256)), ((347, 211), (128, 160)), ((61, 45), (128, 96))])
def test_a_ramp_keeps_its_place_to_a_hundredth_of_a_pixel(size, target):
    # of i' = (i + 0.5) r - 0.5 + offset with one r for both axes; a plain resize is off by up to half a row
    scale = min(target[0] / size[0], target[1] / size[1])
    for axis in range(2):
        steps = np.arange(size[axis])
        low = np.broadcast_to(np.expand_dims(np.minimum(steps, 255), 1 - axis), size).astype(np.float32)
        pixels, valid = frame_of(low, target)
        used = np.flatnonzero(valid.any(axis=1 - axis))
        source = (np.arange(target[axis]) - used[0] + 0.5) / scale - 0.5
        inner = used[(source[used] > 5) & (source[used] < min(250, size[axis] - 5))]
        found = np.moveaxis(pixels, axis, 0)[inner].mean(axis=1, where=np.moveaxis(valid, axis, 0)[inner])
        assert len(inner) > 20
        assert np.abs(found - source[inner]).max() <= 0.51  # rounded to whole levels, so half a level each
        assert abs((found - source[inner]).mean()) < 0.03


def test_values_are_whole_grey_levels():
    pixels, _ = frame_of(textured((67, 91)), (48, 64))
    np.testing.assert_array_equal(pixels, np.rint(pixels))
    assert 0 <= pixels.min() and pixels.max() <= 255


# --- together


def test_one_saved_graph_takes_every_size(tmp_path):
    module = tf.Module()
    module.prepare = tf.function(lambda image: network_image(image, (48, 64), 2.0, 8),
                                 input_signature=[tf.TensorSpec([None, None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for size in ((97, 131), (40, 33)):
        image = textured(size)
        equalised = cv2.createCLAHE(2.0, (8, 8)).apply(image)
        expected = frame_of(equalised, (48, 64))
        pixels, valid = loaded.prepare(tf.constant(image, tf.float32))
        np.testing.assert_array_equal(pixels, expected[0])
        np.testing.assert_array_equal(valid, expected[1])


def test_a_clip_of_zero_leaves_the_contrast():
    image = textured((48, 64))
    np.testing.assert_array_equal(network_image(tf.constant(image), (48, 64), 0.0, 8)[0], image)
