"""A plan before it is measured: settings with a reason each, and what the rules of all systems share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tfsono.planning.facts import Facts, listed

TEST_SHARE = 5  # a fifth of the cases, as in the hippocampus and HC18 splits of docs/results
ALIKE = 1.1  # spacings within 10 % are left as they are
TENFOLD = 10.0
RECORDS = 15  # in a training
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Training:
    """One training of a plan.

    Attributes:
      run: the name of its run folder.
      variant: of the system.
      values: field -> its value and the reason.
      steps: the field of its number of steps.
      record: the field of the steps between records.
      share: of the minutes.
      fewest: steps below which no training was measured to be good.
      most: steps beyond which none was measured.
      words: options that name other run folders; {runs} stands for their folder.
      records: in the training.
      preset: of the system.
      measuring: options with which steps are measured on a few cases.
    """

    run: str
    variant: str
    values: Mapping[str, tuple[object, str]]
    steps: str = "iterations"
    record: str = "record_every"
    share: float = 1.0
    fewest: int = 600
    most: int = 4000
    words: tuple[str, ...] = ()
    records: int = RECORDS
    preset: str = "quick"
    measuring: tuple[str, ...] = ()

    def with_values(self, values: Mapping[str, tuple[object, str]]) -> Training:
        return replace(self, values={**self.values, **values})


@dataclass(frozen=True)
class Draft:
    """The settings of a system's trainings, and of its cache.

    Attributes:
      trainings: in their order; the last one is what the others prepare.
      spacing_mm: of the cache; () keeps each volume's own.
      warnings: a line each.
    """

    trainings: tuple[Training, ...]
    spacing_mm: tuple[float, ...] = ()
    warnings: tuple[str, ...] = field(default_factory=tuple)


def common_values(facts: Facts) -> dict[str, tuple[object, str]]:
    """The test cases."""
    if facts.has_split:
        return {}
    if facts.subjects < 2:
        return {"test_cases": (0, "one subject: nothing can be held out")}
    count = max(1, min(round(facts.cases / TEST_SHARE), facts.cases - 1))
    return {"test_cases": (count, f"a fifth of the {facts.cases} cases")}


def spacing_of(facts: Facts) -> tuple[tuple[float, ...], str]:
    """The spacing of the cache, () for each volume's own, and the reason."""
    if facts.cached:
        return facts.spacing_mm, "the cache's"
    if facts.spread <= ALIKE:
        return (), (f"each volume's own: they are within {facts.spread - 1:.0%} (phantoms of hip: 10 % cost 0.006 "
                    "of Dice)")
    spacing = tuple(float(f"{value:.3g}") for value in facts.spacing)
    return spacing, (f"the median, as they differ up to {facts.spread:.3g}-fold: at half the voxel size the Dice of "
                     "hip falls from 0.95 to 0.26 (outside_factor)")


def grid_of(facts: Facts, spacing_mm: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The median size and spacing on the planned grid."""
    if not spacing_mm:
        return facts.size, facts.spacing
    spacing = np.array(spacing_mm)
    return np.median(facts.sides_mm / spacing, axis=0), spacing


def warnings_of(facts: Facts, spacing_mm: tuple[float, ...]) -> Iterable[str]:
    """What is odd about a dataset of volumes."""
    yield from few_cases(facts)
    if facts.spread >= TENFOLD:
        yield (f"spacings differ {facts.spread:.3g}-fold along an axis ({listed(facts.spacings.min(axis=0))} to "
               f"{listed(facts.spacings.max(axis=0))} mm): is one in another unit? `tfsono audit` names the cases")
    once = [name for name, volumes in facts.labels_ml.items() if len(volumes) == 1 < facts.cases]
    if once:
        others = f" and {len(once) - 1} others" if len(once) > 1 else ""
        yield f"label {once[0]}{others}: in one of the cases that were read; one to learn from leaves none to test"
    voxel_ml = float(np.prod(grid_of(facts, spacing_mm)[1])) / 1000
    for name, volumes in facts.labels_ml.items():
        if len(volumes) and np.median(volumes) < voxel_ml:
            yield (f"label {name}: its median volume, {np.median(volumes):.3g} mL, is smaller than a voxel of the "
                   f"planned grid, {voxel_ml:.3g} mL: it will not be found")
        if not len(volumes):
            yield f"label {name}: in none of the cases that were read"


def few_cases(facts: Facts) -> Iterable[str]:
    if facts.subjects < 2:
        yield "one subject: nothing can be held out, so there is no test, and `tfsono fit` refuses it"
    elif facts.subjects < 10:
        yield f"only {facts.subjects} subjects: a test on so few says little"


def up_to(value: float, stride: int) -> int:
    """The next multiple of the stride."""
    return max(stride, -(-math.ceil(value - 1e-6) // stride) * stride)


def steps_of(training: Training, step_s: float, minutes: float) -> int:
    """How many steps fit into the training's share of the minutes, less what starts, records and ends take."""
    return int(USED_SHARE * 60 * minutes * training.share / step_s + 1e-6)


USED_SHARE = 0.85
"""Of the minutes that are steps: the rest imports, traces, saves. 14:22 of 15 minutes in docs/results/hip.md."""
MOST_BEFORE = 0.5
"""Of the minutes, for a training that another one needs."""


def with_shares(trainings: Sequence[Training], steps_s: Sequence[float], minutes: float) -> tuple[Training, ...]:
    """The trainings with shares of the minutes in which each before the last has its fewest steps, or half of them."""
    before = [min(max(one.share, one.fewest * step_s / (USED_SHARE * 60 * minutes)), MOST_BEFORE)
              for one, step_s in zip(trainings[:-1], steps_s[:-1], strict=True)]
    shares = (*before, 1 - sum(before))
    return tuple(replace(one, share=share) for one, share in zip(trainings, shares, strict=True))


def with_steps(training: Training, step_s: float, minutes: float) -> Training:
    """The training with as many steps as fit, in whole records."""
    fitting = steps_of(training, step_s, minutes)
    steps = max(min(fitting, training.most), training.records)
    every = steps // training.records
    why = f"{minutes * training.share:.3g} minutes of {step_s:.2g} s a step, measured here"
    if fitting > training.most:
        why = f"more were never measured; {minutes * training.share:.3g} minutes would do for {fitting}"
    return training.with_values({training.steps: (every * training.records, why),
                                 training.record: (every, f"{training.records} records")})
