"""Draws the network of each paper as it is built: docs/papers/SYSTEM.svg.

    python docs/networks.py [hip femur pose face head]

A box is a convolution or several of one size and width, with its channels; a row is a size. The network is that of
preset `paper`, and what it is drawn from are the layers of its Keras model: what connects two boxes, and sizes for an
input of the sides in `DRAWN`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import matplotlib
from keras import layers
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from tfsono.config import choose
from tfsono.configs import face as face_config
from tfsono.configs import pose as pose_config
from tfsono.errors import run_command
from tfsono.models import face, femur, head, hip, pose
from tfsono.systems import NAMES, system

FOLDER = Path(__file__).resolve().parent / "papers"
DRAWN = {  # variant, what the data gives, and the input that the paper has
    "hip": ("paper", {"label_names": "femur"}, (64, 64, 64)),
    "femur": ("brndc", {"label_names": "femur", "landmark_names": "proximal,distal"}, (152, 88, 128)),
    "pose": ("land_gcp", {"landmark_names": ",".join(pose_config.LANDMARKS), "recompute": "false"}, (112, 112, 144)),
    "face": ("ig_rpn", {"landmark_names": ",".join(face_config.LANDMARKS)}, (128, 128, 128)),
    "head": ("unet", {}, (512, 512))}
BUILD = {"hip": hip.build, "femur": femur.build, "pose": pose.build, "face": face.build, "head": head.build}
POOLING = (layers.MaxPooling2D, layers.MaxPooling3D)
TRANSPOSED = (layers.Conv2DTranspose, layers.Conv3DTranspose)
WIDE, HIGH, COLUMN, ROW = 0.92, 0.5, 1.2, 0.95  # of a box, and from one to the next: inches
PASS, DOWN = "features as they are", "max pooling, 2"
UP, SPREAD = "transposed convolution, stride 2", "trilinear interpolation, 2"
COLOURS = {PASS: "#616161", DOWN: "#c62828", UP: "#2e7d32", SPREAD: "#6a1b9a"}
FEATURES, OUTPUT = "#d7e3f4", "#ffe0b2"


@dataclass
class Block:
    """A box of the drawing: convolutions of one size and width, one after the other."""

    name: str
    sides: tuple[int, ...]
    channels: int
    kernel: str
    sources: list[tuple[str, str]]
    count: int = 1
    output: str = ""


def network_of(name: str) -> keras.Model:
    """The network of preset `paper` that is drawn."""
    variant, given, _ = DRAWN[name]
    return BUILD[name](choose(system(name).CHOICES, "paper", variant, given).config)


def blocks_of(network: keras.Model, sides: Sequence[int]) -> dict[str, Block]:
    """The boxes by the names of their first layers, in the order of the layers."""
    shapes, parents = shapes_of(network, sides), parents_of(network)
    blocks: dict[str, Block] = {}
    ways: dict[str, list[tuple[str, str]]] = {}  # of each layer: the boxes before it, and what is between
    for layer in network.layers:
        name, before = layer.name, [way for parent in parents[layer.name] for way in ways[parent]]
        if isinstance(layer, POOLING):
            ways[name] = [(block, DOWN) for block, _ in before]
        elif isinstance(layer, TRANSPOSED) and joins(network, parents, name):
            ways[name] = [(block, UP) for block, _ in before]
        elif isinstance(layer, (layers.Conv2D, layers.Conv3D, *TRANSPOSED)):
            ways[name] = [(added(blocks, layer, shapes[name], before), PASS)]
        else:
            ways[name] = before
    for output, tensor in network.output.items():
        (block, _), = ways[made_by(network)[id(tensor)]]
        blocks[block].output = output
    return blocks


def shapes_of(network: keras.Model, sides: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The shape of each layer's output for an image of these sides; nothing is calculated."""
    outputs = {layer.name: layer.output for layer in network.layers}
    found = keras.Model(network.input, outputs)(keras.Input((*sides, 1)))
    return {name: tuple(tensor.shape) for name, tensor in found.items()}


def made_by(network: keras.Model) -> dict[int, str]:
    """The layer of each tensor, by the tensor's identity."""
    return {id(layer.output): layer.name for layer in network.layers}


def parents_of(network: keras.Model) -> dict[str, list[str]]:
    """The layers before each layer."""
    makers = made_by(network)
    inputs = {layer.name: [] if isinstance(layer, layers.InputLayer) else layer.input for layer in network.layers}
    return {name: [makers[id(tensor)] for tensor in (each if isinstance(each, list) else [each])]
            for name, each in inputs.items()}


def joins(network: keras.Model, parents: dict[str, list[str]], name: str) -> bool:
    """Whether what a layer gives is joined with other features before it is convolved."""
    while True:
        children = [child for child, above in parents.items() if name in above]
        if len(children) != 1 or hasattr(network.get_layer(children[0]), "kernel"):
            return False
        name, = children
        if len(parents[name]) > 1:
            return True


def added(blocks: dict[str, Block], layer: keras.Layer, shape: Sequence[int], before: list[tuple[str, str]]) -> str:
    """The name of the box that a convolution is in: the one before it where it only repeats that, else its own."""
    sides, channels = tuple(shape[1:-1]), shape[-1]
    kernel = "×".join(map(str, layer.kernel_size)) + (" up" if isinstance(layer, TRANSPOSED) else "")
    used = {source for block in blocks.values() for source, _ in block.sources}
    if len(before) == 1 and before[0][1] == PASS and before[0][0] not in used:
        last = blocks[before[0][0]]
        if (last.sides, last.channels, last.kernel) == (sides, channels, kernel):
            last.count += 1
            return last.name
    grown = UP if isinstance(layer, TRANSPOSED) else SPREAD
    sources = [(source, grown if blocks[source].sides < sides and way == PASS else way) for source, way in before]
    blocks[layer.name] = Block(layer.name, sides, channels, kernel, sources)
    return layer.name


def places(blocks: Iterable[Block], sides: Sequence[int]) -> dict[str, tuple[float, float]]:
    """Column and row of each box: after all that it begins from, in the row of its size; outputs above their source."""
    found: dict[str, tuple[float, float]] = {}
    for block in blocks:
        row = float((sides[0] // block.sides[0]).bit_length() - 1)
        column = 1 + max((found[source][0] for source, _ in block.sources), default=-1)
        if block.output:
            column, row = column - 1, row - 0.8
        while (column, row) in found.values():
            column += 1
        found[block.name] = column, row
    return found


def draw(name: str) -> Figure:
    """The drawing of a system's network."""
    variant, _, sides = DRAWN[name]
    network = network_of(name)
    blocks = blocks_of(network, sides)
    at = {block: (column * COLUMN, -row * ROW) for block, (column, row) in places(blocks.values(), sides).items()}
    width = max(x for x, _ in at.values()) + WIDE / 2
    low, high = min(y for _, y in at.values()) - 0.95, max(y for _, y in at.values()) + 0.75
    figure = Figure((width + 1.75, high - low))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-1.7, width + 0.05), ylim=(low, high))
    axes.axis("off")
    for block in blocks.values():
        for source, way in block.sources:
            connect(axes, at[source], at[block.name], way)
    for block in blocks.values():
        box(axes, at[block.name], block)
    for y, size in sorted({(at[block.name][1], block.sides) for block in blocks.values() if not block.output}):
        axes.text(-1.65, y, "×".join(map(str, size)), va="center", fontsize=9, color="#424242")
    weights = sum(int(weight.shape.num_elements()) for weight in network.trainable_weights)
    axes.text(-1.65, high - 0.2, f"{name}, variant {variant}, preset paper: {weights:,} trainable parameters",
              va="center", fontsize=10)
    used = {way for block in blocks.values() for _, way in block.sources}
    axes.legend([Line2D([], [], color=COLOURS[way]) for way in COLOURS if way in used],
                [way for way in COLOURS if way in used], loc="lower left", frameon=False, fontsize=9,
                ncols=len(used), borderaxespad=0.2)
    return figure


def box(axes: Axes, centre: tuple[float, float], block: Block) -> None:
    """A box with its channels, kernels, and output."""
    x, y = centre
    axes.add_patch(FancyBboxPatch((x - WIDE / 2, y - HIGH / 2), WIDE, HIGH, boxstyle="round,pad=0,rounding_size=0.06",
                                  facecolor=OUTPUT if block.output else FEATURES, edgecolor="#455a64", linewidth=0.8))
    kernel = block.kernel + (f" ({block.count}×)" if block.count > 1 else "")
    axes.text(x, y + 0.1, f"{block.channels} {block.output}".rstrip(), ha="center", va="center", fontsize=10)
    axes.text(x, y - 0.12, kernel, ha="center", va="center", fontsize=8, color="#37474f")


def connect(axes: Axes, start: tuple[float, float], end: tuple[float, float], way: str) -> None:
    """An arrow from the right of one box to the left of the next, or straight up."""
    upward = start[0] == end[0]
    first = (start[0], start[1] + HIGH / 2) if upward else (start[0] + WIDE / 2, start[1])
    last = (end[0], end[1] - HIGH / 2) if upward else (end[0] - WIDE / 2, end[1])
    axes.add_patch(FancyArrowPatch(first, last, arrowstyle="-|>", mutation_scale=9, linewidth=1.2, shrinkA=0, shrinkB=0,
                                   color=COLOURS[way]))


def write(name: str, folder: Path) -> None:
    """Writes the drawing of a system's network; the same bytes for the same network."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tfsono", "font.family": "sans-serif"}):
        draw(name).savefig(folder / f"{name}.svg", metadata={"Date": None})


def main() -> None:
    for name in sys.argv[1:] or NAMES:
        write(name, FOLDER)
        print(f"wrote {FOLDER / name}.svg")


if __name__ == "__main__":
    sys.exit(run_command(main))
