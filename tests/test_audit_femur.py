"""Tips against the mask: each problem on its own, with its numbers, and a sound case without any."""

import itertools

import numpy as np
import pytest

from tfsono.audit.femur import distance_to_mask_mm, judge_tips

SPACING = (0.5, 1.0, 2.0)
SHAPE = (41, 19, 13)


@pytest.fixture
def mask():
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:35, 8:11, 6:8] = 1  # 180 voxels
    return mask


TIPS = np.array([[5.0, 9.0, 6.5], [34.0, 9.0, 6.5]])


def codes(*arguments, **named):
    return [code for code, _ in judge_tips(*arguments, **named)]


def only_text(*arguments, **named):
    (_, text), = judge_tips(*arguments, **named)
    return text


def test_a_sound_case_has_no_problem(mask):
    assert judge_tips(mask, TIPS, SPACING) == []
    assert judge_tips(mask, np.array([TIPS[0], [np.nan] * 3]), SPACING) == []  # one missing is the audit's
    assert judge_tips(None, None, SPACING) == []  # neither is the audit's too
    assert judge_tips(np.zeros(SHAPE), np.full((2, 3), np.nan), SPACING) == []


def test_coincident_tips_in_voxels(mask):
    close = np.array([[20.0, 9, 6], [20.0, 10, 7.5]])  # 1.80 voxels, 3.16 mm
    assert codes(mask, close, SPACING) == ["coincident_tips"]
    text = only_text(mask, close, SPACING)
    assert "proximal and distal are 1.8 voxels apart (3.2 mm)" in text
    assert judge_tips(mask, np.array([[20.0, 9, 6], [22.0, 9, 6]]), SPACING) == []  # 2 voxels, 1 mm
    three = np.array([[20.0, 9, 6], [30.0, 9, 6], [30.0, 9, 6]])
    assert "distal and landmark 3 are 0.0 voxels" in only_text(mask, three, SPACING)


def test_a_tip_far_from_its_mask_in_millimetres(mask):
    # beyond the end voxel 34 along x: (45.5 - 34.5) * 0.5 mm = 5.5 mm; along z: 6 voxels from 7.5 are 2 mm each
    wide = np.zeros((60, 19, 13), np.uint8)
    wide[:41] = mask
    assert codes(wide, np.array([TIPS[0], [45.5, 9, 6.5]]), SPACING) == ["tip_far_from_mask"]
    text = only_text(wide, np.array([TIPS[0], [45.5, 9, 6.5]]), SPACING)
    assert "distal" in text and "5.5 mm" in text and "at most 5 mm" in text
    assert judge_tips(wide, np.array([TIPS[0], [44.4, 9, 6.5]]), SPACING) == []  # 4.95 mm
    assert codes(wide, np.array([[20, 9, 10.2], TIPS[1]]), SPACING) == ["tip_far_from_mask"]  # 2.7 * 2 mm


def test_distance_by_brute_force(mask):
    random = np.random.default_rng(0)
    voxels = np.argwhere(mask)
    corners = np.array(list(itertools.product(np.linspace(-0.5, 0.5, 21), repeat=3)))
    for point in random.uniform(0, SHAPE, (8, 3)):
        few = voxels[::7]
        sampled = np.sqrt((((few[:, None] + corners - point) * SPACING) ** 2).sum(-1)).min()
        exact = distance_to_mask_mm(point, few, np.array(SPACING))
        assert exact <= sampled + 1e-9 and exact == pytest.approx(sampled, abs=0.06)
    assert distance_to_mask_mm(np.array([20.3, 9, 6]), voxels, np.array(SPACING)) == 0


def test_two_bones(mask):
    mask[20:38, 15, 6] = 1  # 18 voxels, a tenth
    assert codes(mask, TIPS, SPACING) == ["two_bones"]
    text = only_text(mask, TIPS, SPACING)
    assert "0.18 mL and 0.018 mL (10 %)" in text
    mask[37, 15, 6] = 0  # 17 voxels: a fragment
    assert judge_tips(mask, TIPS, SPACING) == []
    mask[35, 11, 8] = 2  # touches at a corner, of another label: the same part
    mask[36:41, 12, 9] = 2
    assert judge_tips(mask, TIPS, SPACING) == []


def test_one_without_the_other(mask):
    nothing = np.full((2, 3), np.nan)
    for points in (None, nothing):
        assert codes(mask, points, SPACING) == ["mask_without_landmarks"]
    assert "180 voxels" in only_text(mask, None, SPACING)
    assert codes(None, TIPS, SPACING) == codes(np.zeros(SHAPE), TIPS, SPACING) == ["landmarks_without_mask"]
    assert "2 landmarks (proximal, distal)" in only_text(None, TIPS, SPACING)
    one = np.array([nothing[0], TIPS[1]])
    assert "1 landmark (distal)" in only_text(None, one, SPACING)
    assert "the mask is empty" in only_text(mask * 0, one, SPACING)


def test_problems_come_together(mask):
    mask[20:40, 15, 6] = 1
    points = np.array([[20.0, 0, -3], [20.0, 0, -3.5]])
    assert codes(mask, points, SPACING, names=("a", "b")) == [
        "coincident_tips", "tip_far_from_mask", "tip_far_from_mask", "two_bones"]


def test_of_bodies_that_are_no_bone_only_missing_parts_are_reported(mask):
    mask[20:40, 15, 6] = 1
    points = np.array([[20.0, 0, -3], [20.0, 0, -3.5], [20.0, 0, -3.5]])
    assert judge_tips(mask, points, SPACING, names=("a", "b", "c"), one_bone=False) == []
    assert codes(mask, points * np.nan, SPACING, one_bone=False) == ["mask_without_landmarks"]
    assert codes(None, points, SPACING, one_bone=False) == ["landmarks_without_mask"]
