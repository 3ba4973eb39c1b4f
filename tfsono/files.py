"""Folders and files: made, read and written so that they are whole or not there at all. Standard library only."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path

from tfsono.errors import UserError


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a hidden name beside `path` to write under; at the end of the block the file there becomes `path`.

    The hidden name ends as `path` does, since many writers choose the format by the suffix. An exception, Ctrl-C
    too, removes what was written; what a kill leaves is overwritten next time. The file reaches the disk before
    it is renamed, so that a power cut leaves no empty one.

    Raises:
      OSError: the folder does not exist (it is not made: a mistyped one would be too), or cannot be written.
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
    """Writes `text` as it is (UTF-8, no change of line ends) by `replacing`, and returns the path."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
    return Path(path)


def read_json(path: str | os.PathLike, advice: str):
    """What a JSON file holds; `advice` says what to do where there is none.

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
    """The lines of a CSV file as lists of cells; that of an empty line is empty.

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
    """Makes a folder and those above it, where they are not there yet.

    Raises:
      UserError: there is a file in the way, or the place cannot be written.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: the folder cannot be made ({error.strerror}); choose another") from None
    return Path(path)
