"""Rows of `cases.csv` by method, and their means by case."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def by_method(rows: Iterable[Mapping]) -> dict[str, list[dict]]:
    """The rows of each `method`, in the order in which the methods come first."""
    methods: dict[str, list[dict]] = {}
    for row in rows:
        methods.setdefault(row["method"], []).append(row)
    return methods


def case_means(rows: Sequence[Mapping], metrics: Sequence[str], of_masks: bool = False) -> list[dict]:
    """One row per case: the mean over its labels and over the seeds of a method; `undefined` is summed.

    Args:
      rows: rows of `cases.csv` of one method, with `case` and the metrics.
      metrics: the columns to average; a NaN makes the mean NaN, so that no failure is lost.
      of_masks: they compare masks. Rows without a value because their label is in neither mask are excluded from the
        mean, and `absent` is summed as well.
    """
    cases: dict[str, list[Mapping]] = {}
    for row in rows:
        cases.setdefault(str(row["case"]), []).append(row)
    flags, mean = (("undefined", "absent"), _mean_of_present) if of_masks else (("undefined",), _mean)
    return [{"case": case, **{metric: mean(group, metric) for metric in metrics},
             **{flag: float(sum(row[flag] for row in group)) for flag in flags}}
            for case, group in sorted(cases.items())]


def _mean(group: Sequence[Mapping], metric: str) -> float:
    return float(np.mean([row[metric] for row in group]))


def _mean_of_present(group: Sequence[Mapping], metric: str) -> float:
    present = [row for row in group if not row["absent"] or np.isfinite(row[metric])]
    return _mean(present, metric) if present else math.nan
