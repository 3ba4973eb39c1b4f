"""Several dataset folders of one kind as one dataset: their cases together, as of a set that comes in parts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tfsono.data.layout import Dataset, open_dataset
from tfsono.errors import UserError


def open_datasets(folders: Sequence[str | os.PathLike]) -> Dataset:
    """The dataset of one folder, or of several together.

    Cases of one subject name are one subject, whichever folder they are in. A folder without landmarks adds cases
    without them. The split is that of the folders where all have one.

    Raises:
      UserError: as `open_dataset`, or two folders have a case of one name, other labels or other landmarks.
    """
    datasets = [open_dataset(folder) for folder in folders]
    first = datasets[0]
    for other in datasets[1:]:
        first = _joined(first, other)
    return first


def _joined(one: Dataset, other: Dataset) -> Dataset:
    shared = sorted({case.name for case in one.cases} & {case.name for case in other.cases})
    if shared:
        raise UserError(f"{other.root}: has a case {shared[0][:80]!r}, as the folders before it; rename one of the two")
    for what in ("labels", "landmarks", "ignored", "of_images"):
        mine, its = getattr(one, what), getattr(other, what)
        if mine != its and not (what == "landmarks" and () in (mine, its)):
            raise UserError(f"{other.root}: {what} must be those of the folders before it, {_shown(mine)}; found "
                            f"{_shown(its)}; cache it separately")
    split = one.split and other.split and {part: [*one.split.get(part, []), *other.split.get(part, [])]
                                           for part in {**one.split, **other.split}}
    return replace(
        one, root=Path(os.path.commonpath([one.root.resolve(), other.root.resolve()])),
        name=f"{one.name} and {other.name}", landmarks=one.landmarks or other.landmarks, split=split or None,
        cases=tuple(sorted(one.cases + other.cases, key=lambda case: case.name)), notes=one.notes + other.notes)


def _shown(value) -> str:
    return repr(value)[:80]
