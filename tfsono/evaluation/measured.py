"""The test cases of a method, measured one by one; an interrupted evaluation resumes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tfsono.errors import printable
from tfsono.files import safe_name
from tfsono.progress import Countdown, say, show
from tfsono.report.tables import read_cases, write_cases


def predictions_folder(out: Path, name: str, cache: str | os.PathLike, weights: Iterable[Path], settings) -> Path:
    """The folder of a method's predictions under `out`, which depends on weights, settings and cache.

    Args:
      out: of the evaluation.
      name: of the method's run or runs.
      cache: the file of the cases, identified by its size and date.
      weights: the files of weights.
      settings: what else changes a prediction; anything with a complete `repr`.
    """
    state = os.stat(cache)
    digest = hashlib.sha256(repr((settings, state.st_size, state.st_mtime_ns)).encode())
    for path in weights:
        digest.update(path.read_bytes())
    return out / "runs" / f"{safe_name(name)}_{digest.hexdigest()[:16]}"


def measured(folder: Path, names: Sequence[str], open_measure: Callable[[], Callable[[str], list[dict]]],
             summary: Callable[[list[dict]], str]) -> list[dict]:
    """The rows of all cases; those of an earlier call are read from the folder's cases.csv.

    Args:
      folder: of `predictions_folder`.
      names: the cases.
      open_measure: loads the method, and returns the function that measures a case; called only if a case is missing.
      summary: of a case's rows, in words, for the line that is printed.
    """
    done = read_cases(folder / "cases.csv") if (folder / "cases.csv").is_file() else []
    known = {str(row["case"]) for row in done}
    left = [name for name in names if name not in known]
    if not left:
        return done
    measure, countdown = open_measure(), Countdown(len(left))
    for name in left:
        place = f"  {countdown.count + 1}/{len(left)} {printable(name)}"
        show(place + f"  {countdown.left()} left" * bool(countdown.count))
        rows = measure(name)
        done += rows
        write_cases(folder / "cases.csv", done)
        countdown.count += 1
        say(f"{place}: {summary(rows)}  {countdown.left()} left")
    return done
