"""Intervals of lengths by split conformal prediction: of heads of a size, the error in percent that 90 % stay within.

The errors are of images that the network did not see, by bins of the predicted circumference: small heads err by more
percent. Lei et al., JASA 113, 2018, Theorem 2.2: the quantile of rank ceil((n + 1) 0.9) of n errors holds with a
probability of at least 0.9 for one more image of their kind.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

COVERAGE = 0.9  # as `tfsono.manifest` has it
LENGTHS = ("bpd", "ofd", "hc")
LEAST_IN_BIN, MOST_BINS = 80, 5


def fitted(rows: Sequence[Mapping]) -> dict:
    """The intervals of predictions like these.

    Args:
      rows: of `metrics.head_case.head_metrics`, one an image; undefined and unmeasured ones are left out.

    Returns:
      "coverage", the number of "cases", the "edges_mm" of the bins of predicted circumferences, and in "percent" each
      length's half width in every bin.

    Raises:
      ValueError: fewer than `LEAST_IN_BIN` images with lengths.
    """
    sizes, errors = _measured(rows)
    if len(sizes) < LEAST_IN_BIN:
        raise ValueError(f"needs {LEAST_IN_BIN} images with lengths in millimetres; found {len(sizes)}")
    bins = min(MOST_BINS, len(sizes) // LEAST_IN_BIN)
    edges = np.quantile(sizes, np.linspace(0, 1, bins + 1))
    places = np.clip(np.searchsorted(edges, sizes, side="right") - 1, 0, bins - 1)
    quantiles = np.array([[_quantile(errors[places == place, column]) for place in range(bins)]
                          for column in range(len(LENGTHS))])
    return {"coverage": COVERAGE, "cases": len(sizes), "edges_mm": [round(float(edge), 2) for edge in edges],
            "percent": {name: [round(float(value), 3) for value in values]
                        for name, values in zip(LENGTHS, quantiles, strict=True)}}


def percent_of(intervals: Mapping, hc_mm: float) -> dict[str, float]:
    """Each length's half width in percent of it, for a predicted circumference; {} outside of the sizes fitted to."""
    edges = intervals["edges_mm"]
    if not edges[0] <= hc_mm <= edges[-1]:
        return {}
    place = min(int(np.searchsorted(edges, hc_mm, side="right")) - 1, len(edges) - 2)
    return {name: values[place] for name, values in intervals["percent"].items()}


def held_out_coverage(rows: Sequence[Mapping]) -> list[dict]:
    """Whether intervals hold, an image a row: each is fitted to the other folds alone.

    The images that one network of several did not see are its fold; those of all networks are divided by subject.

    Args:
      rows: as for `fitted`, several an image where several networks did not see it.

    Returns:
      Rows with `case`, `hc_mm` and for each length `NAME_inside`; sizes outside of those fitted to have none.
    """
    first = first_of_cases(rows)
    parts = _parts(rows, first)
    found = []
    for part in sorted(set(parts)):
        others = [row for row, other in zip(first, parts, strict=True) if other != part]
        if len(_measured(others)[0]) < LEAST_IN_BIN:
            return []
        intervals = fitted(others)
        found += [_judged(row, intervals) for row, other in zip(first, parts, strict=True) if other == part]
    return [row for row in found if len(row) > 2]


def first_of_cases(rows: Sequence[Mapping]) -> list[Mapping]:
    """The first row of each case."""
    cases: dict[str, Mapping] = {}
    for row in rows:
        cases.setdefault(str(row["case"]), row)
    return list(cases.values())


def _measured(rows: Sequence[Mapping]) -> tuple[np.ndarray, np.ndarray]:
    """The predicted circumferences [N] in mm, and the absolute errors [N, 3] in percent of the predicted lengths."""
    table = np.array([[row["hc_mm"], *(_percent(row, name) for name in LENGTHS)] for row in rows], np.float64)
    table = table.reshape(-1, 1 + len(LENGTHS))
    table = table[np.isfinite(table).all(axis=1)]
    return table[:, 0], table[:, 1:]


def _percent(row: Mapping, name: str) -> float:
    return 100 * abs(row[f"{name}_error_mm"]) / row[f"{name}_mm"] if row[f"{name}_mm"] else math.nan


def _quantile(errors: np.ndarray) -> float:
    rank = min(math.ceil((len(errors) + 1) * COVERAGE), len(errors))
    return np.sort(errors)[rank - 1]


def _parts(rows: Sequence[Mapping], first: Sequence[Mapping]) -> list[str]:
    networks: dict[str, set] = {}
    for row in rows:
        networks.setdefault(str(row["case"]), set()).add(row["run"])
    several = len({row["run"] for row in rows}) > 1
    return [f"fold {row['run']}" if several and len(networks[str(row["case"])]) == 1 else
            f"{zlib.crc32(str(row.get('subject', row['case'])).encode()) % 5}" for row in first]


def _judged(row: Mapping, intervals: Mapping) -> dict:
    judged = {"case": row["case"], "hc_mm": row["hc_mm"]}
    for name, percent in percent_of(intervals, row["hc_mm"]).items():
        judged[f"{name}_inside"] = float(_percent(row, name) <= percent)
    return judged
