"""Where more images would help: accuracy by class of probes on growing parts of the images.

Owns the parts, the fits and what is read off them. All classes grow together, as they would with
more work on the whole set. See `linear_probe`.

Axes: R repeats, S shares of the images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError
from discern.training.linear_probe import (
    PENALTIES,
    Codes,
    can_choose,
    check_features,
    choose_penalty,
    fit_probe,
)

SHARES: Final = (0.2, 0.4, 0.6, 0.8, 1.0)
# Images more that the gain is told for, as a share of a class's own: 50 of 60 would be a guess far
# beyond what was seen, 50 of 5,000 nothing that could be measured.
MORE: Final = 1.0
# The last shares, whose slope over the logarithm of the number is prolonged.
_LAST: Final = 3
_LEAST_FOLDS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCurves:
    """`accuracy` float64 [R, S, K]: share of the held images of a class that were told right.

    `shares` [S] of the images learned from; `counts` int64 [K]: images of a class in all; NaN for
    a class that a repeat held no image of.
    """

    shares: tuple[float, ...]
    accuracy: NDArray[np.float64]
    counts: NDArray[np.int64]

    def mean(self) -> NDArray[np.float64]:
        """Over the repeats: [S, K]."""
        return _over_repeats(np.nanmean, self.accuracy)

    def spread(self) -> NDArray[np.float64]:
        """Standard deviation over the repeats: [S, K]."""
        return _over_repeats(np.nanstd, self.accuracy)

    def gains(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(mean, standard error) [K] of the accuracy gained by twice the images.

        In each repeat the line through the last three shares over the logarithm of the number is
        prolonged to twice the images. A forecast, not a measurement.
        """
        last = np.log2(np.array(self.shares[-_LAST:]))
        rise = last - last.mean()
        values = self.accuracy[:, -_LAST:, :]
        slopes = np.einsum("s,rsk->rk", rise, values - values.mean(axis=1, keepdims=True))
        gain = np.log2(1.0 + MORE) * slopes / (rise**2).sum()
        number = np.maximum(np.isfinite(gain).sum(axis=0), 1)
        return _over_repeats(np.nanmean, gain), _over_repeats(np.nanstd, gain) / np.sqrt(number)

    def order(self) -> list[int]:
        """Classes, the greatest expected gain first; those without a curve are left out."""
        gain, _ = self.gains()
        known = np.flatnonzero(np.isfinite(gain))
        return [int(code) for code in known[np.argsort(-gain[known], kind="stable")]]

    def records(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """A JSON object a class, the greatest gain first."""
        gain, error = self.gains()
        mean, spread = self.mean(), self.spread()
        return [
            {
                "class": names[code],
                "images": int(self.counts[code]),
                "shares": list(self.shares),
                "accuracy": mean[:, code].round(6).tolist(),
                "spread": spread[:, code].round(6).tolist(),
                "gain": round(float(gain[code]), 6),
                "gain_error": round(float(error[code]), 6),
            }
            for code in self.order()
        ]

    def lines(self, names: Sequence[str], most: int = 5) -> list[str]:
        """The classes that more images would help most, for the terminal."""
        gain, error = self.gains()
        found = [code for code in self.order() if gain[code] > error[code]][:most]
        if not found:
            return ["more photos: no class gains more than its error by twice the images"]
        return ["more photos help most (twice the images, expected):"] + [
            f"  {names[code]}: +{self.counts[code]} images, "
            f"{100 * gain[code]:+.1f} +- {100 * error[code]:.1f} points"
            for code in found
        ]


def _over_repeats(reduce: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`np.nanmean` and the like over axis 0, NaN where nothing is known, without a warning."""
    known = np.isfinite(values).any(axis=0)
    result = np.full(values.shape[1:], np.nan)
    result[known] = reduce(values[:, known], axis=0)
    return result


def class_curves(
    features: NDArray[Any],
    codes: NDArray[Any],
    fold: NDArray[np.int32],
    *,
    classes: int,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> ClassCurves:
    """Fit probes on growing parts of all folds but one, and score that one; a repeat a fold.

    `fold` int32 [N]: see `probe_folds`. A part holds the part before it, and of every class the
    same share, one image at least; the penalty is chosen anew for each on the next fold. Raises
    ConfigError for shares that are none, DataError as `check_features`.
    """
    values, labels = check_features(features, codes)
    if len(shares) < _LAST or min(shares) <= 0 or max(shares) > 1 or list(shares) != sorted(shares):
        raise ConfigError(
            "not shares of the images", got=list(shares), expected="3 or more, ascending, 0 to 1"
        )
    numbers = np.unique(fold).tolist()
    if len(numbers) < _LEAST_FOLDS:
        raise ConfigError(
            "there are too few folds for learning curves", where="--folds", got=len(numbers),
            expected=f">= {_LEAST_FOLDS}: to learn from, to choose the penalty on, to score",
        )  # fmt: skip
    accuracy = np.full((len(numbers), len(shares), classes), np.nan)
    for repeat, number in enumerate(numbers):
        held = np.flatnonzero((fold == number) & (labels >= 0))
        inner = numbers[(repeat + 1) % len(numbers)]
        outside = np.flatnonzero((fold != number) & (labels >= 0))
        rank = _ranks(labels[outside], np.random.default_rng((seed, number)))
        penalty = PENALTIES[0]
        for place in reversed(range(len(shares))):
            part = outside[rank <= shares[place]]
            scored = fold[part] == inner
            # Of too few images for a choice: the penalty of the next larger part.
            if can_choose(labels[part], scored):
                penalty = choose_penalty(values[part], labels[part], scored, classes=classes)
            probe = fit_probe(values[part], labels[part], classes=classes, penalty=penalty)
            right = probe.logits(values[held]).argmax(axis=1) == labels[held]
            there = np.bincount(labels[held], minlength=classes)
            hits = np.bincount(labels[held], right, minlength=classes)
            known = there > 0
            accuracy[repeat, place, known] = hits[known] / there[known]
    counts = np.bincount(labels[labels >= 0], minlength=classes).astype(np.int64)
    return ClassCurves(shares=tuple(shares), accuracy=accuracy, counts=counts)


def _ranks(codes: Codes, rng: np.random.Generator) -> NDArray[np.float64]:
    """The share of its class from which on an image is learned from: [N], 0 for one of each."""
    result = np.empty(len(codes))
    for code in np.unique(codes).tolist():
        rows = np.flatnonzero(codes == code)
        order = rng.permutation(len(rows))
        result[rows] = np.where(order == 0, 0.0, (order + 1) / len(rows))
    return result
