"""How right a classifier is where it answers only what it is surest of.

NumPy only.

Axes: N images, P points of a curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.training.scores import EvalTable, labeled_count

TOLD: Final = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
_POINTS: Final = 200


@dataclass(frozen=True, slots=True)
class CoverageCurve:
    """Accuracy of the surest share of the labeled images; each float64 [P], coverage rising to 1.

    least: the probability of the predicted class that the last of them has.
    """

    coverage: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    least: NDArray[np.float64]

    def at(self, coverage: float) -> tuple[float, float]:
        """(accuracy, least probability) at the first point of at least that coverage."""
        place = int(np.searchsorted(self.coverage, coverage - 1e-9))
        return float(self.accuracy[place]), float(self.least[place])

    def record(self) -> list[dict[str, Any]]:
        """The curve at 50, 70, 80, 90, 95 and 100 % as JSON objects."""
        rows = []
        for coverage in TOLD:
            accuracy, least = self.at(coverage)
            rows.append({"coverage": coverage, "accuracy": accuracy, "least_probability": least})
        return rows


def coverage_curve(table: EvalTable) -> CoverageCurve:
    """The curve over the labeled images, surest first; at most 200 points.

    A probability that is no number counts as the least sure. Images of equal probability are
    answered together. Raises DataError when no image is labeled.
    """
    total = labeled_count(table)
    stated = np.nan_to_num(table.top_probabilities[table.labeled, 0].astype(np.float64), nan=-1.0)
    order = np.argsort(-stated, kind="stable")
    right = table.correct[table.labeled][order].cumsum()
    stated = stated[order]
    ends = np.flatnonzero(np.append(stated[1:] != stated[:-1], True))
    if len(ends) > _POINTS:
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, _POINTS).astype(np.int64))]
    answered = ends + 1
    return CoverageCurve(answered / total, right[ends] / answered, np.maximum(stated[ends], 0.0))
