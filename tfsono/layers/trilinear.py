"""A convolution of features upsampled to twice their sides, without upsampling them."""

from __future__ import annotations

import math

from keras import KerasTensor, ops

from tfsono.layers.nodes import Conv3D

FLANK = 3  # values of a spread axis before the first that lies on the fine grid


class UpsampledConv3D(Conv3D):
    """A 3x3x3 convolution of `[coarse, fine]`: `coarse`, interpolated to the sides of `fine`, concatenated with it.

        coarse [B, X, Y, Z, C], fine [B, 2 X, 2 Y, 2 Z, D] -> [B, 2 X, 2 Y, 2 Z, channels]

    Interpolation is trilinear with half-voxel centres and repeats the border's values beyond it; the convolution has
    zero padding, no bias, and the weights of a convolution after a concatenation. Interpolation is insertion of zeros
    and smoothing; smoothing and convolution commute, and the zeros need no multiplication: this is a transposed
    convolution of the coarse values, with an eighth of the multiplications.
    """

    def call(self, parts):
        coarse, fine = parts
        of_coarse, of_fine = self.kernels(parts)
        return self.finished([_smoothed(_spread(coarse, of_coarse)), ops.conv(fine, of_fine, padding="same")])

    def compute_output_spec(self, parts):
        return KerasTensor((*parts[1].shape[:-1], self.filters), self.compute_dtype)


def _spread(coarse, kernel):
    """[B, X, Y, Z, C] with zeros between the values, convolved: [B, 2 X + 5, 2 Y + 5, 2 Z + 5, channels].

    The border's values are repeated once, so that `_smoothing` can separate them from their neighbours.
    """
    wide = ops.pad(coarse, [[0, 0], [1, 1], [1, 1], [1, 1], [0, 0]], mode="symmetric")
    return ops.conv_transpose(wide, ops.flip(ops.swapaxes(kernel, 3, 4), axis=(0, 1, 2)), strides=2, padding="valid")


def _smoothed(spread):
    """Along each of the three axes: [B, 2 X + 5, 2 Y + 5, 2 Z + 5, C] -> [B, 2 X, 2 Y, 2 Z, C]."""
    for axis in (1, 2, 3):
        sides = ops.shape(spread)
        side = sides[axis] - 2 * FLANK + 1
        rows = ops.reshape(spread, (math.prod(sides[:axis]), sides[axis], math.prod(sides[axis + 1:])))
        rows = ops.matmul(ops.cast(_smoothing(side), rows.dtype), rows)
        spread = ops.reshape(rows, (*sides[:axis], side, *sides[axis + 1:]))
    return spread


def _smoothing(side):
    """The matrix from an axis of spread values to one of `side`, which is even: [side, side + 5] float32.

    Inside, a value is 3/4 of the two spread values at it and before it and 1/4 of the next ones on either side. With
    kernel w and coarse values a, spread values are t[2 i] = w[1] a[i] and t[2 i + 1] = w[0] a[i] + w[2] a[i + 1]. At
    the border the interpolated values are a[0], 3/4 a[0] + 1/4 a[1], ... and before them, for the convolution, 0: so
    the first value is w[1] a[0] + w[2] (3/4 a[0] + 1/4 a[1]) = t[0] + 1/4 t[1] - 1/4 t[-1] + t[-3], as a[-1] = a[0]
    and a[-2] = 0; and so on the other side.
    """
    steps = ops.arange(side)[:, None] - (ops.arange(side + 2 * FLANK - 1)[None, :] - FLANK)
    within = (ops.where((steps == 0) | (steps == 1), 0.75, 0.0) + ops.where((steps == -1) | (steps == 2), 0.25, 0.0))
    first = ops.pad(ops.convert_to_tensor([[1.0, 0.0, -0.25, 1.0, 0.25]]), [[0, 0], [0, side]])
    return ops.concatenate([first, within[1:-1], ops.flip(first, axis=1)], axis=0)
