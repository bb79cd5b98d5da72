"""What an evaluation measured, and the scores computed from it. Owns every score's definition.

NumPy only, so that a saved table can be scored where there is no torch. All scores are exact: they
are sums over single images, never means of batch means, and unlabeled images never count.

Axes: N images, K classes, k best classes kept per image (at most 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError

UNLABELED = -1
KEPT_CLASSES = 5


@dataclass(frozen=True, slots=True)
class EvalTable:
    """One row per evaluated image: what it is, and what the network said.

    positions: int64 [N], places in the manifest. targets: int64 [N], -1 = unlabeled. top_classes:
    int64 [N, k], most probable first. top_probabilities: float32 [N, k]. losses: float32 [N], nats;
    NaN for unlabeled images. logits: float32 [N, K] or None. classes: the K class names. features:
    float32 [N, D], the embeddings, or None where nobody asked for them.
    Raises ValueError when shapes or class numbers do not fit together.
    """

    positions: NDArray[np.int64]
    targets: NDArray[np.int64]
    top_classes: NDArray[np.int64]
    top_probabilities: NDArray[np.float32]
    losses: NDArray[np.float32]
    logits: NDArray[np.float32] | None
    classes: tuple[str, ...]
    features: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        count, num_classes = len(self.positions), len(self.classes)
        kept = self.top_classes.shape[1] if self.top_classes.ndim == 2 else 0
        wanted: dict[str, tuple[int, ...]] = {
            "positions": (count,),
            "targets": (count,),
            "top_classes": (count, kept),
            "top_probabilities": (count, kept),
            "losses": (count,),
        }
        if self.logits is not None:
            wanted["logits"] = (count, num_classes)
        for name, shape in wanted.items():
            got = getattr(self, name).shape
            if got != shape:
                raise ValueError(f"{name} has shape {got}, expected {shape}")
        if not 1 <= kept <= min(KEPT_CLASSES, num_classes):
            raise ValueError(f"{kept} classes kept per image of {num_classes}")
        for name, lowest in (("targets", UNLABELED), ("top_classes", 0)):
            numbers = getattr(self, name)
            if count and not lowest <= numbers.min() <= numbers.max() < num_classes:
                raise ValueError(f"{name} outside {lowest}..{num_classes - 1}")

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each image: int64 [N]."""
        return self.top_classes[:, 0]

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """Which images have a label: bool [N]."""
        return np.not_equal(self.targets, UNLABELED)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which images are named right: bool [N]; False for unlabeled ones."""
        return np.equal(self.targets, self.predicted)


def table_from_logits(
    logits: NDArray[np.float32],
    targets: NDArray[np.int64],
    *,
    classes: tuple[str, ...],
    positions: NDArray[np.int64] | None = None,
    keep_logits: bool = True,
) -> EvalTable:
    """Build the table from raw network outputs.

    logits: float32 [N, K]; targets: int64 [N], -1 = unlabeled; positions default to 0..N-1. Equal
    logits rank in class order. Losses are cross entropies in nats, computed in float64.
    """
    wide = logits.astype(np.float64)
    shifted = wide - wide.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    kept = min(KEPT_CLASSES, logits.shape[1])
    order = np.argsort(-wide, axis=1, kind="stable")[:, :kept]
    known = np.clip(targets, 0, logits.shape[1] - 1)  # a wrong number is refused by EvalTable
    picked = log_probabilities[np.arange(len(targets)), known]
    return EvalTable(
        positions=np.arange(len(targets), dtype=np.int64) if positions is None else positions,
        targets=targets.astype(np.int64),
        top_classes=order.astype(np.int64),
        top_probabilities=np.exp(np.take_along_axis(log_probabilities, order, axis=1)).astype(
            np.float32
        ),
        losses=np.where(targets == UNLABELED, np.nan, -picked).astype(np.float32),
        logits=logits.astype(np.float32) if keep_logits else None,
        classes=classes,
    )


def labeled_count(table: EvalTable) -> int:
    """How many images have a label. Raises DataError when none has: nothing can be scored."""
    count = int(table.labeled.sum())
    if count == 0:
        raise DataError(
            "No labeled image to score",
            got=f"{len(table)} images, none with a label",
            expected="at least one labeled image",
            hint="give data with class folders or a label column, or use `discern predict`",
        )
    return count


def accuracy(table: EvalTable) -> float:
    """The fraction of labeled images named right."""
    return int(table.correct.sum()) / labeled_count(table)


def top_k(table: EvalTable, k: int) -> float:
    """The fraction of labeled images whose class is among the `k` most probable.

    With `k` >= K it is 1. Raises ValueError when the table keeps fewer than min(k, K) classes.
    """
    count = labeled_count(table)
    if k >= len(table.classes):
        return 1.0
    if k > table.top_classes.shape[1]:
        raise ValueError(f"the table keeps {table.top_classes.shape[1]} classes, asked for {k}")
    return int((table.top_classes[:, :k] == table.targets[:, None]).any(axis=1).sum()) / count


def mean_loss(table: EvalTable) -> float:
    """The mean cross entropy of the labeled images, in nats; summed in float64."""
    return float(table.losses[table.labeled].sum(dtype=np.float64)) / labeled_count(table)


def wilson_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a fraction: (low, high).

    Unlike the normal interval it stays inside 0..1 and is honest for small counts and for scores
    near 1. Raises ValueError unless 0 <= correct <= count, count > 0 and 0 < confidence < 1.
    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    """
    if not 0 <= correct <= count or count == 0:
        raise ValueError(f"{correct} correct of {count}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence}")
    from statistics import NormalDist  # loads fractions and decimal: 0.02 s at each start

    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = correct / count
    scale = 1 + z * z / count
    middle = (share + z * z / (2 * count)) / scale
    half = z / scale * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    low = 0.0 if correct == 0 else max(0.0, middle - half)
    high = 1.0 if correct == count else min(1.0, middle + half)
    return low, high


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores of each class, in class order; NaN where a score is undefined.

    support: int64 [K], labeled images of the class. predicted: int64 [K], labeled images called
    it. precision, recall, f1: float64 [K]. Precision is undefined for a class never predicted,
    recall for a class without images, F1 where both are empty.
    """

    classes: tuple[str, ...]
    support: NDArray[np.int64]
    predicted: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]


def per_class(table: EvalTable) -> ClassScores:
    """Precision, recall, F1 and support of each class, over labeled images."""
    num_classes, labeled = len(table.classes), table.labeled
    support = np.bincount(table.targets[labeled], minlength=num_classes)
    predicted = np.bincount(table.predicted[labeled], minlength=num_classes)
    right = np.bincount(table.targets[table.correct], minlength=num_classes)
    return ClassScores(
        classes=table.classes,
        support=support.astype(np.int64),
        predicted=predicted.astype(np.int64),
        precision=_ratio(right, predicted),
        recall=_ratio(right, support),
        f1=_ratio(2 * right, support + predicted),
    )


def confusion_matrix(table: EvalTable) -> NDArray[np.int64]:
    """Counts of labeled images, int64 [K, K]: row = true class, column = predicted class."""
    num_classes, labeled = len(table.classes), table.labeled
    cells = table.targets[labeled] * num_classes + table.predicted[labeled]
    counts = np.bincount(cells, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """`count` images of class `true` were called `predicted`: `share` of that class's images."""

    true: str
    predicted: str
    count: int
    share: float

    def record(self) -> dict[str, Any]:
        """The pair as a JSON object."""
        return {
            "true": self.true,
            "predicted": self.predicted,
            "count": self.count,
            "share": self.share,
        }


def most_confused_pairs(table: EvalTable, n: int = 5) -> tuple[ConfusedPair, ...]:
    """The `n` most frequent (true, predicted) mistakes; equal counts in class order.

    Needs no K x K matrix, so it serves any number of classes.
    """
    num_classes = len(table.classes)
    wrong = table.labeled & ~table.correct
    cells, counts = np.unique(
        table.targets[wrong] * num_classes + table.predicted[wrong], return_counts=True
    )
    support = np.bincount(table.targets[table.labeled], minlength=num_classes)
    pairs = []
    for place in np.argsort(-counts, kind="stable")[:n]:
        true, predicted = divmod(int(cells[place]), num_classes)
        count = int(counts[place])
        pairs.append(
            ConfusedPair(
                true=table.classes[true],
                predicted=table.classes[predicted],
                count=count,
                share=count / int(support[true]),
            )
        )
    return tuple(pairs)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far stated probabilities are from the share that is right, in equally wide bins.

    count: int64 [B]. confidence and accuracy: float64 [B], means of each bin, NaN when empty.
    error: the mean gap weighted by count (expected calibration error), a fraction. bias: mean
    stated probability minus accuracy over all images; above 0 the network is too sure of itself.
    """

    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    error: float
    bias: float


def calibration(table: EvalTable, bins: int = 15) -> Calibration:
    """Compare the probability of the predicted class with how often it is right.

    Source of 15 bins: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    total = labeled_count(table)
    stated = table.top_probabilities[table.labeled, 0].astype(np.float64)
    right = table.correct[table.labeled].astype(np.float64)
    places = np.clip(np.ceil(stated * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(places, minlength=bins)
    stated_sum = np.bincount(places, weights=stated, minlength=bins)
    right_sum = np.bincount(places, weights=right, minlength=bins)
    return Calibration(
        count=count.astype(np.int64),
        confidence=_ratio(stated_sum, count),
        accuracy=_ratio(right_sum, count),
        error=float(np.abs(stated_sum - right_sum).sum()) / total,
        bias=float(stated.sum() - right.sum()) / total,
    )


def score_record(table: EvalTable) -> dict[str, Any]:
    """The scores as stored and printed: all fractions, not percent.

    Keys: count, accuracy, accuracy_low, accuracy_high (Wilson, 95 %), top5, loss (nats; None when
    not finite, as JSON has no such number). Raises DataError when no image is labeled.
    """
    count = labeled_count(table)
    low, high = wilson_interval(int(table.correct.sum()), count)
    loss = mean_loss(table)
    return {
        "count": count,
        "accuracy": accuracy(table),
        "accuracy_low": low,
        "accuracy_high": high,
        "top5": top_k(table, KEPT_CLASSES),
        "loss": loss if np.isfinite(loss) else None,
    }


def _ratio(
    part: NDArray[np.integer[Any]] | NDArray[np.float64], whole: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """part / whole, NaN where whole is 0."""
    result = np.full(len(whole), np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result
