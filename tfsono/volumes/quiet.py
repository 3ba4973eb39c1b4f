"""What libraries in C++ print themselves, kept off the terminal."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator

_lock = threading.Lock()
_depth = [0]


@contextlib.contextmanager
def quiet_libraries() -> Iterator[Callable[[], str]]:
    """Keeps what is written to the file descriptor of stderr meanwhile off the terminal.

    libpng, libjpeg, GDCM, MINC and HDF5 print there what their errors do not say. It holds for the whole process, so
    the block should be one call of a library. A block inside another, or in another thread, changes nothing.

    Yields:
        A function that returns the lines so far; "" where another block has them.
    """
    with _lock:
        _depth[0] += 1
        first = _depth[0] == 1
    try:
        with _redirected() if first else contextlib.nullcontext(str) as lines:
            yield lines
    finally:
        with _lock:
            _depth[0] -= 1


@contextlib.contextmanager
def _redirected() -> Iterator[Callable[[], str]]:
    try:
        shown = os.dup(2)
    except OSError:  # a program without a terminal has closed it
        yield str
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: os.pread(file.fileno(), 1 << 16, 0).decode("utf-8", "replace")
        finally:
            os.dup2(shown, 2)
            os.close(shown)
