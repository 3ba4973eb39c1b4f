"""Inference of `femur`, `pose`, `face` and `head` at the papers' sizes with untrained weights: seconds and peak memory.

    python benchmarks/inference_landmarks.py femur [--precision mixed_bfloat16] [--slices 284] [--variant brndc|...]
    python benchmarks/inference_landmarks.py pose [--precision mixed_bfloat16] [--variant land_gcp|rnn_gcp|...]
    python benchmarks/inference_landmarks.py face [--precision mixed_bfloat16] [--variant ig_rpn|...]
    python benchmarks/inference_landmarks.py head [--images 200] [--samples 0] [--model pretrained/head]

Each row is a call of a part after one that traces it, on a small volume, with the multiplications of its convolutions
and the time that these would take at the rate of a large matrix product on the same machine: no convolution without
fewer multiplications is faster. `--operations 8` adds the operations that took most of a row, by TensorFlow's profiler,
the seconds of threads added. Run each in a fresh process: the peak is what the operating system saw at most. `head` is
the whole `tfsono predict` of phantom images of HC18's size, with its start and all its files, by a trained model: in an
untrained one's mask of noise the search for an ellipse is slow.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import full_size
from tfsono.config import choose
from tfsono.configs.face import LANDMARKS as FACE_LANDMARKS
from tfsono.configs.pose import LANDMARKS
from tfsono.surroundings import prepare_tensorflow
from tfsono.systems import system

NAMES = {"femur": ("proximal", "distal"), "pose": LANDMARKS, "face": FACE_LANDMARKS}
SMALL = (64, 64, 64)  # voxels: a volume that traces
DIFFERENT = 20  # phantom images of `head`; the others are copies


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/inference_landmarks.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=(*NAMES, "head"))
    parser.add_argument("--variant", default="", help="a variant of the system; without, its first")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--folded", action="store_true",
                        help="moving statistics in the convolutions, as `predict` and `export` have them")
    parser.add_argument("--slices", type=int, default=284, help="femur: of the first stage")
    parser.add_argument("--operations", type=int, default=0, help="print so many of the slowest operations")
    parser.add_argument("--images", type=int, default=200, help="head")
    parser.add_argument("--samples", type=int, default=0, help="head: forward passes with dropout")
    parser.add_argument("--model", default=str(ROOT / "pretrained" / "head"), help="head")
    arguments = parser.parse_args(argv)
    if arguments.system == "head":
        predict_images(arguments)
        return
    prepare_tensorflow()
    choices = system(arguments.system).CHOICES
    config = choose(choices, "paper", arguments.variant or next(iter(choices.variants)),
                    {"precision": arguments.precision}).config
    config = dataclasses.replace(config, landmark_names=NAMES[arguments.system])
    if arguments.system == "femur":
        config = dataclasses.replace(config, label_names=("femur",))
        parts = femur_parts(config, arguments.slices, arguments.folded)
    else:
        parts = (pose_parts if arguments.system == "pose" else face_parts)(config, arguments.folded)
    rate = product_rate(arguments.precision.removeprefix("mixed_"))
    print(f"a matrix product in {arguments.precision}: {rate / 1e9:.0f} billion multiplications a second")
    for part in parts:
        part.small()
        report(part.name, part.call, arguments.operations)
        if part.multiplications:
            print(f"    {part.multiplications / 1e9:.0f} billion multiplications in convolutions, "
                  f"{part.multiplications / rate:.2f} s at that rate")


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of an inference: its name, a call, one of a small volume, and the multiplications of convolutions."""

    name: str
    call: Callable
    small: Callable
    multiplications: int = 0


def volume_of(size):
    """Noise [X, Y, Z] float32."""
    import numpy as np

    return np.random.default_rng(0).normal(100, 30, size).astype("float32")


def as_tested(network, fold: bool):
    from tfsono.layers.folding import folded

    return folded(network) if fold else network


def femur_parts(config, slices: int, fold: bool) -> list[Part]:
    """The first stage alone, and the second in the paper's mean region, as an untrained mask is noise."""
    from tfsono.geometry.regions import Box, network_grid
    from tfsono.inference.femur import FemurModule, RegionFinder, RegionReader, SliceModule
    from tfsono.models.femur import build

    first = dataclasses.replace(config, network="unet_roi")
    networks = build(first), build(config)
    finder = SliceModule(RegionFinder(as_tested(networks[0], fold), first.stride, first.slice_batch,
                                      first.roi_smallest_part))
    module = FemurModule(RegionReader(as_tested(networks[1], fold), config.stride, config.roi_margin,
                                      config.roi_ratio, config.heatmap_decode), None)
    spacing, volume = config.phantom_spacing_mm, volume_of((*config.phantom_size[:2], slices))
    box = [0, 0, 0, *(side - config.roi_margin for side in full_size.FEMUR_REGION)]  # enlarged on one side alone
    region, small = volume_of(config.phantom_size), volume_of(SMALL)
    grid = network_grid(Box((0, 0, 0), full_size.FEMUR_REGION), config.roi_ratio, config.stride).padded
    return [
        Part(f"first stage, {slices} slices", lambda: finder(volume, spacing), lambda: finder(small, spacing),
             slices * multiplications(networks[0], (1, *config.phantom_size[:2], 1))),
        Part(f"second stage, {full_size.FEMUR_REGION}", lambda: module.predict_in(region, spacing, box),
             lambda: module.predict_in(small, spacing, [0] * 3 + [32] * 3),
             multiplications(networks[1], (1, *grid, 1)))]  # folding changes no convolution


def pose_parts(config, fold: bool) -> list[Part]:
    """The whole graph, and the input and the network alone."""
    from tfsono.inference.pose import PoseModule
    from tfsono.models.pose import build
    from tfsono.systems.pose import reader_of

    module = PoseModule(reader_of(as_tested(build(config), fold), config))
    return parts_of(config, module)


def face_parts(config, fold: bool) -> list[Part]:
    """As `pose_parts`, with a prior of random faces and a bias towards the background, as in a trained network."""
    import numpy as np

    from tfsono.inference.face import FaceModule
    from tfsono.inference.face_prior import prior_of
    from tfsono.models.face import build
    from tfsono.systems.face import reader_of

    random = np.random.default_rng(0)
    faces = [(str(number), random.uniform(20, 80, (config.landmarks, 3)), np.ones(3)) for number in range(20)]
    network = build(config)
    full_size.background_first(network, config)
    prior = prior_of(faces, config.landmark_names) if config.boxes else None
    return parts_of(config, FaceModule(reader_of(as_tested(network, fold), config), prior))


def parts_of(config, module) -> list[Part]:
    import tensorflow as tf

    read = tf.function(module.reader.read, input_signature=[tf.TensorSpec([None] * 3), tf.TensorSpec([3])])
    network = tf.function(lambda x: module.network(x, training=False),
                          input_signature=[tf.TensorSpec([1, None, None, None, 1])])
    spacing, volume, small = config.phantom_spacing_mm, volume_of(config.phantom_size), volume_of(SMALL)
    image = read(volume, spacing)[0]
    count = multiplications(module.network, tuple(image.shape))
    return [Part(f"all, {config.phantom_size}", lambda: module(volume, spacing), lambda: module(small, spacing), count),
            Part("input", lambda: read(volume, spacing), lambda: read(small, spacing)),
            Part(f"network, {tuple(image.shape[1:4])}", lambda: network(image),
                 lambda: network(image[:, :64, :64, :64]), count)]


def product_rate(precision: str) -> float:
    """Multiplications a second of two large matrices, the fastest of four."""
    import tensorflow as tf

    one = tf.ones((4096, 4096), precision)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        (one @ one).numpy()
        seconds.append(time.perf_counter() - began)
    return 4096 ** 3 / min(seconds)


def multiplications(network, shape: tuple[int, ...]) -> int:
    """Of the convolutions of a functional network, for an input [1, X, Y, Z, 1] or [1, X, Y, 1]."""
    import keras
    import numpy as np

    from tfsono.layers.trilinear import UpsampledConv3D

    transposed = (keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
    layers = [layer for layer in network.layers if len(getattr(layer, "kernel", np.zeros(1)).shape) > 2]
    tensors = [layer.input if isinstance(layer, transposed) else layer.output for layer in layers]
    shapes = keras.Model(network.inputs, tensors).compute_output_shape(shape)
    found = 0
    for layer, sides in zip(layers, shapes, strict=True):
        count = int(np.prod(layer.kernel.shape)) * int(np.prod(sides[:-1]))
        if isinstance(layer, UpsampledConv3D):  # its first input has half the sides
            coarse = layer.input[0].shape[-1] / layer.kernel.shape[-2]
            count = round(count * (1 - coarse * 7 / 8))
        found += count
    return found


def report(name: str, call: Callable, operations: int) -> None:
    """Prints a row, and the operations of another call."""
    began, processor = time.perf_counter(), time.process_time()
    call()
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name}: {seconds:.2f} s ({processor:.1f} s of {os.cpu_count()} cores), peak of the process "
          f"{peak:.2f} GiB", flush=True)
    if operations:
        total = operation_seconds(call)
        for operation, spent in total.most_common(operations):
            print(f"    {spent:8.2f} s  {operation}")


def operation_seconds(call: Callable) -> collections.Counter:
    """Seconds by kind of operation in a call."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space, found = xplane_pb2.XSpace(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            call()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space.ParseFromString(path.read_bytes())
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                node, colon, operation = plane.event_metadata[event.metadata_id].name.rpartition(":")
                if colon and " " not in node + operation and operation and node[-1:] != ":":  # no C++ function
                    found[operation] += event.duration_ps / 1e12
    return found


def predict_images(arguments: argparse.Namespace) -> None:
    """Writes the images, then predicts them in a process of its own."""
    import cv2

    from tfsono.configs.head import HeadConfig
    from tfsono.phantoms.head import head_phantom

    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for number in range(min(arguments.images, DIFFERENT)):
            image = head_phantom(number, HeadConfig.phantom_size, HeadConfig.phantom_pixel_size_mm)[0]
            for copy in range(number, arguments.images, DIFFERENT):
                cv2.imwrite(str(images / f"head_{copy:03d}.png"), image)
        command = [sys.executable, "-m", "tfsono", "predict", arguments.model, str(images), "--out", f"{folder}/out",
                   "--pixel_size_mm", "0.15", "--samples", str(arguments.samples)]
        began = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"tfsono predict, {arguments.images} images of {image.shape}, {arguments.samples} samples with dropout: "
          f"{seconds:.1f} s, peak {peak:.2f} GiB; {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
