"""Names that differ in left and right alone."""

import pytest

from tfsono.config import choose
from tfsono.configs.hip import HIP
from tfsono.errors import UserError
from tfsono.sides import one_sided, side_pairs


@pytest.mark.parametrize("names", [
    ("left_eye", "Right eye"), ("femur_L", "femur_R"), ("FemurR", "FemurL"), ("hip (l)", "hip (r)"),
    ("leftventricle", "rightventricle"), ("LFemur", "RFemur"), ("LEFT", "right"), ("horn.lt", "horn.rt"),
    ("left_eye_right_corner", "right_eye_left_corner"), ("fémur_left", "fémur_right"), ("12L", "12R")])
def test_sides_are_found(names):
    assert side_pairs(names) == side_pairs(names[::-1]) == ((0, 1),)


@pytest.mark.parametrize("names", [
    ("left_eye", "right_ear"), ("proximal", "distal"), ("a", "b"), ("left_eye", "left-eye"), ("left", "middle"),
    ("bright", "cleft"), ("L1", "L2"), ("hip_a", "hip_b"), ("lung", "rung"), ()])
def test_other_names_are_no_sides(names):
    assert side_pairs(names) == ()


def test_numbers_of_several_pairs():
    names = ("horn_right", "horn_left", "tectum", "cerebellum_left", "cerebellum_right")
    assert side_pairs(names) == ((0, 1), (3, 4)) and side_pairs(names, first=1) == ((1, 2), (4, 5))


def test_names_that_lack_the_other_side():
    names = ("left_eye", "right_ear", "RightKidney", "leftKidney", "bright", "cleft", "upright", "L5", "hip_r")
    assert one_sided(names) == ("left_eye", "right_ear") and one_sided(()) == ()


def test_no_mean_of_mirror_images_with_sides():
    settings = choose(HIP, "quick", "tuned", {"mirror_at_test": "true"})
    assert settings.replaced("the cache's", label_names=("femur", "pelvis")).config.mirror_at_test
    with pytest.raises(UserError, match="--mirror_at_test: expected false: labels name left and right"):
        settings.replaced("the cache's", label_names=("femur_left", "femur_right"))
