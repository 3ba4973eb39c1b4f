"""The whole way on phantoms: each step is the command that a user would type, printed before it runs."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

from tfsono.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def steps(system: str, out: Path) -> list[list[str]]:
    """The commands, each as words; `tfsono` and `python` stand for this interpreter."""
    data, cache, run = f"{out}/dataset", f"{out}/{system}.h5", f"{out}/runs/{system}"
    return [
        ["tfsono", "phantom", system, data, "--preset", "quick", *fewer(system)],
        ["tfsono", "audit", data],
        ["tfsono", "cache", system, data, cache, "--preset", "quick", "--verify"],
        *trainings(system, cache, out),
        ["python", f"evaluate/{system}.py", "--data", cache, "--runs", run, "--out", f"{out}/results",
         *(["--refine"] if system == "pose" else [])],
        ["tfsono", "export", run, f"{out}/saved_model"],
        ["tfsono", "predict", f"{out}/saved_model", *inputs(system, data), "--out", f"{out}/predictions"],
    ]


def trainings(system: str, cache: str, out: Path) -> list[list[str]]:
    """The trainings of the run that is evaluated, which is the last one."""
    def one(run: str, *more: str) -> list[str]:
        return ["python", f"train/{system}.py", "--data", cache, "--run_dir", f"{out}/runs/{run}", "--preset", "quick",
                *more]

    if system == "femur":
        return [one("roi", "--variant", "unet_roi", *shortened(system)),
                one(system, "--roi_run", f"{out}/runs/roi", "--split", f"{out}/runs/roi/split.json",
                    *shortened(system))]
    return [one(system, *shortened(system))]


def fewer(system: str) -> list[str]:
    """Where the phantoms of `quick` alone would take minutes."""
    return ["--cases", "60"] if system in ("pose", "face") else []


def shortened(system: str) -> list[str]:
    """Where `quick`, which is meant for a few hundred real pictures, is too large for 60 phantoms in minutes."""
    if system == "head":
        return ["--test_cases", "12", "--input_size", "96,128", "--segmentation_iterations", "480"]
    if system == "femur":
        return ["--test_cases", "8", "--roi_iterations", "900", "--iterations", "1200"]
    if system == "pose":
        return ["--test_cases", "10", "--iterations", "600"]
    if system == "face":
        return ["--test_cases", "10"]
    return []


def inputs(system: str, data: str) -> list[str]:
    """What is predicted, and what has to be known of it."""
    if system == "head":
        return [f"{data}/images/head_001.png", "--pixel_size_mm", f"{data}/pixel_sizes.csv"]
    name = "fetus" if system == "pose" else system  # as its phantoms are called
    return [f"{data}/images/{name}_001.nii.gz"]


def demo(system: str, out: Path) -> None:
    """Runs the steps, then says what was written and how long it took.

    Raises:
      UserError: the scripts are not beside the package (an installed wheel), or a step failed.
    """
    if not (ROOT / "train" / f"{system}.py").is_file():
        raise UserError(f"{ROOT}: the demo needs train/ and evaluate/ of a checkout; clone the repository")
    began = time.monotonic()
    for words in steps(system, out):
        print(f"\n$ {shlex.join(words)}", flush=True)
        _run(words)
    seconds = time.monotonic() - began
    print(f"\nThe whole way took {seconds:.0f} s, on phantoms (synthetic data).\n"
          f"  table and figures   {out}/results/report.html, tables, figures/\n"
          f"  audit               {out}/dataset/audit/audit.png\n"
          f"  run                 {out}/runs/{system} (history.csv, weights, tensorboard)\n"
          f"  SavedModel          {out}/saved_model (manifest.json)\n"
          f"  answers, preview    {out}/predictions")


def _run(words: list[str]) -> None:
    if words[0] == "tfsono":
        command = [sys.executable, "-m", "tfsono", *words[1:]]
    else:
        command = [sys.executable, str(ROOT / words[1]), *words[2:]]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise UserError(f"{shlex.join(words)}: exit status {status}; its message stands above")
