"""A paper and the options of the workflow -> the steps, each with its command and the steps that it needs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tfsono.config import choose
from tfsono.errors import UserError
from tfsono.reproduction.plan import Evaluation, Paper, StandIn, Training

KINDS = ("phantom", "audit", "cache", "split", "train", "evaluate", "export", "report")
STAND_IN = "shapes"


@dataclass(frozen=True)
class Options:
    """What a user chooses.

    Attributes:
      preset: sizes.
      seeds: how many; they are 0, 1, 2, ...
      data: folder of a dataset; "": phantoms.
      cases: of the phantoms; 0: as many as the paper's data have.
      iterations: of every training, for a short try; 0: the preset's.
      train: further words of every training.
      controls: whether the controls are trained too.
      c3d: file of C3D's weights, for `hip`; "": a stand-in.
    """

    preset: str = "quick"
    seeds: int = 1
    data: str = ""
    cases: int = 0
    iterations: int = 0
    train: tuple[str, ...] = ()
    controls: bool = False
    c3d: str = ""

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("cases", 0), ("iterations", 0)):
            if not least <= getattr(self, name) <= 10**6:
                raise UserError(f"{name.upper()}={getattr(self, name)}: expected {least} or more")
        if self.data and not os.path.isdir(self.data):
            raise UserError(f"DATA={self.data}: must be the folder of a dataset; found none")
        if self.data and self.cases:
            raise UserError(f"CASES={self.cases}: counts phantoms, and DATA was given; omit one of them")


@dataclass(frozen=True)
class Step:
    """A command of the workflow; its paths are relative to the output folder.

    Attributes:
      kind: one of `KINDS`.
      name: unique in its kind.
      words: the command; the first word is `tfsono`, or a script of this project.
      needs: `kind/name` of other steps.
      makes: the file or folder that is removed before a changed step runs again; "": it replaces what changed itself.
      key: changes with the command and with all that it needs.
    """

    kind: str
    name: str
    words: tuple[str, ...]
    needs: tuple[str, ...] = ()
    makes: str = ""
    key: str = ""

    @property
    def place(self) -> str:
        return f"{self.kind}/{self.name}"


def steps_of(paper: Paper, options: Options) -> list[Step]:
    """All steps, each after those that it needs.

    Raises:
      UserError: `c3d` for a system that has no such weights, or a preset or words that no training takes.
    """
    if options.c3d and not paper.stand_in:
        raise UserError(f"C3D={options.c3d}: only for hip, found {paper.choices.system}; omit it")
    config = choose(paper.choices, options.preset, next(iter(paper.choices.variants)),
                    as_values(_common(paper, options))).config  # refuses wrong words before anything runs
    trainings = paper.trainings + paper.controls * options.controls
    evaluations = paper.evaluations + paper.of_controls * options.controls
    iterations = getattr(config, "iterations", 0)
    runs = [run for seed in range(options.seeds) for training in trainings for run in _runs(training, seed)]
    stand_in = [] if options.c3d or not paper.stand_in else _stand_in_steps(paper.stand_in, paper, options)
    steps = [*_data_steps(paper, options), *stand_in,
             *(_train_step(run, paper, options, iterations) for run in runs),
             *(_evaluate_step(one, runs, paper) for one in evaluations)]
    steps += _last_steps(paper, runs, evaluations)
    return _with_keys(steps, _state_of(options.data))


@dataclass(frozen=True)
class _Run:
    """A training with one seed, and of a fold."""

    training: Training
    row: str
    seed: int
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.row}_{self.seed}"


def _runs(training: Training, seed: int) -> list[_Run]:
    words = ("--seed", str(seed))
    if not training.folds:
        return [_Run(training, training.name, seed, words)]
    return [_Run(training, f"{training.name}_fold{fold}", seed, (*words, "--fold", str(fold)))
            for fold in range(training.folds)]


def _data_steps(paper: Paper, options: Options) -> list[Step]:
    """The phantoms or the user's dataset, their audit, the cache, and the one split of all runs."""
    system, dataset, steps = paper.choices.system, options.data or "dataset", []
    if not options.data:
        cases = ("--cases", str(options.cases)) * (options.cases > 0)  # after the paper's own: the last one counts
        steps = [_phantom_step(system, dataset, options.preset, (*paper.phantom, *cases))]
    needs = tuple(step.place for step in steps)
    audit = Step("audit", system, ("tfsono", "audit", dataset, "--out", "audit"), needs, "audit")
    cache = _cache_step(system, system, dataset, options.preset, needs=(audit.place,),
                        words=("--audit", "audit/audit.json"))
    split = Step("split", system, ("workflow/split.py", system, f"{system}.h5", "split.json", "--preset",
                                   options.preset, *_common(paper, options)), (cache.place,), "split.json")
    return [*steps, audit, cache, split]


def _phantom_step(name: str, folder: str, preset: str, words: Sequence[str]) -> Step:
    return Step("phantom", name, ("tfsono", "phantom", name, folder, "--preset", preset, *words), (), folder)


def _cache_step(name: str, system: str, folder: str, preset: str, needs: tuple[str, ...], words: Sequence[str] = ()
                ) -> Step:
    return Step("cache", name, ("tfsono", "cache", system, folder, f"{name}.h5", "--preset", preset, "--verify",
                                *words), needs, f"{name}.h5")


def _stand_in_steps(stand_in: StandIn, paper: Paper, options: Options) -> list[Step]:
    """A run on simple shapes, whose encoder takes the place of C3D's."""
    system, folder, run = paper.choices.system, "shapes", f"runs/{STAND_IN}"
    phantom = _phantom_step(STAND_IN, folder, options.preset, stand_in.phantom)
    cache = _cache_step(STAND_IN, system, folder, options.preset, (phantom.place,))
    words = ("tfsono", "train", system, "--data", f"{STAND_IN}.h5", "--run_dir", run, "--preset", options.preset,
             *stand_in.train, *_cut(paper, options))
    return [phantom, cache, Step("train", STAND_IN, words, (cache.place,), run)]


def _common(paper: Paper, options: Options) -> tuple[str, ...]:
    """The words that all runs of the tables share; where runs share them, their rows do not name them."""
    short = () if options.data or options.preset != "quick" else paper.short
    return (*short, *_cut(paper, options), *options.train)


def _cut(paper: Paper, options: Options) -> tuple[str, ...]:
    """The words that make a training short: all its lengths alike, so that records divide them."""
    return tuple(word for name in paper.lengths * (options.iterations > 0)
                 for word in (f"--{name}", str(options.iterations)))


def _train_step(run: _Run, paper: Paper, options: Options, iterations: int) -> Step:
    system, training, common = paper.choices.system, run.training, _common(paper, options)
    c3d, needs = options.c3d, [f"cache/{system}", f"split/{system}", *(f"train/{name}_{run.seed}"
                                                                    for name in training.after)]
    if paper.stand_in and not c3d and "{c3d}" in training.words:
        c3d = f"runs/{STAND_IN}"
        needs.append(f"train/{STAND_IN}")
    own = [word.format(runs="runs", seed=run.seed, c3d=c3d) for word in training.words]
    longer = ("--iterations", str(training.times * iterations)) if training.times > 1 else ()
    words = ("tfsono", "train", system, "--data", f"{system}.h5", "--run_dir", f"runs/{run.name}", "--preset",
             options.preset, "--split", "split.json", *common, *own, *longer, *run.words)
    return Step("train", run.name, words, tuple(needs), f"runs/{run.name}")


def as_values(words: Sequence[str]) -> dict[str, str]:
    """`--FIELD VALUE --FIELD VALUE` as a dictionary; of a field that comes twice the last value.

    Raises:
      UserError: other words.
    """
    names, values = words[::2], words[1::2]
    if len(names) != len(values) or not all(name.startswith("--") for name in names):
        raise UserError(f"TRAIN={' '.join(words)[:80]!r}: expected pairs --FIELD VALUE")
    return {name.removeprefix("--"): value for name, value in zip(names, values, strict=True)}


def _evaluate_step(evaluation: Evaluation, runs: Sequence[_Run], paper: Paper) -> Step:
    system = paper.choices.system
    names = [run.name for row in evaluation.rows for run in runs if row in (run.training.name, run.row)]
    words = ("tfsono", "evaluate", system, "--data", f"{system}.h5", "--runs", *(f"runs/{name}" for name in names),
             "--out", f"results/{evaluation.name}", *evaluation.words)
    return Step("evaluate", evaluation.name, words, tuple(f"train/{name}" for name in names))


def _last_steps(paper: Paper, runs: Sequence[_Run], evaluations: Sequence[Evaluation]) -> list[Step]:
    """The SavedModel, and the page on all evaluations."""
    system = paper.choices.system
    exported = next(run.name for run in runs if run.training.name == paper.export)
    export = Step("export", system, ("tfsono", "export", f"runs/{exported}", "saved_model"), (f"train/{exported}",),
                  "saved_model")
    names = [one.name for one in evaluations]
    report = Step("report", system, ("workflow/report.py", system, *names),
                  (*(f"evaluate/{name}" for name in names), export.place))
    return [export, report]


def _with_keys(steps: Iterable[Step], data: str) -> list[Step]:
    """The steps with their keys; `data` is the state of the user's dataset."""
    keys: dict[str, str] = {}
    found = []
    for step in steps:
        content = json.dumps([step.words, data, [keys[place] for place in step.needs]])
        keys[step.place] = hashlib.sha256(content.encode()).hexdigest()[:16]
        found.append(replace(step, key=keys[step.place]))
    return found


def _state_of(folder: str) -> str:
    """Changes with the names, sizes and dates of the files of a dataset."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file()) if folder else []
    state = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps(state).encode()).hexdigest() if folder else ""
