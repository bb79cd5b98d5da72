"""A series in a few numbers: how long it is, its last, lowest and highest value, its best.

Which way is better is told by the name: that of an error or a loss is low, that of a score high.
Of any other name nothing is said.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

_LESS: Final = {
    *("loss", "error", "err", "mae", "mse", "rmse", "nll", "brier", "ece", "perplexity", "ppl"),
    *("entropy", "distance", "cost"),
}
_MORE: Final = {
    *("accuracy", "acc", "acc1", "acc5", "top1", "top3", "top5", "f1", "auc", "precision"),
    *("recall", "ap", "map", "score", "kappa", "mcc", "specificity", "sensitivity", "iou", "dice"),
}


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """Steps are those of the last point and of the first that holds the lowest, highest value.

    `lowest`, `highest`: of the values that are numbers, infinities too; None where none is.
    `not_finite`: how many values are not finite.
    """

    points: int
    last_step: int
    last: float
    lowest: float | None
    lowest_step: int
    highest: float | None
    highest_step: int
    not_finite: int = 0

    def best(self, name: str) -> tuple[float, int] | None:
        """(value, step) of the best point of this series called `name`; None if nobody knows."""
        way = better_way(name)
        value = {"min": self.lowest, "max": self.highest}.get(way or "")
        if value is None:
            return None
        return value, self.lowest_step if way == "min" else self.highest_step

    def record(self) -> dict[str, Any]:
        """All fields, as `SeriesSummary(**record)` takes them."""
        return asdict(self)


def better_way(name: str) -> Literal["min", "max"] | None:
    """Which way a series of this name is better: by the last of its words that tells, if any."""
    words = re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())
    for word in reversed(words):
        # Catalyst numbers its scores: accuracy01, accuracy05.
        told = {word, word.rstrip("0123456789")}
        if told & _LESS:
            return "min"
        if told & _MORE:
            return "max"
    return None


def summarize_run(folder: Path) -> dict[str, SeriesSummary]:
    """The summary of each series of the run in `folder` that has points. Raises RunError."""
    import numpy as np

    from discern.track.metrics_read import read_all

    found = {}
    for name, series in read_all(folder).items():
        if not len(series):
            continue
        values = series.values
        numbers = np.flatnonzero(~np.isnan(values))
        low = int(numbers[np.argmin(values[numbers])]) if len(numbers) else -1
        high = int(numbers[np.argmax(values[numbers])]) if len(numbers) else -1
        found[name] = SeriesSummary(
            len(series),
            int(series.steps[-1]),
            float(values[-1]),
            float(values[low]) if low >= 0 else None,
            int(series.steps[low]),
            float(values[high]) if high >= 0 else None,
            int(series.steps[high]),
            int((~np.isfinite(values)).sum()),
        )
    return found
