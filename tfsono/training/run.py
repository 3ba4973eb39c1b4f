"""The folder of a run: its settings, versions, split and data; made once, and checked when the run is resumed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from pathlib import Path

import keras
import tensorflow as tf

import tfsono
from tfsono.config import Choices, Settings, differences, load_settings, save_settings
from tfsono.errors import UserError
from tfsono.files import make_folder, read_json, read_rows, write_text
from tfsono.locks import LOCK
from tfsono.training.fingerprint import TRAINED_ON

DAMAGED = "delete its folder and train again"
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
    """

    folder: Path
    settings: Settings
    split: dict[str, list[str]]
    data: dict

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
            if path.is_file():
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
    if folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise UserError(f"{folder}: not empty and not a run folder; choose another --run_dir")
    make_folder(folder)
    write_text(folder / "split.json", json.dumps(split, indent=2) + "\n")
    write_text(folder / "data.json", json.dumps(data, indent=2) + "\n")
    write_text(folder / "versions.json", json.dumps(versions(), indent=2) + "\n")
    write_text(folder / "command.txt", shlex.join(sys.argv) + "\n")
    save_settings(folder / "config.json", settings)  # last: a folder with it is complete
    return run


def _check_same(run: Run) -> None:
    changed = differences(load_settings(run.folder / "config.json", run.settings.choices).config, run.config)
    if changed:
        raise UserError(f"{run.folder}: another configuration ({'; '.join(changed)}); choose another --run_dir")
    split, data = (read_json(run.folder / f"{name}.json", DAMAGED) for name in ("split", "data"))
    of_release_before = TRAINED_ON in run.data and TRAINED_ON not in data
    if of_release_before:
        data[TRAINED_ON] = run.data[TRAINED_ON]
    for name, held, found in (("split", split, run.split), ("data", data, run.data)):
        if held != found:
            raise UserError(f"{run.folder}: the run was started with another {name}; choose another --run_dir")
    if of_release_before:
        write_text(run.folder / "data.json", json.dumps(data, indent=2) + "\n")


def read_run(folder: str | os.PathLike, choices: Choices) -> Run:
    """Opens an existing run folder.

    Raises:
      UserError: no such folder, or not a run of this system.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder; create it by `train/{choices.system}.py --run_dir`")
    settings = load_settings(folder / "config.json", choices)
    return Run(folder, settings, read_json(folder / "split.json", DAMAGED), read_json(folder / "data.json", DAMAGED))


def load_weights(run: Run, network: keras.Model, which: str = "auto") -> Path:
    """Loads the run's weights into its network and returns their file."""
    path = run.weights(which)
    network.load_weights(path)
    return path


def read_history(path: str | os.PathLike) -> list[dict[str, float]]:
    """The rows of `history.csv`; [] without the file."""
    if not Path(path).is_file():
        return []
    header, *rows = read_rows(path)
    return [dict(zip(header, map(float, row), strict=True)) for row in rows]
