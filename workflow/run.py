"""Runs Snakemake with this workflow: python workflow/run.py --directory OUT --cores 2 --config system=femur seeds=3 ...

Ctrl-C, SIGTERM and a lost terminal stop it and all its steps at once, and the same command resumes; Snakemake alone
would wait for the steps that run. It locks nothing, as each command locks what it writes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from step import end_with_parent

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: list[str]) -> int:
    if find_spec("snakemake") is None:
        print("error: snakemake: must be installed; found none; with Python 3.11 or later: pip install -e '.[workflow]'",
              file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(HERE / "Snakefile"), "--nolock",
               "--rerun-incomplete", *argv]
    end = partial(end_with_parent, signal.SIGKILL)  # however this process ends
    with subprocess.Popen(command, start_new_session=True, preexec_fn=end) as process:
        stopped: list[int] = []

        def stop(number: int, frame) -> None:
            stopped.append(number)
            os.killpg(process.pid, signal.SIGINT)  # Snakemake and its steps, as a terminal's Ctrl-C

        for number in STOPPING:
            signal.signal(number, stop)
        status = process.wait()
    return 128 + stopped[0] if stopped else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
