"""Gradient checkpointing: a network that keeps few of its tensors and recomputes the rest in the backward pass.

    network = recomputed(keras.Model(image, outputs), kept=["e1b_norm", "e2b_norm", ...])

Training needs less memory and more time (a second forward pass); loss, gradients and moving statistics are those of
the plain network, and so are the weights and their files.
"""

from __future__ import annotations

from collections.abc import Iterable

import keras
from keras import ops


def recomputed(network: keras.Model, kept: Iterable[str]) -> keras.Model:
    """A functional network as a checkpointed one, which shares its layers and weights.

    The layers between two kept tensors are one segment: computed without recording, and again with recording when the
    backward pass reaches it. A segment should be a whole block (concatenation, deconvolution, convolutions,
    normalisations, activations): segments of one layer save nothing, as every layer's input is then kept.

    Args:
      network: of deterministic layers: no dropout.
      kept: names of the layers whose outputs are kept, for example the last one of each block.

    Returns:
      A model of the same inputs, outputs, layers, and weights in the same order. It differs in training alone; a model
      made of its `input` and `output` is the plain one.

    Raises:
      ValueError: no layer has such a name, a layer is called more than once, or one draws random numbers.
    """
    return Recomputed(network.input, network.output, tuple(kept), name=network.name)


def output_for_gradient(network: keras.Model, inputs, training: bool):
    """A network's output for a later gradient: segment by segment also where `training` is false.

    In inference a checkpointed network keeps all tensors that a gradient would need. A refinement with fixed moving
    statistics, which needs a gradient, calls this function instead.
    """
    if isinstance(network, Recomputed):
        return network.in_segments(inputs, training)
    return network(inputs, training=training)


class Recomputed(keras.Model):
    """A functional model whose training pass runs segment by segment; see `recomputed`."""

    def __init__(self, inputs, outputs, kept: tuple[str, ...], name: str):
        super().__init__(inputs, outputs, name=name)
        # Hidden from Keras's tracking: the segments have the same layers, which must not be counted or saved twice.
        object.__setattr__(self, "_segments", tuple(segments(self, kept)))
        object.__setattr__(self, "kept", kept)

    def call(self, inputs, training=None, mask=None):
        if not training:
            return super().call(inputs, training=training, mask=mask)
        return self.in_segments(inputs, training=True)

    def in_segments(self, inputs, training: bool):
        """The output, with few tensors kept for the gradient; `training` as in Keras."""
        found = dict(zip(map(id, self.inputs), keras.tree.flatten(inputs), strict=True))
        for segment in self._segments:
            values = segment([found[id(tensor)] for tensor in segment.needs], training=training)
            found |= zip(map(id, segment.gives), values, strict=True)
        return keras.tree.map_structure(lambda tensor: found[id(tensor)], self.output)


class Segment(keras.layers.Layer):
    """A segment of a network: values of `needs` -> values of `gives`, as a list.

    Two traps. The second computation would update the moving statistics again: so it runs in a stateless scope, the new
    values are outputs of the segment, and are assigned once, outside. And the gradient of a captured tensor is lost: so
    the weights are arguments, as the inputs are, each once.
    """

    def __init__(self, needs: list, gives: list, again: bool, name: str):
        """
        Args:
          needs, gives: symbolic tensors of the network, each once; the layers between them are the segment.
          again: whether it is recomputed in the backward pass.
          name: of the segment.
        """
        # Mixed precision is each layer's own: here it would round the weights of a float32 layer.
        super().__init__(name=name, dtype="float32", autocast=False)
        self.needs, self.gives, self.again = needs, gives, again
        self.model = keras.Model(needs, gives, name=name)

    def call(self, values, training=True):
        if not self.again:
            return keras.tree.flatten(self.model(values, training=training))
        weights, states = self.model.trainable_variables, self.model.non_trainable_variables
        before = [_tensor(variable) for variable in states]

        def forward(*arguments):
            given, learned = arguments[:len(values)], arguments[len(values):]
            mapping = [*zip(weights, learned, strict=True), *zip(states, before, strict=True)]
            with keras.StatelessScope(mapping) as scope:
                predictions = keras.tree.flatten(self.model(list(given), training=training))
            return (*predictions, *(ops.stop_gradient(scope.get_current_value(variable)) for variable in states))

        results = keras.remat(forward)(*values, *map(_tensor, weights))
        for variable, value in zip(states, results[len(self.gives):], strict=True) if training else ():
            variable.assign(value)
        return list(results[:len(self.gives)])


def _tensor(variable):
    """The value of a variable as a tensor; in eager mode TensorFlow counts the gradient of a variable itself twice."""
    return ops.reshape(variable, variable.shape)


def segments(network: keras.Model, kept: Iterable[str]) -> list[Segment]:
    """The segments of a network between its inputs, the outputs of the layers `kept`, and its outputs, in their order.

    A segment ends at a kept tensor and has the layers before it that no earlier segment has. A tensor inside that is
    needed outside is kept too. The layers between the last kept tensors and the network's outputs are the last segment,
    which is not recomputed, as the backward pass begins with it.
    """
    makers = {id(tensor): layer for layer in network.operations for tensor in keras.tree.flatten(layer.output)}
    ends = [_output(network, name) for name in kept]
    order = {tensor: place for place, tensor in enumerate(makers)}
    known = {id(tensor) for tensor in network.inputs}
    found = []
    for goals in (*([end] for end in sorted(ends, key=lambda end: order[id(end)])), network.outputs):
        layers = _layers_between(goals, known, makers)
        if layers:
            again = goals is not network.outputs
            found.append(_segment(network, goals, layers, again))
            known |= {id(tensor) for layer in layers for tensor in keras.tree.flatten(layer.output)}
    return found


def _output(network: keras.Model, name: str):
    if name not in {layer.name for layer in network.layers}:
        raise ValueError(f"kept: expected names of layers of {network.name}, found {name!r}")
    return network.get_layer(name).output


def _layers_between(goals: list, known: set[int], makers: dict) -> list:
    """The layers that calculate `goals` from known tensors."""
    layers, open_ends = {}, list(goals)
    while open_ends:
        tensor = open_ends.pop()
        if id(tensor) in known or makers.get(id(tensor)) in layers.values():
            continue
        if id(tensor) not in makers:
            raise ValueError("a layer that is called more than once cannot be in a recomputed network")
        layer = makers[id(tensor)]
        layers[layer.name] = layer
        open_ends += keras.tree.flatten(layer.input)
    return list(layers.values())


def _segment(network: keras.Model, goals: list, layers: list, again: bool) -> Segment:
    """The segment of these layers; it also gives the tensors that other layers of the network need."""
    inside = {id(tensor): tensor for layer in layers for tensor in keras.tree.flatten(layer.output)}
    used = {id(tensor): tensor for layer in layers for tensor in keras.tree.flatten(layer.input)}
    needed = {id(tensor) for tensor in (*goals, *network.outputs)}
    needed |= {id(tensor) for layer in network.operations if layer not in layers
               for tensor in keras.tree.flatten(layer.input)}
    needs = [tensor for key, tensor in used.items() if key not in inside]
    gives = sorted((inside[key] for key in inside if key in needed),
                   key=lambda tensor: tensor is not goals[0])  # the backward pass begins with the first
    segment = Segment(needs, gives, again, f"{network.name}_{goals[0].name}")
    for variable in segment.model.non_trainable_variables if again else ():
        if not keras.backend.is_float_dtype(variable.dtype):
            raise ValueError(f"{variable.path}: a layer that draws random numbers cannot be recomputed")
    return segment
