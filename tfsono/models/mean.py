"""An ensemble as one network, whose outputs are the means of its members'."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import ops


def mean_network(networks: Sequence[keras.Model], logits: Sequence[str] = (), members: Sequence[str] = ()
                 ) -> keras.Model:
    """The mean of the networks' outputs; for one network this network itself.

    Each network normalises as it does alone; the weights are shared with it.

    Args:
      networks: of one input, with outputs of the same names and shapes.
      logits: names of outputs that are logits over their last axis: the probabilities are averaged, and given as logits
        again, so that the outputs mean what a single network's do.
      members: names of outputs [B, ...] that each member's own are added of, as "member_NAME" [B, members, ...].
    """
    if len(networks) == 1:
        return networks[0]
    image = keras.Input(networks[0].input.shape[1:], name="image")
    each = [keras.Model(one.input, one.output, name=f"member_{number}")(image)
            for number, one in enumerate(networks, 1)]
    outputs = {name: (mean_logits if name in logits else mean)([member[name] for member in each]) for name in each[0]}
    outputs |= {f"member_{name}": ops.stack([member[name] for member in each], 1)
                for name in members if name in each[0]}
    return keras.Model(image, outputs, name=f"mean_{networks[0].name}")


def mean(parts: Sequence):
    """The mean of tensors, float32."""
    return sum(ops.cast(part, "float32") for part in parts) / len(parts)


def mean_logits(parts: Sequence):
    """Logits of the mean probabilities, float32; finite also where a probability rounds to 0.

    Not by `logaddexp`, whose log1p tf2onnx does not convert.
    """
    each = ops.stack([ops.log_softmax(ops.cast(part, "float32")) for part in parts])
    return ops.logsumexp(each, axis=0) - math.log(len(parts))
