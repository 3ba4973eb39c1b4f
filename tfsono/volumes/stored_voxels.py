"""The voxels of MetaImage and NRRD files, verified: their number, and the checksum where they are compressed.

ITK takes what a damaged stream gives and leaves the rest as it was in memory, so it reads only the geometry.
"""

from __future__ import annotations

import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tfsono.errors import UserError
from tfsono.files import check_regular, open_regular
from tfsono.volumes.limits import check_voxels

AT_END = -1
"""An offset: the voxels are the last bytes of the file."""

_ZLIB_OR_GZIP, _GZIP = 47, b"\x1f\x8b"
_PIECE_BYTES = 1 << 20
_LONGEST_TEXT = 32
"""Letters of a number with the space behind it, in voxels that are written as text."""


@dataclass(frozen=True)
class StoredVoxels:
    """Where the voxels are, and how they are stored.

    Attributes:
        path: the header's file, for messages.
        files: one after the other.
        size: of all axes, the first one runs fastest.
        dtype: with its byte order.
        encoding: "raw", "gzip" (zlib or gzip), "text" or "hex".
        offset: in each file, or `AT_END`.
        skipped_lines: of text behind the offset.
        stored_bytes: of the compressed stream; None where it ends with the file.
        skipped_bytes: of the unpacked stream.
    """

    path: Path
    files: tuple[Path, ...]
    size: tuple[int, ...]
    dtype: np.dtype
    encoding: str = "raw"
    offset: int = 0
    skipped_lines: int = 0
    stored_bytes: int | None = None
    skipped_bytes: int = 0

    def read(self) -> np.ndarray:
        """[..., Y, X] in the machine's byte order.

        Raises:
            UserError: the file is too short or damaged, or declares too many voxels.
        """
        check_voxels(self.path, self.size, sum(file.stat().st_size for file in self.files))
        read = {"raw": self._raw, "gzip": self._unpacked, "text": self._numbers, "hex": self._hexadecimal}[
            self.encoding]
        return read().reshape(self.size[::-1]).astype(self.dtype.newbyteorder("="), copy=False)

    def _raw(self) -> np.ndarray:
        part_bytes = math.prod(self.size) * self.dtype.itemsize // len(self.files)
        for file in self.files:
            if file.stat().st_size < part_bytes:
                raise self._short(file, file.stat().st_size, part_bytes)
        values = np.empty(math.prod(self.size), self.dtype)
        for file, part in zip(self.files, np.split(values.view(np.uint8), len(self.files)), strict=True):
            with open_regular(file) as stream:
                self._seek(stream, part.size)
                found = stream.readinto(part)
            if found < part.size:
                raise self._short(file, found, part.size)
        return values

    def _unpacked(self) -> np.ndarray:
        (file,) = self.files
        needed = self.skipped_bytes + math.prod(self.size) * self.dtype.itemsize
        with open_regular(file) as stream:
            self._seek(stream, 0)
            stored = self._stored_bytes(stream, needed)
            try:
                return _inflated(stream, stored, needed)[self.skipped_bytes:].view(self.dtype)
            except (zlib.error, ValueError) as error:
                raise UserError(f"{file}: the compressed voxels must be sound; found {error}; copy or save it again"
                                ) from None

    def _stored_bytes(self, stream: BinaryIO, needed: int) -> int:
        """What the header says, else what is left; no stream is much longer than what it holds."""
        left = os.fstat(stream.fileno()).st_size - stream.tell()
        stored = left if self.stored_bytes is None else self.stored_bytes
        if stored > needed + needed // 100 + (1 << 20) or left > stored + (1 << 20):
            raise UserError(f"{stream.name}: must hold {needed} bytes of voxels, compressed in {stored}; found {left} "
                            "bytes; save it again")
        if left < stored:
            raise self._short(stream.name, left, stored)
        return stored

    def _numbers(self) -> np.ndarray:
        (file,), count = self.files, math.prod(self.size)
        with open_regular(file) as stream:
            self._seek(stream, 0)
            words = stream.read(_LONGEST_TEXT * count).replace(b",", b" ").split()
        self._check_length(file, len(words), count, "numbers")
        kind = self.dtype.newbyteorder("=")
        try:
            values = np.array(words[:count]).astype(kind if kind.kind == "f" else np.dtype(f"{kind.kind}8"))
        except (ValueError, OverflowError):
            raise UserError(f"{file}: voxels in a text file must be numbers; found another word; save it again"
                            ) from None
        if kind.kind != "f" and not (values == values.astype(kind)).all():
            raise UserError(f"{file}: voxels must fit into {kind}; found {values.min()} to {values.max()}; "
                            "save it again")
        return values.astype(kind)

    def _hexadecimal(self) -> np.ndarray:
        (file,), needed = self.files, math.prod(self.size) * self.dtype.itemsize
        with open_regular(file) as stream:
            self._seek(stream, 0)
            text = stream.read(3 * needed + 2)
        try:
            values = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            raise UserError(f"{file}: voxels must be pairs of hexadecimal digits; found others; save it again"
                            ) from None
        if len(values) != needed:
            raise self._short(file, len(values), needed)
        return np.frombuffer(values, self.dtype)

    def _seek(self, stream: BinaryIO, needed: int) -> None:
        length = os.fstat(stream.fileno()).st_size
        if self.offset == AT_END:
            if length < needed:
                raise self._short(stream.name, length, needed)
            stream.seek(length - needed)
            return
        stream.seek(self.offset)
        for _ in range(self.skipped_lines):
            if not stream.readline(1 << 16).endswith(b"\n"):
                raise self._short(stream.name, stream.tell(), needed)
        if self.encoding == "raw":
            stream.seek(self.skipped_bytes, os.SEEK_CUR)
            self._check_length(stream.name, max(0, length - stream.tell()), needed)

    def _check_length(self, file, found: int, needed: int, unit: str = "bytes") -> None:
        """Neither less than the voxels, nor a slice more, unless the header says where they begin in the data file."""
        if found < needed:
            raise self._short(file, found, needed, unit)
        is_a_part = self.skipped_bytes or self.skipped_lines or self.offset and self.files != (self.path,)
        if found >= needed + needed * len(self.files) // math.prod(self.size[2:]) and not is_a_part:
            raise UserError(f"{file}: the file must hold the voxels that its header declares, {needed} {unit}; found "
                            f"{found}; correct the header, or save it again")

    def _short(self, file, found: int, needed: int, unit: str = "bytes") -> UserError:
        return UserError(f"{file}: the file must hold all voxels that its header declares; found {found} {unit} of "
                         f"{needed}, so it is truncated; copy it again")


def _inflated(file: BinaryIO, stored: int, needed: int) -> np.ndarray:
    """`needed` bytes of the next `stored` ones: a stream, or gzip streams one after the other, to the end.

    Piece by piece, as zlib's own buffer for all of it takes a tenth longer.

    Raises:
        ValueError: it holds another number of bytes, or does not end where it should.
        zlib.error: it is damaged.
    """
    values, found, piece = np.empty(needed, np.uint8), 0, b""
    stream = zlib.decompressobj(_ZLIB_OR_GZIP)
    while stored or piece:
        if not piece:
            piece = file.read(min(stored, _PIECE_BYTES))
            stored -= len(piece)
        if stream.eof:
            if not piece.startswith(_GZIP[:len(piece)]):
                raise ValueError(f"{len(piece) + stored} bytes behind the end of the stream")
            stream = zlib.decompressobj(_ZLIB_OR_GZIP)
        part = stream.decompress(piece, needed - found + 1)
        if found + len(part) > needed:
            raise ValueError(f"more than the {needed} bytes that the header declares")
        values[found:found + len(part)] = np.frombuffer(part, np.uint8)
        found, piece = found + len(part), stream.unused_data
    if not stream.eof:
        raise ValueError(f"{found} bytes of {needed}, and no end of the stream: it is truncated")
    if found < needed:
        raise ValueError(f"{found} bytes of {needed}")
    return values


def data_file(path: Path, name: str) -> Path:
    """The data file that a header names, in the header's own folder.

    Raises:
        UserError: another folder, no such file, or no regular one.
    """
    plain = name.removeprefix("./")
    if not plain.isprintable() or plain in ("", ".", "..") or set("/\\:") & set(plain) or len(plain.encode()) > 255:
        raise UserError(f"{path}: the data file that it names must be next to it, without folders; found "
                        f"{name[:80]!r}; move it there, and correct the header")
    found = path.with_name(plain)
    if not found.exists():
        raise UserError(f"{path}: the data file that it names must be next to it; found no {plain[:80]}")
    check_regular(found)
    if found.samefile(path):
        raise UserError(f"{path}: the data file that it names must be another file; found its own name; save it again")
    return found
