"""Splits of k folds with one test part, for any system: `--split FOLDER/fold_0.json` of a training takes one.

    python benchmarks/folds.py hip --data hippocampus.h5 --test_cases 43 --out folds

The test cases are those that `--test_cases 43 --seed 0` of a training draws; a fold's part is for validation.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.data.cache import Cache
from tfsono.data.splits import make_fold_split
from tfsono.systems import NAMES


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/folds.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=NAMES)
    parser.add_argument("--data", required=True, help="the cache")
    parser.add_argument("--out", required=True, help="folder for fold_0.json and so on")
    parser.add_argument("--test_cases", type=int, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    with Cache(arguments.data, arguments.system) as cache:
        for fold in range(arguments.folds):
            split = make_fold_split(cache.names, cache.subjects, {}, test_cases=arguments.test_cases,
                                    folds=arguments.folds, fold=fold, seed=arguments.seed)
            (out / f"fold_{fold}.json").write_text(json.dumps(split, indent=2) + "\n", encoding="utf-8")
            print(f"fold {fold}:", ", ".join(f"{len(cases)} {part}" for part, cases in split.items()))


if __name__ == "__main__":
    main()
