"""Keras's batch normalisation in a fraction of its time, with a choice of the statistics at test.

Keras calculates mean, variance and the rest by single operations on float32 copies. TensorFlow's fused operation takes,
with its gradient, a quarter of the time on a CPU (`benchmarks/normalisation.py`), and makes no copies.
"""

from __future__ import annotations

import keras
from keras import layers, ops


class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation of [B, ..., C] that at test may use the mean and variance of each tile of a batch.

    3D U-Net, which `hip` extends, uses a tile's own, as "using the current statistics also at test time works the
    best" with batches of few samples (Cicek et al., MICCAI 2016, Sec. 2). A tile's output then does not depend on its
    batch. Or those of the whole batch, as in training. Weights and their names in a file (which Keras derives from the
    class's name) are those of Keras's layer.
    """

    def __init__(self, at_test: str = "moving", momentum: float = 0.99, epsilon: float = 1e-3, rectified: bool = False,
                 name: str | None = None):
        """
        Args:
          at_test: `moving` averages of training, or the `tile`'s own, or the `batch`'s.
          momentum, epsilon: as Keras's layer takes them.
          rectified: followed by ReLU.
          name: of the layer.
        """
        super().__init__(momentum=momentum, epsilon=epsilon, name=name)
        self.at_test, self.rectified = at_test, rectified

    def call(self, inputs, training=None, mask=None):
        learns = training and self.trainable
        own = not learns and self.at_test != "moving"
        of_devices = learns and self.synchronized  # over several; by Keras's operations, as the fused one has no sums
        if keras.backend.backend() == "tensorflow" and (learns or own) and not of_devices:
            together = learns or self.at_test == "batch" or inputs.shape[0] == 1
            return self._at_once(inputs, learns) if together else self._one_by_one(inputs)
        outputs = self._by_operations(inputs) if own else super().call(inputs, training=training, mask=mask)
        return ops.relu(outputs) if self.rectified else outputs

    def _at_once(self, inputs, learns: bool):
        """By the statistics of the batch; where `learns`, they update the moving ones."""
        outputs, mean, variance = _normalised(inputs, self.gamma, self.beta, self.epsilon, self.rectified)
        if learns:
            for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)

    def _one_by_one(self, inputs):
        """By the statistics of each sample; the fused operation has one mean for a whole batch."""
        import tensorflow as tf

        return tf.map_fn(lambda sample: self._at_once(sample[None], learns=False)[0], inputs,
                         fn_output_signature=tf.TensorSpec(inputs.shape[1:], self.compute_dtype))

    def _by_operations(self, inputs):
        """By the statistics of each sample, or of the batch, without the fused operation."""
        x, first = ops.cast(inputs, "float32"), 0 if self.at_test == "batch" else 1
        mean, variance = ops.moments(x, axes=tuple(range(first, len(x.shape) - 1)), keepdims=True)
        x = (x - mean) * (ops.rsqrt(variance + self.epsilon) * self.gamma) + self.beta
        return ops.cast(x, self.compute_dtype)


def _normalised(x, gamma, beta, epsilon: float, rectified: bool) -> tuple:
    """`x` normalised by its batch, in float32 inside; and the batch's mean and (biased) variance [C]."""
    import tensorflow as tf

    shape = tf.shape(x)
    number = tf.cast(tf.reduce_prod(shape[:-1]), tf.float32)
    images = tf.reshape(x, tf.concat([[-1], tf.concat([[1], shape], 0)[-3:]], 0))  # 4D, as the operation requires
    found = tf.raw_ops.FusedBatchNormV3(x=images, scale=ops.cast(gamma, "float32"), offset=ops.cast(beta, "float32"),
                                        mean=[], variance=[], epsilon=epsilon, data_format="NHWC", is_training=True)
    y = tf.nn.relu(found.y) if rectified else found.y  # TensorFlow fuses the two
    outputs = tf.ensure_shape(tf.reshape(y, shape), x.shape)
    return outputs, found.batch_mean, found.batch_variance * (number - 1) / number
