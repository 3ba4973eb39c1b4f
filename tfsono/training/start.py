"""What every training begins with: cache, settings, machine and first weights that fit together; then its folder."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from tfsono.config import Choices, Settings, differences, settings_from
from tfsono.data.cache import Cache
from tfsono.data.splits import chosen_split
from tfsono.errors import UserError
from tfsono.files import write_text
from tfsono.training.fit import Schedule, Score, set_seed
from tfsono.training.run import Run, load_weights, open_run, read_run

INITIALISATION = "initialisation.txt"  # in a run folder: where the first weights came from
BEFORE_0_2 = "transfer.txt"  # its name in older runs of hip


@dataclass(frozen=True)
class Start:
    """A training that may begin.

    Attributes:
      cache: open.
      settings: with the cache's names of labels and landmarks.
      run_dir: the run folder, which need not be there yet.
      split_file: of `--split`; None for none.
      kinds: what the networks predict: `labels`, `landmarks`, both, or neither for 2D images.
    """

    cache: Cache
    settings: Settings
    run_dir: Path
    split_file: str | None
    kinds: tuple[str, ...]

    @property
    def config(self):
        return self.settings.config

    def open_run(self, split: dict, report: str, excluded: Sequence[str] = (), data: Mapping | None = None) -> Run:
        """Makes or opens the run folder, and prints what it says. Call it after everything that may refuse.

        Args:
          split: names of cases under `train`, `validation` and `test`.
          report: where the first weights come from, in words.
          excluded: training cases without anything to learn from.
          data: more of what the run was trained on, for data.json.

        Raises:
          UserError: as `tfsono.training.run.open_run`.
        """
        cache = self.cache
        names = {"labels": cache.labels, "landmarks": list(cache.landmarks)}
        held = {"dataset": cache.name, **{kind: names[kind] for kind in self.kinds}, "cases": cache.names}
        run = open_run(self.run_dir, self.settings, split, held | dict(data or {}))
        print(run.summary())
        if excluded:
            print(f"{len(excluded)} training cases have nothing to learn from and are excluded: {', '.join(excluded)}")
        print(report)
        write_text(run.folder / INITIALISATION, f"{report}\n")
        return run


@contextlib.contextmanager
def started(arguments: argparse.Namespace, choices: Choices, kinds: Sequence[str] = ()) -> Iterator[Start]:
    """Opens the cache, checks that settings, cache and machine fit together, and seeds what is drawn from now on.

    Args:
      arguments: of `tfsono.config.training_parser`.
      choices: of the system.
      kinds: as in `Start`.

    Raises:
      UserError: the cache cannot be read, or something does not fit.
    """
    settings = settings_from(arguments, choices)
    with Cache(arguments.data, choices.system) as cache:
        settings = with_names(settings, cache, kinds)
        if kinds:
            check_grid(cache, choices.system, settings.config)
        check_precision(settings.config.precision)
        set_seed(settings.config.seed, settings.config.deterministic)
        yield Start(cache, settings, Path(arguments.run_dir), arguments.split, tuple(kinds))


def split_by_subject(start: Start) -> dict[str, list[str]]:
    """The split of `--split`, else the dataset's own, else one that is drawn at random, by subject.

    Raises:
      UserError: as `tfsono.data.splits.chosen_split`.
    """
    cache, config = start.cache, start.config
    return chosen_split(start.split_file, cache.split, cache.names, cache.subjects, test_cases=config.test_cases,
                        validation_cases=config.validation_cases, seed=config.seed)


def schedule_of(config, score: Score) -> Schedule:
    """How long a training is and when it is recorded, by its config; `score` chooses the best weights."""
    return Schedule(config.steps, config.record_every, config.early_stopping, score)


def with_names(settings: Settings, cache, kinds: Iterable[str]) -> Settings:
    """The settings with the names that the cache has; others than it has are refused.

    Args:
      settings: with fields `label_names` or `landmark_names`.
      cache: open.
      kinds: `labels`, `landmarks`, or both.

    Raises:
      UserError: names were asked for that the cache has not, or not in this order.
    """
    for kind in kinds:
        name, found = f"{kind[:-1]}_names", tuple(getattr(cache, kind))
        asked = getattr(settings.config, name)
        if asked not in ((), found):
            raise UserError(f"--{name} {','.join(asked)}: {cache.path} has {','.join(found) or 'none'}; "
                            "leave the option out")
        settings = settings.replaced(f"the cache's {kind}", **{name: found})
    return settings


def check_grid(cache, system: str, config) -> None:
    """A cache of another spacing or orientation is something else than is asked.

    Raises:
      UserError: it is.
    """
    for name in ("orientation", "spacing_mm"):
        found, wanted = getattr(cache.settings, name), getattr(config, name)
        if found != wanted:
            raise UserError(f"{cache.path}: has {name} {found or 'native'}, the run asks for {wanted or 'native'}; "
                            f"run `tfsono cache {system}` again with --{name}")


def has_gpu() -> bool:
    """Whether TensorFlow sees one."""
    return bool(tf.config.list_physical_devices("GPU"))


def check_precision(precision: str) -> None:
    """What TensorFlow's CPU kernels cannot do.

    Raises:
      UserError: mixed_float16 without a GPU.
    """
    if precision == "mixed_float16" and not has_gpu():
        raise UserError("--precision mixed_float16: needs a GPU, found none; take mixed_bfloat16 or float32")


def resumed(run_dir: Path) -> str:
    """How a run that is resumed was begun, in words; "" for one that begins. Its state is loaded later, by `fit`."""
    return initialisation_of(run_dir) if (run_dir / "state.h5").is_file() else ""


def initialisation_of(run_dir: Path) -> str:
    """Where the first weights of a run came from, in words.

    Raises:
      UserError: the run folder does not say.
    """
    for name in (INITIALISATION, BEFORE_0_2):
        if (run_dir / name).is_file():
            return (run_dir / name).read_text(encoding="utf-8").strip()
    raise UserError(f"{run_dir}: has no {INITIALISATION}; delete the folder and train again")


def load_start(network: keras.Model, path: str, choices: Choices, config, alike: Iterable[str]) -> str:
    """Loads the weights of another run (`--start_from`), and says so in words.

    Args:
      network: that gets the weights.
      path: of the other run.
      choices: of the system.
      config: of this run.
      alike: fields in which the two must agree.

    Raises:
      UserError: not a run of the system, without weights, or other than this run in one of the fields.
    """
    start = read_run(path, choices)
    changed = [line for line in differences(start.config, config) if line.split(":")[0] in set(alike)]
    if changed:
        raise UserError(f"--start_from {path}: of another network or data ({'; '.join(changed)})")
    weights = load_weights(start, network)
    return f"from {weights}, after {start.config.steps} steps on {start.data['dataset']}"


def take_over(network: keras.Model, other: keras.Model) -> list[str]:
    """Gives a network the weights of another one's layers of the same names and shapes.

    Returns:
      The names of its layers that the other has not: they keep what they have.
    """
    kept, values = [], {variable.path: variable for variable in other.variables}
    for variable in network.variables:
        found = values.get(variable.path)
        if found is not None and found.shape == variable.shape:
            variable.assign(found)
        elif (layer := variable.path.split("/")[0]) not in kept:
            kept.append(layer)
    return kept
