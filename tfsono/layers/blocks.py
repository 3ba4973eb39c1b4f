"""Convolution and deconvolution blocks of the 3D networks: convolution, batch normalisation, ReLU."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from tfsono.layers.batch_normalization import BatchNormalization


@dataclass(frozen=True)
class BlockStyle:
    """What all blocks of one network have in common.

    Attributes:
      deviation: standard deviation of the Gaussian that kernels start from; 0 takes He's initialisation.
      weight_decay: adds `weight_decay * w` to the gradient, as in Caffe; Keras's L2 is half of it.
      norm_momentum: share of the moving statistics that is kept in a step.
      norm_epsilon: added to the variance.
      norm_at_test: mean and variance at test: `moving` averages of training, or the `tile`'s own, or the `batch`'s.
    """

    deviation: float
    weight_decay: float
    norm_momentum: float
    norm_epsilon: float
    norm_at_test: str = "moving"

    def kernel(self) -> dict:
        """Initialisation and regularisation of a kernel, as keyword arguments of a Keras layer."""
        start = keras.initializers.RandomNormal(stddev=self.deviation) if self.deviation else "he_normal"
        return {"kernel_initializer": start,
                "kernel_regularizer": keras.regularizers.L2(self.weight_decay / 2) if self.weight_decay else None}

    def normalise(self, x, name: str):
        """Batch normalisation and ReLU of `x` [B, X, Y, Z, C]."""
        return self.standardise(x, name, rectified=True)

    def standardise(self, x, name: str, rectified: bool = False):
        """Batch normalisation of `x` [B, X, Y, Z, C], followed by ReLU where `rectified`."""
        return BatchNormalization(self.norm_at_test, self.norm_momentum, self.norm_epsilon, rectified,
                                  f"{name}_norm")(x)


def convolution(x, channels: int, style: BlockStyle, name: str):
    """A 3x3x3 convolution without bias, batch normalisation, ReLU: [B, X, Y, Z, C] -> [B, X, Y, Z, channels]."""
    x = layers.Conv3D(channels, 3, padding="same", use_bias=False, name=name, **style.kernel())(x)
    return style.normalise(x, name)


def deconvolution(x, channels: int, style: BlockStyle, name: str):
    """A 4x4x4 transposed convolution, stride 2, batch normalisation, ReLU: sides double."""
    return style.normalise(plain_deconvolution(x, channels, style, name), name)


def plain_deconvolution(x, channels: int, style: BlockStyle, name: str):
    """A 4x4x4 transposed convolution, stride 2, without bias, normalisation or ReLU: sides double."""
    return layers.Conv3DTranspose(
        channels, 4, strides=2, padding="same", use_bias=False, name=name, **style.kernel())(x)


def pooling(x, name: str):
    """The maximum of each 2x2x2 cell: sides halve."""
    return layers.MaxPooling3D(2, name=name)(x)


def classifier(x, classes: int, style: BlockStyle, name: str):
    """A 1x1x1 convolution with bias to logits [B, X, Y, Z, classes], in float32 whatever the precision."""
    return layers.Conv3D(classes, 1, name=name, dtype="float32", **style.kernel())(x)
