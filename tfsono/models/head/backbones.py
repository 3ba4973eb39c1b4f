"""Backbones of `head`: Keras applications' ResNet50 and EfficientNet-B3, a small residual one, and ImageNet weights.

A backbone is one layer of the network, named `backbone`, so that its weights can be read from a separate file. The
networks get standardised grey images; the inputs of an ImageNet backbone are made from them here.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import keras
import numpy as np
from keras import layers

from tfsono.configs.head import HeadConfig
from tfsono.errors import UserError
from tfsono.layers.planar import PlanarStyle, convolution, residual_block

# Network -> the model of Keras applications that it begins with.
BACKBONES = {"heatmap": "ResNet50", "coordinate": "EfficientNetB3", "attention_pyramid": "ResNet50",
             "deeplabv3plus": "ResNet50"}
STAGES = ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out")  # 1/4, 1/8, 1/16, 1/32
GREY_LEVELS = 58.0  # deviation of ImageNet's images, of 255: ResNet50's weights were trained without dividing by it


def features(image, config: HeadConfig, style: PlanarStyle, stride: int = 32) -> list:
    """Feature maps of the image [B, Y, X, 1] at 1/4, 1/8, 1/16 and 1/32; with a `stride` of 16 the last at 1/16."""
    if config.backbone == "small":
        return _small(image, config.backbone_widths, style, stride)
    rgb = layers.Concatenate(name="rgb")([image] * 3)
    return resnet50((*config.input_size, 3), stride)(layers.Rescaling(GREY_LEVELS, name="grey_levels")(rgb))


def last_features(image, config: HeadConfig, style: PlanarStyle):
    """EfficientNet-B3's last feature map, at 1/32, 1536 channels; or the small backbone's."""
    if config.backbone == "small":
        return _small(image, config.backbone_widths, style, 32)[-1]
    rgb = layers.Concatenate(name="rgb")([image] * 3)
    rgb = layers.Rescaling(255.0, name="grey_levels")(rgb)  # undone by the first layer of the model
    return efficientnet_b3((*config.input_size, 3))(rgb)


def resnet50(shape, stride: int = 32) -> keras.Model:
    """ResNet50 without top and weights, with the feature maps of its four stages."""
    model = keras.applications.ResNet50(include_top=False, weights=None, input_shape=shape)
    if stride == 16:
        model = keras.models.clone_model(model, clone_function=_dilated)
    return keras.Model(model.input, [model.get_layer(name).output for name in STAGES], name="backbone")


def _dilated(layer: layers.Layer) -> layers.Layer:
    """A layer of ResNet50, in the last stage with dilation instead of stride; the kernels stay the same."""
    settings = layer.get_config()
    if layer.name in ("conv5_block1_0_conv", "conv5_block1_1_conv"):
        settings["strides"] = (1, 1)
    if layer.name in ("conv5_block1_2_conv", "conv5_block2_2_conv", "conv5_block3_2_conv"):
        settings["dilation_rate"] = (2, 2)
    return type(layer).from_config(settings)


def efficientnet_b3(shape) -> keras.Model:
    """EfficientNet-B3 without top and weights."""
    model = keras.applications.EfficientNetB3(include_top=False, weights=None, input_shape=shape)
    return keras.Model(model.input, model.output, name="backbone")


def _small(x, widths, style: PlanarStyle, stride: int) -> list:
    """A residual backbone: a 3x3 convolution of stride 2, then four stages of two blocks that halve the sides."""
    x = convolution(x, widths[0], style, "stem", stride=2)
    stages = []
    for number, channels in enumerate(widths[1:], 2):
        halve = number < 5 or stride == 32
        x = residual_block(x, channels, style, f"stage{number}_1", stride=2 if halve else 1)
        x = residual_block(x, channels, style, f"stage{number}_2", dilation=1 if halve else 2)
        stages.append(x)
    return stages


def load_backbone(network: keras.Model, path: str | os.PathLike) -> str:
    """Reads ImageNet weights into a network's backbone from a file of Keras applications without top.

    Args:
      network: of `build`, with an ImageNet backbone.
      path: `resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5`, `efficientnetb3_notop.h5`, or the `.weights.h5` that
        `save_weights` of such a model wrote.

    Returns:
      One line: the model, the number of weights, the file.

    Raises:
      UserError: the network has no such backbone, or the file is absent or of another model.
    """
    if "backbone" not in {layer.name for layer in network.layers}:
        raise UserError(f"--backbone_weights {path}: {network.name} of this preset has no ImageNet backbone; "
                        "leave the option out, or add --backbone imagenet")
    name = BACKBONES[network.name]
    if not Path(path).is_file():
        raise UserError(f"--backbone_weights {path}: no such file; give Keras applications' file of {name} without top")
    source = _published(name, network.input_shape[1:3], str(path))
    backbone = network.get_layer("backbone")
    read = 0
    for layer in source.layers:
        held = layer.get_weights()
        if held and not isinstance(layer, layers.Normalization):  # the images are standardised already
            backbone.get_layer(layer.name).set_weights(held)
            read += sum(weight.size for weight in held)
    return f"backbone {name}: {read:,} ImageNet weights of {path}"


def _published(name: str, size, path: str) -> keras.Model:
    """The model of Keras applications with a file's weights."""
    shape = (*size, 3)
    application = keras.applications.ResNet50 if name == "ResNet50" else keras.applications.EfficientNetB3
    model = application(include_top=False, weights=None, input_shape=shape)
    before = [np.array(weight) for weight in model.get_weights()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one for each layer; layers that were not read are found below
            model.load_weights(path)
    except Exception as error:  # of h5py, zipfile or Keras, which raise many kinds for a damaged file
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise UserError(f"--backbone_weights {path}: not a Keras applications file of {name} without top ({reason}); "
                        "give its notop file") from None
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise UserError(f"--backbone_weights {path}: weights must be finite; found others; fetch the file again")
    changed = [not np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)
               if old.ndim > 1]  # kernels, which start at random; other weights may equal their start
    if not all(changed):
        raise UserError(f"--backbone_weights {path}: holds {sum(changed)} of the {len(changed)} kernels of {name}; "
                        "give its notop file")
    return model
