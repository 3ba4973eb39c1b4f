"""The names that tables and folders give to cases, matched with the cases that there are. Standard library only.

Spreadsheets and people change names: a suffix or a folder is added, spaces, other capitals, and Excel writes 001 as 1.
A name is compared in steps, each more lenient; the first step at which a case fits decides, and there must be only one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tfsono.errors import UserError, printable

SUFFIXES = (".nii.gz", ".seg.nrrd", ".seg", ".mrk.json", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr", ".mnc", ".hdr",
            ".img", ".fcsv", ".json", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom")
CHANNEL = "_0000"
"""nnU-Net's end of the name of an image of one channel."""

LONGEST_SHOWN = 80
"""Letters of a name in a line."""


@dataclass(frozen=True)
class Matches:
    """What became of the names.

    Attributes:
        case_of: given name -> case.
        unknown: the given names that fit no case, sorted.
        changed: those that fit in other capitals or zeros only, sorted.
    """

    case_of: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def notes(self, where, what: str = "names", shown: Mapping[str, str] = MappingProxyType({})) -> list[str]:
        """What a user must know, a line each: the names that fit no case, and those that were changed to fit.

        Args:
            where: the table or folder.
            what: the names in a word.
            shown: given name -> what to call it instead.
        """
        lines = []
        if self.unknown:
            unknown = some(shown.get(name, name) for name in self.unknown)
            lines.append(f"{where}: {len(self.unknown)} {what} have no image and were skipped: {unknown}")
        if self.changed:
            read = [f"{name[:80]!r} as {self.case_of[name]}" for name in self.changed]
            lines.append(f"{where}: {len(self.changed)} names are not written as those of the images and were matched "
                         f"all the same: {some(read)}")
        return lines


def match_names(given: Iterable[str], known: Iterable[str], where) -> Matches:
    """Matches names with cases: as they are, else without outer spaces, folder, suffix, capitals, leading zeros.

    Args:
        given: names of a table or of files.
        known: the cases.
        where: the table or folder, for messages.

    Raises:
        UserError: names, and none of them fits a case; a name that fits several.
    """
    given, known = sorted(set(given)), sorted(set(known))
    tables = [_by_key(known, step) for step in STEPS]
    case_of: dict[str, str] = {}
    for name in given:
        fitting = next((found for step, table in zip(STEPS, tables, strict=True)
                        if (found := table.get(step(name), []))), [])
        if len(fitting) > 1:
            raise UserError(f"{where}: a name must fit one image; found {name[:80]!r}, which fits {some(fitting)}: "
                            "write it as that of the image")
        if fitting:
            case_of[name] = fitting[0]
    if given and not case_of:
        raise UserError(f"{where}: its names must be those of the images, such as {some(known[:1]) or 'none'!r}; "
                        f"found {some(given)}, none of which is an image; correct the names")
    unknown = tuple(name for name in given if name not in case_of)
    changed = tuple(name for name, case in case_of.items() if _without_channel(name) != _without_channel(case))
    return Matches(case_of, unknown, changed)


def check_single(matches: Matches, where) -> dict[str, str]:
    """Case -> the name that was given to it.

    Raises:
        UserError: two names fit one case.
    """
    name_of: dict[str, str] = {}
    for name, case in matches.case_of.items():
        if case in name_of:
            raise UserError(f"{where}: an image must have one name; found {name_of[case][:80]!r} and {name[:80]!r}, "
                            f"which both fit {case}: write them alike, or remove one")
        name_of[case] = name
    return name_of


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few names in a line."""
    names = list(names)
    return ", ".join(printable(name[:LONGEST_SHOWN]) for name in names[:most]) + (", ..." if len(names) > most else "")


def without_suffix(name: str) -> str:
    """Without folder, outer spaces and the suffix of an image."""
    name = re.split(r"[/\\]", _stripped(name))[-1]
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix) and len(name) > len(suffix)), "")
    return _stripped(name[: len(name) - len(suffix)])


def _stripped(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip(" \t\r\n\xa0\ufeff\u200b'\"")


def _without_channel(name: str) -> str:
    return without_suffix(name).removesuffix(CHANNEL)


def _lower(name: str) -> str:
    return _without_channel(name).casefold()


def _as_number(name: str) -> str:
    """Excel writes 001 as 1, and pandas as 1.0 where a cell of the column is empty."""
    found = re.fullmatch(r"0*(\d+)(\.0+)?", _lower(name))
    return found.group(1) if found else _lower(name)


STEPS: tuple[Callable[[str], str], ...] = (str, _stripped, without_suffix, _without_channel, _lower, _as_number)


def _by_key(known: Iterable[str], step: Callable[[str], str]) -> Mapping[str, list[str]]:
    table: dict[str, list[str]] = {}
    for name in known:
        table.setdefault(step(name), []).append(name)
    return table
