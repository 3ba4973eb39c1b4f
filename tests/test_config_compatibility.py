"""Names of the previous release: command lines and config.json files with them work, or are refused in one line."""

import dataclasses
import json

import pytest

from tfsono.config import load_settings, save_settings, settings_from, training_parser
from tfsono.configs.face import FACE
from tfsono.configs.femur import FEMUR
from tfsono.configs.head import HEAD
from tfsono.configs.hip import HIP
from tfsono.configs.pose import POSE
from tfsono.errors import UserError

SYSTEMS = {choices.system: choices for choices in (HIP, FEMUR, POSE, FACE, HEAD)}
# Of the previous release: old name -> new name, and the removed fields with their defaults.
OLD_NAMES = {
    "hip": {}, "femur": {}, "head": {}, "pose": {"phantom_turn_degrees": "phantom_rotation_degrees"},
    "face": {"phantom_turn_degrees": "phantom_rotation_degrees", "most_positives": "max_positives",
             "proposal_nms": "proposal_nms_iou_threshold", "class_nms": "nms_iou_threshold", "listed": "top_k",
             "lowest_score": "score_threshold"}}
REMOVED = {
    "hip": {"c3d_time_axis": "z", "jit_compile": False},
    "femur": {"centre_distance_unit": "diagonal", "centre_distance_point": "soft_argmax",
              "generator_loss": "non_saturating", "jit_compile": False},
    "pose": {"schedule": "constant", "jit_compile": False}, "face": {"jit_compile": False},
    "head": {"end_order": "learned", "denoise": "none", "standardisation": "picture", "jit_compile": False}}
ADDED = {system: {"outside_factor": 2.0} for system in SYSTEMS}
ADDED["face"] |= {"proposal_deviations": (), "merge_iou_threshold": 0.0, "reader_noise_mm": 0.0,
                  "prior_in_prediction": "always", "frame": "volume", "finder_run": "", "frame_margin_mm": 30.0,
                  "midline_noise_mm": 3.0, "ratio": 1.0}
ADDED["hip"] |= {"c3d_axes": "hwt", "memory_gb": 0.0}
ADDED["pose"] |= {"frame": "volume", "finder_run": "", "frame_margin_mm": 5.0, "midline_noise_mm": 1.5,
                  "refine_register": "robust"}
ADDED["femur"] |= {"schedule": "constant", "centre_distance_from_peak": 0.0, "region_jitter": 0.0,
                   "roi_every": 1, "roi_slices": 1, "roi_average_batches": 0, "roi_passes": 1,
                   "roi_norm_at_test": "moving", "tips_from_mask": False}
ADDED["pose"] |= {"heatmap_loss": "l2", "refine_declines": False, "batch": 1}
ADDED["face"] |= {"start_from": ""}
ADDED["head"] |= {"fold_is": "validation", "points_from": "mean", "grid_channels": 32, "dense_norm": "batch",
                  "transformer_stem": "patches", "start_from": "", "phantom_wrong_points": 0.0}
OTHER = [("hip", "c3d_time_axis", "x"), ("hip", "jit_compile", "true"), ("femur", "centre_distance_unit", "voxel"),
         ("femur", "centre_distance_point", "argmax"), ("femur", "generator_loss", "saturating"),
         ("pose", "schedule", "cosine"), ("face", "jit_compile", "true"), ("head", "end_order", "fixed"),
         ("head", "denoise", "nlm")]


def settings_of(system, *words):
    parser = training_parser(SYSTEMS[system], "a test")
    parser.needed = {}  # there is no cache
    return settings_from(parser.parse_args(["--data", "a.h5", "--run_dir", "run", *words]), SYSTEMS[system])


def old_config(path, system, **changes):
    """A config.json as the previous release wrote it, of preset quick with seed 3; and the settings."""
    settings = settings_of(system, "--preset", "quick", "--seed", "3")
    save_settings(path, settings)
    content = json.loads(path.read_text(encoding="utf-8"))
    for old, new in OLD_NAMES[system].items():
        for part in (content["values"], content["origins"]):
            part[old] = part.pop(new)
    content["values"] |= REMOVED[system] | changes
    content["origins"] |= {name: ["ours", "why"] for name in REMOVED[system]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return settings


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_config_of_the_previous_release_is_read(tmp_path, system):
    path = tmp_path / "config.json"
    settings = old_config(path, system)
    assert load_settings(path, SYSTEMS[system]) == settings


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_config_without_the_fields_added_since_is_read(tmp_path, system):
    path, added = tmp_path / "config.json", ADDED[system]
    settings = old_config(path, system)
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in added:
        del content["values"][name], content["origins"][name]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert dict(SYSTEMS[system].added) == added
    assert load_settings(path, SYSTEMS[system]).config == dataclasses.replace(settings.config, **added)
    content["values"]["outside_factor"] = 3.0  # where it has one, its own is kept
    path.write_text(json.dumps(content), encoding="utf-8")
    assert load_settings(path, SYSTEMS[system]).config.outside_factor == 3.0
    del content["values"]["seed"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="the fields seed do not match"):
        load_settings(path, SYSTEMS[system])


def test_a_value_under_an_old_name_is_kept(tmp_path):
    path = tmp_path / "config.json"
    old_config(path, "face", class_nms=0.7, listed=5)
    config = load_settings(path, FACE).config
    assert (config.nms_iou_threshold, config.top_k) == (0.7, 5)


@pytest.mark.parametrize("system, name, value", OTHER)
def test_a_config_with_another_value_of_a_removed_field_is_refused(tmp_path, system, name, value):
    path = tmp_path / "config.json"
    old_config(path, system, **{name: True if value == "true" else value})
    with pytest.raises(UserError) as error:
        load_settings(path, SYSTEMS[system])
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in (str(path), name, value, "tfsono 0.1.0"))


@pytest.mark.parametrize("system, old", [(system, old) for system, names in OLD_NAMES.items() for old in names])
def test_an_old_option_is_accepted_with_a_note(capsys, system, old):
    new = OLD_NAMES[system][old]
    value = getattr(SYSTEMS[system].config(), new) / 2
    value = int(value) if isinstance(getattr(SYSTEMS[system].config(), new), int) else value
    settings = settings_of(system, f"--{old}", str(value))
    assert getattr(settings.config, new) == value and settings.origins[new][0] == "command line"
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert f"--{old}" in printed.err and f"--{new}" in printed.err
    with pytest.raises(UserError, match=f"--{old}.*--{new}"):
        settings_of(system, f"--{old}", str(value), f"--{new}", str(value))


@pytest.mark.parametrize("system, name, value", OTHER)
def test_a_removed_option_is_accepted_with_its_only_value(capsys, system, name, value):
    kept = str(REMOVED[system][name]).lower()
    assert settings_of(system, f"--{name}", kept).config == settings_of(system).config
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and f"--{name}" in printed and kept in printed
    with pytest.raises(UserError) as error:
        settings_of(system, f"--{name}", value)
    assert str(error.value).startswith(f"--{name}: ") and value in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("system", SYSTEMS)
def test_new_names_are_fields_and_old_ones_are_not(system):
    choices, fields = SYSTEMS[system], {field.name for field in dataclasses.fields(SYSTEMS[system].config)}
    assert set(choices.renamed.values()) <= fields
    assert not fields & {*choices.renamed, *choices.removed} and set(choices.added) <= fields


def test_new_options_print_no_note(capsys):
    assert settings_of("face", "--nms_iou_threshold", "0.5").config.nms_iou_threshold == 0.5
    assert capsys.readouterr() == ("", "")
