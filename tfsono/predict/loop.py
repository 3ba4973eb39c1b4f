"""Every input in turn: skipped where it is answered already, reported in one line where it fails."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import tensorflow as tf

from tfsono.errors import UserError
from tfsono.export import sha256
from tfsono.files import make_folder, read_json, write_text
from tfsono.predict.inputs import find_inputs, unique_names
from tfsono.predict.tables import Tables
from tfsono.progress import Countdown

# A file of many may be unreadable or too large, and a disk full; anything else is a mistake of ours.
FAILURES = (UserError, OSError, MemoryError, tf.errors.ResourceExhaustedError)
RECORD = "predictions.json"  # of which file and which model each case is: what a rerun need not do again


@dataclass(frozen=True)
class Outputs:
    """What a system takes and leaves, known before its model is loaded.

    Attributes:
      what: an input in a word: volume, picture.
      is_input: whether a file in a folder is one, by its name.
      name_of: a file's name without its suffix.
      tables: file name -> columns; `measurements.csv` first, with the columns `case` and `file`.
      files: a case's name -> the names of the files that it may get; the first one always.
    """

    what: str
    is_input: Callable[[Path], bool]
    name_of: Callable[[Path], str]
    tables: dict[str, tuple[str, ...]]
    files: Callable[[str], tuple[str, ...]]


class Predictor(Protocol):
    """A loaded model of a system with all that stands around it."""

    key: str
    """Changes with whatever changes an answer: the weights and the options."""

    def predict(self, path: Path, name: str, out_dir: Path) -> tuple[dict[str, list[dict]], str]:
        """Predicts one input: writes its files, and returns its rows by table and a line to print."""


def predict_all(predictions: Outputs, open_predictor: Callable[[], Predictor], inputs: Sequence[str | os.PathLike],
                out_dir: str | os.PathLike, overwrite: bool = False) -> int:
    """Predicts every input; a bad one is reported in one line and the others go on.

    A folder that predictions lie in already is added to: the rows of other files stay, those of the same file
    are replaced, and an equal name from elsewhere becomes another name.

    Args:
      answers: of the system.
      open_predictor: loads the model.
      inputs: files, DICOM folders, or folders of either.
      out_dir: where the answers go.
      overwrite: also what the same model has answered for the same file before.

    Returns:
      The exit status: 0, or 2 if any input failed.

    Raises:
      UserError: no usable source, no input, or an output folder that cannot be used.
    """
    out_dir = Path(out_dir)
    if out_dir.exists() and not out_dir.is_dir():
        raise UserError(f"--out {out_dir}: must be a folder; found a file")
    paths = find_inputs(inputs, out_dir, predictions.what, predictions.is_input)
    tables = Tables(out_dir, predictions.tables)
    names = unique_names(paths, tables.files(), predictions.name_of)
    predictor = open_predictor()
    made = not out_dir.exists()
    make_folder(out_dir)
    failed = _predict_each(_Folder(out_dir, tables, predictions, predictor), paths, names, overwrite)
    if 0 < failed < len(paths):
        print(f"{failed} of {len(paths)} failed; the others lie in {out_dir}", file=sys.stderr)
    if made and not any(out_dir.iterdir()):
        out_dir.rmdir()
    return 2 if failed else 0


def _predict_each(folder: _Folder, paths: Sequence[Path], names: Sequence[str], overwrite: bool) -> int:
    """Returns how many failed."""
    failed, count, countdown = 0, len(paths), Countdown(len(paths))
    for index, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
        countdown.count += 1
        try:
            content = checksum(path) if path.exists() else ""
            if not overwrite and folder.has(name, path, content):
                print(f"[{index}/{count}] {name}: answered already by the same model; --overwrite does it again",
                      flush=True)
                countdown.total, countdown.count = countdown.total - 1, countdown.count - 1
                continue
            text = folder.predict(path, name, content)
        except FAILURES as error:
            failed += 1
            print(f"[{index}/{count}] error: {_one_line(error, path)}", file=sys.stderr)
            continue
        print(f"[{index}/{count}] {text}{f', {countdown.left()} left' if index < count else ''}", flush=True)
    return failed


class _Folder:
    """The output folder: its tables, and the record of what was answered for which file by which model."""

    def __init__(self, path: Path, tables: Tables, predictions: Outputs, predictor: Predictor):
        self.path, self.tables, self.predictions, self.predictor = path, tables, predictions, predictor
        record = path / RECORD
        self.record = read_json(record, "delete it, or choose another --out") if record.is_file() else {}
        if not isinstance(self.record, dict):
            raise UserError(f"{record}: not the record of an earlier prediction; choose another --out")

    def has(self, name: str, path: Path, content: str) -> bool:
        """Whether this very file was answered by this very model, and the answer is still there."""
        there = (self.path / self.predictions.files(name)[0]).exists() and name in self.tables.files()
        return there and self.record.get(name) == self._entry(path, content)

    def predict(self, path: Path, name: str, content: str) -> str:
        """Predicts one input and writes it down; returns the line to print."""
        present = [file for file in self.predictions.files(name) if (self.path / file).exists()]
        if present and name not in self.tables.files():
            raise UserError(f"{self.path / present[0]}: there already, and not of an earlier prediction; "
                            "choose another --out")
        if self.record.pop(name, None):  # its files are about to change, and this one may fail half way
            self._write_record()
        rows, text = self.predictor.predict(path, name, self.path)
        self.tables.replace(name, rows)
        self.record[name] = self._entry(path, content)
        self._write_record()
        return text

    def _write_record(self) -> None:
        write_text(self.path / RECORD, json.dumps(self.record, indent=1) + "\n")

    def _entry(self, path: Path, content: str) -> dict[str, str]:
        return {"file": str(path.resolve()), "sha256": content, "model": self.predictor.key}


def checksum(path: Path) -> str:
    """The SHA-256 of a file, or of the names and contents of the files directly in a folder."""
    if not path.is_dir():
        return sha256(path)
    files = [each for each in sorted(path.iterdir()) if each.is_file()]
    return hashlib.sha256("\n".join(f"{each.name} {sha256(each)}" for each in files).encode()).hexdigest()


def _one_line(error: BaseException, path: Path) -> str:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return text if isinstance(error, UserError) else f"{path}: {text}"
