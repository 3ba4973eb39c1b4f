"""Trains `head` (BPD and OFD in 2D ultrasound) on a cache: python train/head.py --data FILE.h5 --run_dir DIR.

    [--preset quick] [--variant unet | attention_unet | deeplabv3plus | heatmap | coordinate | ...] [--fold 1]

The same command resumes an interrupted training. The functions follow the text's Training Strategy.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import NamedTuple

if not __package__:  # run as a file of a checkout, and not by `tfsono train`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import training_parser
from tfsono.configs.head import HEAD, LIKE_ITS_START, HeadConfig
from tfsono.errors import UserError, run_command
from tfsono.surroundings import parsed


class Labels(NamedTuple):
    """The training labels: each case's ellipse and points, the order of a pair's ends, and the masks' margin."""

    heads: dict
    order: object
    margin_px: float | None


def main(argv: list[str] | None = None) -> None:
    arguments = parsed(training_parser(HEAD, __doc__, mirrored=True), argv)
    from tfsono.models.head import build
    from tfsono.training.fit import fit
    from tfsono.training.start import started

    with started(arguments, HEAD) as start:
        config, (split, labels) = start.config, split_and_labels(start)
        train, held_out = load_parts(start.cache, labels, split, config)
        network = start.announce(start.built(build), sizes(config))
        data = described(start.cache, labels, split, config), circumferences_mm(labels.heads)
        run = start.open_run(split, initialise(network, start, split), (), *data)
        print("\n".join(run.data["labels_used"]))
        fit(run, compiled(network, config), batches(train, config, labels.order),
            *validation(network, config, held_out))


def split_and_labels(start) -> tuple[dict, Labels]:
    """Training Strategy: 5-fold stratified, a test part held out first; then the labels, from the training part."""
    from tfsono.data.heads import known_heads, official_outlines, outline_margin_px

    cache, config = start.cache, start.config
    heads = known_heads(cache, cache.names)
    split = split_by_examination(start, {name: head.size for name, head in heads.items()})
    margin = outline_margin_px(heads, split["train"]) if config.outline == "official" else None
    heads = official_outlines(heads, margin)
    return split, Labels(heads, end_order(heads, split["train"], config), margin)


def split_by_examination(start, sizes: dict) -> dict:
    """The split of `--split`, else the dataset's own, else a fold; the images of one examination stay together."""
    from tfsono.data.splits import check_split, divide_fold, hold_out, make_fold_split, read_split, with_fold_tested

    cache, config = start.cache, start.config
    split = read_split(start.split_file) if start.split_file else cache.split
    if split is None and config.fold_is == "validation":
        return make_fold_split(cache.names, cache.subjects, sizes, test_cases=config.test_cases, folds=config.folds,
                               fold=config.fold, seed=config.seed)
    split = split or hold_out(cache.names, cache.subjects, sizes, test_cases=config.test_cases, seed=config.seed)
    split = {part: list(split.get(part, [])) for part in ("train", "validation", "test")}
    check_split(split, cache.names, cache.subjects, start.split_file or "split")
    if config.fold_is == "test":
        return with_fold_tested(split, cache.subjects, sizes, folds=config.folds, fold=config.fold, seed=config.seed)
    if not split["validation"]:
        split["train"], split["validation"] = divide_fold(split["train"], cache.subjects, sizes, folds=config.folds,
                                                          fold=config.fold, seed=config.seed)
    return split


def end_order(heads: dict, names: list[str], config: HeadConfig):
    """The order of a pair's ends: learned from the training points (BiometryNet)."""
    from tfsono.data.heads import learned_order
    from tfsono.geometry.head_labels import DEFAULT_ORDER

    if config.part == "segmentation":
        return DEFAULT_ORDER
    return learned_order(heads, names, config.landmark_policy)


def load_parts(cache, labels: Labels, split: dict, config: HeadConfig) -> list:
    """Training and validation images with their labels; cases without usable labels are excluded."""
    from tfsono.data.images_2d import load_images

    parts, heads = [], labels.heads
    for part in ("train", "validation"):
        points = {name: points_of(heads[name], part, config, labels.order) for name in split[part]}
        points = {name: found for name, found in points.items() if found is not None}
        masked = [name for name in split[part] if config.part == "segmentation" and heads[name].ellipse is not None]
        names = [name for name in split[part] if name in points or name in masked]
        if part == "train" and not names:
            raise UserError(f"{cache.path}: none of the {len(split[part])} training cases has points that "
                            f"--landmark_policy {config.landmark_policy} accepts"
                            f"{', or a mask' * (config.part == 'segmentation')}; look at `tfsono audit`")
        if len(names) < len(split[part]):
            print(f"{len(split[part]) - len(names)} of {len(split[part])} cases of the {part} part are excluded: "
                  "they have no usable label")
        images = load_images(cache, names, input_size=config.input_size, clahe_clip=config.clahe_clip,
                             clahe_tiles=config.clahe_tiles, points_px=points) if names else None
        parts.append(with_drawn_masks(images) if images and config.part == "segmentation" else images)
    return parts


def points_of(head, part: str, config: HeadConfig, order):
    """The points [4, 2] that a case is compared with; None without any, or where its mask is better."""
    from tfsono.geometry.ellipse import ellipse_of_points

    if config.part == "landmarks":
        # With `keep`, validation uses the labels as given; the test set is always compared with the fitted ellipse.
        if part == "train" or config.landmark_policy == "keep":
            points = head.learned_points(config.landmark_policy, order)
            return None if points is None else order.ordered(points)
        return head.reference_points(config.landmark_policy, order)
    if head.ellipse is not None:  # the mask is redrawn where it is not the official outline
        return head.ellipse.end_points() if head.margin_px else None
    points = head.learned_points(config.landmark_policy, order)
    return points if points is not None and ellipse_of_points(points) is not None else None


def with_drawn_masks(images):
    """Data: where a case has no mask, or not the official outline, the ellipse of its four points."""
    import numpy as np

    from tfsono.geometry.ellipse import ellipse_of_points

    masks = images.masks.copy()
    # Points replace a mask that no ellipse fits.
    for index in np.flatnonzero(np.isfinite(images.points_px).all(axis=(1, 2)) & (images.points_px.shape[1] > 0)):
        masks[index] = ellipse_of_points(images.points_px[index]).mask(masks.shape[1:])
    return dataclasses.replace(images, masks=masks, points_px=np.zeros((len(masks), 0, 2), np.float32))


def described(cache, labels: Labels, split: dict, config: HeadConfig) -> dict:
    """The contents of data.json: the labels of training, and the references of validation and test."""
    from tfsono.data.heads import policy_line

    heads, order, margin = labels
    with_mask = sum(head.ellipse is not None for head in heads.values())
    if config.part == "landmarks":
        ends = f"the ends of the mask's ellipse ({with_mask} of {len(heads)} cases), else the points"
        kept = config.landmark_policy == "keep"
        lines = [policy_line(heads, split["train"], config.landmark_policy),
                 f"reference of validation: {'the labels as given' if kept else ends}; of the test: "
                 f"{ends if kept else 'the same'}"]
    else:
        lines = [f"labels: masks ({with_mask} of {len(heads)} cases), else the ellipse of the points after "
                 f"--landmark_policy {config.landmark_policy}"]
    if margin is not None:
        lines.append(f"the masks are shrunk by {margin:.2f} pixels, the median distance of their edge from the ellipse "
                     "of the official circumference in the training cases")
    unknown = sum(not head.pixel_size_mm for head in heads.values())
    if unknown:
        lines.append(f"{unknown} of {len(heads)} cases have no pixel size and are not measured in millimetres")
    return {"labels": cache.labels, "labels_used": lines, "outline_margin_px": margin,
            "end_order": {"ofd_direction": list(order.ofd_direction), "bpd_direction": list(order.bpd_direction)}}


def circumferences_mm(heads: dict) -> dict:
    """Each head's circumference: the official one, else that of its mask or its points; None where unknown."""
    from tfsono.geometry.ellipse import ellipse_of_points

    found = {}
    for name, head in heads.items():
        ellipse = None if head.points_px is None else ellipse_of_points(head.points_px)
        by_points = ellipse and head.pixel_size_mm and ellipse.circumference_px() * head.pixel_size_mm
        found[name] = head.size or by_points
    return found


def sizes(config: HeadConfig):
    """The input of a step, then smaller ones with their options."""
    batch, frame = config.batch, config.input_size
    option = "--landmark_batch" if config.part == "landmarks" else "--segmentation_batch"
    yield "", (batch, *frame, 1)
    while batch > 1:
        batch //= 2
        yield f"{option} {batch}", (batch, *frame, 1)
    while min(frame) > 64:
        frame = tuple(side - 32 for side in frame)
        yield f"{option} 1 --input_size {frame[0]},{frame[1]}", (1, *frame, 1)


def initialise(network, start, split: dict) -> str:
    """Landmark Detection, approaches 1 and 2: ImageNet weights where there is a file; the report says where not."""
    from tfsono.models.head import BACKBONES, load_backbone
    from tfsono.systems.first_weights import first_weights
    from tfsono.training.start import resumed

    config = start.config
    if config.start_from or resumed(start.run_dir):
        return first_weights(network, start, HEAD, split, LIKE_ITS_START)
    if config.backbone_weights:
        return load_backbone(network, config.backbone_weights)
    if config.backbone == "imagenet" and config.network in BACKBONES:
        return (f"backbone {BACKBONES[config.network]} WITHOUT ImageNet weights, initialised at random: no "
                "--backbone_weights was given; the text uses ImageNet's")
    return "all weights initialised at random"


def batches(images, config: HeadConfig, order):
    """Data Augmentation: all images in turn, shuffled in each epoch, augmented anew each time."""
    from tfsono.augment_2d import Augmentation2D
    from tfsono.data.images_2d import mask_and_distance_target, mask_target, image_dataset, points_target

    names = [field.name for field in dataclasses.fields(Augmentation2D)]
    augmentation = Augmentation2D(**{name: getattr(config, name) for name in names})
    if config.part == "landmarks":
        targets = points_target(config.output)
    else:
        targets = mask_and_distance_target if config.boundary_weight else mask_target

    def made(steps: range):
        return image_dataset(images=images, targets=targets, augmentation=augmentation, order=order.ordered,
                             batch=config.batch, seed=config.seed, steps=steps)

    return made


def compiled(network, config: HeadConfig):
    """Training Strategy: AdamW with weight decay, cosine annealing with warm restarts, clipped gradients."""
    import keras

    from tfsono.models.head import losses
    from tfsono.training.optimizers import cosine_restarts, optimizer

    if config.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            config.learning_rate, config.steps, config.smallest_learning_rate / config.learning_rate)
    else:
        rate = cosine_restarts(config.learning_rate, config.smallest_learning_rate,
                               config.restart_records * config.record_every, config.restart_factor)
    network.compile(optimizer(config.optimizer, rate, weight_decay=config.weight_decay,
                              gradient_clip=config.gradient_clip),
                    loss=losses(config), jit_compile=False)
    return network


def validation(network, config: HeadConfig, images) -> tuple:
    """Mean Dice of the held-out images in the network's frame, or MRE in the image's own pixels or millimetres.

    With an image of the first one.
    """
    from tfsono.training.fit import Score
    from tfsono.training.start import schedule_of

    segments, unit = config.part == "segmentation", "mm" if images and all(images.pixel_sizes_mm) else "px"
    score = Score("validation_dice") if segments else Score(f"validation_mre_{unit}", less_is_better=True)
    predict = images and predictor(network, config, images)

    def validate() -> tuple:
        found = predict()
        value = mean_dice(found, config, images) if segments else mean_radial_error(found, images, unit)
        return value, compared(found[0], config, images)

    return schedule_of(config, score), images and validate


def compared(prediction, config: HeadConfig, images):
    """The first image with its reference beside its prediction, for TensorBoard."""
    from tfsono.report.comparison import comparison_image

    volume, reference = images.images[0].T[..., None], images.masks[0].T[..., None]
    if config.part == "segmentation":
        return comparison_image(volume, (reference, (prediction >= logit(config.threshold)).T[..., None]))
    return comparison_image(volume, points_vox=(images.points_px[0], prediction))


def predictor(network, config: HeadConfig, images):
    """A function that gives the network's predictions for all images, [N, ...] in its frame; traced once."""
    import numpy as np
    import tensorflow as tf

    from tfsono.data.images_2d import mask_target, ordered_dataset
    from tfsono.inference.head import points_of

    @tf.function(reduce_retracing=True, autograph=False)
    def predict(image):
        found = network(image, training=False)
        if config.part == "segmentation":
            return tf.cast(found["mask"][..., 0], tf.float32)
        return points_of(found, config.heatmap_decode, config.soft_argmax_beta)

    def predictions():
        batches = ordered_dataset(images, mask_target, config.batch)
        return np.concatenate([predict(image).numpy() for image, _ in batches])

    return predictions


def mean_dice(logits, config: HeadConfig, images) -> float:
    """The mean over images of the Dice of mask and thresholded probability, in the network's frame."""
    import numpy as np

    found = (logits >= logit(config.threshold)) & images.valid
    reference = images.masks > 0
    overlap = (found & reference).sum((1, 2))
    return float(np.mean(2 * overlap / np.maximum(found.sum((1, 2)) + reference.sum((1, 2)), 1)))


def logit(probability: float) -> float:
    """The network's output where its probability is this."""
    import numpy as np

    return np.log(probability / (1 - probability))


def mean_radial_error(predictions, images, unit: str) -> float:
    """MRE: the mean distance over images and landmarks, in the image's own pixels or in millimetres."""
    import numpy as np

    errors = []
    for index, points in enumerate(predictions):
        distances = np.linalg.norm(points - images.points_px[index], axis=-1) / images.letterboxes[index].scale
        errors.append(np.nanmean(distances) * (images.pixel_sizes_mm[index] if unit == "mm" else 1.0))
    return float(np.mean(errors))


if __name__ == "__main__":
    sys.exit(run_command(main))
