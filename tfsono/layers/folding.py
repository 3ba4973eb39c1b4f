"""A trained network for inference, with the normalisations by moving statistics folded into the convolutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import keras
import numpy as np
from keras import layers

from tfsono.layers.nodes import Conv3D
from tfsono.layers.trilinear import UpsampledConv3D

LAST = (layers.Conv2D, layers.Conv3D, layers.Dense, Conv3D, UpsampledConv3D)  # the kernel's last axis is the outputs
DECONVOLUTIONS = (layers.Conv2DTranspose, layers.Conv3DTranspose)  # the last but one is
LINEAR = (*LAST, *DECONVOLUTIONS, layers.DepthwiseConv2D)  # the last two are
SMALLEST_SCALE = 1e-3  # of a channel in a kernel that a training can start from: it is divided by, also in float16


def folded(network: keras.Model, startable: bool = False, names: Collection[str] | None = None) -> keras.Model:
    """A functional network that gives in inference what `network` gives, but for rounding.

    A convolution or a dense layer and the batch normalisation after it become one with a bias, and ReLU where the
    normalisation has it; also in a network that is a layer of this one. Other layers are shared with `network`: it can
    then neither be folded again nor be trained.

    Args:
      network: with its final weights. Normalisations by a tile's own statistics stay, and so do those of any other
        tensor than the output of one of `LINEAR`.
      startable: the result keeps the variables that `unfold` needs, in their precision, and is saved with them.
      names: of the only convolutions to fold; None: all that can be.
    """
    before = _convolutions_before(network, startable, names)
    new = {convolution.name: _with_bias(convolution, norm, startable) for norm, convolution in before}
    new |= {layer.name: inner for layer in network.layers if isinstance(layer, keras.Model)
            if (inner := folded(layer, startable, names)) is not layer}
    gone = {norm.name for norm, _ in before}
    if not new:
        return network
    return keras.models.clone_model(
        keras.Model(network.input, network.output, name=network.name),
        clone_function=lambda layer: new.get(layer.name, layer),
        call_function=lambda layer, *tensors, **more: tensors[0] if layer.name in gone else layer(*tensors, **more))


def startable_names(network: keras.Model) -> list[str]:
    """The convolutions of a network of `folded(startable=True)` with a normalisation in them."""
    return [layer.name for layer in _startable_layers(network)]


def unfold(network: keras.Model) -> None:
    """Writes the kernels of a network of `folded(startable=True)` into the network that it was made of.

    All other variables are shared by the two.
    """
    for layer in _startable_layers(network):
        convolution, norm = layer.made_of()
        with np.errstate(all="ignore"):  # in a damaged file; what starts from it checks its weights
            (kernel,), scale = _values([layer.kernel]), _scale(norm)
            convolution.kernel.assign(kernel / _along_kernel(scale, convolution))


def _startable_layers(network: keras.Model) -> list[layers.Layer]:
    """Also of a network that is a layer."""
    found = []
    for layer in network.layers:
        found += _startable_layers(layer) if isinstance(layer, keras.Model) else [layer] * hasattr(layer, "made_of")
    return found


def _convolutions_before(network: keras.Model, startable: bool, names: Collection[str] | None) -> list[tuple]:
    """Each normalisation that can be folded, with its convolution, which nothing else reads."""
    makers = {id(tensor): layer for layer in network.operations for tensor in keras.tree.flatten(layer.output)}
    readers = Counter(id(tensor) for layer in network.operations for tensor in keras.tree.flatten(layer.input))
    readers.update(map(id, network.outputs))
    found = [(layer, makers.get(id(layer.input))) for layer in network.layers
             if isinstance(layer, layers.BatchNormalization) and getattr(layer, "at_test", "moving") == "moving"]
    return [(norm, layer) for norm, layer in found
            if type(layer) in LINEAR and layer.activation is keras.activations.linear
            and readers[id(layer.output)] == 1 and (names is None or layer.name in names)
            and not (startable and np.abs(_scale(norm)).min() < SMALLEST_SCALE)]


def _scale(norm) -> np.ndarray:
    """What the normalisation multiplies each channel by, float64."""
    gamma, _, _, variance = _values(norm.weights)
    return gamma / np.sqrt(variance + norm.epsilon)


def _values(weights) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(weight).astype(np.float64) for weight in weights]


def _along_kernel(scale: np.ndarray, convolution) -> np.ndarray:
    """A value for each channel of the output, as the kernel can be multiplied by."""
    if type(convolution) in DECONVOLUTIONS:
        return scale[:, None]
    return scale if type(convolution) in LAST else scale.reshape(convolution.kernel.shape[-2:])


def _with_bias(convolution, norm, startable: bool):
    """The convolution with the normalisation in its kernel and bias."""
    (_, beta, mean, _), scale = _values(norm.weights), _scale(norm)
    kernel, *bias = _values(convolution.weights)
    kernel = kernel * _along_kernel(scale, convolution)
    bias = (sum(bias) - mean) * scale + beta
    activation = "relu" if getattr(norm, "rectified", False) else "linear"
    settings = convolution.get_config() | _of_a_prediction(convolution, activation, startable)
    new = type(convolution).from_config(settings)
    if startable:
        new.norm, new.own_bias = norm, convolution.bias  # attributes are saved, a list of them would not be
        new.made_of = lambda: (convolution, norm)  # a function, as layers would be saved
    new.build(keras.tree.map_structure(lambda tensor: tensor.shape, convolution.input))
    new.kernel.assign(kernel)
    new.bias.assign(bias)
    return new


def _of_a_prediction(convolution, activation: str, startable: bool) -> dict:
    """The settings of a layer with a bias that is not trained, whose first weights take no random numbers.

    Weights of the type that is calculated in: a cast of each in every call takes a tenth of a narrow network's time.
    Those that a training can start from keep theirs.
    """
    found = {"use_bias": True, "activation": activation,
             "dtype": convolution.dtype_policy if startable else convolution.compute_dtype}
    of_kernels = {"kernel_regularizer": None, "depthwise_regularizer": None, "kernel_initializer": "zeros",
                  "depthwise_initializer": "zeros"}
    return found | {name: value for name, value in of_kernels.items() if name in convolution.get_config()}
