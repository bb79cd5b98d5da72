"""A distribution in few numbers: counts in buckets of one width."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

# As many as TensorBoard draws of a histogram at most.
_BUCKETS: Final = 30


class Buckets(NamedTuple):
    """`counts` of the `finite` values between neighboring `edges` (one more); sums over these."""

    finite: int
    not_finite: int
    min: float
    max: float
    mean: float
    sum: float
    sum_squares: float
    edges: list[float]
    counts: list[int]


def bucket_values(values: NDArray[np.floating[Any]]) -> Buckets:
    """The buckets of `values`, flat; those that are not finite are only counted."""
    finite = values[np.isfinite(values)].astype(np.float64, copy=False)
    lost = len(values) - len(finite)
    if not len(finite):
        nan = float("nan")
        return Buckets(0, lost, nan, nan, nan, 0.0, 0.0, [], [])
    low, high = float(finite.min()), float(finite.max())
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
        total, squares = float(finite.sum()), float(finite @ finite)
        mean = float(finite.mean())
    if not np.isfinite(width) or np.nextafter(low, high) + width / _BUCKETS <= low or not width:
        # One bucket: all values are equal, or too near or too far apart to be told apart.
        edges: list[Any] = [low, high]
        counts = [len(finite)]
    else:
        found, limits = np.histogram(finite, _BUCKETS, (low, high))
        edges, counts = limits.tolist(), found.tolist()
    return Buckets(len(finite), lost, low, high, mean, total, squares, edges, counts)
