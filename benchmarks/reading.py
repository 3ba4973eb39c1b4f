"""Milliseconds to read a sound volume of 300 x 200 x 100 voxels of 16 bits, by format.

    python benchmarks/reading.py [--repeats 7]

It takes any version of tfsono that PYTHONPATH names, so that two can be compared. The voxels are speckle around
smooth tissue; each time is the median of the repeats, in one process, with the file in the system's cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from tfsono.volumes.image import read_volume

SIZE = (300, 200, 100)
FILES = (("a.nii.gz", True), ("a.nii", False), ("a.mha", True), ("b.mha", False), ("a.nrrd", True), ("b.nrrd", False))


def volume() -> sitk.Image:
    """int16, of seed 0."""
    random = np.random.default_rng(0)
    tissue = ndimage.zoom(random.uniform(0, 1000, [side // 20 for side in SIZE[::-1]]), 20, order=1)
    image = sitk.GetImageFromArray((tissue + random.normal(0, 20, tissue.shape)).astype(np.int16))
    image.SetSpacing((0.5, 0.6, 0.7))
    return image


def milliseconds(path: Path, repeats: int) -> float:
    """The median; the first reading is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        read_volume(path)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def main() -> None:
    """Prints a line a format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    image = volume()
    with tempfile.TemporaryDirectory() as folder:
        for name, packed in FILES:
            path = Path(folder) / name
            sitk.WriteImage(image, str(path), packed)
            kind = f"{path.name.partition('.')[2]} {'compressed' if packed else 'raw'}"
            print(f"{kind:18} {milliseconds(path, repeats):8.1f} ms {path.stat().st_size:>10} bytes", flush=True)


if __name__ == "__main__":
    main()
