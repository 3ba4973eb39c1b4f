"""Trilinear interpolation to twice the sides, which Keras has for pictures alone."""

from __future__ import annotations

from keras import KerasTensor, layers, ops


class TrilinearUpsampling(layers.Layer):
    """[B, X, Y, Z, C] -> [B, 2 X, 2 Y, 2 Z, C]; half-voxel centres, the border's values go on beyond it.

    Along an axis a new voxel lies a quarter of an old one from the old centre: 3/4 of that and 1/4 of its neighbour.
    """

    def call(self, x):
        for axis in (1, 2, 3):
            x = _doubled(x, axis)
        return x

    def compute_output_spec(self, x):
        batch, *sides, channels = x.shape
        return KerasTensor((batch, *(side and 2 * side for side in sides), channels), self.compute_dtype)


def _doubled(x, axis: int):
    """`x` with the sides of one axis doubled."""
    sides = ops.shape(x)

    def cut(first, count):  # a slice by `[...]` has a gradient of several times the cost
        return ops.slice(x, [first if place == axis else 0 for place in range(5)],
                         [count if place == axis else side for place, side in enumerate(sides)])

    last = sides[axis] - 1
    before = ops.concatenate([cut(0, 1), cut(0, last)], axis)
    after = ops.concatenate([cut(1, last), cut(last, 1)], axis)
    pairs = ops.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
    return ops.reshape(pairs, (*sides[:axis], 2 * sides[axis], *sides[axis + 1:]))
