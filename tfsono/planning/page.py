"""A plan as the JSON that `train --plan` reads, and as text for its user."""

from __future__ import annotations

import json
import os
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from tfsono.files import write_text
from tfsono.planning.draft import Draft, Training
from tfsono.planning.facts import Facts
from tfsono.progress import clock


@dataclass(frozen=True)
class Measured:
    """A few steps of a training: seconds of each, GiB at most, and their precision."""

    step_s: float
    peak_gib: float
    precision: str


@dataclass(frozen=True)
class Planned:
    """A complete plan.

    Attributes:
      system: that it is of.
      source: the dataset or the cache.
      facts: that it follows from.
      draft: with the numbers of steps.
      measured: of each training.
      minutes, memory_gb: that were asked for.
    """

    system: str
    source: str
    facts: Facts
    draft: Draft
    measured: tuple[Measured, ...]
    minutes: float
    memory_gb: float


def write_plan(path: str | os.PathLike, plan: Planned) -> None:
    """Writes plan.json."""
    trainings = [{"run": one.run, "preset": one.preset, "variant": one.variant,
                  "values": {name: {"value": value, "reason": reason} for name, (value, reason) in one.values.items()},
                  "words": list(one.words), "step_s": found.step_s, "peak_gib": found.peak_gib}
                 for one, found in zip(plan.draft.trainings, plan.measured, strict=True)]
    content = {"system": plan.system, "dataset": os.path.basename(os.path.normpath(plan.source)),
               "facts": plan.facts.lines(), "subjects": plan.facts.subjects, "minutes": plan.minutes,
               "memory_gb": plan.memory_gb, "spacing_mm": list(plan.draft.spacing_mm), "trainings": trainings,
               "warnings": list(plan.draft.warnings)}
    write_text(path, json.dumps(content, indent=2) + "\n")


def text_of(plan: Planned, file: str | None) -> str:
    """The plan for its user; `file` is where it was written."""
    lines = [f"{plan.system}: a plan for {plan.source}", *(f"  {line}" for line in plan.facts.lines())]
    seconds = 0.0
    for training, found in zip(plan.draft.trainings, plan.measured, strict=True):
        steps = training.values[training.steps][0]
        seconds += steps * found.step_s
        lines += ["", f"training {training.run}: --preset {training.preset} --variant {training.variant}; {steps} "
                      f"steps of {found.step_s:.2g} s, {found.peak_gib:.1f} GiB at most (both measured here)"]
        for name, (value, reason) in training.values.items():
            lines += textwrap.wrap(reason, 110, initial_indent=f"  --{name} {written(value)}".ljust(42) + " ",
                                   subsequent_indent=" " * 43, break_on_hyphens=False, break_long_words=False)
    lines += ["", *(f"warning: {line}" for line in plan.draft.warnings)]
    lines += [f"all trainings: {clock(seconds)} of steps, at most {max(one.peak_gib for one in plan.measured):.1f} GiB "
              f"(--minutes {plan.minutes:g}, --memory_gb {plan.memory_gb:g})", ""]
    return "\n".join([*lines, *commands_of(plan, file)])


def commands_of(plan: Planned, file: str | None) -> list[str]:
    """The command lines, from the dataset to the export."""
    name, last = plan.system, plan.draft.trainings[-1].run
    cache = plan.source if plan.facts.cached else f"{name}.h5"
    lines = []
    if not plan.facts.cached:
        spacing = ["--spacing_mm", written(plan.draft.spacing_mm)] if plan.draft.spacing_mm else []
        lines.append(["tfsono", "audit", plan.source])
        lines.append(["tfsono", "cache", name, plan.source, cache, *spacing])
    for training in plan.draft.trainings:
        lines.append(train_words(name, training, cache, "runs", file))
    if plan.facts.subjects > 1:  # else there is no test case
        lines.append(["tfsono", "evaluate", name, "--data", cache, "--runs", f"runs/{last}", "--out", "results"])
    lines.append(["tfsono", "export", f"runs/{last}", "saved_model"])
    return [shlex.join(words) for words in lines]


def train_words(name: str, training: Training, cache: str, runs: str, file: str | None) -> list[str]:
    """The command of a training, by the plan's file or by options."""
    words = ["tfsono", "train", name, "--data", cache, "--run_dir", f"{runs}/{training.run}"]
    words += ["--plan", file] if file else ["--preset", training.preset]
    words += ["--variant", training.variant]
    words += [] if file else options_of(training)
    return [*words, *(word.format(runs=runs) for word in training.words)]


def options_of(training: Training) -> list[str]:
    """The values as options of the command line; () is every field's default."""
    given = {name: value for name, (value, _) in training.values.items() if value != ()}
    return [word for name, value in given.items() for word in (f"--{name}", written(value))]


def written(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value)) or '""'
    return str(value).lower() if isinstance(value, bool) else str(value)
