"""One case as training reads it: in the cache's orientation and spacing, its labels numbered 1..n.

Volumes and 2D images are both read here: a 2D image is a volume one voxel thick, [X, Y, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tfsono.data.layout import Case, Dataset, case_landmarks
from tfsono.geometry.resampling import (
    resample_volume,
    resampled_points,
    resampled_size,
    resampled_spacing,
)
from tfsono.volumes.image import Volume, read_mask, read_volume, reorient
from tfsono.volumes.landmarks import points_to_vox
from tfsono.volumes.image_2d import volume_of_image, read_image_2d, read_mask_2d

NEEDLESS_CHANGE = 1e-3
"""A spacing within 0.1 % of the requested one is kept: headers keep few digits."""


@dataclass(frozen=True)
class CacheSettings:
    """What the arrays depend on besides the files. `spacing_mm` () keeps each volume's own spacing."""

    system: str
    orientation: str = "LPS"
    spacing_mm: tuple[float, ...] = ()


@dataclass(frozen=True)
class LabelledVolume(Volume):
    """A volume and its label uint8 [X, Y, Z], 0 background, 1..n in the order of the labels; None without labels."""

    label: np.ndarray | None = None


@dataclass(frozen=True)
class CachedCase:
    """One case, whole.

    Attributes:
        name: the case.
        image: float32 [X, Y, Z], in the file's own intensities; of a 2D image uint8 [X, Y, 1].
        label: uint8 [X, Y, Z], 0 background, 1..n in the order of the labels; None without labels.
        spacing_mm: three floats, of `image`.
        origin_mm: the LPS position of `image`'s first voxel centre.
        direction: nine floats, row-major.
        subject: of the case.
        native: the case before resampling, or None when it was not resampled.
        points_vox: float32 [K, 3] in the grid of `image`, NaN where missing; None without landmarks.
        pixel_size_mm: of a 2D image, in its own pixels; None where unknown (`spacing_mm` is then 1), and of volumes.
        hc_mm: the head circumference in the dataset's table; None where it has none.
    """

    name: str
    image: np.ndarray
    label: np.ndarray | None
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]
    subject: str
    native: LabelledVolume | None = None
    points_vox: np.ndarray | None = None
    pixel_size_mm: float | None = None
    hc_mm: float | None = None

    @property
    def own(self) -> LabelledVolume:
        """The grid on which results are measured: the case before resampling, or itself."""
        return self.native or LabelledVolume(self.image, self.spacing_mm, self.origin_mm, self.direction,
                                             label=self.label)

    def own_points_vox(self, landmarks: int) -> np.ndarray:
        """The reference landmarks float64 [K, 3] on the case's own grid; NaN where missing, or all without any."""
        if self.points_vox is None:
            return np.full((landmarks, 3), np.nan)
        return resampled_points(np.asarray(self.points_vox, np.float64), self.image.shape, self.own.size)


def read_image(case: Case) -> tuple[Volume, float | None, tuple[str, ...]]:
    """The case's image in the file's own orientation.

    Returns:
        The volume; of a 2D image the millimetres a pixel, from the dataset's table or else the file (None where
        unknown, and of volumes); and what was done or noticed while reading, a line each.

    Raises:
        UserError: the file cannot be read.
    """
    if not case.is_2d:
        volume = read_volume(case.image, case.spacing_mm_of_file or None)
        return volume, None, volume.notes
    image = read_image_2d(case.image)
    pixel_size_mm, notes = case.pixel_size_mm or image.pixel_size_mm, image.notes
    if image.pixel_size_mm and not np.isclose(image.pixel_size_mm, pixel_size_mm, rtol=0.01, atol=0):
        by_file = f"a pixel of {image.pixel_size_mm:.4g} mm by the file"
        notes += (f"{by_file}: the table's {pixel_size_mm:.4g} mm was used",)
    return volume_of_image(image, pixel_size_mm), pixel_size_mm, notes


def read_label(case: Case, image: Volume) -> Volume:
    """The case's mask, on the grid of its image as `read_image` gives it.

    Raises:
        UserError: the file cannot be read, or has another grid.
    """
    if not case.is_2d:
        return read_mask(case.label, image, case.spacing_mm_of_file or None)
    mask = read_mask_2d(case.label, (image.size[1], image.size[0]))
    return replace(image, array=np.ascontiguousarray(mask.T[:, :, None]), path=str(case.label))


def prepare_case(case: Case, dataset: Dataset, settings: CacheSettings) -> CachedCase:
    """Reads a case and brings it into the cache's orientation, spacing and label values.

    Raises:
        UserError: a file that cannot be read, or a mask with another grid than its image.
    """
    read, pixel_size_mm, _ = read_image(case)
    image = reorient(read, settings.orientation)
    whole = CachedCase(name=case.name,
                       image=image.array if case.is_2d else image.array.astype(np.float32, copy=False),
                       label=_label(case, read, dataset.labels, settings.orientation),
                       spacing_mm=tuple(image.spacing_mm), origin_mm=tuple(image.origin_mm),
                       direction=tuple(image.direction), subject=case.subject,
                       points_vox=_points_vox(case, read, image, dataset.landmarks), pixel_size_mm=pixel_size_mm,
                       hc_mm=case.hc_mm)
    return _resampled(whole, settings)


def resampling_ratio(spacing_mm, settings: CacheSettings) -> tuple[float, ...] | None:
    """Old spacing over new along each axis, or None when there is nothing to resample."""
    if not settings.spacing_mm or np.allclose(spacing_mm, settings.spacing_mm, rtol=NEEDLESS_CHANGE, atol=0):
        return None
    return tuple(float(old) / new for old, new in zip(spacing_mm, settings.spacing_mm, strict=True))


def _label(case: Case, read: Volume, labels: dict[str, int], orientation: str) -> np.ndarray | None:
    """uint8: the labels' values in the file -> 1..n, all else 0 (the audit has refused other values)."""
    if not labels or case.label is None:
        return None
    mask = reorient(read_label(case, read), orientation).array
    values = np.zeros(mask.shape, np.uint8)
    for index, value in enumerate(labels.values(), start=1):
        values[mask == value] = index
    return values


def _points_vox(case: Case, read: Volume, image: Volume, names: tuple[str, ...]) -> np.ndarray | None:
    """[K, 3] in the grid of `image`, NaN for a missing landmark; None for a dataset without landmarks."""
    if not names:
        return None
    found = case_landmarks(case, read)
    missing = np.full(3, np.nan)
    points_mm = np.stack([np.asarray(found.get(name, missing), np.float64) for name in names])
    return np.asarray(points_to_vox(points_mm, image), np.float32)


def _resampled(case: CachedCase, settings: CacheSettings) -> CachedCase:
    """The case at the settings' spacing, with itself as `native`; unchanged if it has that spacing."""
    ratio = resampling_ratio(case.spacing_mm, settings)
    if ratio is None:
        return case
    size = case.image.shape
    new_size = resampled_size(size, ratio)
    spacing = resampled_spacing(size, new_size, case.spacing_mm)
    # The outer faces stay where they are, so the first voxel's centre moves by half the change of a voxel.
    shift = 0.5 * (np.array(spacing) - np.array(case.spacing_mm))
    origin = np.array(case.origin_mm) + np.array(case.direction).reshape(3, 3) @ shift
    points = None if case.points_vox is None else resampled_points(case.points_vox, size, new_size)
    return CachedCase(name=case.name, image=resample_volume(case.image, new_size),
                      label=None if case.label is None else resample_volume(case.label, new_size, nearest=True),
                      spacing_mm=spacing, origin_mm=tuple(origin.tolist()), direction=case.direction,
                      subject=case.subject, native=case.own,
                      points_vox=None if points is None else points.astype(np.float32),
                      pixel_size_mm=case.pixel_size_mm, hc_mm=case.hc_mm)
