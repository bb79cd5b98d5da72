"""Learning-rate schedules as closed forms: update number in, multiple of the base rate out.

Owns the formulas and the warm-up; knows no optimizer and imports no torch. A schedule has no
memory: a resumed or lengthened run builds it again and asks for its step. Updates are numbered
from 0, so update k of T has the progress k / T and no update has progress 1.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.base.plugins import check_arguments

Formula = Callable[[float], float]
# How far a warm-up has come at the share of its updates; `constant` has not come anywhere.
_WARMUP_SHAPES: dict[str, Formula] = {
    "linear": lambda share: share,
    "constant": lambda _share: 0.0,
    "power2": lambda share: share * share,
    "sqrt": math.sqrt,
}
WARMUP_MODES = tuple(_WARMUP_SHAPES)
# MXNet's names of the schedulers that are called otherwise here.
_ALIASES = {"factor": "step", "multifactor": "multistep"}
_POWER_ALIAS = re.compile(r"pow(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Span:
    """The updates that a formula covers: the first, the one after the last, the epoch's length."""

    first: int
    end: int
    steps_per_epoch: int

    def progress(self, step: float) -> float:
        """`step` as a fraction of the span, kept in [0, 1]."""
        length = self.end - self.first
        if length <= 0:
            return 1.0
        return min(1.0, max(0.0, (step - self.first) / length))


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule over `total_steps` updates; `factor(step)` multiplies each group's base rate.

    `arguments` go to the schedule's formula. During the first `warmup_steps` updates the factor
    rises from `warmup_begin` to the formula's value at the end of the warm-up: in a line (`linear`)
    or with the square or the root of the share done (`power2`, `sqrt`); or it stays at
    `warmup_begin` (`constant`). Cosine, poly and linear then decay over the remaining updates,
    while milestones stay where they were named. Source of the warm-up modes: MXNet's schedulers and
    its LBSGD. Raises ConfigError for an unknown name or argument, and for values out of range.
    """

    name: str
    arguments: Mapping[str, Any]
    total_steps: int
    steps_per_epoch: int
    warmup_steps: int = 0
    warmup_mode: str = "linear"
    warmup_begin: float = 0.0
    _formula: Formula = field(init=False, repr=False, compare=False)
    _warmup_end: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_counts(self)
        name, arguments = resolve_schedule(self.name, self.arguments)
        span = Span(self.warmup_steps, self.total_steps, self.steps_per_epoch)
        if self.warmup_steps and name in RISING:
            raise ConfigError(
                f"schedule '{self.name}' rises by itself and takes no warm-up",
                where="schedule",
                got=f"warm-up of {self.warmup_steps} steps",
                expected="no warm-up",
                hint="stages.*.warmup_epochs=0",
            )
        formula = SCHEDULES[name](span, **arguments)
        object.__setattr__(self, "_formula", formula)
        object.__setattr__(self, "_warmup_end", formula(self.warmup_steps))

    def factor(self, step: int) -> float:
        """The multiple of the base rate for update `step`; 0 is the first update."""
        if step < self.warmup_steps:
            return self.warmed(step, self._warmup_end)
        return self._formula(step)

    def warmed(self, step: int, target: float) -> float:
        """`target`, or what the warm-up on the way to it has come to at update `step`."""
        warmup = self.warmup_steps
        if step >= warmup:
            return target
        begin = self.warmup_begin
        return begin + (target - begin) * _WARMUP_SHAPES[self.warmup_mode](step / warmup)


def rises_by_itself(name: str) -> bool:
    """Whether the schedule `name` begins low of its own and so takes no warm-up."""
    return _ALIASES.get(name, name) in RISING


def resolve_schedule(name: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The schedule's own name and arguments: `pow2` is `poly` with power 2, `factor` is `step`.

    Raises ConfigError for an unknown name (naming the nearest) or an unknown argument.
    """
    given = dict(arguments)
    name = _ALIASES.get(name, name)
    alias = _POWER_ALIAS.fullmatch(name)
    if alias:
        name = "poly"
        given.setdefault("power", float(alias[1]))
    if name not in SCHEDULES:
        raise ConfigError(
            f"unknown schedule '{name}'",
            where="schedule",
            got=name,
            expected=", ".join([*SCHEDULES, "powN"]),
            hint=did_you_mean(name, [*SCHEDULES, *_ALIASES]),
        )
    check_arguments(SCHEDULES[name], given, where=f"schedule '{name}'", given=("span",))
    return name, given


def constant(span: Span) -> Formula:  # noqa: ARG001 - every formula takes the span
    """Factor 1 throughout."""
    return lambda _step: 1.0


def cosine(span: Span, *, final: float = 0.0) -> Formula:
    """Half a cosine from 1 to `final`: final + (1 - final) * (1 + cos(pi p)) / 2 at progress p.

    Source: Loshchilov and Hutter, SGDR (2017), without restarts.
    """
    _check_fraction("final", final)
    half = (1.0 - final) / 2.0

    def formula(step: float) -> float:
        return final + half * (1.0 + math.cos(math.pi * span.progress(step)))

    return formula


def poly(span: Span, *, power: float = 2.0, final: float = 0.0) -> Formula:
    """final + (1 - final) * (1 - p) ** power at progress p; power 2 as in MXNet's scheduler."""
    _check_fraction("final", final)
    if power <= 0:
        raise _out_of_range("power", power, "a number above 0")

    def formula(step: float) -> float:
        left: float = (1.0 - span.progress(step)) ** power
        return final + (1.0 - final) * left

    return formula


def linear(span: Span, *, final: float = 0.0) -> Formula:
    """A line from 1 to `final`."""
    return poly(span, power=1.0, final=final)


def step(span: Span, *, every: float, gamma: float = 0.1, least: float = 0.0) -> Formula:
    """Multiply by `gamma` each `every` epochs of the run, never below `least`."""
    if every <= 0:
        raise _out_of_range("every", every, "a number of epochs above 0")
    _check_gamma(gamma)
    length = every * span.steps_per_epoch

    def formula(step: float) -> float:
        return max(least, float(gamma ** math.floor(step / length)))

    return formula


def multistep(span: Span, *, milestones: list[float], gamma: float = 0.1) -> Formula:
    """Multiply by `gamma` at the first update of each epoch in `milestones` (rising, from 0)."""
    _check_gamma(gamma)
    marks = [round(epoch * span.steps_per_epoch) for epoch in milestones]
    if marks != sorted(marks) or any(mark < 0 for mark in marks):
        raise _out_of_range("milestones", milestones, "epochs in rising order, such as [30, 60]")

    def formula(step: float) -> float:
        return float(gamma ** bisect_right(marks, step))

    return formula


def one_cycle(
    span: Span, *, rise: float = 0.3, begin_divisor: float = 25.0, end_divisor: float = 1e4
) -> Formula:
    """Cosine from 1 / `begin_divisor` up to 1, then down to that / `end_divisor` at the end.

    `rise` is the share of the updates that climbs. Defaults and shape as torch's OneCycleLR.
    Source: Smith and Topin, Super-convergence (2018).
    """
    if not 0 < rise < 1:
        raise _out_of_range("rise", rise, "a fraction between 0 and 1")
    begin = 1.0 / begin_divisor
    end = begin / end_divisor
    peak = rise * (span.end - span.first) - 1.0
    last = span.end - span.first - 1.0

    def formula(step: float) -> float:
        at = min(step - span.first, last)
        if at <= peak:
            return (
                1.0 + (begin - 1.0) * (1.0 + math.cos(math.pi * at / peak)) / 2.0 if peak else 1.0
            )
        share = (at - peak) / (last - peak) if last > peak else 1.0
        return end + (1.0 - end) * (1.0 + math.cos(math.pi * share)) / 2.0

    return formula


def triangular(
    span: Span, *, begin: float = 0.2, peak: float = 0.25, final: float = 0.0
) -> Formula:
    """A line from `begin` up to 1 at the share `peak` of the updates, then a line to `final`.

    Source of the defaults: the rates of KellerJordan/cifar10-airbench (begin 0.2, peak near 0.23).
    """
    _check_fraction("begin", begin)
    _check_fraction("final", final)
    if not 0 < peak < 1:
        raise _out_of_range("peak", peak, "a fraction between 0 and 1")

    def formula(step: float) -> float:
        at = span.progress(step)
        if at < peak:
            return begin + (1.0 - begin) * at / peak
        return 1.0 + (final - 1.0) * (at - peak) / (1.0 - peak)

    return formula


def per_epoch(span: Span, *, factors: list[float]) -> Formula:
    """The listed multiples, one an epoch; the last one goes on."""
    if not factors or any(factor < 0 for factor in factors):
        raise _out_of_range("factors", factors, "a list of numbers of at least 0")
    listed = [float(factor) for factor in factors]
    last = len(listed) - 1

    def formula(step: float) -> float:
        return listed[min(last, int(step // span.steps_per_epoch))]

    return formula


def piecewise(span: Span, *, boundaries: list[float], multiples: list[float]) -> Formula:
    """`multiples[i]` between the epochs `boundaries[i - 1]` and `boundaries[i]`, fractions allowed.

    One multiple more than boundaries. Source: the piecewise rates of Lambda Deep Learning.
    """
    marks = [round(epoch * span.steps_per_epoch) for epoch in boundaries]
    if marks != sorted(marks) or any(mark < 0 for mark in marks):
        raise _out_of_range("boundaries", boundaries, "epochs in rising order, such as [2, 4.5]")
    if len(multiples) != len(marks) + 1 or any(multiple < 0 for multiple in multiples):
        expected = f"{len(marks) + 1} numbers of at least 0, one more than boundaries"
        raise _out_of_range("multiples", multiples, expected)
    listed = [float(multiple) for multiple in multiples]
    return lambda step: listed[bisect_right(marks, step)]


def exponential(span: Span, *, gamma: float) -> Formula:
    """`gamma` ** epochs, growing with every update."""
    _check_gamma(gamma)
    return lambda step: float(gamma ** (step / span.steps_per_epoch))


def one_cycle_warmup(
    span: Span,
    *,
    begin: float = 0.0,
    rise: float = 0.0,
    low: float = 0.005,
    fall: float = 0.0,
    final: float | None = None,
) -> Formula:
    """Three lines: up to 1 in the share `rise`, down to `low`, in the last share `fall` to `final`.

    It starts at `begin`; `final` is `low` unless given. Shape and defaults: Catalyst's
    OneCycleLRWithWarmup with lr_range (1.0, 0.005), as multiples of the peak.
    """
    last = low if final is None else final
    for name, value in (("begin", begin), ("low", low), ("final", last)):
        _check_fraction(name, value)
    if min(rise, fall) < 0 or rise + fall >= 1:
        raise _out_of_range("rise and fall", (rise, fall), "fractions with a sum below 1")

    def formula(step: float) -> float:
        at = span.progress(step)
        if at < rise:
            return begin + (1.0 - begin) * at / rise
        if at <= 1.0 - fall:
            return 1.0 + (low - 1.0) * (at - rise) / (1.0 - fall - rise)
        return low + (last - low) * (at - 1.0 + fall) / fall

    return formula


SCHEDULES: dict[str, Callable[..., Formula]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
    "multistep": multistep,
    "poly": poly,
    "linear": linear,
    "one_cycle": one_cycle,
    "triangular": triangular,
    "per_epoch": per_epoch,
    "piecewise": piecewise,
    "exponential": exponential,
    "one_cycle_warmup": one_cycle_warmup,
}
RISING = ("one_cycle", "triangular", "one_cycle_warmup")
"""Schedules that begin low by themselves; a warm-up before them is refused."""


def warmup_fraction(begin_lr: float, lr: float) -> float:
    """The `warmup_begin` of a warm-up from the rate `begin_lr` up to the peak rate `lr`.

    Raises ConfigError unless 0 <= begin_lr <= lr.
    """
    if not lr > 0 or not 0 <= begin_lr <= lr:
        raise _out_of_range("warmup_lr", begin_lr, f"a rate from 0 to the peak rate {lr:g}")
    return begin_lr / lr


def _check_counts(schedule: Schedule) -> None:
    for name, least in (("total_steps", 1), ("steps_per_epoch", 1), ("warmup_steps", 0)):
        value = getattr(schedule, name)
        if value < least:
            raise _out_of_range(name, value, f"at least {least}")
    if schedule.warmup_steps > schedule.total_steps:
        raise ConfigError(
            "the warm-up is longer than the training",
            where="schedule",
            got=f"warm-up of {schedule.warmup_steps} steps",
            expected=f"at most {schedule.total_steps} steps",
            hint="train longer, or a smaller stages.*.warmup_epochs",
        )
    if schedule.warmup_mode not in WARMUP_MODES:
        raise _out_of_range("warmup_mode", schedule.warmup_mode, ", ".join(WARMUP_MODES))
    _check_fraction("warmup_begin", schedule.warmup_begin)


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise _out_of_range(name, value, "a fraction from 0 to 1")


def _check_gamma(gamma: float) -> None:
    if gamma <= 0:
        raise _out_of_range("gamma", gamma, "a number above 0")


def _out_of_range(name: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"'{name}' is out of range", where="schedule", got=value, expected=expected)
