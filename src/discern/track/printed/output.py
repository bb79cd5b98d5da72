"""All that one program prints, read for figures and model summaries."""

from __future__ import annotations

from typing import Any

from discern.track.printed.axes import PrintedPoint, SeriesAxes
from discern.track.printed.lines import LONGEST_TOLD, LineSplitter, plain_text
from discern.track.printed.metrics import MetricReader
from discern.track.printed.summaries import SummaryCollector


class OutputReader:
    """One stream of a program; `axes` is shared by its streams. `summary`: the latest one read."""

    def __init__(self, axes: SeriesAxes) -> None:
        self._lines = LineSplitter()
        self._metrics = MetricReader(axes)
        self._collector = SummaryCollector()
        self.summary: dict[str, Any] | None = None

    def feed(self, data: bytes) -> list[PrintedPoint]:
        """The figures on the lines that `data` completes."""
        return self._read(self._lines.feed(data))

    def end(self) -> list[PrintedPoint]:
        """The figures on a last line without an end."""
        points = self._read(self._lines.end())
        self.summary = self._collector.end() or self.summary
        return points

    def _read(self, lines: list[bytes]) -> list[PrintedPoint]:
        points: list[PrintedPoint] = []
        for line in lines:
            # Nearly all lines that hold no figure are known by these signs, at little cost.
            told = b"=" in line or b":" in line or b"poch" in line or b"@" in line
            table = self._collector.reading or b"Layer (type" in line
            if not (told or table) or len(line) > LONGEST_TOLD:
                continue
            text = plain_text(line)
            if table or text.startswith("Model: "):
                self.summary = self._collector.read(text) or self.summary
            if told:
                points += self._metrics.read(text)
        return points
