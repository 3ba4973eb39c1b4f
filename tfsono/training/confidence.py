"""`confidence.json` of a run: a landmark's heatmap -> the probability of an error below 5 mm, by its validation cases.

    {"limit_mm": 5.0, "intercept": -2.1, "peak": 6.3, "second_peak": -1.9, "second_peak_far": 0.0,
     "cases": 20, "landmarks": 320, "right": 291}

The probability is 1 / (1 + exp(-(intercept + peak p + second_peak s + second_peak_far s d))) with p the peak, s the
second peak's share of it, d its distance in units of 50 mm, each within 0 to 1: `tfsono.metrics.calibration`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tfsono.files import read_json, write_text
from tfsono.manifest import PeakModel, check_limits
from tfsono.metrics.calibration import features, fitted
from tfsono.metrics.landmarks import radial_errors
from tfsono.structure import check_structure
from tfsono.training.record import recorded
from tfsono.training.run import DAMAGED, Run

CONFIDENCE = "confidence.json"
LIMIT_MM = 5.0
LEAST_CASES, LEAST_LANDMARKS = 5, 40


def keep_confidence(run: Run, cache, open_module: Callable) -> None:
    """Fits the model to the run's validation cases and writes it, as a file of the run; a line where they are too few.

    Args:
      run: trained.
      cache: of its cases.
      open_module: [run] -> its module with "points_vox", "peaks", "second_peaks" and "second_peak_mm".
    """
    names, landmarks = run.split["validation"], len(run.config.landmark_names)
    if (run.folder / CONFIDENCE).exists():
        return
    needed = max(LEAST_CASES, -(-LEAST_LANDMARKS // landmarks))
    with_points = [name for name in names if cache.points_vox(name) is not None]
    values, errors = (measured(open_module([run]), cache, with_points) if len(with_points) >= needed else
                      (np.zeros((0, 4)), np.zeros(0)))
    if len(errors) < LEAST_LANDMARKS:
        print(f"confidence of landmarks: not fitted, as {len(with_points)} validation cases have any, and {needed} "
              f"with {LEAST_LANDMARKS} landmarks are needed (--validation_cases {needed} or more)")
        return
    right = errors < LIMIT_MM
    model = {"limit_mm": LIMIT_MM, **fitted(values, right), "cases": len(with_points), "landmarks": len(right),
             "right": int(right.sum())}
    with recorded(run.folder, CONFIDENCE) as (path,):
        write_text(path, json.dumps(model, indent=2) + "\n")
    print(f"confidence of landmarks: fitted to {len(right)} of {len(with_points)} validation cases; "
          f"{100 * right.mean():.0f} % of them have errors below {LIMIT_MM:g} mm")


def measured(module: Callable, cache, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Of every landmark with a reference: its `features` [N, 4], and its error [N] in millimetres."""
    values, errors = [], []
    for name in names:
        case = cache.read(name)
        spacing = np.float32(case.own.spacing_mm)
        found = {key: value.numpy() for key, value in module(np.float32(case.own.array), spacing).items()}
        reference = case.own_points_vox(len(found["points_vox"]))
        errors.append(radial_errors(found["points_vox"] * spacing, reference * spacing))
        values.append(features(found["peaks"], found["second_peaks"], found["second_peak_mm"]))
    values, errors = np.concatenate(values), np.concatenate(errors)
    known = np.isfinite(errors) & np.isfinite(values).all(axis=1)
    return values[known], errors[known]


def confidence_models(runs: Sequence[Run]) -> list[PeakModel]:
    """The model of each run, whose mean is that of their ensemble; [] where one has none.

    None holds where a value was set after the training: peaks are others then.
    """
    files = confidence_files(runs)
    if len(files) < len(runs) or any(run.settings.at_test for run in runs):
        return []
    return [_read(path) for path in files]


def confidence_files(runs: Sequence[Run]) -> list[Path]:
    """The files of the runs that have one."""
    return [path for path in (run.folder / CONFIDENCE for run in runs) if path.exists()]


def _read(path: Path) -> PeakModel:
    model = read_json(path, DAMAGED)
    check_structure(model, PeakModel, path)
    check_limits([model], path, DAMAGED)
    return model
