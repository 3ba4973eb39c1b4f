"""How far a decoded landmark is from the centre of its Gaussian: the highest voxel, and two centroids around it.

    python benchmarks/decoding.py [--sigma 1.5 2.5 3] [--noise 0 0.05] [--points 500] [--side 21]

Centres are uniform within a voxel, heatmaps have amplitude 1. Noise is the deviation of white noise on every voxel.
Distances are mean distances in voxels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.surroundings import prepare_tensorflow

prepare_tensorflow()

import numpy as np

from tfsono.geometry.heatmaps import decoded, gaussian_maps


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/decoding.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sigma", type=float, nargs="+", default=[1.5, 2.5, 3.0], help="of the Gaussians, voxels")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.05])
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--side", type=int, default=21, help="of the heatmaps, voxels")
    arguments = parser.parse_args(argv)
    random, size = np.random.default_rng(0), (arguments.side,) * 3
    points = (arguments.side // 2 + random.uniform(-0.5, 0.5, (1, arguments.points, 3))).astype(np.float32)
    for sigma in arguments.sigma:
        maps = np.array(gaussian_maps(points, size, sigma))
        for noise in arguments.noise:
            noisy = maps + random.normal(0, noise, maps.shape).astype(np.float32)
            found = {name: np.linalg.norm(np.array(decoded(noisy, name, sigma)) - points, axis=-1).mean()
                     for name in ("argmax", "centroid", "wide_centroid")}
            missed = ", ".join(f"{name} {miss:.2f}" for name, miss in found.items())
            print(f"sigma {sigma:g}, noise {noise:g}: {missed}", flush=True)


if __name__ == "__main__":
    main()
