"""Random transforms of 2D images: image, mask and points move together; SciPy, exact rotations, known content."""

import dataclasses

import cv2
import numpy as np
import pytest
from scipy import ndimage

from tfsono.augment_2d import (
    Augmentation2D,
    Sample,
    Warp,
    augmented,
    moved,
    random_bend,
    random_grey_levels,
    random_shadow,
    random_warp,
    warped,
)

SIZE = (97, 131)
STRONG = Augmentation2D(rotation_degrees=30, scaling=0.2, shift=0.1, flip_share=0.5, elastic_share=0.5,
                             elastic_alpha=200, elastic_sigma=20)
GREY = Augmentation2D(brightness=0.2, contrast=0.2, gamma=0.2, speckle=0.2, noise=0.05, blur_sigma=2,
                           shadow_share=0.5)
POINTS = np.array([[45.0, 60.0], [88.0, 41.0], [60.0, 35.0], [72.0, 63.0]], np.float32)


def random_of(seed):
    return np.random.default_rng(seed)


def same(points):
    return points


def dotted(points, size=SIZE, radius=2.5):
    """An image with a Gaussian dot at each point, as grey levels."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    dots = [np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2)) for x, y in points]
    return np.rint(255 * np.max(dots, axis=0)).astype(np.uint8)


def ellipse_mask(size=SIZE):
    return cv2.ellipse(np.zeros(size, np.uint8), (66, 49), (32, 22), 20, 0, 360, 1, -1)


def sample_of(image, mask=None, points=POINTS, valid=None):
    mask = np.zeros(image.shape, np.uint8) if mask is None else mask
    return Sample(image, mask, points, np.ones(image.shape, bool) if valid is None else valid)


def centroid(image, near, reach=8):
    """The centre of the dot near a point, (x, y)."""
    x, y = np.rint(near).astype(int)
    rows, columns = np.mgrid[max(y - reach, 0): y + reach + 1, max(x - reach, 0): x + reach + 1]
    inside = (rows < image.shape[0]) & (columns < image.shape[1])
    rows, columns = rows[inside], columns[inside]
    weights = np.clip(image[rows, columns].astype(float) - 20, 0, None)
    return np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()


# --- geometry


def test_nothing_asked_for_changes_nothing():
    sample = sample_of(dotted(POINTS), ellipse_mask())
    out = augmented(sample, Augmentation2D(), same, random_of(0))
    assert not Augmentation2D().geometric
    np.testing.assert_array_equal(out.image, sample.image)
    np.testing.assert_array_equal(out.mask, sample.mask)
    np.testing.assert_array_equal(out.points_px, POINTS)


def test_a_flip_is_exact():
    image, mask = dotted(POINTS), ellipse_mask()
    out = moved(sample_of(image, mask), Augmentation2D(flip_share=1.0), random_of(0))
    np.testing.assert_array_equal(out.image, image[:, ::-1])
    np.testing.assert_array_equal(out.mask, mask[:, ::-1])
    np.testing.assert_allclose(out.points_px, [[130 - x, y] for x, y in POINTS], atol=1e-5)


def test_90_degrees_are_exact():
    image = random_of(1).integers(0, 255, (41, 41)).astype(np.uint8)
    turn = Warp(np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 40.0]]), None)  # reads (y, 40 - x)
    points = np.array([[10.0, 3.0]], np.float32)
    out = warped(sample_of(image, image % 2, points), turn, turn.destinations(points))
    np.testing.assert_array_equal(out.image, np.rot90(image, -1))
    np.testing.assert_array_equal(out.mask, np.rot90(image % 2, -1))
    np.testing.assert_allclose(out.points_px, [[37.0, 10.0]], atol=1e-5)
    assert np.rot90(image, -1)[10, 37] == image[3, 10]


@pytest.mark.parametrize("seed", range(6))
def test_an_image_agrees_with_scipy(seed):
    image = cv2.GaussianBlur(random_of(seed).integers(0, 255, SIZE).astype(np.uint8), (0, 0), 2)
    augmentation = dataclasses.replace(STRONG, elastic_share=seed % 2)
    warp = random_warp(SIZE, augmentation, random_of(seed))
    out = warped(sample_of(image), warp, POINTS)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    (a, b, c), (d, e, f) = warp.matrix
    at_x, at_y = a * columns + b * rows + c, d * columns + e * rows + f
    if warp.bend is not None:
        at_x, at_y = at_x + warp.bend[..., 0], at_y + warp.bend[..., 1]
    expected = ndimage.map_coordinates(image.astype(float), [at_y, at_x], order=1, mode="nearest")
    inner = (at_x >= 0) & (at_x <= SIZE[1] - 1) & (at_y >= 0) & (at_y <= SIZE[0] - 1)
    assert inner.mean() > 0.4
    assert np.abs(out.image - expected)[inner].max() <= 2  # OpenCV counts in 32nds of a pixel
    assert np.abs(out.image - expected)[inner].mean() < 0.5
    assert not out.image[~out.valid].any() and not (~out.valid & inner).any()


def test_points_stay_on_what_they_mark():
    errors = []
    for seed in range(60):
        sample = sample_of(dotted(POINTS))
        out = moved(sample, STRONG, random_of(seed))
        errors += [np.hypot(*(centroid(out.image, point) - point)) for point in out.points_px
                   if 9 < point[0] < SIZE[1] - 10 and 9 < point[1] < SIZE[0] - 10]
    assert len(errors) > 150
    assert np.median(errors) < 0.12 and np.max(errors) < 0.8  # a bent dot's centroid moves a little too


def test_points_solve_the_map_exactly():
    bent = 0
    for seed in range(40):
        warp = random_warp(SIZE, STRONG, random_of(seed))
        places = warp.destinations(POINTS)
        assert places is not None
        bent += warp.bend is not None
        for place, point in zip(places, POINTS):
            if warp.bend is None:
                offset = 0
            else:  # SciPy's own bilinear reading of the field
                at = np.clip(place[::-1], 0, np.array(SIZE) - 1)[:, None]
                offset = [ndimage.map_coordinates(warp.bend[..., axis], at, order=1, mode="nearest")[0]
                          for axis in range(2)]
            back = warp.matrix @ [*place, 1.0] + offset
            np.testing.assert_allclose(back, point, atol=0.03)
    assert 10 < bent < 30


def test_mask_moves_with_the_image():
    for seed in range(20):
        mask = ellipse_mask()
        out = moved(sample_of(mask * np.uint8(200), mask), STRONG, random_of(seed))
        assert set(np.unique(out.mask)) <= {0, 1}
        expected = (out.image >= 100) & out.valid
        assert (out.mask != expected).sum() <= 5 < 500 < expected.sum()  # a pixel that is just half may go either way


def test_the_area_grows_with_the_square_of_the_scale():
    augmentation = Augmentation2D(scaling=0.2)
    for seed in range(10):
        warp = random_warp(SIZE, augmentation, random_of(seed))
        out = warped(sample_of(dotted(POINTS), ellipse_mask()), warp, POINTS)
        scale = 1 / np.sqrt(np.linalg.det(warp.matrix[:, :2]))
        assert 0.8 <= scale <= 1.2
        assert out.mask.sum() / ellipse_mask().sum() == pytest.approx(scale**2, rel=0.02)


def test_angle_scale_and_shift_stay_within_their_range():
    augmentation = Augmentation2D(rotation_degrees=15, scaling=0.2, shift=0.1, flip_share=0.3)
    angles, scales, shifts, flips = [], [], [], []
    middle = (np.array(SIZE[::-1]) - 1) / 2
    for seed in range(300):
        warp = random_warp(SIZE, augmentation, random_of(seed))
        forward = np.linalg.inv(np.vstack([warp.matrix, [0, 0, 1]]))
        flips.append(np.linalg.det(forward[:2, :2]) < 0)
        scales.append(np.sqrt(abs(np.linalg.det(forward[:2, :2]))))
        angles.append(np.degrees(np.arctan2(forward[1, 1], -forward[0, 1])) - 90)
        shifts.append((forward @ [*middle, 1])[:2] - middle)
        np.testing.assert_allclose(forward[:2, :2].T @ forward[:2, :2], np.eye(2) * scales[-1] ** 2, atol=1e-9)
    shares = np.abs(shifts) / SIZE[::-1]
    assert 14 < np.max(angles) <= 15.001 and -15.001 <= np.min(angles) < -14
    assert 0.8 <= min(scales) < 0.81 and 1.19 < max(scales) <= 1.2
    assert (shares.max(axis=0) <= 0.1 + 1e-9).all() and (shares.max(axis=0) > 0.095).all()
    assert 0.2 < np.mean(flips) < 0.4


def test_shares_say_how_many_images_move():
    augmentation = dataclasses.replace(STRONG, geometric_share=0.4, flip_share=0, elastic_share=0)
    still = [np.allclose(random_warp(SIZE, augmentation, random_of(seed)).matrix, [[1, 0, 0], [0, 1, 0]])
             for seed in range(300)]
    assert 0.5 < np.mean(still) < 0.7
    assert not dataclasses.replace(augmentation, geometric_share=0.0).geometric


@pytest.mark.parametrize("size", [(512, 512), (192, 256)])
def test_the_bend_has_the_deviation_of_smoothed_noise(size):
    # the original recipe, at a frame of 512: uniform -1..1, smoothed with sigma 5, times 30
    noise = random_of(0).uniform(-1, 1, (512, 512))
    expected = 30 * ndimage.gaussian_filter(noise, 5).std() * max(size) / 512
    bend = random_bend(size, Augmentation2D(), random_of(1))
    assert bend.shape == (*size, 2) and bend.std() == pytest.approx(expected, rel=0.05)
    assert np.abs(bend.mean()) < 0.2 * expected


def test_order_is_called_after_geometry_alone():
    def upside_down(points):
        return points[::-1]

    sample = sample_of(dotted(POINTS))
    out = augmented(sample, Augmentation2D(flip_share=1.0), upside_down, random_of(0))
    np.testing.assert_allclose(out.points_px, [[130 - x, y] for x, y in POINTS[::-1]], atol=1e-5)
    np.testing.assert_array_equal(augmented(sample, GREY, upside_down, random_of(0)).points_px, POINTS)


def test_no_landmark_is_lost():
    corners = np.array([[4.0, 5.0], [126.0, 91.0], [60.0, 3.0], [66.0, 94.0]], np.float32)
    away = 0
    for seed in range(80):
        out = moved(sample_of(dotted(corners), points=corners), STRONG, random_of(seed))
        assert (out.points_px >= -0.5).all() and (out.points_px <= np.array(SIZE[::-1]) - 0.5).all()
        away += not np.array_equal(out.points_px, corners)
    assert away > 5


def test_where_no_draw_keeps_the_landmarks_the_image_stays():
    corner = np.array([[0.0, 0.0], [130.0, 96.0], [0.0, 96.0], [130.0, 0.0]], np.float32)
    augmentation = Augmentation2D(shift=0.4)
    sample = sample_of(dotted(corner), points=corner)
    out = moved(sample, augmentation, random_of(5))
    assert out is sample


def test_missing_and_outlying_points_do_not_stop_a_transform():
    points = np.array([[np.nan, np.nan], [-20.0, 30.0], [60.0, 50.0], [np.nan, np.nan]], np.float32)
    out = moved(sample_of(dotted(POINTS), points=points), STRONG, random_of(3))
    assert np.isnan(out.points_px[[0, 3]]).all() and np.isfinite(out.points_px[1:3]).all()
    assert np.abs(out.points_px[2] - points[2]).max() > 0.5
    nothing = moved(sample_of(dotted(POINTS), points=np.zeros((0, 2), np.float32)), STRONG, random_of(3))
    assert nothing.points_px.shape == (0, 2) and (nothing.image != dotted(POINTS)).any()


def test_a_field_that_folds_leaves_the_image_as_it_is():
    folding = Augmentation2D(elastic_share=1.0, elastic_alpha=20000, elastic_sigma=5)
    sample = sample_of(dotted(POINTS))
    assert moved(sample, folding, random_of(0)) is sample


def test_padding_does_not_bleed_into_the_image():
    valid = np.zeros(SIZE, bool)
    valid[11:86] = True
    image = np.where(valid, 200, 0).astype(np.uint8)
    for seed in range(20):
        out = moved(sample_of(image, ellipse_mask(), valid=valid), STRONG, random_of(seed))
        np.testing.assert_array_equal(out.image, np.where(out.valid, 200, 0))
        assert not out.mask[~out.valid].any() and 0.3 < out.valid.mean() < 0.95


# --- grey levels


def grey(image, seed=0, valid=None, **values):
    valid = np.ones(image.shape, bool) if valid is None else valid
    return random_grey_levels(image, valid, Augmentation2D(**values), random_of(seed))


@pytest.mark.parametrize("values", [{"brightness": 0.2}, {"contrast": 0.2}, {"gamma": 0.2}, {"speckle": 0.2},
                                    {"noise": 0.05}, {"blur_sigma": 4.0}, {"shadow_share": 1.0}], ids=str)
def test_each_changes_the_image_alone_and_within_range(values):
    image = random_of(2).integers(40, 200, SIZE).astype(np.uint8)
    changes = [grey(image, seed, **values) - image for seed in range(12)]
    assert np.mean([np.abs(change).mean() > 0.3 for change in changes]) > 0.7
    for seed in range(12):
        out = grey(image, seed, **values)
        assert out.dtype == np.float32 and 0 <= out.min() and out.max() <= 255
        np.testing.assert_array_equal(out, grey(image, seed, **values))


def test_brightness_contrast_and_gamma_by_hand():
    image = np.repeat(np.arange(60, 180, dtype=np.uint8)[None], 5, axis=0)
    for seed in range(8):
        lift = grey(image, seed, brightness=0.2) - image
        assert lift.std() < 1e-3 and abs(lift.mean()) <= 51
        stretched = grey(image, seed, contrast=0.2)
        slope = np.diff(stretched[0])
        assert slope.std() < 1e-3 and 0.8 <= slope[0] <= 1.2 and stretched.mean() == pytest.approx(119.5, abs=1e-2)
        power = np.log(grey(image, seed, gamma=0.2) / 255) / np.log(image / 255)
        assert power.std() < 1e-3 and 0.8 <= power.mean() <= 1.2


def test_speckle_is_multiplicative_and_noise_is_not():
    image = np.zeros((200, 200), np.uint8)
    image[:, 100:] = 20
    image[100:] *= 5
    speckled = [grey(image, seed, speckle=0.3) for seed in range(8)]
    assert all(not out[:, :100].any() for out in speckled)
    dark, bright = (np.mean([out[rows, 100:].std() for out in speckled]) for rows in (slice(0, 100), slice(100, 200)))
    assert bright == pytest.approx(5 * dark, rel=0.05)
    assert np.mean([out[100:, 100:].mean() for out in speckled]) == pytest.approx(100, rel=0.03)
    noisy = grey(image + np.uint8(100), 1, noise=0.05) - image - 100.0
    assert noisy[:100].std() == pytest.approx(noisy[100:].std(), rel=0.05)
    assert np.corrcoef(noisy[:, 1:].ravel(), noisy[:, :-1].ravel())[0, 1] < 0.05


def test_a_blur_takes_detail_and_keeps_the_mean():
    image = random_of(2).integers(40, 200, SIZE).astype(np.uint8)
    spreads = [grey(image, seed, blur_sigma=8.0).std() for seed in range(8)]
    assert min(spreads) < 0.3 * image.std()
    assert grey(image, 1, blur_sigma=8.0).mean() == pytest.approx(image.mean(), rel=0.01)


def test_the_padding_stays_black():
    valid = np.zeros(SIZE, bool)
    valid[11:86] = True
    image = (random_of(0).integers(50, 200, SIZE) * valid).astype(np.uint8)
    for seed in range(10):
        out = random_grey_levels(image, valid, GREY, random_of(seed))
        assert not out[~valid].any() and out[valid].mean() > 10


def test_shares_say_how_many_images_change():
    image = random_of(2).integers(40, 200, SIZE).astype(np.uint8)
    values = {"noise": 0.1, "noise_share": 0.3}
    changed = [np.abs(grey(image, seed, **values) - image).mean() > 0.05 for seed in range(300)]
    assert 0.2 < np.mean(changed) < 0.4


def test_a_shadow_is_a_dark_wedge_that_begins_below_the_top():
    covered = []
    for seed in range(30):
        shadow = random_shadow(SIZE, random_of(seed))
        assert shadow.shape == SIZE and shadow.dtype == np.float32
        assert 0.19 < shadow.min() <= 0.71 and shadow.max() <= 1 and (shadow[:9] == 1).all()
        darkest = np.flatnonzero(shadow[-1] < (1 + shadow[-1].min()) / 2)
        assert (np.diff(darkest) == 1).all()  # one wedge
        covered.append((shadow < 0.9).mean())
    assert 0.02 < np.mean(covered) < 0.3


# --- together


def test_the_generator_alone_decides():
    sample = sample_of(dotted(POINTS), ellipse_mask())
    both = dataclasses.replace(STRONG, brightness=0.2, speckle=0.1, noise=0.02)
    one, again, other = (augmented(sample, both, same, random_of(seed)) for seed in (1, 1, 2))
    for field in ("image", "mask", "points_px", "valid"):
        np.testing.assert_array_equal(getattr(one, field), getattr(again, field))
    assert np.abs(one.image - other.image).mean() > 1
    np.testing.assert_array_equal(sample.image, dotted(POINTS))  # the source is not written to
