"""Commands in processes forked from one that has the libraries loaded, so that what is killed is at work at once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SERVER = """
import importlib.util, json, os, signal, sys, time
root, folder = sys.argv[1:]
for name in ("train", "evaluate"):
    spec = importlib.util.spec_from_file_location(f"{name}_hip", f"{root}/{name}/hip.py")
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
from tfsono.__main__ import run
from tfsono.errors import run_command
from tfsono.surroundings import own_settings, prepare_keras
prepare_keras(note=False)
import tensorflow, cv2, matplotlib.figure, SimpleITK, scipy.ndimage
import tfsono.audit.cache_writer, tfsono.audit.dataset, tfsono.evaluation.evaluation, tfsono.inference.hip
import tfsono.predict.hip, tfsono.report.hip_tables, tfsono.systems.commands, tfsono.training.start

def command(number, words):
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    for stream, path in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{folder}/{number}.{path}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = words
    own_settings()
    main = run if words[0] == "tfsono" else sys.modules[f"{words[0]}_hip"].main
    status = run_command(lambda: main(words[1:]))
    with open(f"{folder}/{number}.ended", "w") as file:
        file.write(str(time.monotonic()))
    sys.exit(status)

print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    process = os.fork()
    if not process:
        sys.stdin.close()
        command(number, json.loads(line))
    print(process, flush=True)
    _, status = os.waitpid(process, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
      status: of the process; negative: the signal that killed it.
      stdout, stderr: its output.
      worked: whether its work had ended; Python itself then needs seconds to end, with TensorFlow loaded.
      seconds: until its work had ended, or it was gone.
    """

    status: int
    stdout: str
    stderr: str
    worked: bool
    seconds: float


class Commands:
    """Runs one command after the other."""

    def __init__(self, folder: Path, wrapper: Sequence[str] = ()):
        """Loads the libraries, which takes some ten seconds.

        Args:
          folder: for the output of the commands.
          wrapper: a command that starts the process, such as `unshare`.
        """
        self.folder, self.count = folder, 0
        environment = {key: value for key, value in os.environ.items()
                       if key not in ("TFSONO_VERBOSE", "TF_CPP_MIN_LOG_LEVEL")}
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", SERVER, str(ROOT), str(folder)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", cwd=folder, env=environment | {
                "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "TF_CPP_MIN_LOG_LEVEL": "1"})
        assert self.process.stdout.readline() == "ready\n"

    def __call__(self, words: Sequence[object], after: float | None = None, signal: int = 9,
                 written: Path | None = None) -> Ended:
        """Runs `tfsono ...`, `train ...` or `evaluate ...` (hip).

        It gets a signal after some seconds, if given, or as soon as a file is `written`, within a minute.
        """
        self.process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        self.process.stdin.flush()
        began, number = time.monotonic(), int(self.process.stdout.readline())
        if after is not None or written is not None:
            time.sleep(after or 0.0)
            while written is not None and not written.is_file() and time.monotonic() - began < 60:
                time.sleep(0.01)
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal)
        status = int(self.process.stdout.readline())
        ended = self.folder / f"{self.count}.ended"
        seconds = (float(ended.read_text()) if ended.is_file() else time.monotonic()) - began
        streams = [(self.folder / f"{self.count}.{name}").read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        self.count += 1
        return Ended(status, *streams, ended.is_file(), seconds)

    def close(self) -> None:
        self.process.communicate()


@contextlib.contextmanager
def forked_commands(folder: Path, wrapper: Sequence[str] = ()) -> Iterator[Commands]:
    """`Commands`, ended with the block."""
    commands = Commands(folder, wrapper)
    try:
        yield commands
    finally:
        commands.close()
