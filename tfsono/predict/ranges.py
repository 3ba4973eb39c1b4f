"""What a model was trained on, and which inputs and predictions lie outside of it: flagged, or refused if far outside.

The record is "trained_on" of a manifest, which `tfsono.training.fingerprint` describes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfsono.data.cache import thinned
from tfsono.errors import UserError
from tfsono.geometry.ellipse import Ellipse
from tfsono.metrics.head_appearance import appearance, appearance_distance
from tfsono.predict.sources import Model, Options
from tfsono.training.fingerprint import TRAINED_ON, extent_of, intensity_range
from tfsono.volumes.image import Volume, read_volume, reorient

# How many times outside of the training's range a value is flagged.
SPACING, EXTENT, VOLUME = 1.1, 1.5, 5.0
LENGTH = VOLUME ** (1 / 3)
HEAD = 1.02  # of its size: a network errs most beyond the largest heads that it saw, by 12 mm where it errs by 2 inside
UNLIKE = "does not look like a head in the ultrasound images of the training"
ROUNDING = 1.01  # headers have few digits: a factor of 1.99 counts as 2


@dataclasses.dataclass(frozen=True)
class Ranges:
    """The record of a model and what follows from it; the default has no record and flags nothing.

    Attributes:
      record: quantity -> {"min", "median", "max"}.
      factor: an input this many times outside is refused.
      allow: flag such an input too instead of refusing it.
      orientation: of the volumes' axes in the record.
      resamples: whether the model brings each volume to one spacing, so that the file's own matters little.
      spacing_mm_of_file: replaces the spacing of the files; () takes theirs.
      note: why nothing is flagged; "" with a record.
    """

    record: Mapping = dataclasses.field(default_factory=dict)
    factor: float = math.inf
    allow: bool = False
    orientation: str = "LPS"
    resamples: bool = False
    spacing_mm_of_file: tuple[float, ...] = ()
    note: str = ""

    def read(self, path: Path) -> tuple[Volume, list[str]]:
        """A volume, and its flags: what was noticed while reading, and `of_volume`.

        Raises:
          UserError: as `read_volume` and `of_volume`.
        """
        volume = read_volume(path, self.spacing_mm_of_file or None)
        return volume, [*volume.notes, *self.of_volume(path, volume)]

    def of_volume(self, path: Path, volume: Volume) -> list[str]:
        """Flags for a volume's spacing, extent and intensities.

        Raises:
          UserError: the voxels are `factor` times smaller or larger than in training, and the model does not resample.
        """
        if not self.record:
            return []
        oriented = reorient(volume, self.orientation)
        flags = []
        if not self.resamples:
            known = self.record["spacing_mm"]
            flags += _outside("spacing", oriented.spacing_mm, known, min(SPACING, self.factor),
                              axes=self.orientation)
            self._check_far(path, oriented.spacing_mm, known, flags,
                            f"resample it to about {_text(known['median'])} mm")
        extent = np.multiply(oriented.size, oriented.spacing_mm)
        flags += _outside("extent", extent, self.record["extent_mm"], EXTENT, axes=self.orientation)
        return flags + self._intensities(oriented.array)

    def of_image(self, path: Path, size_xy: Sequence[int], pixel_size_mm: float | None) -> list[str]:
        """Flags for a 2D image's field of view; its size in pixels where the pixel size is unknown.

        Raises:
          UserError: the field of view is `factor` times smaller or larger than in training.
        """
        if not self.record:
            return []
        if not (pixel_size_mm and "extent_mm" in self.record):
            return _outside("size", size_xy, self.record["size"], self.factor, unit="pixels", axes="x,y")
        known, extent = self.record["extent_mm"], np.multiply(size_xy, pixel_size_mm)
        flags = _outside("field of view", extent, known, min(SPACING, self.factor), axes="x,y")
        longest = {key: [max(value)] for key, value in known.items()}
        self._check_far(path, [extent.max()], longest, flags,
                        f"check the pixel size, {_number(pixel_size_mm)} mm")
        return flags

    def of_label(self, label: str, volume_ml: float) -> list[str]:
        """A flag for a label's volume; none for an empty one, which has its own."""
        known = self.record.get("labels_ml", {}).get(label)
        return _outside("volume", [volume_ml], known, VOLUME, unit="mL") if known and volume_ml else []

    def of_mask(self, mask: np.ndarray | None, labels: Sequence[str], spacing_mm: Sequence[float]) -> list[str]:
        """A flag for each label 1..n of a mask whose volume is unlike the training's."""
        if mask is None or not self.record:
            return []
        volumes_ml = np.bincount(mask.ravel(), minlength=len(labels) + 1)[1:] * np.prod(spacing_mm) / 1000
        return [f"{label}: {flag}" for label, volume in zip(labels, volumes_ml.tolist(), strict=True)
                for flag in self.of_label(label, volume)]

    def of_points(self, points_mm: np.ndarray | None) -> list[str]:
        """A flag for the largest distance between two landmarks [K, 3]."""
        known = self.record.get("landmarks_mm")
        if points_mm is None or known is None or np.isnan(extent := extent_of(points_mm)):
            return []
        return _outside("largest distance between landmarks", [extent], known, LENGTH)

    def of_head(self, circumference_mm: float, diameter_share: float) -> list[str]:
        """Flags for a head's circumference, and its share of the image (`fingerprint.diameter_share`); none for NaN."""
        quantities = (("HC", circumference_mm, "circumference_mm", "mm"),
                      ("mean diameter", diameter_share, "diameter_share", "of the image's longer side"))
        return [flag for what, value, key, unit in quantities if key in self.record and np.isfinite(value)
                for flag in _outside(what, [value], self.record[key], HEAD, unit=unit)]

    def of_appearance(self, pixels: np.ndarray, ellipse: Ellipse | None) -> list[str]:
        """A flag for a head uint8 [Y, X] that does not look like the training's; none without an ellipse."""
        learned = self.record.get("appearance")
        if not learned or ellipse is None:
            return []
        value = appearance(pixels, ellipse)
        near = value is not None and appearance_distance(value, learned) <= learned["limit"]
        return [] if near else [UNLIKE]

    def _intensities(self, array: np.ndarray) -> list[str]:
        low, high = intensity_range(thinned(array))
        least, most = self.record["intensity_1_percent"]["min"], self.record["intensity_99_percent"]["max"]
        margin, narrowest = most - least, self.record["intensity_width"]["min"]
        if least - margin <= low and high <= most + margin and high - low >= narrowest / VOLUME:
            return []
        return [f"intensities {_number(low)} to {_number(high)}, trained on {_number(least)} to {_number(most)}"]

    def _check_far(self, path: Path, values: Sequence[float], known: Mapping, flags: Sequence[str],
                   remedy: str) -> None:
        if flags and not self.allow and times_outside(values, known) * ROUNDING >= self.factor:
            raise UserError(f"{path}: {flags[0]}; refused from {_number(self.factor)} times outside on; {remedy}, or "
                            "give --outside allow")


def ranges_of(models: Sequence[Model], options: Options, orientation: str = "LPS") -> Ranges:
    """The ranges of one or several models that predict together; nothing but a note where a model has no record.

    Args:
      models: opened.
      options: of the prediction.
      orientation: of the volumes that they take.
    """
    for model in models:
        if not model.manifest.get(TRAINED_ON):
            return Ranges(spacing_mm_of_file=options.spacing_mm_of_file, note=(
                f"{model.source}: this model does not say what it was trained on, so inputs unlike it are not flagged; "
                "its training command, run again, adds it, then export it again"))
    record = joined([model.manifest[TRAINED_ON] for model in models])
    return Ranges(record, factor=record["outside_factor"], allow=options.outside == "allow",
                  orientation=orientation, resamples=bool(models[0].manifest.get("network", {}).get("spacing_mm")),
                  spacing_mm_of_file=options.spacing_mm_of_file)


def joined(records: Sequence[Mapping]) -> dict:
    """The union of the ranges of models that predict together; quantities that one of them lacks are left out."""
    union, *others = records
    for other in others:
        union = _union(union, other)
    return dict(union)


def _union(one: Mapping, other: Mapping) -> dict:
    if "median" in one:
        return {"min": _by_axis(min, one["min"], other["min"]), "median": one["median"],
                "max": _by_axis(max, one["max"], other["max"])}
    return {key: _union(value, other[key]) if isinstance(value, Mapping) else value
            for key, value in one.items() if key in other}


def _by_axis(choose, one, other):
    return [choose(pair) for pair in zip(one, other, strict=True)] if isinstance(one, list) else choose(one, other)


def times_outside(values: Sequence[float], known: Mapping) -> float:
    """How many times a value is below the smallest or above the largest one, of the worst axis; 1 or less: inside."""
    found, low, high = np.asarray(values, np.float64), _axes(known["min"]), _axes(known["max"])
    with np.errstate(divide="ignore"):
        return float(np.max([low / found, found / high]))


def _outside(what: str, values: Sequence[float], known: Mapping, factor: float, unit: str = "mm",
             axes: str = "") -> list[str]:
    """The flag of a quantity that is more than `factor` times outside of the training's range."""
    if times_outside(values, known) <= factor:
        return []
    found, low, high = _text(values), _axes(known["min"]), _axes(known["max"])
    ranges = [_range(*ends) for ends in zip(low, high, strict=True)]
    named = f" ({axes})" if axes and " x " in found + _joined(ranges) else ""
    return [f"{what} {found} {unit}{named}, trained on {_joined(ranges)}"]


def with_flags(row: dict, flags: Sequence[str]) -> dict:
    """A table's row with more flags in front of its own."""
    return row | {"flags": "; ".join(filter(None, (*flags, row["flags"])))}


def _axes(values) -> np.ndarray:
    return np.atleast_1d(np.asarray(values, np.float64))


def _text(values) -> str:
    return _joined([_number(value) for value in _axes(values)])


def _joined(texts: Sequence[str]) -> str:
    """One text where all axes have the same, else all of them."""
    return texts[0] if len(set(texts)) == 1 else " x ".join(texts)


def _range(low: float, high: float) -> str:
    return _joined([_number(low), _number(high)]).replace(" x ", " to ")


def _number(value: float) -> str:
    return f"{float(f'{value:.3g}'):g}"
