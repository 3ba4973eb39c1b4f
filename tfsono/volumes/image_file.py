"""The kind and completeness of a 2D image file, and whether a file is DICOM, before anything decodes it.

Decoders differ on truncated files: some versions of OpenCV return the missing rest in grey.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from tfsono.errors import UserError
from tfsono.files import check_name

_PNG = b"\x89PNG\r\n\x1a\n"
_KINDS = ((_PNG, "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"))
_ORIENTATION = 274
_UPRIGHT = 1


def is_dicom_file(path) -> bool:
    """Whether a file exists and begins as DICOM: 128 arbitrary bytes, then "DICM"."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def check_image_file(path) -> str:
    """The kind of the image by its content: "PNG", "JPEG", "BMP", "TIFF" or "DICOM".

    Raises:
        UserError: no file, an empty one, another kind, one that ends early, one to be rotated for display.
    """
    path = Path(path)
    check_name(path)
    if is_dicom_file(path):
        return "DICOM"
    try:
        content = path.read_bytes()
    except OSError as error:
        found = "a folder" if path.is_dir() else error.strerror
        raise UserError(f"{path}: an image must be a readable file; found: {found}; check the name") from None
    kind = next((kind for start, kind in _KINDS if content.startswith(start)), "")
    if not kind:
        found = f"{len(content)} bytes beginning {content[:8]!r}" if content else "an empty file"
        raise UserError(f"{path}: an image is PNG, JPEG, BMP, TIFF or DICOM; found {found}; export it again")
    checks = {"PNG": _png_orientation, "JPEG": _jpeg_orientation, "BMP": _bmp_orientation, "TIFF": _tiff_orientation}
    try:
        orientation = checks[kind](content)
    except (IndexError, ValueError, struct.error):
        raise UserError(f"{path}: a {kind} file must be whole; found it damaged or truncated at {len(content)} bytes; "
                        "copy it again") from None
    if orientation != _UPRIGHT:
        raise UserError(f"{path}: an image must be stored as it is shown; found EXIF orientation {orientation} "
                        "(rotated or mirrored), and masks and points may refer to either; save it upright")
    return kind


def _png_orientation(content: bytes) -> int:
    """ValueError where a chunk has a wrong checksum or the last one is missing."""
    orientation, position, name = _UPRIGHT, len(_PNG), b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", content, position)
        data = content[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", content, position + 8 + length)
        if zlib.crc32(name + data) != checksum:
            raise ValueError("checksum")
        if name == b"eXIf":
            orientation = _tiff_orientation(data)
        position += 12 + length
    return orientation


def _jpeg_orientation(content: bytes) -> int:
    """ValueError where the end marker is missing: the image's data never contain it."""
    orientation = _UPRIGHT
    for marker, data, end in _jpeg_segments(content):
        if marker == 0xE1 and data.startswith(b"Exif\0\0"):
            orientation = _tiff_orientation(data[6:])
        if marker == 0xDA:
            content.index(b"\xff\xd9", end)
    return orientation


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Marker, data and end of each segment, up to the first scan."""
    position, marker = 2, 0
    while marker != 0xDA:
        if content[position] != 0xFF:
            raise ValueError("marker")
        marker = content[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        (length,) = struct.unpack_from(">H", content, position + 2)
        yield marker, content[position + 4 : position + 2 + length], position + 2 + length
        position += 2 + length


def _bmp_orientation(content: bytes) -> int:
    """BMP files are never rotated. ValueError where uncompressed rows are missing."""
    (start,) = struct.unpack_from("<I", content, 10)
    (header,) = struct.unpack_from("<I", content, 14)
    if header >= 40:
        columns, rows, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
        if compression in (0, 3) and start + abs(rows) * (-(-columns * bits // 32) * 4) > len(content):
            raise ValueError("rows")
    return _UPRIGHT


def _tiff_orientation(content: bytes) -> int:
    """The orientation of a TIFF file, or of EXIF data, which have the same form."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2], "")
    if not order:
        raise ValueError("byte order")
    (position,) = struct.unpack_from(f"{order}I", content, 4)
    (entries,) = struct.unpack_from(f"{order}H", content, position)
    for number in range(entries):
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", content, position + 2 + 12 * number)
        if tag == _ORIENTATION and kind == 3 and 1 <= value <= 8:
            return value
    return _UPRIGHT
