"""Writes the cache of the cases that the audit accepts; `tfsono.data.cache` describes and reads it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from tfsono.audit.dataset import audit_cases, errors_of
from tfsono.data.cache import (
    AGAIN,
    FORMAT_VERSION,
    GRID,
    NUMBERS,
    checksum_of,
    open_whole,
    partial_path,
    stored_arrays,
    stored_parts,
)
from tfsono.data.layout import Case, Dataset
from tfsono.data.prepare import CachedCase, CacheSettings, prepare_case, resampling_ratio
from tfsono.errors import UserError, printable
from tfsono.files import check_regular
from tfsono.geometry.resampling import resampled_size
from tfsono.hdf5 import ERRORS, open_to_read, open_to_write, plain_group, put_text, reason, text_of
from tfsono.locks import locked_file
from tfsono.progress import Countdown

MOST_FOREGROUND = 10_000
"""Voxels stored for each label and case: far more than the patches that training draws around them."""


def write_cache(
    dataset: Dataset,
    path,
    settings: CacheSettings,
    audit: dict | None = None,
    exclude_bad: bool = False,
    progress: Callable[[str], None] = print,
    absolute_paths: bool = False,
) -> None:
    """Writes the cache of `dataset`: into `path` + ".partial", case by case, renamed to `path` when whole.

    After a kill the same call resumes: a case in the partial file is kept if it is marked complete, its
    arrays have their checksum, and its source files are unchanged. A partial file that HDF5 can no longer
    read (killed while it wrote its tables), or one with other settings, is removed and started again, with a
    message.

    Args:
        dataset: what `open_dataset` found.
        path: the file to write; an existing cache of the same system is replaced at the end.
        settings: system, orientation and spacing.
        audit: an audit's dict, so that unchanged cases are not read again.
        exclude_bad: excludes the cases with errors, instead of refusing.
        absolute_paths: stores the whole path of each image; else it begins in the dataset's folder.
        progress: takes each line for the user.

    Raises:
        UserError: cases with errors, no case left, too little room on the disk, `path` is something else,
            another process writes it. `path` is then unchanged.
    """
    path = Path(path)
    _check_target(path, settings)
    for note in dataset.notes:
        progress(note)
    entries = audit_cases(dataset, audit, progress)
    cases = _good_cases(dataset, entries, exclude_bad, progress)
    checksums = {case.name: str(entries[case.name]["checksum_source"]) for case in cases}
    header = _header(dataset, settings, set(checksums))
    sources = {case.name: (checksums[case.name], case.subject) for case in cases}
    if _is_up_to_date(path, header, sources):
        progress(f"{path} holds these {len(cases)} cases already, unchanged: nothing to do")
        return
    _check_room(path, [entries[name] for name in checksums], settings)
    partial = partial_path(path)
    try:
        with locked_file(path):  # HDF5_USE_FILE_LOCKING may have turned off HDF5's own lock
            with _open_partial(partial, header, sources, progress) as file:
                _write_missing(file, cases, dataset=dataset, settings=settings, checksums=checksums, progress=progress,
                               absolute_paths=absolute_paths)
            _flush_to_disk(partial)
            os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # raised by h5py for a full disk
        reason = " ".join(str(error).split())
        raise UserError(
            f"{partial}: writing stopped ({reason}); is the disk full? Make room: the same command resumes it"
        ) from None
    progress(f"{path}: {len(cases)} cases, {path.stat().st_size / 1e6:.1f} MB")


def _write_missing(file: h5py.File, cases, dataset: Dataset, settings, checksums, progress, absolute_paths) -> None:
    """Writes those of `cases` that the file does not hold yet, and marks it whole."""
    left = [case for case in cases if case.name not in file["cases"]]
    countdown = Countdown(len(left), "written", progress)
    for case in left:
        prepared = prepare_case(case, dataset, settings)
        image = case.image.resolve() if absolute_paths else os.path.relpath(case.image, dataset.root)
        attributes = {"subject": case.subject, "source": str(image), "checksum_source": checksums[case.name]}
        _write_case(file["cases"], prepared, case, attributes, len(dataset.labels))
        countdown.step(printable(case.name))
    file.attrs["complete"] = True


def _check_target(path: Path, settings: CacheSettings) -> None:
    """UserError for wrong settings, or for a `path` that is not a cache of this system."""
    spacing = settings.spacing_mm
    if spacing and (len(spacing) != 3 or not all(np.isfinite(value) and value > 0 for value in spacing)):
        raise UserError(
            f"spacing_mm: must be three positive numbers, or none to keep each volume's; found {spacing}"
        )
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder of the cache must exist; found no {path.parent}: make it first")
    if not path.exists():
        return
    rule = f"{path}: a cache of {settings.system} is written here"
    if not path.is_file() or not h5py.is_hdf5(path):
        raise UserError(
            f"{rule}; found {'a folder' if path.is_dir() else 'another file'}: choose another name"
        )
    try:
        with open_to_read(path) as file:
            found = text_of(file, "system") if "system" in file.attrs else None
    except ERRORS as error:
        raise UserError(f"{path}: the cache is damaged ({reason(error)}); {AGAIN}") from None
    if found != settings.system:
        what = "another HDF5 file" if found is None else f"a cache of {found}"
        raise UserError(f"{rule}; found {what}: choose another name or remove it")


def _good_cases(dataset: Dataset, entries: dict, exclude_bad: bool, progress) -> list[Case]:
    """The cases to write; UserError for errors, unless their cases are to be excluded."""
    bad = {name: errors_of(entry) for name, entry in entries.items() if errors_of(entry)}
    if not bad:
        return list(dataset.cases)
    named = [f"{printable(name)} ({', '.join(codes)})" for name, codes in bad.items()]
    names = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
    good = [case for case in dataset.cases if case.name not in bad]
    found = f"{dataset.root}: {len(bad)} of {len(entries)} cases have errors: {names}"
    if not exclude_bad:
        raise UserError(
            f"{found}; see 'tfsono audit {dataset.root}', mend them, or exclude them with --exclude_bad"
        )
    if not good:
        raise UserError(f"{found}; none is left to write: see 'tfsono audit {dataset.root}' and mend them")
    progress(f"excluded {len(bad)} of {len(entries)} cases: {names}")
    return good


def _header(dataset: Dataset, settings: CacheSettings, names: set[str]) -> dict:
    """The file's attributes; the split without the cases that are not written."""
    split = dataset.split and {
        part: [n for n in cases if n in names] for part, cases in dataset.split.items()
    }
    return {
        "format_version": FORMAT_VERSION,
        "system": settings.system,
        "orientation": settings.orientation,
        "spacing_mm": np.array(settings.spacing_mm, np.float64),
        "labels": json.dumps(dataset.labels),
        "landmarks": json.dumps(dataset.landmarks),
        "name": dataset.name,
        "split": json.dumps(split) if split else "",
    }


def _is_up_to_date(path: Path, header: dict, sources: dict[str, tuple[str, str]]) -> bool:
    """Whether `path` is already the whole cache of these sources: case -> checksum and subject."""
    try:
        with open_whole(path) as file:
            groups = plain_group(file, "cases")
            found = {name: _source_of(plain_group(groups, name)) for name in groups}
            return found == sources and all(_has(file, key, header[key]) for key in header)
    except (UserError, *ERRORS):
        return False


def _source_of(group: h5py.Group) -> tuple[str, str]:
    return text_of(group, "checksum_source"), text_of(group, "subject")


def _has(file: h5py.File, key: str, value) -> bool:
    """Whether an attribute has that value."""
    return text_of(file, key) == value if isinstance(value, str) else np.array_equal(file.attrs[key], value)


def _put(item: h5py.Group, attributes: dict) -> None:
    """Writes attributes: texts and numbers."""
    for key, value in attributes.items():
        if isinstance(value, str):
            put_text(item, key, value)
        else:
            item.attrs[key] = value


def _check_room(path: Path, entries: list[dict], settings: CacheSettings) -> None:
    """UserError if the disk has less room than the arrays need."""
    partial = partial_path(path)
    needed = sum(_bytes_of(entry, settings) for entry in entries)
    needed -= partial.stat().st_size if partial.is_file() else 0
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise UserError(
            f"{path}: the cache takes about {needed / 1e9:.1f} GB more; found {free / 1e9:.1f} GB free: "
            "make room or choose another disk"
        )


def _bytes_of(entry: dict, settings: CacheSettings) -> int:
    """Image 4 bytes and label 1 byte a voxel, twice when resampled, and the tables of foreground voxels."""
    ratio = resampling_ratio(entry["spacing_mm"], settings)  # in the file's axis order: the product hardly differs
    voxels = int(np.prod(entry["size"]))
    if ratio is not None:
        voxels += int(np.prod(resampled_size(tuple(entry["size"]), ratio)))
    return 5 * voxels + 12 * MOST_FOREGROUND * len(entry["labels"]) + 8192


def _open_partial(partial: Path, header: dict, sources: dict[str, tuple[str, str]], progress) -> h5py.File:
    """The partial file, open for writing, with the cases that can be kept and no others."""
    if partial.is_file():
        file = _resume(partial, header, sources, progress)
        if file is not None:
            return file
        partial.unlink()
    try:
        file = open_to_write(partial, "x")
    except OSError as error:
        raise UserError(
            f"{partial}: cannot be written ({error.strerror or error}); is another process writing it?"
        ) from None
    _put(file, {**header, "complete": False})
    file.create_group("cases")
    file.flush()
    return file


def _resume(partial: Path, header: dict, sources: dict[str, tuple[str, str]], progress) -> h5py.File | None:
    """The open partial file without the cases that cannot be kept; None (with a message) to start again."""
    file = None
    try:
        check_regular(partial)
        file = open_to_write(partial, "r+")
        if any(not _has(file, key, header[key]) for key in header if key not in ("name", "split")):
            progress(f"{partial} was begun with other settings or labels: started again")
            file.close()
            return None
        _put(file, {"name": header["name"], "split": header["split"], "complete": False})
        _drop_unusable(plain_group(file, "cases"), sources)
        file.flush()
        progress(f"resuming {partial}: {len(file['cases'])} of {len(sources)} cases are there")
        return file
    except BlockingIOError:
        raise UserError(
            f"{partial}: another process is writing it; wait for it, or choose another name"
        ) from None
    except ERRORS as error:
        progress(f"{partial} was damaged when its writing was stopped ({error}): started again")
        if file is not None:
            file.close()
        return None


def _drop_unusable(groups: h5py.Group, sources: dict[str, tuple[str, str]]) -> None:
    """Removes cases that are unfinished, damaged, changed or excluded (their room is not reused)."""
    for name in sorted(groups):
        group = plain_group(groups, name)
        wanted = group.attrs.get("complete", False) and _source_of(group) == sources.get(name)
        if not wanted or checksum_of(stored_parts(group, stored_arrays(group))) != text_of(group, "checksum"):
            del groups[name]


def _write_case(
    groups: h5py.Group, case: CachedCase, source: Case, attributes: dict[str, str], labels: int
) -> None:
    """Writes one group, and marks it complete only after its arrays have left this process."""
    group = groups.create_group(case.name)
    arrays, grid = _arrays_of(case, labels), {**_grid_of(case), **_numbers_of(case, source)}
    for key, array in arrays.items():
        group.create_dataset(key, data=array)
    _put(group, {**grid, **attributes, "checksum": checksum_of({**arrays, **grid}.items())})
    groups.file.flush()
    group.attrs["complete"] = True
    groups.file.flush()


def _arrays_of(case: CachedCase, labels: int) -> dict[str, np.ndarray]:
    arrays = {"image": case.image, "label": case.label, "points_vox": case.points_vox}
    if case.native is not None:
        arrays.update({"native_image": case.native.array, "native_label": case.native.label})
    if case.label is not None:
        for value in range(1, labels + 1):
            arrays[f"foreground/{value}"] = _foreground_voxels(case.label, value, case.name)
    return {key: np.ascontiguousarray(array) for key, array in arrays.items() if array is not None}


def _grid_of(case: CachedCase) -> dict[str, np.ndarray]:
    values = (case.spacing_mm, case.origin_mm, case.direction, case.own.spacing_mm, case.own.origin_mm)
    return {key: np.array(value, np.float64) for key, value in zip(GRID, values, strict=True)}


def _numbers_of(case: CachedCase, source: Case) -> dict[str, np.ndarray]:
    values = (case.pixel_size_mm, case.hc_mm) if source.is_2d else ()
    return {
        key: np.array(np.nan if value is None else value, np.float64)
        for key, value in zip(NUMBERS, values, strict=False)
    }


def _foreground_voxels(label: np.ndarray, value: int, name: str) -> np.ndarray:
    """int32 [n, 3]: the voxels of `value`, or 10000 different ones drawn by a seed from case and value."""
    found = np.flatnonzero(label == value)
    if len(found) > MOST_FOREGROUND:
        seed = int.from_bytes(hashlib.sha256(f"{name}/{value}".encode()).digest()[:8], "big")
        found = np.sort(np.random.default_rng(seed).choice(found, MOST_FOREGROUND, replace=False))
    return np.stack(np.unravel_index(found, label.shape), axis=1).astype(np.int32)


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
