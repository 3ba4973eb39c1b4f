"""Moving averages of batch normalisation, estimated with weights that do not change meanwhile."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np


def settle_averages(network: keras.Model, images: Iterable) -> None:
    """Sets the moving statistics of `network` to their means over batches of images; no weight changes.

    Those of training are of weights that still moved, and at a momentum of 0.9 of some ten batches.
    """
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    moving = [average for norm in norms for average in (norm.moving_mean, norm.moving_variance)]
    momenta, found = [norm.momentum for norm in norms], []
    for norm in norms:
        norm.momentum = 0.0  # a batch's own
    for image in images:
        network(image, training=True)
        found.append([keras.ops.convert_to_numpy(average.value) for average in moving])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for average, values in zip(moving, zip(*found, strict=True), strict=True):
        average.assign(np.mean(values, axis=0, dtype=np.float64))
