"""Trains `head` (BPD and OFD in 2D ultrasound) on a cache: python train/head.py --data FILE.h5 --run_dir DIR.

    [--preset quick] [--variant unet | attention_unet | deeplabv3plus | heatmap | coordinate | ...] [--fold 1]

The same command goes on where it stopped. The functions follow the text's Training Strategy.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfsono.config import settings_from, training_parser
from tfsono.configs.head import HEAD, HeadConfig
from tfsono.errors import UserError, run_command
from tfsono.files import write_text


def main(argv: list[str] | None = None) -> None:
    arguments = training_parser(HEAD, __doc__).parse_args(argv)
    settings = settings_from(arguments, HEAD)
    config = settings.config

    from tfsono.data.cache import Cache  # after --help, which must not wait for TensorFlow
    from tfsono.data.heads import known_heads, official_outlines, outline_margin_px
    from tfsono.models.head import build
    from tfsono.training.fit import Schedule, fit, set_seed
    from tfsono.training.run import open_run
    from tfsono.training.start import INITIALISATION, check_precision

    check_precision(config.precision)
    with Cache(arguments.data, "head") as cache:
        heads = known_heads(cache, cache.names)
        split = dataset_and_split(cache, heads, config, arguments.split)
        margin = outline_margin_px(heads, split["train"]) if config.outline == "official" else None
        heads = official_outlines(heads, margin)
        order = end_order(heads, split["train"], config)
        train, validation_part = load_parts(cache, heads, split, config, order)
        set_seed(config.seed, config.deterministic)
        network = build(config)
        report = initialise(network, config, Path(arguments.run_dir))
        data = described(cache, heads, split, config, order, margin)
        run = open_run(arguments.run_dir, settings, split, data)  # after all that may refuse: no half-made folder
    print(f"{run.folder}: {settings.preset}, {settings.variant}; {len(train.names)} cases to train, "
          f"{len(split['validation'])} to validate, {len(split['test'])} to test")
    print("\n".join([*data["labels_used"], report]))
    write_text(run.folder / INITIALISATION, f"{report}\n")
    compile_network(network, config)
    score, validate = validation(network, config, validation_part, heads, order)
    fit(run, network, batches(train, config, order),
        Schedule(config.iterations, config.record_every, config.early_stopping, score), validate)


def dataset_and_split(cache, heads: dict, config: HeadConfig, path: str | None) -> dict:
    """Training Strategy: 5-fold stratified. A test part is held apart first; examinations are not divided."""
    from tfsono.data.splits import check_split, divide_fold, make_fold_split, read_split

    sizes = {name: head.size for name, head in heads.items()}
    split = read_split(path) if path else cache.split
    if split is None:
        return make_fold_split(cache.names, cache.subjects, sizes, config.test_cases, config.folds, config.fold,
                               config.seed)
    split = {part: list(split.get(part, [])) for part in ("train", "validation", "test")}
    check_split(split, cache.names, cache.subjects, path or "split")
    if not split["validation"]:
        split["train"], split["validation"] = divide_fold(split["train"], cache.subjects, sizes, config.folds,
                                                          config.fold, config.seed)
    return split


def end_order(heads: dict, names: list[str], config: HeadConfig):
    """Which end of a pair comes first: learned from the training points (BiometryNet), or fixed."""
    from tfsono.data.heads import learned_order
    from tfsono.geometry.head_labels import DEFAULT_ORDER

    if config.part == "segmentation" or config.end_order == "fixed":
        return DEFAULT_ORDER
    return learned_order(heads, names, config.landmark_policy)


def load_parts(cache, heads: dict, split: dict, config: HeadConfig, order) -> list:
    """Training and validation pictures with what they are compared with; cases without it are left out."""
    from tfsono.data.pictures import load_pictures

    parts = []
    for part in ("train", "validation"):
        points = {name: points_of(heads[name], part, config, order) for name in split[part]}
        points = {name: found for name, found in points.items() if found is not None}
        masked = [name for name in split[part] if config.part == "segmentation" and heads[name].ellipse is not None]
        names = [name for name in split[part] if name in points or name in masked]
        if part == "train" and not names:
            raise UserError(f"{cache.path}: none of the {len(split[part])} training cases has points that "
                            f"--landmark_policy {config.landmark_policy} accepts"
                            f"{', or a mask' * (config.part == 'segmentation')}; look at `tfsono audit`")
        if len(names) < len(split[part]):
            print(f"{len(split[part]) - len(names)} of {len(split[part])} cases of the {part} part are left out: "
                  "they have no usable label")
        pictures = load_pictures(cache, names, config.input_size, config.clahe_clip, config.clahe_tiles,
                                 config.denoise, points) if names else None
        parts.append(with_drawn_masks(pictures) if pictures and config.part == "segmentation" else pictures)
    return parts


def points_of(head, part: str, config: HeadConfig, order):
    """The points [4, 2] that a case is compared with; None where it has none, or its mask says more."""
    from tfsono.geometry.ellipse import ellipse_of_points

    if config.part == "landmarks":
        # Who keeps labels as they are found believes them, and validates with them too; the test asks the ellipse.
        if part == "train" or config.landmark_policy == "keep":
            points = head.learned_points(config.landmark_policy, order)
            return None if points is None else order.ordered(points)
        return head.true_points(config.landmark_policy, order)
    if head.ellipse is not None:  # of which the mask is redrawn where it is not the official outline
        return head.ellipse.end_points() if head.margin_px else None
    points = head.learned_points(config.landmark_policy, order)
    return points if points is not None and ellipse_of_points(points) is not None else None


def with_drawn_masks(pictures):
    """Data: where a case has no mask, or not the official one, the ellipse of its four points."""
    import numpy as np

    from tfsono.geometry.ellipse import ellipse_of_points

    masks = pictures.masks.copy()
    # A mask that no ellipse fits is not believed where there are points.
    for index in np.flatnonzero(np.isfinite(pictures.points_px).all(axis=(1, 2)) & (pictures.points_px.shape[1] > 0)):
        masks[index] = ellipse_of_points(pictures.points_px[index]).mask(masks.shape[1:])
    return dataclasses.replace(pictures, masks=masks, points_px=np.zeros((len(masks), 0, 2), np.float32))


def described(cache, heads: dict, split: dict, config: HeadConfig, order, margin: float | None) -> dict:
    """What data.json says: the dataset, which labels were learned from, and what validation and test compare with."""
    from tfsono.data.heads import policy_line

    with_mask = sum(head.ellipse is not None for head in heads.values())
    if config.part == "landmarks":
        ends = f"the ends of the mask's ellipse ({with_mask} of {len(heads)} cases), else the points"
        kept = config.landmark_policy == "keep"
        lines = [policy_line(heads, split["train"], config.landmark_policy),
                 f"truth of validation: {'the labels as found' if kept else ends}; of the test: "
                 f"{ends if kept else 'the same'}"]
    else:
        lines = [f"labels: masks ({with_mask} of {len(heads)} cases), else the ellipse of the points after "
                 f"--landmark_policy {config.landmark_policy}"]
    if margin is not None:
        lines.append(f"{margin:.2f} pixels are taken off the masks' edge: so far it lies outside the ellipse of the "
                     "official circumference (median of the training cases)")
    unknown = sum(not head.pixel_size_mm for head in heads.values())
    if unknown:
        lines.append(f"{unknown} of {len(heads)} cases have no pixel size: no millimetres for them")
    return {"dataset": cache.name, "labels": cache.labels, "cases": cache.names, "labels_used": lines,
            "outline_margin_px": margin,
            "end_order": {"ofd_direction": list(order.ofd_direction), "bpd_direction": list(order.bpd_direction)}}


def initialise(network, config: HeadConfig, run_dir: Path) -> str:
    """Landmark Detection, approaches 1 and 2: ImageNet weights where there is a file, said plainly where not."""
    from tfsono.models.head import BACKBONES, load_backbone

    from tfsono.training.start import goes_on

    before = goes_on(run_dir)
    if before:
        return before
    if config.backbone_weights:
        return load_backbone(network, config.backbone_weights)
    if config.backbone == "imagenet" and config.network in BACKBONES:
        return (f"backbone {BACKBONES[config.network]} WITHOUT ImageNet weights, from random ones: no "
                "--backbone_weights was given; the text takes ImageNet's")
    return "every weight from a random start"


def batches(pictures, config: HeadConfig, order):
    """Data Augmentation: all pictures in turn, shuffled in each epoch, each time in another version."""
    from tfsono.augment_picture import PictureAugmentation
    from tfsono.data.pictures import mask_and_distance_target, mask_target, picture_dataset, points_target

    names = [field.name for field in dataclasses.fields(PictureAugmentation)]
    augmentation = PictureAugmentation(**{name: getattr(config, name) for name in names})
    if config.part == "landmarks":
        targets = points_target(config.output)
    else:
        targets = mask_and_distance_target if config.boundary_weight else mask_target

    def made(steps: range):
        return picture_dataset(pictures, targets, augmentation, order.ordered, config.batch, config.seed, steps)

    return made


def compile_network(network, config: HeadConfig) -> None:
    """Training Strategy: AdamW with weight decay, cosine annealing with warm restarts, clipped gradients."""
    import keras

    from tfsono.models.head import losses
    from tfsono.training.optimizers import cosine_restarts, optimizer

    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            config.learning_rate, config.iterations, config.smallest_learning_rate / config.learning_rate)
    else:
        rate = cosine_restarts(config.learning_rate, config.smallest_learning_rate,
                               config.restart_records * config.record_every, config.restart_factor)
    network.compile(optimizer(config.optimizer, rate, weight_decay=config.weight_decay,
                              gradient_clip=config.gradient_clip),
                    loss=losses(config), jit_compile=config.jit_compile)


def validation(network, config: HeadConfig, pictures, heads: dict, order):
    """The score, and a function that gives it: mean Dice in the network's frame, or MRE in the picture's pixels."""
    from tfsono.training.fit import Score

    if config.part == "segmentation":
        return Score("validation_dice"), pictures and (lambda: mean_dice(network, config, pictures))
    unit = "mm" if pictures and all(pictures.pixel_sizes_mm) else "px"
    return (Score(f"validation_mre_{unit}", less_is_better=True),
            pictures and (lambda: mean_radial_error(network, config, pictures, unit)))


def answers(network, config: HeadConfig, pictures):
    """The network's answers to all pictures, [N, ...] in its frame, as they are."""
    import numpy as np
    import tensorflow as tf

    from tfsono.data.pictures import mask_target, ordered_dataset
    from tfsono.inference.head import points_of

    @tf.function(reduce_retracing=True)
    def answer(image):
        found = network(image, training=False)
        if config.part == "segmentation":
            return tf.cast(found["mask"][..., 0], tf.float32)
        return points_of(found, config.heatmap_decode, config.soft_argmax_beta)

    return np.concatenate([answer(image).numpy() for image, _ in ordered_dataset(pictures, mask_target, config.batch)])


def mean_dice(network, config: HeadConfig, pictures) -> float:
    """The mean over pictures of the Dice of mask and thresholded probability, in the network's frame."""
    import numpy as np

    logits = answers(network, config, pictures)
    found = (logits >= np.log(config.threshold / (1 - config.threshold))) & pictures.valid
    truth = pictures.masks > 0
    overlap = (found & truth).sum((1, 2))
    return float(np.mean(2 * overlap / np.maximum(found.sum((1, 2)) + truth.sum((1, 2)), 1)))


def mean_radial_error(network, config: HeadConfig, pictures, unit: str) -> float:
    """MRE: the mean distance over pictures and landmarks, in the picture's own pixels or in millimetres."""
    import numpy as np

    errors = []
    for index, points in enumerate(answers(network, config, pictures)):
        distances = np.linalg.norm(points - pictures.points_px[index], axis=-1) / pictures.letterboxes[index].scale
        errors.append(np.nanmean(distances) * (pictures.pixel_sizes_mm[index] if unit == "mm" else 1.0))
    return float(np.mean(errors))


if __name__ == "__main__":
    sys.exit(run_command(main))
