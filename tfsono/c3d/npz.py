"""NumPy archives (.npz) of a PyTorch state dictionary; pretrained/README.md tells how to make one.

The arrays have PyTorch's names and layout: kernels are (output, input, T, H, W).
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from tfsono.c3d.weights import LAYERS, OUTPUT_FIRST, Listing, Scheme, Stored, UnreadableFile

MOST_ARRAYS = 10_000
ERRORS = (zipfile.BadZipFile, zlib.error, tokenize.TokenError, OSError, EOFError, KeyError, SyntaxError, TypeError,
          ValueError, NotImplementedError, RuntimeError, MemoryError)
"""What zipfile and NumPy raise on damaged archives."""


def _scheme(pattern: str, names: tuple[object, ...]) -> Scheme:
    return Scheme(*(tuple(pattern.format(name, kind) for name in names) for kind in ("weight", "bias")))


SCHEMES = (
    _scheme("{}.{}", LAYERS),
    _scheme("features.{}.{}", (0, 3, 6, 8, 11, 13)),  # counted with their ReLU and pooling layers
    _scheme("{}.conv.{}", ("conv1a", "conv2a", *LAYERS[2:])),
)
"""c3d.pickle (DavideA), c3d-pretrained.pth (jfzhang95), mmaction2."""


def list_npz(path: Path) -> Listing:
    """The arrays of an archive; reads their headers only.

    Raises:
        UnreadableFile: truncated, damaged, or another archive, such as one of torch.save.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            if len(names) > MOST_ARRAYS:
                raise ValueError(f"it has over {MOST_ARRAYS} arrays")
            shapes = {name: _shape(archive, name) for name in names}
    except ERRORS as error:
        raise UnreadableFile(f"as a zip archive it is truncated or damaged ({error})") from error
    if not shapes:
        raise UnreadableFile("it is a zip archive, but not one of numpy.savez; a PyTorch file must be converted, "
                             "see pretrained/README.md")
    tensors = {name: Stored(name, shape, partial(_read, path, name)) for name, shape in shapes.items()}
    return Listing("NumPy archive of PyTorch weights", OUTPUT_FIRST, SCHEMES, tensors)


def _shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    with archive.open(f"{name}.npy") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} is not a plain array")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.itemsize > 16:
            raise ValueError(f"{name} is not an array of numbers")
        return shape


def _read(path: Path, name: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]
    except ERRORS as error:
        raise UnreadableFile(f"{name} is truncated or damaged ({error})") from error
