"""The structure of an exported model's manifest: checked before TensorFlow opens the model. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import TypedDict

from tfsono.errors import UserError
from tfsono.structure import check_structure, shown

DIGEST = "sha256"
UNSEALED = (DIGEST, "format_version", "versions", "date", "files")  # written by the export itself
LARGEST_LABEL = 65535  # in a dataset's masks
AGAIN = "export the run again"
COVERAGE = 0.9  # of the intervals of `head`


class _Array(TypedDict, total=False):
    """An input or an output."""

    dtype: str
    shape: list[str | int]
    orientation: str
    labels: int


class _Postprocessing(TypedDict, total=False):
    in_graph: bool
    largest_component: bool
    fill_holes: bool
    threshold: float


class EndOrder(TypedDict):
    """Of `geometry.head_labels.EndOrder`."""

    ofd_direction: tuple[float, float]
    bpd_direction: tuple[float, float]


class _Measuring(TypedDict):
    part: str
    end_order: EndOrder
    threshold: float
    morphology_px: int
    area_px: tuple[float, float]
    ransac_iterations: int
    ransac_points: int
    ransac_inlier_px: float
    axis_ratio: tuple[float, float]
    dropout: float
    monte_carlo_samples: int
    seed: int


class _Length(TypedDict):
    ends: tuple[str, str]
    range_mm: tuple[float, float]


class _Side(TypedDict):
    pair: tuple[str, str]
    way_mm: tuple[float, float, float]


class _Poses(TypedDict):
    """Of `metrics.pose_limits.PoseLimits`."""

    lengths: list[_Length]
    midline_mm: dict[str, tuple[float, float, float]]
    sides: list[_Side]


class PeakModel(TypedDict):
    """Of `training.confidence`: the weights of a logistic model, and what it was fitted to."""

    limit_mm: float
    intercept: float
    peak: float
    second_peak: float
    second_peak_far: float
    cases: int
    landmarks: int
    right: int


class Intervals(TypedDict):
    """Of `training.intervals`: bins of predicted circumferences, and each length's half width in percent of it."""

    coverage: float
    cases: int
    edges_mm: list[float]
    percent: dict[str, list[float]]


class Appearance(TypedDict):
    """Of `metrics.head_appearance`."""

    mean: list[float]
    precision: list[list[float]]
    limit: float


class _Needed(TypedDict):
    """What every manifest has."""

    format_version: int
    system: str
    input: dict[str, _Array]
    output: dict[str, _Array]
    files: dict[str, str]


class _Possible(TypedDict, total=False):
    """What some have."""

    sha256: str
    labels: dict[str, int]
    landmarks: list[str]
    postprocessing: _Postprocessing
    cleaning: _Postprocessing  # in the release before
    measuring: _Measuring
    network: dict[str, object]
    functions: dict[str, str]
    folded: list[str]
    confidence: list[PeakModel]
    intervals: Intervals
    trained_on: dict[str, object] | None
    poses: _Poses


def check_manifest(path: str | os.PathLike, manifest) -> None:
    """Checks a manifest's types, and that its tables of labels and landmarks are those of its arrays.

    Raises:
      UserError: names the first value that is wrong.
    """
    check_structure(manifest, _Needed, path)
    check_structure(manifest, _Possible, path)
    if DIGEST in manifest and manifest[DIGEST] != digest_of(manifest):
        raise UserError(f"{path}: was changed after the export (its entry {DIGEST} is not that of the others); {AGAIN}")
    _check_volume(path, manifest["input"].get("volume"))
    _check_mask(path, manifest)
    _check_landmarks(path, manifest)
    if {"image", "picture"} & manifest["input"].keys():
        _need(path, manifest, "measuring")
    _check_confidence(path, manifest)
    if "intervals" in manifest:
        check_intervals(path, manifest["intervals"], AGAIN)
    if manifest.get("trained_on"):
        check_ranges(path, manifest["trained_on"], "volume" in manifest["input"], AGAIN, ("outside_factor",))


def digest_of(manifest: Mapping) -> str:
    """The SHA-256 of all entries that describe the model."""
    described = {key: value for key, value in manifest.items() if key not in UNSEALED}
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


def check_label_values(labels: dict[str, int], path: str | os.PathLike, remedy: str) -> None:
    """Raises `UserError` for labels whose values no dataset's masks can have."""
    values = list(labels.values())
    if len(set(values)) != len(values) or any(not 1 <= value <= LARGEST_LABEL for value in values):
        raise UserError(f"{path}: labels must have different values from 1 to {LARGEST_LABEL}; found {shown(labels)}; "
                        f"{remedy}")


def _need(path: str | os.PathLike, manifest: Mapping, *keys: str) -> None:
    for key in keys:
        if key not in manifest and not (key == "postprocessing" and "cleaning" in manifest):
            raise UserError(f"{path}: {key} is missing; {AGAIN}")


def _check_volume(path: str | os.PathLike, volume: Mapping | None) -> None:
    axes = volume.get("orientation") if volume is not None else "LPS"
    if not isinstance(axes, str) or len(axes) != 3 or any(
            sum(letter in pair for letter in axes) != 1 for pair in ("LR", "PA", "SI")):
        raise UserError(f"{path}: input.volume.orientation must be three letters such as LPS; found {shown(axes)}; "
                        f"{AGAIN}")


def _check_mask(path: str | os.PathLike, manifest: Mapping) -> None:
    """The labels, where the model predicts a mask."""
    mask, labels = manifest["output"].get("mask"), manifest.get("labels", {})
    check_label_values(labels, path, AGAIN)
    if mask is None:
        return
    _need(path, manifest, "labels", "postprocessing")
    for key in ("largest_component", "fill_holes"):
        if key not in manifest.get("postprocessing", manifest.get("cleaning")):
            raise UserError(f"{path}: postprocessing.{key} is missing; {AGAIN}")
    volumes = (manifest.get("trained_on") or {}).get("labels_ml") or {}
    if not labels or mask.get("labels", len(labels)) != len(labels) or not set(volumes) <= set(labels):
        raise UserError(f"{path}: labels must name every label of the mask; found {shown(labels)}; {AGAIN}")


def _check_landmarks(path: str | os.PathLike, manifest: Mapping) -> None:
    """The landmarks, where the model predicts points of a volume."""
    points, names = manifest["output"].get("points_vox"), manifest.get("landmarks", [])
    if points is None:
        return
    _need(path, manifest, "landmarks")
    if len(set(names)) != len(names) or points.get("shape") != [len(names), 3]:
        raise UserError(f"{path}: landmarks must be different names, one for each of output.points_vox; found "
                        f"{shown(names)}; {AGAIN}")
    candidates = manifest["output"].get("candidate_scores", {"shape": [len(names), 1]}).get("shape", [])
    if len(candidates) != 2 or candidates[0] != len(names) or not isinstance(candidates[1], int):
        raise UserError(f"{path}: output.candidate_scores.shape must be the landmarks' number and the candidates'; "
                        f"found {shown(candidates)}; {AGAIN}")


def _check_confidence(path: str | os.PathLike, manifest: Mapping) -> None:
    """Its models, and the arrays that they take."""
    models = manifest.get("confidence", [])
    check_limits(models, path, AGAIN)
    for name in ("peaks", "second_peaks", "second_peak_mm") if models else ():
        if name not in manifest["output"]:
            raise UserError(f"{path}: output.{name} is missing, which confidence needs; {AGAIN}")


def check_limits(models: Sequence[PeakModel], path: str | os.PathLike, remedy: str) -> None:
    """Raises `UserError` for models whose limits differ or are no distances."""
    limits = sorted({model["limit_mm"] for model in models})
    if len(limits) > 1 or limits and limits[0] <= 0:
        raise UserError(f"{path}: limit_mm must be one number above 0; found {shown(limits)}; {remedy}")


def check_intervals(path: str | os.PathLike, intervals: Intervals, remedy: str) -> None:
    """Raises `UserError` for edges that do not rise, widths that are not one of each length and bin, other coverage."""
    edges, widths = intervals["edges_mm"], intervals["percent"]
    if len(edges) < 2 or not all(0 < low < high for low, high in zip(edges, edges[1:], strict=False)):
        raise UserError(f"{path}: edges_mm must be rising numbers above 0; found {shown(edges)}; {remedy}")
    if set(widths) != {"bpd", "ofd", "hc"} or any(
            len(values) != len(edges) - 1 or not all(0 <= value < 100 for value in values)
            for values in widths.values()):
        raise UserError(f"{path}: percent must have numbers from 0 to 100 for bpd, ofd and hc, one for each bin of "
                        f"edges_mm; found {shown(widths)}; {remedy}")
    if intervals["coverage"] != COVERAGE:
        raise UserError(f"{path}: coverage must be {COVERAGE}; found {shown(intervals['coverage'])}; {remedy}")


_OF_VOLUMES = ("spacing_mm", "extent_mm", "intensity_1_percent", "intensity_99_percent", "intensity_width")


def check_ranges(path: str | os.PathLike, record: Mapping, of_volumes: bool, remedy: str,
                 more: Sequence[str] = ()) -> None:
    """What a model was trained on: each quantity with its smallest value, median and largest value.

    Raises:
      UserError: a quantity, or one of `more`, is missing, or of another structure.
    """
    for key in (*(_OF_VOLUMES if of_volumes else ("size",)), *more):
        if key not in record:
            raise UserError(f"{path}: trained_on must have {key}; found none; {remedy}")
    for key, value in record.items():
        if key == "appearance":
            _check_appearance(path, value, remedy)
            continue
        single = key in ("cases", "outside_factor")
        nested = value.items() if key == "labels_ml" and isinstance(value, dict) else [("", value)]
        if single and (isinstance(value, bool) or not isinstance(value, (int, float))) or not single and not all(
                _is_range(one, 3 if of_volumes else 2) for _, one in nested):
            raise UserError(f"{path}: trained_on.{key[:40]} must be {'a number' if single else 'min, median and max'}; "
                            f"found {shown(value)}; {remedy}")


def _check_appearance(path: str | os.PathLike, value, remedy: str) -> None:
    """Raises `UserError` unless it is what `metrics.head_appearance.learned_appearance` gives."""
    check_structure(value, Appearance, path, "trained_on.appearance")
    if not (len(value["mean"]) == len(value["precision"]) == 4 and {len(row) for row in value["precision"]} == {4}
            and value["limit"] > 0):
        raise UserError(f"{path}: trained_on.appearance must have 4 means, 4 x 4 numbers of precision and a limit "
                        f"above 0; found {shown(value)}; {remedy}")


def _is_range(value, axes: int) -> bool:
    """Whether a value is min, median and max, of one number or of each axis."""
    if not isinstance(value, dict) or set(value) != {"min", "median", "max"}:
        return False
    ends: Sequence = [value[end] if isinstance(value[end], list) else [value[end]] for end in ("min", "median", "max")]
    return {len(end) for end in ends} <= {1, axes} and len({len(end) for end in ends}) == 1 and all(
        isinstance(number, (int, float)) and not isinstance(number, bool) for end in ends for number in end)
