"""From a raw volume to points on its own grid, plain and refined, with networks of known outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.inference.atlases import AtlasSet
from tfsono.geometry.body_frame import BodyFrame
from tfsono.geometry.heatmaps import gaussian_maps
from tfsono.inference.pose import FramedReader, PoseModule, PoseReader, PoseRefiner
from tfsono.inference.refine import RefineSettings

ONE = [1.0, 1.0, 1.0]


def known_network(below=()):
    """Heatmaps of the brightest and of the darkest voxel; `below` is subtracted from them."""
    image = keras.Input((None, None, None, 1))
    layer = keras.layers.Conv3D(2, 1, name="maps")
    network = keras.Model(image, {"heatmaps": layer(image)})
    layer.set_weights([np.array([1.0, -1.0]).reshape(1, 1, 1, 1, 2), -np.array(below or (0.0, 0.0))])
    return network


def module_of(ratio=1.0, decode="argmax", spacing_mm=(), stride=16, network=None):
    return PoseModule(PoseReader(network or known_network(), stride, ratio, decode, spacing_mm, sigma_mm=4.0))


def scene(size=(21, 17, 19), bright=(4, 11, 15), dark=(19, 2, 7)):
    volume = np.random.default_rng(0).normal(100, 1, size).astype(np.float32)
    volume[bright], volume[dark] = 180, 20
    return volume


def blob(centre, size):
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    return np.exp(-((grid - np.array(centre)) ** 2).sum(-1) / (2 * 4.0**2)).astype(np.float32)


def test_points_and_peaks_on_the_volumes_own_grid():
    volume = scene()
    prediction = module_of()(volume, ONE)
    np.testing.assert_array_equal(prediction["points_vox"], [[4, 11, 15], [19, 2, 7]])
    standard = (volume - volume.mean()) / volume.std()
    np.testing.assert_allclose(prediction["peaks"], [standard.max(), -standard.min()], rtol=1e-4)


@pytest.mark.parametrize("repeats, spacing_mm, network_mm", [
    (1, ONE, ()), (2, [0.5, 1.0, 1.0], ()), (2, [0.5, 1.0, 1.0], (1.0, 1.0, 1.0))])
def test_the_second_peak_is_beyond_three_deviations_in_millimetres(repeats, spacing_mm, network_mm):
    """Of 4 mm: one at 11 mm is part of the peak, one at 14 mm is another."""
    volume = scene()
    volume[15, 11, 15], volume[18, 11, 15] = 170, 150
    found = module_of(spacing_mm=network_mm)(volume.repeat(repeats, 0), spacing_mm)
    standard = (volume - volume.mean()) / volume.std()
    assert found["second_peaks"].numpy()[0] == pytest.approx(standard[18, 11, 15], rel=1e-4)
    assert found["second_peak_mm"].numpy()[0] == pytest.approx(14, abs=1e-3)


@pytest.mark.parametrize("size, bright, dark", [((5, 3, 4), (4, 0, 3), (0, 2, 1)), ((1, 1, 2), (0, 0, 1), (0, 0, 0)),
                                                ((33, 2, 16), (32, 1, 15), (0, 0, 0))])
def test_a_volume_smaller_than_the_network_is_padded(size, bright, dark):
    prediction = module_of()(scene(size, bright, dark), ONE)
    np.testing.assert_array_equal(prediction["points_vox"], [bright, dark])


def test_padding_is_never_predicted():
    """A map that is highest where the network sees 0, as it does in the padding."""
    image = keras.Input((None, None, None, 1))
    network = keras.Model(image, {"heatmaps": -keras.ops.abs(image)})
    volume = np.where(np.arange(21) % 2, 10, -10).astype(np.float32)[:, None, None] * np.ones((1, 17, 19), np.float32)
    volume[6, 3, 2] = 0.5
    prediction = module_of(network=network)(volume, ONE)
    np.testing.assert_array_equal(prediction["points_vox"], [[6, 3, 2]])
    assert float(prediction["peaks"][0]) < -0.01


@pytest.mark.parametrize("ratio, decode, within", [(0.5, "argmax", 1.01), (0.5, "centroid", 0.35),
                                                   (0.4, "centroid", 0.5), (0.5, "wide_centroid", 0.1)])
def test_a_rescaled_volume_gives_points_in_its_own_voxels(ratio, decode, within):
    centre = (23.4, 12.8, 17.1)
    prediction = module_of(ratio, decode)(blob(centre, (41, 35, 33)), ONE)
    assert np.abs(prediction["points_vox"].numpy()[0] - centre).max() < within


def test_resampling_to_the_training_spacing_is_undone():
    volume = scene().repeat(2, 0).repeat(2, 2)
    prediction = module_of(spacing_mm=(1.0, 1.0, 1.0))(volume, [0.5, 1.0, 0.5])
    np.testing.assert_allclose(prediction["points_vox"], [[8.5, 11, 30.5], [38.5, 2, 14.5]], atol=1e-5)


def test_a_saved_model_predicts_the_same(tmp_path):
    module = module_of(0.5, "centroid")
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.__call__})
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    one, other = module(scene(), ONE), loaded(scene(), tf.constant(ONE))
    assert set(one) == set(other) == {"points_vox", "peaks", "second_peaks", "second_peak_mm"}
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


# --- in the body's frame

SIZE, SPACING, MIDLINE = (41, 36, 33), np.float32([1.0, 1.2, 0.9]), np.array([[9, 8, 20], [18, 9, 24], [27, 14, 22],
                                                                               [31, 22, 16.0]])


def framed_module(decode="wide_centroid", spacing_mm=()):
    """A finder that sees the midline at `MIDLINE` whatever the volume, and a network that shows the volume."""
    image = keras.Input((None, None, None, 1))
    maps = gaussian_maps(MIDLINE[None].astype(np.float32), SIZE, 2.0)
    finder = keras.Model(image, {"heatmaps": image[:, :SIZE[0], :SIZE[1], :SIZE[2]] * 0 + maps})
    frame = BodyFrame((0, 1, 2, 3), np.array([[-14, 0, 3], [-4, 1, 8], [6, -1, 8], [15, 0.0, -1]]), np.full(3, 44.0))
    return PoseModule(FramedReader(PoseReader(known_network(), 8, 0.8, decode, spacing_mm, sigma_mm=3.0),
                                   PoseReader(finder, 1, 1.0, decode, (), sigma_mm=2.0), frame))


@pytest.mark.parametrize("spacing_mm", [(), (0.8, 0.9, 1.0)])
def test_points_are_rotated_back_from_the_frame(spacing_mm):
    centre = (16.4, 14.7, 21.2)
    grid = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), -1)
    volume = np.exp(-(((grid - centre) * SPACING) ** 2).sum(-1) / (2 * 3.0**2)).astype(np.float32)
    module = framed_module(spacing_mm=spacing_mm)
    prediction = module(volume, SPACING)
    assert np.abs(prediction["points_vox"].numpy()[0] - centre).max() < 0.15
    assert ((prediction["points_vox"].numpy()[1] > -1) & (prediction["points_vox"].numpy()[1] < SIZE)).all()
    if spacing_mm:  # the harder case
        refiner = PoseRefiner(module, atlases(), settings(iterations=0, decode="wide_centroid", sigma_mm=3.0))
        np.testing.assert_allclose(refiner(volume, SPACING).points_vox, prediction["points_vox"], atol=1e-3)


def test_a_saved_model_rotates_alike(tmp_path):
    module = framed_module("argmax")
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.__call__})
    volume = np.random.default_rng(3).normal(100, 20, SIZE).astype(np.float32)
    one, other = module(volume, SPACING), tf.saved_model.load(str(tmp_path / "saved"))(volume, tf.constant(SPACING))
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


# --- refined


class Recorded(AtlasSet):
    """An atlas set that records the poses of its queries."""

    queries: list = []

    def nearest(self, pose_mm, *given):
        self.queries.append(pose_mm)
        return super().nearest(pose_mm, *given)


def settings(**values):
    return RefineSettings(**{"atlases": 2, "iterations": 2, "learning_rate": 1e-6, "beta_1": 0.5, "norm": "moving",
                             "sigma_mm": 2.0, "robust": (0, 1), **values})


def atlases(count=3):
    return Recorded(("bright", "dark"), np.random.default_rng(1).uniform(2, 12, (count, 2, 3)))


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_a_refiner_starts_from_the_modules_prediction_and_searches_in_millimetres(ratio):
    module, spacing, volume = module_of(ratio), np.array([0.5, 0.8, 1.1]), scene()
    Recorded.queries.clear()
    refined = PoseRefiner(module, atlases(), settings())(volume, spacing)
    plain = module(volume, np.float32(spacing))["points_vox"].numpy()
    np.testing.assert_allclose(refined.path_vox[0], plain, atol=1e-4)
    assert refined.refined and refined.path_vox.shape == (3, 2, 3) and refined.losses.shape == (2,)
    np.testing.assert_array_equal(refined.points_vox, refined.path_vox[-1])
    (first, second), pose = Recorded.queries[0], plain * spacing
    np.testing.assert_allclose(first - second, pose[0] - pose[1], atol=1e-3)
    assert refined.distances_mm.shape == (2,) and refined.peaks.shape == (2,)


def test_the_proxys_width_is_in_millimetres():
    """By the loss of maps that are 0, whose highest voxel is the first: an atlas of one place is moved there."""
    network = known_network()
    network.get_layer("maps").set_weights([np.zeros((1, 1, 1, 1, 2)), np.zeros(2)])
    place = AtlasSet(("bright", "dark"), np.full((1, 2, 3), 9.0))
    refiner = PoseRefiner(module_of(0.5, network=network), place, settings(iterations=1, sigma_mm=2.0))
    found = refiner(np.random.default_rng(0).normal(size=(64, 60, 62)).astype(np.float32), [0.5, 0.5, 0.5])
    profile = np.exp(-np.arange(30.0) ** 2 / 2.0**2).sum()  # voxels of 1 mm; a Gaussian's square is narrower
    assert found.losses[0] == pytest.approx(2 * 0.5 * profile**3, rel=1e-4)
    np.testing.assert_allclose(found.path_vox[0], np.full((2, 3), 0.5), atol=1e-6)


def test_a_failed_refinement_gives_the_modules_prediction_and_a_note():
    module = module_of(0.5)
    before = module.network.get_weights()
    refined = PoseRefiner(module, atlases(), settings(learning_rate=1e30))(scene(), ONE)
    plain = module(scene(), ONE)
    assert not refined.refined and "not finite" in refined.note
    np.testing.assert_allclose(refined.points_vox, plain["points_vox"], atol=1e-4)
    np.testing.assert_allclose(refined.peaks, plain["peaks"], rtol=1e-5)
    for one, other in zip(before, module.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(module(scene(), ONE)["points_vox"], plain["points_vox"])


@pytest.mark.parametrize("size", [(5, 3, 4), (40, 18, 17)])
def test_any_size_is_refined(size):
    refined = PoseRefiner(module_of(0.5), atlases(), settings())(scene(size, (0, 0, 0), (1, 2, 3)), ONE)
    assert refined.refined and (np.abs(refined.points_vox) < 41).all()
