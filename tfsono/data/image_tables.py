"""Tables of 2D images: millimetres a pixel, head circumferences, and the BPD/OFD points in pixels.

A table is recognised by its columns, not by its name. Unusable rows are skipped and reported; a table that lacks a
column, or has no usable row, is refused.

    image_name or filename, pixel_size_mm, head_circumference_mm       millimetres (the last is optional)
    image_name or filename, ofd_1_x, ofd_1_y, ofd_2_x, ... bpd_2_y     pixels of the image, first centre 0.0

Only the letters and digits of column names are compared, so that HC18's "pixel size(mm)" is pixel_size_mm.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfsono.data.names import check_single, match_names, some
from tfsono.errors import UserError
from tfsono.files import check_once, column_key, read_rows
from tfsono.geometry.head_labels import LANDMARKS
from tfsono.volumes.image_2d import image_2d_name

NAME_COLUMNS = ("image_name", "filename")
PIXEL_SIZE, CIRCUMFERENCE = "pixel_size_mm", "head_circumference_mm"
POINT_COLUMNS = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")
LARGEST = 1e6
"""Of all numbers: millimetres or pixels."""

HC18_TABLES = ("training_set_pixel_size_and_HC.csv", "test_set_pixel_size.csv")
"""As downloaded they are next to the folder of the images, and both sets number their images from 000 on."""


@dataclass(frozen=True)
class ImageTables:
    """The contents of a dataset's tables; cases without a usable row are absent.

    Attributes:
        pixel_sizes_mm: case -> millimetres a pixel.
        circumferences_mm: case -> head circumference.
        points: the table of points, or None.
        with_points: the cases with a usable row in it -> their names there.
    """

    pixel_sizes_mm: dict[str, float] = field(default_factory=dict)
    circumferences_mm: dict[str, float] = field(default_factory=dict)
    points: Path | None = None
    with_points: dict[str, str] = field(default_factory=dict)


def find_tables(root: Path, names: Iterable[str], annotated: bool, notes: list[str]) -> ImageTables:
    """Reads the tables of the folder `root`, and HC18's own next to it.

    Args:
        root: the dataset's folder.
        names: its cases; rows of others are skipped.
        annotated: whether the images have masks: of HC18, the training set has them, the test set has none.
        notes: gets a line for everything that was skipped.

    Raises:
        UserError: two tables of one kind, a missing column, a table without one usable row.
    """
    names = set(names)
    sizes, points = _tables_of(root, annotated, notes)
    pixel_sizes = circumferences = {}
    if sizes is not None:
        pixel_sizes = _of_cases(sizes, _column(sizes, PIXEL_SIZE, notes), names, notes)
    if sizes is not None and CIRCUMFERENCE in _parsed(sizes)[0]:
        circumferences = _of_cases(sizes, _column(sizes, CIRCUMFERENCE, notes), names, [])  # reported already
    with_points = _known(points, _points(points, notes), names, notes) if points else {}
    return ImageTables(_finite(pixel_sizes), _finite(circumferences), points, with_points)


def is_point_table(path) -> bool:
    """Whether a CSV file has columns of the BPD/OFD table."""
    return bool(set(POINT_COLUMNS) & set(_parsed(Path(path))[0]))


def read_point_table(path) -> dict[str, np.ndarray]:
    """Case -> float64 [4, 2] (x, y), in the order of `LANDMARKS` as the file names them, NaN where a number is empty.

    Rows that cannot be used are absent.

    Raises:
        UserError: the file cannot be read, or a column is missing.
    """
    return _points(Path(path), [])


# ------------------------------------------------------------------------------------------- which tables


def _tables_of(root: Path, annotated: bool, notes: list[str]) -> tuple[Path | None, Path | None]:
    """The table of pixel sizes and the one of points; one file may be both."""
    hc18_table = root.resolve().parent / HC18_TABLES[0 if annotated else 1]
    sizes, points, others = [], [], []
    for path in sorted(path for path in root.glob("*.csv") if not path.name.startswith(".")):
        columns = set(_parsed(path)[0])
        sizes += [path] * bool(columns & {PIXEL_SIZE, CIRCUMFERENCE} or path.name in ("pixel_sizes.csv", *HC18_TABLES))
        points += [path] * bool(columns & set(POINT_COLUMNS))
        if path not in (*sizes, *points) and path.name != "landmarks.csv":
            others.append(path.name)
    if not sizes and hc18_table.is_file():
        sizes.append(hc18_table)
    if others:
        notes.append(f"{root}: tables of neither pixel sizes nor points were skipped: {some(others)}")
    return _only_one(root, sizes, "pixel sizes"), _only_one(root, points, "points")


def _only_one(root: Path, found: list[Path], what: str) -> Path | None:
    if len(found) > 1:
        raise UserError(f"{root}: a dataset has one table of {what}; found {', '.join(path.name for path in found)}; "
                        "remove all but one")
    return found[0] if found else None


# ------------------------------------------------------------------------------------------------- reading


def _parsed(path: Path) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Columns (letters and digits only, in lower case) and rows; cached, as every case reads the same table."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: must be a readable table; found: {error.strerror}; check it") from None
    return _parsed_once(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=8)
def _parsed_once(path: Path, changed: int, size: int) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    rows = [row for row in read_rows(path) if any(map(str.strip, row))]
    columns = tuple(column_key(name) for name in rows[0]) if rows else ()
    return columns, tuple(tuple(cell.strip() for cell in row) for row in rows[1:])


def _values(path: Path, wanted: tuple[str, ...], convert: Callable, notes: list[str]) -> dict:
    """Case -> `convert` of the cells of the columns `wanted`; rows for which it returns None are skipped."""
    columns, rows = _parsed(path)
    name_column = next((name for name in NAME_COLUMNS if name in columns), None)
    missing = [name for name in wanted if name not in columns]
    missing += [] if name_column else [" or ".join(NAME_COLUMNS)]
    if missing or not rows:
        raise UserError(f"{path}: the columns image_name, {', '.join(wanted)} and a row are needed; found "
                        f"{f'no {some(missing)} among ' if missing else 'no row below '}"
                        f"{some(columns, 8) or 'nothing'}; add what is missing")
    check_once(path, columns, (name_column, *wanted))
    places = [columns.index(name) for name in wanted]
    name_place = columns.index(name_column)
    found: dict = {}
    wrong, twice = [], []
    for row in rows:
        cells = [*row, *[""] * (len(columns) - len(row))]
        name = image_2d_name(cells[name_place])
        value = convert([cells[place] for place in places])
        if value is None:
            wrong.append(f"{name[:80]} ({', '.join(cells[place][:40] for place in places)})")
        elif name in found and not np.array_equal(found[name], value, equal_nan=True):
            twice.append(name)
        else:
            found[name] = value
    for name in twice:
        found.pop(name, None)
    _note_rows(path, wanted, wrong=wrong, twice=sorted(set(twice)), rows=len(rows), notes=notes)
    return found


def _note_rows(path: Path, wanted, wrong: list[str], twice: list[str], rows: int, notes: list[str]) -> None:
    what = wanted[0] if len(wanted) == 1 else "points"
    if len(wrong) == rows:
        raise UserError(f"{path}: {what} must be numbers in their range; found none of {rows} rows usable, such as "
                        f"{some(wrong[:1])}; correct them")
    if wrong:
        notes.append(f"{path}: {len(wrong)} rows have no usable {what} and were skipped: {some(wrong)}")
    if twice:
        notes.append(f"{path}: {len(twice)} names occur twice with different {what} and were skipped: "
                     f"{some(twice)}")


def _column(path: Path, column: str, notes: list[str]) -> dict[str, float]:
    """Case -> positive number; NaN where the cell is empty."""
    return _values(path, (column,), lambda cells: _positive(cells[0] or "nan"), notes)


def _positive(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isnan(value) or 0 < value <= LARGEST else None


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _points(path: Path, notes: list[str]) -> dict[str, np.ndarray]:
    return _values(path, POINT_COLUMNS, _four_points, notes)


def _four_points(cells: list[str]) -> np.ndarray | None:
    """[4, 2]; a point with an empty or NaN coordinate is missing. None for text, and for what no image can have."""
    try:
        points = np.array([float(cell or "nan") for cell in cells]).reshape(4, 2)
    except ValueError:
        return None
    points[np.isnan(points).any(axis=1)] = np.nan
    return None if (np.abs(points) > LARGEST).any() else points


def _known(path: Path, found: dict, names: set[str], notes: list[str]) -> dict[str, str]:
    """Case -> its name among those of `found`; a table that names no case belongs to another dataset."""
    matches = match_names(found, names, path)
    notes += matches.notes(path, "rows")
    return check_single(matches, path)


def _of_cases(path: Path, found: dict, names: set[str], notes: list[str]) -> dict:
    """Case -> its value."""
    return {case: found[name] for case, name in _known(path, found, names, notes).items()}
