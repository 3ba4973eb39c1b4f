"""HDF5 cache -> random patches -> tf.data, as a pure function of the seed and the step.

Step s gives the same batch whether the run began at 0 or resumes at s; two epochs differ, two runs do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfsono.augment import Augmentation, random_intensity, random_matrix, resample
from tfsono.data.cache import Cache
from tfsono.data.resampled import exchanged_labels, order_in_mirror
from tfsono.layers.standardise import standardise

RIGHT_ANGLES = 8  # 0, 90, 180, 270 degrees about z, times a flip of y (hip, Sec. 3.1)
ORDER, PATCH = 0, 1  # what a random stream is for; part of its seed


@dataclass(frozen=True)
class Sampling:
    """How patches are drawn.

    Attributes:
      patch: sides in voxels.
      batch: patches per step.
      patches_in_a_row: patches from one version of an image before the next (hip, Sec. 3.2: n = 5 batches of 2).
      foreground_share: share of the patches that are sure to hold a foreground voxel, its label drawn evenly.
      right_angles: every image is used in its 8 versions.
      seed: of everything.
      exchanged_labels: pairs of labels, by their values, that are exchanged in a mirror image.
    """

    patch: tuple[int, int, int]
    batch: int
    patches_in_a_row: int
    foreground_share: float
    right_angles: bool
    seed: int
    exchanged_labels: tuple[tuple[int, int], ...] = ()


def image_of(position: int, images: int, sampling: Sampling) -> tuple[int, int]:
    """The image, and its version, of the patch at a position of the whole training.

    The versions of all images are reshuffled in every epoch.
    """
    versions = images * (RIGHT_ANGLES if sampling.right_angles else 1)
    epoch, place = divmod(position // sampling.patches_in_a_row, versions)
    version = int(np.random.default_rng([sampling.seed, ORDER, epoch]).permutation(versions)[place])
    return version % images, version // images


def rotated(array: np.ndarray, version: int) -> np.ndarray:
    """One of the 8 versions of an array [X, Y, Z]: `version % 4` right angles about z, and for 4 to 7 a flip of y."""
    array = np.rot90(array, version % 4, axes=(0, 1))
    return array[:, ::-1] if version >= 4 else array


def draw_start(shape, patch, foreground: dict, share: float, random: np.random.Generator) -> np.ndarray:
    """A random start [3] of a patch in a volume; a volume smaller than the patch is anywhere within it."""
    spare = np.asarray(shape) - patch
    low, high = np.minimum(spare, 0), np.maximum(spare, 0)
    if foreground and random.random() < share:
        voxels = foreground[sorted(foreground)[random.integers(len(foreground))]]
        voxel = voxels[random.integers(len(voxels))]
        return np.clip(voxel - random.integers(0, patch), low, high)
    return random.integers(low, high + 1)


@dataclass(frozen=True)
class Source:
    """A case before its voxels are read; `foreground` has voxels [n, 3] of each label present."""

    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    foreground: dict[int, np.ndarray]


def read_sources(cache: Cache, names: list[str]) -> list[Source]:
    """The sources of some cases, read once, as every patch needs one."""
    sources = []
    for name in names:
        foreground = {label: voxels for label, voxels in cache.foreground(name).items() if len(voxels)}
        sources.append(Source(name, cache.shape(name), cache.spacing_mm(name), foreground))
    return sources


def draw_patch(cache: Cache, sources: list[Source], position: int, sampling: Sampling, augmentation: Augmentation
               ) -> dict:
    """The window around the patch at a position of the training, as arrays; `box` is its part inside the volume."""
    image, version = image_of(position, len(sources), sampling)
    source = sources[image]
    random = np.random.default_rng([sampling.seed, PATCH, position])
    order = [1, 0, 2] if version % 2 else [0, 1, 2]  # 90 degrees exchange the sides that are read, and the spacing
    spacing = np.asarray(source.spacing_mm, np.float32)[order]
    window = augmentation.window(sampling.patch, spacing)
    patch, sides = np.asarray(sampling.patch)[order], np.asarray(window)[order]
    start = draw_start(source.shape, patch, source.foreground, sampling.foreground_share, random)
    pixels, labels, offset = cache.read_patch(source.name, start - (sides - patch) // 2, sides)
    place = tuple(slice(o, o + n) for o, n in zip(offset, pixels.shape, strict=True))
    held = {key: np.zeros(sides, kind) for key, kind in (("image", np.float32), ("label", np.uint8), ("inside", bool))}
    held["image"][place], held["label"][place], held["inside"][place] = pixels, labels, True
    if version >= 4:  # a mirror image
        held["label"] = exchanged_labels(held["label"], sampling.exchanged_labels)
    held = {key: np.ascontiguousarray(rotated(array, version)) for key, array in held.items()}
    inside = held.pop("inside")
    ends = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return {**held, "box": np.array([e[0] for e in ends] + [e[-1] + 1 for e in ends], np.int32),
            "spacing_mm": spacing,
            "seed": np.array([sampling.seed, position], np.int64)}


def patch_dataset(path, system: str, names: list[str], sampling: Sampling, augmentation: Augmentation,
                  steps: range) -> tf.data.Dataset:
    """Batches of the given steps: image [B, X, Y, Z, 1] float32 standardised, label [B, X, Y, Z, 1] int8.

    A label of -1 marks padding, where the patch reaches beyond its volume; the image is 0 there.
    """
    def draws() -> Iterator[dict]:
        with Cache(path, system) as cache:
            sources = read_sources(cache, names)
            for position in range(steps.start * sampling.batch, steps.stop * sampling.batch):
                yield draw_patch(cache, sources, position, sampling, augmentation)

    dataset = tf.data.Dataset.from_generator(draws, output_signature={
        "image": tf.TensorSpec([None] * 3, tf.float32), "label": tf.TensorSpec([None] * 3, tf.uint8),
        "box": tf.TensorSpec([6], tf.int32), "spacing_mm": tf.TensorSpec([3], tf.float32),
        "seed": tf.TensorSpec([2], tf.int64)})
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(steps) * sampling.batch))
    dataset = dataset.map(lambda drawn: _prepare(drawn, sampling, augmentation), tf.data.AUTOTUNE,
                          deterministic=True)
    return dataset.batch(sampling.batch, drop_remainder=True).prefetch(4)


@tf.autograph.experimental.do_not_convert
def _prepare(drawn: dict, sampling: Sampling, augmentation: Augmentation):
    """Transform, standardise, mark the padding."""
    seeds, patch = tf.unstack(tf.random.split(drawn["seed"], 2), num=2), sampling.patch
    image, label = drawn["image"], drawn["label"]
    if augmentation.geometric:
        matrix = random_matrix(seeds[0], augmentation, drawn["spacing_mm"])
        image, label, valid = resample(image, label, drawn["box"], matrix, patch)
        if sampling.exchanged_labels:
            order = tf.constant(order_in_mirror(256, sampling.exchanged_labels), tf.uint8)
            label = tf.where(tf.linalg.det(matrix) < 0, tf.gather(order, tf.cast(label, tf.int32)), label)
    else:
        image, label = (tf.ensure_shape(part, patch) for part in (image, label))
        valid = _inside(drawn["box"], patch)
    if augmentation.intensity:
        image = random_intensity(image, valid, seeds[1], augmentation.intensity)
    image = standardise(image[None, ..., None], valid[None, ..., None])[0]
    label = tf.where(valid, tf.cast(label, tf.int8), tf.constant(-1, tf.int8))
    return image, label[..., None]


def _inside(box, patch: tuple[int, ...]):
    """Which voxels of a window are inside its volume: [X, Y, Z] boolean."""
    sides = [(tf.range(n) >= box[axis]) & (tf.range(n) < box[axis + 3]) for axis, n in enumerate(patch)]
    return sides[0][:, None, None] & sides[1][None, :, None] & sides[2][None, None, :]
