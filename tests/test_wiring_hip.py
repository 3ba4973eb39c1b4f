"""The wiring of `train/hip.py` and `evaluate/hip.py`: what the network gets, and on which grid its masks are measured.

Every label is a block of its own brightness, so the image shows where its labels are.
"""

import numpy as np
import pytest
import SimpleITK as sitk

from tfsono.__main__ import run as tfsono
from wiring import (at_the_files_grid, batches_of, blocks, cached, centroids, evaluate, measured_masks,
                    modules_once, ranks, similarity, train, write_split, write_volume)

LABELS = {"a": 1, "b": 2, "c": 3, "d": 4}
COLUMNS = {"dice": "dice", "jaccard": "jaccard", "mean": "assd_mm", "deviation": "assd_std_mm",
           "largest": "hausdorff_mm", "percentile_95": "hausdorff95_mm", "volume_error": "volume_error_ml"}
SIZE, NATIVE_MM, ASKED_MM = (25, 19, 15), (0.9, 1.3, 1.7), (1.1, 1.0, 1.3)
CENTRES = np.array([(3, 4, 3), (20, 3, 5), (6, 15, 8), (18, 13, 12)])
HALF = (2, 2, 1)
SMALL = ["--widths", "4,4,6,6", "--lower_widths", "4,3", "--middle_widths", "3", "--spacing_mm", "1.1,1.0,1.3"]
WHOLE = ["--patch", "40,40,40", "--patches_in_a_row", "1"]  # a patch holds the volume wherever it lies


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two cases, their cache at another spacing than the files', and a split."""
    place = tmp_path_factory.mktemp("wiring")
    for number in range(2):
        centres = CENTRES + [number, 0, 0]
        image = blocks(SIZE, centres, (60, 90, 120, 150), HALF)
        write_volume(place / "dataset" / "images" / f"case_{number}.nii.gz", image, NATIVE_MM)
        write_volume(place / "dataset" / "labels" / f"case_{number}.nii.gz",
                     blocks(SIZE, centres, LABELS.values(), HALF).astype(np.uint8) % 20, NATIVE_MM)
    (place / "dataset" / "dataset.json").write_text(
        '{"name": "blocks", "modality": "MR", "labels": {"a": 1, "b": 2, "c": 3, "d": 4}}')
    tfsono(["cache", "hip", str(place / "dataset"), str(place / "small.h5"), "--spacing_mm", "1.1,1.0,1.3"])
    write_split(place / "split.json", ["case_0"], ["case_1"])
    return place


def given(place, steps, *more):
    """The patches of some steps: image [X, Y, Z] and label [X, Y, Z] of each, -1 outside of the volume."""
    batches = batches_of("hip", steps, "--data", place / "small.h5", "--split", place / "split.json", "--run_dir",
                         place / "runs" / "_".join(map(str, more)).replace("-", ""), *SMALL, *WHOLE, *more)
    patches = []
    for images, labels in batches:
        first, *others = labels.values()
        assert all(np.array_equal(first, other) for other in others)
        patches += zip(images[..., 0], first[..., 0], strict=True)
    return patches


def test_the_papers_eight_versions_each_with_its_mask(place):
    """Right angles about z times a flip of y, each of them once in an epoch; image and mask in the same one."""
    image, label = (cached(place / "small.h5", "case_0", name) for name in ("image", "label"))
    seen = []
    for patch, mask in given(place, 4, "--preset", "paper"):
        valid = np.argwhere(mask >= 0)
        inside = tuple(slice(low, high + 1) for low, high in zip(valid.min(0), valid.max(0), strict=True))
        matches = [version for version in versions() if same(mask[inside], moved(label, version))]
        assert len(matches) == 1
        assert np.corrcoef(patch[inside].ravel(), moved(image, matches[0]).ravel())[0, 1] > 0.99999
        seen += matches
    assert sorted(seen) == sorted(versions())


def versions():
    """(axes exchanged, x mirrored, y mirrored)."""
    return [(exchanged, x, y) for exchanged in (0, 1) for x in (0, 1) for y in (0, 1)]


def moved(array, version):
    exchanged, x, y = version
    array = array.transpose(1, 0, 2) if exchanged else array
    return array[::-1 if x else 1, ::-1 if y else 1]


def same(one, other):
    return one.shape == other.shape and np.array_equal(one, other)


@pytest.mark.parametrize(("options", "degrees", "share"), [
    ((), 15, 0.15), (("--scaling", "0"), 15, 0), (("--rotation_degrees", "0"), 0, 0.15)])
def test_tuned_rotates_by_degrees_and_scales_by_a_share(place, options, degrees, share):
    """A rotation keeps the distances in millimetres, and scaling the directions; the image goes with its mask."""
    spacing = np.array(SIZE) * NATIVE_MM / cached(place / "small.h5", "case_0", "image").shape
    assert np.abs(spacing / NATIVE_MM - 1).min() > 0.1
    scales, angles = [], []
    for patch, mask in given(place, 8, "--preset", "quick", "--variant", "tuned", *options):
        inner = mask[1:-1, 1:-1, 1:-1]
        if any((inner == value).sum() != (mask == value).sum() or value not in inner for value in LABELS.values()):
            continue  # a block at the patch's border may be cut
        assert ranks([patch[mask == value].mean() for value in (0, *LABELS.values())]) == [0, 1, 2, 3, 4]
        scale, angle, mirrored, residual = similarity(CENTRES * NATIVE_MM, centroids(mask, 4) * spacing)
        assert not mirrored and residual < 1  # of voxels of 1.3 mm
        scales.append(scale)
        angles.append(angle)
    assert len(scales) >= 10
    assert 0.6 * degrees <= max(angles) < 1.75 * degrees + 4  # about each of three axes; whole voxels show 3 degrees
    assert np.abs(np.array(scales) - 1).max() < share + 0.03 and np.ptp(scales) >= share


@modules_once()
def test_masks_are_measured_on_the_files_own_voxels(place):
    """Dice, distances and volumes of cases.csv against SimpleITK, from the written masks and the files on disk."""
    run, out = place / "runs" / "short", place / "results"
    train("hip", "--data", place / "small.h5", "--run_dir", run, "--split", place / "split.json", "--preset",
          "quick", *SMALL, "--patch", "16,16,16", "--initial_deviation", "0", "--iterations", "1",
          "--record_every", "1")
    rows = evaluate("hip", "--data", place / "small.h5", "--runs", run, "--out", out)
    assert [row["label"] for row in rows] == list(LABELS)
    whole = sitk.ReadImage(str(place / "dataset" / "labels" / "case_1.nii.gz"))
    found = 0
    for row in rows:
        mask = at_the_files_grid(out / "runs" / row["mask"], whole) == LABELS[row["label"]]
        if sitk.GetArrayViewFromImage(mask).any():
            found += 1
            for name, value in measured_masks(mask, whole == LABELS[row["label"]]).items():
                assert float(row[COLUMNS[name]]) == pytest.approx(value, rel=1e-4), (row["label"], name)
    assert found >= 2
    image = place / "dataset" / "images" / "case_1.nii.gz"
    tfsono(["predict", str(run), str(image), "--out", str(place / "predicted")])
    assert (place / "predicted" / "case_1.png").stat().st_size > 1000
    predicted = sitk.GetArrayFromImage(sitk.ReadImage(str(place / "predicted" / "case_1_mask.nii.gz")))
    np.testing.assert_array_equal(
        predicted, sitk.GetArrayFromImage(at_the_files_grid(out / "runs" / rows[0]["mask"], whole)))
