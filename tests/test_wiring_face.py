"""The wiring of `train/face.py` and `evaluate/face.py`: whose eye is whose in a mirror image, and millimetres.

Every landmark is a block of its own brightness, so the image shows which landmark a point is.
"""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from tfsono.__main__ import run as tfsono
from wiring import (batches_of, blocks, cached, evaluate, modules_once, peaks, ranks, read_boxes, read_points,
                    similarity, train, write_points, write_split, write_volume)

NAMES = ("left_eye", "mid_eyebrow", "right_eye", "nose_tip", "chin")
IN_A_MIRROR = [2, 1, 0, 3, 4]
ERROR, MEAN_ERROR, OVERLAP, MEAN_OVERLAP = "error_{}_mm", "mre_mm", "iou_{}", "mean_iou"
SIZE, NATIVE_MM, ASKED = (31, 27, 23), (0.9, 1.0, 1.4), "1.1,1.3,1.0"
FACE = np.array([(-8, 0, 3), (0, 2, 6), (7, -1, 2), (1, 8, 0), (0, 2, -6)])
CENTRES = np.array([15, 12, 11]) + FACE
SIDES = (15, 17, 13, 19, 16)
SMALL = ["--preset", "quick", "--widths", "3,4,4", "--head_width", "4", "--precision", "float32", "--use_prior",
         "false", "--heatmap_sigma_mm", "2", "--anchor_sides", "14,20", "--box_sides", ",".join(map(str, SIDES)),
         "--spacing_mm", ASKED, "--offset_deviations", "1,1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two cases, their cache at another spacing than the files', and a split."""
    place = tmp_path_factory.mktemp("wiring")
    for number in range(2):
        centres = CENTRES + [number, 0, 0]
        write_volume(place / "dataset" / "images" / f"case_{number}.nii.gz",
                     blocks(SIZE, centres, (60, 90, 120, 150, 180), (3, 3, 2)), NATIVE_MM)
        write_points(place / "dataset" / "landmarks" / f"case_{number}.mrk.json", centres, NATIVE_MM, NAMES)
    (place / "dataset" / "dataset.json").write_text(json.dumps({"name": "blocks", "modality": "US", "labels": {},
                                                                "landmarks": NAMES}))
    tfsono(["cache", "face", str(place / "dataset"), str(place / "small.h5"), "--spacing_mm", ASKED])
    write_split(place / "split.json", ["case_0"], ["case_1"])
    return place


def spacing_of(place):
    """Of the cache: it keeps the extent of the files' volumes."""
    return np.array(SIZE) * NATIVE_MM / cached(place / "small.h5", "case_0", "image").shape


def points_of(targets):
    """[K, 3]: the middles of boxes, or of heatmaps."""
    if "boxes" in targets:
        return (targets["boxes"][0, :, :3] + targets["boxes"][0, :, 3:]) / 2
    return peaks(targets["heatmaps"][0])


@pytest.mark.parametrize(("variant", "augmentation"), [("ig_rpn", "random"), ("heatmap", "versions")])
def test_a_mirror_image_exchanges_the_eyes_and_a_rotation_does_not(place, variant, augmentation):
    """Preset paper's flips and rotations; which landmark lies where is read from the image's brightness."""
    spacing, seen = spacing_of(place), []
    for image, targets in batches_of(
            "face", 8, "--data", place / "small.h5", "--split", place / "split.json", "--run_dir",
            place / f"{variant}_{augmentation}", *SMALL, "--variant", variant, "--flips", "true", "--augmentation",
            augmentation, "--rotation_degrees", "25"):
        points = points_of(targets)
        names = ranks([image[0, ..., 0][tuple(np.rint(point).astype(int))] for point in points])
        scale, angle, mirrored, residual = similarity((CENTRES * NATIVE_MM)[names], points * spacing)
        assert names == (IN_A_MIRROR if mirrored else [0, 1, 2, 3, 4])
        assert abs(scale - 1) < 0.03 and residual < 0.3 and angle < 25.5
        if "boxes" in targets:
            np.testing.assert_allclose(np.diff(targets["boxes"][0].reshape(-1, 2, 3), axis=1)[:, 0],
                                       np.repeat(SIDES, 3).reshape(-1, 3), rtol=1e-5)
        seen.append((mirrored, angle))
    assert {mirrored for mirrored, _ in seen} == {False, True}
    assert sum(angle < 1 for _, angle in seen) == (4 if augmentation == "versions" else 0)
    assert max(angle for _, angle in seen) > 8
    if augmentation == "versions":  # plain and mirrored along each axis, twice
        assert sum(mirrored for mirrored, _ in seen) == 6


@modules_once()
def test_landmarks_and_boxes_are_measured_in_the_files_own_millimetres(place):
    """Distances and overlaps of cases.csv from the written markups and the files on disk, in the patient's space."""
    run, out = place / "runs" / "short", place / "results"
    train("face", "--data", place / "small.h5", "--split", place / "split.json", "--run_dir", run, *SMALL,
          "--score_threshold", "0", "--iterations", "1", "--record_every", "1")
    row, = evaluate("face", "--data", place / "small.h5", "--runs", run, "--out", out)
    reference = read_points(place / "dataset" / "landmarks" / "case_1.mrk.json")
    file = sitk.ReadImage(str(place / "dataset" / "images" / "case_1.nii.gz"))
    axes = np.array(sitk.DICOMOrient(file, "LPS").GetDirection()).reshape(3, 3)
    sides_mm = dict(zip(NAMES, np.outer(SIDES, spacing_of(place)), strict=True))
    found, boxes = (read(out / "runs" / row["file"]) for read in (read_points, read_boxes))
    errors = {name: np.linalg.norm(found[name] - reference[name]) for name in NAMES}
    overlaps = {name: overlap(boxes[name], (reference[name], axes, sides_mm[name])) for name in NAMES}
    for name in NAMES:
        assert float(row[ERROR.format(name)]) == pytest.approx(errors[name], rel=1e-3)
        assert float(row[OVERLAP.format(name)]) == pytest.approx(overlaps[name], rel=1e-3, abs=1e-4)
    assert float(row[MEAN_ERROR]) == pytest.approx(np.mean(list(errors.values())), rel=1e-3)
    assert float(row[MEAN_OVERLAP]) == pytest.approx(np.mean(list(overlaps.values())), rel=1e-3)
    assert float(row[MEAN_OVERLAP]) > 0.1
    image = place / "dataset" / "images" / "case_1.nii.gz"
    tfsono(["predict", str(run), str(image), "--out", str(place / "predicted")])
    for name, point in read_points(place / "predicted" / "case_1.mrk.json").items():
        np.testing.assert_allclose(point, found[name], atol=1e-3)


def overlap(one, other):
    """IoU of two boxes (middle, axes, sides) that share their axes."""
    np.testing.assert_allclose(one[1], other[1], atol=1e-5)
    middles = [middle @ axes for middle, axes, _ in (one, other)]
    lows, highs = ([middle + sign * sides / 2 for middle, (_, _, sides) in zip(middles, (one, other), strict=True)]
                   for sign in (-1, 1))
    shared = np.prod(np.clip(np.minimum(*highs) - np.maximum(*lows), 0, None))
    return shared / (np.prod(one[2]) + np.prod(other[2]) - shared)
