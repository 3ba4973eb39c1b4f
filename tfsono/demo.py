"""All steps on phantoms: each is the command that a user would type, printed before it runs."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tfsono.errors import UserError
from tfsono.locks import locked
from tfsono.systems import system


def steps(name: str, out: Path) -> list[list[str]]:
    """The commands of a system, each as a list of arguments; `tfsono` stands for this interpreter's."""
    words, data, cache, runs = system(name).DEMO, f"{out}/dataset", f"{out}/{name}.h5", f"{out}/runs"

    def filled(more: Iterable[str]) -> list[str]:
        return [word.format(data=data, runs=runs) for word in more]

    trainings = [["tfsono", "train", name, "--data", cache, "--run_dir", f"{runs}/{run}", "--preset", "quick",
                  *filled(more)] for run, more in {**words.before, name: words.train}.items()]
    return [
        ["tfsono", "phantom", name, data, "--preset", "quick", *filled(words.phantom)],
        ["tfsono", "audit", data],
        ["tfsono", "cache", name, data, cache, "--preset", "quick", "--verify"],
        *trainings,
        ["tfsono", "evaluate", name, "--data", cache, "--runs", f"{runs}/{name}", "--out", f"{out}/results",
         *filled(words.evaluate)],
        ["tfsono", "export", f"{runs}/{name}", f"{out}/saved_model"],
        ["tfsono", "predict", f"{out}/saved_model", *filled(words.predict), "--out", f"{out}/predictions"],
    ]


def demo(name: str, out: Path) -> None:
    """Runs the steps, then prints what was written and how long it took.

    Raises:
      UserError: a step failed.
    """
    began = time.monotonic()
    with locked(out):
        for words in steps(name, out):
            print(f"\n$ {shlex.join(words)}", flush=True)
            _run(words)
    seconds = time.monotonic() - began
    print(f"\nFinished in {seconds:.0f} s, on phantoms (synthetic data).\n"
          f"  table and figures   {out}/results/report.html, tables, figures/\n"
          f"  audit               {out}/dataset/audit/audit.png\n"
          f"  run                 {out}/runs/{name} (history.csv, weights, tensorboard)\n"
          f"  SavedModel          {out}/saved_model (manifest.json)\n"
          f"  predictions         {out}/predictions")


def _run(words: list[str]) -> None:
    status = subprocess.run([sys.executable, "-m", *words], check=False).returncode
    if status:
        raise UserError(f"{shlex.join(words)}: exit status {status}; see its message above")
