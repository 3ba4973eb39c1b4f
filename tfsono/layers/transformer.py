"""Blocks of a vision transformer: patches to tokens, learned tokens, self-attention."""

from __future__ import annotations

import math

import keras
from keras import layers, ops


class Tokens(layers.Layer):
    """Learned tokens before the patches', and a learned position embedding for each: [B, N, C] -> [B, count + N, C]."""

    def __init__(self, count: int, name: str):
        super().__init__(name=name)
        self.count = count

    def build(self, input_shape):
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        width = input_shape[-1]
        self.tokens = self.add_weight(shape=(1, self.count, width), initializer=start, name="tokens")
        self.places = self.add_weight(shape=(1, self.count + input_shape[1], width), initializer=start, name="places")

    def call(self, patches):
        tokens = ops.repeat(self.tokens, ops.shape(patches)[0], axis=0)
        return ops.concatenate([ops.cast(tokens, patches.dtype), patches], axis=1) + ops.cast(
            self.places, patches.dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.count + input_shape[1], input_shape[2])


@keras.saving.register_keras_serializable("tfsono")
def gelu(x):
    """x by the share of the standard normal below it (Hendrycks and Gimpel, 2016), exact; Keras's has no ONNX."""
    return 0.5 * x * (1.0 + ops.erf(x / math.sqrt(2)))


def patch_tokens(image, patch: int, width: int, name: str):
    """One token for each patch of `patch` x `patch` pixels: [B, Y, X, C] -> [B, Y * X / patch^2, width]."""
    x = layers.Conv2D(width, patch, strides=patch, name=name)(image)
    return layers.Reshape((-1, width), name=f"{name}_flat")(x)


def transformer_block(x, heads: int, name: str):
    """x + attention(norm(x)), then x + MLP(norm(x)), 4 times as wide inside (Dosovitskiy et al., ICLR 2021, Eq. 2-3).

    Args:
      x: [B, N, C] tokens.
      heads: of the attention; C is a multiple of it.
    """
    width = x.shape[-1]
    normed = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    attention = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_attention")(normed, normed)
    x = layers.Add(name=f"{name}_add1")([x, attention])
    normed = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    inside = layers.Dense(4 * width, activation=gelu, name=f"{name}_wide")(normed)
    return layers.Add(name=f"{name}_add2")([x, layers.Dense(width, name=f"{name}_narrow")(inside)])
