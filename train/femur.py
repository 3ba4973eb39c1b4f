"""Trains `femur` (BRNDC-D, BHI 2019) on a cache: python train/femur.py --data FILE.h5 --run_dir DIR [--preset quick].

    [--variant unet_roi]                                            the first stage, which finds the region
    [--variant brndc | unet_s | unet_l | brn | brnd] --roi_run DIR   the second stage: the rows of Tables 1 and 2
    [--variant brndc_d] --roi_run DIR [--start_from DIR]            with adversarial refinement

The same command resumes an interrupted training. The functions follow sections II and III of the paper.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file of a checkout, and not by `tfsono train`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import training_parser
from tfsono.configs.femur import FEMUR, FemurConfig
from tfsono.errors import UserError, run_command
from tfsono.sides import side_pairs
from tfsono.surroundings import parsed

LIKE_ITS_START = ("network", "widths", "label_names", "landmark_names", "roi_ratio", "spacing_mm", "orientation")


def main(argv: list[str] | None = None) -> None:
    arguments = parsed(training_parser(FEMUR, __doc__), argv)
    from tfsono.models.femur import build
    from tfsono.training.fit import fit
    from tfsono.training.start import started

    with started(arguments, FEMUR, ("labels", "landmarks")) as start:
        config, split = start.config, checked_split(start)
        data, excluded = batches(start.cache, config, split["train"])
        network = start.built(build)
        report = initialise(network, start)
        trained = start.announce(compiled(network, config), sizes(start.cache, config, split["train"]))
        run = keep(start.open_run(split, report, excluded))
        fit(run, trained, data, *validation(network, run, start.cache, data))
        finish(run, start.cache)


def checked_split(start) -> dict[str, list[str]]:
    """Sec. III-A: at random; here by subject.

    The cache must hold the network's targets; the first stage must not have seen the test cases.
    """
    from tfsono.systems.femur import checked_first_stage
    from tfsono.training.start import check_validation_labels, split_by_subject

    cache, config, split = start.cache, start.config, split_by_subject(start)
    for output, held, folder in (("mask", cache.labels, "labels/"), ("heatmaps", cache.landmarks, "landmarks/")):
        if output in config.outputs and not held:
            raise UserError(f"{cache.path}: {config.network} learns {output}; the dataset has no {folder} with any")
    if "mask" in config.outputs:
        check_validation_labels(cache, split["validation"])
    if config.roi_run:
        checked_first_stage(config.roi_run, split)
    return split


def initialise(network, start) -> str:
    """Sec. II-D: the adversarial stage refines a trained BRNDC; everything else starts from random weights."""
    from tfsono.training.start import load_start, resumed

    before, config = resumed(start.run_dir), start.config
    if before or not config.start_from:
        return before or "all weights initialised at random"
    return load_start(network, config.start_from, FEMUR, config, LIKE_ITS_START)


def keep(run):
    """The run, with a copy of the first stage, where there is one, in its folder."""
    from tfsono.systems.femur import adopt_first_stage

    adopt_first_stage(run)
    return run


def batches(cache, config: FemurConfig, names: list[str]) -> tuple:
    """Sec. II-A and III-A: slices, or 28 versions of each region; and the excluded cases."""
    from tfsono.data.regions import RegionSampling, region_dataset, region_sources
    from tfsono.data.slices import SliceSampling, load_slices, slice_dataset

    if config.network == "unet_roi":
        stacks = load_slices(cache, names)
        slices = SliceSampling(batch=config.slice_batch, stride=config.stride, seed=config.seed,
                               varied=config.slice_augmentation == "random",
                               rotation_degrees=max(config.rotation_degrees, default=0.0),
                               scales=(min(config.scales, default=1.0), max(config.scales, default=1.0)),
                               flips=config.flips, exchanged_labels=side_pairs(config.label_names, first=1),
                               channels=config.roi_slices)
        return lambda steps: slice_dataset(stacks, slices, steps), list(stacks.excluded)
    sampling = RegionSampling(margin=config.roi_margin, ratio=config.roi_ratio, stride=config.stride,
                              sigma=config.heatmap_sigma, outputs=config.outputs, augmentation=config.augmentation,
                              rotation_degrees=config.rotation_degrees, scales=config.scales, seed=config.seed,
                              flips=config.flips, jitter=config.region_jitter,
                              exchanged=side_pairs(config.landmark_names),
                              exchanged_labels=side_pairs(config.label_names, first=1))
    sources, excluded = region_sources(cache, names, sampling)
    check_regions(sources, config)
    return lambda steps: region_dataset(cache.path, "femur", sources, sampling, steps), excluded


def sizes(cache, config: FemurConfig, names: list[str]):
    """The input of a step, slices or the largest region, then smaller ones with their options."""
    from tfsono.geometry.regions import largest_grid

    if config.network == "unet_roi":
        slices, batch = largest_grid([cache.shape(name)[:2] for name in names], 1.0, config.stride), config.slice_batch
        while batch:
            yield f"--slice_batch {batch}", (batch, *slices, config.roi_slices)
            batch //= 2
        return
    ratio, shapes = config.roi_ratio, [region_shape(cache, name, config) for name in names]
    while ratio > 0.05:
        yield f"--roi_ratio {ratio:g}", (1, *largest_grid(shapes, ratio, config.stride), 1)
        ratio = round(0.9 * ratio, 3)


def region_shape(cache, name: str, config: FemurConfig) -> tuple[int, ...]:
    """Sides of the largest region of a case, about: of the voxels of its labels that the cache has sampled."""
    import numpy as np

    from tfsono.geometry.regions import box_of, enlarged

    shape, points = cache.shape(name), cache.points_vox(name)
    voxels = [found for found in cache.foreground(name).values() if len(found)]
    box = box_of(None, np.concatenate(voxels) if voxels else points)
    if box is None:
        return config.stride, config.stride, config.stride
    moved = int(config.region_jitter * max(box.sides))
    return enlarged(box, config.roi_margin + moved // 2, shape).sides


def check_regions(sources: list, config: FemurConfig) -> None:
    """Refuses what TensorFlow's CPU kernels silently compute wrongly (2.21 with oneDNN): see docs/traps.md."""
    from tfsono.geometry.regions import Box, network_grid
    from tfsono.training.start import has_gpu

    if config.precision != "mixed_bfloat16" or has_gpu():
        return
    for source in sources:
        box = source.box
        if config.region_jitter:  # the least that is left of the reference's box beyond a face of the volume
            box = Box((0, 0, 0), [min(n, int((1 - 2 * config.region_jitter) * n) + config.roi_margin)
                                  or 1 for n in source.reference.sides])
        sides = network_grid(box, config.roi_ratio, config.stride).padded
        if min(sides) <= 2 * config.stride:
            raise UserError(f"--precision mixed_bfloat16: a CPU gives wrong gradients for a region {min(sides)} voxels "
                            f"wide ({source.name}: 2 or fewer at the lowest level); take float32, or a larger "
                            "--roi_margin")


def compiled(network, config: FemurConfig):
    """Eq. 2 and 3: the weighted sum of the losses, and after `branch_steps` the discriminator."""
    from tfsono.losses.joint import heatmap_loss, mask_loss
    from tfsono.models.femur import discriminator
    from tfsono.training.adversarial import AdversarialSettings, AdversarialTrainer, StageRates
    from tfsono.training.optimizers import learning_rate, optimizer

    losses = {"mask": mask_loss(config.hybrid_loss, config.dice_weight),
              "heatmaps": heatmap_loss(config.centre_distance_weight * config.centre_distance, config.soft_argmax_beta,
                                       config.centre_distance_from_peak)}
    weights = {"mask": config.segmentation_weight, "heatmaps": config.heatmap_weight}
    losses, weights = ({name: held[name] for name in config.outputs} for held in (losses, weights))
    rate, trained = config.learning_rate, network
    if config.schedule == "last_quarter":
        rate = learning_rate(rate, config.schedule, 0, config.branch_steps)
    if config.adversarial:
        rate = StageRates(rate, config.adversarial_learning_rate, config.branch_steps)
        trained = AdversarialTrainer(
            network, discriminator(config),
            optimizer("adam", config.adversarial_learning_rate, beta_1=config.adam_beta_1),
            AdversarialSettings(config.branch_steps, config.adversarial_weight, config.discriminator_noise,
                                seed=config.seed))
    trained.compile(optimizer("adam", rate, beta_1=config.adam_beta_1), loss=losses, loss_weights=weights,
                    jit_compile=False)
    return trained


def settling(network, config: FemurConfig, data):
    """What estimates the averages of unet_roi again before a record, on the first batches; None where they stay."""
    from tfsono.training.averages import settle_averages

    if config.network != "unet_roi" or not config.roi_average_batches:
        return None
    return lambda: settle_averages(network, (image for image, _ in data(range(config.roi_average_batches))))


def validation(network, run, cache, data) -> tuple:
    """Mean Dice of the held-out cases, or of landmarks alone their mean radial error; in the reference boxes."""
    from tfsono.inference.femur import FemurModule, RegionFinder, RegionReader, SliceModule
    from tfsono.training.fit import Score
    from tfsono.training.start import schedule_of

    config, names = run.config, run.split["validation"]
    masks = "mask" in config.outputs
    score = Score("validation_dice") if masks else Score("validation_mre_mm", less_is_better=True)
    if config.network == "unet_roi":
        module = SliceModule(RegionFinder(network, config.stride, config.slice_batch, config.roi_smallest_part,
                                          part=config.roi_part, every=config.roi_every))
    else:
        module = FemurModule(RegionReader(network, config.stride, margin=config.roi_margin, ratio=config.roi_ratio,
                                          decode=config.heatmap_decode, sigma=config.heatmap_sigma), None)
    validate = (lambda: validated(module, config, cache, names)) if names else None
    return schedule_of(config, score), validate, settling(network, config, data)


def validated(module, config: FemurConfig, cache, names: list[str]) -> tuple:
    """The mean score over the cases with its labels, before postprocessing, and an image of the first one."""
    import numpy as np

    from tfsono.geometry.regions import box_of
    from tfsono.metrics.femur_case import MaskAndPoints, joint_metrics
    from tfsono.report.comparison import comparison_image

    values, image = [], None
    for name in names:
        case = cache.read(name)  # at the network's spacing
        box = box_of(case.label, case.points_vox)
        if box is None:
            continue
        given = (case.image, np.float32(case.spacing_mm))
        raw = module(*given) if config.network == "unet_roi" else module.predict_in(*given, [*box.low, *box.high])
        found = MaskAndPoints(*(raw[key].numpy() if key in raw else None for key in ("mask", "points_vox")))
        if image is None:
            image = comparison_image(case.image, (case.label, found.mask), (case.points_vox, found.points_vox))
        classes = {label: value for value, label in enumerate(config.label_names, 1)}
        row = joint_metrics(found, MaskAndPoints(case.label, case.points_vox), case.spacing_mm, classes,
                            config.landmark_names)
        values.append(row["dice" if "mask" in config.outputs else "mre_mm"])
    values = [value for value in values if np.isfinite(value)]
    if not values:
        raise UserError(f"{cache.path}: no validation case has the labels that {config.network} is measured by")
    return float(np.mean(values)), image


def finish(run, cache) -> None:
    """The confidence of the landmarks, from the validation cases."""
    from tfsono.systems.femur import module_of
    from tfsono.training.confidence import keep_confidence

    if "heatmaps" in run.config.outputs:
        keep_confidence(run, cache, module_of)


if __name__ == "__main__":
    sys.exit(run_command(main))
