"""Metrics of several labels per image, each yes, no or missing, as plain functions.

Owns the multi-label figures. targets: float [N, K], 1 yes, 0 no, NaN missing; scores: float [N, K],
probabilities in 0..1. A missing label takes no part, and a class or figure that is undefined is
NaN; means are over the defined ones. Where nothing is missing each equals scikit-learn's. Without a
`threshold` the table's own count, 0.5 where it has none.

N images, K labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.training.metrics import (
    Average,
    Floats,
    average_precision_of,
    mean_defined,
    ranking_auc,
)

THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Targets and scores of one evaluation: float64 [N, K] each, and the K label names.

    thresholds: from which score on each label counts as there, [K]; None: from 0.5. Raises
    DataError when shapes do not fit, a target is none of 0, 1 and NaN, a score lies outside 0..1,
    or no label is known.
    """

    targets: Floats
    scores: Floats
    classes: tuple[str, ...]
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        shape = self.targets.shape
        if len(shape) != 2 or shape != self.scores.shape or shape[1] != len(self.classes):
            raise DataError(
                "targets, scores and names do not fit together",
                got=f"targets {shape}, scores {self.scores.shape}, {len(self.classes)} names",
                expected="[N, K], [N, K] and K",
            )
        known = self.targets[self.known]
        if not known.size:
            raise DataError("no known label to score", got=f"{shape[0]} images")
        if not np.isin(known, (0.0, 1.0)).all():
            raise DataError("a label is 1, 0 or missing (NaN)", got=np.unique(known)[:5].tolist())
        if not ((self.scores >= 0.0) & (self.scores <= 1.0)).all():
            raise DataError("scores are probabilities", expected="0 <= score <= 1")

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which labels are not missing: bool [N, K]."""
        return ~np.isnan(self.targets)

    def named(self, threshold: float | None = None) -> NDArray[np.bool_]:
        """Which labels count as there: bool [N, K]; None: at the table's own thresholds."""
        own = THRESHOLD if self.thresholds is None else np.array(self.thresholds)
        return np.asarray(self.scores >= (own if threshold is None else threshold))

    def counts(self, threshold: float | None = None) -> tuple[Floats, Floats, Floats]:
        """(right, actual, named) known positives of each label: float64 [K] each."""
        actual = self.known & (self.targets == 1.0)
        named = self.known & self.named(threshold)
        right = (actual & named).sum(axis=0).astype(np.float64)
        return right, actual.sum(axis=0).astype(np.float64), named.sum(axis=0).astype(np.float64)


def label_accuracy(table: LabelTable, threshold: float | None = None) -> float:
    """The fraction of known labels told right."""
    told = table.named(threshold) == (table.targets == 1.0)
    return float(told[table.known].mean())


def exact_match(table: LabelTable, threshold: float | None = None) -> float:
    """The fraction of images with a known label all of whose known labels are told right."""
    wrong = table.known & (table.named(threshold) != (table.targets == 1.0))
    rows = table.known.any(axis=1)
    return float(1.0 - wrong.any(axis=1)[rows].mean())


def label_precision(
    table: LabelTable, average: Average = "macro", threshold: float | None = None
) -> float:
    """Precision over the labels; 0 for one never named."""
    right, actual, named = table.counts(threshold)
    return _averaged(right, named, actual, average)


def label_recall(
    table: LabelTable, average: Average = "macro", threshold: float | None = None
) -> float:
    """Recall over the labels; 0 for one without a positive."""
    right, actual, _ = table.counts(threshold)
    return _averaged(right, actual, actual, average)


def label_f1(
    table: LabelTable, average: Average = "macro", threshold: float | None = None
) -> float:
    """F1 over the labels; 0 for one neither there nor named."""
    right, actual, named = table.counts(threshold)
    return _averaged(2.0 * right, actual + named, actual, average)


def _averaged(part: Floats, whole: Floats, support: Floats, average: str) -> float:
    if average == "micro":
        part, whole = part.sum(keepdims=True), whole.sum(keepdims=True)
    values = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    if average == "weighted":
        return float(np.average(values, weights=support)) if support.any() else 0.0
    return float(values.mean())


def label_auc_per_class(table: LabelTable) -> Floats:
    """Area under the ROC curve of each label, over its known images: float64 [K]."""
    return _per_label(table, ranking_auc)


def label_auc(table: LabelTable) -> float:
    """The mean of `label_auc_per_class` over the labels that have both answers."""
    return mean_defined(label_auc_per_class(table))


def label_average_precision_per_class(table: LabelTable) -> Floats:
    """Average precision of each label, over its known images: float64 [K]."""
    return _per_label(table, average_precision_of)


def label_mean_average_precision(table: LabelTable) -> float:
    """The mean of `label_average_precision_per_class` over the labels that have a positive."""
    return mean_defined(label_average_precision_per_class(table))


def label_log_loss(table: LabelTable) -> float:
    """The mean binary cross entropy of the known labels, in nats; scores count as >= 2.2e-16."""
    step = np.finfo(np.float64).eps
    known = table.known
    scores = np.clip(table.scores[known], step, 1.0 - step)
    targets = table.targets[known]
    return float(-np.where(targets == 1.0, np.log(scores), np.log1p(-scores)).mean())


def label_brier(table: LabelTable) -> float:
    """The mean squared distance of the known labels from their probabilities: 0..1."""
    known = table.known
    return float(((table.scores[known] - table.targets[known]) ** 2).mean())


def _per_label(table: LabelTable, figure: Callable[[NDArray[np.bool_], Floats], float]) -> Floats:
    known = table.known
    return np.array(
        [
            figure(table.targets[known[:, k], k] == 1.0, table.scores[known[:, k], k])
            for k in range(len(table.classes))
        ]
    )
