"""run.json: which files are those of a run, also after a kill at any moment."""

import json
import os

import pytest

from tfsono.errors import UserError
from tfsono.training.record import RECORD, check_files, record_files, recorded

FILES = ("last.weights.h5", "history.csv", "state.h5")


def written(folder, text):
    with recorded(folder, *FILES) as paths:
        for path in paths:
            path.write_text(text)


def contents(folder):
    return [(folder / name).read_text() if (folder / name).exists() else "" for name in FILES]


class Killed(BaseException):
    """Ends a process between two renames."""


@pytest.mark.parametrize("renamed", range(5))
def test_a_kill_at_any_moment_leaves_files_that_are_known(tmp_path, monkeypatch, renamed):
    written(tmp_path, "old")
    replace, left = os.replace, iter(range(renamed))

    def stopped(source, target):
        if next(left, None) is None:
            raise Killed
        replace(source, target)

    monkeypatch.setattr("os.replace", stopped)
    with pytest.raises(Killed):
        written(tmp_path, "new")
    monkeypatch.undo()
    new = max(0, min(renamed - 1, 3))  # the first rename is that of run.json
    assert contents(tmp_path) == ["new"] * new + ["old"] * (3 - new)  # in their order
    check_files(tmp_path)
    written(tmp_path, "newer")  # resumed
    check_files(tmp_path)
    assert contents(tmp_path) == ["newer"] * 3 and json.loads((tmp_path / RECORD).read_text())["pending"] == {}


def test_a_kill_after_which_only_some_files_are_written_again(tmp_path, monkeypatch):
    """What was pending when the first process was killed stays known."""
    written(tmp_path, "old")
    replace = os.replace

    def stopped(source, target):
        if os.fspath(target).endswith("history.csv"):
            raise Killed
        replace(source, target)

    monkeypatch.setattr("os.replace", stopped)
    with pytest.raises(Killed):
        written(tmp_path, "new")
    monkeypatch.undo()
    with recorded(tmp_path, "initialisation.txt") as (path,):
        path.write_text("random")
    check_files(tmp_path)
    assert contents(tmp_path) == ["new", "old", "old"]


def test_a_file_of_a_record_that_failed_is_not_taken(tmp_path):
    written(tmp_path, "old")
    before = (tmp_path / RECORD).read_text()
    with pytest.raises(OSError), recorded(tmp_path, *FILES) as paths:
        paths[0].write_text("new")
        raise OSError("disk full")
    assert contents(tmp_path) == ["old"] * 3 and (tmp_path / RECORD).read_text() == before


@pytest.mark.parametrize("damage, words", [
    (lambda folder: (folder / "state.h5").write_text("other"), "state.h5: is not the file that the training wrote"),
    (lambda folder: (folder / "state.h5").unlink(), "state.h5: missing"),
    (lambda folder: (folder / "best.weights.h5").write_text("x"), "best.weights.h5: is not of this run"),
    (lambda folder: (folder / RECORD).write_text("{half"), "run.json: must be JSON"),
])
def test_a_file_that_is_another(tmp_path, damage, words):
    written(tmp_path, "old")
    damage(tmp_path)
    with pytest.raises(UserError, match=words):
        check_files(tmp_path)


def test_a_run_that_is_written_while_it_is_read(tmp_path, monkeypatch):
    """The first comparison meets a file that is newer than the run.json that was read."""
    import tfsono.training.record as record

    written(tmp_path, "old")
    problem, calls = record._problem, []

    def meanwhile(folder, held):
        calls.append(1)
        if len(calls) == 1:
            written(tmp_path, "new")
        return problem(folder, held)

    monkeypatch.setattr(record, "_problem", meanwhile)
    check_files(tmp_path)
    assert len(calls) == 2


def test_a_run_of_the_release_before_opens_with_a_note(tmp_path, capsys):
    (tmp_path / "last.weights.h5").write_text("x")
    check_files(tmp_path)
    assert "note: " in capsys.readouterr().err
    record_files(tmp_path)
    check_files(tmp_path)
    assert capsys.readouterr().err == ""


def test_a_run_within_a_run_is_checked_with_it(tmp_path, capsys):
    (tmp_path / "roi").mkdir()
    for name in ("last.weights.h5", "config.json"):
        (tmp_path / "roi" / name).write_text("x")
    record_files(tmp_path)
    check_files(tmp_path / "roi")
    assert capsys.readouterr().err == ""
    (tmp_path / "roi" / "last.weights.h5").write_text("y")
    with pytest.raises(UserError, match="roi/last.weights.h5: is not the file"):
        check_files(tmp_path)
