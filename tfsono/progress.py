"""What a command shows while it runs: lines, one that is rewritten on a terminal, the time left, and JSON.

    say         a line that stays
    show        a line that the next one replaces; only on a terminal
    Countdown   counts the steps of a job, and estimates the time left
    json_lines  for `--json`: objects on stdout, and all words on stderr
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from numbers import Number

from tfsono.errors import clear_line, is_terminal


def say(text: str) -> None:
    """Prints a line; on a terminal in place of the one that `show` left."""
    clear_line()
    print(text, flush=True)


def show(text: str) -> None:
    """On a terminal, shows a line until the next one replaces it. Elsewhere nothing."""
    if is_terminal():
        clear_line()
        width = shutil.get_terminal_size().columns - 1  # a longer one would take two lines, and one would stay
        print(end=f"{text[:width]}\r", flush=True)


class Countdown:
    """Counts the steps of a job and estimates the remaining time from the pace so far.

    Attributes:
      total: number of steps.
      count: number of finished steps.
    """

    def __init__(self, total: int, word: str = "done", progress: Callable[[str], None] = print,
                 interval_s: float = 5.0) -> None:
        """`word` is what `step` prints of finished cases ("written"), every `interval_s` and at the end.

        With the default `progress`, a terminal shows every case in one line.
        """
        self.total, self.word, self.interval_s = total, word, interval_s
        self.rewritten = progress is print and is_terminal()
        self.progress = say if progress is print else progress
        self.count = 0
        self.began = self.printed = time.monotonic()

    def left(self) -> str:
        """The time until the last step is finished, as 1:02:03 or 2:03."""
        return clock((time.monotonic() - self.began) / max(self.count, 1) * (self.total - self.count))

    def step(self, name: str) -> None:
        """Counts one more case, `name`."""
        self.count += 1
        now = time.monotonic()
        text = f"{self.word} {self.count} of {self.total} ({name}), {self.left()} left"
        if self.count == self.total:
            self.progress(f"{self.word} {self.count} of {self.total} cases in {clock(now - self.began)}")
        elif self.rewritten:
            show(text)
        elif now - self.printed >= self.interval_s:
            self.progress(text)
            self.printed = now


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


# --- JSON


@contextlib.contextmanager
def json_lines(wanted: bool) -> Iterator[Callable[[Mapping], None]]:
    """Yields a function that writes one object as a line of JSON to stdout; what is printed goes to stderr.

    Unless `wanted`, the function does nothing, and printing is as always.
    """
    if not wanted:
        yield lambda item: None
        return
    stdout = sys.stdout

    def write(item: Mapping) -> None:
        stdout.write(json.dumps(_plain(item), allow_nan=False) + "\n")  # ASCII: no terminal obeys it
        stdout.flush()

    with contextlib.redirect_stdout(sys.stderr):
        yield write


def _plain(value: object) -> object:
    """A value as JSON has it: NaN and infinite numbers are null, NumPy's numbers Python's, paths text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # of NumPy
        return _plain(value.tolist())
    if isinstance(value, Number) and not isinstance(value, int):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
