"""Keras files (.h5) of Keras 1 or 2: weights alone or a whole model.

In a group named after the layer, the only 5-D dataset is the kernel and the 1-D one the bias, whatever their names.
TensorFlow's kernels are (T, H, W, input, output). Theano's are (output, input, T, H, W), and flipped along T, H and W,
as Theano convolves where the others correlate. Keras 2 with Theano flipped them too, but had TensorFlow's order; the
attribute `backend` tells.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import h5py
import numpy as np

from tfsono.c3d import weights
from tfsono.c3d.weights import LAYERS, Layout, Listing, Scheme, Stored, UnreadableFile
from tfsono.hdf5 import ERRORS, is_elsewhere

GROUPS = frozenset((*LAYERS, "conv5a", "conv5b", "fc6", "fc7", "fc8"))
ROLES = {5: "kernel", 2: "kernel", 1: "bias"}
"""Axes of a dataset -> its role in its layer."""

SCHEME = Scheme(tuple(f"{name}/kernel" for name in LAYERS), tuple(f"{name}/bias" for name in LAYERS))


def list_hdf5(path: Path) -> Listing:
    """The datasets of a Keras file as LAYER/kernel and LAYER/bias; others under their own path.

    Raises:
        UnreadableFile: truncated, two kernels for one layer, or external data.
    """
    tensors: dict[str, Stored] = {}
    try:
        with h5py.File(path, "r") as file:
            for dataset in _datasets(file):
                _add(tensors, path, dataset)
            backend = _backend(file)
    except ERRORS as error:
        raise UnreadableFile(f"as an HDF5 file it is truncated or damaged ({error})") from error
    layout = _layout(tensors, backend)
    words = "Theano, flipped" if layout.flipped else "TensorFlow"
    return Listing(f"Keras HDF5, {words}", layout, (SCHEME,), tensors)


def _datasets(file: h5py.File) -> list[h5py.Dataset]:
    """All datasets; soft and external links are not followed, so that no other file is read."""
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return [dataset for dataset in found if not dataset.name.startswith("/optimizer_weights/")]


def _add(tensors: dict[str, Stored], path: Path, dataset: h5py.Dataset) -> None:
    if is_elsewhere(dataset):
        raise UnreadableFile(f"dataset {dataset.name} is stored in another file")
    layer = next((part for part in dataset.name.split("/") if part in GROUPS), None)
    known = layer and dataset.ndim in ROLES and dataset.dtype.kind == "f"
    key = f"{layer}/{ROLES[dataset.ndim]}" if known else dataset.name
    if key in tensors:
        raise UnreadableFile(f"two datasets could be {key}: {tensors[key].name} and {dataset.name}")
    tensors[key] = Stored(dataset.name, dataset.shape or (), partial(_read, path, dataset.name))


def _backend(file: h5py.File) -> str:
    group = file.get("model_weights", file)
    value = file.attrs.get("backend", group.attrs.get("backend", ""))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _layout(tensors: dict[str, Stored], backend: str) -> Layout:
    """By the shape of conv2: in conv1, three input channels could be taken for a side of the kernel."""
    shape = tensors["conv2/kernel"].shape if "conv2/kernel" in tensors else ()
    if shape[:3] != (3, 3, 3) and shape[2:] == (3, 3, 3):
        return weights.OUTPUT_FIRST._replace(flipped=True)
    return weights.OUTPUT_LAST._replace(flipped=backend == "theano")


def _read(path: Path, name: str) -> np.ndarray:
    try:
        with h5py.File(path, "r") as file:
            return file[name][()]
    except ERRORS as error:
        raise UnreadableFile(f"as an HDF5 file it is truncated or damaged ({error})") from error
