"""`hip` from a raw volume to a mask on its own grid, in one graph.

Resample (if the config has a spacing), cut into tiles, standardise each tile, network, average, arg-max on the native
grid, and postprocess (Sec. 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfsono.configs.hip import HipConfig
from tfsono.inference.components import Postprocessing, postprocessed
from tfsono.inference.half_weights import HalfWeights
from tfsono.inference.memory import default_memory_gb
from tfsono.inference.resample import resample_linear, resampled_arg_max, resampled_size
from tfsono.inference.sliding_window import Tiling, sliding_window, tile_and_starts, whole_tile
from tfsono.layers.standardise import standardise

VOLUME = tf.TensorSpec([None, None, None], tf.float32, "volume")
SPACING_MM = tf.TensorSpec([3], tf.float32, "spacing_mm")
BASE_GB = 1.0  # TensorFlow, the volume and its probabilities
# Tensors of the first level's width that a network holds at most, seen at 300x200x100: 5.1 with moving statistics, 6.3
# with a tile's own, where a decoder concatenates its inputs, as `lineage4`; without, 3.4 and 3.7.
TENSORS, TENSORS_OF_OWN = 5.5, 6.5


def tiling_of(configs: Sequence[HipConfig]) -> Tiling:
    """The tiling of networks that predict together, by the first one's config."""
    first = configs[0]
    memory_gb = first.memory_gb or default_memory_gb()
    multiple = max(config.stride for config in configs)
    fast = first.tiling == "fast"
    moving = all(config.norm_at_test == "moving" for config in configs)
    of_a_voxel = (TENSORS if moving else TENSORS_OF_OWN) * max(
        config.widths[0] * (4 if config.precision == "float32" else 2) for config in configs)
    margin = None
    if fast and moving:
        margin = -(-max(config.reach for config in configs) // multiple) * multiple
    return Tiling(tuple(first.patch), first.tiling, first.tile_weighting, batch=1 if fast else first.tile_batch,
                  multiple=multiple, tile_voxels=max(int((memory_gb - BASE_GB) * 1e9 / of_a_voxel), 1), margin=margin)


class HipModule(tf.Module):
    """A raw volume of any size and its spacing -> the mask of the network's classes.

    Every tile is standardised by its own voxels, as every patch was in training (Sec. 3.2, and the co-author's code
    at test time). Tiles with a margin are standardised by the volume's, so that they give what one tile of the whole
    volume gives. Volumes must have the orientation of the training data; `segment_volume` reorients them.
    """

    def __init__(self, network, tiling: Tiling, classes: int, spacing_mm: tuple[float, ...] = (),
                 mirror: bool = False, postprocessing: Postprocessing | None = None):
        """Takes the parts.

        Args:
          network: a Keras model, standardised tiles [B, X, Y, Z, 1] -> probabilities [B, X, Y, Z, classes].
          tiling: how the volume is cut.
          classes: the background and the labels, at most 256.
          spacing_mm: of the network's training; () for each volume's own.
          mirror: average with the prediction for the volume mirrored in x.
          postprocessing: of the mask; None for the arg-max itself.
        """
        super().__init__(name="hip_module")
        if not 2 <= classes <= 256:
            raise ValueError(f"classes: expected 2 to 256, found {classes}")
        self.network = network
        self.tiling = tiling
        self.classes = classes
        self.spacing_mm = tuple(spacing_mm)
        self.mirror = mirror
        self.postprocessing = postprocessing

    @classmethod
    def build(cls, network, config: HipConfig, postprocessing: Postprocessing | None = None,
              tiling: Tiling | None = None) -> HipModule:
        """The module of a config; `network` is `models.hip.main_network` of a built model."""
        return cls(network, tiling or tiling_of([config]), config.classes, config.spacing_mm,
                   mirror=config.mirror_at_test, postprocessing=postprocessing)

    def with_half_weights(self) -> HipModule:
        """The same module with its weights stored in float16."""
        return HipModule(HalfWeights(self.network), self.tiling, self.classes, self.spacing_mm, mirror=self.mirror,
                         postprocessing=self.postprocessing)

    @tf.function(input_signature=[VOLUME, SPACING_MM], autograph=False)
    def __call__(self, volume, spacing_mm):
        """The mask {"mask": [X, Y, Z] uint8} of `volume` [X, Y, Z] float32, raw intensities, any size."""
        return {"mask": postprocessed(self._arg_max(volume, spacing_mm), self.postprocessing)}

    def _arg_max(self, volume, spacing_mm):
        """The likeliest class of every voxel on the native grid."""
        if not self.spacing_mm:
            return tf.cast(tf.argmax(self.probabilities(volume), -1, tf.int32), tf.uint8)
        native = tf.shape(volume)
        size = resampled_size(native, spacing_mm, self.spacing_mm)
        return resampled_arg_max(self.probabilities(resample_linear(volume, size)), native)

    @tf.function(input_signature=[VOLUME], autograph=False)
    def probabilities(self, volume: tf.Tensor) -> tf.Tensor:
        """Averaged probabilities [X, Y, Z, classes] of a volume [X, Y, Z] at the network's own spacing."""
        total = self._averaged(volume)
        if self.mirror:
            total = (total + self._averaged(volume[::-1])[::-1]) / 2
        return tf.ensure_shape(total, [None, None, None, self.classes])

    def _averaged(self, volume):
        """The tiles' probabilities, averaged where they overlap."""
        if self.tiling.margin is not None:
            return self._with_margins(volume)
        tile, starts = tile_and_starts(self.tiling, tf.shape(volume))
        return sliding_window(self._predict, volume, tile=tile, starts=starts, classes=self.classes,
                              weighting=self.tiling.weighting, batch=self.tiling.batch)

    def _with_margins(self, volume):
        """The probabilities of one tile that holds the volume, from tiles that need less memory."""
        size = tf.shape(volume)
        image = standardise(volume[None, ..., None], tf.ones_like(volume)[None, ..., None])[0, ..., 0]
        whole = whole_tile(self.tiling, size)
        image = tf.pad(image, tf.stack([tf.zeros_like(size), whole - size], 1))
        tile, starts = tile_and_starts(self.tiling, whole)
        found = sliding_window(lambda tiles, valid: self.network(tiles, training=False), image, tile=tile,
                               starts=starts, classes=self.classes, batch=self.tiling.batch,
                               margin=self.tiling.margin)
        return found[:size[0], :size[1], :size[2]]

    def _predict(self, tiles, valid):
        # Of one tile the shape still says so: the normalisations then copy nothing.
        image = tf.ensure_shape(standardise(tiles, valid), tiles.shape)
        return self.network(image, training=False)
