"""How cost grows with the voxels of a volume, the cases of a dataset, and the parts of a prediction.

    python benchmarks/scale.py [voxels] [cases] [parts] [--folder DIR]

Prints a table for each, with the slope between neighbouring rows on log-log axes: 1 is linear, 2 quadratic, and less
than 1 where a part of the cost is constant. The last row is without that part: the slope of the differences of the
last three rows. Each size and each number of cases has a process of its own. Seconds are those of the processor: other
work on the machine does not count. Memory is the peak over what the process held before.

`voxels`: `hip` of preset quick, one inference and one training step of batch 1. `cases`: `audit`, `cache` and
`evaluate` of tiny volumes. `parts`: the longest part of `tfsono predict --part I/N`, one after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import math
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tfsono.surroundings import prepare_tensorflow

SIZES = ((48, 48, 48), (96, 48, 48), (96, 96, 48), (96, 96, 96))
CASES = (8, 32, 128)
PARTS = (1, 2)
PREDICTED = 8  # volumes of `parts`
PHANTOM = ["--phantom_size", "36,26,26", "--phantom_spacing_mm", "5,5,5"]
TINY = ["--preset", "quick", "--widths", "4,4,4,4", "--lower_widths", "4,4", "--middle_widths", "4", "--patch",
        "16,16,16", "--iterations", "1", "--record_every", "1", "--validation_cases", "0", "--tiling", "fast"]
KIB_IN_MIB = 2**10


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/scale.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=[], help="voxels, cases, parts; all without")
    parser.add_argument("--folder", help="for datasets and runs; without, one that is deleted")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    prepare_tensorflow()
    if arguments.here:
        sides = tuple(map(int, arguments.here.split("x")))
        print(json.dumps(of_size(sides) if len(sides) == 3 else of_cases(sides[0], Path(arguments.folder))))
        return
    with contextlib.ExitStack() as stack:
        folder = Path(arguments.folder or stack.enter_context(tempfile.TemporaryDirectory()))
        for name, measure in (("voxels", voxels), ("cases", cases), ("parts", parts)):
            if name in (arguments.what or [name]):
                measure(folder)


def show(unit: str, amounts: list[int], rows: list[dict[str, float]]) -> None:
    """Prints a row for each amount, each value with its slope from the row above; and the slopes without constants."""
    names = list(rows[0])
    print(f"\n| {unit} | " + " | ".join(f"{name} | slope" for name in names) + " |")
    print("|---" * (1 + 2 * len(names)) + "|")
    for place, (amount, row) in enumerate(zip(amounts, rows, strict=True)):
        cells = []
        for name in names:
            cells += [f"{row[name]:.3g}", slope(amounts[place - 1:place + 1], rows[place - 1][name], row[name])]
        print(f"| {amount:,} | " + " | ".join(cells) + " |", flush=True)
    if len(rows) > 2:
        last = [[row[name] for row in rows[-3:]] for name in names]
        found = [slope(amounts[-2:], values[1] - values[0], values[2] - values[1]) for values in last]
        print("| without constants | " + " | ".join(f"| {value}" for value in found) + " |", flush=True)


def slope(amounts: list[int], one: float, other: float) -> str:
    """log(other / one) over that of the two amounts; "" for the first row, and where it is none."""
    return f"{math.log(other / one) / math.log(amounts[1] / amounts[0]):.2f}" if amounts and one > 0 < other else ""


def seconds(call: Callable[[], object]) -> float:
    """The processor's time for a call, here and in processes that it waits for."""
    began = processor_s()
    call()
    return processor_s() - began


def processor_s() -> float:
    """The processor's time so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_mib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_IN_MIB


# --- voxels


def voxels(folder: Path) -> None:
    """Prints the table of `of_size`."""
    show("voxels", [math.prod(size) for size in SIZES], [in_fresh_process(size, folder) for size in SIZES])


def in_fresh_process(what: tuple[int, ...], folder: Path) -> dict[str, float]:
    """The row of a size, or of a number of cases."""
    command = [sys.executable, __file__, "--here", "x".join(map(str, what)), "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return json.loads(done.stdout.splitlines()[-1])


def of_size(size: tuple[int, int, int]) -> dict[str, float]:
    """Seconds and memory of an inference and of a training step on a volume of a size; the faster of two each."""
    import keras
    import numpy as np

    from tfsono.config import choose
    from tfsono.configs.hip import HIP
    from tfsono.inference.hip import HipModule
    from tfsono.models.hip import build, losses, main_network

    config = dataclasses.replace(choose(HIP, "quick", "paper").config, label_names=("femur",), tiling="whole")
    random = np.random.default_rng(0)
    image, label = random.normal(size=size).astype("float32"), random.integers(0, 2, (1, *size, 1)).astype("int8")
    network = build(config)
    network.compile(keras.optimizers.SGD(1e-3), loss=losses(config), jit_compile=False)
    module, base = HipModule.build(main_network(network), config), peak_mib()

    def infer():
        module(image, np.float32((1, 1, 1)))["mask"].numpy()

    def step():
        network.train_on_batch(image[None, ..., None], {head: label for head in config.heads})

    infer()
    found = {"inference s": min(seconds(infer) for _ in range(2)), "inference MiB": peak_mib() - base}
    step()
    return found | {"step s": min(seconds(step) for _ in range(2)), "step MiB": peak_mib() - base}


# --- cases


def cases(folder: Path) -> None:
    """Prints the table of `of_cases`."""
    show("cases", list(CASES), [in_fresh_process((count,), folder) for count in CASES])


def of_cases(count: int, folder: Path) -> dict[str, float]:
    """Seconds of the commands that go through a dataset, and their memory."""
    place, warm = folder / f"cases_{count}", folder / f"warm_{count}"
    quietly(["phantom", "hip", place / "dataset", "--cases", count, *PHANTOM])
    quietly(["phantom", "hip", warm / "dataset", "--cases", 2, *PHANTOM])
    quietly(["audit", warm / "dataset"])  # the imports
    before = peak_mib()
    row = {"audit s": seconds(lambda: quietly(["audit", place / "dataset"])),
           "cache s": seconds(lambda: write_cache(place))}
    trained(place, count)
    row["evaluate s"] = seconds(lambda: quietly(
        ["evaluate", "hip", "--data", place / "data.h5", "--runs", place / "run", "--out", place / "results"]))
    return row | {"MiB": peak_mib() - before}


def write_cache(place: Path) -> None:
    quietly(["cache", "hip", place / "dataset", place / "data.h5", "--preset", "quick"])


def trained(place: Path, count: int) -> None:
    """A run of one step, done eagerly, with all cases but two as test cases."""
    import tensorflow as tf

    warnings.simplefilter("ignore")  # tf.data stays as it is
    tf.config.run_functions_eagerly(True)
    quietly(["train", "hip", "--data", place / "data.h5", "--run_dir", place / "run", *TINY, "--test_cases", count - 2])
    tf.config.run_functions_eagerly(False)


def quietly(words: list) -> None:
    """`tfsono WORDS` in this process, without what it prints.

    Raises:
      RuntimeError: it failed.
    """
    from tfsono.__main__ import run

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = run([str(word) for word in words])
    if status:
        raise RuntimeError(f"tfsono {' '.join(map(str, words))}: exit status {status}\n{printed.getvalue()}")


# --- parts


def parts(folder: Path) -> None:
    """Prints the seconds of the longest part of a prediction; a line where `predict` has no --part."""
    if "--part" not in tfsono(["predict", "--help"]):
        print("\nparts: `tfsono predict` of this version has no --part")
        return
    place, rows = folder / "parts", []
    quietly(["phantom", "hip", place / "dataset", "--cases", PREDICTED, *PHANTOM])
    write_cache(place)
    trained(place, PREDICTED)
    for number in PARTS:
        rows.append({"longest part s": max(seconds(lambda part=part, number=number: tfsono(
            ["predict", place / "run", place / "dataset" / "images", "--out", place / f"out_{number}", "--part",
             f"{part}/{number}"])) for part in range(1, number + 1))})
    show("parts", list(PARTS), rows)


def tfsono(words: list) -> str:
    """What `tfsono WORDS` prints, in a process of its own."""
    return subprocess.run([sys.executable, "-m", "tfsono", *map(str, words)], check=True, stdout=subprocess.PIPE,
                          encoding="utf-8", cwd=ROOT).stdout


if __name__ == "__main__":
    main()
