"""The metrics of a classification by name, as plain functions on what an evaluation saw.

Owns the figures that need more than the top classes of an `EvalTable`; `scores` owns those that
every run reports. Every figure equals scikit-learn's of the same name where there is one; where a
figure is undefined (a class without images) it is NaN, and means are over the defined ones.
Multi-label figures are in `label_metrics`, the names of all in `metric_table`.

N images, K classes. Names in code: targets int64 [N], 0..K-1; logits and scores float [N, K].
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.training.scores import (
    EvalTable,
    calibration,
    confusion_matrix,
    labeled_count,
)

Floats = NDArray[np.float64]
Average = Literal["macro", "micro", "weighted"]


def probabilities(table: EvalTable) -> Floats:
    """The softmax of each labeled image's logits: float64 [N, K].

    Raises DataError when the table keeps no logits (more than 50 million values) or no labels.
    """
    labeled_count(table)
    if table.logits is None:
        raise DataError(
            "this metric needs every class's probability, and the logits were not kept",
            got=f"{len(table)} images of {len(table.classes)} classes",
            expected="an evaluation of at most 50 million logits",
            hint="score a part of the images, or ask for accuracy, top-k and F1",
        )
    wide = table.logits[table.labeled].astype(np.float64)
    wide = np.exp(wide - wide.max(axis=1, keepdims=True))
    return np.asarray(wide / wide.sum(axis=1, keepdims=True))


def balanced_accuracy(table: EvalTable) -> float:
    """The mean recall of the classes that have images."""
    matrix = confusion_matrix(table)
    labeled_count(table)
    support = matrix.sum(axis=1)
    there = support > 0
    return float(np.mean(np.diag(matrix)[there] / support[there]))


def precision(table: EvalTable, average: Average = "macro") -> float:
    """Precision over the classes that appear as label or prediction; 0 for one never predicted."""
    return _averaged(table, average, "precision")


def recall(table: EvalTable, average: Average = "macro") -> float:
    """Recall over the classes that appear as label or prediction; 0 for one without images."""
    return _averaged(table, average, "recall")


def f1(table: EvalTable, average: Average = "macro") -> float:
    """F1 over the classes that appear as label or prediction."""
    return _averaged(table, average, "f1")


def _averaged(table: EvalTable, average: str, figure: str) -> float:
    """As scikit-learn averages: classes that appear nowhere take no part, 0 / 0 counts as 0."""
    labeled_count(table)
    matrix = confusion_matrix(table)
    right, support, named = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    present = (support + named) > 0
    right, support, named = right[present], support[present], named[present]
    if average == "micro":
        right, support, named = (
            right.sum(keepdims=True),
            support.sum(keepdims=True),
            named.sum(keepdims=True),
        )
    part, whole = {
        "precision": (right, named),
        "recall": (right, support),
        "f1": (2 * right, support + named),
    }[figure]
    values = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    if average == "weighted":
        return float(np.average(values, weights=support))
    return float(values.mean())


def jaccard(table: EvalTable) -> float:
    """The mean intersection over union of the classes that appear as label or prediction."""
    labeled_count(table)
    matrix = confusion_matrix(table)
    union = matrix.sum(axis=1) + matrix.sum(axis=0) - np.diag(matrix)
    there = union > 0
    return float((np.diag(matrix)[there] / union[there]).mean())


def top_k(table: EvalTable, k: int) -> float:
    """The fraction of labeled images whose class is among the `k` likeliest; 1 from k = K on.

    Beyond the classes that the table keeps it ranks the logits. Raises DataError without them.
    """
    if k >= len(table.classes) and labeled_count(table):
        return 1.0
    return float(_hits(table, k).any(axis=1).mean())


def map_at_k(table: EvalTable, k: int = 5) -> float:
    """Mean average precision of each image's `k` first classes: 1 / rank of the right one, or 0.

    Catalyst's map01, map03, map05. Raises DataError as `top_k` does.
    """
    hits = _hits(table, k)
    return float((hits / np.arange(1, hits.shape[1] + 1)).sum()) / len(hits)


def _hits(table: EvalTable, k: int) -> NDArray[np.bool_]:
    """Which of the `k` likeliest classes is the right one: bool [N, min(k, K)]."""
    labeled_count(table)
    wanted = min(k, len(table.classes))
    named = table.top_classes[table.labeled]
    if wanted > named.shape[1]:
        if table.logits is None:
            raise DataError(
                "the evaluation kept fewer classes per image, and no logits",
                got=f"the {named.shape[1]} likeliest",
                expected=f"{k}",
            )
        named = np.argsort(-table.logits[table.labeled], axis=1, kind="stable")
    return np.equal(named[:, :wanted], table.targets[table.labeled][:, None])


def matthews(table: EvalTable) -> float:
    """Matthews's correlation of labels and predictions, -1..1; 0 when one of them is constant.

    Source: J. Gorodkin, Comparing two K-category assignments (2004), equation 8.
    """
    labeled_count(table)
    matrix = confusion_matrix(table).astype(np.float64)
    true, named, total = matrix.sum(axis=1), matrix.sum(axis=0), matrix.sum()
    together = np.trace(matrix) * total - true @ named
    spread = (total**2 - named @ named) * (total**2 - true @ true)
    return float(together / np.sqrt(spread)) if spread > 0 else 0.0


def cohen_kappa(table: EvalTable) -> float:
    """Agreement of labels and predictions beyond chance, at most 1; NaN when both are one class.

    Source: J. Cohen, A coefficient of agreement for nominal scales (1960).
    """
    total = labeled_count(table)
    matrix = confusion_matrix(table).astype(np.float64)
    chance = float(matrix.sum(axis=1) @ matrix.sum(axis=0)) / total**2
    agreement = float(np.trace(matrix)) / total
    return (agreement - chance) / (1.0 - chance) if chance < 1.0 else float("nan")


def roc_auc_per_class(table: EvalTable) -> Floats:
    """Area under each class's ROC curve against all others: float64 [K]; NaN where undefined."""
    stated, targets = probabilities(table), table.targets[table.labeled]
    return np.array([ranking_auc(targets == k, stated[:, k]) for k in range(stated.shape[1])])


def roc_auc(table: EvalTable) -> float:
    """The mean of `roc_auc_per_class` over the classes that have images, and are not all there is.

    With two classes the areas of both are equal, so this is also the usual binary one.
    """
    return mean_defined(roc_auc_per_class(table))


def average_precision_per_class(table: EvalTable) -> Floats:
    """Average precision of each class against all others: float64 [K]; NaN without images."""
    stated, targets = probabilities(table), table.targets[table.labeled]
    return np.array(
        [average_precision_of(targets == k, stated[:, k]) for k in range(stated.shape[1])]
    )


def mean_average_precision(table: EvalTable) -> float:
    """The mean of `average_precision_per_class` over the classes that have images."""
    return mean_defined(average_precision_per_class(table))


def log_loss(table: EvalTable) -> float:
    """The mean negative log probability of the right class, in nats, from float64 softmax.

    As scikit-learn's, a probability counts as at least 2.2e-16 (float64's step at 1).
    """
    stated, targets = probabilities(table), table.targets[table.labeled]
    picked = stated[np.arange(len(targets)), targets]
    step = np.finfo(np.float64).eps
    return float(-np.log(np.clip(picked, step, 1.0 - step)).mean())


def perplexity(table: EvalTable) -> float:
    """exp of the mean cross entropy: as many equally likely classes would be as uncertain.

    In float64 where the logits were kept, else of the table's float32 losses.
    """
    labeled_count(table)
    losses = table.losses[table.labeled].astype(np.float64)
    if table.logits is not None:
        wide = table.logits[table.labeled].astype(np.float64)
        wide -= wide.max(axis=1, keepdims=True)
        picked = wide[np.arange(len(wide)), table.targets[table.labeled]]
        losses = np.log(np.exp(wide).sum(axis=1)) - picked
    with np.errstate(over="ignore"):
        return float(np.exp(losses.mean()))


def brier(table: EvalTable) -> float:
    """The mean squared distance of the probabilities from the one-hot label: 0..2.

    Source: G. W. Brier (1950), summed over classes. scikit-learn halves it for two classes.
    """
    stated, targets = probabilities(table), table.targets[table.labeled]
    stated[np.arange(len(targets)), targets] -= 1.0
    return float((stated**2).sum(axis=1).mean())


def ece(table: EvalTable, bins: int = 15) -> float:
    """The expected calibration error of the predicted class, a fraction: `scores.calibration`."""
    return calibration(table, bins).error


def mae(table: EvalTable) -> float:
    """Mean |p - y| over images and classes, y being the one-hot label."""
    return float(np.abs(_gaps(table)).mean())


def mse(table: EvalTable) -> float:
    """Mean (p - y)^2 over images and classes, y being the one-hot label: Brier's score / K."""
    return float((_gaps(table) ** 2).mean())


def rmse(table: EvalTable) -> float:
    """The root of `mse`."""
    return float(np.sqrt(mse(table)))


def pearson(table: EvalTable) -> float:
    """The correlation of probabilities and one-hot labels, over images and classes together.

    NaN when either does not vary.
    """
    stated = probabilities(table)
    known = np.eye(stated.shape[1])[table.targets[table.labeled]]
    return correlation(stated.ravel(), known.ravel())


def _gaps(table: EvalTable) -> Floats:
    stated = probabilities(table)
    stated[np.arange(len(stated)), table.targets[table.labeled]] -= 1.0
    return stated


def correlation(one: Floats, other: Floats) -> float:
    """Pearson's correlation of two float64 [N]; NaN when either does not vary."""
    one, other = one - one.mean(), other - other.mean()
    spread = float(np.sqrt((one @ one) * (other @ other)))
    return float(np.clip(one @ other / spread, -1.0, 1.0)) if spread > 0 else float("nan")


def ranking_auc(positive: NDArray[np.bool_], scores: Floats) -> float:
    """The chance that a positive outranks a negative, ties counting half; NaN if one is missing.

    positive: bool [N]; scores: float64 [N]. It is the area under the ROC curve (Mann-Whitney).
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    # The mean rank, from 1, of equal scores.
    rank = (np.cumsum(count) - (count - 1) / 2.0)[place]
    above = rank[positive].sum() - positives * (positives + 1) / 2.0
    return float(above / (positives * negatives))


def average_precision_of(positive: NDArray[np.bool_], scores: Floats) -> float:
    """The sum over thresholds of precision times the gain in recall; NaN without a positive.

    positive: bool [N]; scores: float64 [N]. Equal scores share a threshold; nothing is
    interpolated.
    """
    positives = int(positive.sum())
    if positives == 0:
        return float("nan")
    levels, place = np.unique(-scores, return_inverse=True)
    seen = np.cumsum(np.bincount(place, minlength=len(levels)))
    found = np.cumsum(np.bincount(place, weights=positive, minlength=len(levels)))
    gain = np.diff(found, prepend=0.0) / positives
    return float((gain * found / seen).sum())


def mean_defined(values: Floats) -> float:
    """The mean of the values that are not NaN; NaN if there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
