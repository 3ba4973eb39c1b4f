"""Our own HDF5 files: written with checksums over their structure, and read without a way to another file.

Files of the release before have no such checksums: a damaged one can make HDF5's library wait for ever.
"""

from __future__ import annotations

import os

import h5py
import numpy as np

from tfsono.files import check_regular

ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""What h5py raises for a damaged file, depending on where the damage is; and what the functions here raise."""

WITH_CHECKSUMS = ("v108", "v108")
"""The oldest format whose headers and indexes have checksums (a later one marks files as open, and one whose writer was
killed would not open again). Text is stored in them too: of text of any length (in
"global heaps", which have none) a damaged length is an endless loop."""


def open_to_read(path: str | os.PathLike) -> h5py.File:
    """The open file. `UserError` for a special file, `OSError` for one that is not HDF5."""
    check_regular(path)
    return h5py.File(path, "r")


def open_to_write(path: str | os.PathLike, mode: str) -> h5py.File:
    """A file that is created (`w`, `x`), or resumed (`r+`)."""
    return h5py.File(path, mode, libver=WITH_CHECKSUMS)


def reason(error) -> str:
    """An error of HDF5 (or a value found) in one short line."""
    text = " ".join(str(error).split()).strip("\"'")
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200] or type(error).__name__


def plain_group(parent: h5py.Group, name: str) -> h5py.Group:
    """The group of that name (without /) in the same file.

    Raises:
      ValueError: it is missing, a link, or no group.
    """
    return _member(parent, name, h5py.Group, "group")


def plain_dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
    """The array of numbers of that name (groups are separated by /), all of which is stored in the same file.

    Raises:
      ValueError: it is missing, a link, in another file, of something else than numbers, or its size is not what the
        file holds of it: ours are not compressed, and a few bytes could declare an array that fills the memory.
    """
    *folders, last = name.split("/")
    for folder in folders:
        parent = plain_group(parent, folder)
    dataset = _member(parent, last, h5py.Dataset, "array")
    where = f"{dataset.name[:80]!r}"
    if is_elsewhere(dataset):
        raise ValueError(f"the array {where} is stored in another file")
    if dataset.dtype.kind not in "biuf" or dataset.shape is None:
        raise ValueError(f"the array {where} must have numbers; found the type {str(dataset.dtype)[:40]}")
    stored = dataset.id.get_storage_size()
    if dataset.nbytes != stored or stored > dataset.file.id.get_filesize():
        raise ValueError(f"the array {where} should have {dataset.nbytes:,} bytes, and {stored:,} are stored")
    return dataset


def check_plain(path: str | os.PathLike) -> None:
    """Checks that all arrays of a file are such, before another library reads it.

    Raises:
      ValueError: or another of `ERRORS`: one is not.
    """
    with open_to_read(path) as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            plain_dataset(file, name)


def is_elsewhere(dataset: h5py.Dataset) -> bool:
    """Whether an array's values are in other files, or put together from other arrays."""
    return bool(dataset.external or dataset.is_virtual)


def _member(parent: h5py.Group, name: str, kind: type, what: str):
    link = parent.get(name, getlink=True)
    if link is None:
        raise ValueError(f"the {what} {name[:80]!r} is missing")
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name[:80]!r} is a link; expected the {what} itself")
    found = parent[name]
    if not isinstance(found, kind):
        raise ValueError(f"{name[:80]!r} must be a {what}; found another kind of object")
    return found


def put_text(item: h5py.Group, name: str, text: str) -> None:
    """Writes an attribute: text of a fixed length, which is stored where the checksums are."""
    content = text.encode()
    item.attrs.create(name, np.array(content, h5py.string_dtype("utf-8", max(len(content), 1))))


def text_of(item: h5py.Group, name: str) -> str:
    """An attribute that is text.

    Raises:
      ValueError: it is something else.
    """
    found = item.attrs[name]
    if isinstance(found, bytes):
        found = found.decode()
    if not isinstance(found, str):
        raise ValueError(f"the attribute {name} of {item.name[:80]!r} must be text; found {type(found).__name__}")
    return found


def numbers_of(item: h5py.Group, name: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    """An attribute that is a list of finite numbers, as many as one of `counts`.

    Raises:
      ValueError: it is something else.
    """
    found = np.asarray(item.attrs[name])
    if found.dtype.kind not in "iuf" or found.ndim != 1 or len(found) not in counts or not np.isfinite(found).all():
        raise ValueError(f"the attribute {name} of {item.name[:80]!r} must be {' or '.join(map(str, counts))} finite "
                         f"numbers; found {str(found.tolist())[:60]}")
    return tuple(found.tolist())
