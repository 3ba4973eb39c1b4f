"""The calibration of an ultrasound picture: the Sequence of Ultrasound Regions (0018,6011) of its DICOM header.

ITK hands out no sequences, so the header is walked here: in little endian, explicit or implicit, as all scanners
write it. Source: DICOM PS3.5 (Sec. 7) for the encoding, PS3.3 C.8.5.5 (US Region Calibration) for the fields.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_REGIONS, _PIXELS, _TRANSFER_SYNTAX = (0x0018, 0x6011), (0x7FE0, 0x0010), (0x0002, 0x0010)
_FORMAT, _UNIT_X, _UNIT_Y = (0x0018, 0x6012), (0x0018, 0x6024), (0x0018, 0x6026)
_STEP_X, _STEP_Y = (0x0018, 0x602C), (0x0018, 0x602E)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_LONG_FORMS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_BIG_ENDIAN, _DEFLATED, _IMPLICIT = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2"
_UNDEFINED = 0xFFFFFFFF
_TWO_DIMENSIONAL, _CENTIMETRES = 1, 3
_MM_IN_CM = 10.0

Element = tuple[tuple[int, int], bytes, list[dict], int]
"""Tag, value, the items of a sequence, and where the element ends."""


def region_pixel_sizes(path) -> list[tuple[float, float]]:
    """Millimetres in a pixel along x and y of each 2D region in centimetres; empty where the header says nothing.

    Args:
        path: a DICOM file.
    """
    return [sides for sides in map(_region_size, _regions(Path(path))) if sides is not None]


def _region_size(region: dict) -> tuple[float, float] | None:
    """Only of 2D regions in centimetres: those of M-mode and Doppler have seconds and velocities on their axes."""
    try:
        kind, unit_x, unit_y = (_whole(region[tag]) for tag in (_FORMAT, _UNIT_X, _UNIT_Y))
        steps = tuple(abs(struct.unpack("<d", region[tag])[0]) * _MM_IN_CM for tag in (_STEP_X, _STEP_Y))
    except (KeyError, struct.error):
        return None
    right = (kind, unit_x, unit_y) == (_TWO_DIMENSIONAL, _CENTIMETRES, _CENTIMETRES)
    return steps if right and min(steps) > 0 else None


def _whole(value: bytes) -> int:
    return struct.unpack("<H", value)[0]


def _regions(path: Path) -> list[dict]:
    """The items of the sequence, each tag -> bytes; none where the header is encoded in another way."""
    content = path.read_bytes()
    try:
        syntax, position = _file_meta(content)
        if syntax in (_BIG_ENDIAN, _DEFLATED):
            return []
        for tag, _, items, _ in _elements(content, position, len(content), syntax != _IMPLICIT):
            if tag == _REGIONS:
                return items
            if tag > _REGIONS:
                break
    except (struct.error, ValueError, RecursionError):
        pass
    return []


def _file_meta(content: bytes) -> tuple[str, int]:
    """The transfer syntax, and where the data set begins behind group 2, which is always explicit."""
    syntax, position = "", 132
    while struct.unpack_from("<H", content, position)[0] == 2:
        tag, start, length = _head(content, position, True)
        if tag == _TRANSFER_SYNTAX:
            syntax = content[start : start + length].decode("ascii", "replace").strip("\0 ")
        position = start + length
    return syntax, position


def _head(content: bytes, position: int, explicit: bool) -> tuple[tuple[int, int], int, int]:
    """An element's tag, where its value starts, and the value's length."""
    tag = struct.unpack_from("<HH", content, position)
    if tag[0] == 0xFFFE or not explicit:
        return tag, position + 8, struct.unpack_from("<I", content, position + 4)[0]
    if content[position + 4 : position + 6] in _LONG_FORMS:
        return tag, position + 12, struct.unpack_from("<I", content, position + 8)[0]
    return tag, position + 8, struct.unpack_from("<H", content, position + 6)[0]


def _elements(content: bytes, position: int, end: int, explicit: bool) -> Iterator[Element]:
    """Up to the pixels, the end of an item, or `end`."""
    while position < end:
        tag, start, length = _head(content, position, explicit)
        if tag in (_PIXELS, _ITEM_END):
            return
        items: list[dict] = []
        if length == _UNDEFINED or tag == _REGIONS:
            items, position = _items(content, start, length, explicit)
        else:
            position = start + length
        yield tag, content[start:position], items, position


def _items(content: bytes, position: int, length: int, explicit: bool) -> tuple[list[dict], int]:
    """The items of a sequence whose value starts at `position`, and where the sequence ends."""
    end = len(content) if length == _UNDEFINED else position + length
    items: list[dict] = []
    while position < end:
        tag, start, length = _head(content, position, explicit)
        if tag == _SEQUENCE_END:
            return items, start
        if tag != _ITEM:
            raise ValueError("no item")
        item, position = _item(content, start, length, explicit)
        items.append(item)
    return items, end


def _item(content: bytes, start: int, length: int, explicit: bool) -> tuple[dict, int]:
    """The elements of one item by tag, and where it ends."""
    end = len(content) if length == _UNDEFINED else start + length
    item, position = {}, start
    for tag, value, _, position in _elements(content, start, end, explicit):
        item[tag] = value
    return item, position + 8 if length == _UNDEFINED else end  # 8: the mark of its end
