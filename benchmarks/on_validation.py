"""A run of `pose` on its validation cases, with other values of fields that change no weight: settings are chosen here.

    python benchmarks/on_validation.py --data pose.h5 --run runs/land [--refine] [--set refine_register=midline]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import assignment
from tfsono.configs.pose import MIRRORED, POSE
from tfsono.surroundings import prepare_tensorflow


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/on_validation.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the cache")
    parser.add_argument("--run", required=True)
    parser.add_argument("--refine", action="store_true")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE",
                        type=functools.partial(assignment, POSE))
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    from tfsono.data.cache import Cache
    from tfsono.systems.pose import load_refiner, module_of, module_to_refine
    from tfsono.training.run import read_run

    run = read_run(arguments.run, POSE)
    run = dataclasses.replace(run, settings=run.settings.set_at_test(dict(arguments.set)))
    module = load_refiner(run, module_to_refine([run])) if arguments.refine else module_of([run])
    with Cache(arguments.data, "pose") as cache:
        report([row_of(module, run, cache.read(name), arguments.refine) for name in run.split["validation"]])


def row_of(module, run, case, refined: bool) -> dict[str, float]:
    """The metrics of a case on the cache's grid."""
    import numpy as np

    from tfsono.metrics.pose_case import pose_metrics

    found = module(np.float32(case.image), np.float32(case.spacing_mm))
    points = found.points_vox if refined else found["points_vox"].numpy()
    row = pose_metrics(points, case.points_vox, case.spacing_mm, run.config.landmark_names, mirrored=MIRRORED)
    return row | {"refined": float(refined and found.refined)}


def report(rows: list[dict[str, float]]) -> None:
    """Prints means over the cases."""
    import numpy as np

    mean = {key: np.nanmean([row[key] for row in rows]) for key in ("mre_mm", "auc", "exchanged")}
    print(f"{len(rows)} cases: {mean['mre_mm']:.2f} mm, AUC {100 * mean['auc']:.1f} %, "
          f"{mean['exchanged']:.2f} pairs exchanged, {sum(row['refined'] for row in rows):.0f} refined")


if __name__ == "__main__":
    main()
