"""Runs of `hip` that are folds: each on its validation cases, each and together on the test cases, which none has seen.

    python benchmarks/folds.py hip --data hippocampus.h5 --test_cases 43 --out folds
    tfsono train hip --data hippocampus.h5 --split folds/fold_0.json --validation_cases 35 --run_dir runs/fold_0 ...
    python benchmarks/out_of_fold.py hippocampus.h5 runs/fold_* [--weights last] [--set norm_at_test=tile]

Postprocessed, on each case's own grid; a case is the mean over its labels. Nothing is chosen here by a test case.
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import assignment
from tfsono.configs.hip import HIP
from tfsono.surroundings import prepare_tensorflow

MEASURES = ("dice", "assd_mm", "hausdorff95_mm")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/out_of_fold.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the cache")
    parser.add_argument("runs", nargs="+", help="folders of the folds, with one test part")
    parser.add_argument("--weights", default="auto", choices=("auto", "best", "last"))
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE",
                        type=functools.partial(assignment, HIP))
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    from tfsono.data.cache import Cache
    from tfsono.systems.hip import module_of
    from tfsono.systems.runs import read_runs, with_values

    runs = with_values(read_runs(arguments.runs, HIP), dict(arguments.set))
    if len({tuple(run.split["test"]) for run in runs}) != 1:
        parser.error("the runs have different test cases")
    test, out_of_fold, alone = runs[0].split["test"], {}, {}
    with Cache(arguments.data, "hip") as cache:
        for run in runs:
            module = module_of([run], arguments.weights)
            alone[run.folder.name] = measured(module, cache, run, test)
            held_out = measured(module, cache, run, run.split["validation"])
            if twice := set(held_out) & (set(out_of_fold) | set(test)):
                parser.error(f"{sorted(twice)[0]} is held out twice")
            out_of_fold |= held_out
            line(f"{run.folder.name}, validation", held_out)
            line(f"{run.folder.name}, test", alone[run.folder.name])
        together = measured(module_of(runs, arguments.weights), cache, runs[0], test)
    line("out of fold", out_of_fold)
    line("test, mean of the folds", {name: mean_rows([rows[name] for rows in alone.values()]) for name in test})
    line("test, ensemble", together)
    line("out of fold and ensemble", out_of_fold | together)


def measured(module, cache, run, names: list[str]) -> dict[str, list[dict]]:
    """Of each case the measures of its labels."""
    from tfsono.inference.segmentation import segment_array
    from tfsono.metrics.surface import segmentation_metrics

    found = {}
    for name in names:
        own = cache.read(name).own
        mask = segment_array(module, own.array, own.spacing_mm)
        found[name] = [segmentation_metrics(mask == value, own.label == value, own.spacing_mm)
                       for value in range(1, run.config.classes)]
    return found


def mean_rows(cases: list[list[dict]]) -> list[dict]:
    """The means, label by label, over several predictions of one case."""
    import numpy as np

    return [{name: np.mean([rows[name] for rows in of_label]) for name in MEASURES}
            for of_label in zip(*cases, strict=True)]


def line(title: str, cases: dict[str, list[dict]]) -> None:
    """Means over the cases, and for Dice the interval and the labels."""
    import numpy as np

    from tfsono.metrics.agreement import bootstrap_interval

    values = np.array([[[label[name] for name in MEASURES] for label in rows] for rows in cases.values()])
    low, high = bootstrap_interval(values[..., 0].mean(1), seed=0)
    dice, assd, hd95 = values.mean((0, 1))
    labels = ", ".join(f"{value:.3f}" for value in values[..., 0].mean(0))
    print(f"| {title}, {len(cases)} | {dice:.3f} ({low:.3f} to {high:.3f}) | {labels} | {assd:.2f} | {hd95:.2f} |",
          flush=True)


if __name__ == "__main__":
    main()
