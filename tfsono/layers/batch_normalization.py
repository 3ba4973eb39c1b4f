"""Batch normalisation as Keras has it, in a fraction of its time, and with the choice of whose statistics a test takes.

Keras writes mean, variance and the rest as single operations on float32 copies. TensorFlow has one operation for all of
it: with its gradient a quarter of Keras's time on a CPU (`benchmarks/normalisation.py`), and without the copies.
"""

from __future__ import annotations

import keras
from keras import layers, ops


class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation of [B, ..., C] that at test may take the mean and variance of each tile of a batch.

    3D U-Net, which `hip` extends, takes a tile's own, as "using the current statistics also at test time works the
    best" with batches of few samples (Cicek et al., MICCAI 2016, Sec. 2). A tile's answer then does not depend on its
    batch. Weights, and their names in a file (which Keras makes of the class's name), are those of Keras's layer.
    """

    def __init__(self, at_test: str = "moving", momentum: float = 0.99, epsilon: float = 1e-3, rectified: bool = False,
                 name: str | None = None):
        """
        Args:
          at_test: `moving` averages of training, or the `tile`'s own.
          momentum, epsilon: as Keras's layer takes them.
          rectified: with ReLU behind it.
          name: of the layer.
        """
        super().__init__(momentum=momentum, epsilon=epsilon, name=name)
        self.at_test, self.rectified = at_test, rectified

    def call(self, inputs, training=None, mask=None):
        learns = training and self.trainable
        own = not learns and self.at_test == "tile"
        # of several tiles each has its own mean; the one operation has one of all of a batch
        if keras.backend.backend() == "tensorflow" and (learns or (own and inputs.shape[0] == 1)):
            return self._at_once(inputs, learns)
        outputs = self._each(inputs) if own else super().call(inputs, training=training, mask=mask)
        return ops.relu(outputs) if self.rectified else outputs

    def _at_once(self, inputs, learns: bool):
        """By the statistics of the batch, which the moving ones may learn."""
        outputs, mean, variance = _normalised(inputs, self.gamma, self.beta, self.epsilon, self.rectified)
        if learns:
            for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)

    def _each(self, inputs):
        """By the statistics of each sample."""
        x = ops.cast(inputs, "float32")
        mean, variance = ops.moments(x, axes=tuple(range(1, len(x.shape) - 1)), keepdims=True)
        x = (x - mean) * (ops.rsqrt(variance + self.epsilon) * self.gamma) + self.beta
        return ops.cast(x, self.compute_dtype)


def _normalised(x, gamma, beta, epsilon: float, rectified: bool) -> tuple:
    """`x` by the mean and variance [C] of its batch, in float32 inside; and those, the variance over N, not N - 1."""
    import tensorflow as tf

    shape = tf.shape(x)
    number = tf.cast(tf.reduce_prod(shape[:-1]), tf.float32)
    images = tf.reshape(x, tf.concat([[-1], tf.concat([[1], shape], 0)[-3:]], 0))  # what it takes
    found = tf.raw_ops.FusedBatchNormV3(x=images, scale=ops.cast(gamma, "float32"), offset=ops.cast(beta, "float32"),
                                        mean=[], variance=[], epsilon=epsilon, data_format="NHWC", is_training=True)
    y = tf.nn.relu(found.y) if rectified else found.y  # at once: of both in a row TensorFlow makes one operation
    outputs = tf.ensure_shape(tf.reshape(y, shape), x.shape)
    return outputs, found.batch_mean, found.batch_variance * (number - 1) / number
