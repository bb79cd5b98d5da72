"""Thresholds of one class an image: they shift the choice between classes and reject no image.

The answer is the class whose probability is largest as a multiple of its threshold; where all
thresholds are equal that is the likeliest class. NumPy only. Owns which thresholds are kept, and
the promise that the answers' mean F1 is never below that of the likeliest class.

Axes: N images, K classes, F folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.training.calibration import FOLDS
from discern.training.thresholds import (
    GRID,
    REPEATS,
    USUAL,
    ClassThresholds,
    Floats,
    checked_members,
    cross_validate,
    middle_places,
)

Classes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AnswerThresholds(ClassThresholds):
    """`ClassThresholds` of one class an image: F1 of the answers, and of the likeliest class.

    accuracy and accuracy_usual: on all images, of the answers and of the likeliest class;
    held_accuracy and held_accuracy_usual: on images that took no part in the choice.
    """

    accuracy: float
    accuracy_usual: float
    held_accuracy: float
    held_accuracy_usual: float


def find_answer_thresholds(
    probabilities: NDArray[np.floating[Any]],
    targets: NDArray[np.integer[Any]],
    *,
    folds: int = FOLDS,
    repeats: int = REPEATS,
    seed: int = 0,
) -> AnswerThresholds:
    """Choose the thresholds by which one class an image is answered, for the mean F1 of classes.

    probabilities: [N, K]; targets: int [N], negative = unlabeled. Each class's threshold is found
    as by `thresholds.find_thresholds`. Then, the class of largest gain first, it is kept if with it
    the mean F1 of the answers rises on left-out images and does not fall on all; else it stays 0.5.
    Raises DataError as that function.
    """
    stated, truth = checked_members(probabilities, np.asarray(targets))
    rounds = cross_validate(stated, truth, folds=folds, repeats=repeats, seed=seed)
    middle = middle_places(rounds)
    gain = np.stack([part.held - part.held_usual for part in rounds]).mean(axis=0)
    true = truth.argmax(axis=1).astype(np.int64)
    held = [_Answers.likeliest(stated, part.fold, len(part.best)) for part in rounds]
    whole = _Answers.likeliest(stated, np.zeros(len(stated), dtype=np.int64), 1)
    usual = whole.classes
    for k in np.argsort(-gain, kind="stable"):
        if gain[k] <= 0 or GRID[middle[k]] == USUAL:
            continue
        tried = [
            answers.moved(k, GRID[part.best[:, k]])
            for answers, part in zip(held, rounds, strict=True)
        ]
        every = whole.moved(k, GRID[middle[k : k + 1]])
        rises = _mean_f1(tried, true) > _mean_f1(held, true)
        if rises and _mean_f1([every], true) >= _mean_f1([whole], true):
            held, whole = tried, every
    width = truth.shape[1]
    support = truth.sum(axis=0).astype(np.int64)
    held_f1 = np.stack([f1_by_class(answers.classes, true, width) for answers in held])
    usual_f1 = f1_by_class(usual, true, width)
    return AnswerThresholds(
        values=whole.values[0],
        f1=f1_by_class(whole.classes, true, width),
        f1_usual=usual_f1,
        held_f1=np.where(support > 0, held_f1.mean(axis=0), np.nan),
        held_f1_usual=usual_f1,
        support=support,
        accuracy=float((whole.classes == true).mean()),
        accuracy_usual=float((usual == true).mean()),
        held_accuracy=float(np.mean([answers.classes == true for answers in held])),
        held_accuracy_usual=float((usual == true).mean()),
    )


def f1_by_class(answers: Classes, true: Classes, width: int) -> Floats:
    """F1 of each class, float64 [K]; NaN for a class without an image. Answers below 0 are none."""
    right = np.bincount(true[answers == true], minlength=width)
    named = np.bincount(answers[answers >= 0], minlength=width)
    there = np.bincount(true, minlength=width)
    f1 = 2.0 * right / np.maximum(named + there, 1)
    return np.asarray(np.where(there > 0, f1, np.nan))


def _mean_f1(several: list[_Answers], true: Classes) -> float:
    """The mean over classes with images, and over several sets of answers."""
    means = [
        np.nanmean(f1_by_class(answers.classes, true, answers.stated.shape[1]))
        for answers in several
    ]
    return float(np.mean(means))


@dataclass(frozen=True, slots=True)
class _Answers:
    """The answer to each image under the thresholds of its fold.

    stated: probabilities [N, K]; fold: [N]; values: thresholds [F, K]; classes: the answers [N];
    multiples: their probabilities as multiples of their thresholds [N].
    """

    stated: Floats
    fold: NDArray[np.int64]
    values: Floats
    classes: Classes
    multiples: Floats

    @classmethod
    def likeliest(cls, stated: Floats, fold: NDArray[np.int64], folds: int) -> _Answers:
        values = np.full((folds, stated.shape[1]), USUAL)
        classes = stated.argmax(axis=1).astype(np.int64)
        return cls(stated, fold, values, classes, stated.max(axis=1) / USUAL)

    def moved(self, k: int, values: Floats) -> _Answers:
        """The answers with other thresholds of class `k`, one a fold: [F]."""
        own = self.stated[:, k] / values[self.fold]
        wins = (own > self.multiples) | ((own == self.multiples) & (k < self.classes))
        classes = np.where(wins, k, self.classes)
        multiples = np.where(wins, own, self.multiples)
        changed = self.values.copy()
        changed[:, k] = values
        rows = np.flatnonzero(self.classes == k)  # these may go to any other class
        every = self.stated[rows] / changed[self.fold[rows]]
        classes[rows], multiples[rows] = every.argmax(axis=1), every.max(axis=1)
        return _Answers(self.stated, self.fold, changed, classes, multiples)
