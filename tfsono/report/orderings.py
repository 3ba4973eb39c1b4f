"""Whether the orderings of a paper hold: paired Wilcoxon tests over the cases, with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tfsono.metrics.agreement import paired_wilcoxon
from tfsono.report.rows import by_method
from tfsono.report.tables import Probability, Summary, Table, summarise
from tfsono.reproduction.plan import Ordering

Rows = Sequence[Mapping]

LEVEL = 0.05
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "not decided"
COLUMNS = ("Ordering", "Place in the paper", "Paper", "Metric", "Here", "Cases", "Difference", "p, Holm")
NOTE = (
    "Metric: a column of cases.csv. Difference: the better row of the paper minus the other, case by case, of the mean "
    "over seeds (and folds and labels), ± standard deviation (95 % bootstrap interval), over the cases in which both "
    "have a value. p of the two-sided paired Wilcoxon signed-rank test, corrected by Holm's method over the orderings "
    f"of this table. Holds, or does not hold (the opposite does): p below {LEVEL:g}; else it is not decided."
)


def orderings_tables(rows: Rows, orderings: Iterable[Ordering]) -> dict[str, Table]:
    """The table `orderings` of those whose two rows were measured; none where there is no such one.

    Args:
        rows: Of cases.csv, with `method` and `case`; runs that differ in the seed alone share a `method`.
        orderings: Of the paper. Their rows are found without what all methods have in common, such as a `--set`.
    """
    methods = _by_own_name(by_method(rows))
    found = [(one, *_paired(methods, one)) for one in orderings if _measured(methods, one)]
    if not found:
        return {}
    adjusted = holm([paired_wilcoxon(better, worse) for _, better, worse in found])
    lines = [_line(one, better - worse, p) for (one, better, worse), p in zip(found, adjusted, strict=True)]
    return {"orderings": Table("Orderings of the paper", COLUMNS, tuple(lines), NOTE)}


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values; NaN, a test without different pairs, counts as a test and stays NaN."""
    order = sorted(range(len(values)), key=lambda place: (np.isnan(values[place]), values[place]))
    adjusted, largest = [float("nan")] * len(values), 0.0
    for rank, place in enumerate(order):
        if not np.isnan(values[place]):
            largest = max(largest, min(1.0, values[place] * (len(values) - rank)))
            adjusted[place] = largest
    return adjusted


def verdict(differences: np.ndarray, p: float, higher: bool) -> str:
    """Whether an ordering holds, for the differences of the better row minus the worse, and the adjusted p."""
    if np.isnan(p) or p >= LEVEL:
        return UNDECIDED
    gain = float(np.mean(differences)) * (1 if higher else -1)
    return HOLDS if gain > 0 else FAILS


def _line(ordering: Ordering, differences: np.ndarray, p: float) -> tuple:
    sign = ">" if ordering.higher else "<"
    printed = f" {sign} ".join(f"{value:g}" for value in ordering.values) or "in words"
    difference = _readable(summarise(differences)) if len(differences) else Summary(float("nan"))
    return (f"{ordering.better} {sign} {ordering.worse}", ordering.place, printed, ordering.metric,
            verdict(differences, p, ordering.higher), len(differences), difference, Probability(p))


def _readable(difference: Summary) -> Summary:
    """With as many decimals as show two figures of the deviation, as each line has a metric of its own."""
    if not difference.std > 1e-6:  # of rounding
        return difference
    return replace(difference, digits=max(0, 1 - math.floor(math.log10(difference.std))))


def _by_own_name(methods: Mapping[str, Rows]) -> dict[str, Rows]:
    """The methods without the words that all of them have, if there are several."""
    words = [name.split(", ") for name in methods]
    common = set.intersection(*map(set, words)) if len(words) > 1 else set()
    return {", ".join(word for word in own if word not in common): rows
            for own, rows in zip(words, methods.values(), strict=True)}


def _rows_of(methods: Mapping[str, Rows], name: str) -> Rows:
    """The rows of a method, also where its name says more in brackets."""
    return next((rows for own, rows in methods.items() if own == name or own.startswith(f"{name} (")), ())


def _measured(methods: Mapping[str, Rows], ordering: Ordering) -> bool:
    return all(any(ordering.metric in row for row in _rows_of(methods, name))
               for name in (ordering.better, ordering.worse))


def _paired(methods: Mapping[str, Rows], ordering: Ordering) -> tuple[np.ndarray, np.ndarray]:
    """The means of both rows [N], of the cases in which both are defined."""
    better, worse = (_case_means(_rows_of(methods, name), ordering.metric)
                     for name in (ordering.better, ordering.worse))
    cases = sorted(case for case in better.keys() & worse.keys() if np.isfinite([better[case], worse[case]]).all())
    return np.array([better[case] for case in cases]), np.array([worse[case] for case in cases])


def _case_means(rows: Rows, metric: str) -> dict[str, float]:
    """Case -> the mean of a metric over its rows; NaN where one is undefined, without labels that are in no mask."""
    cases: dict[str, list[float]] = {}
    for row in rows:
        value = row.get(metric)
        value = float("nan") if value is None or value == "" else float(value)
        if np.isfinite(value) or not row.get("absent"):
            cases.setdefault(str(row["case"]), []).append(value)
    return {case: float(np.mean(values)) for case, values in cases.items()}
