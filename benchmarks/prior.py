"""The effect of the graph prior of `face` on the predictions of an evaluation, fitted with more and more noise.

    python evaluate/face.py --data face.h5 --runs RUN ... --out results
    python benchmarks/prior.py --data face.h5 --results results --runs RUN ... [--noise_mm 0 1 2 4 8] [--weight 0 0.3 1]

The prior does not change the network's candidates. Noise 0 and weight 0 are the paper's prior, fitted on reference
landmarks and without scores. Rows are means over the test cases and runs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.surroundings import prepare_tensorflow

prepare_tensorflow()

import numpy as np

from tfsono.configs.face import FACE
from tfsono.data.cache import Cache
from tfsono.geometry.boxes import centred_boxes, iou
from tfsono.inference.face_prior import prior_of
from tfsono.report.tables import read_cases
from tfsono.training.run import read_run


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/prior.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the cache")
    parser.add_argument("--results", required=True, help="folder of evaluate/face.py")
    parser.add_argument("--runs", required=True, nargs="+", help="run folders that were evaluated")
    parser.add_argument("--noise_mm", type=float, nargs="+", default=[0.0, 1.0, 2.0, 4.0, 8.0])
    parser.add_argument("--weight", type=float, nargs="+", default=[0.0, 0.3, 1.0], help="of the prior; 0: Eq. 4")
    arguments = parser.parse_args(argv)
    rows = [row for row in read_cases(Path(arguments.results) / "cases.csv") if not row["prior"]]
    print(f"{'noise mm':>8}  {'weight':>8}  {'distance mm':>11}  {'IoU %':>6}  {'AP50 %':>6}  {'changed %':>9}")
    with Cache(arguments.data, "face") as cache:
        for noise in [None, *arguments.noise_mm]:
            priors = {folder.name: prior_for(folder, cache, noise) for folder in map(Path, arguments.runs)}
            for weight in [0.0] if noise is None else arguments.weight:
                found = [measured(Path(arguments.results), row, cache, priors[row["run"]], weight)
                         for row in rows if row["run"] in priors]
                away, overlap, changed = (np.concatenate(parts) for parts in zip(*found, strict=True))
                names = ("no prior", "") if noise is None else (f"{noise:g}", f"{weight:g}" if weight else "Eq. 4")
                print(f"{names[0]:>8}  {names[1]:>8}  {np.nanmean(away):11.2f}  {100 * np.nanmean(overlap):6.1f}  "
                      f"{100 * (overlap >= 0.5).mean():6.1f}  {100 * changed.mean():9.1f}", flush=True)


def prior_for(folder: Path, cache: Cache, noise_mm: float | None):
    """The prior of a run's training cases with this noise; None for none."""
    if noise_mm is None:
        return None
    run = read_run(folder, FACE)
    cases = ((name, cache.points_vox(name), cache.spacing_mm(name)) for name in run.split["train"])
    return prior_of(cases, run.config.landmark_names, run.config.candidates, noise_mm)


def measured(results: Path, row: dict, cache: Cache, prior, weight: float) -> tuple[np.ndarray, ...]:
    """Distance in mm, IoU, and whether the prior changed the candidate, for each landmark of a case."""
    with np.load(results / "runs" / row["prediction"], allow_pickle=False) as kept:
        boxes, scores = kept["candidate_boxes_vox"][:, :2], kept["candidate_scores"][:, :2]
        reference = kept["reference"]
        targets = centred_boxes(reference, kept["sides"])
    spacing = np.array(cache.read(row["case"]).own.spacing_mm)
    centres = (boxes[..., :3] + boxes[..., 3:]) / 2
    chosen = np.zeros(len(boxes), int)
    if prior is not None:
        chosen = np.asarray(prior.choose(np.float32(centres * spacing), np.float32(scores), weight))
    places = np.arange(len(boxes)), chosen
    return (np.linalg.norm((centres[places] - reference) * spacing, axis=1), iou(boxes[places], targets), chosen > 0)


if __name__ == "__main__":
    main()
