"""Refinement on a volume against a loop written by hand; restored weights; checkpointing; failures."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfsono.errors import UserError
from tfsono.geometry.heatmaps import gaussian_maps
from tfsono.inference.atlases import AtlasSet
from tfsono.inference.refine import RefineSettings, Refiner, mean_gaussian_maps, weights_restored
from tfsono.layers.blocks import BlockStyle, classifier, convolution, deconvolution, pooling
from tfsono.layers.recompute import output_for_gradient, recomputed

NAMES = ("head", "neck", "hip", "knee")
SIZE, SPACING = (11, 8, 9), np.array([1.0, 1.2, 0.9], np.float32)
KEPT = ("a_norm", "b_norm", "c_norm")
ALL = (0, 1, 2, 3)


def small_network(landmarks=4):
    """One block and the head."""
    keras.utils.set_random_seed(0)
    style = BlockStyle(0.0, 0.0, 0.9, 1e-5)
    image = keras.Input((None, None, None, 1))
    return keras.Model(image, {"heatmaps": classifier(convolution(image, 4, style, "a"), landmarks, style, "heatmaps")})


def network_of(again):
    """A U-net of two levels that has seen a few volumes, so that its moving statistics are its own."""
    keras.utils.set_random_seed(0)
    style = BlockStyle(0.0, 0.0, 0.9, 1e-5)
    image = keras.Input((None, None, None, 1))
    a = convolution(image, 4, style, "a")
    b = convolution(pooling(a, "pool"), 4, style, "b")
    c = convolution(layers.Concatenate(name="both")([deconvolution(b, 4, style, "up"), a]), 4, style, "c")
    network = keras.Model(image, {"heatmaps": classifier(c, 4, style, "heatmaps")}, name="land")
    network(np.random.default_rng(1).normal(1, 2, (2, 8, 8, 8, 1)).astype(np.float32), training=True)
    return recomputed(network, KEPT) if again else network


def atlas_set(count=12, landmarks=4, seed=0):
    random = np.random.default_rng(seed)
    mean = random.uniform(1, 7, (landmarks, 3))
    return AtlasSet(tuple("abcdefgh"[:landmarks]), mean + random.normal(0, 1, (count, landmarks, 3)))


def volume(seed=2, size=SIZE):
    """Noise, padded to multiples of 4 with noise as well: of equal neighbours the maximum's gradient goes to all or to
    one, in TensorFlow 2.21 according to whether there is a graph."""
    sides = [side + -side % 4 for side in size]
    return np.random.default_rng(seed).normal(size=(1, *sides, 1)).astype(np.float32)


def settings(robust=ALL, **values):
    numbers = {"atlases": 5, "iterations": 3, "learning_rate": 5e-3, "beta_1": 0.5, "norm": "moving", "sigma_mm": 1.5,
               **values}
    return RefineSettings(robust=robust, **numbers)


def weights_of(network):
    return [keras.ops.convert_to_numpy(variable) for variable in network.variables]


def assert_untouched(network, before):
    for one, other in zip(before, weights_of(network), strict=True):
        np.testing.assert_array_equal(one, other)


def by_hand(network, image, atlases, numbers):
    """The iterations with Adam's formula, a map of Gaussians for each atlas, and no graph; the network stays tuned."""
    variables = network.trainable_variables
    means, squares = ([np.zeros(v.shape) for v in variables] for _ in range(2))
    inside = (slice(None), *map(slice, SIZE))
    path, losses, distances = [], [], []

    def points(maps):
        flat = np.array(maps).reshape(-1, maps.shape[-1])
        return np.stack(np.unravel_index(flat.argmax(0), SIZE), -1).astype(float)

    for step in range(1, numbers.iterations + 1):
        with tf.GradientTape() as tape:
            maps = network(image, training=numbers.norm == "batch")["heatmaps"][inside]
            path.append(points(maps))
            found = atlases.nearest(path[-1] * SPACING, numbers.robust, numbers.atlases)
            points_vox = (found.points_mm / SPACING).astype(np.float32)
            each = gaussian_maps(points_vox, SIZE, numbers.sigma_mm / SPACING.mean())
            loss = 0.5 * tf.reduce_sum((maps - tf.reduce_mean(each, 0, keepdims=True)) ** 2)
        losses.append(float(loss))
        distances.append(found.costs_mm.mean() / len(atlases.names))
        for place, (variable, gradient) in enumerate(zip(variables, tape.gradient(loss, variables), strict=True)):
            gradient = np.array(gradient, float)
            means[place] += (1 - numbers.beta_1) * (gradient - means[place])
            squares[place] += 0.001 * (gradient**2 - squares[place])
            rate = numbers.learning_rate * np.sqrt(1 - 0.999**step) / (1 - numbers.beta_1**step)
            variable.assign_sub(rate * means[place] / (np.sqrt(squares[place]) + 1e-8))
    maps = network(image, training=numbers.norm == "batch")["heatmaps"][inside]
    return np.array(maps[0]), np.stack([*path, points(maps)]), losses, distances


@pytest.mark.parametrize("norm, again", [("moving", False), ("moving", True), ("batch", True)])
def test_the_iterations_are_a_loop_written_by_hand(norm, again):
    numbers = settings(norm=norm)
    network = network_of(again=again)
    before = weights_of(network)
    refiner = Refiner(network, atlas_set(), numbers)
    results = [refiner(volume(), SIZE, SPACING) for _ in range(2)]
    assert_untouched(network, before)
    maps, path, losses, distances = by_hand(network_of(False), volume(), atlas_set(), numbers)
    for found in results:  # the second begins where the first did, with a new optimizer
        assert found.refined and not found.note
        np.testing.assert_allclose(found.losses, losses, rtol=1e-4)
        np.testing.assert_allclose(found.distances_mm, distances, rtol=1e-4)
        np.testing.assert_array_equal(found.path_vox, path)
        np.testing.assert_array_equal(found.points_vox, path[-1])
        np.testing.assert_allclose(found.maps, maps, atol=2e-4)
        np.testing.assert_array_equal(found.peaks, found.maps.reshape(-1, 4).max(0))
    assert found.maps.shape == (*SIZE, 4) and found.losses[-1] < found.losses[0]
    plain = network(volume(), training=norm == "batch")["heatmaps"]
    assert np.abs(plain[0, :11, :8, :9] - maps).max() > 0.01, "the refinement had no effect"


def test_a_wrong_limb_is_corrected():
    """An image of six marks: features are fixed, and the head takes the wrong mark for the fifth landmark."""
    marks = np.array([[1, 1, 1], [9, 2, 2], [2, 9, 3], [3, 3, 9], [8, 8, 8], [2, 5, 9]])  # 4 is the limb, 5 is none
    image = np.zeros((1, 12, 12, 12, 1), np.float32)
    image[0, *marks.T, 0] = np.arange(1, 7)
    given = keras.Input((None, None, None, 1))
    features = keras.ops.relu(1 - keras.ops.abs(given - np.arange(1, 7, dtype=np.float32)))
    head = layers.Conv3D(5, 1, use_bias=False, name="head")
    network = keras.Model(given, {"heatmaps": head(features)})
    weights = np.eye(6, 5, dtype=np.float32)
    weights[4:, 4] = 0.9, 1.0
    head.set_weights([weights[None, None, None]])
    rotation = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    atlases = np.random.default_rng(0).normal(0, 0.2, (20, 5, 3)) + marks[:5] @ rotation + 7
    numbers = settings((0, 1, 2, 3), atlases=10, iterations=6, learning_rate=5e-2)
    sets = (AtlasSet(tuple("abcde"), atlases * sides) for sides in (1, [-1, 1, 1]))
    sound, mirrored = (Refiner(network, each, numbers)(image, [12] * 3, [1.0] * 3) for each in sets)
    np.testing.assert_array_equal(sound.path_vox[0], marks[[0, 1, 2, 3, 5]])
    np.testing.assert_array_equal(sound.points_vox, marks[:5])
    assert sound.distances_mm[-1] < 0.5 < 1 < sound.distances_mm[0]
    # A mirrored body cannot be rotated into this one.
    assert mirrored.distances_mm[-1] > 1.5 and (mirrored.points_vox[4] != marks[4]).any()


def test_a_volume_far_from_every_atlas_is_declined_and_its_note_says_so():
    network = small_network()
    before = weights_of(network)
    plain = Refiner(network, atlas_set(), settings(iterations=0))(volume(), SIZE, SPACING)
    away = atlas_set().distance_mm(plain.points_vox * SPACING, ALL)
    declined, refined = (Refiner(network, atlas_set(), settings(expected_mm=away * share))(volume(), SIZE, SPACING)
                         for share in (0.99, 1.01))
    assert refined.refined and not declined.refined and f"{away:.1f} mm from the prediction" in declined.note
    np.testing.assert_array_equal(declined.points_vox, plain.points_vox)
    np.testing.assert_array_equal(declined.maps, plain.maps)
    assert declined.path_vox.shape == refined.path_vox.shape and np.isnan(declined.distances_mm).all()
    assert_untouched(network, before)


def test_no_iterations_give_the_networks_own_prediction():
    network = small_network()
    found = Refiner(network, atlas_set(), settings(iterations=0))(volume(), SIZE, SPACING)
    maps = np.array(network(volume(), training=False)["heatmaps"])[0, :11, :8, :9]
    np.testing.assert_allclose(found.maps, maps, atol=1e-5)
    assert found.refined and found.path_vox.shape == (1, 4, 3) and found.losses.shape == (0,)


def test_one_trace_serves_all_sizes():
    refiner = Refiner(small_network(), atlas_set(), settings(iterations=1))
    for size in (SIZE, (4, 4, 5), (3, 9, 12)):
        assert refiner(volume(size=size), size, SPACING).maps.shape == (*size, 4)
    assert refiner._run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("landmarks", [1, 2, 7])
def test_any_number_of_landmarks(landmarks):
    atlases = atlas_set(3, landmarks)
    found = Refiner(small_network(landmarks), atlases, settings(tuple(range(landmarks))))(volume(), SIZE, SPACING)
    assert found.refined and found.points_vox.shape == (landmarks, 3)


# --- the proxy


@pytest.mark.parametrize("size", [(7, 5, 6), (3, 9, 4)])
def test_the_proxy_is_the_mean_of_the_atlases_maps(size):
    random = np.random.default_rng(0)
    points = random.uniform(-1, 9, (6, 5, 3)).astype(np.float32)
    points[1, 0], points[2, 0, 1], points[:, 3] = np.nan, np.nan, np.nan
    found = mean_gaussian_maps(tf.constant(points), tf.constant(size), 1.7).numpy()
    each = np.array(gaussian_maps(points, size, 1.7))
    expected = each.mean(0)
    expected[..., 0] = each[[0, 3, 4, 5], ..., 0].mean(0)
    expected[..., 3] = np.nan
    assert found.shape == (1, *size, 5) and found[..., 4].max() < 1  # they do not agree
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_a_landmark_without_atlases_has_no_gradient():
    atlases = atlas_set()
    atlases.poses_mm[:, 3] = np.nan
    network = small_network()
    head = network.get_layer("heatmaps")
    tuned = []
    refiner = Refiner(network, atlases, settings(iterations=1))
    run = refiner._run
    refiner._run = lambda *given: (run(*given), tuned.append(head.get_weights()))[0]
    found = refiner(volume(), SIZE, SPACING)
    assert found.refined
    moved = np.abs(tuned[0][1] - head.get_weights()[1])  # its bias
    assert moved[3] == 0 and (moved[:3] > 0).all()


# --- restored weights


class Interrupted(Exception):
    """Stands for whatever ends a refinement early."""


@pytest.mark.parametrize("kind", [Interrupted, KeyboardInterrupt, UserError])
def test_weights_are_restored_after_an_exception(kind):
    network = small_network()
    before = weights_of(network)
    with pytest.raises(kind):
        with weights_restored(network):
            for variable in network.variables:
                variable.assign(variable + 1)
            raise kind("in the middle")
    assert_untouched(network, before)


def test_weights_are_restored_where_the_retrieval_fails_between_two_steps():
    class Failing(AtlasSet):
        calls = 0

        def nearest(self, *given):
            type(self).calls += 1
            if self.calls == 3:
                raise RuntimeError("the third retrieval")
            return super().nearest(*given)

    network, sound = small_network(), atlas_set()
    before = weights_of(network)
    refiner = Refiner(network, Failing(sound.names, sound.poses_mm), settings(iterations=4))
    with pytest.raises(Exception, match="the third retrieval"):
        refiner(volume(), SIZE, SPACING)
    assert Failing.calls == 3
    assert_untouched(network, before)
    found = refiner(volume(), SIZE, SPACING)  # and it can be used again, from the beginning
    np.testing.assert_array_equal(
        found.losses, Refiner(small_network(), sound, settings(iterations=4))(volume(), SIZE, SPACING).losses)


# --- checkpointing outside training


class Counted(layers.Layer):
    """Passes its input on, and counts its calls with values."""

    calls = 0

    def call(self, x):
        self.calls += isinstance(x, (tf.Tensor, tf.Variable))
        return x * 1.0

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.parametrize("training", [False, True])
def test_a_gradient_without_training_recomputes_the_segments_too(training):
    x = first = keras.Input((5,))
    for name in ("a", "b"):
        x = Counted(name=name)(layers.BatchNormalization(name=f"{name}_norm")(layers.Dense(3)(x)))
    network = recomputed(keras.Model(first, layers.Dense(2, name="head")(x)), ["b"])
    before = [network.get_layer(f"{name}_norm").moving_mean.numpy() for name in "ab"]
    given = tf.constant(np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32))

    def gradients(prediction):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(prediction(given) ** 2)
        return tape.gradient(loss, [variable.value for variable in network.trainable_variables])

    plain = keras.Model(network.input, network.output)
    expected = gradients(lambda x: plain(x, training=False)) if not training else None
    counts = [network.get_layer(name).calls for name in "ab"]
    found = gradients(lambda x: output_for_gradient(network, x, training))
    assert [network.get_layer(name).calls - count for name, count in zip("ab", counts, strict=True)] == [2, 2]
    after = [network.get_layer(f"{name}_norm").moving_mean.numpy() for name in "ab"]
    assert all((one != other).any() == training for one, other in zip(before, after, strict=True))
    for one, other in zip(expected or found, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# --- failures


def test_values_that_are_not_finite_give_the_unrefined_prediction():
    network = small_network()
    before = weights_of(network)
    refiner = Refiner(network, atlas_set(), settings(learning_rate=1e30))
    found = refiner(volume(), SIZE, SPACING)
    own = np.array(network(volume(), training=False)["heatmaps"])[0, :11, :8, :9]
    highest = np.stack(np.unravel_index(own.reshape(-1, 4).argmax(0), SIZE), -1)
    assert not found.refined and "not finite" in found.note and "\n" not in found.note
    np.testing.assert_allclose(found.maps, own, atol=1e-5)
    np.testing.assert_array_equal(found.points_vox, highest)
    np.testing.assert_array_equal(found.path_vox[0], highest)
    assert np.isnan(found.path_vox[1:]).all() and np.isfinite(found.peaks).all()
    assert_untouched(network, before)


def test_an_atlas_set_without_robust_landmarks_gives_the_unrefined_prediction():
    atlases = atlas_set()
    atlases.poses_mm[:, :3] = np.nan  # of the robust ones none is left
    found = Refiner(small_network(), atlases, settings((0, 1, 2)))(volume(), SIZE, SPACING)
    assert not found.refined and "no atlas" in found.note and np.isfinite(found.points_vox).all()


def test_empty_atlases_do_not_count_in_the_proxy():
    atlases = atlas_set(4)
    atlases.poses_mm[[0, 2]] = np.nan
    found = Refiner(small_network(), atlases, settings(atlases=3))(volume(), SIZE, SPACING)
    two = AtlasSet(atlases.names, atlases.poses_mm[[1, 3]])
    expected = Refiner(small_network(), two, settings(atlases=10))(volume(), SIZE, SPACING)
    assert found.refined
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-5)


@pytest.mark.parametrize("atlases", [atlas_set(landmarks=3), AtlasSet(NAMES, np.zeros((0, 4, 3)))])
def test_an_atlas_set_of_other_landmarks_or_without_atlases_is_refused(atlases):
    with pytest.raises(UserError, match="4 landmarks"):
        Refiner(small_network(), atlases, settings())
