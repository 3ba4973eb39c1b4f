"""Every number has its origin; a variant overrides a preset, and the command line overrides both."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from tfsono.config import assignment, choose, describe, differences, load_settings, parse_value, save_settings
from tfsono.configs.hip import HIP
from tfsono.errors import UserError
from tfsono.systems import NAMES, system

SYSTEMS = [system(name).CHOICES for name in NAMES]
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("choices", SYSTEMS, ids=lambda choices: choices.system)
class TestProvenance:
    def test_every_field_is_the_papers_or_ours_and_says_why(self, choices):
        for field in dataclasses.fields(choices.config):
            assert field.metadata["origin"] in ("paper", "ours"), field.name
            assert len(field.metadata["note"]) > 4, field.name

    def test_presets_and_variants_change_known_fields_and_quote_the_paper(self, choices):
        names = {field.name for field in dataclasses.fields(choices.config)}
        for table in (choices.presets, choices.variants):
            for changes in table.values():
                for name, field in changes.items():
                    assert name in names
                    assert field.metadata["origin"] == "differs"
                    assert field.metadata["note"].startswith("paper"), name

    def test_the_first_preset_and_variant_are_the_paper(self, choices):
        assert choices.presets["paper"] == {} and next(iter(choices.variants.values())) == {}

    def test_every_combination_is_valid(self, choices):
        for preset in choices.presets:
            for variant in choices.variants:
                assert choose(choices, preset, variant).variant == variant


def test_numbers_of_the_paper():
    config = choose(HIP, "paper", "paper").config
    assert (config.patch, config.batch, config.iterations, config.halve_every) == ((64, 64, 64), 2, 14000, 3000)
    assert (config.learning_rate, config.momentum, config.weight_decay) == (1e-3, 0.9, 0.005)
    assert config.head_weights == {"lower": 0.33, "middle": 0.67, "upper": 1.0}
    # 10 images in 8 versions, 5 batches from each: 400 iterations an epoch, 35 epochs
    assert 10 * 8 * config.patches_in_a_row // config.batch == config.record_every == 400
    assert config.iterations // config.record_every == 35


def test_the_command_line_overrides_the_variant_and_the_preset():
    settings = choose(HIP, "quick", "tuned", {"learning_rate": "0.5", "patch": "16,24,32", "deterministic": "false"})
    assert settings.config.optimizer == "adam"
    assert settings.config.widths == HIP.presets["quick"]["widths"].default
    assert settings.config.learning_rate == 0.5 and settings.origins["learning_rate"][0] == "command line"
    assert settings.config.patch == (16, 24, 32) and settings.config.deterministic is False
    assert settings.origins["optimizer"][0] == "differs" and settings.origins["momentum"][0] == "paper"


@pytest.mark.parametrize("overrides, words", [
    ({"iteration": "3"}, "field"), ({"iterations": "many"}, "int"),
    ({"deep_supervision": "yes"}, "false"), ({"patch": "64,64"}, "multiples of 8"),
    ({"patch": "64,64,20"}, "multiples of 8"), ({"iterations": "401"}, "record_every"),
    ({"early_stopping": "3"}, "validation_cases"), ({"optimizer": "lion"}, "adam"),
])
def test_a_wrong_value_is_one_line_that_names_the_field(overrides, words):
    with pytest.raises(UserError, match=words) as error:
        choose(HIP, "paper", "paper", overrides)
    assert "\n" not in str(error.value) and f"--{next(iter(overrides))}" in str(error.value)


def test_unknown_preset_and_variant():
    with pytest.raises(UserError, match="paper, quick"):
        choose(HIP, "huge", "paper")
    with pytest.raises(UserError, match="no_deep_supervision"):
        choose(HIP, "paper", "best")


def test_parse_of_empty_and_single_tuples():
    assert parse_value(HIP.config, "spacing_mm", "") == ()
    assert parse_value(HIP.config, "middle_widths", "7") == (7,)
    assert parse_value(HIP.config, "label_names", "head, body") == ("head", "body")


def test_saved_settings_are_read_back(tmp_path):
    settings = choose(HIP, "quick", "tuned", {"seed": "3"}).replaced("the cache's labels", label_names=("a", "b"))
    save_settings(tmp_path / "config.json", settings)
    assert load_settings(tmp_path / "config.json", HIP) == settings
    assert settings.config.classes == 3


def test_saved_settings_of_another_version_or_system_are_refused(tmp_path):
    path = tmp_path / "config.json"
    save_settings(path, choose(HIP, "paper", "paper"))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"momentum"', '"impetus"'))
    with pytest.raises(UserError, match="impetus, momentum"):
        load_settings(path, HIP)
    path.write_text(text.replace('"system": "hip"', '"system": "knee"'))
    with pytest.raises(UserError, match="hip.*knee"):
        load_settings(path, HIP)
    with pytest.raises(UserError, match="nowhere.json"):
        load_settings(tmp_path / "nowhere.json", HIP)


def test_differences_name_the_fields():
    one, other = choose(HIP, "paper", "paper").config, choose(HIP, "paper", "paper", {"batch": "4"}).config
    assert differences(one, other) == ["batch: 2, 4"]


def test_the_table_shows_value_and_origin():
    text = describe(choose(HIP, "paper", "paper"))
    assert "--iterations 14000" in text and "paper: Sec. 3.3" in text and "--label_names" in text


def test_help_prints_the_table_without_tensorflow():
    code = ("import sys, runpy; sys.argv = ['hip.py', '--help']\n"
            "try: runpy.run_path('train/hip.py', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)")
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert finished.returncode == 0, finished.stderr
    assert "--weight_decay 0.005" in finished.stdout


@pytest.mark.parametrize("choices", SYSTEMS, ids=lambda choices: choices.system)
def test_fields_that_change_no_weight_are_set_at_test(choices):
    settings = choose(choices, "quick", next(iter(choices.variants)))
    for name in choices.at_test:
        value = getattr(settings.config, name)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert assignment(choices, f"{name}={text}") == (name, value)
    changed = settings.set_at_test({name: getattr(settings.config, name) for name in choices.at_test})
    assert changed.config == settings.config and len(changed.words_at_test()) == len(choices.at_test)


@pytest.mark.parametrize(("text", "words"), [
    ("widths=4,4,4,4", "--set: expected FIELD=VALUE, with one of the fields norm_at_test, .*; found widths=4,4,4,4"),
    ("norm_at_test", "expected FIELD=VALUE"), ("=tile", "expected FIELD=VALUE"), ("", "expected FIELD=VALUE"),
    ("tile_batch=two", "--set tile_batch: expected int, found 'two'"),
    ("fill_holes=", "--set fill_holes: expected true or false"),
    ("a\nb" + 200 * "x", r"found a\\nbx{75,76}$")])
def test_other_words_are_not_set_at_test(text, words):
    with pytest.raises(UserError, match=words):
        assignment(HIP, text)
    with pytest.raises(UserError, match="^--set tiling: expected paper, half, fast or whole, found none$"):
        choose(HIP, "quick", "paper").set_at_test({"tiling": "none"})
