"""Tables of `head` by the size of the head: every image once, and whether intervals hold.

Rows are those of `metrics.head_case.head_metrics`, one a test case and run. Runs that test different folds are one
method: each image is scored by the networks that did not see it, by their mean where there are several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tfsono.metrics.intervals import LENGTHS, held_out_coverage
from tfsono.report.rows import case_means
from tfsono.report.tables import Metric, Summary, Table, metric_values, summarise

Rows = Sequence[Mapping[str, object]]
STEP_MM = 10
TRIMESTERS = ("first", "second", "third")
RATES = (("sdr_2", "SDR 2 mm %", 1), ("sdr_2.5", "SDR 2.5 mm %", 1), ("sdr_3", "SDR 3 mm %", 1),
         ("sdr_4", "SDR 4 mm %", 1))
METRICS = (
    Metric("dsc_percent", "DSC %", 2),
    *(Metric(f"{key}_{kind}", f"{key.upper()} {word}", 2) for key in ("hc", "bpd", "ofd") for kind, word in
      (("abs_error_mm", "absolute mm"), ("error_mm", "signed mm"), ("abs_error_percent", "absolute %"))),
    *(Metric(*rate) for rate in RATES))
SIZE_NOTE = ("Every image once: the mean of the runs that test it, and the mean of these over the images of a size by "
             "the reference circumference; in brackets the 95 % bootstrap interval over the images. Trimesters as in "
             "the table of trimesters. Undefined: images with a prediction that no ellipse fits; they are in no mean "
             "of lengths, have a DSC of 0, and are detected within no distance.")


def size_table(methods: Mapping[str, Rows]) -> Table | None:
    """All images of each method, by trimester and by 10 mm of HC; None without millimetres."""
    rows = []
    for method, held in methods.items():
        for name, images in groups_of(images_of(held)):
            cells = (_cell(images, metric) for metric in METRICS)
            undefined = sum(image["undefined"] > 0 for image in images)
            rows.append((method, name, len(images), int(undefined), *cells))
    headings = ("Method", "Head", "Images", "Undefined", *(metric.heading for metric in METRICS))
    digits = (None, None, 0, 0, *(metric.digits for metric in METRICS))
    return Table("By size of the head", headings, tuple(rows), SIZE_NOTE, digits) if rows else None


def images_of(rows: Rows) -> list[dict]:
    """One row an image with a size in millimetres: the means over the runs that test it; by size."""
    keys = ("hc_reference_mm", "trimester", *(metric.key for metric in METRICS))
    known = [row for row in rows if math.isfinite(float(row["hc_reference_mm"]))]
    return sorted(case_means(known, keys), key=lambda row: row["hc_reference_mm"])


def groups_of(images: Sequence[dict]) -> list[tuple[str, list[dict]]]:
    """All images, those of each trimester, and those of each 10 mm, with the group's name."""
    groups: dict[str, list[dict]] = {}
    for image in images:
        groups.setdefault("all", []).append(image)
    for image in images:
        groups.setdefault(f"{TRIMESTERS[int(image['trimester']) - 1]} trimester", []).append(image)
    for image in images:
        low = int(image["hc_reference_mm"] // STEP_MM) * STEP_MM
        groups.setdefault(f"HC {low} to {low + STEP_MM} mm", []).append(image)
    return list(groups.items())


def _cell(images: Sequence[Mapping], metric: Metric) -> Summary:
    found = summarise(metric_values(images, metric))
    return Summary(mean=found.mean, low=found.low, high=found.high, count=found.count)


def coverage_table(methods: Mapping[str, Rows]) -> Table | None:
    """The share of images whose reference lies in the interval, by fifths of the predicted HC; None with too few."""
    rows = []
    for method, held in methods.items():
        judged = held_out_coverage(held)
        for name, images in _by_prediction(judged).items():
            shares = (100 * float(np.mean([image[f"{key}_inside"] for image in images])) for key in LENGTHS)
            rows.append((method, name, len(images), *shares))
    note = ("The reference lies in the interval around the prediction: 90 % is right. The interval of each image is "
            "fitted to the errors of the other folds alone (images that all runs test: by subject, in fifths), in "
            "percent of the length and by size. Fifths: of the images by their predicted circumference.")
    headings = ("Method", "Predicted head", "Images", *(f"{key.upper()} inside %" for key in LENGTHS))
    return Table("Intervals", headings, tuple(rows), note, (None, None, 0, 1, 1, 1)) if rows else None


def _by_prediction(judged: Sequence[dict]) -> dict[str, list[dict]]:
    """All, and each fifth by the predicted circumference."""
    if not judged:
        return {}
    ranked = sorted(judged, key=lambda image: image["hc_mm"])
    fifths = np.array_split(np.arange(len(ranked)), 5)
    groups = {"all": ranked}
    for part in (fifth for fifth in fifths if len(fifth)):
        held = [ranked[place] for place in part]
        groups[f"HC {held[0]['hc_mm']:.0f} to {held[-1]['hc_mm']:.0f} mm"] = held
    return groups
