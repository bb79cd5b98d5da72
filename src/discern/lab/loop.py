"""The outer loop of a training: `for epoch in loop(10): ...`, with times and figures on one line.

Its line shows the step, what the sections in it took, the printed figures, the time of an iteration
(a moving average), and elapsed and remaining time. Without a terminal a plain line is written at
most every ten seconds, and at the end. The first Ctrl-C lets the iteration finish and ends the
loop, the second ends it at once.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, ModuleType
from typing import Any, Final

from discern.base.errors import ConfigError
from discern.lab import monit, tracker
from discern.lab.loop_clock import LoopClock, MovingAverage
from discern.lab.status_line import status_line

__all__ = ["finish_loop", "loop", "new_line"]

_REFRESH_S: Final = 0.1
_PLAIN_LINES_S: Final = 10.0
_MOST_FIGURES: Final = 12

_running: Final[list[Loop]] = []


class Loop:
    """One loop over `items`; iterate over it once. `counter`: iterations that have ended.

    `waits`: a first Ctrl-C lets the iteration finish. `after` is called with the item at the end of
    each iteration, of an interrupted one too.
    """

    def __init__(
        self,
        items: Iterable[Any] | int,
        *,
        waits: bool = True,
        after: Callable[[Any], None] | None = None,
    ) -> None:
        self._waits = waits
        self._after = after
        self._kept = ""  # the line that stays above, but for its times: not said again
        self._items = range(items) if isinstance(items, int) else items
        try:
            total = len(self._items)  # type: ignore[arg-type]
        except TypeError:
            total = None
        self.total: int | None = total
        self.interrupted = False
        self.due = 0.0  # for the tracker: when a new line is wanted
        self._sections: dict[str, MovingAverage] = {}
        self._clock = LoopClock(total, time.monotonic())
        self._current: Any = None
        self._before: Any = None

    @property
    def counter(self) -> int:
        """Iterations that have ended."""
        return self._clock.done

    def __iter__(self) -> Iterator[Any]:
        if _running:
            raise ConfigError(
                "a loop is running already",
                hint="one loop is shown at a time; use monit.iterate for those within",
            )
        self._begin()
        try:
            for item in self._items:
                self._current = item
                yield item
                self._clock.tick(time.monotonic())
                if self._after is not None:
                    self._after(item)
                if self.interrupted:
                    break
                self._refresh()
        finally:
            self.finish()
        if self.interrupted:
            raise KeyboardInterrupt("stopped after an iteration, as asked by Ctrl-C")

    def take_section(self, name: str, seconds: float) -> None:
        """A section in this loop has ended."""
        self._sections.setdefault(name, MovingAverage()).add(seconds)

    def show(self, step: int, figures: list[tuple[str, float]]) -> None:
        """A save of the tracker: the line shows its figures."""
        self._refresh(step, figures)

    def line(self, step: int | None = None, figures: list[tuple[str, float]] | None = None) -> str:
        """The line as it is now."""
        return f"{self._told(step, figures)}  {self._clock.text(time.monotonic())}"

    def _told(self, step: int | None = None, figures: list[tuple[str, float]] | None = None) -> str:
        step = tracker.get_global_step() if step is None else step
        shown = tracker.tracker.shown() if figures is None else figures
        parts = [f"{step:>8,}:"]
        parts += [f"{name}: {1000 * time.value:,.0f}ms" for name, time in self._sections.items()]
        parts += [f"{name}: {value:.5g}" for name, value in shown[:_MOST_FIGURES]]
        if len(shown) > _MOST_FIGURES:
            parts.append(f"and {len(shown) - _MOST_FIGURES} more")
        return "  ".join(parts)

    def keep_line(self) -> None:
        """Keep the line as it is, once, and go on below it."""
        told = self._told()
        say = status_line.leave if told == self._kept else status_line.end
        say(self.line())
        self._kept = told

    def finish(self) -> None:
        """End the loop: the last line stays; a second call does nothing."""
        if self not in _running:
            return
        self.keep_line()
        _running.remove(self)
        monit.section_sink.remove(self.take_section)
        tracker.tracker.show_on(None)
        tracker.tracker.loop_step = _no_loop
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _begin(self) -> None:
        _running.append(self)
        self._clock = LoopClock(self.total, time.monotonic())
        monit.section_sink.append(self.take_section)
        tracker.tracker.show_on(self)
        tracker.tracker.loop_step = lambda: self.counter
        if self._waits and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_interrupt)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        status_line.leave(self.line())
        status_line.console.warn("stopping after this iteration; once more to stop at once")

    def _refresh(
        self, step: int | None = None, figures: list[tuple[str, float]] | None = None
    ) -> None:
        now = time.time()
        if now < self.due or self._kept == (told := self._told(step, figures)):
            return
        if status_line.console.live:
            self.due = now + _REFRESH_S
            status_line.show(self.line(step, figures))
            return
        if self.due:
            status_line.end(self.line(step, figures))
            self._kept = told
        self.due = now + _PLAIN_LINES_S


def loop(items: Iterable[Any] | int) -> Loop:
    """A loop over `items`, or 0 .. n-1. The tracker's step is start step + iterations ended."""
    return Loop(items)


def finish_loop() -> None:
    """End the running loop's line early; nothing without one."""
    for running in _running:
        running.finish()


def new_line() -> None:
    """Keep the line as it is, and go on below it."""
    for running in _running:
        running.keep_line()


def _no_loop() -> int | None:
    return None


class _CallableModule(ModuleType):
    """Lets `from discern.lab import loop` be called as it is."""

    def __call__(self, items: Iterable[Any] | int) -> Loop:
        return loop(items)


sys.modules[__name__].__class__ = _CallableModule
