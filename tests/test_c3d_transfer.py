"""C3D's kernels in an encoder: colour, axes and layers, seen through what the convolutions compute."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from scipy.signal import convolve, correlate

from tfsono.c3d import LAYERS, C3DWeights, encoder_kernels, read_c3d, transfer_into
from tfsono.c3d.weights import expected_shapes
from tfsono.errors import UserError

WIDTHS = (4, 6, 10, 14)
NAMES = {name: name for name in LAYERS}


def make_weights(channels=3, widths=WIDTHS, make=None):
    make = make or (lambda shape: np.random.default_rng(shape[4]).standard_normal(shape).astype("f4"))
    kernels = {name: make(shape) for name, shape in expected_shapes(widths, channels).items()}
    counts = {name: kernel.shape[4] for name, kernel in kernels.items()}
    return C3DWeights("c3d.h5", "Keras HDF5, TensorFlow", kernels, dict(NAMES), counts, ("conv5a", "fc6"))


def convolution(volume, kernel, output):
    """What Keras's convolution with padding `same` gives for [., ., ., input] and one output channel."""
    return sum(correlate(volume[..., c], kernel[..., c, output], "same") for c in range(volume.shape[3]))


class Variable:
    def __init__(self, shape):
        self.shape, self.value = shape, None

    def assign(self, value):
        self.value = value


class Layer:
    def __init__(self, kernel):
        self.kernel = kernel


class Network:
    """A Keras model as far as the transfer uses it: `get_layer(name).kernel`."""

    def __init__(self, widths, prefix=""):
        shapes = expected_shapes(widths, 1)
        self.layers = {prefix + name: Layer(Variable(shape)) for name, shape in shapes.items()}

    def get_layer(self, name):
        if name not in self.layers:
            raise ValueError(f"no layer {name}")
        return self.layers[name]


def in_file_order(kernel):
    """A kernel [x, y, z, input, output] as [T, H, W, input, output]."""
    return kernel.transpose(2, 0, 1, 3, 4)


def test_grey_clip_gives_what_the_colours_gave():
    weights = make_weights()
    grey = np.random.default_rng(1).standard_normal((5, 7, 9, 1)).astype("f4")
    colours = np.repeat(grey, 3, axis=3)
    kernel = in_file_order(encoder_kernels(weights)["conv1"])
    assert kernel.shape == (3, 3, 3, 1, 4)
    for output in range(4):
        expected = convolution(colours, weights.kernels["conv1"], output)
        np.testing.assert_allclose(convolution(grey, kernel, output), expected, atol=1e-4)


def test_one_channel_is_kept():
    single = make_weights(channels=1)
    kept = in_file_order(encoder_kernels(single)["conv1"])
    np.testing.assert_array_equal(kept, single.kernels["conv1"])


def test_axes():
    """The clip [T, H, W] transposed to a volume [x, y, z] gives the same features, transposed in the same way."""
    weights = make_weights()
    clip = np.random.default_rng(2).standard_normal((5, 7, 9, 4)).astype("f4")
    kernel = encoder_kernels(weights)["conv2"]
    assert kernel.flags.c_contiguous and kernel.dtype == np.float32
    volume = clip.transpose(1, 2, 0, 3)
    for output in (0, 5):
        expected = convolution(clip, weights.kernels["conv2"], output).transpose(1, 2, 0)
        np.testing.assert_allclose(convolution(volume, kernel, output), expected, atol=1e-4)


def test_one_weight_by_hand():
    """T 0, H 1, W 2 of the file is x = 1, y = 2, z = 0."""
    weights = make_weights(make=lambda shape: np.zeros(shape, "f4"))
    weights.kernels["conv3a"][0, 1, 2, 3, 4] = 1
    assert np.argwhere(encoder_kernels(weights)["conv3a"]).tolist() == [[1, 2, 0, 3, 4]]
    assert np.argwhere(encoder_kernels(weights, axes="wht")["conv3a"]).tolist() == [[2, 1, 0, 3, 4]]


def test_report_of_the_whole_encoder():
    weights = make_weights(widths=(64, 128, 256, 512), make=lambda shape: np.zeros(shape, "f4"))
    kernels = encoder_kernels(weights)
    network = Network((64, 128, 256, 512))
    report = transfer_into(network, kernels, NAMES, weights)
    assert report.weights == 13_493_952 and report.biases_ignored == 1728
    assert str(report) == ("C3D transfer from c3d.h5 (Keras HDF5, TensorFlow): 13,493,952 weights in conv1, "
                           "conv2, conv3a, conv3b, conv4a, conv4b; 1,728 biases ignored")
    assert all(network.get_layer(name).kernel.value is kernels[name] for name in LAYERS)


def test_other_names_and_fewer_layers():
    network = Network(WIDTHS, prefix="encoder_")
    report = transfer_into(network, encoder_kernels(make_weights()), {"conv2": "encoder_conv2"})
    assert report.layers == (("conv2", "encoder_conv2", 27 * 4 * 6),)
    assert str(report) == "C3D transfer: 648 weights in conv2 to encoder_conv2"
    assert network.get_layer("encoder_conv1").kernel.value is None


def test_narrower_network_is_refused_and_left_as_it_was():
    network = Network((4, 6, 10, 13))
    with pytest.raises(UserError, match="conv4a .* 3x3x3x10x13, .* 3x3x3x10x14, .*128, 256, 512 .*quick") as caught:
        transfer_into(network, encoder_kernels(make_weights()), NAMES)
    assert "\n" not in str(caught.value)
    assert all(layer.kernel.value is None for layer in network.layers.values())


def test_layers_that_are_not_there():
    kernels = encoder_kernels(make_weights())
    with pytest.raises(ValueError, match="conv5a"):
        transfer_into(Network(WIDTHS), kernels, {"conv5a": "conv5a"})
    with pytest.raises(ValueError, match="nothing"):
        transfer_into(Network(WIDTHS), kernels, {})
    with pytest.raises(ValueError, match="no layer first"):
        transfer_into(Network(WIDTHS), kernels, {"conv1": "first"})
    network = Network(WIDTHS)
    network.layers["conv1"] = object()
    with pytest.raises(ValueError, match="no built kernel"):
        transfer_into(network, kernels, {"conv1": "conv1"})


def test_from_a_theano_file_to_what_a_keras_layer_computes(tmp_path):
    """End to end: Theano's convolution of a clip is what the Keras layer gives for the volume."""
    keras = pytest.importorskip("keras")
    random = np.random.default_rng(5)
    stored = {name: random.standard_normal((shape[4], shape[3], 3, 3, 3)).astype("f4")
              for name, shape in expected_shapes(WIDTHS).items()}
    with h5py.File(tmp_path / "th.h5", "w") as file:
        for name, kernel in stored.items():
            file[f"{name}/{name}_W"] = kernel
    weights = read_c3d(tmp_path / "th.h5", WIDTHS)
    model = keras.Sequential([keras.Input((7, 9, 5, 1)),
                              keras.layers.Conv3D(4, 3, padding="same", use_bias=False, name="conv1")])
    assert transfer_into(model, encoder_kernels(weights), {"conv1": "conv1"}, weights).weights == 27 * 4
    clip = random.standard_normal((5, 7, 9)).astype("f4")
    features = np.asarray(model(clip.transpose(1, 2, 0)[None, ..., None]))[0]
    for output in range(4):
        theano = sum(convolve(clip, stored["conv1"][output, colour], "same") for colour in range(3))
        np.testing.assert_allclose(features[..., output], theano.transpose(1, 2, 0), atol=1e-4)
