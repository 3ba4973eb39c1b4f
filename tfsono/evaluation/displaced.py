"""Reference masks that may be misaligned with their image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tfsono.metrics.displacement import displacement
from tfsono.report.tables import Table

GAIN = 0.03  # of Dice by a shift; few aligned real masks reach half of it
SHIFT = tuple(f"reference_shift_{axis}_vox" for axis in "xyz")


def displacement_columns(mask: np.ndarray, reference: np.ndarray) -> dict:
    """The columns of cases.csv that `displaced_tables` reads, for a prediction and its reference [X, Y, Z]."""
    found = displacement(mask, reference)
    return {"case_dice": found.dice, "shifted_dice": found.shifted_dice,
            **dict(zip(SHIFT, found.shift_vox, strict=True))}


def displaced_tables(rows: Iterable[Mapping]) -> dict[str, Table]:
    """The table of such masks under the name of its file; empty where there are none."""
    table = displaced_table(rows)
    return {"displaced": table} if table else {}


def displaced_table(rows: Iterable[Mapping]) -> Table | None:
    """The cases whose reference mask agrees better by `GAIN` when it is shifted; None where there are none.

    Args:
      rows: of `cases.csv`, with `case`, `run`, `case_dice`, `shifted_dice` and the `SHIFT` columns.
    """
    cases: dict[str, dict[str, Mapping]] = {}
    for row in rows:
        cases.setdefault(row["case"], {})[row["run"]] = row
    found = []
    for case, runs in cases.items():
        gain = np.mean([row["shifted_dice"] - row["case_dice"] for row in runs.values()])
        if gain >= GAIN:
            best = max(runs.values(), key=lambda row: row["shifted_dice"])
            found.append((gain, (case, *(int(best[key]) for key in SHIFT), best["case_dice"], best["shifted_dice"])))
    if not found:
        return None
    return Table("Reference masks that may be misaligned",
                 ("Case", "x voxels", "y voxels", "z voxels", "DICE", "DICE if shifted"),
                 tuple(row for _, row in sorted(found, key=lambda pair: -pair[0])),
                 f"Test cases whose Dice improves by {GAIN} or more, in the mean of the runs, when the reference mask "
                 "is shifted by one or two voxels; the run with the best shift is shown. All other tables use the "
                 "masks unshifted. If such cases are few, check their masks; if many, in one direction, check the "
                 "network and its resampling.",
                 (None, 0, 0, 0, 3, 3))
