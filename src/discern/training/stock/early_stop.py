"""Ending a stage whose score does not improve any more."""

from __future__ import annotations

import math
from typing import Any, Literal

from discern.base.errors import ConfigError
from discern.training.callbacks import Callback, Progress, Signal
from discern.training.monitor import LAST_EPOCH, open_monitor


class EarlyStop(Callback):
    """Ends a stage when the monitored figure has not improved for `patience` evaluations.

    `monitor`: a figure of the validation images; `mode`, max or min, says which way it improves:
    known for those with a name. `min_delta`: what is less than this, or equal, is no improvement.
    """

    def __init__(
        self,
        patience: int,
        monitor: str = "accuracy",
        min_delta: float = 0.0,
        mode: Literal["max", "min"] | None = None,
    ) -> None:
        self.patience = patience
        self.monitor = open_monitor(monitor, mode)
        if monitor == LAST_EPOCH:
            raise ConfigError(
                "a stage cannot end early by 'last', which is no figure", where="early_stop",
                got=monitor, expected="accuracy, loss, ...",
            )  # fmt: skip
        self.min_delta = min_delta
        self.best: float | None = None
        self.waited = 0

    def before_stage(self, progress: Progress) -> None:
        """A new stage starts with fresh patience; a resumed one keeps what was restored."""
        if progress.stage_step == 0:
            self.best, self.waited = None, 0

    def after_evaluation(self, progress: Progress) -> Signal | None:
        """Compare with the best of this stage."""
        value = progress.readings[f"val/{self.monitor.name}"]
        merit = self.monitor.merit(value)
        if math.isfinite(merit) and (self.best is None or merit > self.best + self.min_delta):
            self.best, self.waited = merit, 0
            return None
        self.waited += 1
        if self.waited < self.patience:
            return None
        best = "none was finite" if self.best is None else f"{abs(self.best):.4f} was the best"
        self.reason = f"no better {self.monitor.name} in {self.waited} evaluations, {best}"
        return Signal.END_STAGE

    def state(self) -> dict[str, Any]:
        """Best score and evaluations waited."""
        return {"best": self.best, "waited": self.waited}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.best, self.waited = state["best"], state["waited"]
