"""One series of a metrics log that is being written: its points until they are in the file."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from discern.base.errors import RunError
from discern.track import metrics_blocks as blocks

# A series is flushed after 512 points or 1 s.
POINTS_A_FLUSH: Final = 512
_pack: Final = blocks.POINT.pack


class SeriesLog:
    """One series of an open log; `add` may be called from any thread."""

    __slots__ = ("_flush_full", "_folder", "name", "named", "number", "points")

    def __init__(
        self, folder: Path, number: int, name: str, flush_full: Callable[[SeriesLog], None]
    ) -> None:
        self._folder = folder
        self._flush_full = flush_full
        self.number = number
        self.name = name
        # True once the name is in `series.jsonl`.
        self.named = False
        self.points: list[bytes] = []

    def add(self, step: int, value: float, time: float) -> None:
        """Log `value` at `step` and `time` (seconds since 1970), as `MetricsLog.add` does."""
        try:
            if step < 0:
                raise bad_point(self._folder, self.name, step, value)
            points = self.points
            points.append(_pack(step, time, value))
        except (struct.error, TypeError, OverflowError) as error:
            raise bad_point(self._folder, self.name, step, value) from error
        if not len(points) % POINTS_A_FLUSH:
            self._flush_full(self)


class ClosedPoints(list[bytes]):
    """In place of the points of a closed log: says so to whoever adds one."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def append(self, point: bytes) -> None:  # noqa: ARG002
        raise closed_error(self._folder)


def closed_error(folder: Path) -> RunError:
    """For whoever adds to a log that is closed, or belongs to a parent process."""
    return RunError("these metrics are closed", where=folder)


def bad_point(folder: Path, name: str, step: object, value: object) -> RunError:
    """For a step or value that the file cannot hold."""
    return RunError(
        f"a point of '{name}' cannot be stored",
        where=folder,
        got=f"step {step!r}, value {value!r}",
        expected="an integer step in 0 .. 2**63 - 1 and one number",
    )
