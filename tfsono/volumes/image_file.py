"""The kind and completeness of a 2D image file, and whether a file is DICOM, before anything decodes it.

Decoders differ on truncated files: some versions of OpenCV return the missing rest in grey. Sizes are compared with
the limit of pixels before anything is unpacked, and strips of TIFF with their checksums.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from tfsono.errors import UserError
from tfsono.files import check_name, open_regular, read_regular
from tfsono.volumes.dicom_bytes import check_nesting
from tfsono.volumes.limits import check_pixels

_PNG = b"\x89PNG\r\n\x1a\n"
_KINDS = ((_PNG, "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"))
_ORIENTATION = 274
_UPRIGHT = 1
_LARGEST = 1 << 30
_TIFF_TYPES = {1: "B", 3: "H", 4: "I"}
_MOST_PAGES = 1000
_PALETTE, _COLOURS = 3, 320
"""Of a TIFF: pixels that are numbers of colours, and the tag of these colours."""


def is_dicom_file(path) -> bool:
    """Whether a file exists and begins as DICOM: 128 arbitrary bytes, then "DICM"."""
    try:
        with open_regular(path) as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, UserError):
        return False


def check_image_file(path) -> str:
    """The kind of the image by its content: "PNG", "JPEG", "BMP", "TIFF" or "DICOM".

    Raises:
        UserError: no file, an empty one, another kind, one that ends early, one to be rotated for display.
    """
    path = Path(path)
    check_name(path)
    if is_dicom_file(path):
        check_nesting(path)
        return "DICOM"
    try:
        if not path.is_dir() and os.stat(path).st_size > _LARGEST:
            raise UserError(f"{path}: an image has at most {_LARGEST} bytes; found {os.stat(path).st_size}; export it "
                            "again")
        content = read_regular(path)
    except OSError as error:
        found = "a folder" if path.is_dir() else error.strerror
        raise UserError(f"{path}: an image must be a readable file; found: {found}; check the name") from None
    kind = next((kind for start, kind in _KINDS if content.startswith(start)), "")
    if not kind:
        found = f"{len(content)} bytes beginning {content[:8]!r}" if content else "an empty file"
        raise UserError(f"{path}: an image is PNG, JPEG, BMP, TIFF or DICOM; found {found}; export it again")
    sides = {"PNG": _png_sides, "JPEG": _jpeg_sides, "BMP": _bmp_sides, "TIFF": _tiff_sides}
    checks = {"PNG": _png_orientation, "JPEG": _jpeg_orientation, "BMP": _bmp_orientation, "TIFF": _tiff_orientation}
    try:
        check_pixels(path, sides[kind](content), len(content))
        orientation = checks[kind](content)
        if kind == "TIFF":
            _check_tiff(path, content)
    except (IndexError, KeyError, ValueError, struct.error, zlib.error):
        raise UserError(f"{path}: a {kind} file must be whole; found it damaged or truncated at {len(content)} bytes; "
                        "copy it again") from None
    if orientation != _UPRIGHT:
        raise UserError(f"{path}: an image must be stored as it is shown; found EXIF orientation {orientation} "
                        "(rotated or mirrored), and masks and points may refer to either; save it upright")
    return kind


def _png_orientation(content: bytes) -> int:
    """ValueError where a chunk has a wrong checksum or the last one is missing; libpng checks the pixels."""
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


def _check_inflated(packed: bytes, needed: int, most: int) -> None:
    """ValueError where a zlib stream is not whole, or holds fewer bytes, or more than the whole strip."""
    stream = zlib.decompressobj()
    found = len(stream.decompress(packed, most + 1))
    if not needed <= found <= most or not stream.eof:
        raise ValueError("length")


def _png_sides(content: bytes) -> tuple[int, int]:
    return struct.unpack_from(">II", content, 16)


def _jpeg_sides(content: bytes) -> tuple[int, int]:
    """ValueError where no frame begins before the first scan."""
    for marker, data, _ in _jpeg_segments(content):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            rows, columns = struct.unpack_from(">HH", data, 1)
            return columns, rows
    raise ValueError("frame")


def _bmp_sides(content: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from("<I", content, 14)
    columns, rows = struct.unpack_from("<ii" if header >= 40 else "<HH", content, 18)
    return abs(columns), abs(rows)


def _tiff_sides(content: bytes) -> tuple[int, int]:
    order = _tiff_order(content)
    fields, _ = _tiff_fields(content, struct.unpack_from(order + "I", content, 4)[0], order)
    return fields[256][0], fields[257][0]


def _tiff_order(content: bytes) -> str:
    return {b"II": "<", b"MM": ">"}[content[:2]]


def _tiff_fields(content: bytes, position: int, order: str) -> tuple[dict[int, tuple[int, ...]], int]:
    """The whole numbers of a directory by their tags, and the place of the next directory, 0 behind the last."""
    fields: dict[int, tuple[int, ...]] = {}
    (entries,) = struct.unpack_from(order + "H", content, position)
    for number in range(entries):
        place = position + 2 + 12 * number
        tag, kind, count = struct.unpack_from(order + "HHI", content, place)
        letter = _TIFF_TYPES.get(kind)
        if letter is None or count > len(content):
            continue
        layout = f"{order}{count}{letter}"
        (elsewhere,) = struct.unpack_from(order + "I", content, place + 8)
        fields[tag] = struct.unpack_from(layout, content, place + 8 if struct.calcsize(layout) <= 4 else elsewhere)
    return fields, struct.unpack_from(order + "I", content, position + 2 + 12 * entries)[0]


def _check_tiff(path: Path, content: bytes) -> None:
    """One page, of strips or tiles that are all in the file.

    Raises:
        UserError: several pages.
        ValueError: missing data.
    """
    order = _tiff_order(content)
    seen, (position,) = [], struct.unpack_from(order + "I", content, 4)
    while position and position not in seen and len(seen) < _MOST_PAGES:
        seen.append(position)
        _, position = _tiff_fields(content, position, order)
    if len(seen) > 1:
        raise UserError(f"{path}: an image is one page; found {len(seen)}; save each as its own file")
    (entries,) = struct.unpack_from(order + "H", content, seen[0])
    _check_strips(content, _tiff_fields(content, seen[0], order)[0], (seen[0], seen[0] + 6 + 12 * entries))


def _check_strips(content: bytes, fields: dict[int, tuple[int, ...]], directory: tuple[int, int]) -> None:
    starts, lengths = (fields.get(strip) or fields[tile] for strip, tile in ((273, 324), (279, 325)))
    if len(starts) != len(lengths):
        raise ValueError("strips")
    for start, length in zip(starts, lengths, strict=True):
        if start < 8 or start + length > len(content) or start < directory[1] and start + length > directory[0]:
            raise ValueError("strips")
    if fields.get(262) == (_PALETTE,) and _COLOURS not in fields:
        raise ValueError("header")
    samples, bits, packing = (fields.get(tag, (1,))[0] for tag in (277, 258, 259))
    rows = fields[257][0]
    row_bytes = -(-fields[256][0] * bits * (samples if fields.get(284, (1,))[0] == 1 else 1) // 8)
    planes = 1 if fields.get(284, (1,))[0] == 1 else samples
    if packing == 1 and 273 in fields and not 0 <= sum(lengths) - rows * row_bytes * planes < row_bytes:
        raise ValueError("rows")
    if packing not in (8, 32946) or 273 not in fields:
        return
    a_strip = min(rows, fields.get(278, (rows,))[0])
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        first = number * a_strip % (-(-rows // a_strip) * a_strip)
        _check_inflated(content[start:start + length], row_bytes * min(a_strip, rows - first), row_bytes * a_strip)


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
    """BMP files are never rotated. ValueError where uncompressed rows are missing, or more are there."""
    (start,) = struct.unpack_from("<I", content, 10)
    (header,) = struct.unpack_from("<I", content, 14)
    if header >= 40:
        columns, rows, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
        row_bytes = -(-columns * bits // 32) * 4
        if compression in (0, 3) and not 0 <= len(content) - start - abs(rows) * row_bytes < row_bytes:
            raise ValueError("rows")
    if start < 14 + header:
        raise ValueError("start")
    return _UPRIGHT


def _tiff_orientation(content: bytes) -> int:
    """The orientation of a TIFF file, or of EXIF data, which have the same form."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2], "")
    if not order:
        raise ValueError("byte order")
    (position,) = struct.unpack_from(f"{order}I", content, 4)
    (entries,) = struct.unpack_from(f"{order}H", content, position)
    for number in range(entries):
        place = position + 2 + 12 * number
        tag, kind = struct.unpack_from(f"{order}HH", content, place)
        if tag == _ORIENTATION and kind in _TIFF_TYPES:
            (value,) = struct.unpack_from(order + _TIFF_TYPES[kind], content, place + 8)
            return value if 1 <= value <= 8 else _UPRIGHT
    return _UPRIGHT
