"""HDF5 cache -> 2D images in memory -> random batches, as a pure function of the seed and the step.

Images are [Y, X], rows first; a cache holds them as volumes [X, Y, 1], which are transposed here. Each is prepared
once (CLAHE, letterbox) and kept as bytes at the network's size: 500 of 192x256 take 75 MB with their masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfsono.augment_2d import Augmentation2D, Sample, augmented
from tfsono.contrast import network_image
from tfsono.data.cache import Cache, CachedCase
from tfsono.errors import UserError
from tfsono.geometry.letterbox import Letterbox
from tfsono.layers.standardise import standardise
from tfsono.losses.masks import signed_distance

ORDER, IMAGE = 2, 3  # what a random stream is for; part of its seed
Targets = Callable[[tf.Tensor, tf.Tensor], dict]
"""mask [B, Y, X, 1] float32 0/1 and points_px [B, K, 2] float32 (NaN missing) -> the targets of the losses."""


@dataclass(frozen=True)
class Images2D:
    """Prepared images, in the order of `names`.

    Attributes:
      names: the cases.
      images: uint8 [N, Y, X], 0 in the padding.
      valid: boolean [N, Y, X], False in the padding.
      masks: uint8 [N, Y, X] 0/1; 0 where there is none.
      points_px: float32 [N, K, 2] in pixels of the frame, NaN where missing; K is 0 without landmarks.
      letterboxes: how the frame maps to the image's own pixels.
      pixel_sizes_mm: millimetres a pixel of the original image, None where unknown.
    """

    names: tuple[str, ...]
    images: np.ndarray
    valid: np.ndarray
    masks: np.ndarray
    points_px: np.ndarray
    letterboxes: tuple[Letterbox, ...]
    pixel_sizes_mm: tuple[float | None, ...]

    def sample(self, index: int) -> Sample:
        """One of them, for `augmented`."""
        return Sample(self.images[index], self.masks[index], self.points_px[index], self.valid[index])


def image_pixels(case: CachedCase) -> np.ndarray:
    """The grey levels of a cached 2D image, uint8 [Y, X].

    Raises:
      UserError: the case is a volume of several voxels along z.
    """
    if case.image.shape[2] != 1:
        raise UserError(f"{case.name}: must be a 2D image, one voxel thick; found {case.image.shape}; "
                        "give a cache of 2D images")
    return np.ascontiguousarray(np.clip(np.rint(case.image[:, :, 0].T), 0, 255).astype(np.uint8))


def load_images(cache: Cache, names: list[str], input_size: tuple[int, int], clahe_clip: float, clahe_tiles: int,
                  points_px: Mapping[str, np.ndarray] | None = None) -> Images2D:
    """Reads cases and brings them into the network's frame.

    Args:
      cache: of 2D images.
      names: the cases, in order.
      input_size: rows and columns of the frame.
      clahe_clip: limit of `contrast.clahe`; 0 keeps the contrast.
      clahe_tiles: its tiles along each side.
      points_px: case -> landmarks [K, 2] in its own pixels instead of the cache's (after a policy, say); a case that
        is absent has none.

    Raises:
      UserError: no cases, or a volume.
    """
    if not names:
        raise UserError(f"{cache.path}: at least one case is needed; found none; check the split")
    frame = tuple(input_size)
    prepare = tf.function(lambda image: network_image(image, frame, clahe_clip, clahe_tiles),
                          input_signature=[tf.TensorSpec([None, None], tf.uint8)])
    landmarks = len(cache.landmarks) if points_px is None else max((len(p) for p in points_px.values()), default=0)
    loaded = []
    for name in names:
        case = cache.read(name)
        loaded.append(_prepared(case, prepare, frame, _own_points(case, points_px, landmarks)))
    columns = [np.stack(column) for column in zip(*(entry[:4] for entry in loaded), strict=True)]
    return Images2D(tuple(names), *columns, tuple(entry[4] for entry in loaded), tuple(entry[5] for entry in loaded))


def _own_points(case: CachedCase, points_px: Mapping[str, np.ndarray] | None, landmarks: int) -> np.ndarray:
    """[K, 2] in the image's own pixels, NaN where missing."""
    found = case.points_vox if points_px is None else points_px.get(case.name)
    return np.full((landmarks, 2), np.nan) if found is None else np.asarray(found, np.float64)[:, :2]


def _prepared(case: CachedCase, prepare, frame: tuple[int, int], points: np.ndarray) -> tuple:
    """The fields of `Images2D` after the name, for one case."""
    pixels = image_pixels(case)
    box = Letterbox(pixels.shape, frame)
    image, valid = prepare(tf.constant(pixels))
    mask = np.zeros(frame, np.uint8)
    if case.label is not None:
        mask = np.asarray(box.apply_mask(np.ascontiguousarray(case.label[:, :, 0].T) > 0), np.uint8)
    points_px = box.points_to_target(points).astype(np.float32)
    return image.numpy().astype(np.uint8), valid.numpy(), mask, points_px, box, case.pixel_size_mm


def image_of(position: int, count: int, seed: int) -> int:
    """The image at a position of the whole training: all of them, reshuffled in every epoch."""
    epoch, place = divmod(position, count)
    return int(np.random.default_rng([seed, ORDER, epoch]).permutation(count)[place])


def image_dataset(images: Images2D, targets: Targets, augmentation: Augmentation2D,
                  order: Callable[[np.ndarray], np.ndarray], batch: int, seed: int, steps: range) -> tf.data.Dataset:
    """Batches of the given steps: image [B, Y, X, 1] float32 standardised, 0 in the padding; and the targets.

    Args:
      images: to draw from.
      targets: makes the targets of the losses, in the graph; `mask_target` and others, or the caller's own.
      augmentation: strengths; the default changes nothing.
      order: brings points [K, 2], of which some may be NaN, into their canonical order after a rotation or a flip.
      batch: images in a step.
      seed: of order and transforms. Step s gives the same batch wherever the run began.
      steps: the steps.
    """
    def draw(position):
        sample = images.sample(image_of(int(position), len(images.names), seed))
        random = np.random.default_rng([seed, IMAGE, int(position)])
        return _arrays(augmented(sample, augmentation, order, random))

    return _batches(range(steps.start * batch, steps.stop * batch), draw, images, targets, batch)


def ordered_dataset(images: Images2D, targets: Targets, batch: int) -> tf.data.Dataset:
    """Every image once, in the order of `names`, unchanged; the last batch may be smaller. For validation."""
    return _batches(range(len(images.names)), lambda index: _arrays(images.sample(int(index))), images, targets,
                    batch)


def _arrays(sample: Sample) -> tuple[np.ndarray, ...]:
    return sample.image.astype(np.float32), sample.valid, sample.mask, sample.points_px.astype(np.float32)


def _batches(positions: range, draw, images: Images2D, targets: Targets, batch: int) -> tf.data.Dataset:
    frame, points = images.images.shape[1:], images.points_px.shape[1:]
    shapes = (frame, frame, frame, points)

    @tf.autograph.experimental.do_not_convert
    def drawn(position):
        parts = tf.numpy_function(draw, [position], [tf.float32, tf.bool, tf.uint8, tf.float32])
        return tuple(tf.ensure_shape(part, shape) for part, shape in zip(parts, shapes, strict=True))

    @tf.autograph.experimental.do_not_convert
    def finished(image, valid, mask, points_px):
        image = standardise(image[..., None], valid[..., None])
        return image, targets(tf.cast(mask, tf.float32)[..., None], points_px)

    dataset = tf.data.Dataset.range(positions.start, positions.stop)
    dataset = dataset.map(drawn, tf.data.AUTOTUNE, deterministic=True).batch(batch)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(-(-len(positions) // batch)))
    return dataset.map(finished, tf.data.AUTOTUNE, deterministic=True).prefetch(4)


# ------------------------------------------------------------------------------------------------ targets


def mask_target(mask: tf.Tensor, points_px: tf.Tensor) -> dict:
    """{"mask": [B, Y, X, 1] float32 0/1}; the padding is background."""
    return {"mask": mask}


def mask_and_distance_target(mask: tf.Tensor, points_px: tf.Tensor) -> dict:
    """{"mask": [B, Y, X, 2] float32}: the mask, and `losses.masks.signed_distance` of it for the boundary loss."""
    def distances(masks):
        return np.stack([signed_distance(one) for one in masks[..., 0]])[..., None]

    distance = tf.ensure_shape(tf.numpy_function(distances, [mask], tf.float32), mask.shape)
    return {"mask": tf.concat([mask, distance], axis=-1)}


def points_target(output: str) -> Targets:
    """A maker of {output: [B, K, 2] float32}, (x, y) in pixels of the frame, NaN where missing.

    The losses of heatmaps take points too, and make their maps themselves.
    """
    def targets(mask, points_px):
        return {output: points_px}

    return targets
