"""Overlapping tiles over a volume of any size, and the weighted average of their probabilities.

All sizes are tensors, so that a SavedModel takes any volume.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf


MOST_TILES = 32  # of `fast` along an axis


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How a volume is cut into tiles.

    Attributes:
      patch: the sides of the training patches, in voxels.
      kind: `paper` (the co-author's rule, 432 patches for 300x200x100), `half` (patches overlap by half),
        `fast` (the tiles within `tile_voxels` that cost least), `whole` (one tile).
        A larger tile is normalised with the statistics of more anatomy than the training patches showed.
      weighting: `uniform` (the plain average) or `gaussian` (the centre of a tile counts most).
      batch: tiles in one pass of the network; `fast` takes one.
      multiple: of which the sides of a tile are multiples (the product of the network's poolings).
      tile_voxels: limit of a tile of `fast`, for its memory; the smallest tile is always allowed.
      margin: of `fast`, where what the network predicts for a voxel depends on no voxel farther away: the tiles overlap
        by twice the margin, and each gives the voxels that are no nearer to its faces, so that their size changes
        nothing. A multiple of `multiple`. None: they overlap by half, and are averaged.
    """

    patch: tuple[int, int, int]
    kind: str = "paper"
    weighting: str = "uniform"
    batch: int = 1
    multiple: int = 8
    tile_voxels: int = 2**23
    margin: int | None = None

    def __post_init__(self):
        if self.kind not in ("paper", "half", "fast", "whole"):
            raise ValueError(f"kind: expected paper, half, fast or whole, found {self.kind!r}")
        if self.weighting not in ("uniform", "gaussian"):
            raise ValueError(f"weighting: expected uniform or gaussian, found {self.weighting!r}")
        if len(self.patch) != 3 or any(side < 1 or side % self.multiple for side in self.patch):
            raise ValueError(f"patch: expected three multiples of {self.multiple}, found {self.patch}")
        if self.batch < 1:
            raise ValueError(f"batch: expected at least 1, found {self.batch}")
        if self.margin is not None and (self.kind != "fast" or self.margin < 0 or self.margin % self.multiple):
            raise ValueError(f"margin: only for fast, and a multiple of {self.multiple}; found {self.margin}")


def _paper_fold(size, patch, ita: int):
    """The rule's number of tiles and their step, in integers throughout by a factor of `patch`."""
    overlap = _ceil_divide(ita * patch * patch, size + (ita - 1) * patch)
    fold = _ceil_divide(size * patch + (size + (ita - 1) * patch) * overlap, patch * patch)
    return fold, patch - overlap


def paper_starts(size, patch, ita: int = 4) -> tf.Tensor:
    """First voxels of the tiles on one axis, by the co-author's rule (LIN-H of the specification, 0.1).

    fold = size / patch + ita tiles would overlap by ceil((fold patch - size) / (fold - 1)); as many tiles of
    that overlap as the size takes. 300, 200, 100 with 64 give 9, 8, 6 tiles at steps 30, 22, 7.

    Three bugs of that code are fixed: its 6 tiles at step 7 end at voxel 98 of 100, here the last one always ends at
    the edge; where that would leave a gap before the last one, there are more; between 65 and 68 its step is 0, here
    equal tiles are used once.

    Args:
      size: int32, a scalar tensor.
      patch: the tiles' side, an integer or a scalar tensor.

    Returns:
      [tiles] int32.
    """
    size = tf.maximum(size, patch)
    fold, step = _paper_fold(size, patch, ita)
    tiles = tf.maximum(fold, 2 + _ceil_divide(tf.maximum(size - 2 * patch, 0), tf.maximum(step, 1)))
    starts = tf.minimum(tf.range(tiles - 1) * step, size - patch)
    return tf.unique(tf.concat([starts, [size - patch]], 0))[0]


def strided_starts(size, patch, stride) -> tf.Tensor:
    """First voxels of tiles at a step of `stride`, the last one shifted back to end at the edge; [tiles] int32."""
    size = tf.maximum(size, patch)
    return tf.minimum(tf.range(_ceil_divide(size - patch, stride) + 1) * stride, size - patch)


def _ceil_divide(numerator, denominator):
    return -(-numerator // denominator)


def tile_and_starts(tiling: Tiling, size: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The sides of the tiles and their first voxels on each axis for a volume of `size`, [3] int32.

    With a margin, `size` is a `whole_tile`'s.
    """
    if tiling.kind == "fast":
        tile = fast_tile(tiling, size)
    elif tiling.kind == "whole":
        tile = whole_tile(tiling, size)
    else:
        tile = tf.constant(tiling.patch, tf.int32)
    if tiling.kind == "paper":
        return tile, [paper_starts(size[axis], tiling.patch[axis]) for axis in range(3)]
    stride = tf.maximum(_stride(tiling, tile), 1)
    return tile, [strided_starts(size[axis], tile[axis], stride[axis]) for axis in range(3)]


def whole_tile(tiling: Tiling, size: tf.Tensor) -> tf.Tensor:
    """The tile [3] int32 that holds the whole volume, at least a patch."""
    return tf.maximum(_round_up(size, tiling.multiple), tiling.patch)


def _stride(tiling: Tiling, tile: tf.Tensor) -> tf.Tensor:
    """The step of tiles of these sides; of those with a margin, under 1 where one tile must hold the axis."""
    return tile // 2 if tiling.margin is None else tile - 2 * tiling.margin


def fast_tile(tiling: Tiling, size: tf.Tensor) -> tf.Tensor:
    """The tile [3] int32 that covers the volume with the fewest voxels through the network.

    Candidates are, on each axis, the shortest sides that need 1, 2, ... `MOST_TILES` tiles, none under the patch.
    """
    whole = whole_tile(tiling, size)
    sides = []
    for axis in range(3):
        count = tf.range(1, MOST_TILES + 1)
        if tiling.margin is None:
            side = _ceil_divide(2 * size[axis], count + 1)
        else:
            side = _ceil_divide(tf.maximum(size[axis] - 2 * tiling.margin, 1), count) + 2 * tiling.margin
        sides.append(tf.clip_by_value(_round_up(side, tiling.multiple), tiling.patch[axis], whole[axis]))
    tiles = tf.reshape(tf.stack(tf.meshgrid(*sides, indexing="ij"), -1), [-1, 3])
    counts = _ceil_divide(tf.maximum(size - tiles, 0), tf.maximum(_stride(tiling, tiles), 1)) + 1
    voxels = tf.reduce_prod(tf.cast(tiles, tf.int64), -1)
    cost = tf.reduce_prod(tf.cast(counts, tf.int64), -1) * voxels
    fits = voxels <= tf.maximum(tf.cast(tiling.tile_voxels, tf.int64), tf.reduce_min(voxels))
    return tiles[tf.argmin(tf.where(fits, cost, tf.int64.max))]


def _round_up(size: tf.Tensor, multiple: int) -> tf.Tensor:
    return _ceil_divide(size, multiple) * multiple


def tile_weights(side, weighting: str) -> tf.Tensor:
    """The weights of a tile's voxels along one axis, [side] float32; a tile's weight is the product of three.

    `gaussian` has a deviation of an eighth of the side, as in nnU-Net and MONAI; it is never zero.
    """
    if weighting == "uniform":
        return tf.ones([side])
    length = tf.cast(side, tf.float32)
    distance = (tf.range(side, dtype=tf.float32) - (length - 1) / 2) / (length / 8)
    return tf.exp(-0.5 * distance**2)


def sliding_window(predict: Callable, volume: tf.Tensor, tile, starts: Sequence[tf.Tensor], classes: int,
                   weighting: str = "uniform", batch: int = 1, margin: int | None = None) -> tf.Tensor:
    """The weighted average of the tiles' probabilities. Runs inside a `tf.function` and a SavedModel.

    An axis shorter than the tile is padded at its high end, and the padding is cropped from the output. The tiles are
    added one after another, so two runs agree in every bit. Cost besides the network: 10 ms a 64^3 tile on one CPU
    core, two thirds of it moving memory.

    Args:
      predict: (tiles [B, X, Y, Z, 1], valid [B, X, Y, Z, 1], 1 in the volume and 0 in the padding) ->
        probabilities [B, X, Y, Z, classes] of any float type.
      volume: [X, Y, Z] float32.
      tile: three sides in voxels, a tensor or a tuple.
      starts: per axis the first voxels of the tiles, [tiles] int32; the tiles are the grid of the three.
      classes: number of classes.
      weighting: `uniform` or `gaussian`.
      batch: tiles in one pass of the network.
      margin: each voxel is taken from one tile, this far from its faces unless they are the volume's; None averages.

    Returns:
      [X, Y, Z, classes] float32.

    Example:
        >>> tiling = Tiling(patch=(16, 16, 16), kind="half")
        >>> tile, starts = tile_and_starts(tiling, tf.constant([40, 24, 20]))
        >>> [start.numpy().tolist() for start in starts]
        [[0, 8, 16, 24], [0, 8], [0, 4]]
        >>> volume = tf.random.stateless_normal((40, 24, 20), seed=(1, 2))
        >>> probabilities = sliding_window(lambda tiles, valid: tf.sigmoid(tiles), volume, tile, starts, classes=1)
        >>> probabilities.shape
        TensorShape([40, 24, 20, 1])
        >>> bool(tf.reduce_max(tf.abs(probabilities[..., 0] - tf.sigmoid(volume))) < 1e-6)
        True
    """
    tile = tf.convert_to_tensor(tile, tf.int32)
    starts = [tf.convert_to_tensor(start, tf.int32) for start in starts]
    size = tf.shape(volume)
    full = tf.maximum(size, tile)
    padded = tf.pad(volume, tf.stack([tf.zeros_like(size), full - size], -1))
    corners = tf.reshape(tf.stack(tf.meshgrid(*starts, indexing="ij"), -1), [-1, 3])
    weights = [tile_weights(tile[axis], weighting) for axis in range(3)]
    weight = _outer(weights)[..., None]

    def cut(corner):
        return tf.slice(padded, corner, tile)

    def predict_tiles(corners):
        # of one tile the shape says so, for the layers that need not tell samples apart
        tiles = cut(corners[0])[None] if batch == 1 else tf.map_fn(cut, corners, fn_output_signature=tf.float32)
        found = tf.cast(predict(tiles[..., None], _valid(corners, tile, size)), tf.float32)
        if margin is not None:
            return found * _core(corners, tile, starts, full, margin)
        return found if weighting == "uniform" else found * weight

    total = _sum_of_tiles(predict_tiles, corners, full, classes, batch)
    if margin is None:
        total /= _outer([_coverage(starts[axis], weights[axis], full[axis]) for axis in range(3)])[..., None]
    return total[: size[0], : size[1], : size[2]]


def _core(corners, tile, starts, full, margin: int) -> tf.Tensor:
    """[B, X, Y, Z, 1] float32: 1 in the voxels that a tile gives, up to the margin of the next one, and 0 in others."""
    inside = []
    for axis in range(3):
        ends = tf.concat([starts[axis][:-1] + tile[axis] - margin, full[axis:axis + 1]], 0)
        begins = tf.concat([[0], ends[:-1]], 0)
        number = tf.searchsorted(starts[axis], corners[:, axis])[:, None]
        place = corners[:, axis, None] + tf.range(tile[axis])
        inside.append((place >= tf.gather(begins, number)) & (place < tf.gather(ends, number)))
    return _boxes(inside)


def _valid(corners, tile, size) -> tf.Tensor:
    """[B, X, Y, Z, 1] float32: 1 where a tile lies in the volume, 0 in the padding."""
    return _boxes([corners[:, axis, None] + tf.range(tile[axis]) < size[axis] for axis in range(3)])


def _boxes(inside) -> tf.Tensor:
    """[B, X, Y, Z, 1] float32 from [B, side] bool of each axis."""
    x, y, z = (tf.cast(each, tf.float32) for each in inside)
    return (x[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :])[..., None]


def _sum_of_tiles(predict_tiles, corners, full, classes: int, batch: int) -> tf.Tensor:
    """The sum of all tiles' weighted probabilities, [X, Y, Z, classes], the padding included."""
    count = tf.shape(corners)[0]
    # A row holds a line of voxels along z, so that a tile touches few rows, each contiguous in memory.
    rows = tf.zeros([full[0] * full[1], full[2] * classes])

    def add_batch(first, rows):
        chosen = corners[first:tf.minimum(first + batch, count)]
        tiles = predict_tiles(chosen)
        if batch == 1:
            return first + 1, _add_tile(rows, tiles[0], chosen[0], full, classes)
        _, rows = tf.while_loop(
            lambda index, _: index < tf.shape(chosen)[0],
            lambda index, rows: (index + 1, _add_tile(rows, tiles[index], chosen[index], full, classes)),
            [0, rows], parallel_iterations=1)
        return first + batch, rows

    _, rows = tf.while_loop(lambda first, _: first < count, add_batch, [0, rows], parallel_iterations=1)
    return tf.reshape(rows, tf.concat([full, [classes]], 0))


def _add_tile(rows, probabilities, corner, full, classes: int) -> tf.Tensor:
    """Adds a tile [x, y, z, classes] at its corner to the rows [X Y, Z classes]; in a loop, in place."""
    tile = tf.shape(probabilities)
    lines = (corner[0] + tf.range(tile[0]))[:, None] * full[1] + corner[1] + tf.range(tile[1])
    update = tf.reshape(probabilities, [tile[0] * tile[1], tile[2] * classes])
    update = tf.pad(update, [[0, 0], [corner[2] * classes, (full[2] - corner[2] - tile[2]) * classes]])
    return tf.tensor_scatter_nd_add(rows, tf.reshape(lines, [-1, 1]), update)


def _coverage(starts, weight, size) -> tf.Tensor:
    """The sum of the weights along one axis, [size]; as the tiles are a grid, the sum of the volume is a product."""
    position = tf.range(size) - starts[:, None]
    last = tf.shape(weight)[0] - 1
    inside = (position >= 0) & (position <= last)
    return tf.reduce_sum(tf.where(inside, tf.gather(weight, tf.clip_by_value(position, 0, last)), 0.0), 0)


def _outer(vectors) -> tf.Tensor:
    x, y, z = vectors
    return x[:, None, None] * y[:, None] * z
