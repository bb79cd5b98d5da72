"""Which predictions are taken as labels: thresholds by class, and how often they are right.

NumPy only. Everything is judged on images that people labeled and the models did not learn.

Axes: N images, K classes, M models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.training.calibration import FOLDS, cross_validated_temperature, stratified_folds
from discern.training.scores import wilson_interval

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Precision:
    """The share of labels that are right, by Wilson's interval (95 %); None of no image."""

    right: int
    count: int

    @property
    def value(self) -> float | None:
        """The share itself."""
        return self.right / self.count if self.count else None

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        low, high = wilson_interval(self.right, self.count) if self.count else (None, None)
        return {"value": self.value, "low": low, "high": high, "count": self.count}

    def __str__(self) -> str:
        if not self.count:
            return "unknown: no held-out image passes"
        low, high = wilson_interval(self.right, self.count)
        return (
            f"{self.right / self.count:.4f} (95 %: {low:.4f} to {high:.4f}, "
            f"{self.right} of {self.count})"
        )


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How logits become labels: `temperature`, and `thresholds` float64 [K] on probabilities.

    `passed`: bool [N], the held-out images that it would label; `precision`: how many of their
    labels are right, each judged without it. `fresh_precision`: the same of those alone that no
    earlier round would have labeled. Those that are left are harder, and raw images are, too.
    """

    temperature: float
    thresholds: Floats
    passed: NDArray[np.bool_]
    precision: Precision
    fresh_precision: Precision

    @property
    def expected(self) -> Precision:
        """Of new labels: by fresh images alone, unknown where none of these passes.

        The share over all images would say 0.99 of later rounds whose labels are 0.86 right:
        docs/benchmarks.md, "Automatic labels".
        """
        return self.fresh_precision


def fit_rule(
    logits: Floats,
    targets: Codes,
    *,
    threshold: float,
    target: float,
    fresh: NDArray[np.bool_] | None = None,
) -> LabelRule:
    """The rule from held-out images: logits [N, K] of models that never saw them, targets [N].

    `fresh`: bool [N], those that no earlier round would have labeled; default: all.
    `threshold`: on calibrated probabilities, the least of every class. `target`: the precision that
    each class is to have on these images. Its own estimate is cross-fitted: each image is judged
    by temperature and thresholds made without it. Raises DataError as `fit_temperature` does.
    """
    found = cross_validated_temperature(logits, targets)
    stated = found.probabilities
    fold = stratified_folds(targets, min(FOLDS, len(targets)), 0)
    passed = np.zeros(len(targets), dtype=bool)
    for number in np.unique(fold):
        own, others = fold == number, fold != number
        made = class_thresholds(stated[others], targets[others], threshold, target)
        passed[own] = take(stated[own], made)
    whole = class_thresholds(stated, targets, threshold, target)
    right = stated.argmax(1) == targets
    new = passed if fresh is None else passed & fresh
    return LabelRule(
        found.temperature,
        whole,
        passed,
        Precision(int(right[passed].sum()), int(passed.sum())),
        Precision(int(right[new].sum()), int(new.sum())),
    )


def class_thresholds(
    probabilities: Floats, targets: Codes, threshold: float, target: float
) -> Floats:
    """The least threshold of each class, from `threshold` on, at which its labels reach `target`.

    Of the images that a class is named for: the share of right ones among those at or above. A
    class without a mistake keeps `threshold`; where no place reaches the target, it is put just
    above the surest mistake. float64 [K].
    """
    named, sure = probabilities.argmax(1), probabilities.max(1)
    result = np.full(probabilities.shape[1], threshold)
    for label in range(len(result)):
        own = (named == label) & (sure >= threshold)
        wrong = sure[own & (targets != label)]
        for place in (threshold, *np.sort(np.nextafter(wrong, 2.0)).tolist()):
            above = own & (sure >= place)
            if not above.any() or (targets[above] == label).mean() >= target:
                result[label] = place
                break
    return result


def take(probabilities: Floats, thresholds: Floats) -> NDArray[np.bool_]:
    """Which images [N] reach the threshold of the class that is named for them."""
    named = probabilities.argmax(1)
    reached: NDArray[np.bool_] = probabilities.max(1) >= thresholds[named]
    return reached


def mean_probabilities(logits: Sequence[NDArray[np.floating[Any]]], temperature: float) -> Floats:
    """The mean over M models of softmax(logits / temperature): float64 [N, K].

    The greatest logit of each row is taken off before exp, so that no row is 0 / 0.
    """
    total = np.zeros(logits[0].shape)
    for one in logits:
        scaled = np.asarray(one, dtype=np.float64) / temperature
        shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        total += shares / shares.sum(axis=1, keepdims=True)
    mean: Floats = total / len(logits)
    return mean
