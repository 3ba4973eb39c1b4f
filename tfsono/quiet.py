"""The lines that TensorFlow writes to stderr in every command, although nothing is wrong, are dropped; all others stay.

They come from C++, many before any level of logging is read, and some are called errors. So a small process, which is
this file, reads the command's stderr and writes on what is not `NOISE`. What a process that crashes wrote last still
gets through, which it would not if the process itself read its lines.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import sys

NOISE = re.compile(
    rb"absl::InitializeLog\(\)"  # that lines come before logging is set up
    rb"|^I\d{4} "  # information: oneDNN, no driver, what the CPU can do
    rb"|rebuild TensorFlow with the appropriate compiler flags"  # the second line of what the CPU can do
    rb"|cuInit: UNKNOWN ERROR \(303\)|no CUDA-capable device"  # no driver, or no GPU
    rb"|use_unbounded_threadpool which is not in the op definition"  # tf.data, where operations are deterministic
    rb"|oneDNN supports DT_\w+ only on platforms with AVX-512. Falling back"
    rb"|remapper failed: INVALID_ARGUMENT: Mutation::Apply"  # it then leaves the graph as it is
)


def quiet_tensorflow() -> None:
    """Drops `NOISE` from this process's stderr from here on; with TFSONO_VERBOSE=1 it does nothing.

    To be called before TensorFlow is imported, and after a command has read its arguments: `--help` must not wait.
    """
    if os.environ.get("TFSONO_VERBOSE", "0") not in ("", "0") or sys.stderr is None:
        return
    import subprocess

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # no information, but warnings and errors
    kept = os.dup(2)
    # A session of its own: Ctrl-C is meant for the command, whose last lines are still to be written.
    reader = subprocess.Popen([sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, stdout=kept,
                              start_new_session=True)
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    atexit.register(_restore, kept, reader)


def _restore(kept: int, reader) -> None:
    """Gives stderr back, and waits until its last lines are written; a child of ours may keep the other end open."""
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
