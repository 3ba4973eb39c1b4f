"""The system `face`; see `tfsono.systems` for what its names mean."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfsono.configs.face import FACE, FaceConfig
from tfsono.predict.sources import Model, Options
from tfsono.systems.demo_words import DemoWords
from tfsono.systems.manifest import array, described, volume_input
from tfsono.systems.runs import check_agree, networks_of, read_runs

if TYPE_CHECKING:
    from tfsono.planning.draft import Draft
    from tfsono.planning.facts import Facts
    import keras

    from tfsono.inference.face import FaceModule, FaceReader
    from tfsono.predict.face import FacePredictor
    from tfsono.predict.loop import Outputs
    from tfsono.training.run import Run

CHOICES = FACE
TAKES = "volumes"
OPTIONS = ("candidates",)
TOGETHER = "networks"
DEMO = DemoWords(predict=("{data}/images/face_001.nii.gz",), phantom=("--cases", "60"), train=("--test_cases", "10"))
USE = ("Research use only, not a medical device: no diagnosis, not for clinical use. Trained on one kind of volume; "
       "other scanners, ages and views are untested. A low score may be the only sign of a wrong landmark.")
AROUND = ("network.onnx: [N, x, y, z, 1], the volume resampled to network.spacing_mm, standardised, padded -> logits "
          "and offsets of the anchors, or heatmaps. After it: decoding, non-maximum suppression, the prior.")


def load_runs(folders: Sequence[str | os.PathLike], which: str = "auto", options: Options = Options()
              ) -> tuple[list[Run], FaceModule]:
    """Runs and their module with the `best` weights, the `last`, or `auto`: the best if there was validation."""
    runs = read_runs(folders, FACE, options.precision)
    return runs, module_of(runs, which)


def module_of(runs: Sequence[Run], which: str = "auto") -> FaceModule:
    """The module of runs: the mean of their heatmaps, or of their probabilities and offsets.

    With `use_prior`, the first run's graph prior chooses among the candidates; heatmaps have none.
    """
    from tfsono.inference.face import FaceModule
    from tfsono.inference.face_prior import PRIOR, read_prior
    from tfsono.models import face

    check_together(runs)
    config = runs[0].config
    network = face.mean_of(networks_of(runs, face.build, which), config)
    has_prior = config.use_prior and config.boxes
    prior = read_prior(runs[0].folder / PRIOR, config.landmark_names) if has_prior else None
    return FaceModule(reader_of(network, config), prior, config.prior_weight)


def check_together(runs: Sequence[Run]) -> None:
    """Raises `UserError` for runs whose landmarks, anchors, stages or volumes differ from the first one's."""
    check_agree(runs, ("method", "landmark_names", "orientation", "spacing_mm", "strides", "anchor_sides",
                       "offset_deviations"))


def reader_of(network, config: FaceConfig) -> FaceReader:
    """The network with its input and decoding, by the config."""
    from tfsono.inference.face import FaceReader

    return FaceReader(
        network=network, stride=config.stride, spacing_mm=config.spacing_mm, landmarks=config.landmarks,
        strides=config.strides, anchor_sides=config.anchor_sides, deviations=config.offset_deviations,
        highest_iou=config.nms_iou_threshold, top_k=config.top_k, chosen_from=config.candidates,
        lowest_score=config.score_threshold if config.boxes else 0.0, clip_boxes=config.clip_boxes,
        decode=config.heatmap_decode)


def bare_networks(module: FaceModule) -> dict[str, keras.Model]:
    """The networks of a module by the stem of their ONNX file; `AROUND` says what stands around them."""
    return {"network": module.network}


def manifest_of(runs: Sequence[Run]) -> dict:
    """The manifest of the runs' SavedModel; `export_module` adds files, versions and the date."""
    config = runs[0].config
    return described(
        runs, USE, inputs=volume_input(config.orientation), output=arrays(config), landmarks=config.landmark_names,
        postprocessing={"in_graph": True, "nms_iou_threshold": config.nms_iou_threshold,
                        "prior": config.use_prior and config.boxes},
        network={"name": config.method, "spacing_mm": list(config.spacing_mm), "precision": config.precision,
                 "prior": config.use_prior and config.boxes})


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
