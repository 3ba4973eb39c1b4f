"""Recurrence over the joints of a tree: each joint's state follows from the features and from its parent's state."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

SIDE = 3  # of the recurrent kernels


def visiting_order(parents: Sequence[int]) -> list[int]:
    """The joints, each after its parent.

    Args:
      parents: the index of each joint's parent, -1 for a root; there may be several roots.

    Raises:
      ValueError: a parent is no joint, or a joint leads to no root.
    """
    joints = range(len(parents))
    if not set(parents) <= {-1, *joints}:
        raise ValueError(f"parents: expected -1 or numbers under {len(parents)}, found {tuple(parents)}")
    order = [joint for joint in joints if parents[joint] == -1]
    for joint in order:  # grows in the loop
        order += [child for child in joints if parents[child] == joint]
    if len(order) < len(parents):
        raise ValueError(f"parents: every joint must lead to a root, found {tuple(parents)}")
    return order


class JointRecurrence(keras.layers.Layer):
    """A convolutional GRU over a tree of joints in place of time: features [B, X, Y, Z, C] -> maps [B, X, Y, Z, K].

    With x the features, h the state of the joint's parent (0 at a root), U * a 3x3x3 convolution and W a 1x1x1 one:

        z = sigmoid(W_z x + U_z * h + b_z)      r = sigmoid(W_r x + U_r * h + b_r)
        c = tanh(W_c x + U_c * (r h) + b_c)     state = (1 - z) h + z c     map = V state + v

    All joints share U, which makes it a recurrence; W, b, V and v are each joint's own. If W and b were shared as well,
    joints of one depth (both shoulders, both hips) would have the same state. The output is float32.

    With `again` a training step keeps the states alone and recomputes the inside of a joint's step in the backward
    pass; nothing else changes.
    """

    def __init__(self, parents: Sequence[int], hidden: int, map_deviation: float, again: bool = False,
                 name: str | None = None):
        """
        Args:
          parents: the index of each joint's parent, -1 for a root.
          hidden: channels of a state.
          map_deviation: standard deviation of the Gaussian that V starts from; 0 takes He's initialisation. The other
            kernels start as in Keras's GRU, from Glorot's uniform, as their outputs are not normalised.
          again: whether a joint's step is recomputed in the backward pass of training.
          name: of the layer.

        Raises:
          ValueError: `parents` is no tree or forest.
        """
        super().__init__(name=name)
        self.parents, self.order = tuple(parents), visiting_order(parents)
        self.hidden, self.map_deviation, self.again = hidden, map_deviation, again

    def build(self, input_shape):
        joints, channels, hidden = len(self.parents), input_shape[-1], self.hidden
        of_maps = keras.initializers.RandomNormal(stddev=self.map_deviation) if self.map_deviation else "he_normal"
        # One weight for each joint, as Keras's initialisers take a kernel's fans from its last two axes.
        self.reads = [self.add_weight(shape=(1, 1, 1, channels, 3 * hidden), initializer="glorot_uniform",
                                      name=f"read{joint}") for joint in range(joints)]
        self.biases = [self.add_weight(shape=(3 * hidden,), initializer="zeros", name=f"bias{joint}")
                       for joint in range(joints)]
        kernel = (SIDE, SIDE, SIDE, hidden)
        self.gates = self.add_weight(shape=(*kernel, 2 * hidden), initializer="glorot_uniform", name="gates")
        self.candidate = self.add_weight(shape=(*kernel, hidden), initializer="glorot_uniform", name="candidate")
        self.maps = [self.add_weight(shape=(1, 1, 1, hidden, 1), initializer=of_maps, name=f"map{joint}")
                     for joint in range(joints)]
        self.map_biases = [self.add_weight(shape=(1,), initializer="zeros", name=f"map_bias{joint}")
                           for joint in range(joints)]

    def call(self, features, training=None):
        step = keras.remat(_step) if self.again and training else _step
        shared = [self._tensor(self.gates), self._tensor(self.candidate)]
        states, maps = {-1: None}, {}
        for joint in self.order:
            own = (self.reads, self.biases, self.maps, self.map_biases)
            weights = [self._tensor(weight[joint]) for weight in own]
            above = states[self.parents[joint]]
            # A root has no parent's state, so it does not use the recurrent kernels.
            before = [] if above is None else [above, *shared]
            states[joint], maps[joint] = step(features, *weights, *before)
        return ops.concatenate([maps[joint] for joint in range(len(self.parents))], axis=-1)

    def _tensor(self, weight):
        """Its value in the layer's precision, not the variable: the gradient of a recomputed step reaches arguments
        alone."""
        return ops.cast(ops.reshape(weight, weight.shape), self.compute_dtype)

    def compute_output_spec(self, features, training=None):
        return keras.KerasTensor((*features.shape[:-1], len(self.parents)), "float32")


def _step(features, read, bias, to_map, map_bias, above=None, gates=None, candidate=None):
    """A joint's state [B, X, Y, Z, hidden] and map [B, X, Y, Z, 1]; see `JointRecurrence`."""
    # Split, not sliced: the gradient of a slice is a full tensor of zeros, which doubled the time of a training step.
    update, reset, proposed = ops.split(ops.conv(features, read, padding="same") + bias, 3, axis=-1)
    if above is None:
        state = ops.sigmoid(update) * ops.tanh(proposed)
    else:
        update_of_parent, reset_of_parent = ops.split(ops.conv(above, gates, padding="same"), 2, axis=-1)
        reset = ops.sigmoid(reset + reset_of_parent)
        proposed = ops.tanh(proposed + ops.conv(reset * above, candidate, padding="same"))
        state = above + ops.sigmoid(update + update_of_parent) * (proposed - above)
    heat = ops.conv(ops.cast(state, "float32"), ops.cast(to_map, "float32"), padding="same")
    return state, heat + ops.cast(map_bias, "float32")
