"""A convolution of interpolated features, against SciPy's interpolation and correlation."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from tfsono.layers.blocks import BlockStyle
from tfsono.layers.precision import made_in
from tfsono.layers.trilinear import UpsampledConv3D

STYLE = BlockStyle(1.0, 0.0, 0.9, 1e-5)


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(5)


def upsampled(channels, name):
    return UpsampledConv3D(channels, 3, padding="same", use_bias=False, name=name, **STYLE.kernel())


def interpolated(x):
    """`x` [X, Y, Z] at twice its sides, half-voxel centres, the border's values beyond it."""
    places = np.stack(np.meshgrid(*((np.arange(2 * n) + 0.5) / 2 - 0.5 for n in x.shape), indexing="ij"))
    return ndimage.map_coordinates(x, places, order=1, mode="nearest")


def example(sides, batch=2, channels=(2, 3)):
    random = np.random.default_rng(3)
    return [random.normal(size=(batch, *(factor * side for side in sides), count)).astype("float32")
            for factor, count in zip((1, 2), channels, strict=True)]


@pytest.mark.parametrize("sides", [(3, 5, 4), (1, 2, 7), (1, 1, 1)])
def test_it_is_the_convolution_of_interpolated_values(sides):
    coarse, fine = example(sides)
    layer = upsampled(4, "up")
    found = keras.ops.convert_to_numpy(layer([coarse, fine]))
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    assert found.shape == (2, *fine.shape[1:4], 4) and kernel.shape == (3, 3, 3, 5, 4)
    for batch in range(2):
        parts = [interpolated(coarse[batch, ..., 0]), interpolated(coarse[batch, ..., 1]),
                 *np.moveaxis(fine[batch], -1, 0)]
        for channel in range(4):
            expected = sum(ndimage.correlate(part, kernel[..., number, channel], mode="constant")
                           for number, part in enumerate(parts))
            # sums of 135 products, up to 40: float32 is off by 1.5e-5 at most in 60 seeds, a wrong border by 10
            np.testing.assert_allclose(found[batch, ..., channel], expected, atol=1e-4)


def test_gradients_are_those_of_interpolation_and_convolution():
    """The layer is linear in each of its three values: gradient times a step is the change that the step makes."""
    import tensorflow as tf

    coarse, fine = (tf.constant(values) for values in example((3, 5, 4)))
    layer = upsampled(4, "up")
    random = np.random.default_rng(4)
    with tf.GradientTape() as tape:
        tape.watch([coarse, fine])
        out = layer([coarse, fine])
        wanted = random.normal(size=out.shape).astype("float32")
        total = tf.reduce_sum(out * wanted)
    gradients = tape.gradient(total, [coarse, fine, layer.kernel])
    steps = [random.normal(size=value.shape).astype("float32") for value in (coarse, fine, layer.kernel)]
    for number, (gradient, step) in enumerate(zip(gradients, steps, strict=True)):
        moved = [coarse, fine]
        if number < 2:
            moved[number] = moved[number] + step
        else:
            layer.kernel.assign_add(step)
        change = np.sum((layer(moved) - out).numpy() * wanted, dtype="float64")
        assert np.sum(gradient.numpy() * step, dtype="float64") == pytest.approx(change, rel=1e-4)


def test_shapes_known_and_unknown():
    layer = upsampled(6, "up")
    known = [keras.KerasTensor((2, 3, 5, 7, 4)), keras.KerasTensor((2, 6, 10, 14, 3))]
    assert layer(known).shape == (2, 6, 10, 14, 6)
    parts = [keras.Input((None, None, None, count)) for count in (4, 3)]
    network = keras.Model(parts, layer(parts))
    assert network.output.shape == (None, None, None, None, 6)
    example_parts = example((2, 3, 1), 1, (4, 3))
    assert network.predict(example_parts, verbose=0).shape == (1, 4, 6, 2, 6)


def test_half_precision_differs_by_rounding_alone():
    parts = example((3, 5, 4), channels=(20, 30))
    full = upsampled(4, "full")
    with made_in("mixed_bfloat16"):
        half = upsampled(4, "half")
    expected = keras.ops.convert_to_numpy(full(parts))
    half.build([part.shape for part in parts])
    half.kernel.assign(full.kernel)
    found = half(parts)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    error = keras.ops.convert_to_numpy(keras.ops.cast(found, "float32")) - expected
    assert np.abs(error).max() < 0.03 * np.abs(expected).max()
