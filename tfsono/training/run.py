"""The folder of a run: its settings, versions, split and data; made once, and checked whenever it is opened."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import shlex
import sys
import warnings
from pathlib import Path
from typing import TypedDict

import keras
import numpy as np
import tensorflow as tf

import tfsono
from tfsono.config import Choices, Settings, differences, load_settings, save_settings
from tfsono.data.splits import check_split_names, read_split
from tfsono.errors import UserError
from tfsono.files import make_folder, read_json, read_rows, write_text
from tfsono.hdf5 import ERRORS, check_plain, reason
from tfsono.locks import LOCK
from tfsono.manifest import EndOrder, check_label_values, check_ranges
from tfsono.structure import check_structure, shown
from tfsono.training.fingerprint import TRAINED_ON
from tfsono.training.memory import Needs
from tfsono.training.record import MARK, RECORD, VERSIONS, check_files, record_files, recorded

ADDED = {"diameter_share", "appearance"}  # to the record of images; see `tfsono.training.fingerprint`
DAMAGED = "delete its folder and train again"
BEGUN = (LOCK, RECORD, "split.json", "data.json", VERSIONS, "command.txt")  # in a folder before its config.json
PACKAGES = ("tensorflow", "keras", "numpy", "h5py", "scipy", "SimpleITK")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
      folder: `runs/NAME`.
      settings: the config and the origin of its values.
      split: names of cases under `train`, `validation`, `test`.
      data: of the training: `dataset`, `cases`, `labels` (name -> value in the user's files), and `trained_on`
        (`tfsono.training.fingerprint`), which runs of the release before lack.
      dry: what a training needs by the estimate, where a few steps are measured to compare, and no more.
    """

    folder: Path
    settings: Settings
    split: dict[str, list[str]]
    data: dict
    dry: Needs | None = None

    @property
    def config(self):
        return self.settings.config

    @property
    def state(self) -> Path:
        return self.folder / "state.h5"

    @property
    def finished(self) -> bool:
        return (self.folder / "finished.json").is_file()

    def summary(self) -> str:
        """Folder, settings and numbers of cases, in one line."""
        return (f"{self.folder}: {self.settings.preset}, {self.settings.variant}; {len(self.split['train'])} training, "
                f"{len(self.split['validation'])} validation, {len(self.split['test'])} test cases")

    def weights(self, which: str = "auto") -> Path:
        """The file of the `best` or the `last` weights; `auto` takes the best where the run validated.

        Raises:
          UserError: the run has no such weights yet.
        """
        names = {"best": ["best"], "last": ["last"], "auto": ["best", "last"]}[which]
        for name in names:
            path = self.folder / f"{name}.weights.h5"
            if path.exists():
                return path
        if which == "best" and self.finished:
            raise UserError(f"{self.folder}: no best weights, as it had no validation cases; use the last ones")
        raise UserError(f"{self.folder}: no {' or '.join(names)} weights yet; resume `train/{self.settings.system}.py`")


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    held = {"tfsono": tfsono.__version__, "python": platform.python_version(), "platform": platform.platform(),
            "cpu_cores": str(os.cpu_count())}
    for package in PACKAGES:
        held[package.lower()] = importlib.metadata.version(package)
    gpus = tf.config.list_physical_devices("GPU")
    return {**held, "devices": ", ".join(gpu.name for gpu in gpus) or "CPU"}


def open_run(folder: str | os.PathLike, settings: Settings, split: dict, data: dict) -> Run:
    """Creates a run folder, or opens one that the same command created.

    Raises:
      UserError: the folder is not empty and no run folder, or a run of another config, split or dataset.
    """
    folder = Path(folder)
    run = Run(folder, settings, split, data)
    if (folder / "config.json").is_file():
        _check_same(run)
        return run
    if folder.is_dir() and any(path.name not in BEGUN and not path.name.startswith(".partial_")
                               for path in folder.iterdir()):
        raise UserError(f"{folder}: not empty and not a run folder; choose another --run_dir")
    make_folder(folder)
    write_text(folder / "command.txt", shlex.join(sys.argv) + "\n")
    contents = {"split.json": split, "data.json": data, VERSIONS: {**versions(), MARK: RECORD}}
    with recorded(folder, *contents, "config.json") as paths:  # the config last: a folder with it is complete
        for path, content in zip(paths, contents.values(), strict=False):
            write_text(path, json.dumps(content, indent=2) + "\n")
        save_settings(paths[-1], settings)
    return run


def _check_same(run: Run) -> None:
    settings = load_settings(run.folder / "config.json", run.settings.choices)
    check_files(run.folder)
    changed = differences(settings.config, run.config)
    if changed:
        raise UserError(f"{run.folder}: another configuration ({'; '.join(changed)}); choose another --run_dir")
    split, data = (read_json(run.folder / f"{name}.json", DAMAGED) for name in ("split", "data"))
    of_release_before = isinstance(data, dict) and _complete(data, run.data.get(TRAINED_ON))
    for name, held, found in (("split", split, run.split), ("data", data, run.data)):
        if held != found:
            raise UserError(f"{run.folder}: the run was started with another {name}; choose another --run_dir")
    if not (run.folder / RECORD).exists():
        record_files(run.folder)
    if of_release_before:
        with recorded(run.folder, "data.json") as (path,):
            write_text(path, json.dumps(data, indent=2) + "\n")


def _complete(data: dict, record: dict | None) -> bool:
    """Adds what an earlier version did not record of the training data: all, or ADDED; whether there was any."""
    held = data.get(TRAINED_ON, {})
    if not record or not isinstance(held, dict) or not (missing := record.keys() - held.keys()) or (
            held and missing - ADDED):
        return False
    data[TRAINED_ON] = {**record, **held}
    return True


def read_run(folder: str | os.PathLike, choices: Choices) -> Run:
    """Opens an existing run folder, after a check of every file that `run.json` names.

    Raises:
      UserError: no such folder, or not a run of this system; a file is changed, missing or of another run; the files
        contradict each other.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder; create it by `train/{choices.system}.py --run_dir`")
    settings = load_settings(folder / "config.json", choices)
    check_files(folder)
    split, data = read_split(folder / "split.json"), _read_data(folder / "data.json", settings.config)
    check_split_names(split, data["cases"], f"{folder / 'split.json'}")
    trained = data.get(TRAINED_ON, {}).get("cases", 0)
    if trained > len(split["train"]):
        raise UserError(f"{folder / 'split.json'}: names {len(split['train'])} training cases, and by data.json "
                        f"{trained} were trained on; {DAMAGED}")
    return Run(folder, settings, split, data)


class TrainedOn(TypedDict, total=False):
    """Of the record of `tfsono.training.fingerprint`, what is read here."""

    cases: int


class Data(TypedDict):
    """What the data.json of every run has."""

    dataset: str
    cases: list[str]


class DataOfSome(TypedDict, total=False):
    """What that of some systems has."""

    end_order: EndOrder
    outline_margin_px: float | None
    labels_used: list[str]


def _read_data(path: Path, config) -> dict:
    """The content of data.json, whose labels and landmarks must be those of the config, in the same order."""
    data = read_json(path, DAMAGED)
    check_structure(data, Data, path)
    check_structure(data, DataOfSome, path)
    if not data["dataset"].isprintable():
        raise UserError(f"{path}: the dataset's name must be printable; found {data['dataset'][:80]!r}; {DAMAGED}")
    if TRAINED_ON in data:
        check_structure(data[TRAINED_ON], TrainedOn, path, TRAINED_ON)
        check_ranges(path, data[TRAINED_ON], hasattr(config, "orientation"), DAMAGED)
    for kind, hint in (("labels", dict[str, int]), ("landmarks", list[str])):
        names = getattr(config, f"{kind[:-1]}_names", ())
        if not names:
            continue
        check_structure(data.get(kind), hint, path, kind)
        if tuple(data[kind]) != names:
            raise UserError(f"{path}: {kind} must be those of config.json, {shown(list(names))}; found "
                            f"{shown(list(data[kind]))}; {DAMAGED}")
    check_label_values(data["labels"] if getattr(config, "label_names", ()) else {}, path, DAMAGED)
    return data


def load_weights(run: Run, network: keras.Model, which: str = "auto") -> Path:
    """Loads the run's weights into its network and returns their file.

    Raises:
      UserError: no such weights, no file of weights, those of another network, or not finite.
    """
    path = run.weights(which)
    try:
        check_plain(path)  # Keras allows an array to fill 4 GB of memory from a few bytes
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Skipping")  # a layer that the file lacks
            network.load_weights(path)
    except (*ERRORS, AttributeError, IndexError, UserWarning) as error:
        raise UserError(f"{path}: cannot be loaded as weights of the run's network ({reason(error)}); {DAMAGED}"
                        ) from None
    check_finite(path, network.variables)
    return path


def check_finite(path: str | os.PathLike, variables) -> None:
    """Raises `UserError` where a variable that was read from `path` is NaN or infinite."""
    for variable in variables:
        if not np.isfinite(np.asarray(keras.ops.convert_to_numpy(variable.value), np.float64)).all():
            raise UserError(f"{path}: {variable.path} has NaN or infinite values; {DAMAGED}")


def read_history(path: str | os.PathLike) -> list[dict[str, float]]:
    """The rows of `history.csv`; [] without the file.

    Raises:
      UserError: it is no table of numbers with a column `step`.
    """
    if not Path(path).exists():
        return []
    header, *rows = read_rows(path) or [[]]
    if "step" not in header or len(set(header)) != len(header):
        raise UserError(f"{path}: must have a column step, and each column once; found {shown(header)}; {DAMAGED}")
    return [dict(zip(header, _numbers(path, number, row, len(header)), strict=True))
            for number, row in enumerate(rows, 2)]


def _numbers(path: str | os.PathLike, line: int, row: list[str], count: int) -> list[float]:
    """The numbers of a row; NaN stands for one that is unknown."""
    try:
        values = [int(text) if text.isdecimal() else float(text) for text in row]
        is_finite = not any(map(math.isinf, values))
    except (ValueError, OverflowError):
        values, is_finite = [], False
    if len(values) != count or not is_finite:
        raise UserError(f"{path}: line {line} must have {count} numbers; found {shown(row)}; {DAMAGED}")
    return values
