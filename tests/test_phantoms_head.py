"""Speckle, shadow and sector against their definitions; the head phantom's reference, looks and files."""

from __future__ import annotations

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
from scipy import special, stats
from skimage.measure import label as components
from skimage.measure import regionprops

from tfsono.audit.dataset import audit_dataset
from tfsono.data.layout import open_dataset
from tfsono.errors import UserError
from tfsono.phantoms import ultrasound
from tfsono.geometry.ellipse import Ellipse
from tfsono.geometry.head_labels import LANDMARKS, judge
from tfsono.phantoms.dataset import _first_frames, write_head_dataset
from tfsono.phantoms.head import PIXEL_RANGE_MM, HeadReference, head_phantom, head_reference
from tfsono.phantoms.head_points import table_points, wrong_rows
from tfsono.phantoms.head_anatomy import draw_head

SIZE_YX = (135, 201)
RANGE_MM = tuple(4 * pixel_mm for pixel_mm in PIXEL_RANGE_MM)
SEEDS = range(40, 46)


@pytest.fixture(scope="module")
def phantoms():
    """Several heads at odd unequal sides."""
    return [head_phantom(seed, SIZE_YX, RANGE_MM) for seed in SEEDS]


# ----------------------------------------------------------------------------------------------------- ultrasound


@pytest.mark.parametrize("shape", [(301, 203), (61, 37, 29)])
def test_speckle_of_even_tissue_is_rayleigh(shape):
    even = np.full(shape, 3, np.float32)
    envelope = ultrasound.speckle(np.random.default_rng(1), even, 0.0)
    assert envelope.shape == shape and envelope.dtype == np.float32
    assert stats.kstest(envelope.ravel()[::7], stats.rayleigh(scale=3 / np.sqrt(2)).cdf).pvalue > 0.01
    blurred = ultrasound.speckle(np.random.default_rng(2), even, 1.2)
    assert np.square(blurred).mean() == pytest.approx(9, rel=0.1)
    mean_square = np.mean(
        [np.square(ultrasound.speckle(np.random.default_rng(s), even[:9, :7], 2.0)) for s in range(400)], axis=0
    )
    np.testing.assert_allclose(mean_square, np.full_like(mean_square, 9), rtol=0.25)  # at the borders too


def test_speckle_grain_has_the_size_of_the_pulse():
    power = np.square(ultrasound.speckle(np.random.default_rng(3), np.ones((700, 500), np.float32), (1.5, 4.0)))
    power -= power.mean()
    for axis, sigma in ((0, 1.5), (1, 4.0)):
        lag = int(2 * sigma)
        moved = np.roll(power, lag, axis)
        expected = np.exp(-(lag**2) / (2 * sigma**2))  # the squared correlation of a field blurred by this pulse
        assert (power * moved).mean() / power.var() == pytest.approx(expected, abs=0.05)


def test_looks_lower_the_contrast_and_the_seed_decides():
    even = np.ones((400, 300), np.float32)
    for looks in (1, 4):
        power = np.square(ultrasound.speckle(np.random.default_rng(4), even, 0.0, looks))
        assert power.std() / power.mean() == pytest.approx(1 / np.sqrt(looks), rel=0.05)
    again = [ultrasound.speckle(np.random.default_rng(5), even, 2.0) for _ in range(2)]
    np.testing.assert_array_equal(*again)


def test_without_scatterers_there_is_no_echo_and_an_edge_stays_where_it_is():
    scatter = np.zeros((41, 300), np.float32)
    scatter[20:] = 1
    envelope = ultrasound.speckle(np.random.default_rng(6), scatter, (1.0, 0.0))
    assert envelope[:16].max() == 0
    half = np.square(envelope[19:21]).mean()
    assert half == pytest.approx(0.5, abs=0.1)


def test_transmission_solved_by_hand_along_each_axis():
    loss_db = np.float32([0, 20, 0, 6, 0])
    expected = [1, 1, 0.1, 0.1, 0.1 * 10 ** (-6 / 20)]
    np.testing.assert_allclose(ultrasound.transmission(loss_db), expected, rtol=1e-5)
    volume = np.zeros((2, 5, 3), np.float32)
    volume[1, :, 2] = loss_db
    passed = ultrasound.transmission(volume, axis=1)
    np.testing.assert_allclose(passed[1, :, 2], expected, rtol=1e-5)
    assert (passed[0] == 1).all() and (passed[1, :, :2] == 1).all()


def test_compression_and_mirror_solved_by_hand():
    shown = ultrasound.log_compress(np.float32([0, 1e-3, 0.1, 1, 5]), 60)
    np.testing.assert_allclose(shown, [0, 0, 2 / 3, 1, 1], atol=1e-6)
    np.testing.assert_allclose(ultrasound.specular_db(np.float32([1, -1, 0, 0.5]), -20), [0, 0, -20, -15])
    np.testing.assert_allclose(ultrasound.amplitude([0, -20, 6.0206]), [1, 0.1, 2], rtol=1e-5)


def test_sector_points_and_places_belong_together():
    sector = ultrasound.Sector((3.0, -40.0), (20.0, 90.0), 0.5, 71, 33)
    x, y = sector.points()
    assert x.shape == y.shape == (71, 33) and sector.step_mm == pytest.approx(1)
    np.testing.assert_allclose([x[0, 16], y[0, 16]], [3, -20], atol=1e-5)
    np.testing.assert_allclose([x[-1, -1], y[-1, -1]], [3 + 90 * np.sin(0.5), -40 + 90 * np.cos(0.5)], rtol=1e-5)
    sample, ray = sector.places(x, y)
    np.testing.assert_allclose(sample, np.broadcast_to(np.arange(71)[:, None], x.shape), atol=1e-4)
    np.testing.assert_allclose(ray, np.broadcast_to(np.arange(33), x.shape), atol=1e-4)
    assert list(sector.holds([3, 3, 3, 60], [-19, -21, 51, 0])) == [True, False, False, False]


def test_scan_conversion_keeps_a_plane_and_is_black_outside():
    sector = ultrasound.Sector((0.0, -30.0), (15.0, 80.0), 0.6, 131, 121)
    x, y = sector.points()
    rays = 5 + 0.3 * x - 0.2 * y
    grid_x, grid_y = np.meshgrid(np.linspace(-50, 50, 57), np.linspace(-30, 60, 43))
    image = sector.scan_convert(rays, grid_x, grid_y)
    inside = sector.holds(grid_x, grid_y)
    assert 0.2 < inside.mean() < 0.8 and (image[~inside] == 0).all()
    np.testing.assert_allclose(image[inside], (5 + 0.3 * grid_x - 0.2 * grid_y)[inside], atol=2e-3)
    volume = sector.scan_convert(np.stack([rays, 2 * rays], axis=-1), grid_x, grid_y)
    np.testing.assert_array_equal(volume[..., 0], image)
    np.testing.assert_allclose(volume[..., 1], 2 * image, rtol=1e-5)
    with pytest.raises(ValueError, match="131"):
        sector.scan_convert(rays.T, grid_x, grid_y)


# ----------------------------------------------------------------------------------------------------------- reference


def test_image_and_mask_have_the_documented_form(phantoms):
    for phantom in phantoms:
        assert phantom.image.shape == phantom.mask.shape == SIZE_YX
        assert phantom.image.dtype == phantom.mask.dtype == np.uint8
        assert set(np.unique(phantom.mask)) == {0, 1}
        assert json.loads(json.dumps(phantom.description)) == phantom.description


def test_the_mask_has_the_ellipse_of_the_reference(phantoms):
    for _, mask, reference, _ in phantoms:
        assert components(mask).max() == 1
        (region,) = regionprops(mask)
        np.testing.assert_allclose(region.centroid[::-1], reference.ellipse.center_px, atol=0.1)
        assert region.axis_major_length / 2 == pytest.approx(reference.ellipse.semi_major_px, abs=0.25)
        assert region.axis_minor_length / 2 == pytest.approx(reference.ellipse.semi_minor_px, abs=0.25)
        area = np.pi * reference.ellipse.semi_major_px * reference.ellipse.semi_minor_px
        assert mask.sum() == pytest.approx(area, rel=0.01)
        direction = np.pi / 2 - region.orientation  # skimage: from the row axis, anticlockwise
        assert abs(np.sin(direction - reference.ellipse.angle_rad)) < 0.03


def test_points_are_the_ends_of_the_axes_in_their_order():
    for seed in range(60):
        reference = head_reference(seed, SIZE_YX, RANGE_MM)
        ofd, bpd = reference.points_px[1] - reference.points_px[0], reference.points_px[3] - reference.points_px[2]
        assert np.hypot(*ofd) == pytest.approx(2 * reference.ellipse.semi_major_px)
        assert np.hypot(*bpd) == pytest.approx(2 * reference.ellipse.semi_minor_px)
        assert abs(ofd @ bpd) < 1e-6 * np.hypot(*ofd) * np.hypot(*bpd)
        np.testing.assert_allclose(reference.points_px.mean(axis=0), reference.ellipse.center_px)
        assert ofd[0] >= 0 and bpd[1] >= 0 and -np.pi / 2 <= reference.ellipse.angle_rad < np.pi / 2
        assert np.arctan2(ofd[1], ofd[0]) == pytest.approx(reference.ellipse.angle_rad)
    assert LANDMARKS == ("ofd_1", "ofd_2", "bpd_1", "bpd_2")


def test_circumference_against_the_elliptic_integral():
    for seed in range(20):
        reference = head_reference(seed, SIZE_YX, RANGE_MM)
        eccentricity = 1 - (reference.ellipse.semi_minor_px / reference.ellipse.semi_major_px) ** 2
        exact = 4 * reference.ellipse.semi_major_px * special.ellipe(eccentricity) * reference.pixel_size_mm
        assert reference.circumference_mm == pytest.approx(exact, rel=1e-6)


def test_sizes_of_heads_and_pixels_are_those_of_the_set():
    references = [head_reference(seed) for seed in range(300)]
    hc = np.asarray([reference.circumference_mm for reference in references])
    assert hc.min() > 40 and hc.max() < 346 and 0.2 < (hc < 120).mean() < 0.4
    ratio = [reference.ellipse.semi_minor_px / reference.ellipse.semi_major_px for reference in references]
    assert np.mean(ratio) == pytest.approx(0.80, abs=0.015) and 0.03 < np.std(ratio) < 0.06
    pixel = np.asarray([reference.pixel_size_mm for reference in references])
    assert pixel.min() >= PIXEL_RANGE_MM[0] and pixel.max() <= PIXEL_RANGE_MM[1] and np.median(pixel) < 0.15


def test_all_of_the_head_is_in_the_image():
    for seed in range(200):
        reference = head_reference(seed)
        ellipse, turn = reference.ellipse, np.linspace(0, 2 * np.pi, 100)
        major, minor = ellipse.semi_major_px * np.cos(turn), ellipse.semi_minor_px * np.sin(turn)
        x = ellipse.center_px[0] + major * np.cos(ellipse.angle_rad) - minor * np.sin(ellipse.angle_rad)
        y = ellipse.center_px[1] + major * np.sin(ellipse.angle_rad) + minor * np.cos(ellipse.angle_rad)
        assert x.min() > 0 and y.min() > 0 and x.max() < 799 and y.max() < 539


def test_a_head_too_large_for_the_largest_pixel_gets_a_larger_one():
    tight = [head_reference(seed, SIZE_YX, (0.02, 0.03)) for seed in range(10)]
    for reference in tight:
        assert reference.pixel_size_mm > 0.03 and reference.points_px.min() > 0


# ----------------------------------------------------------------------------------------------------------- looks


def test_one_seed_is_one_image_and_another_seed_another(phantoms):
    again = head_phantom(SEEDS[0], SIZE_YX, RANGE_MM)
    np.testing.assert_array_equal(again.image, phantoms[0].image)
    np.testing.assert_array_equal(again.mask, phantoms[0].mask)
    assert again.description == phantoms[0].description
    assert not np.array_equal(phantoms[1].image, phantoms[0].image)
    alone = head_reference(SEEDS[0], SIZE_YX, RANGE_MM)
    np.testing.assert_array_equal(alone.points_px, again.reference.points_px)
    assert alone.circumference_mm == again.reference.circumference_mm


def test_one_image_at_every_resolution():
    for seed in (50, 51):
        fine = head_phantom(seed)
        coarse = head_phantom(seed, (270, 400), tuple(2 * pixel_mm for pixel_mm in PIXEL_RANGE_MM))
        assert coarse.reference.pixel_size_mm == pytest.approx(2 * fine.reference.pixel_size_mm)
        assert coarse.reference.circumference_mm == fine.reference.circumference_mm
        np.testing.assert_allclose(coarse.reference.points_px, (fine.reference.points_px + 0.5) / 2 - 0.5, atol=1e-6)
        shrunk = cv2.resize(fine.image, (400, 270), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(shrunk.ravel(), coarse.image.ravel())[0, 1] > 0.98
        shrunk = cv2.resize(fine.mask, (400, 270), interpolation=cv2.INTER_AREA)
        assert (shrunk != coarse.mask).sum() < 6 * coarse.reference.ellipse.semi_major_px


def test_views_of_one_fetus_have_one_head_in_different_images():
    views = [head_phantom(seed, SIZE_YX, RANGE_MM, subject=7) for seed in (1, 2)]
    first, second = (view.reference.circumference_mm for view in views)
    assert first != second and first == pytest.approx(second, rel=0.06)
    assert not np.array_equal(views[0].image, views[1].image)
    assert views[0].reference.ellipse.center_px != views[1].reference.ellipse.center_px
    sizes = [head_reference(seed, SIZE_YX, RANGE_MM, subject=7).circumference_mm for seed in range(30)]
    assert 0.002 < np.std(sizes) / np.mean(sizes) < 0.02


def ring(image, reference, part):
    """Grey values [360] on the reference's ellipse shrunk to `part`, and how upright its normal is [360]."""
    turn = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    major, minor = reference.ellipse.semi_major_px, reference.ellipse.semi_minor_px
    cosine, sine = np.cos(reference.ellipse.angle_rad), np.sin(reference.ellipse.angle_rad)
    u, v = part * major * np.cos(turn), part * minor * np.sin(turn)
    x, y = reference.ellipse.center_px
    x, y = x + u * cosine - v * sine, y + u * sine + v * cosine
    grey = cv2.remap(image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR).ravel()
    normal_u, normal_v = np.cos(turn) / major, np.sin(turn) / minor
    return grey, np.abs(normal_u * sine + normal_v * cosine) / np.hypot(normal_u, normal_v)


def test_the_skull_is_bright_where_the_sound_meets_it_and_fades_at_the_sides():
    front, aside, within, without = [], [], [], []
    for seed in range(6):
        image, _, reference, _ = head_phantom(seed, (270, 400))
        wall, upright = ring(image, reference, 0.965)
        front.append(wall[upright > 0.9].mean())
        aside.append(wall[upright < 0.3].mean())
        within.append(ring(image, reference, 0.8)[0].mean())
        without.append(ring(image, reference, 1.12)[0].mean())
    assert 110 < np.mean(front) < 210
    assert np.mean(aside) < 0.75 * np.mean(front)
    assert max(np.mean(within), np.mean(without)) < 0.5 * np.mean(front)


def test_grey_values_are_those_of_real_images(shared_data):
    table = list(csv.DictReader(open(shared_data / "hc18" / "pixel_size_and_hc.csv")))[::40]
    real = [cv2.imread(str(shared_data / "hc18" / "images" / row["image_name"]), 0) for row in table]
    drawn = [head_phantom(seed).image for seed in range(4)]
    for share, tolerance in ((25, 20), (50, 25), (75, 30), (95, 35)):
        of_real, of_drawn = (np.median([np.percentile(i[i > 0], share) for i in many]) for many in (real, drawn))
        assert of_drawn == pytest.approx(of_real, abs=tolerance)
    black_real, black = (np.median([(i == 0).mean() for i in many]) for many in (real, drawn))
    assert black == pytest.approx(black_real, abs=0.2)


def test_heads_of_different_age_have_different_insides():
    heads = [draw_head(np.random.default_rng(seed)) for seed in range(60)]
    assert {head.early for head in heads} == {True, False}
    for head in heads:
        long_mm, short_mm = head.semi_axes_mm
        assert head.early == (head.circumference_mm < 120) and short_mm < long_mm
        places = [part.center_mm for part in head.parts]
        places += [end for line in head.lines for end in (line.start_mm, line.end_mm)]
        assert (np.abs(places) < 1.05 * np.asarray(head.semi_axes_mm)).all()


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="size_yx"):
        head_phantom(1, (10, 400))
    with pytest.raises(ValueError, match="pixel_range_mm"):
        head_reference(1, SIZE_YX, (0.3, 0.1))


# --------------------------------------------------------------------------------------------------------- dataset


def files(root):
    """Every file below root with its content."""
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def write(root, cases=3, seed=5, progress=lambda line: None, size_yx=(54, 80), **options):
    return write_head_dataset(root, cases, seed, size_yx, (0.52, 3.26), progress, **options)


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["image_name"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """A dataset of 3 heads, and the lines of its writing."""
    lines = []
    return write(tmp_path_factory.mktemp("heads") / "heads", progress=lines.append), lines


def test_images_masks_and_tables_are_those_of_the_phantoms(heads):
    root, lines = heads
    names = [f"head_{number:03d}.png" for number in range(1, 4)]
    assert [path.name for path in sorted((root / "images").iterdir())] == names
    assert [path.name for path in sorted((root / "labels").iterdir())] == names
    assert len(lines) == 3 and "left" in lines[0]
    entry = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    assert entry["labels"] == {"head": 1} and entry["landmarks"] == list(LANDMARKS) and entry["units"] == "mm"
    sizes, points = table(root / "pixel_sizes.csv"), table(root / "landmarks.csv")
    assert list(sizes) == list(points) == names
    seeds = [int(np.random.SeedSequence([5, number]).generate_state(1)[0]) for number in range(3)]
    for name, seed in zip(names, seeds, strict=True):
        first = int(entry["subjects"][name[:-4]][-3:]) - 1
        image, mask, reference, _ = head_phantom(seed, (54, 80), (0.52, 3.26), seeds[first])
        np.testing.assert_array_equal(cv2.imread(str(root / "images" / name), cv2.IMREAD_UNCHANGED), image)
        np.testing.assert_array_equal(cv2.imread(str(root / "labels" / name), cv2.IMREAD_UNCHANGED), mask)
        assert float(sizes[name]["pixel_size_mm"]) == pytest.approx(reference.pixel_size_mm, rel=1e-5)
        assert float(sizes[name]["head_circumference_mm"]) == pytest.approx(reference.circumference_mm, abs=1e-3)
        written = [[float(points[name][f"{point}_{axis}"]) for axis in "xy"] for point in LANDMARKS]
        np.testing.assert_allclose(written, reference.points_px, atol=1e-3)


def test_some_images_share_a_fetus(tmp_path):
    first = _first_frames(5, 900)
    assert np.mean([first[number] != number for number in range(900)]) == pytest.approx(0.18, abs=0.05)
    assert all(first[first[number]] == first[number] <= number for number in range(900))
    assert _first_frames(5, 20) == first[:20] and _first_frames(6, 900) != first
    again = next(number for number in range(900) if first[number] != number)
    root = write(tmp_path, cases=again + 1)
    subjects = json.loads((root / "dataset.json").read_text(encoding="utf-8"))["subjects"]
    assert len(subjects) == again + 1 and len(set(subjects.values())) == again
    last = f"head_{again + 1:03d}"
    sizes = table(root / "pixel_sizes.csv")
    own, other = (float(sizes[f"{case}.png"]["head_circumference_mm"]) for case in (last, subjects[last]))
    assert subjects[last] != last and own == pytest.approx(other, rel=0.06)


def test_the_package_reads_its_heads(heads):
    root, _ = heads
    dataset = open_dataset(root)
    assert [case.name for case in dataset.cases] == [f"head_{number:03d}" for number in range(1, 4)]
    assert dataset.labels == {"head": 1} and dataset.landmarks == LANDMARKS
    sizes = table(root / "pixel_sizes.csv")
    for case in dataset.cases:
        row = sizes[f"{case.name}.png"]
        assert case.pixel_size_mm == pytest.approx(float(row["pixel_size_mm"]))
        assert case.hc_mm == pytest.approx(float(row["head_circumference_mm"]))


def test_an_interrupted_run_is_whole_so_far_and_resumes_to_the_same_files(heads, tmp_path):
    whole = files(heads[0])

    def stop(line):
        raise KeyboardInterrupt

    root = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        write(root, progress=stop)
    assert list(table(root / "pixel_sizes.csv")) == list(table(root / "landmarks.csv")) == ["head_001.png"]
    assert list(json.loads((root / "dataset.json").read_text(encoding="utf-8"))["subjects"]) == ["head_001"]
    (root / "images" / "head_002.png").write_bytes(b"\x89PNG")
    lines = []
    write(root, progress=lines.append)
    assert "1 of 3 cases exist" in lines[0] and files(root) == whole


def test_more_heads_may_follow_but_not_fewer(heads, tmp_path):
    root = write(tmp_path / "grown", cases=2)
    write(root)
    assert files(root) == files(heads[0])
    with pytest.raises(UserError, match="head_003"):
        write(root, cases=2)


def test_a_folder_of_other_heads_is_refused(tmp_path):
    write(tmp_path, cases=1)
    before = files(tmp_path)
    with pytest.raises(UserError, match="seed 5 there, 6"):
        write(tmp_path, cases=1, seed=6)
    with pytest.raises(UserError, match="size_yx"):
        write(tmp_path, cases=1, size_yx=(27, 40))
    with pytest.raises(UserError, match="wrong_points null there, 0.37 requested"):
        write(tmp_path, cases=1, wrong_points=0.37)
    assert files(tmp_path) == before
    with pytest.raises(UserError, match="--cases"):
        write(tmp_path / "none", cases=0)
    assert not (tmp_path / "none").exists()


# ---------------------------------------------------------------------------------------------------- wrong points

LYING = HeadReference(Ellipse((50, 30), 20, 15, 0.0), np.array([[30, 30], [70, 30], [50, 15], [50, 45]]), 1.0, 110.0)


def test_wrong_rows_are_an_even_share():
    for share in (0.37, 1.0):
        assert [sum(wrong_rows(seed, 100, share)) for seed in range(20)] == [100 * share] * 20
    assert wrong_rows(5, 12, 0.37) == wrong_rows(5, 60, 0.37)[:12]
    assert len({tuple(wrong_rows(seed, 12, 0.37)) for seed in range(20)}) > 1


def test_names_are_exchanged_in_rows_that_fit():
    assert table_points(LYING, 1, (60, 100), wrong=False).tolist() == [[50, 15], [50, 45], [30, 30], [70, 30]]


def test_wrong_rows_do_not_fit_and_stay_in_the_image():
    """The middle is 20 pixels from the right edge: points beyond it are moved to it."""
    near_edge = LYING._replace(ellipse=Ellipse((79, 30), 20, 15, 0.0), points_px=LYING.points_px + [29, 0])
    rows = np.array([table_points(near_edge, seed, (60, 100), wrong=True) for seed in range(300)])
    found = [judge(row, near_edge.ellipse, near_edge.pixel_size_mm) for row in rows]
    assert not any(one.fits for one in found)
    assert rows[..., 0].max() == 99 and rows[..., 1].max() <= 59 and rows.min() >= 0
    assert 0.5 < np.mean([one.names_exchanged for one in found]) < 0.75, "63 % of the public table's"


def test_points_on_the_outline_turn_with_the_head():
    """Upright, of unequal axes: the outline's points have the ellipse's own distance from its middle."""
    upright = LYING._replace(ellipse=Ellipse((100, 200), 30, 20, np.pi / 2),
                             points_px=np.array([[100, 170], [100, 230], [80, 200], [120, 200]]))
    moved = (table_points(upright, seed, (400, 300), wrong=True) - (100, 200) for seed in range(200))
    radii = np.concatenate([np.hypot(x / 20, y / 30) for x, y in (points.T for points in moved)])
    assert np.isclose(radii, 1).mean() == pytest.approx(0.6, abs=0.05)
    assert radii.min() >= 0.5 - 1e-9 and radii.max() <= 3 + 1e-9


def test_a_dataset_of_wrong_points_differs_in_its_table_alone(heads, tmp_path):
    """Of three heads one is wrong. The images are those of `heads`, not painted again."""
    plain, root = files(heads[0]), shutil.copytree(heads[0], tmp_path / "wrong")
    entry = json.loads(plain["dataset.json"])
    asked = {**entry, "phantom": {**entry["phantom"], "wrong_points": 0.37}}
    (root / "dataset.json").write_text(json.dumps(asked), encoding="utf-8")
    with pytest.raises(UserError, match="wrong_points 0.37 there, null requested"):
        write(root)
    changed = files(write(root, wrong_points=0.37))
    assert {name for name in plain if plain[name] != changed[name]} == {"landmarks.csv", "dataset.json"}
    assert json.loads(changed["dataset.json"]) == asked and "wrong_points" not in entry["phantom"]
    judgements = [case["judgement"] for case in audit_dataset(open_dataset(root), tmp_path / "audit")["cases"]]
    assert [judgement["fits"] for judgement in judgements] == [True, False, True]
    assert judgements[2]["names_exchanged"] and not judgements[2]["ends_exchanged"]
