"""A trained network for inference, with the normalisations by moving statistics folded into the convolutions."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
from keras import layers

CONVOLUTIONS = (layers.Conv2D, layers.Conv3D)
DECONVOLUTIONS = (layers.Conv2DTranspose, layers.Conv3DTranspose)


def folded(network: keras.Model) -> keras.Model:
    """A functional network that gives in inference what `network` gives, but for rounding.

    A convolution and the batch normalisation after it become one convolution with a bias, and ReLU where the
    normalisation has it. Other layers are shared with `network`: it can then neither be folded again nor be trained.

    Args:
      network: with its final weights. Normalisations by a tile's own statistics stay, and so do those of any other
        tensor than the output of one of Keras's convolutions.
    """
    before = _convolutions_before(network)
    new = {convolution.name: _with_bias(convolution, norm) for norm, convolution in before}
    gone = {norm.name for norm, _ in before}
    if not new:
        return network
    return keras.models.clone_model(
        keras.Model(network.input, network.output, name=network.name),
        clone_function=lambda layer: new.get(layer.name, layer),
        call_function=lambda layer, *tensors, **more: tensors[0] if layer.name in gone else layer(*tensors, **more))


def _convolutions_before(network: keras.Model) -> list[tuple]:
    """Each normalisation that can be folded, with its convolution, which nothing else reads."""
    makers = {id(tensor): layer for layer in network.operations for tensor in keras.tree.flatten(layer.output)}
    readers = Counter(id(tensor) for layer in network.operations for tensor in keras.tree.flatten(layer.input))
    readers.update(map(id, network.outputs))
    found = [(layer, makers[id(layer.input)]) for layer in network.layers
             if isinstance(layer, layers.BatchNormalization) and getattr(layer, "at_test", "moving") == "moving"]
    return [(norm, layer) for norm, layer in found
            if type(layer) in (*CONVOLUTIONS, *DECONVOLUTIONS) and layer.activation is keras.activations.linear
            and readers[id(layer.output)] == 1]


def _with_bias(convolution, norm):
    """The convolution with the normalisation in its kernel and bias."""
    # Weights of the type that is calculated in: a cast of each in every call takes a tenth of a narrow network's time.
    config = convolution.get_config() | {"use_bias": True, "kernel_regularizer": None,
                                         "dtype": convolution.compute_dtype}
    if getattr(norm, "rectified", False):
        config["activation"] = "relu"
    new = type(convolution).from_config(config)
    new.build(convolution.input.shape)
    gamma, beta, mean, variance = (keras.ops.convert_to_numpy(weight).astype(np.float64) for weight in norm.weights)
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel, *bias = (keras.ops.convert_to_numpy(weight).astype(np.float64) for weight in convolution.weights)
    outputs_last = type(convolution) in CONVOLUTIONS  # a deconvolution's kernel has the inputs last
    new.set_weights([kernel * (scale if outputs_last else scale[:, None]), (sum(bias) - mean) * scale + beta])
    return new
