"""TensorFlow checkpoints of tf.train.Saver, read without TensorFlow.

Both versions are sorted tables (LevelDB's format, uncompressed): a footer of 48 bytes points at an index
block, which points at the data blocks; in a block each key repeats a prefix of the one before.

    version 2   PREFIX.index maps names to BundleEntryProto (dtype = 1, shape = 2, shard = 3, offset = 4,
                size = 5, slices = 7); the values lie in PREFIX.data-NNNNN-of-NNNNN
    version 1   one file of SavedTensorSlices: the entry "" holds meta = 1 with tensor = 1 (name = 1,
                shape = 2), the others data = 2 (name = 1, values = 3, a TensorProto)

Kernels are (T, H, W, input, output), as Keras has them.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tfsono.c3d import wire
from tfsono.c3d.weights import LAYERS, OUTPUT_LAST, Listing, Scheme, Stored, UnreadableFile

TABLE_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
FOOTER = 48
DTYPES = {1: "<f4", 2: "<f8", 19: "<f2"}
"""TensorFlow's DataType -> NumPy's; weights come in no other."""

CONTENTS = {5: "<f4", 6: "<f8", 4: "<f4"}
"""TensorProto's float_val, double_val, tensor_content."""

SCHEMES = (Scheme(tuple(f"{name}/kernel" for name in LAYERS), tuple(f"{name}/bias" for name in LAYERS)),
           Scheme(*(tuple(f"var_name/{kind}{name[4:]}" for name in LAYERS) for kind in ("wc", "bc"))))
"""C3DCONV1CHAN of the co-author's code; hx173149/C3D-tensorflow."""


def checkpoint_index(path: Path) -> Path | None:
    """The index file of a version 2 checkpoint, when `path` is its prefix or another of its files."""
    prefix = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name)
    index = path.with_name(prefix + ".index")
    return index if index.is_file() and (prefix != path.name or not path.is_file()) else None


def list_checkpoint(path: Path) -> Listing:
    """The tensors of an index file (version 2) or of a whole checkpoint (version 1).

    Raises:
        UnreadableFile: damaged or compressed. A missing data file shows when a tensor is read.
    """
    entries = _entries(memoryview(np.memmap(path, np.uint8, "r")))
    key, header = next(entries, (None, memoryview(b"")))
    if key != b"":
        raise UnreadableFile("it is a sorted table, but no TensorFlow checkpoint")
    head = wire.Message(header)
    if head.holds(1, wire.BYTES):
        tensors = _version_1(wire.Message(head.message(1)), entries)
        return Listing("TensorFlow checkpoint, version 1", OUTPUT_LAST, SCHEMES, tensors)
    if head.integer(2) != 0:
        raise UnreadableFile("its values are not in little-endian order")
    prefix = path.with_name(path.name.removesuffix(".index"))
    bundled = [_bundled(key, value, prefix, head) for key, value in entries]
    tensors = {stored.name: stored for stored in bundled}
    return Listing("TensorFlow checkpoint, version 2", OUTPUT_LAST, SCHEMES, tensors)


def _entries(table: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values of a sorted table, in order."""
    if len(table) < FOOTER or bytes(table[-8:]) != TABLE_MAGIC:
        raise UnreadableFile("as a TensorFlow checkpoint it is truncated")
    footer = table[-FOOTER:]
    _, position = wire.varint(footer, 0)  # the handle of an unused block: its offset and its size
    _, position = wire.varint(footer, position)
    for _, handle in _block_entries(_block(table, footer[position:])):
        yield from _block_entries(_block(table, handle))


def _block(table: memoryview, handle: memoryview) -> memoryview:
    """A block without the byte that says how it is compressed and the four of its checksum."""
    offset, position = wire.varint(handle, 0)
    size, _ = wire.varint(handle, position)
    if offset + size + 5 > len(table):
        raise UnreadableFile("it is damaged: a block runs past its end")
    if table[offset + size] != 0:
        raise UnreadableFile("it is a compressed table, which tf.train.Saver does not write")
    return table[offset:offset + size]


def _block_entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    restarts = struct.unpack("<I", block[-4:])[0] if len(block) >= 4 else 0
    end, position, key = len(block) - 4 * (restarts + 1), 0, b""
    while position < end:
        shared, position = wire.varint(block, position)
        added, position = wire.varint(block, position)
        length, position = wire.varint(block, position)
        if position + added + length > end:
            raise UnreadableFile("it is damaged: an entry runs past its block")
        key = key[:shared] + bytes(block[position:position + added])
        position += added
        yield key, block[position:position + length]
        position += length


def _shape(shape: memoryview) -> tuple[int, ...]:
    """The sides of a TensorShapeProto."""
    return tuple(wire.Message(side).integer(1) for side in wire.Message(shape).messages(2))


def _bundled(key: bytes, value: memoryview, prefix: Path, head: wire.Message) -> Stored:
    entry = wire.Message(value)
    name, shape = key.decode("utf-8", "replace"), _shape(entry.message(2))
    # A variable in several pieces (slices = 7) keeps its values under other names: there is no type to read.
    dtype = "" if entry.holds(7, wire.BYTES) else DTYPES.get(entry.integer(1), "")
    file = prefix.with_name(f"{prefix.name}.data-{entry.integer(3):05d}-of-{head.integer(1):05d}")
    return Stored(name, shape, partial(_read_data, file, dtype, (entry.integer(4), entry.integer(5)), shape))


def _read_data(file: Path, dtype: str, place: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    offset, size = place
    if not dtype:
        raise UnreadableFile("a tensor of the checkpoint is kept in pieces, or is not of a float type")
    if not file.is_file():
        raise UnreadableFile(f"{file.name} is missing beside the index")
    if file.stat().st_size < offset + size:
        raise UnreadableFile(f"{file.name} is truncated")
    return _reshaped(np.fromfile(file, dtype, size // np.dtype(dtype).itemsize, offset=offset), shape)


def _version_1(meta: wire.Message, entries: Iterator[tuple[bytes, memoryview]]) -> dict[str, Stored]:
    described = [wire.Message(tensor) for tensor in meta.messages(1)]
    shapes = {tensor.text(1): _shape(tensor.message(2)) for tensor in described}
    tensors: dict[str, Stored] = {}
    for _, value in entries:
        saved = wire.Message(wire.Message(value).message(2))
        name = saved.text(1)
        shape = shapes.get(name, ())
        read = _in_pieces if name in tensors else partial(_read_content, saved.message(3), shape)
        tensors[name] = Stored(name, shape, read)
    return tensors


def _read_content(content: memoryview, shape: tuple[int, ...]) -> np.ndarray:
    tensor = wire.Message(content)
    number = next((number for number in CONTENTS if tensor.values(number)), 5)
    return _reshaped(np.frombuffer(b"".join(tensor.values(number)), CONTENTS[number]), shape)


def _in_pieces() -> np.ndarray:
    raise UnreadableFile("a tensor of the checkpoint is kept in pieces")


def _reshaped(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if values.size != math.prod(shape):
        raise UnreadableFile(f"it is damaged: {values.size} values for the shape {shape}")
    return values.reshape(shape)
