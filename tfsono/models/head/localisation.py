"""The four networks of the text's Part A: heatmaps, or points in pixels of the network's frame."""

from __future__ import annotations

import keras
from keras import layers

from tfsono.configs.head import HeadConfig
from tfsono.layers.attention import block_attention
from tfsono.layers.planar import PlanarStyle, convolution, float32, logits, resize
from tfsono.layers.transformer import Tokens, patch_tokens, transformer_block
from tfsono.models.head.backbones import features, last_features


def heatmap(image, config: HeadConfig, style: PlanarStyle, landmarks: int):
    """Approach 1: ResNet50, doublings with a convolution each, one map for each landmark: [B, Y / 4, X / 4, K].

    As in the source, four doublings end at 1/2, and the maps are then halved; 34,523,204 trainable parameters.
    """
    x = style.drop_channels(features(image, config, style)[-1], "drop")
    for number, channels in enumerate(config.heatmap_widths, 1):
        x = convolution(x, channels, style, f"up{number}", bias=True)
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up{number}_double")(x)
    maps = logits(x, landmarks, "maps", deviation=1e-3)  # nearly 0, as nearly all of a target is
    return resize(maps, config.map_size, "heatmaps", dtype="float32")


def coordinate(image, config: HeadConfig, style: PlanarStyle, landmarks: int):
    """Approach 2: EfficientNet-B3, the mean over the image, fully connected layers: [B, K, 2].

    11,618,096 trainable parameters.
    """
    x = layers.GlobalAveragePooling2D(name="mean")(last_features(image, config, style))
    return regression(x, config, style, landmarks)


def regression(x, config: HeadConfig, style: PlanarStyle, landmarks: int):
    """Fully connected layers from features [B, C] to points [B, K, 2] in pixels; all start near the centre."""
    for number, width in enumerate(config.head_widths, 1):
        x = style.normalise(layers.Dense(width, name=f"dense{number}")(x), f"dense{number}")
        x = style.drop_features(x, f"drop{number}")
    x = layers.Dense(2 * landmarks, kernel_initializer=keras.initializers.RandomNormal(stddev=1e-3),
                     bias_initializer=keras.initializers.Constant(0.5), dtype="float32", name="shares")(x)
    return _pixels(layers.Reshape((landmarks, 2), dtype="float32", name="pairs")(x), config)


def _pixels(shares, config: HeadConfig):
    """Fractions of the frame, edge to edge, as pixel-centre indices: [B, K, 2], float32."""
    rows, columns = config.input_size
    return layers.Rescaling([columns, rows], -0.5, dtype="float32", name="points")(shares)


def attention_pyramid(image, config: HeadConfig, style: PlanarStyle, landmarks: int):
    """Approach 3: a feature pyramid on ResNet50, attention at each level, all levels together, then as `coordinate`.

    The source uses ResNet34, which Keras applications lacks.
    """
    levels = _top_down(features(image, config, style), config, style)
    levels = [block_attention(level, config.attention_reduction, f"level{number}_attention")
              for number, level in enumerate(levels, 2)]
    size = levels[0].shape[1:3]
    x = layers.Concatenate(name="levels")([resize(level, size, f"level{number}_spread")
                                           for number, level in enumerate(levels, 2)])
    x = convolution(x, config.pyramid_fused, style, "fused", side=1)
    return regression(layers.GlobalAveragePooling2D(name="mean")(x), config, style, landmarks)


def _top_down(stages, config: HeadConfig, style: PlanarStyle) -> list:
    """Each stage with the coarser ones added to it (Lin et al., CVPR 2017, Fig. 3), then a 3x3 convolution."""
    channels = config.pyramid_channels
    added = [layers.Conv2D(channels, 1, name=f"level{number}_side")(stage) for number, stage in enumerate(stages, 2)]
    for place in range(len(added) - 2, -1, -1):
        above = resize(added[place + 1], added[place].shape[1:3], f"level{place + 2}_above")
        added[place] = layers.Add(name=f"level{place + 2}_add")([added[place], above])
    return [convolution(level, channels, style, f"level{number}") for number, level in enumerate(added, 2)]


def transformer(image, config: HeadConfig, style: PlanarStyle, landmarks: int):
    """Approach 4: a vision transformer with one learned token for each landmark, which becomes its point: [B, K, 2]."""
    x = resize(image, config.transformer_size, "resized", smooth=True)
    x = Tokens(landmarks, name="tokens")(patch_tokens(x, config.transformer_patch, config.transformer_width, "patches"))
    for number in range(1, config.transformer_depth + 1):
        x = transformer_block(x, config.transformer_heads, f"block{number}")
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x[:, :landmarks])
    shares = layers.Dense(2, name="shares")(style.drop_features(x, "drop"))
    return _pixels(layers.Activation("sigmoid", dtype="float32", name="inside")(float32(shares, "wide")), config)
