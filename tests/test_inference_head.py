"""The modules of `head`: into the frame and back, dropout's samples, and SavedModels without this package."""

from __future__ import annotations

import dataclasses

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import map_coordinates

from tfsono.config import choose
from tfsono.configs.head import HEAD
from tfsono.geometry.heatmaps import gaussian_maps
from tfsono.geometry.letterbox import Letterbox
from tfsono.inference.head import (
    HeadLandmarkModule,
    HeadSegmentationModule,
    Preparation,
    frozen_normalisation,
    head_module,
    placement,
    restored,
)
from tfsono.models import head
from wiring import eagerly

SIZES = ((19, 31), (54, 80), (97, 41), (64, 64), (1, 7))
FRAME = (32, 48)
PLAIN = Preparation(FRAME, 0, 8)


def small_config(variant: str, **changes):
    """The quick preset, still smaller."""
    smaller = {"input_size": (64, 96), "unet_widths": (4, 6, 8), "backbone_widths": (4, 4, 6, 8, 8),
               "heatmap_widths": (8, 8, 8), "head_widths": (16, 8), "pyramid_channels": 8, "pyramid_fused": 8,
               "transformer_size": (64, 96), "transformer_width": 16, "transformer_depth": 2,
               "transformer_heads": 2, "aspp_channels": 8, "low_level_channels": 4, "attention_reduction": 4}
    return dataclasses.replace(choose(HEAD, "quick", variant).config, **{**smaller, **changes})


def module_of(variant: str, seed: int = 0, **changes):
    config = small_config(variant, **changes)
    keras.utils.set_random_seed(seed)
    network = head.build(config)
    random = np.random.default_rng(seed)
    for layer in network.layers:  # statistics that differ from a batch's own, or a mix-up would not show
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(random.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(random.uniform(0.5, 1.5, layer.moving_variance.shape))
    return head_module(network, config)


def brightness_network():
    """Logits that are the standardised image itself: the output shows where every pixel went."""
    image = keras.Input((*FRAME, 1))
    return keras.Model(image, {"mask": keras.layers.Activation("linear")(image)})


def fixed_points(points):
    """A network that always predicts the same points of the frame."""
    image = keras.Input((*FRAME, 1))
    prediction = keras.layers.Dense(8, kernel_initializer="zeros")(keras.layers.Flatten()(image))
    network = keras.Model(image, {"points": keras.layers.Reshape((4, 2))(prediction)})
    network.layers[-2].bias.assign(np.ravel(points))
    return network


def image_of(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frame", [FRAME, (96, 64)])
def test_restoring_inverts_the_letterbox(size, frame):
    values = np.random.default_rng(1).uniform(size=frame).astype(np.float32)
    box = Letterbox(size, frame)
    scale, start, new = placement(tf.constant(size), frame)
    assert float(scale) == pytest.approx(box.scale, abs=1e-12)
    assert tuple(start.numpy()) == tuple(box.start_yx) and tuple(new.numpy()) == tuple(box.new_yx)
    found = restored(tf.constant(values), tf.constant(size), frame).numpy()
    shown = values[tuple(slice(first, first + count) for first, count in zip(box.start_yx, box.new_yx, strict=True))]
    places = [(np.arange(side) + 0.5) * box.scale - 0.5 for side in size]
    expected = map_coordinates(shown, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("size", [(54, 80), (97, 41)])
def test_a_disk_stays_at_its_place(size):
    """Through letterbox, network and back: the centroid may move by a small part of a pixel only."""
    image = np.zeros(size, np.float32)
    cv2.circle(image, (size[1] // 2 + 4, size[0] // 2 - 6), 13, 255.0, -1)
    prediction = HeadSegmentationModule(brightness_network(), PLAIN)(image)["probability"].numpy()
    assert prediction.shape == size and prediction.dtype == np.float32
    assert 0 <= prediction.min() and prediction.max() <= 1
    weights = prediction - prediction.min()
    for axis in range(2):
        at = np.arange(size[axis])
        reference = (image.sum(1 - axis) * at).sum() / image.sum()
        assert (weights.sum(1 - axis) * at).sum() / weights.sum() == pytest.approx(reference, abs=0.15)


def test_padding_does_not_count_in_the_statistics():
    image = np.full((8, 48), 100, np.float32)
    image[:, 24:] = 120  # mean 110: half of the pixels are above it, whatever the padding holds
    prediction = HeadSegmentationModule(brightness_network(), PLAIN)(image)["probability"].numpy()
    assert (prediction[:, :24] < 0.5).all() and (prediction[:, 24:] > 0.5).all()


@pytest.mark.parametrize("size", SIZES)
def test_points_are_mapped_back_to_their_place(size):
    wanted = np.random.default_rng(2).uniform(0, min(size), (4, 2))
    points = Letterbox(size, FRAME).points_to_target(wanted)
    found = HeadLandmarkModule(fixed_points(points), PLAIN)(image_of(size))["points_px"].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-3)


# A soft-argmax of beta 50 is nearly the highest cell, which is up to half a cell of 4 pixels off.
@pytest.mark.parametrize("decode, tolerance", [("argmax", 2.01), ("centroid", 0.2), ("soft_argmax", 2.01)])
def test_a_peak_of_a_heatmap_is_decoded(decode, tolerance):
    points = np.float32([[10.3, 9.2], [40.1, 20.7], [17.0, 25.5], [30.2, 6.6]])
    maps = np.asarray(gaussian_maps(points[None], (8, 12), 1.0, 4))[0]
    image = keras.Input((*FRAME, 1))
    flat = keras.layers.Dense(maps.size, kernel_initializer="zeros")(keras.layers.Flatten()(image))
    network = keras.Model(image, {"heatmaps": keras.layers.Reshape(maps.shape)(flat)})
    network.layers[-2].bias.assign(maps.ravel())
    size = (64, 96)  # twice the frame
    found = HeadLandmarkModule(network, PLAIN, decode)(image_of(size))["points_px"].numpy()
    box = Letterbox(size, FRAME)
    expected = (points - box.points_to_target([0, 0])) / box.scale
    assert np.abs(found - expected).max() < 2 * tolerance


@pytest.mark.parametrize("variant", ["unet", "deeplabv3plus", "heatmap", "coordinate", "transformer"])
@eagerly()
def test_samples_have_dropout_and_the_normalisation_at_test(variant):
    """In graphs: `test_the_same_prediction_without_keras_and_this_package`."""
    module, image = module_of(variant, dropout=0.5), tf.constant(image_of((54, 80)))
    before = [variable.numpy() for variable in module.network.variables]
    plain = next(iter(module(image).values())).numpy()
    one, again, other = (next(iter(module.sample(image, seed).values())).numpy() for seed in (1, 1, 2))
    assert (one == again).all() and (one != other).any() and (one != plain).any()
    assert all((variable.numpy() == held).all()
               for variable, held in zip(module.network.variables, before, strict=True))


@pytest.mark.parametrize("variant", ["attention_unet", "coordinate"])
@eagerly()
def test_without_dropout_a_sample_is_the_prediction(variant):
    """So that nothing but dropout differs: the statistics of training would show here."""
    module, image = module_of(variant, dropout=0.0), tf.constant(image_of((54, 80)))
    expected = next(iter(module(image).values())).numpy()
    np.testing.assert_allclose(next(iter(module.sample(image, 1).values())), expected, atol=1e-4)


def test_frozen_normalisation_is_undone():
    network = module_of("unet").network
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    norms[0].trainable = False
    with frozen_normalisation(network):
        assert not any(layer.trainable for layer in norms)
    assert [layer.trainable for layer in norms] == [False] + [True] * (len(norms) - 1)


def test_normalisation_and_dropout_inside_a_backbone_count():
    """ImageNet backbones are models in the model."""
    inner = keras.Sequential([keras.Input((*FRAME, 1)), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)])
    inner.layers[0].moving_mean.assign([0.3])
    image = keras.Input((*FRAME, 1))
    network = keras.Model(image, {"mask": keras.layers.Rescaling(1.0)(inner(image))})
    module, image = HeadSegmentationModule(network, PLAIN), image_of(FRAME)
    one, other = (module.sample(image, seed)["probability"].numpy() for seed in (1, 2))
    assert (one != other).any() and (one == module.sample(image, 1)["probability"].numpy()).all()
    assert inner.layers[0].moving_mean.numpy()[0] == pytest.approx(0.3)
    plain = module(image)["probability"].numpy()
    kept = one != 0.5  # the rest was dropped; what is kept is doubled
    assert 0.4 < kept.mean() < 0.6
    logits = [np.log(each[kept] / (1 - each[kept])) for each in (one, plain)]
    np.testing.assert_allclose(logits[0], 2 * logits[1], atol=1e-4)


@pytest.mark.parametrize("size", [(54, 80), (33, 17), (200, 300), (1, 1)])
def test_any_size_and_a_constant_image(size):
    module = module_of("unet")
    prediction = module(image_of(size))["probability"].numpy()
    assert prediction.shape == size and np.isfinite(prediction).all()
    assert np.isfinite(module(np.full(size, 7, np.float32))["probability"].numpy()).all()
