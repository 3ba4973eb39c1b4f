"""Networks of `face`: one backbone, and on it the detector of each row of Tables 1 and 2 (Sec. 2).

    image [B, X, Y, Z, 1] standardised ->

    rpn, ssd      {"classes": [B, A, K + 1] logits, "offsets": [B, A, 6]} of all anchors
    faster_rcnn   {"objectness": [B, A, 2], "offsets": [B, A, 6]} of all anchors, and of the P best, its proposals,
                  {"proposals": [B, P, 6] boxes, NaN where there are fewer, "classes": [B, P, K + 1],
                  "proposal_offsets": [B, P, 6], "features": the map that `layers.proposals.SECOND_STAGE` reads};
                  B is 1
    heatmap       {"heatmaps": [B, X, Y, Z, K] linear}

Class 0 is the background. Anchors are in the order of `geometry.anchors`; of two maps the finer one comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import keras
from keras import layers

from tfsono.configs.face import FaceConfig
from tfsono.layers.blocks import BlockStyle, classifier, convolution, pooling
from tfsono.layers.nodes import two_convolutions
from tfsono.layers.precision import made_in
from tfsono.layers.proposals import SECOND_STAGE, Proposals, RegionFeatures
from tfsono.layers.trilinear import UpsampledConv3D
from tfsono.models.mean import mean, mean_logits, mean_network


def build(config: FaceConfig) -> keras.Model:
    """The network of a config, for any sides that are multiples of `config.stride`."""
    with made_in(config.precision):
        image = keras.Input((None, None, None, 1), name="image")
        maps = _backbone(image, config)
        if config.method == "heatmap":
            prediction = {"heatmaps": _heatmaps(maps, config)}
        elif config.method == "faster_rcnn":
            prediction = _two_stages(maps[0], config)
        else:
            prediction = _anchor_heads(maps[:len(config.strides)], config, config.landmarks + 1, "classes")
        return keras.Model(image, prediction, name=config.method)


def mean_of(networks: Sequence[keras.Model], config: FaceConfig) -> keras.Model:
    """An ensemble as one network: the mean of the heatmaps, or of the anchors' probabilities (as logits) and offsets.

    With `faster_rcnn` the proposals are those of the mean of the first stages; every second stage classifies them by
    its own features.
    """
    if len(networks) == 1 or config.method != "faster_rcnn":
        return mean_network(networks, logits=("classes",))
    image = keras.Input((None, None, None, 1), name="image")
    members = [keras.Model(one.input, one.output, name=f"member_{number}")(image)
               for number, one in enumerate(networks, 1)]
    objectness = mean_logits([member["objectness"] for member in members])
    offsets = mean([member["offsets"] for member in members])
    proposals = _proposals(config)([members[0]["features"], objectness, offsets])
    seconds = []
    for number, (one, member) in enumerate(zip(networks, members, strict=True), 1):
        stage = one.get_layer(SECOND_STAGE)
        stage = keras.Model(stage.input, stage.output, name=f"{SECOND_STAGE}_{number}")
        seconds.append(stage([member["features"], proposals]))
    outputs = {"proposals": proposals, "classes": mean_logits([one["classes"] for one in seconds]),
               "proposal_offsets": mean([one["proposal_offsets"] for one in seconds])}
    return keras.Model(image, outputs, name="mean_faster_rcnn")


def _style(config: FaceConfig) -> BlockStyle:
    return BlockStyle(config.initial_deviation, 0.0, config.norm_momentum, config.norm_epsilon, config.norm_at_test)


def _backbone(image, config: FaceConfig) -> list:
    """Like VGG-16 (Sec. 2.1, Fig. 2): the fused map, the deepest block, and the blocks above the fused one, upward.

    Blocks of two convolutions with poolings between; the deepest is interpolated to the size of the one above,
    concatenated with it, and convolved: the "final feature map", 4 voxels a cell with four blocks. With `rpn`, the
    paper's widths and K = 5 there are 8,136,160 trainable parameters and a receptive field of 92 voxels.
    """
    style, blocks, x = _style(config), [], image
    for level, channels in enumerate(config.widths, 1):
        x = two_convolutions([x if level == 1 else pooling(x, f"pool{level - 1}")], channels, style, f"e{level}")
        blocks.append(x)
    *above, skip, deepest = blocks
    fused = _upsampled(deepest, skip, config.head_width, style, "fused")
    return [fused, deepest, *reversed(above)]


def _upsampled(coarse, fine, channels: int, style: BlockStyle, name: str):
    """`coarse` interpolated to twice its sides, concatenated with `fine`, and convolved."""
    convolution = UpsampledConv3D(channels, 3, padding="same", use_bias=False, name=name, **style.kernel())
    return style.normalise(convolution([coarse, fine]), name)


def _anchor_heads(maps: list, config: FaceConfig, classes: int, kind: str) -> dict:
    """On each map a convolution and two sibling ones (Sec. 2.2): logits and offsets of the anchors of all maps."""
    logits, offsets = [], []
    for number, x in enumerate(maps, 1):
        name = f"head{number}"
        x = convolution(x, config.head_width, _style(config), name)
        logits.append(_of_anchors(x, config, classes, f"{name}_{kind}"))
        offsets.append(_of_anchors(x, config, 6, f"{name}_offsets"))
    return {kind: _joined(logits, kind), "offsets": _joined(offsets, "offsets")}


def _of_anchors(x, config: FaceConfig, values: int, name: str):
    """[B, X, Y, Z, C] -> [B, cells * anchors of a cell, values], float32.

    In half precision the values are rounded, boxes by hundredths of a voxel; in float32 these two kernels would be
    slower.
    """
    kernel = replace(_style(config), deviation=config.head_deviation).kernel()
    x = layers.Conv3D(config.anchors * values, 1, name=name, **kernel)(x)
    return layers.Reshape((-1, values), dtype="float32", name=f"{name}_rows")(x)


def _joined(parts: list, name: str):
    return layers.Concatenate(axis=1, dtype="float32", name=name)(parts) if len(parts) > 1 else parts[0]


def _two_stages(fused, config: FaceConfig) -> dict:
    """Faster R-CNN: objectness of the anchors, the best of them as proposals, and the classes of these."""
    prediction = _anchor_heads([fused], config, 2, "objectness")
    proposals = _proposals(config)([fused, prediction["objectness"], prediction["offsets"]])
    return {**prediction, "features": fused, "proposals": proposals,
            **_second_stage(fused, proposals, config)([fused, proposals])}


def _proposals(config: FaceConfig) -> Proposals:
    return Proposals(config.strides[0], config.anchor_sides, config.offset_deviations, count=config.proposals,
                     pool=config.proposal_pool, highest_iou=config.proposal_nms_iou_threshold, name="proposals")


def _second_stage(fused, proposals, config: FaceConfig) -> keras.Model:
    """Classes and offsets of boxes on the fused map; a separate model, as training adds boxes to the proposals."""
    features = keras.Input(batch_shape=fused.shape, dtype=fused.dtype)
    boxes = keras.Input(batch_shape=(1, None, 6), dtype=proposals.dtype)
    x = RegionFeatures(config.strides[0], config.roi_side, name="regions")([features, boxes])
    for name in ("full1", "full2"):
        x = layers.Dense(config.roi_width, activation="relu", kernel_initializer="he_normal", name=name)(x)
    kernel = replace(_style(config), deviation=config.head_deviation).kernel()
    prediction = {"classes": layers.Dense(config.landmarks + 1, dtype="float32", name="classes", **kernel)(x),
                  "proposal_offsets": layers.Dense(6, dtype="float32", name="proposal_offsets", **kernel)(x)}
    return keras.Model([features, boxes], prediction, name=SECOND_STAGE)


def _heatmaps(maps: list, config: FaceConfig):
    """The fused map, upsampled to full resolution stage by stage, mirroring the backbone."""
    x, _, *above = maps
    for level, fine in zip(range(len(above), 0, -1), above, strict=True):
        x = _upsampled(x, fine, config.widths[level - 1], _style(config), f"d{level}")
    return classifier(x, config.landmarks, replace(_style(config), deviation=config.head_deviation), "heatmaps")
