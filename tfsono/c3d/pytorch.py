"""PyTorch files (.pth, .pickle), zip layout and older one, read without PyTorch; no code in them is run.

The pickle inside is read by an unpickler that knows a few names: OrderedDict, the functions that rebuild a
tensor or a parameter, the storage types; all but the first are inert stand-ins. Any other name stops the
reading, so that a file made to run code is refused. Storages are located, and loaded only for what is asked
for.

Layouts (torch/serialization.py). Zip: NAME/data.pkl, NAME/data/KEY, NAME/byteorder. Older: the pickles of a
magic number, of 1001, of a description of the machine, of the object, of the storage keys; then for each
key an int64 count and the raw values.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfsono.c3d.weights import LAYERS, OUTPUT_FIRST, Listing, Scheme, Stored, UnreadableFile

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
LARGEST_PICKLE = 64 << 20
"""Bytes; a state dictionary without its values has kilobytes."""

ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, KeyError, EOFError,
              struct.error)
"""What zipfile raises on damaged archives."""

BFLOAT16 = "bfloat16"
DTYPES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": BFLOAT16,
          "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "|i1",
          "ByteStorage": "|u1", "BoolStorage": "|b1"}
"""PyTorch's storage types -> NumPy's; bfloat16 has none."""


def _scheme(pattern: str, names: tuple[object, ...]) -> Scheme:
    return Scheme(*(tuple(pattern.format(name, kind) for name in names) for kind in ("weight", "bias")))


SCHEMES = (
    _scheme("{}.{}", LAYERS),
    _scheme("features.{}.{}", (0, 3, 6, 8, 11, 13)),  # counted with their ReLU and pooling layers
    _scheme("{}.conv.{}", ("conv1a", "conv2a", *LAYERS[2:])),
)
"""c3d.pickle (DavideA), c3d-pretrained.pth (jfzhang95), mmaction2."""


class Storage(NamedTuple):
    """A run of values in the file: `count` of them from value `offset` of the storage `key`."""

    key: str
    dtype: str
    offset: int
    count: int

    @property
    def end(self) -> int:
        """The first byte behind it, from the storage's beginning."""
        return (self.offset + self.count) * self.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes a value."""
        return 2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize


class Tensor(NamedTuple):
    """A view of a storage, in values."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class StorageType(NamedTuple):
    """Stand-in for torch.FloatStorage and its like. A tuple, so that a pickle cannot alter it."""

    dtype: str


class RebuildTensor:
    """Stand-in for torch._utils._rebuild_tensor and _rebuild_tensor_v2."""

    __slots__ = ()

    def __call__(self, storage: Storage, offset: int, size: tuple, stride: tuple, *rest: object) -> Tensor:
        """The tensor; `rest` says whether it needs gradients."""
        return Tensor(storage, offset, tuple(size), tuple(stride))


class RebuildParameter:
    """Stand-in for torch._utils._rebuild_parameter."""

    __slots__ = ()

    def __call__(self, tensor: Tensor, *rest: object) -> Tensor:
        """The parameter's tensor."""
        return tensor


NAMES = {("collections", "OrderedDict"): OrderedDict,
         ("torch._utils", "_rebuild_tensor"): RebuildTensor(),
         ("torch._utils", "_rebuild_tensor_v2"): RebuildTensor(),
         ("torch._utils", "_rebuild_parameter"): RebuildParameter(),
         **{("torch", name): StorageType(dtype) for name, dtype in DTYPES.items()},
         **{("torch.cuda", name): StorageType(dtype) for name, dtype in DTYPES.items()}}


class WeightUnpickler(pickle.Unpickler):
    """Reads a pickle of tensors; every name beyond `NAMES` is refused before anything of it is imported."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="utf-8")  # in Python 2's files, names are byte strings
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name."""
        if (module, name) not in NAMES:
            raise UnreadableFile(f"it asks for {module}.{name}, which weights alone do not need; nothing of "
                                 "it was run; if you trust the file, save its state_dict alone")
        return NAMES[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        """A storage by its description ("storage", type, key, device, count[, view])."""
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage"
                and isinstance(pid[1], StorageType) and _are_counts(pid[4])):
            raise UnreadableFile("it is a pickled model, not weights; save its state_dict alone")
        storage = Storage(str(pid[2]), pid[1].dtype, 0, pid[4])
        self.storages[storage.key] = storage
        return _view(storage, pid[5]) if len(pid) == 6 and pid[5] is not None else storage


def _view(storage: Storage, view: Any) -> Storage:
    """A part of a storage (key, offset, count), as files of before 0.4 have them."""
    _, offset, count = view
    if not _are_counts(offset, count) or offset + count > storage.count:
        raise UnreadableFile("it is damaged: a view leaves its storage")
    return storage._replace(offset=offset, count=count)


def _are_counts(*values: Any) -> bool:
    return all(isinstance(value, int) and value >= 0 for value in values)


def list_pytorch_zip(path: Path) -> Listing:
    """The tensors of a file of torch.save since 1.6.

    Raises:
        UnreadableFile: truncated, not of PyTorch, of another byte order, or with names beyond `NAMES`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.partition("/")[2]: name for name in archive.namelist()}
            if "data.pkl" not in members:
                raise UnreadableFile("it is a zip archive, but not one of torch.save")
            if "byteorder" in members and _member(archive, members["byteorder"], 6) != b"little":
                raise UnreadableFile("its values are not in little-endian order")
            unpickler = WeightUnpickler(io.BytesIO(_member(archive, members["data.pkl"], LARGEST_PICKLE)))
    except ZIP_ERRORS as error:
        raise UnreadableFile(f"as a zip archive it is truncated or damaged ({error})") from error
    tensors = _tensors(_unpickled(unpickler))
    places = {key: members.get(f"data/{key}", "") for key in unpickler.storages}
    return _listing("PyTorch, zip layout", {
        name: Stored(name, tensor.size, partial(_read_zip, path, places[tensor.storage.key], tensor))
        for name, tensor in tensors.items()})


def list_pytorch_legacy(path: Path) -> Listing:
    """The tensors of a file of torch.save from 0.1.10 to 1.5; same errors."""
    with open(path, "rb") as file:
        if _unpickled(WeightUnpickler(file)) != MAGIC:
            raise UnreadableFile("it is a pickle, but not one of torch.save")
        if _unpickled(WeightUnpickler(file)) != PROTOCOL:
            raise UnreadableFile(f"its protocol is not torch.save's {PROTOCOL}")
        machine = _unpickled(WeightUnpickler(file))
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise UnreadableFile("its values are not in little-endian order")
        unpickler = WeightUnpickler(file)
        tensors = _tensors(_unpickled(unpickler))
        places = _places(file, _unpickled(WeightUnpickler(file)), unpickler.storages)
    return _listing("PyTorch, older layout", {
        name: Stored(name, tensor.size, partial(_read_legacy, path, places[tensor.storage.key], tensor))
        for name, tensor in tensors.items()})


def _listing(words: str, tensors: dict[str, Stored]) -> Listing:
    return Listing(words, OUTPUT_FIRST, SCHEMES, tensors)


def _member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    """A member of an archive, at most `largest` bytes; its checksum is tested."""
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > largest:
        raise UnreadableFile(f"its part {name} is compressed or too large, which torch.save does not do")
    return archive.read(name)


def _unpickled(unpickler: WeightUnpickler) -> Any:
    try:
        return unpickler.load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, ImportError, TypeError,
            ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise UnreadableFile(f"its pickle is truncated or damaged ({error})") from error


def _tensors(saved: Any) -> dict[str, Tensor]:
    """The tensors of a state dictionary, or of the one that a checkpoint keeps under `state_dict`."""
    if isinstance(saved, dict) and isinstance(saved.get("state_dict"), dict):
        saved = saved["state_dict"]
    if not isinstance(saved, dict):
        raise UnreadableFile("it holds no state_dict")
    tensors = {str(name): value for name, value in saved.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        if not _is_sound(tensor):
            raise UnreadableFile(f"it is damaged: {name} leaves its storage")
    return tensors


def _is_sound(tensor: Tensor) -> bool:
    """Whether it stays inside its storage: the numbers come from outside, and are not trusted."""
    storage, offset, size, stride = tensor
    if not (isinstance(storage, Storage) and len(size) == len(stride)):
        return False
    if not _are_counts(offset, *size, *stride):
        return False
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    return 0 in size or last < storage.count


def _places(file: BinaryIO, keys: Any, storages: dict[str, Storage]) -> dict[str, int]:
    """Storage key -> the byte of the file at which its values begin, found by stepping over them.

    Raises:
        UnreadableFile: the file ends earlier, or a count is not the pickle's.
    """
    places: dict[str, int] = {}
    position = file.tell()
    size = file.seek(0, io.SEEK_END)
    for key in keys if isinstance(keys, list) else ():
        file.seek(position)
        head, storage = file.read(8), storages.get(str(key))
        if storage is None or len(head) < 8 or struct.unpack("<q", head)[0] != storage.count:
            raise UnreadableFile("it is truncated or damaged: a storage is not where it should be")
        places[storage.key] = position + 8
        position += 8 + storage.end
    if position > size or len(places) < len(storages):
        raise UnreadableFile("it is truncated: values are missing")
    return places


def _read_zip(path: Path, member: str, tensor: Tensor) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            raw = _member(archive, member, tensor.storage.end)
    except ZIP_ERRORS as error:
        raise UnreadableFile(f"as a zip archive it is truncated or damaged ({error})") from error
    return _strided(raw, tensor)


def _read_legacy(path: Path, place: int, tensor: Tensor) -> np.ndarray:
    with open(path, "rb") as file:
        file.seek(place)
        return _strided(file.read(tensor.storage.end), tensor)


def _strided(raw: bytes, tensor: Tensor) -> np.ndarray:
    storage, offset, size, stride = tensor
    if len(raw) != storage.end:
        raise UnreadableFile("it is truncated: a storage is too short")
    values = _values(raw, storage.dtype)
    strides = [step * values.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(values[storage.offset + offset:], size, strides, writeable=False)
    return view.copy()


def _values(raw: bytes, dtype: str) -> np.ndarray:
    if dtype != BFLOAT16:
        return np.frombuffer(raw, dtype)
    return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)  # the upper half of a float32
