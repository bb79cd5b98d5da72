"""A schedule over a stage whose length is a time: progress is the share of the time that is gone.

Owns no formula. What a schedule counts in epochs (milestones, warm-up) stays counted in epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from discern.optim.schedules import Schedule, resolve_schedule

# Schedules that decay over the whole stage; the others count epochs and need no end.
BY_PROGRESS = ("cosine", "poly", "linear", "one_cycle", "triangular", "one_cycle_warmup")
# Parts that the time is cut into: 0.1 s of a day.
_PARTS = 1 << 20


@dataclass(slots=True)
class TimedSchedule:
    """`base` over a time instead of its `total_steps`; `share` of it is gone, from 0 to 1.

    The trainer sets `share` between steps, so that a step reads no clock. A schedule that decays
    over the stage takes the share for its progress; its warm-up is done by updates, on top: the
    factor rises to what the decay has come to by then.
    """

    base: Schedule
    share: float = 0.0
    _whole: Schedule | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        name, _ = resolve_schedule(self.base.name, self.base.arguments)
        if name in BY_PROGRESS:
            self._whole = replace(self.base, total_steps=_PARTS, warmup_steps=0)

    def factor(self, step: int) -> float:
        """The multiple of the base rate for update `step` of the stage."""
        if self._whole is None:
            return self.base.factor(step)
        decayed = self._whole.factor(min(_PARTS - 1, int(self.share * _PARTS)))
        return self.base.warmed(step, decayed)
