"""The header of a NRRD file: its voxels, spacing and axes, and the segments of 3D Slicer.

ITK's own reader writes beyond its arrays for a long wrong field, so a header reaches it only after `nrrd_voxels`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np

from tfsono.errors import UserError
from tfsono.volumes.metaimage import is_sweep, sweep_error
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
    "i1": "signed char, int8, int8_t", "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t", "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float", "f8": "double",
}  # fmt: skip
_ENCODINGS = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "txt": "text", "text": "text", "ascii": "text", "hex": "hex"}
_SHORT_NAMES = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "axismins": "axis mins",
                "axismaxs": "axis maxs", "centerings": "centers", "blocksize": "block size", "oldmin": "old min",
                "oldmax": "old max", "sampleunits": "sample units"}
_FIELDS = (*_SHORT_NAMES.values(), "dimension", "type", "sizes", "encoding", "endian", "content", "kinds", "labels",
           "units", "space", "space dimension", "space units", "space origin", "space directions", "measurement frame",
           "spacings", "thicknesses", "min", "max", "number")

_SPATIAL = ("domain", "space", "???", "none")
_FRAME_KINDS = ("list", "time")
_LONGEST_HEADER = 1 << 20


def nrrd_voxels(path: Path, start: bytes) -> StoredVoxels:
    """Where the voxels are, after a check of every field.

    Args:
        path: of the header.
        start: its first bytes, longer than any header.

    Raises:
        UserError: a field that is wrong.
    """
    end = _end(start)
    if end is None and len(start) >= _LONGEST_HEADER:
        raise UserError(f"{path}: a NRRD header must end with an empty line within {len(start)} bytes; found none; "
                        "save it again")
    _check_fields(path, _lines(start))
    fields, _ = _header(start)
    size = sides_of(path, "dimension", fields.get("dimension", ""), "sizes", fields.get("sizes", ""))
    _check_geometry(path, fields, len(size))
    named = fields.get("data file", "")
    if "%" in named or named.upper().startswith("LIST"):
        raise UserError(f"{path}: the voxels must be in one data file; found {named[:80]!r}; save it as one .nrrd file")
    if not named and end is None:
        raise UserError(f"{path}: a NRRD header must end with an empty line; found it truncated; copy it again")
    file = data_file(path, named) if named else path
    return StoredVoxels(path, (file,), size, _dtype(path, fields), **_storage(path, fields, 0 if named else end))


def nrrd_spacing(path, start: bytes) -> HeaderSpacing:
    """What the header at the start of a file says. ITK takes 1 mm where it says nothing, and ignores units.

    Raises:
        UserError: frames, vectors, segments in several layers, or an unknown unit.
    """
    fields, keys = _header(start)
    sizes = fields.get("sizes", "").split()
    kinds = fields.get("kinds", "").lower().split() or ["domain"] * len(sizes)
    _check_axes(path, sizes, kinds, keys)
    axes = [axis for axis, kind in enumerate(kinds) if kind in _SPATIAL][:3]
    units = _quoted(fields, "space units") or [_quoted(fields, "units")[axis] for axis in axes
                                               if axis < len(_quoted(fields, "units"))]
    if "space directions" in fields and len(set(units)) > 1:
        raise UserError(f"{path}: the axes must have one unit; found {first_letters(', '.join(units))}; "
                        "correct the header")
    return spacing_in_units(path, units[:3] if len(units) >= 3 else units[:1] * 3, _missing(fields, axes))


def _end(start: bytes) -> int | None:
    """The offset behind the empty line at the end of the header; None where there is none."""
    found = re.search(b"\r?\n\r?\n", start)
    return found.end() if found else None


def _lines(start: bytes) -> list[str]:
    """Those of the header behind the first, split where ITK splits them."""
    return [line.rstrip("\r") for line in start[:_end(start)].decode("utf-8", "replace").split("\n")[1:]]


def _header(start: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """The fields (`name: value`) with long names in lower case, and the key/value pairs (`key:=value`)."""
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in _lines(start):
        name, separator, value = line.partition(":")
        if not separator or line.startswith("#"):
            continue
        if value.startswith("="):
            keys[name] = value[1:]
        else:
            fields[_plain(name)] = value.strip()
    return fields, keys


def _plain(name: str) -> str:
    name = name.strip().lower()
    return _SHORT_NAMES.get(name, name)


def _check_fields(path, lines: list[str]) -> None:
    """Known ones, each once. Key/value pairs and comments may have any length (3D Slicer writes long ones)."""
    fields = [line for line in lines if line.strip() and not line.startswith("#") and ":=" not in line]
    check_lines(path, "\n".join(fields))
    names = Counter(_plain(line.partition(":")[0]) if ":" in line else line for line in fields)
    wrong = next((name for name, count in names.items() if name not in _FIELDS or count > 1), None)
    if wrong is not None:
        raise UserError(f"{path}: a NRRD header has lines `field: value`, each known field once; found {wrong[:60]!r}; "
                        "save it again")


def _check_geometry(path, fields: dict[str, str], axes: int) -> None:
    """Every number that ITK uses is finite, NaN is only at axes that are not of space."""
    for name in ("space origin", "space directions", "measurement frame"):
        for vector in re.findall(r"\(([^)]*)\)", fields.get(name, "")):
            check_finite(path, name, vector.replace(",", " "), len(vector.split(",")))
    origin = fields.get("space origin", "()")
    if not re.fullmatch(r"\([^()]*\)", origin):
        raise UserError(f"{path}: space origin must be one vector, such as (1,2,3); found {origin[:80]!r}; correct the "
                        "header")
    for name in ("spacings", "axis mins", "axis maxs", "thicknesses"):
        values = floats(fields.get(name, " ".join(["1"] * axes)))
        if len(values) != axes or any(map(math.isinf, values)):
            raise UserError(f"{path}: {name} must hold {axes} finite numbers; found {fields[name][:80]!r}; correct "
                            "the header")


def _dtype(path, fields: dict[str, str]) -> np.dtype:
    kind, endian = " ".join(fields.get("type", "").lower().split()), fields.get("endian", "").lower()
    code = next((code for code, names in _TYPES.items() if kind in names.split(", ")), "")
    if not code:
        raise UserError(f"{path}: the type must be of whole or real numbers of 8 to 64 bits; found {kind[:40]!r}; "
                        "save it again")
    if code[1] != "1" and endian not in ("little", "big") and _encoding(path, fields) != "text":
        raise UserError(f"{path}: endian must be little or big; found {endian[:40]!r}; save it again")
    return np.dtype((">" if endian == "big" else "<") + code)


def _encoding(path, fields: dict[str, str]) -> str:
    name = fields.get("encoding", "").lower()
    if name not in _ENCODINGS:
        raise UserError(f"{path}: the encoding must be one of {', '.join(_ENCODINGS)}; found {name[:40]!r}; save it "
                        "again with gzip")
    return _ENCODINGS[name]


def _storage(path, fields: dict[str, str], offset: int) -> dict:
    """The encoding, the offset and what is skipped behind it."""
    encoding, skips = _encoding(path, fields), {}
    for name, form in (("line skip", "[0-9]{1,9}"), ("byte skip", "-1|[0-9]{1,15}")):
        text = fields.get(name, "0")
        if not re.fullmatch(form, text) or (name == "byte skip" and encoding != "raw"
                                            and (text == "-1" or encoding != "gzip" and int(text))):
            raise UserError(f"{path}: {name} must be a whole number that the encoding {encoding} allows; found "
                            f"{text[:40]!r}; save it again")
        skips[name] = int(text)
    if skips["byte skip"] == -1:
        return {"offset": AT_END}
    return {"encoding": encoding, "offset": offset, "skipped_lines": skips["line skip"],
            "skipped_bytes": skips["byte skip"]}


def _check_axes(path, sizes: list[str], kinds: list[str], keys: dict[str, str]) -> None:
    """Every axis longer than 1 must be one of space."""
    for size, kind in zip(sizes, kinds, strict=False):
        if kind in _SPATIAL or size == "1":
            continue
        if any(key.startswith("Segment0_") for key in keys):
            raise UserError(f"{path}: the segments must be in one layer; found {size} layers (overlapping segments); "
                            "export them as a label map in 3D Slicer")
        if kind in _FRAME_KINDS:
            raise sweep_error(path, size)
        raise UserError(f"{path}: one real number a voxel is needed (no colour, no vectors); found {size} along an "
                        f"axis of kind {kind[:40]!r}")
    if is_sweep(keys) and len(sizes) < 4:
        raise sweep_error(path, sizes[-1])


def _missing(fields: dict[str, str], axes: list[int]) -> str:
    if "space directions" in fields:
        found = re.findall(r"\([^)]*\)|none", fields["space directions"])
        lengths = [math.hypot(*floats(text.strip("()").replace(",", " "))) for text in found if text != "none"]
        is_stated = positive(lengths[:len(axes)], len(axes))
        return "" if is_stated else f"space directions {first_letters(fields['space directions'])}"
    if "spacings" in fields:
        spacings = floats(fields["spacings"])
        found = [spacings[axis] for axis in axes if axis < len(spacings)]
        return "" if positive(found, len(axes)) else f"spacings {first_letters(fields['spacings'])}"
    return "neither spacings nor space directions"


def _quoted(fields: dict[str, str], name: str) -> list[str]:
    return re.findall(r'"([^"]*)"', fields.get(name, ""))
