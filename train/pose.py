"""Trains `pose` (FetusMap, MICCAI 2019) on a cache: python train/pose.py --data FILE.h5 --run_dir DIR [--preset quick].

    [--variant land_gcp | land_r4]                        the detector, at ratio 0.5 with checkpointing or at 0.4
    [--variant rnn_gcp | rnn_r4] [--start_from LAND_RUN]  with a recurrence over the joints
    [--variant gan_gcp | gan_r4] [--start_from LAND_RUN]  refined against a discriminator

The rows SSL are the Land runs, refined on each test volume: evaluate/pose.py. The same command goes on where it
stopped. The functions follow sections 2 and 3 of the paper.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfsono.config import settings_from, training_parser
from tfsono.configs.pose import MIRRORED, POSE, PoseConfig
from tfsono.errors import run_command
from tfsono.files import write_text

LIKE_ITS_START = ("widths", "landmark_names", "ratio", "spacing_mm", "orientation", "heatmap_sigma_mm")


def main(argv: list[str] | None = None) -> None:
    arguments = training_parser(POSE, __doc__).parse_args(argv)
    settings = settings_from(arguments, POSE)

    from tfsono.data.cache import Cache  # after --help, which must not wait for TensorFlow
    from tfsono.data.splits import chosen_split
    from tfsono.inference.atlases import LIBRARY, write_library
    from tfsono.models.pose import build
    from tfsono.training.fit import Schedule, fit, set_seed
    from tfsono.training.run import open_run
    from tfsono.training.start import INITIALISATION, check_grid, check_precision, with_names

    with Cache(arguments.data, "pose") as cache:
        settings = with_names(settings, cache, ("landmarks",))
        config = settings.config
        check_grid(cache, "pose", config)
        check_precision(config.precision)
        split = chosen_split(arguments.split, cache.split, cache.names, cache.subjects, config.test_cases,
                             config.validation_cases, config.seed)  # Sec. 3: at random; here by subject
        batches, left_out = volumes(cache, arguments.data, config, split["train"])
        set_seed(config.seed, config.deterministic)
        network = build(config)
        report = initialise(network, config, Path(arguments.run_dir))
        library = pose_library(cache, split["train"])
        data = {"dataset": cache.name, "landmarks": list(cache.landmarks), "cases": cache.names}
        run = open_run(arguments.run_dir, settings, split, data)  # after all that may refuse: no half-made folder
        write_library(run.folder / LIBRARY, library)
        print(run.summary())
        if left_out:
            print(f"{len(left_out)} training cases have no landmark and are left out: {', '.join(left_out)}")
        print("\n".join(filter(None, (report, library.shortage(config.refine_atlases)))))
        write_text(run.folder / INITIALISATION, f"{report}\n")
        score, validate = validation(network, config, cache, split["validation"])
        fit(run, compiled(network, config), batches,
            Schedule(config.steps, config.record_every, config.early_stopping, score), validate)


def volumes(cache, path: str, config: PoseConfig, names: list[str]) -> tuple:
    """Sec. 3: whole volumes, rescaled, flipped and rotated to 8 versions of each; and who has no landmark."""
    from tfsono.data.landmark_volumes import WholeSampling, exchanged_pairs, whole_dataset, whole_sources

    exchanged = exchanged_pairs(config.landmark_names, MIRRORED) if config.flips else ()
    sampling = WholeSampling(config.ratio, config.stride, config.heatmap_sigma_mm, config.augmentation,
                             config.rotation_degrees, config.seed, config.flips, exchanged)
    sources, left_out = whole_sources(cache, names, sampling)
    return lambda steps: whole_dataset(path, "pose", sources, sampling, steps), left_out


def pose_library(cache, names: list[str]):
    """Sec. 2.2: the poses of the training cases, as they are, for the refinement of test cases."""
    from tfsono.inference.atlases import library_of

    poses = ((name, cache.points_vox(name), cache.spacing_mm(name)) for name in names)
    return library_of((pose for pose in poses if pose[1] is not None), cache.landmarks)


def initialise(network, config: PoseConfig, run_dir: Path) -> str:
    """Sec. 3: what rnn and gan add may be trained on a trained detector; all else starts from random weights."""
    from tfsono.models.pose import build
    from tfsono.training.start import goes_on, load_start, take_over

    before = goes_on(run_dir)
    if before or not config.start_from:
        return before or "every weight from a random start"
    detector = network if config.method == "gan" else build(replace(config, method="land", start_from=""))
    report = load_start(detector, config.start_from, POSE, config, LIKE_ITS_START)
    return f"{report}; from a random start: {', '.join(take_over(network, detector)) or 'none'}"


def compiled(network, config: PoseConfig):
    """Sec. 2.1 and 3: the L2 loss of the heatmaps, Adam; of `gan` after `branch_steps` the discriminator."""
    from tfsono.losses.joint import heatmap_error
    from tfsono.models.pose import discriminator
    from tfsono.training.adversarial import AdversarialSettings, AdversarialTrainer, StageRates, image_and_maps
    from tfsono.training.optimizers import learning_rate, optimizer

    rate, trained = config.learning_rate, network
    if config.schedule == "cosine":
        rate = learning_rate(rate, "cosine", 0, config.branch_steps or config.steps)
    if config.adversarial:
        rate = StageRates(rate, config.adversarial_learning_rate, config.branch_steps)
        trained = AdversarialTrainer(
            network, discriminator(config),
            optimizer("adam", config.adversarial_learning_rate, beta_1=config.adam_beta_1),
            AdversarialSettings(config.branch_steps, seed=config.seed, share=config.adversarial_share), image_and_maps)
    trained.compile(optimizer("adam", rate, beta_1=config.adam_beta_1), loss={"heatmaps": heatmap_error},
                    jit_compile=config.jit_compile)
    return trained


def validation(network, config: PoseConfig, cache, names: list[str]) -> tuple:
    """The score, and a function that gives it: the mean distance of the landmarks, mm."""
    from tfsono.inference.pose import PoseModule
    from tfsono.systems.pose import reader_of
    from tfsono.training.validation import MEAN_DISTANCE, mean_distance

    module = PoseModule(reader_of(network, config))
    return MEAN_DISTANCE, (lambda: mean_distance(module, cache, names)) if names else None


if __name__ == "__main__":
    sys.exit(run_command(main))
