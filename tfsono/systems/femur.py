"""`femur`: a run folder -> its module, and what the manifest of its SavedModel says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tfsono.configs.femur import FEMUR
from tfsono.errors import UserError
from tfsono.files import make_folder
from tfsono.inference.femur import FemurModule, RegionFinder, RegionReader, SliceModule
from tfsono.models import femur
from tfsono.systems.source import landmark_outputs, mask_output, source_of, volume_input
from tfsono.training.run import Run, load_weights, read_run

USE = ("Research use only, not a medical device: no diagnosis, not for clinical use. Trained on one kind of volume; "
       "other scanners, ages and diseases are untested, and the answer gives no sign of its own failure.")
FIRST_STAGE = "roi"  # folder in a run of the second stage: the first one's run, so that the run is whole by itself
KEPT = ("config.json", "data.json", "split.json")


def adopt_first_stage(run: Run) -> None:
    """Copies the run of `--roi_run` into the folder of a run of the second stage, unless it is there.

    Raises:
      UserError: not a run of unet_roi, without weights, or trained on cases that this run tests.
    """
    if not run.config.roi_run or (run.folder / FIRST_STAGE / "config.json").is_file():
        return
    first = checked_first_stage(run.config.roi_run, run.split)
    folder = make_folder(run.folder / FIRST_STAGE)
    shutil.copyfile(first.weights(), folder / first.weights().name)
    for name in reversed(KEPT):  # the config last: a folder with it is whole
        shutil.copyfile(first.folder / name, folder / name)


def checked_first_stage(path: str | os.PathLike, split: dict[str, list[str]]) -> Run:
    """The run of the first stage; raises as `adopt_first_stage`."""
    first = read_run(path, FEMUR)
    if first.config.network != "unet_roi":
        raise UserError(f"--roi_run {path}: expected a run of --variant unet_roi, found one of {first.config.network}")
    first.weights()
    seen = sorted(set(first.split["train"]) & set(split["test"]))
    if seen:
        raise UserError(f"--roi_run {path}: was trained on {seen[0]}, a test case here; train both with one --split")
    return first


def finder_of(run: Run, which: str = "auto") -> RegionFinder:
    """The first stage of a run of unet_roi."""
    network = femur.build(run.config)
    load_weights(run, network, which)
    return RegionFinder(network, run.config.stride, run.config.slice_batch, run.config.roi_smallest_part,
                        run.config.roi_part)


def load_run(run_dir: str | os.PathLike, which: str = "auto") -> tuple[Run, SliceModule | FemurModule]:
    """A run and its module, with the weights that it is tested with.

    A run of the second stage looks where its own copy of the first one finds bone; without one, everywhere.

    Args:
      run_dir: the run folder.
      which: `best`, `last`, or `auto`: the best where the run validated.

    Raises:
      UserError: not a run folder, or a run without weights.
    """
    run = read_run(run_dir, FEMUR)
    config = run.config
    if config.network == "unet_roi":
        return run, SliceModule(finder_of(run, which), config.spacing_mm)
    network = femur.build(config)
    load_weights(run, network, which)
    reader = RegionReader(network, config.stride, config.roi_margin, config.roi_ratio, config.heatmap_decode)
    folder = Path(run_dir) / FIRST_STAGE
    finder = finder_of(read_run(folder, FEMUR)) if (folder / "config.json").is_file() else None
    return run, FemurModule(reader, finder, config.spacing_mm)


def labels_of(run: Run) -> dict[str, int]:
    """Name -> value in the user's files, in the order of the network's classes from 1."""
    return {name: int(run.data["labels"][name]) for name in run.config.label_names}


def manifest_of(run: Run) -> dict:
    """What the SavedModel of a run expects and answers; `export_module` adds files, versions and the date."""
    config = run.config
    output = {
        "box": {"dtype": "int32", "shape": [6], "axes": "x,y,z",
                "values": "first and last + 1 voxel of where the first stage found bone, before it is enlarged"},
        "found": {"dtype": "bool", "shape": [], "values": "whether it found any; else the box is the whole volume"},
    }
    if "mask" in config.outputs:
        output["mask"] = mask_output()
    if "heatmaps" in config.outputs:
        output |= landmark_outputs(config.landmarks)
    functions = {"serving_default": "the answer"}
    if config.network != "unet_roi":
        functions["predict_in"] = "(volume, spacing_mm, box int32 [6]): the answer in a box that is known"
    return {
        "system": run.settings.system,
        "use": USE,
        "source": source_of(run),
        "input": volume_input(config.orientation),
        "output": output,
        "functions": functions,
        "labels": labels_of(run) if "mask" in config.outputs else {},
        "landmarks": list(config.landmark_names) if "heatmaps" in config.outputs else [],
        "cleaning": {"largest_component": config.largest_component, "fill_holes": config.fill_holes},
        "network": {"name": config.network, "spacing_mm": list(config.spacing_mm), "roi_margin": config.roi_margin,
                    "roi_ratio": config.roi_ratio, "precision": config.precision,
                    "first_stage": (run.folder / FIRST_STAGE / "config.json").is_file()},
    }
