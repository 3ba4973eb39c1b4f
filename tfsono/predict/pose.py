"""One volume for `pose`: its landmarks, a preview of the skeleton, and the segment lengths.

    OUT/CASE.mrk.json        the landmarks, and the segments between them as lines, for 3D Slicer
    OUT/CASE.png             the skeleton over three slices, and in three dimensions with indices and lengths
    OUT/measurements.csv     one row per case: heatmap peaks, lowest probability, refinement, sides and lengths unlike
                             the training's, flags
    OUT/landmarks.csv        one row per case and landmark: position in LPS millimetres and voxels, heatmap peak,
                             probability of an error below 5 mm, spread of an ensemble's members
    OUT/segments.csv         one row per case and segment: its length, and its spread
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfsono.configs.pose import MIRRORED, SEGMENTS
from tfsono.export import MANIFEST, check_keys
from tfsono.inference.module_input import module_input
from tfsono.manifest import PeakModel
from tfsono.metrics.pose_case import known_segments, segment_lengths
from tfsono.metrics.pose_limits import PoseLimits, limits_described
from tfsono.predict.confidence import MOST_NAMED, Confidence, confidence_of, lengths_of_members
from tfsono.predict.landmarks import LANDMARKS, PLACE, coinciding, place_columns, run_module
from tfsono.predict.loop import Outputs
from tfsono.predict.prediction import FilePredictor, Prediction
from tfsono.predict.ranges import Ranges, ranges_of
from tfsono.predict.sources import Model, Options
from tfsono.predict.tables import MEASUREMENTS, rounded
from tfsono.report.skeleton import pose_preview
from tfsono.volumes.image import Volume, case_name, is_volume_file, reorient
from tfsono.volumes.landmarks import points_to_mm, points_to_vox, write_markups

LENGTHS = "segments.csv"
COLUMNS = ("case", "lowest_peak", "mean_peak", "lowest_probability", "refined", "moved_mm", "atlas_mm",
           "sides_contradict", "odd_lengths", "flags", "file")
LANDMARK_COLUMNS = ("case", "landmark", *PLACE, "peak", "probability", "spread_mm", "file")
LENGTH_COLUMNS = ("case", "segment", "from", "to", "length_mm", "spread_mm", "file")
OUTPUTS = Outputs("volume", is_volume_file, case_name,
                  {MEASUREMENTS: COLUMNS, LANDMARKS: LANDMARK_COLUMNS, LENGTHS: LENGTH_COLUMNS},
                  lambda name: (f"{name}.png", f"{name}.mrk.json"))


@dataclasses.dataclass(frozen=True)
class PosePrediction:
    """Landmarks on a volume's own grid.

    Attributes:
      points_vox: [K, 3], NaN for a missing one.
      confidence: of the landmarks.
      refined: "yes" or "no" where refinement was requested; else "".
      moved_mm: mean displacement of a landmark by the refinement; NaN without one.
      to_atlas_mm: the mean distance of a landmark to those of the nearest atlases before the last step; NaN without.
      flags: warnings about the prediction.
      sides_contradict: pairs of left and right that contradict the spine.
      odd_lengths: segments much shorter or longer than in training.
    """

    points_vox: np.ndarray
    confidence: Confidence
    refined: str
    moved_mm: float
    to_atlas_mm: float
    flags: tuple[str, ...]
    sides_contradict: int
    odd_lengths: int


@dataclasses.dataclass(frozen=True)
class PosePredictor(FilePredictor):
    """A module with its pre- and postprocessing.

    Attributes:
      module: (volume, spacing_mm) -> {"points_vox", "peaks"}; with `refines` -> `inference.pose.RefinedPose`.
      key: changes with the model and its options.
      orientation: of the volumes that it takes.
      landmarks: names, in the order of the points.
      refines: whether the module refines each prediction on its volume.
      ranges: what the model was trained on.
      limits: what no pose of the training cases is like.
      confidence: the manifest's.
    """

    module: Callable
    key: str
    orientation: str
    landmarks: tuple[str, ...]
    refines: bool = False
    ranges: Ranges = Ranges()
    limits: PoseLimits = limits_described({})
    confidence: tuple[PeakModel, ...] = ()

    @property
    def segments(self) -> tuple[tuple[str, str], ...]:
        """The paper's segments of which both ends are landmarks of the model."""
        return known_segments(SEGMENTS, self.landmarks)

    def of_file(self, path: Path, name: str = "case") -> Prediction:
        """The landmarks of one input and its measurements."""
        volume, outside = self.ranges.read(path)
        prediction = self.predict_volume(volume)
        points_mm = points_to_mm(prediction.points_vox, volume)
        flags = (*outside, *self.ranges.of_points(points_mm), *prediction.flags)
        prediction = dataclasses.replace(prediction, flags=flags)
        rows = self.measure(name, path, volume, prediction)
        named = dict(zip(self.landmarks, points_mm, strict=True))

        def write(out_dir: Path) -> None:
            image, markups = (out_dir / file for file in OUTPUTS.files(name))
            oriented = reorient(volume, "LPS")
            pose_preview(image, oriented.array, points_to_vox(points_mm, oriented), oriented.spacing_mm,
                         self.landmarks, segments=self.segments, text="   ".join([name, *flags]))
            write_markups(markups, named, self.segments)

        return Prediction(
            image=volume, tables=rows, text=f"{name}: {_summary(rows[MEASUREMENTS][0], self.landmarks, prediction)}",
            write=write,
            landmarks_vox=dict(zip(self.landmarks, prediction.points_vox, strict=True)), landmarks_mm=named)

    def predict_volume(self, volume: Volume) -> PosePrediction:
        """The prediction on the volume's own grid."""
        if self.refines:
            return self._refined(volume)
        oriented, found = run_module(self.module, volume, self.orientation)
        return self._placed(oriented, volume, found["points_vox"],
                            confidence_of(found, oriented.spacing_mm, self.confidence))

    def _refined(self, volume: Volume) -> PosePrediction:
        oriented = reorient(volume, self.orientation)
        found = self.module(*module_input(oriented.array, oriented.spacing_mm))
        confidence = confidence_of({"peaks": found.peaks}, oriented.spacing_mm)
        if not found.refined:
            return self._placed(oriented, volume, found.points_vox, confidence, "no", flags=(found.note,))
        moved = (found.points_vox - found.path_vox[0]) * np.asarray(oriented.spacing_mm)
        nearest = float(found.distances_mm[-1]) if len(found.distances_mm) else np.nan
        return self._placed(oriented, volume, found.points_vox, confidence, "yes",
                            moved_mm=float(np.linalg.norm(moved, axis=1).mean()), to_atlas_mm=nearest)

    def _placed(self, oriented: Volume, volume: Volume, points: np.ndarray, confidence: Confidence, refined: str = "",
                moved_mm: float = np.nan, to_atlas_mm: float = np.nan, flags: tuple[str, ...] = ()) -> PosePrediction:
        """Moves points from the module's grid to the volume's own."""
        points_mm = points_to_mm(points, oriented)
        exchanged = self.limits.exchanged(points_mm, self.landmarks)
        odd = self.limits.odd_lengths(points_mm, self.landmarks)
        flags = (*flags, *confidence.flags(self.landmarks), *coinciding(points_mm, self.landmarks, MIRRORED),
                 *self._flags(exchanged, odd))
        return PosePrediction(points_vox=points_to_vox(points_mm, volume), confidence=confidence,
                              refined=refined, moved_mm=moved_mm, to_atlas_mm=to_atlas_mm, flags=flags,
                              sides_contradict=len(exchanged), odd_lengths=len(odd))

    def _flags(self, exchanged: list[tuple[str, str]], odd: dict[tuple[str, str], float]) -> list[str]:
        """Flags for sides that contradict the spine, and for lengths far outside of the training's."""
        pairs = [f"{first} - {last}" for first, last in exchanged]
        lengths = [f"{first} - {last} {length:.1f} mm (training {low:.1f} to {high:.1f})"
                   for (first, last), length in odd.items() for low, high in [self.limits.lengths_mm[first, last]]]
        return ([f"sides contradict the spine: {named(pairs, 'pairs')}"] if pairs else []) + (
            [f"implausible length: {named(lengths, 'segments')}"] if lengths else [])

    def measure(self, name: str, path: Path, volume: Volume, prediction: PosePrediction) -> dict[str, list[dict]]:
        """The rows of the three tables."""
        file = str(Path(path).resolve())
        points_mm = points_to_mm(prediction.points_vox, volume)
        confidence = prediction.confidence
        row = {"case": name, "lowest_peak": round(float(confidence.peaks.min()), 4), "refined": prediction.refined,
               "mean_peak": round(float(confidence.peaks.mean()), 4),
               "lowest_probability": rounded(confidence.probabilities.min()), "moved_mm": rounded(prediction.moved_mm),
               "atlas_mm": rounded(prediction.to_atlas_mm), "flags": "; ".join(prediction.flags), "file": file,
               "odd_lengths": prediction.odd_lengths if self.limits.lengths_mm else "",
               "sides_contradict": prediction.sides_contradict if self.limits.sides_mm else ""}
        landmarks = [{"case": name, "landmark": landmark, "file": file, **place_columns(point, voxel),
                      **confidence.columns(place)}
                     for place, (landmark, point, voxel) in enumerate(zip(
                         self.landmarks, points_mm, prediction.points_vox, strict=True))]
        lengths = segment_lengths(points_mm, self.landmarks, self.segments)
        spreads = lengths_of_members(confidence, self.landmarks, self.segments)
        segments = [{"case": name, "segment": f"{first} - {last}", "from": first, "to": last,
                     "length_mm": rounded(length), "spread_mm": rounded(spread), "file": file}
                    for (first, last), length, spread in zip(self.segments, lengths, spreads, strict=True)]
        return {MEASUREMENTS: [row], LANDMARKS: landmarks, LENGTHS: segments}


def named(names: list[str], what: str) -> str:
    """The names, or their number where they are many."""
    return ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} {what}"


def predictor_of(model: Model, key: str, options: Options = Options()) -> PosePredictor:
    """The predictor of an opened model; with `options.refine` its module is the refiner."""
    check_keys(model.source / MANIFEST, model.manifest, ("landmarks",))
    orientation = model.manifest["input"]["volume"]["orientation"]
    return PosePredictor(
        module=model.module, key=key, orientation=orientation, landmarks=tuple(model.manifest["landmarks"]),
        refines=options.refine, ranges=ranges_of([model], options, orientation),
        limits=limits_described(model.manifest.get("poses", {})),
        confidence=tuple(model.manifest.get("confidence", ())))


def _summary(row: dict, landmarks: tuple[str, ...], prediction: PosePrediction) -> str:
    known = prediction.confidence.text(landmarks) or f"lowest peak {row['lowest_peak']:.2f}"
    text = f"{len(landmarks)} landmarks, {known}"
    if row["refined"] == "yes":
        text += f", moved {row['moved_mm']:.1f} mm by the refinement"
    return text + (f" ({row['flags']})" if row["flags"] else "")
