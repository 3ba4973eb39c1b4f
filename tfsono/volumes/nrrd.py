"""The header of a NRRD file: what it says about the spacing, the axes and the segments of 3D Slicer."""

from __future__ import annotations

import math
import re

from tfsono.errors import UserError
from tfsono.volumes.metaimage import is_sweep, sweep_error
from tfsono.volumes.units import HeaderSpacing, floats, positive, spacing_in_units

_SPATIAL = ("domain", "space", "???", "none")
_FRAME_KINDS = ("list", "time")


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
        raise UserError(f"{path}: the axes must have one unit; found {', '.join(units)}; correct the header")
    return spacing_in_units(path, units[:3] if len(units) >= 3 else units[:1] * 3, _missing(fields, axes))


def _header(start: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """The fields (`name: value`) with names in lower case, and the key/value pairs (`key:=value`)."""
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in start.replace(b"\r\n", b"\n").split(b"\n\n")[0].decode("utf-8", "replace").splitlines()[1:]:
        name, separator, value = line.partition(":")
        if not separator or line.startswith("#"):
            continue
        if value.startswith("="):
            keys[name] = value[1:]
        else:
            fields[name.strip().lower()] = value.strip()
    return fields, keys


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
                        f"axis of kind {kind!r}")
    if is_sweep(keys) and len(sizes) < 4:
        raise sweep_error(path, sizes[-1])


def _missing(fields: dict[str, str], axes: list[int]) -> str:
    if "space directions" in fields:
        found = re.findall(r"\([^)]*\)|none", fields["space directions"])
        lengths = [math.hypot(*floats(text.strip("()").replace(",", " "))) for text in found if text != "none"]
        return "" if positive(lengths[:len(axes)], len(axes)) else f"space directions {fields['space directions'][:60]}"
    if "spacings" in fields:
        spacings = floats(fields["spacings"])
        found = [spacings[axis] for axis in axes if axis < len(spacings)]
        return "" if positive(found, len(axes)) else f"spacings {fields['spacings'][:60]}"
    return "neither spacings nor space directions"


def _quoted(fields: dict[str, str], name: str) -> list[str]:
    return re.findall(r'"([^"]*)"', fields.get(name, ""))
