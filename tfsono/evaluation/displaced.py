"""The table of masks that may lie beside their images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tfsono.report.tables import Table

WORTH = 0.03  # Dice that a shift must give; of real masks where they belong few reach half of it
SHIFT = tuple(f"truth_shift_{axis}_vox" for axis in "xyz")


def displaced_table(rows: Iterable[Mapping]) -> Table | None:
    """The cases whose truth agrees better by `WORTH` when it is moved; None where there are none.

    Args:
      rows: of `cases.csv`, with `case`, `run`, `case_dice`, `moved_dice` and the `SHIFT` columns.
    """
    cases: dict[str, dict[str, Mapping]] = {}
    for row in rows:
        cases.setdefault(row["case"], {})[row["run"]] = row
    found = []
    for case, runs in cases.items():
        gain = np.mean([row["moved_dice"] - row["case_dice"] for row in runs.values()])
        if gain >= WORTH:
            best = max(runs.values(), key=lambda row: row["moved_dice"])
            found.append((gain, (case, *(int(best[key]) for key in SHIFT), best["case_dice"], best["moved_dice"])))
    if not found:
        return None
    return Table("Masks that may be displaced",
                 ("Case", "x voxels", "y voxels", "z voxels", "DICE", "DICE if moved"),
                 tuple(row for _, row in sorted(found, key=lambda pair: -pair[0])),
                 f"Cases whose true mask, moved by whole voxels, agrees better by {WORTH} or more on the mean of the "
                 "runs; shown for the run that then agrees best. Nothing was moved: all other tables take the masks "
                 "as they are. Few such cases: look at their masks; many, in one direction: at the network and its "
                 "resampling.",
                 (None, 0, 0, 0, 3, 3))
