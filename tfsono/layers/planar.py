"""Blocks of 2D networks: convolution, batch normalisation, ReLU; residual blocks; sizes. Images are [B, Y, X, C]."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from tfsono.layers.batch_normalization import BatchNormalization


@dataclass(frozen=True)
class PlanarStyle:
    """What all blocks of one network have in common.

    Attributes:
      norm_momentum: share of a normalisation's moving statistics that is kept in a step.
      dropout: share of channels or features that are dropped.
      monte_carlo: dropout stays on at test, so that every call is another sample.
    """

    norm_momentum: float
    dropout: float
    monte_carlo: bool = False

    def normalise(self, x, name: str):
        """Batch normalisation and ReLU."""
        return BatchNormalization(momentum=self.norm_momentum, rectified=True, name=f"{name}_norm")(x)

    def drop_features(self, x, name: str, rate: float | None = None):
        """Dropout of single values, at `rate` or the network's own."""
        layer = LastingDropout if self.monte_carlo else layers.Dropout
        return layer(self.dropout if rate is None else rate, name=name)(x)

    def drop_channels(self, x, name: str):
        """Dropout of whole channels, as neighbouring pixels are correlated."""
        layer = LastingSpatialDropout if self.monte_carlo else layers.SpatialDropout2D
        return layer(self.dropout, name=name)(x)


class LastingDropout(layers.Dropout):
    """Dropout that stays on at test.

    Calling Keras's layer with `training=True` would pass that on to every later layer, and the normalisations would use
    the batch's statistics.
    """

    def call(self, inputs, training=False):
        return super().call(inputs, training=True)


class LastingSpatialDropout(layers.SpatialDropout2D):
    """Dropout of whole channels that stays on at test; see `LastingDropout`."""

    def call(self, inputs, training=False):
        return super().call(inputs, training=True)


def convolution(x, channels: int, style: PlanarStyle, name: str, side: int = 3, stride: int = 1, dilation: int = 1,
                bias: bool = False):
    """A convolution, batch normalisation, ReLU: [B, Y, X, C] -> [B, Y / stride, X / stride, channels]."""
    x = layers.Conv2D(channels, side, strides=stride, padding="same", dilation_rate=dilation, use_bias=bias,
                      kernel_initializer="he_normal", name=name)(x)
    return style.normalise(x, name)


def separable_convolution(x, channels: int, style: PlanarStyle, name: str, dilation: int = 1):
    """A 3x3 convolution in each channel and a 1x1 one across them, batch normalisation, ReLU."""
    x = layers.DepthwiseConv2D(3, padding="same", dilation_rate=dilation, use_bias=False,
                               depthwise_initializer="he_normal", name=f"{name}_depth")(x)
    return convolution(x, channels, style, name, side=1)


def deconvolution(x, channels: int, style: PlanarStyle, name: str):
    """A 2x2 transposed convolution, stride 2, batch normalisation, ReLU: sides double."""
    x = layers.Conv2DTranspose(channels, 2, strides=2, use_bias=False, kernel_initializer="he_normal", name=name)(x)
    return style.normalise(x, name)


def residual_block(x, channels: int, style: PlanarStyle, name: str, stride: int = 1, dilation: int = 1):
    """Two 3x3 convolutions and a shortcut around them (He et al., CVPR 2016, Fig. 5 left)."""
    shortcut = x
    if stride != 1 or x.shape[-1] != channels:
        shortcut = layers.Conv2D(channels, 1, strides=stride, use_bias=False, kernel_initializer="he_normal",
                                 name=f"{name}_shortcut")(x)
        shortcut = BatchNormalization(momentum=style.norm_momentum, name=f"{name}_shortcut_norm")(shortcut)
    x = convolution(x, channels, style, f"{name}a", stride=stride, dilation=dilation)
    x = layers.Conv2D(channels, 3, padding="same", dilation_rate=dilation, use_bias=False,
                      kernel_initializer="he_normal", name=f"{name}b")(x)
    x = BatchNormalization(momentum=style.norm_momentum, name=f"{name}b_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))


class Resize(layers.Layer):
    """Bilinear interpolation to `size` (rows, columns), half-pixel centres, calculated in float32.

    `smooth` also averages over the pixels of the input that a pixel of the output stands for, as TensorFlow does with
    `antialias`, whose operation ONNX has not.
    """

    def __init__(self, size: tuple[int, int], name: str, smooth: bool = False, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.size, self.smooth = tuple(size), smooth

    def call(self, x):
        resized = ops.cast(x, "float32")
        if self.smooth:
            rows, columns = (_shares(new, old) for new, old in zip(self.size, x.shape[1:3], strict=True))
            resized = ops.einsum("ry,byxc->brxc", rows, resized)
            resized = ops.einsum("sx,brxc->brsc", columns, resized)
        else:
            resized = ops.image.resize(resized, self.size, interpolation="bilinear", data_format="channels_last")
        return ops.cast(resized, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.size, input_shape[3])


def _shares(new: int, old: int) -> np.ndarray:
    """The share of each of `old` pixels in each of `new` ones along an axis: [new, old] float32, triangles."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale - 0.5
    shares = np.maximum(0, 1 - np.abs(np.arange(old) - centres[:, None]) / max(scale, 1))
    return np.float32(shares / shares.sum(1, keepdims=True))


def resize(x, size, name: str, smooth: bool = False, dtype: str | None = None):
    """`x` with `size` rows and columns; unchanged where it has them.

    Args:
      x: [B, Y, X, C].
      size: rows and columns.
      name: of the layer.
      smooth: antialias where it shrinks.
      dtype: of the output; None is that of the network.
    """
    return x if tuple(x.shape[1:3]) == tuple(size) else Resize(size, name, smooth, dtype)(x)


def logits(x, channels: int, name: str, deviation: float = 0.0):
    """A 1x1 convolution with bias, in float32 whatever the precision.

    `deviation` is that of the Gaussian its kernel starts from; 0 takes Glorot's initialisation.
    """
    start = keras.initializers.RandomNormal(stddev=deviation) if deviation else "glorot_uniform"
    return layers.Conv2D(channels, 1, kernel_initializer=start, dtype="float32", name=name)(x)


def float32(x, name: str) -> keras.KerasTensor:
    """`x` in float32 whatever the precision."""
    return layers.Activation("linear", dtype="float32", name=name)(x)
