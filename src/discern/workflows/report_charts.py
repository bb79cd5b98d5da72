"""The report page's charts as inline SVG. Owns their geometry; colors are the style sheet's.

Axes: K classes; matrices are int64 [K, K], row = true class, column = predicted class.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from discern.training.scores import Calibration

Points = tuple[NDArray[np.int64], NDArray[np.float64]]
# Strengths of a cell's color. Between 0.55 and 0.86 neither dark nor light figures have a contrast
# of 4.5 on it, so no cell is painted there (computed for both color schemes).
_STRENGTHS = (0.1, 0.25, 0.4, 0.55, 0.86, 1.0)
_LIGHT_FIGURES_FROM = 0.86
_POINTS = 400
# A matrix shrinks to this share of its size on a narrow screen, then scrolls: 12 pixel figures
# stay at 8, and ten classes fit into 390 pixels.
_LEAST_SCALE = 0.68
_NAME = 18
_WIDTH, _HEIGHT = 300, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 8, 22


def confusion_svg(matrix: NDArray[np.int64], classes: tuple[str, ...]) -> str:
    """The matrix with counts (up to 25 classes) and a spoken sentence for each cell.

    The diagonal is colored by the share of its class; mistakes, in another color, by their share
    against the largest one, so that rare mistakes stay visible.
    """
    count = len(classes)
    cell = 42 if count <= 12 else 28 if count <= 25 else 15 if count <= 50 else 10
    font = 12 if count <= 25 else 10 if count <= 50 else 8
    names = [_short(name, _NAME) for name in classes]
    widest = round(max(len(name) for name in names) * font * 0.62)
    margin = widest + 14
    side = margin + count * cell + 2
    opening = (
        f"<svg class='matrix' viewBox='0 0 {side} {side}' "
        f"style='width:100%;max-width:{side}px;min-width:{round(_LEAST_SCALE * side)}px' "
        f"font-size='{font}' role='img' aria-label='Confusion matrix: rows are the true class, "
        "columns the predicted one'>"
    )
    parts = [opening]
    turn = "' text-anchor='middle'" if widest < cell else " rotate(-90)' dy='.35em'"
    for place, name in enumerate(names):
        middle = margin + (place + 0.5) * cell
        text = html.escape(name)
        parts.append(
            f"<text class='n' x='{margin - 8}' y='{middle:.1f}' dy='.35em' text-anchor='end'>"
            f"{text}</text><text class='n' transform='translate({middle:.1f} {margin - 8})"
            f"{turn}>{text}</text>"
        )
    parts.append(
        f"<rect class='frame' x='{margin}' y='{margin}' width='{count * cell}' "
        f"height='{count * cell}'/>"
    )
    parts += _cells(matrix, classes, margin=margin, cell=cell)
    return "".join([*parts, "</svg>"])


def _cells(
    matrix: NDArray[np.int64], classes: tuple[str, ...], *, margin: int, cell: int
) -> list[str]:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    mistakes = shares * (1 - np.eye(len(classes)))
    largest = float(mistakes.max()) or 1.0
    parts = []
    for row, column in zip(*np.nonzero(matrix), strict=True):
        right = row == column
        share = float(shares[row, column])
        strength = _strength(share if right else share / largest)
        x, y, number = margin + column * cell, margin + row * cell, int(matrix[row, column])
        verb = "named right" if right else f"taken for {classes[column]}"
        title = html.escape(f"{classes[row]} {verb}: {number} ({100 * share:.1f}%)")
        parts.append(
            f"<rect class='{'c' if right else 'e'}' x='{x + 1}' y='{y + 1}' width='{cell - 2}' "
            f"height='{cell - 2}' rx='{3 if cell > 20 else 1}' fill-opacity='{strength}'>"
            f"<title>{title}</title></rect>"
        )
        if cell > 20:
            tone = "l" if strength >= _LIGHT_FIGURES_FROM else "d"
            parts.append(
                f"<text class='{tone}' x='{x + cell / 2:g}' y='{y + cell / 2:g}' dy='.35em' "
                f"text-anchor='middle'>{number}</text>"
            )
    return parts


def _strength(share: float) -> float:
    return _STRENGTHS[min(len(_STRENGTHS) - 1, int(share * len(_STRENGTHS)))]


def curves_html(curves: Mapping[str, Points], *, title: str, names: Mapping[str, str]) -> str:
    """One panel: the curves `names` (series name to legend) that have finite points, or ''."""
    drawn = {}
    for series, legend in names.items():
        if series in curves:
            steps, values = curves[series]
            finite = np.isfinite(values)
            if finite.any():
                drawn[legend] = _thinned(steps[finite].astype(np.float64), values[finite])
    if not drawn:
        return ""
    left, right = _range([steps for steps, _ in drawn.values()])
    low, high = _range([values for _, values in drawn.values()])
    parts = [_axes(left, right, low, high)]
    legends = []
    for legend, (places, heights) in drawn.items():
        xs = _LEFT + (places - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)
        ys = _HEIGHT - _BOTTOM - (heights - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
        parts.append(f"<polyline class='line {legend}' points='{path}'/>")
        if len(xs) <= 40:
            parts += [
                f"<circle class='dot {legend}' cx='{x:.1f}' cy='{y:.1f}' r='2'/>"
                for x, y in zip(xs, ys, strict=True)
            ]
        legends.append(f"<span class='key {legend}'>{legend} {_number(heights[-1])}</span>")
    heading = f"<figcaption><b>{html.escape(title)}</b>{''.join(legends)}</figcaption>"
    return (
        f"<figure class='chart'>{heading}<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' font-size='10' "
        f"role='img' aria-label='{html.escape(title)} by step'>{''.join(parts)}</svg></figure>"
    )


def _axes(left: float, right: float, low: float, high: float) -> str:
    parts = []
    for value in _ticks(low, high, 4):
        y = _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        parts.append(
            f"<line class='grid' x1='{_LEFT}' x2='{_WIDTH - _RIGHT}' y1='{y:.1f}' y2='{y:.1f}'/>"
            f"<text class='n' x='{_LEFT - 6}' y='{y:.1f}' dy='.35em' text-anchor='end'>"
            f"{_number(value)}</text>"
        )
    for value in _ticks(left, right, 4):
        x = _LEFT + (value - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT)
        parts.append(
            f"<text class='n' x='{x:.1f}' y='{_HEIGHT - 6}' text-anchor='middle'>"
            f"{_number(value)}</text>"
        )
    return "".join(parts)


def calibration_svg(found: Calibration) -> str:
    """Bars: how often images of a stated probability are named right; the line: a perfect match."""
    bins, size = len(found.count), 150
    width = size / bins
    opening = (
        f"<svg class='calibration' width='{size + 46}' height='{size + 30}' "
        f"viewBox='0 0 {size + 46} {size + 30}' font-size='10' role='img' "
        "aria-label='Share named right by stated probability'>"
    )
    parts = [opening]
    for place in range(bins):
        if not found.count[place]:
            continue
        share = float(found.accuracy[place])
        text = (
            f"stated {100 * float(found.confidence[place]):.0f}%, "
            f"right {100 * share:.0f}% of {int(found.count[place])}"
        )
        parts.append(
            f"<rect class='c' fill-opacity='.55' x='{34 + place * width:.1f}' "
            f"y='{8 + size * (1 - share):.1f}' width='{width - 1.5:.1f}' "
            f"height='{max(size * share, 1):.1f}' rx='1'><title>{text}</title></rect>"
        )
    for value in (0, 50, 100):
        offset = size * value / 100
        parts.append(
            f"<text class='n' x='28' y='{8 + size - offset:g}' dy='.35em' text-anchor='end'>"
            f"{value}%</text><text class='n' x='{34 + offset:g}' y='{size + 22}' "
            f"text-anchor='middle'>{value}%</text>"
        )
    parts.append(f"<line class='ideal' x1='34' y1='{8 + size}' x2='{34 + size}' y2='8'/></svg>")
    return "".join(parts)


def _thinned(
    steps: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most 400 points: means of runs of neighbors; the last point stays as it is."""
    if len(steps) <= _POINTS:
        return steps, values
    edges = np.linspace(0, len(steps) - 1, _POINTS).astype(np.int64)[:-1]
    sizes = np.diff(np.append(edges, len(steps) - 1))
    return (
        np.append(np.add.reduceat(steps[:-1], edges) / sizes, steps[-1]),
        np.append(np.add.reduceat(values[:-1], edges) / sizes, values[-1]),
    )


def _range(groups: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    low, high = (float(f([f(group) for group in groups])) for f in (np.min, np.max))
    if high > low:
        return low, high
    pad = abs(low) * 0.5 or 1.0
    return low - pad, high + pad


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round values inside low..high, at most about `count`."""
    rough = (high - low) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = int(np.ceil(low / step - 1e-9))
    last = int(np.floor(high / step + 1e-9))
    return [float(number * step) for number in range(first, last + 1)]


def _number(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 10_000:
        return f"{value / 1e3:.4g}k"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _short(name: str, limit: int) -> str:
    """Both ends of a long name: names of one data set often differ in the last letters only."""
    if len(name) <= limit:
        return name
    tail = limit // 2 - 1
    return name[: limit - tail - 1] + "\N{HORIZONTAL ELLIPSIS}" + name[-tail:]
