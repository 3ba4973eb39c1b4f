"""Training, validation and test cases: no subject is in two of these parts. Standard library only."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Mapping

from tfsono.errors import UserError
from tfsono.files import read_json
from tfsono.structure import check_structure

PARTS = ("train", "validation", "test")
STRATA = 5  # quintiles


def make_split(
    names: Iterable[str], subjects: Mapping[str, str], test_cases: int, validation_cases: int, seed: int
) -> dict[str, list[str]]:
    """Shuffles the subjects and fills test, then validation, with whole ones; the rest is for training.

    A subject with several cases is never divided, so test and validation may get a few more than requested.

    Args:
        names: the cases.
        subjects: case -> subject; a case that is not in it is its own subject.
        test_cases: cases to reach in test, 0 or more.
        validation_cases: cases to reach in validation, 0 or more.
        seed: the same seed and cases give the same split, whatever the order of `names`.

    Returns:
        {"train": ..., "validation": ..., "test": ...}, each a sorted list of case names.

    Raises:
        UserError: fewer cases or subjects than the split takes; a negative count.
    """
    groups = _by_subject(names, subjects)
    total = sum(len(group) for group in groups.values())
    if test_cases < 0 or validation_cases < 0:
        raise UserError(
            f"--test_cases {test_cases}, --validation_cases {validation_cases}: must be 0 or more"
        )
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    test = _take(order, groups, test_cases)
    validation = _take(order, groups, validation_cases)
    train = [name for subject in order for name in groups[subject]]
    if not train or len(test) < test_cases or len(validation) < validation_cases:
        raise UserError(
            f"--test_cases {test_cases}, --validation_cases {validation_cases}: must leave some cases for training; "
            f"found {total} cases of {len(groups)} subjects: lower the counts or add cases"
        )
    return {"train": sorted(train), "validation": sorted(validation), "test": sorted(test)}


def make_folds(
    names: Iterable[str],
    subjects: Mapping[str, str],
    sizes: Mapping[str, float | None],
    folds: int,
    seed: int,
) -> list[list[str]]:
    """Parts of about the same number of cases and the same mix of sizes; no subject is in two of them.

    The subjects are sorted by their mean size and cut into five strata of equal numbers. Each stratum is
    shuffled and dealt out, a subject at a time, to the fold that has the fewest cases of it so far. Subjects
    of unknown size are a stratum of their own.

    Args:
        names: the cases, without those held out for testing.
        subjects: case -> subject; a case that is not in it is its own subject.
        sizes: case -> the size to mix evenly (the length of a head, say); None, NaN or no entry: unknown.
        folds: how many, at least 2.
        seed: the same seed and cases give the same folds, whatever the order of `names`.

    Returns:
        A sorted list of case names for each fold.

    Raises:
        UserError: fewer than 2 folds, or fewer subjects than folds.
    """
    groups = _by_subject(names, subjects)
    if folds < 2 or len(groups) < folds:
        raise UserError(
            f"--folds {folds}: must be at least 2 and at most the number of subjects; found {len(groups)} subjects: "
            "change the number or add cases"
        )
    dealt: list[list[str]] = [[] for _ in range(folds)]
    shuffler = random.Random(seed)
    for stratum in _strata(groups, sizes):
        shuffler.shuffle(stratum)
        stratum.sort(key=lambda subject: -len(groups[subject]))  # large groups first: the small ones level out
        counts = [0] * folds
        order = shuffler.sample(range(folds), folds)  # or the first fold would always get the odd one
        for subject in stratum:
            fold = min(order, key=lambda place: (counts[place], len(dealt[place])))
            dealt[fold] += groups[subject]
            counts[fold] += len(groups[subject])
    return [sorted(fold) for fold in dealt]


def make_fold_split(
    names: Iterable[str],
    subjects: Mapping[str, str],
    sizes: Mapping[str, float | None],
    test_cases: int,
    folds: int,
    fold: int,
    seed: int,
) -> dict[str, list[str]]:
    """The split of one fold: the test part is the same for all of them, the rest as `divide_fold`.

    Raises:
        UserError: as for `make_split` and `divide_fold`.
    """
    held = make_split(names, subjects, test_cases, 0, seed)
    train, validation = divide_fold(held["train"], subjects, sizes=sizes, folds=folds, fold=fold, seed=seed)
    return {"train": train, "validation": validation, "test": held["test"]}


def hold_out(
    names: Iterable[str],
    subjects: Mapping[str, str],
    sizes: Mapping[str, float | None],
    test_cases: int,
    seed: int,
) -> dict[str, list[str]]:
    """A split whose test part has about so many cases and the mix of sizes of all; nothing validates.

    Raises:
        UserError: fewer than twice as many cases, or too few subjects.
    """
    names = list(names)
    if not test_cases:
        return {"train": sorted(names), "validation": [], "test": []}
    if 2 * test_cases > len(names):
        raise UserError(
            f"--test_cases {test_cases}: must be at most half of the cases, of which there are {len(names)}; lower it"
        )
    test, *others = make_folds(names, subjects, sizes, round(len(names) / test_cases), seed)
    return {"train": sorted(name for part in others for name in part), "validation": [], "test": test}


def with_fold_tested(
    split: Mapping[str, list[str]],
    subjects: Mapping[str, str],
    sizes: Mapping[str, float | None],
    folds: int,
    fold: int,
    seed: int,
) -> dict[str, list[str]]:
    """The split with one fold of its training part moved to the test part: the folds together test every case.

    Raises:
        UserError: as for `divide_fold`.
    """
    train, tested = divide_fold(split["train"], subjects, sizes=sizes, folds=folds, fold=fold, seed=seed)
    return {**split, "train": train, "test": sorted([*split["test"], *tested])}


def chosen_split(
    path: str | None,
    own: Mapping[str, list[str]] | None,
    names: Iterable[str],
    subjects: Mapping[str, str],
    test_cases: int,
    validation_cases: int,
    seed: int,
) -> dict[str, list[str]]:
    """The split of a file, else the dataset's own, else one that is drawn by subject, checked.

    Where the split names no validation cases, `validation_cases` are taken out of its training part.

    Raises:
        UserError: as for `read_split`, `make_split` and `check_split`.
    """
    names = list(names)
    split = read_split(path) if path else own
    if split is None:
        split = make_split(names, subjects, test_cases, validation_cases, seed)
    split = {part: list(split.get(part, [])) for part in PARTS}
    check_split(split, names, subjects, path or "split")
    if validation_cases and not split["validation"]:
        inner = make_split(split["train"], subjects, 0, validation_cases, seed)
        split.update(train=inner["train"], validation=inner["validation"])
    return split


def divide_fold(
    names: Iterable[str],
    subjects: Mapping[str, str],
    sizes: Mapping[str, float | None],
    folds: int,
    fold: int,
    seed: int,
) -> tuple[list[str], list[str]]:
    """Names to train and to validate: one fold validates, the others train; of 1 fold all train and none validates.

    Raises:
        UserError: `fold` is none of them, or as for `make_folds`.
    """
    if not 0 <= fold < folds:
        raise UserError(f"--fold {fold}: must be 0 to {folds - 1} for --folds {folds}; choose one of them")
    if folds == 1:
        return sorted(names), []
    parts = make_folds(names, subjects, sizes, folds, seed)
    return sorted(name for place, part in enumerate(parts) if place != fold for name in part), parts[fold]


def check_split(
    split: Mapping[str, list[str]], names: Collection[str], subjects: Mapping[str, str], where: str = "split"
) -> None:
    """Raises UserError for an unknown part or case, a case or subject in two parts, no training case.

    `where` names the split in the message.
    """
    check_split_names(split, names, where)
    shared = subjects_in_two_parts(split, subjects)
    if shared:
        subject, parts = next(iter(shared.items()))
        more = f" and {len(shared) - 1} more such subjects" if len(shared) > 1 else ""
        raise UserError(
            f"{where}: a subject must be in one part only; found {subject[:80]!r} in {' and '.join(parts)}{more}: "
            "move all its cases into one"
        )
    if not split.get("train"):
        raise UserError(f"{where}: train must name at least one case; found none: name some there")


def check_split_names(split: Mapping[str, list[str]], names: Collection[str], where: str) -> None:
    """Raises UserError, which begins with `where`, for an unknown part or case, or a case named twice."""
    strange = sorted(set(split) - set(PARTS))
    if strange:
        raise UserError(f"{where}: the parts are {', '.join(PARTS)}; found {strange[0][:80]!r}")
    names, seen = set(names), {}
    for part in PARTS:
        for name in split.get(part, []):
            if name not in names:
                raise UserError(
                    f"{where}: {part} must name cases of the dataset; found {name[:80]!r}, which is none: correct it"
                )
            if name in seen:
                raise UserError(
                    f"{where}: a case must be named once; found {name[:80]!r} in {seen[name]} and in {part}: "
                    "take it out of one"
                )
            seen[name] = part


def subjects_in_two_parts(
    split: Mapping[str, list[str]], subjects: Mapping[str, str]
) -> dict[str, list[str]]:
    """Subject -> the parts that it is in, for those that are in more than one."""
    parts: dict[str, list[str]] = {}
    for part in PARTS:
        for subject in sorted({subjects.get(name, name) for name in split.get(part, [])}):
            parts.setdefault(subject, []).append(part)
    return {subject: found for subject, found in parts.items() if len(found) > 1}


def read_split(path) -> dict[str, list[str]]:
    """Reads a split file; UserError for a missing one, no JSON, or another content."""
    split = read_json(path, f"give a file with lists of case names under {', '.join(PARTS)}")
    if not isinstance(split, dict) or set(split) != set(PARTS):
        raise UserError(
            f"{path}: must hold lists of case names under {', '.join(PARTS)}; make the split again"
        )
    check_structure(split, dict[str, list[str]], path)
    return split


def _by_subject(names: Iterable[str], subjects: Mapping[str, str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(subjects.get(name, name), []).append(name)
    return groups


def _strata(groups: Mapping[str, list[str]], sizes: Mapping[str, float | None]) -> list[list[str]]:
    """The subjects by the quintile of their mean size, the smallest first; those of unknown size come last."""
    known, unknown = [], []
    for subject, cases in groups.items():
        found = [float(sizes[name]) for name in cases if sizes.get(name) is not None]
        found = [size for size in found if math.isfinite(size)]
        if found:
            known.append((sum(found) / len(found), subject))
        else:
            unknown.append(subject)
    order = [subject for _, subject in sorted(known)]
    edges = [len(order) * part // STRATA for part in range(STRATA + 1)]
    return [order[low:high] for low, high in zip(edges, edges[1:], strict=False)] + [sorted(unknown)]


def _take(order: list[str], groups: dict[str, list[str]], count: int) -> list[str]:
    """Removes subjects from the front of `order` until `count` cases are reached."""
    taken: list[str] = []
    while order and len(taken) < count:
        taken += groups[order.pop(0)]
    return taken
