"""The state of a training in one HDF5 file, written atomically: weights, optimizer, step."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from typing import TypedDict

import h5py
import keras
import numpy as np

from tfsono.errors import UserError
from tfsono.files import replacing, write_bytes
from tfsono.hdf5 import ERRORS, WITH_CHECKSUMS, open_to_read, plain_dataset, plain_group, put_text, reason, text_of
from tfsono.structure import check_structure
from tfsono.training.adversarial import AdversarialTrainer

UNFINISHED = "unfinished"
TABLE = 4096  # bytes of HDF5's tables for a variable: more than were found


def _variables(network: keras.Model) -> dict[str, object]:
    """Every variable that training changes, by a name that does not depend on the process."""
    if isinstance(network, AdversarialTrainer):
        groups = network.training_state()
    else:
        groups = {"network": network.variables, "optimizer": network.optimizer.variables}
    return {f"{kind}/{place:04d}": variable
            for kind, variables in groups.items() for place, variable in enumerate(variables)}


class Unfinished(TypedDict):
    """What a state has of a record that a signal ended: its seconds so far, its means, and the sums behind them."""

    seconds: float
    logs: dict[str, float]
    sums: list[float]


def save_state(path: str | os.PathLike, network: keras.Model, step: int, unfinished: Unfinished | None = None) -> None:
    """Writes all variables of a compiled network and its optimizer, their step, and what is `unfinished`.

    For an `AdversarialTrainer`: those of both networks, both optimizers, and its step count.
    """
    content = io.BytesIO()  # see `reserve`
    with h5py.File(content, "w", libver=WITH_CHECKSUMS) as file:
        file.attrs["step"] = step
        if unfinished:
            put_text(file, UNFINISHED, json.dumps(unfinished))
        for name, variable in _variables(network).items():
            file[name] = np.asarray(variable.value.numpy())  # not np.array: a scalar on several devices has none
            put_text(file[name], "path", variable.path)
    write_bytes(path, content.getvalue())


def load_state(path: str | os.PathLike, network: keras.Model, steps: int | None = None) -> int:
    """Loads a saved state into a compiled network and its built optimizer, and returns its step.

    Args:
      path: of the state.
      network: compiled, its optimizer built.
      steps: of the whole training; None does not limit the state's.

    Raises:
      UserError: no state, damaged, of another network, past the end of the training, or not finite.
    """
    try:
        with open_to_read(path) as file:
            step = file.attrs["step"]
            if not isinstance(step, np.integer) or step < 0 or steps is not None and step > steps:
                raise ValueError(f"its step must be from 0 to {steps or 'the last'}; found {reason(step)[:40]}")
            _load_variables(file, path, _variables(network))
    except ERRORS as error:
        raise UserError(f"{path}: the saved state is damaged ({reason(error)}); delete its folder and train again"
                        ) from None
    return int(step)


def read_unfinished(path: str | os.PathLike) -> Unfinished | None:
    """The record in which a signal ended the training; None for a state that was written at a record.

    Raises:
      UserError: it is damaged.
    """
    try:
        with open_to_read(path) as file:
            if UNFINISHED not in file.attrs:
                return None
            unfinished = json.loads(text_of(file, UNFINISHED))
    except ERRORS as error:
        raise UserError(f"{path}: the saved state is damaged ({reason(error)}); delete its folder and train again"
                        ) from None
    check_structure(unfinished, Unfinished, path)
    return unfinished


def _load_variables(file: h5py.File, path: str | os.PathLike, variables: dict[str, object]) -> None:
    saved = {f"{kind}/{name}" for kind in file for name in plain_group(file, kind)}
    arrays = {name: plain_dataset(file, name) for name in sorted(saved)}
    if saved != set(variables) or any(arrays[n].shape != tuple(v.shape) for n, v in variables.items()):
        raise UserError(f"{path}: the saved state is of another network; choose another --run_dir")
    for name, variable in variables.items():
        values = arrays[name][...]
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has NaN or infinite values")
        variable.assign(values)


def save_weights(path: str | os.PathLike, network: keras.Model) -> None:
    """Writes a Keras weights file (`.weights.h5`) atomically, without the optimizer's state.

    For an `AdversarialTrainer`: the weights of its network alone, as after plain training.
    """
    bare = keras.Model(network.input, network.output, name=network.name)  # shares the layers, was never compiled
    with replacing(path) as partial:
        reserve(partial, _size_of(bare.variables))
        bare.save_weights(partial)


def _size_of(variables: Sequence[keras.Variable]) -> int:
    """Bytes that suffice for their file."""
    return sum(keras.ops.convert_to_numpy(variable.value).nbytes + TABLE for variable in variables) + 16 * TABLE


def reserve(path: str | os.PathLike, size: int) -> None:
    """Reserves room for a file that HDF5 writes next: where the disk is full, HDF5 ends the process by SIGSEGV.

    Raises:
      OSError: there is too little room.
    """
    if hasattr(os, "posix_fallocate"):
        with open(path, "ab") as file:
            os.posix_fallocate(file.fileno(), 0, size)
