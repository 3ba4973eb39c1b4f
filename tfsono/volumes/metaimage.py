"""The header of a MetaImage: its fields, and what they say about the spacing."""

from __future__ import annotations

import re

from tfsono.errors import UserError
from tfsono.volumes.units import HeaderSpacing, floats, positive, spacing_in_units

_FRAME_KINDS = ("list", "time")


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


def meta_spacing(path, start: bytes) -> HeaderSpacing:
    """What the header at the start of a file says. ITK takes 1 mm where it says nothing.

    Raises:
        UserError: frames of a sweep, or an unknown unit.
    """
    fields, _ = meta_fields(start)
    _check_no_frames(path, fields)
    axes = len(fields.get("DimSize", "").split())
    name = next((key for key in ("ElementSpacing", "ElementSize") if key in fields), "")
    missing = "" if name else "no ElementSpacing"
    if name and not positive(floats(fields[name]), axes):
        missing = f"{name} = {fields[name][:40]}"
    return spacing_in_units(path, [fields.get("DistanceUnits", "")] * 3, missing)


def is_sweep(fields) -> bool:
    """Whether fields hold the pose of a frame (PLUS and 3D Slicer: Seq_Frame0000_ProbeToTrackerTransform)."""
    return any(re.match(r"Seq_Frame\d+_", key, re.IGNORECASE) for key in fields)


def _check_no_frames(path, fields: dict[str, str]) -> None:
    """Refuses 2D frames stacked as a third axis, and several volumes; one frame of a fourth axis is a volume."""
    sides = fields.get("DimSize", "").split()
    kinds = fields.get("Kinds", "").lower().split()
    along = next((side for side, kind in zip(sides, kinds, strict=False) if kind in _FRAME_KINDS and side != "1"), "")
    if not along and is_sweep(fields) and (len(sides) < 4 or sides[3] != "1"):
        along = sides[-1] if sides else "several"
    if along:
        raise sweep_error(path, along)


def sweep_error(path, frames: object) -> UserError:
    """Of a file whose last axis counts frames."""
    return UserError(f"{path}: a volume must be a grid in space; found {frames} frames of a sweep or a time series; "
                     "reconstruct a volume from it first (for example with PLUS or 3D Slicer)")
