"""The tables of `pose`: the paper's Tables 1 and 2 with its rows beside ours, flaws, lengths, differences, refinement.

Rows are those of cases.csv: what `tfsono.metrics.pose_case` measures, with `method` and `case`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfsono.metrics.pose_case import Segments, known_segments
from tfsono.report.landmark_tables import landmark_table
from tfsono.report.rows import by_method
from tfsono.report.rows import case_means
from tfsono.report.refinement import benefit_table
from tfsono.report.tables import Table, comparison_table, paired_table

Rows = Sequence[Mapping]

ORDER = ("Land-R4", "LandGCP", "RNN-R4", "RNNGCP", "GAN-R4", "GANGCP", "SSL-R4", "SSLGCP")
PAPER_CASES = 52
PAPER_TABLE_1 = {  # Euclidean distance in mm of L1 to L16, and their mean
    "Land-R4": (1.75, 6.69, 2.54, 7.18, 8.85, 11.1, 2.57, 3.31, 9.87, 13.7, 4.34, 9.23, 7.22, 3.84, 6.69, 6.46, 6.59),
    "LandGCP": (1.74, 8.78, 2.54, 5.59, 6.39, 6.40, 2.15, 2.39, 11.5, 11.1, 2.97, 6.27, 5.05, 2.36, 5.91, 4.49, 5.35),
    "RNN-R4": (1.85, 12.1, 7.62, 14.6, 22.1, 22.6, 2.70, 10.4, 20.2, 18.9, 10.7, 12.3, 6.86, 2.87, 5.49, 7.11, 11.14),
    "RNNGCP": (1.76, 9.47, 5.93, 13.5, 18.1, 14.9, 4.45, 10.4, 17.1, 15.0, 4.41, 7.27, 5.56, 5.33, 7.11, 5.35, 9.11),
    "GAN-R4": (1.85, 7.16, 2.18, 6.57, 8.54, 11.7, 2.44, 2.50, 10.3, 11.4, 3.35, 8.30, 5.00, 3.37, 5.35, 4.21, 5.89),
    "GANGCP": (1.68, 8.61, 2.42, 5.18, 7.79, 9.48, 2.34, 2.32, 11.2, 12.2, 2.99, 6.84, 6.29, 2.02, 5.43, 4.18, 5.69),
    "SSL-R4": (1.72, 5.00, 2.36, 4.37, 6.81, 13.3, 2.56, 3.19, 8.40, 10.8, 3.32, 6.45, 7.40, 2.93, 4.63, 4.26, 5.47),
    "SSLGCP": (1.76, 6.39, 2.44, 4.57, 6.66, 6.00, 2.23, 2.30, 9.27, 9.40, 2.65, 6.51, 5.68, 1.98, 5.60, 5.31, 4.92),
}
PAPER_TABLE_2 = {  # area under the PCK curve in % of L1 to L16, and their mean
    "Land-R4": (81.4, 56.5, 75.5, 50.1, 47.5, 32.3, 72.8, 74.0, 48.0, 28.4, 63.6, 27.3, 44.9, 61.8, 48.1, 49.4, 53.8),
    "LandGCP": (82.5, 48.4, 74.8, 61.0, 65.6, 51.8, 78.4, 75.9, 45.7, 35.8, 70.4, 46.5, 49.7, 76.6, 51.7, 55.7, 60.7),
    "RNN-R4": (80.6, 34.2, 77.1, 29.6, 34.3, 21.9, 71.3, 72.7, 35.5, 29.1, 55.5, 37.3, 54.7, 69.7, 59.3, 55.6, 51.2),
    "RNNGCP": (82.8, 40.3, 77.3, 36.5, 35.5, 36.2, 75.5, 76.0, 26.6, 27.5, 58.1, 43.9, 51.3, 62.4, 54.0, 60.0, 52.8),
    "GAN-R4": (80.6, 55.5, 77.2, 55.1, 50.3, 33.0, 74.2, 74.4, 46.6, 38.1, 66.6, 32.9, 51.9, 66.4, 55.0, 56.4, 57.1),
    "GANGCP": (83.4, 49.8, 75.6, 64.2, 57.7, 36.1, 76.4, 77.0, 46.6, 35.8, 71.1, 44.6, 51.6, 80.0, 55.8, 58.8, 60.3),
    "SSL-R4": (81.8, 61.9, 75.9, 65.6, 56.7, 22.0, 73.0, 75.3, 56.8, 37.8, 65.1, 46.8, 42.4, 70.1, 63.0, 57.0, 59.5),
    "SSLGCP": (82.6, 57.7, 75.6, 66.1, 63.4, 55.0, 77.5, 76.9, 56.0, 43.6, 73.6, 47.4, 45.1, 80.5, 55.3, 50.5, 62.9),
}
LARGE_MM = 10.0
"""From here on an error counts as large."""
COMPARED = (("mre_mm", "MRE mm", 2), ("auc", "AUC points", 1, 100.0))
FLAWS_NOTE = (
    "Means over the cases, each the mean of its runs, ± standard deviation over them (95 % bootstrap interval). Pairs "
    "exchanged: in a case, left and right landmarks that are nearer to the reference when exchanged. "
    "Pairs against the spine: whose sides contradict the predicted midline. Odd lengths: segments 1.5 times shorter or "
    "longer than in any training case; `predict` flags both. "
    "Trapezoids: the curve sampled at each tenth of its limit, for one point up to half a tenth more or less. "
    "Undefined: cases with a landmark without a prediction, or without a value here."
)


def pose_tables(rows: Rows, landmarks: Sequence[str], segments: Segments, limit_mm: float,
                papers: bool) -> dict[str, Table]:
    """All tables by the names of their files.

    Args:
        rows: Of cases.csv.
        landmarks: Names.
        segments: Pairs of names; pairs with an end that is no landmark are ignored.
        limit_mm: End of the PCK curve.
        papers: Whether the landmarks are the paper's, so that its rows are shown beside ours.
    """
    means = means_of(rows, landmarks, segments)
    printed = (PAPER_TABLE_1, PAPER_TABLE_2) if papers else ({}, {})
    tables = {
        "table1": landmark_table("Table 1. Euclidean distance, mm", means, printed[0],
                                 landmark_columns(landmarks, "error"), PAPER_CASES),
        "table2": landmark_table(f"Table 2. Area under the PCK curve from 0 to {limit_mm:g} mm, %", means, printed[1],
                                 landmark_columns(landmarks, "auc"), PAPER_CASES),
    }
    flaws = [("large", f"Errors of {LARGE_MM:g} mm or more, %", 1, 100.0), ("exchanged", "Pairs exchanged", 2),
             ("sides_contradict", "Pairs against the spine", 2), ("odd_lengths", "Odd lengths", 2),
             ("auc_trapezoid", "AUC by trapezoids, %", 1, 100.0), ("lowest_peak", "Lowest peak", 2)]
    lengths = length_columns(landmarks, segments)
    if lengths:
        tables["lengths"] = landmark_table("Absolute errors of the lengths of the segments, mm", means, {}, lengths)
        flaws.append(("length_abs_error_mm", "Length error, mm", 2))
    tables["flaws"] = comparison_table("Where predictions fail", means, {}, flaws, FLAWS_NOTE)
    if len(means) > 1:
        tables["differences"] = paired_table("Paired differences", means, COMPARED)
    refined = refined_rows(by_method(rows))
    if refined:
        tables["refinement"] = benefit_table(refined, landmarks, refinement_title(refined))
    return tables


def in_order(rows: Rows) -> list[Mapping]:
    """The rows with the methods in the order of the paper's tables; others after them, in their own order."""
    place = {name: number for number, name in enumerate(ORDER)}
    return sorted(rows, key=lambda row: place.get(row["method"].split(",")[0], len(ORDER)))


def landmark_columns(landmarks: Sequence[str], kind: str) -> list[tuple]:
    """The columns of Table 1 (`error`, millimetres) or 2 (`auc`, percent)."""
    numbered = [(name, f"L{number} {name}") for number, name in enumerate(landmarks, 1)]
    if kind == "error":
        return [*((f"error_{name}_mm", text, 2) for name, text in numbered), ("mre_mm", "Mean mm", 2)]
    return [*((f"auc_{name}", text, 1, 100.0) for name, text in numbered), ("auc", "Mean %", 1, 100.0)]


def length_columns(landmarks: Sequence[str], segments: Segments) -> list[tuple]:
    """Absolute errors of the lengths, in millimetres, and their mean; nothing without segments."""
    pairs = known_segments(segments, landmarks)
    columns = [(f"length_abs_error_{first}_{last}_mm", f"{first} - {last}", 2) for first, last in pairs]
    return [*columns, ("length_abs_error_mm", "Mean mm", 2)] if columns else []


def means_of(rows: Rows, landmarks: Sequence[str], segments: Segments) -> dict[str, list[dict]]:
    """Method -> a row a case, the mean over its runs."""
    keys = [column[0] for column in (*landmark_columns(landmarks, "error"), *landmark_columns(landmarks, "auc"),
                                     *length_columns(landmarks, segments))]
    keys += ["auc_trapezoid", "missing", "exchanged", "sides_contradict", "odd_lengths", "large", "lowest_peak"]
    longer = [_with_absolutes(row, landmarks, known_segments(segments, landmarks)) for row in rows]
    return {method: case_means(group, keys) for method, group in by_method(longer).items()}


def _with_absolutes(row: Mapping, landmarks: Sequence[str], segments: Segments) -> dict:
    """The row with the absolute errors of the lengths and the share of large errors."""
    errors = np.array([row[f"error_{name}_mm"] for name in landmarks])
    known = np.isfinite(errors)
    lengths = {f"length_abs_error_{first}_{last}_mm": abs(row[f"length_error_{first}_{last}_mm"])
               for first, last in segments}
    return {**row, **lengths, "large": float((errors[known] >= LARGE_MM).mean()) if known.any() else np.nan}


def refined_rows(methods: Mapping[str, Rows]) -> dict[str, Rows]:
    """The methods whose rows are of refined predictions."""
    return {name: rows for name, rows in methods.items() if "initial_mm" in rows[0]}


def refinement_title(refined: Mapping[str, Rows]) -> str:
    """The title, with how often the refinement failed and how long a volume took by method."""
    rows = [row for group in refined.values() for row in group]
    failed = sum(not row["refined"] for row in rows)
    seconds = ", ".join(f"{name} {np.median([row['seconds'] for row in group]):.1f} s"
                        for name, group in refined.items())
    return (f"Refinement on the test volume: before and after; {failed} of {len(rows)} predictions were left "
            f"unrefined; median time of a volume: {seconds}")
