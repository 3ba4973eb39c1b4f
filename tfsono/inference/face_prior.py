"""The graph prior of `face` (Sec. 2.3, Fig. 3): its ratios, fitted on the training landmarks, saved with the run.

The file is JSON:

    {"format_version": 1, "landmarks": [...], "incomplete": {"CASE": ["chin"]}, "ratios": [
      {"ratio": "d(nose_tip - chin) / d(left_eye - right_eye)", "kind": "asymmetric", "first": ["nose_tip", "chin"],
       "second": ["left_eye", "right_eye"], "mean": 1.2, "deviation": 0.1, "faces": 120}, ...],
     "noise_mm": 0.0, "faces_mm": [[[41.6, 80.2, 77.5], null, ...], ...]}

The last two, which files of the release before lack, are what the ratios were fitted on, so that they can be fitted
again with other noise.

The mathematics is `tfsono.geometry.graph`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TypedDict

import numpy as np

from tfsono.errors import UserError
from tfsono.files import read_json, write_text
from tfsono.structure import check_structure
from tfsono.geometry.graph import (
    FEWEST,
    MOST_COMBINATIONS,
    GraphPrior,
    Ratio,
    choose_by_scores,
    choose_combination,
    fit_prior,
    ratio_values,
)

NOISY_COPIES = 50  # of a face: estimates a deviation to about 1 %
PRIOR = "prior.json"  # in a run's folder
FORMAT_VERSION = 1

LEFT, BROW, RIGHT, NOSE, CHIN = "left_eye", "mid_eyebrow", "right_eye", "nose_tip", "chin"
# Of the 10 possible edges the paper has 9 (Fig. 3a). Ours exclude eyebrow to chin: it is nearly the sum of eyebrow to
# nose and nose to chin; the others are three mirrored pairs and three without a partner. The paper does not give the
# ratios, nor their number: ours.
RATIOS = (
    ("symmetric", (LEFT, BROW), (RIGHT, BROW)),
    ("symmetric", (LEFT, NOSE), (RIGHT, NOSE)),
    ("symmetric", (LEFT, CHIN), (RIGHT, CHIN)),
    ("asymmetric", (BROW, NOSE), (LEFT, RIGHT)),
    ("asymmetric", (NOSE, CHIN), (LEFT, RIGHT)),
    ("asymmetric", (NOSE, CHIN), (BROW, NOSE)),
)


class _Entry(TypedDict):
    """One ratio in the file."""

    kind: str
    first: tuple[str, str]
    second: tuple[str, str]
    mean: float
    deviation: float
    faces: int


class _Fitted(TypedDict, total=False):
    """What the file of an earlier release lacks."""

    noise_mm: float
    faces_mm: list[list[tuple[float, float, float] | None]]


class _Saved(_Fitted):
    """The content of the file."""

    format_version: int
    landmarks: list[str]
    incomplete: dict[str, list[str]]
    ratios: list[_Entry]


@dataclass(frozen=True)
class FacePrior:
    """A graph of landmarks and the distributions of its ratios.

    Attributes:
      landmarks: names, in the order of the points.
      graph: the ratios, by the landmarks' indices.
      fitted: their distributions.
      incomplete: training cases that lack landmarks, with the names of these; they do not count in the ratios of these.
      faces_mm: [N, K, 3], what the ratios were fitted on; empty where that is unknown.
      noise_mm: that was added to it.
    """

    landmarks: tuple[str, ...]
    graph: tuple[Ratio, ...]
    fitted: GraphPrior
    incomplete: dict[str, tuple[str, ...]] = field(default_factory=dict)
    faces_mm: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3)))
    noise_mm: float = 0.0

    def with_noise(self, noise_mm: float, source: str) -> FacePrior:
        """The prior fitted again on the same faces with other noise.

        Raises:
          UserError: it has no faces, as one of the release before; `source` is its file.
        """
        if noise_mm == self.noise_mm and len(self.faces_mm):
            return self
        if not len(self.faces_mm):
            raise UserError(f"{source}: prior_noise_mm needs the faces that the prior was fitted on; found none, as in "
                            "runs of the release before; train the run again")
        try:
            fitted = _fitted(self.faces_mm, self.graph, noise_mm)
        except ValueError as error:
            raise UserError(f"{source}: faces_mm: {error}; train the run again") from None
        return replace(self, fitted=fitted, noise_mm=noise_mm)

    @property
    def ratio_names(self) -> tuple[str, ...]:
        """The formula of each ratio."""
        return tuple(ratio_name(ratio, self.landmarks) for ratio in self.graph)

    @property
    def normals(self) -> dict[str, tuple[float, float]]:
        """Name of a ratio -> mean and standard deviation, as `tfsono.report.histograms` takes them."""
        return {name: (float(mean), float(deviation)) for name, mean, deviation
                in zip(self.ratio_names, self.fitted.mean, self.fitted.deviation, strict=True)}

    def values(self, points_mm: np.ndarray) -> dict[str, np.ndarray]:
        """Name of a ratio -> its values [N] of faces [N, K, 3]; NaN where a landmark is missing."""
        return dict(zip(self.ratio_names, ratio_values(points_mm, self.graph).T, strict=True))

    def choose(self, points_mm, scores, weight: float = 0.0):
        """The candidate [K] of each landmark, of points [K, N, 3] with scores [K, N], 0 where there is none.

        Args:
          points_mm: the best of each landmark first.
          scores: of the candidates.
          weight: of the prior against the scores; 0 uses the prior alone (Eq. 4).
        """
        if weight:
            return choose_by_scores(points_mm, scores, self.graph, self.fitted, weight)
        return choose_combination(points_mm, scores > 0, self.graph, self.fitted)[0]

    def summary(self) -> str:
        """One line: the numbers of ratios and of faces, and which cases lack which landmarks."""
        low, high = int(self.fitted.count.min()), int(self.fitted.count.max())
        faces = str(high) if low == high else f"{low} to {high}"
        lacked = "; ".join(f"{case} without {', '.join(names)}" for case, names in self.incomplete.items())
        return f"graph prior: {len(self.graph)} ratios fitted on {faces} faces" + (f"; {lacked}" if lacked else "")

    def check(self, landmarks: Sequence[str], source: str) -> None:
        """Raises `UserError` unless the prior's landmarks are the detector's, in the same order.

        Args:
          landmarks: the detector's.
          source: the file or run of the prior, for the message.
        """
        if tuple(landmarks) != self.landmarks:
            raise UserError(f"{source}: the graph prior must have the detector's landmarks in its order, "
                            f"{', '.join(landmarks)}; found {', '.join(self.landmarks)}; use the prior of the "
                            "detector's run")


def face_graph(landmarks: Sequence[str]) -> tuple[Ratio, ...]:
    """Those of the six ratios of the face whose landmarks are all among the names."""
    place = {name: number for number, name in enumerate(landmarks)}
    return tuple(Ratio(kind, (place[a], place[b]), (place[c], place[d])) for kind, (a, b), (c, d) in RATIOS
                 if {a, b, c, d} <= place.keys())


def other_graph(points_mm: np.ndarray) -> tuple[Ratio, ...]:
    """A graph of landmarks other than the face's: each edge between two of them over the longest one.

    The edge that is longest on average, as a landmark's error changes its length least. Mirrored pairs are unknown, so
    all ratios are asymmetric.

    Args:
      points_mm: [N, K, 3], K at least 3; NaN where missing.
    """
    edges = list(combinations(range(points_mm.shape[1]), 2))
    lengths = np.stack([np.linalg.norm(points_mm[:, a] - points_mm[:, b], axis=-1) for a, b in edges])
    known = np.isfinite(lengths)
    means = np.where(known, lengths, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    longest = edges[int(means.argmax())]
    return tuple(Ratio("asymmetric", edge, longest) for edge in edges if edge != longest)


def ratio_name(ratio: Ratio, landmarks: Sequence[str]) -> str:
    """A ratio as a formula: `d(nose_tip - chin) / d(left_eye - right_eye)`."""
    first, second = (f"d({landmarks[a]} - {landmarks[b]})" for a, b in (ratio.first, ratio.second))
    if ratio.kind == "symmetric":
        return f"(a - b) / (a + b) of a = {first}, b = {second}"
    return f"{first} / {second}"


def prior_of(cases: Iterable[tuple[str, np.ndarray | None, Sequence[float]]], landmarks: Sequence[str],
             candidates: int = 2, noise_mm: float = 0.0) -> FacePrior:
    """The prior of training cases, not augmented.

    The graph is the face's (`face_graph`); where the landmarks have no ratio of it, `other_graph`.

    Args:
      cases: (name, points_vox [K, 3] with NaN where missing, or None, spacing_mm [3]).
      landmarks: K names.
      candidates: of each landmark, among which the prior will choose.
      noise_mm: deviation of the Gaussian noise added to every coordinate, so that the ratios vary as those of
        predictions do, not only as those of faces; 0, the paper's, adds none.

    Raises:
      UserError: fewer than ten faces for a ratio; too few landmarks for a ratio, or too many to try every combination.
    """
    landmarks = tuple(landmarks)
    if len(landmarks) < 3:
        raise UserError(f"graph prior: expected at least 3 landmarks, found {len(landmarks)}; train without the prior")
    if candidates ** len(landmarks) > MOST_COMBINATIONS:
        raise UserError(f"graph prior: expected at most {MOST_COMBINATIONS} combinations to try, found {candidates} "
                        f"candidates of each of {len(landmarks)} landmarks; use fewer, or train without the prior")
    names, faces = [], []
    for name, points_vox, spacing_mm in cases:
        points = np.full((len(landmarks), 3), np.nan) if points_vox is None else np.asarray(points_vox, np.float64)
        names.append(name)
        faces.append(points * np.asarray(spacing_mm, np.float64))
    points = np.stack(faces) if faces else np.zeros((0, len(landmarks), 3))
    graph = face_graph(landmarks) or other_graph(points)
    count = np.isfinite(ratio_values(points, graph)).sum(axis=0)
    if count.min() < FEWEST:
        lacking = ratio_name(graph[int(count.argmin())], landmarks)
        raise UserError(f"graph prior: expected at least {FEWEST} training cases with the landmarks of each ratio, "
                        f"found {count.min()} of {len(names)} with those of {lacking}; add cases, or train without the "
                        "prior")
    there = np.isfinite(points).all(axis=-1)
    incomplete = {name: tuple(mark for mark, known in zip(landmarks, face, strict=True) if not known)
                  for name, face in zip(names, there, strict=True) if not face.all()}
    return FacePrior(landmarks, graph, _fitted(points, graph, noise_mm), incomplete, faces_mm=points, noise_mm=noise_mm)


def _fitted(points_mm: np.ndarray, graph: Sequence[Ratio], noise_mm: float) -> GraphPrior:
    """The ratios of faces [N, K, 3] with noise; `count` is of the faces themselves."""
    count = np.isfinite(ratio_values(points_mm, graph)).sum(axis=0)
    return replace(fit_prior(_noisy(points_mm, noise_mm), graph), count=count)


def _noisy(points_mm: np.ndarray, noise_mm: float) -> np.ndarray:
    """The faces [N, K, 3], or with noise `NOISY_COPIES` of each; deterministic."""
    if not noise_mm:
        return points_mm
    copies = np.repeat(points_mm, NOISY_COPIES, axis=0)
    return copies + np.random.default_rng(0).normal(0, noise_mm, copies.shape)


def write_prior(path: str | os.PathLike, prior: FacePrior) -> Path:
    """Writes a prior as JSON, a line for each ratio, atomically; the numbers are read back exactly."""
    lines = [json.dumps({"ratio": name, "kind": ratio.kind, "first": [prior.landmarks[k] for k in ratio.first],
                         "second": [prior.landmarks[k] for k in ratio.second], "mean": float(mean),
                         "deviation": float(deviation), "faces": int(count)}, allow_nan=False)
             for name, ratio, mean, deviation, count in zip(
                 prior.ratio_names, prior.graph, prior.fitted.mean, prior.fitted.deviation, prior.fitted.count,
                 strict=True)]
    head = json.dumps({"format_version": FORMAT_VERSION, "landmarks": list(prior.landmarks),
                       "incomplete": {case: list(names) for case, names in prior.incomplete.items()}})
    text = head[:-1] + ', "ratios": [\n  ' + ",\n  ".join(lines) + "\n]"
    if len(prior.faces_mm):
        faces = [[point.tolist() if np.isfinite(point).all() else None for point in face] for face in prior.faces_mm]
        text += f', "noise_mm": {json.dumps(prior.noise_mm)}, "faces_mm": [\n  '
        text += ",\n  ".join(json.dumps(face, allow_nan=False) for face in faces) + "\n]"
    return write_text(path, text + "}\n")


def read_prior(path: str | os.PathLike, landmarks: Sequence[str]) -> FacePrior:
    """The prior that `write_prior` wrote.

    Args:
      path: the file.
      landmarks: of the detector, in its order.

    Raises:
      UserError: the file is absent, damaged, of another version, or of other landmarks than the detector's.
    """
    found = read_json(path, "expected the graph prior of a run; train the run again")
    check_structure(found, _Saved, path)
    if found["format_version"] != FORMAT_VERSION:
        raise UserError(f"{path}: expected a graph prior of format {FORMAT_VERSION}, found format "
                        f"{found['format_version']}")
    try:
        prior = _prior_from(found)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: ratios must be of different landmarks of the prior; found {str(error)[:80]}; "
                        "train the run again") from None
    fitted = prior.fitted
    if not (len(prior.graph) and np.isfinite([fitted.mean, fitted.deviation]).all() and (fitted.deviation > 0).all()):
        raise UserError(f"{path}: expected ratios with finite means and deviations above 0; train the run again")
    prior.check(landmarks, str(path))
    return prior


def _prior_from(found: _Saved) -> FacePrior:
    """The prior in the content of a JSON file; raises `KeyError` or `ValueError` for a wrong edge or kind."""
    landmarks, entries = tuple(found["landmarks"]), found["ratios"]
    place = {name: number for number, name in enumerate(landmarks)}
    graph = tuple(Ratio(entry["kind"], *(tuple(place[name] for name in entry[edge]) for edge in ("first", "second")))
                  for entry in entries)
    mean, deviation = (np.array([float(entry[key]) for entry in entries]) for key in ("mean", "deviation"))
    count = np.array([entry["faces"] for entry in entries])
    incomplete = {case: tuple(names) for case, names in found["incomplete"].items()}
    faces = [[(math.nan,) * 3 if point is None else point for point in face] for face in found.get("faces_mm", [])]
    if any(len(face) != len(landmarks) for face in faces):
        raise ValueError(f"faces_mm of other than {len(landmarks)} landmarks")
    return FacePrior(landmarks, graph, GraphPrior(mean, deviation, count), incomplete,
                     faces_mm=np.array(faces, np.float64).reshape(-1, len(landmarks), 3),
                     noise_mm=float(found.get("noise_mm", 0.0)))
