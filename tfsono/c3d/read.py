"""A C3D file of any public format -> the six kernels of an encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from tfsono.c3d.caffe import list_caffe
from tfsono.c3d.checkpoint import TABLE_MAGIC, checkpoint_prefix, list_checkpoint
from tfsono.c3d.hdf5 import list_hdf5
from tfsono.c3d.npz import list_npz
from tfsono.c3d.weights import (
    LAYERS,
    WIDTHS,
    C3DWeights,
    Layout,
    Listing,
    Scheme,
    Stored,
    UnreadableFile,
    UnsuitableWeights,
    arranged,
    expected_shapes,
    shape_text,
)
from tfsono.errors import UserError, printable
from tfsono.files import check_regular

FORMATS = ("Caffe (.caffemodel), Keras 1 or 2 HDF5 (.h5, TensorFlow or Theano), PyTorch as .npz, "
           "TensorFlow 1 checkpoint (PREFIX.index with its .data file, or one file)")
PYTORCH = (".pth", ".pt", ".pickle", ".pkl")


def read_c3d(path: str | Path, widths: tuple[int, ...] = WIDTHS) -> C3DWeights:
    """The kernels conv1 to conv4b of a C3D weight file, in any of `FORMATS`, recognised by content.

    Biases are checked and ignored; conv5 and the dense layers are not loaded.

    Args:
        path: the file; for a version 2 checkpoint the prefix or any of its files.
        widths: the required output channels of groups 1 to 4.

    Returns:
        Kernels float32 [T, H, W, input, output]: 13,497,408 weights of a public file with three colours.

    Raises:
        UserError: the file is absent, unknown, damaged or a pickle; layers are missing, shapes differ, or values are
            not finite.
    """
    path = Path(path)
    try:
        source, lister = _recognise(path)
        return _load(path, lister(source), widths)
    except UnsuitableWeights as error:
        raise UserError(f"{path}: {_one_line(error)}") from error
    except (UnreadableFile, OSError, ValueError, MemoryError, OverflowError) as error:
        words = _one_line(error)
        raise UserError(f"{path}: cannot be read: {words}; formats that are read: {FORMATS}") from error


def _one_line(error: Exception) -> str:
    """Its message in one line; names of a damaged file may be long, and have line ends and control characters."""
    return printable(" ".join(str(error).split()))[:300]


def _recognise(path: Path) -> tuple[Path, Callable[[Path], Listing]]:
    """The file to read and its reader, by its first and last bytes; Caffe's format has no signature and comes last."""
    prefix = checkpoint_prefix(path)
    if prefix:
        return prefix, list_checkpoint
    if not path.exists():
        raise UnreadableFile("there is no such file")
    if path.is_dir():
        raise UnreadableFile("it is a folder; give a file")
    check_regular(path)
    head, tail = _ends(path)
    if h5py.is_hdf5(path):
        return path, list_hdf5
    if head.startswith(b"PK\x03\x04"):
        return path, list_npz
    if head.startswith(b"\x80") or path.suffix in PYTORCH:  # a pickle may contain code, so it is not opened
        raise UnreadableFile("a PyTorch file must be converted to .npz, see pretrained/README.md")
    return (path, list_checkpoint) if tail == TABLE_MAGIC else (path, list_caffe)


def _ends(path: Path) -> tuple[bytes, bytes]:
    with open(path, "rb") as file:
        head = file.read(8)
        if not head:
            raise UnreadableFile("it is empty")
        file.seek(max(0, path.stat().st_size - 8))
        return head, file.read(8)


def _load(path: Path, listing: Listing, widths: tuple[int, ...]) -> C3DWeights:
    chosen, scheme = _choose(listing)
    channels = _sides(chosen["conv1"], listing.layout)[3]
    if channels not in (1, 3):
        raise UnsuitableWeights(f"conv1 ({chosen['conv1'].name}) should have 3 input channels, or 1, "
                                f"it has {channels}")
    shapes = expected_shapes(widths, channels)
    for layer in LAYERS:
        _check_shape(layer, chosen[layer], listing.layout, shapes[layer])
    biases = {layer: bias for layer, name in zip(LAYERS, scheme.biases, strict=True)
              if (bias := _find(listing.tensors, name))}
    taken = {stored.name for stored in (*chosen.values(), *biases.values())}
    return C3DWeights(
        path=str(path), format=listing.format,
        kernels={layer: arranged(_finite(layer, chosen[layer]), listing.layout) for layer in LAYERS},
        names={layer: stored.name for layer, stored in chosen.items()},
        bias_counts={layer: _bias_count(layer, bias, shapes[layer][4]) for layer, bias in biases.items()},
        excluded=tuple(stored.name for stored in listing.tensors.values() if stored.name not in taken))


def _choose(listing: Listing) -> tuple[dict[str, Stored], Scheme]:
    """The six kernels by the first naming scheme that has them all."""
    best: dict[str, Stored] = {}
    for scheme in listing.schemes:
        names = zip(LAYERS, scheme.kernels, strict=True)
        found = {layer: stored for layer, name in names if (stored := _find(listing.tensors, name))}
        if len(found) == len(LAYERS):
            return found, scheme
        best = max(best, found, key=len)
    missing = ", ".join(layer for layer in LAYERS if layer not in best)
    names = ", ".join(listing.tensors)[:200] or "nothing"
    raise UnsuitableWeights(f"as {listing.format}, it lacks C3D's layers {missing}; it has {names}")


def _find(tensors: dict[str, Stored], wanted: str) -> Stored | None:
    """The tensor of that name, with or without a prefix such as `module.` or `backbone.`."""
    if wanted in tensors:
        return tensors[wanted]
    names = [name for name in tensors if name.endswith((f".{wanted}", f"/{wanted}"))]
    if len(names) > 1:
        raise UnsuitableWeights(f"several tensors could be {wanted}: {', '.join(names[:3])}")
    return tensors[names[0]] if names else None


def _sides(stored: Stored, layout: Layout) -> tuple[int, ...]:
    """T, H, W, input, output."""
    if len(stored.shape) != 5:
        raise UnsuitableWeights(f"{stored.name} should have 5 axes, its shape is {shape_text(stored.shape)}")
    return tuple(stored.shape[axis] for axis in layout.axes)


def _check_shape(layer: str, stored: Stored, layout: Layout, expected: tuple[int, ...]) -> None:
    found = _sides(stored, layout)
    if found != expected:
        raise UnsuitableWeights(f"{layer} ({stored.name}) should be {shape_text(expected)} "
                                f"(T, H, W, input, output), it is {shape_text(found)}")


def _bias_count(layer: str, bias: Stored, expected: int) -> int:
    """The length of a bias, which is not used; a wrong one indicates a wrong or damaged file."""
    if math.prod(bias.shape) != expected:
        raise UnsuitableWeights(f"the bias of {layer} ({bias.name}) should have {expected} values, "
                                f"its shape is {shape_text(bias.shape)}")
    return _finite(f"the bias of {layer}", bias).size


def _finite(what: str, stored: Stored) -> np.ndarray:
    values = np.asarray(stored.read())
    if values.dtype.kind != "f":
        raise UnsuitableWeights(f"{what} ({stored.name}) is not of a float type")
    with np.errstate(over="ignore"):
        values = values.astype(np.float32, copy=False)
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise UnsuitableWeights(f"{what} ({stored.name}) has {bad} values that are NaN or infinite")
    return values
