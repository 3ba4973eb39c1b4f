"""`face`: a run folder -> its module, and what the manifest of its SavedModel says."""

from __future__ import annotations

import os

from tfsono.configs.face import FACE
from tfsono.inference.face import FaceModule, FaceReader
from tfsono.inference.face_prior import PRIOR, read_prior
from tfsono.models import face
from tfsono.systems.source import source_of, volume_input
from tfsono.training.run import Run, load_weights, read_run

USE = ("Research use only, not a medical device: no diagnosis, not for clinical use. Trained on one kind of volume; "
       "other scanners, ages and views are untested. A landmark of a low score may be wrong without another sign.")


def load_run(run_dir: str | os.PathLike, which: str = "auto", with_prior: bool | None = None
             ) -> tuple[Run, FaceModule]:
    """A run and its module, with the weights that it is tested with.

    Args:
      run_dir: the run folder.
      which: `best`, `last`, or `auto`: the best where the run validated.
      with_prior: whether the graph prior chooses among candidates, which heatmaps have none of; None: by `use_prior`.

    Raises:
      UserError: not a run folder, a run without weights, or without the prior that is asked for.
    """
    run = read_run(run_dir, FACE)
    config = run.config
    network = face.build(config)
    load_weights(run, network, which)
    wanted = (config.use_prior if with_prior is None else with_prior) and config.boxes
    prior = read_prior(run.folder / PRIOR, config.landmark_names) if wanted else None
    return run, FaceModule(reader_of(network, config), prior, config.prior_weight)


def reader_of(network, config) -> FaceReader:
    """The network and what it is fed with, by the config."""
    return FaceReader(network, config.stride, config.spacing_mm, config.landmarks, config.strides, config.anchor_sides,
                      config.offset_deviations, config.class_nms, config.listed, config.candidates,
                      config.lowest_score if config.boxes else 0.0, config.clip_boxes, config.heatmap_decode)


def manifest_of(run: Run) -> dict:
    """What the SavedModel of a run expects and answers; `export_module` adds files, versions and the date."""
    config = run.config
    return {
        "system": run.settings.system,
        "use": USE,
        "source": source_of(run),
        "input": volume_input(config.orientation),
        "output": outputs(config),
        "landmarks": list(config.landmark_names),
        "network": {"name": config.method, "spacing_mm": list(config.spacing_mm), "precision": config.precision,
                    "prior": config.use_prior and config.boxes},
    }


def outputs(config) -> dict:
    """The answer's arrays, as the manifest tells them."""
    landmarks, listed = config.landmarks, config.listed
    box = "two corners x0,y0,z0,x1,y1,z1, indices of voxel centres" + ("" if config.boxes else "; without sides")

    def array(shape: list[int], values: str, dtype: str = "float32") -> dict:
        return {"dtype": dtype, "shape": shape, "axes": "x,y,z", "values": values}

    return {
        "points_vox": array([landmarks, 3], "`landmarks`; indices of the volume's own voxel centres; NaN: not found"),
        "scores": array([landmarks], "probability of the landmark" if config.boxes else "the heatmaps' highest values"),
        "boxes_vox": array([landmarks, 6], box),
        "candidate_boxes_vox": array([landmarks, listed, 6], f"the best first, NaN where there are fewer; {box}"),
        "candidate_scores": array([landmarks, listed], "0 where there is no candidate"),
        "chosen": array([landmarks], "which candidate is the answer; above 0 where the prior chose another", "int32"),
    }
