"""How long a work will still take, the line of a terminal, and JSON."""

import json
from pathlib import Path

import numpy as np

from tfsono import errors, progress
from tfsono.progress import Countdown, clock, json_lines


def test_clock():
    assert [clock(s) for s in (0, 59.6, 61, 3600 + 62)] == ["0:00", "1:00", "1:01", "1:01:02"]


def test_countdown(monkeypatch):
    now, lines = [100.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    countdown = Countdown(4, "written", lines.append, interval_s=5)
    for seconds, name in ((4, "a"), (6, "b"), (4, "c"), (6, "d")):
        now[0] += seconds
        countdown.step(name)
    assert lines == ["written 2 of 4 (b), 0:10 left", "written 4 of 4 cases in 0:20"]


def test_the_time_left_of_steps_counted_elsewhere(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    countdown = Countdown(1000)
    now[0] += 30
    countdown.count = 10
    assert countdown.left() == "49:30"


def test_a_terminal_shows_each_case_in_one_line_that_is_rewritten(monkeypatch, capsys):
    for module in (progress, errors):
        monkeypatch.setattr(module, "is_terminal", lambda: True)
    countdown = Countdown(2, "written")
    countdown.step("a" * 500)
    shown = capsys.readouterr().out
    assert shown.startswith("\r\x1b[Kwritten 1 of 2 (aaa") and shown.endswith("\r") and "\n" not in shown
    assert len(shown) < 500  # or it would take two lines
    countdown.step("b")
    assert capsys.readouterr().out == "\r\x1b[Kwritten 2 of 2 cases in 0:00\n"


def test_json_lines_are_ascii_with_null_for_nan_and_words_go_to_stderr(capsys):
    with json_lines(True) as write:
        write({"case": "a\x1b[2J\n\u202eü", "dice": float("nan"), "hd": np.float32("inf"), "k": np.int64(3),
               "mm": np.array([1.5, np.nan]), "path": Path("x"), "flag": np.True_, "rows": [{"a": None}]})
        print("words")
    out, err = capsys.readouterr()
    assert out.isascii() and out.endswith("\n") and out[:-1].isprintable() and err == "words\n"
    assert json.loads(out) == {"case": "a\x1b[2J\n\u202eü", "dice": None, "hd": None, "k": 3, "mm": [1.5, None],
                               "path": "x", "flag": True, "rows": [{"a": None}]}


def test_without_json_words_stay_on_stdout(capsys):
    with json_lines(False) as write:
        write({"case": "a"})
        print("words")
    assert capsys.readouterr() == ("words\n", "")
