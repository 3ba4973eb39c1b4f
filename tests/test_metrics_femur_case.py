"""Joint predictions on cases solved by hand, and against SciPy."""

import math

import numpy as np
import pytest
from scipy import ndimage

from tfsono.metrics.biometry import gestational_age_by_fl
from tfsono.geometry.regions import Box
from tfsono.metrics.femur_case import MaskAndPoints, coverage, distances_to_mask, joint_metrics

SPACING = (0.5, 1.0, 2.0)
NAMES = ("proximal", "distal")


def bar(start=4, stop=24, shape=(31, 13, 11)):
    mask = np.zeros(shape, np.uint8)
    mask[start:stop, 4:9, 3:7] = 1
    return mask


def test_a_prediction_solved_by_hand():
    reference = MaskAndPoints(bar(), np.array([[4, 6, 5], [23, 6, 5]], float))
    found = MaskAndPoints(bar(4, 20), np.array([[4, 9, 5], [23, 6, 6]], float))
    row = joint_metrics(found, reference, SPACING, {"femur": 1}, NAMES)
    assert (row["error_proximal_mm"], row["error_distal_mm"], row["mre_mm"]) == pytest.approx((3, 2, 2.5))
    assert row["length_reference_mm"] == pytest.approx(9.5)
    length = math.sqrt(9.5**2 + 3**2 + 2**2)
    assert (row["length_mm"], row["length_error_mm"]) == pytest.approx((length, length - 9.5))
    assert row["dice"] == pytest.approx(2 * 16 / (16 + 20))
    assert row["volume_error_ml"] == pytest.approx(4 * 5 * 4 / 1000)
    # one row, four columns off
    assert (row["mask_distance_proximal_mm"], row["mask_distance_distal_mm"]) == pytest.approx((1.0, 2.0))
    assert row["contradiction"] == 0 and row["undefined"] == 0


def test_exchanged_tips_are_an_error_with_a_column_of_their_own():
    reference = MaskAndPoints(None, np.array([[4, 6, 5], [23, 6, 5]], float))
    row = joint_metrics(MaskAndPoints(None, reference.points_vox[::-1]), reference, SPACING, {"femur": 1}, NAMES)
    assert row["error_proximal_mm"] == pytest.approx(9.5) and row["exchanged_mm"] == 0
    assert row["length_error_mm"] == 0 and math.isnan(row["dice"]) and math.isnan(row["contradiction"])


def test_a_contradiction_is_a_tip_far_from_the_mask_and_near_it_in_the_reference():
    reference = MaskAndPoints(bar(), np.array([[4, 6, 5], [23, 6, 5]], float))
    far = np.array([[4, 6, 5], [30, 6, 9]], float)  # 3.5 mm and 6 mm beyond the last voxel
    row = joint_metrics(MaskAndPoints(bar(), far), reference, SPACING, {"femur": 1}, NAMES)
    assert row["mask_distance_distal_mm"] == pytest.approx(math.hypot(3.5, 6)) and row["contradiction"] == 1
    elsewhere = MaskAndPoints(bar(), far)  # where the reference itself is so far off, nothing is to be judged
    assert joint_metrics(elsewhere, elsewhere, SPACING, {"femur": 1}, NAMES)["contradiction"] == 0
    only = MaskAndPoints(bar(), np.array([[np.nan] * 3, [30, 6, 9]]))
    assert math.isnan(joint_metrics(only, only, SPACING, {"femur": 1}, NAMES)["contradiction"])


def test_missing_predictions_and_empty_masks():
    reference = MaskAndPoints(bar(), np.array([[4, 6, 5], [np.nan] * 3]))
    found = MaskAndPoints(np.zeros_like(bar()), np.array([[4, 6, 5], [23, 6, 5]], float))
    row = joint_metrics(found, reference, SPACING, {"femur": 1}, NAMES)
    assert row["dice"] == 0 and row["undefined"] == 1 and row["mre_mm"] == 0
    assert math.isnan(row["length_error_mm"]) and math.isnan(row["mask_distance_proximal_mm"])
    none = joint_metrics(MaskAndPoints(None, None), reference, SPACING, {"femur": 1}, NAMES)
    assert all(math.isnan(none[key]) for key in ("dice", "mre_mm", "length_mm", "contradiction"))


def test_labels_are_averaged_and_many_landmarks_have_no_length():
    mask = bar()
    mask[25:29, 2:5, 2:5] = 3
    other = mask.copy()
    other[other == 3] = 0
    points = np.arange(9.0).reshape(3, 3)
    row = joint_metrics(MaskAndPoints(other, points), MaskAndPoints(mask, points), SPACING, {"a": 1, "b": 3}, "xyz")
    assert row["dice"] == pytest.approx(0.5) and row["undefined"] == 1 and "length_mm" not in row


def test_distances_to_a_mask_are_scipys():
    random = np.random.default_rng(3)
    mask = (random.random((9, 11, 7)) > 0.97).astype(np.uint8)
    points = random.integers(0, (9, 11, 7), (20, 3)).astype(float)
    expected = ndimage.distance_transform_edt(mask == 0, sampling=SPACING)[tuple(points.astype(int).T)]
    np.testing.assert_allclose(distances_to_mask(MaskAndPoints(mask, points), np.array(SPACING), 20), expected)


@pytest.mark.parametrize("fl_mm, weeks", [(30.0, 19.26), (50.0, 26.90), (70.0, 35.90)])
def test_hadlocks_age_by_the_femur(fl_mm, weeks):
    assert gestational_age_by_fl(fl_mm) == pytest.approx(weeks, abs=0.01)
    assert gestational_age_by_fl(5.0) is None and gestational_age_by_fl(math.nan) is None


def test_what_a_box_holds_of_the_reference():
    mask = np.zeros((10, 4, 4), np.uint8)
    mask[2:6] = 1
    reference = MaskAndPoints(mask, np.array([[2.0, 1, 1], [5.4, 1, 1], [math.nan] * 3]))
    assert coverage(Box((2, 0, 0), (6, 4, 4)), reference) == {"mask_inside": 1.0, "landmarks_inside": 1.0}
    assert coverage(Box((3, 0, 0), (9, 4, 4)), reference) == {"mask_inside": 0.75, "landmarks_inside": 0.0}
    assert coverage(Box((0, 0, 0), (5, 4, 2)), reference) == {"mask_inside": 0.375, "landmarks_inside": 0.0}
    for region, of in ((None, reference), (Box((0, 0, 0), (5, 4, 4)), MaskAndPoints(None, None)),
                       (Box((0, 0, 0), (5, 4, 4)), MaskAndPoints(0 * mask, None))):
        assert all(math.isnan(value) for value in coverage(region, of).values())
