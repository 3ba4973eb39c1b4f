"""`pose`: a run folder -> its module and its refiner, and what the manifest of its SavedModel says."""

from __future__ import annotations

import os

from tfsono.configs.pose import POSE, ROBUST
from tfsono.inference.atlases import LIBRARY, read_library, robust_places
from tfsono.inference.pose import PoseModule, PoseReader, PoseRefiner
from tfsono.inference.refine import RefineSettings
from tfsono.models import pose
from tfsono.systems.source import landmark_outputs, source_of, volume_input
from tfsono.training.run import Run, load_weights, read_run

USE = ("Research use only, not a medical device: no diagnosis, not for clinical use. Trained on one kind of volume; "
       "other scanners, ages and poses are untested, and the answer gives no sign of its own failure.")


def load_run(run_dir: str | os.PathLike, which: str = "auto") -> tuple[Run, PoseModule]:
    """A run and its module, with the weights that it is tested with.

    Args:
      run_dir: the run folder.
      which: `best`, `last`, or `auto`: the best where the run validated.

    Raises:
      UserError: not a run folder, or a run without weights.
    """
    run = read_run(run_dir, POSE)
    network = pose.build(run.config)
    load_weights(run, network, which)
    return run, PoseModule(reader_of(network, run.config))


def reader_of(network, config) -> PoseReader:
    """The network and what it is fed with, by the config."""
    return PoseReader(network, config.stride, config.ratio, config.heatmap_decode, config.spacing_mm)


def load_refiner(run: Run, module: PoseModule) -> PoseRefiner:
    """What refines the module's answers on each volume (Sec. 2.2), with the poses that the run was trained on.

    Raises:
      UserError: the run has no library, or one of other landmarks.
    """
    library = read_library(run.folder / LIBRARY, run.config.landmark_names)
    return PoseRefiner(module, library, refinement_of(run.config))


def refinement_of(config) -> RefineSettings:
    """The numbers of the refinement, by the config."""
    return RefineSettings(config.refine_atlases, config.refine_iterations, config.refine_learning_rate,
                          config.adam_beta_1, config.refine_norm, config.heatmap_sigma_mm,
                          robust_places(config.landmark_names, ROBUST), config.heatmap_decode)


def manifest_of(run: Run) -> dict:
    """What the SavedModel of a run expects and answers; `export_module` adds files, versions and the date."""
    config = run.config
    return {
        "system": run.settings.system,
        "use": USE,
        "source": source_of(run),
        "input": volume_input(config.orientation),
        "output": landmark_outputs(config.landmarks),
        "functions": {"serving_default": "the answer, without refinement, which trains and needs the run folder"},
        "landmarks": list(config.landmark_names),
        "network": {"name": config.method, "spacing_mm": list(config.spacing_mm), "ratio": config.ratio,
                    "precision": config.precision},
    }
