"""Ending a run when its time is up."""

from __future__ import annotations

import re
import time
from typing import Any, Final

from discern.base.errors import ConfigError
from discern.training.callbacks import Callback, Progress, Signal

_FORM: Final = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def seconds_of(text: str | float) -> float:
    """Seconds in `90`, `90s`, `20m`, `1.5h` or `1h30m`. Raises ConfigError."""
    found = _FORM.fullmatch(str(text).strip())
    parts = [] if found is None else [float(part or 0) for part in found.groups()]
    total = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if not total > 0:
        raise ConfigError(
            "not a length of time", where="time limit", got=text, expected="90s, 20m, 1h30m"
        )
    return total


class TimeLimit(Callback):
    """Ends the run after `limit` of training, evaluations and saving, over all its attempts.

    `limit`: seconds, or text such as 20m and 1h30m. The step in progress is finished, the weights
    are scored once more and saved, and the run ends as it would after its last stage.
    """

    def __init__(self, limit: str | float) -> None:
        self.limit_s = seconds_of(limit)
        self.spent_s = 0.0  # in attempts before this one
        self._started: float | None = None

    def before_stage(self, progress: Progress) -> Signal | None:  # noqa: ARG002
        """The clock starts with the run's first stage."""
        if self._started is None:
            self._started = time.monotonic()
        return self._judge()

    def after_step(self, progress: Progress) -> Signal | None:  # noqa: ARG002
        """Look at the clock."""
        return self._judge()

    def after_epoch(self, progress: Progress) -> Signal | None:  # noqa: ARG002
        """Look again: an evaluation may have taken long."""
        return self._judge()

    def _judge(self) -> Signal | None:
        if self._elapsed() < self.limit_s:
            return None
        self.reason = f"the limit of {self.limit_s:g} s is reached"
        return Signal.END_RUN

    def _elapsed(self) -> float:
        return self.spent_s + (0.0 if self._started is None else time.monotonic() - self._started)

    def state(self) -> dict[str, Any]:
        """Seconds used so far."""
        return {"spent_s": self._elapsed()}

    def restore(self, state: dict[str, Any]) -> None:
        """Seconds used by the attempts before; the clock starts anew."""
        self.spent_s = float(state["spent_s"])
        self._started = None if self._started is None else time.monotonic()
