"""`workflow/`: the graph of every paper, checked in plain Python, and with Snakemake where it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfsono.config import choose
from tfsono.errors import UserError
from tfsono.report.page import write_page
from tfsono.report.tables import Table, write_cases
from tfsono.reproduction.steps import KINDS, Options, Step, as_values, steps_of
from tfsono.systems import NAMES, system

ROOT = Path(__file__).resolve().parents[1]
SNAKEMAKE = importlib.util.find_spec("snakemake")
needs_snakemake = pytest.mark.skipif(SNAKEMAKE is None, reason="Snakemake is not installed (the extra `workflow`)")
NO_FIELDS = ("data", "run_dir", "split", "preset", "variant")  # options of a training besides its config's fields
OTHER_FOLDS = tuple(f"_fold{fold}_0" for fold in range(1, 5))  # differ from the first in their number alone


def graph(name: str, **options) -> dict[str, Step]:
    steps = steps_of(system(name).PAPER, Options(**options))
    found = {step.place: step for step in steps}
    assert len(found) == len(steps), "two steps of one name"
    return found


def settings_of(step: Step):
    """The settings of a training's command; raises where an option does not exist or a rule forbids a value."""
    values = as_values(step.words[3:])
    preset, variant = values["preset"], values.get("variant", next(iter(system(step.words[2]).CHOICES.variants)))
    fields = {name: text for name, text in values.items() if name not in NO_FIELDS}
    return choose(system(step.words[2]).CHOICES, preset, variant, fields)


# --- the graph


@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_every_step_comes_after_what_it_names(name, preset):
    steps = graph(name, preset=preset, seeds=2, controls=True)
    made: set[str] = set()
    below: dict[str, set[str]] = {}
    for place, step in steps.items():
        assert step.kind in KINDS and set(step.needs) <= set(below), place
        below[place] = {place for need in step.needs for place in (need, *below[need])}
        runs = {word for word in step.words if word.startswith("runs/") and word != step.makes}
        assert runs == {word for word in runs if f"train/{word[5:]}" in below[place]}, place
        for word in step.words:
            if word in made and word not in ("tfsono", name):
                assert any(steps[need].makes == word for need in below[place]) or step.makes == word, (place, word)
        made |= {step.makes}
    assert below[f"report/{name}"] == set(steps) - {f"report/{name}"}, "every step is for the page"


@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_every_training_has_valid_settings_and_shares_the_split(name, preset):
    for options in ({"controls": True}, {"iterations": 20, "controls": True}):
        for step in graph(name, preset=preset, **options).values():
            if step.kind == "train" and not step.name.endswith(OTHER_FOLDS):
                settings = settings_of(step)
                assert ("split.json" in step.words) == (step.name != "shapes")
                if "iterations" in options:
                    assert settings.config.steps in (20, 40), step.name


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_further_runs_and_nothing_else_changes(name):
    one, three = graph(name), graph(name, seeds=3)
    assert {place: step.key for place, step in one.items() if step.kind == "train"}.items() <= {
        place: step.key for place, step in three.items()}.items()
    seeds = [int(as_values(step.words[3:])["seed"]) for step in three.values()
             if step.kind == "train" and step.name != "shapes"]
    assert {seeds.count(seed) for seed in (0, 1, 2)} == {len(seeds) // 3}
    evaluated = {word for step in three.values() if step.kind == "evaluate" for word in step.words
                 if word.startswith("runs/")}
    assert evaluated == {step.makes for step in three.values() if step.kind == "train"} - {"runs/shapes"}


def test_a_change_reaches_what_needs_it_and_nothing_else():
    before = {place: step.key for place, step in graph("femur").items()}
    after = {place: step.key for place, step in graph("femur", controls=True).items()}
    changed = {place for place in before if before[place] != after[place]}
    assert changed == {"report/femur"}
    shorter = {place: step.key for place, step in graph("femur", iterations=20).items()}
    assert {place for place in before if before[place] == shorter[place]} == {
        "phantom/femur", "audit/femur", "cache/femur"}


def test_a_number_of_phantoms_leaves_the_other_words_of_the_paper():
    assert graph("head", cases=5)["phantom/head"].words[-4:] == ("--phantom_wrong_points", "0.37", "--cases", "5")
    assert graph("head")["phantom/head"].words[-2:] == ("--phantom_wrong_points", "0.37")
    assert graph("femur", cases=5)["phantom/femur"].words[-2:] == ("--cases", "5")


def test_a_users_dataset_takes_the_place_of_the_phantoms(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.nii.gz").write_bytes(b"1")
    steps = graph("femur", data=str(tmp_path))
    assert "phantom/femur" not in steps and "1800" not in steps["train/brndc_0"].words, "short for phantoms alone"
    (tmp_path / "images" / "a.nii.gz").write_bytes(b"12")
    again = graph("femur", data=str(tmp_path))
    assert all(again[place].key != step.key for place, step in steps.items())


def test_options_are_checked():
    for options, words in (({"seeds": 0}, "SEEDS=0"), ({"data": "none"}, "DATA=none"), ({"iterations": -1}, "ITER")):
        with pytest.raises(UserError, match=words):
            Options(**options)
    with pytest.raises(UserError, match="TRAIN="):
        graph("face", train=("--iterations",))
    with pytest.raises(UserError, match="C3D=.*only for hip"):
        graph("face", c3d="file")


def test_c3d_takes_the_place_of_the_stand_in():
    steps = graph("hip", c3d="/weights.h5")
    assert "train/shapes" not in steps and "/weights.h5" in steps["train/with_transfer_0"].words
    assert "runs/shapes" in graph("hip")["train/with_transfer_0"].words


# --- the papers


PRINTED = {"femur": ("PAPER_TABLE_1", "PAPER_TABLE_2"), "pose": ("PAPER_TABLE_1", "PAPER_TABLE_2"),
           "face": ("PAPER_TABLE_1", "PAPER_TABLE_2"), "hip": ("PAPER_TABLE_2",)}


@pytest.mark.parametrize("name", PRINTED)
def test_the_orderings_are_those_of_the_printed_tables(name):
    module = importlib.import_module(f"tfsono.report.{name}_tables")
    cells = {}
    for table in PRINTED[name]:
        for row, values in getattr(module, table).items():
            first = [value[0] if isinstance(value, tuple) else value for value in values]
            cells.setdefault(row, set()).update(value for value in first if value is not None)
    for one in system(name).PAPER.orderings:
        if one.values:
            better, worse = one.values
            assert (better > worse) == one.higher and better != worse, one
            assert better in cells[one.better] and worse in cells[one.worse], one


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_the_tables_is_trained(name):
    paper = system(name).PAPER
    steps = graph(name)
    first = next(iter(paper.choices.variants))
    variants = {as_values(step.words[3:]).get("variant", first) for step in steps.values() if step.kind == "train"}
    expected = {"hip": {"paper", "tuned", "no_deep_supervision"},
                "pose": set(paper.names) - {"finder", "land_canonical"},
                "face": set(paper.names) - {"finder", "ig_rpn_canonical"},
                "head": {name for name in paper.choices.variants
                         if name != "paper" and not name.endswith(("_grid", "_maps", "_stem"))}}  # of the paper alone
    assert variants == expected.get(name, set(paper.names))


def test_head_has_five_folds_and_four_policies():
    steps = graph("head")
    folds = [settings_of(step).config.fold for step in steps.values() if step.name.startswith("unet_fold")]
    assert folds == [0, 1, 2, 3, 4]
    compared = [word[5:] for word in steps["evaluate/policies"].words if word.startswith("runs/")]
    policies = {settings_of(steps[f"train/{name}"]).config.landmark_policy for name in compared}
    assert policies == {"ellipse", "drop", "repair", "keep"}


# --- the page


def test_the_page_has_verdicts_times_and_links(tmp_path, monkeypatch):
    from test_report_orderings import rows_of

    report = script("report")
    monkeypatch.chdir(tmp_path)
    rows = [{**row, "hausdorff_mm": 9.0 + row["mre_mm"]} for row in (
        *rows_of("with transfer (stand-in, not C3D)", 1.0, 0.9), *rows_of("without transfer", 2.0, 0.8))]
    write_cases("results/tables/cases.csv", rows)
    write_cases("results/deep_supervision/cases.csv", rows[:1])
    Path("benchmarks/train").mkdir(parents=True)
    Path("benchmarks/train/without_transfer_0.tsv").write_text("s\th:m:s\tmax_rss\n90.0\t0:01:30\t1536.0\n")
    for evaluation in ("tables", "deep_supervision"):
        Path("results", evaluation, "report.html").write_text(
            '<section id="results-2">\n<h2>Results</h2>\n<p class="note shared">ASSD: of surfaces.</p>\n'
            '<table>0.67</table>\n</section>\n<section id="cases-3">elsewhere</section>')
    write_run("without_transfer_0")
    report.main(["hip", "tables", "deep_supervision"])
    page = Path("report.html").read_text(encoding="utf-8")
    assert "with transfer &gt; without transfer" in page and "0.987 &gt; 0.975" in page and "holds" in page
    assert report.NOTHING in page and "without_transfer_0" in page and "1.5" in page and "1.50" in page
    assert "./results/tables/report.html" in page and "MLMI 2017" in page
    assert page.count("<table>0.67</table>") == 2 and page.count("ASSD: of surfaces.") == 1 and "elsewhere" not in page
    assert "Data: hips; 2 cases to train, 0 for validation, 1 to test." in page and "preset quick, seeds 0;" in page
    assert report.SYNTHETIC not in page, "a dataset that was given"


def test_the_tables_of_a_written_page_are_found(tmp_path):
    """A page by what writes those of evaluations: else the reproduction's would lose its tables in silence."""
    tables = [Table("Table 2", ("Method", "mm"), (("paper", 0.67),), "ASSD: of surfaces."),
              Table("Own", ("a",), (("b",),))]
    page = write_page(tmp_path / "report.html", "title",
                      [("Verdicts", "before"), ("Results", tables), ("Cases", "after")])
    (fold,) = script("report").own_tables(page, set())
    found = fold.content.markup
    assert "0.67" in found and "Own" in found and "ASSD" in found
    assert "before" not in found and "after" not in found


def write_run(name: str) -> None:
    """What the page reads of a run, and the split."""
    texts = {"split.json": {"train": ["a", "b"], "validation": [], "test": ["c"]},
             f"runs/{name}/config.json": {"preset": "quick", "values": {"seed": 0}},
             f"runs/{name}/data.json": {"dataset": "hips"},
             f"runs/{name}/versions.json": {"tfsono": "0.1.0", "tensorflow": "2.21.0", "devices": "CPU"}}
    for path, text in texts.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(text))


# --- a step


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"workflow_{name}", ROOT / "workflow" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def step_script(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return script("step")


def test_a_step_with_another_key_begins_anew(step_script):
    run, known = Path("runs/a"), Path("keys/train/a")
    step_script.begin("one", run, known)
    run.mkdir(parents=True)
    (run / "weights").touch()
    step_script.begin("one", run, known)
    assert (run / "weights").exists(), "the same key resumes"
    Path("a.h5.partial").touch()
    step_script.begin("two", run, known)
    assert not run.exists() and known.read_text() == "two"


def test_an_export_always_begins_anew(step_script):
    for _ in range(2):
        step_script.begin("one", Path("saved_model"), Path("keys/export/a"))
        assert not Path("saved_model").exists()
        Path("saved_model").mkdir()


# --- make, and Snakemake


def test_make_passes_what_is_given():
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", "--dry-run", "reproduce", "SYSTEM=femur", "SEEDS=3", "DATA=some/where",
                           "TRAIN=--iterations 20", "GPUS=1"], cwd=ROOT, env=inherited, capture_output=True,
                          encoding="utf-8", check=True)
    for words in ("system=femur", "seeds=3", f'"data={ROOT}/some/where"', '"train=--iterations 20"', "preset=quick",
                  "--resources gpu=1"):
        assert words in done.stdout, words
    assert "cases=" not in done.stdout


def snakemake(folder: Path, *words: str) -> list[str]:
    return [sys.executable, str(ROOT / "workflow" / "run.py"), "--directory", str(folder), "--cores", "2", *words]


@needs_snakemake
@pytest.mark.parametrize("name", NAMES)
def test_snakemake_reads_the_workflow(name, tmp_path):
    done = subprocess.run(snakemake(tmp_path, "--dry-run", "--config", f"system={name}", "seeds=2", "controls=1"),
                          capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(graph(name, seeds=2, controls=True)) + 1
    assert f"total {count}" in " ".join(done.stdout.split() + done.stderr.split())


@needs_snakemake
def test_snakemake_refuses_unknown_options(tmp_path):
    done = subprocess.run(snakemake(tmp_path, "--dry-run", "--config", "system=femur", "seed=3"),
                          capture_output=True, encoding="utf-8", check=False)
    assert done.returncode and "error: --config: expected system=" in done.stderr + done.stdout


FAKE = """
import pathlib, sys, time
words = sys.argv[1:]
with open("calls", "a") as file:
    print(*words, file=file)
time.sleep(1)
if words[0] == "train":
    pathlib.Path(words[words.index("--run_dir") + 1]).mkdir(parents=True)
"""


@pytest.fixture
def fake(tmp_path):
    """A checkout whose commands write down that they were called, and take a second; returns its run.py."""
    for name in ("tfsono", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tfsono/__main__.py", "workflow/split.py", "workflow/report.py"):
        (tmp_path / "checkout" / name).write_text(FAKE if "main" in name else "")
    return [sys.executable, str(tmp_path / "checkout" / "workflow" / "run.py"), "--directory", str(tmp_path / "out"),
            "--cores", "2", "--quiet", "all", "--config", "system=face"]


def called(out: Path) -> list[str]:
    """The commands since the last look, each with its run."""
    lines = (out / "calls").read_text(encoding="utf-8").splitlines() if (out / "calls").exists() else []
    (out / "calls").unlink(missing_ok=True)
    return [line.split(" --preset")[0] for line in lines]


@needs_snakemake
def test_a_workflow_stops_at_once_resumes_and_does_again_only_what_changed(fake, tmp_path):
    out = tmp_path / "out"
    for number, kill in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGKILL)):
        with subprocess.Popen(fake, stdin=subprocess.DEVNULL) as process:
            while len(list(out.glob("done/*/*"))) <= 2 * number:
                assert process.poll() is None, "ended before it was stopped"
                time.sleep(0.05)
            process.send_signal(kill)
            assert process.wait(20) == (-kill if kill == signal.SIGKILL else 128 + kill)
        time.sleep(1)
        assert not leftover(out), "a step outlived its workflow"
    shutil.rmtree(out / "runs")  # the fake training refuses its folder
    subprocess.run(fake, check=True, timeout=120)
    assert set(called(out)) >= {f"train face --data face.h5 --run_dir runs/{name}_0" for name in (
        "ig_rpn", "rpn", "heatmap")} and len(list(out.glob("done/*/*"))) == len(graph("face"))
    subprocess.run(fake, check=True, timeout=60)
    assert called(out) == []
    subprocess.run([*fake, "seeds=2"], check=True, timeout=120)
    assert sorted(line.split()[0] for line in called(out)) == ["evaluate"] + 6 * ["train"]
    subprocess.run([*fake, "seeds=2", "iterations=20"], check=True, timeout=120)
    again = [line.split()[0] for line in called(out)]
    assert (again.count("train"), again.count("phantom"), again.count("cache")) == (12, 0, 0)


@pytest.mark.slow
@needs_snakemake
def test_a_workflow_on_a_tiny_dataset(tmp_path):
    from small_face import TINY_FACE, write_small_face_dataset

    dataset, out = write_small_face_dataset(tmp_path / "dataset"), tmp_path / "out"
    words = " ".join(TINY_FACE[2:])  # without the preset
    done = subprocess.run(snakemake(out, "--config", "system=face", f"data={dataset}", f"train={words}"),
                          capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "IG-RPN &lt; RPN" in page and "not decided" in page and "Peak GiB" in page
    assert (out / "results" / "tables" / "orderings.md").is_file(), "the evaluation says it too"
    split = json.loads((out / "split.json").read_text(encoding="utf-8"))
    assert all(json.loads(path.read_text(encoding="utf-8")) == split for path in out.glob("runs/*/split.json"))
    assert (out / "saved_model" / "manifest.json").is_file()


def leftover(folder: Path) -> list[str]:
    """Processes that work in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if Path(os.readlink(place)) == folder:
                found.append(place.parent.name)
        except OSError:
            continue
    return found
