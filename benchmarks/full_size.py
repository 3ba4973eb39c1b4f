"""One training step and one inference of preset `paper` at the paper's full size: seconds, and memory over the base.

    python benchmarks/full_size.py train
    python benchmarks/full_size.py infer [--tiling paper|half|fast] [--precision mixed_bfloat16]

Run each in a fresh process: the base is what the process holds before the network is built (Python, TensorFlow, the
data), the peak what the operating system saw at most.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfsono.config import choose
from tfsono.configs.hip import HIP


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/full_size.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "infer"))
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--tiling", default="paper")
    arguments = parser.parse_args(argv)
    config = dataclasses.replace(choose(HIP, "paper", "paper").config, label_names=("femur",),
                                 precision=arguments.precision, tiling=arguments.tiling)
    (train if arguments.what == "train" else infer)(config)


def train(config) -> None:
    """Three steps of batch 2 of 64^3: the first traces, the others are timed."""
    import numpy as np

    from tfsono.models.hip import build, losses
    from tfsono.training.optimizers import learning_rate, optimizer

    random = np.random.default_rng(0)
    image = random.normal(size=(config.batch, *config.patch, 1)).astype("float32")
    label = random.integers(0, 2, image.shape).astype("int8")
    base = resident_bytes()
    network = build(config)
    rate = learning_rate(config.learning_rate, config.schedule, config.halve_every, config.iterations)
    network.compile(optimizer(config.optimizer, rate, config.momentum), loss=losses(config),
                    loss_weights=config.head_weights, jit_compile=config.jit_compile)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        network.train_on_batch(image, {head: label for head in config.heads})
        seconds.append(time.perf_counter() - began)
    report(f"training step, batch {config.batch} of {config.patch}, {config.precision}", seconds[1:], base)


def infer(config) -> None:
    """One volume of the paper's size through the whole inference, clean-up included."""
    from tfsono.inference.hip import HipSegmenter
    from tfsono.inference.segmentation import clean_mask, segment_array
    from tfsono.models.hip import build, main_network
    from tfsono.phantoms.hip import hip_phantom

    image = hip_phantom(0, config.phantom_size, config.phantom_spacing_mm).image
    base = resident_bytes()
    segmenter = HipSegmenter.build(main_network(build(config)), config)
    began = time.perf_counter()
    mask = segment_array(segmenter, image, config.phantom_spacing_mm)
    clean_mask(mask, config.classes, config.largest_component, config.fill_holes)
    seconds = time.perf_counter() - began
    report(f"inference of {image.shape}, tiling {config.tiling}, {config.precision}", [seconds], base)


def resident_bytes() -> int:
    """What this process holds now (Linux)."""
    import tensorflow  # noqa: F401  (part of the base)

    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def report(title: str, seconds: list[float], base: int) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{title}: {', '.join(f'{s:.1f}' for s in seconds)} s; base {base / 2**30:.2f} GiB, "
          f"peak {peak / 2**30:.2f} GiB, {(peak - base) / 2**30:.2f} GiB over the base; {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
