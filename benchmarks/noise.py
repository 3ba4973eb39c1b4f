"""Dice of a run of `hip` by both statistics of `norm_at_test`, on cases as they are and with added noise.

    python benchmarks/noise.py RUN DATA [--cases hip_005 hip_007] [--tilings half whole] [--noise 0 0.2 0.4]

The noise is Gaussian, in standard deviations of the volume. Masks are postprocessed, as of `evaluate`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.configs.hip import HIP
from tfsono.surroundings import prepare_tensorflow


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/noise.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("data", help="a cache, of the run's training or another one")
    parser.add_argument("--cases", nargs="+", help="default: all")
    parser.add_argument("--tilings", nargs="+", default=["half", "whole"])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0])
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    import numpy as np

    from tfsono.data.cache import Cache

    modules = {f"{norm} {tiling}": module_of(arguments.run, norm, tiling)
               for norm in ("moving", "tile") for tiling in arguments.tilings}
    with Cache(arguments.data, "hip") as cache:
        for noise in arguments.noise:
            rows = []
            for name in arguments.cases or cache.names:
                rows.append(scores(modules, cache.read(name), noise))
                print(f"noise {noise:g}, {name}:", listed(modules, rows[-1]), flush=True)
            print(f"noise {noise:g}, mean of {len(rows)}:", listed(modules, np.mean(rows, 0)))
            print(f"noise {noise:g}, lowest:", listed(modules, np.min(rows, 0)), flush=True)


def module_of(run: str, norm: str, tiling: str):
    """The run's module with other settings at test."""
    from tfsono.systems import hip
    from tfsono.systems.runs import read_runs, with_values

    return hip.module_of(with_values(read_runs([run], HIP), {"norm_at_test": norm, "tiling": tiling}))


def scores(modules: dict, case, noise: float) -> list[float]:
    """The mean Dice of the labels, by each module."""
    import numpy as np

    image, label = np.float32(case.image), case.label
    image += np.float32(noise * image.std() * np.random.default_rng(0).normal(size=image.shape))
    masks = [module(image, np.float32(case.spacing_mm))["mask"].numpy() for module in modules.values()]
    return [np.mean([2 * np.sum((mask == value) & (label == value)) / (np.sum(mask == value) + np.sum(label == value))
                     for value in np.unique(label[label > 0])]) for mask in masks]


def listed(modules: dict, values) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in zip(modules, values, strict=True))


if __name__ == "__main__":
    main()
