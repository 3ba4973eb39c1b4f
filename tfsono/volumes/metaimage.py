"""The header of a MetaImage: its fields, and what they say about the voxels and the spacing.

ITK's own reader writes beyond its arrays for some headers (NDims 99) and uses the name of the data file as a format of
printf, so a header reaches it only after `meta_voxels`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfsono.errors import UserError
from tfsono.volumes.stored_voxels import AT_END, StoredVoxels, data_file
from tfsono.volumes.units import (
    HeaderSpacing,
    check_finite,
    check_lines,
    first_letters,
    floats,
    positive,
    sides_of,
    spacing_in_units,
)

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_VECTORS = ("Offset", "Position", "Origin", "CenterOfRotation")
_MATRICES = ("TransformMatrix", "Rotation", "Orientation")
_PATTERN = re.compile(r"[^%]*%(?:0[1-9])?d[^%]*")
_MOST_FILES = 100_000


def meta_fields(start: bytes) -> tuple[dict[str, str], int]:
    """The header's `key = value` lines, and the offset behind the last of them, ElementDataFile."""
    fields: dict[str, str] = {}
    offset = 0
    for line in start.splitlines(keepends=True):
        offset += len(line)
        key, *value = re.split("[=:]", line.decode("latin-1"), maxsplit=1)
        fields[key.strip()] = "".join(value).strip()
        if key.strip() == "ElementDataFile":
            break
    return fields, offset


def meta_voxels(path: Path, start: bytes) -> StoredVoxels:
    """Where the voxels are, after a check of every field that ITK uses.

    Args:
        path: of the header.
        start: its first bytes, longer than any header but that of a sweep.

    Raises:
        UserError: a field that is wrong, or a sweep.
    """
    if b"NDims" not in start:
        raise UserError(f"{path}: must be a MetaImage file; found none by its content, no NDims; save it again")
    fields, end = meta_fields(start)
    if is_sweep(fields):
        raise sweep_error(path, first_letters((fields.get("DimSize", "").split() or ["many"])[-1]))
    data_name = fields.get("ElementDataFile", "")
    if not data_name:
        raise UserError(f"{path}: a MetaImage header must end with ElementDataFile; found it truncated, or none; "
                        "copy it again")
    header = start[:end] if data_name[:4] != "LIST" else start
    check_lines(path, header.decode("latin-1"))
    _check_once(path, header[:end])
    size = sides_of(path, "NDims", fields.get("NDims", ""), "DimSize", fields.get("DimSize", ""))
    for name in _VECTORS + _MATRICES:
        if name in fields:
            check_finite(path, name, fields[name], len(size) if name in _VECTORS else len(size) ** 2)
    files, offset = _data_files(path, data_name, size, start[end:])
    return StoredVoxels(path, files, size, _dtype(path, fields), **_storage(path, fields, end if offset else 0))


def meta_spacing(path, start: bytes) -> HeaderSpacing:
    """What the header at the start of a file says. ITK takes 1 mm where it says nothing.

    Raises:
        UserError: frames of a sweep, or an unknown unit.
    """
    fields, _ = meta_fields(start)
    notes = _check_no_frames(path, fields)
    axes = len(fields.get("DimSize", "").split())
    name = next((key for key in ("ElementSpacing", "ElementSize") if key in fields), "")
    missing = "" if name else "no ElementSpacing"
    if name and not positive(floats(fields[name]), axes):
        missing = f"{name} = {first_letters(fields[name])}"
    found = spacing_in_units(path, [fields.get("DistanceUnits", "")] * 3, missing)
    return replace(found, notes=(*notes, *found.notes))


def is_sweep(fields) -> bool:
    """Whether fields tell of several frames (PLUS and 3D Slicer: Seq_Frame0000_ProbeToTrackerTransform).

    A volume that was reconstructed from a sweep tells of one at most.
    """
    frames = {found.group(1) for key in fields if (found := re.match(r"Seq_Frame(\d+)_", key, re.IGNORECASE))}
    return len(frames) > 1


def _check_once(path, header: bytes) -> None:
    names = Counter(re.split(b"[=:]", line)[0].strip().decode("latin-1") for line in header.splitlines())
    twice = next((name for name, count in names.items() if count > 1 and name not in ("", "Comment")), "")
    if twice:
        raise UserError(f"{path}: each field must stand in the header once; found {twice[:80]!r} "
                        "twice; save it again")


def _dtype(path, fields: dict[str, str]) -> np.dtype:
    channels, kind = fields.get("ElementNumberOfChannels", "1"), fields.get("ElementType", "")
    if channels != "1":
        raise UserError(f"{path}: one real number a voxel is needed (no colour, no vectors); found "
                        f"ElementNumberOfChannels = {channels[:40]!r}")
    if kind not in _TYPES:
        raise UserError(f"{path}: the ElementType must be one of {', '.join(_TYPES)}; found {kind[:40]!r}; "
                        "save it again")
    is_big = any(_is_true(fields.get(name, "")) for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    return np.dtype((">" if is_big else "<") + _TYPES[kind])


def _storage(path, fields: dict[str, str], end: int) -> dict:
    """The encoding, offset and stored bytes; `end` is that of the header where the voxels follow it, else 0."""
    skipped, stored = fields.get("HeaderSize", "0"), fields.get("CompressedDataSize", "")
    for name, text, form in (("HeaderSize", skipped, "-1|[0-9]{1,15}"), ("CompressedDataSize", stored, "|[0-9]{1,15}")):
        if not re.fullmatch(form, text):
            raise UserError(f"{path}: {name} must be a whole number; found {text[:40]!r}; save it again")
    offset = int(skipped) if int(skipped) > 0 else end
    if offset < end:
        raise UserError(f"{path}: the voxels must be behind the header of {end} bytes; found HeaderSize {skipped}; "
                        "save it again")
    if _is_true(fields.get("CompressedData", "")):
        return {"encoding": "gzip", "offset": max(offset, 0), "stored_bytes": int(stored) if stored else None}
    if not _is_true(fields.get("BinaryData", "True")):
        return {"encoding": "text", "offset": offset}
    return {"offset": AT_END if skipped == "-1" else offset}


def _data_files(path: Path, name: str, size: tuple[int, ...], rest: bytes) -> tuple[tuple[Path, ...], bool]:
    """The files, and whether it is the header's own."""
    if name.upper() == "LOCAL":
        return (path,), True
    if name.startswith("LIST"):
        return _slices(path, rest.decode("latin-1").split("\n"), size), False
    if "%" not in name:
        return (data_file(path, name),), False
    pattern, *numbers = name.split()
    if not _PATTERN.fullmatch(pattern) or not all(re.fullmatch("[0-9]{1,6}", one) for one in numbers[:3]):
        raise UserError(f"{path}: ElementDataFile must be a name, or one with a single %d or %03d and its first, last "
                        f"and step; found {name[:80]!r}; rename the file, and correct the header")
    first, last, step = [int(one) for one in numbers[:3]] + [1, size[-1], 1][len(numbers[:3]):]
    return _slices(path, [pattern % one for one in range(first, last + 1, max(1, step))], size), False


def _slices(path: Path, names: list[str], size: tuple[int, ...]) -> tuple[Path, ...]:
    """One file for each step along the last axis."""
    names = [name.strip() for name in names if name.strip()]
    if len(names) != size[-1] or len(names) > _MOST_FILES:
        raise UserError(f"{path}: the header must name a data file for each of {size[-1]} slices; found {len(names)}; "
                        "save it as one file")
    return tuple(data_file(path, name) for name in names)


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def _check_no_frames(path, fields: dict[str, str]) -> tuple[str, ...]:
    """Refuses 2D frames stacked as a third axis, and several volumes.

    PLUS calls the third axis of its reconstructed volumes a list too, but gives them a spacing.
    """
    sides = fields.get("DimSize", "").split()
    kinds = fields.get("Kinds", "").lower().split()
    spacing = floats(fields.get("ElementSpacing", ""))
    if is_sweep(fields) or any(kind == "time" and side != "1" for side, kind in zip(sides, kinds, strict=False)):
        raise sweep_error(path, sides[-1] if sides else "many")
    if kinds[2:3] == ["list"] and sides[2:3] != ["1"]:
        if set(spacing) <= {1.0}:
            raise sweep_error(path, sides[-1])
        return ("Kinds calls the third axis a list: read as a volume, since no frame has a pose",)
    return ()


def sweep_error(path, frames: object) -> UserError:
    """Of a file whose last axis counts frames."""
    return UserError(f"{path}: a volume must be a grid in space; found {frames} frames of a sweep or a time series; "
                     "reconstruct a volume from it first (for example with PLUS or 3D Slicer)")
