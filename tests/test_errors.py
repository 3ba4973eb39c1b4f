"""The last net: whatever happens, a command ends in one printable line and a status that says whose fault it is."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tfsono import errors
from tfsono.errors import Terminated, UserError, printable, run_command

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """The folder of the logs."""
    folder = tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    errors.log_path.cache_clear()
    yield folder
    errors.log_path.cache_clear()


def raising(error):
    def main():
        raise error

    return main


# TensorFlow's errors are known by their names alone, as it is not loaded by every command.
OpError = type("OpError", (Exception,), {})


def op_error(name, text):
    return type(name, (OpError,), {})(text)


def of_h5py(kind, text):
    """An error raised by the code of h5py."""
    code = compile("def raise_it(error): raise error", "h5py/_objects.pyx", "exec")
    held = {}
    exec(code, held)  # noqa: S102
    return held["raise_it"], kind(text)


NO_ROOM = "make room"
USERS = [
    (OSError(errno.ENOSPC, "No space left on device", "/data/a.png"), ["/data/a.png", NO_ROOM]),
    (OSError(errno.EDQUOT, "Disk quota exceeded", Path("a.png")), ["a.png", NO_ROOM]),
    (PermissionError(errno.EACCES, "Permission denied", b"/data/a.png"), ["/data/a.png", "permissions"]),
    (OSError(errno.EROFS, "Read-only file system", "/data/a.png"), ["another place"]),
    (OSError(errno.EMFILE, "Too many open files"), ["ulimit"]),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/a.png"), ["/data/a.png: No such file"]),
    (OSError("a library says no more"), ["a library says no more"]),
    (OSError(), ["OSError"]),
    (OSError(errno.ENOSPC, "[Errno 28] Unable to synchronously create file (error = 'No space left')"), [NO_ROOM]),
    (MemoryError(), ["not enough memory"]),
    (MemoryError("Unable to allocate 9 GiB"), ["not enough memory", "9 GiB"]),
    (op_error("ResourceExhaustedError", "OOM when allocating tensor\n with shape[9]"), ["not enough memory", "OOM"]),
    (op_error("ResourceExhaustedError", "/a/saved_model.pb.tmp1; No space left on device"), [NO_ROOM]),
    (op_error("UnknownError", "write failed; No space left on device\nmore"), [NO_ROOM]),
    (op_error("FailedPreconditionError", "/a; Read-only file system"), ["another place"]),
    (op_error("UnknownError", "{{function_node __wrapped__SaveV2_device_/job:localhost}} a.pb; No space left on device "
              "[Op:SaveV2]"), ["error: a.pb; No space left on device; make room"]),
    (op_error("DataLossError", "corrupted record at 12"), ["corrupted record"]),
]
OURS = [ValueError("why\n  and how"), KeyError("x"), RecursionError("deep"), AssertionError(),
        RuntimeError("a\x1b[31mb"), op_error("InvalidArgumentError", "shapes differ"), op_error("InternalError", ""),
        Exception("x" * 5000)]


@pytest.mark.parametrize("error, words", USERS, ids=lambda value: type(value).__name__)
def test_what_the_system_refuses_is_the_users(error, words, logs, capsys):
    assert run_command(raising(error)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    (log,) = logs.iterdir()
    assert line.startswith("error: ") and all(word in line for word in words) and str(log) in line
    assert line.isprintable() and len(line) < 500 + len(str(log)) and "fault of tfsono" not in line


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, ValueError, OSError])
def test_what_hdf5_refuses_is_the_users(kind, logs, capsys):
    raise_it, error = of_h5py(kind, "Can't decrement id ref count\n(file write failed)")
    assert run_command(lambda: raise_it(error)) == 2
    assert "file write failed" in capsys.readouterr().err


@pytest.mark.parametrize("error", OURS, ids=lambda value: type(value).__name__)
def test_all_else_is_a_fault_of_ours(error, logs, capsys):
    assert run_command(raising(error)) == 70
    (line,) = capsys.readouterr().err.splitlines()
    (log,) = logs.iterdir()
    assert "a fault of tfsono, please report it" in line and type(error).__name__ in line and str(log) in line
    assert line.isprintable() and len(line) < 500 + len(str(log))
    text = log.read_text(encoding="utf-8")
    assert "Traceback" in text and "in main" in text and str(error)[:20] in text and "Python 3." in text
    assert log.stat().st_mode & 0o077 == 0  # names of files are the user's


def test_a_users_mistake_needs_no_log(logs, capsys):
    assert run_command(raising(UserError("a.nii: must be b"))) == 2
    assert capsys.readouterr().err == "error: a.nii: must be b\n" and not list(logs.iterdir())


def test_a_users_mistake_in_a_function_that_tensorflow_called(logs, capsys):
    text = "{{function_node f}} UserError: a.h5: damaged; write it again\nTraceback (most recent call last):\n\n  File"
    assert run_command(raising(op_error("InvalidArgumentError", text))) == 2
    assert capsys.readouterr().err == "error: a.h5: damaged; write it again\n" and not list(logs.iterdir())


HOSTILE = "a\nb\r\x1b[2J\u202edcm\u2066\x00\x7f\x9b31m\udcfc\u2028"


def test_a_line_is_one_and_printable(capsys):
    line = printable(HOSTILE)
    assert line == r"a\nb\r\x1b[2J\u202edcm\u2066\x00\x7f\x9b31m\udcfc\u2028" and line.isprintable()
    assert printable("Hüfte 股関節: 3 €") == "Hüfte 股関節: 3 €"
    assert run_command(raising(UserError(f"{HOSTILE}: must be b"))) == 2
    assert capsys.readouterr().err == f"error: {line}: must be b\n"


@pytest.mark.parametrize("full", [True, False])
def test_without_a_place_for_the_log_the_line_says_so(full, logs, monkeypatch, capsys):
    def refused(*words):
        raise OSError(errno.ENOSPC if full else errno.EROFS, "No space left" if full else "Read-only")

    monkeypatch.setattr(os, "open", refused)
    assert run_command(raising(ValueError("why"))) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert "why" in line and "no log could be written" in line and ("No space left" if full else "Read-only") in line


def test_a_log_that_cannot_be_written_to_its_end_is_removed(logs, monkeypatch, capsys):
    monkeypatch.setattr("builtins.open", raising_open)
    assert run_command(raising(ValueError("why"))) == 70
    monkeypatch.undo()
    assert "no log could be written" in capsys.readouterr().err and not list(logs.iterdir())


def raising_open(*words, **more):
    raise OSError(errno.ENOSPC, "No room")


@pytest.mark.parametrize("end, status, word", [(KeyboardInterrupt, 130, "interrupted"),
                                               (Terminated, 143, "terminated")])
def test_interruptions(end, status, word, logs, capsys):
    assert run_command(raising(end())) == status
    assert capsys.readouterr().err.startswith(word) and not list(logs.iterdir())


def test_the_status_of_a_command_and_of_its_parser(capsys):
    assert (run_command(lambda: None), run_command(lambda: 3)) == (0, 3)
    with pytest.raises(SystemExit):
        run_command(raising(SystemExit(2)))


def test_the_end_at_once_is_after_the_exit_handlers_and_all_output():
    code = ("import atexit, sys; from tfsono.errors import end_at_once; atexit.register(print, 'handler')\n"
            "print('out'); print('err', end='', file=sys.stderr); end_at_once(3); print('never')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\nhandler\n", "err")


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], sys.unraisablehook
    run_command(lambda: None)
    run_command(raising(ValueError()))
    assert ([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], sys.unraisablehook) == before


# --- signals, in a process of their own

COMMAND = """
import os, signal, sys, time, weakref
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from tfsono.errors import run_command
class Thing: pass
def send(number=signal.{name}):
    os.kill(os.getpid(), number)
    time.sleep(0.1)
def main():
{body}
sys.exit(run_command(main))
"""
SWALLOWED = """
    thing = Thing()
    kept = weakref.ref(thing, lambda _: send())
    del thing
    time.sleep(5)
    print("went on")
"""
BODIES = {
    "plain": "    send(); print('went on')",
    "in a callback": SWALLOWED,
    "in a destructor": SWALLOWED.replace("kept = weakref.ref(thing, lambda _:", "Thing.__del__ = (lambda _:"),
    "caught by a library": "    try: send()\n    except BaseException: pass\n    return 0",
    "changed by a library": "    try: send()\n    except BaseException: raise ValueError('callback failed')",
}


def command(name, body, code=COMMAND, **environment):
    return subprocess.run([sys.executable, "-c", code.format(name=name, body=body)], encoding="utf-8",
                          capture_output=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
                          timeout=30)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name, status, word", [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_a_signal_is_never_swallowed(name, status, word, body, tmp_path):
    done = command(name, BODIES[body], TMPDIR=str(tmp_path))
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (status, "") and line.startswith(f"{word}; every file")
    assert not list(tmp_path.iterdir())


def test_a_second_one_ends_it_at_once():
    body = "    try: send()\n    finally:\n        send()\n        print('cleaned up')"
    done = command("SIGINT", body)
    assert done.returncode == 130 and done.stdout == "" and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_one_that_arrives_while_python_ends_changes_nothing(name):
    late = "import atexit; atexit.register(lambda: (send(), print('ended')))"  # before the command: called after
    done = command(name, "    return 2", code=COMMAND.replace("def main", f"{late}\ndef main"))
    assert (done.returncode, done.stdout, done.stderr) == (2, "ended\n", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_is_ignored_stays_so(name):
    code = COMMAND.format(name=name, body="    send(); print('went on')")
    code = code.replace("def main", f"signal.signal(signal.{name}, signal.SIG_IGN)\ndef main")
    done = subprocess.run([sys.executable, "-c", code], encoding="utf-8", capture_output=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


def test_half_written_files_are_removed_at_sigterm(tmp_path):
    body = f"    from tfsono.files import replacing\n    with replacing({str(tmp_path / 'a')!r}) as partial: send()"
    assert command("SIGTERM", body).returncode == 143 and not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line(tmp_path):
    code = COMMAND.format(name="SIGINT", body="    print('x' * 100)")
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", code], encoding="utf-8", stdout=full, stderr=subprocess.PIPE,
                              check=False, cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)})
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "make room" in line


def test_a_reader_that_ends_first_is_one_line():
    code = COMMAND.format(name="SIGINT", body="    for _ in range(10**5): print('x' * 100)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
                          encoding="utf-8") as process:
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 2 and error == "error: the program that reads the output ended first\n"
