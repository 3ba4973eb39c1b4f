"""Networks of `pose`: the detector of the landmarks' heatmaps, with a recurrence over the joints or without (Sec. 2.1).

    image [B, X, Y, Z, 1] standardised -> {"heatmaps": [B, X, Y, Z, K] linear}

`land`, and `gan`, which is the same network; `rnn` has the recurrence in place of the last layer. Also the
discriminator of the adversarial stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import keras

from tfsono.configs.pose import LANDMARKS, SEGMENTS, PoseConfig
from tfsono.layers.blocks import BlockStyle, classifier, pooling
from tfsono.layers.critic import critic, kept_layers
from tfsono.layers.nodes import two_convolutions, upsample
from tfsono.layers.precision import made_in
from tfsono.layers.recompute import recomputed
from tfsono.layers.recurrent import JointRecurrence

ROOT = "neck"  # of the tree of joints


def build(config: PoseConfig) -> keras.Model:
    """The network of a config, for any sides that are multiples of `config.stride`.

    With `config.recompute` a training step takes less memory: blocks are recomputed in the backward pass, and a decoder
    convolves its inputs one by one instead of their concatenation. Weights and their names are the same.
    """
    with made_in(config.precision):
        network = _network(config)
        return recomputed(network, kept(len(config.widths))) if config.recompute else network


def discriminator(config: PoseConfig) -> keras.Model:
    """The volume and its heatmaps [B, X, Y, Z, 1 + K] -> logit [B, 1] of being the reference (Sec. 3, GAN).

    Four convolutions of stride 2 with kernels of side 4, the mean over the volume, a fully connected layer; a receptive
    field of 46 voxels. The paper gives the inputs alone.
    """
    with made_in(config.precision):
        widths = config.discriminator_widths
        network = critic(1 + config.landmarks, widths, len(widths), _style(config))
        return recomputed(network, kept_layers(widths)) if config.recompute else network


def parents(names: Sequence[str]) -> tuple[int, ...]:
    """The index of each landmark's parent in the tree of joints, from the neck to the leaves; -1 for a root.

    Where a joint is missing, its children attach to the next joint above, or are roots. Names that are not all the
    paper's form a chain in their order.
    """
    if not set(names) <= set(LANDMARKS):
        return tuple(range(-1, len(names) - 1))
    above, order = {ROOT: None}, [ROOT]
    for joint in order:  # grows in the loop
        for one, other in (*SEGMENTS, *((last, first) for first, last in SEGMENTS)):
            if one == joint and other not in above:
                above[other] = joint
                order.append(other)
    found = []
    for joint in names:
        parent = above[joint]
        while parent is not None and parent not in names:
            parent = above[parent]
        found.append(-1 if parent is None else names.index(parent))
    return tuple(found)


def kept(levels: int) -> list[str]:
    """Names of the layers whose outputs a training step keeps; it recomputes the rest.

    The paper selects them by hand, and its text is ambiguous (Sec. 2.3). Here they are the end of every node and all
    three layers of the last node, whose tensors are the largest: with the ends alone a volume of ratio 0.5 would need
    more memory than one of 0.4 without recomputation (`benchmarks/memory.py`).
    """
    nodes = [*(f"e{level}" for level in range(1, levels + 1)), *(f"d{level}" for level in range(levels - 1, 0, -1))]
    return ["d1_up_norm", "d1a_norm", *(f"{name}b_norm" for name in nodes)]


def _style(config: PoseConfig) -> BlockStyle:
    return BlockStyle(config.initial_deviation, 0.0, config.norm_momentum, config.norm_epsilon, config.norm_at_test)


def _network(config: PoseConfig) -> keras.Model:
    """The U-net (Fig. 3), whose nodes are e1, e2, ... down and ..., d2, d1 up; their number is the level.

    Level 1 has the input's sides, each next one half of them. 84,203,600 trainable parameters and a receptive field of
    230 voxels with the method `land`, the paper's widths and K = 16. The figure with the channels is lost.
    """
    style, widths = _style(config), config.widths
    image = x = keras.Input((None, None, None, 1), name="image")
    skips = []
    for level, channels in enumerate(widths, 1):
        x = two_convolutions([x], channels, style, f"e{level}")
        if level < len(widths):
            skips.append(x)
            x = pooling(x, f"pool{level}")
    for level in range(len(skips), 0, -1):
        channels, name = widths[level - 1], f"d{level}"
        parts = [upsample([x], channels, style, name), skips[level - 1]]
        x = two_convolutions(parts, channels, style, name, apart=config.recompute)
    if config.method == "rnn":
        tree = parents(config.landmark_names)
        maps = JointRecurrence(tree, config.rnn_hidden, config.head_deviation, config.recompute, name="heatmaps")(x)
    else:
        # Small at first: the loss is a sum over all voxels, and maps near 0 are nearly right in most of them.
        maps = classifier(x, config.landmarks, replace(style, deviation=config.head_deviation), "heatmaps")
    return keras.Model(image, {"heatmaps": maps}, name="rnn" if config.method == "rnn" else "land")
