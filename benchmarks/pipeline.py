"""Does input starve training? Patches per second with full augmentation, and the share of a step spent waiting.

    python benchmarks/pipeline.py --data FILE.h5 --preset quick --variant tuned

The network trains on the same cores at the same time, as in `train/hip.py`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tfsono.config import add_config_arguments, settings_from
from tfsono.configs.hip import HIP
from tfsono.errors import run_command
from tfsono.surroundings import prepare_tensorflow


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/pipeline.py", description=__doc__)
    parser.add_argument("--data", required=True, help="a cache of hip")
    parser.add_argument("--steps", type=int, default=40, help="training steps that are timed")
    add_config_arguments(parser, HIP)
    arguments = parser.parse_args(argv)

    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    from tfsono.data.cache import Cache

    spec = importlib.util.spec_from_file_location("train_hip", ROOT / "train" / "hip.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with Cache(arguments.data, "hip") as cache:
        settings = settings_from(arguments, HIP).replaced("the cache's labels", label_names=tuple(cache.labels))
        batches, _ = script.batches(cache, settings.config, cache.names)
    rate = patches_per_second(batches, settings.config.batch)
    print(f"{rate:.0f} patches/s on {os.cpu_count()} cores, nothing else running")
    waited, trained = waiting(script, settings.config, batches, arguments.steps)
    print(f"{arguments.steps} steps: {1e3 * trained / arguments.steps:.0f} ms of training and "
          f"{1e3 * waited / arguments.steps:.1f} ms of waiting each, {100 * waited / (waited + trained):.1f} % waiting")


def patches_per_second(batches, batch: int, warm: int = 5, counted: int = 100) -> float:
    """How fast the pipeline runs alone."""
    began, seen = 0.0, 0
    for seen, _ in enumerate(batches(range(warm + counted)), 1):
        if seen == warm:
            began = time.perf_counter()
    return (seen - warm) * batch / (time.perf_counter() - began)


def waiting(script, config, batches, steps: int, warm: int = 5) -> tuple[float, float]:
    """Seconds spent waiting for batches and seconds spent in training steps."""
    from tfsono.models.hip import build

    network = build(config)
    network = script.compiled(network, config)
    iterator = iter(batches(range(warm + steps)))
    waited = trained = 0.0
    for step in range(warm + steps):
        began = time.perf_counter()
        image, label = next(iterator)
        had = time.perf_counter()
        network.train_on_batch(image, label)
        if step >= warm:
            waited += had - began
            trained += time.perf_counter() - had
    return waited, trained


if __name__ == "__main__":
    sys.exit(run_command(main))
