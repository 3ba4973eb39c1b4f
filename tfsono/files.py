"""Reading and writing of files and folders; a file is written whole or not at all. Standard library only."""

from __future__ import annotations

import contextlib
import csv
import errno
import functools
import hashlib
import io
import json
import math
import os
import re
import socket
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tfsono.errors import UserError

_SYSTEM_FOLDERS = ("@eadir", "#recycle", "@recycle", "__macosx", "lost+found", "$recycle.bin",
                   "system volume information", "__pycache__")
_SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini")
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")  # the last four are the first four, in full width
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*")

LONGEST_NAME = 100
"""Bytes of a name that suffixes are added to; file systems allow 255."""

LARGEST_TEXT = 64 << 20
"""Bytes of a JSON or CSV file; an audit of ten thousand cases has half of it."""

DEEPEST, MOST_DIGITS = 64, 18
"""Levels of a JSON file; digits of its whole numbers, which then fit into 64 bits."""

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


def check_label(name: str, where: str, longest: int = LONGEST_NAME) -> str:
    """The name of a landmark, subject or dataset, which is printed, drawn and stored.

    Raises:
      UserError: it is empty, longer than a file's name may be, or has control characters; begins with `where`.
    """
    if not name or not name.isprintable() or len(name.encode()) > longest:
        raise UserError(f"{where} must be a name of 1 to {longest} bytes without control characters; found "
                        f"{name[:40]!r} ({len(name)} letters)")
    return name


def _limited(path: str | os.PathLike) -> bytes:
    """The content of a file of settings, names or rows, which is small."""
    with open_regular(path) as file:
        large = os.fstat(file.fileno()).st_size > LARGEST_TEXT
        content = b"" if large else file.read(LARGEST_TEXT + 1)  # of /proc, say, the size is not known before
    if large or len(content) > LARGEST_TEXT:
        raise ValueError(f"it must have at most {LARGEST_TEXT >> 20} MiB")
    return content


def read_text(path: str | os.PathLike, what: str = "text") -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark; `what` it is, for the message.

    Raises:
      UserError: the file cannot be read, is too large, or is no such text.
    """
    try:
        content = _limited(path)
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        if "\0" in text:
            raise ValueError("zero bytes")
        return text
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: must be a readable {what} file in UTF-8; found: {found}; save it again") from None


def read_json(path: str | os.PathLike, advice: str = "save it again", nan: bool = False):
    """What a JSON file holds, in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
      path: the file.
      advice: what to do where it cannot be read.
      nan: whether NaN and Infinity, which are no JSON, may stand for missing numbers.

    Raises:
      UserError: the file cannot be read, is not JSON, or has a name twice in one object (the last would silently win),
        a number that no computer's number can hold, or more than 64 levels.
    """
    try:
        content = _limited(path)
        found = json.loads(content.decode(json.detect_encoding(content)).removeprefix("\ufeff"), parse_int=_whole,
                           object_pairs_hook=_different, parse_float=float if nan else _finite,
                           parse_constant=float if nan else _finite)
        _check_depth(found)
        return found
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    except RecursionError:
        raise UserError(f"{path}: must be JSON (of at most {DEEPEST} levels); {advice}") from None
    except ValueError as error:
        raise UserError(f"{path}: must be JSON ({error}); {advice}") from None


def _different(pairs: list[tuple]) -> dict:
    found: dict = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"each name must occur once in its object; found {name[:40]!r} twice")
        found[name] = value
    return found


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"whole numbers have at most {MOST_DIGITS} digits; found {len(digits)}")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"numbers must be finite; found {text[:40]}")
    return number


def _check_depth(content) -> None:
    """Level by level, as a function that calls itself may itself be too deep."""
    level = [content]
    for _ in range(DEEPEST + 1):
        containers = [value for value in level if isinstance(value, (dict, list))]
        if not containers:
            return
        level = [inner for outer in containers for inner in (outer.values() if isinstance(outer, dict) else outer)]
    raise RecursionError


def read_rows(path: str | os.PathLike) -> list[list[str]]:
    """The lines of a CSV file as lists of cells; an empty line gives an empty list.

    Spreadsheets write semicolons or tabs where the comma is the decimal separator: a file whose first line has more of
    these than commas is read so, and its decimal commas become points. The apostrophe of `csv_text` is removed.

    Raises:
      UserError: the file cannot be read, is not CSV in UTF-8 (or in UTF-16 with a byte order mark), or a line has more
        cells than the first one.
    """
    text = read_text(path, "CSV")
    separator = _separator(text)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator))
    except csv.Error as error:
        raise UserError(f"{path}: must be a readable CSV file in UTF-8; found: {error}; save it again") from None
    columns = len(next(filter(None, rows), []))
    for number, row in enumerate(rows, start=1):
        if any(map(str.strip, row[columns:])):
            raise UserError(f"{path}: row {number} must have at most {columns} cells, as the first one; found "
                            f"{len(row)}; is a comma in a cell without quotes?")
    convert = _plain_cell if separator == "," else lambda cell: _with_point(_plain_cell(cell))
    return [[convert(cell) for cell in row] for row in rows]


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV that is safe to open: a spreadsheet would run a text that begins with = + - or @.

    Such a text, but no number, gets an apostrophe in front, which spreadsheets hide and `read_rows` removes; one that
    has it already gets another, so that every text is read back as it was.
    """
    return "".join(_csv_line(row) for row in rows)


def _csv_line(row: Iterable[object]) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerow([_safe_cell(cell) for cell in row])  # with "\n" at the ends a "\r" gets no quotes
    return stream.getvalue().removesuffix("\r\n") + "\n"


def _safe_cell(cell: object) -> object:
    if not isinstance(cell, str) or not _FORMULA.match(cell):
        return cell
    try:
        float(cell)
        return cell
    except ValueError:
        return f"'{cell}"


def _plain_cell(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def column_key(name: str) -> str:
    """The letters and digits of a column's name, in lower case: "pixel size(mm)" is pixel_size_mm."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def check_once(path: str | os.PathLike, header: Sequence[str], names: Iterable[str]) -> None:
    """Raises `UserError` where one of the names is that of two columns: one of them would silently win."""
    for name in names:
        if header.count(name) > 1:
            raise UserError(f"{path}: each column must occur once; found {name} twice; remove one")


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
