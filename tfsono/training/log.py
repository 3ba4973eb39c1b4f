"""`log.txt`: what a training prints, with the time of each start; a resumed one appends to it."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tfsono.errors import UserError, reason_of
from tfsono.files import check_regular

LOG = "log.txt"


@contextlib.contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Appends what is printed in the block, and the error that ends it, to the log of a run.

    Raises:
      UserError: the log is a link or a special file, or cannot be written.
    """
    file = _opened(folder / LOG)
    log = _Log(file)
    try:
        log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(sys.argv)}\n")
        with contextlib.redirect_stdout(_Tee(sys.stdout, log)), contextlib.redirect_stderr(_Tee(sys.stderr, log)):
            yield
    except BaseException as error:
        log.write(f"ended: {reason_of(error)}\n")
        raise
    finally:
        os.close(file)


class _Log:
    """Writes whole lines to an open file."""

    def __init__(self, file: int):
        self.file, self.line = file, ""

    def write(self, text: str) -> None:
        self.line += text
        if text.endswith("\n"):
            with contextlib.suppress(OSError):  # a full disk ends the training when it records, and not here
                os.write(self.file, self.line.encode("utf-8", "backslashreplace"))
            self.line = ""


class _Tee:
    """A stream whose text also goes to a log; what a terminal rewrites (it has "\\r") does not."""

    def __init__(self, stream: TextIO, log: _Log):
        self.stream, self.log = stream, log

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        if "\r" not in text:
            self.log.write(text)
        return self.stream.write(text)


def _opened(path: Path) -> int:
    """The file, to append to."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if os.path.lexists(path):
            check_regular(path)
        return os.open(path, flags, 0o666)
    except OSError as error:
        raise UserError(f"{path}: must be a file that can be written; found: {error.strerror}; remove it") from None
