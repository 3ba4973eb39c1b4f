"""How a command ends: the one error that a user can cause and fix, and the net for all others. Standard library only.

A command ends in one line on stderr, whatever happens. For what nobody foresaw the line names a log file with the
traceback, in the system's temporary folder: only its owner can read it, and the line says that it names files.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import os
import platform
import re
import secrets
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

USERS, OURS = 2, 70
"""Exit statuses: a user's file, disk or memory is the cause; a fault of this package (EX_SOFTWARE of sysexits.h)."""

LONGEST_TEXT = 300
"""Letters of a library's message in a line; the log has all of it."""

ADVICE = {
    errno.ENOSPC: "make room: the same command resumes",
    errno.EDQUOT: "make room: the same command resumes",
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EROFS: "choose another place",
    errno.EMFILE: "raise the limit: ulimit -n",
    errno.ENFILE: "end other programs",
    errno.ENOMEM: "end other programs, or choose smaller settings",
    errno.EIO: "check the disk",
}
SAID = re.compile("|".join(re.escape(os.strerror(number)) for number in ADVICE), re.IGNORECASE)
"""The system's words, which libraries quote."""

HANDLED = (signal.SIGINT, signal.SIGTERM, *[signal.SIGUSR1] * hasattr(signal, "SIGUSR1"))  # Windows lacks the last

NO_MEMORY = "there is not enough memory; end other programs, or choose smaller settings"
_OF_A_GRAPH = re.compile(r"\{\{function_node [^}]*\}\}|\[Op:\w+\]")  # in TensorFlow's messages


class UserError(Exception):
    """One line that names the file or argument, the rule, and what was found."""


class Terminated(BaseException):
    """SIGTERM or SIGUSR1; raised where it arrives, as Ctrl-C is, so that what is half done is cleaned up."""


@dataclass
class Stop:
    """A signal that arrived while `signals_noted`.

    Attributes:
      number: of the signal; 0 before one arrives.
      at_once: whether it raises where it arrives.
    """

    number: int = 0
    at_once: bool = False


def run_command(main: Callable[[], int | None]) -> int:
    """Runs `main`, and returns the exit status; any error becomes one line on stderr.

    Returns:
      `main`'s own status; 2 for a user's mistake, and where the file, the disk or the memory is the cause; 70 for a
      fault of ours; 130 after Ctrl-C, 143 after SIGTERM, or SIGUSR1, by which Slurm announces the end of a job's time.
    """
    arrived: list[int] = []
    try:
        with _signals_raised(arrived):
            status = main() or 0
            if sys.stdout:
                sys.stdout.flush()  # it may be a file on a full disk
    except SystemExit:
        raise
    except BaseException as error:
        return _ended(error, arrived)
    return _ended(KeyboardInterrupt(), arrived) if arrived else status


def end_at_once(status: int) -> NoReturn:
    """Ends the process after its exit handlers, without the second in which Python destroys TensorFlow's objects."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, a full disk, or none
            stream.flush()
    os._exit(status)


def printable(text: object) -> str:
    """A text as one printable line, for a terminal or a figure: what would move, colour or reverse it is escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode()
                   for letter in str(text))


def is_terminal() -> bool:
    """Whether stdout is a terminal on which a line can be rewritten, and not a file or a pipe."""
    return bool(sys.stdout) and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def clear_line() -> None:
    """Removes the line that shows a command's progress from a terminal; elsewhere nothing."""
    if is_terminal():
        print(end="\r\033[K", flush=True)


def is_users(error: BaseException) -> bool:
    """Whether a file, the disk or the memory is the cause, and no fault of ours: the system or a library says so."""
    if isinstance(error, (UserError, OSError, MemoryError)):
        return True
    if isinstance(error, RuntimeError | KeyError | ValueError) and _raised_in(error, "h5py"):
        return True  # a damaged file, or a full disk
    if not _is_of_tensorflow(error):
        return False
    named = ("ResourceExhaustedError", "PermissionDeniedError", "DataLossError")
    return type(error).__name__ in named or SAID.search(str(error)) is not None


def reason_of(error: BaseException) -> str:
    """An error in one line with advice; the text of a library is shortened."""
    if isinstance(error, UserError):
        return printable(error)
    text = " ".join(_OF_A_GRAPH.sub(" ", str(error)).split())
    quoted, number = SAID.search(text), getattr(error, "errno", None)
    if isinstance(error, OSError) and number:
        named = [os.fsdecode(error.filename)] if isinstance(error.filename, str | bytes | os.PathLike) else []
        said = os.strerror(number) if number in ADVICE else " ".join(str(error.strerror).split())  # HDF5 adds lines
        text = ": ".join([*named, said])
    elif quoted:
        number = next(each for each in ADVICE if os.strerror(each).lower() == quoted[0].lower())
    elif isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        text = f"{NO_MEMORY} ({text})" if text else NO_MEMORY
    advice = f"; {ADVICE[number]}" if number in ADVICE else ""
    return printable((text[:LONGEST_TEXT] or type(error).__name__) + advice)


@functools.cache
def log_path() -> Path:
    """The log of this process, which is written only where a command ends by an error that nobody foresaw.

    Raises:
      OSError: there is no folder for temporary files.
    """
    name = f"tfsono_{time.strftime('%Y%m%d_%H%M%S')}_{os.getpid()}_{secrets.token_hex(4)}.log"  # nobody can guess it
    return Path(tempfile.gettempdir()) / name


# --- signals


@contextlib.contextmanager
def _signals_raised(arrived: list[int]) -> Iterator[None]:
    """SIGINT and SIGTERM raise, and are noted in `arrived`; after the block a further one ends the process at once.

    Python drops an exception that is raised while it destroys an object. Then the signal is sent again. Where none has
    arrived, they are ignored while Python ends: that takes seconds once TensorFlow is loaded, and all is written.
    """
    def arrive(number: int, frame) -> None:
        arrived.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def dropped(unraisable) -> None:
        if arrived and isinstance(unraisable.exc_value, KeyboardInterrupt | Terminated):
            again = threading.Timer(0.05, os.kill, (os.getpid(), arrived[-1]))  # here it would be dropped too
            again.daemon = True
            again.start()
        else:
            hook(unraisable)

    hook = sys.unraisablehook
    handled = _handled_signals()
    for number in handled:
        signal.signal(number, arrive)
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        for number, before in handled.items():
            signal.signal(number, signal.SIG_DFL if arrived else before)
        sys.unraisablehook = hook
        atexit.unregister(_ignore_signals)
        if not arrived:
            atexit.register(_ignore_signals)


@contextlib.contextmanager
def signals_noted() -> Iterator[Stop]:
    """Inside the block the first signal is noted instead of raising, and raises at its end; a second raises at once."""
    stop, handled = Stop(), {number: handler for number, handler in _handled_signals().items() if callable(handler)}

    def note(number: int, frame) -> None:
        again, stop.number = stop.number or stop.at_once, number
        if again:
            handled[number](number, frame)

    for number in handled:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
    if stop.number:
        signal.raise_signal(stop.number)


def _ignore_signals() -> None:
    for number in _handled_signals():
        signal.signal(number, signal.SIG_IGN)


def _handled_signals() -> dict[int, object]:
    """The signals to handle, with their present handlers: none that is ignored, as under nohup, or in a thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in HANDLED}
    return {number: before for number, before in found.items() if before not in (signal.SIG_IGN, None)}


# --- the last line


def _ended(error: BaseException, arrived: list[int]) -> int:
    """Prints the line of an error, or of a signal that has arrived, and returns the exit status."""
    if arrived or isinstance(error, KeyboardInterrupt | Terminated):
        interrupted = arrived[0] == signal.SIGINT if arrived else isinstance(error, KeyboardInterrupt)
        number, word = (signal.SIGINT, "interrupted") if interrupted else (signal.SIGTERM, "terminated")
        status, line = 128 + number, f"{word}; every file under its final name is complete; the same command continues"
    else:
        status, line = _described(error)
    with contextlib.suppress(OSError, ValueError):  # stderr may be closed, or a file on the full disk
        clear_line()
        if sys.stderr:
            print(printable(line), file=sys.stderr, flush=True)
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout:
            sys.stdout.flush()
        return status
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python fails to flush it again, and changes the status
    return status


def _described(error: BaseException) -> tuple[int, str]:
    """The exit status and the line of an error."""
    if isinstance(error, UserError):
        return USERS, f"error: {error}"
    if isinstance(error, BrokenPipeError):
        return USERS, "error: the program that reads the output ended first"
    within = re.search(r"\bUserError: (.+)", str(error)) if _is_of_tensorflow(error) else None
    if within:  # raised in a function that TensorFlow called for a batch
        return USERS, f"error: {within[1]}"
    log = _write_log(error)
    if is_users(error):
        return USERS, f"error: {reason_of(error)} ({log})"
    return OURS, f"error: a fault of tfsono, please report it: {type(error).__name__}: {reason_of(error)} ({log})"


def _is_of_tensorflow(error: BaseException) -> bool:
    return "OpError" in [kind.__name__ for kind in type(error).__mro__]


def _raised_in(error: BaseException, package: str) -> bool:
    """Whether an error was raised by a package itself."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and package in Path(frames[-1].filename).parts


def _write_log(error: BaseException) -> str:
    """Writes the traceback to a new file; returns where it is, in words."""
    head = f"{shlex.join(sys.argv)}\nPython {platform.python_version()}, {platform.platform()}\n\n"
    try:
        text = head + "".join(traceback.format_exception(error))
        path = log_path()
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except (OSError, MemoryError) as failure:
        return f"no log could be written: {reason_of(failure)}"
    try:
        with open(file, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except OSError as failure:
        path.unlink(missing_ok=True)
        return f"no log could be written: {failure.strerror}"
    return f"traceback, with names of files, in {path}"
