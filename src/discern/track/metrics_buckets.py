"""A long series as the smallest and largest value of each of some hundred stretches of steps.

A drawn curve has about a thousand columns: what it shows of ten million points is these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.track.metrics_read import Series, read_series

BUCKETS: Final = 1000


@dataclass(frozen=True, slots=True)
class SeriesBuckets:
    """One entry for each stretch that has points, in the order of steps; arrays of one length.

    `first_steps`, `last_steps` int64; `lowest`, `highest` float64 over the values that are numbers
    (infinities count), not-a-number where none is; `counts` int64; `not_finite` int64, how many
    values were not finite.
    """

    first_steps: NDArray[np.int64]
    last_steps: NDArray[np.int64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    counts: NDArray[np.int64]
    not_finite: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)


def bucket_series(series: Series, most: int = BUCKETS) -> SeriesBuckets:
    """At most `most` stretches of equal width in steps, from the first step to the last.

    Points may be in any order of steps. Raises ValueError for fewer than one stretch.
    """
    if most < 1:
        raise ValueError(f"{most} buckets")
    steps, values = series.steps, series.values
    if not len(steps):
        none, empty = np.empty(0, np.int64), np.empty(0)
        return SeriesBuckets(none, none, empty, empty, none, none)
    if (steps[1:] < steps[:-1]).any():
        order = np.argsort(steps, kind="stable")
        steps, values = steps[order], values[order]
    low, high = int(steps[0]), int(steps[-1])
    # In whole numbers: floats would put steps beyond 2**53 into wrong stretches. Each edge is the
    # first step of a stretch.
    spread = high - low + 1
    if spread < (1 << 62) // most:
        edges = low + (spread * np.arange(1, most, dtype=np.int64) + most - 1) // most
    else:
        exact = [low + (spread * place + most - 1) // most for place in range(1, most)]
        edges = np.array(exact, np.int64)
    cuts = np.searchsorted(steps, edges, "left")
    cuts = cuts[cuts < len(steps)]
    starts = np.concatenate([[0], cuts[np.diff(cuts, prepend=0) > 0]])
    ends = np.append(starts[1:], len(steps))
    with np.errstate(invalid="ignore"):
        lowest, highest = np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)
    finite = np.isfinite(values)
    if finite.all():
        odd = np.zeros(len(starts), np.int64)
    else:
        odd = np.add.reduceat((~finite).astype(np.int64), starts)
    return SeriesBuckets(steps[starts], steps[ends - 1], lowest, highest, ends - starts, odd)


def read_buckets(folder: Path, name: str, most: int = BUCKETS) -> SeriesBuckets:
    """`bucket_series` of the series `name` of the run in `folder`. Raises RunError."""
    return bucket_series(read_series(folder, name), most)
