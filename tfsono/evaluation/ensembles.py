"""The groups that an evaluation measures: each run, and on demand ensembles of runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Group(NamedTuple):
    """One run, or the members of an ensemble.

    Attributes:
      name: of its folder, and of the run in the tables.
      method: its row in the tables.
      runs: the members; the first one's config is used for their ensemble.
      option: a variant of the prediction, such as `refined`; "" for the plain one.
    """

    name: str
    method: str
    runs: tuple
    option: str = ""

    @property
    def first(self):
        return self.runs[0]


def groups_of(runs: Sequence, methods: Sequence[str], ensemble: bool, kinds: Sequence[str] = ()) -> list[Group]:
    """Each run; with `ensemble` also the runs of each row together, and all runs of each kind.

    Args:
      runs: `tfsono.training.run.Run`s.
      methods: the row of each.
      ensemble: whether to add ensembles.
      kinds: what each run predicts, where runs of one table differ in it.
    """
    groups = [Group(run.folder.name, method, (run,)) for run, method in zip(runs, methods, strict=True)]
    if not ensemble:
        return groups
    together = {f"{method}, {methods.count(method)} runs together": [own == method for own in methods]
                for method in methods}
    kinds = kinds or [""] * len(runs)
    for kind in dict.fromkeys(kinds):
        members = [own == kind for own in kinds]
        if members not in together.values():
            of_kind = f" of {kind}" if kind else ""
            together[f"all {sum(members)}{of_kind} together"] = members
    found = [(method, tuple(itertools.compress(runs, members))) for method, members in together.items()
             if sum(members) > 1]
    return groups + [Group(f"ensemble_{number}", *one) for number, one in enumerate(found, 1)]
