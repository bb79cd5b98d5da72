"""The kinds of indicators: what each keeps between two saves, and what a save writes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from discern.base.errors import RunError
from discern.track.artifact_image import check_image
from discern.track.logged_values import as_array, flat_numbers, mean_of

SCALAR: Final = "scalar"
HISTOGRAM: Final = "histogram"
QUEUE: Final = "queue"
INDEXED_SCALAR: Final = "indexed_scalar"
IMAGE: Final = "image"
TEXT: Final = "text"
INDEXED_TEXT: Final = "indexed_text"
TENSOR: Final = "tensor"
QUEUE_SIZE: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class IndicatorKind:
    """How a name or pattern was declared.

    `is_print`: shown on the terminal; `queue_size`: the window of a queue; `density`: the share of
    saves at which an artifact is kept, 0 to 1; `is_once`: an artifact is kept the first time only.
    """

    type: str = SCALAR
    is_print: bool = False
    queue_size: int = QUEUE_SIZE
    density: float = 1.0
    is_once: bool = False


class Outlet(Protocol):
    """Where indicators write to. `series` gives a function (step, value, time) of one series."""

    def series(self, name: str) -> Callable[[int, float, float], None]:
        """The way of one series of numbers, found once."""

    def distribution(self, name: str, step: int, time: float, values: Any) -> None:
        """A flat float64 array."""

    def indexed(self, name: str, step: int, time: float, indices: Any, values: Any) -> None:
        """Flat arrays of one length: int64 sample ids and float64."""

    def artifact(self, kind: str, name: str, step: int, time: float, content: Any) -> None:
        """An image's array, a text, or a tensor's array."""


class Indicator:
    """One name's figures. `take` gives True for the first since the last save.

    `shown`: the figure for the terminal, as last saved; None where there is none.
    """

    __slots__ = ("kind", "name", "outlet", "shown")

    def __init__(self, name: str, kind: IndicatorKind, outlet: Outlet) -> None:
        self.name = name
        self.kind = kind
        self.outlet = outlet
        self.shown: float | None = None

    def take(self, value: Any) -> bool:
        """Keep `value` until the next save."""
        raise NotImplementedError

    def write(self, step: int, time: float) -> None:
        """Write what was taken since the last save, and forget it."""
        raise NotImplementedError

    def write_one(self, value: float, step: int, time: float) -> None:
        """`take` and `write` of the only number since the last save."""
        self.take(value)
        self.write(step, time)


class ScalarIndicator(Indicator):
    """The mean of all values since the last save, under the plain name."""

    __slots__ = ("_add", "_count", "_total")

    def __init__(self, name: str, kind: IndicatorKind, outlet: Outlet) -> None:
        super().__init__(name, kind, outlet)
        self._add = outlet.series(name)
        self._total = 0.0
        self._count = 0

    def take(self, value: Any) -> bool:
        """Add a number, or all numbers of an array; an empty one is nothing new."""
        before = self._count
        if type(value) is float:
            self._total = value if not before else self._total + value
            self._count = before + 1
            return not before
        numbers = flat_numbers(self.name, value)
        if not len(numbers):
            return False
        total = float(numbers.sum())
        self._total = total if not before else self._total + total
        self._count = before + len(numbers)
        return not before

    def write(self, step: int, time: float) -> None:
        """One point of the series."""
        count = self._count
        self.shown = mean = self._total if count == 1 else self._total / count
        self._count = 0
        self._add(step, mean, time)

    def write_one(self, value: float, step: int, time: float) -> None:
        """The number itself is the mean."""
        self.shown = value
        self._add(step, value, time)


class HistogramIndicator(Indicator):
    """All values since the last save: their mean under NAME.mean, and the distribution."""

    __slots__ = ("_add", "_parts")

    def __init__(self, name: str, kind: IndicatorKind, outlet: Outlet) -> None:
        super().__init__(name, kind, outlet)
        self._add = outlet.series(f"{name}.mean")
        self._parts: list[Any] = []

    def take(self, value: Any) -> bool:
        """Keep a number, or all numbers of an array."""
        numbers = flat_numbers(self.name, value)
        if not len(numbers):
            return False
        self._parts.append(numbers)
        return len(self._parts) == 1

    def write(self, step: int, time: float) -> None:
        """The mean as a point, and the distribution."""
        values = np.concatenate(self._parts)
        self._parts.clear()
        self.shown = mean_of(values)
        self._add(step, self.shown, time)
        self.outlet.distribution(self.name, step, time, values)


class QueueIndicator(Indicator):
    """A window over the newest values, kept across saves; its mean under NAME.mean."""

    __slots__ = ("_add", "_is_new", "_window")

    def __init__(self, name: str, kind: IndicatorKind, outlet: Outlet) -> None:
        super().__init__(name, kind, outlet)
        self._add = outlet.series(f"{name}.mean")
        self._window: deque[float] = deque(maxlen=kind.queue_size)
        self._is_new = False

    def take(self, value: Any) -> bool:
        """Push a number, or all numbers of an array in order; the oldest fall out."""
        if type(value) is float:
            self._window.append(value)
        else:
            numbers = flat_numbers(self.name, value)
            if not len(numbers):
                return False
            self._window.extend(numbers.tolist())
        first, self._is_new = not self._is_new, True
        return first

    def write(self, step: int, time: float) -> None:
        """The mean of the window; called only if something new was added."""
        self._is_new = False
        self.shown = mean_of(np.array(self._window))
        self._add(step, self.shown, time)


class IndexedScalarIndicator(Indicator):
    """Values with sample ids: the mean of each id since the last save, and the mean of all.

    A value is a pair (ids, values): two numbers, or two arrays of one length.
    """

    __slots__ = ("_add", "_ids", "_values")

    def __init__(self, name: str, kind: IndicatorKind, outlet: Outlet) -> None:
        super().__init__(name, kind, outlet)
        self._add = outlet.series(f"{name}.mean")
        self._ids: list[Any] = []
        self._values: list[Any] = []

    def take(self, value: Any) -> bool:
        """Keep the pair. Raises RunError if it is none, or of two lengths."""
        if not isinstance(value, tuple) or len(value) != 2:
            raise RunError(
                f"'{self.name}' takes pairs (sample ids, values)",
                got=type(value).__name__,
                expected="a tuple of two numbers, or of two arrays of one length",
            )
        ids, values = (flat_numbers(self.name, part) for part in value)
        if len(ids) != len(values):
            raise RunError(
                f"'{self.name}' got ids and values of different lengths",
                got=f"{len(ids)} ids, {len(values)} values",
            )
        if not (np.isfinite(ids) & (ids == np.floor(ids))).all():
            raise RunError(f"'{self.name}' takes whole numbers as sample ids", got=str(ids[:5]))
        if not len(ids):
            return False
        self._ids.append(ids.astype(np.int64))
        self._values.append(values)
        return len(self._ids) == 1

    def write(self, step: int, time: float) -> None:
        """One value an id, in the order of ids, and the mean of all values."""
        ids, values = np.concatenate(self._ids), np.concatenate(self._values)
        self._ids.clear()
        self._values.clear()
        self.shown = mean_of(values)
        self._add(step, self.shown, time)
        different, places = np.unique(ids, return_inverse=True)
        totals = np.bincount(places, weights=values)
        self.outlet.indexed(self.name, step, time, different, totals / np.bincount(places))


class ArtifactIndicator(Indicator):
    """Images, texts and tensors: the newest content at each save, as a file of its own."""

    __slots__ = ("_content", "_due", "_written")

    def __init__(self, name: str, kind: IndicatorKind, outlet: Outlet) -> None:
        super().__init__(name, kind, outlet)
        self._content: list[Any] = []
        # With density 0.25 each save adds a quarter; at one or more, the content is kept.
        self._due = 1.0
        self._written = False

    def take(self, value: Any) -> bool:
        """Keep what is to be written at the next save."""
        kind = self.kind.type
        if kind in (TEXT, INDEXED_TEXT):
            self._content.append(_text_of(self.name, value, indexed=kind == INDEXED_TEXT))
        else:
            array = as_array(value)
            if kind == IMAGE:  # a save writes other figures, too: none may fail for a picture
                check_image(self.name, array)
            self._content.append(array)
        return len(self._content) == 1

    def write(self, step: int, time: float) -> None:
        """One artifact of what was added: texts one below another; else the newest."""
        contents, self._content = self._content, []
        if self.kind.is_once and self._written:
            return
        if self._due < 1.0 - 1e-9:  # a tenth ten times is a little less than one
            self._due += self.kind.density
            return
        self._due += self.kind.density - 1.0
        self._written = True
        text = self.kind.type in (TEXT, INDEXED_TEXT)
        content = "\n".join(contents) if text else contents[-1]
        self.outlet.artifact(self.kind.type, self.name, step, time, content)


_CLASSES: Final[dict[str, type[Indicator]]] = {
    SCALAR: ScalarIndicator,
    HISTOGRAM: HistogramIndicator,
    QUEUE: QueueIndicator,
    INDEXED_SCALAR: IndexedScalarIndicator,
    IMAGE: ArtifactIndicator,
    TEXT: ArtifactIndicator,
    INDEXED_TEXT: ArtifactIndicator,
    TENSOR: ArtifactIndicator,
}


def make_indicator(name: str, kind: IndicatorKind, outlet: Outlet) -> Indicator:
    """The indicator `name` of the kind declared for it."""
    return _CLASSES[kind.type](name, kind, outlet)


def _text_of(name: str, value: Any, *, indexed: bool) -> str:
    """Text as it is; with sample ids: one line `id<TAB>text` each."""
    if not indexed:
        return value if isinstance(value, str) else str(value)
    if not isinstance(value, tuple) or len(value) != 2:
        raise RunError(
            f"'{name}' takes pairs (sample ids, texts)",
            got=type(value).__name__,
            expected="a tuple of an id and a text, or of two lists of one length",
        )
    ids, texts = value
    if isinstance(texts, str):
        ids, texts = [ids], [texts]
    numbers = flat_numbers(name, ids).astype(np.int64).tolist()
    if len(numbers) != len(texts):
        raise RunError(
            f"'{name}' got ids and texts of different lengths",
            got=f"{len(numbers)} ids, {len(texts)} texts",
        )
    return "\n".join(f"{number}\t{text}" for number, text in zip(numbers, texts, strict=True))
