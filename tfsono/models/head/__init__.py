"""Networks of `head`: four that find landmarks (`localisation`), three that segment (`segmentation`), on `backbones`.

Each has one output, named in `config.output`.

    image [B, Y, X, 1] grey, standardised -> {"heatmaps": [B, Y / 4, X / 4, 4]}
                                           | {"points": [B, 4, 2], (x, y) pixels of the network's frame}
                                           | {"mask": logits [B, Y, X, 1]}

    backbones       ResNet50, EfficientNet-B3, a small residual one; ImageNet weights
    localisation    the four networks of landmarks
    segmentation    the three networks of masks

Y and X are `config.input_size`: arrays are [rows, columns] here. The four landmarks are OFD 1, OFD 2, BPD 1, BPD 2.
"""

from __future__ import annotations

import keras

from tfsono.configs.head import HeadConfig
from tfsono.geometry.heatmaps import gaussian_maps, soft_argmax_points
from tfsono.layers.planar import PlanarStyle
from tfsono.layers.precision import made_in
from tfsono.losses import landmarks, masks
from tfsono.models.head.backbones import BACKBONES, load_backbone
from tfsono.models.head.localisation import attention_pyramid, coordinate, heatmap, transformer
from tfsono.models.head.segmentation import deeplabv3plus, unet

__all__ = ["BACKBONES", "CELL", "LANDMARKS", "build", "load_backbone", "losses"]

LANDMARKS = 4
CELL = 4  # pixels of the network's frame in a cell of a heatmap


def build(config: HeadConfig, monte_carlo: bool = False) -> keras.Model:
    """The network of a config.

    Args:
      config: its network and sizes.
      monte_carlo: dropout stays on in every call, the normalisations are as at test: each call is one sample (Gal and
        Ghahramani, ICML 2016). The number and order of the weights are those without it.
    """
    with made_in(config.precision):
        style = PlanarStyle(config.norm_momentum, config.dropout, monte_carlo)
        image = keras.Input((*config.input_size, 1), name="image")
        return keras.Model(image, {config.output: _output(image, config, style)}, name=config.network)


def _output(image, config: HeadConfig, style: PlanarStyle):
    match config.network:
        case "heatmap":
            return heatmap(image, config, style, LANDMARKS)
        case "coordinate":
            return coordinate(image, config, style, LANDMARKS)
        case "attention_pyramid":
            return attention_pyramid(image, config, style, LANDMARKS)
        case "transformer":
            return transformer(image, config, style, LANDMARKS)
        case "deeplabv3plus":
            return deeplabv3plus(image, config, style)
    return unet(image, config, style, gates=config.network == "attention_unet")


def losses(config: HeadConfig) -> dict:
    """The loss of the network by the name of its output, a function of (reference, prediction) that gives [B]
    float32.

    The reference of `heatmaps` and of `points` is the points [B, 4, 2] in pixels of the network's frame, NaN where a
    landmark is unknown; the targets of the maps are made of them here, exact between the cells. The reference of `mask`
    is [B, Y, X, 1], and [B, Y, X, 2] with `losses.masks.signed_distance` where `boundary_weight` is not 0.
    """
    terms = {"heatmaps": heatmap_loss, "points": point_loss, "mask": mask_loss}[config.output]

    def loss(reference, prediction):
        return terms(reference, prediction, config)

    return {config.output: loss}


def heatmap_loss(points, maps, config: HeadConfig):
    """The loss of the maps, and of the points that a soft-argmax takes from them: [B].

    The source compares points of the map with points of the image, and uses a soft-argmax without temperature.
    """
    targets = gaussian_maps(points, config.map_size, config.heatmap_sigma, CELL)
    of_maps = landmarks.adaptive_wing if config.heatmap_loss == "adaptive_wing" else landmarks.heatmap_squared_error
    value = config.heatmap_weight * of_maps(targets, maps)
    if config.coordinate_weight or config.geometric_weight or config.relation_weight:
        value = value + point_loss(points, soft_argmax_points(maps, config.soft_argmax_beta, CELL), config)
    return value


def point_loss(points, predicted, config: HeadConfig):
    """The loss of the coordinates, and of the relations between the two axes: [B]."""
    longest = max(config.input_size)
    match config.coordinate_loss:
        case "wing":
            value = landmarks.wing(points, predicted, longest, config.wing_width, config.wing_curvature)
        case "mse":
            value = landmarks.squared_error(points, predicted, longest)
        case _:
            value = landmarks.smooth_l1(points, predicted, longest, config.smooth_l1_beta)
    value = config.coordinate_weight * value
    if config.geometric_weight:
        value = value + config.geometric_weight * landmarks.perpendicular(points, predicted, longest)
    if config.relation_weight:
        value = value + config.relation_weight * landmarks.relation(points, predicted, longest)
    return value


def mask_loss(reference, logits, config: HeadConfig):
    """The weighted sum of the losses of the mask: [B]."""
    value = 0.0
    if config.dice_weight:
        value = value + config.dice_weight * masks.mask_dice(reference, logits)
    if config.cross_entropy_weight:
        value = value + config.cross_entropy_weight * masks.mask_cross_entropy(reference, logits)
    if config.focal_weight:
        focal = masks.mask_focal(reference, logits, config.focal_alpha, config.focal_gamma)
        value = value + config.focal_weight * focal
    if config.focal_dice_weight:
        value = value + config.focal_dice_weight * masks.mask_focal_dice(reference, logits, config.focal_dice_gamma)
    if config.boundary_weight:
        value = value + config.boundary_weight * masks.mask_boundary(reference, logits)
    return value
