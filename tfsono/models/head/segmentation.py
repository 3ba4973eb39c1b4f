"""The three networks of the text's Part B: logits [B, Y, X, 1] of the head."""

from __future__ import annotations

from keras import layers

from tfsono.configs.head import HeadConfig
from tfsono.layers.attention import additive_gate, spatial_pyramid
from tfsono.layers.planar import PlanarStyle, convolution, deconvolution, logits, resize, separable_convolution
from tfsono.models.head.backbones import features


def unet(image, config: HeadConfig, style: PlanarStyle, gates: bool):
    """Approaches 1 and 2: the classic U-Net, and with additive gates on all skips but the finest one.

    31,037,441 trainable parameters without gates at the paper's widths.
    """
    x, skips = image, []
    for level, channels in enumerate(config.unet_widths[:-1], 1):
        x = _two_convolutions(x, channels, style, f"enc{level}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
    x = _two_convolutions(x, config.unet_widths[-1], style, "middle")
    x = style.drop_channels(x, "drop")
    for level in range(len(skips), 0, -1):
        skip, channels = skips[level - 1], config.unet_widths[level - 1]
        if gates and level > 1:
            skip = additive_gate(skip, x, style, f"gate{level}")
        x = layers.Concatenate(name=f"dec{level}_concat")([deconvolution(x, channels, style, f"dec{level}_up"), skip])
        x = _two_convolutions(x, channels, style, f"dec{level}")
    return logits(x, 1, "mask")


def _two_convolutions(x, channels: int, style: PlanarStyle, name: str):
    return convolution(convolution(x, channels, style, f"{name}a"), channels, style, f"{name}b")


def deeplabv3plus(image, config: HeadConfig, style: PlanarStyle):
    """Approach 3: ResNet50 at output stride 16, atrous spatial pyramid pooling, a decoder with the features at 1/4."""
    stages = features(image, config, style, stride=16)
    channels = config.aspp_channels
    x = spatial_pyramid(stages[-1], channels, config.aspp_rates, style, "aspp")
    x = convolution(x, channels, style, "aspp_fused", side=1)
    x = style.drop_features(x, "aspp_drop", config.aspp_dropout)
    low = convolution(stages[0], config.low_level_channels, style, "low", side=1)
    x = layers.Concatenate(name="dec_concat")([resize(x, low.shape[1:3], "dec_spread"), low])
    x = separable_convolution(x, channels, style, "dec_a")
    x = separable_convolution(x, channels, style, "dec_b")
    return resize(logits(x, 1, "coarse"), config.input_size, "mask", dtype="float32")
