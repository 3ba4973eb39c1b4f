"""The start of every training: checks that cache, settings, machine and first weights fit, then the run folder."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import keras
import tensorflow as tf

from tfsono.config import Choices, Settings, differences, settings_from
from tfsono.data.cache import Cache
from tfsono.data.splits import chosen_split
from tfsono.errors import UserError
from tfsono.files import read_text, write_text
from tfsono.locks import locked
from tfsono.training.distribute import replicated, strategy_scope
from tfsono.training.fingerprint import TRAINED_ON, fingerprint_of_images, fingerprint_of_volumes
from tfsono.training.fit import Measured, Schedule, Score, set_seed
from tfsono.training.log import logged
from tfsono.training.memory import Needs, check_fits, needs_of
from tfsono.training.record import recorded
from tfsono.training.run import Run, load_weights, open_run, read_run

INITIALISATION = "initialisation.txt"  # in a run folder: the origin of the first weights
BEFORE_0_2 = "transfer.txt"  # its name in older runs of hip


@dataclass(frozen=True)
class Start:
    """A training whose settings fit its cache.

    Attributes:
      cache: open.
      settings: with the cache's names of labels and landmarks.
      run_dir: the run folder, which need not exist yet.
      split_file: of `--split`, or None.
      kinds: of predictions: `labels`, `landmarks`, both, or neither for 2D images.
      until_the_end: takes what ends with the training: the lock of the run folder.
      force: of `--force`.
      dry_run: of `--dry_run`: `run_dir` is a temporary folder.
      needs: what was announced.
    """

    cache: Cache
    settings: Settings
    run_dir: Path
    split_file: str | None
    kinds: tuple[str, ...]
    until_the_end: contextlib.ExitStack
    force: bool = False
    dry_run: bool = False
    needs: list[Needs] = field(default_factory=list)

    @property
    def config(self):
        return self.settings.config

    def built(self, build: Callable[[object], keras.Model]) -> keras.Model:
        """The network of the config, with the statistics of all replicas where there are several."""
        return replicated(build(self.config))

    def announce(self, network: keras.Model, sizes: Iterable[tuple[str, Sequence[int]]]) -> keras.Model:
        """Prints what memory and time the training takes; returns the network.

        Call it before `open_run`, so that no folder is left.

        Nothing is printed of a training that is finished.

        Args:
          network: built, or its trainer.
          sizes: the settings and shape of the network's input: of this training, then of smaller ones, the nearest
            first, as their options are written.

        Raises:
          UserError: the memory does not suffice, unless `force`.
        """
        if (self.run_dir / "finished.json").is_file():
            return network
        sizes = iter(sizes)
        needs = needs_of(network, next(sizes)[1], self.config.steps)
        if not self.force:
            check_fits(needs, network, sizes)
        print(needs.line())
        self.needs.append(needs)
        return network

    def open_run(self, split: dict, report: str, excluded: Sequence[str] = (), data: Mapping | None = None,
                 circumferences_mm: Mapping[str, float | None] | None = None) -> Run:
        """Creates or opens the run folder, locks it, and prints its summary; its log begins. Call it after all checks.

        Args:
          split: names of cases under `train`, `validation` and `test`.
          report: the origin of the first weights, in one line.
          excluded: training cases without a reference.
          data: more entries of data.json.
          circumferences_mm: of the heads in 2D images, None where unknown.

        Raises:
          UserError: as `tfsono.training.run.open_run`, or another process writes the folder.
        """
        cache, trained = self.cache, [name for name in split["train"] if name not in excluded]
        for name in (*split["train"], *split["validation"]):
            cache.check(name)  # here, as TensorFlow buries the errors of its input pipelines
        names = {"labels": cache.labels, "landmarks": list(cache.landmarks)}
        held = {"dataset": cache.name, **{kind: names[kind] for kind in self.kinds}, "cases": cache.names}
        held[TRAINED_ON] = (fingerprint_of_volumes(cache, trained) if self.kinds else
                            fingerprint_of_images(cache, trained, circumferences_mm or {}))
        self.until_the_end.enter_context(locked(self.run_dir))
        run = open_run(self.run_dir, self.settings, split, held | dict(data or {}))
        if self.dry_run:
            run = replace(run, dry=self.needs[-1])
        self.until_the_end.enter_context(logged(run.folder))
        print(run.summary())
        if excluded:
            print(f"{len(excluded)} training cases without a reference are excluded: {', '.join(excluded)}")
        print(report)
        with recorded(run.folder, INITIALISATION) as (path,):
            write_text(path, f"{report}\n")
        return run


@contextlib.contextmanager
def started(arguments: argparse.Namespace, choices: Choices, kinds: Sequence[str] = ()) -> Iterator[Start]:
    """Opens the cache, checks that settings, cache and machine fit, and seeds the random generators.

    Args:
      arguments: of `tfsono.config.training_parser`.
      choices: of the system.
      kinds: as in `Start`.

    Raises:
      UserError: the cache cannot be read, or does not fit.
    """
    settings = settings_from(arguments, choices)
    with Cache(arguments.data, choices.system) as cache, contextlib.ExitStack() as until_the_end:
        settings = with_names(settings, cache, kinds)
        if kinds:
            check_grid(cache, choices.system, settings.config)
        check_precision(settings.config.precision)
        set_seed(settings.config.seed, settings.config.deterministic)
        run_dir = Path(arguments.run_dir)
        if arguments.dry_run:
            run_dir = Path(until_the_end.enter_context(tempfile.TemporaryDirectory()), "run")
        if getattr(arguments, "strategy", ""):
            until_the_end.enter_context(strategy_scope(settings.config.batch, settings.config.precision))
        with contextlib.suppress(Measured):
            yield Start(cache, settings, run_dir, arguments.split, kinds=tuple(kinds), until_the_end=until_the_end,
                        force=arguments.force, dry_run=arguments.dry_run)


def split_by_subject(start: Start) -> dict[str, list[str]]:
    """The split of `--split`, else the dataset's own, else a random one by subject.

    Raises:
      UserError: as `tfsono.data.splits.chosen_split`.
    """
    cache, config = start.cache, start.config
    return chosen_split(start.split_file, cache.split, cache.names, cache.subjects, test_cases=config.test_cases,
                        validation_cases=config.validation_cases, seed=config.seed)


def schedule_of(config, score: Score) -> Schedule:
    """The schedule of a config; `score` selects the best weights."""
    return Schedule(config.steps, config.record_every, config.early_stopping, score)


def with_names(settings: Settings, cache, kinds: Iterable[str]) -> Settings:
    """The settings with the cache's names of labels and landmarks.

    Args:
      settings: with fields `label_names` or `landmark_names`.
      cache: open.
      kinds: `labels`, `landmarks`, or both.

    Raises:
      UserError: the settings have other names, or another order, than the cache.
    """
    for kind in kinds:
        name, found = f"{kind[:-1]}_names", tuple(getattr(cache, kind))
        given = getattr(settings.config, name)
        if given not in ((), found):
            raise UserError(f"--{name} {','.join(given)}: {cache.path} has {','.join(found) or 'none'}; "
                            "leave the option out")
        settings = settings.replaced(f"the cache's {kind}", **{name: found})
    return settings


def check_grid(cache, system: str, config) -> None:
    """Raises `UserError` unless the cache has the config's spacing and orientation.
    """
    for name in ("orientation", "spacing_mm"):
        found, wanted = getattr(cache.settings, name), getattr(config, name)
        if found != wanted:
            raise UserError(f"{cache.path}: {name} is {found or 'native'}, the run's {wanted or 'native'}; "
                            f"run `tfsono cache {system}` again with --{name}")


def check_validation_labels(cache, names: Sequence[str]) -> None:
    """Raises `UserError` for validation cases of which none has a label: their Dice is no number."""
    if names and not any(len(voxels) for name in names for voxels in cache.foreground(name).values()):
        raise UserError(f"{cache.path}: validation needs a case with a label, and the {len(names)} of the split have "
                        "none; give a --split with others, or --validation_cases 0")


def has_gpu() -> bool:
    """Whether TensorFlow sees one."""
    return bool(tf.config.list_physical_devices("GPU"))


def check_precision(precision: str) -> None:
    """Raises `UserError` for mixed_float16 without a GPU, as TensorFlow has no CPU kernels for it."""
    if precision == "mixed_float16" and not has_gpu():
        raise UserError("--precision mixed_float16: needs a GPU, found none; use mixed_bfloat16 or float32")


def resumed(run_dir: Path) -> str:
    """The origin of a resumed run's first weights; "" for a new run. `fit` loads the state later."""
    return initialisation_of(run_dir) if (run_dir / "state.h5").exists() else ""


def initialisation_of(run_dir: Path) -> str:
    """The origin of a run's first weights, in one line.

    Raises:
      UserError: the run folder does not record it.
    """
    for name in (INITIALISATION, BEFORE_0_2):
        if (run_dir / name).exists():
            lines = read_text(run_dir / name).strip().splitlines()
            if len(lines) != 1 or not lines[0].isprintable():
                raise UserError(f"{run_dir / name}: must be one line of text; found {len(lines)}; delete the folder "
                                "and train again")
            return lines[0]
    raise UserError(f"{run_dir}: no {INITIALISATION}; delete the folder and train again")


def load_start(network: keras.Model, path: str, choices: Choices, config, alike: Iterable[str]) -> str:
    """Loads the weights of another run (`--start_from`), and reports it in one line.

    Args:
      network: to be loaded.
      path: of the other run.
      choices: of the system.
      config: of this run.
      alike: fields that must be equal in the two.

    Raises:
      UserError: not a run of the system, without weights, or with another value of such a field.
    """
    start = read_run(path, choices)
    changed = [line for line in differences(start.config, config) if line.split(":")[0] in set(alike)]
    if changed:
        raise UserError(f"--start_from {path}: of another network or data ({'; '.join(changed)})")
    weights = load_weights(start, network)
    return f"from {weights}, after {start.config.steps} steps on {start.data['dataset']}"


def copy_weights(network: keras.Model, other: keras.Model) -> list[str]:
    """Copies the weights of another network's layers of the same names and shapes.

    Returns:
      The names of the layers that are not copied and keep their weights.
    """
    kept, values = [], {variable.path: variable for variable in other.variables}
    for variable in network.variables:
        found = values.get(variable.path)
        if found is not None and found.shape == variable.shape:
            variable.assign(found)
        elif (layer := variable.path.split("/")[0]) not in kept:
            kept.append(layer)
    return kept
