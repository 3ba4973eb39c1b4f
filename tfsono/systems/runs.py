"""Run folders -> networks with their weights, and whether runs can form an ensemble."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tfsono.config import Choices
from tfsono.errors import UserError

if TYPE_CHECKING:
    import keras

    from tfsono.training.run import Run


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


def networks_of(runs: Sequence[Run], build: Callable, which: str = "auto", fold: bool = False) -> list[keras.Model]:
    """The network of each run with its weights: `best`, `last`, or `auto`, the best if there was validation.

    `fold` for networks that only predict: moving statistics are folded into the convolutions.

    Raises:
      UserError: a run without weights.
    """
    from tfsono.layers.folding import folded
    from tfsono.training.run import load_weights

    networks = []
    for run in runs:
        network = build(run.config)
        load_weights(run, network, which)
        networks.append(folded(network) if fold else network)
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
