"""Numbers of `head`: the text's and the specification's, what a variant changes, and what is refused."""

import pytest

from tfsono.config import choose, describe, load_settings, save_settings
from tfsono.configs.head import HEAD, LANDMARK_NETWORKS, NETWORKS, SEGMENTATION_NETWORKS
from tfsono.errors import UserError


def config(variant="paper", preset="paper", overrides=None):
    return choose(HEAD, preset, variant, overrides).config


def test_no_variant_changes_what_a_preset_does():
    # the variant would override it, and a small network get a large size
    changed = set().union(*HEAD.variants.values())
    assert not changed & set(HEAD.presets["quick"])


def test_the_seven_networks_are_the_variants():
    assert tuple(HEAD.variants)[1:8] == NETWORKS == LANDMARK_NETWORKS + SEGMENTATION_NETWORKS and len(NETWORKS) == 7
    others = ("coordinate_grid", "coordinate_maps", "attention_pyramid_grid", "attention_pyramid_maps",
              "transformer_stem")
    assert tuple(HEAD.variants)[8:] == others
    assert all(config(name).network == name.rpartition("_")[0] for name in others)
    for preset in HEAD.presets:
        for network in NETWORKS:
            assert config(network, preset).network == network
        assert config("paper", preset) == config("unet", preset)


def test_numbers_of_the_text():
    for network in NETWORKS:
        found = config(network)
        images, epochs = 499, 100 if network in LANDMARK_NETWORKS else 150
        assert found.batch == (16 if network in LANDMARK_NETWORKS else 8)
        assert found.record_every == images // found.batch
        assert found.steps == epochs * found.record_every
        assert found.folds == 5 and found.input_size == (512, 512)
        assert (found.learning_rate, found.weight_decay, found.gradient_clip) == (1e-4, 1e-5, 1.0)
    # 150 epochs are whole cycles: 10 + 20 + 40 + 80
    assert sum(10 * 2 ** n for n in range(4)) == 150


def test_losses_of_the_text():
    unet, attention, deeplab = (config(name) for name in SEGMENTATION_NETWORKS)
    weights = [(c.dice_weight, c.cross_entropy_weight, c.focal_weight, c.focal_dice_weight)
               for c in (unet, attention, deeplab)]
    assert weights == [(1, 1, 0, 0), (0, 0, 0, 1), (1, 0, 1, 0)]
    assert [config(name).coordinate_loss for name in LANDMARK_NETWORKS] == ["mse", "smooth_l1", "wing", "smooth_l1"]
    assert config("transformer").relation_weight == 0.1 and config("heatmap").coordinate_weight == 0.5


def test_quick_ends_with_a_whole_cycle_of_the_rate():
    for network in NETWORKS:
        found = config(network, "quick")
        assert found.steps // found.record_every == found.restart_records * (1 + found.restart_factor)


@pytest.mark.parametrize("variant, part, output", [
    ("heatmap", "landmarks", "heatmaps"), ("transformer", "landmarks", "points"), ("unet", "segmentation", "mask")])
def test_a_part_has_its_output_and_its_numbers(variant, part, output):
    found = config(variant, overrides={"landmark_batch": "3", "segmentation_batch": "5", "input_size": "64,96"})
    assert (found.part, found.output, found.map_size) == (part, output, (16, 24))
    assert found.batch == (3 if part == "landmarks" else 5)
    assert found.early_stopping == (20 if part == "landmarks" else 25)


@pytest.mark.parametrize("overrides, words", [
    ({"network": "vgg"}, "unet, attention_unet or deeplabv3plus"), ({"input_size": "500,512"}, "multiples of 32"),
    ({"input_size": "512"}, "rows and columns"), ({"fold": "5"}, "0 to 4"), ({"folds": "0"}, "at least 1"),
    ({"outline": "inner"}, "official or as_drawn"),
    ({"landmark_policy": "guess"}, "drop, keep, repair or ellipse"), ({"dropout": "1"}, "under 1"),
    ({"flip_share": "1.5"}, "between 0 and 1"), ({"segmentation_iterations": "100"}, "segmentation_record_every"),
    ({"dice_weight": "0", "cross_entropy_weight": "0"}, "does not train alone"),
    ({"transformer_width": "100"}, "multiple of transformer_heads"), ({"transformer_patch": "10"}, "multiple"),
    ({"axis_ratio": "1,0.4"}, "smallest and the largest"), ({"area_px": "5"}, "two numbers"),
    ({"phantom_wrong_points": "37"}, "between 0 and 1"),
    ({"phantom_pixel_size_mm": "0.3,0.1"}, "smallest and the largest"), ({"ransac_points": "4"}, "at least 5"),
    ({"backbone_weights": "file.h5"}, "no ImageNet backbone"), ({"unet_widths": "8,16"}, "three to six"),
    ({"threshold": "0"}, "between 0 and 1"), ({"heatmap_sigma": "0"}, "above 0"),
    ({"unet_widths": "8,0,16"}, "above 0"),
    ({"learning_rate": "nan"}, "above 0"),
])
def test_a_wrong_value_is_one_line_that_names_a_field(overrides, words):
    with pytest.raises(UserError, match=words) as error:
        config(overrides=overrides)
    assert "\n" not in str(error.value) and str(error.value).startswith("--")


def test_settings_are_read_back_from_a_file(tmp_path):
    settings = choose(HEAD, "quick", "heatmap", {"seed": "3", "input_size": "96,128"})
    save_settings(tmp_path / "config.json", settings)
    assert load_settings(tmp_path / "config.json", HEAD) == settings


def test_the_table_shows_value_and_origin():
    text = describe(choose(HEAD, "quick", "attention_pyramid"))
    assert "--coordinate_loss wing" in text and "--input_size 192,256" in text
    assert "paper: Usage: --batch_size 8" in text
