"""The tables of an output folder: one or more rows per case, saved completely after every case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tfsono.errors import UserError
from tfsono.files import csv_text, read_rows, write_text

MEASUREMENTS = "measurements.csv"
NONE: Mapping = MappingProxyType({})
TEXTS = ("case", "file", "image_name", "label", "landmark", "segment", "from", "to", "taken", "flags",
         "gestational_age", "no_gestational_age", "given_age", "cut_to_px")
"""The columns of any table that hold words; an empty cell of another column is an undefined number."""


def rounded(value: float, digits: int = 4) -> float | str:
    """A number for a table; "" for NaN."""
    return round(float(value), digits) if np.isfinite(value) else ""


class Tables:
    """The tables of an output folder by file name; each has the column `case`, most of them also `file`."""

    def __init__(self, folder: Path, columns: dict[str, tuple[str, ...]], absolute_paths: bool = False,
                 derived: Mapping[str, tuple[tuple[str, ...], Callable[[Sequence[Mapping]], list[dict]]]] = NONE):
        """Reads the tables of earlier predictions.

        Args:
          folder: of the tables; need not exist.
          columns: file name -> columns; `measurements.csv` comes first.
          absolute_paths: whether `file` is the whole path, and not the file's name alone.
          derived: file name -> columns, and what makes its rows from those of `measurements.csv`.

        Raises:
          UserError: a file of such a name with other columns.
        """
        self.folder = folder
        self.columns = columns
        self.absolute_paths = absolute_paths
        self.derived = derived
        for name, (wanted, _) in derived.items():
            read_table(folder / name, wanted)
        self.rows = {name: read_table(folder / name, wanted) for name, wanted in columns.items()}

    def files(self) -> dict[str, str]:
        """Name of every earlier case -> its file, as in the table."""
        return {row["case"]: row["file"] for row in self.rows[MEASUREMENTS]}

    def shown(self, file: str | Path) -> str:
        """What the column `file` has of a file: a folder may be named after a patient."""
        return str(file) if self.absolute_paths else Path(file).name

    def replace(self, case: str, rows: dict[str, list[dict]]) -> None:
        """Replaces the rows of a case, and writes every table."""
        for name, columns in self.columns.items():
            kept = [row for row in self.rows[name] if row["case"] != case]
            self.rows[name] = kept + [row | {"file": self.shown(row["file"])} if "file" in row else row
                                      for row in rows[name]]
            write_table(self.folder / name, columns, self.rows[name])
        for name, (columns, rows_of) in self.derived.items():
            write_table(self.folder / name, columns, rows_of(self.rows[MEASUREMENTS]))

    def of_case(self, case: str) -> dict[str, list[dict]]:
        """The rows of a case by table, without the suffix, for JSON: undefined numbers are None; no case and file."""
        return {Path(name).stem: [{column: _value(column, cell) for column, cell in row.items()
                                   if column not in ("case", "file")} for row in rows if row["case"] == case]
                for name, rows in self.rows.items()}


def _value(column: str, cell: object) -> object:
    """A cell as it was before it was written to a file and read again."""
    if column in TEXTS or not isinstance(cell, str):
        return cell
    if not cell:
        return None
    try:
        return float(cell) if set(cell) & set(".en") else int(cell)
    except ValueError:
        return cell


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict]:
    """The rows of an earlier table; none if there is no file.

    Raises:
      UserError: a file of this name with other columns.
    """
    if not path.is_file():
        return []
    rows = [row for row in read_rows(path) if row]
    if not rows or tuple(rows[0]) != columns or any(len(row) != len(columns) for row in rows):
        raise UserError(f"{path}: not the {path.stem} of an earlier prediction by a model like this; "
                        "choose another --out")
    return [dict(zip(columns, row, strict=True)) for row in rows[1:]]


def write_table(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    """Writes a table atomically."""
    write_text(path, csv_text([columns, *([row[column] for column in columns] for row in rows)]))
