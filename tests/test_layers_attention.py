"""Attention and 2D blocks against the same formulas in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, ndtr

from tfsono.layers.attention import additive_gate, block_attention, spatial_pyramid
from tfsono.layers.planar import PlanarStyle, Resize, residual_block, resize
from tfsono.layers.transformer import Tokens, gelu, patch_tokens, transformer_block

STYLE = PlanarStyle(norm_momentum=0.9, dropout=0.5)


def array(value):
    return keras.ops.convert_to_numpy(value)


def randomised(network, seed=0):
    """The network with random weights everywhere; variances positive."""
    random = np.random.default_rng(seed)
    for weight in network.weights:
        value = random.normal(0, 0.5, weight.shape)
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.path else value)
    return network


def weights_of(network, name):
    return [array(weight) for weight in network.get_layer(name).weights]


def normalised(x, network, name):
    gamma, beta, mean, variance = weights_of(network, name)
    return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta


def test_the_gate_is_the_formula():
    skip, gate = keras.Input((6, 10, 4)), keras.Input((3, 5, 7))
    network = randomised(keras.Model([skip, gate], additive_gate(skip, gate, STYLE, "g")))
    random = np.random.default_rng(1)
    x, g = random.normal(size=(2, 6, 10, 4)).astype("float32"), random.normal(size=(2, 3, 5, 7)).astype("float32")
    (theta,), (phi, bias), (psi, offset) = (weights_of(network, f"g_{name}") for name in ("theta", "phi", "psi"))
    cells = x.reshape(2, 3, 2, 5, 2, 4).transpose(0, 1, 3, 2, 4, 5)  # [B, Y/2, X/2, 2, 2, C]
    sum_ = np.einsum("byxijc,ijcd->byxd", cells, theta) + g @ phi[0, 0] + bias
    share = expit(np.maximum(sum_, 0) @ psi[0, 0] + offset)
    share = array(keras.ops.image.resize(share.astype("float32"), (6, 10), interpolation="bilinear"))
    out, out_bias = weights_of(network, "g_out")
    expected = normalised((x * share) @ out[0, 0] + out_bias, network, "g_norm")
    assert array(network([x, g])) == pytest.approx(expected, abs=1e-4)
    assert theta.shape == (2, 2, 4, 2) and psi.shape == (1, 1, 2, 1)


def test_a_closed_gate_passes_nothing():
    skip, gate = keras.Input((6, 10, 4)), keras.Input((3, 5, 7))
    network = randomised(keras.Model([skip, gate], additive_gate(skip, gate, STYLE, "g")))
    network.get_layer("g_psi").bias.assign([-1e4])
    random = np.random.default_rng(1)
    x, g = random.normal(size=(2, 6, 10, 4)).astype("float32"), random.normal(size=(2, 3, 5, 7)).astype("float32")
    assert np.ptp(array(network([x, g])), axis=(0, 1, 2)) == pytest.approx(0, abs=1e-5)


def test_block_attention_is_the_formula():
    image = keras.Input((5, 9, 6))
    network = randomised(keras.Model(image, block_attention(image, 3, "a")))
    x = np.random.default_rng(2).normal(size=(2, 5, 9, 6)).astype("float32")
    (narrow,), (wide,) = weights_of(network, "a_channel_narrow"), weights_of(network, "a_channel_wide")
    assert narrow.shape == (6, 2)
    both = sum(np.maximum(v @ narrow, 0) @ wide for v in (x.mean((1, 2)), x.max((1, 2))))
    x = x * expit(both)[:, None, None]
    (kernel,) = weights_of(network, "a_spatial_share")
    summary = np.pad(np.stack([x.mean(-1), x.max(-1)], -1), ((0, 0), (3, 3), (3, 3), (0, 0)))
    share = np.zeros((2, 5, 9))
    for i in range(7):
        for j in range(7):
            share += summary[:, i:i + 5, j:j + 9] @ kernel[i, j, :, 0]
    expected = x * expit(share)[..., None]
    assert array(network(np.random.default_rng(2).normal(size=(2, 5, 9, 6)).astype("float32"))) == pytest.approx(
        expected, abs=1e-4)


def test_the_pyramid_sees_as_far_as_its_rates():
    image = keras.Input((33, 41, 3))
    network = keras.Model(image, spatial_pyramid(image, 2, (2, 5), STYLE, "p"))
    assert network.output_shape == (None, 33, 41, 2 * 4)
    for weight in network.weights:
        if "kernel" in weight.path:
            weight.assign(np.full(weight.shape, 0.3))
    zero = np.zeros((1, 33, 41, 3), np.float32)
    raised = zero.copy()
    raised[0, 16, 20] = 1
    moved = np.abs(array(network(raised)) - array(network(zero)))[0] > 1e-7
    for branch, reach in ((0, 0), (1, 2), (2, 5)):
        rows, columns = np.nonzero(moved[..., 2 * branch])
        assert (np.abs(rows - 16).max(), np.abs(columns - 20).max()) == (reach, reach)
    assert moved[..., 6].all()  # the mean of the image


def test_gelu_is_the_exact_one():
    x = np.linspace(-6, 6, 49).astype(np.float32)
    np.testing.assert_allclose(array(gelu(x)), x * ndtr(x), atol=1e-6)


def test_resize_keeps_the_extent_and_the_type():
    ramp = np.broadcast_to(np.arange(6, dtype=np.float32)[None, None, :, None], (1, 4, 6, 1))
    wide = array(Resize((4, 12), "r")(ramp))[0, 0, :, 0]
    assert wide == pytest.approx([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5])
    image = keras.Input((4, 6, 1))
    assert resize(image, (4, 6), "same") is image
    assert Resize((8, 12), "low", dtype="mixed_bfloat16")(image).dtype == "bfloat16"


@pytest.mark.parametrize("size", [(3, 7), (13, 29), (4, 30), (31, 17), (1, 1)])
def test_smooth_resizing_is_tensorflows_antialias(size):
    image = np.random.default_rng(0).normal(size=(2, 13, 29, 3)).astype(np.float32)
    expected = tf.image.resize(image, size, antialias=True)
    np.testing.assert_allclose(array(Resize(size, "r", smooth=True)(image)), expected, atol=1e-5)


def test_a_residual_block_with_dead_branches_is_its_shortcut():
    image = keras.Input((5, 7, 3))
    network = randomised(keras.Model(image, residual_block(image, 3, STYLE, "r")))
    network.get_layer("rb_norm").gamma.assign(np.zeros(3))
    network.get_layer("rb_norm").beta.assign(np.zeros(3))
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype("float32")
    assert array(network(x)) == pytest.approx(np.maximum(x, 0), abs=1e-6)
    halved = keras.Model(image, residual_block(image, 4, STYLE, "h", stride=2))
    assert halved.output_shape == (None, 3, 4, 4)


def test_monte_carlo_dropout_stays_on():
    x = np.ones((2, 3, 5, 64), np.float32)
    image = keras.Input((3, 5, 64))
    off = keras.Model(image, STYLE.drop_channels(image, "d"))
    on = keras.Model(image, PlanarStyle(0.9, 0.5, monte_carlo=True).drop_channels(image, "d"))
    assert (array(off(x)) == x).all()
    first, second = array(on(x)), array(on(x))
    assert (first != second).any() and set(np.unique(first)) == {0, 2}
    assert (np.ptp(first, axis=(1, 2)) == 0).all()  # whole channels


def test_patches_are_in_reading_order():
    image = keras.Input((4, 6, 1))
    network = keras.Model(image, patch_tokens(image, 2, 1, "p"))
    network.get_layer("p").set_weights([np.ones((2, 2, 1, 1)), np.zeros(1)])
    x = np.arange(24, dtype=np.float32).reshape(1, 4, 6, 1)
    assert array(network(x))[0, :, 0].tolist() == [14, 22, 30, 62, 70, 78]


def test_tokens_come_first():
    patches = keras.Input((6, 8))
    network = keras.Model(patches, Tokens(3, name="t")(patches))
    layer = network.get_layer("t")
    layer.places.assign(np.zeros((1, 9, 8)))
    prediction = array(network(np.full((2, 6, 8), 7.0, np.float32)))
    assert prediction.shape == (2, 9, 8) and (prediction[:, 3:] == 7).all()
    assert prediction[0, :3] == pytest.approx(array(layer.tokens)[0]) and (prediction[0] == prediction[1]).all()


def test_a_transformer_block_does_not_know_the_order_of_its_tokens():
    tokens = keras.Input((5, 8))
    network = randomised(keras.Model(tokens, transformer_block(tokens, 2, "b")))
    x = np.random.default_rng(0).normal(size=(1, 5, 8)).astype("float32")
    order = [3, 0, 4, 1, 2]
    assert array(network(x[:, order])) == pytest.approx(array(network(x))[:, order], abs=1e-4)
    assert not np.allclose(array(network(x)), x)
