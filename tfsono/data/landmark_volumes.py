"""HDF5 cache -> whole volumes with their landmarks -> tf.data, as a pure function of the seed and the step.

Image and points move by one transform about the volume's middle, on the volume's own grid rescaled, and are resampled
once. Ignored voxels are NaN in the heatmaps, and 0 in the image:

    padding              at the high end, to a multiple of the stride, and to the largest volume of the batch
    outside the volume   the corners of a rotated volume
    no landmark          all of its channel; so too where it is outside the volume, or leaves it in a rotation

In a body's frame (`WholeSampling.frame`) the volume is moved by the midline instead, and the grid is the frame's box.

A mirror image of a body has its left on the right. So wherever an odd number of axes is mirrored the landmarks of a
pair are exchanged (`exchanged`); an even number is a rotation, and exchanges nothing. Source: pose, Sec. 3 (flipping
and rotation, 8 versions of each volume); which 8, and the exchange, which the paper does not mention, are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfsono.augment import affine_matrix
from tfsono.data.cache import Cache
from tfsono.data.resampled import (NO_AXIS, counted_maps, draw_resampled, drawn_version, known_points, order_in_mirror,
                                   position_stream, random_axis, resampled_parts, resampled_dataset, version_stream)
from tfsono.errors import UserError
from tfsono.geometry.body_frame import BodyFrame
from tfsono.geometry.regions import Box, network_grid
from tfsono.layers.standardise import standardise
from tfsono.sides import one_sided, side_pairs

PADDING = (0.0, {"heatmaps": np.nan})  # of the smaller volumes of a batch
FEWEST = 3  # landmarks that determine a rotation
FLIPS = ((False, False, False), (True, False, False), (False, True, False), (False, False, True))


@dataclass(frozen=True)
class WholeSampling:
    """How whole volumes are rescaled and augmented.

    Attributes:
      ratio: voxels of the network's grid per native voxel.
      stride: sides are padded to multiples of it.
      sigma_mm: of the Gaussian heatmaps.
      augmentation: `versions` (each case plain and in a rotation of its own, each of them plain and mirrored along one
        axis: 8), `random` (any rotation, any axes mirrored), or `none`.
      rotation_degrees: the largest, either way, about any axis; 0 for no rotation.
      seed: of everything.
      flips: whether axes are mirrored.
      exchanged: pairs of landmarks, by their numbers, that are exchanged in a mirror image.
      frame: that bodies are moved into, by their midline; None leaves them as they lie.
      midline_noise_mm: added to the midline, the deviation along each axis.
      batch: volumes in a step.
    """

    ratio: float
    stride: int
    sigma_mm: float
    augmentation: str
    rotation_degrees: float
    seed: int
    flips: bool = True
    exchanged: tuple[tuple[int, int], ...] = ()
    frame: BodyFrame | None = None
    midline_noise_mm: float = 0.0
    batch: int = 1

    def __post_init__(self):
        numbers = [number for pair in self.exchanged for number in pair]
        if len(set(numbers)) < 2 * len(self.exchanged) or any(len(pair) != 2 for pair in self.exchanged):
            raise ValueError(f"exchanged must be pairs of different landmarks, each in one; found {self.exchanged}")

    @property
    def mirrored(self) -> int:
        """How many of `FLIPS` are used."""
        return len(FLIPS) if self.flips else 1

    @property
    def versions(self) -> int:
        """How many versions each case has: 8 with flips and rotation."""
        rotations = 2 if self.rotation_degrees else 1
        return rotations * self.mirrored if self.augmentation == "versions" else 1


@dataclass(frozen=True)
class WholeSource:
    """A case before its voxels are read.

    Attributes:
      name: the case.
      shape: sides of its volume.
      spacing_mm: of its voxels.
      points_vox: float64 [K, 3], NaN where missing or outside the volume.
    """

    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    points_vox: np.ndarray

    @property
    def box(self) -> Box:
        """All of its voxels."""
        return Box((0, 0, 0), self.shape)


def sigma_voxels(sigma_mm: float, spacing_mm, ratio: float) -> float:
    """A Gaussian's width in voxels of the network's grid, whose voxels are `spacing_mm` / `ratio`.

    Of an anisotropic spacing the mean is taken: the Gaussian is round in voxels, not in millimetres.
    """
    return float(sigma_mm * ratio / np.mean(spacing_mm))


def exchanged_pairs(names: tuple[str, ...], pairs) -> tuple[tuple[int, int], ...]:
    """The numbers of landmarks that are exchanged in a mirror image: `WholeSampling.exchanged`.

    Args:
      names: of the landmarks, in the order of the heatmaps.
      pairs: of names, besides those that differ in left and right alone. An absent pair is ignored; a landmark in no
        pair stays as it is.

    Raises:
      UserError: one landmark of a pair is there and the other is not, or one says left or right and no other is its
        mirror image.
    """
    found, alone = [], one_sided(names)
    for pair in pairs:
        there = [name for name in pair if name in names]
        if len(there) == 1:
            other, = set(pair) - set(there)
            raise UserError(f"landmarks: {there[0]} needs its mirror image {other} where volumes are mirrored; found "
                            f"only {there[0]}: add {other} to the dataset's landmarks, or train with --flips False")
        if there:
            found.append((names.index(pair[0]), names.index(pair[1])))
    if alone:
        raise UserError(f"landmarks: {alone[0]} needs its mirror image where volumes are mirrored; found no landmark "
                        "of that name for the other side: add it to the dataset's landmarks, or train with --flips "
                        "False")
    known = {frozenset(pair) for pair in found}
    return (*found, *(pair for pair in side_pairs(names) if frozenset(pair) not in known))


def whole_sources(cache: Cache, names: list[str], sampling: WholeSampling) -> tuple[list[WholeSource], list[str]]:
    """The sources of the cases with a landmark in their volume, and the names of the others, which are excluded.

    In a frame three of the midline are needed.

    Raises:
      UserError: a cache without landmarks, or no case is left.
      ValueError: `exchanged` names a landmark that the cache does not have.
    """
    if not cache.landmarks:
        raise UserError(f"{cache.path}: heatmaps need a cache with landmarks; found none: write it from a dataset with "
                        "landmarks")
    if any(not 0 <= number < len(cache.landmarks) for pair in sampling.exchanged for number in pair):
        raise ValueError(f"exchanged must number the {len(cache.landmarks)} landmarks; found {sampling.exchanged}")
    sources, excluded = [], []
    for name in names:
        shape = cache.shape(name)
        points = known_points(cache.points_vox(name), shape)
        known = np.isfinite(points).all(axis=1)
        if known[list(sampling.frame.midline)].sum() >= FEWEST if sampling.frame else known.any():
            sources.append(WholeSource(name, shape, cache.spacing_mm(name), points))
        else:
            excluded.append(name)
    if not sources:
        raise UserError(f"{cache.path}: a case with landmarks to learn from is needed; found none among {len(names)}; "
                        "check the audit and the split")
    return sources, excluded


# ------------------------------------------------------------------------------------------------ drawing


def drawn_motion(position: int, case: int, version: int, sampling: WholeSampling) -> tuple:
    """The axis and the degrees of the rotation, which axes are mirrored, and the stream that they are drawn from.

    A version's rotation belongs to the case and the version, so that every epoch shows the same 8.
    """
    if sampling.augmentation == "versions":
        rotated, flip = divmod(version, sampling.mirrored)
        random, flips = version_stream(sampling.seed, case, version), FLIPS[flip]
    else:
        rotated, random = sampling.augmentation == "random", position_stream(sampling.seed, position)
        flips = random.random(3) < (0.5 if rotated and sampling.flips else 0.0)
    axis, degrees = NO_AXIS, 0.0
    if rotated:
        axis = random_axis(random)
        degrees = random.uniform(-sampling.rotation_degrees, sampling.rotation_degrees)
    return axis, degrees, flips, random


def transform_of(position: int, case: int, version: int, spacing_mm, sampling: WholeSampling) -> np.ndarray:
    """The map [3, 3] from offsets in a rotated volume to offsets in the volume, in native voxels from the middle."""
    axis, degrees, flips, _ = drawn_motion(position, case, version, sampling)
    return affine_matrix(axis, degrees, 1.0, flips, spacing_mm)


def draw_whole(cache: Cache, sources: list[WholeSource], position: int, sampling: WholeSampling) -> dict:
    """The result of `draw_resampled` for the volume at a position of the training, without label, and sigma."""
    number, version = drawn_version(position, len(sources), sampling.versions, sampling.seed)
    source = sources[number]
    if sampling.frame:
        matrix, place = framed(position, number, version, source, sampling)
    else:
        grid = network_grid(source.box, sampling.ratio, sampling.stride)
        matrix = transform_of(position, number, version, source.spacing_mm, sampling) * grid.scale
        place = {"middle": source.box.middle, "size": grid.size, "padded": grid.padded}
    drawn = draw_resampled(cache, source.name, matrix=matrix, points_vox=source.points_vox, **place)
    del drawn["label"]
    if np.linalg.det(matrix) < 0:
        drawn["points"] = drawn["points"][order_in_mirror(len(source.points_vox), sampling.exchanged)]
    return {**drawn, "sigma": np.float32(sigma_voxels(sampling.sigma_mm, source.spacing_mm, sampling.ratio))}


def framed(position: int, case: int, version: int, source: WholeSource, sampling: WholeSampling
           ) -> tuple[np.ndarray, dict]:
    """The matrix of `draw_resampled` for a body in its frame, and its other arguments of the grid.

    The body is mirrored or not, fitted to the frame by its midline with noise, and rotated about the frame's middle. A
    mirrored body fits as well: left and right are exchanged by name, and so on their sides again.
    """
    axis, degrees, flips, random = drawn_motion(position, case, version, sampling)
    mirror = np.diag([-1.0 if np.prod(np.where(flips, -1, 1)) < 0 else 1.0, 1.0, 1.0])
    spacing = np.array(source.spacing_mm)
    points = source.points_vox * spacing @ mirror
    rotation, shift = sampling.frame.fit(points + random.normal(0, sampling.midline_noise_mm, points.shape))
    voxel_mm = float(spacing.mean() / sampling.ratio)
    size, padded = sampling.frame.size(voxel_mm, sampling.stride)
    back = (mirror @ rotation.T) / spacing[:, None]  # millimetres in the frame -> native voxels
    matrix = back @ affine_matrix(axis, degrees, 1.0, (False,) * 3, (1.0,) * 3) * voxel_mm
    return matrix, {"middle": back @ -shift, "size": size, "padded": padded}


# ------------------------------------------------------------------------------------------------ the dataset


def whole_dataset(path, system: str, sources: list[WholeSource], sampling: WholeSampling,
                  steps: range) -> tf.data.Dataset:
    """The volumes of the given steps, each of its own size, but for those of one batch.

    Args:
      path: of the cache; system: that it was written for.
      sources: of `whole_sources`.
      sampling: how to rescale and augment.
      steps: the steps; step s gives the same volumes wherever the run began.

    Returns:
      image [B, X, Y, Z, 1] float32, standardised over its valid voxels, 0 elsewhere; and
      {"heatmaps": [B, X, Y, Z, K] float32}.
    """
    positions = range(steps.start * sampling.batch, steps.stop * sampling.batch)
    dataset = resampled_dataset(lambda cache, position: draw_whole(cache, sources, position, sampling), path,
                                system=system, steps=positions, landmarks=len(sources[0].points_vox),
                                besides={"sigma": tf.TensorSpec([], tf.float32)})
    dataset = dataset.map(_prepare, tf.data.AUTOTUNE, deterministic=True)
    if sampling.batch > 1:
        dataset = dataset.unbatch().padded_batch(sampling.batch, padding_values=PADDING, drop_remainder=True)
    return dataset.prefetch(2)  # volumes are large


@tf.autograph.experimental.do_not_convert
def _prepare(drawn: dict):
    """Resample, pad, standardise, and mark ignored voxels."""
    image, _, valid = resampled_parts(drawn)
    return standardise(image, valid), {"heatmaps": counted_maps(drawn, valid, drawn["sigma"])}
