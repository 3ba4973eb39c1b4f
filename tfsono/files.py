"""Reading and writing of files and folders; a file is written whole or not at all. Standard library only."""

from __future__ import annotations

import contextlib
import csv
import errno
import functools
import hashlib
import io
import json
import os
import re
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tfsono.errors import UserError

_SYSTEM_FOLDERS = ("@eadir", "#recycle", "@recycle", "__macosx", "lost+found", "$recycle.bin",
                   "system volume information", "__pycache__")
_SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*")


LONGEST_NAME = 100
"""Bytes of a name that suffixes are added to; file systems allow 255."""

RESERVED = '/\\:*?"<>|'
"""What some file system forbids in a name, besides control characters."""


def check_regular(path: str | os.PathLike) -> None:
    """Checks that a path is a regular file, or a link to one: a FIFO would wait for ever, a device never ends.

    Raises:
      UserError: it is a folder or a special file.
      OSError: it cannot be reached.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
        found = next((name for holds, name in kinds if holds(mode)), "a device")
        raise UserError(f"{path}: must be a file; found {found}")


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a regular file to read bytes; see `check_regular` for the errors."""
    check_regular(path)
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))


def read_regular(path: str | os.PathLike) -> bytes:
    """The content of a regular file; see `check_regular` for the errors."""
    with open_regular(path) as file:
        return file.read()


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a new, empty, hidden file next to `path` to write to; at the end of the block it becomes `path`.

    Its name has the suffix of `path`, since many writers choose the format by it, and this process's number, so that
    two processes never write one file. An exception, also Ctrl-C, removes it; what a kill leaves is removed when a
    later process writes to the folder. The file is flushed to the disk before it is renamed, so that a power cut
    leaves no empty one.

    Raises:
      OSError: the folder does not exist (it is not created, as it may be a typing error), or cannot be written, or the
        block wrote nothing, as some writers do on a full disk.
    """
    path = Path(path)
    _remove_leftovers(path.parent.absolute(), os.getpid())
    partial = path.with_name(f".partial_{os.getpid()}_{_host()}_{path.name}")
    try:
        _create(partial)
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        if not partial.stat().st_size:
            raise FileNotFoundError(errno.ENOENT, "nothing was written", str(path))
        os.replace(partial, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno and not error.filename:
            error.filename = str(path)  # a full disk is found by writing, which knows no name
        partial.unlink(missing_ok=True)
        raise


def _create(path: Path) -> None:
    """Creates an empty file; what has its name, such as a link that would be followed, is removed."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def write_bytes(path: str | os.PathLike, content: bytes) -> Path:
    """Writes `content` with `replacing`, and returns the path."""
    with replacing(path) as partial:
        partial.write_bytes(content)
    return Path(path)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Writes `text` unchanged (UTF-8, no change of line ends) with `replacing`, and returns the path."""
    return write_bytes(path, text.encode("utf-8"))


_PARTIAL = re.compile(r"\.partial_(?:(?P<process>\d+)_(?P<host>[0-9a-f]{4})_)?."
                      r"|\..+\.(?P<number>\d+)\.partial(?:\.|$)")
"""The names of `replacing`, of the release before (without a process) and of the writer of volumes."""


@functools.cache  # once for each folder, or writing many files into one would take quadratic time
def _remove_leftovers(folder: Path, process: int) -> None:
    """Removes the partial files of processes of this machine that have ended."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            found = _PARTIAL.match(entry.name)
            if not found or found["host"] not in (None, _host()):
                continue
            number = found["process"] or found["number"]
            if number is None or int(number) == process or not _is_running(int(number)):  # its own: a number used again
                Path(entry).unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # where the signal 0 ends a process
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True


@functools.cache
def _host() -> str:
    """Tells machines apart that share a folder."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:4]


def safe_name(text: str) -> str:
    """The name of a case, label or run as a part of a file's name on any system; a safe one is unchanged.

    A changed one ends in a short hash of `text`, so that two names stay two.
    """
    safe = "".join("_" if letter in RESERVED or not letter.isprintable() else letter for letter in text).strip(" .")
    if safe == text != "" and len(safe.encode()) <= LONGEST_NAME:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{safe.encode()[:LONGEST_NAME - len(digest) - 1].decode(errors='ignore')}_{digest}"


def check_name(path: str | os.PathLike) -> None:
    """Raises `UserError` for a path that libraries in C++ cannot open, as its name is not UTF-8."""
    text = os.fspath(path)
    if text.isascii():
        return
    shown, encoding = os.fsencode(text).decode("utf-8", "backslashreplace"), sys.getfilesystemencoding()
    if encoding != "utf-8":
        raise UserError(f"{shown}: a name with other than ASCII letters needs UTF-8; found the encoding {encoding}; "
                        "set PYTHONUTF8=1, or rename it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{shown}: the name must be UTF-8; found other bytes (\\x..); rename it") from None


def check_names(path: str | os.PathLike) -> None:
    """`check_name` of a file, or of a folder and the files directly in it."""
    check_name(path)
    if os.path.isdir(path):
        for name in sorted(os.listdir(path)):
            check_name(os.path.join(path, name))


def is_system_entry(path: str | os.PathLike) -> bool:
    """Whether a file or folder is one that a system leaves behind: hidden, @eaDir, __MACOSX, Thumbs.db and the like."""
    name = Path(path).name.lower()
    return name.startswith(".") or name in _SYSTEM_FOLDERS or name in _SYSTEM_FILES


def read_json(path: str | os.PathLike, advice: str = "save it again"):
    """What a JSON file holds, in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
      path: the file.
      advice: what to do where it cannot be read.

    Raises:
      UserError: the file cannot be read, is not JSON, or has a name twice in one object (the last would silently win).
    """
    try:
        return json.loads(Path(path).read_bytes(), object_pairs_hook=_different)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: must be JSON ({error}); {advice}") from None


def _different(pairs: list[tuple]) -> dict:
    found: dict = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"each name must occur once in its object; found {name!r} twice")
        found[name] = value
    return found


def read_rows(path: str | os.PathLike) -> list[list[str]]:
    """The lines of a CSV file as lists of cells; an empty line gives an empty list.

    Spreadsheets write semicolons or tabs where the comma is the decimal separator: a file whose first line has more of
    these than commas is read so, and its decimal commas become points.

    Raises:
      UserError: the file cannot be read, or is not CSV in UTF-8 (or in UTF-16 with a byte order mark).
    """
    try:
        content = Path(path).read_bytes()
        encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = content.decode(encoding)
        separator = _separator(text)
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: must be a readable CSV file in UTF-8; found: {found}; save it again") from None
    return rows if separator == "," else [[_with_point(cell) for cell in row] for row in rows]


def column_key(name: str) -> str:
    """The letters and digits of a column's name, in lower case: "pixel size(mm)" is pixel_size_mm."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _separator(text: str) -> str:
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=first.count)  # the comma where none is


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell


def make_folder(path: str | os.PathLike) -> Path:
    """Creates a folder and its parents, unless they exist.

    Raises:
      UserError: a file is in the way, the place is not writable, or the name is not UTF-8.
    """
    check_name(path)
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: the folder cannot be made ({error.strerror}); choose another") from None
    return Path(path)
