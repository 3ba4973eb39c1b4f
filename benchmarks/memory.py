"""Peak memory of a training step with and without gradient checkpointing.

    python benchmarks/memory.py [femur] [--sizes 48x40x56 ...] [--network brndc]
    python benchmarks/memory.py pose [--sizes 96x96x112 112x112x144] [--network land] [--ways plain recompute]
    python benchmarks/memory.py pose --widths 16,32,64,128,128 --landmarks 4
    python benchmarks/memory.py pose --estimate

Each row is a fresh process: the base is what it holds before the network is built (Python, TensorFlow, the data), the
peak what the operating system saw at most while it took three steps of batch 1, the first of which traces. Weights and
Adam's two copies of them are in it. The paper's region of `femur` at ratio 0.65 is 152x88x128 on average, at 1
232x128x192. The volume of `pose` is 96x96x112 at ratio 0.4 and 112x112x144 at 0.5: the last lines compare the first
plain with the second recomputed. `--estimate` measures nothing: it counts tensors (`tfsono.training.memory`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import choose
from tfsono.configs.pose import LANDMARKS, METHODS
from tfsono.surroundings import prepare_tensorflow
from tfsono.systems import system

NETWORKS = {"femur": ("brndc", "brn", "unet_s", "unet_l"), "pose": METHODS}
SIZES = {"femur": ["48x40x56", "72x48x64"], "pose": ["96x96x112", "112x112x144"]}
WAYS = ("plain", "blocks", "recompute")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/memory.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", nargs="?", choices=tuple(NETWORKS), default="femur")
    parser.add_argument("--sizes", nargs="+", help="sides are multiples of the network's stride, 8 or 16")
    parser.add_argument("--network", help="; ".join(f"{name}: {', '.join(NETWORKS[name])}" for name in NETWORKS))
    parser.add_argument("--widths", help="channels of the levels; without, the preset's")
    parser.add_argument("--landmarks", type=int, default=16, help="of pose; with a quarter of the widths take 4")
    parser.add_argument("--preset", choices=("paper", "quick"), default="paper")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["plain", "recompute"],
                        help="blocks: whole nodes alone, without what `pose` splits further")
    parser.add_argument("--estimate", action="store_true", help="count tensors instead of measuring")
    parser.add_argument("--here", choices=WAYS, help="in this process, the first size only")
    arguments = parser.parse_args(argv)
    prepare_tensorflow()
    arguments.sizes = arguments.sizes or SIZES[arguments.system]
    arguments.network = arguments.network or NETWORKS[arguments.system][0]
    if arguments.network not in NETWORKS[arguments.system]:
        parser.error(f"--network: expected one of {', '.join(NETWORKS[arguments.system])}, found {arguments.network}")
    if arguments.here:
        print(json.dumps(row_of(arguments, arguments.sizes[0], arguments.here)))
        return
    print(f"{'size':>12}  {'':9}  {'base GiB':>8}  {'step GiB':>8}  {'share':>5}  {'seconds':>7}  {'of the CPU':>10}")
    rows = {}
    for size in arguments.sizes:
        for way in arguments.ways:
            row = rows[size, way] = (row_of if arguments.estimate else in_fresh_process)(arguments, size, way)
            share = row["step"] / rows[size, arguments.ways[0]]["step"]
            print(f"{size:>12}  {way:9}  {row['base']:8.2f}  {row['step']:8.2f}  {share:5.0%}  {row['seconds']:7.2f}  "
                  f"{row['processor']:10.2f}", flush=True)
    compare(rows, arguments)


def compare(rows: dict, arguments: argparse.Namespace) -> None:
    """Prints the last way at the last size against the first at the first: the paper's claim of `pose`."""
    (size, way), (larger, other) = ((arguments.sizes[place], arguments.ways[place]) for place in (0, -1))
    if size != larger and way != other:
        share = rows[larger, other]["step"] / rows[size, way]["step"]
        print(f"{other} at {larger} against {way} at {size}: {voxels(larger) / voxels(size):.2f} times the voxels in "
              f"{share:.2f} times the memory")
        if rows[larger, way]["seconds"]:
            times = [rows[larger, other][kind] / rows[larger, way][kind] for kind in ("seconds", "processor")]
            print(f"{other} against {way} at {larger}: {times[0]:.2f} times the seconds, {times[1]:.2f} times those of "
                  "the processor")


def sides(size: str) -> tuple[int, ...]:
    return tuple(map(int, size.split("x")))


def voxels(size: str) -> int:
    x, y, z = sides(size)
    return x * y * z


def in_fresh_process(arguments: argparse.Namespace, size: str, way: str) -> dict:
    command = [sys.executable, __file__, arguments.system, "--sizes", size, "--network", arguments.network, "--preset",
               arguments.preset, "--precision", arguments.precision, "--landmarks", str(arguments.landmarks), "--here",
               way]
    command += ["--widths", arguments.widths] if arguments.widths else []
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return json.loads(finished.stdout.splitlines()[-1])


def row_of(arguments: argparse.Namespace, size: str, way: str) -> dict:
    """The output of `measure`, or the estimate in its place."""
    import numpy as np

    from tfsono.training.memory import estimate

    config = config_of(arguments, way)
    if arguments.estimate:
        network = network_of(config, arguments, way)
        peak = estimate(network, kept_layers(network, arguments.system, way), (1, *sides(size), 1)).peak
        return {"base": 0.0, "step": peak / 2**30, "seconds": 0.0, "processor": 0.0}
    random = np.random.default_rng(0)
    reference = {}
    if arguments.system == "femur" and "mask" in config.outputs:
        reference["mask"] = random.integers(0, config.classes, (1, *sides(size), 1)).astype("int32")
    if arguments.system == "pose" or "heatmaps" in config.outputs:
        reference["heatmaps"] = random.random((1, *sides(size), config.landmarks), np.float32)
    image = random.normal(size=(1, *sides(size), 1)).astype("float32")
    return measure(lambda: network_of(config, arguments, way), image, reference)


def config_of(arguments: argparse.Namespace, way: str):
    """A config of the system, narrowed to the arguments' widths."""
    values = {"precision": arguments.precision, "recompute": way == "recompute"}
    if arguments.widths:
        values["widths"] = tuple(map(int, arguments.widths.split(",")))
    choices = system(arguments.system).CHOICES
    if arguments.system == "pose":
        variant = {"land": "land_gcp", "rnn": "rnn_gcp", "gan": "gan_gcp"}[arguments.network]
        return dataclasses.replace(choose(choices, arguments.preset, variant).config,
                                   landmark_names=LANDMARKS[:arguments.landmarks], **values)
    return dataclasses.replace(choose(choices, arguments.preset, "brndc").config, label_names=("femur",),
                               landmark_names=("proximal", "distal"), network=arguments.network, **values)


def network_of(config, arguments: argparse.Namespace, way: str):
    """The network of a config; `blocks` recomputes whole nodes, whatever the config says."""
    from tfsono.layers.recompute import recomputed
    from tfsono.models import femur, pose

    network = (pose if arguments.system == "pose" else femur).build(config)
    return recomputed(network, kept_layers(network, arguments.system, way)) if way == "blocks" else network


def kept_layers(network, system: str, way: str) -> list[str]:
    """Names of the layers that are kept."""
    from tfsono.models import pose

    nodes = [layer.name for layer in network.layers if layer.name.endswith("b_norm")]
    if way == "plain":
        return []
    return pose.kept((len(nodes) + 1) // 2) if system == "pose" and way == "recompute" else nodes


def measure(build, image, reference: dict) -> dict:
    """GiB held before `build` is called and at most above it in three steps; seconds of the faster of the later two:
    wall time, and CPU time of all cores, which other processes disturb less."""
    import keras

    from tfsono.losses.joint import heatmap_error

    loss = {"mask": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "heatmaps": heatmap_error}
    base = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    network = build()
    network.compile(keras.optimizers.Adam(1e-3, 0.5, epsilon=1e-8), {name: loss[name] for name in reference})
    seconds, processor = [], []
    for _ in range(3):
        began, began_processor = time.perf_counter(), time.process_time()
        network.train_on_batch(image, reference)
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - began_processor)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"base": base / 2**30, "step": (peak - base) / 2**30, "seconds": min(seconds[1:]),
            "processor": min(processor[1:])}


if __name__ == "__main__":
    main()
