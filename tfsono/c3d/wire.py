"""Protocol-buffer messages in wire format: numbered fields, without a schema.

A reader takes the few fields that it knows and skips the rest, so that dense layers of hundreds of megabytes are never
loaded. Format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tfsono.c3d.weights import UnreadableFile

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field: `value` is an int for VARINT, else the bytes (a view, not a copy)."""

    number: int
    wire_type: int
    value: int | memoryview


class Message:
    """The fields of a message by number; a field that is absent is 0, empty or "", as in protocol buffers.

    Raises:
        UnreadableFile: truncated or damaged; also from each method where the field is of another type.
    """

    def __init__(self, buffer: memoryview):
        self._fields: dict[int, list[Field]] = {}
        for field in fields(buffer):
            self._fields.setdefault(field.number, []).append(field)

    def holds(self, number: int, wire_type: int) -> bool:
        """Whether the field is there, with this type."""
        return any(field.wire_type == wire_type for field in self._fields.get(number, ()))

    def integer(self, number: int) -> int:
        """The last value of an integer field."""
        values = [field.value for field in self._of_type(number, (VARINT,))]
        return values[-1] if values else 0

    def integers(self, number: int) -> list[int]:
        """The values of a repeated integer field, packed or not."""
        values: list[int] = []
        for field in self._of_type(number, (VARINT, BYTES)):
            values += [field.value] if field.wire_type == VARINT else _unpacked(field.value)
        return values

    def messages(self, number: int) -> list[memoryview]:
        """The embedded messages of a repeated field."""
        return [field.value for field in self._of_type(number, (BYTES,))]

    def message(self, number: int) -> memoryview:
        """The last embedded message of a field."""
        return (self.messages(number) or [memoryview(b"")])[-1]

    def text(self, number: int) -> str:
        """A string field."""
        try:
            return bytes(self.message(number)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UnreadableFile("it is damaged: a name is not text") from error

    def values(self, number: int) -> list[memoryview]:
        """Raw little-endian floats: one piece when packed, else one per value."""
        return [field.value for field in self._of_type(number, (BYTES, FIXED_32, FIXED_64))]

    def _of_type(self, number: int, wire_types: tuple[int, ...]) -> list[Field]:
        found = self._fields.get(number, [])
        if any(field.wire_type not in wire_types for field in found):
            raise UnreadableFile(f"it is damaged: field {number} is of another type")
        return found


def fields(buffer: memoryview) -> Iterator[Field]:
    """The fields of a message in file order.

    Raises:
        UnreadableFile: a field exceeds the end, or is of an unknown type.
    """
    position = 0
    while position < len(buffer):
        tag, position = varint(buffer, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            value, position = varint(buffer, position)
        else:
            length, position = _length(buffer, position, wire_type)
            value = buffer[position:position + length]
            position += length
        yield Field(number, wire_type, value)


def varint(buffer: memoryview, position: int) -> tuple[int, int]:
    """The number at `position` and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(buffer):
            raise UnreadableFile("it is truncated")
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise UnreadableFile("it is damaged: a number of more than ten bytes")


def _length(buffer: memoryview, position: int, wire_type: int) -> tuple[int, int]:
    if wire_type == BYTES:
        length, position = varint(buffer, position)
    elif wire_type in (FIXED_32, FIXED_64):
        length = 4 if wire_type == FIXED_32 else 8
    else:
        raise UnreadableFile(f"it is damaged: field type {wire_type}")
    if position + length > len(buffer):
        raise UnreadableFile("it is truncated: a field exceeds its end")
    return length, position


def _unpacked(packed: memoryview) -> list[int]:
    values, position = [], 0
    while position < len(packed):
        value, position = varint(packed, position)
        values.append(value)
    return values
