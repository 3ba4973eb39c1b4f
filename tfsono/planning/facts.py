"""What is read of a cache to plan its trainings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tfsono.data.cache import Cache
from tfsono.errors import UserError
from tfsono.training.fingerprint import extent_of, intensity_range


@dataclass(frozen=True)
class Facts:
    """What a dataset is; arrays have a row a case that was read, and are on the grid that training reads.

    Attributes:
      cases, subjects: of the dataset; `sizes` may have fewer rows.
      sizes: voxels along x, y and z, [N, 3].
      spacings: mm, [N, 3]; 1 for 2D images.
      labels_ml: name -> volumes of a label in the cases that have it; pixels / 1000 for 2D images.
      extents_mm: sides of the box of all labels in the cases that have any, [n, 3].
      landmarks: names.
      landmarks_mm: largest distance between two landmarks, of the cases with two or more.
      landmark_boxes_mm: sides of the box of all landmarks of these cases.
      intensities: 1st and 99th percentile of each case, [N, 2].
      has_split: the dataset has its own.
      cached: of a cache, whose spacing is fixed.
      spacing_mm: that the cache was resampled to; () for each volume's own.
    """

    cases: int
    subjects: int
    sizes: np.ndarray
    spacings: np.ndarray
    labels_ml: dict[str, np.ndarray] = field(default_factory=dict)
    extents_mm: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    landmarks: tuple[str, ...] = ()
    landmarks_mm: np.ndarray = field(default_factory=lambda: np.zeros(0))
    landmark_boxes_mm: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    intensities: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    has_split: bool = False
    cached: bool = False
    spacing_mm: tuple[float, ...] = ()

    @property
    def size(self) -> np.ndarray:
        """The median size."""
        return np.median(self.sizes, axis=0)

    @property
    def spacing(self) -> np.ndarray:
        """The median spacing, mm."""
        return np.median(self.spacings, axis=0)

    @property
    def extent_mm(self) -> np.ndarray:
        """The median box of all labels, else of the landmarks, else of the volume, mm."""
        for boxes in (self.extents_mm, self.landmark_boxes_mm):
            if len(boxes):
                return np.median(boxes, axis=0)
        return np.median(self.sides_mm, axis=0)

    @property
    def sides_mm(self) -> np.ndarray:
        """Of each volume, mm: [N, 3]."""
        return self.sizes * self.spacings

    @property
    def spread(self) -> float:
        """The largest spacing relative to the smallest one along the same axis."""
        return float((self.spacings.max(axis=0) / self.spacings.min(axis=0)).max())

    def lines(self) -> list[str]:
        """The facts as text."""
        low, high = self.spacings.min(axis=0), self.spacings.max(axis=0)
        read = f" ({len(self.sizes)} read)" if len(self.sizes) < self.cases else ""
        lines = [f"{self.cases} cases of {self.subjects} subjects{read}",
                 f"size, median {listed(self.size)} voxels of {listed(self.spacing)} mm ({listed(low)} to "
                 f"{listed(high)})"]
        if len(self.intensities):
            low, high = np.median(self.intensities, axis=0)
            lines.append(f"intensities {low:.4g} to {high:.4g} (medians of the 1st and 99th percentile)")
        lines += [f"label {name}: in {len(volumes)} of the cases, median {np.median(volumes):.3g} mL"
                  for name, volumes in self.labels_ml.items() if len(volumes)]
        if len(self.extents_mm):
            lines.append(f"labels extend over {listed(np.median(self.extents_mm, axis=0))} mm (median)")
        if len(self.landmarks_mm):
            lines.append(f"{len(self.landmarks)} landmarks, at most {np.median(self.landmarks_mm):.3g} mm apart "
                         "(median)")
        return lines


def listed(values) -> str:
    """Numbers as 0.8,0.8,5."""
    return ",".join(f"{value:.3g}" for value in values)


def facts_of(cache: Cache, cases: int = 0, subjects: int = 0, has_split: bool = False, cached: bool = True) -> Facts:
    """The facts of a cache; `cases` and `subjects` of a dataset of which it holds a part.

    Raises:
      UserError: the cache is damaged, or without cases.
    """
    names = cache.names
    if not names:
        raise UserError(f"{cache.path}: needs at least one case; found none")
    labels = {name: [] for name in cache.labels}
    boxes = []
    for name in names:
        volume_ml = np.prod(cache.spacing_mm(name)) / 1000
        for label, voxels in zip(cache.labels, label_voxels(cache, name), strict=True):
            labels[label] += [voxels * volume_ml] if voxels else []
        found = [voxels for voxels in cache.foreground(name).values() if len(voxels)]
        boxes += [box_mm(np.concatenate(found), cache.spacing_mm(name))] if found else []
    points = [cache.points_vox(name) * np.array(cache.spacing_mm(name)) for name in names
              if cache.landmarks and cache.points_vox(name) is not None]
    points = [one[np.isfinite(one).all(axis=1)] for one in points]
    points = [one for one in points if len(one) > 1]
    return Facts(
        cases=cases or len(names), subjects=subjects or len(set(cache.subjects.values())),
        sizes=np.array([cache.shape(name) for name in names], float),
        spacings=np.array([cache.spacing_mm(name) for name in names]),
        labels_ml={label: np.array(volumes) for label, volumes in labels.items()},
        extents_mm=np.array(boxes).reshape(-1, 3), landmarks=tuple(cache.landmarks),
        landmarks_mm=np.array([extent_of(one) for one in points]),
        landmark_boxes_mm=np.array([np.ptp(one, axis=0) for one in points]).reshape(-1, points[0].shape[1])
        if points else np.zeros((0, 3)),
        intensities=np.array([intensity_range(cache.own_sample(name)) for name in names]),
        has_split=has_split or bool(cache.split), cached=cached, spacing_mm=tuple(cache.settings.spacing_mm))


def label_voxels(cache: Cache, name: str) -> np.ndarray:
    """Voxels of each label on the grid that training reads; 0 without labels."""
    label = cache.read(name).label
    return np.bincount(np.zeros(0, int) if label is None else label.ravel(), minlength=len(cache.labels) + 1)[1:]


def box_mm(voxels: np.ndarray, spacing_mm) -> np.ndarray:
    """The sides of the box of voxels [n, 3], mm."""
    return (np.ptp(voxels, axis=0) + 1) * np.array(spacing_mm)
