"""The outer loop of a training of your own: its steps, what happens at intervals, Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator

from discern.base.errors import ConfigError
from discern.config.lazy import BaseConfigs
from discern.lab import experiment, tracker
from discern.lab.loop import Loop


class TrainingLoop:
    """Counts from the global step to `count` in strides of `step`, giving each start.

    After each round figures are saved, and models where `is_save_models`, whenever a multiple of
    the interval was passed, and after the last round. A round that did not move the global step
    moves it by `step`. With `is_loop_on_interrupt` a first Ctrl-C lets the round finish, saves and
    ends the loop (`interrupted` tells), a second one ends at once. It is shown as `loop` is.
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
        self.at = 0
        self._loop: Loop | None = None
        self._started = 0

    @property
    def interrupted(self) -> bool:
        """A first Ctrl-C came: this round is the last."""
        return self._loop is not None and self._loop.interrupted

    def is_interval(self, interval: int) -> bool:
        """True if this round passes a multiple of `interval`, or is the last."""
        end = self.at + self.step
        if interval < 1:
            return False
        return end >= self.count or end // interval > self.at // interval

    def __iter__(self) -> Iterator[int]:
        start = tracker.get_global_step()
        tracker.set_global_step(start)  # from now on rounds move it, not the loop's counter
        rounds = range(start, self.count, self.step)
        self._loop = Loop(rounds, waits=self.waits, after=self._finish_round)
        for at in self._loop:
            self.at, self._started = at, tracker.get_global_step()
            yield at

    def _finish_round(self, at: int) -> None:
        if tracker.get_global_step() == self._started:
            tracker.set_global_step(at + self.step)
        if self.interrupted or self.is_interval(self.write_interval):
            tracker.save()
        if self.is_save_models and (self.interrupted or self.is_interval(self.save_interval)):
            experiment.save_checkpoint()
        if self._loop is not None and self.is_interval(self.line_interval):
            self._loop.keep_line()


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
