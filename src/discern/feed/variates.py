"""From numbers drawn evenly in [0, 1) to what an augmentation needs: one value each.

Owns the shapes of distributions. Every function is pure: an even number in, a value out, by the
inverse of the distribution's cumulative function, so that a draw is one number wherever it is used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import TypeVar

Value = TypeVar("Value")

_NORMAL = NormalDist()
# Even numbers are multiples of 2**-53; half of one keeps the inverses of 0 finite.
_TINY = 2.0**-54


def between(even: float, low: float, high: float) -> float:
    """A number in [low, high), evenly spread."""
    return low + (high - low) * even


def integer_between(even: float, low: int, high: int) -> int:
    """An integer from `low` to `high`, both included, evenly spread."""
    return low + int(even * (high - low + 1))


def pick(even: float, choices: Sequence[Value]) -> Value:
    """One of `choices`, each as likely as the others."""
    return choices[int(even * len(choices))]


def signed(even: float, limit: float) -> float:
    """A number in [-limit, limit), evenly spread."""
    return between(even, -limit, limit)


def normal(even: float) -> float:
    """A number of the standard normal distribution; never beyond 8.3 in size."""
    return _NORMAL.inv_cdf(max(even, _TINY))


def exponential(even: float) -> float:
    """A number of the exponential distribution of mean 1."""
    return -math.log1p(-even)


def beta(even: float, shape: float) -> float:
    """A number of the symmetric beta distribution Beta(shape, shape), in [0, 1]."""
    if shape == 1.0:
        return even
    from scipy.special import betaincinv  # pays for scipy only where it is used

    return float(betaincinv(shape, shape, even))


def shares(evens: Sequence[float], shape: float) -> list[float]:
    """Non-negative numbers of sum 1 out of the symmetric Dirichlet distribution of `shape`."""
    if shape == 1.0:
        parts = [exponential(max(even, _TINY)) for even in evens]
    else:
        from scipy.special import gammaincinv  # pays for scipy only where it is used

        parts = [float(gammaincinv(shape, max(even, _TINY))) for even in evens]
    total = math.fsum(parts)
    return [part / total for part in parts]


def order(even: float, count: int) -> tuple[int, ...]:
    """The numbers 0 .. count - 1 in one of their count! orders, each as likely as the others."""
    return pick(even, _orders(count))


@cache
def _orders(count: int) -> tuple[tuple[int, ...], ...]:
    return tuple(itertools.permutations(range(count)))
