"""Broken inputs, and what a reader must do with each: refuse it in one printable line, soon and without noise.

A module of the corpus lists its inputs and calls `check_refused` for each:

    @pytest.mark.parametrize("broken", BROKEN, ids=str)
    def test_refused(broken, tmp_path, capfd):
        check_refused(broken, tmp_path, capfd)
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tfsono.errors import UserError

SECONDS = 10
LONGEST_LINE = 700


@dataclass(frozen=True)
class Broken:
    """One broken input.

    Attributes:
      reader: the format, or what reads it.
      kind: of fault: truncated, declared size, checksum, dimensions, special file, nested, number, ...
      name: what is wrong with it, in a few words.
      write: writes the input into an empty folder and returns its path.
      read: reads it.
      match: a word that the line must have (a regular expression).
    """

    reader: str
    kind: str
    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], object]
    match: str = ""

    def __str__(self) -> str:
        return f"{self.reader}: {self.kind}: {self.name}".replace("/", "|")


@contextlib.contextmanager
def time_limit(seconds: int = SECONDS) -> Iterator[None]:
    """Fails where the block takes longer."""
    def end(*_):
        pytest.fail(f"took more than {seconds} s", pytrace=False)

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check_refused(broken: Broken, folder: Path, capfd) -> None:
    """The input is refused in one line that names it; nothing else is written, neither lines nor files."""
    path = broken.write(folder)
    before = sorted(folder.rglob("*"))
    with time_limit(), pytest.raises(UserError, match=broken.match or ".") as caught:
        broken.read(path)
    line = str(caught.value)
    assert line.isprintable() and len(line) < LONGEST_LINE, line
    assert str(folder) in line, "the line must name the file"
    assert capfd.readouterr() == ("", "")
    assert sorted(folder.rglob("*")) == before
