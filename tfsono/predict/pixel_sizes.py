"""The option `--pixel_size_mm`: one number for all images, or a CSV file with one for each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from tfsono.errors import UserError
from tfsono.files import read_rows

NAMES = ("image_name", "filename")
SIZES = ("pixel_size_mm", "pixel size(mm)")
SMALLEST_MM, LARGEST_MM = 0.005, 5.0  # outside of these it is another unit


@dataclass(frozen=True)
class PixelSizes:
    """Millimetres per pixel: `single` for all images, or `named` by file name.

    Attributes:
      given: the option's text; "": the size in each file is used.
      single: None if a table or nothing was given.
      named: file name -> millimetres per pixel.
    """

    given: str = ""
    single: float | None = None
    named: dict[str, float] = field(default_factory=dict)

    def of(self, path: Path, from_file: float | None) -> float | None:
        """The size for one image: the user's, else the file's; None if neither is known."""
        return self.named.get(path.name, from_file) if self.single is None else self.single


def read_pixel_sizes(given: str) -> PixelSizes:
    """Parses the option; "": the size in each file is used.

    Raises:
      UserError: neither a plausible number nor a CSV file with names and sizes.
    """
    if not given:
        return PixelSizes()
    try:
        return PixelSizes(given, single=_checked(float(given), "--pixel_size_mm"))
    except ValueError:
        pass
    if not Path(given).is_file():
        raise UserError(f"--pixel_size_mm {given}: expected millimetres per pixel, such as 0.12, or a CSV file of "
                        "them; found neither")
    return PixelSizes(given, named=_read_table(Path(given)))


def _read_table(path: Path) -> dict[str, float]:
    rows = read_rows(path)
    head = [column.strip() for column in rows[0]] if rows else []
    name, size = (next((column for column in wanted if column in head), None) for wanted in (NAMES, SIZES))
    if name is None or size is None:
        raise UserError(f"{path}: the columns {NAMES[0]} and {SIZES[0]} are needed; found {', '.join(head) or 'none'}")
    found: dict[str, float] = {}
    for number, cells in enumerate(rows[1:], start=2):
        if any(cell.strip() for cell in cells):
            row = dict(zip(head, cells, strict=False))
            _add(found, row.get(name, "").strip(), row.get(size, ""), f"{path}: line {number}")
    return found


def _add(found: dict[str, float], name: str, text: str, where: str) -> None:
    try:
        size = _checked(float(text), where)
    except ValueError:
        raise UserError(f"{where}: the pixel size must be a number; found {text!r}") from None
    if not name or found.get(name, size) != size:
        raise UserError(f"{where}: each image needs one size; found {name!r} {'twice' if name else 'as its name'}")
    found[name] = size


def _checked(size: float, where: str) -> float:
    if not (math.isfinite(size) and SMALLEST_MM <= size <= LARGEST_MM):
        raise UserError(f"{where}: must be {SMALLEST_MM:g} to {LARGEST_MM:g} millimetres per pixel; found {size:g}")
    return size
