"""All steps in one go, on phantoms (`demo`) or on a dataset (`fit`): each is the command that a user would type,
printed before it runs. The same command resumes: what is there is not done again.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

from tfsono.errors import UserError
from tfsono.files import read_json
from tfsono.locks import locked
from tfsono.progress import clock
from tfsono.structure import check_structure

PHANTOMS = "40"  # of a demo; a fifth of them is tested
SIGNALLED_S = 5.0
"""In which a command ends that has got the signal itself."""


def demo(name: str, out: Path, minutes: float) -> None:
    """Phantoms, what `fit` does with them, and a prediction by the model that it exports.

    Raises:
      UserError: a step failed.
    """
    began, data, sizes = time.monotonic(), out / "dataset", out / "dataset" / "pixel_sizes.csv"
    run_step(["tfsono", "phantom", name, str(data), "--preset", "quick", "--cases", PHANTOMS])
    fit(name, str(data), out, minutes)
    image = min((data / "images").glob("*_001.*"))
    run_step(["tfsono", "predict", f"{out}/saved_model", str(image), "--out", f"{out}/predictions",
              *(["--pixel_size_mm", str(sizes)] if sizes.is_file() else [])])
    print(f"\nThe demo took {clock(time.monotonic() - began)}, on phantoms (synthetic data).\n"
          f"  prediction       {out}/predictions")


def fit(name: str, dataset: str, out: Path, minutes: float = 30.0, memory_gb: float = 12.0,
        exclude_bad: bool = False) -> None:
    """Audit, plan, cache, trainings, evaluation and export of a dataset, then what was written.

    Args:
      name: of the system.
      dataset: its folder.
      out: for all that is written.
      minutes, memory_gb: of the plan; an existing plan.json in `out` stays.
      exclude_bad: trains without the cases that have errors, instead of refusing.

    Raises:
      UserError: a step failed, or the dataset has one subject, of which nothing can be held out to test.
    """
    began, plan = time.monotonic(), out / "plan.json"
    with locked(out):
        if plan.is_file():
            print(f"{plan} is kept; to plan again, with other --minutes or other data, choose another --out")
        else:
            run_step(["tfsono", "audit", dataset, "--out", f"{out}/audit"], allowed=(2,) if exclude_bad else (),
                     advice="; --exclude_bad leaves cases with errors out")
            run_step(["tfsono", "plan", name, dataset, "--out", str(plan), "--minutes", f"{minutes:g}", "--memory_gb",
                      f"{memory_gb:g}"])
        for words in steps_of_plan(name, dataset, out, exclude_bad):
            run_step(words)
    print(f"\nFinished in {clock(time.monotonic() - began)}.\n"
          f"  table, page      {out}/results/report.html, tables, figures/\n"
          f"  audit, plan      {out}/audit/audit.png, {plan}\n"
          f"  runs             {out}/runs\n"
          f"  SavedModel       {out}/saved_model; tfsono predict {out}/saved_model FILE --out predictions")


def steps_of_plan(name: str, dataset: str, out: Path, exclude_bad: bool = False) -> list[list[str]]:
    """The commands after the plan in `out`.

    Raises:
      UserError: no plan of this system, or one of a single subject.
    """
    plan, cache, runs = out / "plan.json", f"{out}/{name}.h5", f"{out}/runs"
    content = read_json(plan, "delete it: `tfsono fit` plans again")
    check_structure(content, FitPlan, plan)
    if content["system"] != name:
        raise UserError(f"{plan}: is a plan of {content['system'][:20]!a}, not of {name}; choose another --out")
    if content["subjects"] < 2:
        raise UserError(f"{dataset}: fit needs two subjects or more, one of them to test; found one; `tfsono plan` and "
                        "`tfsono train` take it")
    spacing = ["--spacing_mm", ",".join(map(str, content["spacing_mm"]))] if content["spacing_mm"] else []
    trainings = [["tfsono", "train", name, "--data", cache, "--run_dir", f"{runs}/{one['run']}", "--plan", str(plan),
                  "--variant", one["variant"], *(word.format(runs=runs) for word in one["words"])]
                 for one in content["trainings"]]
    last = f"{runs}/{content['trainings'][-1]['run']}"
    return [
        ["tfsono", "cache", name, dataset, cache, "--audit", f"{out}/audit/audit.json", *spacing,
         *["--exclude_bad"] * exclude_bad],
        *trainings,
        ["tfsono", "evaluate", name, "--data", cache, "--runs", last, "--out", f"{out}/results"],
        ["tfsono", "export", last, f"{out}/saved_model"],
    ]


class FitTraining(TypedDict):
    """What `fit` reads of a training in plan.json."""

    run: str
    variant: str
    words: list[str]


class FitPlan(TypedDict):
    """What `fit` reads of plan.json."""

    system: str
    subjects: int
    spacing_mm: list[float]
    trainings: list[FitTraining]


def run_step(words: list[str], allowed: tuple[int, ...] = (), advice: str = "") -> None:
    """Prints and runs a command; an export that is there is left as it is.

    Raises:
      UserError: it failed with an exit status that is not `allowed`.
    """
    print(f"\n$ {shlex.join(words)}", flush=True)
    if words[1] == "export" and Path(words[-1], "manifest.json").is_file():  # written last
        print(f"{words[-1]}: is there already; nothing to do")
        return
    status = status_of([sys.executable, "-m", *words])
    if status and status not in allowed:
        raise UserError(f"{shlex.join(words)}: exit status {status}; see its message above{advice}")


def status_of(command: list[str]) -> int:
    """The exit status of a command, which a signal to this process ends too, after what a training saves.

    A terminal, `timeout` and Slurm signal the command as well, and a second signal would end it at once: so it gets one
    from here only where it runs on.
    """
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except BaseException:
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SIGNALLED_S)
        finally:
            process.terminate()  # nothing where it has ended
            process.wait()
        raise
