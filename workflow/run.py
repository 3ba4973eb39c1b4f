"""Runs Snakemake with this workflow: python workflow/run.py --directory OUT --cores 2 --config system=femur seeds=3 ...

Ctrl-C, SIGTERM and a lost terminal stop it and all its steps at once, and the same command resumes; Snakemake alone
would wait for the steps that run. It locks nothing, as each command locks what it writes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from step import end_with_parent

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: list[str]) -> int:
    if find_spec("snakemake") is None:
        print("error: Snakemake must be installed, found none; with Python 3.11 or later: pip install -e '.[workflow]'",
              file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(HERE / "Snakefile"), "--nolock",
               "--rerun-incomplete", *argv]
    with subprocess.Popen(command, start_new_session=True, preexec_fn=prepare) as process:
        stopped: list[int] = []

        def stop(number: int, frame) -> None:
            stopped.append(number)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)  # Snakemake and its steps, as a terminal's Ctrl-C

        for number in STOPPING:
            signal.signal(number, stop)
        status = process.wait()
    return 128 + stopped[0] if stopped else status


def prepare() -> None:
    """Of the process that becomes Snakemake: it ends with this one, and heeds SIGINT, also as a background job."""
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
