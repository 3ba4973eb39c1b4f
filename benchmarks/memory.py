"""Peak memory of a training step of `femur` with and without calculating its blocks again in the backward pass.

    python benchmarks/memory.py [--sizes 48x40x56 ...] [--network brndc] [--preset paper] [--precision float32]

Each row is a fresh process: the base is what it holds before the network is built (Python, TensorFlow, the data), the
peak what the operating system saw at most while it took three steps of batch 1, the first of which traces. Weights and
Adam's two copies of them are in it. The paper's region at ratio 0.65 is 152x88x128 on average, at 1 232x128x192.
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
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfsono.config import choose
from tfsono.configs.femur import FEMUR, FemurConfig

NETWORKS = ("unet_s", "unet_l", "brn", "brndc")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/memory.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["48x40x56", "72x48x64"], help="sides are multiples of 8")
    parser.add_argument("--network", choices=NETWORKS, default="brndc")
    parser.add_argument("--preset", choices=("paper", "quick"), default="paper")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--here", choices=("plain", "recompute"), help="in this process, the first size only")
    arguments = parser.parse_args(argv)
    if arguments.here:
        print(json.dumps(measure(config_of(arguments), tuple(map(int, arguments.sizes[0].split("x"))))))
        return
    print(f"{'size':>12}  {'':9}  {'base GiB':>8}  {'step GiB':>8}  {'share':>5}  {'seconds':>7}")
    for size in arguments.sizes:
        plain = None
        for way in ("plain", "recompute"):
            row = in_fresh_process(arguments, size, way)
            plain = plain or row["step"]
            print(f"{size:>12}  {way:9}  {row['base']:8.2f}  {row['step']:8.2f}  {row['step'] / plain:5.0%}  "
                  f"{row['seconds']:7.2f}", flush=True)


def config_of(arguments: argparse.Namespace) -> FemurConfig:
    config = choose(FEMUR, arguments.preset, "brndc").config
    return dataclasses.replace(config, label_names=("femur",), landmark_names=("proximal", "distal"),
                               network=arguments.network, precision=arguments.precision,
                               recompute=arguments.here == "recompute")


def in_fresh_process(arguments: argparse.Namespace, size: str, way: str) -> dict:
    command = [sys.executable, __file__, "--sizes", size, "--network", arguments.network, "--preset", arguments.preset,
               "--precision", arguments.precision, "--here", way]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return json.loads(answer.stdout.splitlines()[-1])


def measure(config: FemurConfig, size: tuple[int, int, int]) -> dict:
    """GiB held before the network is built and at most above it, and the seconds of a step."""
    import keras
    import numpy as np

    from tfsono.models.femur import build

    random = np.random.default_rng(0)
    image = random.normal(size=(1, *size, 1)).astype("float32")
    truth = {"mask": random.integers(0, config.classes, (1, *size, 1)).astype("int32"),
             "heatmaps": random.random((1, *size, config.landmarks), np.float32)}
    loss = {"mask": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "heatmaps": "mse"}
    base = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    network = build(config)
    network.compile(keras.optimizers.Adam(config.learning_rate), {name: loss[name] for name in config.outputs})
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        network.train_on_batch(image, {name: truth[name] for name in config.outputs})
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"base": base / 2**30, "step": (peak - base) / 2**30, "seconds": min(seconds[1:])}


if __name__ == "__main__":
    main()
