"""The recurrence over joints: against a GRU written down in NumPy, the order of visits, recomputing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import correlate

from tfsono.layers.recurrent import JointRecurrence, visiting_order

TREE = (2, 0, -1, 2, 3, -1)  # 2 above 0 and 3, 0 above 1, 3 above 4; 5 alone


def layer_of(parents=TREE, hidden=3, channels=4, again=False):
    """A layer whose weights are all of one size, so that nothing in it is negligible."""
    layer = JointRecurrence(parents, hidden, 0.5, again)
    layer.build((None, None, None, None, channels))
    random = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(random.normal(0, 0.5, weight.shape).astype("float32"))
    return layer


def features(sides=(3, 5, 4), channels=4, samples=2):
    return np.random.default_rng(1).normal(size=(samples, *sides, channels)).astype("float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def convolved(x, kernel):
    """SciPy's correlation with zeros outside, channel by channel."""
    out = np.zeros((*x.shape[:-1], kernel.shape[-1]))
    for sample, first, last in np.ndindex(len(x), x.shape[-1], kernel.shape[-1]):
        out[sample, ..., last] += correlate(x[sample, ..., first], kernel[..., first, last], mode="constant")
    return out


def maps_in_numpy(layer, x):
    """The docstring's equations, one joint after another."""
    weight = {one.name: keras.ops.convert_to_numpy(one).astype(float) for one in layer.weights}
    hidden, states, maps = layer.hidden, {}, [None] * len(layer.parents)

    def state_of(joint):
        if joint == -1:
            return np.zeros((*x.shape[:-1], hidden))
        if joint not in states:
            above = state_of(layer.parents[joint])
            seen = x.astype(float) @ weight[f"read{joint}"][0, 0, 0] + weight[f"bias{joint}"]
            gates = sigmoid(seen[..., :2 * hidden] + convolved(above, weight["gates"]))
            update, reset = gates[..., :hidden], gates[..., hidden:]
            proposed = np.tanh(seen[..., 2 * hidden:] + convolved(reset * above, weight["candidate"]))
            states[joint] = (1 - update) * above + update * proposed
        return states[joint]

    for joint in range(len(layer.parents)):
        maps[joint] = state_of(joint) @ weight[f"map{joint}"][0, 0, 0] + weight[f"map_bias{joint}"]
    return np.concatenate(maps, -1)


@pytest.mark.parametrize("parents", [TREE, (-1,), (-1, 0, 1), (1, 2, -1)])
@pytest.mark.parametrize("again", [False, True])
def test_maps_are_those_of_the_equations(parents, again):
    layer, x = layer_of(parents, again=again), features()
    maps = keras.ops.convert_to_numpy(layer(x, training=True))
    assert maps.dtype == np.float32 and maps.shape == (2, 3, 5, 4, len(parents))
    np.testing.assert_allclose(maps, maps_in_numpy(layer, x), rtol=1e-4, atol=1e-5)


def test_a_joint_depends_on_those_above_it_alone():
    layer, x = layer_of(), features()
    before = keras.ops.convert_to_numpy(layer(x))
    for joint, expected in enumerate(({0, 1}, {1}, {0, 1, 2, 3, 4}, {3, 4}, {4}, {5})):
        layer.biases[joint].assign_add(np.ones(9, "float32"))
        now = keras.ops.convert_to_numpy(layer(x))
        layer.biases[joint].assign_add(-np.ones(9, "float32"))
        assert {k for k in range(6) if np.abs(now - before)[..., k].max() > 1e-4} == expected, joint


@pytest.mark.parametrize("graph", [False, True])
def test_recomputing_changes_no_gradient(graph):
    x = tf.constant(features())
    reference = tf.constant(np.random.default_rng(2).normal(size=(2, 3, 5, 4, 6)).astype("float32"))

    def gradients(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum((layer(x, training=True) - reference) ** 2)
        return loss, tape.gradient(loss, [x, *(weight.value for weight in layer.trainable_variables)])

    (loss, plain), (other_loss, other) = (
        (tf.function(gradients) if graph else gradients)(layer_of(again=again)) for again in (False, True))
    np.testing.assert_allclose(other_loss, loss, rtol=1e-6)
    for one, two in zip(plain, other, strict=True):
        assert np.abs(one).max() > 0
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-5 * np.abs(one).max())


def test_a_step_is_recomputed_in_training_alone(monkeypatch):
    from tfsono.layers import recurrent

    calls = []
    step = recurrent._step
    monkeypatch.setattr(recurrent, "_step", lambda *values: calls.append(1) or step(*values))
    for again, training, expected in ((True, True, 12), (True, False, 6), (False, True, 6)):
        layer, x = layer_of(again=again), tf.constant(features())
        calls.clear()
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=training))
        tape.gradient(loss, layer.gates.value)
        assert len(calls) == expected, (again, training)


def test_every_joint_comes_after_its_parent():
    assert visiting_order(TREE) == [2, 5, 0, 3, 1, 4]
    assert visiting_order((1, 2, 3, -1)) == [3, 2, 1, 0]
    random = np.random.default_rng(0)
    for _ in range(50):
        names = random.permutation(9)  # of the joint that is made as the n-th, whose parent was made before
        parents = [0] * 9
        for made in range(9):
            parents[names[made]] = -1 if made == 0 else int(names[random.integers(made)])
        order = visiting_order(parents)
        assert sorted(order) == list(range(9))
        assert all(parent == -1 or order.index(parent) < order.index(joint) for joint, parent in enumerate(parents))


@pytest.mark.parametrize("parents, words", [((1, 0), "root"), ((-1, 1), "root"), ((-1, 2), "under 2"),
                                            ((-2, 0), "under 2")])
def test_parents_that_form_no_tree_are_refused(parents, words):
    with pytest.raises(ValueError, match=words):
        JointRecurrence(parents, 2, 0.0)


def test_low_precision_stays_inside():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        low = layer_of()
    finally:
        keras.config.set_dtype_policy("float32")
    maps = low(features())
    assert keras.backend.standardize_dtype(maps.dtype) == low.compute_output_spec(
        keras.KerasTensor((None, None, None, None, 4), "bfloat16")).dtype == "float32"
    full = keras.ops.convert_to_numpy(layer_of()(features()))
    assert 1e-6 < np.abs(keras.ops.convert_to_numpy(maps) - full).max() < 0.1


def test_the_scale_of_the_initialisation():
    keras.utils.set_random_seed(0)
    layer = JointRecurrence(range(-1, 15), 16, 0.01)
    layer.build((None, None, None, None, 64))
    drawn = np.concatenate([keras.ops.convert_to_numpy(one).ravel() for one in layer.maps])
    assert drawn.std() == pytest.approx(0.01, rel=0.2)
    # Glorot's uniform: 2 / (what comes in + what goes out), of one joint, not of all together.
    assert keras.ops.convert_to_numpy(layer.reads[3]).var() == pytest.approx(2 / (64 + 48), rel=0.15)
    assert keras.ops.convert_to_numpy(layer.gates).var() == pytest.approx(2 / (27 * 16 + 27 * 32), rel=0.1)
    assert sum(int(np.prod(one.shape)) for one in layer.weights) == 16 * (64 * 48 + 48 + 16 + 1) + 27 * 16 * 48
