"""The precision in which a network's layers are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def made_in(precision: str) -> Iterator[None]:
    """Layers made within it calculate in `precision`, by Keras's name; the earlier one is restored afterwards."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
