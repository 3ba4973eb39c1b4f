"""One process writes a folder or a file; another one is refused and told by whom, until that one ends, in any way."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from small_datasets import write_cases
from tfsono import locks
from tfsono.__main__ import run as tfsono
from tfsono.errors import UserError
from tfsono.locks import LOCK, locked, locked_file

ROOT = Path(__file__).resolve().parents[1]
HOLD = """
import sys
from tfsono.locks import locked, locked_file
with {lock}(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Starts a process that holds a lock until it is killed or its stdin is closed."""
    started = []

    def start(path, lock="locked"):
        process = subprocess.Popen([sys.executable, "-c", HOLD.format(lock=lock), str(path), "--fold", "a b"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", cwd=ROOT)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_and_told_by_whom(hold, tmp_path):
    process = hold(tmp_path / "out")
    with pytest.raises(UserError) as error, locked(tmp_path / "out"):
        pass
    text = str(error.value)
    assert str(tmp_path / "out") in text and f"process {process.pid} on {os.uname().nodename} since 2" in text
    assert "--fold 'a b'" in text and "\n" not in text
    assert (tmp_path / "out" / LOCK).is_file()  # the refused one left the holder's lock alone


def test_a_process_that_ends_leaves_nothing(hold, tmp_path):
    process = hold(tmp_path / "out")
    process.communicate()
    assert process.returncode == 0 and list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(hold, tmp_path):
    process = hold(tmp_path / "out")
    process.kill()
    process.wait()
    assert (tmp_path / "out" / LOCK).is_file()
    with locked(tmp_path / "out"):
        assert json.loads((tmp_path / "out" / LOCK).read_text(encoding="utf-8"))["pid"] == os.getpid()
    assert list((tmp_path / "out").iterdir()) == []  # it existed, so it stays


def test_a_file_is_locked_next_to_it(hold, tmp_path):
    hold(tmp_path / "cache.h5", "locked_file")
    assert not (tmp_path / "cache.h5").exists()
    with pytest.raises(UserError, match="cache.h5: is being written by process"), locked_file(tmp_path / "cache.h5"):
        pass
    with locked_file(tmp_path / "other.h5"):
        pass


def test_what_was_written_stays_and_an_error_releases(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "a" / "b") as folder:
        (folder / "mask.png").write_bytes(b"1")
        raise KeyboardInterrupt
    with locked(tmp_path / "a" / "b"):
        pass
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["mask.png"]


def test_a_leftover_of_any_content_means_nothing(tmp_path):
    (tmp_path / LOCK).write_bytes(b"\xff{" * 5000)
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text(encoding="utf-8"))["pid"] == os.getpid()
        (tmp_path / LOCK).write_text("[]")
        with pytest.raises(UserError, match="another process"), locked(tmp_path):
            pass


def test_a_lock_that_is_removed_while_it_is_taken_is_taken_again(tmp_path, monkeypatch):
    """The holder removes its file and ends between the other's open and flock."""
    flock, taken = locks.fcntl.flock, []

    def late(file, how):
        if not taken:
            (tmp_path / LOCK).unlink()
        taken.append(file)
        flock(file, how)

    monkeypatch.setattr(locks.fcntl, "flock", late)
    with locked(tmp_path):
        assert len(taken) == 2
        with pytest.raises(UserError), locked(tmp_path):
            pass


def test_a_file_system_without_locks_is_noted(tmp_path, monkeypatch, capsys):
    def none(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", none)
    with locked(tmp_path / "out"):
        pass
    assert capsys.readouterr().err.startswith(f"note: {tmp_path / 'out'}: cannot be locked")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(UserError, match="file"), locked(place):
            pass
    with pytest.raises(UserError, match="cannot be written"), locked_file(tmp_path / "absent" / "cache.h5"):
        pass


@pytest.mark.parametrize("kind", ["link", "FIFO"])
def test_a_lock_file_that_is_no_file_is_refused(kind, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / LOCK).symlink_to(tmp_path / "mine.txt") if kind == "link" else os.mkfifo(tmp_path / LOCK)
    with pytest.raises(UserError, match=str(tmp_path)), locked(tmp_path):
        pass
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_a_full_disk_locks_all_the_same(tmp_path, monkeypatch):
    def full(*words):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with locked(tmp_path), pytest.raises(UserError, match="another process"), locked(tmp_path):
        pass


@pytest.mark.parametrize("name, lock", [("audit", "locked"), ("cache", "locked_file")])
def test_a_second_command_is_refused_until_the_first_is_gone(name, lock, hold, tmp_path):
    write_cases(tmp_path / "data", 1)
    out = tmp_path / "out.h5"
    words = ["audit", str(tmp_path / "data"), "--out", str(out)]
    words = words if name == "audit" else ["cache", "hip", str(tmp_path / "data"), str(out), "--preset", "quick"]
    process = hold(out, lock)
    with pytest.raises(UserError, match=rf"out.h5: is being written by process {process.pid} on .* --fold 'a b'\)"):
        tfsono(words)
    process.kill()
    process.wait()
    tfsono(words)
    assert out.exists() and not [path for path in tmp_path.rglob("*") if path.name.endswith(LOCK)]


def test_two_phantom_commands_never_write_one_dataset(tmp_path):
    with locked(tmp_path / "dataset"), pytest.raises(UserError, match=f"is being written by process {os.getpid()}"):
        tfsono(["phantom", "hip", str(tmp_path / "dataset"), "--preset", "quick", "--cases", "1"])
    assert not (tmp_path / "dataset").exists()
