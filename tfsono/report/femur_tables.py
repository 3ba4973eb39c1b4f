"""The tables of `femur`: the paper's Tables 1 and 2 with its rows beside ours, regions, contradictions, agreement.

Rows are those of cases.csv: what `tfsono.metrics.femur_case` measures, with `method`, `case` and `region`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfsono.report.agreement import Measurement, agreement_table, agreements_of
from tfsono.report.rows import by_method, case_means
from tfsono.report.tables import (
    LANDMARKS_NOTE, Metric, Table, comparison_table, metric_values, nsd_columns, paired_table, summarise,
)

Rows = Sequence[Mapping]

TABLE_1 = (  # key in cases.csv, heading of the paper's table, digits, factor
    ("dice", "DSC %", 2, 100.0), ("jaccard", "Jacc %", 2, 100.0), ("assd_mm", "Adb mm", 2),
    ("hausdorff_mm", "Hdb mm", 2), ("volume_error_ml", "Verr mL", 2),
)
PAPER_TABLE_1 = {
    "Unet-ROI": ((87.30, 7.1), (78.07, 9.8), (1.59, 1.4), (9.05, 7.4), (5.52, 2.3)),
    "Unet-S": ((89.41, 4.6), (81.14, 7.1), (0.84, 0.7), (4.98, 3.3), (3.04, 1.7)),
    "BRN": ((90.03, 3.5), (82.04, 5.5), (0.77, 0.5), (4.69, 3.0), (2.28, 1.2)),
    "BRND": ((90.11, 3.5), (82.18, 5.6), (0.78, 0.6), (5.04, 3.4), (1.89, 1.3)),
    "BRNDC": ((90.76, 3.1), (83.23, 5.0), (0.68, 0.5), (4.27, 2.6), (1.79, 1.3)),
    "BRNDC-D": ((91.03, 3.0), (83.67, 5.0), (0.66, 0.5), (4.08, 2.7), (1.60, 1.1)),
}
PAPER_TABLE_2 = {
    "Unet-L": ((4.32, 3.02), (4.57, 2.13), (1.05, 1.15)), "BRN": ((4.26, 2.64), (4.46, 2.88), (0.96, 1.06)),
    "BRND": ((4.19, 2.22), (4.05, 2.60), (0.89, 0.99)), "BRNDC": ((3.92, 2.64), (4.28, 2.78), (1.04, 1.05)),
    "BRNDC-D": ((3.70, 1.93), (4.26, 2.53), (0.87, 0.91)),
}
PAPER_IOU_PERCENT = 78.1
REFERENCE_BOX, FOUND_BOX, WHOLE = "reference box", "found by the first stage", "nothing found: the whole volume"


def femur_tables(rows: Rows, landmarks: tuple[str, ...], empty_is: str = "absent") -> dict[str, Table]:
    """All tables by the names of their files.

    Args:
        rows: Of cases.csv.
        landmarks: Names; with two the length is measured as well.
        empty_is: How the rows count a label in neither mask: `absent` or `perfect`.
    """
    masks, points, methods = mask_means(rows), landmark_means(rows, landmarks), by_method(rows)
    tables = paper_tables(masks, points, landmarks, empty_is) | {"regions": region_table(methods)}
    both = {name: cases for name, cases in points.items() if name in masks}
    if both:
        tables["contradictions"] = comparison_table(
            "Contradictions: a landmark farther than 5 mm from the mask", both, {},
            (("contradiction", "Cases %", 1, 100.0),
             *((f"mask_distance_{name}_mm", f"{name} to mask mm", 2) for name in landmarks)), LANDMARKS_NOTE)
    if points and len(landmarks) == 2:
        tables["order"] = comparison_table(
            "Order of the landmarks", points, {},
            (("mre_mm", "As named mm", 2), ("exchanged_mm", "In the better order mm", 2)),
            f"Mean error of the two landmarks; where the second is lower, they are confused. {LANDMARKS_NOTE}")
    if len(masks) > 1:
        tables["differences1"] = paired_table("Paired differences of Table 1", masks, TABLE_1)
    if len(points) > 1:
        tables["differences2"] = paired_table("Paired differences of Table 2", points, table_2(landmarks))
    return tables | {"agreement": agreement_table(agreements_of(methods, measurements_of(landmarks)))}


def paper_tables(masks: Mapping[str, Rows], points: Mapping[str, Rows], landmarks: tuple[str, ...], empty_is: str
                 ) -> dict[str, Table]:
    """Table 1 for the methods with masks, Table 2 for those with landmarks."""
    tables, columns = {}, table_2(landmarks)
    if masks:
        more = nsd_columns(sum(masks.values(), []), scale=100.0, digits=2)
        tables["table1"] = comparison_table("Table 1. Segmentation", masks, paper_rows(PAPER_TABLE_1, TABLE_1),
                                            TABLE_1 + more, empty_is=empty_is)
    if points:
        printed = paper_rows(PAPER_TABLE_2, columns) if len(landmarks) == 2 else {}
        tables["table2"] = comparison_table("Table 2. Landmarks", points, printed, columns, LANDMARKS_NOTE)
    return tables


def table_2(landmarks: tuple[str, ...]) -> tuple:
    """The columns of Table 2, for the landmarks of the data."""
    length = (("length_abs_error_mm", "Lerr mm", 2),) if len(landmarks) == 2 else (("mre_mm", "MRE mm", 2),)
    return *((f"error_{name}_mm", f"{name} mm", 2) for name in landmarks), *length


def mask_means(rows: Rows) -> dict[str, list[dict]]:
    """Method -> a row a case, the mean over its runs; without the methods that predict no mask."""
    keys = [column[0] for column in TABLE_1 + nsd_columns(rows)]
    return {method: case_means(group, keys, of_masks=True) for method, group in by_method(rows).items()
            if has(group, "dice") or any(row["absent"] for row in group)}


def landmark_means(rows: Rows, landmarks: tuple[str, ...]) -> dict[str, list[dict]]:
    """The same of landmarks. `undefined` is excluded: it counts empty masks, which make no landmark undefined."""
    keys = [*(column[0] for column in table_2(landmarks)), "mre_mm", "contradiction",
            *["exchanged_mm"] * (len(landmarks) == 2),
            *(f"mask_distance_{name}_mm" for name in landmarks)]
    means = {method: case_means(group, keys) for method, group in by_method(rows).items() if has(group, "mre_mm")}
    return {method: [{key: value for key, value in case.items() if key != "undefined"} for case in cases]
            for method, cases in means.items()}


def has(rows: Rows, key: str) -> bool:
    """Whether a method predicts this at all."""
    return any(row[key] == row[key] for row in rows)


def measurements_of(landmarks: tuple[str, ...]) -> tuple:
    """Fig. 4: volume, and with two landmarks the length."""
    volume = Measurement("volume", "volume_ml", "reference_volume_ml", "mL")
    length = Measurement("length", "length_mm", "length_reference_mm", "mm")
    return (volume, length) if len(landmarks) == 2 else (volume,)


def paper_rows(printed: dict, columns: tuple) -> dict[str, dict]:
    """The paper's rows by the keys of our columns."""
    return {name: {"cases": 20, **{column[0]: value for column, value in zip(columns, values, strict=True)}}
            for name, values in printed.items()}


def region_table(methods: Mapping[str, Rows]) -> Table:
    """Sec. III-B: the overlap of the found and the reference box, and what the enlarged one holds."""
    rows = []
    for name, group in methods.items():
        found = [summarise(metric_values(group, Metric(key, "", 1, 100.0)))
                 for key in ("box_iou", "mask_inside", "landmarks_inside")]
        nothing = sum(row["region"] == WHOLE for row in group)
        region = REFERENCE_BOX if group[0]["region"] == REFERENCE_BOX else FOUND_BOX
        rows.append((name, region, len(group), nothing, *found))
    note = (f"IoU of the boxes before enlargement; the paper: {PAPER_IOU_PERCENT} %. Inside the enlarged box: the "
            "share of the reference mask, and the cases with every landmark. Where nothing is found, the region is the "
            "whole volume.")
    headings = ("Method", "Region", "Predictions", "Nothing found", "IoU %", "Mask inside %", "All landmarks inside %")
    return Table("Regions", headings, tuple(rows), note, (None, None, 0, 0, 1, 1, 1))
