"""The noise of each case of a cache of volumes, as a share of the volume's standard deviation.

    python benchmarks/noise.py hip --data hip.h5

Of white noise: the median of |a - 2b + c| over neighbours a, b, c along x, divided by what it is for a deviation of 1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.data.cache import Cache
from tfsono.systems import NAMES

OF_ONE = 0.6745 * np.sqrt(6)  # median of the absolute value of a normal variable, whose variance is 1 + 4 + 1


def noise(volume: np.ndarray) -> float:
    """Of a volume [x, y, z]."""
    differences = np.diff(volume.astype(np.float64), 2, axis=0)
    return float(np.median(np.abs(differences)) / OF_ONE / volume.std())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/noise.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=NAMES)
    parser.add_argument("--data", required=True, help="the cache")
    arguments = parser.parse_args(argv)
    with Cache(arguments.data, arguments.system) as cache:
        for name in cache.names:
            print(f"{name} {noise(cache.read(name).image):.3f}", flush=True)


if __name__ == "__main__":
    main()
