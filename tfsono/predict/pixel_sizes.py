"""The option `--pixel_size_mm`: one number for all images, or a CSV file with one for each.

Names in the table are matched with the images as those of a dataset (see `tfsono.data.names`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tfsono.data.image_tables import NAME_COLUMNS, PIXEL_SIZE
from tfsono.data.names import check_single, match_names, some
from tfsono.errors import UserError
from tfsono.files import check_once, column_key, read_rows
from tfsono.volumes.image_2d import PIXEL_RANGE_MM


@dataclass(frozen=True)
class PixelSizes:
    """Millimetres per pixel: `single` for all images, or `named` by the names in a table.

    Attributes:
      given: the option's text; "": the size in each file is used.
      single: None if a table or nothing was given.
      named: name in the table -> millimetres per pixel.
    """

    given: str = ""
    single: float | None = None
    named: dict[str, float] = field(default_factory=dict)

    def of(self, path: Path, from_file: float | None) -> float | None:
        """The size for one image: the user's, else the file's; None if neither is known."""
        if not self.named:
            return from_file if self.single is None else self.single
        if path.name in self.named:
            return self.named[path.name]
        try:
            (name,) = match_names(self.named, [path.name], self.given).case_of
        except (UserError, ValueError):  # none for this image, or several: reported by `check_pixel_sizes`
            return from_file
        return self.named[name]


def check_pixel_sizes(given: str, paths: Iterable[Path]) -> list[str]:
    """Compares a table with the images to predict.

    Args:
      given: the option.
      paths: the images.

    Returns:
      Lines for the user: rows without an image, images without a row.

    Raises:
      UserError: as `read_pixel_sizes`; no name in the table fits an image, or one fits several.
    """
    sizes = read_pixel_sizes(given)
    if not sizes.named:
        return []
    names = [path.name for path in paths]
    matches = match_names(sizes.named, names, f"--pixel_size_mm {given}")
    rows = check_single(matches, f"--pixel_size_mm {given}")
    without = [name for name in names if name not in rows]
    lines = matches.notes(f"--pixel_size_mm {given}", "rows")
    if without:
        lines.append(f"--pixel_size_mm {given}: {len(without)} of {len(names)} images have no row, and are measured by "
                     f"their own file's pixel size, or in pixels: {some(without)}")
    return lines


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
    head = [column_key(column) for column in rows[0]] if rows else []
    name = next((column for column in NAME_COLUMNS if column in head), None)
    if name is None or PIXEL_SIZE not in head:
        raise UserError(f"{path}: the columns {NAME_COLUMNS[0]} and {PIXEL_SIZE} are needed; found "
                        f"{some(head, 8) or 'none'}")
    check_once(path, head, (name, PIXEL_SIZE))
    found: dict[str, float] = {}
    for number, cells in enumerate(rows[1:], start=2):
        if any(cell.strip() for cell in cells):
            row = dict(zip(head, cells, strict=False))
            _add(found, row.get(name, "").strip(), row.get(PIXEL_SIZE, ""), f"{path}: line {number}")
    return found


def _add(found: dict[str, float], name: str, text: str, where: str) -> None:
    try:
        size = _checked(float(text), where)
    except ValueError:
        raise UserError(f"{where}: the pixel size must be a number; found {text[:40]!r}") from None
    if not name or found.get(name, size) != size:
        raise UserError(f"{where}: each image needs one size; found {name[:80]!r} {'twice' if name else 'as its name'}")
    found[name] = size


def _checked(size: float, where: str) -> float:
    smallest, largest = PIXEL_RANGE_MM
    if not smallest <= size <= largest:
        raise UserError(f"{where}: must be {smallest:g} to {largest:g} millimetres per pixel; found {size:g}")
    return size
