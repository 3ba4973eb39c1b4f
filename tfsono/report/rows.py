"""Rows of `cases.csv` by method, and their means by case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def by_method(rows: Iterable[Mapping]) -> dict[str, list[dict]]:
    """The rows of each `method`, in the order in which the methods come first."""
    methods: dict[str, list[dict]] = {}
    for row in rows:
        methods.setdefault(row["method"], []).append(row)
    return methods


def case_means(rows: Sequence[Mapping], metrics: Sequence[str]) -> list[dict]:
    """One row per case: the mean over its labels and over the seeds of a method; `undefined` is summed.

    Args:
      rows: rows of `cases.csv` of one method, with `case` and the metrics.
      metrics: the columns to average.
    """
    cases: dict[str, list[Mapping]] = {}
    for row in rows:
        cases.setdefault(str(row["case"]), []).append(row)
    return [{"case": case, **{metric: float(np.mean([row[metric] for row in group])) for metric in metrics},
             "undefined": float(sum(row["undefined"] for row in group))} for case, group in sorted(cases.items())]
