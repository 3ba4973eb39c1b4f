"""Arguments that a system adds to the commands of the demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DemoWords:
    """Arguments; {data} stands for the folder of the dataset, {runs} for that of the runs.

    Attributes:
      predict: the file to predict, and options for it.
      phantom: fewer cases, where those of `quick` would take minutes.
      train: a shorter training, as `quick` is meant for a few hundred real cases.
      before: name -> arguments of trainings that the run needs.
      evaluate: options of the evaluation.
    """

    predict: tuple[str, ...]
    phantom: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    before: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    evaluate: tuple[str, ...] = ()
