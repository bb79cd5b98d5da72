"""The tracker: figures are added under names, and a save writes what came since the last one.

    tracker = Tracker()
    tracker.set_queue("loss.train", 20, is_print=True)
    tracker.add("loss.train", 0.25)
    tracker.save(step)

What an indicator is (scalar, queue, ...) is looked up once for each name; from then on a figure
costs an append, and a save a packed record for each name that something was added to.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from time import time as now
from typing import Any, Final, Protocol

from discern.base.errors import RunError
from discern.track.indicator_names import NamePatterns, full_name
from discern.track.indicators import Indicator, IndicatorKind, Outlet, make_indicator
from discern.track.logged_values import flat_numbers
from discern.track.tracker_outlet import Nowhere

# What is added between two saves waits unsorted up to this many figures (about 9 MB).
_MOST_PENDING: Final = 100_000
_NOT_PRINTED: Final = ("param.*", "grad.*", "module.*", "optim.*", "time.*")


class Screen(Protocol):
    """Shows figures. `due`: the time (seconds since 1970) from which it wants some again."""

    due: float

    def show(self, step: int, figures: list[tuple[str, float]]) -> None:
        """Show (name, figure) pairs, in the order first added, as of `step`."""


def default_patterns() -> NamePatterns[IndicatorKind]:
    """`*` is a printed scalar; parameters, gradients, modules, optimizers, times are not printed.

    The shorter `*` loses to each of the others, as they have more literal characters.
    """
    patterns: NamePatterns[IndicatorKind] = NamePatterns()
    patterns.declare("*", IndicatorKind(is_print=True))
    for pattern in _NOT_PRINTED:
        patterns.declare(pattern, IndicatorKind())
    return patterns


class Tracker:
    """Collects figures by name and writes them to one outlet.

    `add` may be called from any thread; a namespace and `save` are for the thread of the loop.
    """

    def __init__(self) -> None:
        self._patterns = default_patterns()
        self._outlet: Outlet = Nowhere()
        self._indicators: dict[str, Indicator] = {}
        self._namespaces: list[str] = []
        # Indicators by the name as written, for each namespace that was entered.
        self._by_namespace: dict[tuple[str, ...], dict[str, Indicator]] = {}
        self._here: dict[str, Indicator] = self._by_namespace.setdefault((), {})
        self._pending: list[tuple[Indicator, float]] = []
        self._changed: list[Indicator] = []
        self._lock = threading.RLock()
        self._screen: Screen | None = None
        self._step: int | None = None
        self.start_step = 0
        # The place in the loop that is running; None outside a loop.
        self.loop_step: Callable[[], int | None] = _no_loop

    def add(self, name: Any = None, value: Any = None, /, **named: Any) -> None:
        """`add(name, value)`, `add({name: value})` or `add(name=value)`.

        A value may be a number or anything with numbers in it: array, tensor, list; of it, all
        numbers count. Not finite numbers are kept. Raises RunError for what the kind does not take.
        """
        if type(value) is float:
            try:
                self._pending.append((self._here[name], value))
            except (KeyError, TypeError):
                self._add_any(name, value, named)
        else:
            self._add_any(name, value, named)

    def save(self, step: Any = None, values: Any = None, /, **named: Any) -> None:
        """Write the aggregate of what was added since the last save, at the global step.

        `save()`, `save(step)`, `save({name: value})`, `save(step, {name: value})`,
        `save(step, name=value)`, `save(name, value)`: sets the step, adds, then writes.
        Raises RunError for a step below 0.
        """
        if type(step) is not int or values is not None or named:
            step = self._add_given(step, values, named)
        elif step < 0:
            raise _bad_step(step)
        else:
            self._step = step
        moment = now()
        pending = self._pending
        count = len(pending)
        # The usual saves are a number each for one name or some: these need no sums.
        if count == 1 and not self._changed:
            indicator, value = pending.pop()
            indicator.write_one(value, step, moment)
        elif not self._changed and len(dict(pending[:count])) == count:
            batch = pending[:count]
            del pending[:count]
            for indicator, value in batch:
                indicator.write_one(value, step, moment)
        else:
            batch = pending[:count]
            del pending[:count]
            with self._lock:
                self._take(batch)
                changed = self._changed
                self._changed = []
                for indicator in changed:
                    indicator.write(step, moment)
        if self._screen is not None and moment >= self._screen.due:
            self._screen.show(step, self.shown())

    def declare(self, name: str, kind: IndicatorKind) -> None:
        """Say what `name`, or every name that the pattern `name` matches, is.

        What was added to them since the last save is still written as what it was.
        """
        with self._lock:
            self._fold()
            self._patterns.declare(full_name(name, self._namespaces), kind)
            # Only names whose kind this changes start anew: a queue keeps its window else.
            for known, indicator in list(self._indicators.items()):
                if self._kind_of(known) is not indicator.kind:
                    del self._indicators[known]
                    for names in self._by_namespace.values():
                        for written in [w for w, found in names.items() if found is indicator]:
                            del names[written]

    @contextlib.contextmanager
    def namespace(self, name: str) -> Iterator[None]:
        """Within the block ".loss" is NAME.loss and "loss." is loss.NAME."""
        self._namespaces.append(full_name(name, ()))
        self._here = self._by_namespace.setdefault(tuple(self._namespaces), {})
        try:
            yield
        finally:
            self._namespaces.pop()
            self._here = self._by_namespace.setdefault(tuple(self._namespaces), {})

    def set_global_step(self, step: int | None) -> None:
        """The step of the next saves; None: start step + loop counter."""
        if step is not None and step < 0:
            raise _bad_step(step)
        self._step = step

    def add_global_step(self, increment: int = 1) -> None:
        """Go on by `increment` (samples, batches: what a step is to you)."""
        self.set_global_step(self.get_global_step() + increment)

    def get_global_step(self) -> int:
        """The step set, else start step + loop counter, else the start step."""
        if self._step is not None:
            return self._step
        return self.start_step + (self.loop_step() or 0)

    def write_to(self, outlet: Outlet, start_step: int = 0) -> None:
        """From now on write to `outlet`; what was added and not saved is forgotten.

        Kinds declared stay; queues and means start anew, the global step is `start_step`.
        """
        with self._lock:
            self._outlet = outlet
            self._pending.clear()
            self._changed.clear()
            self._indicators.clear()
            for names in self._by_namespace.values():
                names.clear()
            self.start_step = start_step
            self._step = None

    def show_on(self, screen: Screen | None) -> None:
        """Show the printed figures on `screen` at saves."""
        self._screen = screen

    def shown(self) -> list[tuple[str, float]]:
        """(name, figure) of the printed indicators as last saved, in the order first added."""
        return [
            (indicator.name, indicator.shown)
            for indicator in self._indicators.values()
            if indicator.kind.is_print and indicator.shown is not None
        ]

    def reset(self) -> None:
        """As new: no outlet, no kinds but the default ones, step 0."""
        self.write_to(Nowhere())
        self._patterns = default_patterns()

    def _add_any(self, name: Any, value: Any, named: Mapping[str, Any]) -> None:
        if isinstance(name, Mapping):
            if value is not None:
                raise RunError("add takes names and values, or one mapping", got=repr(value)[:80])
            for key, entry in name.items():
                self._add_one(key, entry)
        elif name is not None:
            self._add_one(name, value)
        elif value is not None:
            raise RunError("a value needs a name", got=repr(value)[:80])
        for key, entry in named.items():
            self._add_one(key, entry)

    def _add_one(self, name: Any, value: Any) -> None:
        indicator = self._here.get(name) if isinstance(name, str) else None
        if indicator is None:
            indicator = self._find(name)
        if type(value) is float:
            self._pending.append((indicator, value))
            if len(self._pending) > _MOST_PENDING:
                with self._lock:
                    self._fold()
            return
        # Taken now: an array or tensor may be another one by the time of the save.
        with self._lock:
            self._fold()
            if indicator.take(value):
                self._changed.append(indicator)

    def _find(self, name: Any) -> Indicator:
        with self._lock:
            full = full_name(name, self._namespaces)
            indicator = self._indicators.get(full)
            if indicator is None:
                indicator = make_indicator(full, self._kind_of(full), self._outlet)
                self._indicators[full] = indicator
            self._here[name] = indicator
            return indicator

    def _kind_of(self, name: str) -> IndicatorKind:
        kind = self._patterns.find(name)
        # `*` is always declared, and matches every name.
        return IndicatorKind() if kind is None else kind

    def _fold(self) -> None:
        """Bring pending figures to their indicators; other threads may append meanwhile."""
        pending = self._pending
        count = len(pending)
        batch = pending[:count]
        del pending[:count]
        self._take(batch)

    def _take(self, batch: list[tuple[Indicator, float]]) -> None:
        for indicator, value in batch:
            if indicator.take(value):
                self._changed.append(indicator)

    def _add_given(self, step: Any, values: Any, named: Mapping[str, Any]) -> int:
        """What the call of `save` gave besides a plain step; gives the step to save at."""
        if isinstance(step, str):
            self._add_one(step, values)
            step = values = None
        elif isinstance(step, Mapping):
            if values is not None:
                raise RunError("the step comes before the values", got=repr(values)[:80])
            step, values = None, step
        if step is not None:
            self.set_global_step(_whole_step(step))
        if values is not None:
            if not isinstance(values, Mapping):
                raise RunError("save takes a mapping of names to values", got=repr(values)[:80])
            for name, value in values.items():
                self._add_one(name, value)
        for name, value in named.items():
            self._add_one(name, value)
        return self.get_global_step()


def _whole_step(step: Any) -> int:
    numbers = flat_numbers("the step", step)
    if len(numbers) != 1 or not numbers[0].is_integer():
        raise _bad_step(step)
    return step if isinstance(step, int) else int(numbers[0])


def _bad_step(step: Any) -> RunError:
    return RunError(
        "this is no step", got=repr(step), expected="a whole number of at least 0", where="save"
    )


def _no_loop() -> int | None:
    return None
