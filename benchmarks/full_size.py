"""One training step and one inference of preset `paper` at the paper's full size: seconds, and memory over the base.

    python benchmarks/full_size.py hip train [--precision mixed_bfloat16]
    python benchmarks/full_size.py hip infer [--tiling paper|half|fast]
    python benchmarks/full_size.py head train [--variant unet|heatmap|...]
    python benchmarks/full_size.py head infer [--variant unet|heatmap|...]
    python benchmarks/full_size.py femur train [--variant brndc|brndc_d|unet_roi|...] [--recompute]
    python benchmarks/full_size.py femur infer [--variant brndc|...]
    python benchmarks/full_size.py pose train [--variant land_gcp|land_r4|rnn_gcp|...]
    python benchmarks/full_size.py pose infer [--variant land_gcp|...] [--refine [--steps 6]]
    python benchmarks/full_size.py face train [--variant ig_rpn|ig_ssd|faster_rcnn|heatmap|...]
    python benchmarks/full_size.py face infer [--variant ig_rpn|...] [--precision mixed_bfloat16]

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

from tfsono.config import choose
from tfsono.configs.face import LANDMARKS as FACE_LANDMARKS
from tfsono.configs.pose import LANDMARKS
from tfsono.surroundings import prepare_tensorflow
from tfsono.systems import NAMES, system


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/full_size.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=NAMES)
    parser.add_argument("what", choices=("train", "infer"))
    parser.add_argument("--variant", default="", help="a variant of the system; without, its first")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--tiling", default="paper", help="hip")
    parser.add_argument("--recompute", action="store_true", help="femur: with gradient checkpointing")
    parser.add_argument("--refine", action="store_true", help="pose: with the refinement on the volume")
    parser.add_argument("--steps", type=int, default=0, help="pose: of the refinement; without, the preset's")
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    choices = system(arguments.system).CHOICES
    config = choose(choices, "paper", arguments.variant or next(iter(choices.variants)),
                    {"precision": arguments.precision}).config
    train = arguments.what == "train"
    if arguments.system == "hip":
        (train_hip if train else infer_hip)(
            dataclasses.replace(config, label_names=("femur",), tiling=arguments.tiling))
    elif arguments.system == "head":
        (train_head if train else infer_head)(config)
    elif arguments.system == "pose":
        config = dataclasses.replace(config, landmark_names=LANDMARKS,
                                     refine_iterations=arguments.steps or config.refine_iterations)
        train_pose(config) if train else infer_pose(config, arguments.refine)
    elif arguments.system == "face":
        (train_face if train else infer_face)(dataclasses.replace(config, landmark_names=FACE_LANDMARKS))
    else:
        (train_femur if train else infer_femur)(
            dataclasses.replace(config, label_names=("femur",), landmark_names=("proximal", "distal"),
                                recompute=arguments.recompute))


def timed_steps(network, image, target) -> list[float]:
    """Seconds of two training steps; one before them traces."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        network.train_on_batch(image, target)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def train_hip(config) -> None:
    """Steps of batch 2 of 64^3."""
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
                    loss_weights=config.head_weights, jit_compile=False)
    seconds = timed_steps(network, image, {head: label for head in config.heads})
    report(f"training step, batch {config.batch} of {config.patch}, {config.precision}", seconds, base)


def infer_hip(config) -> None:
    """One volume of the paper's size through the whole inference, postprocessing included."""
    from tfsono.inference.hip import HipModule
    from tfsono.inference.segmentation import postprocess_mask, segment_array
    from tfsono.models.hip import build, main_network
    from tfsono.phantoms.hip import hip_phantom

    image = hip_phantom(0, config.phantom_size, config.phantom_spacing_mm).image
    base = resident_bytes()
    segmenter = HipModule.build(main_network(build(config, apart=True)), config)
    began = time.perf_counter()
    mask = segment_array(segmenter, image, config.phantom_spacing_mm)
    postprocess_mask(mask, config.classes, config.largest_component, config.fill_holes)
    seconds = time.perf_counter() - began
    report(f"inference of {image.shape}, tiling {config.tiling}, {config.precision}", [seconds], base)


def train_head(config) -> None:
    """Steps of batch 8 or 16 of 512x512."""
    import numpy as np

    from tfsono.models.head import build, losses
    from tfsono.training.optimizers import optimizer

    random = np.random.default_rng(0)
    image = random.normal(size=(config.batch, *config.input_size, 1)).astype("float32")
    if config.part == "segmentation":
        target = (random.random(image.shape) < 0.5).astype("float32")
    else:
        target = random.uniform(100, 400, (config.batch, 4, 2)).astype("float32")
    base = resident_bytes()
    network = build(config)
    network.compile(optimizer(config.optimizer, config.learning_rate, weight_decay=config.weight_decay,
                              gradient_clip=config.gradient_clip),
                    loss=losses(config), jit_compile=False)
    seconds = timed_steps(network, image, {config.output: target})
    report(f"{config.network}: training step, batch {config.batch} of {config.input_size}, {config.precision}", seconds,
           base)


def infer_head(config) -> None:
    """One image of HC18's size through the whole graph, and the ellipse of its reference mask; the first call traces.

    Of the reference mask, as untrained weights give a mask of noise, in which the search for an ellipse is slow.
    """
    from tfsono.geometry.ellipse import ellipse_of_mask
    from tfsono.inference.head import head_module
    from tfsono.models.head import build
    from tfsono.phantoms.head import head_phantom

    image, mask = head_phantom(0, config.phantom_size, config.phantom_pixel_size_mm)[:2]
    base = resident_bytes()
    module, seconds = head_module(build(config), config), []
    for _ in range(3):
        began = time.perf_counter()
        module(image.astype("float32"))
        if config.part == "segmentation":
            ellipse_of_mask(mask)
        seconds.append(time.perf_counter() - began)
    report(f"{config.network}: inference of {image.shape}, {config.precision}", seconds[1:], base)


FEMUR_REGION = (228, 124, 190)  # voxels: the paper's mean region, already enlarged


def train_femur(config) -> None:
    """Steps on one region of the paper's mean size, or on slices for the first stage; adversarial in `brndc_d`."""
    import numpy as np

    from tfsono.geometry.regions import Box, network_grid
    from tfsono.models.femur import build
    from train.femur import compiled

    random = np.random.default_rng(0)
    if config.network == "unet_roi":
        shape = (config.slice_batch, *config.phantom_size[:2], 1)
    else:
        shape = (1, *network_grid(Box((0, 0, 0), FEMUR_REGION), config.roi_ratio, config.stride).padded, 1)
    image = random.normal(size=shape).astype("float32")
    reference = {"mask": (random.random(shape) < 0.03).astype("int8"),
                 "heatmaps": random.random((*shape[:-1], config.landmarks)).astype("float32")}
    config = dataclasses.replace(config, iterations=0 if config.adversarial else config.iterations)  # its second stage
    base = resident_bytes()
    network = compiled(build(config), config)
    seconds = timed_steps(network, image, {name: reference[name] for name in config.outputs})
    stage = "adversarial " if config.adversarial else ""
    kept = ", checkpointed" if config.recompute else ""
    report(f"{config.network}: {stage}training step of {shape[:-1]}, {config.precision}{kept}", seconds, base)


def infer_femur(config) -> None:
    """One volume of the paper's size through both stages in one graph, and the postprocessing.

    Untrained weights: the first stage finds a box of noise, so the second stage is timed in the paper's mean region.
    """
    import numpy as np

    from tfsono.inference.femur import FemurModule, RegionFinder, RegionReader, SliceModule
    from tfsono.inference.segmentation import postprocess_mask
    from tfsono.models.femur import build
    from tfsono.phantoms.femur import femur_phantom

    image = femur_phantom(0, config.phantom_size, config.phantom_spacing_mm).image.astype("float32")
    spacing = np.float32(config.phantom_spacing_mm)
    inner = [side - 2 * config.roi_margin for side in FEMUR_REGION]
    start = [(side - part) // 2 for side, part in zip(image.shape, inner, strict=True)]
    box = [*start, *(low + part for low, part in zip(start, inner, strict=True))]
    base = resident_bytes()
    first = dataclasses.replace(config, network="unet_roi")
    finder = SliceModule(RegionFinder(build(first), first.stride, config.slice_batch, config.roi_smallest_part))
    module = FemurModule(RegionReader(build(config), config.stride, margin=config.roi_margin, ratio=config.roi_ratio,
                                      decode=config.heatmap_decode, sigma=config.heatmap_sigma), None)
    began = time.perf_counter()
    finder(image, spacing)
    middle = time.perf_counter()
    prediction = module.predict_in(image, spacing, box)
    if "mask" in prediction:
        postprocess_mask(prediction["mask"].numpy(), config.classes, config.largest_component, config.fill_holes)
    ended = time.perf_counter()
    report(f"inference of {image.shape}, {config.precision}: first stage, region of {FEMUR_REGION}, both",
           [middle - began, ended - middle, ended - began], base)


def train_pose(config) -> None:
    """Steps on one volume of the paper's average size, rescaled; adversarial in the variants of `gan`."""
    import numpy as np

    from tfsono.geometry.regions import Box, network_grid
    from tfsono.models.pose import build
    from train.pose import compiled

    random = np.random.default_rng(0)
    shape = (1, *network_grid(Box((0, 0, 0), config.phantom_size), config.ratio, config.stride).padded, 1)
    image = random.normal(size=shape).astype("float32")
    maps = random.random((*shape[:-1], config.landmarks), np.float32)
    config = dataclasses.replace(config, iterations=0 if config.adversarial else config.iterations)  # its second stage
    base = resident_bytes()
    network = compiled(build(config), config)
    seconds = timed_steps(network, image, {"heatmaps": maps})
    kept = ", checkpointed" if config.recompute else ""
    report(f"{config.method}: training step of {shape[:-1]}, {config.precision}{kept}", seconds, base)


def infer_pose(config, refine: bool) -> None:
    """One volume of the paper's average size through the whole graph, or refined on it against 100 random poses."""
    import numpy as np

    from tfsono.inference.atlases import AtlasSet
    from tfsono.inference.pose import PoseModule, PoseRefiner
    from tfsono.models.pose import build
    from tfsono.systems.pose import reader_of, refinement_of

    random = np.random.default_rng(0)
    volume = random.normal(100, 30, config.phantom_size).astype("float32")
    spacing = np.float32(config.phantom_spacing_mm)
    poses = random.uniform(20, 80, (100, config.landmarks, 3))
    base = resident_bytes()
    module = PoseModule(reader_of(build(config), config))
    if refine:
        module = PoseRefiner(module, AtlasSet(config.landmark_names, poses), refinement_of(config))
    module(volume[:64, :64, :64], spacing)  # traces
    began = time.perf_counter()
    module(volume, spacing)
    seconds = time.perf_counter() - began
    kind = f"refinement of {config.refine_iterations} steps on" if refine else "inference of"
    report(f"{config.method}: {kind} {volume.shape} at ratio {config.ratio}, {config.precision}", [seconds], base)


def train_face(config) -> None:
    """Steps on one volume, with targets of five landmarks at random positions."""
    import numpy as np

    from tfsono.geometry.anchors import assign
    from tfsono.geometry.boxes import centred_boxes
    from tfsono.models.face import build
    from train.face import compiled

    random = np.random.default_rng(0)
    sides = config.phantom_size
    image = random.normal(size=(1, *sides, 1)).astype("float32")
    if config.boxes:
        boxes = centred_boxes(random.uniform(30, min(sides) - 30, (config.landmarks, 3)), np.array(config.sides))
        levels = [(tuple(side // stride for side in sides), stride) for stride in config.strides]
        labels = assign(boxes, levels, config.anchor_sides, sides).labels
        reference = {"boxes": boxes.astype("float32"), "labels": labels}
        for name, kind, number in (("positives", labels > 0, config.max_positives),
                                   ("negatives", labels == 0, config.max_positives * config.negatives_per_positive)):
            reference[name] = random.choice(np.flatnonzero(kind), number).astype("int32")
        reference = {name: value[None] for name, value in reference.items()}
    else:
        reference = {"heatmaps": random.random((1, *sides, config.landmarks), np.float32)}
    base = resident_bytes()
    seconds = timed_steps(compiled(build(config), config), image, reference)
    report(f"{config.method}: training step of {sides}, {config.precision}", seconds, base)


def infer_face(config) -> None:
    """One volume through the whole graph with a prior of random faces; medians, and the network's share of it.

    The untrained weights get a bias towards the background, so that few anchors pass the score threshold, as in a
    trained network.
    """
    import numpy as np

    from tfsono.inference.face import FaceModule
    from tfsono.inference.face_prior import prior_of
    from tfsono.models.face import build
    from tfsono.systems.face import reader_of

    random = np.random.default_rng(0)
    volume = random.normal(100, 30, config.phantom_size).astype("float32")
    spacing = np.float32(config.phantom_spacing_mm)
    faces = [(str(number), random.uniform(20, 80, (config.landmarks, 3)), spacing) for number in range(20)]
    base = resident_bytes()
    network = build(config)
    background_first(network, config)
    module = FaceModule(reader_of(network, config), prior_of(faces, config.landmark_names) if config.boxes else None)
    image, size = module.reader.read(volume, spacing)
    parts = {"all": lambda: module(volume, spacing), "network": compiled_call(network, image),
             "candidates": compiled_call(lambda x: module.reader.candidates(x, size), image)}
    for name, call in parts.items():
        seconds = []
        for _ in range(22):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        print(f"{name}: median {np.median(seconds[2:]):.3f} s of 20")
    report(f"{config.method}: inference of {volume.shape}, {config.precision}, the last of these", seconds[-1:], base)


def background_first(network, config) -> None:
    """Raises the bias of the background score."""
    import numpy as np

    for layer in network.layers:
        if layer.name.endswith("_classes") and config.boxes and layer.get_weights():
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, bias + np.tile([5.0] + [0.0] * config.landmarks, config.anchors)])


def compiled_call(function, image):
    """A call without arguments of a function in a graph of its own."""
    import tensorflow as tf

    graph = tf.function(function)
    return lambda: graph(image)


def resident_bytes() -> int:
    """Memory of this process now (Linux)."""
    import tensorflow  # noqa: F401  (part of the base)

    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def report(title: str, seconds: list[float], base: int) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{title}: {', '.join(f'{s:.1f}' for s in seconds)} s; base {base / 2**30:.2f} GiB, "
          f"peak {peak / 2**30:.2f} GiB, {(peak - base) / 2**30:.2f} GiB over the base; {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
