"""Attention in convolutional networks: additive gates on skips, and the convolutional block attention module."""

from __future__ import annotations

from keras import layers, ops

from tfsono.layers.batch_normalization import BatchNormalization
from tfsono.layers.planar import PlanarStyle, convolution, resize, separable_convolution


def additive_gate(skip, gate, style: PlanarStyle, name: str):
    """A skip weighted by attention from the next coarser map of the decoder (Oktay et al., MIDL 2018, Fig. 2).

    a = sigmoid(psi(ReLU(theta(skip) + phi(gate)))), one number for each cell of the gate, interpolated to the skip's
    size; then a 1x1 convolution and batch normalisation of a * skip.

    Args:
      skip: [B, Y, X, C] of the encoder.
      gate: [B, Y / 2, X / 2, D] of the decoder.

    Returns:
      [B, Y, X, C].
    """
    channels = skip.shape[-1]
    theta = layers.Conv2D(channels // 2, 2, strides=2, use_bias=False, kernel_initializer="he_normal",
                          name=f"{name}_theta")(skip)
    phi = layers.Conv2D(channels // 2, 1, kernel_initializer="he_normal", name=f"{name}_phi")(gate)
    both = layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([theta, phi]))
    share = layers.Conv2D(1, 1, activation="sigmoid", name=f"{name}_psi")(both)
    share = resize(share, skip.shape[1:3], f"{name}_share")
    weighted = layers.Multiply(name=f"{name}_weighted")([skip, share])
    weighted = layers.Conv2D(channels, 1, kernel_initializer="he_normal", name=f"{name}_out")(weighted)
    return BatchNormalization(momentum=style.norm_momentum, name=f"{name}_norm")(weighted)


def block_attention(x, reduction: int, name: str):
    """Channel attention, then spatial attention (CBAM, Woo et al., ECCV 2018, Eq. 2 to 4): [B, Y, X, C] -> the same."""
    return spatial_attention(channel_attention(x, reduction, f"{name}_channel"), f"{name}_spatial")


def channel_attention(x, reduction: int, name: str):
    """Each channel times sigmoid(MLP(mean) + MLP(maximum)), the two sharing one MLP."""
    channels = x.shape[-1]
    narrow = layers.Dense(max(channels // reduction, 1), activation="relu", use_bias=False, name=f"{name}_narrow")
    wide = layers.Dense(channels, use_bias=False, name=f"{name}_wide")
    mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    highest = layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_highest")(x)
    both = layers.Add(name=f"{name}_add")([wide(narrow(mean)), wide(narrow(highest))])
    return layers.Multiply(name=f"{name}_weighted")([x, layers.Activation("sigmoid", name=f"{name}_share")(both)])


def spatial_attention(x, name: str):
    """Each pixel times the sigmoid of a 7x7 convolution of its mean and maximum over the channels."""
    summary = ChannelSummary(name=f"{name}_summary")(x)
    share = layers.Conv2D(1, 7, padding="same", activation="sigmoid", use_bias=False, name=f"{name}_share")(summary)
    return layers.Multiply(name=f"{name}_weighted")([x, share])


class ChannelSummary(layers.Layer):
    """The mean and the maximum over the channels: [B, Y, X, C] -> [B, Y, X, 2]."""

    def call(self, x):
        return ops.concatenate([ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2)


def spatial_pyramid(x, channels: int, rates: tuple[int, ...], style: PlanarStyle, name: str):
    """Atrous spatial pyramid pooling (Chen et al., ECCV 2018): a 1x1, dilated 3x3 and a global branch, concatenated.

    Returns:
      [B, Y, X, channels * (2 + the number of rates)].
    """
    branches = [convolution(x, channels, style, f"{name}_point", side=1)]
    for rate in rates:
        branches.append(separable_convolution(x, channels, style, f"{name}_rate{rate}", dilation=rate))
    mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    mean = convolution(mean, channels, style, f"{name}_global", side=1)
    branches.append(resize(mean, x.shape[1:3], f"{name}_spread"))
    return layers.Concatenate(name=f"{name}_concat")(branches)
