"""`head`: a run folder -> its module, and what the manifest of its SavedModel says."""

from __future__ import annotations

import os

from tfsono.configs.head import HEAD
from tfsono.geometry.head_labels import DEFAULT_ORDER
from tfsono.inference.head import HeadLandmarkModule, HeadSegmentationModule, head_module
from tfsono.models import head
from tfsono.systems.source import source_of
from tfsono.training.run import Run, load_weights, read_run

USE = ("Research use only, not a medical device: no diagnosis, not for clinical use. Trained on one kind of picture; "
       "other scanners, planes, ages and diseases are untested, and the answer gives no sign of its own failure.")
MEASURING = ("threshold", "morphology_px", "area_px", "ransac_iterations", "ransac_points", "ransac_inlier_px",
             "axis_ratio", "dropout", "monte_carlo_samples", "seed")


def load_run(run_dir: str | os.PathLike, which: str = "auto"
             ) -> tuple[Run, HeadSegmentationModule | HeadLandmarkModule]:
    """A run and its module, with the weights that it is tested with.

    Args:
      run_dir: the run folder.
      which: `best`, `last`, or `auto`: the best where the run validated.

    Raises:
      UserError: not a run folder, or a run without weights.
    """
    run = read_run(run_dir, HEAD)
    network = head.build(run.config)
    load_weights(run, network, which)
    return run, head_module(network, run.config)


def measuring_of(run: Run) -> dict:
    """What turns the module's answer into measurements, as a manifest holds it; `predict` reads it from there."""
    values = {name: getattr(run.config, name) for name in MEASURING}
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    order = run.data.get("end_order") or {"ofd_direction": list(DEFAULT_ORDER.ofd_direction),
                                          "bpd_direction": list(DEFAULT_ORDER.bpd_direction)}
    return {"part": run.config.part, "denoise": run.config.denoise, "end_order": order, **values}


def manifest_of(run: Run) -> dict:
    """What the SavedModel of a run expects and answers; `export_module` adds files, versions and the date."""
    config = run.config
    answer = {"probability": {"dtype": "float32", "shape": ["Y", "X"], "axes": "y,x",
                              "values": "of the head with all that is inside the skull, on the picture's own pixels"}}
    if config.part == "landmarks":
        answer = {"points_px": {"dtype": "float32", "shape": [4, 2], "axes": "x,y",
                                "values": "OFD 1, OFD 2, BPD 1, BPD 2; indices of the picture's own pixel centres"}}
    return {
        "system": run.settings.system,
        "use": USE,
        "source": source_of(run),
        "input": {"picture": {"dtype": "float32", "shape": ["Y", "X"], "axes": "y,x",
                              "values": "grey levels 0 to 255; any size"}},
        "output": answer,
        "functions": {"serving_default": "the answer", "sample": "(picture, seed int32): with dropout on"},
        "measuring": measuring_of(run),
        "labels_used": run.data.get("labels_used", []),
        "outline_margin_px": run.data.get("outline_margin_px"),  # taken off the training masks
        "network": {"name": config.network, "input_size": list(config.input_size), "clahe_clip": config.clahe_clip,
                    "clahe_tiles": config.clahe_tiles, "precision": config.precision},
    }
