"""What the data of a paper are made of. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from collections.abc import Mapping

from tfsono.config import Choices


@dataclass(frozen=True)
class Training:
    """One run, for each seed.

    Attributes:
      name: of its folder, before the seed.
      words: after `tfsono train SYSTEM --data FILE --run_dir DIR --preset NAME`. `{seed}` stands for the seed, `{runs}`
        for the folder of the runs, so `{runs}/brndc_{seed}` for another run of the same seed; `{c3d}` for C3D's
        weights, or the run of the stand-in for them.
      after: names of the trainings that it needs, of the same seed.
      times: `--iterations`, as a multiple of the preset's.
      folds: how many folds it is trained on; 0: on none.
    """

    name: str
    words: tuple[str, ...]
    after: tuple[str, ...] = ()
    times: int = 1
    folds: int = 0


@dataclass(frozen=True)
class Evaluation:
    """One call of `tfsono evaluate`: the runs of its rows, and its options.

    Attributes:
      name: of its folder.
      rows: names of trainings, of which all seeds and folds are measured, or with `_fold0` one of the folds.
      words: options.
    """

    name: str
    rows: tuple[str, ...]
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ordering:
    """A claim of the paper: one row of a table is better than another.

    Attributes:
      place: in the paper.
      better: name of the row that is better there.
      worse: name of the other.
      metric: column of cases.csv.
      values: what the paper prints of both, in its own unit; empty where it prints none.
      higher: whether a higher value is better.
    """

    place: str
    better: str
    worse: str
    metric: str
    values: tuple[float, ...] = ()
    higher: bool = False


@dataclass(frozen=True)
class StandIn:
    """A run in the place of weights that cannot be had: words of its phantoms, and of its training."""

    phantom: tuple[str, ...]
    train: tuple[str, ...]


@dataclass(frozen=True)
class Paper:
    """The reproduction of a paper.

    Attributes:
      choices: its config.
      title: of the paper.
      trainings: the runs of its tables, each after those that it needs.
      evaluations: the calls that measure them.
      orderings: what the paper claims.
      export: the training whose first run is exported.
      controls: further trainings, on demand: what a row must be compared with.
      of_controls: the calls that measure them. Elsewhere they would change the rows' names.
      names: variant -> the row's name in the paper.
      lengths: fields that set the length of a training; all are set for a short try.
      phantom: words for `tfsono phantom`.
      short: words of every training and of the split on phantoms with preset `quick`, for minutes on two CPU cores.
      stand_in: of C3D's weights.
    """

    choices: Choices
    title: str
    trainings: tuple[Training, ...]
    evaluations: tuple[Evaluation, ...]
    orderings: tuple[Ordering, ...]
    export: str
    controls: tuple[Training, ...] = ()
    of_controls: tuple[Evaluation, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    lengths: tuple[str, ...] = ("iterations", "record_every")
    phantom: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    stand_in: StandIn | None = None
