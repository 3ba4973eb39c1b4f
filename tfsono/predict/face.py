"""One volume for `face`: its landmarks and their boxes, further candidates, and a preview.

    OUT/CASE.mrk.json        the landmarks, and their boxes as regions of interest, for 3D Slicer
    OUT/CASE.png             three slices with the boxes and the second candidates
    OUT/measurements.csv     one row per case: scores, landmarks changed by the prior, missing landmarks, flags
    OUT/landmarks.csv        one row per case and landmark: position in LPS millimetres and voxels, score, box sides
    OUT/candidates.csv       one row per case, landmark and candidate, best first; the selected one is marked
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfsono.configs.face import MIRRORED
from tfsono.errors import UserError
from tfsono.export import MANIFEST, check_keys
from tfsono.predict.landmarks import LANDMARKS, PLACE, coinciding, place_columns, run_module
from tfsono.predict.loop import Outputs
from tfsono.predict.prediction import FilePredictor, Prediction
from tfsono.predict.ranges import Ranges, ranges_of, with_flags
from tfsono.predict.sources import Model, Options
from tfsono.predict.tables import MEASUREMENTS, rounded
from tfsono.report.boxes import face_preview
from tfsono.volumes.image import Volume, case_name, is_volume_file
from tfsono.volumes.landmarks import Box, box_to_mm, points_to_mm, points_to_vox, write_markups

CANDIDATES = "candidates.csv"
BOX = (*PLACE, "score", "side_x_mm", "side_y_mm", "side_z_mm")
COLUMNS = ("case", "found", "missing", "lowest_score", "mean_score", "changed_by_prior", "flags", "file")
LANDMARK_COLUMNS = ("case", "landmark", *BOX, "file")
CANDIDATE_COLUMNS = ("case", "landmark", "candidate", "taken", *BOX, "file")
TOP_K = 2
"""Candidates of a landmark in the table, by default: those that the paper's prior chooses from."""
LOW_SCORE = 0.25
"""A landmark with a lower score is a guess: chance is 0.17, with six classes."""
OUTPUTS = Outputs("volume", is_volume_file, case_name,
                  {MEASUREMENTS: COLUMNS, LANDMARKS: LANDMARK_COLUMNS, CANDIDATES: CANDIDATE_COLUMNS},
                  lambda name: (f"{name}.png", f"{name}.mrk.json"))


@dataclasses.dataclass(frozen=True)
class FacePrediction:
    """K landmarks of a volume on the grid of `oriented`, with L candidates of each.

    Attributes:
      oriented: the volume in the model's orientation.
      points_vox: [K, 3], NaN where not found.
      scores: [K].
      boxes_vox: [K, 6]; without sides where the model predicts points alone.
      candidates: [K, L, 6], best first, NaN where there are fewer.
      candidate_scores: [K, L].
      chosen: [K], index of the selected candidate.
    """

    oriented: Volume
    points_vox: np.ndarray
    scores: np.ndarray
    boxes_vox: np.ndarray
    candidates: np.ndarray
    candidate_scores: np.ndarray
    chosen: np.ndarray


@dataclasses.dataclass(frozen=True)
class FacePredictor(FilePredictor):
    """A module with its pre- and postprocessing.

    Attributes:
      module: (volume, spacing_mm) -> the outputs of `tfsono.inference.face.FaceModule`.
      key: changes with the model and its options.
      orientation: of the volumes that it takes.
      landmarks: names, in the order of the points.
      top_k: candidates of a landmark in the table.
      ranges: what the model was trained on.
    """

    module: Callable
    key: str
    orientation: str
    landmarks: tuple[str, ...]
    top_k: int
    ranges: Ranges = Ranges()

    def of_file(self, path: Path, name: str = "case") -> Prediction:
        """The landmarks of one input with their boxes, and its measurements."""
        volume, outside = self.ranges.read(path)
        prediction = self.predict_volume(volume)
        points_mm = points_to_mm(prediction.points_vox, prediction.oriented)
        rows = self.measure(name, path, volume, prediction)
        rows[MEASUREMENTS] = [with_flags(row, [*outside, *self.ranges.of_points(points_mm)])
                              for row in rows[MEASUREMENTS]]
        boxes = regions(prediction, self.landmarks)
        named = dict(zip(self.landmarks, points_mm, strict=True))

        def write(out_dir: Path) -> None:
            image, markups = (out_dir / file for file in OUTPUTS.files(name))
            title = "   ".join(filter(None, (name, rows[MEASUREMENTS][0]["flags"])))
            self._write_preview(image, prediction, title, with_boxes=bool(boxes))
            write_markups(markups, named, boxes=boxes)

        return Prediction(
            image=volume, tables=rows, text=f"{name}: {_summary(rows[MEASUREMENTS][0], self.landmarks)}", write=write,
            landmarks_vox=dict(zip(self.landmarks, points_to_vox(points_mm, volume), strict=True)),
            landmarks_mm=named, boxes_mm=boxes)

    def _write_preview(self, path: Path, prediction: FacePrediction, title: str, with_boxes: bool) -> None:
        """The slices; without boxes where the model predicts points alone."""
        oriented, shown = prediction.oriented, (prediction.boxes_vox, prediction.candidates[:, :self.top_k])
        boxes, candidates = shown if with_boxes else (None, None)
        face_preview(path, oriented.array, prediction.points_vox, boxes, oriented.spacing_mm, names=self.landmarks,
                     title=title, candidates=candidates)

    def predict_volume(self, volume: Volume) -> FacePrediction:
        """The module's prediction, in the module's orientation."""
        oriented, found = run_module(self.module, volume, self.orientation)
        return FacePrediction(
            oriented=oriented, points_vox=found["points_vox"], scores=found["scores"], boxes_vox=found["boxes_vox"],
            candidates=found["candidate_boxes_vox"], candidate_scores=found["candidate_scores"],
            chosen=found["chosen"])

    def measure(self, name: str, path: Path, volume: Volume, prediction: FacePrediction) -> dict[str, list[dict]]:
        """The rows of the three tables."""
        file = str(Path(path).resolve())
        exists = np.isfinite(prediction.points_vox).all(axis=1)
        missing = [landmark for landmark, found in zip(self.landmarks, exists, strict=True) if not found]
        scores = prediction.scores[exists]
        row = {"case": name, "found": int(exists.sum()), "missing": "; ".join(missing), "file": file,
               "lowest_score": rounded(scores.min() if len(scores) else np.nan),
               "mean_score": rounded(scores.mean() if len(scores) else np.nan),
               "changed_by_prior": int((prediction.chosen > 0).sum()),
               "flags": "; ".join(self.flags(prediction, missing))}
        landmarks, candidates = [], []
        for number, landmark in enumerate(self.landmarks):
            landmarks.append({"case": name, "landmark": landmark, "file": file, **box_columns(
                prediction.boxes_vox[number], prediction.scores[number], prediction.oriented, volume)})
            for rank in range(self.top_k):
                box, score = prediction.candidates[number, rank], prediction.candidate_scores[number, rank]
                if np.isfinite(box).all():
                    candidates.append({"case": name, "landmark": landmark, "candidate": rank + 1, "file": file,
                                       "taken": "yes" if rank == prediction.chosen[number] else "no",
                                       **box_columns(box, score, prediction.oriented, volume)})
        return {MEASUREMENTS: [row], LANDMARKS: landmarks, CANDIDATES: candidates}

    def flags(self, prediction: FacePrediction, missing: list[str]) -> list[str]:
        """Flags for landmarks that are missing or of low confidence, and for mirrored ones that coincide."""
        points_mm = points_to_mm(prediction.points_vox, prediction.oriented)
        unsure = [name for name, score, point in zip(self.landmarks, prediction.scores, points_mm, strict=True)
                  if np.isfinite(point).all() and score < LOW_SCORE]
        flags = [f"not found: {', '.join(missing)}"] if missing else []
        flags += [f"low confidence: {', '.join(unsure)}"] if unsure else []
        return flags + coinciding(points_mm, self.landmarks, MIRRORED)


def box_columns(box_vox: np.ndarray, score: float, oriented: Volume, volume: Volume) -> dict:
    """The columns `BOX` of a box [6] on the grid of `oriented`: centre, and sides along its axes.
    """
    box = box_to_mm(box_vox, oriented)
    voxel = points_to_vox(box.centre_mm[None], volume)[0]
    return {"score": rounded(score) if np.isfinite(box_vox).all() else "",
            **place_columns(box.centre_mm, voxel),
            **{f"side_{axis}_mm": rounded(value or np.nan) for axis, value in zip("xyz", box.size_mm, strict=True)}}


def regions(prediction: FacePrediction, landmarks: tuple[str, ...]) -> dict[str, Box]:
    """The boxes that have sides, in patient coordinates, by landmark."""
    boxes = {name: box_to_mm(box, prediction.oriented)
             for name, box in zip(landmarks, prediction.boxes_vox, strict=True)}
    return {name: box for name, box in boxes.items() if (box.size_mm > 0).all()}  # NaN is not


def predictor_of(model: Model, key: str, options: Options = Options()) -> FacePredictor:
    """The predictor of an opened model.

    Raises:
      UserError: more candidates are requested than the model gives.
    """
    manifest, candidates = model.manifest, options.candidates
    check_keys(model.source / MANIFEST, manifest, ("landmarks",))
    top_k = int(manifest["output"]["candidate_scores"]["shape"][1])
    if candidates is not None and not 1 <= candidates <= top_k:
        raise UserError(f"--candidates {candidates}: expected 1 to {top_k}, the number that {model.source} gives for "
                        "each landmark")
    orientation = manifest["input"]["volume"]["orientation"]
    return FacePredictor(
        module=model.module, key=key, orientation=orientation, landmarks=tuple(manifest["landmarks"]),
        top_k=min(TOP_K, top_k) if candidates is None else candidates,
        ranges=ranges_of([model], options, orientation))


def _summary(row: dict, landmarks: tuple[str, ...]) -> str:
    text = f"{row['found']} of {len(landmarks)} landmarks"
    text += f", lowest score {row['lowest_score']:.2f}" if row["lowest_score"] != "" else ""
    text += f", {row['changed_by_prior']} changed by the prior" if row["changed_by_prior"] else ""
    return text + (f" ({row['flags']})" if row["flags"] else "")
