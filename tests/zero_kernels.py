"""Networks of zeros: tens of millions of random numbers take a second, and some tests only count the kernels."""

from __future__ import annotations

import contextlib

import keras
import pytest

RANDOM = ("VarianceScaling", "RandomNormal", "RandomUniform", "TruncatedNormal")


@contextlib.contextmanager
def zero_kernels():
    """Networks that are built in it have no random weights; also decorates functions."""
    with pytest.MonkeyPatch.context() as patch:
        for name in RANDOM:
            patch.setattr(getattr(keras.initializers, name), "__call__",
                          lambda self, shape, dtype=None, **_: keras.ops.zeros(shape, dtype))
        yield
