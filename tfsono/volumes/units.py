"""Units of length in headers, and how a header states its spacing."""

from __future__ import annotations

import math
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
        return [float(word) for word in text.split()]
    except ValueError:
        return []


def _millimetres(path, unit: str) -> float:
    word = unit.strip().lower()
    if word in _UNSTATED:
        return 1.0
    found = _MM_IN.get(word) or _MM_IN.get(word.removesuffix("s"))
    if found is None:
        raise UserError(f"{path}: the unit of the spacing must be a length (mm, um, cm, m, inch); found {unit[:40]!r}; "
                        "correct the header")
    return found
