"""Reads a whole dataset once and reports the problems of each case.

Problems are errors (the cache refuses the case) or warnings (look at it). For one case:

    unreadable, nan, constant  error    image or mask cannot be used at all
    geometry                   error    the mask has another grid than its image
    unknown_label              error    a value that is not among the dataset's labels, or not a whole number
    not_annotated              error    voxels of nnU-Net's label "ignore", which losses and scores cannot leave out
    empty_mask, no_mask        error    nothing to learn from (a volume with landmarks needs no mask)
    no_background              error    a mask without any 0 is none
    converted                  warning  what was done or chosen in reading: colours, bits, units, headers that differ
    markups_skipped            warning  planes, curves and boxes among a case's markups are no landmarks
    landmark_outside           error    beyond the faces of the volume
    landmark_missing           warning  a landmark of the dataset that the case does not have
    label_absent               warning  one label of several does not occur
    several_pieces             warning  of one label
    touches_border             warning  a label reaches a face of the volume: cut off, or anatomy that extends further
    implausible_geometry       warning  a label below 10 voxels; a voxel of under 0.02 or above 20 mm

for a volume with labels and landmarks (the first three with one label and two ends):

    coincident_tips, tip_far_from_mask, two_bones, mask_without_landmarks, landmarks_without_mask
                               warning  see `femur`

for a volume with four landmarks or more, a body's, and for all such volumes together:

    coincident_landmarks, few_landmarks, landmarks_on_a_line, implausible_length, implausible_size, sides_exchanged
                               warning  see `body`

for a 2D image (where landmark_outside is a warning: a head may be cut off by its image):

    implausible_geometry       warning  a pixel below 0.02 or above 1 mm
    no_ellipse                 warning  none fits the mask
    circumference_differs      warning  by over 5 % between the table and the mask's ellipse
    landmarks_do_not_fit       warning  the BPD/OFD points cannot be the ends of this head's axes
    names_exchanged            warning  the pair called BPD is the longer one
    ends_exchanged             warning  the ends of a pair are exchanged

and for all cases together:

    subject_in_two_splits      error    by the dataset's own split
    duplicate_image            warning  the same voxels in two cases; an error in two parts of the split
    implausible_geometry       warning  a spacing above twice or below half the median (each of the three,
                                        sorted); a label below a tenth of its median volume (3 cases or more);
                                        of volumes only, as the pixels and heads of 2D images vary more
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import numpy as np
from scipy import ndimage

from tfsono.configs.pose import MIRRORED, SEGMENTS
from tfsono.audit.table import codes_of, heading, level_of, table_lines, three_digits, three_numbers
from tfsono.audit.contact_sheet import Tile, make_tile, write_sheet
from tfsono.audit.head import judge_head, landmark_lines, write_worst
from tfsono.data.layout import IMAGE_LABEL, Case, Dataset, case_landmarks, source_checksums
from tfsono.audit.body import judge_pose, judge_poses
from tfsono.data.prepare import read_image, read_label
from tfsono.data.splits import subjects_in_two_parts
from tfsono.audit.femur import judge_tips
from tfsono.errors import UserError, printable
from tfsono.files import check_names, check_regular, read_json, write_text
from tfsono.locks import locked
from tfsono.structure import check_structure
from tfsono.geometry.head_labels import LANDMARKS
from tfsono.progress import Countdown
from tfsono.volumes.image import Volume, orientation_code, reorient
from tfsono.volumes.image_2d import mask_in_alpha
from tfsono.volumes.landmarks import points_to_vox, skipped_markups
from tfsono.volumes.volume import ConstantImageError, LabelValueError, NotFiniteError, OtherGridError

AUDIT_VERSION = 2
FEW_VOXELS = 10
SMALL_SHARE = 0.1
"""A label below this part of its median volume is suspicious."""

SPACING_FACTOR = 2.0
FEWEST_OF_A_BODY = 4
"""Three points have no handedness, and two are always on a line."""

PIXEL_RANGE_MM = (0.02, 1.0)
"""Outside these a pixel size has the wrong unit; HC18's are 0.05 to 0.33 mm."""

VOXEL_RANGE_MM = (0.02, 20.0)
"""Outside these the spacing of a volume has the wrong unit, or is none."""

CODES = {
    NotFiniteError: "nan",
    ConstantImageError: "constant",
    OtherGridError: "geometry",
    LabelValueError: "unknown_label",
}
"""The code for an error of `read_volume` or `read_mask`; for all others "unreadable"."""


class _Problem(TypedDict):
    """One problem in audit.json."""

    level: str
    code: str
    text: str
    scope: str


class _Facts(TypedDict, total=False):
    """What only some cases have: the tables' numbers of 2D images."""

    pixel_size_mm: float | None
    hc_mm: float | None


class _Entry(_Facts):
    """One case in audit.json."""

    name: str
    subject: str
    checksums: dict[str, str] | None
    checksum_source: str
    size: tuple[int, int, int] | None
    spacing_mm: tuple[float, float, float] | None
    orientation: str
    range: tuple[float, float] | None
    array_sha256: str
    labels: dict[str, dict[str, float]]
    landmarks: dict[str, tuple[float, float, float]]
    problems: list[_Problem]


# ------------------------------------------------------------------------------------------------ the audit


def audit_dataset(
    dataset: Dataset, out_dir: Path | None = None, progress: Callable[[str], None] = print,
    absolute_paths: bool = False
) -> dict:
    """Reads every file of `dataset` and reports the problems.

    Args:
        dataset: what `open_dataset` found.
        out_dir: where audit.json and audit.png go (made if needed), and landmarks.png for BPD/OFD points; None writes
            nothing.
        progress: gets each line: the time left, then the table and the problems.
        absolute_paths: writes whole paths into audit.json; else they begin in the dataset's folder, whose own place,
            perhaps with the name of a patient, is in no file.

    Returns:
        The content of audit.json: version, dataset, labels, landmarks, notes, counts, and per case its files with
        their sha256, size, spacing_mm, orientation, range, labels, and problems [{level, code, text}].

    Raises:
        UserError: `out_dir` cannot be made, or another process writes it.

    Example:
        >>> from tfsono.data.layout import open_dataset
        >>> from tfsono.phantoms.dataset import write_hip_dataset
        >>> folder = write_hip_dataset("hips", 2, 0, (48, 40, 32), (2.0, 2.0, 2.0), progress=lambda line: None)
        >>> audit = audit_dataset(open_dataset(folder), out_dir=None, progress=lambda line: None)
        >>> [(case["name"], [problem["code"] for problem in case["problems"]]) for case in audit["cases"]]
        [('hip_001', ['touches_border']), ('hip_002', ['touches_border'])]
    """
    with contextlib.nullcontext() if out_dir is None else locked(out_dir):
        return _audit(dataset, out_dir, progress, absolute_paths)


def _audit(dataset: Dataset, out_dir: Path | None, progress: Callable[[str], None], absolute_paths: bool) -> dict:
    tiles: dict[str, Tile | None] = {}
    entries = audit_cases(dataset, None, progress, tiles)
    audit = _whole_audit(dataset, list(entries.values()), absolute_paths)
    *lines, summary = table_lines(audit)
    for line in [*lines, *landmark_lines(audit), summary]:
        progress(printable(line))
    if out_dir is not None:
        write_text(Path(out_dir) / "audit.json", json.dumps(audit, indent=1) + "\n")
        write_sheet(Path(out_dir) / "audit.png", heading(audit), _sheet_rows(audit, tiles))
        worst = write_worst(Path(out_dir) / "landmarks.png", dataset, audit)
        progress(f"written: {Path(out_dir) / 'audit.json'}{', landmarks.png' if worst else ''} and audit.png")
    return audit


def audit_cases(
    dataset: Dataset,
    audit: dict | None = None,
    progress: Callable[[str], None] = print,
    tiles: dict[str, Tile | None] | None = None,
) -> dict[str, dict]:
    """The entry of every case by name, with the problems of all cases together.

    Args:
        audit: an earlier audit; its entry is reused where every file of the case has the checksum written there.
        tiles: gets every case's preview, if given.
    """
    trusted = _entries_of(audit, dataset)
    entries: dict[str, dict] = {}
    countdown = Countdown(len(dataset.cases), "checked", progress)
    for case in dataset.cases:
        entry = _unchanged(trusted.get(case.name), case)
        if entry is None:
            entry, tile = audit_case(case, dataset)
            if tiles is not None:
                tiles[case.name] = tile
        entries[case.name] = entry
        countdown.step(printable(case.name))
    _add_problems_together(entries, dataset)
    for entry in entries.values():
        entry["problems"].sort(key=lambda problem: (problem["level"], problem["code"], problem["text"]))
    return entries


def audit_case(case: Case, dataset: Dataset) -> tuple[dict, Tile | None]:
    """Reads one case: its entry, and its preview if the image could be read. A bad file raises nothing."""
    entry = _empty_entry(case, dataset)
    try:
        for path in filter(None, (case.image, case.label, case.landmarks)):
            check_names(path)
            if path.exists() and not path.is_dir():
                check_regular(path)
        return entry, _audit_into(entry, case, dataset)
    except UserError as error:
        _add(entry, "error", "unreadable", _without_root(error, dataset))
        return entry, None
    except MemoryError:
        _add(entry, "error", "unreadable", "too large for the memory of this machine (MemoryError)")
        return entry, None
    except Exception as error:  # of a library, or a fault of ours: it must not end the audit of the other cases
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        _add(entry, "error", "unreadable", f"{_without_root(text, dataset)}; if the file is sound, report this fault")
        return entry, None


def _audit_into(entry: dict, case: Case, dataset: Dataset) -> Tile | None:
    """Reads one case and completes its entry; returns its preview if the image could be read."""
    image = _readable_image(case, dataset, entry)
    if image is None:
        return None
    oriented = reorient(image)  # leaves a 2D image as it is
    entry["size"] = [int(side) for side in image.size]
    entry["spacing_mm"] = [float(value) for value in image.spacing_mm]
    entry["orientation"] = orientation_code(image)
    entry["range"] = [float(image.array.min()), float(image.array.max())]
    entry["array_sha256"] = _array_checksum(oriented.array)
    _check_landmarks(case, image, dataset, entry)
    mask = _readable_mask(case, image, dataset, entry)
    values = None
    if mask is not None:
        _check_values(mask.array, case, dataset, entry)
        entry["labels"] = _label_facts(mask, dataset.labels, entry)
        values = reorient(mask).array
    if not case.is_2d and dataset.labels and dataset.landmarks:
        for code, text in _judge_volume(mask, image, dataset, entry):
            _add(entry, "warning", code, text)
    if not case.is_2d and len(dataset.landmarks) >= FEWEST_OF_A_BODY and entry["landmarks"]:
        for code, text in judge_pose(_points(entry, dataset), image.spacing_mm, dataset.landmarks):
            if code != "landmark_missing":  # reported by name already
                _add(entry, "warning", code, text)
    if case.is_2d and (IMAGE_LABEL in dataset.labels or set(LANDMARKS) <= set(dataset.landmarks)):
        for code, text in judge_head(values, dataset, entry):
            _add(entry, "warning", code, text)
    return make_tile(oriented, _label_order(values, dataset.labels))


def _judge_volume(mask: Volume | None, image: Volume, dataset: Dataset, entry: dict) -> list[tuple[str, str]]:
    """The problems between mask and landmarks."""
    return judge_tips(None if mask is None else mask.array, _points(entry, dataset), image.spacing_mm,
                      tuple(dataset.landmarks), len(dataset.labels) == 1 and len(dataset.landmarks) == 2)


def _points(entry: dict, dataset: Dataset) -> np.ndarray:
    """[K, 3] voxel indices in the file's own orientation, NaN where missing."""
    return np.array([entry["landmarks"].get(name, [np.nan] * 3) for name in dataset.landmarks])


def errors_of(entry: dict) -> list[str]:
    """The codes of an entry's errors, sorted, each once."""
    return sorted({problem["code"] for problem in entry["problems"] if problem["level"] == "error"})


def read_audit(path) -> dict:
    """Reads audit.json; UserError for a missing file or another content."""
    audit = read_json(path, "give the audit.json of 'tfsono audit DATASET'", nan=True)
    if not isinstance(audit, dict) or audit.get("version") != AUDIT_VERSION or "cases" not in audit:
        raise UserError(
            f"{path}: must be an audit of version {AUDIT_VERSION}; run 'tfsono audit DATASET' again"
        )
    check_structure(audit["cases"], list[_Entry], path, "cases")
    for place, entry in enumerate(audit["cases"]):
        sane = all(0 < side < 1e6 for side in (*(entry["size"] or ()), *(entry["spacing_mm"] or ())))
        if not sane or not re.fullmatch("([LRPASI]{3})?", entry["orientation"]):
            raise UserError(f"{path}: cases[{place}]: size, spacing_mm and orientation must be those of an image; run "
                            "'tfsono audit DATASET' again")
    return audit


# ------------------------------------------------------------------------------------------------ one case


def _empty_entry(case: Case, dataset: Dataset) -> dict:
    paths = {"image": case.image, "label": case.label, "landmarks": case.landmarks}
    entry: dict = {
        "name": case.name,
        "subject": case.subject,
        "files": {kind: "" if path is None else _short(path, dataset) for kind, path in paths.items()},
        "checksums": None,
        "checksum_source": "",
        "size": None,
        "spacing_mm": None,
        "orientation": "",
        "range": None,
        "array_sha256": "",
        "labels": {},
        "landmarks": {},
        "problems": [],
    }
    if case.is_2d:
        entry.update({"pixel_size_mm": case.pixel_size_mm, "hc_mm": case.hc_mm})
    try:
        entry["checksums"] = source_checksums(case)
        entry["checksum_source"] = _joined(entry["checksums"])
    except UserError as error:
        _add(entry, "error", "unreadable", _without_root(error, dataset))
    return entry


def _add(entry: dict, level: str, code: str, text: str, scope: str = "case") -> None:
    """`scope` "dataset" marks problems found by comparing cases, which are checked again each time."""
    entry["problems"].append({"level": level, "code": code, "text": text, "scope": scope})


def _readable_image(case: Case, dataset: Dataset, entry: dict) -> Volume | None:
    try:
        image, pixel_size_mm, notes = read_image(case)
    except UserError as error:
        _add(entry, "error", CODES.get(type(error), "unreadable"), _without_root(error, dataset))
        return None
    for note in notes:
        _add(entry, "warning", "converted", note)
    if case.is_2d:
        _check_pixel_size(pixel_size_mm, entry)
    elif not all(VOXEL_RANGE_MM[0] <= side <= VOXEL_RANGE_MM[1] for side in image.spacing_mm):
        low, high = VOXEL_RANGE_MM
        text = f"a voxel of {three_numbers(image.spacing_mm)} mm, where {low:g} to {high:g} mm are usual: is it in mm?"
        _add(entry, "warning", "implausible_geometry", text)
    return image


def _check_pixel_size(pixel_size_mm: float | None, entry: dict) -> None:
    entry["pixel_size_mm"] = pixel_size_mm
    if pixel_size_mm is not None and not PIXEL_RANGE_MM[0] <= pixel_size_mm <= PIXEL_RANGE_MM[1]:
        low, high = PIXEL_RANGE_MM
        text = f"a pixel of {pixel_size_mm:.4g} mm, where {low:g} to {high:g} mm are usual: is it in millimetres?"
        _add(entry, "warning", "implausible_geometry", text)


def _readable_mask(case: Case, image: Volume, dataset: Dataset, entry: dict) -> Volume | None:
    if case.label is None:
        if (dataset.labels or not dataset.landmarks) and not _learns_from_landmarks(case, entry):
            _add(entry, "error", "no_mask", _nothing_of(case, dataset))
        return None
    try:
        mask = read_label(case, image)
        if case.is_2d and mask_in_alpha(case.label):
            _add(entry, "warning", "converted", "mask: the transparency was read, as all colours are alike")
    except UserError as error:
        _add(entry, "error", CODES.get(type(error), "unreadable"), _without_root(error, dataset))
        return None
    for note in mask.notes:
        if note not in image.notes:
            _add(entry, "warning", "converted", f"mask: {note}")
    return mask


def _nothing_of(case: Case, dataset: Dataset) -> str:
    """Why there is nothing to learn from a case without a mask."""
    if case.is_2d or not any(other.landmarks for other in dataset.cases):
        return "no mask of this name"
    if case.landmarks is None:
        return "no mask of this name, and no landmarks of this name either"
    return f"no mask of this name, and none of the dataset's landmarks in {_short(case.landmarks, dataset)}"


def _learns_from_landmarks(case: Case, entry: dict) -> bool:
    """Whether a volume is useful without a mask."""
    return not case.is_2d and bool(entry["landmarks"])


def _check_values(mask: np.ndarray, case: Case, dataset: Dataset, entry: dict) -> None:
    """Every value must be 0 or a label, and some must not be 0."""
    if not mask.any():
        if not _learns_from_landmarks(case, entry):
            _add(entry, "error", "empty_mask", "the mask is 0 everywhere")
        return
    values, counts = np.unique(mask, return_counts=True)
    part = "pixel" if case.is_2d else "voxel"
    if values.min() > 0:
        text = f"the mask has no background: no {part} is 0, {counts.max()} are {values[counts.argmax()]}"
        _add(entry, "error", "no_background", text)
    if dataset.ignored is not None and dataset.ignored in values:
        count = int(counts[values == dataset.ignored][0])
        text = (f"{count} voxels are {dataset.ignored}, nnU-Net's \"ignore\" (not annotated), which losses and scores "
                "cannot leave out: annotate them, or make them 0 if they are background")
        _add(entry, "error", "not_annotated", text)
    allowed = {0, dataset.ignored, *dataset.labels.values()}
    found = [f"{v} ({n} voxels)" for v, n in zip(values, counts, strict=True) if int(v) not in allowed]
    if found:
        known = ", ".join(str(value) for value in dataset.labels.values()) or "none"
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        text = (
            f"the mask has {', '.join(found[:5])}{more}; the dataset lists {known}: add it there or fix the mask"
        )
        _add(entry, "error", "unknown_label", text)


def _label_facts(mask: Volume, labels: dict[str, int], entry: dict) -> dict[str, dict]:
    """Per label: voxels, volume_ml, pieces (26-connected), voxels of the largest and at the border."""
    voxel_ml = float(np.prod(mask.spacing_mm)) / 1000.0
    facts = {}
    boxes = _boxes(mask.array, labels)
    for name, value in labels.items():
        facts[name] = _region_facts(mask.array, value, boxes.get(value), voxel_ml)
        for code, text in _region_problems(name, facts[name], mask.size[2] == 1) if boxes else ():
            _add(entry, "warning", code, text)
    return facts


def _boxes(mask: np.ndarray, labels: dict[str, int]) -> dict[int, tuple[slice, ...]]:
    """Value -> bounding box, of the labels that occur: one pass over the volume for all of them."""
    found = ndimage.find_objects(np.maximum(mask, 0), max_label=max(labels.values(), default=0))
    return {value: found[value - 1] for value in labels.values() if found[value - 1] is not None}


def _region_facts(mask: np.ndarray, value: int, box: tuple[slice, ...] | None, voxel_ml: float) -> dict:
    if box is None:
        return {"voxels": 0, "volume_ml": 0.0, "pieces": 0, "largest_voxels": 0, "border_voxels": 0}
    region = mask[box] == value
    pieces, count = ndimage.label(region, np.ones((3, 3, 3), bool))
    voxels = int(np.count_nonzero(region))
    return {
        "voxels": voxels,
        "volume_ml": voxels * voxel_ml,
        "pieces": int(count),
        "largest_voxels": int(np.bincount(pieces.ravel())[1:].max()),
        "border_voxels": _border_voxels(region, box, mask.shape),
    }


def _border_voxels(region: np.ndarray, box: tuple[slice, ...], shape: tuple[int, ...]) -> int:
    """The voxels of `region` (the volume's part in `box`) on a face of the volume."""
    inner = tuple(
        slice(None) if side == 1 else slice(1 if part.start == 0 else 0, -1 if part.stop == side else None)
        for part, side in zip(box, shape, strict=True)
    )
    return int(np.count_nonzero(region) - np.count_nonzero(region[inner]))


def _region_problems(name: str, facts: dict, flat: bool):
    """(code, text) of each problem of one label."""
    if not facts["voxels"]:
        yield "label_absent", f"{name} does not occur"
        return
    whole, part = ("image", "pixels") if flat else ("volume", "voxels")
    if facts["voxels"] < FEW_VOXELS:
        yield "implausible_geometry", f"{name} has only {facts['voxels']} {part}"
    if facts["pieces"] > 1:
        stray = facts["voxels"] - facts["largest_voxels"]
        yield "several_pieces", f"{name} is in {facts['pieces']} pieces, {stray} {part} outside the largest"
    if facts["border_voxels"]:
        count = facts["border_voxels"]
        yield "touches_border", f"{name} reaches the {whole}'s border ({count} {part}) and may be cut off"


def _label_order(mask: np.ndarray | None, labels: dict[str, int]) -> np.ndarray | None:
    """uint8: values of the file -> 1..n in the labels' order; an unknown value -> n + 1."""
    if mask is None:
        return None
    order = np.where(mask != 0, np.uint8(len(labels) + 1 if len(labels) < 255 else 255), np.uint8(0))
    for index, value in enumerate(labels.values(), start=1):
        order[mask == value] = index
    return order


def _check_landmarks(case: Case, image: Volume, dataset: Dataset, entry: dict) -> None:
    try:
        skipped = "" if case.landmarks is None else skipped_markups(case.landmarks)
        if skipped:
            _add(entry, "warning", "markups_skipped", f"{skipped} in {_short(case.landmarks, dataset)}: no landmarks")
        if not dataset.landmarks:
            return
        found = case_landmarks(case, image)
    except UserError as error:
        _add(entry, "error", "unreadable", _without_root(error, dataset))
        return
    there = {name: np.asarray(found[name], float) for name in dataset.landmarks if name in found}
    there = {name: point for name, point in there.items() if np.isfinite(point).all()}
    missing = [name for name in dataset.landmarks if name not in there]
    if missing:
        strange = sorted(set(found) - set(dataset.landmarks))
        besides = f"; the file has {', '.join(strange)}" if strange else ""
        _add(entry, "warning", "landmark_missing", f"no {', '.join(missing)}{besides}")
    for name, point_mm in there.items():
        point = np.asarray(points_to_vox(point_mm[None], image), float)[0]
        entry["landmarks"][name] = [float(value) for value in point]
        if (point < -0.5).any() or (point > np.array(image.size) - 0.5).any():
            axes, whole, part = (2, "image", "pixel") if case.is_2d else (3, "volume", "voxel")
            at = ", ".join(f"{value:.1f}" for value in point[:axes])
            size = "x".join(str(side) for side in image.size[:axes])
            text = f"{name} at {part} ({at}) is outside the {whole} of {size}"
            _add(entry, "warning" if case.is_2d else "error", "landmark_outside", text)


def _array_checksum(array: np.ndarray) -> str:
    """Of the values, whatever their type and orientation in the file."""
    digest = hashlib.sha256(str(array.shape).encode())
    digest.update(np.ascontiguousarray(array, np.float32).data)
    return digest.hexdigest()


def _joined(checksums: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(checksums, sort_keys=True).encode()).hexdigest()


def _short(path: Path, dataset: Dataset) -> str:
    return os.path.relpath(path, dataset.root)


def _without_root(error: UserError | str, dataset: Dataset) -> str:
    """A message without the place of the dataset's folder."""
    text, roots = str(error), (str(dataset.root), str(dataset.root.resolve()))
    for folder in (*roots, str(dataset.root.resolve().parent)):
        text = text.replace(f"{folder}{os.sep}", "") if len(folder) > 1 else text
    for folder in roots:
        text = text.replace(folder, dataset.name) if len(folder) > 1 else text
    return text


# ------------------------------------------------------------------------------------------------ all cases


def _entries_of(audit: dict | None, dataset: Dataset) -> dict[str, dict]:
    """The entries of an audit made with the same labels and landmarks, else none."""
    same = (
        audit is not None
        and audit.get("version") == AUDIT_VERSION
        and audit.get("labels") == dataset.labels
        and audit.get("landmarks") == list(dataset.landmarks)
    )
    return {entry["name"]: entry for entry in audit["cases"]} if same else {}


def _unchanged(entry: dict | None, case: Case) -> dict | None:
    """A copy of the entry, without the problems found by comparing cases, if no file of the case has changed."""
    if entry is None or entry["checksums"] is None:
        return None
    try:
        if entry["checksums"] != source_checksums(case):
            return None
    except UserError:
        return None
    problems = [problem for problem in entry["problems"] if problem["scope"] == "case"]
    return {**entry, "subject": case.subject, "problems": problems}


def _add_problems_together(entries: dict[str, dict], dataset: Dataset) -> None:
    _check_subjects(entries, dataset)
    _check_duplicates(entries, dataset)
    if dataset.of_images:
        return
    _check_spacing(entries)
    _check_poses(entries, dataset)
    for label in dataset.labels:
        _check_volumes(entries, label)


def _check_subjects(entries: dict[str, dict], dataset: Dataset) -> None:
    if dataset.split is None:
        return
    subjects = {case.name: case.subject for case in dataset.cases}
    shared = subjects_in_two_parts(dataset.split, subjects)
    for part, names in dataset.split.items():
        for name in names:
            if subjects[name] in shared:
                both = " and ".join(shared[subjects[name]])
                text = f"in {part}, but its subject {subjects[name]} is in {both}"
                _add(entries[name], "error", "subject_in_two_splits", text, "dataset")


def _check_duplicates(entries: dict[str, dict], dataset: Dataset) -> None:
    part_of = {name: part for part, names in (dataset.split or {}).items() for name in names}
    groups: dict[str, list[str]] = {}
    for name, entry in entries.items():
        if entry["array_sha256"]:
            groups.setdefault(entry["array_sha256"], []).append(name)
    for names in groups.values():
        parts = {part_of.get(name) for name in names} - {None}
        for name in names if len(names) > 1 else ():
            others = ", ".join(other for other in names if other != name)
            level = "error" if len(parts) > 1 else "warning"
            _add(entries[name], level, "duplicate_image", f"the same voxels as {others}", "dataset")


def _check_spacing(entries: dict[str, dict]) -> None:
    """Axes may be stored in any order, so the three spacings are compared in the order of their size."""
    known = {name: sorted(entry["spacing_mm"]) for name, entry in entries.items() if entry["spacing_mm"]}
    if not known:
        return
    median = np.median(list(known.values()), axis=0)
    for name, spacing in known.items():
        ratio = np.array(spacing) / median
        if (ratio > SPACING_FACTOR).any() or (ratio < 1 / SPACING_FACTOR).any():
            text = (
                f"spacing {three_numbers(spacing)} mm, the median is {three_numbers(median)} mm (each sorted)"
            )
            _add(entries[name], "warning", "implausible_geometry", text, "dataset")


def _check_poses(entries: dict[str, dict], dataset: Dataset) -> None:
    """In the patient's axes: a file's own may be left-handed, and would mirror the body."""
    if len(dataset.landmarks) < FEWEST_OF_A_BODY:
        return
    poses = {name: _in_patient(entry, _points(entry, dataset)) for name, entry in entries.items() if entry["landmarks"]}
    for name, problems in judge_poses(poses, dataset.landmarks, SEGMENTS, MIRRORED).items():
        for code, text in problems:
            _add(entries[name], "warning", code, text, "dataset")


def _in_patient(entry: dict, points_vox: np.ndarray) -> np.ndarray:
    """[K, 3] millimetres along L, P and S, by the nearest of them to each axis of the file."""
    points_mm = np.empty_like(points_vox)
    for axis, letter in enumerate(entry["orientation"]):
        towards = next(number for number, pair in enumerate(("LR", "PA", "SI")) if letter in pair)
        points_mm[:, towards] = points_vox[:, axis] * entry["spacing_mm"][axis] * (1 if letter in "LPS" else -1)
    return points_mm


def _check_volumes(entries: dict[str, dict], label: str) -> None:
    known = {
        name: entry["labels"][label]["volume_ml"]
        for name, entry in entries.items()
        if entry["labels"].get(label, {}).get("voxels")
    }
    if len(known) < 3:
        return
    median = float(np.median(list(known.values())))
    for name, volume in known.items():
        if volume < SMALL_SHARE * median:
            text = f"{label} has {three_digits(volume)} mL, the median is {three_digits(median)} mL"
            _add(entries[name], "warning", "implausible_geometry", text, "dataset")


# ------------------------------------------------------------------------------------------ what is written


def _whole_audit(dataset: Dataset, entries: list[dict], absolute_paths: bool) -> dict:
    if absolute_paths:
        root = dataset.root.resolve()
        entries = [entry | {"files": {kind: file and os.path.normpath(root / file)
                                      for kind, file in entry["files"].items()}} for entry in entries]
    return {
        "version": AUDIT_VERSION,
        "dataset": dataset.name,
        "root": str(dataset.root.resolve()) if absolute_paths else "",
        "labels": dataset.labels,
        "landmarks": list(dataset.landmarks),
        "notes": [note if absolute_paths else _without_root(note, dataset) for note in dataset.notes],
        "count": len(entries),
        "with_errors": sum(level_of(entry) == "error" for entry in entries),
        "with_warnings": sum(level_of(entry) == "warning" for entry in entries),
        "pictures": dataset.of_images,
        "cases": entries,
    }


def _sheet_rows(audit: dict, tiles: dict[str, Tile | None]) -> list[tuple[str, Tile | None, str, str]]:
    order = {"error": 0, "warning": 1, "": 2}
    entries = sorted(audit["cases"], key=lambda entry: (order[level_of(entry)], entry["name"]))
    return [(printable(e["name"]), tiles.get(e["name"]), level_of(e), "\n".join(codes_of(e)[:2])) for e in entries]
