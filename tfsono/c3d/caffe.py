"""Caffe files (.caffemodel, or without extension as C3D's own): a serialized NetParameter.

Two versions of facebookarchive/C3D's caffe.proto, distinguished by their fields:

    C3D-v1.0    NetParameter.layers = 2; layer with name = 4, blobs = 6; BlobProto has num, channels, length,
                height, width = 1..5, data = 6. The released conv3d_deepnetA_sport1m_iter_1900000 is one.
    C3D-v1.1    NetParameter.layer = 100 with name = 1, blobs = 7, or the old layers = 2; BlobProto is Caffe's
                own: num, channels, height, width = 1..4, data = 5, shape = 7, double_data = 8.

A 3D kernel is (output, input, T, H, W) in both; Caffe correlates, as Keras does, so nothing is flipped.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np

from tfsono.c3d import wire
from tfsono.c3d.weights import OUTPUT_FIRST, Listing, Scheme, Stored, UnreadableFile

MOST_FIELDS = 10_000
NET_FIELDS = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 100))
LAYER_FIELDS = {2: (4, 6), 100: (1, 7)}
"""Field of NetParameter that holds layers -> the fields of a layer's name and of its blobs."""

SCHEMES = tuple(
    Scheme(tuple(f"{name}/0" for name in names), tuple(f"{name}/1" for name in names))
    for names in (("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b"),
                  ("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b")))


def list_caffe(path: Path) -> Listing:
    """The blobs of a Caffe file as LAYER/0 (kernel) and LAYER/1 (bias).

    Raises:
        UnreadableFile: not a Caffe file, or truncated.
    """
    tensors: dict[str, Stored] = {}
    try:
        for number, field in enumerate(wire.fields(memoryview(np.memmap(path, np.uint8, "r")))):
            if number > MOST_FIELDS:
                raise UnreadableFile(f"it is damaged: a network has at most {MOST_FIELDS} fields")
            _add_layer(tensors, field)
    except UnreadableFile as error:
        if not tensors:  # the format has no signature: a file without layers is another format
            raise UnreadableFile("its format is unknown") from error
        raise UnreadableFile(f"as a Caffe file, {error}") from error
    if not tensors:
        raise UnreadableFile("its format is unknown")
    return Listing("Caffe model", OUTPUT_FIRST, SCHEMES, tensors)


def _add_layer(tensors: dict[str, Stored], field: wire.Field) -> None:
    if field.number not in NET_FIELDS:
        raise UnreadableFile(f"it is damaged: a network has no field {field.number}")
    if field.number not in LAYER_FIELDS or field.wire_type != wire.BYTES:
        return
    name_field, blobs_field = LAYER_FIELDS[field.number]
    layer = wire.Message(field.value)
    for index, blob in enumerate(layer.messages(blobs_field)):
        stored = _blob(f"{layer.text(name_field)}/{index}", wire.Message(blob))
        if stored.name in tensors:
            raise UnreadableFile(f"there are two blobs {stored.name}")
        tensors[stored.name] = stored


def _blob(name: str, blob: wire.Message) -> Stored:
    dtype = "<f4"
    if blob.holds(5, wire.VARINT):  # the width of C3D-v1.0; field 5 of Caffe's own BlobProto is the data
        data, shape = blob.values(6), tuple(blob.integer(number) for number in range(1, 6))
    else:
        data, shape = blob.values(5), _blob_shape(blob)
        if not data:
            data, dtype = blob.values(8), "<f8"
    held, size = sum(len(piece) for piece in data), np.dtype(dtype).itemsize
    if math.prod(shape) * size != held:
        raise UnreadableFile(f"blob {name} should have {math.prod(shape)} values, it has {held / size:g}")
    return Stored(name, shape, partial(_read, data, dtype, shape))


def _blob_shape(blob: wire.Message) -> tuple[int, ...]:
    if blob.holds(7, wire.BYTES):
        return tuple(wire.Message(blob.message(7)).integers(1))
    return tuple(blob.integer(number) for number in range(1, 5))


def _read(data: list[memoryview], dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(data[0] if len(data) == 1 else b"".join(data), dtype).reshape(shape)
