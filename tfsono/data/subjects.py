"""The subjects of cases, as far as their names show them. Standard library only.

BIDS names begin with the subject (sub-01_ses-2_T2w), HC18's with the examination (010_HC, 010_2HC). Names of other
forms may show several cases of one subject too; that is said, and dataset.json can name the subjects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tfsono.data.names import some

HC18_NAME = re.compile(r"(\d+)_\d*HC")
"""Number of the examination, then of the image: 010_HC, 010_2HC."""

BIDS_NAME = re.compile(r"(sub-[A-Za-z0-9]+)(?:_.*)?")

_NUMBERED = "ses|session|visit|vis|v|tp|timepoint|time|t|scan|run|acq|rep|day|d|week|wk|w|month|mo|m|year|yr|y|bl|fu"
_WORDS = "baseline|follow-?up|bl|fu|pre|post|left|right|l|r"
_PARTS = (
    re.compile(rf"(?i)[_\-. ](?:(?:{_NUMBERED})[_\-]?\d+|(?:{_WORDS})\d*)(?=[_\-. ]|$)"),
    re.compile(r"(?i)(?<=\d)[_\-]?[abc]$"),
    re.compile(r"(?<=\d)[_\-]\d{1,3}$"),
)
"""Parts of a name that tell cases of one subject from each other: _ses-2, _t0, _left, 12b, 12_1."""


def found_subjects(names: Iterable[str], given: Mapping[str, str], are_2d: bool, where: str, notes: list[str]
                   ) -> dict[str, str]:
    """Case -> subject, by the names; a case whose name shows none is its own subject.

    Args:
        names: the cases.
        given: case -> subject by dataset.json; these cases are not reported.
        are_2d: whether these are 2D images, of which HC18's names are known.
        where: the folder, for messages.
        notes: gets a line where subjects are drawn from names, and one where names look alike.
    """
    names = sorted(names)
    subjects = {name: _subject_of(name, are_2d) for name in names}
    drawn = {name for name in names if BIDS_NAME.fullmatch(name) and name not in given}
    drawn_subjects = sorted({subjects[name] for name in drawn})
    if len(drawn) > len(drawn_subjects):
        notes.append(f"{where}: subjects are drawn from the names: {len(drawn)} cases of {len(drawn_subjects)} "
                     f"subjects, {some(drawn_subjects)}")
    alike = [name for name in names if name not in given and subjects[name] == name]
    for group in _groups(alike)[:1]:
        example = ", ".join(f'"{name}": "..."' for name in group[:2])
        notes.append(f"warning: {where}: names look like several cases of one subject, such as {some(group)}; each "
                     "counts as a subject of its own, and may be trained and tested on: name the subjects in "
                     f'dataset.json: "subjects": {{{example}}}')
    return subjects


def _subject_of(name: str, are_2d: bool) -> str:
    numbered = HC18_NAME.fullmatch(name) if are_2d else None
    found = numbered or BIDS_NAME.fullmatch(name)
    return found.group(1) if found else name


def _groups(names: list[str]) -> list[list[str]]:
    """Names that differ in such a part only; none where all of them do, as these are numbered cases."""
    for part in _PARTS:
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(part.sub("", name).casefold(), []).append(name)
        several = [group for group in groups.values() if len(group) > 1]
        if several and len(groups) > 1:
            return several
    return []
