"""Where printed figures stand: one axis a series, so that steps and epochs never mix.

The log's steps are whole numbers. A series keeps the axis of its first figure; a figure of the
same name on another axis begins the series `NAME (AXIS)`. Figures without a place are counted.
"""

from __future__ import annotations

from typing import Final, NamedTuple

COUNT: Final = "count"
# A program that prints names without end (addresses, file names) must not fill the log.
MOST_SERIES: Final = 1000


class PrintedPoint(NamedTuple):
    """One printed figure and its place in its series."""

    name: str
    step: int
    value: float


class SeriesAxes:
    """The axes of all series that one program prints. `left_out`: figures beyond the limit."""

    def __init__(self) -> None:
        self.axes: dict[str, str] = {}
        self.left_out = 0
        self._last: dict[str, tuple[int, float]] = {}

    def place(self, name: str, axis: str, step: int, value: float) -> PrintedPoint | None:
        """The figure on its series' axis; None for one told twice, or of a series too many.

        `step` is not used on the axis `count`: each figure has the next number there, from 0.
        """
        if self.axes.get(name, axis) != axis:
            name = f"{name} ({axis})"
        if name not in self.axes:
            if len(self.axes) >= MOST_SERIES:
                self.left_out += 1
                return None
            self.axes[name] = axis
        before = self._last.get(name)
        if axis == COUNT:
            step = 0 if before is None else before[0] + 1
        elif before == (step, value):
            return None  # a progress bar that is drawn again
        self._last[name] = (step, value)
        return PrintedPoint(name, step, value)

    def last_values(self) -> dict[str, float]:
        """The latest figure of each series.

        What was only counted before the program told where it was, such as a loss before the first
        epoch, is not how that figure ended: the latest of the series told later stands there, too.
        """
        found = {name: value for name, (_, value) in self._last.items()}
        for name, axis in self.axes.items():
            before, _, end = name.rpartition(f" ({axis})")
            if before and not end and self.axes.get(before) == COUNT:
                found[before] = found[name]
        return found
