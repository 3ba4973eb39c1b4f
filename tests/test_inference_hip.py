"""The module of `hip`: sizes, standardisation, spacing, determinism, and the paper's own network."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.config import choose
from tfsono.configs.hip import HIP
from tfsono.errors import UserError
from tfsono.inference.hip import HipModule, tiling_of
from tfsono.inference.resample import resample_linear
from tfsono.inference.segmentation import segment_array
from tfsono.inference.sliding_window import Tiling, tile_and_starts, whole_tile
from tfsono.models import hip
from tfsono.systems.hip import with_half_weights
from wiring import eagerly

ONE_MM = np.ones(3, np.float32)


def small_network(classes=3, seed=0):
    """A network with a receptive field of five voxels, random weights."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((None, None, None, 1))
    x = keras.layers.Conv3D(4, 3, padding="same", activation="relu", kernel_initializer="he_normal")(image)
    x = keras.layers.Conv3D(classes, 3, padding="same", kernel_initializer="he_normal")(x)
    return keras.Model(image, keras.layers.Softmax()(x))


def threshold_network():
    """Class 1 where the standardised intensity is above 0."""
    image = keras.Input((None, None, None, 1))
    scores = keras.layers.Conv3D(2, 1, use_bias=False)
    network = keras.Model(image, keras.layers.Softmax()(scores(image)))
    scores.set_weights([np.array([-1.0, 1.0], np.float32).reshape(1, 1, 1, 1, 2)])
    return network


@pytest.mark.parametrize("kind", ["paper", "half", "fast"])
def test_any_size_and_the_same_prediction_twice(kind):
    module = HipModule(small_network(), Tiling((8, 8, 8), kind, "gaussian", batch=2), 3)
    for size in ((19, 11, 9), (8, 8, 8), (5, 23, 3), (1, 2, 3)):
        volume = np.random.default_rng(0).normal(100, 20, size).astype(np.float32)
        mask = module(volume, ONE_MM)["mask"].numpy()
        assert mask.shape == size and mask.dtype == np.uint8 and mask.max() <= 2
        assert (module(volume, ONE_MM)["mask"].numpy() == mask).all()


def test_probabilities_sum_to_one_and_ignore_scale_and_offset():
    module = HipModule(small_network(), Tiling((8, 8, 16), batch=3), 3)
    volume = np.random.default_rng(1).normal(size=(17, 9, 21)).astype(np.float32)
    prediction = module.probabilities(tf.constant(volume)).numpy()
    np.testing.assert_allclose(prediction.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(module.probabilities(tf.constant(volume * 40 + 700)), prediction, atol=1e-3)


def test_weights_in_float16(tmp_path):
    """Kernels take half the space, a SavedModel too, and predict the same but for rounding; others are refused."""
    network, manifest = small_network(), {"network": {"patch": [8, 16, 24]}}
    module = HipModule(network, Tiling((8, 16, 24), "whole"), 3, mirror=True)
    halved, of_half = with_half_weights(module, manifest)
    volume = np.random.default_rng(1).normal(300, 50, (12, 17, 10)).astype(np.float32)
    expected = module.probabilities(volume).numpy()
    rounded = halved.probabilities(volume).numpy()
    np.testing.assert_allclose(rounded, expected, atol=5e-3)
    assert (rounded != expected).any() and 0 < of_half["network"]["difference_from_float32"] < 5e-3
    assert of_half["network"]["weights"] == "float16"
    tf.saved_model.save(halved, str(tmp_path / "saved"), signatures={"serving_default": halved.__call__})
    saved = tf.train.load_checkpoint(str(tmp_path / "saved" / "variables" / "variables"))
    types = saved.get_variable_to_dtype_map()
    assert {types[name] for name, shape in saved.get_variable_to_shape_map().items() if len(shape) == 5} == {tf.float16}
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_array_equal(loaded.probabilities(volume), rounded)
    network.layers[1].kernel.assign(network.layers[1].kernel * 1e9)  # more than float16 holds
    with pytest.raises(UserError, match="float16"):
        with_half_weights(module, manifest)


@pytest.mark.parametrize("kind", ["paper", "whole"])
def test_the_mirrored_volumes_prediction_is_averaged_in(kind):
    tiling = Tiling((8, 8, 8), kind)
    plain, mirrored = (HipModule(small_network(), tiling, 3, (), mirror) for mirror in (False, True))
    volume = np.random.default_rng(2).normal(100, 20, (19, 11, 9)).astype(np.float32)
    one = plain.probabilities(tf.constant(volume)).numpy()
    other = plain.probabilities(tf.constant(volume[::-1].copy())).numpy()[::-1]
    assert np.abs(one - other).max() > 0.01  # the network is not symmetric, so the average is something else
    found = mirrored.probabilities(tf.constant(volume)).numpy()
    np.testing.assert_allclose(found, (one + other) / 2, atol=1e-6)
    np.testing.assert_allclose(mirrored.probabilities(tf.constant(volume[::-1].copy())).numpy()[::-1], found, atol=1e-6)
    assert (mirrored(volume, ONE_MM)["mask"].numpy() == found.argmax(-1)).all()


def test_padding_does_not_count_in_the_statistics():
    """A threshold at the mean of the real voxels: the zeros of the padding would move it."""
    module = HipModule(threshold_network(), Tiling((16, 16, 16)), 2)
    volume = np.random.default_rng(2).uniform(500, 600, (9, 5, 7)).astype(np.float32)
    assert (module(volume, ONE_MM)["mask"].numpy() == (volume > volume.mean())).all()


def test_a_constant_volume_gives_finite_probabilities():
    module = HipModule(small_network(), Tiling((8, 8, 8)), 3)
    assert np.isfinite(module.probabilities(tf.fill((9, 5, 11), 7.0))).all()


def test_resampling_to_the_networks_spacing_and_back():
    module = HipModule(threshold_network(), Tiling((32, 32, 32), "whole"), 2, (1.0, 1.0, 1.0))
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (25, 31, 15)), indexing="ij"), -1) * (0.8, 0.7, 1.9)
    ball = np.linalg.norm(grid - (9, 10, 13), axis=-1)
    mask = module((200 - 10 * ball).astype(np.float32), np.float32([0.8, 0.7, 1.9]))["mask"].numpy()
    assert mask.shape == (25, 31, 15)
    # The threshold is the mean on the network's grid, nearly that of the native one: a ball.
    reference = 200 - 10 * ball > (200 - 10 * ball).mean()
    assert 2 * (mask & reference).sum() / (mask.sum() + reference.sum()) > 0.97


def test_a_resampled_mask_is_of_the_resampled_probabilities():
    network = small_network()
    tiling = Tiling((8, 8, 8), "half")
    resampling, native = HipModule(network, tiling, 3, (2.0, 1.5, 1.0)), HipModule(network, tiling, 3)
    volume = np.random.default_rng(5).normal(size=(14, 9, 11)).astype(np.float32)
    small = native.probabilities(resample_linear(volume, tf.constant((7, 6, 11))))
    back = np.stack([resample_linear(small[..., label], tf.constant(volume.shape)) for label in range(3)], -1)
    assert (resampling(volume, ONE_MM)["mask"].numpy() == back.argmax(-1)).mean() > 0.999


def test_the_same_spacing_gives_what_no_resampling_gives():
    network = small_network()
    tiling = Tiling((8, 8, 8))
    volume = np.random.default_rng(6).normal(size=(13, 9, 11)).astype(np.float32)
    spacing = np.float32([0.7, 0.3, 1.1])
    resampling = HipModule(network, tiling, 3, (0.7, 0.3, 1.1))(volume, spacing)["mask"].numpy()
    assert (resampling == HipModule(network, tiling, 3)(volume, spacing)["mask"].numpy()).all()


def quick_config(variant="paper", **changes):
    config = choose(HIP, "quick", variant).config
    small = {"label_names": ("femur",), "patch": (16, 16, 16), "widths": (2, 4, 4, 4), "lower_widths": (4, 2),
             "middle_widths": (2,), "initial_deviation": 0.0}
    return dataclasses.replace(config, **{**small, **changes})


LINEAGE = {"variant": "lineage4", "tiling": "fast", "precision": "mixed_bfloat16"}


@pytest.mark.parametrize("changes", [{}, LINEAGE, {"mirror_at_test": True}])
@eagerly()
def test_the_systems_own_network(changes):
    config = quick_config(**changes)
    keras.utils.set_random_seed(1)
    module = HipModule.build(hip.main_network(hip.build(config)), config)
    assert module.classes == 2 and module.tiling.multiple == config.stride and module.mirror == config.mirror_at_test
    volume = np.random.default_rng(0).normal(size=(29, 17, 11)).astype(np.float32)
    assert module.probabilities(tf.constant(volume)).dtype == tf.float32
    assert segment_array(module, volume, (0.6, 0.6, 1.2)).shape == (29, 17, 11)


def with_random_statistics(network):
    """So that inference by moving statistics is no identity."""
    random = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights([random.uniform(0.5, 2, n), random.normal(size=n), random.normal(size=n),
                               random.uniform(0.3, 2, n)])
    return network


@pytest.mark.parametrize("architecture", ["ds_u3", "lineage4"])
def test_tiles_with_margins_give_what_one_tile_of_the_whole_volume_gives(architecture):
    config = quick_config("tuned", norm_at_test="moving", architecture=architecture, memory_gb=1.001, tiling="fast",
                          branch_weights=(0.3, 0.6, 0.9, 1.0))
    keras.utils.set_random_seed(1)
    network = hip.main_network(with_random_statistics(hip.build(config)))
    volume = np.random.default_rng(0).normal(size=(281, 13, 21)).astype(np.float32)
    fast, whole = (HipModule.build(network, dataclasses.replace(config, tiling=kind)) for kind in ("fast", "whole"))
    assert fast.tiling.margin == -(-config.reach // config.stride) * config.stride and whole.tiling.margin is None
    tile, starts = tile_and_starts(fast.tiling, whole_tile(fast.tiling, tf.constant(volume.shape)))
    assert len(starts[0]) > 1 and tile[0] < 281
    one, other = (module.probabilities(tf.constant(volume)).numpy() for module in (fast, whole))
    assert other.std() > 0.05
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_no_voxel_beyond_the_reach_matters_and_one_at_it_does():
    config = quick_config("tuned", norm_at_test="moving")
    keras.utils.set_random_seed(1)
    network = hip.main_network(with_random_statistics(hip.build(config)))
    image = np.random.default_rng(0).normal(size=(1, 144, 16, 16, 1)).astype(np.float32)
    before, far = network(image).numpy(), []
    for at in range(64, 80):
        changed = image.copy()
        changed[:, at] += 50
        places = np.where(np.abs(network(changed) - before).max((0, 2, 3, 4)) > 0)[0]
        far += [at - places[0], places[-1] - at]
    assert max(far) == config.reach


def test_the_budget_of_fast_and_its_overlap():
    config = quick_config(tiling="fast", memory_gb=3.0, tile_batch=2)
    own, half = tiling_of([config]), tiling_of([dataclasses.replace(config, precision="mixed_bfloat16")])
    assert own.margin is None and own.batch == 1  # each tile's statistics: they overlap by half
    assert half.tile_voxels == pytest.approx(2 * own.tile_voxels, abs=2)
    double = tiling_of([dataclasses.replace(config, memory_gb=5.0)])
    assert double.tile_voxels == pytest.approx(2 * own.tile_voxels, abs=2)
    moving = dataclasses.replace(config, norm_at_test="moving")
    assert tiling_of([moving, config]).margin is None  # one of an ensemble has its own
    deep = dataclasses.replace(moving, architecture="lineage4", branch_weights=(0.3, 0.6, 0.9, 1.0))
    both = tiling_of([moving, deep])
    assert (both.multiple, both.margin) == (16, 112)
