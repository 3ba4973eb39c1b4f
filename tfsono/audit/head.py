"""BPD/OFD points checked against each other and against the ellipse of the mask, before training.

Every problem is a warning; a policy (`geometry.head_labels.apply_policy`) decides at training. Where no pixel size is
known, distances are in pixels.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from tfsono.audit.contact_sheet import LandmarkTile, write_landmark_sheet
from tfsono.data.layout import Dataset
from tfsono.data.prepare import read_image
from tfsono.errors import printable
from tfsono.geometry.ellipse import REFERENCE, Ellipse, ellipse_of_mask
from tfsono.geometry.head_labels import LANDMARKS, audit_counts, judge

WORST = 24
"""Images on the sheet of landmarks."""

MOST_HC_DIFFERENCE = 0.05
"""Largest relative difference between a table's circumference and the mask's ellipse; HC18's differ by 1 %."""

Problem = tuple[str, str]


def judge_head(mask: np.ndarray | None, dataset: Dataset, entry: dict) -> list[Problem]:
    """Adds "ellipse" and "judgement" (each None where unknown) to the entry of an image of a head.

    Args:
        mask: [X, Y, 1], or None.
        dataset: its landmarks are checked if they are `LANDMARKS`.
        entry: with "landmarks" in pixels, "pixel_size_mm" and "hc_mm".

    Returns:
        (code, text) of each warning.
    """
    problems: list[Problem] = []
    ellipse = None
    if mask is not None and mask.any():
        ellipse = ellipse_of_mask(np.ascontiguousarray(mask[:, :, 0].T), search=REFERENCE)
        problems += _ellipse_problems(ellipse, entry)
    entry["ellipse"] = None if ellipse is None else _plain(asdict(ellipse))
    entry["judgement"] = None
    if set(LANDMARKS) <= set(dataset.landmarks) and entry["landmarks"]:
        found = judge(_points(entry), ellipse, entry["pixel_size_mm"])
        entry["judgement"] = _plain(asdict(found))
        problems += _landmark_problems(entry["judgement"])
    return problems


def landmark_lines(audit: dict) -> list[str]:
    """The summary: rows checked, problems found, distances from the ends of the ellipses' axes."""
    judged = [entry for entry in audit["cases"] if entry.get("judgement")]
    if not judged:
        return []
    found = [entry["judgement"] for entry in judged]
    counts = {key: sum(one[key] for one in found) for key in ("names_exchanged", "ends_exchanged", "fits")}
    with_ellipse = sum(entry["ellipse"] is not None for entry in judged)
    lines = [
        f"landmarks: {len(judged)} cases judged, {with_ellipse} of them against the ellipse of their mask: names "
        f"exchanged in {counts['names_exchanged']}, ends in {counts['ends_exchanged']}; {len(judged) - counts['fits']} "
        f"do not fit, so that the policy drop keeps {counts['fits']}"
    ]
    for unit in ("px", "mm"):
        errors = [one[f"mean_error_{unit}"] for one in found if one[f"mean_error_{unit}"] is not None]
        if errors and not (unit == "px" and all(entry["pixel_size_mm"] for entry in judged)):
            lines.append(f"landmarks: {np.median(errors):.1f} {unit} from the ends of the ellipse's axes in the median "
                         f"of {len(errors)} cases, at most {max(errors):.1f} {unit}")
    return lines + _count_lines(judged)


def write_worst(path: Path, dataset: Dataset, audit: dict) -> bool:
    """Draws the 24 cases whose landmarks fit worst; False (and no file) where none were checked."""
    judged = [entry for entry in audit["cases"] if entry.get("judgement")]
    worst = sorted(judged, key=lambda entry: (-_severity(entry), entry["name"]))[:WORST]
    if not worst:
        return False
    cases = {case.name: case for case in dataset.cases}
    tiles = [_tile(entry, read_image(cases[entry["name"]])[0].array[:, :, 0].T) for entry in worst]
    bad = sum(not entry["judgement"]["fits"] for entry in judged)
    heading = f"{audit['dataset']}: landmarks of {len(judged)} cases judged, {bad} do not fit; the {len(tiles)} worst"
    write_landmark_sheet(path, heading, tiles)
    return True


def _points(entry: dict) -> np.ndarray:
    """[4, 2] in the order of `LANDMARKS`, NaN where missing."""
    missing = (math.nan, math.nan)
    return np.array([entry["landmarks"].get(name, missing)[:2] for name in LANDMARKS], np.float64)


def _plain(values: dict) -> dict:
    """For JSON: lists for tuples, None for NaN."""
    lists = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    return {key: None if isinstance(v, float) and math.isnan(v) else v for key, v in lists.items()}


def _ellipse_problems(ellipse: Ellipse | None, entry: dict):
    if ellipse is None:
        yield "no_ellipse", "no ellipse fits the mask: its measurement is undefined"
    elif entry["pixel_size_mm"] and entry["hc_mm"]:
        hc_mm = ellipse.circumference_px() * entry["pixel_size_mm"]
        if abs(hc_mm - entry["hc_mm"]) > MOST_HC_DIFFERENCE * entry["hc_mm"]:
            text = f"{hc_mm:.1f} mm by the mask and the pixel size, {entry['hc_mm']:.1f} mm by the table"
            yield "circumference_differs", f"{text}: is the row of another image?"


def _landmark_problems(judgement: dict):
    if judgement["names_exchanged"]:
        yield "names_exchanged", "the pair called BPD is the longer one"
    if judgement["ends_exchanged"]:
        yield "ends_exchanged", "the ends of a pair are exchanged"
    if not judgement["fits"]:
        yield "landmarks_do_not_fit", "; ".join(judgement["reasons"])


def _count_lines(judged: list[dict]) -> list[str]:
    """How well the judgement finds rows that are far off, where ellipse and millimetres are known."""
    known = [
        e for e in judged if e["ellipse"] and e["pixel_size_mm"] and e["judgement"]["mean_error_mm"] is not None
    ]
    if not known:
        return []
    points, sizes = np.stack([_points(entry) for entry in known]), [entry["pixel_size_mm"] for entry in known]
    ellipses = [Ellipse(**entry["ellipse"]) for entry in known]
    return [
        f"landmarks judged {words}: {audit_counts(points, ellipses, sizes, with_ellipse=seen)}"
        for words, seen in (("against the ellipse", True), ("by themselves", False))
    ]


def _severity(entry: dict) -> float:
    """Above 1 for rows that do not fit: the distance to the ellipse in short semi-axes, or the oddness of the shape."""
    found = entry["judgement"]
    if found["mean_error_px"] is not None and entry["ellipse"]:
        severity = found["mean_error_px"] / entry["ellipse"]["semi_minor_px"]
    elif found["angle_degrees"] is not None:
        severity = found["middle_offset"] + 1 - found["angle_degrees"] / 90
    else:
        severity = 0.0
    return severity / (1 + severity) + (not found["fits"])


def _tile(entry: dict, image: np.ndarray) -> LandmarkTile:
    found = entry["judgement"]
    error_px, error_mm = found["mean_error_px"], found["mean_error_mm"]
    if error_mm is not None:
        text = f"{error_mm:.1f} mm off"
    elif error_px is not None:
        text = f"{error_px:.0f} px off"
    else:
        text = "; ".join(found["reasons"])
    flags = [word for word in ("names", "ends") if found[f"{word}_exchanged"]]
    text += f", {' and '.join(flags)} exchanged" if flags else ""
    outline = Ellipse(**entry["ellipse"]).contour(180) if entry["ellipse"] else None
    return LandmarkTile(printable(entry["name"]), *_smaller(image, _points(entry), outline), text, found["fits"])


def _smaller(image: np.ndarray, points: np.ndarray, outline: np.ndarray | None) -> tuple:
    """All three at the tile's size; pixel centres move as in any resizing of the package."""
    scale = min(1.0, LandmarkTile.SIDE / max(image.shape))
    size = tuple(max(1, round(side * scale)) for side in image.shape[::-1])
    shrunk = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
    moved = (points + 0.5) * scale - 0.5
    return shrunk, moved, None if outline is None else (outline + 0.5) * scale - 0.5
