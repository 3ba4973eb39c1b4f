"""Drops the lines that TensorFlow writes to stderr in every command although nothing is wrong; keeps all others.

They come from C++, many before any logging level is read, and some are marked as errors. So a small process, which is
this file, reads the command's stderr and writes what is not `NOISE`. The last lines of a process that crashes still
get through, which they would not if the process read its own lines.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import sys

NOISE = re.compile(
    rb"absl::InitializeLog\(\)"  # lines come before logging is set up
    rb"|^I\d{4} "  # information: oneDNN, no driver, CPU features
    rb"|rebuild TensorFlow with the appropriate compiler flags"  # the second line of the CPU features
    rb"|cuInit: UNKNOWN ERROR \(303\)|no CUDA-capable device"  # no driver, or no GPU
    rb"|use_unbounded_threadpool which is not in the op definition"  # tf.data with deterministic operations
    rb"|oneDNN supports DT_\w+ only on platforms with AVX-512. Falling back"
    rb"|remapper failed: INVALID_ARGUMENT: Mutation::Apply"  # it then leaves the graph unchanged
)


def quiet_tensorflow() -> None:
    """Drops `NOISE` from this process's stderr from here on; with TFSONO_VERBOSE=1 it does nothing.

    Call it before TensorFlow is imported, and after the arguments are parsed: `--help` must not wait.
    """
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
