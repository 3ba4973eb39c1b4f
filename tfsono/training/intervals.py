"""`interval.json` of a run of `head`: how far 90 % of its predictions' lengths are from the reference, by size.

    {"coverage": 0.9, "cases": 787, "edges_mm": [44.1, 120.3, ...],
     "percent": {"bpd": [2.1, ...], "ofd": [2.0, ...], "hc": [1.8, ...]}}

`evaluate/head.py --interval_for` writes it, from images that the measured networks did not see; see
`tfsono.metrics.intervals`. The errors may be those of the folds of a network that is trained on all of their images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tfsono.errors import UserError
from tfsono.files import read_json, write_text
from tfsono.manifest import Intervals, check_intervals
from tfsono.metrics.intervals import first_of_cases, fitted
from tfsono.structure import check_structure
from tfsono.training.record import recorded
from tfsono.training.run import DAMAGED, Run

INTERVAL = "interval.json"


def keep_intervals(runs: Sequence[Run], rows: Sequence[Mapping]) -> None:
    """Writes the intervals of the measured errors into runs, as a file of each.

    Args:
      runs: trained.
      rows: of cases.csv, of one method.

    Raises:
      UserError: too few images with lengths.
    """
    if not runs:
        return
    try:
        intervals = fitted(first_of_cases(rows))
    except ValueError as error:
        raise UserError(f"--interval_for {runs[0].folder}: {error}; evaluate runs with more test cases") from None
    for run in runs:
        with recorded(run.folder, INTERVAL) as (path,):
            write_text(path, json.dumps(intervals, indent=2) + "\n")
        print(f"{run.folder / INTERVAL}: intervals by the errors of {intervals['cases']} images")


def intervals_of(runs: Sequence[Run]) -> Intervals | None:
    """The intervals of runs that predict together; None where one has none or another, or a value was set since."""
    paths = [run.folder / INTERVAL for run in runs if (run.folder / INTERVAL).exists()]
    found = [_read(path) for path in paths]
    alike = len(found) == len(runs) and all(one == found[0] for one in found)
    return found[0] if alike and not any(run.settings.at_test for run in runs) else None


def _read(path) -> Intervals:
    intervals = read_json(path, DAMAGED)
    check_structure(intervals, Intervals, path)
    check_intervals(path, intervals, DAMAGED)
    return intervals
