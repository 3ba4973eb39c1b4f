"""The remaining time of a job of many steps."""

from __future__ import annotations

import time
from collections.abc import Callable


class Countdown:
    """Counts the steps of a job and estimates the remaining time from the pace so far.

    Attributes:
      total: number of steps.
      count: number of finished steps.
    """

    def __init__(self, total: int, word: str = "done", progress: Callable[[str], None] = print,
                 interval_s: float = 5.0) -> None:
        """`word` is what `step` prints of finished cases ("written"), every `interval_s` and at the end."""
        self.total, self.word, self.progress, self.interval_s = total, word, progress, interval_s
        self.count = 0
        self.began = self.printed = time.monotonic()

    def left(self) -> str:
        """The time until the last step is finished, as 1:02:03 or 2:03."""
        return clock((time.monotonic() - self.began) / max(self.count, 1) * (self.total - self.count))

    def step(self, name: str) -> None:
        """Counts one more case, `name`."""
        self.count += 1
        now = time.monotonic()
        if self.count == self.total:
            self.progress(f"{self.word} {self.count} of {self.total} cases in {clock(now - self.began)}")
        elif now - self.printed >= self.interval_s:
            self.progress(f"{self.word} {self.count} of {self.total} ({name}), {self.left()} left")
            self.printed = now


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
