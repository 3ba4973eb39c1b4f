"""The memory and the multiplications of a training step, counted from the tensors of a built network.

    counted(network, shape)     what a step holds, and what it multiplies, for an input of that shape
    needs_of(...)               the memory and time of a training on this machine
    check_fits(...)             refuses what does not fit, and names the nearest settings that do

What the backward pass needs of every layer is known from its kind, and the shapes follow from the graph, so nothing is
run. `benchmarks/estimates.py` compares the sum with what a training takes at most.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
import tensorflow as tf

from tfsono.errors import UserError
from tfsono.layers.proposals import SECOND_STAGE, Proposals
from tfsono.layers.recompute import segments
from tfsono.progress import clock
from tfsono.surroundings import GIBIBYTE, probe_gpu_memory, probe_memory

WORKSPACE = 3.0
"""Tensors as large as the largest that a step holds besides those that are counted: gradients, and the copies of
convolutions, in the layout that they calculate in. From measured steps (docs/planning.md)."""

TRACED_GIB = 0.3
"""What the first step adds whatever the network: its graph, and what TensorFlow loads with it. Measured."""

PROBED_SIDES = {2: (64, 160), 3: (16, 32)}
"""By the number of axes: the sides of the inputs on which a pass is timed; every stride divides them."""

OUTPUT_IS_ENOUGH = ("ReLU", "Activation", "Dropout", "Softmax")
"""Layers whose gradient needs their output (of dropout: a mask of its size)."""

NOTHING_IS_NEEDED = ("Add", "Average", "Concatenate", "Reshape", "UpSampling2D", "ZeroPadding2D", "Resizing",
                     "GlobalAveragePooling2D", "Cropping3D")
"""Layers whose gradient needs the shapes alone."""


@dataclass(frozen=True)
class Estimate:
    """A training step, counted.

    Attributes:
      retained: bytes of the tensors that the backward pass needs, in the piece where they are most.
      working: bytes of two of the largest tensor, for a gradient that comes in and one that goes out.
      weights: bytes of the weights, their gradients, and Adam's two copies.
      multiplications: of a forward pass.
      largest: bytes of the largest tensor.
    """

    retained: int
    working: int
    weights: int
    multiplications: int = 0
    largest: int = 0

    @property
    def peak(self) -> int:
        return self.retained + self.working + self.weights

    def beside(self, other: Estimate, times: int = 1) -> Estimate:
        """With another network that learns in the same step, and that runs so many times in it."""
        return replace(self, retained=self.retained + other.retained, working=max(self.working, other.working),
                       weights=self.weights + other.weights, largest=max(self.largest, other.largest),
                       multiplications=self.multiplications + times * other.multiplications)


def counted(network: keras.Model, shape: Sequence[int]) -> Estimate:
    """What a training step of a built network holds; of a trainer with a discriminator, both.

    Args:
      network: functional, recomputed or not; or a trainer of `tfsono.training`.
      shape: of the input, [B, ..., C].
    """
    return sum_of(parts_of(network, tuple(shape)))


@dataclass(frozen=True)
class Part:
    """A network that learns in a step.

    Attributes:
      network: functional, recomputed or not.
      shapes: of its input, or of each of its inputs.
      times: that it runs in a step.
    """

    network: keras.Model
    shapes: Sequence
    times: int = 1

    @property
    def inputs(self) -> list:
        return self.shapes if isinstance(self.shapes, list) else [self.shapes]

    def counted(self) -> Estimate:
        return estimate(self.network, getattr(self.network, "kept", ()), self.shapes)

    def alone(self) -> keras.Model:
        """The network, without another one inside it."""
        network, outputs = self.network, own_outputs(self.network)
        return network if outputs is network.output else keras.Model(network.input, outputs, name=network.name)

    @property
    def is_fixed(self) -> bool:
        """Whether the network takes one size alone."""
        return not isinstance(self.shapes, list) and all(self.network.input.shape[1:-1])

    def small(self) -> list[Part]:
        """With one sample, of each of `PROBED_SIDES` where the network takes any sides; else with one and two samples.

        Regions are small already.
        """
        if isinstance(self.shapes, list):
            return [self]
        _, *sides, channels = self.shapes
        if self.is_fixed:
            shapes = [(count, *sides, channels) for count in (1, 2)]
        else:
            shapes = [(1, *(min(side, most) for side in sides), channels) for most in PROBED_SIDES[len(sides)]]
        return [replace(self, shapes=shape) for shape in dict.fromkeys(shapes)]


def parts_of(network: keras.Model, shape: tuple[int, ...]) -> list[Part]:
    """The network; the second stage of Faster R-CNN, on regions; the discriminator, on reference and prediction."""
    inner = getattr(network, "network", network)
    parts = [Part(inner, shape)]
    if isinstance(inner.output, dict) and "proposals" in inner.output:
        features, proposals = inner.output["features"], inner.output["proposals"]
        shapes = shapes_of(keras.Model(inner.input, own_outputs(inner)), shape)
        parts.append(Part(inner.get_layer(SECOND_STAGE), [shapes[id(features)][0], tuple(proposals.shape)]))
    if discriminator := getattr(network, "discriminator", None):
        parts.append(Part(discriminator, (2 * shape[0], *shape[1:-1], discriminator.input.shape[-1]), times=2))
    return parts


def sum_of(parts: Sequence[Part]) -> Estimate:
    """All parts in one step."""
    found = parts[0].counted()
    for part in parts[1:]:
        found = found.beside(part.counted(), part.times)
    return found


def estimate(network: keras.Model, kept: Sequence[str], shape: Sequence) -> Estimate:
    """The least that a training step must hold, by the network's graph; the libraries' workspace comes on top.

    Args:
      network: a functional one; if recomputed, with the layers `kept`.
      kept: names of the layers whose outputs are kept and between which the rest is recomputed; none: no recomputation.
      shape: of the input, or of each input.
    """
    network = keras.Model(network.input, own_outputs(network), name=network.name)
    shapes = shapes_of(network, shape)
    size = {key: math.prod(one) * (2 if "16" in dtype else 4) for key, (one, dtype) in shapes.items()}
    retained, passed = 0, set()
    for needs, layers in pieces(network, kept):
        passed |= {id(tensor) for tensor in needs}
        inside = [layer for layer in layers if not isinstance(layer, keras.layers.InputLayer)]
        needed = passed | {id(tensor) for layer in inside for tensor in needed_tensors(layer)}
        inner = sum(inside_of(layer, shapes, size) for layer in inside)
        retained = max(retained, sum(size[key] for key in needed) + inner)
    weights = sum(math.prod(variable.shape) * 4 for variable in network.trainable_variables)
    multiplied = sum(multiplications(layer, shapes) for layer in network.layers)
    largest = max(size.values())
    return Estimate(int(retained), 2 * largest, 4 * weights, multiplied, largest=largest)


def pieces(network: keras.Model, kept: Sequence[str]) -> list[tuple[list, list]]:
    """The inputs and layers of each recomputed segment; without recomputation, of the network."""
    if not kept:  # a layer may be called more than once here; its first call is counted
        return [(network.inputs, network.layers)]
    return [(piece.needs, piece.model.layers) for piece in segments(network, kept)]


def own_outputs(network: keras.Model):
    """The outputs that are proportional to the input: without Faster R-CNN's proposals and its second stage."""
    own = {id(tensor) for layer in network.operations if not isinstance(layer, keras.Model | Proposals)
           for tensor in keras.tree.flatten(layer.output)}
    outputs = keras.tree.flatten(network.output)
    return network.output if own >= set(map(id, outputs)) else [each for each in outputs if id(each) in own]


def shapes_of(network: keras.Model, shape: Sequence) -> dict[int, tuple[tuple[int, ...], str]]:
    """The shape and type of every tensor, by its id, for an input of that shape; sides of anchors alone are unknown."""
    tensors = list({id(tensor): tensor for layer in network.operations
                    for tensor in keras.tree.flatten([layer.output, layer.input])}.values())
    found = keras.Model(network.inputs, tensors, name="counted").compute_output_shape(shape)
    return {id(tensor): (tuple(side or 1 for side in one), keras.backend.standardize_dtype(tensor.dtype))
            for tensor, one in zip(tensors, found, strict=True)}


def inputs_of(layer) -> list:
    return keras.tree.flatten(layer.input)


def needed_tensors(layer) -> list:
    """What the gradient of one of our layers needs: its input, its output, both or neither."""
    kind, before, after = type(layer).__name__, inputs_of(layer), keras.tree.flatten(layer.output)
    if getattr(layer, "rectified", False) or kind.startswith("MaxPooling"):
        return before + after
    if kind in OUTPUT_IS_ENOUGH:
        return after
    return [] if kind in NOTHING_IS_NEEDED else before


def inside_of(layer, shapes: dict, size: dict) -> float:
    """Bytes that a layer holds besides its inputs and outputs."""
    if type(layer).__name__ == "JointRecurrence":
        return states(layer) * size[id(layer.output)]
    if isinstance(layer, keras.layers.MultiHeadAttention):
        batch, tokens = shapes[id(layer.output)][0][:2]
        return 4 * (3 * math.prod(shapes[id(layer.output)][0]) + 2 * batch * layer.num_heads * tokens**2)
    return 0.0


def states(layer) -> float:
    """What a recurrence holds inside, in times its output [B, X, Y, Z, K]: two gates, the candidate, the state,
    the reset state, and their difference; if recomputed, the parents' states and all of one joint's."""
    joints = len(layer.parents)
    return layer.hidden * ((len(set(layer.parents)) + 5) / joints if layer.again else 6.0)


def multiplications(layer, shapes: dict) -> int:
    """Of one forward pass of a layer: each output value of a convolution, or input value of a transposed one."""
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
        return 0
    tensor = inputs_of(layer)[0] if "Transpose" in type(layer).__name__ else keras.tree.flatten(layer.output)[0]
    return math.prod(shapes[id(tensor)][0][:-1]) * math.prod(kernel.shape)


# --- the training, on this machine


@dataclass(frozen=True)
class Needs:
    """What a training takes.

    Attributes:
      held_gib: what this process holds already; 0 on a GPU.
      step_gib: what a step adds.
      free_gib: what there is for both; infinite where unknown.
      step_s: seconds of a step.
      steps: of the training.
      where: `the machine` or `the GPU`.
      processor_s: of all cores, in a step: what other processes disturb less.
    """

    held_gib: float
    step_gib: float
    free_gib: float
    step_s: float
    steps: int
    where: str
    processor_s: float = 0.0

    @property
    def total_gib(self) -> float:
        return self.held_gib + self.step_gib

    def line(self) -> str:
        """Both in one line, before the first step."""
        free = f", of {self.free_gib:.1f} GiB of {self.where}" if math.isfinite(self.free_gib) else ""
        return (f"this training takes about {self.total_gib:.1f} GiB of memory{free}, and about "
                f"{clock(self.steps * self.step_s)} for {self.steps} steps of {self.step_s:.2g} s (by its tensors, and "
                "by a pass on a part of the input; validation comes on top)")


def needs_of(network: keras.Model, shape: Sequence[int], steps: int) -> Needs:
    """The memory and time of a training of a built network, nothing of which has run yet."""
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    parts = parts_of(network, tuple(shape))
    found = sum_of(parts)
    held = 0.0 if on_gpu else resident_gib()
    free = probe_gpu_memory() if on_gpu else free_memory_gib() + held
    step_s, processor_s = step_seconds(parts)
    return Needs(held, step_gib(found), free, step_s=step_s, steps=steps, where="the GPU" if on_gpu else "the machine",
                 processor_s=processor_s)


def step_gib(found: Estimate) -> float:
    """What a step adds to a process whose network is built: its optimizer, tensors, and the libraries' workspace."""
    without_weights = found.weights * 3 // 4  # these are there
    return (without_weights + found.retained + WORKSPACE * found.largest) / GIBIBYTE + TRACED_GIB


def check_fits(needs: Needs, network: keras.Model, smaller: Iterable[tuple[str, Sequence[int]]]) -> None:
    """Raises `UserError` where a training takes more memory than there is.

    Args:
      needs: of the training.
      network: the built one.
      smaller: settings and the shape of their input, the nearest ones first.
    """
    if needs.total_gib <= needs.free_gib:
        return
    fitting = next((words for words, shape in smaller
                    if needs.held_gib + step_gib(counted(network, shape)) <= needs.free_gib), "")
    advice = f"the nearest settings that fit: {fitting}" if fitting else "no smaller input fits; take --preset quick"
    raise UserError(f"this training takes about {needs.total_gib:.1f} GiB of memory, and {needs.where} has "
                    f"{needs.free_gib:.1f} free; {advice}; or --force")


def resident_gib() -> float:
    """What this process holds."""
    with open("/proc/self/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / GIBIBYTE


def peak_gib() -> float:
    """What this process has held at most; on a GPU, what TensorFlow has held there."""
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] / GIBIBYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIBIBYTE


def free_memory_gib() -> float:
    """What is available in the machine, and in its container; infinite where unknown."""
    found = probe_memory()
    return min(found.get("available", math.inf), found.get("limit", math.inf))


def step_seconds(parts: Sequence[Part]) -> tuple[float, float]:
    """Of a step, and of the processor in it."""
    wall, processor = np.sum([pass_seconds(part) for part in parts], axis=0)
    return float(wall), float(processor)


def pass_seconds(part: Part) -> np.ndarray:
    """Seconds, and the processor's, of a part's passes in a step.

    Measured on two small inputs: some time is the same for any, and the rest is in proportion to the multiplications.
    """
    passes, counts, clocks = passes_of(part), [], []
    for small in part.small():
        inputs = [tf.random.stateless_normal(shape, (0, 0)) for shape in small.inputs]
        counts.append(small.counted().multiplications)
        clocks.append(seconds_of(lambda inputs=inputs: passes(inputs).numpy()))
    slopes = clocks[-1] / counts[-1]
    if len(counts) > 1 and (steeper := clocks[1] - clocks[0]).min() > 0:  # else on a busy machine
        slopes = steeper / (counts[1] - counts[0])
    of_a_device = part.counted().multiplications / tf.distribute.get_strategy().num_replicas_in_sync
    return part.times * (clocks[-1] + slopes * (of_a_device - counts[-1]))


def passes_of(part: Part) -> Callable:
    """A forward pass and its gradients as a graph; no variable changes, as Keras's scope takes what it would assign."""
    network = part.alone()

    def passes(inputs):
        with keras.StatelessScope(), tf.GradientTape() as tape:
            outputs = keras.tree.flatten(network(inputs if len(inputs) > 1 else inputs[0], training=True))
            total = tf.add_n([tf.reduce_sum(tf.cast(one, "float32")) for one in outputs])
        gradients = tape.gradient(total, [variable.value for variable in network.trainable_variables])
        return tf.add_n([tf.reduce_sum(one) for one in gradients if one is not None])

    specs = [tf.TensorSpec((None, *shape[1:]) if part.is_fixed else (1, *[None] * (len(shape) - 2), shape[-1]))
             for shape in part.inputs]
    strategy = tf.distribute.get_strategy()  # with several devices each has one sample
    return tf.function(lambda inputs: strategy.experimental_local_results(strategy.run(passes, (inputs,)))[0],
                       input_signature=[specs])


def seconds_of(call: Callable[[], None]) -> np.ndarray:
    """Seconds, and the processor's, of the fastest of a few calls after one that prepares."""
    call()
    found, end = [], time.perf_counter() + 0.25
    while not found or time.perf_counter() < end:
        began = time.perf_counter(), time.process_time()
        call()
        found.append(np.subtract((time.perf_counter(), time.process_time()), began))
    return np.min(found, axis=0)
