"""One HDF5 file with what training reads: written as a partial file and renamed when whole, checked when opened.

    attributes            format_version, complete, system, orientation, spacing_mm, name, labels, landmarks,
                          split (the last three as JSON)
    cases/NAME            attributes: the grid, subject, source, checksum_source, checksum, complete; for 2D images
                          pixel_size_mm and hc_mm, NaN where unknown
        image             float32 [X, Y, Z], in the file's own intensities; for 2D images uint8 [X, Y, 1]
        label             uint8 [X, Y, Z]: 0 background, 1..n the labels in their order (if there are labels)
        foreground/1..n   int32 [<= 10000, 3]: voxels of that label, drawn once for balanced sampling
        points_vox        float32 [K, 3]: the landmarks in their order, NaN where missing (if there are any)
        native_image, native_label      before resampling, in the same orientation (if it was resampled)

Arrays are contiguous and not compressed: a random 64^3 patch reads in 0.3 ms, where gzip takes 3.5 ms. A case is
checked against its checksum, and against what the cache says of itself, when a process first reads any of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from tfsono.data.prepare import CachedCase, CacheSettings, LabelledVolume
from tfsono.data.splits import PARTS
from tfsono.errors import UserError, printable
from tfsono.files import check_regular
from tfsono.hdf5 import ERRORS, numbers_of, open_to_read, plain_dataset, plain_group, reason, text_of

FORMAT_VERSION = 1
GRID = {"spacing_mm": 3, "origin_mm": 3, "direction": 9, "native_spacing_mm": 3, "native_origin_mm": 3}
"""The attributes of a case's grid, and how many numbers each has."""

NUMBERS = ("pixel_size_mm", "hc_mm")
"""Of 2D images only; caches of volumes do not have them."""

THINNED_SIDE = 32

AGAIN = "delete it and write it again"

_SOUND: set[tuple] = set()
"""The cases, of which files, that this process (or the one that it was forked from) has checked."""


class Cache:
    """A whole cache, open for reading; a context manager.

    Every process opens its own file handle when it first reads: an instance may be forked or pickled.

    Attributes:
        name: the dataset's name.
        names: the cases, sorted.
        labels: name -> value in the dataset's files, in the order of the cache's own values 1..n.
        landmarks: their names, in the order of `points_vox`.
        settings: that it was written with.
        split: the dataset's own split, or None.
        subjects: case -> subject.
        pixel_sizes_mm: case -> millimetres a pixel of the original 2D image, None where unknown.
        circumferences_mm: case -> head circumference in the dataset's table, None where unknown.
    """

    def __init__(self, path, system: str) -> None:
        """Opens `path`, which must be a whole cache of `system`.

        Raises:
            UserError: missing, no HDF5, no cache, unfinished, damaged, of another system or another version.
        """
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._process = -1
        with _damage_refused(self.path), open_whole(self.path) as file:
            self._read_header(file)
        if self.settings.system != system:
            raise UserError(
                f"{self.path}: {system} needs a cache written for it; found one of "
                f"{printable(self.settings.system)[:40]}: write another with 'tfsono cache {system} DATASET FILE.h5'"
            )

    def _read_header(self, file: h5py.File) -> None:
        self.settings = _settings_of(file)
        self.name = text_of(file, "name")
        self.labels, self.landmarks, self.split = _labels_of(file), _landmarks_of(file), _split_of(file)
        groups = {name: plain_group(plain_group(file, "cases"), name) for name in sorted(file["cases"])}
        self.names: list[str] = list(groups)
        self.subjects = {name: text_of(group, "subject") for name, group in groups.items()}
        self.pixel_sizes_mm = {name: _number(group, "pixel_size_mm") for name, group in groups.items()}
        self.circumferences_mm = {name: _number(group, "hc_mm") for name, group in groups.items()}
        self._shapes = {name: plain_dataset(group, "image").shape for name, group in groups.items()}
        self._spacings = {name: numbers_of(group, "spacing_mm", (3,)) for name, group in groups.items()}

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

    def own_grid(self, name: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Size and spacing of the case before resampling, in the cache's orientation."""
        group = self._group(name)
        return _own(group, "image").shape, tuple(group.attrs["native_spacing_mm"].tolist())

    def own_sample(self, name: str) -> np.ndarray:
        """Some of the case's intensities before resampling; see `thinned`."""
        return thinned(_own(self._group(name), "image"))

    def own_label_voxels(self, name: str) -> np.ndarray:
        """Voxels of each label 1..n before resampling [n]; 0 without labels."""
        group = self._group(name)
        values = _own(group, "label")[...].ravel() if "label" in group else np.zeros(0, np.uint8)
        return np.bincount(values, minlength=len(self.labels) + 1)[1:]

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
        """Label 1..n -> int32 [n, 3] voxels of it, at most 10000; [0, 3] where the case lacks it."""
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

    def check(self, name: str) -> None:
        """Compares the case with its checksum and with the cache's labels and landmarks, once in a process.

        Raises:
            UserError: the case is damaged.
        """
        self._group(name)

    def _group(self, name: str) -> h5py.Group:
        if name not in self._shapes:
            raise ValueError(f"name must be a case of {self.path}; found {name!r}")
        with _damage_refused(self.path, name):
            if self._file is None or self._process != os.getpid():  # a fork must not share its parent's handle
                self._file = open_to_read(self.path)
                self._process, state = os.getpid(), os.stat(self.path)
                self._identity = state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
            if (*self._identity, name) not in _SOUND:
                check_case(self._file["cases"], name, len(self.labels), len(self.landmarks))
                _SOUND.add((*self._identity, name))
            return self._file["cases"][name]


@contextlib.contextmanager
def _damage_refused(path: Path, case: str = "") -> Iterator[None]:
    try:
        yield
    except ERRORS as error:
        where = f"case {case!r} of the cache" if case else "the cache"
        raise UserError(f"{path}: {where} is damaged ({reason(error)}); {AGAIN}") from None


def verify_cache(path) -> list[str]:
    """Reads every array again; one line for each problem, so an empty list means a sound cache."""
    problems = []
    try:
        with _damage_refused(path), open_whole(Path(path)) as file:
            labels, landmarks, groups = len(_labels_of(file)), len(_landmarks_of(file)), plain_group(file, "cases")
            for name in sorted(groups):
                try:
                    check_case(groups, name, labels, landmarks)
                except ERRORS as error:
                    problems.append(f"{name}: {reason(error)}")
    except UserError as error:
        problems.append(str(error))
    return problems


def check_case(groups: h5py.Group, name: str, labels: int, landmarks: int) -> None:
    """Checks a case against its checksum, and against the numbers of the cache's labels and landmarks.

    Raises:
        ValueError: or another of `ERRORS`: what is wrong.
    """
    group = plain_group(groups, name)
    if group.attrs.get("complete", False) is not np.True_:
        raise ValueError("never finished")
    text_of(group, "subject")
    for key, count in GRID.items():
        values = numbers_of(group, key, (count,))
        if key.endswith("spacing_mm") and min(values) <= 0:
            raise ValueError(f"{key} must be positive; found {values}")
    for key in NUMBERS:
        _number(group, key)
    arrays = stored_arrays(group)
    _check_shapes(arrays, labels, landmarks)
    if checksum_of(stored_parts(group, arrays)) != text_of(group, "checksum"):
        raise ValueError("its arrays do not have the checksum that they were written with")
    _check_values(arrays, labels)


def _check_shapes(arrays: dict[str, np.ndarray], labels: int, landmarks: int) -> None:
    """Raises `ValueError` unless the arrays are those of a case, each of its type and size."""
    found = {key: (array.dtype.name, array.shape) for key, array in arrays.items()}
    sides = {key: arrays[key].shape for key in ("image", "native_image") if key in arrays}
    kind = found["image"][0]
    if kind not in ("float32", "uint8") or any(len(shape) != 3 or min(shape) < 1 for shape in sides.values()):
        raise ValueError(f"an image must be float32 or uint8 [X, Y, Z]; found {found['image']}")
    expected = {"image": found["image"]}
    if "native_image" in found:
        expected["native_image"] = kind, sides["native_image"]
    if "label" in found:
        expected |= {key.replace("image", "label"): ("uint8", shape) for key, shape in sides.items()}
        for key in (f"foreground/{value}" for value in range(1, labels + 1)):
            expected[key] = "int32", (len(arrays[key]), 3)
    if landmarks:
        expected["points_vox"] = "float32", (landmarks, 3)
    for key in sorted({*found, *expected}):
        if found.get(key) != expected.get(key):
            what = "label and image differ in shape: " if "label" in key else ""
            raise ValueError(f"{what}{key} must be {expected.get(key, 'absent')}; found {found.get(key, 'none')}")


def _check_values(arrays: dict[str, np.ndarray], labels: int) -> None:
    """Raises `ValueError` for a voxel or a landmark that no case has."""
    sides = arrays["image"].shape
    for key, array in arrays.items():
        if key.endswith("image") and not np.isfinite(array).all():
            raise ValueError("NaN or infinite voxels")
        if key.endswith("label") and array.max() > labels:
            raise ValueError(f"an unknown label value: {array.max()}, and the cache has {labels} labels")
        if key == "points_vox" and np.isinf(array).any():
            raise ValueError("an infinite landmark")
        if key.startswith("foreground/") and array.size and not ((array >= 0) & (array < sides)).all():
            raise ValueError(f"{key}: voxels outside of the image")


def open_whole(path: Path) -> h5py.File:
    """The open file of a whole cache of this version; UserError for any other file."""
    again = "write it with 'tfsono cache SYSTEM DATASET FILE.h5'"
    partial = partial_path(path)
    if not path.exists():
        begun = f"{partial.name}, unfinished: the same command resumes it"
        raise UserError(
            f"{path}: the cache must exist; found {begun if partial.is_file() else 'none'}; {again}"
        )
    check_regular(path)
    if not h5py.is_hdf5(path):
        raise UserError(f"{path}: must be a cache (HDF5); found another kind of file; {again}")
    file = open_to_read(path)
    version = file.attrs.get("format_version")
    if version is None or "system" not in file.attrs:
        problem = f"must be a cache of this package; found another HDF5 file; {again} under another name"
    elif np.ndim(version) or version != FORMAT_VERSION:
        problem = (
            f"the cache must have format {FORMAT_VERSION}; found format {reason(version)[:20]}; delete it and {again}"
        )
    elif file.attrs.get("complete", False) is not np.True_:
        problem = f"the cache must be whole; found one that was never finished; delete it and {again}"
    else:
        return file
    file.close()
    raise UserError(f"{path}: {problem}")


def _settings_of(file: h5py.File) -> CacheSettings:
    spacing = numbers_of(file, "spacing_mm", (0, 3))
    if spacing and min(spacing) <= 0:
        raise ValueError(f"spacing_mm must be positive; found {spacing}")
    return CacheSettings(text_of(file, "system"), text_of(file, "orientation"), spacing)


def _labels_of(file: h5py.File) -> dict[str, int]:
    found = _json_of(file, "labels")
    if not isinstance(found, dict) or any(type(value) is not int or value < 1 for value in found.values()) or (
            len(set(found.values())) != len(found)):
        raise ValueError(f"labels must be names with different numbers from 1; found {str(found)[:60]}")
    return found


def _landmarks_of(file: h5py.File) -> tuple[str, ...]:
    found = _json_of(file, "landmarks")
    if not _is_names(found) or len(set(found)) != len(found):
        raise ValueError(f"landmarks must be different names; found {str(found)[:60]}")
    return tuple(found)


def _split_of(file: h5py.File) -> dict[str, list[str]] | None:
    found = _json_of(file, "split")
    if found is not None and not (isinstance(found, dict) and set(found) <= set(PARTS)
                                  and all(_is_names(part) for part in found.values())):
        raise ValueError(f"split must be lists of names under {', '.join(PARTS)}; found {str(found)[:60]}")
    return found


def _is_names(value) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _json_of(file: h5py.File, name: str):
    try:
        return json.loads(text_of(file, name) or "null")
    except (ValueError, RecursionError):
        raise ValueError(f"{name} must be JSON") from None


def _read_case(name: str, group: h5py.Group) -> CachedCase:
    grid = {key: tuple(group.attrs[key].tolist()) for key in GRID}
    native = None
    if "native_image" in group:
        native = LabelledVolume(group["native_image"][...], grid["native_spacing_mm"], grid["native_origin_mm"],
                                grid["direction"], label=_array(group, "native_label"))
    return CachedCase(name=name, image=group["image"][...], label=_array(group, "label"),
                      spacing_mm=grid["spacing_mm"], origin_mm=grid["origin_mm"], direction=grid["direction"],
                      subject=str(group.attrs["subject"]), native=native, points_vox=_array(group, "points_vox"),
                      **{key: _number(group, key) for key in NUMBERS})


def thinned(array: np.ndarray | h5py.Dataset) -> np.ndarray:
    """At most 32 voxels along each axis of [X, Y, Z], evenly spaced: enough for percentiles, and fast to read."""
    x, y, z = (-(-n // THINNED_SIDE) for n in array.shape)
    return np.asarray(array[::x])[:, ::y, ::z]


def _own(group: h5py.Group, key: str) -> h5py.Dataset:
    """`image` or `label` before resampling."""
    return group[f"native_{key}" if f"native_{key}" in group else key]


def _array(group: h5py.Group, key: str) -> np.ndarray | None:
    return group[key][...] if key in group else None


def _number(group: h5py.Group, key: str) -> float | None:
    """The attribute, None where it is absent or NaN."""
    value = group.attrs.get(key, np.nan)
    if not np.isscalar(value) or not np.isnan(value) and not 0 < value < np.inf:
        raise ValueError(f"{key} must be a positive number or NaN; found {str(value)[:40]}")
    return None if np.isnan(value) else float(value)


def partial_path(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def checksum_of(parts) -> str:
    """sha256 over names, types, shapes and bytes of (name, array) pairs, in the order of the names."""
    digest = hashlib.sha256()
    for key, array in sorted(parts, key=lambda part: part[0]):
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def stored_arrays(group: h5py.Group) -> dict[str, np.ndarray]:
    """All arrays of a case."""
    keys = [key for key in sorted(group) if key != "foreground"]
    if "foreground" in group:
        keys += [f"foreground/{value}" for value in sorted(plain_group(group, "foreground"))]
    return {key: plain_dataset(group, key)[...] for key in keys}


def stored_parts(group: h5py.Group, arrays: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """The (name, array) pairs that `checksum_of` was given when the group was written."""
    attributes = [*GRID, *(key for key in NUMBERS if key in group.attrs)]
    return [*arrays.items(), *((key, np.asarray(group.attrs[key])) for key in attributes)]
