"""Milliseconds of processor time to read sound files: by format, a DICOM series, a cache, a dataset by two commands.

    python benchmarks/reading.py [--repeats 7] [--dataset DIR]

It takes any version of tfsono that PYTHONPATH names, so that two can be compared:

    PYTHONPATH=OLD python benchmarks/reading.py; PYTHONPATH=NEW python benchmarks/reading.py

Volumes have 300 x 200 x 100 voxels of 16 bits, speckle around smooth tissue. Each time is the median of the repeats, in
one process, with the files in the system's cache; of the process alone (`time.process_time`), so that other programs on
the machine matter less. The first read of a case compares it with its checksum, later ones
of the process do not. `audit` and `cache` are the commands, on the dataset's copy in a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from tfsono.__main__ import run as tfsono
from tfsono.data.cache import Cache
from tfsono.volumes.image import read_volume

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from small_dicom import write_slices

SIZE = (300, 200, 100)
FILES = (("a.nii.gz", True), ("a.nii", False), ("a.mha", True), ("b.mha", False), ("a.nrrd", True), ("b.nrrd", False))
SLICES, SIDE = 150, 256
CASES = 4


def volume(seed: int = 0) -> sitk.Image:
    """int16."""
    random = np.random.default_rng(seed)
    tissue = ndimage.zoom(random.uniform(0, 1000, [side // 20 for side in SIZE[::-1]]), 20, order=1)
    image = sitk.GetImageFromArray((tissue + random.normal(0, 20, tissue.shape)).astype(np.int16))
    image.SetSpacing((0.5, 0.6, 0.7))
    return image


def show(name: str, read: Callable[[], object], repeats: int) -> None:
    """Prints the median processor time; one time before them is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        read()
        times.append(1000 * (time.process_time() - start))
    print(f"{name:28} {statistics.median(times[1:]):9.1f} ms", flush=True)


def show_volumes(folder: Path, repeats: int) -> None:
    """Each format, and a DICOM series."""
    image = volume()
    for name, packed in FILES:
        path = folder / name
        sitk.WriteImage(image, str(path), packed)
        show(f"{path.name.partition('.')[2]} {'compressed' if packed else 'raw'}", lambda: read_volume(path), repeats)
    values = np.random.default_rng(0).integers(0, 1000, (SLICES, SIDE, SIDE)).astype(np.uint16)
    series = write_slices(folder / "series", values, [str(2 * number) for number in range(SLICES)])
    show(f"series of {SLICES} slices", lambda: read_volume(series), repeats)


def show_cache(folder: Path, repeats: int) -> None:
    """Opening a cache and reading all of it: each time a new file, so that it has not been checked, then again."""
    for number in range(CASES):
        image = volume(number)
        write(folder / "dataset" / "images" / f"{number}.nii.gz", image)
        write(folder / "dataset" / "labels" / f"{number}.nii.gz", image > 500)
    quietly(["cache", "hip", folder / "dataset", folder / "cache.h5", "--preset", "quick"])
    size = (folder / "cache.h5").stat().st_size / 1e6
    copies = iter([shutil.copyfile(folder / "cache.h5", folder / f"{number}.h5") for number in range(repeats + 1)])
    show(f"cache of {size:.0f} MB, first read", lambda: read_cache(next(copies)), repeats)
    show("the same, later", lambda: read_cache(folder / "0.h5"), repeats)


def write(path: Path, image: sitk.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), True)


def read_cache(path: Path) -> None:
    with Cache(path, "hip") as cache:
        for name in cache.names:
            cache.read(name)


def show_dataset(dataset: Path, folder: Path, repeats: int) -> None:
    """The two commands, each into a new place."""
    copy = shutil.copytree(dataset, folder / "copy")
    places = (folder / f"place_{number}" for number in range(4 * repeats + 4))
    show("audit", lambda: quietly(["audit", copy, "--out", next(places)]), repeats)
    show("cache", lambda: quietly(["cache", "hip", copy, next(places), "--preset", "quick"]), repeats)


def quietly(words: list) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        tfsono([str(word) for word in words])


def main() -> None:
    """Prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dataset", default="", help="a dataset of volumes, with masks, for audit and cache")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        show_volumes(Path(name), arguments.repeats)
        show_cache(Path(name), arguments.repeats)
        if arguments.dataset:
            show_dataset(Path(arguments.dataset), Path(name), arguments.repeats)


if __name__ == "__main__":
    main()
