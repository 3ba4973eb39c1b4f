"""`head` from a raw grey image to the prediction on its own pixels, in one graph.

CLAHE, letterbox, standardisation, network, and the inverse of the letterbox. Images are [Y, X], rows first, and points
(x, y) pixel-centre indices, unlike the volumes of the other systems. Denoising comes before the graph, ellipse and
measurements after it (`tfsono.geometry.ellipse`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from tfsono.configs.head import HeadConfig
from tfsono.contrast import network_image
from tfsono.geometry.heatmaps import argmax_points, centroid_points, soft_argmax_points
from tfsono.layers.standardise import standardise
from tfsono.inference.half_weights import HalfWeights
from tfsono.models.head import CELL, LANDMARKS

IMAGE = tf.TensorSpec([None, None], tf.float32, "image")
SEED = tf.TensorSpec([], tf.int32, "seed")


@dataclass(frozen=True)
class Preparation:
    """What happens to an image before the network.

    Attributes:
      frame: rows and columns of the network.
      clahe_clip: limit of `contrast.clahe`; 0 keeps the contrast.
      clahe_tiles: its tiles along each side.
    """

    frame: tuple[int, int]
    clahe_clip: float
    clahe_tiles: int


class HeadSegmentationModule(tf.Module):
    """A raw image of any size -> the probability of the head, on its own pixels."""

    def __init__(self, network: keras.Model, preparation: Preparation):
        """Takes the parts; `network` gives {"mask": logits [B, Y, X, 1]} for standardised images."""
        super().__init__(name="head_segmentation_module")
        self.network = network
        self.preparation = preparation
        self.seeds = _seed_states(network)

    @tf.function(input_signature=[IMAGE], autograph=False)
    def __call__(self, image):
        """{"probability": [Y, X] float32} of `image` [Y, X] float32, grey levels 0..255, any size."""
        return self._native(image, self.network(self._prepared(image), training=False))

    @tf.function(input_signature=[IMAGE, SEED], autograph=False)
    def sample(self, image, seed):
        """A sample with dropout on, the same for the same seed."""
        return self._native(image, sampled(self.network, self.seeds, self._prepared(image), seed))

    def _prepared(self, image):
        return prepared(image, self.preparation)

    def _native(self, image, prediction):
        """The network's output on the image's own pixels."""
        probability = tf.sigmoid(tf.cast(prediction["mask"][0, :, :, 0], tf.float32))
        return {"probability": restored(probability, tf.shape(image), self.preparation.frame)}


class HeadLandmarkModule(tf.Module):
    """A raw image of any size -> its four landmarks, in its own pixels."""

    def __init__(self, network: keras.Model, preparation: Preparation, decode: str = "argmax", beta: float = 50.0):
        """Takes the parts.

        Args:
          network: standardised images -> {"heatmaps": [B, y, x, 4]} or {"points": [B, 4, 2]}, pixels of the frame.
          preparation: of the images.
          decode: how a heatmap becomes a point: `argmax`, `centroid` or `soft_argmax`.
          beta: of the soft-argmax.
        """
        super().__init__(name="head_landmark_module")
        self.network = network
        self.preparation = preparation
        self.decode = decode
        self.beta = beta
        self.seeds = _seed_states(network)

    @tf.function(input_signature=[IMAGE], autograph=False)
    def __call__(self, image):
        """{"points_px": [4, 2] float32 (x, y)} of `image` [Y, X] float32: OFD 1, OFD 2, BPD 1, BPD 2."""
        return self._native(image, self.network(prepared(image, self.preparation), training=False))

    @tf.function(input_signature=[IMAGE, SEED], autograph=False)
    def sample(self, image, seed):
        """A sample with dropout on, the same for the same seed."""
        image_in_frame = prepared(image, self.preparation)
        return self._native(image, sampled(self.network, self.seeds, image_in_frame, seed))

    def _native(self, image, prediction):
        """The network's output in the image's own pixels."""
        points = points_of(prediction, self.decode, self.beta)[0]
        scale, start, _ = placement(tf.shape(image), self.preparation.frame)
        start_xy = tf.cast(start[::-1], tf.float32)
        points = (points + 0.5 - start_xy) / tf.cast(scale, tf.float32) - 0.5
        return {"points_px": tf.ensure_shape(points, [LANDMARKS, 2])}


class HeadMeanModule(tf.Module):
    """An ensemble of modules of one part: a raw image -> the mean of their probabilities, or of their points."""

    def __init__(self, modules: Sequence[HeadSegmentationModule | HeadLandmarkModule]):
        super().__init__(name="head_mean_module")
        self.modules = list(modules)

    @tf.function(input_signature=[IMAGE], autograph=False)
    def __call__(self, image):
        """The outputs of one module."""
        return mean_output([module(image) for module in self.modules])

    @tf.function(input_signature=[IMAGE, SEED], autograph=False)
    def sample(self, image, seed):
        """A sample with dropout on, the same for the same seed."""
        return mean_output([module.sample(image, seed) for module in self.modules])


class HeadHalfModule(tf.Module):
    """A module with its weights stored in float16: the same outputs but for rounding, without samples."""

    def __init__(self, module: HeadSegmentationModule | HeadLandmarkModule | HeadMeanModule):
        super().__init__(name="head_half_module")
        modules = [_halved(one) for one in getattr(module, "modules", [module])]
        self.networks = [one.network for one in modules]
        halved = HeadMeanModule(modules) if len(modules) > 1 else modules[0]
        self._module = lambda: halved  # a function, as its samples would be saved

    @tf.function(input_signature=[IMAGE], autograph=False)
    def __call__(self, image):
        """The outputs of the module."""
        return self._module()(image)


def _halved(module: HeadSegmentationModule | HeadLandmarkModule) -> HeadSegmentationModule | HeadLandmarkModule:
    network = HalfWeights(module.network)
    if isinstance(module, HeadSegmentationModule):
        return HeadSegmentationModule(network, module.preparation)
    return HeadLandmarkModule(network, module.preparation, module.decode, module.beta)


def mean_output(outputs: Sequence[dict]) -> dict:
    """The mean of probabilities, or of points; a pair's ends are exchanged where that is nearer to the first output."""
    if "probability" in outputs[0]:
        return {"probability": tf.add_n([output["probability"] for output in outputs]) / len(outputs)}
    first, *others = (tf.reshape(output["points_px"], [2, 2, 2]) for output in outputs)  # pair, end, (x, y)
    total = first
    for pairs in others:
        kept, exchanged = (tf.reduce_sum(tf.norm(ends - first, axis=-1), -1) for ends in (pairs, pairs[:, ::-1]))
        total += tf.where((kept <= exchanged)[:, None, None], pairs, pairs[:, ::-1])
    return {"points_px": tf.reshape(total / len(outputs), [LANDMARKS, 2])}


def head_module(network: keras.Model, config: HeadConfig) -> HeadSegmentationModule | HeadLandmarkModule:
    """The module of a config; `network` is that of `models.head.build`."""
    preparation = Preparation(tuple(config.input_size), config.clahe_clip, config.clahe_tiles)
    if config.part == "segmentation":
        return HeadSegmentationModule(network, preparation)
    return HeadLandmarkModule(network, preparation, config.heatmap_decode, config.soft_argmax_beta)


def prepared(image, preparation: Preparation):
    """A raw image [Y, X] -> the network's input [1, *frame, 1] float32, 0 in the padding."""
    pixels, valid = network_image(image, preparation.frame, preparation.clahe_clip, preparation.clahe_tiles)
    return standardise(pixels[None, :, :, None], valid[None, :, :, None])


def points_of(prediction: dict, decode: str, beta: float):
    """A landmark network's output -> points [B, 4, 2] float32 in pixels of the frame."""
    if "points" in prediction:
        return tf.cast(prediction["points"], tf.float32)
    maps = tf.cast(prediction["heatmaps"], tf.float32)
    if decode == "soft_argmax":
        return soft_argmax_points(maps, beta, CELL)
    return (centroid_points if decode == "centroid" else argmax_points)(maps, CELL)


def placement(size, frame: tuple[int, int]):
    """Where `contrast.letterbox` puts an image of `size` [2] int32: scale (float64), first pixel [2], size there [2].

    The rule is that of `geometry.letterbox.Letterbox`.
    """
    size, target = tf.cast(size, tf.float64), tf.constant(frame, tf.int32)
    scale = tf.reduce_min(tf.cast(target, tf.float64) / size)
    new = tf.clip_by_value(tf.cast(tf.floor(size * scale + 0.5), tf.int32), 1, target)
    return scale, (target - new) // 2, new


def restored(values, size, frame: tuple[int, int]):
    """Values [frame] -> on the image's own pixels, [Y, X] of `size`; linear.

    The padding is not read: beyond the edge of the image in the frame, the edge's values are repeated.
    """
    scale, start, new = placement(size, frame)
    values = tf.slice(values, start, new)
    for axis in range(2):
        # By the rounding of `new` a pixel may lie beyond the last cell, which is then repeated.
        at = (tf.cast(tf.range(size[axis]), tf.float64) + 0.5) * scale - 0.5
        at = tf.clip_by_value(at, 0.0, tf.cast(new[axis] - 1, tf.float64))
        low = tf.cast(at, tf.int32)
        share = tf.cast(at - tf.cast(low, tf.float64), tf.float32)
        share = share[:, None] if axis == 0 else share[None, :]
        below = tf.gather(values, low, axis=axis)
        values = below + share * (tf.gather(values, tf.minimum(low + 1, new[axis] - 1), axis=axis) - below)
    return values


def sampled(network: keras.Model, seeds: list, images, seed):
    """The network's output with every dropout on, and every batch normalisation in test mode and unchanged.

    The seeds of the dropouts are set for the call and restored after it, so that the output depends on `seed` alone
    and a training is not disturbed.
    """
    before = [tf.identity(state) for state in seeds]
    for index, state in enumerate(seeds):
        state.assign(tf.cast(tf.stack([seed, index]), state.dtype))
    with frozen_normalisation(network):
        prediction = network(images, training=True)
    with tf.control_dependencies(list(prediction.values())):
        for state, held in zip(seeds, before, strict=True):
            state.assign(held)
    return prediction


@contextlib.contextmanager
def frozen_normalisation(network: keras.Model) -> Iterator[None]:
    """Within it a call in training mode keeps batch normalisation in test mode, by `trainable = False`."""
    layers = [layer for layer in _every_layer(network) if isinstance(layer, keras.layers.BatchNormalization)]
    before = [layer.trainable for layer in layers]
    try:
        for layer in layers:
            layer.trainable = False
        yield
    finally:
        for layer, held in zip(layers, before, strict=True):
            layer.trainable = held


def _seed_states(network: keras.Model) -> list:
    """The seed variables of the dropouts."""
    generators = [getattr(layer, "seed_generator", None) for layer in _every_layer(network)]
    return [generator.state.value for generator in generators if generator is not None]


def _every_layer(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model, and of the models in it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _every_layer(layer)
