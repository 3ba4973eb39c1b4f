"""Heatmaps of 2D images and volumes: Gaussian targets, and points from maps.

    images     maps [B, y, x, K]      points [B, K, 2] as (x, y)
    volumes    maps [B, X, Y, Z, K]   points [B, K, 3] as (x, y, z)

A map may be coarser than its image: cells of `stride` pixels, with centres at `(i + 0.5) * stride - 0.5`; a volume's
cells are voxels, and its stride is 1. Points are always centre indices of the image or the volume; the first pixel's or
voxel's centre is 0.0. Any number of landmarks K, any sides.
"""

from __future__ import annotations

from keras import ops

WINDOW = 2  # cells on each side of the highest one that a centroid uses
WIDE = 1.5  # the same of a wide centroid, in deviations of the Gaussian: there it is a third of its maximum
FLOOR = 0.3  # share of the maximum that a centroid subtracts first, so that the background has no influence


def to_cells(points_px, stride: float):
    """Pixels of the image -> cells of its map, both from the centre of the first one."""
    return (points_px + 0.5) / stride - 0.5


def to_pixels(points_cell, stride: float):
    """Cells of the map -> pixels of the image; the inverse of `to_cells`."""
    return (points_cell + 0.5) * stride - 0.5


def gaussian_maps(points, map_size: tuple[int, ...], sigma: float, stride: float = 1.0):
    """exp(-|v - p|^2 / (2 sigma^2)) with p between the cells, amplitude 1, not truncated.

    Args:
      points: [B, K, 2] (x, y) or [B, K, 3] (x, y, z) of the image or volume; one with NaN gives a map of zeros.
      map_size: sides of the maps in their own order: (rows, columns) or (X, Y, Z).
      sigma: in cells.
      stride: pixels of the image in one cell.

    Returns:
      [B, y, x, K] or [B, X, Y, Z, K] float32.
    """
    points = to_cells(ops.cast(points, "float32"), stride)
    known = ops.cast(ops.all(ops.isfinite(points), axis=-1), "float32")
    points = _in_order(ops.where(ops.isfinite(points), points, 0.0))
    maps = known[(slice(None), *[None] * len(map_size))]
    for axis, side in enumerate(map_size):
        away = ops.arange(side, dtype="float32")[None, :, None] - points[:, None, :, axis]
        maps = maps * _along(ops.exp(-ops.square(away) / (2 * sigma * sigma)), axis, len(map_size))
    return maps


def argmax_points(maps, stride: float = 1.0):
    """The centre of the highest cell of each map, the first of equals: points [B, K, 2 or 3] float32."""
    return to_pixels(_in_order(ops.cast(_highest(maps), "float32")), stride)


def decoded(maps, decode: str, sigma, stride: float = 1.0):
    """The points [B, K, 2 or 3] of maps, by `argmax`, `centroid` or `wide_centroid`.

    Args:
      maps: [B, y, x, K] or [B, X, Y, Z, K].
      decode: `centroid` looks at two cells on each side of the highest, `wide_centroid` at 1.5 sigma of them.
      sigma: of the targets of training, in cells; a number or a scalar tensor.
      stride: pixels of the image in one cell.
    """
    if decode == "argmax":
        return argmax_points(maps, stride)
    return centroid_points(maps, stride, WINDOW if decode == "centroid" else ops.ceil(WIDE * sigma))


def centroid_points(maps, stride: float = 1.0, window=WINDOW):
    """The centroid of (H - 0.3 max)+ in the cells around the highest; that cell for a map without a peak.

    Args:
      maps: [B, y, x, K] or [B, X, Y, Z, K].
      stride: pixels of the image in one cell.
      window: cells on each side of the highest; a number or a scalar tensor.

    Returns:
      [B, K, 2 or 3] float32.
    """
    maps = ops.cast(maps, "float32")
    peaks, sides, axes = _highest(maps), *_sides_and_axes(maps)
    weights = ops.relu(maps - FLOOR * ops.max(maps, axis=axes, keepdims=True))
    for axis, side in enumerate(sides):
        away = ops.abs(ops.arange(side, dtype="int32")[None, :, None] - peaks[:, None, :, axis])
        weights = weights * _along(ops.cast(ops.cast(away, "float32") <= window, "float32"), axis, len(sides))
    total = ops.sum(weights, axis=axes)
    found = _mean_cell(weights, ops.maximum(total, 1e-12))
    plain = ops.cast(peaks, "float32")
    return to_pixels(_in_order(ops.where(total[..., None] > 1e-12, found, plain)), stride)


def second_peaks(maps, cell_mm, radius_mm):
    """The highest value of each volume's map farther than `radius_mm` from its highest voxel.

    Args:
      maps: [B, X, Y, Z, K].
      cell_mm: [3], the voxels' sides.
      radius_mm: a number or a scalar tensor.

    Returns:
      Its height [B, K], 0 where nothing above 0 is so far away, and its distance [B, K] in millimetres, then 0 too.
    """
    maps, cell_mm = ops.cast(maps, "float32"), ops.cast(cell_mm, "float32")
    peaks, sides, axes = _highest(maps), *_sides_and_axes(maps)
    apart = 0.0
    for axis, side in enumerate(sides):
        away = ops.arange(side, dtype="int32")[None, :, None] - peaks[:, None, :, axis]
        apart = apart + _along(ops.square(ops.cast(away, "float32") * cell_mm[axis]), axis, len(sides))
    outside = ops.where(apart > radius_mm * radius_mm, maps, 0.0)
    heights = ops.max(outside, axis=axes)
    between = ops.cast(_highest(outside) - peaks, "float32") * cell_mm
    return ops.relu(heights), ops.where(heights > 0, ops.sqrt(ops.sum(ops.square(between), axis=-1)), 0.0)


def soft_argmax_points(maps, beta: float, stride: float = 1.0, counted=None):
    """The mean cell by softmax(beta * map), which has a gradient; float32 whatever the precision.

    Too small a `beta` gives the middle of the map, as a map of amplitude 1 has many cells outside its peak: it must be
    at least the logarithm of their number plus 6.

    Args:
      maps: [B, y, x, K] or [B, X, Y, Z, K].
      beta: the inverse temperature.
      stride: pixels of the image in one cell.
      counted: true or 1 for the cells to use, of the maps' shape or with 1 for K; None uses all. A map without any
        gives the first cell, without a gradient.

    Returns:
      [B, K, 2 or 3] float32.
    """
    maps = ops.cast(maps, "float32")
    _, axes = _sides_and_axes(maps)
    if counted is not None:
        counted = ops.cast(counted, "bool")
        maps = ops.where(counted, maps, float("-inf"))
    highest = ops.stop_gradient(ops.max(maps, axis=axes, keepdims=True))  # cancels: its gradient would add up to 0
    highest = ops.where(ops.isfinite(highest), highest, 0.0)
    weights = ops.exp(beta * (maps - highest))
    total = ops.sum(weights, axis=axes)
    return to_pixels(_in_order(_mean_cell(weights, ops.where(total > 0, total, 1.0))), stride)


def _sides_and_axes(maps):
    """The sides of the maps, and their axes' numbers."""
    axes = tuple(range(1, len(maps.shape) - 1))
    shape = ops.shape(maps)
    return [shape[axis] for axis in axes], axes


def _in_order(points):
    """Points [..., 2 or 3] -> their indices in the maps' order, and back: reversed in 2D images only."""
    return ops.flip(points, axis=-1) if points.shape[-1] == 2 else points


def _along(values, axis: int, axes: int):
    """Values [B, side, K] of one of the maps' `axes` axes, with a side of 1 for each of the others."""
    return values[(slice(None), *[None] * axis, slice(None), *[None] * (axes - 1 - axis))]


def _highest(maps):
    """Indices [B, K, 2 or 3] of the highest cell of each map, in the maps' order."""
    sides, _ = _sides_and_axes(maps)
    place = ops.cast(ops.argmax(ops.reshape(maps, (ops.shape(maps)[0], -1, maps.shape[-1])), axis=1), "int32")
    indices = []
    for side in reversed(sides):
        indices.append(place % side)
        place = place // side
    return ops.stack(indices[::-1], axis=-1)


def _mean_cell(weights, total):
    """The mean index [B, K, 2 or 3] in the maps' order, by weights that add up to `total` [B, K] in each map."""
    sides, axes = _sides_and_axes(weights)
    means = []
    for axis, side in zip(axes, sides, strict=True):
        profile = ops.sum(weights, axis=tuple(other for other in axes if other != axis))
        means.append(ops.sum(profile * ops.arange(side, dtype="float32")[None, :, None], axis=1) / total)
    return ops.stack(means, axis=-1)
