"""HDF5 cache -> regions of interest -> tf.data, one region a step, as a pure function of the seed and the step.

A region is the box of the reference (the mask, or without one the landmarks), enlarged, on the network's grid. Image,
mask and points move by one transform about the region's middle and are resampled once, from the native volume: the
corners of a rotated region hold the tissue that is there. Ignored voxels are marked in the targets:

    padding              mask -1, heatmaps NaN; the image is 0
    outside the volume   the same: a rotated region may reach beyond a face of its volume
    no mask              -1 everywhere (an empty mask is none)
    no landmark          NaN everywhere in its channel; so too where it is outside the region or the volume, as its
                         peak cannot be seen there

The box is that of the reference before the transform, so that the position of the bone in the region varies; a bone
of the paper's size stays inside at 20 degrees, by the paper's margin. A predicted box varies more: `jitter` moves and
scales the box. Flips exchange labels and landmarks that differ in left and right alone, such as those of two femurs;
proximal and distal stay. Source: femur, Sec. III-A; the 28 versions are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfsono.augment import affine_matrix
from tfsono.data.cache import Cache
from tfsono.data.resampled import (NO_AXIS, counted_maps, draw_resampled, drawn_version, exchanged_labels, known_points,
                                   order_in_mirror, position_stream, random_axis, resampled_parts, resampled_dataset,
                                   version_stream)
from tfsono.errors import UserError
from tfsono.geometry.regions import Box, box_of, enlarged, network_grid
from tfsono.layers.standardise import standardise

JITTER = 10  # what a random stream is for; part of its seed
FLIPS = ((False, False, False), (True, False, False), (False, True, False), (True, True, False))


@dataclass(frozen=True)
class RegionSampling:
    """How regions are cut and augmented.

    Attributes:
      margin: voxels around the reference's box, on each side.
      ratio: voxels of the network's grid per native voxel.
      stride: sides are padded to multiples of it.
      sigma: of the Gaussian heatmaps, in voxels of the network's grid.
      outputs: which targets: `mask`, `heatmaps` or both.
      augmentation: `versions`, `random` or `none`.
      rotation_degrees: of the versions, each of them either way; the largest is the limit of `random`.
      scales: of the versions; the smallest and the largest are the limits of `random`.
      seed: of everything.
      flips: whether x and y are mirrored.
      jitter: each side of the reference's box is scaled by up to this fraction, and the box moved by up to this
        fraction of it, anew in every step; 0 for the box itself.
      exchanged: pairs of landmarks, by their numbers, that are exchanged in a mirror image.
      exchanged_labels: the same of the mask's labels, by their values.
    """

    margin: int
    ratio: float
    stride: int
    sigma: float
    outputs: tuple[str, ...]
    augmentation: str
    rotation_degrees: tuple[float, ...]
    scales: tuple[float, ...]
    seed: int
    flips: bool = True
    jitter: float = 0.0
    exchanged: tuple[tuple[int, int], ...] = ()
    exchanged_labels: tuple[tuple[int, int], ...] = ()

    @property
    def rotations_and_scales(self) -> tuple[tuple[float, float], ...]:
        """(degrees, scale) of the versions without flips: the identity, the rotations, the scalings."""
        rotations = [(sign * degrees, 1.0) for degrees in self.rotation_degrees for sign in (1, -1)]
        return ((0.0, 1.0), *rotations, *((0.0, scale) for scale in self.scales))

    @property
    def versions(self) -> int:
        """How many versions each case has: 28 of (10, 20) degrees and (0.9, 1.1)."""
        return len(self.rotations_and_scales) * self.mirrored if self.augmentation == "versions" else 1

    @property
    def mirrored(self) -> int:
        """How many of `FLIPS` are used."""
        return len(FLIPS) if self.flips else 1


@dataclass(frozen=True)
class RegionSource:
    """A case before a region of it is read.

    Attributes:
      name: the case.
      shape: sides of its volume.
      spacing_mm: of its voxels.
      reference: the box of its reference.
      box: of its region: the reference's, enlarged.
      points_vox: float64 [K, 3], NaN where missing or outside the volume; K is 0 without landmarks.
      has_mask: whether it has a mask that is not empty.
    """

    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    reference: Box
    box: Box
    points_vox: np.ndarray
    has_mask: bool


def region_sources(cache: Cache, names: list[str], sampling: RegionSampling) -> tuple[list[RegionSource], list[str]]:
    """The sources of cases with something to train on, and the names of the others, which are excluded.

    Reads every case once, for an exact box.

    Raises:
      UserError: heatmaps from a cache without landmarks, or no case is left.
    """
    if "heatmaps" in sampling.outputs and not cache.landmarks:
        raise UserError(f"{cache.path}: heatmaps need a cache with landmarks; found none: "
                        "write it from a dataset with landmarks, or train a network for the mask alone")
    sources, excluded = [], []
    for name in names:
        source = _source_of(cache, name, sampling.margin)
        useful = source is not None and (
            "mask" in sampling.outputs and source.has_mask
            or "heatmaps" in sampling.outputs and np.isfinite(source.points_vox).all(axis=1).any())
        if useful:
            sources.append(source)
        else:
            excluded.append(name)
    if not sources:
        raise UserError(f"{cache.path}: a case with {' or '.join(sampling.outputs)} to learn from is needed; found "
                        f"none among {len(names)}; check the audit and the split")
    return sources, excluded


def _source_of(cache: Cache, name: str, margin: int) -> RegionSource | None:
    case = cache.read(name)
    shape = case.image.shape
    points = known_points(case.points_vox, shape)
    box = box_of(case.label, points)
    if box is None:
        return None
    has_mask = case.label is not None and bool(case.label.any())
    return RegionSource(name=name, shape=shape, spacing_mm=tuple(case.spacing_mm), reference=box,
                        box=enlarged(box, margin, shape), points_vox=points, has_mask=has_mask)


# ------------------------------------------------------------------------------------------------ drawing


def region_of(position: int, cases: int, sampling: RegionSampling) -> tuple[int, int]:
    """The case, and its version, at a position of the whole training.

    The versions of all cases are reshuffled in every epoch.
    """
    return drawn_version(position, cases, sampling.versions, sampling.seed)


def transform_of(position: int, case: int, version: int, spacing_mm, sampling: RegionSampling) -> np.ndarray:
    """The map [3, 3] from offsets in a rotated region to offsets in the volume, in native voxels from the middle.

    A version's axis belongs to the case and the version, so that every epoch shows the same 28.
    """
    if sampling.augmentation == "none":
        return np.eye(3)
    if sampling.augmentation == "versions":
        kind, flip = divmod(version, sampling.mirrored)
        degrees, scale = sampling.rotations_and_scales[kind]
        random, flips = version_stream(sampling.seed, case, version), FLIPS[flip]
        return affine_matrix(random_axis(random) if degrees else NO_AXIS, degrees, scale, flips, spacing_mm)
    random = position_stream(sampling.seed, position)
    most = max(sampling.rotation_degrees, default=0.0)
    axis, degrees = random_axis(random), random.uniform(-most, most)
    scale = random.uniform(min(sampling.scales, default=1.0), max(sampling.scales, default=1.0))
    flips = FLIPS[random.integers(sampling.mirrored)]
    return affine_matrix(axis, degrees, scale, flips, spacing_mm)


def box_at(position: int, source: RegionSource, sampling: RegionSampling) -> Box:
    """The box of the region at a position of the training: moved and scaled along each axis, then enlarged."""
    if not sampling.jitter:
        return source.box
    random = np.random.default_rng([sampling.seed, JITTER, position])
    moves, scales = random.uniform(-sampling.jitter, sampling.jitter, (2, 3)) * source.reference.sides
    low = np.rint(source.reference.low + moves - scales / 2).astype(int)
    high = np.rint(source.reference.high + moves + scales / 2).astype(int)
    return enlarged(Box(low, np.maximum(high, low + 1)), sampling.margin, source.shape)


def draw_region(cache: Cache, sources: list[RegionSource], position: int, sampling: RegionSampling) -> dict:
    """The result of `draw_resampled` for the region at a position of the training, and has_mask."""
    number, version = region_of(position, len(sources), sampling)
    source = sources[number]
    box = box_at(position, source, sampling)
    grid = network_grid(box, sampling.ratio, sampling.stride)
    transform = transform_of(position, number, version, source.spacing_mm, sampling)
    drawn = draw_resampled(cache, source.name, middle=box.middle, matrix=transform * grid.scale, size=grid.size,
                           padded=grid.padded, points_vox=source.points_vox)
    if np.linalg.det(transform) < 0:
        drawn["points"] = drawn["points"][order_in_mirror(len(source.points_vox), sampling.exchanged)]
        drawn["label"] = exchanged_labels(drawn["label"], sampling.exchanged_labels)
    return {**drawn, "has_mask": source.has_mask}


# ------------------------------------------------------------------------------------------------ the dataset


def region_dataset(path, system: str, sources: list[RegionSource], sampling: RegionSampling,
                   steps: range) -> tf.data.Dataset:
    """The regions of the given steps, one a step, each of its own size.

    Args:
      path: of the cache; system: that it was written for.
      sources: of `region_sources`.
      sampling: how to cut and augment.
      steps: the steps; step s gives the same region wherever the run began.

    Returns:
      image [1, X, Y, Z, 1] float32, standardised over its valid voxels, 0 elsewhere; and the requested targets:
      "mask" [1, X, Y, Z, 1] int8, "heatmaps" [1, X, Y, Z, K] float32.
    """
    dataset = resampled_dataset(
        lambda cache, step: draw_region(cache, sources, step, sampling), path, system=system, steps=steps,
        landmarks=len(sources[0].points_vox),
        besides={"label": tf.TensorSpec([None] * 3, tf.uint8), "has_mask": tf.TensorSpec([], tf.bool)})
    dataset = dataset.map(lambda drawn: _prepare(drawn, sampling), tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(2)  # regions are large


@tf.autograph.experimental.do_not_convert
def _prepare(drawn: dict, sampling: RegionSampling):
    """Resample, pad, standardise, and mark ignored voxels."""
    image, label, valid = resampled_parts(drawn)
    targets = {}
    if "mask" in sampling.outputs:
        targets["mask"] = tf.where(valid & drawn["has_mask"], tf.cast(label, tf.int8), tf.constant(-1, tf.int8))
    if "heatmaps" in sampling.outputs:
        targets["heatmaps"] = counted_maps(drawn, valid, sampling.sigma)
    return standardise(image, valid), targets
