"""Numbers of `pose`: the paper's and the specification's, what a variant changes, and what is refused."""

import pytest

from tfsono.config import choose, load_settings, save_settings
from tfsono.configs.pose import LANDMARKS, MIRRORED, POSE, ROBUST, SEGMENTS
from tfsono.errors import UserError


def config(variant="land_gcp", preset="paper", overrides=None):
    return choose(POSE, preset, variant, overrides).config


def test_no_variant_changes_what_a_preset_does():
    # the variant would win, and a small network get a large size
    changed = set().union(*POSE.variants.values())
    assert not changed & set(POSE.presets["quick"])


def test_the_joints_are_a_tree_whose_sides_mirror():
    assert len(set(LANDMARKS)) == 16 and len(SEGMENTS) == 15
    reached = {"neck"}
    for _ in SEGMENTS:
        reached |= {name for pair in SEGMENTS if set(pair) & reached for name in pair}
    assert reached == set(LANDMARKS)
    sides = {name for pair in MIRRORED for name in pair}
    assert len(sides) == 12 and set(LANDMARKS) - sides == {"head", "neck", "spine", "sacrum"}
    other = {**dict(MIRRORED), **{b: a for a, b in MIRRORED}}
    mirrored = {frozenset(other.get(name, name) for name in pair) for pair in SEGMENTS}
    assert mirrored == {frozenset(pair) for pair in SEGMENTS}


def test_the_robust_joints_are_the_papers_numbers():
    assert sorted(LANDMARKS.index(name) + 1 for name in ROBUST) == [1, 2, 3, 4, 5, 7, 8, 9, 11, 14]


def test_numbers_of_the_paper():
    found = config()
    assert found.phantom_cases - found.test_cases == 100
    assert found.iterations == 20 * 800 and found.second_iterations == 5 * 800
    assert (found.refine_atlases, found.refine_iterations, found.refine_learning_rate) == (10, 6, 5e-4)
    assert (found.learning_rate, found.adam_beta_1, found.stride) == (1e-3, 0.5, 16)


def test_the_rows_of_the_tables():
    rows = {name: config(name) for name in POSE.variants if name not in ("finder", "land_canonical")}
    assert {name: (row.method, row.ratio, row.recompute) for name, row in rows.items()} == {
        f"{method}_{kind}": (method, ratio, kind == "gcp")
        for method in ("land", "rnn", "gan") for kind, ratio in (("gcp", 0.5), ("r4", 0.4))}
    assert [row.steps for row in rows.values()] == [16000] * 4 + [20000] * 2
    assert config("gan_gcp", overrides={"start_from": "runs/land"}).steps == 4000


@pytest.mark.parametrize("variant, overrides, words", [
    ("land_gcp", {"method": "vnet"}, "gan"), ("land_gcp", {"widths": "8,16"}, "five"),
    ("land_gcp", {"phantom_weeks": "14,10"}, "lowest"), ("land_gcp", {"ratio": "0"}, "above 0"),
    ("land_gcp", {"start_from": "runs/a"}, "rnn and gan"), ("rnn_gcp", {"rnn_hidden": "0"}, "above 0"),
    ("gan_gcp", {"discriminator_widths": "4,4"}, "four"), ("land_gcp", {"record_every": "999"}, "divisor"),
    ("land_gcp", {"refine_norm": "none"}, "batch"), ("land_gcp", {"heatmap_sigma_mm": "nan"}, "above 0"),
    ("land_gcp", {"early_stopping": "3"}, "validation_cases"), ("land_gcp", {"frame": "head"}, "volume or body"),
    ("land_gcp", {"finder_run": "runs/a"}, "--frame body"), ("land_gcp", {"refine_register": "all"}, "midline"),
])
def test_a_wrong_value_is_one_line_that_names_a_field(variant, overrides, words):
    with pytest.raises(UserError, match=words) as error:
        config(variant, overrides=overrides)
    assert "\n" not in str(error.value) and str(error.value).startswith("--")


def test_settings_are_read_back_from_a_file(tmp_path):
    settings = choose(POSE, "quick", "gan_r4", {"seed": "3", "widths": "4,8,8"})
    save_settings(tmp_path / "config.json", settings)
    assert load_settings(tmp_path / "config.json", POSE) == settings
