"""The system `head`; see `tfsono.systems` for what its names mean."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfsono.configs.head import HEAD, HeadConfig
from tfsono.errors import UserError
from tfsono.predict.sources import Model, Options
from tfsono.reproduction import head as reproduction
from tfsono.systems.manifest import array, described
from tfsono.systems.runs import check_agree, networks_of, read_runs

if TYPE_CHECKING:
    from tfsono.planning.draft import Draft
    from tfsono.planning.facts import Facts
    import keras

    from tfsono.inference.head import HeadLandmarkModule, HeadMeanModule, HeadSegmentationModule
    from tfsono.predict.head import HeadPredictor
    from tfsono.predict.loop import Outputs
    from tfsono.training.run import Run

CHOICES = HEAD
PAPER = reproduction.PAPER
TAKES = "images"
OPTIONS = ("pixel_size_mm", "samples", "gestational_age")
TOGETHER = "predictions"  # to measure their spread
USE = ("Research use only, not a medical device: no diagnosis, not for clinical use. Trained on one kind of image; "
       "other scanners, planes, ages and diseases are untested, and the prediction gives no sign of its own failure.")
MEASURING = ("threshold", "morphology_px", "area_px", "ransac_iterations", "ransac_points", "ransac_inlier_px",
             "axis_ratio", "dropout", "monte_carlo_samples", "seed")
LARGEST_DIFFERENCE = {"probability": 0.02, "points_px": 0.5}  # of weights in float16 from those in float32
AROUND = ("network.onnx (an ensemble: network_1.onnx, ...): [N, rows, columns, 1], the image after CLAHE, letterboxed "
          "to network.input_size and standardised -> logits of the mask, heatmaps or points. After it: the inverse of "
          "the letterbox; then postprocessing.")


def load_runs(folders: Sequence[str | os.PathLike], which: str = "auto", options: Options = Options()
              ) -> tuple[list[Run], HeadSegmentationModule | HeadLandmarkModule | HeadMeanModule]:
    """Runs and their module with the `best` weights, the `last`, or `auto`: the best if there was validation."""
    runs = read_runs(folders, HEAD, options.precision)
    return runs, module_of(runs, which)


def module_of(runs: Sequence[Run], which: str = "auto"
              ) -> HeadSegmentationModule | HeadLandmarkModule | HeadMeanModule:
    """The module of runs: the mean of their probabilities, or of their points."""
    from tfsono.inference.head import HeadMeanModule, head_module
    from tfsono.models import head

    check_together(runs)
    networks = networks_of(runs, head.build, which, fold=True, startable=len(runs) == 1)
    modules = [head_module(network, run.config) for network, run in zip(networks, runs, strict=True)]
    return HeadMeanModule(modules) if len(modules) > 1 else modules[0]


def check_together(runs: Sequence[Run]) -> None:
    """Raises `UserError` for runs whose part differs from the first one's."""
    check_agree(runs, ("part",))


def measuring_of(run: Run) -> dict:
    """The manifest's settings that `predict` measures the module's outputs with."""
    from tfsono.geometry.head_labels import DEFAULT_ORDER

    values = {name: getattr(run.config, name) for name in MEASURING}
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    order = run.data.get("end_order") or {"ofd_direction": list(DEFAULT_ORDER.ofd_direction),
                                          "bpd_direction": list(DEFAULT_ORDER.bpd_direction)}
    return {"part": run.config.part, "end_order": order, **values}


def bare_networks(module: HeadSegmentationModule | HeadLandmarkModule | HeadMeanModule) -> dict[str, keras.Model]:
    """The networks of a module by the stem of their ONNX file; `AROUND` says what stands around them."""
    from tfsono.inference.head import HeadMeanModule

    if isinstance(module, HeadMeanModule):
        return {f"network_{number}": one.network for number, one in enumerate(module.modules, 1)}
    return {"network": module.network}


def manifest_of(runs: Sequence[Run]) -> dict:
    """The manifest of the runs' SavedModel; `export_module` adds files, versions and the date."""
    from tfsono.training.intervals import intervals_of

    first, config = runs[0], runs[0].config
    landmarks = ("OFD 1", "OFD 2", "BPD 1", "BPD 2") if config.part == "landmarks" else ()
    output = {"points_px": array("float32", [4, 2], "pixel", "x,y",
                                 "`landmarks`; indices of the image's own pixel centres")}
    if config.part == "segmentation":
        output = {"probability": array("float32", ["Y", "X"], "1", "y,x",
                                       "of the head with all that is inside the skull, on the image's own pixels")}
    intervals = intervals_of(runs)
    manifest = described(
        runs, USE, inputs={"image": array("float32", ["Y", "X"], "grey level", "y,x", "0 to 255; any size")},
        output=output, landmarks=landmarks, postprocessing=postprocessing_of(config),
        functions={"serving_default": "the prediction", "sample": "(image, seed int32): with dropout"},
        network={"name": config.network, "input_size": list(config.input_size), "clahe_clip": config.clahe_clip,
                 "clahe_tiles": config.clahe_tiles, "precision": config.precision})
    manifest |= {"intervals": intervals} if intervals else {}
    return {**manifest, "measuring": measuring_of(first), "labels_used": first.data.get("labels_used", []),
            "outline_margin_px": first.data.get("outline_margin_px")}  # removed from the training masks


def with_half_weights(module, manifest: dict) -> tuple:
    """The module with its weights stored in float16, and its manifest.

    Raises:
      UserError: it predicts something else, on random grey levels.
    """
    import numpy as np

    from tfsono.inference.head import HeadHalfModule

    size = manifest["network"]["input_size"]
    image = np.random.default_rng(0).integers(0, 256, size).astype(np.float32)
    halved, (output,) = HeadHalfModule(module), manifest["output"]
    difference = float(np.abs(halved(image)[output] - module(image)[output]).max())
    if not difference <= LARGEST_DIFFERENCE[output]:
        raise UserError(f"--weights float16: {output} differs by {difference:.2g}, and {LARGEST_DIFFERENCE[output]} is "
                        "allowed; export without it")
    network = {**manifest["network"], "weights": "float16", "difference_from_float32": difference}
    return halved, {**manifest, "network": network, "measuring": {**manifest["measuring"], "dropout": 0.0},
                    "functions": {"serving_default": manifest["functions"]["serving_default"]}}


def postprocessing_of(config: HeadConfig) -> dict:
    """What is done to the module's output for the mask that is evaluated; the ellipse follows from `measuring`."""
    if config.part == "landmarks":
        return {"in_graph": True}
    return {"in_graph": False, "threshold": config.threshold,
            "mask": "probability >= threshold; holes filled; its largest 8-connected component, holes filled"}


def outputs() -> Outputs:
    """The inputs and output files of a prediction."""
    from tfsono.predict.head import OUTPUTS

    return OUTPUTS


def predictor(models: Iterable[Model], key: str, options: Options) -> HeadPredictor:
    """The predictor of all models; `key` identifies all that a prediction depends on."""
    from tfsono.predict.head import predictor_of

    return predictor_of(models, key, options)


def draft(facts: Facts, share: float = 1.0) -> Draft:
    """The settings of trainings on such data, by the rules of docs/planning.md; `share` of the voxels of a step."""
    from tfsono.planning import head

    return head.draft(facts, share)


def write_phantoms(folder: str | os.PathLike, cases: int, seed: int, config: HeadConfig) -> Path:
    """Writes a dataset of phantoms of the config's size, and with its share of wrong points."""
    from tfsono.phantoms.dataset import write_head_dataset

    return write_head_dataset(folder, cases, seed, config.phantom_size, config.phantom_pixel_size_mm,
                              wrong_points=config.phantom_wrong_points)
