"""30 kills, and Ctrl-C and SIGTERM, over all commands that write: the same command resumes, and ends as if undisturbed.

Run it with `make kills`; it takes some ten minutes, and prints what happened.
"""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from compared_folders import check_equal, check_whole
from forked_commands import Ended, forked_commands
from small_caches import TINY, write_small_dataset

pytestmark = pytest.mark.kills

SIZES = tuple((17 + 2 * (number % 3), 17 + 2 * (number % 2), 19) for number in range(8))
TRAIN = (*TINY, "--iterations", "16", "--validation_cases", "1", "--deterministic", "true")
KILLS = {"cache": 6, "train": 9, "evaluate": 6, "export": 4, "predict": 5}
SIGNALS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}


def named(command: str) -> str:
    """The name of a command's output; a cache is a file, and compared by its arrays and attributes."""
    return {"cache": "cache.h5"}.get(command, command)


class Place:
    """A dataset, and the undisturbed output of every command, with the seconds that its work took."""

    def __init__(self, root: Path, commands: Callable[..., Ended]):
        self.root, self.commands, self.seconds, self.rows = root, commands, {}, []
        write_small_dataset(root / "dataset", SIZES)
        for name in KILLS:
            done = self.run(name, self.whole(name))
            assert done.status == 0 and not done.stderr, done
            self.seconds[name] = done.seconds

    def whole(self, name: str) -> Path:
        """The undisturbed output of a command."""
        return self.root / f"whole_{named(name)}"

    def run(self, name: str, out: Path, after: float | None = None, number: int = 9) -> Ended:
        """Runs a command that writes `out`."""
        root, cache = self.root, self.whole("cache")
        words = {
            "cache": ("tfsono", "cache", "hip", root / "dataset", out, "--preset", "quick"),
            "train": ("train", "--data", cache, "--run_dir", out, *TRAIN),
            "evaluate": ("evaluate", "--data", cache, "--runs", root / "whole_train", "--out", out,
                         "--weights", "last"),
            "export": ("tfsono", "export", root / "whole_train", out),
            "predict": ("tfsono", "predict", root / "whole_train", root / "dataset" / "images", "--out", out),
        }
        return self.commands(words[name], after, number)

    def stop(self, name: str, out: Path, share: float, number: int) -> Ended:
        """Runs a command and sends a signal after a share of its time; earlier where its work had ended by then.

        Then it says nothing, its output is complete and equal to an undisturbed one, and its status is 0, unless it
        was killed while Python ended.
        """
        for attempt in range(12):
            done = self.run(name, out, self.seconds[name] * share * 0.8**attempt, number)
            if done.status and not (done.worked and number == signal.SIGKILL):
                return done
            assert not done.stderr, done
            check_equal(out, self.whole(name))
            shutil.rmtree(out) if out.is_dir() else out.unlink()
        raise AssertionError(f"{name}: never stopped: {done}")

    def resume(self, name: str, out: Path, stopped: Ended, sent: signal.Signals) -> None:
        """Runs the command again, compares, and prints what was left before."""
        left = out if out.exists() else out.with_name(f"{out.name}.partial")
        if left.is_dir() or left == out and left.exists():
            check_whole(left)
        what = "nothing" if not left.exists() else "files" if left == out else "a partial one"
        again = self.run(name, out)
        assert again.status == 0 and not again.stderr, again
        check_equal(out, self.whole(name))
        assert not [path.name for path in self.root.iterdir() if path.name.startswith((".", f"{out.name}."))]
        self.rows.append(sent)
        print(f"{name:9} {sent.name:7} {stopped.seconds:7.2f}  {what:14} equal", flush=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("kills")
    (root / "output").mkdir()
    with forked_commands(root / "output") as commands:
        found = Place(root, commands)
        print("\n\ncommand   signal  after s  left           then", flush=True)
        yield found
    killed = found.rows.count(signal.SIGKILL)
    print(f"\n{killed} of {sum(KILLS.values())} kills and {len(found.rows) - killed} of {2 * len(KILLS)} "
          "interruptions: the same command finished, equal to an undisturbed one")


MOMENTS = [(name, (number + 0.5) / count) for name, count in KILLS.items() for number in range(count)]


@pytest.mark.parametrize("name, share", MOMENTS)
def test_a_killed_command_resumes_and_ends_as_if_undisturbed(name, share, place):
    out = place.root / f"{share:.2f}_{named(name)}"
    done = place.stop(name, out, share, signal.SIGKILL)
    assert done.status == -signal.SIGKILL and not done.stderr, done
    place.resume(name, out, done, signal.SIGKILL)


@pytest.mark.parametrize("name, number", list(itertools.product(KILLS, SIGNALS)))
def test_an_interrupted_command_says_so_in_a_line_and_leaves_whole_files(name, number, place):
    out = place.root / f"{number}_{named(name)}"
    done = place.stop(name, out, 0.6, number)
    status, word = SIGNALS[number]
    (line,) = done.stderr.splitlines()
    assert done.status == status and line.startswith(f"{word}; every file"), done
    if out.is_dir():
        assert not [path for path in out.rglob("*") if path.name.startswith(".")]
    place.resume(name, out, done, number)
