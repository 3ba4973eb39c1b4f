"""The system `hip`; see `tfsono.systems` for what its names mean."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tfsono.configs.hip import HIP, HipConfig
from tfsono.errors import UserError
from tfsono.predict.sources import Model, Options
from tfsono.reproduction import hip as reproduction
from tfsono.systems.manifest import described, labels_of, mask_output, mask_postprocessing, volume_input
from tfsono.systems.runs import check_agree, networks_of, read_runs, with_precision

if TYPE_CHECKING:
    from tfsono.planning.draft import Draft
    from tfsono.planning.facts import Facts
    import keras

    from tfsono.inference.hip import HipModule
    from tfsono.predict.hip import HipPredictor
    from tfsono.predict.loop import Outputs
    from tfsono.training.run import Run

CHOICES = HIP
PAPER = reproduction.PAPER
TAKES = "volumes"
OPTIONS = ("tiling", "memory_gb")
TOGETHER = "networks"
USE = ("Research use only, not a medical device: no diagnosis. Trained on one kind of image; other scanners, "
       "protocols, sexes, ages and diseases are untested, and the mask gives no sign of its own failure.")
LARGEST_DIFFERENCE = 0.02  # of a probability, of weights in float16 from those in float32
AROUND = ("network.onnx: [N, x, y, z, 1], a standardised tile -> the probabilities of the classes. Before it: resample "
          "to network.spacing_mm, where given; cut tiles of network.patch by network.tiling; standardise each (with a "
          "network.margin, the volume instead). After it: average the tiles, resample, arg-max, postprocessing.")


def load_runs(folders: Sequence[str | os.PathLike], which: str = "auto", options: Options = Options()
              ) -> tuple[list[Run], HipModule]:
    """Runs and their module with the `best` weights, the `last`, or `auto`: the best if there was validation."""
    runs = prepared(read_runs(folders, HIP), options)
    return runs, module_of(runs, which)


def prepared(runs: Sequence[Run], options: Options = Options()) -> list[Run]:
    """The runs as they predict together, with the tiling and memory of the first one's config.

    The tiling is the option's; else `fast`, where each run has measured that it gives what the paper's tiles give
    (`tfsono.training.tilings`); else the first run's.
    """
    from tfsono.inference.memory import default_memory_gb
    from tfsono.training.tilings import fast_memory_gb

    first, *others = with_precision(runs, options.precision)
    set_later = first.settings.at_test  # what was measured may not hold with it
    measured_gb = 0.0 if set_later else min(fast_memory_gb(run.folder) for run in runs)
    tiling = options.tiling or ("fast" if measured_gb else first.config.tiling)
    values = {"tiling": tiling}
    if tiling == "fast":
        least = min(default_memory_gb(), measured_gb or default_memory_gb())
        values["memory_gb"] = options.memory_gb or first.config.memory_gb or least
    return [dataclasses.replace(first, settings=first.settings.replaced("at prediction", **values)), *others]


def module_of(runs: Sequence[Run], which: str = "auto") -> HipModule:
    """The module of `prepared` runs: the mean of their probabilities, tiled by the first one's config.

    Moving statistics are folded into the convolutions.
    """
    from tfsono.inference.components import Postprocessing
    from tfsono.inference.hip import HipModule, tiling_of
    from tfsono.models import hip

    check_together(runs)
    config = runs[0].config
    networks = networks_of(runs, partial(hip.build, apart=True), which, fold=True)
    return HipModule.build(hip.main_network(*networks), config,
                           Postprocessing(config.classes, config.largest_component, config.fill_holes),
                           tiling_of([run.config for run in runs]))


def check_together(runs: Sequence[Run]) -> None:
    """Raises `UserError` for runs whose labels, volumes or tiles differ from the first one's."""
    check_agree(runs, ("label_names", "orientation", "spacing_mm"))
    for run in runs[1:]:
        if any(side % run.config.stride for side in runs[0].config.patch):
            raise UserError(f"{run.folder}: needs multiples of {run.config.stride} voxels, and the --patch of "
                            f"{runs[0].folder} is {runs[0].config.patch}; name {run.folder} first")


def bare_networks(module: HipModule) -> dict[str, keras.Model]:
    """The networks of a module by the stem of their ONNX file; `AROUND` says what stands around them."""
    return {"network": module.network}


def manifest_of(runs: Sequence[Run]) -> dict:
    """The manifest of the runs' SavedModel; `export_module` adds files, versions and the date."""
    config = runs[0].config
    return described(
        runs, USE, inputs=volume_input(config.orientation), output={"mask": mask_output(config.classes - 1)},
        labels=labels_of(runs[0]),
        functions={"serving_default": "the prediction",
                   "probabilities": "(volume) at the network's spacing: float32 [X, Y, Z, classes]"},
        postprocessing=mask_postprocessing(config.largest_component, config.fill_holes),
        network={"spacing_mm": list(config.spacing_mm), "patch": list(config.patch), "tiling": config.tiling,
                 **_fast(runs), "tile_weighting": config.tile_weighting, "tile_batch": config.tile_batch,
                 "precision": config.precision})


def with_half_weights(module: HipModule, manifest: dict) -> tuple[HipModule, dict]:
    """The module with its weights stored in float16, and its manifest.

    Raises:
      UserError: its probabilities of one tile of random intensities are others.
    """
    import numpy as np

    volume = np.random.default_rng(0).normal(size=manifest["network"]["patch"]).astype(np.float32)
    halved = module.with_half_weights()
    difference = float(np.abs(halved.probabilities(volume) - module.probabilities(volume)).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise UserError(f"--weights float16: a probability differs by {difference:.2g}, and {LARGEST_DIFFERENCE} is "
                        "allowed; export without it")
    network = {**manifest["network"], "weights": "float16", "difference_from_float32": difference}
    return halved, {**manifest, "network": network}


def _fast(runs: Sequence[Run]) -> dict:
    """The manifest's entries of the tiles of `fast`."""
    from tfsono.inference.hip import tiling_of

    if runs[0].config.tiling != "fast":
        return {}
    tiling = tiling_of([run.config for run in runs])
    return {"memory_gb": runs[0].config.memory_gb, "most_voxels_of_a_tile": tiling.tile_voxels,
            "margin": tiling.margin}


def outputs() -> Outputs:
    """The inputs and output files of a prediction."""
    from tfsono.predict.hip import OUTPUTS

    return OUTPUTS


def predictor(models: Iterable[Model], key: str, options: Options) -> HipPredictor:
    """The predictor of one model; `key` identifies all that a prediction depends on."""
    from tfsono.predict.hip import predictor_of

    (model,) = models
    return predictor_of(model, key, options)


def draft(facts: Facts, share: float = 1.0) -> Draft:
    """The settings of trainings on such data, by the rules of docs/planning.md; `share` of the voxels of a step."""
    from tfsono.planning import hip

    return hip.draft(facts, share)


def write_phantoms(folder: str | os.PathLike, cases: int, seed: int, config: HipConfig) -> Path:
    """Writes a dataset of phantoms of the config's size."""
    from tfsono.phantoms.dataset import write_hip_dataset

    return write_hip_dataset(folder, cases, seed, config.phantom_size, config.phantom_spacing_mm)
