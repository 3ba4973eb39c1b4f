"""Runs one step of the workflow: python workflow/step.py KEY FOLDER_OR_FILE_OR_- NAME -- COMMAND...

A step whose key is not that of its earlier call begins anew: what it made is removed. The same key resumes, as every
command does. This process becomes the command, and on Linux ends with the process that started it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEYS = Path("keys")
PR_SET_PDEATHSIG = 1
BEGINS_ANEW = ("export",)  # refuses its own folder


def main(argv: list[str]) -> None:
    key, makes, place, separator, *words = argv
    if separator != "--" or not words:
        raise SystemExit(__doc__)
    if makes != "-":
        begin(key, Path(makes), KEYS / place)
    end_with_parent(signal.SIGTERM)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH", "")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    program = ["-m", "tfsono"] if words[0] == "tfsono" else [str(ROOT / words[0])]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *program, *words[1:]])


def begin(key: str, makes: Path, known: Path) -> None:
    """Removes what a step of another key made, and remembers the key."""
    if known.parent.name in BEGINS_ANEW or known.is_file() and known.read_text(encoding="utf-8") != key:
        print(f"removing {makes}, which another command made")
        remove(makes)
        remove(makes.with_name(f"{makes.name}.partial"))
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text(key, encoding="utf-8")


def remove(path: Path) -> None:
    """Removes a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def end_with_parent(number: int) -> None:
    """Asks Linux for a signal when the parent dies, as a killed workflow must leave no training behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


if __name__ == "__main__":
    main(sys.argv[1:])
