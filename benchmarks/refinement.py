"""Cost of a refinement over its bare training steps (`pose`, Sec. 2.2): decoding, retrieval, proxy, a last pass.

    python benchmarks/refinement.py [--size 64x64x80] [--preset quick] [--widths 8,16,32,64,64] [--rounds 5] [--plain]

A bare step is a forward pass in training, the loss against a given target, a backward pass and Adam, compiled like the
refinement. Each is called once to be traced, then in turns; the fastest round counts. Work is CPU time on all cores,
the number to read where other programs run.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import choose
from tfsono.configs.pose import LANDMARKS, POSE, ROBUST, PoseConfig
from tfsono.surroundings import prepare_tensorflow


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/refinement.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="64x64x80", help="sides are multiples of the network's stride")
    parser.add_argument("--preset", choices=("paper", "quick"), default="quick")
    parser.add_argument("--widths", help="default: the preset's")
    parser.add_argument("--norm", choices=("moving", "batch"), default="moving")
    parser.add_argument("--plain", action="store_true", help="without gradient checkpointing")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    config = choose(POSE, arguments.preset, "land_gcp").config
    widths = tuple(map(int, arguments.widths.split(","))) if arguments.widths else config.widths
    config = dataclasses.replace(config, landmark_names=LANDMARKS, widths=widths, refine_norm=arguments.norm,
                                 recompute=not arguments.plain)
    measure(config, tuple(map(int, arguments.size.split("x"))), arguments.rounds)


def measure(config: PoseConfig, size: tuple[int, int, int], rounds: int) -> None:
    """Prints seconds and work of six bare steps, of the refinement, and of its parts."""
    import numpy as np
    import tensorflow as tf

    from tfsono.inference.atlases import AtlasSet, robust_places
    from tfsono.inference.refine import Refiner, RefineSettings, mean_gaussian_maps
    from tfsono.models.pose import build

    random = np.random.default_rng(0)
    network, image = build(config), tf.constant(random.normal(size=(1, *size, 1)).astype(np.float32))
    poses = random.uniform(0, min(size), (100, config.landmarks, 3))
    settings = RefineSettings(
        atlases=config.refine_atlases, iterations=config.refine_iterations, learning_rate=config.refine_learning_rate,
        beta_1=config.adam_beta_1, norm=config.refine_norm, sigma_mm=config.heatmap_sigma_mm,
        robust=robust_places(LANDMARKS, ROBUST), decode=config.heatmap_decode)
    refiner = Refiner(network, AtlasSet(LANDMARKS, poses), settings)
    spacing = np.ones(3, np.float32)
    nearest = tf.constant(poses[:config.refine_atlases].astype(np.float32))
    target = mean_gaussian_maps(nearest, tf.constant(size), config.heatmap_sigma_mm)
    step = bare_step(network, config)
    maps = tf.constant(random.normal(size=target.shape).astype(np.float32))
    decode = tf.function(refiner._points)
    proxy = tf.function(mean_gaussian_maps)
    parts = {
        "bare steps": lambda: [step(image, target) for _ in range(config.refine_iterations)],
        "refinement": lambda: refiner(image, size, spacing),
        "one pass": lambda: refiner._plain(image, tf.constant(size), spacing, tf.ones_like(image)),
        "one decoding": lambda: decode(maps),
        "one retrieval": lambda: refiner._support(poses[0]),
        "one proxy": lambda: proxy(nearest, tf.constant(size), config.heatmap_sigma_mm),
    }
    best = fastest(parts, rounds)
    for name, (seconds, work) in best.items():
        print(f"{name:>14}: {seconds:8.3f} s, work {work:8.3f} s", flush=True)
    seconds, work = (best["refinement"][place] / best["bare steps"][place] - 1 for place in (0, 1))
    print(f"overhead over {config.refine_iterations} bare steps: {seconds:.1%} of time, {work:.1%} of work")


def bare_step(network, config: PoseConfig):
    """One training step as a compiled function of (image, target), for all sizes."""
    import tensorflow as tf

    from tfsono.losses.joint import heatmap_error
    from tfsono.training.optimizers import optimizer

    adam = optimizer("adam", 1e-9, beta_1=config.adam_beta_1)  # too slow to change the network
    adam.build(network.trainable_variables)

    @tf.function(input_signature=[tf.TensorSpec([1, None, None, None, 1]),
                                  tf.TensorSpec([1, None, None, None, config.landmarks])])
    def step(image, target):
        with tf.GradientTape() as tape:
            loss = heatmap_error(target, network(image, training=True)["heatmaps"])[0]
        variables = network.trainable_variables
        adam.apply(tape.gradient(loss, variables), variables)
        return loss

    return step


def fastest(parts: dict, rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds and work of each: the minimum over the rounds after a warm-up."""
    found = {name: [] for name in parts}
    for number in range(rounds + 1):
        for name, call in parts.items():
            began, worked = time.perf_counter(), time.process_time()
            call()
            if number:
                found[name].append((time.perf_counter() - began, time.process_time() - worked))
    return {name: tuple(min(values) for values in zip(*rows, strict=True)) for name, rows in found.items()}


if __name__ == "__main__":
    main()
