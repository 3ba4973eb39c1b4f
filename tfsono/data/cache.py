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

Arrays are contiguous and not compressed: a random 64^3 patch reads in 0.3 ms, where gzip takes 3.5 ms.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from tfsono.data.prepare import CachedCase, CacheSettings, LabelledVolume
from tfsono.errors import UserError

FORMAT_VERSION = 1
GRID = ("spacing_mm", "origin_mm", "direction", "native_spacing_mm", "native_origin_mm")
NUMBERS = ("pixel_size_mm", "hc_mm")
"""Of 2D images only; caches of volumes do not have them."""

THINNED_SIDE = 32

HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError)
"""What h5py raises for a damaged file, depending on where the damage is."""


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
        try:
            with open_whole(self.path) as file:
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
        with open_whole(Path(path)) as file:
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
        elif checksum_of(stored_parts(group)) != group.attrs["checksum"]:
            yield "its arrays do not have the checksum that they were written with"
        elif not np.isfinite(group["image"][...]).all():
            yield "NaN or infinite voxels"
        elif "label" in group and (
            group["label"].shape != group["image"].shape or group["label"][...].max() > labels
        ):
            yield "label and image differ in shape, or an unknown label value"
    except HDF5_ERRORS as error:
        yield f"cannot be read ({error})"


def open_whole(path: Path) -> h5py.File:
    """The open file of a whole cache of this version; UserError for any other file."""
    again = "write it with 'tfsono cache SYSTEM DATASET FILE.h5'"
    partial = partial_path(path)
    if not path.is_file():
        begun = f"{partial.name}, unfinished: the same command resumes it"
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
    value = float(group.attrs.get(key, np.nan))
    return None if np.isnan(value) else value


def partial_path(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def checksum_of(parts) -> str:
    """sha256 over names, types, shapes and bytes of (name, array) pairs, in the order of the names."""
    digest = hashlib.sha256()
    for key, array in sorted(parts, key=lambda part: part[0]):
        digest.update(f"{key} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def stored_parts(group: h5py.Group) -> list[tuple[str, np.ndarray]]:
    """The (name, array) pairs that `checksum_of` was given when the group was written."""
    keys = [key for key in sorted(group) if key != "foreground"]
    keys += [f"foreground/{value}" for value in sorted(group.get("foreground", ()))]
    attributes = [*GRID, *(key for key in NUMBERS if key in group.attrs)]
    return [(key, group[key][...]) for key in keys] + [(key, np.asarray(group.attrs[key])) for key in attributes]
