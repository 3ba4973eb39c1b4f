"""C3D's kernels as an encoder's: one grey channel, the volume's axes, the model's layers.

The paper takes its encoder from C3D; the details that it does not state are chosen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfsono.c3d.weights import LAYERS, WIDTHS, C3DWeights, shape_text
from tfsono.errors import UserError

AXES = {"hwt": (1, 2, 0, 3, 4), "wht": (2, 1, 0, 3, 4)}
"""The axes of a kernel [T, H, W, input, output] that become x, y, z, input, output."""


@dataclass(frozen=True)
class TransferReport:
    """The weights that were set; `str(report)` is the line to print.

    Attributes:
        path: the weight file, or "".
        format: of the file.
        layers: C3D's layer, the model's layer, and the number of weights, of each.
        biases_ignored: biases of these layers in the file.
    """

    path: str
    format: str
    layers: tuple[tuple[str, str, int], ...]
    biases_ignored: int

    @property
    def weights(self) -> int:
        """All weights set; 13,493,952 for the six layers with one input channel."""
        return sum(count for _, _, count in self.layers)

    def __str__(self) -> str:
        source = f" from {self.path} ({self.format})" if self.path else ""
        names = ", ".join(c3d if c3d == ours else f"{c3d} to {ours}" for c3d, ours, _ in self.layers)
        biases = f"; {self.biases_ignored:,} biases ignored" if self.biases_ignored else ""
        return f"C3D transfer{source}: {self.weights:,} weights in {names}{biases}"


def encoder_kernels(weights: C3DWeights, axes: str = "hwt") -> dict[str, np.ndarray]:
    """C3D's kernels for a network on volumes [x, y, z, 1]; T becomes z: C3D's frames are slices.

    Kernels of three colours are summed, which gives C3D's output for a grey image, R = G = B, whatever their order; a
    file with one channel stays as it is. The paper does not say; the co-author's checkpoint has one channel.

    Args:
        weights: of `read_c3d`.
        axes: `hwt`: H becomes x, W y; `wht`: W becomes x, H y, so that the horizontal axis stays so.

    Returns:
        Layer of `LAYERS` -> float32 [x, y, z, input, output], conv1 with one input channel.
    """
    kernels = {name: weights.kernels[name] for name in LAYERS}
    if weights.input_channels > 1:
        kernels["conv1"] = kernels["conv1"].sum(axis=3, keepdims=True)
    return {name: np.ascontiguousarray(kernel.transpose(AXES[axes])) for name, kernel in kernels.items()}


def transfer_into(model: Any, kernels: Mapping[str, np.ndarray], layer_names: Mapping[str, str],
                  source: C3DWeights | None = None) -> TransferReport:
    """Sets the kernels of a built Keras model; on a mismatch, none of them.

    Args:
        model: has `get_layer(name)`, whose layer has a built `kernel` [x, y, z, input, output].
        kernels: of `encoder_kernels`.
        layer_names: C3D's layer -> the model's; other layers are not changed.
        source: of the kernels, for the report.

    Raises:
        UserError: a layer of the model has another shape than C3D's.
        ValueError: a layer that C3D or the model lacks, or that has no kernel.
    """
    unknown = [name for name in layer_names if name not in kernels]
    if unknown or not layer_names:
        raise ValueError(f"layer_names names {unknown or 'nothing'}; the kernels are {list(kernels)}")
    targets = {name: _kernel_of(model, ours) for name, ours in layer_names.items()}
    for name, variable in targets.items():
        _check_fit(name, layer_names[name], kernels[name].shape, tuple(variable.shape))
    for name, variable in targets.items():
        variable.assign(kernels[name])
    layers = tuple((name, ours, int(kernels[name].size)) for name, ours in layer_names.items())
    biases = sum(source.bias_counts.get(name, 0) for name in layer_names) if source else 0
    return TransferReport(source.path if source else "", source.format if source else "", layers, biases)


def _kernel_of(model: Any, name: str) -> Any:
    kernel = getattr(model.get_layer(name), "kernel", None)
    if kernel is None:
        raise ValueError(f"layer {name} has no built kernel")
    return kernel


def _check_fit(name: str, ours: str, given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if given != expected:
        widths = ", ".join(str(width) for width in WIDTHS)
        raise UserError(f"C3D transfer: layer {ours} of the network expects a kernel {shape_text(expected)}, "
                        f"C3D's {name} is {shape_text(given)}, and nothing was set; C3D needs the widths "
                        f"{widths} of the preset paper, which quick lacks: use --preset paper or leave "
                        "out --c3d_weights")
