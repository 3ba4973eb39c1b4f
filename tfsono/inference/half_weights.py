"""A network whose weights are stored in float16, in half of the space, and calculates in float32: for inference."""

from __future__ import annotations

import keras
import tensorflow as tf


class HalfWeights(tf.Module):
    """Gives what `network` gives at test, with its kernels rounded to float16; other variables stay as they are."""

    layers: tuple = ()  # without dropout to sample

    def __init__(self, network: keras.Model):
        """Copies the weights; the network itself is not saved with this module."""
        super().__init__(name="half_weights")
        self.stored = [_stored(variable) for variable in network.variables]
        self._of = lambda: network  # a function, as a model would be saved

    def __call__(self, images, training: bool = False):
        """The network's output at test, whatever `training` says."""
        network = self._of()
        values = {id(variable): tf.cast(stored, variable.dtype)
                  for variable, stored in zip(network.variables, self.stored, strict=True)}
        outputs, _ = network.stateless_call(
            [values[id(variable)] for variable in network.trainable_variables],
            [values[id(variable)] for variable in network.non_trainable_variables], images, training=False)
        return outputs

    def restore(self, network: keras.Model) -> None:
        """Writes the stored weights into a network of the same layers."""
        for variable, stored in zip(network.variables, self.stored, strict=True):
            variable.assign(tf.cast(stored, variable.dtype))


def _stored(variable) -> tf.Variable:
    is_kernel = len(variable.shape) > 1 and variable.dtype == "float32"
    return tf.Variable(tf.cast(variable.value, tf.float16 if is_kernel else variable.dtype), trainable=False)
