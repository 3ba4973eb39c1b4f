"""NaN that ITK hides: its NIfTI reader replaces NaN and infinite voxels by 0 without a word."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from tfsono.volumes.nifti import parse_header

_HEADER_BYTES = 544
_FLOATS = {16: "f4", 64: "f8"}
"""NIfTI's codes of the types that can hold a NaN."""


def hidden_nan_voxels(path: Path) -> int:
    """How many voxels of a NIfTI file (.nii, .nii.gz) are NaN or infinite; 0 for any other file.

    Raises:
        OSError: the file cannot be read (`read_volume` says so in words).
    """
    if not path.is_file() or not path.name.lower().endswith((".nii", ".nii.gz")):
        return 0
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else open(path, "rb") as file:
        start = file.read(_HEADER_BYTES)
        header = parse_header(start)
        if header is None:
            return 0
        (code,) = struct.unpack_from(header.order + "h", start, 70 if header.version == 1 else 12)
        if code not in _FLOATS:
            return 0
        file.seek(header.data_offset)
        voxels = np.frombuffer(file.read(header.data_bytes), header.order + _FLOATS[code])
    return int(np.count_nonzero(~np.isfinite(voxels)))
