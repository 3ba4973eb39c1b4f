"""`--strategy mirrored`: a training on all GPUs of a machine, each with its part of every batch.

The weights are those of one process, but for rounding. A loss is a mean over samples, so its mean over the devices is
that of the batch. What Keras leaves to each device is made that of the whole batch: statistics of normalisations,
draws of dropout, and the norm by which gradients are clipped.
"""

from __future__ import annotations

import contextlib
import functools

import keras
import tensorflow as tf
from keras import layers

from tfsono.errors import UserError
from tfsono.progress import say


def strategy_scope(batch: int, precision: str) -> contextlib.AbstractContextManager:
    """The scope in which a network is built and trained; of one device, it changes nothing.

    Args:
      batch: of a step, all devices together.
      precision: of the config.

    Raises:
      UserError: a batch that the devices do not divide, or a precision that was not tried.
    """
    devices = [device.name for device in local_devices()]
    if len(devices) < 2:
        say("--strategy mirrored: found one device, which trains as without the option")
        return contextlib.nullcontext()
    if batch % len(devices):
        raise UserError(f"--strategy mirrored: the batch must be a multiple of the {len(devices)} devices; found "
                        f"{batch}; change it, or choose devices by CUDA_VISIBLE_DEVICES")
    if precision == "mixed_float16":
        raise UserError("--strategy mirrored: mixed_float16 was not tried on several devices; use mixed_bfloat16 or "
                        "float32")
    say(f"--strategy mirrored: {len(devices)} devices, each with {batch // len(devices)} of a batch of {batch}")
    return _mirrored(*devices).scope()


@functools.cache
def _mirrored(*devices: str) -> tf.distribute.Strategy:
    """One for the whole process: the sums over devices of a second one would be taken for those of the first."""
    return tf.distribute.MirroredStrategy(devices)


def local_devices() -> list:
    """The GPUs that TensorFlow sees, else its CPUs: one, but for tests."""
    return tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")


def replicas() -> int:
    """The number of devices of the present scope: 1 outside of any."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def replicated(network: keras.Model) -> keras.Model:
    """A new network as its devices train it: unchanged for one. Weights, their names and their order stay."""
    if replicas() == 1:
        return network
    inside = every_layer(network)
    for layer in inside:
        if isinstance(layer, layers.BatchNormalization):
            layer.synchronized = True
    if not any(isinstance(layer, (layers.Dropout, layers.SpatialDropout2D)) for layer in inside):
        return network
    return keras.models.clone_model(network, clone_function=_of_the_batch, recursive=True)


def every_layer(network: keras.Model) -> list[layers.Layer]:
    """The layers of a network and of the networks in it."""
    return [inner for layer in network.layers
            for inner in (every_layer(layer) if isinstance(layer, keras.Model) else [layer])]


def _of_the_batch(layer: layers.Layer) -> layers.Layer:
    """The same layer; for a dropout one that draws for the whole batch."""
    kind = {layers.Dropout: Dropout, layers.SpatialDropout2D: SpatialDropout2D}.get(type(layer))
    if kind is None or not layer.rate:
        return layer
    other = kind.from_config(layer.get_config() | {"seed": 0})  # None would draw one
    other.seed_generator.state.assign(layer.seed_generator.state)
    return other


class Dropout(layers.Dropout):
    """Keras's dropout; a device takes its part of what one process draws for the whole batch."""

    def call(self, inputs, training=False):
        wanted = self.noise_shape or inputs.shape
        return _part(super().call, inputs, [wanted[axis] or inputs.shape[axis] for axis in range(1, len(wanted))],
                     training)


class SpatialDropout2D(layers.SpatialDropout2D):
    """As `Dropout`, of whole channels."""

    def call(self, inputs, training=False):
        return _part(super().call, inputs, [1, 1, inputs.shape[-1]], training)


def _part(dropout, inputs, sides: list[int], training: bool):
    """The inputs [B, ...] times this device's part of the factors [B of all devices, *sides] that `dropout` draws."""
    context = tf.distribute.get_replica_context()
    if not training or context is None:
        return dropout(inputs, training=training)
    number = tf.shape(inputs)[0]
    factors = dropout(tf.ones([number * context.num_replicas_in_sync, *sides], inputs.dtype), training=True)
    first = number * context.replica_id_in_sync_group
    return inputs * factors[first:first + number]


def clipped_together(kind: type[keras.optimizers.Optimizer]) -> type[keras.optimizers.Optimizer]:
    """The optimizer `kind` for gradients that are clipped: sums those of all devices first, and not after.

    Keras clips those of each device, and sums them. Here each device has an equal share of their sum, and a share of
    the largest norm too, `gradient_clip / replicas()`.
    """
    class Together(kind):
        def apply(self, grads, trainable_variables=None):
            context = tf.distribute.get_replica_context()
            super().apply(context.all_reduce(tf.distribute.ReduceOp.MEAN, list(grads)), trainable_variables)

    return Together
