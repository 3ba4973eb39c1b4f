"""The system `face`; see `tfsono.systems` for what its names mean."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfsono.config import assignment, each_once
from tfsono.configs.face import FACE, MIDLINE, FaceConfig
from tfsono.predict.sources import Model, Options
from tfsono.reproduction import face as reproduction
from tfsono.systems.manifest import array, described, volume_input
from tfsono.systems.runs import (FINDER, check_agree, check_one_frame, copy_of, finder_in_manifest, frame_around,
                                 networks_of, read_runs, with_values)

if TYPE_CHECKING:
    from tfsono.planning.draft import Draft
    from tfsono.planning.facts import Facts
    import keras

    from tfsono.geometry.body_frame import BodyFrame
    from tfsono.inference.face import FaceModule, FaceReader, FramedFaceReader
    from tfsono.inference.face_prior import FacePrior
    from tfsono.predict.face import FacePredictor
    from tfsono.predict.loop import Outputs
    from tfsono.training.run import Run

CHOICES = FACE
PAPER = reproduction.PAPER
TAKES = "volumes"
OPTIONS = ("candidates", "set")
TOGETHER = "networks"
USE = ("Research use only, not a medical device: no diagnosis, not for clinical use. Trained on one kind of volume; "
       "other scanners, ages and views are untested. A low score may be the only sign of a wrong landmark.")
AROUND = ("network.onnx: [N, x, y, z, 1], the volume resampled to network.spacing_mm, standardised, padded -> logits "
          "and offsets of the anchors, or heatmaps. After it: decoding, non-maximum suppression, the prior. "
          "finder.onnx, where there is one, by network.finder in the same way; its midline rotates the volume into the "
          "frame of network.onnx.")


def load_runs(folders: Sequence[str | os.PathLike], which: str = "auto", options: Options = Options()
              ) -> tuple[list[Run], FaceModule]:
    """Runs and their module with the `best` weights, the `last`, or `auto`: the best if there was validation."""
    values = each_once(assignment(FACE, text) for text in options.set)
    runs = with_values(read_runs(folders, FACE, options.precision), values)
    return runs, module_of(runs, which)


def module_of(runs: Sequence[Run], which: str = "auto") -> FaceModule:
    """The module of runs: the mean of their heatmaps, or of their probabilities and offsets.

    Where it helps (`prior_choice.choice_of`), the first run's graph prior chooses among the candidates.
    """
    from tfsono.inference.prior_choice import choice_of

    return measured_module(runs, which, with_prior=choice_of(runs).used)


def measured_module(runs: Sequence[Run], which: str = "auto", with_prior: bool = True) -> FaceModule:
    """The module of runs with the first one's prior, or without, whether it helps or not."""
    from tfsono.inference.face import FaceModule
    from tfsono.models import face

    check_together(runs)
    networks = networks_of(runs, face.build, which, fold=True, startable=len(runs) == 1)
    network = face.mean_of(networks, runs[0].config)
    prior = prior_in_run(runs[0]) if with_prior else None
    return FaceModule(reader_in_run(network, runs[0], fold=True), prior, runs[0].config.prior_weight)


def reader_in_run(network, run: Run, fold: bool = False) -> FaceReader | FramedFaceReader:
    """The reader of a network of the run; one that sees faces in their frame with the run's copy of the finder.

    `fold` folds the moving statistics of the finder, which rounds differently than the validation of trainings does.
    """
    from tfsono.inference.face import FramedFaceReader
    from tfsono.models import face

    reader = reader_of(network, run.config)
    if run.config.frame == "volume":
        return reader
    finders = copy_of(run, FINDER, FACE, run.config.precision)
    finder = reader_of(networks_of(finders, face.build, fold=fold)[0], finders[0].config)
    return FramedFaceReader(reader, finder, frame_of(prior_in_run(run), run.config))


def frame_of(prior: FacePrior, config: FaceConfig) -> BodyFrame:
    """The frame of the faces that the prior was fitted on.

    Raises:
      UserError: there is no midline, or no face has all of it.
    """
    return frame_around(prior.faces_mm, prior.landmarks, MIDLINE, config)


def prior_in_run(run: Run) -> FacePrior:
    """The prior of a run, with the noise that was set."""
    from tfsono.inference.face_prior import PRIOR, read_prior

    prior = read_prior(run.folder / PRIOR, run.config.landmark_names)
    if "prior_noise_mm" in run.settings.at_test:
        prior = prior.with_noise(run.config.prior_noise_mm, str(run.folder / PRIOR))
    return prior


def keep_prior_choice(run: Run, cache) -> None:
    """Writes whether the prior helps on the run's validation cases, where it has both."""
    from tfsono.inference.face import FaceModule
    from tfsono.inference.prior_choice import keep_choice

    def modules(run: Run) -> tuple[FaceModule, FaceModule]:
        module = measured_module([run])
        return FaceModule(module.reader), module

    if run.config.use_prior and run.config.boxes:
        keep_choice(run, cache, modules)


def check_together(runs: Sequence[Run]) -> None:
    """Raises `UserError` for runs whose landmarks, anchors, stages or volumes differ from the first one's."""
    check_agree(runs, ("method", "landmark_names", "orientation", "spacing_mm", "strides", "anchor_sides",
                       "offset_deviations", "final_deviations", "ratio", "frame", "frame_margin_mm"))
    check_one_frame(runs)


def reader_of(network, config: FaceConfig) -> FaceReader:
    """The network with its input and decoding, by the config."""
    from tfsono.inference.face import FaceReader

    return FaceReader(
        network=network, stride=config.stride, spacing_mm=config.spacing_mm, landmarks=config.landmarks,
        strides=config.strides, anchor_sides=config.anchor_sides, deviations=config.final_deviations,
        highest_iou=config.nms_iou_threshold, merged_above=config.merge_iou_threshold, top_k=config.top_k,
        chosen_from=config.candidates, lowest_score=config.score_threshold if config.boxes else 0.0,
        clip_boxes=config.clip_boxes, decode=config.heatmap_decode, ratio=config.ratio)


def bare_networks(module: FaceModule) -> dict[str, keras.Model]:
    """The networks of a module by the stem of their ONNX file; `AROUND` says what stands around them."""
    return {"network": module.network, **({"finder": module.finder} if module.finder else {})}


def manifest_of(runs: Sequence[Run]) -> dict:
    """The manifest of the runs' SavedModel; `export_module` adds files, versions and the date."""
    from tfsono.inference.prior_choice import choice_of

    config, prior = runs[0].config, choice_of(runs)
    return described(
        runs, USE, inputs=volume_input(config.orientation), output=arrays(config), landmarks=config.landmark_names,
        postprocessing={"in_graph": True, "nms_iou_threshold": config.nms_iou_threshold,
                        "merge_iou_threshold": config.merge_iou_threshold, "prior": prior.used,
                        "prior_because": prior.reason, "prior_noise_mm": config.prior_noise_mm,
                        "prior_weight": config.prior_weight},
        network={"name": config.method, "spacing_mm": list(config.spacing_mm), "precision": config.precision,
                 "prior": prior.used, "frame": config.frame,
                 **finder_in_manifest(runs[0], FACE, lambda: frame_of(prior_in_run(runs[0]), config))})


def arrays(config: FaceConfig) -> dict:
    """The module's outputs, for the manifest."""
    landmarks, top_k = config.landmarks, config.top_k
    box = "two corners x0,y0,z0,x1,y1,z1, indices of voxel centres" + ("" if config.boxes else "; without sides")
    scores = "probability of the landmark" if config.boxes else "the heatmaps' highest values"
    return {
        "points_vox": array("float32", [landmarks, 3], "voxel", "x,y,z",
                            "`landmarks`; indices of the volume's own voxel centres; NaN: not found"),
        "scores": array("float32", [landmarks], "1", "", scores),
        "boxes_vox": array("float32", [landmarks, 6], "voxel", "x,y,z", box),
        "candidate_boxes_vox": array("float32", [landmarks, top_k, 6], "voxel", "x,y,z",
                                     f"best first, NaN where there are fewer; {box}"),
        "candidate_scores": array("float32", [landmarks, top_k], "1", "", "0 where there is no candidate"),
        "chosen": array("int32", [landmarks], "1", "",
                        "index of the selected candidate; above 0 if the prior changed it"),
    }


def outputs() -> Outputs:
    """The inputs and output files of a prediction."""
    from tfsono.predict.face import OUTPUTS

    return OUTPUTS


def predictor(models: Iterable[Model], key: str, options: Options) -> FacePredictor:
    """The predictor of one model; `key` identifies all that a prediction depends on."""
    from tfsono.predict.face import predictor_of

    (model,) = models
    return predictor_of(model, key, options)


def draft(facts: Facts, share: float = 1.0) -> Draft:
    """The settings of trainings on such data, by the rules of docs/planning.md; `share` of the voxels of a step."""
    from tfsono.planning import face

    return face.draft(facts, share)


def write_phantoms(folder: str | os.PathLike, cases: int, seed: int, config: FaceConfig) -> Path:
    """Writes a dataset of phantoms of the config's size."""
    from tfsono.phantoms.dataset import write_face_dataset

    return write_face_dataset(
        folder, cases, seed, config.phantom_size, config.phantom_spacing_mm, weeks=config.phantom_weeks,
        turn_degrees=config.phantom_rotation_degrees, variety=config.phantom_variety)
