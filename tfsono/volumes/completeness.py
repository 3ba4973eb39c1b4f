"""Damage that ITK does not report: files that end early, and headers with impossible numbers.

ITK fills a truncated NIfTI file with zeros, reads NaN and infinite voxels as 0, a side of 0 as 1, a spacing of 0 or
NaN as 1 mm, and for CASE.nii.gz next to CASE.nii it reads the header of the first and the voxels of the second. The
segmentation of such a volume would be wrong without a warning, so the file's length, header, voxels and neighbours
are checked first. ITK itself refuses truncated NRRD and MINC files.
"""

from __future__ import annotations

import gzip
import itertools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

from tfsono.errors import UserError
from tfsono.volumes.metaimage import is_sweep, meta_fields
from tfsono.volumes.nifti import NiftiHeader, NonFiniteCount, is_nifti_2, parse_header
from tfsono.volumes.volume import NotFiniteError

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
_PIECE_BYTES = 1 << 20

_META_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip


def check_complete(path: Path) -> NiftiHeader | None:
    """Refuses damaged gzip, NIfTI or MetaImage files that end early, and NIfTI faults that ITK would hide.

    Reads a gzipped file once to its end: 512 x 512 x 512 voxels of 16 bits take about a second. The same pass
    looks for NaN in NIfTI files of floats, which are read whole for it even if not gzipped.

    Returns:
        The header of a NIfTI or Analyze file, None for other formats.

    Raises:
        NotFiniteError: NaN or infinite voxels in a NIfTI file.
        UserError: as above, and for an unreadable file.
    """
    try:
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            return _check_nifti(path)
        if path.name.lower().endswith((".mha", ".mhd")):
            _check_metaimage(path, first_bytes(path), _length(path))
        else:
            _length(path)
    except OSError as error:
        raise UserError(f"{path}: the file must be readable; {error.strerror or error}") from None
    return None


def _pieces(path: Path) -> Iterator[bytes]:
    """The whole file from its first byte on, unpacked where it is gzipped (by content, not by name).

    Raises:
        UserError: the gzip stream is truncated or damaged (its checksum is compared too).
    """
    packed = _is_gzipped(path)
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except EOFError:
        raise UserError(f"{path}: the gzip stream must be complete; found it truncated at "
                        f"{path.stat().st_size} bytes; copy the file again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: the gzip stream must be sound; found {error}; copy it again") from None


def _is_gzipped(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def first_bytes(path: Path) -> bytes:
    """The file's first piece, unpacked; longer than any header read here."""
    return next(_pieces(path), b"")


def _length(path: Path) -> int:
    """The file's length, unpacked."""
    return sum(map(len, _pieces(path))) if _is_gzipped(path) else path.stat().st_size


def _check_nifti(path: Path) -> NiftiHeader:
    """Checks the header, and the length and voxels of the file that holds them (the .img of a .hdr/.img pair)."""
    header_path, data_path = path, path
    if path.suffix.lower() in (".hdr", ".img"):
        header_path, data_path = _partner(path, ".hdr"), _partner(path, ".img")
    pieces = _pieces(header_path)
    start = next(pieces, b"")
    header = parse_header(start)
    if is_nifti_2(start):
        raise UserError(f"{header_path}: a NIfTI file must be NIfTI-1; found NIfTI-2, which SimpleITK does not read; "
                        "convert it")
    if header is None:
        _length(header_path)  # a damaged gzip file is reported as that
        raise UserError(f"{header_path}: a NIfTI file must begin with a NIfTI header; "
                        f"found {len(start)} bytes beginning {start[:16]!r}")
    _check_alone(path)
    _check_numbers(header_path, header)
    whole = itertools.chain([start], pieces) if data_path == header_path else _pieces(data_path)
    _check_voxels(data_path, header, whole)
    return header


def _check_voxels(path: Path, header: NiftiHeader, pieces: Iterator[bytes]) -> None:
    """All must be there and finite. Integers that are not gzipped need not be read for that."""
    count = NonFiniteCount(header)
    if header.float_type or _is_gzipped(path):
        found = sum(map(count.add, pieces))
    else:
        found = path.stat().st_size
    _check_length(path, header.data_offset + header.data_bytes, found)
    if count.bad:
        raise NotFiniteError(path, count.bad, math.prod(header.size), count.first)


def _partner(path: Path, suffix: str) -> Path:
    partner = path if path.suffix.lower() == suffix else path.with_suffix(suffix)
    if not partner.is_file():
        raise UserError(f"{path}: a .hdr/.img pair must be in one folder; found no {partner.name}")
    return partner


def _check_alone(path: Path) -> None:
    """For CASE.nii.gz, ITK's NIfTI library reads the voxels of a CASE.nii next to it."""
    if path.name.lower().endswith(".nii.gz") and path.with_suffix("").is_file():
        plain = path.with_suffix("").name
        raise UserError(f"{path}: must not be next to {plain}, whose voxels ITK would read instead; "
                        "found both; remove or rename one")


def _check_numbers(path: Path, header: NiftiHeader) -> None:
    if not header.size or min(header.size) < 1:
        raise UserError(f"{path}: a volume must have voxels; found header size "
                        f"{'x'.join(str(side) for side in header.size) or 'with no axes'}")
    problem = header.sform_problem()
    if problem:
        raise UserError(f"{path}: the sform must be a rotation times the header's spacing; found {problem}")


def _check_length(path: Path, needed: int, found: int) -> None:
    if found < needed:
        raise UserError(f"{path}: the file must hold all voxels that its header declares; found {found} "
                        f"bytes of {needed}, so it is truncated; copy it again")


def _check_metaimage(path: Path, start: bytes, length: int) -> None:
    """Checks the length of a MetaImage's data, in the file itself or in the data file that it names."""
    fields, offset = meta_fields(start)
    if is_sweep(fields):
        return  # its header may be longer than what is read here, and it is mostly refused later
    sides = [int(side) for side in fields.get("DimSize", "").split() if side.lstrip("-").isdigit()]
    if sides and min(sides) < 1:
        raise UserError(f"{path}: a volume must have voxels; found header size {fields['DimSize']}")
    data_name = fields.get("ElementDataFile", "")
    if sides and not data_name:
        raise UserError(f"{path}: a MetaImage header must end with ElementDataFile; found it truncated; copy it again")
    if not data_name or data_name.startswith("LIST") or "%" in data_name:
        return
    data_path = path
    if data_name.upper() != "LOCAL":
        data_path, offset = path.parent / data_name, 0
        if not data_path.is_file():
            raise UserError(f"{path}: the data file that it names must be next to it; found no {data_name}")
        length = data_path.stat().st_size
    _check_length(data_path, offset + _meta_data_bytes(fields, sides), length)


def _meta_data_bytes(fields: dict[str, str], sides: list[int]) -> int:
    """Bytes of data that the header declares; 0 where it does not (ITK then checks itself)."""
    if fields.get("CompressedData", "False").lower() in ("true", "1"):
        declared = fields.get("CompressedDataSize", "0")
        return int(declared) if declared.isdigit() else 0
    if fields.get("BinaryData", "True").lower() not in ("true", "1") or "HeaderSize" in fields:
        return 0
    channels = fields.get("ElementNumberOfChannels", "1")
    bytes_a_voxel = _META_BYTES.get(fields.get("ElementType", ""), 0)
    return math.prod(sides) * bytes_a_voxel * (int(channels) if channels.isdigit() else 1)
