"""Trains `face` (IG-RPN, ISBI 2020) on a cache: python train/face.py --data FILE.h5 --run_dir DIR [--preset quick].

    [--variant ig_rpn | rpn]       one-stage 3D region proposal network, with or without IoU-balanced classification
    [--variant ig_ssd | ssd]       anchors on two maps
    [--variant faster_rcnn]        two stages
    [--variant heatmap]            heatmap regression
    [--variant finder]             finds the midline in any direction, in coarse voxels
    [--variant ig_rpn_canonical] --finder_run FINDER_RUN    sees faces rotated by their midline

The graph prior is fitted and saved with every run of boxes. It is not trained: evaluate/face.py measures one run with
and without it. The same command resumes an interrupted training. The functions follow sections 2 and 3 of the
paper.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

if not __package__:  # run as a file of a checkout, and not by `tfsono train`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import training_parser
from tfsono.configs.face import FACE, LIKE_ITS_START, MIRRORED, FaceConfig
from tfsono.errors import run_command
from tfsono.surroundings import parsed


def main(argv: list[str] | None = None) -> None:
    arguments = parsed(training_parser(FACE, __doc__), argv)
    from tfsono.models.face import build
    from tfsono.training.fit import fit
    from tfsono.training.start import started

    with started(arguments, FACE, ("landmarks",)) as start:
        config, split = start.config, checked_split(start)
        prior = graph_prior(start.cache, config, split["train"])
        data, excluded = batches(start.cache, config, split["train"], prior)
        network = start.announce(start.built(build), sizes(start.cache, config, split["train"]))
        run = start.open_run(split, initialise(network, start, split), excluded)
        keep(prior, run)
        fit(run, compiled(network, config), data, *validation(network, run, start.cache))
        finish(run, start.cache)


def checked_split(start) -> dict[str, list[str]]:
    """Sec. 3: at random; here by subject. The finder, where there is one, must not have seen the test cases."""
    from tfsono.systems.runs import FINDER, checked_finder
    from tfsono.training.start import split_by_subject

    split = split_by_subject(start)
    if start.config.frame == "face" and not (start.run_dir / FINDER / "config.json").is_file():
        checked_finder(start.config, split, FACE)
    return split


def batches(cache, config: FaceConfig, names: list[str], prior) -> tuple:
    """Sec. 3: whole volumes, flipped and rotated, with their targets; and the cases without landmarks.

    With `--frame face` rotated by their midline with noise, as the finder errs.
    """
    from tfsono.data.boxes import BoxSampling, box_dataset
    from tfsono.data.landmark_volumes import WholeSampling, exchanged_pairs, whole_dataset, whole_sources
    from tfsono.systems.face import frame_of

    exchanged = exchanged_pairs(config.landmark_names, MIRRORED) if config.flips else ()
    sampling = WholeSampling(ratio=config.ratio, stride=config.stride, sigma_mm=config.heatmap_sigma_mm,
                             augmentation=config.augmentation, rotation_degrees=config.rotation_degrees,
                             seed=config.seed, flips=config.flips, exchanged=exchanged,
                             frame=frame_of(prior, config) if config.frame == "face" else None,
                             midline_noise_mm=config.midline_noise_mm)
    sources, excluded = whole_sources(cache, names, sampling)
    sources = [replace(source, points_vox=as_read(source.name, source.points_vox, source.spacing_mm, config))
               for source in sources]
    if not config.boxes:
        return lambda steps: whole_dataset(cache.path, "face", sources, sampling, steps), excluded
    boxes = BoxSampling(sides=config.sides, strides=config.strides, anchor_sides=config.anchor_sides,
                        positive=config.anchor_positive, negative=config.anchor_negative,
                        most_positives=config.max_positives, negatives_per_positive=config.negatives_per_positive)
    return lambda steps: box_dataset(path=cache.path, system="face", sources=sources, sampling=sampling, boxes=boxes,
                                     steps=steps), excluded


def sizes(cache, config: FaceConfig, names: list[str]):
    """The input of a step, the largest volume, then those of coarser caches."""
    from tfsono.geometry.regions import largest_grid

    shapes = [cache.shape(name) for name in names]
    for factor in (1, 1.25, 1.5, 2, 2.5, 3, 4):
        spacing = ",".join(f"{factor * side:.3g}" for side in cache.spacing_mm(names[0]))
        yield (f"--spacing_mm {spacing}, of `tfsono cache face` and the training",
               (1, *largest_grid(shapes, config.ratio / factor, config.stride), 1))


def as_read(name: str, points_vox, spacing_mm, config: FaceConfig):
    """The landmarks [K, 3] of a case as a reader would mark them: with noise of its own, the same in every epoch."""
    import zlib

    import numpy as np

    if points_vox is None or not config.reader_noise_mm:
        return points_vox
    random = np.random.default_rng([config.seed, zlib.crc32(name.encode())])
    return points_vox + random.normal(0, config.reader_noise_mm, points_vox.shape) / spacing_mm


def initialise(network, start, split: dict) -> str:
    """Sec. 3 names no initialisation: random weights, or those of `--start_from`."""
    from tfsono.systems.first_weights import first_weights

    return first_weights(network, start, FACE, split, LIKE_ITS_START)


def graph_prior(cache, config: FaceConfig, names: list[str]):
    """Sec. 2.3: the ratios of distances in the training cases; None for heatmaps, which have no candidates."""
    from tfsono.inference.face_prior import prior_of

    if not (config.boxes and config.use_prior):
        return None
    poses = ((name, as_read(name, cache.points_vox(name), cache.spacing_mm(name), config), cache.spacing_mm(name))
             for name in names)
    return prior_of(poses, config.landmark_names, config.candidates, config.prior_noise_mm)


def keep(prior, run) -> None:
    """Writes the prior and the finder, where there are any, into the run folder."""
    from tfsono.inference.face_prior import PRIOR, write_prior
    from tfsono.systems.runs import adopt_finder
    from tfsono.training.record import recorded

    if prior is not None:
        with recorded(run.folder, PRIOR) as (path,):
            write_prior(path, prior)
    adopt_finder(run, FACE)


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
        network.compile(adam, loss={"heatmaps": heatmap_error}, jit_compile=False)
        return network
    loss = DetectionLoss(balance=config.iou_balance_power if config.iou_balance else None,
                         negatives_per_positive=config.negatives_per_positive, hard=config.hard_negatives,
                         deviations=config.offset_deviations)
    trainer = DetectionTrainer(network, DetectionSettings(
        strides=config.strides, anchor_sides=config.anchor_sides, regression_weight=config.regression_weight,
        positive=config.anchor_positive, loss=loss, proposal_deviations=config.final_deviations))
    trainer.compile(adam, jit_compile=False)
    return trainer


def validation(network, run, cache) -> tuple:
    """The mean radial error of the landmarks of the held-out cases, mm; without the prior."""
    from tfsono.inference.face import FaceModule
    from tfsono.systems.face import reader_in_run
    from tfsono.training.start import schedule_of
    from tfsono.training.validation import MEAN_RADIAL_ERROR, mean_radial_error

    config, names = run.config, run.split["validation"]
    module = FaceModule(reader_in_run(network, run))
    return schedule_of(config, MEAN_RADIAL_ERROR), (lambda: mean_radial_error(module, cache, names)) if names else None


def finish(run, cache) -> None:
    """Whether the prior helps, from the validation cases."""
    from tfsono.systems.face import keep_prior_choice

    keep_prior_choice(run, cache)


if __name__ == "__main__":
    sys.exit(run_command(main))
