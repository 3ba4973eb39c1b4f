"""The wiring of `train/femur.py` and `evaluate/femur.py`: image, mask and tips move together, and millimetres.

The mask is made of blocks, each of its own brightness in the image, so that the image shows what was moved where.
"""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from tfsono.__main__ import run as tfsono
from wiring import (at_the_files_grid, batches_of, blocks, cached, evaluate, measured_masks, peaks, read_points,
                    similarity, train, write_points, write_split, write_volume)

TIPS = ("proximal", "distal")
COLUMNS = {"dice": "dice", "jaccard": "jaccard", "mean": "assd_mm", "deviation": "assd_std_mm",
           "largest": "hausdorff_mm", "percentile_95": "hausdorff95_mm", "volume_error": "volume_error_ml"}
ERROR, MEAN_ERROR, LENGTH, REFERENCE_LENGTH = "error_{}_mm", "mre_mm", "length_mm", "length_reference_mm"
SIZE, NATIVE_MM, ASKED = (37, 33, 29), (0.9, 1.0, 1.2), "1.1,1.2,0.9"
CENTRES = np.array([18, 16, 14]) + np.array([(-7, -7, -5), (7, -6, 3), (-5, 7, 5), (6, 5, -5)])
HALF, BRIGHTNESS = (2, 2, 2), (60, 90, 120, 150)
ENDS = [0, 3]  # blocks with a tip in their middle
SMALL = ["--widths", "4,4,4,4", "--roi_widths", "4,6,8", "--spacing_mm", ASKED]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three cases, their cache at another spacing than the files', and splits, one with a validation case."""
    place = tmp_path_factory.mktemp("wiring")
    for number in range(3):
        centres = CENTRES + [number, 0, 0]
        image = blocks(SIZE, centres, BRIGHTNESS, HALF)
        write_volume(place / "dataset" / "images" / f"case_{number}.nii.gz", image, NATIVE_MM)
        write_volume(place / "dataset" / "labels" / f"case_{number}.nii.gz", (image > 20).astype(np.uint8), NATIVE_MM)
        write_points(place / "dataset" / "landmarks" / f"case_{number}.mrk.json", centres[ENDS], NATIVE_MM, TIPS)
    (place / "dataset" / "dataset.json").write_text(json.dumps({"name": "blocks", "modality": "US",
                                                                "labels": {"femur": 1}, "landmarks": TIPS}))
    tfsono(["cache", "femur", str(place / "dataset"), str(place / "small.h5"), "--spacing_mm", ASKED])
    write_split(place / "split.json", ["case_0"], ["case_1"])
    write_split(place / "validated.json", ["case_0"], ["case_1"], ["case_2"])
    return place


def given(place, name, steps, *more):
    return batches_of("femur", steps, "--data", place / "small.h5", "--split", place / "split.json", "--run_dir",
                      place / name, "--preset", "paper", *SMALL, *more)


def parts_of(mask, image):
    """The mask's blocks from the darkest to the brightest: a boolean array each."""
    parts, count = ndimage.label(mask > 0, np.ones((3,) * mask.ndim))
    parts = [parts == number for number in range(1, count + 1)]
    return sorted(parts, key=lambda part: image[part].max())


def middle_of(part, image):
    """[3]: the middle of a block by its brightness above the background, between the voxels."""
    around = ndimage.binary_dilation(part, iterations=3)
    weights = np.clip(image[around] - np.median(image[around & ~part]), 0, None)
    return weights @ np.argwhere(around) / weights.sum()


@pytest.mark.parametrize(("augmentation", "ratio", "steps"), [("versions", 0.8, 28), ("random", 1.0, 12)])
def test_mask_tips_and_image_are_rotated_scaled_and_mirrored_together(place, augmentation, ratio, steps):
    """Preset paper: rotations of 10 and 20 degrees, scales of 0.9 and 1.1, each in four mirror images."""
    spacing = np.array(SIZE) * NATIVE_MM / cached(place / "small.h5", "case_0", "image").shape
    seen = []
    for image, targets in given(place, augmentation, steps, "--augmentation", augmentation, "--roi_ratio", ratio,
                                "--heatmap_sigma", "2"):
        image, mask = image[0, ..., 0], targets["mask"][0, ..., 0]
        parts = parts_of(mask, image)
        middles = np.array([middle_of(part, image) for part in parts])
        scale, degrees, mirrored, residual = similarity(CENTRES * NATIVE_MM, middles * spacing)
        levels = [image[part].max() for part in parts]  # inside; an edge is darker
        assert np.corrcoef(levels, BRIGHTNESS)[0, 1] > 0.999 and residual < 0.5
        assert image[mask == 0].mean() < levels[0]
        np.testing.assert_allclose([np.argwhere(part).mean(0) for part in parts], middles, atol=0.9)  # whole voxels
        np.testing.assert_allclose(peaks(targets["heatmaps"][0]), middles[ENDS], atol=0.3)
        seen.append((scale / ratio, degrees, mirrored))
    scales, angles, mirrors = np.array(seen).T
    if augmentation == "versions":
        counted = [tuple(pair) for pair in zip(np.round(scales, 1), np.round(angles, -1), strict=True)]
        assert {pair: counted.count(pair) for pair in counted} == {
            (1, 0): 4, (1, 10): 8, (1, 20): 8, (0.9, 0): 4, (1.1, 0): 4}
        assert mirrors.sum() == 14
    else:
        assert angles.max() < 21.5 and np.ptp(angles) > 10 and 0 < mirrors.sum() < steps
        assert scales.min() > 0.88 and scales.max() < 1.12 and np.ptp(scales) > 0.1


def test_slices_of_the_first_stage_move_with_their_mask(place):
    """Preset paper: each slice rotated, scaled by 0.9 to 1.1 and mirrored; a block's area shows by how much."""
    image, label = (cached(place / "small.h5", "case_0", name) for name in ("image", "label"))
    areas = [part.sum() / part.any((0, 1)).sum() for part in parts_of(label, image)]
    ratios = []
    for images, targets in given(place, "slices", 4, "--variant", "unet_roi"):
        for image, mask in zip(images[..., 0], targets["mask"][..., 0], strict=True):
            if (mask > 0).any():
                assert image[mask > 0].min() > image[mask == 0].mean()
                ratios += [part.sum() for part in parts_of(mask, image)]
    assert len(ratios) > 10 and len(set(areas)) == 1
    ratios = np.array(ratios) / areas[0]
    assert 0.8 < np.median(ratios) < 1.2 and ratios.min() > 0.65 and ratios.max() < 1.35 and np.ptp(ratios) > 0.1


def test_masks_and_tips_are_measured_in_the_files_own_millimetres(place, monkeypatch):
    """Columns of cases.csv against SimpleITK and NumPy, from the written predictions and the files on disk."""
    run, out = place / "runs" / "short", place / "results"
    monkeypatch.setattr("tfsono.training.confidence.LEAST_CASES", 1)
    monkeypatch.setattr("tfsono.training.confidence.LEAST_LANDMARKS", 2)
    train("femur", "--data", place / "small.h5", "--split", place / "validated.json", "--run_dir", run, "--preset",
          "quick", *SMALL, "--iterations", "1", "--record_every", "1")
    row, = evaluate("femur", "--data", place / "small.h5", "--runs", run, "--out", out)
    reference = sitk.ReadImage(str(place / "dataset" / "labels" / "case_1.nii.gz")) == 1
    mask = at_the_files_grid(out / "runs" / row["mask"], reference) == 1
    for name, value in measured_masks(mask, reference).items():
        assert float(row[COLUMNS[name]]) == pytest.approx(value, rel=1e-4), name
    reference_mm = read_points(place / "dataset" / "landmarks" / "case_1.mrk.json")
    found = read_points((out / "runs" / row["mask"]).parent / "case_1.mrk.json")
    errors = [np.linalg.norm(found[name] - reference_mm[name]) for name in TIPS]
    assert min(errors) > 0.5
    for column, value in ((ERROR.format(TIPS[0]), errors[0]), (ERROR.format(TIPS[1]), errors[1]),
                          (MEAN_ERROR, np.mean(errors)), (LENGTH, np.linalg.norm(found[TIPS[1]] - found[TIPS[0]])),
                          (REFERENCE_LENGTH, np.linalg.norm(reference_mm[TIPS[1]] - reference_mm[TIPS[0]]))):
        assert float(row[column]) == pytest.approx(value, rel=1e-4), column
    assert json.loads((run / "confidence.json").read_text())["landmarks"] == 2
    assert all(0 < float(row[f"probability_{name}"]) < 1 for name in TIPS) and (out / "calibration.csv").is_file()
