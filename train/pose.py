"""Trains `pose` (FetusMap, MICCAI 2019) on a cache: python train/pose.py --data FILE.h5 --run_dir DIR [--preset quick].

    [--variant land_gcp | land_r4]                        the detector, at ratio 0.5 with checkpointing or at 0.4
    [--variant rnn_gcp | rnn_r4] [--start_from LAND_RUN]  with a recurrence over the joints
    [--variant gan_gcp | gan_r4] [--start_from LAND_RUN]  refined against a discriminator
    [--variant finder]                                    finds the midline in any direction, in coarse voxels
    [--variant land_canonical] --finder_run FINDER_RUN    sees bodies rotated by their midline, so that left is left

The rows SSL are the Land runs, refined on each test volume: evaluate/pose.py. The same command resumes an interrupted
training. The functions follow sections 2 and 3 of the paper.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

if not __package__:  # run as a file of a checkout, and not by `tfsono train`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import training_parser
from tfsono.configs.pose import MIRRORED, POSE, PoseConfig
from tfsono.errors import UserError, run_command
from tfsono.surroundings import parsed

LIKE_ITS_START = ("widths", "landmark_names", "ratio", "spacing_mm", "orientation", "heatmap_sigma_mm")
WATCHED = 2  # training cases that a record's remark is on


def main(argv: list[str] | None = None) -> None:
    arguments = parsed(training_parser(POSE, __doc__, mirrored=True), argv)
    from tfsono.models.pose import build
    from tfsono.training.fit import fit
    from tfsono.training.start import started

    with started(arguments, POSE, ("landmarks",)) as start:
        config, split = start.config, checked_split(start, arguments.strategy)
        data, excluded, atlases = batches(start.cache, config, split["train"])
        network = start.built(build)
        report = initialise(network, start)
        trained = start.announce(compiled(network, config), sizes(start.cache, config, split["train"], atlases))
        run = keep(atlases, start.open_run(split, report, excluded))
        fit(run, trained, data, *validation(network, run, start.cache))
        finish(run, start.cache)


def checked_split(start, strategy: str) -> dict[str, list[str]]:
    """Sec. 3: at random; here by subject. The finder, where there is one, must not have seen the test cases.

    The two networks of the adversarial stage take turns in a step, which a `tf.distribute` strategy cannot trace.
    """
    from tfsono.systems.runs import FINDER, checked_finder
    from tfsono.training.start import split_by_subject

    if strategy and start.config.adversarial:
        raise UserError(f"--strategy {strategy}: is for one network, and method gan trains two in turns; train the "
                        "detector with it (--variant land_gcp), then gan without it (--start_from)")
    split = split_by_subject(start)
    if start.config.frame == "body" and not (start.run_dir / FINDER / "config.json").is_file():
        checked_finder(start.config, split, POSE)
    return split


def batches(cache, config: PoseConfig, names: list[str]) -> tuple:
    """Sec. 3: whole volumes, rescaled, flipped and rotated to 8 versions of each; cases without landmarks; the atlases.

    With `--frame body` rotated by their midline with noise, as the finder errs.
    """
    from tfsono.data.landmark_volumes import WholeSampling, exchanged_pairs, whole_dataset, whole_sources
    from tfsono.systems.pose import frame_of

    atlases = atlas_set(cache, names)
    exchanged = exchanged_pairs(config.landmark_names, MIRRORED) if config.flips else ()
    sampling = WholeSampling(ratio=config.ratio, stride=config.stride, sigma_mm=config.heatmap_sigma_mm,
                             augmentation=config.augmentation, rotation_degrees=config.rotation_degrees,
                             seed=config.seed, flips=config.flips, exchanged=exchanged,
                             frame=frame_of(atlases, config) if config.frame == "body" else None,
                             midline_noise_mm=config.midline_noise_mm, batch=config.batch)
    sources, excluded = whole_sources(cache, names, sampling)
    return lambda steps: whole_dataset(cache.path, "pose", sources, sampling, steps), excluded, atlases


def sizes(cache, config: PoseConfig, names: list[str], atlases):
    """The input of a step, the largest volume or the frame, then those at lower ratios."""
    import numpy as np

    from tfsono.geometry.regions import largest_grid
    from tfsono.systems.pose import frame_of

    ratio, shapes = config.ratio, [cache.shape(name) for name in names]
    frame = frame_of(atlases, config) if config.frame == "body" else None
    while ratio > 0.05:
        sides = largest_grid(shapes, ratio, config.stride)
        if frame:
            sides = frame.size(max(np.mean(cache.spacing_mm(name)) for name in names) / ratio, config.stride)[1]
        yield f"--ratio {ratio:g}", (1, *sides, 1)
        ratio = round(0.9 * ratio, 3)


def atlas_set(cache, names: list[str]):
    """Sec. 2.2: the poses of the training cases, for the refinement of test cases."""
    from tfsono.inference.atlases import atlas_set_of

    poses = ((name, cache.points_vox(name), cache.spacing_mm(name)) for name in names)
    return atlas_set_of((pose for pose in poses if pose[1] is not None), cache.landmarks)


def keep(atlases, run):
    """The run, with the atlas set, and the finder where there is one, in its folder.

    Warns if the atlas set is too small for the refinement.
    """
    from tfsono.inference.atlases import ATLASES, write_atlases
    from tfsono.systems.runs import adopt_finder
    from tfsono.training.record import recorded

    with recorded(run.folder, ATLASES) as (path,):
        write_atlases(path, atlases)
    shortage = atlases.shortage(run.config.refine_atlases)
    if shortage:
        print(shortage)
    adopt_finder(run, POSE)
    return run


def initialise(network, start) -> str:
    """Sec. 3: rnn and gan may start from a trained detector; all other weights are initialised at random."""
    from tfsono.models.pose import build
    from tfsono.training.start import copy_weights, load_start, resumed

    before, config = resumed(start.run_dir), start.config
    if before or not config.start_from:
        return before or "all weights initialised at random"
    detector = network if config.method == "gan" else build(replace(config, method="land", start_from=""))
    report = load_start(detector, config.start_from, POSE, config, LIKE_ITS_START)
    return f"{report}; initialised at random: {', '.join(copy_weights(network, detector)) or 'none'}"


def compiled(network, config: PoseConfig):
    """Sec. 2.1 and 3: the loss of the heatmaps, Adam; for `gan` after `branch_steps` the discriminator."""
    from tfsono.losses.heatmaps import detector_loss
    from tfsono.models.pose import discriminator
    from tfsono.training.adversarial import AdversarialSettings, AdversarialTrainer, StageRates, image_and_maps
    from tfsono.training.optimizers import optimizer

    rate, trained = config.learning_rate, network
    if config.adversarial:
        rate = StageRates(rate, config.adversarial_learning_rate, config.branch_steps)
        trained = AdversarialTrainer(
            network, discriminator(config),
            optimizer("adam", config.adversarial_learning_rate, beta_1=config.adam_beta_1),
            AdversarialSettings(config.branch_steps, seed=config.seed, share=config.adversarial_share), image_and_maps)
    trained.compile(optimizer("adam", rate, beta_1=config.adam_beta_1), jit_compile=False,
                    loss={"heatmaps": detector_loss(config.heatmap_loss)})
    return trained


def validation(network, run, cache) -> tuple:
    """The mean radial error of the landmarks of the held-out cases, mm; and a remark on their maps.

    Without such cases the remark is on the maps of two training cases.
    """
    from tfsono.inference.module_input import module_input
    from tfsono.inference.pose import PoseModule
    from tfsono.systems.pose import reader_in_run
    from tfsono.training.start import schedule_of
    from tfsono.training.validation import MEAN_RADIAL_ERROR, Watched, mean_radial_error

    config, names = run.config, run.split["validation"]
    watched = Watched(PoseModule(reader_in_run(network, run)), config.landmark_names, config.ratio)

    def remark() -> str:
        for name in () if names else run.split["train"][:WATCHED]:
            watched(*module_input(cache.read(name).image, cache.spacing_mm(name)))
        return watched.remark()

    validate = (lambda: mean_radial_error(watched, cache, names)) if names else None
    return replace(schedule_of(config, MEAN_RADIAL_ERROR), remark=remark), validate


def finish(run, cache) -> None:
    """The confidence of the landmarks, from the validation cases."""
    from tfsono.systems.pose import module_of
    from tfsono.training.confidence import keep_confidence

    keep_confidence(run, cache, module_of)


if __name__ == "__main__":
    sys.exit(run_command(main))
