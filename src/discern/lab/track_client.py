"""Figures by keys, as MLSteam's track has them: `track = init()`, then `track["a/b"].log(0.5)`.

    track = init("flowers")
    track["config/rate"] = 0.1
    track["train/loss"].log(0.5)
    track["scores.chart"].log("0.5, 0.25")

A value set stands in `values` of `run.json`. What is logged is a point at the moment of the call;
its step is the last whole number logged as `epoch`, else how often the key was logged before. A key
that ends in `.chart` takes a number, several as text ("1, 2, 3": series KEY/y1, KEY/y2, ...), or a
JSON object (series KEY/NAME of each of its numbers).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from discern.base.errors import RunError
from discern.lab.logger_adapters import RunLogger

__all__ = ["Track", "TrackKey", "init"]

_CHART: Final = ".chart"
_EPOCH: Final = "epoch"


class Track:
    """A run of its own, written by keys; use it with `with`, or call `stop`."""

    def __init__(self, logger: RunLogger) -> None:
        self._logger = logger
        self._values: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._epoch: int | None = None

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._logger.run.path

    def __setitem__(self, key: str, value: Any) -> None:
        """Set a value of the run. Raises RunError for a key that is no text."""
        self._values[_checked(key)] = value
        self._logger.run.update(values=self._values)

    def __getitem__(self, key: str) -> TrackKey:
        return TrackKey(self, _checked(key))

    def get(self, key: str) -> Any:
        """The value set under `key`; None if there is none."""
        return self._values.get(key)

    def log(self, key: str, value: Any) -> None:
        """As `track[key].log(value)`."""
        figures = _chart(key, value) if key.endswith(_CHART) else {key: _number(key, value)}
        if key == _EPOCH:
            self._epoch = int(figures[key])
        count = self._counts.get(key, 0)
        self._counts[key] = count + 1
        self._logger.log(count if self._epoch is None else self._epoch, figures)

    def flush(self) -> None:
        """Bring everything into the files, and ask the writers to send."""
        self._logger.run.flush()

    def stop(self) -> None:
        """End the run as finished."""
        self._logger.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._logger.run.__exit__(kind, error, trace)


class TrackKey:
    """One key of a Track."""

    def __init__(self, track: Track, key: str) -> None:
        self._track = track
        self._key = key

    def log(self, value: Any) -> None:
        """A point of this key, now. Raises RunError for what is no number, or no chart's forms."""
        self._track.log(self._key, value)

    def assign(self, value: Any) -> None:
        """Set the value of this key."""
        self._track[self._key] = value

    def get(self) -> Any:
        """The value of this key; None if none was set."""
        return self._track.get(self._key)


def init(
    project: str = "track",
    name: str | None = None,
    root: Path | str | None = None,
    writers: Iterable[str] = ("native",),
) -> Track:
    """A new run to log to. `writers`: as those of `tracker.open_run`; an address of an HTTP server
    among them gets what is logged once a second, later where it is away.
    """
    return Track(RunLogger(project, name, root, writers))


def _chart(key: str, value: Any) -> dict[str, float]:
    """The figures of one of the three forms of a chart's value."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("{"):
            try:
                value = json.loads(text)
            except ValueError as error:
                raise _no_chart(key, value) from error
        else:
            parts = text.split(",")
            if len(parts) == 1:
                return {key: _number(key, text)}
            return {f"{key}/y{n}": _number(key, part) for n, part in enumerate(parts, start=1)}
    if isinstance(value, Mapping):
        if not value:
            raise _no_chart(key, value)
        return {f"{key}/{name}": _number(key, part) for name, part in value.items()}
    return {key: _number(key, value)}


def _number(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise _no_chart(key, value) from error


def _no_chart(key: str, value: object) -> RunError:
    return RunError(
        f"'{key}' takes numbers",
        got=repr(value)[:80],
        expected='a number; of a key that ends in .chart also "1, 2, 3" or a JSON object',
    )


def _checked(key: object) -> str:
    if not isinstance(key, str) or not key.strip("./ "):
        raise RunError("a key is a text", got=repr(key)[:80], expected="such as train/loss")
    return key
