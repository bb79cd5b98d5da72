"""The outer loop of a training of your own: its steps, what happens at intervals, Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.config.lazy import BaseConfigs
from discern.lab import experiment, tracker


class TrainingLoop:
    """Counts from the global step to `count` in strides of `step`, giving each start.

    After each round figures are saved, and models where `is_save_models`, whenever a multiple of
    the interval was passed, and after the last round. A round that did not move the global step
    moves it by `step`. With `is_loop_on_interrupt` a first Ctrl-C lets the round finish, saves and
    ends the loop (`interrupted` tells), a second one ends at once.
    """

    def __init__(self, c: TrainingLoopConfigs) -> None:
        self.count, self.step = int(c.loop_count), int(c.loop_step)
        if self.step < 1:
            raise ConfigError("a loop moves on", where="loop_step", got=self.step, expected=">= 1")
        self.is_save_models = c.is_save_models
        self.write_interval = c.log_write_interval
        self.line_interval = c.log_new_line_interval
        self.save_interval = c.save_models_interval
        self.waits = c.is_loop_on_interrupt
        self.interrupted = False
        self.at = 0
        self._console = Console()

    def is_interval(self, interval: int) -> bool:
        """True if this round passes a multiple of `interval`, or is the last."""
        end = self.at + self.step
        if interval < 1:
            return False
        return end >= self.count or end // interval > self.at // interval

    def __iter__(self) -> Iterator[int]:
        before = self._catch_interrupts()
        try:
            for at in range(tracker.get_global_step(), self.count, self.step):
                self.at = at
                started = tracker.get_global_step()
                yield at
                if tracker.get_global_step() == started:
                    tracker.set_global_step(at + self.step)
                self._finish_round()
                if self.interrupted:
                    break
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)
        if self.interrupted:
            raise KeyboardInterrupt("stopped after a round, as asked by Ctrl-C")

    def _finish_round(self) -> None:
        if self.interrupted or self.is_interval(self.write_interval):
            tracker.save()
        if self.is_save_models and (self.interrupted or self.is_interval(self.save_interval)):
            experiment.save_checkpoint()
        shown = tracker.tracker.shown()
        if shown and self.is_interval(self.line_interval):
            figures = "  ".join(f"{name}: {value:.5g}" for name, value in shown)
            self._console.say(f"{tracker.get_global_step():>10,}  {figures}")

    def _catch_interrupts(self) -> Any:
        if not self.waits or threading.current_thread() is not threading.main_thread():
            return None

        def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            self._console.warn("stopping after this round; once more to stop at once")

        return signal.signal(signal.SIGINT, handle)


class TrainingLoopConfigs(BaseConfigs):
    """How long a loop is, what it does at intervals (counted in steps), and what Ctrl-C does."""

    loop_count: int = 10
    loop_step: int = 1
    is_save_models: bool = False
    log_new_line_interval: int = 1
    log_write_interval: int = 1
    save_models_interval: int = 1
    is_loop_on_interrupt: bool = True
    training_loop: TrainingLoop


@TrainingLoopConfigs.calc(TrainingLoopConfigs.training_loop)
def training_loop(c: TrainingLoopConfigs) -> TrainingLoop:
    """The loop of these settings."""
    return TrainingLoop(c)


TrainingLoopConfigs.set_meta(
    TrainingLoopConfigs.is_save_models,
    TrainingLoopConfigs.log_new_line_interval,
    TrainingLoopConfigs.log_write_interval,
    TrainingLoopConfigs.save_models_interval,
    TrainingLoopConfigs.is_loop_on_interrupt,
)
