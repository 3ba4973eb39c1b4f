"""A trained network for inference, with the normalisations by moving statistics folded into the convolutions."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
from keras import layers

from tfsono.layers.nodes import Conv3D

LAST = (layers.Conv2D, layers.Conv3D, layers.Dense, Conv3D)  # the kernel's last axis is the outputs
DECONVOLUTIONS = (layers.Conv2DTranspose, layers.Conv3DTranspose)  # the last but one is
LINEAR = (*LAST, *DECONVOLUTIONS, layers.DepthwiseConv2D)  # the last two are


def folded(network: keras.Model) -> keras.Model:
    """A functional network that gives in inference what `network` gives, but for rounding.

    A convolution or a dense layer and the batch normalisation after it become one with a bias, and ReLU where the
    normalisation has it; also in a network that is a layer of this one. Other layers are shared with `network`: it can
    then neither be folded again nor be trained.

    Args:
      network: with its final weights. Normalisations by a tile's own statistics stay, and so do those of any other
        tensor than the output of one of `LINEAR`.
    """
    before = _convolutions_before(network)
    new = {convolution.name: _with_bias(convolution, norm) for norm, convolution in before}
    new |= {layer.name: inner for layer in network.layers if isinstance(layer, keras.Model)
            if (inner := folded(layer)) is not layer}
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
    found = [(layer, makers.get(id(layer.input))) for layer in network.layers
             if isinstance(layer, layers.BatchNormalization) and getattr(layer, "at_test", "moving") == "moving"]
    return [(norm, layer) for norm, layer in found
            if type(layer) in LINEAR and layer.activation is keras.activations.linear
            and readers[id(layer.output)] == 1]


def _with_bias(convolution, norm):
    """The convolution with the normalisation in its kernel and bias."""
    gamma, beta, mean, variance = (keras.ops.convert_to_numpy(weight).astype(np.float64) for weight in norm.weights)
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel, *bias = (keras.ops.convert_to_numpy(weight).astype(np.float64) for weight in convolution.weights)
    bias = (sum(bias) - mean) * scale + beta
    if type(convolution) in DECONVOLUTIONS:
        scale = scale[:, None]
    elif type(convolution) not in LAST:
        scale = scale.reshape(kernel.shape[-2:])
    activation = "relu" if getattr(norm, "rectified", False) else "linear"
    if type(convolution) is Conv3D:
        return _sum_of_parts(convolution, kernel * scale, bias, activation)
    new = type(convolution).from_config(convolution.get_config() | _of_a_prediction(convolution, activation))
    new.build(convolution.input.shape)
    new.set_weights([kernel * scale, bias])
    return new


def _of_a_prediction(convolution, activation: str) -> dict:
    """The settings of a layer with a bias that is not trained.

    Weights of the type that is calculated in: a cast of each in every call takes a tenth of a narrow network's time.
    """
    found = {"use_bias": True, "activation": activation, "dtype": convolution.compute_dtype}
    return found | {name: None for name in ("kernel_regularizer", "depthwise_regularizer")
                    if name in convolution.get_config()}


def _sum_of_parts(convolution: Conv3D, kernel, bias, activation: str) -> keras.Model:
    """A convolution of several tensors as one of each and their sum."""
    parts = [keras.Input(part.shape[1:], dtype=part.dtype) for part in convolution.input]
    kernels = np.split(kernel, np.cumsum([part.shape[-1] for part in parts])[:-1], axis=-2)
    sums = []
    for part, held in zip(parts, kernels, strict=True):
        last = len(sums) == len(parts) - 1
        layer = layers.Conv3D(convolution.filters, 3, padding="same", use_bias=last, dtype=convolution.compute_dtype)
        sums.append(layer(part))
        layer.set_weights([held, bias] if last else [held])
    found = layers.Activation(activation, dtype=convolution.compute_dtype)(layers.Add(
        dtype=convolution.compute_dtype)(sums))
    return keras.Model(parts, found, name=convolution.name)
