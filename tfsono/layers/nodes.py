"""Nodes of a 3D U-net: two convolutions of the concatenated inputs, and the upsampling from a coarser node.

The node `d1` has the layers `d1_up`, `d1_concat`, `d1a` and `d1b`, and after each (de)convolution its `_norm`, with
ReLU; its output is that of `d1b_norm`.
"""

from __future__ import annotations

import itertools

from keras import KerasTensor, layers, ops

from tfsono.layers.blocks import BlockStyle, convolution, deconvolution


def two_convolutions(parts: list, channels: int, style: BlockStyle, name: str, apart: bool = False):
    """Two convolutions of the features in `parts`, which have one size.

    Args:
      parts: tensors [B, X, Y, Z, ...].
      channels: of the node.
      style: of kernels and normalisation.
      name: of the node.
      apart: the first convolution takes each part by itself, which saves the memory of the concatenation and of its
        gradient. Weights and their names in a file are the same; outputs differ by the rounding of reordered sums.
    """
    if apart and len(parts) > 1:
        x = Conv3D(channels, 3, padding="same", use_bias=False, name=f"{name}a", **style.kernel())(parts)
        x = style.normalise(x, f"{name}a")
    else:
        x = convolution(_concatenated(parts, f"{name}_concat"), channels, style, f"{name}a")
    return convolution(x, channels, style, f"{name}b")


def upsample(parts: list, channels: int, style: BlockStyle, name: str):
    """The concatenated features of half the node's sides, deconvolved to its size."""
    return deconvolution(_concatenated(parts, f"{name}_below"), channels, style, f"{name}_up")


class Conv3D(layers.Conv3D):
    """The convolution of a concatenation of tensors, without the concatenation: the sum of each part's convolution.

    It equals `blocks.convolution` before the normalisation. Its weights and their names in a file (which Keras derives
    from the class's name) are those of Keras's layer after a concatenation.
    """

    @property
    def input_spec(self) -> None:
        """None: Keras's requires one tensor of all channels."""

    @input_spec.setter
    def input_spec(self, value) -> None:
        """Keras's is not kept."""

    def build(self, input_shapes):
        super().build((*input_shapes[0][:-1], sum(shape[-1] for shape in input_shapes)))

    def call(self, parts):
        return self.finished([ops.conv(part, kernel, padding="same")
                              for part, kernel in zip(parts, self.kernels(parts), strict=True)])

    def finished(self, convolved: list):
        """The sum of the parts' convolutions; the bias of a folded layer costs nothing in one of them."""
        first, *others = convolved
        if self.bias is not None:
            others[-1] = others[-1] + ops.cast(self.bias, self.compute_dtype)
        return self.activation(sum(others, first))

    def kernels(self, parts: list):
        """The kernel of each part."""
        *ends, _ = itertools.accumulate(part.shape[-1] for part in parts)
        return ops.split(self.kernel, ends, axis=-2)

    def compute_output_spec(self, parts):
        return KerasTensor((*parts[0].shape[:-1], self.filters), self.compute_dtype)


def _concatenated(parts: list, name: str):
    return layers.Concatenate(name=name)(parts) if len(parts) > 1 else parts[0]
