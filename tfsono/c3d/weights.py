"""The weights of a C3D file, and the requirements on a file of any format.

C3D has eight convolutions of 3x3x3 and three dense layers. An encoder takes the first six kernels, up to conv4b: biases
are dropped because batch normalisation follows, conv5 and the dense layers because the encoder has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LAYERS = ("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b")
WIDTHS = (64, 128, 256, 512)
"""Output channels of C3D's groups 1 to 4 (Tran et al. 2015, Fig. 3)."""


class UnreadableFile(Exception):
    """The defect of a file, without its path, which `read_c3d` adds."""


class UnsuitableWeights(UnreadableFile):
    """The file can be read, but its tensors are not C3D's."""


class Stored(NamedTuple):
    """One tensor of a file: `read()` loads it, in the file's own layout and float type."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


class Layout(NamedTuple):
    """How a file stores a kernel: its `axes` become T, H, W, input, output; T, H, W reversed if `flipped`."""

    axes: tuple[int, ...]
    flipped: bool = False


OUTPUT_LAST = Layout((0, 1, 2, 3, 4))
OUTPUT_FIRST = Layout((2, 3, 4, 1, 0))


class Scheme(NamedTuple):
    """The names of the six layers in a public file, in the order of `LAYERS`."""

    kernels: tuple[str, ...]
    biases: tuple[str, ...]


class Listing(NamedTuple):
    """The content of a file, not loaded yet: `tensors` by the names in `schemes`."""

    format: str
    layout: Layout
    schemes: tuple[Scheme, ...]
    tensors: dict[str, Stored]


@dataclass(frozen=True)
class C3DWeights:
    """The six kernels of a file, and their origin.

    Attributes:
        path: the file.
        format: as recognised.
        kernels: layer of `LAYERS` -> float32 [T, H, W, input, output]; conv1 has 3 input channels, or 1.
        names: layer of `LAYERS` -> the tensor's name in the file.
        bias_counts: layers whose bias is in the file -> its length; checked, then ignored.
        excluded: names of the file's other tensors (conv5a, fc6, ...), which are not loaded.
    """

    path: str
    format: str
    kernels: dict[str, np.ndarray]
    names: dict[str, str]
    bias_counts: dict[str, int]
    excluded: tuple[str, ...]

    @property
    def input_channels(self) -> int:
        """3, or 1 where the colours are already collapsed."""
        return self.kernels["conv1"].shape[3]

    def __str__(self) -> str:
        count = sum(self.bias_counts.values())
        return (f"{self.path}: {self.format}; {', '.join(self.kernels)}; "
                f"{self.input_channels} input channel(s); {count:,} biases ignored; "
                f"{len(self.excluded)} other tensors excluded")


def expected_shapes(widths: tuple[int, ...] = WIDTHS, input_channels: int = 3) -> dict[str, tuple[int, ...]]:
    """Layer of `LAYERS` -> (T, H, W, input, output) for the output channels of the four groups."""
    first, second, third, fourth = widths
    pairs = ((input_channels, first), (first, second), (second, third), (third, third), (third, fourth),
             (fourth, fourth))
    return {name: (3, 3, 3, *pair) for name, pair in zip(LAYERS, pairs, strict=True)}


def arranged(kernel: np.ndarray, layout: Layout) -> np.ndarray:
    """A kernel of a file as a contiguous [T, H, W, input, output]."""
    kernel = kernel.transpose(layout.axes)
    return np.ascontiguousarray(kernel[::-1, ::-1, ::-1] if layout.flipped else kernel)


def shape_text(shape: tuple[int, ...]) -> str:
    """(3, 3, 3, 1, 64) -> 3x3x3x1x64."""
    return "x".join(str(side) for side in shape) or "scalar"
