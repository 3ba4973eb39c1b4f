"""Plans: facts -> settings and warnings by the rules, the file that `train --plan` reads, and what is refused."""

import json
import math
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import tfsono.demo
import tfsono.plan
from small_caches import write_small_cache
from tfsono.config import choose, read_plan, settings_from, training_parser
from tfsono.configs.face import LANDMARKS as FACE_LANDMARKS
from tfsono.configs.hip import HIP
from tfsono.configs.pose import LANDMARKS
from tfsono.data.cache import Cache
from tfsono.demo import steps_of_plan
from tfsono.errors import Terminated, UserError
from tfsono.planning.draft import steps_of, with_shares, with_steps
from tfsono.planning.facts import Facts, facts_of
from tfsono.planning.page import Measured, Planned, text_of, write_plan
from tfsono.systems import NAMES, system


def facts(size=(35, 50, 36), spacing=(1.0, 1.0, 1.0), cases=214, subjects=0, ml=(1.8, 1.9), extent=(23.0, 39.0, 26.0),
          **more) -> Facts:
    """Of cases alike, with one label; two of the cases are read."""
    sizes, spacings = np.array([size] * 2, float), np.array([spacing] * 2, float)
    values = {"labels_ml": {"one": np.array(ml)}, "extents_mm": np.array([extent]), "sizes": sizes,
              "spacings": spacings, **more}
    return Facts(cases=cases, subjects=subjects or cases, **values)


OF_POINTS = {"landmarks": LANDMARKS, "landmarks_mm": np.array([80.0]), "landmark_boxes_mm": np.array([[60.0, 50, 40]])}
DATA = {  # facts of each system
    "hip": facts(),
    "femur": facts((104, 104, 71), (1.52,) * 3, 50, landmarks=("proximal", "distal"), extent=(60.0, 30, 50)),
    "pose": facts((96, 80, 80), cases=132, **OF_POINTS),
    "face": facts((64, 64, 64), (2.6,) * 3, 152, **OF_POINTS | {"landmarks": FACE_LANDMARKS}),
    "head": facts((800, 540, 1), cases=490),
}


def values_of(name, found=None, share=1.0):
    training = system(name).draft(found or DATA[name], share).trainings[-1]
    return {key: value for key, (value, _) in training.values.items()}


def warnings_of(name, found):
    return "\n".join(system(name).draft(found).warnings)


# --- the rules


def test_the_hippocampus_gets_the_settings_that_were_found_for_it():
    values = values_of("hip")
    assert (values["patch"], values["batch"], values["tiling"]) == ((40, 56, 40), 4, "whole")
    assert values["spacing_mm"] == () and values["test_cases"] == 43 and values["norm_at_test"] == "tile"
    assert system("hip").draft(DATA["hip"]).trainings[0].variant == "tuned_no_deep_supervision"
    assert not system("hip").draft(DATA["hip"]).warnings
    assert values_of("hip", facts((113, 113, 113)))["tiling"] == "half"  # eight patches


def test_measured_data_of_the_other_systems_gets_about_their_measured_settings():
    femur, pose, face, head = (values_of(name) for name in ("femur", "pose", "face", "head"))
    assert femur["roi_margin"] == 8 and femur["roi_ratio"] == 1.0 and femur["heatmap_sigma"] == 3.0
    assert pose["ratio"] == pytest.approx(0.5, abs=0.02) and pose["heatmap_sigma_mm"] == 5.0 and not pose["flips"]
    assert face["box_sides"] == (7.0, 12.0, 7.0, 12.0, 12.0) and face["anchor_sides"] == (6.5, 8.0, 10.0, 14.0)
    assert head["input_size"] == (192, 256) and head["segmentation_batch"] == 8
    assert head["landmark_policy"] == "ellipse"
    first, second = system("femur").draft(DATA["femur"]).trainings
    assert first.variant == "unet_roi" and second.words == ("--roi_run", "{runs}/roi", "--split",
                                                            "{runs}/roi/split.json")


@pytest.mark.parametrize("name", NAMES)
def test_less_memory_or_time_is_fewer_voxels(name):
    def voxels(share):
        values = values_of(name, share=share)
        return {"hip": lambda: values["batch"] * math.prod(values["patch"]), "femur": lambda: values["roi_ratio"],
                "pose": lambda: values["ratio"], "face": lambda: -max(values["spacing_mm"], default=0),
                "head": lambda: math.prod(values["input_size"])}[name]()

    assert voxels(0.2) < voxels(1.0)


def test_a_prior_needs_cases():
    few = facts((64, 64, 64), (2.6,) * 3, 13, **OF_POINTS)
    assert values_of("face", few)["use_prior"] is False and "use_prior" not in values_of("face")


def test_sides_make_no_mirror_images():
    found = facts((104, 104, 71), (1.5,) * 3, 50, landmarks=("left_tip", "right_tip"))
    assert values_of("femur", found)["flips"] is False and values_of("femur")["flips"] is True


def test_what_a_dataset_lacks_chooses_the_network():
    points = facts((104, 104, 71), labels_ml={}, extents_mm=np.zeros((0, 3)), **OF_POINTS)
    masks = facts((104, 104, 71))
    assert [one.variant for one in system("femur").draft(points).trainings] == ["unet_l"]
    assert [one.variant for one in system("femur").draft(masks).trainings] == ["unet_roi", "unet_s"]
    assert system("head").draft(facts((800, 540, 1), labels_ml={}, **OF_POINTS)).trainings[0].variant == "heatmap"


# --- bad data


def test_one_case():
    found = facts(cases=1)
    assert values_of("hip", found)["test_cases"] == 0 and "nothing can be held out" in warnings_of("hip", found)
    assert "only 3 subjects" in warnings_of("hip", facts(cases=3))
    assert "test_cases" not in values_of("hip", facts(has_split=True))


def test_spacings_that_differ():
    spacings = np.array([[0.5, 1, 1], [5.0, 1, 1], [0.6, 1, 1]])
    found = facts(sizes=np.array([[60, 50, 36.0]] * 3), spacings=spacings)
    assert values_of("hip", found)["spacing_mm"] == (0.6, 1.0, 1.0)
    assert "spacings differ 10-fold along an axis (0.5,1,1 to 5,1,1 mm)" in warnings_of("hip", found)
    alike = facts(spacings=np.array([[1.0, 1, 1], [1.05, 1, 1]]))
    assert values_of("hip", alike)["spacing_mm"] == () and "spacings" not in warnings_of("hip", alike)
    slices = facts(sizes=np.array([[60, 50, 10.0], [60, 50, 81], [60, 50, 12]]),
                   spacings=np.array([[1.0, 1, 8], [1, 1, 1], [1, 1, 1]]), extent=(8.0, 8, 40))
    assert values_of("hip", slices)["patch"] == (56, 56, 56)  # of 80, 81 and 12 mm the median, not 12 voxels of 1 mm
    fixed = facts(sizes=np.array([[60, 50, 36.0]] * 3), spacings=spacings, cached=True)
    assert values_of("hip", fixed)["spacing_mm"] == ()  # a cache's stays


def test_a_label_smaller_than_a_voxel():
    assert "label one: its median volume, 0.0005 mL, is smaller than a voxel" in warnings_of("hip", facts(ml=(0.0005,)))
    assert "label one: in none" in warnings_of("hip", facts(ml=()))
    assert "label one: in one of the cases that were read; one to learn" in warnings_of("hip", facts(ml=(1.8,)))


def test_a_patch_larger_than_any_volume():
    assert "the patch 24,16,16 is larger than any volume (9,9,9)" in warnings_of("hip", facts(size=(9, 9, 9)))


def test_a_patch_that_sees_little():
    found = facts(size=(512, 512, 300), extent=(400.0, 300, 250))
    assert "a patch sees 1% of the labels' extent" in warnings_of("hip", found)
    assert math.prod(values_of("hip", found)["patch"]) * values_of("hip", found)["batch"] <= 4 * 40 * 56 * 40
    slices = facts(size=(164, 166, 26), spacing=(0.8, 0.8, 5), extent=(111.0, 98, 100))  # a spleen
    warning = "\n".join(system("hip").draft(slices, 0.4).warnings)
    assert "a patch sees 11% of the labels' extent" in warning
    assert "--spacing_mm 1.68,1.68,5 (" in warning  # a patch has all of their slices


# --- the file


def planned(name, found=None) -> Planned:
    draft = system(name).draft(found or DATA[name])
    trainings = tuple(with_steps(one, 0.5, 30) for one in draft.trainings)
    return Planned(name, "dataset", found or DATA[name], type(draft)(trainings, draft.spacing_mm, draft.warnings),
                   tuple(Measured(0.5, 1.0, "float32") for _ in trainings), minutes=30, memory_gb=12)


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_is_taken_by_its_training(name, tmp_path):
    plan, path, choices = planned(name), tmp_path / "plan.json", system(name).CHOICES
    write_plan(path, plan)
    for one in plan.draft.trainings:
        read = read_plan(path, choices, one.variant)
        settings = choose(choices, read["preset"], read["variant"], {"seed": "7"}, read["values"])
        assert settings.config.seed == 7 and settings.config.steps % settings.config.record_every == 0
        for field, (value, reason) in one.values.items():
            assert getattr(settings.config, field) == value, field
            assert settings.origins[field] == ("plan", reason)
    text = text_of(plan, "plan.json")
    assert f"tfsono train {name} --data {name}.h5 --run_dir runs/" in text and "tfsono export" in text
    assert "--plan plan.json" in text and "--plan" not in text_of(plan, None)
    assert "tfsono evaluate" in text and "tfsono evaluate" not in text_of(planned(name, facts(cases=1)), None)
    assert all(len(line) < 200 for line in text.splitlines())


def arguments(tmp_path, *more):
    (tmp_path / "cache.h5").touch()
    parser = training_parser(HIP, "")
    return parser.parse_args(["--data", str(tmp_path / "cache.h5"), "--run_dir", str(tmp_path / "run"), *more])


def test_a_plan_stands_between_the_preset_and_the_options(tmp_path):
    write_plan(tmp_path / "plan.json", planned("hip"))
    more = ["--plan", str(tmp_path / "plan.json")]
    settings = settings_from(arguments(tmp_path, *more, "--batch", "1"), HIP)
    assert (settings.preset, settings.variant) == ("quick", "tuned_no_deep_supervision")
    assert settings.config.patch == (40, 56, 40) and settings.config.batch == 1
    assert settings.origins["batch"] == ("command line", "") and settings.origins["patch"][0] == "plan"
    assert settings_from(arguments(tmp_path, *more, "--preset", "paper"), HIP).config.widths == (64, 128, 256, 512)
    with pytest.raises(UserError, match="--variant paper: the plan .* has .*tuned_no"):
        settings_from(arguments(tmp_path, *more, "--variant", "paper"), HIP)
    settings = settings_from(arguments(tmp_path), HIP)
    assert (settings.preset, settings.variant) == ("paper", "paper")


@pytest.mark.parametrize(("changes", "message"), [
    ({"system": "pose"}, "must be a plan of hip; found one of \"pose\""),
    ({"trainings": []}, "with 0 trainings"),
    ({"trainings": None}, "trainings must be a list"),
    ({"values": {"patsch": {"value": 1, "reason": ""}}}, "no such field: patsch"),
    ({"values": {"batch": {"value": "4", "reason": ""}}}, "batch must be an integer"),
    ({"values": {"batch": {"value": 4, "reason": "a\nb"}}}, "the reason must be one line"),
    ({"values": {"batch": {"value": 4}}}, "must have 'reason'"),
])
def test_a_plan_that_was_changed(changes, message, tmp_path):
    path = tmp_path / "plan.json"
    write_plan(path, planned("hip"))
    content = json.loads(path.read_text(encoding="utf-8"))
    (content["trainings"][0] if "values" in changes else content).update(changes)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_plan(path, HIP)
    assert str(caught.value).isprintable()


# --- the command


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_small_cache(tmp_path_factory.mktemp("planning"), ((19, 17, 21), (17, 21, 19), (21, 19, 17)))


def test_facts_of_a_cache(cache):
    with Cache(cache, "hip") as opened:
        found = facts_of(opened)
    assert found.cases == found.subjects == 3 and found.size.tolist() == [19, 19, 19] and found.cached
    assert set(found.labels_ml) == {"head", "body"} and np.allclose(found.extent_mm, (2.0, 3.2, 22.5))
    assert found.lines()[0] == "3 cases of 3 subjects" and len(found.lines()) == 6


def test_steps_that_do_not_fit_make_smaller_patches(cache, tmp_path, monkeypatch, capsys):
    """A step of 10 s at first, in proportion to its voxels."""
    commands = []

    def measured_by(words, wanted, precision, quiet=False):
        commands.append(words)
        batch, patch = (words[words.index(f"--{name}") + 1] for name in ("batch", "patch"))
        voxels = int(batch) * math.prod(map(int, patch.split(",")))
        return Measured(10 * voxels / (4 * 24 * 24 * 24), 0.5, precision)

    monkeypatch.setattr(tfsono.plan, "measured_by", measured_by)
    monkeypatch.setattr(tfsono.plan, "probe_cpu_flags", lambda: frozenset())
    found = tfsono.plan.plan("hip", str(cache), tfsono.plan.Wanted(minutes=30), str(tmp_path / "plan.json"))
    steps = found.draft.trainings[0].values["iterations"][0]
    assert len(commands) == 3 and steps * found.measured[0].step_s < 30 * 60 and steps % 15 == 0
    assert "fewer than 600 steps" in capsys.readouterr().out and (tmp_path / "plan.json").is_file()
    assert all("--dry_run" in words and "--test_cases" in words for words in commands)


def test_a_first_stage_has_its_fewest_steps():
    """27 and 73 % of the minutes, 85 % of which are steps, unless the first would have under 240 steps."""
    trainings = system("femur").draft(DATA["femur"]).trainings

    def steps(first_s, second_s, minutes):
        seconds = first_s, second_s
        return [steps_of(one, each, minutes) for one, each in zip(with_shares(trainings, seconds, minutes), seconds,
                                                                  strict=True)]

    assert steps(0.17, 0.34, 30) == [2430, 3285]
    assert steps(0.2, 0.35, 3) == [240, 300]  # 48 and 105 s of 153
    assert steps(1.7, 0.34, 3) == [45, 225]  # half of them


def test_a_precision_that_refuses_the_next_sizes_is_left(monkeypatch):
    """bfloat16 was the faster one for other sizes; a command that refuses these ends no plan."""
    times = {"float32": 2.0, "mixed_bfloat16": 1.0}

    def measured_by(words, wanted, precision, quiet=False):
        if precision not in times:
            raise UserError("wrong gradients for a region 16 voxels wide")
        return Measured(times[precision], 0.5, precision)

    monkeypatch.setattr(tfsono.plan, "measured_by", measured_by)
    monkeypatch.setattr(tfsono.plan, "probe_cpu_flags", lambda: tfsono.plan.BFLOAT16)
    training, = system("hip").draft(DATA["hip"]).trainings

    def precision(known=None):
        return tfsono.plan.measure(training, Path("a.h5"), tfsono.plan.Wanted(), name="hip", precision=known).precision

    assert precision() == precision("mixed_bfloat16") == "mixed_bfloat16" and precision("float32") == "float32"
    del times["mixed_bfloat16"]
    assert precision() == precision("mixed_bfloat16") == "float32"


def test_what_cannot_be_planned(cache, tmp_path):
    with pytest.raises(UserError, match="must be a dataset's folder or a cache; found none"):
        tfsono.plan.plan("hip", str(tmp_path / "none"), tfsono.plan.Wanted())
    with pytest.raises(UserError, match="pose needs a cache written for it; found one of hip"):
        tfsono.plan.plan("pose", str(cache), tfsono.plan.Wanted())
    with pytest.raises(UserError, match="hip learns from masks; found none among 2 cases"):
        tfsono.plan.check_material("hip", facts(ml=()))


def test_fit_is_made_of_commands(tmp_path):
    write_plan(tmp_path / "plan.json", planned("femur", facts((104, 104, 71), landmarks=("a", "b"))))
    words = steps_of_plan("femur", "dataset", tmp_path)
    assert [each[1] for each in words] == ["cache", "train", "train", "evaluate", "export"]
    assert words[2][-4:] == ["--roi_run", f"{tmp_path}/runs/roi", "--split", f"{tmp_path}/runs/roi/split.json"]
    assert words[3][5:7] == ["--runs", f"{tmp_path}/runs/femur"]
    write_plan(tmp_path / "plan.json", planned("femur", facts(cases=1)))
    with pytest.raises(UserError, match="fit needs two subjects or more"):
        steps_of_plan("femur", "dataset", tmp_path)
    with pytest.raises(UserError, match="is a plan of 'femur', not of hip"):
        steps_of_plan("hip", "dataset", tmp_path)


def test_fit_plans_once(tmp_path, monkeypatch, capsys):
    ran = []

    def run_step(words, allowed=(), advice=""):
        ran.append(words[1])
        if words[1] == "plan":
            write_plan(words[words.index("--out") + 1], planned("hip"))

    monkeypatch.setattr(tfsono.demo, "run_step", run_step)
    tfsono.demo.fit("hip", "dataset", tmp_path)
    tfsono.demo.fit("hip", "dataset", tmp_path)
    rest = ["cache", "train", "evaluate", "export"]
    assert ran == ["audit", "plan", *rest, *rest] and "plan.json is kept" in capsys.readouterr().out


@pytest.mark.parametrize("name, case, sizes", [("hip", "hip_001.nii.gz", ""),
                                               ("head", "head_001.png", "pixel_sizes.csv")])
def test_the_demo_is_fit_on_phantoms(name, case, sizes, tmp_path, monkeypatch, capsys):
    ran, data = [], tmp_path / "dataset"
    (data / "images").mkdir(parents=True)
    (data / "images" / case).touch()
    (data / (sizes or "other")).touch()

    def run_step(words, allowed=(), advice=""):
        ran.append(words)
        if words[1] == "plan":
            assert words[2:4] == [name, str(data)] and words[words.index("--minutes") + 1] == "2"
            write_plan(words[words.index("--out") + 1], planned(name))

    monkeypatch.setattr(tfsono.demo, "run_step", run_step)
    tfsono.demo.demo(name, tmp_path, 2.0)
    tfsono.demo.demo(name, tmp_path, 2.0)
    rest = ["cache", "train", "evaluate", "export", "predict"]
    assert [words[1] for words in ran] == ["phantom", "audit", "plan", *rest, "phantom", *rest]
    assert ran[-1][2:4] == [f"{tmp_path}/saved_model", str(data / "images" / case)]
    assert ran[-1][6:] == (["--pixel_size_mm", str(data / sizes)] if sizes else [])
    assert f"prediction       {tmp_path}/predictions" in capsys.readouterr().out


WAITS = """import pathlib, signal, sys, time
def end(number, frame):
    pathlib.Path(sys.argv[1], "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
pathlib.Path(sys.argv[1], "runs").touch()
time.sleep(30)"""


def test_a_signal_to_fit_reaches_its_training(tmp_path, monkeypatch):
    def arrive(number, frame):
        raise Terminated

    def kill_when_it_runs():
        while not (tmp_path / "runs").exists():
            threading.Event().wait(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(tfsono.demo, "SIGNALLED_S", 0.05)
    before = signal.signal(signal.SIGTERM, arrive)
    try:
        threading.Thread(target=kill_when_it_runs).start()
        with pytest.raises(Terminated):
            tfsono.demo.status_of([sys.executable, "-S", "-c", WAITS, str(tmp_path)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_odd_in_any_system_is_a_plan_with_a_warning(name):
    """One case, tenfold spacings, a label below a voxel, volumes of one slice: settings that a training takes."""
    spacings = np.array([[0.5, 0.5, 0.5], [5.0, 0.5, 0.5]])
    odd = {"one case": {"cases": 1}, "tenfold": {"spacings": spacings}, "below a voxel": {"ml": (1e-9,)},
           "a slice": {"size": (300, 200, 1), "extent": (20.0, 20.0, 1.0)}}
    if name == "head":
        odd = {"one case": odd["one case"]}
    for what, more in odd.items():
        draft = system(name).draft(facts(**{"size": DATA[name].sizes[0], **OF_POINTS, **more}))
        assert draft.warnings or what == "a slice"
        for training in (with_steps(one, 0.5, 30) for one in draft.trainings):
            given = {field: {"value": value, "reason": ""} for field, (value, _) in training.values.items()}
            choose(system(name).CHOICES, training.preset, training.variant, {}, given)
