"""Trilinear interpolation to twice the sides, against SciPy."""

import keras
import numpy as np
from scipy import ndimage

from tfsono.layers.trilinear import TrilinearUpsampling


def test_it_is_linear_interpolation_between_voxel_centres():
    x = np.random.default_rng(3).normal(size=(2, 3, 5, 4, 2)).astype("float32")
    found = keras.ops.convert_to_numpy(TrilinearUpsampling()(x))
    places = np.stack(np.meshgrid(*((np.arange(2 * n) + 0.5) / 2 - 0.5 for n in x.shape[1:4]), indexing="ij"))
    for batch in range(2):
        for channel in range(2):
            expected = ndimage.map_coordinates(x[batch, ..., channel], places, order=1, mode="nearest")
            np.testing.assert_allclose(found[batch, ..., channel], expected, atol=1e-5)


def test_shapes_known_and_unknown():
    layer = TrilinearUpsampling()
    assert layer(keras.KerasTensor((2, 3, 5, 7, 4))).shape == (2, 6, 10, 14, 4)
    image = keras.Input((None, None, None, 3))
    network = keras.Model(image, layer(image))
    assert network.output.shape == (None, None, None, None, 3)
    assert network.predict(np.ones((1, 2, 3, 1, 3)), verbose=0).shape == (1, 4, 6, 2, 3)
