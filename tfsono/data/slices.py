"""Slices along z of whole volumes for a 2D network, as a pure function of the seed and the step.

An epoch shows every slice with foreground once and as many empty ones, drawn anew, in a new order. Volumes are held in
memory with z first, as bytes or 16 bits where that is exact (30 of the paper's take 2.9 GB with their masks): in the
cache z runs fastest, so that to read one slice is to go through the whole volume.

A slice is standardised by its own pixels, as inference does, which sees a few slices at a time. Source: femur,
Sec. II-A; which slices, and how standardised, is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfsono.data.cache import Cache
from tfsono.errors import UserError
from tfsono.geometry.regions import padded_sides
from tfsono.layers.standardise import standardise

ORDER, EMPTY = 7, 8  # what a random stream is for; part of its seed
EXACT_TYPES = (np.uint8, np.int16)  # tried in this order before float32


@dataclass(frozen=True)
class SliceStacks:
    """Volumes of the cases that have a mask, in the order of `names`.

    Attributes:
      names: the cases.
      left_out: the cases without a mask.
      images: [Z, X, Y] of each case, in the file's own intensities.
      labels: uint8 [Z, X, Y] of each case.
      foreground: int [F, 2]: case and z of every slice with foreground.
      empty: int [E, 2]: case and z of every other slice.
    """

    names: tuple[str, ...]
    left_out: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    foreground: np.ndarray
    empty: np.ndarray

    @property
    def epoch(self) -> int:
        """Slices in an epoch: all with foreground, and as many without, or all of them if they are fewer."""
        return len(self.foreground) + min(len(self.foreground), len(self.empty))


def load_slices(cache: Cache, names: list[str]) -> SliceStacks:
    """Reads the volumes of the cases that have a mask.

    Raises:
      UserError: none of them has one.
    """
    kept, left_out, images, labels = [], [], [], []
    for name in names:
        case = cache.read(name)
        if case.label is None or not case.label.any():
            left_out.append(name)
            continue
        kept.append(name)
        images.append(_smaller_type(np.ascontiguousarray(np.moveaxis(case.image, 2, 0))))
        labels.append(np.ascontiguousarray(np.moveaxis(case.label, 2, 0)))
    if not kept:
        raise UserError(f"{cache.path}: slices need a case with a mask; found none among {len(names)}; "
                        "see the audit and the split")
    shown = [label.any(axis=(1, 2)) for label in labels]
    places = [np.stack([np.full(len(flags), case), np.arange(len(flags))], axis=1) for case, flags in enumerate(shown)]
    places, shown = np.concatenate(places), np.concatenate(shown)
    return SliceStacks(tuple(kept), tuple(left_out), tuple(images), tuple(labels), places[shown], places[~shown])


def _smaller_type(image: np.ndarray) -> np.ndarray:
    """The same values as bytes or 16 bits if that loses nothing, else as float32."""
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


def draw_slices(stacks: SliceStacks, step: int, batch: int, stride: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The batch of a step: raw image [B, X, Y, 1] float32 and mask [B, X, Y, 1] int8, 0 and -1 in the padding.

    Sides are the smallest multiples of `stride` that hold every slice of the batch: volumes of one size give batches of
    one size.
    """
    positions = range(step * batch, (step + 1) * batch)
    epochs = {position // stacks.epoch for position in positions}
    orders = {epoch: slices_of(stacks, epoch, seed) for epoch in epochs}
    drawn = [orders[position // stacks.epoch][position % stacks.epoch] for position in positions]
    sides = padded_sides(np.max([stacks.images[case].shape[1:] for case, _ in drawn], axis=0), stride)
    image, mask = np.zeros((batch, *sides, 1), np.float32), np.full((batch, *sides, 1), -1, np.int8)
    for row, (case, z) in enumerate(drawn):
        place = (row, *(slice(0, side) for side in stacks.images[case].shape[1:]), 0)
        image[place], mask[place] = stacks.images[case][z], stacks.labels[case][z]
    return image, mask


def slice_dataset(stacks: SliceStacks, batch: int, stride: int, seed: int, steps: range) -> tf.data.Dataset:
    """Batches of the steps asked for: image [B, X, Y, 1] float32 standardised, 0 in the padding; {"mask": ...} int8.

    Args:
      stacks: of `load_slices`.
      batch: slices in a step.
      stride: sides are padded to multiples of it.
      seed: of the order. Step s gives the same batch wherever the run began.
      steps: the steps wanted.
    """
    def drawn(step):
        image, mask = tf.numpy_function(lambda s: draw_slices(stacks, int(s), batch, stride, seed), [step],
                                        [tf.float32, tf.int8])
        shape = (batch, None, None, 1)
        image, mask = tf.ensure_shape(image, shape), tf.ensure_shape(mask, shape)
        return standardise(image, mask >= 0), {"mask": mask}

    dataset = tf.data.Dataset.range(steps.start, steps.stop)
    return dataset.map(drawn, tf.data.AUTOTUNE, deterministic=True).prefetch(4)
