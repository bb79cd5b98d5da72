"""Where a training loop's time goes between two readings: steps, waiting, and the feed's own work.

Windows leave out evaluations and saving. The feed's parts are seconds of its threads, all together;
they show as waiting only as far as the loop had to wait for them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from discern.feed.batch import Feed
from discern.feed.seconds import FeedSeconds, spent_seconds


@dataclass(frozen=True, slots=True)
class Window:
    """One window: its `seconds`, those of them `waited` for data, and the feed's work in it."""

    seconds: float
    waited: float
    feed: FeedSeconds

    def readings(self, count: int, steps: int) -> dict[str, float]:
        """The figures of `steps` steps over `count` images that the window held."""
        waiting = min(1.0, self.waited / self.seconds) if self.seconds > 0 else 0.0
        each = 1e3 / steps
        figures = {
            "time/images_per_s": count / self.seconds if self.seconds > 0 else 0.0,
            "time/data_share": waiting,
            "time/batch_ms": each * self.seconds,
            "time/data_ms": each * self.seconds * waiting,
            "time/model_ms": each * self.seconds * (1.0 - waiting),
        }
        parts = self.feed.record()
        return figures | {f"time/{name}_ms": each * spent for name, spent in parts.items() if spent}


class LoopClock:
    """Measures windows of a loop over `feed`."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.open()

    def open(self) -> None:
        """Start a window."""
        self._start = time.monotonic()
        self._wait = self._feed.wait_s
        self._spent = spent_seconds(self._feed)

    def close(self) -> Window:
        """The window since it was opened."""
        seconds = time.monotonic() - self._start
        feed = spent_seconds(self._feed) - self._spent
        return Window(seconds, self._feed.wait_s - self._wait, feed)
