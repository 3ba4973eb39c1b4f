"""The effect of one option on a short training: per seed a run without and a run with it, on the same cases.

    tfsono phantom head data --cases 80 --preset quick && tfsono cache head data head.h5 --preset quick
    python benchmarks/option.py head boundary_weight=0.01 --data head.h5 --out option --seeds 0 1 2 -- \\
        --test_cases 0 --input_size 96,128 --segmentation_iterations 240 --segmentation_record_every 60

Words after `--` are passed to every training, which has one core. The score is the validation score of the last record;
the difference is paired by seed. The same command resumes.
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
    parser.add_argument("option", metavar="FIELD=VALUE")
    parser.add_argument("--data", required=True, help="the cache")
    parser.add_argument("--out", required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--preset", default="quick")
    words = list(sys.argv[1:] if argv is None else argv)
    more = words[words.index("--") + 1:] if "--" in words else []
    arguments = parser.parse_args(words[:len(words) - len(more) - ("--" in words)])
    field, value = arguments.option.split("=", 1)
    fixed = ["--data", arguments.data, "--preset", arguments.preset, *more]
    pairs = []
    for seed in arguments.seeds:
        pair = []
        for name, changes in (("without", []), ("with", [f"--{field}", value])):
            run = Path(arguments.out) / f"{name}_{seed}"
            pair.append(trained(arguments.system, run, ["--seed", str(seed), *fixed, *changes]))
        print(f"seed {seed}: without {pair[0]:.4f}, --{field} {value} {pair[1]:.4f}", flush=True)
        pairs.append(pair)
    gains = np.diff(pairs, axis=1)[:, 0]
    print(f"mean without {np.mean(pairs, axis=0)[0]:.4f}, with {np.mean(pairs, axis=0)[1]:.4f}; difference "
          f"{gains.mean():+.4f}, from {gains.min():+.4f} to {gains.max():+.4f}")


def trained(system: str, run: Path, words: list[str]) -> float:
    """Trains one run on one core; the validation score of its last record."""
    run.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with open(f"{run}.log", "w", encoding="utf-8") as log:
        subprocess.run([sys.executable, str(ROOT / "train" / f"{system}.py"), "--run_dir", str(run), *words],
                       stdout=log, stderr=subprocess.STDOUT, env=environment, check=True)
    with (run / "history.csv").open(newline="", encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    scores = [float(value) for key, value in last.items() if key.startswith("validation_")]
    if not scores:
        raise ValueError(f"{run}: no validation score; give --validation_cases")
    return scores[0]


if __name__ == "__main__":
    main()
