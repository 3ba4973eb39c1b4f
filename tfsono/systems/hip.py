"""`hip`: a run folder -> its module, and what the manifest of its SavedModel says."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from tfsono.configs.hip import HIP
from tfsono.errors import UserError
from tfsono.inference.hip import HipModule
from tfsono.models import hip
from tfsono.systems.source import mask_output, source_of, volume_input
from tfsono.training.run import Run, load_weights, read_run

USE = ("Research use only, not a medical device: no diagnosis. Trained on one kind of image; other scanners, "
       "protocols, sexes, ages and diseases are untested, and the mask gives no sign of its own failure.")


def load_run(run_dir: str | os.PathLike, tiling: str = "", also: Sequence[str | os.PathLike] = ()
             ) -> tuple[Run, HipModule]:
    """A run and its module, with the weights that it is tested with.

    Args:
      run_dir: the run folder.
      tiling: another tiling than the run's: `paper`, `half`, `fast` or `whole`; "" keeps it.
      also: further run folders, whose networks answer together with its own.

    Raises:
      UserError: not a run folder, a run without weights, no such tiling, or runs that cannot answer together.
    """
    run, *others = (read_run(folder, HIP) for folder in (run_dir, *also))
    if tiling:
        settings = run.settings.replaced("asked for at prediction", tiling=tiling)
        run = dataclasses.replace(run, settings=settings)
    return run, segmenter_of([run, *others])


def segmenter_of(runs: Sequence[Run], weights: str = "auto") -> HipModule:
    """The module of one run, or of several that answer together, tiled as the first one's config says.

    Args:
      runs: the first one's volumes are those that all take.
      weights: which of each: `best`, `last` or `auto`.

    Raises:
      UserError: a run without weights, or runs that cannot answer together.
    """
    check_together(runs)
    networks = []
    for run in runs:
        networks.append(hip.build(run.config))
        load_weights(run, networks[-1], weights)
    return HipModule.build(hip.main_network(*networks), runs[0].config)


def check_together(runs: Sequence[Run]) -> None:
    """Raises `UserError` for runs of other labels, or made for other volumes or tiles, than the first one."""
    first = runs[0]
    for run in runs[1:]:
        for name in ("label_names", "orientation", "spacing_mm"):
            found, wanted = getattr(run.config, name), getattr(first.config, name)
            if found != wanted:
                raise UserError(f"{run.folder}: --{name} {found}, and {first.folder} has {wanted}; "
                                "only runs that agree in it answer together")
        if any(side % run.config.stride for side in first.config.patch):
            raise UserError(f"{run.folder}: takes multiples of {run.config.stride} voxels, and the --patch of "
                            f"{first.folder} is {first.config.patch}; name {run.folder} first")


def labels_of(run: Run) -> dict[str, int]:
    """Name -> value in the user's files, in the order of the network's classes from 1."""
    return {name: int(run.data["labels"][name]) for name in run.config.label_names}


def manifest_of(run: Run, also: Sequence[str | os.PathLike] = ()) -> dict:
    """What the SavedModel of a run, or of several together, says; `export_module` adds files, versions and the date."""
    config = run.config
    return {
        "system": run.settings.system,
        "use": USE,
        "source": source_of(run),
        "together_with": [source_of(read_run(folder, HIP)) for folder in also],
        "input": volume_input(config.orientation),
        "output": {"mask": mask_output()},
        "labels": labels_of(run),
        "cleaning": {"largest_component": config.largest_component, "fill_holes": config.fill_holes},
        "network": {"spacing_mm": list(config.spacing_mm), "patch": list(config.patch),
                    "tiling": config.tiling, "tile_weighting": config.tile_weighting,
                    "tile_batch": config.tile_batch, "precision": config.precision},
    }
