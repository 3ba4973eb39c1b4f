"""What surrounds a command: the user's environment, settings of libraries, streams, and the noise on stderr.

A user sets these for other programs, and a notebook sets them for all. A command replaces what would break it or change
its results, before the imports. Only commands do: in a user's own Python all libraries keep the user's settings.

TensorFlow writes lines to stderr in every command although nothing is wrong. They come from C++, many before any
logging level is read, and some are marked as errors. So a small process, which is this file, reads the command's stderr
and writes what is not `NOISE`. The last lines of a process that crashes still get through, which they would not if the
process read its own lines.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import sys
import warnings

KERAS = {"backend": "tensorflow", "floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last",
         "nnx_enabled": False}
"""Keras's own defaults, for which this package is written: what keras.json may set."""

KERAS_VARIABLES = ("KERAS_BACKEND", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED")

NOISE = re.compile(
    rb"absl::InitializeLog\(\)"  # lines come before logging is set up
    rb"|^I\d{4} "  # information: oneDNN, no driver, CPU features
    rb"|rebuild TensorFlow with the appropriate compiler flags"  # the second line of the CPU features
    rb"|cuInit: UNKNOWN ERROR \(303\)|no CUDA-capable device"  # no driver, or no GPU
    rb"|use_unbounded_threadpool which is not in the op definition"  # tf.data with deterministic operations
    rb"|oneDNN supports DT_\w+ only on platforms with AVX-512. Falling back"
    rb"|remapper failed: INVALID_ARGUMENT: Mutation::Apply"  # it then leaves the graph unchanged
)


def own_settings() -> None:
    """Settings of every command: figures need no window, any name can be printed, and a warning ends nothing."""
    os.environ["MPLBACKEND"] = "agg"  # a notebook's does not load outside of it, which ends the import of matplotlib
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if any(option.startswith("error") for option in sys.warnoptions):  # PYTHONWARNINGS=error
        warnings.simplefilter("default")
        for usual in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", usual)


def ignored_keras_settings() -> list[str]:
    """The user's settings of Keras, of the environment and of keras.json, that differ from Keras's defaults."""
    found = [f"{name}={os.environ[name]}" for name in KERAS_VARIABLES if os.environ.get(name)]
    found = [text for text in found if text != "KERAS_BACKEND=tensorflow"]
    path = os.path.join(os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras"), "keras.json")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError):  # Keras ignores a damaged file too
        return found
    given = content if isinstance(content, dict) else {}
    changed = [f"{key} {given[key]}" for key, value in KERAS.items() if given.get(key, value) != value]
    return found + [f"{', '.join(changed)} in {path}"] * bool(changed)


def prepare_keras(note: bool = True) -> None:
    """TensorFlow and Keras's defaults; one note on what that replaces. Too late once Keras is loaded."""
    if "keras" in sys.modules:
        return
    ignored = ignored_keras_settings()
    if ignored and note:
        print(f"note: {', '.join(ignored)}: ignored, as tfsono's commands use Keras's defaults on TensorFlow",
              file=sys.stderr)
    for name in KERAS_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(KERAS_BACKEND="tensorflow", KERAS_HOME=os.devnull)  # where there is no keras.json, nor will be


def prepare_tensorflow() -> None:
    """Our settings for Keras, and no `NOISE` on this process's stderr from here on, except with TFSONO_VERBOSE=1.

    Call it before TensorFlow is imported, and after the arguments are parsed: `--help` must not wait.
    """
    own_settings()
    prepare_keras()
    if os.environ.get("TFSONO_VERBOSE", "0") not in ("", "0") or sys.stderr is None:
        return
    import subprocess

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # no information, but warnings and errors
    kept = os.dup(2)
    # In a session of its own: Ctrl-C must end the command alone, whose last lines are still to be written.
    reader = subprocess.Popen([sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, stdout=kept,
                              start_new_session=True)
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    atexit.register(_restore, kept, reader)


def _restore(kept: int, reader) -> None:
    """Restores stderr and waits until its last lines are written; a child process may keep the other end open."""
    import subprocess

    sys.stderr.flush()
    os.dup2(kept, 2)
    with contextlib.suppress(subprocess.TimeoutExpired):
        reader.wait(timeout=2)


if __name__ == "__main__":  # the process that reads
    for line in sys.stdin.buffer:
        if not NOISE.search(line):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
