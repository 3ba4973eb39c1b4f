"""Pose metrics on cases solved by hand, and areas against numerical integration of their curve."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tfsono.configs.pose import LANDMARKS, MIRRORED, SEGMENTS
from tfsono.metrics.landmarks import area_scores, trapezoid_scores
from tfsono.metrics.pose_case import exchanged_pairs, known_segments, pose_metrics, segment_lengths

NAMES = ("neck", "spine", "wrist_a", "wrist_b")
BONES = (("neck", "spine"), ("neck", "wrist_a"), ("neck", "tail"))
SIDES = (("wrist_a", "wrist_b"),)
SPACING = (0.5, 1.0, 2.0)
REFERENCE = np.array([[10, 20, 5], [10, 26, 5], [30, 20, 5], [10, 20, 15.0]])
NAN = math.nan


def test_a_case_solved_by_hand():
    found = REFERENCE + [[6, 4, 0], [0, 0, 0], [0, 0, 1], [0, 12, 0]]  # 5, 0, 2 and 12 mm
    row = pose_metrics(found, REFERENCE, SPACING, NAMES, BONES, SIDES)
    assert [row[f"error_{name}_mm"] for name in NAMES] == pytest.approx([5, 0, 2, 12])
    assert row["mre_mm"] == pytest.approx(4.75)
    assert [row[f"auc_{name}"] for name in NAMES] == pytest.approx([0.5, 1, 0.8, 0])
    assert row["auc"] == pytest.approx(2.3 / 4)
    # Steps of 1 mm, "<": 5 mm counts from 6 on, 0 from 1 on, 2 from 3 on, 12 never.
    assert row["auc_trapezoid"] == pytest.approx((4.5 + 9.5 + 7.5 + 0) / 40)
    assert row["length_reference_neck_spine_mm"] == pytest.approx(6) and row["length_reference_neck_wrist_a_mm"] == 10
    neck_spine = math.hypot(3, 2)  # the neck moved by (3, 4, 0) mm towards the spine's y
    assert row["length_error_neck_spine_mm"] == pytest.approx(neck_spine - 6)
    assert row["length_neck_wrist_a_mm"] == pytest.approx(math.sqrt(7**2 + 4**2 + 2**2))
    errors = [abs(neck_spine - 6), abs(math.sqrt(69) - 10)]
    assert row["length_abs_error_mm"] == pytest.approx(np.mean(errors))
    assert "length_neck_tail_mm" not in row
    assert (row["missing"], row["undefined"], row["exchanged"]) == (0, 0, 0)


def test_a_missing_reference_is_masked_and_a_missing_prediction_is_a_miss():
    reference, found = REFERENCE.copy(), REFERENCE.copy()
    reference[3], found[1, 2] = NAN, NAN
    row = pose_metrics(found, reference, SPACING, NAMES, BONES, SIDES)
    assert [row[f"error_{name}_mm"] for name in NAMES] == pytest.approx([0, NAN, 0, NAN], nan_ok=True)
    assert [row[f"auc_{name}"] for name in NAMES] == pytest.approx([1, 0, 1, NAN], nan_ok=True)
    assert row["mre_mm"] == 0 and row["auc"] == pytest.approx(2 / 3)
    assert row["auc_trapezoid"] == pytest.approx(0.95 * 2 / 3)
    assert (row["missing"], row["undefined"]) == (1, 1)
    assert math.isnan(row["length_neck_spine_mm"]) and row["length_reference_neck_spine_mm"] == pytest.approx(6)
    assert row["length_abs_error_mm"] == 0  # of the arm alone


def test_without_any_reference_everything_is_undefined():
    row = pose_metrics(REFERENCE, np.full((4, 3), NAN), SPACING, NAMES, BONES, SIDES)
    assert all(math.isnan(row[key]) for key in ("mre_mm", "auc", "auc_trapezoid", "length_abs_error_mm"))
    assert (row["missing"], row["undefined"], row["exchanged"]) == (4, 0, 0)


def test_exchanged_sides_are_counted_and_nothing_else():
    assert exchanged_pairs(REFERENCE[[0, 1, 3, 2]], REFERENCE, NAMES, SIDES) == 1
    assert exchanged_pairs(REFERENCE, REFERENCE, NAMES, SIDES) == 0
    both = REFERENCE.copy()
    both[3] = both[2]  # both wrists on one: either way round is as bad
    assert exchanged_pairs(both, REFERENCE, NAMES, SIDES) == 0
    gone = REFERENCE[[0, 1, 3, 2]].copy()
    gone[2] = NAN
    assert exchanged_pairs(gone, REFERENCE, NAMES, SIDES) == 0
    row = pose_metrics(REFERENCE[[0, 1, 3, 2]], REFERENCE, SPACING, NAMES, BONES, SIDES)
    assert row["exchanged"] == 1 and row["error_wrist_a_mm"] == pytest.approx(math.hypot(10, 20))


def test_the_papers_skeleton_is_a_tree_of_16_nodes():
    assert len(LANDMARKS) == 16 and len(known_segments(SEGMENTS, LANDMARKS)) == 15
    reached, grown = {"neck"}, True
    while grown:
        more = {name for pair in SEGMENTS if set(pair) & reached for name in pair}
        grown, reached = not more <= reached, reached | more
    assert reached == set(LANDMARKS)
    generator = np.random.default_rng(0)
    points = generator.normal(size=(16, 3)) * 20
    lengths = segment_lengths(points, LANDMARKS, SEGMENTS)
    for (first, last), length in zip(SEGMENTS, lengths, strict=True):
        apart = points[LANDMARKS.index(first)] - points[LANDMARKS.index(last)]
        assert length == pytest.approx(math.sqrt((apart**2).sum()))
    row = pose_metrics(points, points, (1, 1, 1), LANDMARKS, SEGMENTS, MIRRORED)
    assert sum(key.startswith("length_reference_") for key in row) == 15 and row["mre_mm"] == 0


def test_lengths_and_errors_do_not_depend_on_the_frame():
    from scipy.spatial.transform import Rotation

    generator = np.random.default_rng(1)
    reference, found = generator.normal(size=(2, 16, 3)) * 30
    rotation, shift = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix(), np.array([5.0, -7, 80])
    one = pose_metrics(found, reference, (1, 1, 1), LANDMARKS, SEGMENTS, MIRRORED)
    rotated = (points @ rotation.T + shift for points in (found, reference))
    other = pose_metrics(*rotated, (1, 1, 1), LANDMARKS, SEGMENTS, MIRRORED)
    assert other == pytest.approx(one)


def correct_share(errors, thresholds):
    """PCK: the percentage of distances that are below each threshold; NaN is below none."""
    return 100 * (errors < thresholds[:, None]).mean(axis=1)


def test_the_area_is_the_integral_of_the_curve():
    generator = np.random.default_rng(2)
    errors = generator.gamma(1.3, 4, size=(37, 5))
    errors[3, 2] = NAN
    known = generator.random(errors.shape) > 0.1
    fine = np.linspace(0, 10, 20001)
    curve = correct_share(errors[known], fine)
    assert (np.diff(curve) >= 0).all() and curve[0] == 0
    area = 100 * np.nanmean(area_scores(errors, 10, known))
    assert area == pytest.approx(np.trapezoid(curve, fine) / 10, abs=2e-3)
    coarse = np.linspace(0, 10, 11)
    sampled = 100 * np.nanmean(trapezoid_scores(errors, 10, known=known))
    assert sampled == pytest.approx(np.trapezoid(correct_share(errors[known], coarse), coarse) / 10)


def test_the_papers_numbers_bound_the_limit():
    """Land-R4's head: 1.75 mm gives 82.5 % if no error passes 10 mm; the paper prints 81.4."""
    assert 100 * area_scores(np.array([1.75]), 10)[0] == pytest.approx(82.5)


@pytest.mark.parametrize("call, words", [
    (lambda: pose_metrics(REFERENCE[:3], REFERENCE, SPACING, NAMES), r"must be \[4, 3\]"),
    (lambda: pose_metrics(REFERENCE, REFERENCE, (1, 0, 1), NAMES), "three|3 positive"),
    (lambda: pose_metrics(REFERENCE, REFERENCE, SPACING, NAMES, limit_mm=0), "above 0"),
    (lambda: segment_lengths(REFERENCE, NAMES, BONES), "tail"),
    (lambda: area_scores(np.zeros(3), 10, np.ones(2, bool)), "same shape"),
    (lambda: trapezoid_scores(np.zeros(3), 10, 0), "1 or more"),
])
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
