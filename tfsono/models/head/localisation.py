"""The four networks of the text's Part A: heatmaps, or points in pixels of the network's frame."""

from __future__ import annotations

import keras
from keras import layers

from tfsono.configs.head import HeadConfig
from tfsono.geometry.heatmaps import soft_argmax_points
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

    11,618,096 trainable parameters. `points_from maps` decodes to 1/8 first.
    """
    x = last_features(image, config, style)
    if config.points_from == "maps":
        for number, channels in enumerate(config.heatmap_widths[:2], 1):
            x = convolution(x, channels, style, f"up{number}", bias=True)
            x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up{number}_double")(x)
    return points_of(x, config, style, landmarks)


def points_of(x, config: HeadConfig, style: PlanarStyle, landmarks: int):
    """Features [B, y, x, C] -> points [B, K, 2]: from their mean, from a grid of cells at 1/32, or from maps."""
    if config.points_from == "maps":
        return MeanPoints(config.input_size, name="points")(logits(x, landmarks, "maps", deviation=1e-3))
    if config.points_from == "mean":
        return regression(layers.GlobalAveragePooling2D(name="mean")(x), config, style, landmarks)
    x = convolution(x, config.grid_channels, style, "grid", side=1)
    halvings = x.shape[1] * 32 // config.input_size[0]
    if halvings > 1:
        x = layers.AveragePooling2D(halvings, name="grid_cells")(x)
    return regression(layers.Flatten(name="grid_flat")(x), config, style, landmarks)


class MeanPoints(layers.Layer):
    """The mean place of each map's softmax: [B, y, x, K] -> [B, K, 2] in pixels of the frame, float32.

    Nibali et al., "Numerical coordinate regression with convolutional neural networks", 2018.
    """

    def __init__(self, frame: tuple[int, int], name: str):
        super().__init__(name=name, dtype="float32")
        self.frame = tuple(frame)

    def call(self, maps):
        return soft_argmax_points(maps, 1.0, self.frame[0] / maps.shape[1])

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[3], 2)


def regression(x, config: HeadConfig, style: PlanarStyle, landmarks: int):
    """Fully connected layers from features [B, C] to points [B, K, 2] in pixels; all start near the centre."""
    for number, width in enumerate(config.head_widths, 1):
        x = layers.Dense(width, name=f"dense{number}")(x)
        x = (style.normalise(x, f"dense{number}") if config.dense_norm == "batch" else
             layers.ReLU(name=f"dense{number}_relu")(x))
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
    return points_of(x, config, style, landmarks)


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
    if config.transformer_stem == "convolutions":
        x = early_convolutions(x, config, style)
    else:
        x = patch_tokens(x, config.transformer_patch, config.transformer_width, "patches")
    x = Tokens(landmarks, name="tokens")(x)
    for number in range(1, config.transformer_depth + 1):
        x = transformer_block(x, config.transformer_heads, f"block{number}")
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x[:, :landmarks])
    shares = layers.Dense(2, name="shares")(style.drop_features(x, "drop"))
    return _pixels(layers.Activation("sigmoid", dtype="float32", name="inside")(float32(shares, "wide")), config)


def early_convolutions(x, config: HeadConfig, style: PlanarStyle):
    """Tokens of the patches by convolutions of stride 2, not one of the patch's side (Xiao et al., NeurIPS 2021)."""
    halvings = config.transformer_patch.bit_length() - 1
    for number in range(halvings):
        channels = config.transformer_width >> max(halvings - 1 - number, 0)
        x = convolution(x, max(channels, 8), style, f"stem{number + 1}", stride=2)
    return patch_tokens(x, 1, config.transformer_width, "patches")
