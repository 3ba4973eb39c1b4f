"""What a system adds to the commands of the demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DemoWords:
    """Words in which {data} stands for the dataset's folder, {runs} for that of the runs.

    Attributes:
      predict: the file that is predicted, and what has to be known of it.
      phantom: where the phantoms of `quick` alone would take minutes.
      train: where `quick`, which is meant for a few hundred real cases, would take minutes.
      before: trainings that the run needs, by their names, with their words.
      evaluate: of the evaluation.
    """

    predict: tuple[str, ...]
    phantom: tuple[str, ...] = ()
    train: tuple[str, ...] = ()
    before: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    evaluate: tuple[str, ...] = ()
