"""One volume for `femur`: its mask, its landmarks, a preview of both, and its measurements.

    OUT/CASE_mask.nii.gz     on the input's own grid, with the dataset's label values
    OUT/CASE.mrk.json        the landmarks, and the line between two of them, for 3D Slicer
    OUT/CASE.png             preview of three planes; check it before using the numbers
    OUT/measurements.csv     one row per case: length and its spread, volume, gestational age (Hadlock; not for clinical
                             use), flags
    OUT/landmarks.csv        one row per case and landmark: position in LPS millimetres and voxels, heatmap peak,
                             probability of an error below 5 mm, spread of an ensemble's members
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tfsono.export import MANIFEST, check_keys
from tfsono.inference.segmentation import postprocess_mask
from tfsono.manifest import PeakModel
from tfsono.metrics.biometry import gestational_age_by_fl
from tfsono.metrics.femur_case import CONTRADICTION_MM, MaskAndPoints, distances_to_mask
from tfsono.predict.confidence import Confidence, confidence_of, lengths_of_members
from tfsono.predict.landmarks import LANDMARKS, PLACE, place_columns, run_module
from tfsono.predict.loop import Outputs
from tfsono.predict.masks import label_values, postprocessing_left, touches_border
from tfsono.predict.prediction import FilePredictor, Prediction
from tfsono.predict.ranges import Ranges, ranges_of
from tfsono.predict.sources import Model, Options
from tfsono.predict.tables import MEASUREMENTS, rounded
from tfsono.report.plots import preview_figure
from tfsono.volumes.image import (
    Volume,
    case_name,
    is_volume_file,
    reorient,
    restore_orientation,
    write_volume,
)
from tfsono.volumes.landmarks import points_to_mm, points_to_vox, write_markups

COLUMNS = ("case", "length_mm", "length_spread_mm", "volume_ml", "gestational_age_weeks", "flags", "file")
LANDMARK_COLUMNS = ("case", "landmark", *PLACE, "peak", "probability", "spread_mm", "file")
OUTPUTS = Outputs("volume", is_volume_file, case_name, {MEASUREMENTS: COLUMNS, LANDMARKS: LANDMARK_COLUMNS},
                  lambda name: (f"{name}.png", f"{name}_mask.nii.gz", f"{name}.mrk.json"))


@dataclasses.dataclass(frozen=True)
class FemurPredictor(FilePredictor):
    """A module with its pre- and postprocessing.

    Attributes:
      module: (volume, spacing_mm) -> {"box", "found"} and, by network, "mask", "points_vox", "peaks".
      key: changes with the model and its options.
      orientation: of the volumes that it takes.
      labels: name -> value in the dataset's masks, in the order of the classes from 1.
      landmarks: names, in the order of the points.
      largest, holes: what the module leaves to do: keep the largest component, fill holes.
      ranges: what the model was trained on.
      confidence: the manifest's.
    """

    module: Callable
    key: str
    orientation: str
    labels: dict[str, int]
    landmarks: tuple[str, ...]
    largest: bool
    holes: bool
    ranges: Ranges = Ranges()
    confidence: tuple[PeakModel, ...] = ()

    def of_file(self, path: Path, name: str = "case") -> Prediction:
        """The mask and landmarks of one input and its measurements."""
        volume, outside = self.ranges.read(path)
        prediction, confidence, flags = self.predict_volume(volume)
        flags = [*outside, *self.sizes(prediction, volume), *flags]
        rows = self.measure(name, path, volume, prediction, flags)
        known = self._add_confidence(rows, confidence) if confidence else ""
        mask, points = prediction.mask, prediction.points_vox
        values = None if mask is None else label_values(mask, self.labels)
        points_mm = {} if points is None else dict(zip(self.landmarks, points_to_mm(points, volume), strict=True))

        def write(out_dir: Path) -> None:
            image, mask_path, markups = (out_dir / file for file in OUTPUTS.files(name))
            _write_preview(image, volume, prediction, tuple(self.labels), flags)
            if mask is not None:
                write_volume(mask_path, values, volume)
            if points is not None:
                write_markups(markups, points_mm, [self.landmarks] if len(self.landmarks) == 2 else [])

        return Prediction(
            image=volume, tables=rows, text=f"{name}: {_summary(rows[MEASUREMENTS][0], known)}", write=write,
            mask=None if mask is None else dataclasses.replace(volume, array=values), labels=self.labels,
            landmarks_vox={} if points is None else dict(zip(self.landmarks, points, strict=True)),
            landmarks_mm=points_mm)

    def predict_volume(self, volume: Volume) -> tuple[MaskAndPoints, Confidence | None, list[str]]:
        """The prediction on the volume's own grid, its mask postprocessed; its landmarks' confidence; and flags."""
        oriented, raw = run_module(self.module, volume, self.orientation)
        flags = [] if bool(raw["found"]) else ["no region found: searched the whole volume"]
        mask, points, confidence = None, None, None
        if "mask" in raw:
            processed = postprocess_mask(raw["mask"], len(self.labels) + 1, self.largest, self.holes)
            mask = restore_orientation(processed, volume, self.orientation)
            flags += ["empty mask"] * (not mask.any()) + ["touches border"] * touches_border(mask > 0)
        if "points_vox" in raw:
            points = points_to_vox(points_to_mm(raw["points_vox"], oriented), volume)
            confidence = confidence_of(raw, oriented.spacing_mm, self.confidence)
            flags += confidence.flags(self.landmarks) + end_flags(raw, oriented.spacing_mm, self.landmarks)
        prediction = MaskAndPoints(mask, points)
        apart = distances_to_mask(prediction, np.asarray(volume.spacing_mm), len(self.landmarks))
        if len(self.landmarks) == 2:
            flags += [f"{name} {distance:.0f} mm from the mask"
                      for name, distance in zip(self.landmarks, apart, strict=True) if distance > CONTRADICTION_MM]
        return prediction, confidence, flags

    def _add_confidence(self, rows: dict[str, list[dict]], confidence: Confidence) -> str:
        """Adds its columns to the rows; returns the probabilities in words."""
        for place, row in enumerate(rows[LANDMARKS]):
            row |= confidence.columns(place)
        if len(self.landmarks) == 2:
            spread, = lengths_of_members(confidence, self.landmarks, [self.landmarks])
            rows[MEASUREMENTS][0]["length_spread_mm"] = rounded(spread)
        return confidence.text(self.landmarks)

    def sizes(self, prediction: MaskAndPoints, volume: Volume) -> list[str]:
        """Flags for volumes and a length unlike those in training."""
        points = prediction.points_vox
        return [*self.ranges.of_mask(prediction.mask, tuple(self.labels), volume.spacing_mm),
                *self.ranges.of_points(None if points is None else points_to_mm(points, volume))]

    def measure(self, name: str, path: Path, volume: Volume, prediction: MaskAndPoints,
                flags: list[str]) -> dict[str, list[dict]]:
        """The rows of both tables."""
        file, row = str(Path(path).resolve()), dict.fromkeys(COLUMNS, "")
        row |= {"case": name, "flags": "; ".join(flags), "file": file}
        if prediction.mask is not None:
            row["volume_ml"] = round(np.count_nonzero(prediction.mask) * float(np.prod(volume.spacing_mm)) / 1000, 6)
        landmarks = []
        if prediction.points_vox is not None:
            points_mm = points_to_mm(prediction.points_vox, volume)
            for landmark, point, voxel in zip(self.landmarks, points_mm, prediction.points_vox, strict=True):
                landmarks.append({"case": name, "landmark": landmark, "file": file,
                                  **place_columns(point, voxel)})
            if len(points_mm) == 2:
                length = float(np.linalg.norm(points_mm[1] - points_mm[0]))
                weeks = gestational_age_by_fl(length)
                row |= {"length_mm": round(length, 4), "gestational_age_weeks": round(weeks, 2) if weeks else ""}
        return {MEASUREMENTS: [row], LANDMARKS: landmarks}


def end_flags(raw: Mapping, spacing_mm: Sequence[float], names: Sequence[str]) -> list[str]:
    """Which landmarks are doubtful by the ends of the mask, and whether these took their place; none without ends."""
    if "doubtful" not in raw:  # another network, or a SavedModel of the release before
        return []
    flags = []
    for name, point, end, doubtful in zip(names, raw["points_vox"], raw["ends_vox"], raw["doubtful"], strict=True):
        away = float(np.linalg.norm((np.asarray(point) - np.asarray(end)) * spacing_mm))
        if doubtful:
            flags.append(f"{name} {f'{away:.0f} mm ' if away else ''}from the end of the mask")
    return flags


def predictor_of(model: Model, key: str, options: Options = Options()) -> FemurPredictor:
    """The predictor of an opened model."""
    manifest = model.manifest
    check_keys(model.source / MANIFEST, manifest, ("labels", "landmarks", "postprocessing"))
    orientation = manifest["input"]["volume"]["orientation"]
    largest, holes = postprocessing_left(manifest)
    return FemurPredictor(
        module=model.module, key=key, orientation=orientation, labels=manifest["labels"],
        landmarks=tuple(manifest["landmarks"]), largest=largest, holes=holes,
        ranges=ranges_of([model], options, orientation), confidence=tuple(manifest.get("confidence", ())))


def _summary(row: dict, known: str) -> str:
    """The line of a case; `known` are the landmarks' probabilities."""
    parts = [f"length {row['length_mm']:.1f} mm"] if row["length_mm"] != "" else []
    if row["length_spread_mm"] != "":
        parts[0] += f" (standard deviation of the members {row['length_spread_mm']:.1f} mm)"
    parts += [f"volume {row['volume_ml']:.2f} mL"] if row["volume_ml"] != "" else []
    if row["gestational_age_weeks"] != "":
        parts.append(f"{row['gestational_age_weeks']:.1f} weeks by Hadlock's formula (not for clinical use)")
    parts += [known] * bool(known)
    return ", ".join(parts or ["landmarks"]) + (f" ({row['flags']})" if row["flags"] else "")


def _write_preview(path: Path, volume: Volume, prediction: MaskAndPoints, labels: tuple[str, ...],
                   flags: list[str]) -> None:
    image = reorient(volume, "LPS")
    mask = np.zeros(volume.array.shape, np.uint8) if prediction.mask is None else prediction.mask
    oriented = reorient(dataclasses.replace(volume, array=mask), "LPS").array
    points = None
    if prediction.points_vox is not None:
        points = points_to_vox(points_to_mm(prediction.points_vox, volume), image)
    preview_figure(path, image.array, oriented, image.spacing_mm, labels, text="   ".join([path.stem, *flags]),
                   points_vox=points)
