"""How long a work will still take."""

from tfsono import progress
from tfsono.progress import Countdown, clock


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
