"""What GDCM does not survive or does not report: sequences nested too deep, and pixels of another length than stated.

Fields and encoding: DICOM PS3.5 7 (data set), 8 and A.4 (pixel data).
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import zlib
from typing import BinaryIO

import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tfsono.errors import UserError
from tfsono.files import open_regular
from tfsono.volumes.limits import check_voxels

DEEPEST = 64
"""Levels of sequences; the deepest of the standard's objects have about ten."""

_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_UNDEFINED = 0xFFFFFFFF
_ITEM_TAG, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_IMPLICIT, _BIG_ENDIAN = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2"
_FIRST_GROUPS = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")
"""Of files that begin with their first element, without the 132 bytes in front."""

_PIXELS = (0x7FE0, 0x0010)
_FLOAT_PIXELS = ((0x7FE0, 0x0008), (0x7FE0, 0x0009))
_MOST_UNPACKED = 1 << 28


def check_nesting(path) -> None:
    """Refuses a DICOM file with sequences nested deeper than `DEEPEST`, or with elements longer than the file.

    GDCM recurses, and the process dies; for a length it takes as much memory. Other kinds of file pass.

    Raises:
        UserError: as above.
    """
    with open_regular(path) as file:
        start = file.read(1024)
        is_dicom = start[128:132] == b"DICM"
        if not is_dicom and start[:2] not in _FIRST_GROUPS:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            is_deflated = is_dicom and DeflatedExplicitVRLittleEndian.encode() in start
            depth, is_whole = _walked(_inflated(path, content[:]) if is_deflated else content)
    if depth > DEEPEST:
        raise UserError(f"{path}: the sequences of a DICOM file may be nested {DEEPEST} deep; found more; export it "
                        "again")
    if is_dicom and not is_whole:
        raise UserError(f"{path}: each DICOM file must be readable; found it damaged or truncated; copy it again")


def _inflated(path, whole: bytes) -> bytes:
    """A file of the deflated transfer syntax with its data set unpacked."""
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        start = 144 + struct.unpack_from("<I", whole, 140)[0]
        data = unpacking.decompress(whole[start:], _MOST_UNPACKED)
    except (zlib.error, struct.error):
        raise UserError(f"{path}: must be a readable DICOM file; found it damaged; copy it again") from None
    if not unpacking.eof:
        raise UserError(f"{path}: the deflated data must be whole, and unpack to {_MOST_UNPACKED} bytes at most; found "
                        "others; export it again, not compressed")
    return whole[:start] + data


def _walked(content) -> tuple[int, bool]:
    """The most items inside one another, and whether every element ends within the file.

    It stops at one item more than `DEEPEST`.
    """
    levels, items, deepest = [(math.inf, True, False)], 0, 0  # where each ends, its encoding, whether it is an item
    is_behind_pixels = False
    try:
        order, explicit, position = _syntax(content, 132 if content[128:132] == b"DICM" else 0)
        levels[0] = (math.inf, explicit, False)
        while position < len(content) and deepest <= DEEPEST:
            while position >= levels[-1][0]:
                items -= levels.pop()[2]
            if is_behind_pixels and len(content) - position < 8:
                break  # a byte that made the length even
            tag = struct.unpack_from(order + "HH", content, position)
            if tag in (_ITEM_END, _SEQUENCE_END):
                items -= levels.pop()[2] if len(levels) > 1 else 0
                position += 8
                continue
            header, length, is_inside, explicit = _element(content, position, order, levels[-1][1], tag)
            position += header
            is_pixels = tag == _PIXELS and len(levels) == 1
            if is_pixels and length == _UNDEFINED:
                break  # fragments, which `check_pixels` counts
            is_behind_pixels = is_behind_pixels or is_pixels
            if length != _UNDEFINED and position + length > len(content):
                return deepest, False
            if not is_inside:
                position += length
                continue
            levels.append((math.inf if length == _UNDEFINED else position + length, explicit, tag == _ITEM_TAG))
            items += tag == _ITEM_TAG
            deepest = max(deepest, items)
    except (struct.error, IndexError):
        return deepest, False
    return deepest, True


def _syntax(content: bytes, position: int) -> tuple[str, bool, int]:
    """The byte order, whether types are written out, and where the data set begins."""
    syntax = b""
    while struct.unpack_from("<H", content, position) == (2,):
        header, length, _, _ = _element(content, position, "<", True, (2, 0))
        if content[position + 2:position + 4] == b"\x10\x00":
            syntax = content[position + header:position + header + length].rstrip(b"\0 ")
        position += header + length
    explicit = content[position + 4:position + 6].isalpha() if not syntax else syntax != _IMPLICIT
    return ">" if syntax == _BIG_ENDIAN else "<", explicit, position


def _element(content: bytes, position: int, order: str, explicit: bool, tag) -> tuple[int, int, bool, bool]:
    """Bytes of the header, the length, whether items are inside, and whether types are written out there."""
    kind = content[position + 4:position + 6] if explicit and tag[0] != 0xFFFE else b""
    kind = kind if kind.isalpha() else b""
    if kind in _LONG:
        header, (length,) = 12, struct.unpack_from(order + "I", content, position + 8)
    elif kind:
        return 8, struct.unpack_from(order + "H", content, position + 6)[0], False, explicit
    else:
        header, (length,) = 8, struct.unpack_from(order + "I", content, position + 4)
    begins = content[position + header:position + header + 4]
    is_items = begins in (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
    inside = kind == b"SQ" or length == _UNDEFINED or tag == _ITEM_TAG or kind in (b"", b"UN") and is_items
    inside = inside and (tag != _PIXELS or length == _UNDEFINED)
    return header, length, inside, explicit and kind != b"UN"


# ---------------------------------------------------------------------------------------------- pixels


def check_pixels(path, file: BinaryIO, header: pydicom.Dataset) -> None:
    """Refuses pixel data of another length than the header says: GDCM fills the rest with zeros.

    Args:
        path: for messages.
        file: where pydicom stopped before the pixels of `header`.
        header: with rows, columns, samples, bits and frames.

    Raises:
        UserError: as above, too many voxels, or bits that are not 8, 16 or 32.
    """
    sides = [int(header.get(name) or 1) for name in ("Columns", "Rows", "NumberOfFrames", "SamplesPerPixel")]
    bits, used = header.get("BitsAllocated"), header.get("BitsStored")
    if bits not in (8, 16, 32) or used is not None and not 1 <= used <= bits or min(sides) < 1 or sides[3] > 4:
        raise UserError(f"{path}: pixels must have 8, 16 or 32 bits, and use no more; found BitsAllocated "
                        f"{str(bits)[:20]}, BitsStored {str(used)[:20]}, {sides[3]} samples; export it again")
    _check_values(path, header, sides[3])
    check_voxels(path, sides, os.fstat(file.fileno()).st_size)
    syntax = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
    if syntax == DeflatedExplicitVRLittleEndian:
        length = len(pydicom.dcmread(path).get("PixelData", b""))
    else:
        length = _pixel_length(path, file, is_big=syntax is not None and not syntax.is_little_endian)
    if length is None or syntax is not None and syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        _check_fragments(path, file, length, sides[2])
        return
    needed, row = math.prod(sides) * bits // 8, sides[0] * sides[3] * bits // 8
    if header.get("PhotometricInterpretation") == "YBR_FULL_422":
        needed = needed * 2 // 3
    if not needed <= length < needed + max(2, row):
        raise UserError(f"{path}: pixel data must have the length that the header says, {needed} bytes; found "
                        f"{length}; copy or export it again")


def _check_values(path, header: pydicom.Dataset, samples: int) -> None:
    """Raises UserError for a sign, highest bit or colours that the pixels cannot have; GDCM takes others for them."""
    high, sign = header.get("HighBit"), header.get("PixelRepresentation")
    colours = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    bits = header.get("BitsAllocated")
    fits_high = high is None or (header.get("BitsStored") or 1) - 1 <= high < bits
    is_grey = colours.startswith("MONOCHROME") or colours == "PALETTE COLOR"
    if not fits_high or sign not in (None, "", 0, 1) or is_grey != (samples == 1):
        raise UserError(f"{path}: the header must fit its own pixels; found {samples} samples of {bits} bits with "
                        f"HighBit {str(high)[:20]}, PixelRepresentation {str(sign)[:20]}, PhotometricInterpretation "
                        f"{colours[:20]!r}; export it again")


def _pixel_length(path, file: BinaryIO, is_big: bool) -> int | None:
    """The bytes of the pixel data at this place, which must be in the file; None for frames in fragments."""
    start = file.read(12)
    order = ">" if is_big else "<"
    tag = struct.unpack_from(order + "HH", start) if len(start) == 12 else ()
    if tag not in (_PIXELS, *_FLOAT_PIXELS):
        raise UserError(f"{path}: a DICOM image must have pixel data; found none; copy or export it again")
    is_explicit = start[4:6] in _LONG
    (length,) = struct.unpack_from(order + "I", start, 8 if is_explicit else 4)
    file.seek(0 if is_explicit else -4, os.SEEK_CUR)
    if length == _UNDEFINED:
        return None
    left = os.fstat(file.fileno()).st_size - file.tell()
    if left < length:
        raise UserError(f"{path}: a DICOM file must hold all its pixels; found {left} bytes of {length}, so it is "
                        "damaged or truncated; copy it again")
    return length


def _check_fragments(path, file: BinaryIO, length: int | None, frames: int) -> None:
    """Of compressed frames: the first item is a table of offsets, each other a frame or a part of one."""
    found, size = -1, os.fstat(file.fileno()).st_size
    while length is None and len(start := file.read(8)) == 8:
        group, element, length_here = struct.unpack("<HHI", start)
        if (group, element) == _SEQUENCE_END and found >= frames:
            return
        if (group, element) != _ITEM_TAG or file.tell() + length_here > size:
            break
        file.seek(length_here, os.SEEK_CUR)
        found += 1
    raise UserError(f"{path}: compressed pixels must be whole, an item or more for each of {frames} frames; found "
                    f"them damaged or truncated behind {max(0, found)}; copy it again")
