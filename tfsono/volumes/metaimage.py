"""The header of a MetaImage: its fields, and what they say about the spacing."""

from __future__ import annotations

import re
from dataclasses import replace

from tfsono.errors import UserError
from tfsono.volumes.units import HeaderSpacing, floats, positive, spacing_in_units


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
    notes = _check_no_frames(path, fields)
    axes = len(fields.get("DimSize", "").split())
    name = next((key for key in ("ElementSpacing", "ElementSize") if key in fields), "")
    missing = "" if name else "no ElementSpacing"
    if name and not positive(floats(fields[name]), axes):
        missing = f"{name} = {fields[name][:40]}"
    found = spacing_in_units(path, [fields.get("DistanceUnits", "")] * 3, missing)
    return replace(found, notes=(*notes, *found.notes))


def is_sweep(fields) -> bool:
    """Whether fields tell of several frames (PLUS and 3D Slicer: Seq_Frame0000_ProbeToTrackerTransform).

    A volume that was reconstructed from a sweep tells of one at most.
    """
    frames = {found.group(1) for key in fields if (found := re.match(r"Seq_Frame(\d+)_", key, re.IGNORECASE))}
    return len(frames) > 1


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
