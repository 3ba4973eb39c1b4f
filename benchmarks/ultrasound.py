"""Seconds and peak memory of the swept ultrasound probe, at the paper's size, half of it and preset `quick`'s.

    python benchmarks/ultrasound.py [--sizes 104x104x71 208x208x142 416x416x284] [--looks 1]

Each size runs in a fresh process that draws a plain scene (tissue, fluid, one bone) and images it; all volumes are
158 x 158 x 108 mm. The peak is that of the whole process (Python, the scene and the image); the base is its memory when
the scene was drawn. It runs on one core; read its CPU time where other programs run.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
ONE_CORE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
EXTENT_MM = 416 * 0.38


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/ultrasound.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["104x104x71", "208x208x142", "416x416x284"])
    parser.add_argument("--looks", type=int, default=1, help="images averaged")
    parser.add_argument("--here", action="store_true", help="in this process, and one size only")
    arguments = parser.parse_args(argv)
    if arguments.here:
        measure(tuple(int(side) for side in arguments.sizes[0].split("x")), arguments.looks)
        return
    for size in arguments.sizes:
        subprocess.run([sys.executable, __file__, "--sizes", size, "--looks", str(arguments.looks), "--here"],
                       check=True, env=os.environ | dict.fromkeys(ONE_CORE, "1"))


def measure(size: tuple[int, int, int], looks: int) -> None:
    import numpy as np

    from tfsono.phantoms.sweep import Sweep, ultrasound_volume

    spacing_mm = (EXTENT_MM / size[0],) * 3
    tissue = scene(size, spacing_mm)
    sweep = Sweep.over(size, spacing_mm)
    base = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    began, worked = time.perf_counter(), time.process_time()
    image = ultrasound_volume(np.random.default_rng(0), tissue, sweep, spacing_mm, looks=looks)
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{'x'.join(map(str, image.shape))}: beams {'x'.join(map(str, sweep.shape))}, {seconds:.1f} s, "
          f"{worked:.1f} s of one core, "
          f"base {base / 2**30:.2f} GiB, peak {peak / 2**30:.2f} GiB", flush=True)


def scene(size: tuple[int, int, int], spacing_mm: tuple[float, float, float]):
    """Tissue with a fluid pocket and a bright rod that casts a shadow; filled slice by slice, to save memory."""
    import numpy as np

    from tfsono.phantoms.sweep import Tissue

    scatter, surface, loss, body = (np.zeros(size, np.float32) for _ in range(4))
    x, y, z = (np.arange(count, dtype=np.float32) * step for count, step in zip(size, spacing_mm, strict=True))
    for index, height in enumerate(z):
        across = np.hypot(y - 85 - 0.2 * (x[:, None] - 79), height - 54)
        rod = np.maximum(across - 4, np.abs(x[:, None] - 79) - 30)
        fluid = np.hypot(np.hypot((x[:, None] - 60) / 35, (y - 60) / 20), (height - 54) / 30) < 1
        scatter[..., index] = np.where(fluid, -95, -25)
        width = max(0.6, 0.5 * spacing_mm[0])
        surface[..., index] = np.where(np.abs(rod) < 3 * width, 0.9 * np.exp(-0.5 * (rod / width) ** 2), 0)
        loss[..., index] = np.where(rod < 0, 15, 0.1)
        body[..., index] = rod
    return Tissue(scatter, surface, loss, body=body)


if __name__ == "__main__":
    main()
