"""Networks of `femur`: U-nets of one encoder with a branch for the mask and one for the landmarks (Sec. II).

    image [B, X, Y, Z, 1] standardised -> {"mask": logits [B, X, Y, Z, classes], "heatmaps": [B, X, Y, Z, K] linear}

`unet_s` has the mask alone, `unet_l` the heatmaps alone; `unet_roi` is of slices: [B, X, Y, slices] -> {"mask": [B, X,
Y, classes]}. Also the discriminator of the adversarial stage.
"""

from __future__ import annotations

from dataclasses import replace

import keras
from keras import layers

from tfsono.configs.femur import FemurConfig
from tfsono.layers import planar
from tfsono.layers.blocks import BlockStyle, classifier, pooling
from tfsono.layers.critic import critic, kept_layers
from tfsono.layers.nodes import two_convolutions, upsample
from tfsono.layers.precision import made_in
from tfsono.layers.recompute import recomputed


def build(config: FemurConfig) -> keras.Model:
    """The network of a config, for any sides that are multiples of `config.stride`.

    With `config.recompute` its blocks are recomputed in the backward pass; its weights are the same.
    """
    with made_in(config.precision):
        if config.network == "unet_roi":
            return _unet_roi(config)
        network, nodes = _joint(config)
        return recomputed(network, [f"{node}b_norm" for node in nodes]) if config.recompute else network


def discriminator(config: FemurConfig) -> keras.Model:
    """D_pair (Sec. II-D): foreground probability and heatmaps [B, X, Y, Z, 1 + K] -> logit [B, 1] of being
    the reference.

    Six convolutions with kernels of side 4, two of them of stride 2, the mean over the region, a fully connected layer;
    a receptive field of 58 voxels. 8,003,489 trainable parameters at the paper's widths, K = 2.
    """
    with made_in(config.precision):
        network = critic(1 + config.landmarks, config.discriminator_widths, 2, _style(config))
        return recomputed(network, kept_layers(config.discriminator_widths)) if config.recompute else network


def _style(config: FemurConfig) -> BlockStyle:
    return BlockStyle(config.initial_deviation, 0.0, config.norm_momentum, config.norm_epsilon, config.norm_at_test)


def _joint(config: FemurConfig) -> tuple[keras.Model, list[str]]:
    """Unet-S, Unet-L, BRN and BRNDC (Fig. 2), and the names of their nodes.

    The letter of a node is its part: e encoder, s segmentation, l localisation; its number is the level, whose sides
    are 1, 1/2, 1/4 and 1/8 of the input's. The paper's cross connections link nodes of one level, two to the
    localisation (S2 -> L2, S1 -> L1) and one to the segmentation (L3 -> S2, as both lead there at 1/4); in this order
    they form no circle. The figure with the channels is lost.
    """
    style, widths = _style(config), dict(enumerate(config.widths, 1))
    masks, maps = "mask" in config.outputs, "heatmaps" in config.outputs
    cross = config.network == "brndc"
    image = keras.Input((None, None, None, 1), name="image")
    node = {"e1": two_convolutions([image], widths[1], style, "e1")}
    node["e2"] = two_convolutions([pooling(node["e1"], "pool1")], widths[2], style, "e2")
    node["e3"] = two_convolutions([pooling(node["e2"], "pool2")], widths[3], style, "e3")
    if maps:  # this branch's encoder is one level deeper; its one skip connection leads into its first decoder
        node["l4"] = two_convolutions([pooling(node["e3"], "pool3")], widths[4], style, "l4")
        parts = [upsample([node["l4"]], widths[3], style, "l3"), node["e3"]]
        node["l3"] = two_convolutions(parts, widths[3], style, "l3")
    if masks:
        below = [node["e3"], *([node["l3"]] if cross else [])]
        node["s2"] = two_convolutions([upsample(below, widths[2], style, "s2"), node["e2"]], widths[2], style, "s2")
    if maps:
        parts = [upsample([node["l3"]], widths[2], style, "l2"), *([node["s2"]] if cross else [])]
        node["l2"] = two_convolutions(parts, widths[2], style, "l2")
    if masks:
        parts = [upsample([node["s2"]], widths[1], style, "s1"), node["e1"]]
        node["s1"] = two_convolutions(parts, widths[1], style, "s1")
    if maps:
        parts = [upsample([node["l2"]], widths[1], style, "l1"), *([node["s1"]] if cross else [])]
        node["l1"] = two_convolutions(parts, widths[1], style, "l1")
    # Small at first: with He's initialisation the heatmaps' loss, a sum, begins hundreds of times above the mask's.
    outputs, last = {}, replace(style, deviation=config.head_deviation)
    if masks:
        outputs["mask"] = classifier(node["s1"], config.classes, last, "mask")
    if maps:
        outputs["heatmaps"] = classifier(node["l1"], config.landmarks, last, "heatmaps")
    return keras.Model(image, outputs, name=config.network), list(node)


def _two_planar(x, channels: int, style: BlockStyle, name: str):
    return planar.convolution(planar.convolution(x, channels, style, f"{name}a"), channels, style, f"{name}b")


def _unet_roi(config: FemurConfig) -> keras.Model:
    """The first stage (Sec. II-A): the classic U-Net with batch normalisation, of slices.

    A slice is never normalised by itself: the network learns from batches of slices with bone and without, whose
    statistics differ from a single slice's. 31,037,506 trainable parameters at the paper's widths and two classes.
    Kernels have He's initialisation.
    """
    # The convolutions of slices use a style's normalisation alone, which takes any number of axes.
    style = BlockStyle(0.0, 0.0, config.norm_momentum, config.norm_epsilon, config.roi_norm_at_test)
    image = x = keras.Input((None, None, config.roi_slices), name="image")
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
