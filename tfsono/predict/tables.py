"""The tables of a folder of predictions: one or more rows a case, whole on the disk after every case."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from tfsono.errors import UserError
from tfsono.files import read_rows, write_text

MEASUREMENTS = "measurements.csv"


def rounded(value: float, digits: int = 4) -> float | str:
    """A number for a table; "" where there is none."""
    return round(float(value), digits) if np.isfinite(value) else ""


class Tables:
    """The tables of an output folder by their file names; each has the column `case`, the first one `file` too."""

    def __init__(self, folder: Path, columns: dict[str, tuple[str, ...]]):
        """Reads what an earlier prediction left.

        Args:
          folder: of the tables; need not be there yet.
          columns: file name -> columns; `measurements.csv` comes first.

        Raises:
          UserError: a file of such a name with other columns.
        """
        self.folder = folder
        self.columns = columns
        self.rows = {name: read_table(folder / name, wanted) for name, wanted in columns.items()}

    def files(self) -> dict[str, str]:
        """The name of every earlier case -> the file that it was."""
        return {row["case"]: row["file"] for row in self.rows[MEASUREMENTS]}

    def replace(self, case: str, rows: dict[str, list[dict]]) -> None:
        """Puts a case's new rows in the place of its old ones, and writes every table."""
        for name, columns in self.columns.items():
            kept = [row for row in self.rows[name] if row["case"] != case]
            self.rows[name] = kept + rows[name]
            write_table(self.folder / name, columns, self.rows[name])


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict]:
    """The rows of an earlier table; none where there is no file.

    Raises:
      UserError: a file of this name with other columns.
    """
    if not path.is_file():
        return []
    rows = [row for row in read_rows(path) if row]
    if not rows or tuple(rows[0]) != columns or any(len(row) != len(columns) for row in rows):
        raise UserError(f"{path}: not the {path.stem} of an earlier prediction; choose another --out")
    return [dict(zip(columns, row, strict=True)) for row in rows[1:]]


def write_table(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    """Writes a table whole, beside and renamed."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
