"""Whether runs may share a table."""

from __future__ import annotations

from collections.abc import Sequence

from tfsono.data.splits import subjects_in_two_parts
from tfsono.errors import UserError


def check_comparable(runs: Sequence, cache, kinds: Sequence[str], weights: str = "auto") -> None:
    """Runs in one table must have weights and the same test cases, which the cache must hold as in training.

    Folds that are tested (`fold_is` of `head`) may differ in their test cases.

    Args:
      runs: `tfsono.training.run.Run`s.
      cache: open.
      kinds: what their networks predict: `labels`, `landmarks`, both, or neither for 2D images.
      weights: which are measured: `best`, `last` or `auto`.

    Raises:
      UserError: they may not share a table.
    """
    first = runs[0].split["test"]
    if not first:
        raise UserError(f"{runs[0].folder}: its split has no test cases; train with --test_cases above 0 or a --split")
    folds = all(getattr(run.config, "fold_is", "") == "test" for run in runs)
    for run in runs:
        run.weights(weights)
        if run.split["test"] != first and not folds:
            raise UserError(f"{run.folder}: has other test cases than {runs[0].folder}; train both with one --split")
        names = [(kind, tuple(getattr(cache, kind)), getattr(run.config, f"{kind[:-1]}_names")) for kind in kinds]
        if kinds:
            names.append(("orientation", cache.settings.orientation, run.config.orientation))
        if "labels" in kinds:
            names.append(("label values", cache.labels, run.data.get("labels")))
        for name, found, wanted in names:
            if found != wanted:
                raise UserError(f"{cache.path}: has {name} {found}, {run.folder} has {wanted}; "
                                "give the cache of that run")
        shared = subjects_in_two_parts(run.split, cache.subjects)
        if shared:
            subject, parts = next(iter(shared.items()))
            raise UserError(f"{run.folder / 'split.json'}: subject {subject!r} is in {' and '.join(parts)}, so its "
                            "cases are no test; train again")
    for run in runs:
        missing = [name for name in run.split["test"] if name not in cache.names]
        if missing:
            raise UserError(f"{cache.path}: lacks the test case {missing[0]}; give the cache of {run.folder}")


def check_one_value(runs: Sequence, name: str, why: str) -> None:
    """Raises `UserError` for runs that differ in a field which must be equal in one table."""
    first = runs[0]
    for run in runs[1:]:
        found, wanted = getattr(run.config, name), getattr(first.config, name)
        if found != wanted:
            raise UserError(f"{run.folder}: --{name} {found}, and {first.folder} has {wanted}: {why}; evaluate them "
                            "separately")
