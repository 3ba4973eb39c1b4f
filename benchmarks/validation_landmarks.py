"""The error of each landmark on the validation cases of runs of `pose`, before and after refinement.

    python benchmarks/validation_landmarks.py --data FILE.h5 [--weights last] [--refine] RUN ...

For the choice of settings, for which test cases must not be used.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.surroundings import prepare_tensorflow


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/validation_landmarks.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", default="auto", choices=("auto", "best", "last"))
    parser.add_argument("--refine", action="store_true")
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    from tfsono.data.cache import Cache
    from tfsono.predict.sources import Options
    from tfsono.systems.pose import load_runs

    with Cache(arguments.data, "pose") as cache:
        for folder in arguments.runs:
            for refine in (False, True) if arguments.refine else (False,):
                (run,), module = load_runs([folder], arguments.weights, Options(refine=refine))
                show(f"{folder}, refined" if refine else folder, run, module, cache)


def show(title: str, run, module, cache) -> None:
    """Prints the mean error of each landmark, and how many volumes were not refined."""
    import numpy as np

    from tfsono.inference.module_input import module_input

    errors, kept = [], 0
    for name in run.split["validation"]:
        case = cache.read(name)
        found = module(*module_input(case.image, case.spacing_mm))
        points = found["points_vox"].numpy() if isinstance(found, dict) else found.points_vox
        kept += not isinstance(found, dict) and not found.refined
        errors.append(np.linalg.norm((points - case.points_vox) * case.spacing_mm, axis=1))
    means = np.mean(errors, axis=0)
    named = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(run.config.landmark_names, means, strict=True))
    print(f"{title}: mean {means.mean():.2f} mm; {named}; {kept} of {len(errors)} not refined", flush=True)


if __name__ == "__main__":
    main()
