"""What surrounds a command: the user's environment, settings of libraries, streams, and the noise on stderr.

A user sets these for other programs, and a notebook sets them for all. A command replaces what would break it or change
its results, before the imports. Only commands do: in a user's own Python all libraries keep the user's settings.

Libraries in C and C++ write to stderr too. TensorFlow does so in every command although nothing is wrong, many lines
before any logging level is read, and some marked as errors; the readers of images (ITK, GDCM, libpng, HDF5) do so for a
damaged file, of which our own line says what is wrong. So a small process, which is this file, reads the command's
stderr: Python's lines, which are marked, and `WARNINGS` of TensorFlow go on to the user, the other lines to the log, if
the command ends with one. The last words of a process that crashes still get through, which they would not if it read
its own lines.
"""

from __future__ import annotations

import argparse
import atexit
import collections
import contextlib
import functools
import io
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

WARNINGS = re.compile(rb"^[WEF]\d{4} |^WARNING:\w+:")
"""TensorFlow's own, and those of Python's logging; what is no `NOISE` among them is shown."""

REPEATED = re.compile(rb"OP_REQUIRES failed at|Local rendezvous is aborting|bfc_allocator")
"""What TensorFlow writes besides raising an error, whose own line the user sees."""

OWN = b"\1"  # begins each of Python's lines
END = b"\0end\n"  # a process that crashes does not write it
LAST_WORDS = 20
KEPT = 1000
GIBIBYTE = 2**30


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


def probe_memory(meminfo: str = "/proc/meminfo", limit: str = "/sys/fs/cgroup/memory.max") -> dict[str, float]:
    """Memory in GiB: total, available, and the limit of a container, if set."""
    memory_gb = {}
    try:
        with open(meminfo, encoding="utf-8") as file:
            found = dict(re.findall(r"^(\w+):\s+(\d+) kB", file.read(), re.MULTILINE))
        memory_gb = {"total": int(found["MemTotal"]) * 1024 / GIBIBYTE,
                     "available": int(found["MemAvailable"]) * 1024 / GIBIBYTE}
        with open(limit, encoding="utf-8") as file:
            memory_gb["limit"] = int(file.read()) / GIBIBYTE
    except (OSError, KeyError, ValueError):
        pass  # another system, no control group, or no limit ("max"): keep what was read so far
    return memory_gb


def probe_gpu_memory() -> float:
    """GiB of the GPU with the least memory, as nvidia-smi has it; infinite where it does not say."""
    import subprocess

    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=10, check=True)
        return min(int(line) for line in done.stdout.split()) / 1024
    except (OSError, ValueError, subprocess.SubprocessError):
        return float("inf")


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
    """Our settings for Keras, and only its real warnings on this process's stderr from here on; see `quiet_stderr`.

    Call it before TensorFlow is imported, and after the arguments are parsed: `--help` must not wait.
    """
    own_settings()
    prepare_keras()
    quiet_stderr()


def parsed(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The arguments of a script; then, as `--help` must not wait for TensorFlow, all is ready for its import."""
    arguments = parser.parse_args(argv)
    prepare_tensorflow()
    return arguments


@functools.cache  # once for a process
def quiet_stderr() -> None:
    """Keeps the lines of libraries in C and C++ off the user's stderr from here on, except with TFSONO_VERBOSE=1."""
    if os.environ.get("TFSONO_VERBOSE", "0") not in ("", "0") or sys.stderr is None:
        return
    import subprocess

    from tfsono.errors import log_path

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # no information, but warnings and errors
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        log = str(log_path())
    except OSError:
        log = os.devnull
    # In a session of its own: Ctrl-C must end the command alone, whose last lines are still to be written.
    reader = subprocess.Popen([sys.executable, "-I", "-S", __file__, log], stdin=subprocess.PIPE, stdout=kept,
                              stderr=kept, start_new_session=True)
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    os.close(kept)
    atexit.register(_restore, sys.stderr, reader)
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(_Marked()), sys.stderr.encoding, "backslashreplace",
                                  line_buffering=True)


class _Marked(io.RawIOBase):
    """Writes to stderr, and marks each line as Python's."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def write(self, content) -> int:
        os.write(2, b"".join(OWN + line for line in bytes(content).splitlines(keepends=True)))
        return len(content)


def _restore(stream, reader) -> None:
    """Waits until the last lines of stderr are written; a child process may keep the other end open.

    What a library writes while Python ends, as TensorFlow does of a dataset after Ctrl-C, is of no use to anybody.
    """
    import subprocess

    sys.stderr.flush()
    sys.stderr = stream
    with contextlib.suppress(OSError):  # the reader was killed
        os.write(2, END)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with contextlib.suppress(subprocess.TimeoutExpired):
        reader.wait(timeout=2)


def _read(lines, write, log: str) -> None:
    """Passes on what the user must see of the lines of libraries, and adds the others to the log if there is one.

    Args:
      lines: as they arrive; `END` is the last one of a process that has not crashed.
      write: takes each line for the user.
      log: the file that the command writes where it ends by an error that nobody foresaw.
    """
    held, crashed = collections.deque(maxlen=KEPT), True
    for line in lines:
        if line.endswith(END):
            crashed = False
        elif line.startswith(OWN):
            write(line.replace(OWN, b""))
        elif NOISE.search(line):
            continue
        elif WARNINGS.search(line) and not REPEATED.search(line):
            write(line)
        else:
            held.append(line)
    if os.path.isfile(log):
        with open(log, "ab") as file:
            file.writelines([b"\nLines of libraries:\n", *held] if held else [])
    elif crashed:
        for line in list(held)[-LAST_WORDS:]:
            write(line)


if __name__ == "__main__":  # the process that reads
    def write_through(line: bytes) -> None:
        with contextlib.suppress(OSError):  # the user's end is closed, or a full disk
            os.write(1, line)

    _read(sys.stdin.buffer, write_through, sys.argv[1])
