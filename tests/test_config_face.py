"""Numbers of `face`: the paper's, what a variant changes, what follows from them, and what is refused."""

import pytest

from tfsono.config import choose
from tfsono.configs.face import FACE, LANDMARKS, MIRRORED
from tfsono.errors import UserError


def config(variant="ig_rpn", preset="paper", overrides=None):
    return choose(FACE, preset, variant, overrides).config


def test_no_variant_changes_what_a_preset_does():
    changed = set().union(*FACE.variants.values())
    assert not changed & set(FACE.presets["quick"])


def test_numbers_of_the_paper():
    found = config()
    assert (found.phantom_cases - found.test_cases, found.test_cases) == (120, 32)
    assert found.iterations == 100 * 120 and found.record_every == 120
    assert (found.anchors, found.stride, found.strides) == (64, 8, (4,))
    assert found.candidates ** len(LANDMARKS) == 32 and found.iou_balance_power == 1.75
    assert dict(zip(LANDMARKS, found.sides)) == {"left_eye": 14, "right_eye": 14, "mid_eyebrow": 24, "nose_tip": 24,
                                                 "chin": 24}
    assert MIRRORED == (("left_eye", "right_eye"),)


def test_quick_has_the_same_millimetres():
    paper, quick = config(), config(preset="quick")
    for name in ("sides", "anchor_sides", "strides", "phantom_size"):
        before, now = (tuple(value * one.phantom_spacing_mm[0] for value in getattr(one, name))
                       for one in (paper, quick))
        assert now == pytest.approx(before), name
    assert quick.heatmap_sigma_mm / 2.6 == pytest.approx(paper.heatmap_sigma_mm / 1.3) == pytest.approx(3)


def test_the_trainings_of_the_tables():
    rows = {name: config(name) for name in FACE.variants if name not in ("finder", "ig_rpn_canonical")}
    assert {name: (row.method, row.iou_balance, row.strides) for name, row in rows.items()} == {
        "ig_rpn": ("rpn", True, (4,)), "rpn": ("rpn", False, (4,)), "ig_ssd": ("ssd", True, (4, 8)),
        "ssd": ("ssd", False, (4, 8)), "faster_rcnn": ("faster_rcnn", False, (4,)), "heatmap": ("heatmap", True, (4,))}
    assert [name for name, row in rows.items() if not row.boxes] == ["heatmap"]


def test_one_side_is_for_all_landmarks():
    found = config(overrides={"landmark_names": "a,b,c", "box_sides": "9"})
    assert found.sides == (9.0, 9.0, 9.0)


@pytest.mark.parametrize("overrides, words", [
    ({"method": "yolo"}, "heatmap"), ({"widths": "8,16"}, "three"),
    ({"landmark_names": "a,b,c"}, "3 landmarks"), ({"anchor_negative": "0.6"}, "anchor_positive"),
    ({"ratio": "0.5"}, "of heatmaps"), ({"finder_run": "runs/a"}, "--frame face"),
    ({"frame": "face", "use_prior": "false"}, "without the prior"), ({"proposal_deviations": "1"}, "two"),
    ({"merge_iou_threshold": "1"}, "under 1"), ({"prior_in_prediction": "maybe"}, "validated"),
    ({"anchor_sides": "13,-1"}, "positive"), ({"offset_deviations": "1"}, "two"),
    ({"candidates": "9"}, "top_k"), ({"candidates": "5"}, "at most 4"),
    ({"nms_iou_threshold": "0"}, "above 0"),
    ({"score_threshold": "1"}, "under 1"), ({"hard_negatives": "1.5"}, "from 0 to 1"),
    ({"record_every": "7"}, "divisor"),
    ({"early_stopping": "3"}, "validation_cases"), ({"proposal_pool": "5"}, "proposal_pool"),
    ({"phantom_weeks": "30,20"}, "lowest"), ({"learning_rate": "nan"}, "above 0"),
])
def test_what_is_refused(overrides, words):
    with pytest.raises(UserError, match=words) as error:
        config(overrides=overrides)
    assert "\n" not in str(error.value) and str(error.value).startswith("--")
