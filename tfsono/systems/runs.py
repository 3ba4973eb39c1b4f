"""Run folders -> networks with their weights; whether runs can form an ensemble; runs that keep a copy of another."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tfsono.config import Choices
from tfsono.errors import UserError
from tfsono.files import make_folder

if TYPE_CHECKING:
    import keras
    import numpy as np

    from tfsono.geometry.body_frame import BodyFrame
    from tfsono.training.run import Run

OF_A_COPY = ("config.json", "data.json", "split.json")
FINDER = "finder"  # folder of the finder's run in a run whose network sees bodies in their frame


def read_runs(folders: Sequence[str | os.PathLike], choices: Choices, precision: str = "") -> list[Run]:
    """The runs of a system; `precision` replaces theirs.

    Raises:
      UserError: not a run folder.
    """
    from tfsono.training.run import read_run

    return with_precision([read_run(folder, choices) for folder in folders], precision)


def with_precision(runs: Sequence[Run], precision: str) -> list[Run]:
    """The runs with the precision that was asked for; "" leaves theirs."""
    if not precision:
        return list(runs)
    return [dataclasses.replace(run, settings=run.settings.replaced("--precision", precision=precision))
            for run in runs]


def with_values(runs: Sequence[Run], values: Mapping[str, object]) -> list[Run]:
    """The runs with other values of fields that change no weight."""
    if not values:
        return list(runs)
    return [dataclasses.replace(run, settings=run.settings.set_at_test(values)) for run in runs]


def networks_of(runs: Sequence[Run], build: Callable, which: str = "auto", fold: bool = False,
                startable: bool = False) -> list[keras.Model]:
    """The network of each run with its weights.

    Args:
      runs: of one system.
      build: config -> network.
      which: `best`, `last`, or `auto`, the best if there was validation.
      fold: for networks that only predict: moving statistics are folded into the convolutions.
      startable: a training can start from the folded network where it is exported.

    Raises:
      UserError: a run without weights.
    """
    from tfsono.layers.folding import folded
    from tfsono.training.run import load_weights

    networks = []
    for run in runs:
        network = build(run.config)
        load_weights(run, network, which)
        networks.append(folded(network, startable) if fold else network)
    return networks


def check_agree(runs: Sequence[Run], names: Sequence[str]) -> None:
    """Raises `UserError` for a run that differs from the first one in one of these fields of its config."""
    first = runs[0]
    for run in runs[1:]:
        for name in names:
            found, wanted = getattr(run.config, name), getattr(first.config, name)
            if found != wanted:
                raise UserError(f"{run.folder}: {name} {found}, and {first.folder} has {wanted}; "
                                "only runs that agree in it can form an ensemble")


def check_first(first: Run, split: dict[str, list[str]], option: str) -> None:
    """Raises `UserError` for a first network without weights, or trained on cases that are tested here."""
    first.weights()
    seen = sorted(set(first.split["train"]) & set(split["test"]))
    if seen:
        raise UserError(f"{option} {first.folder}: was trained on {seen[0]}, a test case here; train both with one "
                        "--split")


def adopt_finder(run: Run, choices: Choices) -> None:
    """Copies the run of `--finder_run` into the folder of the run, unless it is there already.

    Raises:
      UserError: a run of other landmarks, without weights, or trained on cases that this run tests.
    """
    if run.config.frame != "volume" and not has_copy(run, FINDER):
        keep_copy(checked_finder(run.config, run.split, choices), run, FINDER)


def checked_finder(config, split: dict[str, list[str]], choices: Choices) -> Run:
    """The run of the finder; raises as `adopt_finder`, and where none is given."""
    if not config.finder_run:
        raise UserError(f"--frame {config.frame}: needs a network that finds the midline; give the run folder of "
                        "--variant finder as --finder_run")
    (finder,) = read_runs([config.finder_run], choices)
    if finder.config.frame != "volume" or any(getattr(finder.config, name) != getattr(config, name)
                                              for name in ("landmark_names", "orientation")):
        raise UserError(f"--finder_run {config.finder_run}: expected a run of --frame volume with this run's landmarks "
                        "and orientation; train it with --variant finder on the same cache")
    check_first(finder, split, "--finder_run")
    return finder


def frame_around(points_mm: np.ndarray, names: Sequence[str], midline: Sequence[str], config) -> BodyFrame:
    """The frame of the bodies [N, K, 3] that have all landmarks of the midline.

    Raises:
      UserError: there is no midline, or no body has all of it.
    """
    import numpy as np

    from tfsono.geometry.body_frame import body_frame

    places = [names.index(name) for name in midline if name in names]
    whole = np.isfinite(points_mm[:, places]).all((1, 2))
    if len(places) < len(midline) or not whole.any():
        raise UserError(f"--frame {config.frame}: needs a training case with the landmarks {', '.join(midline)}; found "
                        "none; leave the option out")
    return body_frame(points_mm[whole], places, config.frame_margin_mm)


def finder_in_manifest(run: Run, choices: Choices, frame: Callable[[], BodyFrame]) -> dict:
    """The settings of the finder and the frame's box; {} for a network that sees the volume as it lies."""
    if run.config.frame == "volume":
        return {}
    (finder,) = copy_of(run, FINDER, choices)
    return {"frame_sides_mm": frame().sides_mm.round(3).tolist(),
            "finder": {"spacing_mm": list(finder.config.spacing_mm), "ratio": finder.config.ratio}}


def check_one_frame(runs: Sequence[Run]) -> None:
    """Raises `UserError` for runs whose frames differ, as their training cases do."""
    for run in runs[1:] if runs[0].config.frame != "volume" else ():
        if run.split["train"] != runs[0].split["train"]:
            raise UserError(f"{run.folder}: has other training cases than {runs[0].folder}, and so another frame of "
                            "the body; train both with one --split")


def keep_copy(first: Run, run: Run, name: str) -> None:
    """Copies what a prediction needs of a run into the folder `name` of another run, which then needs no other folder.
    """
    from tfsono.training.record import recorded

    make_folder(run.folder / name)
    files = [first.weights().name, *reversed(OF_A_COPY)]  # the config last: it marks the folder as complete
    with recorded(run.folder, *(f"{name}/{file}" for file in files)) as paths:
        for file, path in zip(files, paths, strict=True):
            shutil.copyfile(first.folder / file, path)


def has_copy(run: Run, name: str) -> bool:
    """Whether a run keeps a copy of another one in its folder `name`."""
    return (run.folder / name / "config.json").is_file()


def copy_of(run: Run, name: str, choices: Choices, precision: str = "") -> list[Run]:
    """The run of which a run keeps a copy, with what was set for that after its training."""
    (first,) = read_runs([run.folder / name], choices, precision)
    return [dataclasses.replace(first, settings=first.settings.set_at_test(run.settings.at_test))]
