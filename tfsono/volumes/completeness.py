"""Damage that ITK does not report: files that end early or are damaged, and headers with impossible numbers.

ITK fills a truncated NIfTI file with zeros, reads NaN and infinite voxels as 0, a side of 0 as 1, a spacing of 0 or
NaN as 1 mm, and for CASE.nii.gz next to CASE.nii it reads the header of the first and the voxels of the second. The
segmentation of such a volume would be wrong without a warning, so the file's length, header, voxels and neighbours
are checked first. The voxels of MetaImage and NRRD files are read here too, see `stored_voxels`.
"""

from __future__ import annotations

import gzip
import itertools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfsono.errors import UserError
from tfsono.files import check_regular, open_regular
from tfsono.volumes.limits import check_voxels
from tfsono.volumes.metaimage import meta_voxels
from tfsono.volumes.nifti import NiftiHeader, NonFiniteCount, is_nifti, is_nifti_2, parse_header
from tfsono.volumes.nrrd import nrrd_voxels
from tfsono.volumes.stored_voxels import StoredVoxels
from tfsono.volumes.units import positive
from tfsono.volumes.volume import NotFiniteError

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
_PIECE_BYTES = 1 << 20


def check_complete(path: Path) -> NiftiHeader | StoredVoxels | None:
    """Refuses damaged NIfTI, MetaImage and NRRD files, and faults that ITK would hide.

    Reads a gzipped NIfTI file once to its end: 512 x 512 x 512 voxels of 16 bits take about a second. The same pass
    looks for NaN in NIfTI files of floats, which are read whole for it even if not gzipped.

    Returns:
        The header of a NIfTI or Analyze file, the checked place of the voxels of a MetaImage or NRRD file, None for
        other formats.

    Raises:
        NotFiniteError: NaN or infinite voxels in a NIfTI file.
        UserError: as above, and for an unreadable file, or one that is no regular file.
    """
    try:
        check_regular(path)
        if path.name.lower().endswith(NIFTI_SUFFIXES):
            return _check_nifti(path)
        with open_regular(path) as file:
            start = file.read(_PIECE_BYTES)
        if start.startswith(b"NRRD"):
            return nrrd_voxels(path, start)
        if path.name.lower().endswith((".mha", ".mhd")):
            return meta_voxels(path, start)
    except OSError as error:
        raise UserError(f"{path}: the file must be readable; {error.strerror or error}") from None
    return None


def _pieces(path: Path) -> Iterator[bytes]:
    """The whole file from its first byte on, unpacked where it is gzipped (by content, not by name).

    Raises:
        UserError: the gzip stream is truncated or damaged (its checksum is compared too).
    """
    try:
        with open_regular(path) as stored, gzip.open(stored) if _is_gzipped(path) else stored as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except EOFError:
        raise UserError(f"{path}: the gzip stream must be complete; found it truncated at "
                        f"{path.stat().st_size} bytes; copy the file again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: the gzip stream must be sound; found {error}; copy it again") from None


def _is_gzipped(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(2) == b"\x1f\x8b"


def first_bytes(path: Path) -> bytes:
    """The file's first piece, unpacked; longer than any header read here."""
    return next(_pieces(path), b"")


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
    if header is None or data_path == header_path and not is_nifti(start):
        found = f"{len(start)} bytes beginning {start[:16]!r}" if header is None else f"magic {start[344:348]!r}"
        raise UserError(f"{header_path}: a NIfTI file must begin with a NIfTI header; found {found}")
    _check_alone(path)
    _check_numbers(header_path, header)
    check_voxels(header_path, header.size, data_path.stat().st_size)
    whole = itertools.chain([start], pieces) if data_path == header_path else _pieces(data_path)
    _check_voxels(data_path, header, whole)
    return header


def _check_voxels(path: Path, header: NiftiHeader, pieces: Iterator[bytes]) -> None:
    """All must be there and finite. Integers that are not gzipped need not be read for that.

    A slice more than its voxels is refused: the header declares too few. So is what unpacks to over a piece more: it
    may have no end.
    """
    needed, found, count = header.data_offset + header.data_bytes, path.stat().st_size, NonFiniteCount(header)
    is_gzipped = _is_gzipped(path)
    if is_gzipped or header.float_type and found >= needed:
        found = 0
        for piece in pieces:
            found += count.add(piece)
            if found > needed + _PIECE_BYTES:
                break
    _check_length(path, needed, found)
    a_slice = header.data_bytes // math.prod(header.size[2:])
    if found >= needed + a_slice or is_gzipped and found > needed + _PIECE_BYTES:
        raise UserError(f"{path}: the file must hold the voxels that its header declares, {needed} bytes; found "
                        f"{'more' if is_gzipped else found}; export it again")
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
    if header.type_problem:
        raise UserError(f"{path}: the datatype must be one of NIfTI-1, with its own bits; found "
                        f"{header.type_problem}; export it again")
    if header.value_problem:
        raise UserError(f"{path}: the place and scale of the voxels must be possible; found {header.value_problem}; "
                        "export it again")
    if header.qform is not None and positive(header.spacing, 3) and not np.isfinite(header.qform).all():
        raise UserError(f"{path}: the qform must be finite; found other numbers; correct the header")
    for name, problem in (("qform", header.qform_problem()), ("sform", header.sform_problem())):
        if problem:
            raise UserError(f"{path}: the {name} must be a rotation times the header's spacing; found {problem}")


def _check_length(path: Path, needed: int, found: int) -> None:
    if found < needed:
        raise UserError(f"{path}: the file must hold all voxels that its header declares; found {found} "
                        f"bytes of {needed}, so it is truncated; copy it again")
