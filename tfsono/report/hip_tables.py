"""The tables of `hip`: the paper's Tables 1 and 2 with its rows beside ours, labels, paired differences.

Rows are those of cases.csv: what `tfsono.metrics.surface.segmentation_metrics` measures, with `method`, `case` and
`label`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfsono.report.rows import by_method, case_means
from tfsono.report.tables import (
    ABSENT_NOTES, COMPARISON_NOTE, SURFACE_NOTE, Table, case_table, comparison_table, nsd_columns, paired_table,
)

Rows = Sequence[Mapping]

COLUMNS = (  # key in cases.csv, heading of the paper's tables, digits
    ("assd_mm", "Mean mm", 2), ("assd_std_mm", "STD mm", 2), ("hausdorff_mm", "Hausdorff mm", 1),
    ("dice", "DICE", 3), ("jaccard", "Jaccard", 3), ("precision", "Precision", 3), ("recall", "Recall", 3),
)
OUR_COLUMNS = (("assd_mm", "ASSD mm", 2), *COLUMNS[1:])  # outside the paper's tables
MORE_COLUMNS = (("hausdorff95_mm", "HD95 mm", 2), ("volume_error_ml", "Volume error mL", 2))
ASSD_NOTE = "Mean: the average symmetric surface distance (ASSD); STD: of the surface distances."
PAPER_TABLE_1 = {
    "Pat01": (0.17, 0.31, 3.8, 0.989, 0.978, 0.992, 0.985), "Pat02": (0.27, 0.46, 5.3, 0.986, 0.973, 0.985, 0.987),
    "Pat03": (0.19, 0.35, 4.1, 0.987, 0.975, 0.995, 0.979), "Pat04": (0.23, 0.67, 13.0, 0.987, 0.974, 0.992, 0.982),
    "Pat05": (0.12, 0.21, 4.3, 0.989, 0.979, 0.991, 0.988), "Pat06": (0.14, 0.26, 4.5, 0.990, 0.980, 0.995, 0.985),
    "Pat07": (0.41, 0.95, 7.0, 0.978, 0.958, 0.984, 0.973), "Pat08": (0.39, 0.93, 5.2, 0.981, 0.963, 0.994, 0.968),
    "Pat09": (0.12, 0.17, 11.0, 0.990, 0.981, 0.990, 0.990), "Pat10": (0.15, 0.28, 5.3, 0.988, 0.976, 0.991, 0.984),
    "Average": (0.22, None, 6.4, 0.987, 0.974, 0.991, 0.982),
}
PAPER_TABLE_2 = {
    "without transfer": (0.67, None, 12.4, 0.975, 0.950, 0.985, 0.964),
    "with transfer": (0.22, None, 6.4, 0.987, 0.974, 0.991, 0.982),
}


def hip_tables(rows: Rows, labels: Sequence[str], empty_is: str = "absent") -> dict[str, Table]:
    """All tables by the names of their files.

    Args:
        rows: Of cases.csv.
        labels: Names; with several each has its own table.
        empty_is: How the rows count a label in neither mask: `absent` or `perfect`.
    """
    means, more = means_of(rows), MORE_COLUMNS + nsd_columns(rows)
    paper = {name: dict(zip((column[0] for column in COLUMNS), values, strict=True))
             for name, values in PAPER_TABLE_2.items()}
    tables = {"table2": comparison_table("Table 2. Methods", means, paper, COLUMNS + more,
                                         f"{COMPARISON_NOTE} {ASSD_NOTE}", empty_is=empty_is)}
    if len(means) > 1:
        tables["differences"] = paired_table("Paired differences", means, OUR_COLUMNS)
    for label in labels if len(labels) > 1 else ():
        own = means_of([row for row in rows if row["label"] == label])
        tables[f"label_{label}"] = comparison_table(f"Label {label}", own, {}, OUR_COLUMNS + more,
                                                   empty_is=empty_is)
    return tables | patient_tables(means, empty_is)


def means_of(rows: Rows) -> dict[str, list[dict]]:
    """Method -> a row a case, the mean over its labels and runs."""
    keys = [column[0] for column in COLUMNS + MORE_COLUMNS + nsd_columns(rows)]
    return {method: case_means(group, keys, of_masks=True) for method, group in by_method(rows).items()}


def patient_tables(means: Mapping[str, Rows], empty_is: str) -> dict[str, Table]:
    """Table 1 (per patient) of every method, above the paper's."""
    tables, absent = {}, {case["case"] for cases in means.values() for case in cases if case["absent"]}
    note = f"The paper's patients are not ours; its rows are below ours. {ASSD_NOTE} {SURFACE_NOTE}"
    if absent:
        note += f" {ABSENT_NOTES[empty_is]} Here: {', '.join(sorted(absent))}."
    for number, (method, cases) in enumerate(means.items(), 1):
        own = case_table(f"Table 1. Per patient: {method}", cases, COLUMNS)
        printed = tuple((f"{name} (paper)", *values) for name, values in PAPER_TABLE_1.items())
        tables["table1" if len(means) == 1 else f"table1_{number}"] = Table(
            own.title, own.columns, own.rows + printed, note, own.digits)
    return tables
