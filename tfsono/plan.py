"""`tfsono plan`: a dataset or a cache -> settings with their reasons, measured on this machine, and the commands.

The rules of `tfsono.planning` propose settings whose step has at most so many voxels; `tfsono train --dry_run`, a fresh
process, measures a few steps on some of the cases. Where they take more memory than there is, or too few of them fit
into the minutes, the voxels are reduced in proportion and the rules asked again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from tfsono.doctor import BFLOAT16, probe_cpu_flags
from tfsono.errors import UserError
from tfsono.progress import say
from tfsono.surroundings import probe_gpu_memory
from tfsono.systems import system

if TYPE_CHECKING:
    from tfsono.data.layout import Dataset
    from tfsono.planning.draft import Training
    from tfsono.planning.facts import Facts
    from tfsono.planning.page import Measured, Planned

READ = 16  # cases of a dataset that are read
MEASURED = 3  # of them, the largest ones, on which steps are measured
TRIES = 3
FROM_ANY_CASE = ("--test_cases", "0", "--force", "--dry_run")


@dataclass(frozen=True)
class Wanted:
    """What a plan may take.

    Attributes:
      minutes: of all trainings.
      memory_gb: of a training.
      devices: `cpu`, `gpu`, or `auto`: the GPU where there is one.
    """

    minutes: float = 30.0
    memory_gb: float = 12.0
    devices: str = "auto"


def plan(name: str, source: str, wanted: Wanted, out: str | None = None) -> Planned:
    """The plan of a system for a dataset's folder or a cache; prints it, and writes `out`.

    Raises:
      UserError: `source` is neither, or has nothing that the system learns from.
    """
    from tfsono.planning.page import text_of, write_plan

    one = system(name)
    if wanted.devices == "gpu" and math.isinf(probe_gpu_memory()):
        raise UserError("--devices gpu: a plan is measured on the machine that trains, and nvidia-smi finds no GPU")
    with tempfile.TemporaryDirectory() as place, opened(one, source, Path(place)) as material:
        check_material(name, material.facts)
        found = measured_plan(one, material, wanted, source)
    if out:
        write_plan(out, found)
    print(text_of(found, out))
    return found


def check_material(name: str, facts: Facts) -> None:
    """Raises `UserError` where there is nothing to learn from."""
    needed = {"hip": "masks", "femur": "masks or landmarks", "pose": "landmarks", "face": "landmarks",
              "head": "masks or landmarks"}[name]
    has = {"masks": any(len(volumes) for volumes in facts.labels_ml.values()), "landmarks": bool(facts.landmarks)}
    if not any(has[kind] for kind in needed.split(" or ")):
        raise UserError(f"{name} learns from {needed}; found none among {len(facts.sizes)} cases: see docs/formats.md "
                        "for where they belong")


# --- the cases that are read


@dataclass(frozen=True)
class Material:
    """What a plan is made of: the facts, and what writes a cache of a few cases with a spacing."""

    system: str
    facts: Facts
    folder: Path
    dataset: Dataset | None
    cache: Path

    def measurable(self, spacing_mm: tuple[float, ...]) -> Path:
        """A cache of that spacing with a few of the cases."""
        if self.dataset is None or not spacing_mm:
            return self.cache
        path = self.folder / f"{'_'.join(map(str, spacing_mm))}.h5"
        if not path.exists():
            write_part(self.dataset, path, self.system, spacing_mm)
        return path


@contextlib.contextmanager
def opened(one: ModuleType, source: str, folder: Path) -> Iterator[Material]:
    """The facts of a cache or of some cases of a dataset, of which a cache is written into the folder."""
    from tfsono.data.cache import Cache
    from tfsono.data.layout import open_dataset
    from tfsono.planning.facts import facts_of

    name = one.CHOICES.system
    if not Path(source).exists():
        raise UserError(f"{source}: must be a dataset's folder or a cache; found none; see docs/formats.md")
    if Path(source).is_file():
        with Cache(source, name) as cache:
            yield Material(name, facts_of(cache), folder, None, Path(source))
        return
    dataset = open_dataset(source)
    if unfit := [case.name for case in dataset.cases if case.is_2d != (one.TAKES == "images")]:
        raise UserError(f"{source}: {name} takes {one.TAKES}; found others, such as {unfit[0]}")
    part = replace(dataset, cases=evenly(dataset.cases, READ), split=None)
    say(f"reading {len(part.cases)} of {len(dataset.cases)} cases")
    path = folder / "read.h5"
    write_part(part, path, name)
    with Cache(path, name) as cache:
        facts = facts_of(cache, len(dataset.cases), len({case.subject for case in dataset.cases}),
                         dataset.split is not None, cached=False)
        largest = sorted(cache.names, key=lambda case: -cache.shape(case)[0] * cache.shape(case)[1])[:MEASURED]
    few = replace(part, cases=tuple(case for case in part.cases if case.name in largest))
    yield Material(name, facts, folder, few, path)


def evenly(cases: tuple, count: int) -> tuple:
    """At most so many, from the first to the last."""
    count = min(count, len(cases))
    return tuple(cases[place * len(cases) // count] for place in range(count))


def write_part(dataset: Dataset, path: Path, name: str, spacing_mm: tuple[float, ...] = ()) -> None:
    """Writes a cache of the sound cases."""
    from tfsono.audit.cache_writer import write_cache
    from tfsono.data.prepare import CacheSettings

    settings = CacheSettings(name)
    if system(name).TAKES == "volumes":
        settings = CacheSettings(name, spacing_mm=spacing_mm)
    write_cache(dataset, path, settings, exclude_bad=True, progress=lambda line: None)


# --- measuring


def measured_plan(one: ModuleType, material: Material, wanted: Wanted, source: str) -> Planned:
    """The plan whose steps fit into memory and minutes, if there is one."""
    from tfsono.planning.draft import steps_of, with_shares, with_steps
    from tfsono.planning.page import Planned

    part, faster = 1.0, {}  # of the voxels of a step; run -> precision
    for left in reversed(range(TRIES)):
        draft = one.draft(material.facts, part)
        cache = material.measurable(draft.spacing_mm)
        found = tuple(measure(training, cache, wanted, name=material.system, precision=faster.get(training.run))
                      for training in draft.trainings)
        faster = {training.run: each.precision for training, each in zip(draft.trainings, found, strict=True)}
        shared = with_shares(draft.trainings, [each.step_s for each in found], wanted.minutes)
        last, gib = shared[-1], max(each.peak_gib for each in found)
        share = min(steps_of(last, found[-1].step_s, wanted.minutes) / last.fewest, wanted.memory_gb / gib)
        if share >= 1 or not left:
            break
        part *= 0.9 * share
    warnings = [*draft.warnings]
    for training, each in zip(shared, found, strict=True):
        if (steps := steps_of(training, each.step_s, wanted.minutes)) < training.fewest:
            warnings.append(f"{training.run}: {steps} steps in its share of {wanted.minutes:g} minutes: fewer than "
                            f"{training.fewest} steps were not measured to be good")
    if gib > wanted.memory_gb:
        warnings.append(f"{gib:.1f} GiB: more than --memory_gb {wanted.memory_gb:g}")
    trainings = tuple(with_steps(with_precision(training, each), each.step_s, wanted.minutes)
                      for training, each in zip(shared, found, strict=True))
    draft = replace(draft, trainings=trainings, warnings=tuple(warnings))
    return Planned(one.CHOICES.system, source, material.facts, draft, measured=found, minutes=wanted.minutes,
                   memory_gb=wanted.memory_gb)


def with_precision(training: Training, found: Measured) -> Training:
    return training.with_values({"precision": (found.precision, "the faster one, measured here; float32 and bfloat16 "
                                                                "give the same Dice (hippocampus)")})


def measure(training: Training, cache: Path, wanted: Wanted, name: str, precision: str | None) -> Measured:
    """A training in a precision, or in the faster one: bfloat16 only where the CPU has it and it takes the sizes."""
    found = []
    if precision != "float32" and probe_cpu_flags() & BFLOAT16:
        with contextlib.suppress(UserError):
            words = dry_run_words(name, training, cache, "mixed_bfloat16")
            found.append(measured_by(words, wanted, "mixed_bfloat16", quiet=True))
    if precision != "mixed_bfloat16" or not found:
        found.append(measured_by(dry_run_words(name, training, cache, "float32"), wanted, "float32"))
    return min(found, key=lambda one: one.step_s)


def dry_run_words(name: str, training: Training, cache: Path, precision: str) -> list[str]:
    """The command that measures steps of a training."""
    from tfsono.planning.page import options_of

    alone = training.with_values({"precision": (precision, "")})
    values = {field: given for field, given in alone.values.items() if field != "test_cases"}
    return ["train", name, "--data", str(cache), "--run_dir", "none", "--preset", training.preset, "--variant",
            training.variant, *options_of(replace(alone, values=values)), *FROM_ANY_CASE, *training.measuring]


def measured_by(words: list[str], wanted: Wanted, precision: str, quiet: bool = False) -> Measured:
    """Seconds of a step, and GiB at most, of a command in a fresh process."""
    from tfsono.planning.page import Measured

    say(f"measuring steps in {precision}")
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"} if wanted.devices == "cpu" else {}
    done = subprocess.run([sys.executable, "-m", "tfsono", *words], check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL if quiet else None, env={**os.environ, **hidden}, encoding="utf-8")
    if done.returncode:
        raise UserError(f"tfsono {shlex.join(words)}: exit status {done.returncode}; see its message above")
    found = json.loads(done.stdout.splitlines()[-1])
    return Measured(found["step_s"], found["peak_gib"], precision)
