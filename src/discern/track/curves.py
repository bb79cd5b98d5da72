"""Curves of several runs over one another: as text for a terminal, and as a PNG.

Each curve is first cut into stretches (`metrics_buckets`), so that ten million points cost what a
thousand do and no peak is lost. What is not finite is marked at the upper edge, never left out.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from discern.base.names import printable
from discern.track.metrics_buckets import BUCKETS, SeriesBuckets, bucket_series
from discern.track.metrics_read import Series

# One for each curve on a terminal; further curves begin again.
MARKS: Final = "ox+*#@%&"
_ODD: Final = "!"
_LEAST_WIDTH, _LEAST_HEIGHT = 24, 6
# Okabe and Ito's palette without yellow: told apart with the usual color blindnesses.
_COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


def draw_text(
    curves: Mapping[str, Series], *, width: int = 72, height: int = 14, title: str = ""
) -> list[str]:
    """The lines of a chart of `curves` by name, `width` characters wide: a mark for each curve.

    Where curves cover each other the later one is seen. `!` at the top: a value that is not finite.
    Empty for curves without points.
    """
    shown = {name: series for name, series in curves.items() if len(series)}
    if not shown:
        return []
    low, high = _value_range(shown.values())
    labels = [f"{value:.4g}" for value in (high, low / 2 + high / 2, low)]
    left = max(map(len, labels)) + 1
    columns, rows = max(width - left - 1, _LEAST_WIDTH), max(height, _LEAST_HEIGHT)
    first = min(int(series.steps.min()) for series in shown.values())
    last = max(int(series.steps.max()) for series in shown.values())
    grid = [[" "] * columns for _ in range(rows)]
    for number, series in enumerate(shown.values()):
        mark = MARKS[number % len(MARKS)]
        _draw_one(grid, bucket_series(series, columns), mark, (first, last), (low, high))
    at = {0: labels[0], (rows - 1) // 2: labels[1], rows - 1: labels[2]}
    lines = [title] if title else []
    lines += [
        f"{at.get(row, ''):>{left - 1}} |{''.join(grid[row])}".rstrip() for row in range(rows)
    ]
    ends = f"{first}{last:>{max(columns - len(str(first)), 1)}}"
    lines += [f"{'':>{left - 1}} +{'-' * columns}", f"{'':>{left - 1}}  {ends} steps"]
    for number, (name, series) in enumerate(shown.items()):
        odd = int((~np.isfinite(series.values)).sum())
        told = f"  ({odd} not finite)" if odd else ""
        lines.append(f"{'':>{left}} {MARKS[number % len(MARKS)]} {printable(name)}{told}")
    return lines


def draw_picture(charts: Mapping[str, Mapping[str, Series]]) -> bytes:
    """A PNG with a chart for each series name, in it a curve for each run: 120 dots an inch.

    Long curves are drawn as their lows and highs; what is not finite as a cross at the top.
    """
    from matplotlib.figure import Figure

    count = max(len(charts), 1)
    columns = 1 if count == 1 else 2
    rows = math.ceil(count / columns)
    size = (6.8 * columns, 4.0 * rows)
    figure = Figure(figsize=size, dpi=120, layout="constrained", facecolor="white")
    for place, (title, curves) in enumerate(charts.items()):
        axes: Any = figure.add_subplot(rows, columns, place + 1)
        axes.set_title(plain_text(title), fontsize=11)
        axes.set_xlabel("step")
        axes.grid(color="#e4e7eb", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        for number, (name, series) in enumerate(curves.items()):
            color, dashed = _COLORS[number % len(_COLORS)], number >= len(_COLORS)
            _plot(axes, series, plain_text(name), color, "--" if dashed else "-")
        if curves:
            axes.legend(frameon=False, fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _value_range(curves: Any) -> tuple[float, float]:
    """The finite values' range; a level line gets some room."""
    values = np.concatenate([series.values for series in curves])
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        room = abs(low) * 0.1 or 1.0
        return low - room, high + room
    return low, high


def _draw_one(
    grid: list[list[str]],
    buckets: SeriesBuckets,
    mark: str,
    steps: tuple[int, int],
    values: tuple[float, float],
) -> None:
    rows, columns = len(grid), len(grid[0])
    low, high = values

    def row_of(value: float) -> int:
        # Halves, since the range of two doubles may be none.
        share = (min(max(value, low), high) / 2 - low / 2) / (high / 2 - low / 2 or 1.0)
        return rows - 1 - round(share * (rows - 1))

    def column_of(step: int) -> int:
        return round((step - steps[0]) * (columns - 1) / max(steps[1] - steps[0], 1))

    before: tuple[int, float] | None = None
    for place in range(len(buckets)):
        middle = (int(buckets.first_steps[place]) + int(buckets.last_steps[place])) // 2
        column = column_of(middle)
        lowest, highest = float(buckets.lowest[place]), float(buckets.highest[place])
        if buckets.not_finite[place]:
            grid[0][column] = _ODD
        if math.isnan(lowest) or math.isinf(lowest) or math.isinf(highest):
            before = None
            continue
        for row in range(row_of(highest), row_of(lowest) + 1):
            if grid[row][column] != _ODD:
                grid[row][column] = mark
        level = lowest / 2 + highest / 2
        if before is not None:
            _join(grid, before, (column, level), mark, row_of)
        before = column, level


def _join(
    grid: list[list[str]],
    start: tuple[int, float],
    end: tuple[int, float],
    mark: str,
    row_of: Any,
) -> None:
    """Fill the columns between two points that lie apart."""
    gap = end[0] - start[0]
    for column in range(start[0] + 1, end[0]):
        share = (column - start[0]) / gap
        row = row_of(start[1] * (1 - share) + end[1] * share)
        if grid[row][column] == " ":
            grid[row][column] = mark


def _plot(axes: Any, series: Series, name: str, color: str, style: str) -> None:
    if len(series) > 2 * BUCKETS:
        buckets = bucket_series(series)
        steps, low, high = buckets.first_steps, _finite(buckets.lowest), _finite(buckets.highest)
        axes.fill_between(steps, low, high, color=color, alpha=0.25, linewidth=0)
        axes.plot(
            steps, low / 2 + high / 2, color=color, linestyle=style, linewidth=1.4, label=name
        )
        odd = steps[buckets.not_finite > 0]
    else:
        marker = "o" if len(series) == 1 else None
        axes.plot(
            series.steps, _finite(series.values), color=color, linestyle=style, linewidth=1.4,
            label=name, marker=marker,
        )  # fmt: skip
        odd = series.steps[~np.isfinite(series.values)]
    if len(odd):
        axes.plot(
            odd, np.full(len(odd), 0.98), "x", color=color, transform=axes.get_xaxis_transform()
        )


def _finite(values: Any) -> Any:
    return np.where(np.isfinite(values), values, np.nan)


def plain_text(text: str) -> str:
    """`text` as matplotlib shows it unchanged: dollars begin formulas, `_` hides a label."""
    plain = printable(text).replace("$", r"\$")
    return f"\u200b{plain}" if plain.startswith("_") else plain


def common_names(listed: Sequence[Sequence[str]]) -> list[str]:
    """The series that most runs have, first those of all; each name once."""
    counts: dict[str, int] = {}
    for names in listed:
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: -counts[name])
