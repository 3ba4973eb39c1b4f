"""Heatmaps in the plane: Gaussian targets, and points from maps. Arrays [B, y, x, K], points [B, K, 2] as (x, y).

A map may be coarser than its picture: cells of `stride` pixels, whose centres lie at `(i + 0.5) * stride - 0.5`.
Points are always pixel-centre indices of the picture; the first pixel's centre is 0.0.
"""

from __future__ import annotations

from keras import ops

WINDOW = 2  # cells on each side of the highest one that a centroid looks at
FLOOR = 0.3  # share of the maximum that a centroid takes away first, so that a plain background does not pull


def to_cells(points_px, stride: float):
    """Pixels of the picture -> cells of its map, both counted from the centre of the first one."""
    return (points_px + 0.5) / stride - 0.5


def to_pixels(points_cell, stride: float):
    """Cells of the map -> pixels of the picture; undoes `to_cells`."""
    return (points_cell + 0.5) * stride - 0.5


def gaussian_maps(points_px, map_size: tuple[int, int], sigma: float, stride: float):
    """exp(-|v - p|^2 / (2 sigma^2)) with p between the cells, amplitude 1, not cut off.

    Args:
      points_px: [B, K, 2] (x, y) pixels of the picture; a point with NaN gives a map of zeros.
      map_size: rows and columns of the maps.
      sigma: in cells.
      stride: pixels of the picture in one cell.

    Returns:
      [B, y, x, K] float32.
    """
    points = to_cells(ops.cast(points_px, "float32"), stride)
    known = ops.cast(ops.all(ops.isfinite(points), axis=-1), "float32")
    points = ops.where(ops.isfinite(points), points, 0.0)
    rows, columns = (ops.arange(n, dtype="float32") for n in map_size)
    along_x = ops.exp(-ops.square(columns[None, :, None] - points[:, None, :, 0]) / (2 * sigma * sigma))
    along_y = ops.exp(-ops.square(rows[None, :, None] - points[:, None, :, 1]) / (2 * sigma * sigma))
    return along_y[:, :, None] * along_x[:, None] * known[:, None, None]


def argmax_points(maps, stride: float):
    """The centre of the highest cell of each map: [B, y, x, K] -> [B, K, 2] (x, y) pixels of the picture."""
    columns, rows = _highest(maps)
    return to_pixels(ops.cast(ops.stack([columns, rows], axis=-1), "float32"), stride)


def _highest(maps):
    """Column and row [B, K] of the highest cell of each map."""
    shape = ops.shape(maps)
    flat = ops.reshape(maps, (-1, shape[1] * shape[2], shape[3]))
    highest = ops.cast(ops.argmax(flat, axis=1), "int32")
    return highest % shape[2], highest // shape[2]


def centroid_points(maps, stride: float):
    """The centroid of (H - 0.3 max)+ in the 5x5 cells around the highest one; a map without a peak gives that cell.

    Returns:
      [B, K, 2] (x, y) pixels of the picture.
    """
    maps = ops.cast(maps, "float32")
    shape = ops.shape(maps)
    peaks = _highest(maps)
    excess = ops.relu(maps - FLOOR * ops.max(maps, axis=(1, 2), keepdims=True))
    near = []
    for peak, size in zip(peaks, (shape[2], shape[1]), strict=True):
        cells = ops.arange(size, dtype="int32")
        near.append(ops.cast(ops.abs(cells[None, :, None] - peak[:, None]) <= WINDOW, "float32"))
    weights = excess * near[1][:, :, None] * near[0][:, None]
    total = ops.sum(weights, axis=(1, 2))
    found = _mean_cell(weights, ops.maximum(total, 1e-12))
    plain = ops.cast(ops.stack(peaks, axis=-1), "float32")
    return to_pixels(ops.where(total[..., None] > 1e-12, found, plain), stride)


def _mean_cell(weights, total):
    """The mean (x, y) of the cells [B, K, 2], by weights [B, y, x, K] that add up to `total` [B, K]."""
    shape = ops.shape(weights)
    x = ops.sum(ops.sum(weights, axis=1) * ops.arange(shape[2], dtype="float32")[None, :, None], axis=1) / total
    y = ops.sum(ops.sum(weights, axis=2) * ops.arange(shape[1], dtype="float32")[None, :, None], axis=1) / total
    return ops.stack([x, y], axis=-1)


def soft_argmax_points(maps, beta: float, stride: float):
    """The mean cell by softmax(beta * map), which has a gradient; float32 whatever the precision.

    Too small a `beta` gives the middle of the map, as a map of amplitude 1 has so many cells that are not the peak:
    it must be at least the logarithm of their number and 6 more.

    Returns:
      [B, K, 2] (x, y) pixels of the picture.
    """
    maps = ops.cast(maps, "float32")
    weights = ops.exp(beta * (maps - ops.max(maps, axis=(1, 2), keepdims=True)))
    return to_pixels(_mean_cell(weights, ops.sum(weights, axis=(1, 2))), stride)
