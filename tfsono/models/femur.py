"""Networks of `femur`: U-nets of one encoder with a branch for the mask and one for the landmarks (Sec. II).

    image [B, X, Y, Z, 1] standardised -> {"mask": logits [B, X, Y, Z, classes], "heatmaps": [B, X, Y, Z, K] linear}

`unet_s` has the mask alone, `unet_l` the heatmaps alone; `unet_roi` is of slices: [B, X, Y, 1] -> {"mask": [B, X, Y,
classes]}. Beside them stands the discriminator of the adversarial stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import keras
from keras import layers

from tfsono.configs.femur import FemurConfig
from tfsono.layers import planar
from tfsono.layers.blocks import BlockStyle, classifier, convolution, deconvolution, pooling
from tfsono.layers.recompute import recomputed

SLOPE = 0.2  # the discriminator's LeakyReLU below 0; not stated, the usual one


def build(config: FemurConfig) -> keras.Model:
    """The network of a config, for any sides that are multiples of `config.stride`.

    With `config.recompute` its blocks are calculated again in the backward pass; its weights are the same.
    """
    with _precision(config):
        if config.network == "unet_roi":
            return _unet_roi(config)
        network, nodes = _joint(config)
        return recomputed(network, [f"{node}b_relu" for node in nodes]) if config.recompute else network


def discriminator(config: FemurConfig) -> keras.Model:
    """D_pair (Sec. II-D): foreground probability and heatmaps [B, X, Y, Z, 1 + K] -> logit [B, 1] of being true.

    Six convolutions with kernels of side 4, two of them of stride 2, the mean over the region, a fully connected layer.
    Each place of the last features sees 58 voxels. 8,003,489 trainable parameters at the paper's widths, K = 2.
    """
    with _precision(config):
        style = _style(config)
        pair = x = keras.Input((None, None, None, 1 + config.landmarks), name="pair")
        for place, channels in enumerate(config.discriminator_widths, 1):
            x = layers.Conv3D(channels, 4, strides=2 if place <= 2 else 1, padding="same", use_bias=place == 1,
                              name=f"conv{place}", **style.kernel())(x)
            if place > 1:  # not on what comes straight from the input, as usual in discriminators
                x = style.standardise(x, f"conv{place}")
            x = layers.LeakyReLU(SLOPE, name=f"conv{place}_relu")(x)
        x = layers.GlobalAveragePooling3D(dtype="float32", name="mean")(x)
        network = keras.Model(pair, layers.Dense(1, dtype="float32", name="logit")(x), name="discriminator")
        kept = [f"conv{place}_relu" for place in range(1, len(config.discriminator_widths) + 1)]
        return recomputed(network, kept) if config.recompute else network


@contextmanager
def _precision(config: FemurConfig) -> Iterator[None]:
    """Layers that are made inside take the config's precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _style(config: FemurConfig) -> BlockStyle:
    return BlockStyle(config.initial_deviation, 0.0, config.norm_momentum, config.norm_epsilon, config.norm_at_test)


def _joint(config: FemurConfig) -> tuple[keras.Model, list[str]]:
    """Unet-S, Unet-L, BRN and BRNDC (Fig. 2), and the names of their nodes.

    The letter of a node is its part: e of the encoder, s of the segmentation, l of the localisation; its number is the
    level, whose sides are 1, 1/2, 1/4 and 1/8 of the input's. The paper's cross connections link nodes of one level,
    two to the localisation (S2 -> L2, S1 -> L1) and one to the segmentation (L3 -> S2, as both lead there at 1/4); in
    this order they form no circle. The channels stand in a lost figure.
    """
    style, widths = _style(config), dict(enumerate(config.widths, 1))
    masks, maps = "mask" in config.outputs, "heatmaps" in config.outputs
    cross = config.network == "brndc"
    image = keras.Input((None, None, None, 1), name="image")
    node = {"e1": _node([image], widths[1], style, "e1")}
    node["e2"] = _node([pooling(node["e1"], "pool1")], widths[2], style, "e2")
    node["e3"] = _node([pooling(node["e2"], "pool2")], widths[3], style, "e3")
    if maps:  # this branch's encoder is one level deeper, and its one skip connection leads into its first decoder
        node["l4"] = _node([pooling(node["e3"], "pool3")], widths[4], style, "l4")
        node["l3"] = _node([_up([node["l4"]], widths[3], style, "l3"), node["e3"]], widths[3], style, "l3")
    if masks:
        below = [node["e3"], *([node["l3"]] if cross else [])]
        node["s2"] = _node([_up(below, widths[2], style, "s2"), node["e2"]], widths[2], style, "s2")
    if maps:
        beside = [node["s2"]] if cross else []
        node["l2"] = _node([_up([node["l3"]], widths[2], style, "l2"), *beside], widths[2], style, "l2")
    if masks:
        node["s1"] = _node([_up([node["s2"]], widths[1], style, "s1"), node["e1"]], widths[1], style, "s1")
    if maps:
        beside = [node["s1"]] if cross else []
        node["l1"] = _node([_up([node["l2"]], widths[1], style, "l1"), *beside], widths[1], style, "l1")
    # Small at first: with He's initialisation the heatmaps' loss, a sum, begins hundreds of times above the mask's.
    outputs, last = {}, replace(style, deviation=config.head_deviation)
    if masks:
        outputs["mask"] = classifier(node["s1"], config.classes, last, "mask")
    if maps:
        outputs["heatmaps"] = classifier(node["l1"], config.landmarks, last, "heatmaps")
    return keras.Model(image, outputs, name=config.network), list(node)


def _node(parts: list, channels: int, style: BlockStyle, name: str):
    """Two convolutions of the features in `parts`, which have one size."""
    x = _concatenated(parts, f"{name}_concat")
    return convolution(convolution(x, channels, style, f"{name}a"), channels, style, f"{name}b")


def _up(parts: list, channels: int, style: BlockStyle, name: str):
    """The features in `parts`, of half the node's sides, deconvolved to its size."""
    return deconvolution(_concatenated(parts, f"{name}_below"), channels, style, f"{name}_up")


def _concatenated(parts: list, name: str):
    return layers.Concatenate(name=name)(parts) if len(parts) > 1 else parts[0]


def _two_planar(x, channels: int, style: BlockStyle, name: str):
    return planar.convolution(planar.convolution(x, channels, style, f"{name}a"), channels, style, f"{name}b")


def _unet_roi(config: FemurConfig) -> keras.Model:
    """The first stage (Sec. II-A): the classic U-Net with batch normalisation, of slices.

    At test it takes the moving averages, whatever `norm_at_test` says: it learns from batches of several slices, with
    bone and without, and a slice's own statistics are not theirs. 31,037,506 trainable parameters at the paper's widths
    and two classes. Its kernels start as He's.
    """
    # Of a style the convolutions of slices ask for its normalisation alone, which takes any number of axes.
    style = BlockStyle(0.0, 0.0, config.norm_momentum, config.norm_epsilon, norm_at_test="moving")
    image = x = keras.Input((None, None, 1), name="image")
    skips = []
    for level, channels in enumerate(config.roi_widths[:-1], 1):
        x = _two_planar(x, channels, style, f"enc{level}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
    x = _two_planar(x, config.roi_widths[-1], style, "middle")
    for level in range(len(skips), 0, -1):
        channels = config.roi_widths[level - 1]
        x = planar.deconvolution(x, channels, style, f"dec{level}_up")
        x = layers.Concatenate(name=f"dec{level}_concat")([x, skips[level - 1]])
        x = _two_planar(x, channels, style, f"dec{level}")
    return keras.Model(image, {"mask": planar.logits(x, config.classes, "mask")}, name="unet_roi")
