"""The letterbox: the mapping of points, masks and pixels."""

from __future__ import annotations

import numpy as np
import pytest

from tfsono.geometry.ellipse import Ellipse, ellipse_of_mask
from tfsono.geometry.letterbox import Letterbox

SIZES = [
    ((540, 800), (512, 512)),
    ((540, 800), (192, 256)),
    ((333, 801), (192, 256)),
    ((801, 333), (192, 256)),
    ((101, 67), (224, 160)),
    ((7, 5), (64, 96)),
    ((192, 256), (192, 256)),
]


def test_the_papers_frame():
    """800 x 540 in 512 x 512: scale 0.64, 346 rows, 83 rows of padding on each side."""
    box = Letterbox((540, 800), (512, 512))
    assert (box.scale, box.new_yx, box.start_yx) == (0.64, (346, 512), (83, 0))
    # The outer corner of the first pixel stays the outer corner of the shown part.
    np.testing.assert_allclose(box.points_to_target([-0.5, -0.5]), [-0.5, 82.5])
    np.testing.assert_allclose(box.points_to_target([0.0, 0.0]), [0.5 * 0.64 - 0.5, 0.5 * 0.64 - 0.5 + 83])
    assert np.isnan(box.points_to_target([np.nan, 1.0])[0])
    assert box.valid.sum() == 346 * 512 and not box.valid[82].any() and box.valid[83].all()


def test_an_odd_rest_goes_to_the_high_end():
    box = Letterbox((10, 20), (15, 20))
    assert box.start_yx == (2, 0) and box.new_yx == (10, 20)


@pytest.mark.parametrize("source, target", SIZES)
def test_pixels_go_where_points_go(source, target):
    """A linear ramp has in the frame the values of the places that its pixels come from."""
    box = Letterbox(source, target)
    rows, columns = source
    y, x = np.indices(source)
    framed = box.apply((x + 3.0 * y).astype(np.float64))
    inside = np.argwhere(box.valid)[:, ::-1]
    back = (inside - box.points_to_target([0, 0])) / box.scale
    # Half a pixel of the frame at the edges covers the image's end.
    margin = 0.5 + 0.5 / min(box.scale, 1)
    kept = ((back >= margin) & (back <= np.array([columns, rows]) - 1 - margin)).all(axis=1)
    expected = back[kept] @ [1.0, 3.0]
    assert kept.sum() > 10 or min(source) < 10
    found = framed[inside[kept, 1], inside[kept, 0]]
    np.testing.assert_allclose(found, expected, atol=2.0 if box.scale < 1 else 2e-3)
    assert not kept.any() or abs(np.mean(found - expected)) < 0.02
    assert not framed[~box.valid].any()


def test_shrinking_takes_the_mean_and_keeps_the_type():
    image = np.array([[0, 100, 10, 30], [20, 40, 50, 70]], np.uint8)
    framed = Letterbox((2, 4), (3, 2)).apply(image)
    assert framed.dtype == np.uint8
    assert framed.tolist() == [[0, 0] if row != 1 else [40, 40] for row in range(3)]


def test_channels_are_alone():
    image = np.random.default_rng(0).integers(0, 255, (31, 47, 3)).astype(np.uint8)
    for target in ((16, 20), (90, 100)):
        box = Letterbox((31, 47), target)
        alone = np.stack([box.apply(image[..., c]) for c in range(3)], axis=-1)
        np.testing.assert_array_equal(box.apply(image), alone)


@pytest.mark.parametrize("source, target", SIZES[:5])
def test_a_mask_keeps_its_ellipse(source, target):
    box = Letterbox(source, target)
    rows, columns = source
    reference = Ellipse((columns * 0.48, rows * 0.53), min(source) * 0.43, min(source) * 0.33, 0.4)
    framed = box.apply_mask(reference.mask(source).astype(np.uint8) * 255)
    assert framed.dtype == bool and framed.shape == target
    found = ellipse_of_mask(framed)
    assert found.semi_major_px == pytest.approx(reference.semi_major_px * box.scale, abs=0.35)
    np.testing.assert_allclose(found.center_px, box.points_to_target(reference.center_px), atol=0.35)


def test_no_change_changes_nothing():
    image = np.random.default_rng(0).random((21, 34)).astype(np.float32)
    box = Letterbox((21, 34), (21, 34))
    np.testing.assert_array_equal(box.apply(image), image)


def test_a_very_long_image_keeps_one_row():
    box = Letterbox((1, 1000), (64, 64))
    assert box.new_yx == (1, 64) and box.apply(np.full((1, 1000), 7, np.uint8))[box.start_yx[0]].tolist() == [7] * 64


@pytest.mark.parametrize("sizes", [((0, 5), (4, 4)), ((5, 5), (4, -4)), ((5, 5, 1), (4, 4)), ((5.5, 5), (4, 4))])
def test_impossible_sizes(sizes):
    with pytest.raises(ValueError, match="whole numbers above 0"):
        Letterbox(*sizes)


def test_another_size_is_refused():
    box = Letterbox((30, 40), (20, 20))
    for call in (box.apply, box.apply_mask):
        with pytest.raises(ValueError, match=r"must be \[30, 40\]"):
            call(np.zeros((40, 30)))
    with pytest.raises(ValueError, match=r"mask must be \[Y, X\]"):
        box.apply_mask(np.zeros((30, 40, 1)))
