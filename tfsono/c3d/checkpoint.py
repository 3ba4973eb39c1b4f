"""TensorFlow checkpoints of tf.train.Saver, in two files (version 2) or in one (version 1).

Kernels are (T, H, W, input, output), as Keras has them.
"""

from __future__ import annotations

import contextlib
import glob
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tfsono.c3d.weights import LAYERS, OUTPUT_LAST, Listing, Scheme, Stored, UnreadableFile
from tfsono.files import check_regular

TABLE_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
"""The last bytes of a version 1 checkpoint."""

LARGEST_INDEX = 1 << 16
"""Bytes: C3D's have 4,000. TensorFlow reads a block as often as the index names it."""

SCHEMES = (Scheme(tuple(f"{name}/kernel" for name in LAYERS), tuple(f"{name}/bias" for name in LAYERS)),
           Scheme(*(tuple(f"var_name/{kind}{name[4:]}" for name in LAYERS) for kind in ("wc", "bc"))))
"""C3DCONV1CHAN of the co-author's code; hx173149/C3D-tensorflow."""


def checkpoint_prefix(path: Path) -> Path | None:
    """The prefix of a version 2 checkpoint where `path` is the prefix or one of its files; else None."""
    prefix = path.with_name(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path.name))
    indexed = _index(prefix).is_file() and (prefix != path or not path.is_file())
    return prefix if indexed else None


def list_checkpoint(path: Path) -> Listing:
    """The tensors of a prefix (version 2) or of a file (version 1).

    Raises:
        UnreadableFile: damaged. Missing or damaged values are found when a tensor is read.
    """
    import tensorflow as tf  # no other format needs it

    index = _index(path)
    if index.is_file() and not 0 < index.stat().st_size <= LARGEST_INDEX:
        raise UnreadableFile(f"{index.name} should have up to {LARGEST_INDEX} bytes, it has {index.stat().st_size}")
    for part in path.parent.glob(f"{glob.escape(path.name)}.data-*"):
        check_regular(part)
    with _damage_refused("the file"):
        reader = tf.train.load_checkpoint(str(path))
        shapes = reader.get_variable_to_shape_map()
    tensors = {name: Stored(name, tuple(shapes[name]), partial(_read, reader, name)) for name in sorted(shapes)}
    version = 2 if _index(path).is_file() else 1
    return Listing(f"TensorFlow checkpoint, version {version}", OUTPUT_LAST, SCHEMES, tensors)


def _index(prefix: Path) -> Path:
    return prefix.with_name(prefix.name + ".index")


def _read(reader, name: str) -> np.ndarray:
    with _damage_refused(name):
        return reader.get_tensor(name)


@contextlib.contextmanager
def _damage_refused(what: str) -> Iterator[None]:
    """Turns TensorFlow's errors, some of them plain Python ones, into `UnreadableFile`."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.OpError, IndexError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise UnreadableFile(f"as a TensorFlow checkpoint {what} is incomplete or damaged ({error})") from error
