"""The rows of a comparison: a name for the runs that share a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tfsono.config import Settings

UNNAMED = ("seed", "c3d_weights")


def method_names(settings: Sequence[Settings], transfers: Sequence[str],
                 unnamed: Sequence[str] = UNNAMED) -> list[str]:
    """A name for each run: how it differs from the others, and what `--set` set.

    Runs that differ in the seed alone share a name.

    Args:
      settings: of the runs.
      transfers: of each run, `with transfer`, `without transfer`, or "" for a system without transfer.
      unnamed: fields in which runs of one name may differ.
    """
    parts = []
    for one, transfer in zip(settings, transfers, strict=True):
        changed = {f"{field.name} {getattr(one.config, field.name)}" for field in dataclasses.fields(one.config)
                   if one.origins[field.name][0] in ("command line", "plan") and field.name not in unnamed}
        parts.append((one.preset, one.variant, transfer, frozenset(changed)))
    common = frozenset.intersection(*(part[3] for part in parts))
    columns = list(zip(*parts, strict=True))
    shown = [len(set(column)) > 1 for column in columns[:3]]
    shown[1] |= columns[1][0] != "paper"  # our method must not have the paper's name
    names = []
    for part in parts:
        words = [word for word, differs in zip(part[:3], shown, strict=True) if differs and word]
        names.append(", ".join(words + sorted(part[3] - common)))
    names = [name or part[2] or part[1] for name, part in zip(names, parts, strict=True)]
    return [", ".join((name, *one.words_at_test())) for name, one in zip(names, settings, strict=True)]


def paper_names(runs: Sequence, names: Sequence[str], papers: Mapping[str, str]) -> list[str]:
    """Names of `method_names` with the paper's name in place of the variant's.

    Args:
      runs: `tfsono.training.run.Run`s.
      names: of `method_names`, one a run.
      papers: variant -> the paper's name; other variants keep their own.
    """
    found = []
    for run, name in zip(runs, names, strict=True):
        variant = run.settings.variant
        own = papers.get(variant, variant)
        others = [word for word in name.split(", ") if word != variant]
        found.append(", ".join([own, *others]))
    return found
