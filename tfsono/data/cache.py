"""One HDF5 file with what training reads: written beside and renamed when whole, checked when opened.

    attributes            format_version, complete, system, orientation, spacing_mm, name, labels, landmarks,
                          split (the last three as JSON)
    cases/NAME            attributes: the grid, subject, source, checksum_source, checksum, complete; of pictures
                          pixel_size_mm and hc_mm, NaN where unknown
        image             float32 [X, Y, Z], in the file's own intensities; of pictures uint8 [X, Y, 1]
        label             uint8 [X, Y, Z]: 0 background, 1..n the labels in their order (if there are labels)
        foreground/1..n   int32 [<= 10000, 3]: voxels of that label, drawn once for balanced sampling
        points_vox        float32 [K, 3]: the landmarks in their order, NaN where missing (if there are any)
        native_image, native_label      before resampling, in the same orientation (if it was resampled)

Arrays are contiguous and not compressed: a random 64^3 patch reads in 0.3 ms, where gzip takes 3.5 ms.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from tfsono.data.audit import audit_cases, errors_of
from tfsono.data.layout import Case, Dataset
from tfsono.data.prepare import CachedCase, CacheSettings, NativeCase, prepare_case, resampling_ratio
from tfsono.errors import UserError
from tfsono.geometry.resampling import resampled_size
from tfsono.progress import Countdown

__all__ = [
    "FORMAT_VERSION",
    "Cache",
    "CacheSettings",
    "CachedCase",
    "NativeCase",
    "verify_cache",
    "write_cache",
]

FORMAT_VERSION = 1
MOST_FOREGROUND = 10_000
"""Voxels kept for each label and case: far more than the patches that training draws around them."""

GRID = ("spacing_mm", "origin_mm", "direction", "native_spacing_mm", "native_origin_mm")
NUMBERS = ("pixel_size_mm", "hc_mm")
"""Of pictures alone; caches of volumes do not have them."""

HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError)
"""What h5py raises for a damaged file, depending on where the damage is."""


# ------------------------------------------------------------------------------------------------ reading


class Cache:
    """A whole cache, open for reading; a context manager.

    Every process opens the file for itself when it first reads: an instance may be forked or pickled.

    Attributes:
        name: the dataset's name.
        names: the cases, sorted.
        labels: name -> value in the dataset's files, in the order of the cache's own values 1..n.
        landmarks: their names, in the order of `points_vox`.
        settings: what it was written with.
        split: the dataset's own split, or None.
        subjects: case -> subject.
        pixel_sizes_mm: case -> millimetres in a picture's own pixel, None where unknown.
        circumferences_mm: case -> head circumference by the dataset's table, None where unknown.
    """

    def __init__(self, path, system: str) -> None:
        """Opens `path`, which must be a whole cache of `system`.

        Raises:
            UserError: missing, no HDF5, no cache, unfinished, damaged, of another system or another version.
        """
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._process = -1
        try:
            with _open_whole(self.path) as file:
                self._read_header(file)
        except HDF5_ERRORS as error:
            raise UserError(
                f"{self.path}: the cache is damaged ({error}); delete it and write it again"
            ) from None
        if self.settings.system != system:
            raise UserError(
                f"{self.path}: {system} needs a cache written for it; found one of {self.settings.system}: "
                f"write another with 'tfsono cache {system} DATASET FILE.h5'"
            )

    def _read_header(self, file: h5py.File) -> None:
        self.settings = _settings_of(file)
        self.name: str = file.attrs["name"]
        self.labels: dict[str, int] = json.loads(file.attrs["labels"])
        self.landmarks: tuple[str, ...] = tuple(json.loads(file.attrs["landmarks"]))
        self.split: dict[str, list[str]] | None = json.loads(file.attrs["split"] or "null")
        groups = file["cases"]
        self.names: list[str] = sorted(groups)
        self.subjects = {name: str(groups[name].attrs["subject"]) for name in self.names}
        self.pixel_sizes_mm = {name: _number(groups[name], "pixel_size_mm") for name in self.names}
        self.circumferences_mm = {name: _number(groups[name], "hc_mm") for name in self.names}
        self._shapes = {name: tuple(groups[name]["image"].shape) for name in self.names}
        self._spacings = {name: tuple(groups[name].attrs["spacing_mm"].tolist()) for name in self.names}

    def spacing_mm(self, name: str) -> tuple[float, float, float]:
        """The spacing of the case's image along x, y and z."""
        return self._spacings[name]

    def shape(self, name: str) -> tuple[int, int, int]:
        """(X, Y, Z) of the case's image."""
        return self._shapes[name]

    def read(self, name: str) -> CachedCase:
        """The whole case."""
        return _read_case(name, self._group(name))

    def points_vox(self, name: str) -> np.ndarray | None:
        """The case's landmarks [K, 3], NaN where missing; None without any. The image is not read."""
        return _array(self._group(name), "points_vox")

    def read_patch(self, name: str, start, size) -> tuple[np.ndarray, np.ndarray | None, tuple[int, ...]]:
        """The part of the window `start .. start + size` that lies within the case.

        Args:
            name: the case.
            start: three voxel indices, which may be negative or beyond the volume.
            size: three sides in voxels.

        Returns:
            image in its own type and label uint8 (None without labels), both of the clipped size, which has sides of
            zero where the window misses the volume; and where the clipped piece begins within the window (3).
        """
        group = self._group(name)
        shape = self._shapes[name]
        low = [int(min(max(s, 0), n)) for s, n in zip(start, shape, strict=True)]
        high = [int(min(max(s + d, 0), n)) for s, d, n in zip(start, size, shape, strict=True)]
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        offset = tuple(int(min(max(a - s, 0), d)) for a, s, d in zip(low, start, size, strict=True))
        return group["image"][window], group["label"][window] if "label" in group else None, offset

    def foreground(self, name: str) -> dict[int, np.ndarray]:
        """Label 1..n -> int32 [n, 3] voxels of it, at most 10000; [0, 3] where the case does not show it."""
        group = self._group(name)
        values = range(1, len(self.labels) + 1) if "label" in group else ()
        return {value: group[f"foreground/{value}"][...] for value in values}

    def close(self) -> None:
        """Closes the file in this process; reading opens it again."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None, "_process": -1}

    def _group(self, name: str) -> h5py.Group:
        if name not in self._shapes:
            raise ValueError(f"name must be a case of {self.path}; found {name!r}")
        if self._file is None or self._process != os.getpid():  # a fork must not share its parent's handle
            self._file = h5py.File(self.path, "r")
            self._process = os.getpid()
        return self._file["cases"][name]


def verify_cache(path) -> list[str]:
    """Reads every array again; one line for each problem, so an empty list means a sound cache."""
    problems = []
    try:
        with _open_whole(Path(path)) as file:
            labels = len(json.loads(file.attrs["labels"]))
            for name in sorted(file["cases"]):
                problems += [f"{name}: {problem}" for problem in _case_problems(file["cases"], name, labels)]
    except UserError as error:
        problems.append(str(error))
    except HDF5_ERRORS as error:
        problems.append(f"{path}: the cache is damaged ({error}); delete it and write it again")
    return problems


def _case_problems(groups: h5py.Group, name: str, labels: int) -> Iterator[str]:
    try:
        group = groups[name]
        if not group.attrs.get("complete", False):
            yield "never finished"
        elif _checksum(_stored_parts(group)) != group.attrs["checksum"]:
            yield "its arrays do not have the checksum that they were written with"
        elif not np.isfinite(group["image"][...]).all():
            yield "NaN or infinite voxels"
        elif "label" in group and (
            group["label"].shape != group["image"].shape or group["label"][...].max() > labels
        ):
            yield "label and image do not fit, or an unknown label value"
    except HDF5_ERRORS as error:
        yield f"cannot be read ({error})"


def _open_whole(path: Path) -> h5py.File:
    """The open file of a whole cache of this version, or UserError saying what it is instead."""
    again = "write it with 'tfsono cache SYSTEM DATASET FILE.h5'"
    partial = _partial_path(path)
    if not path.is_file():
        begun = f"{partial.name}, unfinished: the same command goes on with it"
        raise UserError(
            f"{path}: the cache must exist; found {begun if partial.is_file() else 'none'}; {again}"
        )
    if not h5py.is_hdf5(path):
        raise UserError(f"{path}: must be a cache (HDF5); found another kind of file; {again}")
    file = h5py.File(path, "r")
    version = file.attrs.get("format_version")
    if version is None or "system" not in file.attrs:
        problem = f"must be a cache of this package; found another HDF5 file; {again} under another name"
    elif version != FORMAT_VERSION:
        problem = (
            f"the cache must have format {FORMAT_VERSION}; found format {version}; delete it and {again}"
        )
    elif not file.attrs.get("complete", False):
        problem = f"the cache must be whole; found one that was never finished; delete it and {again}"
    else:
        return file
    file.close()
    raise UserError(f"{path}: {problem}")


def _settings_of(file: h5py.File) -> CacheSettings:
    spacing = tuple(float(value) for value in file.attrs["spacing_mm"])
    return CacheSettings(str(file.attrs["system"]), str(file.attrs["orientation"]), spacing)


def _read_case(name: str, group: h5py.Group) -> CachedCase:
    grid = {key: tuple(group.attrs[key].tolist()) for key in GRID}
    native = None
    if "native_image" in group:
        arrays = (group["native_image"][...], _array(group, "native_label"))
        native = NativeCase(*arrays, grid["native_spacing_mm"], grid["native_origin_mm"], grid["direction"])
    return CachedCase(
        name,
        group["image"][...],
        _array(group, "label"),
        grid["spacing_mm"],
        grid["origin_mm"],
        grid["direction"],
        str(group.attrs["subject"]),
        native,
        _array(group, "points_vox"),
        *(_number(group, key) for key in NUMBERS),
    )


def _array(group: h5py.Group, key: str) -> np.ndarray | None:
    return group[key][...] if key in group else None


def _number(group: h5py.Group, key: str) -> float | None:
    """The attribute, None where it is absent or NaN."""
    value = float(group.attrs.get(key, np.nan))
    return None if np.isnan(value) else value


# ------------------------------------------------------------------------------------------------ writing


def write_cache(
    dataset: Dataset,
    path,
    settings: CacheSettings,
    audit: dict | None = None,
    leave_out_bad: bool = False,
    progress: Callable[[str], None] = print,
) -> None:
    """Writes the cache of `dataset`: into `path` + ".partial", case by case, renamed to `path` when whole.

    After a kill the same call goes on: a case in the partial file is kept if it is marked complete, its
    arrays have their checksum, and its source files are unchanged. A partial file that HDF5 cannot read any
    more (killed while it wrote its tables), or one with other settings, is removed and begun again; a line
    says so.

    Args:
        dataset: what `open_dataset` found.
        path: the file to write; a cache of the same system that is there is replaced at the end.
        settings: system, orientation and spacing.
        audit: an audit's dict; it spares reading twice the cases whose files are unchanged since.
        leave_out_bad: writes the cases without errors, instead of refusing.
        progress: takes each line for the user.

    Raises:
        UserError: cases with errors, no case left, too little room on the disk, `path` is something else,
            another process writes it. Nothing is then under `path` that was not there before.
    """
    path = Path(path)
    _check_target(path, settings)
    entries = audit_cases(dataset, audit, progress)
    cases = _good_cases(dataset, entries, leave_out_bad, progress)
    checksums = {case.name: str(entries[case.name]["checksum_source"]) for case in cases}
    header = _header(dataset, settings, set(checksums))
    if _is_up_to_date(path, header, checksums):
        progress(f"{path} holds these {len(cases)} cases already, unchanged: nothing to do")
        return
    _check_room(path, [entries[name] for name in checksums], settings)
    partial = _partial_path(path)
    try:
        with _open_partial(partial, header, checksums, progress) as file:
            _write_missing(file, cases, dataset, settings, checksums, progress)
        _flush_to_disk(partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # h5py's words for a full disk
        raise UserError(
            f"{partial}: writing stopped ({error}); is the disk full? Make room: the same command goes on"
        ) from None
    progress(f"{path}: {len(cases)} cases, {path.stat().st_size / 1e6:.1f} MB")


def _write_missing(file: h5py.File, cases, dataset: Dataset, settings, checksums, progress) -> None:
    """Writes those of `cases` that the file does not hold yet, and marks it whole."""
    left = [case for case in cases if case.name not in file["cases"]]
    countdown = Countdown(len(left), "written", progress)
    for case in left:
        prepared = prepare_case(case, dataset, settings)
        _write_case(file["cases"], prepared, case, checksums[case.name], len(dataset.labels))
        countdown.step(case.name)
    file.attrs["complete"] = True


def _partial_path(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _check_target(path: Path, settings: CacheSettings) -> None:
    """UserError for wrong settings, or for a `path` that holds anything but a cache of this system."""
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
    with h5py.File(path, "r") as file:
        found = file.attrs.get("system")
    if found != settings.system:
        what = "another HDF5 file" if found is None else f"a cache of {found}"
        raise UserError(f"{rule}; found {what}: choose another name or remove it")


def _good_cases(dataset: Dataset, entries: dict, leave_out_bad: bool, progress) -> list[Case]:
    """The cases to write; UserError for errors that the user has not asked to leave out."""
    bad = {name: errors_of(entry) for name, entry in entries.items() if errors_of(entry)}
    if not bad:
        return list(dataset.cases)
    named = [f"{name} ({', '.join(codes)})" for name, codes in bad.items()]
    listed = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
    good = [case for case in dataset.cases if case.name not in bad]
    found = f"{dataset.root}: {len(bad)} of {len(entries)} cases have errors: {listed}"
    if not leave_out_bad:
        raise UserError(
            f"{found}; see 'tfsono audit {dataset.root}', mend them, or leave them out with --leave_out_bad"
        )
    if not good:
        raise UserError(f"{found}; none is left to write: see 'tfsono audit {dataset.root}' and mend them")
    progress(f"left out {len(bad)} of {len(entries)} cases: {listed}")
    return good


def _header(dataset: Dataset, settings: CacheSettings, names: set[str]) -> dict:
    """The file's attributes. A split names only the cases that are written."""
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


def _is_up_to_date(path: Path, header: dict, checksums: dict[str, str]) -> bool:
    """Whether `path` is already the whole cache of these sources."""
    try:
        with _open_whole(path) as file:
            groups = file["cases"]
            found = {name: groups[name].attrs["checksum_source"] for name in groups}
            return found == checksums and all(np.array_equal(file.attrs[key], header[key]) for key in header)
    except (UserError, *HDF5_ERRORS):
        return False


def _check_room(path: Path, entries: list[dict], settings: CacheSettings) -> None:
    """UserError if the disk has less room than the arrays take."""
    partial = _partial_path(path)
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
    ratio = resampling_ratio(entry["spacing_mm"], settings)  # in the file's axes: the product hardly differs
    voxels = int(np.prod(entry["size"]))
    if ratio is not None:
        voxels += int(np.prod(resampled_size(tuple(entry["size"]), ratio)))
    return 5 * voxels + 12 * MOST_FOREGROUND * len(entry["labels"]) + 8192


def _open_partial(partial: Path, header: dict, checksums: dict[str, str], progress) -> h5py.File:
    """The partial file, open for writing, with the cases that can be kept and no others."""
    if partial.is_file():
        file = _resume(partial, header, checksums, progress)
        if file is not None:
            return file
        partial.unlink()
    try:
        file = h5py.File(partial, "x")
    except OSError as error:
        raise UserError(
            f"{partial}: cannot be written ({error.strerror or error}); is another process at it?"
        ) from None
    file.attrs.update({**header, "complete": False})
    file.create_group("cases")
    file.flush()
    return file


def _resume(partial: Path, header: dict, checksums: dict[str, str], progress) -> h5py.File | None:
    """The open partial file less what cannot be kept; None (with a line saying why) to start again."""
    file = None
    try:
        file = h5py.File(partial, "r+")
        if any(
            not np.array_equal(file.attrs[key], header[key]) for key in header if key not in ("name", "split")
        ):
            progress(f"{partial} was begun with other settings or labels: started again")
            file.close()
            return None
        file.attrs.update({"name": header["name"], "split": header["split"], "complete": False})
        _drop_unusable(file["cases"], checksums)
        file.flush()
        progress(f"going on with {partial}: {len(file['cases'])} of {len(checksums)} cases are there")
        return file
    except BlockingIOError:
        raise UserError(
            f"{partial}: another process is writing it; wait for it, or choose another name"
        ) from None
    except HDF5_ERRORS as error:
        progress(f"{partial} was damaged when its writing was stopped ({error}): started again")
        if file is not None:
            file.close()
        return None


def _drop_unusable(groups: h5py.Group, checksums: dict[str, str]) -> None:
    """Removes cases that are unfinished, damaged, changed since, or not wanted (their room is not reused)."""
    for name in sorted(groups):
        attributes = groups[name].attrs
        wanted = attributes.get("complete", False) and attributes["checksum_source"] == checksums.get(name)
        if not wanted or _checksum(_stored_parts(groups[name])) != attributes["checksum"]:
            del groups[name]


def _write_case(
    groups: h5py.Group, case: CachedCase, source: Case, checksum_source: str, labels: int
) -> None:
    """Writes one group, and marks it complete only after its arrays have left this process."""
    group = groups.create_group(case.name)
    arrays, grid = _arrays_of(case, labels), {**_grid_of(case), **_numbers_of(case, source)}
    for key, array in arrays.items():
        group.create_dataset(key, data=array)
    group.attrs.update(grid)
    group.attrs.update(
        {"subject": case.subject, "source": str(source.image), "checksum_source": checksum_source}
    )
    group.attrs["checksum"] = _checksum({**arrays, **grid}.items())
    groups.file.flush()
    group.attrs["complete"] = True
    groups.file.flush()


def _arrays_of(case: CachedCase, labels: int) -> dict[str, np.ndarray]:
    arrays = {"image": case.image, "label": case.label, "points_vox": case.points_vox}
    if case.native is not None:
        arrays.update({"native_image": case.native.image, "native_label": case.native.label})
    if case.label is not None:
        for value in range(1, labels + 1):
            arrays[f"foreground/{value}"] = _foreground_voxels(case.label, value, case.name)
    return {key: np.ascontiguousarray(array) for key, array in arrays.items() if array is not None}


def _grid_of(case: CachedCase) -> dict[str, np.ndarray]:
    native = case.native or case
    values = (case.spacing_mm, case.origin_mm, case.direction, native.spacing_mm, native.origin_mm)
    return {key: np.array(value, np.float64) for key, value in zip(GRID, values, strict=True)}


def _numbers_of(case: CachedCase, source: Case) -> dict[str, np.ndarray]:
    values = (case.pixel_size_mm, case.hc_mm) if source.is_picture else ()
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


def _checksum(parts) -> str:
    """sha256 over names, types, shapes and bytes of (name, array) pairs, in the order of the names."""
    digest = hashlib.sha256()
    for key, array in sorted(parts, key=lambda part: part[0]):
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _stored_parts(group: h5py.Group) -> list[tuple[str, np.ndarray]]:
    """The (name, array) pairs that `_checksum` was given when the group was written."""
    keys = [key for key in sorted(group) if key != "foreground"]
    keys += [f"foreground/{value}" for value in sorted(group.get("foreground", ()))]
    attributes = [*GRID, *(key for key in NUMBERS if key in group.attrs)]
    return [(key, group[key][...]) for key in keys] + [(key, np.asarray(group.attrs[key])) for key in attributes]


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
