"""What text headers have in common: numbers, sizes, units of length, and how they state their spacing."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tfsono.errors import UserError

_MM_IN = {
    "nm": 1e-6, "nanometer": 1e-6, "nanometre": 1e-6,
    "um": 1e-3, "\u00b5m": 1e-3, "\u03bcm": 1e-3, "micron": 1e-3, "micrometer": 1e-3, "micrometre": 1e-3,
    "mm": 1.0, "millimeter": 1.0, "millimetre": 1.0,
    "cm": 10.0, "centimeter": 10.0, "centimetre": 10.0,
    "m": 1e3, "meter": 1e3, "metre": 1e3,
    "in": 25.4, "inch": 25.4, "inche": 25.4,
}  # fmt: skip
"""In lower case, without a plural s."""

_UNSTATED = ("", "?", "??", "???", "unknown", "none", "unspecified")
"""A header with one of these leaves its unit open; every reader takes millimetres."""


FARTHEST = 1e9
"""Of an origin in any unit: ITK overflows far beyond it, and then takes a spacing of 1."""

LONGEST_LINE = 500
"""Letters of a line of a text header: ITK's readers have arrays of fixed length for some of them."""


@dataclass(frozen=True)
class HeaderSpacing:
    """What a header says about its spacing.

    Attributes:
        factor: millimetres in the units of the numbers that ITK returns, along x, y and z.
        missing: why there is no spacing in the file, in a few words; "" if there is one.
        notes: what was done or noticed, a line each.
    """

    factor: tuple[float, float, float] = (1.0, 1.0, 1.0)
    missing: str = ""
    notes: tuple[str, ...] = ()


def spacing_in_units(path, units: list[str], missing: str = "") -> HeaderSpacing:
    """The factors of three axes with these units; [] for a header without units.

    Raises:
        UserError: a unit that is no length, or not known.
    """
    factor = tuple(_millimetres(path, unit) for unit in units) or (1.0, 1.0, 1.0)
    converted = dict.fromkeys(unit for unit, one in zip(units, factor, strict=False) if one != 1)
    notes = (f"spacing and origin converted from {', '.join(converted)} to mm",) if converted else ()
    return HeaderSpacing(factor, missing, notes)


def positive(values, count: int) -> bool:
    """Whether these are `count` positive, finite numbers."""
    return len(values) == count and all(math.isfinite(value) and value > 0 for value in values)


def floats(text: str) -> list[float]:
    """The numbers of a text with spaces; [] where one is none."""
    try:
        return [float(word) for word in text.split()] if text.isascii() else []
    except ValueError:
        return []


def first_letters(text: str) -> str:
    """At most 60 letters of a file, for a message."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:60])


def check_lines(path, header: str) -> None:
    """Raises UserError for a line of over 500 letters, or with a zero byte."""
    for line in header.split("\n"):
        if len(line.encode("utf-8", "replace")) > LONGEST_LINE or "\0" in line:
            raise UserError(f"{path}: a line of the header must be text of at most {LONGEST_LINE} letters; found "
                            f"{len(line)} beginning {line[:40]!r}; save it again")


def sides_of(path, count_name: str, count: str, name: str, text: str) -> tuple[int, ...]:
    """The sides of 2 to 4 axes, from the fields of their number and of the sides.

    Raises:
        UserError: another number of axes, or a side that is no positive whole number.
    """
    if count not in ("2", "3", "4"):
        raise UserError(f"{path}: {count_name}, the number of axes, must be 2 to 4; found {count[:40]!r}; "
                        "save it again")
    sides = text.split()
    if len(sides) != int(count):
        raise UserError(f"{path}: {name} must have {count} numbers; found {text[:80]!r}; save it again")
    if not all(re.fullmatch("[0-9]{1,10}", side) and int(side) > 0 for side in sides):
        raise UserError(f"{path}: a volume must have voxels; found header size {text[:80]!r}")
    return tuple(map(int, sides))


def check_finite(path, name: str, text: str, count: int) -> None:
    """Raises UserError for a field that does not hold `count` numbers up to `FARTHEST`: ITK takes 0 for NaN."""
    values = floats(text)
    if len(values) != count or not all(abs(value) <= FARTHEST for value in values):
        raise UserError(f"{path}: {name} must hold {count} finite numbers up to {FARTHEST:g}; found {text[:80]!r}; "
                        "correct the header")


def _millimetres(path, unit: str) -> float:
    word = unit.strip().lower()
    if word in _UNSTATED:
        return 1.0
    found = _MM_IN.get(word) or _MM_IN.get(word.removesuffix("s"))
    if found is None:
        raise UserError(f"{path}: the unit of the spacing must be a length (mm, um, cm, m, inch); found {unit[:40]!r}; "
                        "correct the header")
    return found
