"""Every command on a disk with 0, 60 and 400 kB left: one line, earlier results intact; with room the command resumes.

Run it with `make disks`; it takes some five minutes, needs root for a file system of its own, and prints what happened.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from compared_folders import check_equal, check_whole, files_of
from forked_commands import Commands, Ended, forked_commands
from small_caches import TINY, write_small_dataset

pytestmark = pytest.mark.disks

SIZES = ((17, 19, 21),) * 6
TRAIN = (*TINY, "--iterations", "12", "--validation_cases", "1", "--deterministic", "true")
ROOM = (0, 60_000, 400_000)
MEGABYTES = 20
MOUNT = f'mount -t tmpfs -o size={MEGABYTES}m tmpfs "$0" && exec "$@"'
OUTPUT = {"audit": "audit", "cache": "small.h5", "train": "run", "evaluate": "results", "export": "model",
          "predict": "predictions"}
"""Of each command; in this order, as one needs what another wrote."""


class Place:
    """A dataset, what each command finds before it starts, and its undisturbed output on a sound disk."""

    def __init__(self, root: Path, commands: Commands):
        self.root, self.commands, self.rows = root, commands, []
        self.whole, self.before, self.disk = root / "whole", root / "before", root / "disk"
        self.seen = Path(f"/proc/{commands.process.pid}/root") / self.disk.relative_to("/")  # the commands' mount
        write_small_dataset(root / "dataset", SIZES)
        write_small_dataset(root / "older", SIZES[:2])
        for folder in (self.whole, self.before):
            folder.mkdir()
        for name in OUTPUT:
            if name in ("audit", "cache", "predict"):
                assert self.run(name, self.before, "older").status == 0
            elif name == "train":
                self._stop_a_training()
            self.copy_before(name, self.whole)
            done = self.run(name, self.whole)
            assert done.status == 0 and not done.stderr, done

    def _stop_a_training(self) -> None:
        """At its first record: each of the others then needs room."""
        run = self.before / "run"
        self.run("train", self.before, written=run / "state.h5")
        assert (run / "state.h5").is_file() and not (run / "finished.json").exists()

    def copy_before(self, name: str, folder: Path) -> None:
        """Copies what a command finds of an earlier call."""
        source = self.before / OUTPUT[name]
        if source.exists():
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / source.name)

    def run(self, name: str, folder: Path, dataset: str = "dataset", written: Path | None = None) -> Ended:
        """Runs a command whose output is in `folder`."""
        out, cache, run = folder / OUTPUT[name], self.whole / "small.h5", self.whole / "run"
        words = {
            "audit": ("tfsono", "audit", self.root / dataset, "--out", out),
            "cache": ("tfsono", "cache", "hip", self.root / dataset, out, "--preset", "quick"),
            "train": ("train", "--data", cache, "--run_dir", out, *TRAIN),
            "evaluate": ("evaluate", "--data", cache, "--runs", run, "--out", out, "--weights", "last"),
            "export": ("tfsono", "export", run, out),
            "predict": ("tfsono", "predict", run, self.root / dataset / "images", "--out", out),
        }
        return self.commands(words[name], written=written)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs root, to mount a small file system")
    root = tmp_path_factory.mktemp("disks")
    for name in ("disk", "output"):
        (root / name).mkdir()
    wrapper = ["unshare", "-m", "sh", "-c", MOUNT, str(root / "disk")]
    with forked_commands(root / "output", wrapper) as commands:
        found = Place(root, commands)
        print("\n\ncommand   kB left  status  line", flush=True)
        yield found
    print(f"\n{len(found.rows)} of {len(OUTPUT) * len(ROOM)}: one line or finished, earlier results intact, and with "
          "room the same command ends, equal to an undisturbed one")


def fill(folder: Path, room: int) -> Path:
    """A file that leaves a disk so many bytes."""
    disk, filler = os.statvfs(folder), folder / "filler"
    filler.write_bytes(bytes(disk.f_bavail * disk.f_frsize - room // disk.f_frsize * disk.f_frsize))
    return filler


def earlier_results(name: str, folder: Path) -> dict[Path, bytes]:
    """The files of an earlier call that this one does not replace by newer ones."""
    kept = {"cache": ".h5", "predict": (".png", ".gz")}.get(name, ())
    return {path: path.read_bytes() for path in files_of(folder) if kept and path.name.endswith(kept)}


@pytest.mark.parametrize("name, room", list(itertools.product(OUTPUT, ROOM)))
def test_a_full_disk_ends_a_command_in_a_line_and_with_room_it_resumes(name, room, place):
    seen, out = place.seen, place.seen / OUTPUT[name]
    for path in seen.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    place.copy_before(name, seen)
    earlier = earlier_results(name, seen)
    filler = fill(seen, room)
    done = place.run(name, place.disk)
    lines = done.stderr.splitlines()
    if done.status:
        assert done.status == 2 and (len(lines) == 1 or name == "predict"), done
        assert all(line.isprintable() for line in lines) and ("No space left" in lines[0] or "free" in lines[0]), done
        check_whole(seen)
        assert {path: path.read_bytes() for path in earlier} == earlier
        assert name != "export" or not out.exists() and not out.with_name("model.partial").exists()
    assert done.status or room, "0 kB are never enough"
    filler.unlink()
    again = place.run(name, place.disk)
    assert again.status == 0 and not again.stderr, again
    check_equal(out, place.whole / OUTPUT[name])
    assert [path.name for path in seen.iterdir()] == [OUTPUT[name]]
    place.rows.append(name)
    line = lines[0].replace(f"{place.root}/", "") if lines else "finished"
    print(f"{name:9} {room / 1000:7.0f}  {done.status:6}  {line[:100]}", flush=True)
