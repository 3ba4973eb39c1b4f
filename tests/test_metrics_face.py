"""Metrics of a face on cases solved by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tfsono.configs.face import LANDMARKS, MIRRORED
from tfsono.geometry.boxes import centred_boxes
from tfsono.metrics.face_case import exchanged_sides, face_metrics

NAN = math.nan
SIDES = np.array([14.0, 24, 14, 24, 24])
SPACING = (0.5, 1.0, 2.0)
REFERENCE = np.array([[30, 40, 50], [45, 35, 55], [60, 41, 49], [44, 30, 40], [45, 33, 20.0]])


def prediction(points, boxes=None, **more):
    points = np.array(points, float)
    boxes = centred_boxes(points, SIDES) if boxes is None else boxes
    scores = np.where(np.isfinite(points).all(axis=1), np.arange(5) / 10 + 0.5, 0.0)
    return {"points_vox": points, "boxes_vox": boxes, "scores": scores, "chosen": np.zeros(5, int),
            "candidate_boxes_vox": np.asarray(boxes)[:, None], "candidate_scores": scores[:, None]} | more


def metrics(given, reference=REFERENCE):
    return face_metrics(given, reference, SIDES, SPACING, LANDMARKS, MIRRORED)


def values(row, key):
    return [row[key.format(name)] for name in LANDMARKS]


def test_a_case_solved_by_hand():
    row = metrics(prediction(REFERENCE + [[2, 0, 0], [0, 0, 0], [0, 7, 0], [6, 4, 0], [0, 0, 24]]))
    assert values(row, "error_{}_mm") == pytest.approx([1, 0, 7, 5, 48])
    assert row["mre_mm"] == pytest.approx(61 / 5)
    # a cube of side w moved by d along an axis: (w - d) / (w + d)
    common = (24 - 6) * (24 - 4) * 24
    expected = [12 / 16, 1, 7 / 21, common / (2 * 24**3 - common), 0]
    assert values(row, "iou_{}") == pytest.approx(expected)
    assert row["mean_iou"] == pytest.approx(np.mean(expected))
    assert (row["hit_35"], row["hit_50"], row["hit_75"]) == (3 / 5, 2 / 5, 2 / 5)
    # the first and the second reach 6 and 10 of the 10 thresholds, the fourth (0.4545) none
    assert row["hit_mean"] == pytest.approx((6 + 10) / 50)
    assert values(row, "score_{}") == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert [row[key] for key in ("missing", "without_reference", "sides_exchanged", "second_taken",
                                    "hit_not_taken")] == [
        0, 0, 0, 0, 0]


@pytest.mark.parametrize("side, shift_mm", [(14, 3.99), (24, 6.83)])
def test_the_papers_distances_fit_its_overlaps(side, shift_mm):
    """Along the diagonal 3.99 mm of 1.3 mm voxels leave an eye's box half its overlap, 6.83 mm another one."""
    for factor, hits in ((0.99, 1.0), (1.01, 0.0)):
        point = np.full((1, 3), 40 + factor * shift_mm / 1.3 / math.sqrt(3))
        row = face_metrics({"points_vox": point, "boxes_vox": centred_boxes(point, np.array([side])), "scores": [1.0]},
                           np.full((1, 3), 40.0), (side,), (1.3, 1.3, 1.3), ("p",))
        assert row["hit_50"] == hits and row["error_p_mm"] == pytest.approx(factor * shift_mm)
        assert math.isnan(row["second_taken"]) and math.isnan(row["hit_not_taken"])


def test_a_missing_prediction_is_a_miss_and_a_missing_reference_is_excluded():
    found, reference = REFERENCE.copy(), REFERENCE.copy()
    found[1], reference[3, 2] = NAN, NAN
    row = metrics(prediction(found), reference)
    assert values(row, "error_{}_mm") == pytest.approx([0, NAN, 0, NAN, 0], nan_ok=True)
    assert values(row, "iou_{}") == pytest.approx([1, 0, 1, NAN, 1], nan_ok=True)
    assert (row["mre_mm"], row["mean_iou"], row["hit_50"]) == (0, 0.75, 0.75)
    assert (row["missing"], row["without_reference"]) == (1, 1)
    assert math.isnan(row["score_mid_eyebrow"]) and row["score_nose_tip"] == 0.8


def test_nothing_found_and_nothing_known():
    row = metrics(prediction(np.full((5, 3), NAN)))
    assert (row["missing"], row["mean_iou"], row["hit_35"], row["hit_mean"], row["sides_exchanged"]) == (5, 0, 0, 0, 0)
    assert math.isnan(row["mre_mm"]) and all(map(math.isnan, values(row, "score_{}")))
    row = metrics(prediction(REFERENCE), np.full((5, 3), NAN))
    assert (row["missing"], row["without_reference"]) == (0, 5)
    assert all(math.isnan(row[key]) for key in ("mre_mm", "mean_iou", "hit_50", "hit_mean"))


@pytest.mark.parametrize("boxes", [None, np.tile(REFERENCE, 2), np.full((5, 6), NAN)],
                         ids=["none", "without sides", "nan"])
def test_a_heatmap_has_places_and_no_boxes(boxes):
    given = prediction(REFERENCE + [1, 0, 0]) | {"boxes_vox": boxes}
    given["candidate_boxes_vox"] = None if boxes is None else boxes[:, None]
    row = metrics(given)
    assert row["mre_mm"] == 0.5 and row["missing"] == 0
    assert all(math.isnan(value) for key, value in row.items()
               if key.startswith(("iou_", "hit_")) or key in ("mean_iou", "second_taken"))


def test_both_sides_must_be_nearer_to_the_other():
    exchanged = REFERENCE[[2, 1, 0, 3, 4]]
    row = metrics(prediction(exchanged))
    assert row["sides_exchanged"] == 1 and row["error_left_eye_mm"] == pytest.approx(math.sqrt(15**2 + 1 + 2**2))
    one = REFERENCE.copy()
    one[0] = REFERENCE[2]  # both eyes at the right one: an error, and no exchange
    assert metrics(prediction(one))["sides_exchanged"] == 0
    lost = exchanged.copy()
    lost[0] = NAN
    assert metrics(prediction(lost))["sides_exchanged"] == 0
    assert exchanged_sides(exchanged, REFERENCE, LANDMARKS, ()) == 0
    assert exchanged_sides(exchanged[:2], REFERENCE[:2], LANDMARKS[:2], MIRRORED) == 0  # its other end is no landmark


def test_millimetres_and_not_voxels_decide_which_side_is_nearer():
    """In voxels the found eyes are nearer to the other side, in millimetres to their own."""
    reference = np.array([[0.0, 0, 0], [10, 0, 1]])
    found = np.array([[9.0, 0, 0.1], [1, 0, 0.9]])
    spacing = np.array([0.01, 1, 1])
    assert exchanged_sides(found, reference, ("a", "b"), (("a", "b"),)) == 1
    assert exchanged_sides(found * spacing, reference * spacing, ("a", "b"), (("a", "b"),)) == 0


def test_what_the_prior_chose_and_could_have_chosen():
    found = REFERENCE + [[0, 0, 0], [20, 0, 0], [0, 0, 0], [NAN, NAN, NAN], [30, 0, 0]]
    boxes = centred_boxes(found, SIDES)
    candidates = np.stack([centred_boxes(REFERENCE + [40, 0, 0], SIDES), boxes, np.full((5, 6), NAN)], axis=1)
    candidates[1, 0] = centred_boxes(REFERENCE[1] + [2, 0, 0], 24)  # was there, first, and not taken
    candidates[3, 0] = centred_boxes(REFERENCE[3], 24)  # the landmark is missing though it has a candidate
    row = metrics(prediction(found, boxes, candidate_boxes_vox=candidates, chosen=np.array([1, 1, 1, 0, 1])))
    assert (row["second_taken"], row["hit_not_taken"], row["missing"]) == (4, 2, 1)
    lost = metrics(prediction(found, boxes, candidate_boxes_vox=candidates, chosen=np.ones(5, int)))
    assert lost["second_taken"] == 4  # of a landmark that is missing nothing was taken
    assert math.isnan(metrics(prediction(found, boxes, chosen=None))["second_taken"])


def test_the_row_does_not_depend_on_unread_keys():
    given = {"points_vox": REFERENCE, "boxes_vox": centred_boxes(REFERENCE, SIDES), "scores": np.ones(5)}
    row = metrics(given)
    assert row == pytest.approx(metrics(given | {"candidate_scores": np.zeros((5, 2))}), nan_ok=True)
    assert set(row) == set(metrics(prediction(REFERENCE))) and all(isinstance(value, float) for value in row.values())


@pytest.mark.parametrize("change, words", [
    ({"points_vox": REFERENCE[:4]}, r"must be \[5, 3\]"),
    ({"boxes_vox": np.zeros((5, 3))}, r"boxes_vox must be \[5, 6\]"),
])
def test_bad_predictions(change, words):
    with pytest.raises(ValueError, match=words):
        metrics(prediction(REFERENCE) | change)


def test_bad_settings():
    with pytest.raises(ValueError, match="5 numbers above 0"):
        face_metrics(prediction(REFERENCE), REFERENCE, SIDES[:4], SPACING, LANDMARKS)
    with pytest.raises(ValueError, match="spacing_mm"):
        face_metrics(prediction(REFERENCE), REFERENCE, SIDES, (1, 0, 1), LANDMARKS)


def test_boxes_of_voxels_that_are_no_cubes_have_three_sides():
    """A box of 8 mm on voxels of 2, 1 and 0.5 mm, found 2 mm along x from its place: IoU (8 - 2) / (8 + 2)."""
    reference, sides = np.array([[9.0, 12, 20]]), np.array([[4.0, 8, 16]])
    box = np.concatenate([reference - sides / 2, reference + sides / 2], axis=1) + np.array([1.0, 0, 0, 1, 0, 0])
    prediction = {"points_vox": reference + [1.0, 0, 0], "scores": np.ones(1), "boxes_vox": box}
    row = face_metrics(prediction, reference, sides, (2.0, 1.0, 0.5), ("chin",))
    assert row["iou_chin"] == pytest.approx(6 / 10) and row["error_chin_mm"] == pytest.approx(2)
    with pytest.raises(ValueError, match="or three"):
        face_metrics(prediction, reference, sides[:, :2], (2.0, 1.0, 0.5), ("chin",))
