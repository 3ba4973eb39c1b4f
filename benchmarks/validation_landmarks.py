"""The error of each landmark on the validation cases of runs of `pose`, before and after refinements.

    python benchmarks/validation_landmarks.py --data FILE.h5 RUN ... [--refined refine_learning_rate=1e-4 ...]

For the choice of settings, for which test cases must not be used. Each `--refined` is a refinement with other values of
fields, as in `evaluate --set`; without any value it is the run's own.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import assignment
from tfsono.configs.pose import POSE
from tfsono.surroundings import prepare_tensorflow


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/validation_landmarks.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--refined", action="append", nargs="*", default=[], metavar="FIELD=VALUE",
                        type=functools.partial(assignment, POSE))
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    from tfsono.data.cache import Cache
    from tfsono.systems.pose import load_refiner, module_of, module_to_refine
    from tfsono.training.run import read_run

    with Cache(arguments.data, "pose") as cache:
        for run in (read_run(folder, POSE) for folder in arguments.runs):
            show(str(run.folder), run, module_of([run]), cache)
            for values in map(dict, arguments.refined):
                changed = dataclasses.replace(run, settings=run.settings.set_at_test(values))
                words = ", ".join(changed.settings.words_at_test())
                show(f"  refined {words}", changed, load_refiner(changed, module_to_refine([changed])), cache)


def show(title: str, run, module, cache) -> None:
    """Prints the mean error of each landmark; of a refinement also the volumes without it, and how far atlases are."""
    import numpy as np

    from tfsono.inference.module_input import module_input

    errors, refinements = [], []
    for name in run.split["validation"]:
        case = cache.read(name)
        found = module(*module_input(case.image, case.spacing_mm))
        if not isinstance(found, dict):
            refinements.append((not found.refined, found.distances_mm[0]))
            found = {"points_vox": found.points_vox}
        errors.append(np.linalg.norm((np.asarray(found["points_vox"]) - case.points_vox) * case.spacing_mm, axis=1))
    means = np.mean(errors, axis=0)
    named = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(run.config.landmark_names, means, strict=True))
    print(f"{title}: mean {means.mean():.2f} mm, largest {np.max(errors):.1f}; {named}", flush=True)
    if refinements:
        kept, distances = zip(*refinements, strict=True)
        print(f"    {sum(kept)} of {len(kept)} volumes unrefined; mean distance of the atlases of the others "
              f"{np.nanmean(distances) if not all(kept) else np.nan:.2f} mm", flush=True)


if __name__ == "__main__":
    main()
