"""What a tracker hands to writers: one record for each thing that a save writes.

`time` is in seconds since 1970 UTC everywhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Point(NamedTuple):
    """One number of the series `name`."""

    name: str
    step: int
    time: float
    value: float


class Distribution(NamedTuple):
    """All values since the last save, flat."""

    name: str
    step: int
    time: float
    values: NDArray[np.floating[Any]]


class SampleValues(NamedTuple):
    """One number a sample: `indices` (sample ids) and `values`, of one length."""

    name: str
    step: int
    time: float
    indices: NDArray[np.int64]
    values: NDArray[np.float64]


class Artifact(NamedTuple):
    """What has a file of its own, `file`, relative to the run's folder.

    `kind`: image, text, indexed_text or tensor; `content`: PNG bytes, text, or an array.
    """

    name: str
    step: int
    time: float
    kind: str
    file: str
    content: Any


Record = Point | Distribution | SampleValues | Artifact


class TrackWriter(Protocol):
    """One place that figures are written to. What it raises is told, and ends only this writer."""

    def write(self, records: list[Record]) -> None:
        """Take over records in order; calls come one at a time, at most every 0.1 s."""

    def rewind(self, step: int) -> None:
        """Training goes on from `step`: what was written of later steps does not count."""

    def flush(self) -> None:
        """Bring what was written into the files."""

    def close(self) -> None:
        """Flush and close."""
