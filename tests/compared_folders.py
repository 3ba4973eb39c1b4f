"""What a command left, held against an undisturbed one: whole files, no leftovers, equal content."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path

import cv2
import h5py
import numpy as np

CHANGING = ("seconds", "date")
"""Columns and entries that differ between any two calls."""
OF_A_CALL = ("command.txt", "log.txt", "saved_model.pb", "fingerprint.pb")
"""Files that differ between any two calls: the command line; dates and times; TensorFlow's names of functions."""


def check_whole(folder: Path) -> None:
    """Every file with its final name can be read to its end."""
    for path in files_of(folder):
        if ".partial" in str(path.relative_to(folder)) or path.name.startswith(".") or path.name == "log.txt":
            continue  # a log grows line by line
        content = path.read_bytes()
        if path.suffix == ".h5":
            assert arrays_of(path), path
        elif path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".png":
            assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) is not None, path
        elif path.suffix == ".gz":
            assert len(gzip.decompress(content)) > 352, path
        elif path.suffix in (".csv", ".md", ".tex", ".txt", ".html"):
            assert content.endswith(b"\n"), path


def check_equal(folder: Path, undisturbed: Path) -> None:
    """Two folders, or files, hold the same, and no leftovers."""
    found, wanted = ({path.relative_to(root): path for path in files_of(root) if "tensorboard" not in path.parts}
                     for root in (folder, undisturbed))
    assert found.keys() == wanted.keys()
    for name, path in found.items():
        if name.name not in OF_A_CALL:
            assert content_of(path) == content_of(wanted[name]), name


def files_of(root: Path) -> list[Path]:
    return [path for path in ([root] if root.is_file() else sorted(root.rglob("*"))) if path.is_file()]


def content_of(path: Path) -> object:
    """Arrays and attributes of HDF5; JSON and the history without what differs between calls; else the bytes.

    Of checksums in JSON, whether they are those of the files next to it, which are compared themselves.
    """
    if path.suffix in (".h5", ".partial"):
        return arrays_of(path)
    if path.suffix == ".json":
        held = json.loads(path.read_bytes())
        held = {key: value for key, value in held.items() if key not in CHANGING}
        if "files" in held:
            held["files"] = {name: digest == hashlib.sha256((path.parent / name).read_bytes()).hexdigest()
                             for name, digest in held["files"].items()}
            assert all(held["files"].values()), path
        return json.dumps(held)
    if path.name == "history.csv":
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        kept = [place for place, name in enumerate(rows[0]) if name not in CHANGING]
        return [[row[place] for place in kept] for row in rows]
    return path.read_bytes()


def arrays_of(path: Path) -> dict[str, object]:
    """Every dataset and attribute of an HDF5 file, as type, shape and bytes."""
    found = {}

    def add(name: str, item) -> None:
        for key, value in item.attrs.items():
            found[f"{name}@{key}"] = (np.asarray(value).dtype.str, np.asarray(value).tolist())
        if isinstance(item, h5py.Dataset):
            found[name] = (item.dtype.str, item.shape, item[...].tobytes())

    with h5py.File(path) as file:
        add("", file)
        file.visititems(add)
    return {key: value if "nan" not in str(value) else str(value) for key, value in found.items()}
