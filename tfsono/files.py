"""Reading and writing of files and folders; a file is written whole or not at all. Standard library only."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tfsono.errors import UserError


LONGEST_NAME = 100
"""Bytes of a name that suffixes are added to; file systems allow 255."""

RESERVED = '/\\:*?"<>|'
"""What some file system forbids in a name, besides control characters."""


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a hidden path next to `path` to write to; at the end of the block that file becomes `path`.

    The hidden name has the suffix of `path`, since many writers choose the format by it. An exception, also Ctrl-C,
    removes what was written; what a kill leaves is overwritten next time. The file is flushed to the disk before
    it is renamed, so that a power cut leaves no empty one.

    Raises:
      OSError: the folder does not exist (it is not created, as it may be a typing error), or cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".partial_{path.name}")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Writes `text` unchanged (UTF-8, no change of line ends) with `replacing`, and returns the path."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
    return Path(path)


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


def read_json(path: str | os.PathLike, advice: str):
    """The content of a JSON file; an error message ends with `advice`.

    Raises:
      UserError: the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    except ValueError as error:
        raise UserError(f"{path}: must be JSON ({error}); {advice}") from None


def read_rows(path: str | os.PathLike) -> list[list[str]]:
    """The lines of a CSV file as lists of cells; an empty line gives an empty list.

    Raises:
      UserError: the file cannot be read, or is not CSV in UTF-8, with or without a byte order mark.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        found = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: must be a readable CSV file in UTF-8; found: {found}; save it again") from None


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
