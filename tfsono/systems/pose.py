"""The system `pose`; see `tfsono.systems` for what its names mean. A run also has a refiner.

A run whose network sees the body in its frame keeps a copy of the finder's run, so that it needs no other folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tfsono.configs.pose import MIDLINE, MIRRORED, POSE, ROBUST, SEGMENTS, PoseConfig
from tfsono.errors import UserError
from tfsono.predict.sources import Model, Options
from tfsono.reproduction import pose as reproduction
from tfsono.systems.manifest import confidence_entry, described, landmark_outputs, volume_input
from tfsono.systems.runs import (FINDER, check_agree, check_one_frame, copy_of, finder_in_manifest, frame_around,
                                 networks_of, read_runs)

if TYPE_CHECKING:
    from tfsono.planning.draft import Draft
    from tfsono.planning.facts import Facts
    import keras

    from tfsono.geometry.body_frame import BodyFrame
    from tfsono.inference.atlases import AtlasSet
    from tfsono.inference.pose import FramedReader, PoseModule, PoseReader, PoseRefiner
    from tfsono.inference.refine import RefineSettings
    from tfsono.metrics.pose_limits import PoseLimits
    from tfsono.predict.loop import Outputs
    from tfsono.predict.pose import PosePredictor
    from tfsono.training.run import Run

CHOICES = POSE
PAPER = reproduction.PAPER
TAKES = "volumes"
OPTIONS = ("refine",)
TOGETHER = "networks"
USE = ("Research use only, not a medical device: no diagnosis, not for clinical use. Trained on one kind of volume; "
       "other scanners, ages and poses are untested, and the prediction gives no sign of its own failure.")
AROUND = ("network.onnx: [N, x, y, z, 1], the volume resampled to network.spacing_mm, rescaled by network.ratio, "
          "standardised, padded -> heatmaps, of an ensemble also its members'. After it: their maxima or centroids, on "
          "the volume's grid. finder.onnx, where there is one, by network.finder in the same way; its midline rotates "
          "the volume into the frame of network.onnx.")


def load_runs(folders: Sequence[str | os.PathLike], which: str = "auto", options: Options = Options()
              ) -> tuple[list[Run], PoseModule | PoseRefiner]:
    """Runs and their module with the `best` weights, the `last`, or `auto`: the best if there was validation.

    With `options.refine` their refiner replaces the module.
    """
    runs = read_runs(folders, POSE, options.precision)
    module = _module_of(runs, which, options.precision, fold=not options.refine)
    return runs, load_refiner(runs[0], module) if options.refine else module


def module_of(runs: Sequence[Run], which: str = "auto") -> PoseModule:
    """The module of runs: the mean of their heatmaps; in a frame, with the finder of the first."""
    return _module_of(runs, which)


def module_to_refine(runs: Sequence[Run], which: str = "auto") -> PoseModule:
    """As `module_of`, for `load_refiner`, which trains: moving statistics are not folded into the convolutions."""
    return _module_of(runs, which, fold=False)


def _module_of(runs: Sequence[Run], which: str, precision: str = "", fold: bool = True) -> PoseModule:
    """As `module_of`, or without `fold` as `module_to_refine`; `precision` replaces that of the finder."""
    from tfsono.inference.pose import PoseModule
    from tfsono.models import pose
    from tfsono.models.mean import mean_network

    check_together(runs)
    network = mean_network(networks_of(runs, pose.build, which, fold), members=("heatmaps",))
    return PoseModule(reader_in_run(network, runs[0], precision, fold))


def reader_in_run(network, run: Run, precision: str = "", fold: bool = False) -> PoseReader | FramedReader:
    """The reader of a network of the run; one that sees bodies in their frame with the run's copy of the finder.

    `fold` folds the moving statistics of the finder, which rounds differently than the validation of trainings does.
    """
    from tfsono.inference.pose import FramedReader
    from tfsono.models import pose

    reader = reader_of(network, run.config)
    if run.config.frame == "volume":
        return reader
    finders = copy_of(run, FINDER, POSE, precision)
    finder = reader_of(networks_of(finders, pose.build, fold=fold)[0], finders[0].config)
    return FramedReader(reader, finder, frame_of(atlases_of(run), run.config))


def frame_of(atlases: AtlasSet, config: PoseConfig) -> BodyFrame:
    """The frame of the bodies of an atlas set.

    Raises:
      UserError: there is no midline, or no atlas has all of it.
    """
    return frame_around(atlases.poses_mm, atlases.names, MIDLINE, config)


def atlases_of(run: Run) -> AtlasSet:
    """The atlas set of a run: the poses of its training cases.

    Raises:
      UserError: the run has none, or one of other landmarks.
    """
    from tfsono.inference.atlases import atlases_file, read_atlases

    return read_atlases(atlases_file(run.folder), run.config.landmark_names)


def check_together(runs: Sequence[Run]) -> None:
    """Raises `UserError` for runs whose landmarks, volumes or training poses (for a frame) differ from the first's."""
    check_agree(runs, ("landmark_names", "orientation", "spacing_mm", "ratio", "stride", "frame", "frame_margin_mm"))
    check_one_frame(runs)


def reader_of(network, config: PoseConfig) -> PoseReader:
    """The network with its input and decoding, by the config."""
    from tfsono.inference.pose import PoseReader

    return PoseReader(network, config.stride, config.ratio, config.heatmap_decode, spacing_mm=config.spacing_mm,
                      sigma_mm=config.heatmap_sigma_mm)


def load_refiner(run: Run, module: PoseModule) -> PoseRefiner:
    """The refiner of the module's predictions on each volume (Sec. 2.2), with the run's training poses as atlases.

    The module is one of `module_to_refine`.

    Raises:
      UserError: the run has no atlas set, or one of other landmarks.
    """
    from tfsono.inference.pose import PoseRefiner

    return PoseRefiner(module, atlases_of(run), replace(refinement_of(run.config), expected_mm=expected_error(run)))


def expected_error(run: Run) -> float:
    """The best mean error on validation cases, mm; infinite where a refinement is never declined.

    Raises:
      UserError: `refine_declines` without validation cases.
    """
    if not run.config.refine_declines:
        return math.inf
    from tfsono.training.run import read_history
    from tfsono.training.validation import MEAN_RADIAL_ERROR

    column, path = MEAN_RADIAL_ERROR.column, run.folder / "history.csv"
    errors = [row[column] for row in read_history(path) if column in row]
    if not errors:
        raise UserError(f"{path}: refine_declines needs a column {column}, found none; train with validation cases, or "
                        "set refine_declines=False")
    return min(errors)


def refinement_of(config: PoseConfig) -> RefineSettings:
    """The settings of the refinement, by the config."""
    from tfsono.inference.atlases import robust_places
    from tfsono.inference.refine import RefineSettings

    names, midline = config.landmark_names, config.refine_register == "midline"
    pairs = [tuple(map(names.index, pair)) for pair in MIRRORED if set(pair) <= set(names)]
    return RefineSettings(
        atlases=config.refine_atlases, iterations=config.refine_iterations, learning_rate=config.refine_learning_rate,
        beta_1=config.adam_beta_1, norm=config.refine_norm, sigma_mm=config.heatmap_sigma_mm,
        robust=robust_places(names, MIDLINE if midline else ROBUST), decode=config.heatmap_decode,
        pairs=tuple(pairs) if midline else ())


def bare_networks(module: PoseModule) -> dict[str, keras.Model]:
    """The networks of a module by the stem of their ONNX file; `AROUND` says what stands around them."""
    return {"network": module.network, **({"finder": module.finder} if module.finder else {})}


def limits_of(run: Run) -> PoseLimits:
    """What no pose of the run's training cases is like."""
    from tfsono.metrics.pose_limits import pose_limits

    atlases = atlases_of(run)
    return pose_limits(atlases.poses_mm, atlases.names, SEGMENTS, MIRRORED, MIDLINE)


def manifest_of(runs: Sequence[Run]) -> dict:
    """The manifest of the runs' SavedModel; `export_module` adds files, versions and the date."""
    config = runs[0].config
    content = confidence_entry(runs) | described(
        runs, USE, inputs=volume_input(config.orientation), output=landmark_outputs(config.landmarks, len(runs)),
        functions={"serving_default": "the prediction without refinement, which trains and needs the run folder"},
        landmarks=config.landmark_names, postprocessing={"in_graph": True},
        network={"name": config.method, "spacing_mm": list(config.spacing_mm), "ratio": config.ratio,
                 "precision": config.precision, "frame": config.frame,
                 **finder_in_manifest(runs[0], POSE, lambda: frame_of(atlases_of(runs[0]), config))})
    return {**content, "poses": limits_of(runs[0]).described()}


def outputs() -> Outputs:
    """The inputs and output files of a prediction."""
    from tfsono.predict.pose import OUTPUTS

    return OUTPUTS


def predictor(models: Iterable[Model], key: str, options: Options) -> PosePredictor:
    """The predictor of one model; `key` identifies all that a prediction depends on."""
    from tfsono.predict.pose import predictor_of

    (model,) = models
    return predictor_of(model, key, options)


def draft(facts: Facts, share: float = 1.0) -> Draft:
    """The settings of trainings on such data, by the rules of docs/planning.md; `share` of the voxels of a step."""
    from tfsono.planning import pose

    return pose.draft(facts, share)


def write_phantoms(folder: str | os.PathLike, cases: int, seed: int, config: PoseConfig) -> Path:
    """Writes a dataset of phantoms of the config's size."""
    from tfsono.phantoms.dataset import write_pose_dataset

    return write_pose_dataset(
        folder, cases, seed, config.phantom_size, config.phantom_spacing_mm, weeks=config.phantom_weeks,
        turn_degrees=config.phantom_rotation_degrees, variety=config.phantom_variety)
