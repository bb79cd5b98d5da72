"""All that one program prints, read for figures and model summaries."""

from __future__ import annotations

from typing import Any, Final

from discern.track.printed.axes import PrintedPoint, SeriesAxes
from discern.track.printed.lines import LONGEST_TOLD, LineSplitter, is_printed, plain_text
from discern.track.printed.metrics import MetricReader
from discern.track.printed.summaries import SummaryCollector

_TABLE: Final = b"Layer (type"


class OutputReader:
    """One stream of a program; `axes` is shared by its streams. `summary`: the latest one read."""

    def __init__(self, axes: SeriesAxes) -> None:
        self._lines = LineSplitter()
        self._metrics = MetricReader(axes)
        self._collector = SummaryCollector()
        self.summary: dict[str, Any] | None = None

    def feed(self, data: bytes) -> list[PrintedPoint]:
        """The figures on the lines that `data` completes."""
        held = self._lines.rest + data
        if not (self._collector.reading or _may_tell(held) or _TABLE in held):
            self._lines.pass_over(data)
            return []
        return self._read(self._lines.feed(data))

    def end(self) -> list[PrintedPoint]:
        """The figures on a last line without an end."""
        points = self._read(self._lines.end())
        self.summary = self._collector.end() or self.summary
        return points

    def _read(self, lines: list[bytes]) -> list[PrintedPoint]:
        points: list[PrintedPoint] = []
        for line in lines:
            told = _may_tell(line)
            table = self._collector.reading or _TABLE in line
            if not (told or table) or len(line) > LONGEST_TOLD or not is_printed(line):
                continue
            text = plain_text(line)
            if table or text.startswith("Model: "):
                self.summary = self._collector.read(text) or self.summary
            if told:
                points += self._metrics.read(text)
        return points


def _may_tell(data: bytes) -> bool:
    """Nearly all lines that hold no figure are known by these signs, at little cost."""
    return b"=" in data or b":" in data or b"poch" in data or b"@" in data
