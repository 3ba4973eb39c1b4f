"""The effect of options on a short training: per seed a run without and a run with each, on the same cases.

    tfsono phantom head data --cases 80 --preset quick && tfsono cache head data head.h5 --preset quick
    python benchmarks/option.py head boundary_weight=0.01 --data head.h5 --out option --seeds 0 1 2 -- \\
        --test_cases 0 --input_size 96,128 --segmentation_iterations 240 --segmentation_record_every 60

Several options are measured one by one against the same runs without; one that has several fields is one word:
"box_sides=6 anchor_sides=5,6". Words after `--` are passed to every training, which has one core. The scores are
those of the validation cases at the last record; differences are means over seeds. The same command resumes.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tfsono.systems import NAMES


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/option.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=NAMES)
    parser.add_argument("options", metavar="FIELD=VALUE", nargs="+")
    parser.add_argument("--data", required=True, help="the cache")
    parser.add_argument("--out", required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--preset", default="quick")
    words = list(sys.argv[1:] if argv is None else argv)
    more = words[words.index("--") + 1:] if "--" in words else []
    arguments = parser.parse_args(words[:len(words) - len(more) - ("--" in words)])
    fixed = ["--data", arguments.data, "--preset", arguments.preset, *more]
    scores = {}
    for seed in arguments.seeds:
        for option in ("", *arguments.options):
            run = Path(arguments.out) / f"{option.replace(' ', ',') or 'without'}_{seed}"
            scores[option, seed] = trained(arguments.system, run, [*fixed, *words_of(option), "--seed", str(seed)])
            print(f"seed {seed}, {option or 'without'}:", listed(scores[option, seed]), flush=True)
    for option in arguments.options:
        print(f"{option}, mean difference:", listed({name: np.mean(
            [scores[option, seed][name] - scores["", seed][name] for seed in arguments.seeds])
            for name in scores[option, arguments.seeds[0]]}))


def listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())


def words_of(option: str) -> list[str]:
    """`FIELD=VALUE FIELD=VALUE` as words of a training."""
    return [word for part in option.split() for word in (f"--{part.split('=')[0]}", part.split("=", 1)[1])]


def trained(system: str, run: Path, words: list[str]) -> dict[str, float]:
    """Trains one run on one core; the validation scores of its last record."""
    run.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with open(f"{run}.log", "w", encoding="utf-8") as log:
        subprocess.run([sys.executable, str(ROOT / "train" / f"{system}.py"), "--run_dir", str(run), *words],
                       stdout=log, stderr=subprocess.STDOUT, env=environment, check=True)
    with (run / "history.csv").open(newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    scores = {key.removeprefix("validation_"): float(value) for key, value in last.items()
              if key.startswith("validation_")}
    if not scores:
        raise ValueError(f"{run}: no validation score; give --validation_cases")
    return scores


if __name__ == "__main__":
    main()
