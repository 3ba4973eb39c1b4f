"""The discriminator of an adversarial stage: is a pair of concatenated tensors the reference?"""

from __future__ import annotations

import keras
from keras import layers

from tfsono.layers.blocks import BlockStyle

SLOPE = 0.2  # LeakyReLU's below 0; the usual one, as the papers give none


def critic(channels: int, widths: tuple[int, ...], strided: int, style: BlockStyle) -> keras.Model:
    """Convolutions with kernels of side 4, the mean over the region, a fully connected layer.

    Every convolution but the first is normalised, as usual in discriminators. Mean and logit are float32, the rest has
    the precision of `made_in`.

    Args:
      channels: of the input, that is of the whole pair.
      widths: of the convolutions.
      strided: so many of them, from the first, halve the sides.
      style: of kernels and normalisation.

    Returns:
      pair [B, X, Y, Z, channels] of any sides -> logit [B, 1]; the convolutions' last layers are `kept_layers(widths)`.
    """
    pair = x = keras.Input((None, None, None, channels), name="pair")
    for place, width in enumerate(widths, 1):
        x = layers.Conv3D(width, 4, strides=2 if place <= strided else 1, padding="same", use_bias=place == 1,
                          name=f"conv{place}", **style.kernel())(x)
        if place > 1:
            x = style.standardise(x, f"conv{place}")
        x = layers.LeakyReLU(SLOPE, name=f"conv{place}_relu")(x)
    x = layers.GlobalAveragePooling3D(dtype="float32", name="mean")(x)
    return keras.Model(pair, layers.Dense(1, dtype="float32", name="logit")(x), name="discriminator")


def kept_layers(widths: tuple[int, ...]) -> list[str]:
    """Names of the layers between which a critic may be recomputed in the backward pass."""
    return [f"conv{place}_relu" for place in range(1, len(widths) + 1)]
