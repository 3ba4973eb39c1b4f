"""Zero mean and unit variance of a patch or an image, without its padding."""

from __future__ import annotations

from keras import ops

SMALLEST_DEVIATION = 1e-6


def standardise(image, valid):
    """Subtracts the mean and divides by the standard deviation of the valid voxels; the rest becomes 0.

    Args:
      image: [B, X, Y, Z, 1] or [B, Y, X, 1] raw intensities.
      valid: the same shape, 1 where the patch is inside its volume, 0 in the padding.

    Returns:
      The same shape, float32. A constant patch becomes 0 everywhere.
    """
    image, valid = ops.cast(image, "float32"), ops.cast(valid, "float32")
    axes = tuple(range(1, len(image.shape)))
    count = ops.maximum(ops.sum(valid, axis=axes, keepdims=True), 1.0)
    centred = (image - ops.sum(image * valid, axis=axes, keepdims=True) / count) * valid
    deviation = ops.sqrt(ops.sum(centred * centred, axis=axes, keepdims=True) / count)
    return centred / ops.maximum(deviation, SMALLEST_DEVIATION)
