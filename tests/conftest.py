"""Shared by all tests: quiet libraries, no display, and the folder of the real data."""

from __future__ import annotations

import functools
import gc
import locale
import os
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TFSONO_VERBOSE", "1")  # pytest captures stderr; another reader keeps its file open
os.environ["MPLBACKEND"] = "Agg"
if "PYTEST_XDIST_WORKER" in os.environ:  # one worker per core: more threads only wait for each other
    for variable in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    gc.set_threshold(50_000, 10, 4)  # tracing makes objects by the hundred thousand: a twentieth of the time
    os.fsync = lambda file: None  # no test cuts the power; the commands of test_kills.py are processes of their own
    # Before 3.12 Python lists a protocol's methods at each `isinstance`; TensorFlow asks it of every tensor.
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)


# Files of 5 s and more come first, so that no worker ends with one while the other has nothing left.
LONG = tuple(f"test_{name}" for name in (
    "bare_networks", "export", "inference_", "layers_recompute", "models_", "pages", "phantoms_", "predict",
    "python_predict", "savedmodels_page", "scripts_", "stored_models", "surroundings", "systems", "training_",
    "wiring_"))


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist's own order: files of many tests first, however short they are


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.name.startswith(LONG))


def pytest_collection_finish() -> None:
    """Under xdist objects of the imports are never looked through again, and graphs run as they were traced.

    Optimising a graph takes half of its first call, and most have no second one here. Graphs of every system are
    optimised in test_stored_models.py, in commands of their own process, and where pytest runs without xdist.
    """
    gc.freeze()
    if "PYTEST_XDIST_WORKER" in os.environ:
        optimise_graphs(False)
        forget_origins()


def forget_origins() -> None:
    """Operations are made without what only messages show: the stack of calls, and the name of a variable.

    The stack is long here, and for every name and shape TensorFlow builds a kernel anew, which takes a millisecond.
    """
    from tensorflow.python.framework import ops
    from tensorflow.python.ops import gen_resource_variable_ops as variables

    stack, handle = ops.tf_stack.extract_stack(), variables.var_handle_op
    ops.tf_stack.extract_stack = lambda stacklevel=1: stack
    variables.var_handle_op = lambda *given, debug_name="", **named: handle(*given, **named)


def optimise_graphs(wanted: bool) -> None:
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not wanted})


@pytest.fixture
def optimised_graphs() -> Iterator[None]:
    """Graphs run as at users."""
    optimise_graphs(True)
    yield
    optimise_graphs("PYTEST_XDIST_WORKER" not in os.environ)


@pytest.fixture(scope="module")
def blank_figures() -> Iterator[None]:
    """See wiring.py."""
    from wiring import blank_figures

    with blank_figures():
        yield


@pytest.fixture(autouse=True)
def character_set() -> Iterator[None]:
    """Puts back the locale's character set, which ITK's writer of DICOM replaces for the whole process."""
    own = locale.setlocale(locale.LC_CTYPE)
    yield
    locale.setlocale(locale.LC_CTYPE, own)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: $TFSONO_DATA, else shared/data next to the repository; skips without it."""
    named = os.environ.get("TFSONO_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set TFSONO_DATA to its folder")
    return folder
