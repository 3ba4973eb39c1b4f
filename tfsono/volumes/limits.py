"""How many voxels or pixels a file may declare, compared before any memory is taken for them.

A few megabytes of zeros unpack to a thousand times as much, and a header costs nothing to change. The limits stand well
above what scanners write, and below what a workstation of 16 GB can hold with the copies that reading makes.
"""

from __future__ import annotations

import math
import os

from tfsono.errors import UserError

MOST_VOXELS = 2**29
"""512 x 512 x 2048: twice a whole-body CT. As 32-bit floats 2 GB, and reading makes a copy."""

MOST_PIXELS = 2**26
"""8192 x 8192: some forty times a frame of ultrasound."""

MOST_PER_BYTE = 1100
"""Voxels a stored byte, in files of over a quarter of the limit. Deflate packs zeros 1032 to 1, so an empty mask of
bytes is read; what declares more has no voxels."""


def check_voxels(path, sides, stored_bytes: int) -> None:
    """Refuses a file that declares more voxels than TFSONO_MAX_VOXELS, or far more than it can hold.

    Args:
        path: for the message.
        sides: along all axes, as declared.
        stored_bytes: of the file, or of the stream in it.

    Raises:
        UserError: as above.
    """
    _check(path, sides, stored_bytes, unit="voxels", most=_limit("TFSONO_MAX_VOXELS", MOST_VOXELS))


def check_pixels(path, sides, stored_bytes: int) -> None:
    """As `check_voxels`, for 2D images and TFSONO_MAX_PIXELS."""
    _check(path, sides, stored_bytes, unit="pixels", most=_limit("TFSONO_MAX_PIXELS", MOST_PIXELS))


def _check(path, sides, stored_bytes: int, unit: str, most: int) -> None:
    name, count = f"TFSONO_MAX_{unit.upper()}", math.prod(sides)
    if count > most:
        raise UserError(f"{path}: at most {most} {unit} are read; found {_sides(sides)} = {count:.4g}; crop or "
                        f"resample it, or set the environment variable {name}")
    if count > most // 4 and count > MOST_PER_BYTE * stored_bytes:
        raise UserError(f"{path}: a file of {stored_bytes} bytes holds at most {MOST_PER_BYTE} {unit} a byte; found "
                        f"{_sides(sides)} declared; export it again, or set the environment variable {name} to four "
                        "times that number")


def _limit(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 16):
        raise UserError(f"{name}: the environment variable must be a whole number; found {text[:40]!r}; unset it")
    return int(text)


def _sides(sides) -> str:
    return "x".join(str(side) for side in sides)[:80]
