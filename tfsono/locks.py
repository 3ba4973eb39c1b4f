"""One process at a time writes a folder or a file; a second one is refused, and told which process writes it.

The lock is the kernel's (flock): it ends with its process, however that ends, and a leftover lock file means nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tfsono.errors import UserError
from tfsono.files import make_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[Path]:
    """Creates a folder if needed, and locks it; at the end one that it created is removed if nothing was written.

    Raises:
      UserError: another process has locked it, or it cannot be created or written.
    """
    folder = Path(folder)
    created = not folder.exists()
    make_folder(folder)
    try:
        with _held(folder / LOCK, folder):
            yield folder
    finally:
        if created and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextlib.contextmanager
def locked_file(path: str | os.PathLike) -> Iterator[None]:
    """Locks a file or folder that appears only once it is complete; the lock file is next to it.

    Raises:
      UserError: another process has locked it, or its folder does not exist or cannot be written.
    """
    path = Path(path)
    with _held(path.with_name(f".{path.name}{LOCK}"), path):
        yield


@contextlib.contextmanager
def _held(lock: Path, what: Path) -> Iterator[None]:
    """Holds a lock file, which is removed at the end."""
    file = _acquired(lock, what)
    try:
        yield
    finally:
        if fcntl is not None:  # Windows removes no open file
            lock.unlink(missing_ok=True)  # before it is released, so that nobody holds a file that is gone
        os.close(file)


def _acquired(lock: Path, what: Path) -> int:
    """The descriptor of the lock file, with this process written in it."""
    while True:
        try:
            file = os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise UserError(f"{what}: cannot be written ({error.strerror}); choose another place") from None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise UserError(f"{lock}: must be a file, to lock {what}; found a special file; remove it")
        if _lock(file, what) and not _is_same(file, lock):  # its holder has removed it in between
            os.close(file)
            continue
        with contextlib.suppress(OSError):  # a full disk: it is locked all the same
            os.ftruncate(file, 0)
            os.write(file, json.dumps(_this_process()).encode())
        return file


def _lock(file: int, what: Path) -> bool:
    """Whether the lock was taken; False, after a note, where the file system has none."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(file)
        os.close(file)
        raise UserError(f"{what}: is being written by {holder}; wait until it ends, or choose another place") from None
    except OSError as error:  # some network file systems
        print(f"note: {what}: cannot be locked ({error.strerror}); start no other command that writes to it",
              file=sys.stderr)
        return False
    return True


def _is_same(file: int, lock: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(lock))
    except FileNotFoundError:
        return False


def _this_process() -> dict:
    name = Path(sys.argv[0]).name
    words = ["tfsono" if name == "__main__.py" else name, *sys.argv[1:]]
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "command": shlex.join(words)[:200]}


def _holder(file: int) -> str:
    """The process that wrote itself into a lock file, in words."""
    try:
        found = json.loads(os.read(file, 4096))
        return f"process {found['pid']} on {found['host']} since {found['since']} ({found['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # which has not written itself there yet
