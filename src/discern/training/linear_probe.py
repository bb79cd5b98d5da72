"""A linear classifier on features computed once: multinomial logistic regression, out of fold.

Owns the fit on standardized features, the choice of its penalty on validation folds, and folds in
which images of one group never stand on both sides. Works on arrays alone, in numpy and
scikit-learn.

Axes: N images, D features, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.data.folds import Members, deal_units, find_strata, find_units
from discern.data.manifest import Head

Features = NDArray[np.float32]
Codes = NDArray[np.int64]
Probabilities = NDArray[np.float64]

# Penalties per image on the squared weights of standardized features, from strong to weak: decades
# around what is chosen for gradients of CIFAR-10 (0.1) and pixels of digits (0.001).
PENALTIES: Final = (1.0, 0.1, 0.01, 0.001, 0.0001)
FOLDS: Final = 5
# The penalty is chosen on at most so many images: it hardly moves beyond, and the fits are the
# most of the work.
_CHOSEN_ON: Final = 20_000
_STEPS: Final = 500
# Largest component of the gradient of the mean loss at which a fit ends: scikit-learn's own. Ten
# times as much saves a third of the time and moves probabilities of digits by up to 0.9.
_TOLERANCE: Final = 1e-4
# Least probability in a logarithm.
_LEAST: Final = 1e-12
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Standard:
    """Mean and scale of each feature, float32 [D]; those that never change have scale 1."""

    mean: Features
    scale: Features

    @classmethod
    def of(cls, features: Features) -> Standard:
        """Measured on `features` [N, D]."""
        mean = features.mean(axis=0, dtype=np.float64)
        scale = features.std(axis=0, dtype=np.float64)
        scale[scale < 1e-8 * np.maximum(np.abs(mean), 1e-8)] = 1.0
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def of_rows(self, features: Features) -> Features:
        """`features` [N, D] with mean 0 and deviation 1."""
        result: Features = (features - self.mean) / self.scale
        return result


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """A fitted classifier: `weight` float32 [K, D] and `bias` [K], on standardized features.

    A class that it has seen no image of has bias minus infinity: probability 0.
    """

    standard: Standard
    weight: Features
    bias: Features
    penalty: float

    def logits(self, features: Features) -> Features:
        """float32 [N, K] of features [N, D]."""
        result: Features = self.standard.of_rows(features) @ self.weight.T + self.bias
        return result

    def probabilities(self, features: Features) -> Probabilities:
        """Softmax of the logits, float64 [N, K]."""
        logits = self.logits(features).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: Probabilities = powers / powers.sum(axis=1, keepdims=True)
        return result


def check_features(features: NDArray[Any], codes: NDArray[Any]) -> tuple[Features, Codes]:
    """(features float32 [N, D], codes int64 [N]), checked; code -1: no label.

    Raises DataError for other shapes, for values that are not finite, and for fewer than two
    images or classes.
    """
    if features.ndim != 2 or len(features) != len(codes):
        raise DataError(
            "features and labels do not belong together",
            got=f"features {list(features.shape)}, labels {list(codes.shape)}",
            expected="[N, D] and [N]",
        )
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(features, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DataError(
            f"the features of {len(bad)} of {len(values)} images are not finite",
            got="rows " + ", ".join(map(str, bad[:_SHOWN])) + (" ..." if len(bad) > _SHOWN else ""),
            expected="float32 numbers",
            hint="NaN comes from a damaged network or from half precision: take --precision fp32",
        )
    labels = np.asarray(codes, dtype=np.int64)
    known = labels[labels >= 0]
    if len(known) < 2 or len(np.unique(known)) < 2:
        raise DataError(
            "a classifier needs images of at least two classes",
            got=f"{len(known)} labeled images of {len(np.unique(known))} classes",
            expected="two classes with two images each",
        )
    return values, labels


def fit_probe(
    features: Features,
    codes: Codes,
    *,
    classes: int,
    penalty: float,
    start: LinearProbe | None = None,
) -> LinearProbe:
    """Fit on the labeled rows of features [N, D], numbers that `check_features` has passed.

    What is least: the mean cross-entropy plus `penalty` / 2 times the sum of the squared weights;
    the bias is free. `start`: a probe on the same rows to begin from.
    """
    labeled = np.flatnonzero(codes >= 0)
    standard = Standard.of(features[labeled]) if start is None else start.standard
    rows = standard.of_rows(features[labeled])
    return _fit(_Rows.of(rows, codes[labeled]), standard, classes, penalty, start)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Standardized rows in the coordinates that they are fitted in; `basis`: [D, D'] or None."""

    inputs: Features
    codes: Codes
    basis: Features | None

    @classmethod
    def of(cls, rows: Features, codes: Codes) -> _Rows:
        if len(rows) >= rows.shape[1]:
            return cls(rows, codes, None)
        # Of fewer images than features the best weights lie in the span of the images, so these
        # coordinates give the same weights with less work.
        values, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
        kept = values > values[-1] * 1e-9
        basis = (rows.T @ (vectors[:, kept] / np.sqrt(values[kept]))).astype(np.float32)
        return cls(rows @ basis, codes, basis)


def _fit(
    rows: _Rows, standard: Standard, classes: int, penalty: float, start: LinearProbe | None = None
) -> LinearProbe:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    present = np.unique(rows.codes)
    strength = 1.0 / (penalty * len(rows.codes))
    solver = LogisticRegression(C=strength, tol=_TOLERANCE, max_iter=_STEPS, warm_start=True)
    if start is not None:
        solver.coef_ = _coordinates(start, present, rows.basis)
        solver.intercept_ = _one_row(start.bias[present])
    with warnings.catch_warnings():
        # One that needs more steps is a weak penalty: the images it is chosen on decide about it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(rows.inputs, rows.codes)
    coef = solver.coef_ if rows.basis is None else solver.coef_ @ rows.basis.T
    # Of two classes there is one row: the logit of the second against the first.
    weight = np.zeros((classes, coef.shape[1]), dtype=np.float32)
    bias = np.full(classes, -np.inf, dtype=np.float32)
    bias[present] = 0.0
    filled = present[-len(coef) :]
    weight[filled], bias[filled] = coef, solver.intercept_
    return LinearProbe(standard, weight, bias, penalty)


def _coordinates(start: LinearProbe, present: Codes, basis: Features | None) -> Features:
    rows = _one_row(start.weight[present])
    return rows if basis is None else rows @ basis


def _one_row(values: Features) -> Features:
    """What scikit-learn holds of two classes: the difference."""
    return values[1:] - values[:1] if len(values) == 2 else values


def choose_penalty(
    features: Features,
    codes: Codes,
    held: NDArray[np.bool_],
    *,
    classes: int,
    penalties: Sequence[float] = PENALTIES,
) -> float:
    """The penalty with the least mean cross-entropy on the `held` rows [N], fitted on the others.

    From strong to weak, each begun from the one before; the search ends where the loss rises.
    Held images of a class that the others lack are left out.
    """
    learned = np.flatnonzero(~held & (codes >= 0))
    scored = np.flatnonzero(held & np.isin(codes, codes[learned]))
    if not can_choose(codes, held):
        raise DataError(
            "there are too few images to choose the penalty on",
            got=f"{len(learned)} to learn from, {len(scored)} held out",
            expected="two classes to learn from, and an image of one of them held out",
        )
    standard = Standard.of(features[learned])
    rows = _Rows.of(standard.of_rows(features[learned]), codes[learned])
    best, least, probe = penalties[0], np.inf, None
    for penalty in sorted(penalties, reverse=True):
        probe = _fit(rows, standard, classes, penalty, probe)
        own = probe.probabilities(features[scored])[np.arange(len(scored)), codes[scored]]
        loss = float(-np.log(np.maximum(own, _LEAST)).mean())
        if loss >= least:
            break
        best, least = penalty, loss
    return best


def can_choose(codes: Codes, held: NDArray[np.bool_]) -> bool:
    """Whether `choose_penalty` finds two classes to learn, and one of their images held out."""
    learned = codes[~held & (codes >= 0)]
    return len(np.unique(learned)) > 1 and bool((held & np.isin(codes, learned)).any())


def probe_folds(
    codes: Codes, groups: NDArray[Any] | None = None, folds: int = FOLDS, seed: int = 0
) -> NDArray[np.int32]:
    """The fold of each image, int32 [N], as even by class as whole groups allow.

    `groups` [N]: texts or numbers that stay together; "" and negative ones are alone. Raises
    ConfigError for fewer than 2 folds, DataError where a class would stand in one fold only.
    """
    if folds < 2:
        raise ConfigError("there are too few folds", where="--folds", got=folds, expected=">= 2")
    names = np.array([f"{row}" for row in range(len(codes))])
    units = find_units(names, seed, [] if groups is None else [np.asarray(groups)])
    count = int(codes.max(initial=0)) + 1
    head = Head("label", "single", tuple(map(str, range(count))), codes)
    strata = find_strata(head, stratify=True)
    wanted = np.tile(strata.sizes / folds, (folds, 1))
    members = Members.of(units, strata)
    parts = deal_units(units, members, wanted, seed=seed, largest_first=True)
    result = parts[units.of_image].astype(np.int32)
    alone = [code for code in range(count) if len(np.unique(result[codes == code])) == 1]
    if alone:
        raise DataError(
            f"{len(alone)} classes stand in one fold only: nothing can be learned of them from "
            "the others",
            got="class numbers " + ", ".join(map(str, alone[:_SHOWN])),
            expected="two images, or two groups, of each class",
            hint="add images to them, or leave their labels out (-1)",
        )
    return result


def probe_out_of_fold(
    features: NDArray[Any],
    codes: NDArray[Any],
    groups: NDArray[Any] | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    *,
    classes: int | None = None,
    fold: NDArray[np.int32] | None = None,
) -> Probabilities:
    """The probabilities that each image is given by a probe that never saw it: float64 [N, K].

    Folds are dealt by class and group (`probe_folds`), or given as `fold` [N]. The penalty of each
    fold's probe is chosen on the next fold of those that are left, never on the images that are
    then scored. Images of code -1 are not learned from, and are given probabilities all the same.
    `classes`: K, if more than the largest code tells. Raises DataError as `check_features` and
    `probe_folds`.
    """
    values, labels = check_features(features, codes)
    count = max(int(labels.max()) + 1, classes or 0)
    if fold is None:
        fold = probe_folds(labels, groups, folds, seed)
    result = np.empty((len(values), count))
    for number in np.unique(fold).tolist():
        outside = np.flatnonzero(fold != number)
        penalty = _penalty_of_fold(values, labels, fold, number, seed, count)
        probe = fit_probe(values[outside], labels[outside], classes=count, penalty=penalty)
        held = np.flatnonzero(fold == number)
        result[held] = probe.probabilities(values[held])
    return result


def _penalty_of_fold(
    values: Features, labels: Codes, fold: NDArray[np.int32], number: int, seed: int, count: int
) -> float:
    outside = np.flatnonzero((fold != number) & (labels >= 0))
    left = np.unique(fold[outside])
    if len(left) < 2:  # of two folds: half of the other one
        order = np.random.default_rng(seed).permutation(len(outside))
        held = order % 2 == 0
    else:
        held = fold[outside] == left[np.searchsorted(left, number) % len(left)]
    if len(outside) > _CHOSEN_ON:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(outside))[:_CHOSEN_ON])
        outside, held = outside[chosen], held[chosen]
    return choose_penalty(values[outside], labels[outside], held, classes=count)
