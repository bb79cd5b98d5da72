"""From which probability on an image counts as a class: thresholds by class, chosen for F1.

Of several labels an image; those of one class an image are in `answer_thresholds`. NumPy only.
Owns the search over a grid, its repeated cross-validation, and the promise that no
class's F1 is below that at 0.5 (on the images given, and on those left out of the choice).

Axes: N images, K classes, G grid values, F folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.training.calibration import FOLDS, stratified_folds

Floats = NDArray[np.float64]

USUAL: Final = 0.5
# A hundred values, as Catalyst's find-thresholds: 0.01, 0.02 ... 1.00.
GRID: Final = np.round(np.arange(1, 101) / 100, 2)
_USUAL_PLACE: Final = 49
REPEATS: Final = 5


@dataclass(frozen=True, slots=True)
class ClassThresholds:
    """One threshold for each class, and what it does; each float64 [K].

    f1 and f1_usual: on all images, at the threshold and at 0.5. held_f1 and held_f1_usual: on
    images that took no part in the choice, mean of the repeats. NaN where no image is of the class
    or named it. support: images of each class.
    """

    values: Floats
    f1: Floats
    f1_usual: Floats
    held_f1: Floats
    held_f1_usual: Floats
    support: NDArray[np.int64]


def find_thresholds(
    probabilities: NDArray[np.floating[Any]],
    members: NDArray[Any],
    *,
    folds: int = FOLDS,
    repeats: int = REPEATS,
    seed: int = 0,
) -> ClassThresholds:
    """Choose each class's threshold, of 0.01 ... 1.00, by repeated stratified cross-validation.

    probabilities: [N, K]. members: int [N] class numbers (negative = unlabeled), or [N, K] of 0, 1
    and NaN for several labels an image. In each of `repeats` x `folds` parts the value of best F1
    on the other folds is taken, of equal ones the nearest to 0.5; a class's threshold is the
    median. It stays 0.5 where the left-out images, or all, score less with it. Raises DataError
    for probabilities outside 0..1 or not finite, and for fewer than 2 labeled images.
    """
    stated, truth = checked_members(probabilities, members)
    rounds = cross_validate(stated, truth, folds=folds, repeats=repeats, seed=seed)
    every = _f1(_counts(_places(stated), truth))
    held_f1: Floats = np.stack([part.held for part in rounds]).mean(axis=0)
    held_f1_usual: Floats = np.stack([part.held_usual for part in rounds]).mean(axis=0)
    classes = np.arange(truth.shape[1])
    middle = middle_places(rounds)
    better = (held_f1 > held_f1_usual) & (every[middle, classes] >= every[_USUAL_PLACE])
    middle = np.where(better, middle, _USUAL_PLACE)
    support = (truth == 1).sum(axis=0)

    def told(values: Floats) -> Floats:
        return np.asarray(np.where(support > 0, values, np.nan))

    return ClassThresholds(
        values=GRID[middle],
        f1=told(every[middle, classes]),
        f1_usual=told(every[_USUAL_PLACE]),
        held_f1=told(np.asarray(np.where(better, held_f1, held_f1_usual))),
        held_f1_usual=told(held_f1_usual),
        support=support.astype(np.int64),
    )


@dataclass(frozen=True, slots=True)
class Round:
    """One cross-validation of F folds.

    fold: int64 [N]. best: int64 [F, K], the grid place of best F1 on the other folds. held and
    held_usual: F1 of the left-out images at these and at 0.5, float64 [K].
    """

    fold: NDArray[np.int64]
    best: NDArray[np.int64]
    held: Floats
    held_usual: Floats


def cross_validate(
    stated: Floats, truth: Floats, *, folds: int, repeats: int, seed: int
) -> list[Round]:
    """Choose each class's place on the grid on all folds but one, `repeats` times; [N, K] both.

    As `checked_members` gives them. Raises DataError for less than 2 folds or 1 repeat.
    """
    if folds < 2 or repeats < 1:
        raise DataError(
            "not a cross-validation", got=f"{folds} folds, {repeats} repeats",
            expected="at least 2 folds, 1 repeat",
        )  # fmt: skip
    folds, places = min(folds, len(truth)), _places(stated)
    classes, strata = np.arange(truth.shape[1]), _strata(truth)
    found = []
    for repeat in range(repeats):
        fold = stratified_folds(strata, folds, seed + repeat)
        parts = np.stack([_counts(places[fold == f], truth[fold == f]) for f in range(folds)])
        whole = np.asarray(parts.sum(axis=0))
        best = np.stack([_best_places(_f1(whole - part)) for part in parts])
        left_out = sum(parts[f][:, best[f], classes] for f in range(folds))
        found.append(Round(fold, best, _f1(left_out), _f1(whole[:, _USUAL_PLACE])))
    return found


def _places(stated: Floats) -> NDArray[np.int64]:
    """An image counts at the grid's values up to its place: int64 [N, K]."""
    return np.searchsorted(GRID, stated, side="right")


def middle_places(rounds: Sequence[Round]) -> NDArray[np.int64]:
    """The median choice of all folds of all rounds: grid places [K]."""
    chosen = np.concatenate([part.best for part in rounds])
    return np.asarray(np.median(chosen, axis=0), dtype=np.int64)


def check_threshold(value: float, where: str) -> float:
    """`value`, if it is a probability. Raises ConfigError for one outside 0..1 or not a number."""
    if not 0.0 <= value <= 1.0:
        raise ConfigError("a threshold is a probability", where=where, got=value, expected="0 to 1")
    return value


def _counts(places: NDArray[np.int64], truth: Floats) -> NDArray[np.int64]:
    """Images at each value of the grid: int64 [3, G, K]: rightly named, named, of the class."""
    classes = truth.shape[1]
    cells = places * classes + np.arange(classes)
    size = (len(GRID) + 1) * classes

    def at_least(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        counts = np.bincount(cells[mask], minlength=size).reshape(-1, classes)
        return np.asarray(counts[::-1].cumsum(axis=0)[::-1])

    right, named = at_least(truth == 1), at_least(~np.isnan(truth))
    there = np.broadcast_to(right[0], right[1:].shape)
    return np.stack([right[1:], named[1:], there]).astype(np.int64)


def _f1(counts: NDArray[np.int64]) -> Floats:
    """F1 of counts [3, ...]; 0 where nothing is of the class and nothing named."""
    right, named, there = counts
    whole = named + there
    return np.asarray(np.divide(2.0 * right, whole, out=np.zeros(whole.shape), where=whole > 0))


def _best_places(f1: Floats) -> NDArray[np.int64]:
    """The grid place of best F1 [G, K] of each class, of equal ones the nearest to 0.5: [K]."""
    order = np.argsort(np.abs(np.arange(len(GRID)) - _USUAL_PLACE), kind="stable")
    return np.asarray(order[f1[order].argmax(axis=0)])


def _strata(truth: Floats) -> NDArray[np.int64]:
    """The class that folds are dealt by, [N]: the rarest that an image has; K for none."""
    there = truth == 1
    rarity = np.where(there, there.sum(axis=0), len(truth) + 1)
    rarest = rarity.argmin(axis=1)
    return np.asarray(np.where(there.any(axis=1), rarest, truth.shape[1]), dtype=np.int64)


def checked_members(probabilities: NDArray[Any], members: NDArray[Any]) -> tuple[Floats, Floats]:
    """Probabilities and membership (0, 1, NaN) of the labeled images, both [N, K].

    Raises DataError as `find_thresholds`.
    """
    stated, given = np.asarray(probabilities, dtype=np.float64), np.asarray(members)
    if stated.ndim != 2 or len(given) != len(stated):
        raise DataError(
            "probabilities and labels do not fit together",
            got=f"{list(stated.shape)} and {list(given.shape)}",
            expected="[N, K] and [N] or [N, K]",
        )
    if given.ndim == 1:
        labeled = given >= 0
        truth = (given[labeled, None] == np.arange(stated.shape[1])).astype(np.float64)
    else:
        labeled = ~np.isnan(given).all(axis=1)
        truth = given[labeled].astype(np.float64)
    stated = stated[labeled]
    if len(stated) < 2:
        raise DataError(
            "too few labeled images to choose thresholds by",
            got=len(stated),
            expected="at least 2, better 10 of each class",
        )
    if not (np.isfinite(stated) & (stated >= 0.0) & (stated <= 1.0)).all():
        raise DataError("these are not probabilities", expected="values from 0 to 1, none NaN")
    return stated, truth
