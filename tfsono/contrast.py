"""From a grey image to the input of the 2D networks: contrast, letterbox, valid pixels; one graph for all uses.

Images are [Y, X], rows first, as in OpenCV and for the ImageNet weights. The order is fixed: CLAHE on the original
pixels, letterbox, and then `layers.standardise` over the valid pixels. The text also names denoising, which its source
switches off; there is none here. The letterbox's output is rounded to whole grey levels, because training keeps it as
bytes.
"""

from __future__ import annotations

import tensorflow as tf

LEVELS = 256


def clahe(image, clip_limit: float, tiles: int):
    """Contrast-limited adaptive histogram equalisation, equal to `cv2.createCLAHE(clip_limit, (tiles, tiles))`.

    The image is extended by reflection to a multiple of `tiles` at its high ends, each tile's histogram is clipped
    and the excess spread over all levels, and every pixel blends the curves of the four nearest tiles (Zuiderveld,
    Graphics Gems IV, 1994; the details are OpenCV's).

    Args:
      image: [Y, X] of any size, uint8, or float grey levels 0..255, which are rounded.
      clip_limit: highest count of a level, as a multiple of the mean count; above 0.
      tiles: tiles along each side.

    Returns:
      uint8 [Y, X].
    """
    if clip_limit <= 0 or tiles < 1:
        raise ValueError(f"clip_limit {clip_limit} must be above 0 and tiles {tiles} at least 1")
    levels = _levels(image)
    size = tf.shape(levels)
    tile = _tile_sides(size, tiles)
    curves = _tile_curves(_extended(levels, tile * tiles), tile, clip_limit, tiles)
    return _blended(levels, curves, tile, tiles)


def _levels(image):
    """int32 [Y, X] in 0..255."""
    image = tf.convert_to_tensor(image)
    if image.dtype.is_floating:
        image = tf.clip_by_value(tf.round(image), 0.0, LEVELS - 1.0)
    return tf.cast(image, tf.int32)


def _tile_sides(size, tiles: int):
    """[2] rows and columns of a tile. If one side is not a multiple, OpenCV extends both."""
    fits = tf.reduce_all(size % tiles == 0)
    return tf.where(fits, size // tiles, size // tiles + 1)


def _extended(levels, size):
    """`levels` up to `size`, mirrored about the last row and column without repeating them (BORDER_REFLECT_101)."""
    for axis in range(2):
        count = tf.shape(levels)[axis]
        period = tf.maximum(2 * (count - 1), 1)
        index = tf.range(size[axis]) % period
        levels = tf.gather(levels, tf.minimum(index, tf.maximum(period - index, 0)) % count, axis=axis)
    return levels


def _tile_curves(levels, tile, clip_limit: float, tiles: int):
    """float32 [tiles * tiles * 256]: each tile's new value of each grey level, whole numbers."""
    row, column = (tf.range(tile[axis] * tiles) // tile[axis] for axis in range(2))
    place = (row[:, None] * tiles + column[None, :]) * LEVELS + levels
    with tf.device("/CPU:0"):  # deterministic runs refuse the GPU's kernel
        counts = tf.math.bincount(tf.reshape(place, [-1]), minlength=tiles * tiles * LEVELS)
    area = tile[0] * tile[1]
    counts = _clipped(tf.reshape(counts, [tiles * tiles, LEVELS]), area, clip_limit)
    scale = tf.constant(LEVELS - 1, tf.float32) / tf.cast(area, tf.float32)
    curves = tf.round(tf.cast(tf.cumsum(counts, axis=1), tf.float32) * scale)  # half to even, as OpenCV
    return tf.reshape(tf.minimum(curves, LEVELS - 1.0), [-1])


def _clipped(counts, area, clip_limit: float):
    """The histograms [T, 256] cut at the limit; the excess is spread evenly, the remainder in even steps."""
    limit = tf.cast(tf.constant(clip_limit, tf.float64) * tf.cast(area, tf.float64) / LEVELS, tf.int32)
    limit = tf.maximum(limit, 1)
    excess = tf.reduce_sum(tf.maximum(counts - limit, 0), axis=1, keepdims=True)
    left = excess % LEVELS
    step = tf.maximum(LEVELS // tf.maximum(left, 1), 1)
    level = tf.range(LEVELS)[None, :]
    extra = (level % step == 0) & (level // step < left)
    return tf.minimum(counts, limit) + excess // LEVELS + tf.cast(extra, tf.int32)


def _blended(levels, curves, tile, tiles: int):
    """uint8 [Y, X]: each pixel by the curves of the four tiles whose middles surround it, bilinearly."""
    near, far, share = zip(*(_neighbours(tf.shape(levels)[axis], tile[axis], tiles) for axis in range(2)), strict=True)

    def through(row, column):
        return tf.gather(curves, (row[:, None] * tiles + column[None, :]) * LEVELS + levels)

    down, right = share[0][:, None], share[1][None, :]
    upper = through(near[0], near[1]) * (1.0 - right) + through(near[0], far[1]) * right
    lower = through(far[0], near[1]) * (1.0 - right) + through(far[0], far[1]) * right
    return tf.cast(tf.round(upper * (1.0 - down) + lower * down), tf.uint8)


def _neighbours(count, side, tiles: int):
    """For each pixel along an axis: the tile before, the tile after, and the share of the latter."""
    at = tf.cast(tf.range(count), tf.float32) * (1.0 / tf.cast(side, tf.float32)) - 0.5
    lower = tf.floor(at)
    index = tf.cast(lower, tf.int32)
    return tf.maximum(index, 0), tf.minimum(index + 1, tiles - 1), at - lower


def letterbox(image, target_yx: tuple[int, int]):
    """The whole image [Y, X] in a frame of `target_yx`, with its aspect ratio kept, the rest 0.

    Antialiased triangle filter as in `tf.image.resize(antialias=True)`, but with the same scale along both axes:
    rounding the image's size to whole rows would stretch it by up to half a row. `geometry.letterbox.Letterbox` has
    the same scale and offsets, and so maps points and masks exactly as this maps pixels.

    Returns:
      float32 [target_yx], whole grey levels 0..255; and valid [target_yx], True where the frame shows the image.
    """
    size, target = tf.shape(image), tf.constant(target_yx, tf.int32)
    scale = tf.reduce_min(tf.cast(target, tf.float64) / tf.cast(size, tf.float64))
    new = tf.cast(tf.floor(tf.cast(size, tf.float64) * scale + 0.5), tf.int32)
    new = tf.clip_by_value(new, 1, target)
    start = (target - new) // 2
    pixels = tf.raw_ops.ScaleAndTranslate(
        images=tf.cast(image, tf.float32)[None, :, :, None], size=target,
        scale=tf.repeat(tf.cast(scale, tf.float32), 2), translation=tf.cast(start, tf.float32),
        kernel_type="triangle", antialias=True)[0, :, :, 0]
    inside = [(tf.range(target[axis]) >= start[axis]) & (tf.range(target[axis]) < (start + new)[axis])
              for axis in range(2)]
    valid = inside[0][:, None] & inside[1][None, :]
    pixels = tf.where(valid, tf.round(tf.clip_by_value(pixels, 0.0, LEVELS - 1.0)), 0.0)
    return tf.ensure_shape(pixels, target_yx), tf.ensure_shape(valid, target_yx)


def network_image(image, target_yx: tuple[int, int], clahe_clip: float, clahe_tiles: int):
    """CLAHE (none with a clip of 0) and letterbox: stored by training and the first step of a SavedModel.

    Args:
      image: [Y, X] uint8, or float grey levels 0..255.
      target_yx: rows and columns of the network.
      clahe_clip: `clip_limit` of `clahe`; 0 keeps the contrast.
      clahe_tiles: tiles along each side.

    Returns:
      As `letterbox`.
    """
    if clahe_clip:
        image = clahe(image, clahe_clip, clahe_tiles)
    return letterbox(image, target_yx)
