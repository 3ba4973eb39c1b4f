"""A box of a volume on the network's grid, rotated, scaled or mirrored about its middle, and resampled once.

Shared by `regions` (boxes around the reference) and `landmark_volumes` (whole volumes): the case and version at a
position of the training, the native voxels that a rotated box needs, the resampling in the graph, and the heatmaps.
Every draw is a pure function of the seed and the position, so that a training resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from tfsono.augment import resample
from tfsono.data.cache import Cache
from tfsono.geometry.heatmaps import gaussian_maps

ORDER, VERSION, POSITION = 4, 5, 6  # what a random stream is for; part of its seed
NO_AXIS = (0.0, 0.0, 1.0)  # for a rotation by 0


# ------------------------------------------------------------------------------------------------ drawing


def drawn_version(position: int, cases: int, versions: int, seed: int) -> tuple[int, int]:
    """The case, and its version, at a position of the whole training.

    The versions of all cases are reshuffled in every epoch.
    """
    epoch, place = divmod(position, cases * versions)
    drawn = int(np.random.default_rng([seed, ORDER, epoch]).permutation(cases * versions)[place])
    return drawn % cases, drawn // cases


def version_stream(seed: int, case: int, version: int) -> np.random.Generator:
    """The random stream of a version of a case: the same in every epoch."""
    return np.random.default_rng([seed, VERSION, case, version])


def position_stream(seed: int, position: int) -> np.random.Generator:
    """The random stream of the sample at a position of the training: another one in every epoch."""
    return np.random.default_rng([seed, POSITION, position])


def random_axis(random: np.random.Generator) -> np.ndarray:
    """A direction, all equally likely, of any length: `affine_matrix` normalises it."""
    return random.normal(size=3)


def within(points, shape) -> np.ndarray:
    """[K]: which points [K, 3] are within the faces of a grid; NaN is not."""
    points = np.asarray(points)
    return ((points >= -0.5) & (points < np.array(shape) - 0.5)).all(axis=-1)


def known_points(points_vox: np.ndarray | None, shape) -> np.ndarray:
    """float64 [K, 3], NaN where missing or outside the volume of that shape; K is 0 for None."""
    points = np.zeros((0, 3)) if points_vox is None else np.array(points_vox, np.float64)
    points[~within(points, shape)] = np.nan
    return points


def order_in_mirror(count: int, exchanged) -> np.ndarray:
    """[count]: the landmark or label whose place each takes in the mirror image; `exchanged` are pairs of them."""
    order = np.arange(count)
    for one, other in exchanged:
        order[[one, other]] = other, one
    return order


def exchanged_labels(labels: np.ndarray, exchanged) -> np.ndarray:
    """A mask of a mirror image, in which pairs of labels are exchanged; of the mask's own type."""
    return order_in_mirror(256, exchanged).astype(labels.dtype)[labels] if exchanged else labels


def draw_resampled(cache: Cache, name: str, middle: np.ndarray, matrix: np.ndarray, size: tuple[int, ...],
                   padded: tuple[int, ...], points_vox: np.ndarray) -> dict:
    """The native voxels that a grid in the volume needs, and its place in them, as arrays.

    Args:
      cache: open; name: of the case.
      middle: [3], of the grid, in native voxels.
      matrix: [3, 3], offsets from the middle on the grid -> offsets in the volume, in native voxels.
      size: voxels of the grid; padded: the sides of the network's input.
      points_vox: [K, 3], NaN where missing.

    Returns:
      image float32 and label uint8 [X', Y', Z'], the part read (label 0 without one); middle [3], the grid's in it;
      matrix, size and padded as given; points [K, 3] on the grid, NaN where missing or outside it.
    """
    reach = np.abs(matrix) @ ((np.array(size) - 1) / 2)  # of voxel centres, from the middle
    low = np.floor(middle - reach).astype(int)
    high = np.ceil(middle + reach).astype(int) + 1
    low, high = np.clip(low - 1, 0, None), np.minimum(high + 1, cache.shape(name))  # one more, because of rounding
    pixels, labels, _ = cache.read_patch(name, low, high - low)
    return {
        "image": np.asarray(pixels, np.float32),
        "label": np.zeros(pixels.shape, np.uint8) if labels is None else labels,
        "middle": (middle - low).astype(np.float32),
        "matrix": matrix.astype(np.float32),
        "size": np.array(size, np.int32),
        "padded": np.array(padded, np.int32),
        "points": _points_on_grid(points_vox, middle, matrix, size),
    }


def _points_on_grid(points_vox: np.ndarray, middle: np.ndarray, matrix: np.ndarray, size) -> np.ndarray:
    """float32 [K, 3]: the landmarks on the grid, NaN outside it."""
    points = np.linalg.solve(matrix, (points_vox - middle).T).T + (np.array(size) - 1) / 2
    points[~within(points, size)] = np.nan
    return points.astype(np.float32)


# ------------------------------------------------------------------------------------------------ in the graph


def resampled_dataset(draw: Callable[[Cache, int], dict], path, system: str, steps: range, landmarks: int,
                   besides: dict[str, tf.TensorSpec]) -> tf.data.Dataset:
    """The results of `draw` for an open cache and each step, in order.

    Args:
      draw: (cache, step) -> a result of `draw_resampled`, without "label" where `besides` does not name it.
      path: of the cache; system: that it was written for.
      steps: the steps.
      landmarks: K.
      besides: further results.
    """

    def draws() -> Iterator[dict]:
        with Cache(path, system) as cache:
            for step in steps:
                yield draw(cache, step)

    three = [3]
    dataset = tf.data.Dataset.from_generator(draws, output_signature={
        "image": tf.TensorSpec([None] * 3, tf.float32), "middle": tf.TensorSpec(three, tf.float32),
        "matrix": tf.TensorSpec([3, 3], tf.float32), "size": tf.TensorSpec(three, tf.int32),
        "padded": tf.TensorSpec(three, tf.int32), "points": tf.TensorSpec([landmarks, 3], tf.float32), **besides})
    return dataset.apply(tf.data.experimental.assert_cardinality(len(steps)))


def resampled_parts(drawn: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Image, label and the voxels inside the volume, on the padded grid: [1, X, Y, Z, 1] each; 0 in the padding.

    Without a label the second is meaningless, and never computed, as the graph is pruned.
    """
    image = drawn["image"]
    whole = tf.concat([tf.zeros([3], tf.int32), tf.shape(image)], 0)
    parts = resample(image, drawn.get("label", image), box=whole, matrix=drawn["matrix"],
                     patch=tf.unstack(drawn["size"], num=3), middle=drawn["middle"])
    padding = tf.stack([tf.zeros([3], tf.int32), drawn["padded"] - drawn["size"]], axis=1)
    image, label, valid = (tf.pad(part, padding)[None, ..., None] for part in parts)
    return image, label, valid


def counted_maps(drawn: dict, valid: tf.Tensor, sigma) -> tf.Tensor:
    """Gaussian maps [1, X, Y, Z, K] of amplitude 1, NaN where a voxel or a landmark is ignored.

    Args:
      drawn: with "points" and "padded".
      valid: of `resampled_parts`.
      sigma: in voxels of the network's grid.
    """
    maps = gaussian_maps(drawn["points"][None], tuple(tf.unstack(drawn["padded"], num=3)), sigma)
    counted = valid & tf.reduce_all(tf.math.is_finite(drawn["points"]), axis=-1)
    return tf.where(counted, maps, float("nan"))
