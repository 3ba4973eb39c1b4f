"""The wiring of `train/head.py` and `evaluate/head.py`: ends in mirror images, letterboxes, millimetres by the case.

Every end of an axis is a dot of its own brightness, so the image shows which end a point is. No image has the
sides of the network's frame, and each has its own size and its own millimetres in a pixel.
"""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from tfsono.__main__ import run as tfsono
from tfsono.inference.head import prepared
from tfsono.systems.head import load_runs
from wiring import batches_of, evaluate, ranks, similarity, train, write_split

NAMES = ("ofd_1", "ofd_2", "bpd_1", "bpd_2")
IN_A_MIRROR = [1, 0, 2, 3]  # the long axis goes from left to right again, the short one still downwards
POINT, ERROR_PX, ERROR_MM = "{}_{}_px", "{}_px", "{}_mm"
FOUND, REFERENCE, DICE = "{}_mm", "{}_reference_mm", "dice_percent"
FRAME, AXES, ANGLE = (64, 96), (38, 29), 20.0
CENTRE_PX = 2.0
CASES = {f"head_{number}": ((91 + 4 * number, 133 + 14 * number), (58 + 6 * number, 45 + 2 * number),
                            0.2 + 0.05 * number) for number in range(6)}
"""Name -> rows and columns; the middle (x, y); millimetres in a pixel."""
TRAIN, TEST = ["head_0", "head_1", "head_2"], ["head_3", "head_4"]
SMALL = ["--input_size", "64,96", "--backbone", "small", "--backbone_widths", "4,4,6,8,8", "--heatmap_widths", "8,8,8",
         "--head_widths", "16,8", "--unet_widths", "4,8,8", "--clahe_clip", "0"]
QUIET = ["--speckle_share", "0", "--noise_share", "0", "--blur_share", "0", "--shadow_share", "0", "--elastic_share",
         "0", "--brightness", "0"]


def ends(middle):
    """[4, 2]: of the long axis from left to right, of the short one downwards."""
    angle = np.radians(ANGLE)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    return np.array(middle) + [-AXES[0] * along, AXES[0] * along, -AXES[1] * across, AXES[1] * across]


def mask_of(size, middle):
    return cv2.ellipse(np.zeros(size, np.uint8), middle, AXES, ANGLE, 0, 360, 1, -1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Six images with masks and points, their cache, and two splits."""
    place = tmp_path_factory.mktemp("wiring")
    (place / "dataset" / "images").mkdir(parents=True)
    (place / "dataset" / "labels").mkdir()
    points, sizes = [], ["image_name,pixel_size_mm"]
    points.append("image_name," + ",".join(f"{name}_{axis}" for name in NAMES for axis in "xy"))
    for name, (size, middle, pixel_size_mm) in CASES.items():
        speckle = np.random.default_rng(0).integers(0, 9, size, np.uint8)  # an even grey would be cut off as a border
        image = 16 + speckle + 60 * mask_of(size, middle)
        for point, brightness in zip(ends(middle), (120, 150, 180, 210), strict=True):
            cv2.circle(image, np.rint(point).astype(int).tolist(), 5, brightness, -1)
        cv2.imwrite(str(place / "dataset" / "images" / f"{name}.png"), image)
        cv2.imwrite(str(place / "dataset" / "labels" / f"{name}.png"), mask_of(size, middle))
        points.append(f"{name}.png," + ",".join(f"{value:.3f}" for value in ends(middle).ravel()))
        sizes.append(f"{name}.png,{pixel_size_mm}")
    (place / "dataset" / "points.csv").write_text("\n".join(points))
    (place / "dataset" / "pixel_sizes.csv").write_text("\n".join(sizes))
    tfsono(["cache", "head", str(place / "dataset"), str(place / "small.h5")])
    write_split(place / "one.json", TRAIN[:1], TEST, ["head_5"])
    write_split(place / "all.json", TRAIN, TEST, ["head_5"])
    return place


def given(place, variant, steps, *more):
    return batches_of("head", steps, "--data", place / "small.h5", "--split", place / "one.json", "--run_dir",
                      place / variant, "--preset", "paper", "--variant", variant, *SMALL, *QUIET, *more)


@pytest.mark.parametrize("variant", ["coordinate", "heatmap"])
def test_a_mirror_image_exchanges_the_ends_of_one_axis(place, variant):
    """Preset paper's rotations, scalings and flips; which end a point is, is read from the image's brightness."""
    size, middle, _ = CASES["head_0"]
    fitted, seen = min(FRAME[0] / size[0], FRAME[1] / size[1]), []
    for images, targets in given(place, variant, 2, "--landmark_batch", "16"):
        (_, points), = targets.items()
        for image, four in zip(images[..., 0], points, strict=True):
            names = ranks([image[tuple(np.rint(point[::-1]).astype(int))] for point in four])
            scale, degrees, mirrored, residual = similarity(ends(middle)[names], four)
            assert names == (IN_A_MIRROR if mirrored else [0, 1, 2, 3])
            assert residual < 0.1
            seen.append((scale / fitted, degrees, mirrored))
    scales, angles, mirrors = np.array(seen).T
    assert 0.84 < scales.min() < 0.95 and 1.05 < scales.max() < 1.16
    assert 10 < angles.max() < 20.1 and 8 <= mirrors.sum() <= 24


def test_a_mask_moves_with_its_image(place):
    """Preset paper's rotations, scalings and flips of the segmentation."""
    sides = []
    for images, targets in given(place, "unet", 2, "--segmentation_batch", "16"):
        for image, mask in zip(images[..., 0], targets["mask"][..., 0] > 0, strict=True):
            bright = image > (np.median(image[mask]) + np.median(image[~mask & (image != 0)])) / 2
            assert 2 * (bright & mask).sum() / (bright.sum() + mask.sum()) > 0.85  # the dots are half outside
            x, y = np.argwhere(mask)[:, ::-1].T
            sides.append(np.cov(x, y)[0, 1] > 0)
    assert 8 <= sum(sides) <= 24  # the long axis falls, and rises in a mirror image


@pytest.fixture(scope="module")
def rows(place):
    """The rows of a segmentation that has learned something and of landmarks that are anywhere, in one evaluation."""
    run, anywhere = place / "runs" / "short", place / "runs" / "anywhere"
    train("head", "--data", place / "small.h5", "--split", place / "all.json", "--run_dir", anywhere, "--preset",
          "quick", "--variant", "coordinate", *SMALL, "--landmark_iterations", "1", "--landmark_record_every", "1",
          "--monte_carlo_samples", "0")
    train("head", "--data", place / "small.h5", "--split", place / "all.json", "--run_dir", run, "--preset", "quick",
          "--variant", "unet", *SMALL, "--geometric_share", "0", "--elastic_share", "0", "--dropout", "0",
          "--learning_rate", "0.01", "--segmentation_batch", "2", "--segmentation_iterations", "60",
          "--segmentation_record_every", "60", eagerly=False)
    return evaluate("head", "--data", place / "small.h5", "--runs", run, anywhere, "--out", place / "results")


@pytest.fixture(scope="module")
def results(rows):
    """The rows of the segmentation, case by case."""
    assert [row["case"] for row in rows] == 2 * TEST
    return [row for row in rows if row["mask"]]


def test_masks_come_back_to_the_images_own_pixels(place, results):
    """The written mask on the file's own pixels; Dice of the two files; axes of its moments in the case's own mm."""
    for row in results:
        size, middle, pixel_size_mm = CASES[row["case"]]
        found = cv2.imread(str(place / "results" / "runs" / row["mask"]), cv2.IMREAD_GRAYSCALE) > 0
        reference = mask_of(size, middle) > 0
        assert found.shape == size
        dice = 200 * (found & reference).sum() / (found.sum() + reference.sum())
        assert float(row[DICE]) == pytest.approx(dice) and dice > 90
        np.testing.assert_allclose(np.argwhere(found).mean(0)[::-1], middle, atol=CENTRE_PX)
        values = np.linalg.eigvalsh(np.cov(np.argwhere(found).T))
        for name, value, axis in zip(("bpd", "ofd"), values, AXES[::-1], strict=True):
            assert float(row[FOUND.format(name)]) == pytest.approx(4 * np.sqrt(value) * pixel_size_mm, rel=0.04)
            assert float(row[REFERENCE.format(name)]) == pytest.approx(2 * axis * pixel_size_mm, rel=0.02)


def test_points_come_back_from_the_frame_to_the_images_own_pixels(place, rows):
    """The network's own output, brought back by the letterbox as its page describes it."""
    _, module = load_runs([place / "runs" / "anywhere"])
    for row in rows:
        if row["mask"]:
            continue
        size, _, pixel_size_mm = CASES[row["case"]]
        image = cv2.imread(str(place / "dataset" / "images" / f"{row['case']}.png"), cv2.IMREAD_GRAYSCALE)
        scale = min(FRAME[0] / size[0], FRAME[1] / size[1])
        margin = [(side - int(own * scale + 0.5)) // 2 for side, own in zip(FRAME, size, strict=True)]
        assert max(margin) >= 3 and min(margin) == 0  # above and below alone
        points = module.network(prepared(tf.constant(image, tf.float32), module.preparation), training=False)["points"]
        expected = (np.array(points[0]) + 0.5 - margin[::-1]) / scale - 0.5
        found = np.reshape([float(row[POINT.format(name, axis)]) for name in NAMES for axis in "xy"], (4, 2))
        for two, both in zip(found.reshape(2, 2, 2), expected.reshape(2, 2, 2), strict=True):
            np.testing.assert_allclose(two[two[:, 0].argsort()], both[both[:, 0].argsort()], atol=1e-2)
        assert sorted((float(row["ofd_mm"]), float(row["bpd_mm"]))) == pytest.approx(sorted(
            np.linalg.norm(found[1::2] - found[::2], axis=1) * pixel_size_mm), rel=1e-3)


def test_ends_are_measured_in_the_cases_own_pixels_and_millimetres(results):
    """Distances of the ends that were found to those that were drawn, in pixels, and by the case's own pixel in mm."""
    for row in results:
        _, middle, pixel_size_mm = CASES[row["case"]]
        for name, reference in zip(NAMES, ends(middle), strict=True):
            distance = np.linalg.norm([float(row[POINT.format(name, axis)]) for axis in "xy"] - reference)
            assert float(row[ERROR_PX.format(name)]) == pytest.approx(distance, abs=0.7) and distance < 8
            assert float(row[ERROR_MM.format(name)]) == pytest.approx(float(row[ERROR_PX.format(name)]) * pixel_size_mm)
