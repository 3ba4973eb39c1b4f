"""Seconds of the box operations of detection on one core: assignment, and suppression in a graph.

    python benchmarks/boxes.py [--repeats 20] [--graph]

Assignment of all 2,097,152 anchors of a volume of 128^3 to five landmarks in NumPy; with `--graph` also, in TensorFlow,
the features of 128 boxes in a map of 32^3 with 256 channels, the 100 best of 10,000 boxes and the 2 best of 2,097,152.
Printed are CPU time and wall time; other processes lengthen the latter.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS",
                 "TF_NUM_INTEROP_THREADS"):
    os.environ[variable] = "1"

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.geometry.anchors import anchors, assign
from tfsono.geometry.boxes import centred_boxes, pairwise_iou
from tfsono.surroundings import prepare_tensorflow

SIZE, STRIDE, SIDES = 128, 4, (13, 16, 20, 28)
CELLS = (SIZE // STRIDE,) * 3


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/boxes.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--graph", action="store_true", help="also the operations in a TensorFlow graph")
    arguments = parser.parse_args(argv)
    if arguments.graph:  # first, so that its peak of memory shows
        measure_graph(max(1, arguments.repeats // 5))
    measure_assignment(arguments.repeats)


def time_call(what: str, call: Callable[[], object], repeats: int) -> None:
    """One call as a warm-up, then prints the medians of `repeats` calls."""
    call()
    times = []
    for _ in range(repeats):
        began, worked = time.perf_counter(), time.process_time()
        call()
        times.append((time.process_time() - worked, time.perf_counter() - began))
    work, clock = np.median(times, axis=0)
    print(f"{what}: {work:.4f} s of work, {clock:.4f} s by the clock", flush=True)


def measure_assignment(repeats: int) -> None:
    """As in a training step; and the IoU of each anchor with each target, once."""
    random = np.random.default_rng(0)
    targets = centred_boxes(random.uniform(30, 98, (5, 3)), (14, 24, 14, 24, 24))
    time_call("assignment of 2,097,152 anchors to 5 targets",
        lambda: assign(targets, [(CELLS, STRIDE)], SIDES, (SIZE,) * 3), repeats)
    every = anchors(CELLS, STRIDE, SIDES)
    time_call("  the IoUs alone, each with each", lambda: pairwise_iou(every, targets), 1)


def measure_graph(repeats: int) -> None:
    """The tensor operations of inference and Faster R-CNN."""
    prepare_tensorflow()
    import tensorflow as tf

    from tfsono.geometry.boxes import keep_best
    from tfsono.geometry.roi_align import roi_align

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    random = np.random.default_rng(0)
    measure_features(tf, random, roi_align, repeats)
    every = tf.constant(anchors(CELLS, STRIDE, SIDES))
    scores = tf.constant(random.uniform(0, 1, len(every)).astype(np.float32))
    some = tf.constant(random.permutation(len(every))[:10_000])
    for name, boxes, values, count in (("10,000", tf.gather(every, some), tf.gather(scores, some), 100),
                                       ("2,097,152", every, scores, 2)):
        best = tf.function(lambda boxes, values, count=count: keep_best(boxes, values, 0.3, count))
        time_call(f"the {count} best of {name} boxes, in a graph", lambda: best(boxes, values), repeats)


def measure_features(tf, random: np.random.Generator, roi_align: Callable, repeats: int) -> None:
    """RoIAlign, alone and with its gradient, and its memory."""
    features = tf.constant(random.normal(size=(*CELLS, 256)).astype(np.float32))
    boxes = tf.constant(centred_boxes(random.uniform(20, 108, (128, 3)), random.uniform(13, 28, (128, 3))), tf.float32)

    @tf.function
    def slopes(features):
        with tf.GradientTape() as tape:
            tape.watch(features)
            total = tf.reduce_sum(tf.square(roi_align(features, boxes, STRIDE)))
        return tape.gradient(total, features)

    tf.function(lambda features: tf.reduce_sum(features * 2))(features)  # exclude what a first graph takes
    before = peak_mib()
    forward = tf.function(lambda features: roi_align(features, boxes, STRIDE))
    time_call("RoIAlign of 128 boxes, 7^3 bins, 256 channels", lambda: forward(features), repeats)
    print(f"  {peak_mib() - before:.0f} MiB more at the peak; the output has {128 * 7**3 * 256 * 4 / 2**20:.0f} MiB")
    time_call("  with its gradient", lambda: slopes(features), repeats)
    print(f"  {peak_mib() - before:.0f} MiB more at the peak")


def peak_mib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
