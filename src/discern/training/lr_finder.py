"""The learning-rate finder: a short training under a rising rate, undone afterwards, bit for bit.

Owns the rates, the stop rules, the smoothing and the choice of a rate from the curve. It knows no
config and no file: `worker.lr_find` gives it a stage's parts, `workflows.lr_curve` draws the curve.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.errors import ConfigError
from discern.feed.batch import Batch, Feed
from discern.optim.schedules import Schedule
from discern.training.state_io import capture_state, restore_state
from discern.training.step import StepRules, TrainState, train_step

Scale = Literal["log", "linear"]
Stopped = Literal["end", "diverged", "nonfinite"]
Floats = NDArray[np.float64]

SCALES: tuple[Scale, ...] = ("log", "linear")
# The rates that a sweep begins and ends with, the weight of the past in the smoothed loss, and the
# multiple of the best smoothed loss that counts as diverged: those of fastai 2.7 (`Learner.lr_find`
# and its recorder); the first two lie far outside what any of our optimizers can use.
FIRST_RATE = 1e-7
LAST_RATE = 10.0
SMOOTHING = 0.98
DIVERGED_AT = 4.0
# fastai sweeps in 100 steps: 12 to a factor of ten. The other number bounds the time that a sweep
# of a large data set takes.
FEWEST_STEPS = 100
MOST_STEPS = 400
# The rule whose rate is suggested. On digits, one seed: sweeps of 100 steps beside 3 epochs
# at each of 7 rates from 1e-5 to 10. From the most accurate rate, `minimum` was within 4x for SGD
# on lenet, AdamW on mlp and on fast_net, 9x for Muon on fast_net; `steepest` within 1.6x on three,
# 40x too low for AdamW on fast_net; `valley` 3x to 83x too low.
RULE = "minimum"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSweep:
    """The rates of a sweep: update i of `steps` has first * (last / first) ** (i / steps).

    `linear`: first + (last - first) * i / steps. Updates are numbered from 0, as in schedules, so
    `last` itself is not reached. Raises ConfigError for numbers that make no rising row.
    """

    first: float = FIRST_RATE
    last: float = LAST_RATE
    steps: int = FEWEST_STEPS
    scale: Scale = "log"
    smoothing: float = SMOOTHING
    diverged_at: float = DIVERGED_AT

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ConfigError(
                "no such scale", where="--scale", got=self.scale, expected=" or ".join(SCALES)
            )
        if not 0.0 < self.first < self.last < math.inf:
            raise ConfigError(
                "the rates of a sweep rise from above 0",
                where="--from, --to",
                got=f"{self.first:g} to {self.last:g}",
                expected="0 < from < to",
            )
        if self.steps < 2:
            raise ConfigError(
                "a sweep needs steps", where="--steps", got=self.steps, expected=">=2"
            )
        if not 0.0 <= self.smoothing < 1.0 or not self.diverged_at > 1.0:
            raise ConfigError(
                "this smoothing or divergence cannot be used",
                where="smoothing, diverged_at",
                got=f"{self.smoothing:g}, {self.diverged_at:g}",
                expected="0 <= smoothing < 1, diverged_at > 1",
            )

    def rate(self, step: int) -> float:
        """The learning rate of update number `step`."""
        share = step / self.steps
        if self.scale == "linear":
            return self.first + (self.last - self.first) * share
        return float(self.first * (self.last / self.first) ** share)


@dataclass(frozen=True, slots=True)
class RateCurve:
    """What a sweep saw, one entry for each update done.

    rates, losses, smoothed: float64 [S]; losses are training losses of single batches, before the
    update of that rate. The last entry is the one that ended the sweep when `stopped` is
    "diverged" or "nonfinite". scale: that of the rates, on which the curve's slope is measured.
    """

    rates: Floats
    losses: Floats
    smoothed: Floats
    stopped: Stopped
    scale: Scale = "log"

    def suggestions(self) -> dict[str, float | None]:
        """A rate by each rule that there is; None where the curve does not fall."""
        return {name: rule(self) for name, rule in RULES.items()}

    @property
    def suggestion(self) -> float | None:
        """The rate that `RULE` reads off the curve."""
        return RULES[RULE](self)

    def record(self) -> dict[str, Any]:
        """As JSON values; `best_loss` is the least smoothed one."""
        best = self.smoothed[np.isfinite(self.smoothed)]
        return {
            "suggestion": self.suggestion,
            "rule": RULE,
            "suggestions": self.suggestions(),
            "rates": len(self.rates),
            "first": float(self.rates[0]),
            "last": float(self.rates[-1]),
            "scale": self.scale,
            "stopped": self.stopped,
            "best_loss": float(best.min()) if len(best) else None,
        }


class SmoothedLoss:
    """An exponential average whose early values are not pulled towards 0.

    s_i = b s_(i-1) + (1 - b) x_i, divided by 1 - b^(i+1). Source: Kingma and Ba, Adam (2015).
    """

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self._sum = 0.0
        self._left = 1.0

    def add(self, value: float) -> float:
        """Take the next value; gives the average so far."""
        self._sum = self._weight * self._sum + (1.0 - self._weight) * value
        self._left *= self._weight
        return self._sum / (1.0 - self._left)


@dataclass(slots=True)
class _SweptRate:
    """Stands where a schedule stands, so that the step sets the sweep's rate by itself.

    Groups with rates of their own keep their ratio to `base`, the stage's rate.
    """

    sweep: RateSweep
    base: float
    done: int = field(default=0)

    def factor(self, _step: int) -> float:
        return self.sweep.rate(self.done) / self.base


def find_rate(
    state: TrainState,
    feed: Feed,
    rules: StepRules,
    *,
    base_rate: float,
    sweep: RateSweep,
    train_mode: Callable[[], None],
    progress: Callable[[int, int], None] | None = None,
) -> RateCurve:
    """Train `state` under the sweep's rates, then put back all that this changed.

    `base_rate`: the rate that the state's optimizer was built for. `train_mode` puts the network in
    training mode. The feed's epochs follow each other until the steps are done. The sweep ends
    early on a loss that is not finite, or whose smoothed value exceeds `diverged_at` times the
    least so far. Afterwards, even after an error, weights, buffers, optimizer, averages, counters,
    random states and training modes are those of before, bit for bit.
    """
    rates, losses, smoothed = [], [], []
    stopped: Stopped = "end"
    average, best = SmoothedLoss(sweep.smoothing), math.inf
    swept = _SweptRate(sweep, base_rate)
    with _undone(state):
        # Only `factor` of a schedule is asked for.
        state.schedule = cast("Schedule", swept)
        state.rate_scale = 1.0
        state.optimizer.zero_grad(set_to_none=True)  # the step expects none from before
        train_mode()
        with contextlib.closing(_batches(feed, sweep.steps)) as batches:
            for number, batch in enumerate(batches):
                swept.done = number
                loss = float(train_step(state, batch, rules).loss)
                rates.append(sweep.rate(number))
                losses.append(loss)
                smoothed.append(average.add(loss))
                if progress is not None:
                    progress(number + 1, sweep.steps)
                if not math.isfinite(loss):
                    stopped = "nonfinite"
                    break
                best = min(best, smoothed[-1])
                if smoothed[-1] > sweep.diverged_at * best:
                    stopped = "diverged"
                    break
    return RateCurve(np.array(rates), np.array(losses), np.array(smoothed), stopped, sweep.scale)


def sweep_steps(batches: int) -> int:
    """The updates of a sweep when none are asked for: an epoch's, within 100 to 400."""
    return min(MOST_STEPS, max(FEWEST_STEPS, batches))


def _batches(feed: Feed, steps: int) -> Generator[Batch, None, None]:
    """The feed's batches, epoch after epoch, `steps` in all."""
    epoch, left = 0, steps
    while left > 0:
        with contextlib.closing(feed.epoch(epoch)) as batches:  # type: ignore[type-var]
            for batch in batches:
                yield batch
                left -= 1
                if left == 0:
                    return
        epoch += 1


@contextlib.contextmanager
def _undone(state: TrainState) -> Iterator[None]:
    """Put back, at the end of the block, all of the state that training in it changes."""
    tensors, values = capture_state(state)
    # On the CPU a captured tensor is the live one: a checkpoint is written at once, this waits.
    kept = {
        group: {name: tensor.clone() for name, tensor in parts.items()}
        for group, parts in tensors.items()
    }
    # Buffers that no checkpoint holds, the gradients, and each module's mode.
    buffers = {name: buffer.clone() for name, buffer in state.model.named_buffers()}
    gradients = [None if p.grad is None else p.grad.clone() for p in state.parameters]
    modes = [(module, module.training) for module in state.model.modules()]
    schedule = state.schedule
    try:
        yield
    finally:
        state.schedule = schedule
        restore_state(state, kept, values)
        with torch.no_grad():
            for name, buffer in state.model.named_buffers():
                buffer.copy_(buffers[name])
        for parameter, gradient in zip(state.parameters, gradients, strict=True):
            parameter.grad = gradient
        for module, training in modes:
            module.training = training


def _usable(curve: RateCurve) -> tuple[Floats, Floats]:
    """(rates, smoothed losses) without the entry that ended the sweep."""
    end = len(curve.rates) if curve.stopped == "end" else -1
    return curve.rates[:end], curve.smoothed[:end]


def valley(curve: RateCurve) -> float | None:
    """The middle of the longest falling row of smoothed losses, on the scale of the steps.

    The row may leave entries out, so that noise does not end it. Source: the rule `valley`, by
    Esri, which fastai's `lr_find` suggests by default; here the row's own middle entry is taken,
    not the middle between its ends. None when no two losses fall.
    """
    rates, losses = _usable(curve)
    row = _longest_fall(losses)
    return float(rates[row[len(row) // 2]]) if len(row) > 1 else None


def steepest(curve: RateCurve) -> float | None:
    """The rate at which the smoothed loss falls fastest per step, ahead of its least value.

    Source: L. N. Smith, Cyclical Learning Rates (2017), section 3.3, in fastai's reading. None
    when the loss falls nowhere.
    """
    rates, losses = _usable(curve)
    if len(losses) < 3:
        return None
    least = max(3, int(losses.argmin()) + 1)
    slopes = np.gradient(losses[:least])
    place = int(slopes.argmin())
    return float(rates[place]) if slopes[place] < 0.0 else None


def tenth_of_least(curve: RateCurve) -> float | None:
    """A tenth of the rate with the least smoothed loss; None when that is never below the first.

    Source: Howard and Gugger, Deep Learning for Coders (2020), chapter 5, as fastai's `minimum`.
    """
    rates, losses = _usable(curve)
    if len(losses) < 3 or not losses.min() < losses[0]:
        return None
    return float(rates[losses.argmin()] / 10.0)


RULES: dict[str, Callable[[RateCurve], float | None]] = {
    "valley": valley,
    "steepest": steepest,
    "minimum": tenth_of_least,
}


def _longest_fall(values: Floats) -> list[int]:
    """Places of the longest strictly falling subsequence, first of the longest to be complete."""
    from bisect import bisect_left

    # tails[n]: where the row of length n + 1 with the largest last value ends. Kept negated, so
    # that the rows rise and bisect applies.
    tails: list[float] = []
    ends: list[int] = []
    before = [-1] * len(values)
    for place, value in enumerate(-values):
        length = bisect_left(tails, float(value))
        before[place] = ends[length - 1] if length else -1
        if length == len(tails):
            tails.append(float(value))
            ends.append(place)
        else:
            tails[length], ends[length] = float(value), place
    row = [ends[-1]] if ends else []
    while row and before[row[-1]] >= 0:
        row.append(before[row[-1]])
    return row[::-1]
