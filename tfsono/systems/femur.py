"""The system `femur`; see `tfsono.systems` for what its names mean.

A run of the second stage keeps a copy of the first stage's run, so that it needs no other folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfsono.configs.femur import FEMUR, FemurConfig
from tfsono.errors import UserError
from tfsono.predict.sources import Model, Options
from tfsono.reproduction import femur as reproduction
from tfsono.systems.manifest import (
    array,
    confidence_entry,
    described,
    labels_of,
    landmark_outputs,
    mask_output,
    mask_postprocessing,
    volume_input,
)
from tfsono.systems.runs import (
    check_agree,
    check_first,
    copy_of,
    has_copy,
    keep_copy,
    networks_of,
    read_runs,
)

if TYPE_CHECKING:
    from tfsono.planning.draft import Draft
    from tfsono.planning.facts import Facts
    import keras

    from tfsono.inference.femur import FemurModule, RegionFinder, SliceModule
    from tfsono.predict.femur import FemurPredictor
    from tfsono.predict.loop import Outputs
    from tfsono.training.run import Run

CHOICES = FEMUR
PAPER = reproduction.PAPER
TAKES = "volumes"
OPTIONS = ()
TOGETHER = "networks"
USE = ("Research use only, not a medical device: no diagnosis, not for clinical use. Trained on one kind of volume; "
       "other scanners, ages and diseases are untested, and the prediction gives no sign of its own failure.")
AROUND = ("first_stage.onnx, where there is one: [N, x, y, 1 or more], standardised slices along z, each with its "
          "neighbours -> logits of the mask; where it normalises by the batch (roi_norm_at_test of its training), N "
          "slices spread over the volume, as slice_batch. network.onnx: [N, x, y, z, 1], the region around the first "
          "stage's bone, enlarged by network.roi_margin, rescaled by network.roi_ratio and standardised -> logits of "
          "the mask, heatmaps, of an ensemble also its members'; network.roi_passes times, each in a box with the mask "
          "before. After it: arg-max and maxima, resampled to the volume, postprocessing; by network.tips_from_mask, "
          "landmarks from the ends of the mask.")
FIRST_STAGE = "roi"  # folder of the first stage's run in a run of the second stage


def adopt_first_stage(run: Run) -> None:
    """Copies the run of `--roi_run` into the folder of a run of the second stage, unless it is there already.

    Raises:
      UserError: not a run of unet_roi, without weights, or trained on cases that this run tests.
    """
    if run.config.roi_run and not has_first_stage(run):
        keep_copy(checked_first_stage(run.config.roi_run, run.split), run, FIRST_STAGE)


def checked_first_stage(path: str | os.PathLike, split: dict[str, list[str]]) -> Run:
    """The run of the first stage; raises as `adopt_first_stage`."""
    (first,) = read_runs([path], FEMUR)
    if first.config.network != "unet_roi":
        raise UserError(f"--roi_run {path}: expected a run of --variant unet_roi, found one of {first.config.network}")
    check_first(first, split, "--roi_run")
    return first


def load_runs(folders: Sequence[str | os.PathLike], which: str = "auto", options: Options = Options()
              ) -> tuple[list[Run], SliceModule | FemurModule]:
    """Runs and their module with the `best` weights, the `last`, or `auto`: the best if there was validation."""
    runs = read_runs(folders, FEMUR, options.precision)
    return runs, _module_of(runs, which, options.precision)


def module_of(runs: Sequence[Run], which: str = "auto") -> SliceModule | FemurModule:
    """The module of runs: the mean of their probabilities and heatmaps in one region.

    The region is where the first run's copy of the first stage finds bone; without one, the whole volume.
    """
    return _module_of(runs, which)


def _module_of(runs: Sequence[Run], which: str, precision: str = "") -> SliceModule | FemurModule:
    """As `module_of`; `precision` replaces that of the first stage."""
    from tfsono.inference.components import Postprocessing
    from tfsono.inference.femur import FemurModule, RegionReader, SliceModule
    from tfsono.models import femur
    from tfsono.models.mean import mean_network

    check_together(runs)
    config = runs[0].config
    postprocessing = Postprocessing(config.classes, config.largest_component, config.fill_holes)
    if config.network == "unet_roi":
        return SliceModule(finder_of(runs, which), config.spacing_mm, postprocessing)
    network = mean_network(networks_of(runs, femur.build, which, fold=True), logits=("mask",), members=("heatmaps",))
    reader = RegionReader(network, config.stride, margin=config.roi_margin, ratio=config.roi_ratio,
                          decode=config.heatmap_decode, sigma=config.heatmap_sigma, passes=config.roi_passes,
                          from_mask=config.tips_from_mask)
    finder = finder_of(first_stage_of(runs[0], precision)) if has_first_stage(runs[0]) else None
    return FemurModule(reader, finder, config.spacing_mm, postprocessing)


def finder_of(runs: Sequence[Run], which: str = "auto") -> RegionFinder:
    """The first stage of runs of unet_roi: the mean of their probabilities."""
    from tfsono.inference.femur import RegionFinder
    from tfsono.models import femur
    from tfsono.models.mean import mean_network

    config = runs[0].config
    network = mean_network(networks_of(runs, femur.build, which, fold=True), logits=("mask",))
    return RegionFinder(network, config.stride, config.slice_batch, config.roi_smallest_part, part=config.roi_part,
                        every=config.roi_every)


def first_stage_of(run: Run, precision: str = "") -> list[Run]:
    """The run of the first stage in a run of the second."""
    return copy_of(run, FIRST_STAGE, FEMUR, precision)


def has_first_stage(run: Run) -> bool:
    """Whether a run of the second stage keeps a run of the first one."""
    return has_copy(run, FIRST_STAGE)


def check_together(runs: Sequence[Run]) -> None:
    """Raises `UserError` for runs whose labels, landmarks, outputs or volumes differ from the first one's."""
    of_slices = ("roi_slices",) * (runs[0].config.network == "unet_roi")
    check_agree(runs, ("outputs", "label_names", "landmark_names", "orientation", "spacing_mm", "stride", "roi_ratio",
                       *of_slices))


def bare_networks(module: SliceModule | FemurModule) -> dict[str, keras.Model]:
    """The networks of a module by the stem of their ONNX file; `AROUND` says what stands around them."""
    from tfsono.inference.femur import SliceModule

    if isinstance(module, SliceModule):
        return {"first_stage": module.network}
    found = {"network": module.reader.network}
    return {**found, "first_stage": module.finder.network} if module.finder else found


def manifest_of(runs: Sequence[Run]) -> dict:
    """The manifest of the runs' SavedModel; `export_module` adds files, versions and the date."""
    config = runs[0].config
    output = {
        "box": array("int32", [6], "voxel", "x,y,z",
                     "where the first stage found bone, and the pass before: first and last + 1 voxel, without margin"),
        "found": array("bool", [], "1", "", "whether it found any; if not, the box is the whole volume"),
    }
    if "mask" in config.outputs:
        output["mask"] = mask_output(len(config.label_names))
    if "heatmaps" in config.outputs:
        output |= landmark_outputs(config.landmarks, len(runs))
    if config.landmarks == 2 and len(config.outputs) == 2:
        output["ends_vox"] = array("float32", [2, 3], "voxel", "x,y,z",
                                   "the mask's end for each landmark, a second opinion; NaN without a mask")
        output["doubtful"] = array("bool", [2], "1", "",
                                   "a low peak, or a point far from its end; with network.tips_from_mask the point is "
                                   "that end")
    functions = {"serving_default": "the prediction"}
    if config.network != "unet_roi":
        functions["predict_in"] = "(volume, spacing_mm, box int32 [6]): the prediction in a given box"
    return confidence_entry(runs) | described(
        runs, USE, inputs=volume_input(config.orientation), output=output, functions=functions,
        labels=labels_of(runs[0]) if "mask" in config.outputs else {},
        landmarks=config.landmark_names if "heatmaps" in config.outputs else (),
        postprocessing=mask_postprocessing(config.largest_component, config.fill_holes),
        network={"name": config.network, "spacing_mm": list(config.spacing_mm), "roi_margin": config.roi_margin,
                 "roi_ratio": config.roi_ratio, "roi_passes": config.roi_passes,
                 "tips_from_mask": config.tips_from_mask, "precision": config.precision,
                 "first_stage": has_first_stage(runs[0])})


def outputs() -> Outputs:
    """The inputs and output files of a prediction."""
    from tfsono.predict.femur import OUTPUTS

    return OUTPUTS


def predictor(models: Iterable[Model], key: str, options: Options) -> FemurPredictor:
    """The predictor of one model; `key` identifies all that a prediction depends on."""
    from tfsono.predict.femur import predictor_of

    (model,) = models
    return predictor_of(model, key, options)


def draft(facts: Facts, share: float = 1.0) -> Draft:
    """The settings of trainings on such data, by the rules of docs/planning.md; `share` of the voxels of a step."""
    from tfsono.planning import femur

    return femur.draft(facts, share)


def write_phantoms(folder: str | os.PathLike, cases: int, seed: int, config: FemurConfig) -> Path:
    """Writes a dataset of phantoms of the config's size."""
    from tfsono.phantoms.dataset import write_femur_dataset

    return write_femur_dataset(folder, cases, seed, config.phantom_size, config.phantom_spacing_mm,
                               weeks=config.phantom_weeks)
