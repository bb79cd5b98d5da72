"""The sizes of all images as an inline SVG: width across, height up, both in doublings.

Owns the chart's geometry; colors are the page's.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT = 560, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 40
# Dots of one place are joined, at this many places across: a million images stay a small picture.
_PLACES: Final = 112
_MOST_TICKS: Final = 9
_SMALLEST_DOT, _LARGEST_DOT = 2.2, 7.0


def sizes_svg(sizes: NDArray[np.int32]) -> str:
    """The chart of `sizes` [N, 2] (height, width; 0 is left out); "" if there is none to show."""
    known = sizes[sizes[:, 0] > 0].astype(np.float64)
    if not len(known):
        return ""
    doublings = np.log2(known)
    low = math.floor(doublings.min() - 0.2)
    high = max(math.ceil(doublings.max() + 0.2), low + 1)
    steps = (_PLACES - 1) / (high - low)
    places, counts = np.unique(
        np.rint((doublings - low) * steps).astype(np.int64), axis=0, return_counts=True
    )
    spoken = f"Widths and heights of {len(known):,} images"
    opening = f"<svg class='scatter' viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'"
    parts = [f"{opening} aria-label='{spoken}'>", *_axes(low, high)]
    scale = (_LARGEST_DOT - _SMALLEST_DOT) / max(math.sqrt(float(counts.max())) - 1, 1.0)
    for (tall, wide), count in zip(places.tolist(), counts.tolist(), strict=True):
        radius = _SMALLEST_DOT + scale * (math.sqrt(count) - 1)
        height, width = (round(2 ** (low + place / steps)) for place in (tall, wide))
        images = "1 image" if count == 1 else f"{count:,} images"
        x, y = _across(low + wide / steps, low, high), _up(low + tall / steps, low, high)
        parts.append(
            f"<circle class='p' fill-opacity='.55' cx='{x:.1f}' cy='{y:.1f}' r='{radius:.1f}'>"
            f"<title>{images} of about {width} x {height}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


def _across(value: float, low: int, high: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low)


def _up(value: float, low: int, high: int) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)


def _axes(low: int, high: int) -> list[str]:
    """Grid, numbers, and the diagonal of square images."""
    stride = -(-(high - low) // _MOST_TICKS)
    bottom, left = _HEIGHT - _BOTTOM, _LEFT
    parts = [f"<line class='ideal' x1='{left}' y1='{bottom}' x2='{_WIDTH - _RIGHT}' y2='{_TOP}'/>"]
    for value in range(low, high + 1, stride):
        x, y = _across(value, low, high), _up(value, low, high)
        number = f"{2**value:,}"
        parts.append(
            f"<line class='grid' x1='{x:.1f}' y1='{_TOP}' x2='{x:.1f}' y2='{bottom}'/>"
            f"<line class='grid' x1='{left}' y1='{y:.1f}' x2='{_WIDTH - _RIGHT}' y2='{y:.1f}'/>"
            f"<text class='n' x='{x:.1f}' y='{bottom + 16}' text-anchor='middle'>{number}</text>"
            f"<text class='n' x='{left - 7}' y='{y:.1f}' dy='.35em' text-anchor='end'>{number}"
            "</text>"
        )
    parts.append(
        f"<text class='n' x='{(_WIDTH + left) / 2:.0f}' y='{_HEIGHT - 6}' text-anchor='middle'>"
        f"width</text><text class='n' transform='translate(10 {bottom / 2:.0f}) rotate(-90)' "
        "text-anchor='middle'>height</text>"
    )
    return parts
