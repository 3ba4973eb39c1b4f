"""`hip`: a run folder -> its module, and what the manifest of its SavedModel says."""

from __future__ import annotations

import dataclasses
import os

from tfsono.configs.hip import HIP
from tfsono.inference.hip import HipSegmenter
from tfsono.models import hip
from tfsono.systems.source import mask_output, source_of, volume_input
from tfsono.training.run import Run, load_weights, read_run

USE = ("Research use only, not a medical device: no diagnosis. Trained on one kind of image; other scanners, "
       "protocols, sexes, ages and diseases are untested, and the mask gives no sign of its own failure.")


def load_run(run_dir: str | os.PathLike, tiling: str = "") -> tuple[Run, HipSegmenter]:
    """A run and its module, with the weights that it is tested with.

    Args:
      run_dir: the run folder.
      tiling: another tiling than the run's: `paper`, `half`, `fast` or `whole`; "" keeps it.

    Raises:
      UserError: not a run folder, a run without weights, or no such tiling.
    """
    run = read_run(run_dir, HIP)
    if tiling:
        settings = run.settings.replaced("asked for at prediction", tiling=tiling)
        run = dataclasses.replace(run, settings=settings)
    network = hip.build(run.config)
    load_weights(run, network)
    return run, HipSegmenter.build(hip.main_network(network), run.config)


def labels_of(run: Run) -> dict[str, int]:
    """Name -> value in the user's files, in the order of the network's classes from 1."""
    return {name: int(run.data["labels"][name]) for name in run.config.label_names}


def manifest_of(run: Run) -> dict:
    """What the SavedModel of a run expects and answers; `export_module` adds files, versions and the date."""
    config = run.config
    return {
        "system": run.settings.system,
        "use": USE,
        "source": source_of(run),
        "input": volume_input(config.orientation),
        "output": {"mask": mask_output()},
        "labels": labels_of(run),
        "cleaning": {"largest_component": config.largest_component, "fill_holes": config.fill_holes},
        "network": {"spacing_mm": list(config.spacing_mm), "patch": list(config.patch),
                    "tiling": config.tiling, "tile_weighting": config.tile_weighting,
                    "tile_batch": config.tile_batch, "precision": config.precision},
    }
