"""`workflow/examples/` with a fake `tfsono` and a fake scheduler: every case, fold and seed once, on its own device."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tfsono.config import choose, evaluation_parser, training_parser
from tfsono.parts import part_of
from tfsono.systems import system

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "workflow" / "examples"
# Writes a line for each call: the arguments, and the device; task 3 fails if FAIL is set.
FAKE = """#!{python}
import json, os, sys
with open("{log}", "a") as file:
    file.write(json.dumps([sys.argv[1:], os.environ.get("CUDA_VISIBLE_DEVICES")]) + "\\n")
sys.exit("FAIL" in os.environ and "3/" in sys.argv[-1])
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


@pytest.fixture
def called(tmp_path, monkeypatch):
    """Runs an example with variables, and returns its calls of `tfsono` and its status."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tfsono").write_text(FAKE.format(python=sys.executable, log=tmp_path / "log"))
    (tmp_path / "bin" / "tfsono").chmod(0o755)

    def call(words: list[str], **variables) -> tuple[list, int]:
        (tmp_path / "log").unlink(missing_ok=True)
        environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
                       **{name: str(value) for name, value in variables.items()}}
        done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
        lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines() if (tmp_path / "log").exists() else []
        return [json.loads(line) for line in lines], done.returncode

    return call


def array_of(path: Path) -> range:
    """The tasks of a batch script, as Slurm starts them."""
    first, last = re.search(r"^#SBATCH --array=(\d+)-(\d+)$", path.read_text(encoding="utf-8"), re.MULTILINE).groups()
    return range(int(first), int(last) + 1)


def submitted(called, name: str, **variables) -> list[list[str]]:
    """The arguments of `tfsono` in every task of an array."""
    found = []
    for task in array_of(EXAMPLES / name):
        calls, status = called(["bash", str(EXAMPLES / name)], SLURM_ARRAY_TASK_ID=task, **variables)
        assert status == 0
        found += [words for words, _ in calls]
    return found


def parts(calls: list[list[str]]) -> list[tuple[int, int]]:
    return sorted(part_of(words[words.index("--part") + 1]) for words in calls)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.s*")), ids=lambda path: path.name)
def test_a_script_is_one(path):
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")


def test_an_array_predicts_every_part_once(called):
    calls = submitted(called, "predict_array.sbatch", MODEL="a model", SCANS="scans", OUT="out")
    assert parts(calls) == [(number, 8) for number in range(1, 9)]
    assert {tuple(words[:5]) for words in calls} == {("predict", "a model", "scans", "--out", "out")}


def test_an_array_measures_every_part_once(called):
    calls = submitted(called, "evaluate_array.sbatch", SYSTEM="pose", DATA="d.h5", RUNS="runs/a runs/b", OUT="out")
    assert parts(calls) == [(number, 4) for number in range(1, 5)]
    parser = evaluation_parser(system("pose").CHOICES, "", "")
    parser.needed = {}
    assert [parser.parse_args(words[2:]).runs for words in calls] == [["runs/a", "runs/b"]] * 4


def settings(words: list[str]):
    """The config of a training's command, which must exist."""
    choices = system(words[1]).CHOICES
    parser = training_parser(choices, "")
    parser.needed = {}
    arguments = parser.parse_args(words[2:])
    given = {name: value for name in choices.config.__dataclass_fields__
             if (value := getattr(arguments, name)) is not None}
    return choose(choices, "paper", arguments.variant or next(iter(choices.variants)), given).config, arguments


def test_an_array_trains_every_fold_of_every_seed_once(called):
    calls = submitted(called, "folds_array.sbatch", DATA="head.h5", RUNS="runs")
    found = [settings(words) for words in calls]
    assert sorted((config.seed, config.fold) for config, _ in found) == [(s, f) for s in range(3) for f in range(5)]
    assert len({arguments.run_dir for _, arguments in found}) == 15
    assert {arguments.split for _, arguments in found} == {"split.json"}


def test_seeds_have_a_gpu_each(called):
    calls, status = called(["bash", str(EXAMPLES / "seeds.sh")], DATA="face.h5", RUNS="runs", GPUS=2)
    assert status == 0
    assert sorted((settings(words)[0].seed, device) for words, device in calls) == [(0, "0"), (1, "1"), (2, "0")]


def test_one_machine_predicts_all_parts_and_merges(called):
    example = ["bash", str(EXAMPLES / "predict.sh")]
    given = {"MODEL": "model", "SCANS": "my scans", "OUT": "out", "PARTS": 3}
    calls, status = called(example, **given)
    assert status == 0 and parts([words for words, _ in calls[:-1]]) == [(1, 3), (2, 3), (3, 3)]
    assert calls[-1][0] == ["merge", "out"] and "my scans" in calls[0][0]
    calls, status = called(example, FAIL=1, **given)
    assert status and calls[-1][0] == ["merge", "out"], "the other parts run, and the status says it"


def test_a_job_predicts_every_part_once(called):
    text = (EXAMPLES / "predict_job.yaml").read_text(encoding="utf-8")
    command = json.loads(re.search(r"command: (\[.*\])", text).group(1))
    count = int(re.search(r"completions: (\d+)", text).group(1))
    (part,) = command[command.index("--part") + 1:]
    found = [part_of(part, {"JOB_COMPLETION_INDEX": str(index)}) for index in range(count)]
    assert found == [(number, count) for number in range(1, count + 1)]
    assert called(command)[1] == 0


def test_the_job_is_valid():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (the extra `workflow` brings it)")
    job = yaml.safe_load((EXAMPLES / "predict_job.yaml").read_text(encoding="utf-8"))
    assert (job["kind"], job["apiVersion"], job["spec"]["completionMode"]) == ("Job", "batch/v1", "Indexed")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert pod["restartPolicy"] == "Never", "as backoffLimitPerIndex asks for"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_every_example_is_in_the_docs():
    text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert not [path.name for path in EXAMPLES.iterdir() if path.name not in text]
