"""The ellipse's measurements, and its fit to masks that are damaged in every way."""

from __future__ import annotations

import csv
import math

import cv2
import numpy as np
import pytest
from scipy.special import ellipe
from skimage.measure import regionprops

from tfsono.geometry.ellipse import (
    Ellipse,
    EllipseSearch,
    ellipse_of_mask,
    ellipse_of_points,
    ellipse_of_probabilities,
    fit_ellipse,
    head_of_mask,
)

SIZE = (540, 800)


def random_ellipse(generator, smallest=70.0, largest=180.0):
    minor = generator.uniform(smallest, largest)
    center = generator.uniform(360, 440), generator.uniform(250, 290)
    return Ellipse(center, minor / generator.uniform(0.65, 0.95), minor, generator.uniform(-1.5, 1.5))


def axis_errors(found, reference):
    """Relative errors of the long and the short semi-axis."""
    return (found.semi_major_px / reference.semi_major_px - 1, found.semi_minor_px / reference.semi_minor_px - 1)


# --- the ellipse itself


def test_circumference_by_hand_and_by_the_integral():
    assert Ellipse((0, 0), 55, 42, 0).circumference_px() == pytest.approx(306.1044, abs=5e-5)
    assert Ellipse((0, 0), 10, 10, 0).circumference_px() == pytest.approx(20 * math.pi)
    for a, b in ((100, 78), (100, 50), (3, 2.9)):
        exact = 4 * a * ellipe(1 - (b / a) ** 2)
        assert Ellipse((5, 9), a, b, 1).circumference_px() == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("angle, expected", [(0, 0), (math.pi / 2, -math.pi / 2), (2, 2 - math.pi), (-4, math.pi - 4)])
def test_the_angle_is_brought_to_its_range(angle, expected):
    assert Ellipse((0, 0), 2, 1, angle).angle_rad == pytest.approx(expected)


@pytest.mark.parametrize("numbers", [((0, 0), 1, 2, 0), ((0, 0), 2, 0, 0), ((0, math.nan), 2, 1, 0),
                                     ((0, 0), math.inf, 1, 0), ((0, 0), 2, 1, math.nan)])
def test_no_ellipse(numbers):
    with pytest.raises(ValueError, match="finite numbers and semi_major_px >= semi_minor_px > 0"):
        Ellipse(*numbers)


def test_end_points_by_hand():
    """A level ellipse and one that points 30 degrees down to the right: left, right, upper, lower end."""
    level = Ellipse((100, 50), 40, 30, 0).end_points()
    np.testing.assert_allclose(level, [[60, 50], [140, 50], [100, 20], [100, 80]])
    root = math.sqrt(3)
    rotated = Ellipse((0, 0), 40, 30, math.pi / 6).end_points()
    np.testing.assert_allclose(
        rotated, [[-20 * root, -20], [20 * root, 20], [15, -15 * root], [-15, 15 * root]], atol=1e-9
    )


@pytest.mark.parametrize("angle", np.linspace(-1.57, 1.57, 9))
def test_end_points_are_left_and_above(angle):
    ends = Ellipse((0, 0), 40, 30, angle).end_points()
    assert ends[0, 0] < ends[1, 0] and ends[2, 1] < ends[3, 1]
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(80)
    assert np.linalg.norm(ends[3] - ends[2]) == pytest.approx(60)


def test_mask_against_scikit_image():
    reference = Ellipse((61.3, 48.8), 40.5, 27.25, 0.7)
    mask = reference.mask((101, 133))
    properties = regionprops(mask.astype(np.uint8))[0]
    assert mask.dtype == bool and mask.sum() == pytest.approx(math.pi * 40.5 * 27.25, rel=0.005)
    np.testing.assert_allclose(properties.centroid, reference.center_px[::-1], atol=0.05)
    assert properties.axis_major_length == pytest.approx(81, abs=0.2)
    assert properties.axis_minor_length == pytest.approx(54.5, abs=0.2)
    # scikit-image counts from the row axis, counter-clockwise.
    assert (math.pi / 2 - properties.orientation - 0.7 + 1) % math.pi - 1 == pytest.approx(0, abs=0.01)


def test_contour_and_distances():
    ellipse = Ellipse((61.3, 48.8), 40.5, 27.25, -0.7)
    outline = ellipse.contour(2000)
    assert ellipse.distances(outline).max() < 1e-9
    assert np.linalg.norm(np.roll(outline, 1, 0) - outline, axis=1).sum() == pytest.approx(ellipse.circumference_px(),
                                                                                       rel=1e-5)
    # Against brute force, for points up to 3 pixels away.
    points = outline[::40] + np.random.default_rng(0).uniform(-2, 2, (50, 2))
    nearest = np.linalg.norm(points[:, None] - ellipse.contour(20000), axis=-1).min(axis=1)
    np.testing.assert_allclose(ellipse.distances(points), nearest, atol=0.1)
    assert ellipse.distances(np.array([ellipse.center_px])) == 27.25


def test_grown():
    assert Ellipse((1, 2), 5, 4, 0.3).grown(-1.5) == Ellipse((1, 2), 3.5, 2.5, 0.3)
    with pytest.raises(ValueError):
        Ellipse((1, 2), 5, 4, 0.3).grown(-4)


def test_ellipse_of_four_points():
    reference = Ellipse((61.3, 48.8), 40.5, 27.25, -0.7)
    for order in ([0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1]):
        found = ellipse_of_points(reference.end_points()[order])
        assert found.semi_major_px == pytest.approx(40.5) and found.semi_minor_px == pytest.approx(27.25)
        assert found.center_px == pytest.approx(reference.center_px) and found.angle_rad == pytest.approx(-0.7)
    assert ellipse_of_points([[0, 0], [1, 1], [2, 2], [np.nan, 0]]) is None
    assert ellipse_of_points([[0, 0], [1, 1], [2, 2], [2, 2]]) is None


# --- the fit to points


def test_fit_is_exact_on_exact_points_and_seeded():
    reference = Ellipse((61.3, 48.8), 40.5, 27.25, -0.7)
    points = np.concatenate([reference.contour(97), [[np.nan, 3.0]]])
    found = fit_ellipse(points, seed=3)
    assert (found.semi_major_px, found.semi_minor_px, found.angle_rad) == pytest.approx((40.5, 27.25, -0.7), abs=1e-4)
    noisy = reference.contour(97) + np.random.default_rng(0).normal(0, 0.5, (97, 2))
    assert fit_ellipse(noisy, seed=3) == fit_ellipse(noisy, seed=3)


def test_fit_finds_the_ellipse_among_wrong_points():
    generator = np.random.default_rng(0)
    reference = Ellipse((400, 270), 200, 150, 0.5)
    for seed in range(10):
        points = np.concatenate([reference.contour(120) + generator.normal(0, 0.3, (120, 2)),
                                 generator.uniform((150, 70), (650, 470), (80, 2))])
        assert np.abs(axis_errors(fit_ellipse(points, seed), reference)).max() < 0.005


def test_least_distances_have_no_pull_inwards():
    """Half of a noisy outline: an algebraic fit is too small by percents, on average over many."""
    generator, errors, algebraic = np.random.default_rng(0), [], []
    reference = Ellipse((400, 270), 100, 75, 0.5)
    for seed in range(40):
        points = reference.contour(400)[:220] + generator.normal(0, 1.0, (220, 2))
        errors.append(axis_errors(fit_ellipse(points, seed, inlier_px=4.0), reference))
        axes = sorted(cv2.fitEllipseDirect(points.astype(np.float32))[1])
        algebraic.append((axes[1] / 200 - 1, axes[0] / 150 - 1))
    assert np.abs(np.mean(errors, axis=0)).max() < 0.004
    if int(cv2.__version__.split(".")[0]) >= 5:  # that of OpenCV 4 is another algorithm, 0.0008 off
        assert np.abs(np.mean(algebraic, axis=0)).max() > 0.004


def test_a_circle_is_an_ellipse():
    found = fit_ellipse(Ellipse((50, 60), 30, 30, 0).contour(80))
    assert (found.semi_major_px, found.semi_minor_px) == pytest.approx((30, 30), abs=1e-3)


@pytest.mark.parametrize("points", [
    np.zeros((0, 2)),
    np.zeros((50, 2)),
    np.stack([np.arange(50.0), np.arange(50.0)], axis=-1),
    np.full((50, 2), np.nan),
    np.random.default_rng(0).uniform(0, 500, (300, 2)),
    Ellipse((200, 100), 100, 30, 0).contour(100),  # too flat for a head
    Ellipse((200, 100), 100, 75, 0).contour(100)[:30],  # three tenths of an outline
], ids=["none", "one place", "line", "nan", "scattered", "flat", "short arc"])
def test_no_fit(points):
    assert fit_ellipse(points) is None


def test_impossible_arguments():
    with pytest.raises(ValueError, match="at least 5"):
        fit_ellipse(np.zeros((50, 2)), sample_points=4)
    with pytest.raises(ValueError, match=r"\[N, 2\]"):
        fit_ellipse(np.zeros((50, 3)))
    with pytest.raises(ValueError, match=r"mask must be \[Y, X\]"):
        ellipse_of_mask(np.zeros((5, 5, 1)))
    with pytest.raises(ValueError, match=r"probability must be \[Y, X\]"):
        ellipse_of_probabilities(np.zeros((5, 5, 1)))


# --- masks


def test_no_bias_on_exact_masks():
    """The axes of exact masks come back within 0.1 pixel, and within 0.01 on average: no half pixel is lost."""
    generator, errors = np.random.default_rng(0), []
    for seed in range(40):
        reference = random_ellipse(generator)
        found = ellipse_of_mask(reference.mask(SIZE), seed)
        errors.append([found.semi_major_px - reference.semi_major_px, found.semi_minor_px - reference.semi_minor_px,
                       *np.subtract(found.center_px, reference.center_px)])
    assert np.abs(errors).max() < 0.1
    assert np.abs(np.mean(errors, axis=0)).max() < 0.01


def arc(outline, generator, share):
    """A consecutive part of the outline that is `share` of its length [n, 2], anywhere."""
    outline = np.roll(outline, -generator.integers(len(outline)), axis=0)
    steps = np.linalg.norm(np.roll(outline, -1, axis=0) - outline, axis=1)
    return outline[: np.searchsorted(np.cumsum(steps) / steps.sum(), share) + 1]


def painted(mask, polygon, value):
    pixels = mask.astype(np.uint8)
    cv2.fillPoly(pixels, [np.round(polygon).astype(np.int32)], int(value))
    return pixels > 0


def without_an_arc(reference, mask, generator, share):
    """Cut along the chord: that part of the skull is not visible."""
    missing = arc(reference.contour(2000), generator, share)
    beyond = reference.center_px + 1.5 * (missing - reference.center_px)
    return painted(mask, np.concatenate([missing[:1], beyond, missing[-1:]]), False)


def with_a_wedge_out(reference, mask, generator, share):
    """Cut towards the centre, as a shadow cuts."""
    missing = arc(reference.contour(2000), generator, share)
    depth = generator.uniform(0.2, 0.9)
    tip = depth * np.array(reference.center_px) + (1 - depth) * missing[len(missing) // 2]
    return painted(mask, np.concatenate([[tip], reference.center_px + 1.5 * (missing - reference.center_px)]), False)


def bitten_and_spurred(reference, mask, generator, share):
    """Two to five round bites or spurs, which together destroy `share` of the outline."""
    count, outline = generator.integers(2, 6), reference.contour(2000)
    radius = share * reference.circumference_px() / count / 2
    first = generator.integers(2000)
    pixels = mask.astype(np.uint8)
    for number in range(count):
        x, y = outline[(first + number * 2000 // count) % 2000]
        cv2.circle(pixels, (round(x), round(y)), int(0.98 * radius), int(generator.random() < 0.4), cv2.FILLED)
    return pixels > 0


def wavy(mask, generator, deviation, smoothness=3):
    """The edge moved in and out by a smooth random distance of this standard deviation, in pixels."""
    field = cv2.GaussianBlur(generator.standard_normal(mask.shape).astype(np.float32), (0, 0), smoothness)
    inside, outside = (cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5) for part in (mask, ~mask))
    return inside - outside + deviation * field / field.std() > 0


@pytest.mark.parametrize("damage", [without_an_arc, with_a_wedge_out, bitten_and_spurred])
@pytest.mark.parametrize("deviation", [0.0, 0.6], ids=["clean", "wavy"])
def test_with_two_fifths_of_the_outline_destroyed_the_axes_stay_within_2_percent(damage, deviation):
    errors = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        reference = random_ellipse(generator, smallest=80)
        mask = damage(reference, reference.mask(SIZE), generator, generator.uniform(0.2, 0.4) if seed % 2 else 0.4)
        found = ellipse_of_mask(wavy(mask, generator, deviation) if deviation else mask, seed)
        errors.append(axis_errors(found, reference))
    assert np.abs(errors).max() < 0.02
    assert np.abs(np.mean(errors, axis=0)).max() < 0.004


def test_a_plain_fit_fails_on_the_same_damage():
    """OpenCV's fit to the whole contour is off by several percent, so the test above needs the robust one."""
    generator = np.random.default_rng(0)
    reference = random_ellipse(generator)
    mask = without_an_arc(reference, reference.mask(SIZE), generator, 0.4).astype(np.uint8)
    contour = max(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
    axes = sorted(cv2.fitEllipseDirect(contour)[1])
    assert max(abs(axes[1] / 2 / reference.semi_major_px - 1), abs(axes[0] / 2 / reference.semi_minor_px - 1)) > 0.04


def test_an_outline_that_waves_is_averaged_over():
    """Smooth errors of 3 pixels, as a network makes them: as good as least squares over everything, which is best."""
    errors, best = [], []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        reference = random_ellipse(generator, smallest=90)
        mask = wavy(reference.mask(SIZE), generator, 3.0, smoothness=30)
        contour = max(cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
        axes = sorted(cv2.fitEllipseDirect(contour)[1])
        plain = Ellipse((0, 0), axes[1] / 2, axes[0] / 2, 0).grown(0.47)
        for ellipse, kept in ((ellipse_of_mask(mask, seed), errors), (plain, best)):
            kept.append(abs(ellipse.circumference_px() / reference.circumference_px() - 1))
    assert 0.002 < np.mean(best) and np.mean(errors) < 1.1 * np.mean(best)


def test_holes_threads_and_other_pieces_do_not_count():
    reference = Ellipse((400, 270), 200, 150, 0.3)
    mask = reference.mask(SIZE)
    mask[220:330, 300:500] = False
    mask[10:60, 10:110] = True
    mask[268:271, 560:800] = True
    assert np.abs(axis_errors(ellipse_of_mask(mask), reference)).max() < 0.001
    head = head_of_mask(mask, 7)
    assert head[270, 400] and not head[30, 50] and not head[269, 790]


def test_a_thin_outline_is_filled():
    outline = cv2.ellipse(np.zeros(SIZE, np.uint8), (400, 270), (200, 150), 20, 0, 360, 255, 1)
    assert np.abs(axis_errors(ellipse_of_mask(outline), Ellipse((400, 270), 200.5, 150.5, 0))).max() < 0.002


def test_a_head_at_the_border_is_found_beyond_it():
    """The border is not an edge of the head: the visible part is enough, even if less than half of one axis."""
    for x in (30, 100):
        reference = Ellipse((x, 270), 200, 150, 0.3)
        found = ellipse_of_mask(reference.mask(SIZE))
        assert np.abs(axis_errors(found, reference)).max() < 0.003
        np.testing.assert_allclose(found.center_px, reference.center_px, atol=0.5)


def polygon(corners):
    return painted(np.zeros(SIZE, bool), np.array(corners, np.float64), True)


def star(arms, inner, outer):
    turns = np.arange(2 * arms) * math.pi / arms
    radius = np.where(np.arange(2 * arms) % 2, outer, inner)
    return np.stack([400 + radius * np.cos(turns), 270 + radius * np.sin(turns)], axis=-1)


@pytest.mark.parametrize("mask", [
    np.zeros(SIZE),
    np.ones(SIZE),
    polygon([(200, 150), (600, 150), (600, 400), (200, 400)]),
    polygon([(250, 120), (550, 120), (550, 420), (250, 420)]),
    polygon([(200, 150), (600, 150), (400, 450)]),
    polygon(star(5, 90, 200)),
    Ellipse((400, 270), 40, 30, 0).mask(SIZE),
    Ellipse((400, 270), 390, 120, 0).mask(SIZE),
    np.random.default_rng(0).random(SIZE) > 0.5,
], ids=["empty", "full", "rectangle", "square", "triangle", "star", "small", "flat", "noise"])
def test_no_head(mask):
    assert ellipse_of_mask(mask) is None


def test_lengths_grow_with_the_image():
    """The same head at half and at twice the resolution passes the same gates."""
    for factor in (0.3, 1, 2):
        reference = Ellipse((400 * factor, 270 * factor), 130 * factor, 100 * factor, 0.2)
        found = ellipse_of_mask(reference.mask(tuple(int(n * factor) for n in SIZE)))
        assert np.abs(axis_errors(found, reference)).max() < 0.003
    assert ellipse_of_mask(reference.mask((1080, 1600)), search=EllipseSearch(area_px=(50000.0, 90000.0))) is None


def test_probabilities_tell_the_edge_between_pixels():
    """A soft edge at a twelfth of the resolution gives the axes several times as exactly as its mask does."""
    generator, soft, hard = np.random.default_rng(0), [], []
    for seed in range(20):
        minor = generator.uniform(24, 30)
        reference = Ellipse(generator.uniform((60, 45), (66, 51)), minor / 0.78, minor, generator.uniform(-1.5, 1.5))
        x, y = np.meshgrid(np.arange(128), np.arange(96))
        points = np.stack([x.ravel(), y.ravel()], axis=-1)
        signed = reference.distances(points).reshape(96, 128) * np.where(reference.mask((96, 128)), 1, -1)
        probability = 1 / (1 + np.exp(-signed))
        soft.append(axis_errors(ellipse_of_probabilities(probability.astype(np.float32), seed), reference))
        hard.append(axis_errors(ellipse_of_mask(probability >= 0.5, seed), reference))
    assert np.abs(soft).max() < 0.001
    assert np.abs(soft).mean() < 0.3 * np.abs(hard).mean()


def test_probabilities_with_holes_and_nan():
    reference = Ellipse((400, 270), 200, 150, 0.3)
    probability = reference.mask(SIZE).astype(np.float64) * 0.9
    probability[250:290, 380:420] = np.nan
    found = ellipse_of_probabilities(probability)
    # From 0.9 to 0 the threshold is passed 0.056 pixels past half way.
    assert (found.semi_major_px, found.semi_minor_px) == pytest.approx((199.94, 149.94), abs=0.05)
    assert ellipse_of_probabilities(probability, search=EllipseSearch(threshold=0.95)) is None


# --- real masks


def test_real_masks_give_the_official_circumference(shared_data):
    """HC18: the mask's ellipse is 8.5 pixels of circumference larger than the table's, always: see metrics.biometry."""
    folder = shared_data / "hc18"
    offsets = []
    with open(folder / "pixel_size_and_hc.csv", encoding="utf-8") as file:
        for row in list(csv.DictReader(file))[::8]:
            name = row["image_name"].replace(".png", "_mask.png")
            found = ellipse_of_mask(cv2.imread(str(folder / "masks" / name), cv2.IMREAD_GRAYSCALE))
            official_px = float(row["head_circumference_mm"]) / float(row["pixel_size_mm"])
            offsets.append(found.circumference_px() - official_px)
    assert len(offsets) == 62
    assert np.mean(offsets) == pytest.approx(8.51, abs=0.1)
    assert np.std(offsets) < 0.3


def test_an_arc_without_the_head_inside_it_is_no_head(monkeypatch):
    outline = Ellipse((201.0, 148.0), 130.0, 95.0, 0.4)
    rows, columns = np.mgrid[:301, :399]
    arc = outline.mask((301, 399)) & ~outline.grown(-30).mask((301, 399))
    arc &= np.abs(np.arctan2(rows - 148.0, columns - 201.0)) < 0.8 * np.pi
    assert ellipse_of_mask(arc) is None
    monkeypatch.setattr("tfsono.geometry.ellipse.LEAST_OVERLAP", 0.0)
    assert ellipse_of_mask(arc).semi_major_px == pytest.approx(130.0, rel=0.02)  # its edge alone would do
    monkeypatch.undo()
    assert ellipse_of_mask(outline.mask((301, 399)) & (columns < 201)) is not None  # half a head is one
