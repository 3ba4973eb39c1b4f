"""Milliseconds to find the nearest poses of an atlas set and register them to a pose.

    python benchmarks/retrieval.py [--atlases 100] [--landmarks 16] [--count 10] [--repeats 200]

The registration of all atlases, their costs and the choice of the nearest, as in each iteration of a refinement.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.inference.atlases import AtlasSet


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/retrieval.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atlases", type=int, default=100)
    parser.add_argument("--landmarks", type=int, default=16)
    parser.add_argument("--count", type=int, default=10, help="how many of the nearest")
    parser.add_argument("--repeats", type=int, default=200)
    arguments = parser.parse_args(argv)
    random = np.random.default_rng(0)
    poses = random.normal(0, 15, (arguments.atlases, arguments.landmarks, 3))
    atlases = AtlasSet(tuple(map(str, range(arguments.landmarks))), poses)
    robust = range(max(1, arguments.landmarks * 10 // 16))
    wanted = random.normal(0, 15, (arguments.repeats, arguments.landmarks, 3))
    times, work = [], time.process_time()
    for pose in wanted:
        began = time.perf_counter()
        atlases.nearest(pose, robust, arguments.count)
        times.append(1000 * (time.perf_counter() - began))
    work = 1000 * (time.process_time() - work) / arguments.repeats
    print(f"{arguments.atlases} atlases of {arguments.landmarks} landmarks: median {np.median(times):.2f} ms, "
          f"95 % under {np.percentile(times, 95):.2f} ms, longest {max(times):.2f} ms; {work:.2f} ms of work")


if __name__ == "__main__":
    main()
