"""Confidence of a trained run's landmarks: the model of validation cases, and how true it is of test cases.

    python benchmarks/calibration.py femur|pose --data femur.h5 --run runs/brndc --split split.json [--weights last]
                                     [--set roi_passes=2 ...]

As a training fits it and `evaluate` measures it, for a run that was trained without validation cases. Its training
cases must be the split's. Nothing is written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import assignment
from tfsono.surroundings import prepare_tensorflow
from tfsono.systems import system

COLUMNS = ("landmarks", "mean probability %", "share right %", "Brier", "Brier of the share", "ECE",
           "flagged of the wrong %", "of the right %")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/calibration.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=("femur", "pose"))
    parser.add_argument("--data", required=True, help="the cache")
    parser.add_argument("--run", required=True)
    parser.add_argument("--split", required=True, help="file with validation and test cases")
    parser.add_argument("--weights", default="auto", choices=("auto", "best", "last"))
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="as `evaluate` takes them")
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    from scipy.special import expit

    from tfsono.data.cache import Cache
    from tfsono.metrics.calibration import WEIGHTS, fitted
    from tfsono.report.calibration import of_landmarks
    from tfsono.training.confidence import LIMIT_MM, measured
    from tfsono.training.run import read_run

    one = system(arguments.system)
    run = read_run(arguments.run, one.CHOICES)
    values = dict(assignment(one.CHOICES, text) for text in arguments.set)
    run = dataclasses.replace(run, settings=run.settings.set_at_test(values))
    split = json.loads(Path(arguments.split).read_text(encoding="utf-8"))
    seen = set(run.split["train"]) & {*split["validation"], *split["test"]}
    if seen:
        raise SystemExit(f"{arguments.split}: {min(seen)} was trained on")
    module = one.module_of([run], arguments.weights)
    print("| cases |", " | ".join(COLUMNS), "|")
    with Cache(arguments.data, arguments.system) as cache:
        for part in ("validation", "test"):
            values, errors = measured(module, cache, split[part])
            if part == "validation":
                model = fitted(values, errors < LIMIT_MM)
            row = of_landmarks(expit(values @ [model[name] for name in WEIGHTS]), errors < LIMIT_MM)
            print(f"| {len(split[part])} {part} |", " | ".join(f"{value:.3g}" for value in row), "|", flush=True)
    print(model)


if __name__ == "__main__":
    main()
