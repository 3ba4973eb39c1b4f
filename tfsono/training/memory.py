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
import tensorflow as tf

from tfsono.errors import UserError
from tfsono.layers.recompute import segments
from tfsono.progress import clock
from tfsono.surroundings import GIBIBYTE, probe_gpu_memory, probe_memory

WORKSPACE = 3.0
"""Tensors as large as the largest that a step holds besides those that are counted: gradients, and the copies of
convolutions, in the layout that they calculate in. From measured steps (docs/results/speed.md)."""

TRACED_GIB = 0.3
"""What the first step adds whatever the network: its graph, and what TensorFlow loads with it. Measured."""

OTHER_LAYERS = 1.4
"""The time of a step, relative to that of its convolutions at the speed of the largest. Measured."""

PROBED = 2e8
"""Multiplications of the convolution whose speed is measured."""

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
      passes: forward passes that a step is worth: one, its gradient two; a recomputed network's one more.
      largest: bytes of the largest tensor.
    """

    retained: int
    working: int
    weights: int
    multiplications: int = 0
    passes: int = 3
    largest: int = 0

    @property
    def peak(self) -> int:
        return self.retained + self.working + self.weights

    def beside(self, other: Estimate) -> Estimate:
        """With another network that learns in the same step: a discriminator."""
        return replace(self, retained=self.retained + other.retained, working=max(self.working, other.working),
                       weights=self.weights + other.weights, largest=max(self.largest, other.largest),
                       multiplications=self.multiplications + 2 * other.multiplications)


def counted(network: keras.Model, shape: Sequence[int]) -> Estimate:
    """What a training step of a built network holds; of a trainer with a discriminator, both.

    Args:
      network: functional, recomputed or not; or a trainer of `tfsono.training`.
      shape: of the input, [B, ..., C].
    """
    discriminator = getattr(network, "discriminator", None)
    inner = getattr(network, "network", network)
    found = estimate(inner, getattr(inner, "kept", ()), tuple(shape))
    if discriminator is None:
        return found
    judged = (2 * shape[0], *shape[1:-1], discriminator.input.shape[-1])  # the reference and the prediction
    return found.beside(estimate(discriminator, getattr(discriminator, "kept", ()), judged))


def estimate(network: keras.Model, kept: Sequence[str], shape: tuple[int, ...]) -> Estimate:
    """The least that a training step must hold, by the network's graph; the libraries' workspace comes on top.

    Args:
      network: a functional one; if recomputed, with the layers `kept`.
      kept: names of the layers whose outputs are kept and between which the rest is recomputed; none: no recomputation.
      shape: of the input.
    """
    network = keras.Model(network.input, own_outputs(network), name=network.name)
    shapes = shapes_of(network, shape)
    size = {key: math.prod(one) * (2 if "16" in dtype else 4) for key, (one, dtype) in shapes.items()}
    retained, passed = 0, set()
    for piece in segments(network, kept):
        passed |= {id(tensor) for tensor in piece.needs}
        inside = [layer for layer in piece.model.layers if not isinstance(layer, keras.layers.InputLayer)]
        needed = passed | {id(tensor) for layer in inside for tensor in needed_tensors(layer)}
        inner = sum(inside_of(layer, shapes, size) for layer in inside)
        retained = max(retained, sum(size[key] for key in needed) + inner)
    weights = sum(math.prod(variable.shape) * 4 for variable in network.trainable_variables)
    multiplied = sum(multiplications(layer, shapes) for layer in network.layers)
    largest = max(size.values())
    return Estimate(int(retained), 2 * largest, 4 * weights, multiplied, passes=4 if kept else 3, largest=largest)


def own_outputs(network: keras.Model):
    """The outputs, without those of a network inside it: Faster R-CNN's second stage, of small regions, is not counted.
    """
    own = {id(tensor) for layer in network.operations if not isinstance(layer, keras.Model)
           for tensor in keras.tree.flatten(layer.output)}
    outputs = keras.tree.flatten(network.output)
    return network.output if own >= set(map(id, outputs)) else [each for each in outputs if id(each) in own]


def shapes_of(network: keras.Model, shape: tuple[int, ...]) -> dict[int, tuple[tuple[int, ...], str]]:
    """The shape and type of every tensor, by its id, for an input of that shape; sides of anchors alone are unknown."""
    tensors = [tensor for layer in network.operations for tensor in keras.tree.flatten(layer.output)]
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
    """

    held_gib: float
    step_gib: float
    free_gib: float
    step_s: float
    steps: int
    where: str

    @property
    def total_gib(self) -> float:
        return self.held_gib + self.step_gib

    def line(self) -> str:
        """Both in one line, before the first step."""
        free = f", of {self.free_gib:.1f} GiB of {self.where}" if math.isfinite(self.free_gib) else ""
        return (f"this training takes about {self.total_gib:.1f} GiB of memory{free}, and about "
                f"{clock(self.steps * self.step_s)} for {self.steps} steps of {self.step_s:.2g} s (by its tensors and "
                "the speed of its largest convolution; validation comes on top)")


def needs_of(network: keras.Model, shape: Sequence[int], steps: int) -> Needs:
    """The memory and time of a training of a built network, nothing of which has run yet."""
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    found = counted(network, shape)
    held = 0.0 if on_gpu else resident_gib()
    multiplied = OTHER_LAYERS * found.passes * found.multiplications
    step_s = multiplied / speed(getattr(network, "network", network), shape)
    free = probe_gpu_memory() if on_gpu else free_memory_gib() + held
    return Needs(held, step_gib(found), free, step_s=step_s, steps=steps, where="the GPU" if on_gpu else "the machine")


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


def speed(network: keras.Model, shape: Sequence[int]) -> float:
    """Multiplications a second of the convolution that has most of them, with its gradient, on a part of its input."""
    network = keras.Model(network.input, own_outputs(network), name=network.name)
    shapes = shapes_of(network, tuple(shape))
    layer = max(network.layers, key=lambda one: multiplications(one, shapes))
    kernel = tf.ones((*[1] * (4 - len(layer.kernel.shape)), *layer.kernel.shape), layer.compute_dtype)
    if "Transpose" in type(layer).__name__:
        kernel = tf.linalg.matrix_transpose(kernel)
    axes = len(kernel.shape) - 2
    side = min(max(int((PROBED / math.prod(kernel.shape)) ** (1 / axes)), 8), 64)
    image = tf.ones((1, *[side] * axes, kernel.shape[-2]), kernel.dtype)
    seconds = seconds_of(lambda: _convolved(image, kernel))
    return 3 * side**axes * math.prod(kernel.shape) / seconds


def _convolved(image, kernel) -> None:
    convolve = tf.nn.conv3d if len(image.shape) == 5 else tf.nn.conv2d
    with tf.GradientTape() as tape:
        tape.watch((image, kernel))
        output = convolve(image, kernel, strides=[1] * len(image.shape), padding="SAME")
    for gradient in tape.gradient(output, (image, kernel)):
        gradient.numpy()


def seconds_of(call: Callable[[], None]) -> float:
    """The fastest of a few calls after one that prepares; about 0.3 s in all."""
    call()
    best, end = math.inf, time.perf_counter() + 0.25
    while time.perf_counter() < end:
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best
