"""One volume for `face`: its landmarks and their boxes, what else they might be, and a picture.

    OUT/CASE.mrk.json        the landmarks, and their boxes as regions of interest, for 3D Slicer
    OUT/CASE.png             three slices with the boxes and the second candidates
    OUT/measurements.csv     one row a case: how sure the landmarks are, what the prior changed, what is missing, flags
    OUT/landmarks.csv        one row a case and landmark: its place in LPS millimetres and voxels, its score and sides
    OUT/candidates.csv       one row a case, landmark and candidate, the best first; the one that was taken is marked
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfsono.configs.face import MIRRORED
from tfsono.errors import UserError
from tfsono.export import MANIFEST, check_keys
from tfsono.predict.landmarks import LANDMARKS, PLACE, in_one_place, place_columns, run_module
from tfsono.predict.loop import Outputs
from tfsono.predict.sources import Model
from tfsono.predict.tables import MEASUREMENTS, rounded
from tfsono.report.boxes import face_preview
from tfsono.volumes.image import Volume, case_name, is_volume_file, read_volume
from tfsono.volumes.landmarks import Box, box_to_mm, points_to_mm, points_to_vox, write_markups

CANDIDATES = "candidates.csv"
BOX = (*PLACE, "score", "side_x_mm", "side_y_mm", "side_z_mm")
COLUMNS = ("case", "found", "missing", "lowest_score", "mean_score", "changed_by_prior", "flags", "file")
LANDMARK_COLUMNS = ("case", "landmark", *BOX, "file")
CANDIDATE_COLUMNS = ("case", "landmark", "candidate", "taken", *BOX, "file")
LISTED = 2
"""Candidates of a landmark in the table, where no other number is asked for: those that the paper's prior has."""
LOW_SCORE = 0.25
"""A landmark with a lower score is a guess: of six classes each has 0.17 where nothing is known."""
OUTPUTS = Outputs("volume", is_volume_file, case_name,
                  {MEASUREMENTS: COLUMNS, LANDMARKS: LANDMARK_COLUMNS, CANDIDATES: CANDIDATE_COLUMNS},
                  lambda name: (f"{name}.png", f"{name}.mrk.json"))


@dataclasses.dataclass(frozen=True)
class FacePrediction:
    """Landmarks of a volume on the grid of `turned`; K of them, L candidates of each.

    Attributes:
      turned: the volume in the model's orientation.
      points_vox: [K, 3], NaN where not found.
      scores: [K].
      boxes_vox: [K, 6]; without sides where the model answers with points alone.
      candidates: [K, L, 6], the best first, NaN where there are fewer.
      candidate_scores: [K, L].
      chosen: [K], the candidate that is the answer.
    """

    turned: Volume
    points_vox: np.ndarray
    scores: np.ndarray
    boxes_vox: np.ndarray
    candidates: np.ndarray
    candidate_scores: np.ndarray
    chosen: np.ndarray


@dataclasses.dataclass(frozen=True)
class FacePredictor:
    """A module and what stands around it.

    Attributes:
      module: (volume, spacing_mm) -> what `tfsono.inference.face.FaceModule` says.
      key: changes with the model and its options.
      orientation: the orientation that it takes.
      landmarks: names, in the order of the points.
      listed: candidates of a landmark in the table.
    """

    module: Callable
    key: str
    orientation: str
    landmarks: tuple[str, ...]
    listed: int

    def predict(self, path: Path, name: str, out_dir: Path) -> tuple[dict[str, list[dict]], str]:
        """Predicts one input, writes its files, and returns its rows and a line to print."""
        began = time.monotonic()
        volume = read_volume(path)
        prediction = self.predict_volume(volume)
        rows = self.measure(name, path, volume, prediction)
        image, markups = (out_dir / file for file in OUTPUTS.files(name))
        flags = rows[MEASUREMENTS][0]["flags"]
        boxes = regions(prediction, self.landmarks)  # none where there are points alone
        shown = (prediction.boxes_vox, prediction.candidates[:, :self.listed]) if boxes else (None, None)
        face_preview(
            image, prediction.turned.array, prediction.points_vox, boxes_vox=shown[0], candidates=shown[1],
            spacing_mm=prediction.turned.spacing_mm, names=self.landmarks,
            title="   ".join(filter(None, (name, flags))))
        named = dict(zip(self.landmarks, points_to_mm(prediction.points_vox, prediction.turned), strict=True))
        write_markups(markups, named, boxes=boxes)
        return rows, f"{name}: {_summary(rows[MEASUREMENTS][0], self.landmarks)}; {time.monotonic() - began:.1f} s"

    def predict_volume(self, volume: Volume) -> FacePrediction:
        """The module's answer, in the orientation that it was given in."""
        turned, found = run_module(self.module, volume, self.orientation)
        return FacePrediction(
            turned=turned, points_vox=found["points_vox"], scores=found["scores"], boxes_vox=found["boxes_vox"],
            candidates=found["candidate_boxes_vox"], candidate_scores=found["candidate_scores"],
            chosen=found["chosen"])

    def measure(self, name: str, path: Path, volume: Volume, prediction: FacePrediction) -> dict[str, list[dict]]:
        """The rows of the three tables."""
        file = str(Path(path).resolve())
        there = np.isfinite(prediction.points_vox).all(axis=1)
        missing = [landmark for landmark, found in zip(self.landmarks, there, strict=True) if not found]
        scores = prediction.scores[there]
        row = {"case": name, "found": int(there.sum()), "missing": "; ".join(missing), "file": file,
               "lowest_score": rounded(scores.min() if len(scores) else np.nan),
               "mean_score": rounded(scores.mean() if len(scores) else np.nan),
               "changed_by_prior": int((prediction.chosen > 0).sum()),
               "flags": "; ".join(self.flags(prediction, missing))}
        landmarks, candidates = [], []
        for number, landmark in enumerate(self.landmarks):
            landmarks.append({"case": name, "landmark": landmark, "file": file, **box_columns(
                prediction.boxes_vox[number], prediction.scores[number], prediction.turned, volume)})
            for rank in range(self.listed):
                box, score = prediction.candidates[number, rank], prediction.candidate_scores[number, rank]
                if np.isfinite(box).all():
                    candidates.append({"case": name, "landmark": landmark, "candidate": rank + 1, "file": file,
                                       "taken": "yes" if rank == prediction.chosen[number] else "no",
                                       **box_columns(box, score, prediction.turned, volume)})
        return {MEASUREMENTS: [row], LANDMARKS: landmarks, CANDIDATES: candidates}

    def flags(self, prediction: FacePrediction, missing: list[str]) -> list[str]:
        """What is to be said of the landmarks: missing and faint ones, and mirrored ones in one place."""
        points_mm = points_to_mm(prediction.points_vox, prediction.turned)
        faint = [name for name, score, point in zip(self.landmarks, prediction.scores, points_mm, strict=True)
                 if np.isfinite(point).all() and score < LOW_SCORE]
        flags = [f"not found: {', '.join(missing)}"] if missing else []
        flags += [f"faint: {', '.join(faint)}"] if faint else []
        return flags + in_one_place(points_mm, self.landmarks, MIRRORED)


def box_columns(box_vox: np.ndarray, score: float, turned: Volume, volume: Volume) -> dict:
    """The columns `BOX` of a box [6] on the grid of `turned`: its centre on the volume's own grid, and its sides.

    Sides are along the axes of `turned`, whose order and directions are those of `orientation`.
    """
    box = box_to_mm(box_vox, turned)
    voxel = points_to_vox(box.centre_mm[None], volume)[0]
    return {"score": rounded(score) if np.isfinite(box_vox).all() else "",
            **place_columns(box.centre_mm, voxel),
            **{f"side_{axis}_mm": rounded(value or np.nan) for axis, value in zip("xyz", box.size_mm, strict=True)}}


def regions(prediction: FacePrediction, landmarks: tuple[str, ...]) -> dict[str, Box]:
    """The boxes that have sides, as regions of interest in the patient, by the landmarks' names."""
    boxes = {name: box_to_mm(box, prediction.turned) for name, box in zip(landmarks, prediction.boxes_vox, strict=True)}
    return {name: box for name, box in boxes.items() if (box.size_mm > 0).all()}  # NaN is not


def predictor_of(model: Model, key: str, candidates: int | None = None) -> FacePredictor:
    """The predictor of an opened model.

    Raises:
      UserError: more candidates are asked for than it lists.
    """
    manifest = model.manifest
    check_keys(model.source / MANIFEST, manifest, ("landmarks",))
    listed = int(manifest["output"]["candidate_scores"]["shape"][1])
    if candidates is not None and not 1 <= candidates <= listed:
        raise UserError(f"--candidates {candidates}: expected 1 to {listed}, which {model.source} lists of each "
                        "landmark")
    return FacePredictor(model.module, key, manifest["input"]["volume"]["orientation"], tuple(manifest["landmarks"]),
                         min(LISTED, listed) if candidates is None else candidates)


def _summary(row: dict, landmarks: tuple[str, ...]) -> str:
    text = f"{row['found']} of {len(landmarks)} landmarks"
    text += f", lowest score {row['lowest_score']:.2f}" if row["lowest_score"] != "" else ""
    text += f", {row['changed_by_prior']} changed by the prior" if row["changed_by_prior"] else ""
    return text + (f" ({row['flags']})" if row["flags"] else "")
