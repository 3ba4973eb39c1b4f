"""Trains `femur` (BRNDC-D, BHI 2019) on a cache: python train/femur.py --data FILE.h5 --run_dir DIR [--preset quick].

    [--variant unet_roi]                                            the first stage, which finds the region
    [--variant brndc | unet_s | unet_l | brn | brnd] --roi_run DIR   the second one, and the rows of Tables 1 and 2
    [--variant brndc_d] --roi_run DIR [--start_from DIR]            with adversarial refinement

The same command goes on where it stopped. The functions follow sections II and III of the paper.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfsono.config import settings_from, training_parser
from tfsono.configs.femur import FEMUR, FemurConfig
from tfsono.errors import UserError, run_command
from tfsono.files import write_text

LIKE_ITS_START = ("network", "widths", "label_names", "landmark_names", "roi_ratio", "spacing_mm", "orientation")


def main(argv: list[str] | None = None) -> None:
    arguments = training_parser(FEMUR, __doc__).parse_args(argv)
    settings = settings_from(arguments, FEMUR)

    from tfsono.data.cache import Cache  # after --help, which must not wait for TensorFlow
    from tfsono.data.splits import chosen_split
    from tfsono.models.femur import build
    from tfsono.systems.femur import adopt_first_stage, checked_first_stage
    from tfsono.training.fit import Schedule, fit, set_seed
    from tfsono.training.run import open_run
    from tfsono.training.start import INITIALISATION, check_precision, with_names

    with Cache(arguments.data, "femur") as cache:
        settings = with_names(settings, cache, ("labels", "landmarks"))
        config = settings.config
        check_cache(cache, config)
        check_precision(config.precision)
        split = chosen_split(arguments.split, cache.split, cache.names, cache.subjects, config.test_cases,
                             config.validation_cases, config.seed)  # Sec. III-A: at random; here by subject
        if config.roi_run:
            checked_first_stage(config.roi_run, split)
        set_seed(config.seed, config.deterministic)
        network = build(config)
        report = initialise(network, config, Path(arguments.run_dir))
        batches, left_out = training_data(cache, arguments.data, config, split["train"])
        data = {"dataset": cache.name, "labels": cache.labels, "landmarks": list(cache.landmarks), "cases": cache.names}
        run = open_run(arguments.run_dir, settings, split, data)  # after all that may refuse: no half-made folder
        adopt_first_stage(run)
        print(run.summary())
        if left_out:
            print(f"{len(left_out)} training cases hold nothing to learn from and are left out: {', '.join(left_out)}")
        print(report)
        write_text(run.folder / INITIALISATION, f"{report}\n")
        score, validate = validation(network, config, cache, split["validation"])
        fit(run, compiled(network, config), batches,
            Schedule(config.steps, config.record_every, config.early_stopping, score), validate)


def check_cache(cache, config: FemurConfig) -> None:
    """What the network learns must be in the cache, at the spacing and orientation that are asked for."""
    from tfsono.training.start import check_grid

    for output, held, folder in (("mask", cache.labels, "labels/"), ("heatmaps", cache.landmarks, "landmarks/")):
        if output in config.outputs and not held:
            raise UserError(f"{cache.path}: {config.network} learns {output}; the dataset has no {folder} with any")
    check_grid(cache, "femur", config)


def initialise(network, config: FemurConfig, run_dir: Path) -> str:
    """Sec. II-D: the adversarial stage goes on from a trained BRNDC; everything else starts from random weights."""
    from tfsono.training.start import goes_on, load_start

    before = goes_on(run_dir)
    if before or not config.start_from:
        return before or "every weight from a random start"
    return load_start(network, config.start_from, FEMUR, config, LIKE_ITS_START)


def training_data(cache, path: str, config: FemurConfig, names: list[str]) -> tuple:
    """Sec. II-A and III-A: slices, or 28 versions of each region; and who is left out."""
    from tfsono.data.regions import RegionSampling, region_dataset, region_sources
    from tfsono.data.slices import SliceSampling, load_slices, slice_dataset

    if config.network == "unet_roi":
        stacks = load_slices(cache, names)
        slices = SliceSampling(config.slice_batch, config.stride, config.seed, config.slice_augmentation == "random",
                               max(config.rotation_degrees, default=0.0),
                               (min(config.scales, default=1.0), max(config.scales, default=1.0)), config.flips)
        return lambda steps: slice_dataset(stacks, slices, steps), list(stacks.left_out)
    sampling = RegionSampling(config.roi_margin, config.roi_ratio, config.stride, config.heatmap_sigma, config.outputs,
                              config.augmentation, config.rotation_degrees, config.scales, config.seed, config.flips)
    sources, left_out = region_sources(cache, names, sampling)
    check_regions(sources, config)
    return lambda steps: region_dataset(path, "femur", sources, sampling, steps), left_out


def check_regions(sources: list, config: FemurConfig) -> None:
    """What TensorFlow's CPU kernels do wrongly without a word, seen on 2.21 with oneDNN: see docs/traps.md."""
    from tfsono.geometry.regions import network_grid
    from tfsono.training.start import has_gpu

    if config.precision != "mixed_bfloat16" or has_gpu():
        return
    for source in sources:
        sides = network_grid(source.box, config.roi_ratio, config.stride).padded
        if min(sides) <= 2 * config.stride:
            raise UserError(f"--precision mixed_bfloat16: a CPU gives wrong gradients for a region {min(sides)} voxels "
                            f"wide ({source.name}: 2 or fewer at the lowest level); take float32, or a larger "
                            "--roi_margin")


def compiled(network, config: FemurConfig):
    """Eq. 2 and 3: the weighted sum of the losses, and after `branch_steps` the discriminator."""
    from tfsono.losses.joint import heatmap_loss, mask_loss
    from tfsono.models.femur import discriminator
    from tfsono.training.adversarial import AdversarialSettings, AdversarialTrainer, StageRates
    from tfsono.training.optimizers import optimizer

    losses = {"mask": mask_loss(config.hybrid_loss, config.dice_weight),
              "heatmaps": heatmap_loss(config.centre_distance_weight * config.centre_distance,
                                       config.centre_distance_unit, config.centre_distance_point,
                                       config.soft_argmax_beta)}
    weights = {"mask": config.segmentation_weight, "heatmaps": config.heatmap_weight}
    losses, weights = ({name: held[name] for name in config.outputs} for held in (losses, weights))
    rate, trained = config.learning_rate, network
    if config.adversarial:
        rate = StageRates(config.learning_rate, config.adversarial_learning_rate, config.branch_steps)
        trained = AdversarialTrainer(
            network, discriminator(config),
            optimizer("adam", config.adversarial_learning_rate, beta_1=config.adam_beta_1),
            AdversarialSettings(config.branch_steps, config.adversarial_weight, config.generator_loss,
                                config.discriminator_noise, seed=config.seed))
    trained.compile(optimizer("adam", rate, beta_1=config.adam_beta_1), loss=losses, loss_weights=weights,
                    jit_compile=config.jit_compile)
    return trained


def validation(network, config: FemurConfig, cache, names: list[str]) -> tuple:
    """The score, and a function that gives it: mean Dice, or of landmarks alone their mean error; in the true boxes."""
    from tfsono.inference.femur import FemurModule, RegionFinder, RegionReader, SliceModule
    from tfsono.training.fit import Score

    masks = "mask" in config.outputs
    score = Score("validation_dice") if masks else Score("validation_mre_mm", less_is_better=True)
    if config.network == "unet_roi":
        module = SliceModule(RegionFinder(network, config.stride, config.slice_batch, config.roi_smallest_part,
                                             config.roi_part))
    else:
        module = FemurModule(RegionReader(network, config.stride, config.roi_margin, config.roi_ratio,
                                          config.heatmap_decode), None)
    return score, (lambda: validated(module, config, cache, names)) if names else None


def validated(module, config: FemurConfig, cache, names: list[str]) -> float:
    """The mean of the score over cases that have what it needs, before clean-up."""
    import numpy as np

    from tfsono.geometry.regions import box_of
    from tfsono.metrics.femur_case import MaskAndPoints, joint_metrics

    values = []
    for name in names:
        case = cache.read(name)  # as the cache holds it, at the network's spacing
        box = box_of(case.label, case.points_vox)
        if box is None:
            continue
        given = (case.image, np.float32(case.spacing_mm))
        answer = module(*given) if config.network == "unet_roi" else module.predict_in(*given, [*box.low, *box.high])
        found = MaskAndPoints(*(answer[key].numpy() if key in answer else None for key in ("mask", "points_vox")))
        classes = {label: value for value, label in enumerate(config.label_names, 1)}
        row = joint_metrics(found, MaskAndPoints(case.label, case.points_vox), case.spacing_mm, classes,
                            config.landmark_names)
        values.append(row["dice" if "mask" in config.outputs else "mre_mm"])
    values = [value for value in values if np.isfinite(value)]
    if not values:
        raise UserError(f"{cache.path}: no validation case has what {config.network} is measured by")
    return float(np.mean(values))


if __name__ == "__main__":
    sys.exit(run_command(main))
