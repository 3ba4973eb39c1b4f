"""Predicts each input; skips what is predicted already, and reports in one line what fails."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tfsono.errors import UserError, clear_line, is_users, printable, reason_of
from tfsono.export import sha256
from tfsono.files import check_names, read_json, write_text
from tfsono.locks import locked
from tfsono.merge import BEGUN, RECORD, part_recorded
from tfsono.parts import Part
from tfsono.predict.inputs import find_inputs, place_of, resolved, unique_names
from tfsono.predict.tables import Tables
from tfsono.progress import Countdown, say, show
from tfsono.structure import check_structure


@dataclass(frozen=True)
class Outputs:
    """The inputs and output files of a system, known before its model is loaded.

    Attributes:
      what: `volume` or `image`.
      is_input: whether a file in a folder is an input, by its name.
      name_of: a file's name without its suffix.
      tables: file name -> columns; `measurements.csv` first, with the columns `case` and `file`.
      files: case name -> names of the files that may be written; the first one always is.
      derived: file name -> columns, and what makes all rows of it from all rows of `measurements.csv`.
    """

    what: str
    is_input: Callable[[Path], bool]
    name_of: Callable[[Path], str]
    tables: dict[str, tuple[str, ...]]
    files: Callable[[str], tuple[str, ...]]
    derived: Mapping[str, tuple[tuple[str, ...], Callable[[Sequence[Mapping]], list[dict]]]] = field(
        default_factory=dict)


class Predictor(Protocol):
    """A loaded model of a system with its pre- and postprocessing."""

    key: str
    """Identifies all that a prediction depends on: weights and options."""

    def predict(self, path: Path, name: str, out_dir: Path) -> tuple[dict[str, list[dict]], str]:
        """Predicts one input, writes its files, and returns its rows by table and a line to print."""


def predict_all(outputs: Outputs, open_predictor: Callable[[], Predictor], inputs: Sequence[str | os.PathLike],
                out_dir: str | os.PathLike, overwrite: bool = False, absolute_paths: bool = False,
                on_case: Callable[[Mapping], None] = lambda case: None, part: Part | None = None) -> int:
    """Predicts every input; one that fails is reported in one line, and the others are still predicted.

    An output folder with earlier predictions is extended: rows of other files stay, rows of the same file
    are replaced, and a file of an equal name gets another case name.

    Args:
      outputs: of the system.
      open_predictor: loads the model.
      inputs: files, DICOM folders, or folders of either.
      out_dir: the output folder.
      overwrite: predict again what the same model has predicted already.
      absolute_paths: write the whole paths of the inputs into tables and record, and not their names alone.
      on_case: takes the object of each case for `--json`; docs/commands.md has its fields.
      part: of the inputs, whose predictions go to a folder of its own; None: all inputs.

    Returns:
      The exit status: 0, or 2 if any input failed.

    Raises:
      UserError: no usable source, no input, or an output folder that cannot be used or that another process writes.
    """
    out_dir = Path(out_dir)
    if out_dir.exists() and not out_dir.is_dir():
        raise UserError(f"--out {out_dir}: must be a folder; found a file")
    paths = find_inputs(inputs, out_dir, outputs.what, outputs.is_input)
    out_dir = out_dir / part.folder if part else out_dir
    with locked(out_dir), contextlib.ExitStack() as recorded:  # before its tables are read: they are written whole
        tables = Tables(out_dir, outputs.tables, absolute_paths, outputs.derived)
        names = unique_names(paths, places(out_dir / RECORD, tables), outputs.name_of)  # of all parts' inputs
        if part:
            print(f"part {part.number} of {part.of}: {len(part.share(paths))} of {len(paths)} {outputs.what}s")
            every, paths, names = names, part.share(paths), part.share(names)
        folder = _Folder(out_dir, tables, outputs, open_predictor()) if paths else None
        if part:
            recorded.enter_context(part_recorded(out_dir, part, every))
        failed = _predict_each(folder, paths, names, overwrite=overwrite, on_case=on_case) if folder else 0
    if 0 < failed < len(paths):
        print(f"{failed} of {len(paths)} failed; the others are in {out_dir}", file=sys.stderr)
    return 2 if failed else 0


def _predict_each(folder: _Folder, paths: Sequence[Path], names: Sequence[str], overwrite: bool,
                  on_case: Callable[[Mapping], None]) -> int:
    """Returns how many failed."""
    failed, count, countdown = 0, len(paths), Countdown(len(paths))
    for index, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
        place = f"[{index}/{count}]"
        show(f"{place} {name}" + f", {countdown.left()} left" * bool(countdown.count))
        countdown.count += 1
        try:
            text = folder.predict(name, path, overwrite)
        except Exception as error:  # one bad input, or a bug that it meets, ends no batch
            failed += 1
            line = _line_of(error, path)
            clear_line()
            print(f"{place} error: {line}", file=sys.stderr)
            on_case(folder.described(name, path, "failed") | {"error": line})
            continue
        if text:
            say(f"{place} {printable(text)}{f', {countdown.left()} left' if index < count else ''}")
        else:
            say(f"{place} {name}: predicted already by this model; --overwrite predicts it again")
            countdown.total, countdown.count = countdown.total - 1, countdown.count - 1
        on_case(folder.described(name, path, "predicted" if text else "present"))
    return failed


class _Folder:
    """The output folder: its tables, and the record of the file and model of each case."""

    def __init__(self, path: Path, tables: Tables, outputs: Outputs, predictor: Predictor):
        self.path, self.tables, self.outputs, self.predictor = path, tables, outputs, predictor
        self.record = _read_record(path / RECORD)

    def predict(self, name: str, path: Path, overwrite: bool) -> str:
        """Predicts and records one input; returns the line to print, "" where this model has predicted it already."""
        check_names(resolved(path))
        content = checksum(path) if path.exists() else ""
        return self._predict(name, path, content) if overwrite or not self._has(name, path, content) else ""

    def described(self, name: str, path: Path, status: str) -> dict:
        """The object of a case for `--json`."""
        found = {"case": name, "file": self.tables.shown(resolved(path)), "status": status, "error": None}
        if status == "failed":
            return found | {"files": [], "tables": {}}
        return found | {"files": self._present(name), "tables": self.tables.of_case(name)}

    def _has(self, name: str, path: Path, content: str) -> bool:
        """Whether this model has predicted this file, and its files still exist."""
        exists = (self.path / self.outputs.files(name)[0]).exists() and name in self.tables.files()
        return exists and self.record.get(name) == self._entry(path, content)

    def _predict(self, name: str, path: Path, content: str) -> str:
        present = self._present(name)
        if present and name not in self.tables.files() and name not in self.record:
            raise UserError(f"{self.path / present[0]}: exists, and is not from an earlier prediction; "
                            "choose another --out")
        self._record(name, self._entry(path, content) | BEGUN)  # first, so that its files are known to be ours
        try:
            rows, text = self.predictor.predict(path, name, self.path)
            self.tables.replace(name, rows)
        except BaseException:
            if not self._present(name):
                self._record(name, None)
            raise
        self._record(name, self._entry(path, content))
        return text

    def _present(self, name: str) -> list[str]:
        return [file for file in self.outputs.files(name) if (self.path / file).exists()]

    def _record(self, name: str, entry: dict | None) -> None:
        """Replaces the entry of a case, or removes it."""
        self.record.pop(name, None)
        if entry:
            self.record[name] = entry
        self._write_record()

    def _write_record(self) -> None:
        if self.record:
            write_text(self.path / RECORD, json.dumps(self.record, indent=1) + "\n")
        else:
            (self.path / RECORD).unlink(missing_ok=True)

    def _entry(self, path: Path, content: str) -> dict[str, str]:
        return {"file": self.tables.shown(resolved(path)), "place": place_of(path), "sha256": content,
                "model": self.predictor.key}


def places(record: Path, tables: Tables) -> dict[str, str]:
    """Name of every earlier case -> the `place_of` its file; the whole path where an older version wrote it."""
    known = _read_record(record)
    return {name: known[name].get("place", file) if name in known else file for name, file in tables.files().items()}


def _read_record(path: Path) -> dict[str, dict[str, str]]:
    record = read_json(path, "delete it, or choose another --out") if path.is_file() else {}
    check_structure(record, dict[str, dict[str, str]], path)
    return record


def checksum(path: Path) -> str:
    """The SHA-256 of a file, or of the names and contents of the files directly in a folder."""
    if not path.is_dir():
        return sha256(path)
    files = [each for each in sorted(path.iterdir()) if each.is_file()]
    return hashlib.sha256(os.fsencode("\n".join(f"{each.name} {sha256(each)}" for each in files))).hexdigest()


def _line_of(error: BaseException, path: Path) -> str:
    """An error's line; one that is a fault of ours has its type, and its traceback under TFSONO_VERBOSE=1."""
    if isinstance(error, UserError):
        return printable(error)
    if is_users(error):  # the file may be unreadable or too large, or the disk full
        return f"{printable(path)}: {reason_of(error)}"
    if os.environ.get("TFSONO_VERBOSE", "0") not in ("", "0"):
        traceback.print_exception(error)
    return (f"{printable(path)}: {type(error).__name__}: {reason_of(error)}; if the file is sound, this is a fault of "
            "tfsono: report it (TFSONO_VERBOSE=1 shows where)")
