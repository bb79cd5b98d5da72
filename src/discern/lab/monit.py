"""Sections with their time and progress: `with monit.section("Load data"): ...`.

A section prints its name, then [DONE] or [FAIL] and its milliseconds; sections within are indented
below it. In a loop they are parts of the loop's line instead.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from discern.base.errors import ConfigError
from discern.lab.status_line import status_line

__all__ = ["enum", "fail", "func", "iterate", "mix", "progress", "section"]

Item = TypeVar("Item")

_INDENT: Final = "  "
# A terminal is written anew at most this often.
_REFRESH_S: Final = 0.1

_open: Final[list[Section]] = []
# While a loop runs: takes (name, seconds) of each section in it.
section_sink: Final[list[Callable[[str, float], None]]] = []


class Section(ContextDecorator):
    """One section; use it with `with`, or as a decorator. `seconds`: of the last time."""

    def __init__(self, name: str, total_steps: float, **switches: bool) -> None:
        self.name = name
        self.total_steps = total_steps
        self.is_silent = switches["is_silent"]
        self.is_timed = switches["is_timed"]
        self.is_partial = switches["is_partial"]
        self.is_new_line = switches["is_new_line"]
        self.is_children_silent = switches["is_children_silent"]
        self.is_successful = True
        self.seconds = 0.0
        self._done = 0.0
        self._shown = 0.0
        self._started = 0.0
        self._level = 0
        self._quiet = False
        self._in_loop = False

    def __enter__(self) -> Self:
        parent = _open[-1] if _open else None
        self._in_loop = bool(section_sink)
        above = parent is not None and (parent.is_children_silent or parent.is_silent)
        self._quiet = self.is_silent or self._in_loop or above
        if above:
            self.is_children_silent = True
        self._level = len(_open)
        self.is_successful = True
        if not self.is_partial:
            self._done = 0.0
        if parent is not None and not self._quiet:
            parent.begin_line()
        _open.append(self)
        self._started = time.perf_counter()
        self._begun = False
        if not self._quiet:
            status_line.show(self._text(""))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        _open.remove(self)
        if error is not None:
            self.is_successful = False
        if self._in_loop:
            for sink in section_sink:
                sink(self.name, self.seconds)
        if self._quiet:
            return
        is_whole = not self.is_partial or self._done >= self.total_steps or error is not None
        if not is_whole or not (self.is_new_line or error is not None):
            status_line.show(self._text(self._end_text()))
        else:
            status_line.end(self._text(self._end_text()))

    def progress(self, steps: float) -> None:
        """Say how far it is, in units of `total_steps`."""
        self._done = steps
        now = time.perf_counter()
        if not self._quiet and now - self._shown >= _REFRESH_S:
            self._shown = now
            status_line.show(self._text(f"{self.percent():4.0f}%"))

    def advance(self, steps: float) -> None:
        """Go on by `steps`."""
        self.progress(self._done + steps)

    def percent(self) -> float:
        """How much is done, 0 to 100."""
        return 100.0 * self._done / self.total_steps if self.total_steps else 100.0

    def begin_line(self) -> None:
        """A section within begins: this one's name gets a line of its own."""
        if not self._begun and not self._quiet:
            self._begun = True
            status_line.end(self._text(""))

    def _text(self, end: str) -> str:
        return f"{_INDENT * self._level}{self.name}...{end}"

    def _end_text(self) -> str:
        if self.is_successful:
            mark = status_line.console.paint("[DONE]", "green")
        else:
            mark = status_line.console.paint("[FAIL]", "red")
        return f"{mark}\t{1000 * self.seconds:,.2f}ms" if self.is_timed else mark


def section(
    name: str,
    *,
    is_silent: bool = False,
    is_timed: bool = True,
    is_partial: bool = False,
    is_new_line: bool = True,
    is_children_silent: bool = False,
    total_steps: float = 1.0,
) -> Section:
    """A section called `name`, for `with` or as a decorator.

    `is_silent`: prints nothing. `is_timed`: with its milliseconds. `is_partial`: entered again and
    again, with progress that goes on, and finished at `total_steps`. `is_new_line`: its line ends
    with it. `is_children_silent`: sections within print nothing. `total_steps`: what is 100 %.
    An error within prints [FAIL] and is raised again.
    """
    return Section(
        name,
        total_steps,
        is_silent=is_silent,
        is_timed=is_timed,
        is_partial=is_partial,
        is_new_line=is_new_line,
        is_children_silent=is_children_silent,
    )


def func(name: str | Callable[..., Any], **options: Any) -> Any:
    """Make a section of each call: `@monit.func("Train")`, or `@monit.func` by its own name."""
    if callable(name):
        return func(name.__name__)(name)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            with section(name, **options):
                return function(*arguments, **named)

        return call

    return decorate


def fail() -> None:
    """The innermost section ends as [FAIL], without an error. Raises ConfigError outside one."""
    _innermost("fail").is_successful = False


def progress(steps: float) -> None:
    """How far the innermost section is, in units of its `total_steps`."""
    _innermost("progress").progress(steps)


def iterate(
    name: str, iterable: Iterable[Item] | int, total_steps: float | None = None, **options: Any
) -> Iterator[Any]:
    """The items of `iterable`, or 0 .. n-1, in a section that shows percents and time.

    `total_steps`: how many there are, where `len` does not tell.
    """
    items: Iterable[Any] = range(iterable) if isinstance(iterable, int) else iterable
    total = _length(items) if total_steps is None else total_steps
    with section(name, total_steps=1.0 if total is None else total, **options) as opened:
        for item in items:
            yield item
            if total is not None:
                opened.advance(1)


def enum(
    name: str, iterable: Iterable[Item] | int, total_steps: float | None = None, **options: Any
) -> Iterator[tuple[int, Any]]:
    """As `iterate`, with the number of each item before it."""
    return enumerate(iterate(name, iterable, total_steps, **options))


def mix(total_iterations: int, *iterables: tuple[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, item) of all `iterables`, each dealt out over `total_iterations` as evenly as can be.

    `mix(10, ("train", train_loader), ("valid", valid_loader))`: ten times a tenth of the training
    batches, then a tenth of the validation batches; each item once, in its own order. They need a
    length. Raises ConfigError without one.
    """
    if total_iterations < 1:
        raise ConfigError("mix takes at least one iteration", got=total_iterations)
    parts = []
    for name, iterable in iterables:
        length = len(range(iterable)) if isinstance(iterable, int) else _length(iterable)
        if length is None:
            raise ConfigError(
                "mix takes what has a length", where=name, got=type(iterable).__name__
            )
        items = iter(range(iterable) if isinstance(iterable, int) else iterable)
        parts.append((name, items, length))
    for turn in range(1, total_iterations + 1):
        for name, items, length in parts:
            first = length * (turn - 1) // total_iterations
            for _ in range(length * turn // total_iterations - first):
                yield name, next(items)


def _innermost(call: str) -> Section:
    if not _open:
        raise ConfigError(f"monit.{call} is for the inside of a section", where=call)
    return _open[-1]


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except TypeError:
        return None
