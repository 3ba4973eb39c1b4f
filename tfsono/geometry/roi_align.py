"""Features of a map inside boxes, on a grid of fixed size: RoIAlign in three dimensions (He et al., 2017)."""

from __future__ import annotations

from keras import ops

SAMPLES = 2  # of a bin along each axis; its value is their mean
CHUNK = 8  # boxes cut out at once: needs side / X of the map, times this, of memory on top of the result


def roi_align(features, boxes, stride: float, side: int = 7):
    """The map inside each box, in `side`^3 bins: each the mean of 2^3 samples, interpolated linearly.

    As torchvision's `roi_align` with `aligned=True` and `sampling_ratio=2`: no coordinate is rounded; a sample less
    than a cell beyond the outer cells' centres has their value, one farther out is 0. Mean and interpolation separate
    into one matrix an axis, multiplied one after another, a few boxes at a time.

    Args:
      features: [X, Y, Z, C], of any float type.
      boxes: [N, 6] in voxels of the volume, N at least 1; one with a NaN gives 0. No gradient flows into them.
      stride: voxels in a cell of the map; the first cell's centre is at (stride - 1) / 2.
      side: bins along each axis.

    Returns:
      [N, side, side, side, C], of the features' type.
    """
    features, boxes = ops.convert_to_tensor(features), ops.cast(ops.convert_to_tensor(boxes), "float32")
    boxes = ops.stop_gradient(boxes)
    sizes, number = ops.shape(features), ops.shape(boxes)[0]
    rows = ops.reshape(features, (sizes[0], -1))

    def cut(few):
        few = ops.stop_gradient(few)  # again: else the loop stores tensors for their gradient
        x, y, z = (ops.cast(_weights(few[:, axis], few[:, axis + 3], sizes[axis], stride, side), features.dtype)
                   for axis in range(3))
        planes = ops.matmul(ops.reshape(x, (CHUNK * side, -1)), rows)
        lines = ops.matmul(y[:, None], ops.reshape(planes, (CHUNK, side, sizes[1], -1)))
        return ops.matmul(z[:, None, None], ops.reshape(lines, (CHUNK, side, side, sizes[2], features.shape[-1])))

    chunks = (number + CHUNK - 1) // CHUNK
    boxes = ops.concatenate([boxes, ops.zeros((CHUNK - 1, 6), "float32")])[:chunks * CHUNK]
    found = ops.map(cut, ops.reshape(boxes, (-1, CHUNK, 6)))
    return ops.reshape(found, (-1, side, side, side, features.shape[-1]))[:number]


def _weights(low, high, cells, stride: float, side: int):
    """The weight of each cell of an axis in the bins of boxes from `low` to `high` [N]: [N, side, cells]."""
    low, high = ((edge + 0.5) / stride - 0.5 for edge in (low, high))
    steps = (ops.arange(side * SAMPLES, dtype="float32") + 0.5) / (side * SAMPLES)
    places = low[:, None] + (high - low)[:, None] * steps
    last = ops.cast(cells, "float32") - 1.0
    there = ops.logical_and(places >= -1.0, places <= last + 1.0)  # neither holds for NaN
    places = ops.clip(ops.where(there, places, 0.0), 0.0, last)
    near = ops.relu(1.0 - ops.abs(places[..., None] - ops.arange(cells, dtype="float32")))
    near = near * ops.cast(there, "float32")[..., None]
    return ops.mean(ops.reshape(near, (-1, side, SAMPLES, ops.shape(near)[-1])), axis=2)
