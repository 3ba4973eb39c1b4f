"""The slice of a validation case that TensorBoard shows, by hand."""

import numpy as np

from tfsono.report.comparison import COLOURS, LEAST_SIDE, comparison_image

NAN = float("nan")


def test_the_reference_is_on_the_left_in_the_slice_with_most_of_it():
    volume = np.random.default_rng(0).normal(size=(200, 100, 5))
    reference, prediction = np.zeros((2, 200, 100, 5), np.uint8)
    reference[20:40, 50:60, 3], reference[0, 0, 1] = 1, 1
    prediction[100:120, 10:30, 3] = 2
    image = comparison_image(volume, (reference, prediction))
    assert image.shape == (100, 400, 3) and image.dtype == np.uint8
    assert (image[50, 20] == COLOURS[0]).all() and (image[10, 200 + 100] == COLOURS[1]).all()  # corners
    coloured = (image[..., 0] != image[..., 1]) | (image[..., 1] != image[..., 2])
    assert coloured.sum() == 20 * 10 + 20 * 20 and coloured[50:60, 20:40].all() and coloured[10:30, 300:320].all()


def test_landmarks_are_crosses_in_the_mean_slice_and_small_slices_are_enlarged():
    volume = np.zeros((20, 10, 7))
    volume[..., 4] = np.arange(20)[:, None]
    reference = np.array([[5, 5, 2], [10, 2, 6.2], [NAN] * 3])
    image = comparison_image(volume, points_vox=(reference, [[5, 5, 0], [19, 9, 0], [400, -3, 0]]))
    factor = -(-LEAST_SIDE // 20)
    assert image.shape == (10 * factor, 2 * 20 * factor, 3)
    x, y = (int(round((place + 0.5) * factor - 0.5)) for place in (5, 5))
    assert (image[y, x] == COLOURS[0]).all() and (image[y, x + 4] == COLOURS[0]).all()
    assert (image[y, 20 * factor + x] == COLOURS[0]).all()
    assert image[0, 20 * factor - 1].min() > 250 > 5 > image[0, 0].max()  # the slice at z = 4, x to the right


def test_an_image_is_a_volume_of_one_slice_and_nothing_is_needed():
    image = comparison_image(np.full((30, 20, 1), 7.0), (None, np.zeros((30, 20, 1))), (np.zeros((0, 2)), None))
    assert image.shape == (140, 420, 3) and not image.any()
