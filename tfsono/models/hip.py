"""Networks of `hip`: an encoder of C3D's widths, a three-stage decoder, and a classifier at each stage (Sec. 2).

    x [B, X, Y, Z, 1] standardised -> {"upper": logits [B, X, Y, Z, C], and with deep supervision "lower", "middle"}
"""

from __future__ import annotations

import keras
from keras import layers

from tfsono.configs.hip import HipConfig
from tfsono.layers.blocks import (
    BlockStyle,
    classifier,
    convolution,
    deconvolution,
    plain_deconvolution,
    pooling,
)
from tfsono.layers.nodes import two_convolutions
from tfsono.layers.precision import made_in
from tfsono.layers.recompute import recomputed
from tfsono.losses import cross_entropy, cross_entropy_dice

# The encoder's layers that take C3D's kernels (Sec. 2.2), by C3D's names.
TRANSFERRED = ("conv1", "conv2", "conv3a", "conv3b", "conv4a", "conv4b")


def build(config: HipConfig, apart: bool = False) -> keras.Model:
    """The network of a config, for any sides that are multiples of `config.stride`.

    With `config.recompute` its blocks are recomputed in the backward pass. With `apart` the stages of the decoder of
    `ds_u3` convolve their inputs one by one instead of a concatenation, in less memory. The weights are the same.
    """
    with made_in(config.precision):
        style = BlockStyle(config.initial_deviation, config.weight_decay, config.norm_momentum, config.norm_epsilon,
                           config.norm_at_test)
        network = _ds_u3(config, style, apart) if config.architecture == "ds_u3" else _lineage4(config, style)
        return recomputed(network, _ends_of_blocks(config)) if config.recompute else network


def _ends_of_blocks(config: HipConfig) -> list[str]:
    """The layers whose outputs are kept where the rest is recomputed."""
    if config.architecture == "ds_u3":
        blocks = ["conv1", "conv2", "conv3b", "conv4b", "dec3b", "dec2b", "dec1b"]
        if config.deep_supervision:
            blocks += [f"lower_up{stage}" for stage in range(1, len(config.lower_widths) + 1)] + ["middle_up1"]
    else:
        blocks = ["conv1", "conv2", "conv3b", "conv4b", "conv5b", "dec4", "dec3", "dec2", "dec1"]
    return [f"{block}_norm" for block in blocks]


def _encoder(image, widths, style: BlockStyle):
    """C3D's groups 1 to 4: features at 1/1, 1/2, 1/4 and 1/8 of the input's sides."""
    conv1 = convolution(image, widths[0], style, "conv1")
    conv2 = convolution(pooling(conv1, "pool1"), widths[1], style, "conv2")
    conv3 = convolution(pooling(conv2, "pool2"), widths[2], style, "conv3a")
    conv3 = convolution(conv3, widths[2], style, "conv3b")
    conv4 = convolution(pooling(conv3, "pool3"), widths[3], style, "conv4a")
    conv4 = convolution(conv4, widths[3], style, "conv4b")
    return conv1, conv2, conv3, conv4


def _decode(x, skip, channels: int, style: BlockStyle, name: str, apart: bool):
    """One stage of the decoder: deconvolution, concatenation with the encoder's features, two convolutions."""
    return two_convolutions([deconvolution(x, channels, style, f"{name}_up"), skip], channels, style, name, apart)


def _ds_u3(config: HipConfig, style: BlockStyle, apart: bool) -> keras.Model:
    """Three poolings, as in 3D U-Net; 32,919,750 trainable parameters at the paper's widths and two classes."""
    image = keras.Input((None, None, None, 1), name="image")
    conv1, conv2, conv3, conv4 = _encoder(image, config.widths, style)
    lower = _decode(conv4, conv3, config.widths[2], style, "dec3", apart=apart)
    middle = _decode(lower, conv2, config.widths[1], style, "dec2", apart=apart)
    upper = _decode(middle, conv1, config.widths[0], style, "dec1", apart=apart)
    outputs = {"upper": classifier(upper, config.classes, style, "upper_cls")}
    if config.deep_supervision:
        for stage, channels in enumerate(config.lower_widths, 1):
            lower = deconvolution(lower, channels, style, f"lower_up{stage}")
        middle = deconvolution(middle, config.middle_widths[0], style, "middle_up1")
        outputs["lower"] = classifier(lower, config.classes, style, "lower_cls")
        outputs["middle"] = classifier(middle, config.classes, style, "middle_cls")
    return keras.Model(image, outputs, name="ds_u3")


def _lineage4(config: HipConfig, style: BlockStyle) -> keras.Model:
    """Four poolings and one convolution per decoder stage, as in the co-author's public code of the same months.

    Its branches classify first and upsample the logits by plain deconvolutions; a third one, `near`, is at 1/2.
    59,343,176 trainable parameters at the paper's widths and two classes.
    """
    image = keras.Input((None, None, None, 1), name="image")
    skips = _encoder(image, config.widths, style)
    x = convolution(pooling(skips[3], "pool4"), config.widths[3], style, "conv5a")
    x = convolution(x, config.widths[3], style, "conv5b")
    stages = []
    for level in (3, 2, 1, 0):
        name = f"dec{level + 1}"
        x = deconvolution(x, config.widths[level], style, f"{name}_up")
        x = layers.Concatenate(name=f"{name}_concat")([x, skips[level]])
        x = convolution(x, config.widths[level] // 2, style, name)
        stages.append(x)
    outputs = {"upper": classifier(stages[3], config.classes, style, "upper_cls")}
    if config.deep_supervision:
        for head, features, doublings in zip(("lower", "middle", "near"), stages, (3, 2, 1), strict=False):
            logits = classifier(features, config.classes, style, f"{head}_cls")
            for step in range(1, doublings + 1):
                logits = plain_deconvolution(logits, config.classes, style, f"{head}_up{step}")
            outputs[head] = layers.Activation("linear", dtype="float32", name=f"{head}_logits")(logits)
    return keras.Model(image, outputs, name="lineage4")


def losses(config: HipConfig) -> dict:
    """The loss of every classifier (Eq. 1), by the name of its output."""
    loss = cross_entropy if config.loss == "cross_entropy" else cross_entropy_dice
    return {head: loss for head in config.heads}


def main_network(network: keras.Model, *others: keras.Model) -> keras.Model:
    """The network that is tested (Sec. 3.4): standardised patches -> probabilities of UpperCls, float32.

    For several networks: the mean of their probabilities.
    """
    image = keras.Input((None, None, None, 1), name="image")
    predictions = []
    for number, one in enumerate((network, *others), 1):
        logits = keras.Model(one.input, one.output["upper"], name=f"member_{number}")(image)
        predictions.append(layers.Softmax(dtype="float32", name=f"probabilities_{number}")(logits))
    mean = layers.Average(dtype="float32", name="probabilities")(predictions) if others else predictions[0]
    return keras.Model(image, mean, name="main")
