"""Slices along z of whole volumes for a 2D network, as a pure function of the seed and the step.

An epoch has every slice with foreground once and as many empty ones, redrawn, in a new order. Volumes are held in
memory with z first, as bytes or 16 bits where that is exact (30 of the paper's take 2.9 GB with their masks): in the
cache z runs fastest, so that reading one slice reads through the whole volume.

A slice is rotated, scaled and flipped at random in its plane, and standardised by its own pixels, as at inference,
which sees a few slices at a time. Pixels from outside the volume are ignored. Source: femur, Sec. II-A; which slices,
how augmented and how standardised is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import tensorflow as tf

from tfsono.augment import affine_matrix
from tfsono.data.cache import Cache
from tfsono.data.resampled import exchanged_labels
from tfsono.errors import UserError
from tfsono.geometry.regions import padded_sides
from tfsono.layers.standardise import standardise

ORDER, EMPTY, TRANSFORM = 7, 8, 9  # what a random stream is for; part of its seed
EXACT_TYPES = (np.uint8, np.int16)  # tried in this order before float32


@dataclass(frozen=True)
class SliceSampling:
    """How slices are drawn and augmented.

    Attributes:
      batch: slices in a step.
      stride: sides are padded to multiples of it.
      seed: of the order and of the augmentation. Step s gives the same batch wherever the run began.
      varied: whether slices are rotated, scaled and flipped.
      rotation_degrees: the largest, either way.
      scales: the smallest and the largest.
      flips: whether x and y are mirrored, each in half of the slices.
      exchanged_labels: pairs of labels, by their values, that are exchanged in a mirror image.
      channels: the slice and its neighbours along z, an odd number; beyond the volume its last slice again.
    """

    batch: int
    stride: int
    seed: int
    varied: bool = False
    rotation_degrees: float = 20.0
    scales: tuple[float, float] = (0.9, 1.1)
    flips: bool = True
    exchanged_labels: tuple[tuple[int, int], ...] = ()
    channels: int = 1


@dataclass(frozen=True)
class SliceStacks:
    """Volumes of the cases that have a mask, in the order of `names`.

    Attributes:
      names: the cases.
      excluded: the cases without a mask.
      images: [Z, X, Y] of each case, in the file's own intensities.
      labels: uint8 [Z, X, Y] of each case.
      spacings_mm: of each case's voxels, (x, y, z).
      foreground: int [F, 2]: case and z of every slice with foreground.
      empty: int [E, 2]: case and z of every other slice.
    """

    names: tuple[str, ...]
    excluded: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    spacings_mm: tuple[tuple[float, float, float], ...]
    foreground: np.ndarray
    empty: np.ndarray

    @property
    def epoch(self) -> int:
        """Slices in an epoch: all with foreground, and as many without, or all of those if fewer."""
        return len(self.foreground) + min(len(self.foreground), len(self.empty))


def load_slices(cache: Cache, names: list[str]) -> SliceStacks:
    """Reads the volumes of the cases that have a mask.

    Raises:
      UserError: none of them has one.
    """
    kept, excluded, images, labels, spacings = [], [], [], [], []
    for name in names:
        case = cache.read(name)
        if case.label is None or not case.label.any():
            excluded.append(name)
            continue
        kept.append(name)
        images.append(_smaller_type(np.ascontiguousarray(np.moveaxis(case.image, 2, 0))))
        labels.append(np.ascontiguousarray(np.moveaxis(case.label, 2, 0)))
        spacings.append(tuple(case.spacing_mm))
    if not kept:
        raise UserError(f"{cache.path}: slices need a case with a mask; found none among {len(names)}; "
                        "check the audit and the split")
    shown = [label.any(axis=(1, 2)) for label in labels]
    places = [np.stack([np.full(len(flags), case), np.arange(len(flags))], axis=1) for case, flags in enumerate(shown)]
    places, shown = np.concatenate(places), np.concatenate(shown)
    return SliceStacks(names=tuple(kept), excluded=tuple(excluded), images=tuple(images), labels=tuple(labels),
                       spacings_mm=tuple(spacings), foreground=places[shown], empty=places[~shown])


def _smaller_type(image: np.ndarray) -> np.ndarray:
    """The same values as bytes or 16 bits where that is exact, else as float32."""
    for kind in EXACT_TYPES:
        limits = np.iinfo(kind)
        if limits.min <= image.min() and image.max() <= limits.max:
            smaller = image.astype(kind)
            if np.array_equal(smaller, image):
                return smaller
    return np.asarray(image, np.float32)


def slices_of(stacks: SliceStacks, epoch: int, seed: int) -> np.ndarray:
    """int [epoch's slices, 2]: case and z, in the order of one epoch."""
    count = stacks.epoch - len(stacks.foreground)
    chosen = np.random.default_rng([seed, EMPTY, epoch]).choice(len(stacks.empty), count, replace=False)
    slices = np.concatenate([stacks.foreground, stacks.empty[chosen]])
    return slices[np.random.default_rng([seed, ORDER, epoch]).permutation(len(slices))]


def draw_slices(stacks: SliceStacks, step: int, sampling: SliceSampling) -> tuple[np.ndarray, np.ndarray]:
    """The batch of a step: raw image [B, X, Y, channels] float32 and mask [B, X, Y, 1] int8, 0 and -1 where ignored.

    Sides are the smallest multiples of `stride` that hold every slice of the batch: volumes of one size give batches of
    one size.
    """
    batch, seed = sampling.batch, sampling.seed
    positions = range(step * batch, (step + 1) * batch)
    epochs = {position // stacks.epoch for position in positions}
    orders = {epoch: slices_of(stacks, epoch, seed) for epoch in epochs}
    drawn = [orders[position // stacks.epoch][position % stacks.epoch] for position in positions]
    sides = padded_sides(np.max([stacks.images[case].shape[1:] for case, _ in drawn], axis=0), sampling.stride)
    image = np.zeros((batch, *sides, sampling.channels), np.float32)
    mask = np.full((batch, *sides, 1), -1, np.int8)
    for row, (position, (case, z)) in enumerate(zip(positions, drawn, strict=True)):
        shown = (row, *(slice(0, side) for side in stacks.images[case].shape[1:]))
        place = (*shown, 0)
        near = np.clip(z + np.arange(sampling.channels) - sampling.channels // 2, 0, len(stacks.images[case]) - 1)
        image[shown], mask[place] = np.moveaxis(stacks.images[case][near], 0, 2), stacks.labels[case][z]
        if sampling.varied:
            matrix = transform_of(position, stacks.spacings_mm[case], sampling)
            if np.linalg.det(matrix) < 0:
                mask[place] = exchanged_labels(stacks.labels[case][z], sampling.exchanged_labels)
            image[shown], mask[place] = transformed(image[shown], mask[place], matrix)
    return image, mask


def transform_of(position: int, spacing_mm, sampling: SliceSampling) -> np.ndarray:
    """The map [2, 2] from offsets in the transformed slice to offsets in the slice, in pixels from the middle."""
    random = np.random.default_rng([sampling.seed, TRANSFORM, position])
    degrees = random.uniform(-sampling.rotation_degrees, sampling.rotation_degrees)
    scale = random.uniform(*sampling.scales)
    flips = tuple(bool(flip) for flip in random.integers(2, size=2)) if sampling.flips else (False, False)
    return affine_matrix((0.0, 0.0, 1.0), degrees, scale, (*flips, False), spacing_mm)[:2, :2]


def transformed(image: np.ndarray, mask: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A slice [X, Y, ...] and its mask [X, Y] under a map of `transform_of`; pixels from outside are 0, and -1 in the
    mask."""
    middle = (np.array(mask.shape) - 1) / 2
    inverse = np.concatenate([matrix, (middle - matrix @ middle)[:, None]], axis=1)
    inverse = inverse[::-1, [1, 0, 2]]  # OpenCV counts the columns, here y, first
    size, flags = mask.shape[::-1], cv2.WARP_INVERSE_MAP
    labels = cv2.warpAffine(mask.astype(np.int16), inverse, size, flags=flags | cv2.INTER_NEAREST,
                            borderMode=cv2.BORDER_CONSTANT, borderValue=-1)
    pixels = cv2.warpAffine(image, inverse, size, flags=flags | cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    pixels = pixels.reshape(image.shape)  # OpenCV drops a single channel
    pixels[labels < 0] = 0
    return pixels, labels.astype(np.int8)


def slice_dataset(stacks: SliceStacks, sampling: SliceSampling, steps: range) -> tf.data.Dataset:
    """Batches of the given steps: image [B, X, Y, channels] float32 standardised, 0 in the padding; and {"mask": ...}
    int8 [B, X, Y, 1]."""
    @tf.autograph.experimental.do_not_convert
    def drawn(step):
        image, mask = tf.numpy_function(lambda s: draw_slices(stacks, int(s), sampling), [step], [tf.float32, tf.int8])
        shape = (sampling.batch, None, None)
        image, mask = tf.ensure_shape(image, (*shape, sampling.channels)), tf.ensure_shape(mask, (*shape, 1))
        return standardise(image, tf.broadcast_to(mask >= 0, tf.shape(image))), {"mask": mask}

    dataset = tf.data.Dataset.range(steps.start, steps.stop)
    return dataset.map(drawn, tf.data.AUTOTUNE, deterministic=True).prefetch(4)
