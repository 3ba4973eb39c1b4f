"""The atlas set of a refinement (the paper's pose library): the landmarks of the training cases, in millimetres.

It is saved with the run as JSON:

    {"format_version": 1, "unit": "mm", "landmarks": [...],
     "atlases": [{"case": "...", "points_mm": [[x, y, z], null, ...]}, ...]}

Points are index times spacing in each volume's own frame (its cached orientation), so that left stays left.
Registration and retrieval are FetusMap's, Sec. 2.2, Eq. 1. NumPy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np

from tfsono.errors import UserError
from tfsono.files import read_json, write_text
from tfsono.structure import check_structure, shown
from tfsono.volumes.landmarks import FARTHEST
from tfsono.geometry.rigid import fit_rigid, moved

ATLASES = "atlases.json"  # in a run's folder
BEFORE_0_2 = "library.json"  # its name in older runs
FORMAT_VERSION = 1
FEWEST = 3  # points that fix a rotation


class _Atlas(TypedDict):
    """One pose in the file."""

    case: str
    points_mm: list[tuple[float, float, float] | None]


class _Saved(TypedDict):
    """The content of the file."""

    format_version: int
    unit: str
    landmarks: list[str]
    atlases: list[_Atlas]


@dataclass(frozen=True)
class Support:
    """The M atlases nearest to a pose, the nearest first.

    Attributes:
      points_mm: [M, K, 3] their landmarks, moved onto the pose; NaN where an atlas has none.
      costs_mm: [M] the sum over all landmarks of the distances to the pose (Eq. 1).
      places: [M] their indices in the atlas set.
    """

    points_mm: np.ndarray
    costs_mm: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class AtlasSet:
    """Poses of training cases, each in its own frame.

    Attributes:
      names: of the landmarks, in the order of the points.
      poses_mm: [N, K, 3] float64; NaN where a landmark is missing.
      cases: N names; () numbers them.
    """

    names: tuple[str, ...]
    poses_mm: np.ndarray
    cases: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "poses_mm", np.asarray(self.poses_mm, np.float64))
        if not self.cases:
            object.__setattr__(self, "cases", tuple(str(place) for place in range(len(self.poses_mm))))
        if self.poses_mm.shape != (len(self.cases), len(self.names), 3):
            raise ValueError(f"poses of {len(self.cases)} cases and {len(self.names)} landmarks: "
                             f"found an array of shape {self.poses_mm.shape}")

    def __len__(self) -> int:
        return len(self.poses_mm)

    def nearest(self, pose_mm: np.ndarray, robust: Sequence[int], count: int,
                pairs: Sequence[tuple[int, int]] = ()) -> Support:
        """The `count` atlases with the lowest registration error, moved onto a pose (Eq. 1).

        Each is moved rigidly by the landmarks `robust` alone, and its cost is the sum of the distances of all
        landmarks: of those that both have, times K over their number, so that an atlas with gaps is not favoured. An
        atlas that shares none of `robust` with the pose is excluded. Ties keep the order of the set.

        Args:
          pose_mm: [K, 3]; NaN where a landmark is missing.
          robust: indices of the landmarks that the registration uses.
          count: at most so many atlases.
          pairs: of landmarks, left and right, whose cost is that of the cheaper order: so a pose whose sides are
            exchanged finds the atlases of the sound one. They are moved onto it in their own order.
        """
        pose_mm = np.asarray(pose_mm, np.float64)
        weights = np.zeros(len(self.names))
        weights[list(robust)] = 1
        aligned = moved(self.poses_mm, *fit_rigid(self.poses_mm, pose_mm, weights))
        distances = np.linalg.norm(aligned - pose_mm, axis=-1)
        for pair in map(list, pairs):
            crossed = np.linalg.norm(aligned[:, pair] - pose_mm[pair[::-1]], axis=-1)
            cheaper = crossed.sum(-1) < distances[:, pair].sum(-1)  # NaN is not
            distances[:, pair] = np.where(cheaper[:, None], crossed, distances[:, pair])
        shared = np.isfinite(distances)
        number = shared.sum(-1)
        costs = np.where(shared, distances, 0).sum(-1) * len(self.names) / np.maximum(number, 1)
        costs = np.where(number > 0, costs, np.inf)
        places = np.argsort(costs, kind="stable")
        places = places[np.isfinite(costs[places])][:count]
        return Support(aligned[places], costs[places], places)

    def distance_mm(self, pose_mm: np.ndarray, robust: Sequence[int]) -> float:
        """Mean distance of a landmark between a pose and its nearest atlas; NaN where no atlas can be compared."""
        found = self.nearest(pose_mm, robust, 1).costs_mm
        return float(found[0]) / len(self.names) if len(found) else float("nan")

    def without(self, case: str) -> AtlasSet:
        """The set without one case, to refine that training case itself."""
        kept = [place for place, name in enumerate(self.cases) if name != case]
        return AtlasSet(self.names, self.poses_mm[kept], tuple(self.cases[place] for place in kept))

    def shortage(self, count: int) -> str:
        """A line of warning where the set has fewer atlases than a refinement uses; else ""."""
        if len(self) >= count:
            return ""
        return f"the atlas set has {len(self)} atlases, fewer than the {count} of the configuration; all are used"

    def check(self, landmarks: Sequence[str], source: str) -> None:
        """Raises `UserError` unless the set has the detector's landmarks, in the same order.

        Args:
          landmarks: the detector's.
          source: the file or run of the set, for the message.
        """
        if tuple(landmarks) == self.names:
            return
        if sorted(landmarks) == sorted(self.names):
            place = next(k for k, pair in enumerate(zip(self.names, landmarks, strict=True)) if pair[0] != pair[1])
            found = (f"another order: landmark {place + 1} is {self.names[place]!r}, the detector's is "
                     f"{landmarks[place]!r}")
        else:
            lacking = [name for name in landmarks if name not in self.names]
            found = f"{len(self.names)} for {len(landmarks)}" + (f", without {lacking[0]!r}" if lacking else "")
        raise UserError(f"{source}: an atlas set must have the detector's landmarks in its order, found {found}; "
                        "use the atlas set of the detector's run")


def robust_places(landmarks: Sequence[str], robust: Sequence[str]) -> tuple[int, ...]:
    """Indices of the landmarks that a registration uses; all where fewer than three of `robust` are among them."""
    places = tuple(place for place, name in enumerate(landmarks) if name in robust)
    return places if len(places) >= FEWEST else tuple(range(len(landmarks)))


def atlas_set_of(cases: Iterable[tuple[str, np.ndarray, Sequence[float]]], landmarks: Sequence[str]) -> AtlasSet:
    """The atlas set of cases (name, points_vox [K, 3] NaN where missing, spacing_mm [3]) that have points.

    Raises:
      UserError: no case has any.
    """
    names, poses = [], []
    for name, points_vox, spacing_mm in cases:
        pose = np.asarray(points_vox, np.float64) * np.asarray(spacing_mm, np.float64)
        if np.isfinite(pose).all(-1).any():
            names.append(name)
            poses.append(np.where(np.isfinite(pose).all(-1, keepdims=True), pose, np.nan))
    if not names:
        raise UserError("atlas set: expected training cases with landmarks, found none")
    return AtlasSet(tuple(landmarks), np.stack(poses), tuple(names))


def atlases_file(folder: str | os.PathLike) -> Path:
    """The file of the atlas set in a run's folder, under its new or its older name."""
    path, older = Path(folder, ATLASES), Path(folder, BEFORE_0_2)
    return older if older.is_file() and not path.is_file() else path


def write_atlases(path: str | os.PathLike, atlas_set: AtlasSet) -> Path:
    """Writes an atlas set as JSON, atomically, to a hundredth of a micrometre; null where a point is missing."""
    atlases = [{"case": case, "points_mm": [[round(float(x), 8) for x in point] if np.isfinite(point).all() else None
                                            for point in pose]}
               for case, pose in zip(atlas_set.cases, atlas_set.poses_mm, strict=True)]
    lines = ",\n  ".join(json.dumps(atlas, allow_nan=False) for atlas in atlases)
    head = json.dumps({"format_version": FORMAT_VERSION, "unit": "mm", "landmarks": list(atlas_set.names)})
    return write_text(path, f'{head[:-1]}, "atlases": [\n  {lines}\n]}}\n')


def read_atlases(path: str | os.PathLike, landmarks: Sequence[str]) -> AtlasSet:
    """The atlas set that `write_atlases` wrote.

    Args:
      path: the file.
      landmarks: of the detector, in its order.

    Raises:
      UserError: the file is absent, damaged, of another version, or of other landmarks than the detector's.
    """
    found = read_json(path, "expected the atlas set of a run; train the run again")
    check_structure(found, _Saved, path)
    if (found["format_version"], found["unit"]) != (FORMAT_VERSION, "mm"):
        raise UserError(f"{path}: expected an atlas set of format {FORMAT_VERSION} in mm, found format "
                        f"{found['format_version']} in {shown(found['unit'])}")
    names, cases = tuple(found["landmarks"]), tuple(atlas["case"] for atlas in found["atlases"])
    for place, atlas in enumerate(found["atlases"]):
        if len(atlas["points_mm"]) != len(names):
            raise UserError(f"{path}: atlases[{place}].points_mm must be a list of {len(names)}, as the landmarks; "
                            f"found {len(atlas['points_mm'])}; train the run again")
    poses = [[[np.nan] * 3 if point is None else point for point in atlas["points_mm"]] for atlas in found["atlases"]]
    atlas_set = AtlasSet(names, np.asarray(poses, np.float64).reshape(len(cases), len(names), 3), cases)
    if not len(atlas_set) or (np.abs(atlas_set.poses_mm) > FARTHEST).any():
        raise UserError(f"{path}: expected atlases with coordinates up to {FARTHEST:g} mm, found {len(atlas_set)} "
                        "atlases, or others; train the run again")
    atlas_set.check(landmarks, str(path))
    return atlas_set
