"""Numbers of `femur`: the paper's and the specification's, what a variant changes, and what is refused."""

import pytest

from tfsono.config import choose, load_settings, save_settings
from tfsono.configs.femur import FEMUR
from tfsono.errors import UserError


def config(variant="brndc", preset="paper", overrides=None):
    return choose(FEMUR, preset, variant, overrides).config


def test_no_variant_changes_what_a_preset_does():
    # the variant would override it, and a small network get a large size
    changed = set().union(*FEMUR.variants.values())
    assert not changed & set(FEMUR.presets["quick"])


def test_numbers_of_the_paper():
    found = config()
    assert found.phantom_cases - found.test_cases == 30
    motions = 1 + 2 * len(found.rotation_degrees) + len(found.scales)
    versions = motions * 4  # no flip, of x, of y, of both
    assert found.flips
    assert versions == 28 and 30 * versions == 840
    assert found.iterations == 16 * 840 == 13440 and found.adversarial_iterations == 5 * 840 == 4200
    assert (found.segmentation_weight, found.heatmap_weight, found.centre_distance_weight) == (1.0, 0.2, 0.5)
    assert found.dice_weight == 100 and found.roi_ratio == 0.65 and found.roi_margin == 30


def test_the_rows_of_the_tables():
    rows = {name: config(name) for name in FEMUR.variants}
    assert [row.outputs for row in rows.values()] == [
        ("mask", "heatmaps"), ("mask",), ("mask",), ("heatmaps",), *[("mask", "heatmaps")] * 3]
    assert rows["brn"].network == rows["brnd"].network == "brn"
    assert [name for name, row in rows.items() if not row.centre_distance] == ["unet_l", "brn"]
    assert [name for name, row in rows.items() if row.adversarial] == ["brndc_d"]


def test_steps_of_the_stages():
    assert (config().branch_steps, config().steps) == (13440, 13440)
    assert (config("brndc_d").branch_steps, config("brndc_d").steps) == (13440, 17640)
    refined = config("brndc_d", overrides={"start_from": "runs/brndc"})
    assert (refined.branch_steps, refined.steps) == (0, 4200)
    assert config("unet_roi").steps == config("unet_roi").roi_iterations
    assert (config().stride, config("unet_roi").stride, config("unet_roi", "quick").stride) == (8, 16, 8)


@pytest.mark.parametrize("variant, overrides, words", [
    ("brndc", {"network": "vnet"}, "brndc"), ("brndc", {"widths": "8,16"}, "four"),
    ("brndc", {"phantom_weeks": "31,23"}, "lowest"), ("brndc", {"roi_ratio": "0"}, "above 0"),
    ("brndc", {"start_from": "runs/a"}, "adversarial"),
    ("unet_s", {"adversarial": "true"}, "brndc"),
    ("unet_roi", {"roi_run": "runs/a"}, "first stage"), ("brndc", {"record_every": "1000"}, "divisor"),
    ("brndc", {"discriminator_widths": "4,4"}, "six"), ("brndc", {"heatmap_sigma": "nan"}, "above 0"),
    ("unet_roi", {"roi_slices": "2"}, "odd"), ("brndc", {"roi_passes": "0"}, "from 1 to 4"),
    ("brndc", {"scales": "0.1"}, "between 0.5 and 2"), ("brndc", {"early_stopping": "3"}, "validation_cases"),
])
def test_a_wrong_value_is_one_line_that_names_a_field(variant, overrides, words):
    with pytest.raises(UserError, match=words) as error:
        config(variant, overrides=overrides)
    assert "\n" not in str(error.value) and str(error.value).startswith("--")


def test_settings_are_read_back_from_a_file(tmp_path):
    settings = choose(FEMUR, "quick", "brndc_d", {"seed": "3", "widths": "4,8,8,16"})
    save_settings(tmp_path / "config.json", settings)
    assert load_settings(tmp_path / "config.json", FEMUR) == settings
