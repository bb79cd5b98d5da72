"""Ending a stage whose score does not improve any more."""

from __future__ import annotations

from typing import Any

from discern.training.callbacks import Callback, Progress, Signal


class EarlyStop(Callback):
    """Ends a stage when the monitored figure has not improved for `patience` evaluations.

    `monitor`: a figure of the validation images; the loss improves by falling, all else by rising.
    `min_delta`: what is less than this, or equal, is no improvement.
    """

    def __init__(self, patience: int, monitor: str = "accuracy", min_delta: float = 0.0) -> None:
        self.patience = patience
        self.monitor = monitor
        self.min_delta = min_delta
        self.best: float | None = None
        self.waited = 0

    def before_stage(self, progress: Progress) -> None:
        """A new stage starts with fresh patience; a resumed one keeps what was restored."""
        if progress.stage_step == 0:
            self.best, self.waited = None, 0

    def after_evaluation(self, progress: Progress) -> Signal | None:
        """Compare with the best of this stage."""
        value = progress.readings[f"val/{self.monitor}"]
        score = -value if self.monitor == "loss" else value
        if self.best is None or score > self.best + self.min_delta:
            self.best, self.waited = score, 0
            return None
        self.waited += 1
        return Signal.END_STAGE if self.waited >= self.patience else None

    def state(self) -> dict[str, Any]:
        """Best score and evaluations waited."""
        return {"best": self.best, "waited": self.waited}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.best, self.waited = state["best"], state["waited"]
