"""Trains `face` (IG-RPN, ISBI 2020) on a cache: python train/face.py --data FILE.h5 --run_dir DIR [--preset quick].

    [--variant ig_rpn | rpn]       one-stage 3D region proposal network, with IoU-balanced classification or without
    [--variant ig_ssd | ssd]       anchors on two maps
    [--variant faster_rcnn]        two stages
    [--variant heatmap]            heatmap regression

The graph prior is fitted and saved with every run of boxes; it trains nothing, so that rows with it and without are one
run: evaluate/face.py. The same command goes on where it stopped. The functions follow sections 2 and 3 of the paper.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfsono.config import settings_from, training_parser
from tfsono.configs.face import FACE, MIRRORED, FaceConfig
from tfsono.errors import run_command
from tfsono.files import write_text


def main(argv: list[str] | None = None) -> None:
    arguments = training_parser(FACE, __doc__).parse_args(argv)
    settings = settings_from(arguments, FACE)

    from tfsono.data.cache import Cache  # after --help, which must not wait for TensorFlow
    from tfsono.data.splits import chosen_split
    from tfsono.inference.face_prior import PRIOR, write_prior
    from tfsono.models.face import build
    from tfsono.training.fit import Schedule, fit, set_seed
    from tfsono.training.run import open_run
    from tfsono.training.start import INITIALISATION, check_grid, check_precision, goes_on, with_names

    with Cache(arguments.data, "face") as cache:
        settings = with_names(settings, cache, ("landmarks",))
        config = settings.config
        check_grid(cache, "face", config)
        check_precision(config.precision)
        split = chosen_split(arguments.split, cache.split, cache.names, cache.subjects, config.test_cases,
                             config.validation_cases, config.seed)  # Sec. 3: at random; here by subject
        batches, left_out = volumes(cache, arguments.data, config, split["train"])
        set_seed(config.seed, config.deterministic)
        network = build(config)
        prior = graph_prior(cache, config, split["train"])
        report = goes_on(Path(arguments.run_dir)) or "every weight from a random start"
        data = {"dataset": cache.name, "landmarks": list(cache.landmarks), "cases": cache.names}
        run = open_run(arguments.run_dir, settings, split, data)  # after all that may refuse: no half-made folder
        if prior is not None:
            write_prior(run.folder / PRIOR, prior)
        print(run.summary())
        if left_out:
            print(f"{len(left_out)} training cases have no landmark and are left out: {', '.join(left_out)}")
        print(report)
        write_text(run.folder / INITIALISATION, f"{report}\n")
        score, validate = validation(network, config, cache, split["validation"])
        fit(run, compiled(network, config), batches,
            Schedule(config.steps, config.record_every, config.early_stopping, score), validate)


def volumes(cache, path: str, config: FaceConfig, names: list[str]) -> tuple:
    """Sec. 3: whole volumes, flipped and rotated, with their targets; and who has no landmark."""
    from tfsono.data.boxes import BoxSampling, box_dataset
    from tfsono.data.landmark_volumes import WholeSampling, exchanged_pairs, whole_dataset, whole_sources

    exchanged = exchanged_pairs(config.landmark_names, MIRRORED) if config.flips else ()
    sampling = WholeSampling(1.0, config.stride, config.heatmap_sigma_mm, config.augmentation, config.rotation_degrees,
                             config.seed, config.flips, exchanged)
    sources, left_out = whole_sources(cache, names, sampling)
    if not config.boxes:
        return lambda steps: whole_dataset(path, "face", sources, sampling, steps), left_out
    boxes = BoxSampling(config.sides, config.strides, config.anchor_sides, config.anchor_positive,
                        config.anchor_negative, config.most_positives, config.negatives_per_positive)
    return lambda steps: box_dataset(path, "face", sources, sampling, boxes, steps), left_out


def graph_prior(cache, config: FaceConfig, names: list[str]):
    """Sec. 2.3: the ratios of distances in the training cases, as they are; None for heatmaps, which do not choose."""
    from tfsono.inference.face_prior import prior_of

    if not (config.boxes and config.use_prior):
        return None
    poses = ((name, cache.points_vox(name), cache.spacing_mm(name)) for name in names)
    return prior_of(poses, config.landmark_names, config.candidates, config.prior_noise_mm)


def compiled(network, config: FaceConfig):
    """Eq. 2 and 3 and the smooth L1 loss of the offsets, or the L2 loss of heatmaps; Adam."""
    from tfsono.losses.detection import DetectionLoss
    from tfsono.losses.joint import heatmap_error
    from tfsono.training.detection import DetectionSettings, DetectionTrainer
    from tfsono.training.optimizers import learning_rate, optimizer

    rate = config.learning_rate
    if config.schedule == "cosine":
        rate = learning_rate(rate, "cosine", 0, config.steps)
    adam = optimizer("adam", rate)
    if not config.boxes:
        network.compile(adam, loss={"heatmaps": heatmap_error}, jit_compile=config.jit_compile)
        return network
    loss = DetectionLoss(config.iou_balance_power if config.iou_balance else None, config.negatives_per_positive,
                         config.hard_negatives, config.offset_deviations)
    trainer = DetectionTrainer(network, DetectionSettings(config.strides, config.anchor_sides, config.regression_weight,
                                                          config.anchor_positive, loss))
    trainer.compile(adam, jit_compile=config.jit_compile)
    return trainer


def validation(network, config: FaceConfig, cache, names: list[str]) -> tuple:
    """The score, and a function that gives it: the mean distance of the landmarks, mm; without the prior."""
    from tfsono.inference.face import FaceModule
    from tfsono.systems.face import reader_of
    from tfsono.training.validation import MEAN_DISTANCE, mean_distance

    module = FaceModule(reader_of(network, config))
    return MEAN_DISTANCE, (lambda: mean_distance(module, cache, names)) if names else None


if __name__ == "__main__":
    sys.exit(run_command(main))
