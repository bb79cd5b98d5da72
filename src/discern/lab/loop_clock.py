"""How long an iteration takes, and how long all that are left will."""

from __future__ import annotations

from typing import Final

_KEPT: Final = 0.9  # of the moving averages, as LabML's loop has it


class MovingAverage:
    """An average that forgets: 0.9 of what was, 0.1 of what is new; corrected for its start."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._weight = 0.0

    def add(self, value: float) -> None:
        """Take in one more."""
        self._sum = _KEPT * self._sum + (1 - _KEPT) * value
        self._weight = _KEPT * self._weight + (1 - _KEPT)

    @property
    def value(self) -> float:
        """The average; 0 before the first."""
        return self._sum / self._weight if self._weight else 0.0


class LoopClock:
    """Times of a loop of `total` iterations; None if it has no end. Moments in seconds."""

    def __init__(self, total: int | None, now: float) -> None:
        self.total = total
        self.done = 0
        self._average = MovingAverage()
        self._began = now
        # The first iteration counts from the loop's begin: it is one like the others.
        self._last = now

    def tick(self, now: float) -> None:
        """An iteration has ended."""
        self._average.add(now - self._last)
        self._last = now
        self.done += 1

    @property
    def step_s(self) -> float:
        """Seconds an iteration takes."""
        return self._average.value

    def elapsed_s(self, now: float) -> float:
        """Seconds since the loop began."""
        return now - self._began

    def remaining_s(self) -> float | None:
        """Seconds that what is left will take; None without an end or a finished iteration."""
        if self.total is None or not self.done:
            return None
        return max(self.total - self.done, 0) * self.step_s

    def text(self, now: float) -> str:
        """Milliseconds an iteration, and elapsed/remaining as h:mm."""
        left = self.remaining_s()
        remaining = "-:--" if left is None else hours_minutes(left)
        return f"{1000 * self.step_s:,.0f}ms  {hours_minutes(self.elapsed_s(now))}/{remaining}"


def hours_minutes(seconds: float) -> str:
    """`seconds` as h:mm."""
    minutes = int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02d}"
