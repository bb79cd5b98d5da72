"""How long a stage is: passes, updates, images shown, or time; and its clock.

A length in updates or images ends inside an epoch, one in time wherever the time is up. The hot
loop is the same for all: what shortens an epoch is the row of batches that it is given.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from discern.base.errors import ConfigError
from discern.feed.batch import Batch
from discern.optim.schedules import Schedule
from discern.optim.timed_schedule import TimedSchedule


@dataclass(frozen=True, slots=True)
class StageLength:
    """`steps` updates in epochs of `batches`; or, with `seconds`, as many as fit into these."""

    batches: int
    steps: int | None = None
    seconds: float | None = None

    @property
    def epochs(self) -> int | None:
        """Epochs begun, the last one perhaps not ended; None for a length in time."""
        return None if self.steps is None else -(-self.steps // self.batches)

    @property
    def end(self) -> tuple[int, int]:
        """(epoch, batch) behind the last update that the stage can have."""
        return (sys.maxsize if self.epochs is None else self.epochs), 0

    def expected_steps(self, done: int, elapsed_s: float) -> int:
        """All updates of the stage: known, or what `done` in `elapsed_s` make of its time."""
        if self.steps is not None or not self.seconds:
            return self.steps or 0
        share = min(1.0, max(elapsed_s / self.seconds, 1e-9))
        return max(done, self.batches if not done else round(done / share))

    def batches_of(self, epoch: int) -> int:
        """The batches of epoch number `epoch`, from 0: fewer in the last one of some lengths."""
        if self.steps is None:
            return self.batches
        return min(self.batches, self.steps - epoch * self.batches)

    def is_over(self, epoch: int, batch: int, elapsed_s: float) -> bool:
        """True when nothing is left at `batch` of `epoch`."""
        if self.steps is not None:
            return epoch * self.batches + batch >= self.steps
        return epoch == sys.maxsize or (self.seconds is not None and elapsed_s >= self.seconds)


def stage_length(
    *,
    batches: int,
    samples: int,
    epochs: int | None = None,
    steps: int | None = None,
    examples: int | None = None,
    minutes: float | None = None,
) -> StageLength:
    """The length that the one number given says; `batches` and `samples` are those of an epoch.

    `examples` are rounded up to whole updates. Raises ConfigError unless one number is given.
    """
    given = [value for value in (epochs, steps, examples, minutes) if value is not None]
    if len(given) != 1:
        raise ConfigError(
            "a stage has one length", where="stage", got=f"{len(given)} of them",
            expected="epochs, steps, examples or minutes",
        )  # fmt: skip
    if minutes is not None:
        return StageLength(batches=batches, seconds=60.0 * minutes)
    if epochs is not None:
        return StageLength(batches=batches, steps=epochs * batches)
    if examples is not None:
        # Batches of an epoch are of equal size, so the images shown grow evenly with the updates.
        steps = -(-examples * batches // samples)
    return StageLength(batches=batches, steps=steps)


def closing_epoch(name: str, length: StageLength, close_aug: int) -> int | None:
    """The epoch from which on only gentle augmentation is done; None: never. Raises ConfigError."""
    if length.epochs is not None:
        return length.epochs - close_aug
    if close_aug:
        raise ConfigError(
            "the last epochs of a stage of some minutes are not known beforehand",
            where=f"stages.{name}.close_aug",
            got=close_aug,
            expected="a length in epochs, steps or examples",
        )
    return None


class StageClock:
    """Seconds that a stage has taken, those before a resume included.

    `now`: a clock that all ranks share, so that all end after the same step.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()

    def start(self, before_s: float = 0.0) -> None:
        """Begin to count, from what a checkpoint says was spent before it."""
        self._began = self._now() - before_s

    @property
    def elapsed_s(self) -> float:
        """Seconds so far: steps, evaluations and saving."""
        return self._now() - self._began


def stage_batches(
    feed: Iterator[Batch],
    length: StageLength,
    place: tuple[int, int],
    clock: StageClock,
    schedule: Schedule | TimedSchedule,
) -> Iterator[Batch]:
    """What belongs to the stage of `feed`, an epoch from `place` (epoch, batch) on.

    That is the feed itself where all of it does. In a stage of some minutes, `schedule` is told
    the share of the time that is gone before each batch.
    """
    epoch, first = place
    if length.seconds is not None:
        return _until(feed, length.seconds, clock, schedule)
    count = length.batches_of(epoch)
    return feed if count == length.batches else itertools.islice(feed, count - first)


def _until(
    feed: Iterator[Batch], seconds: float, clock: StageClock, schedule: Schedule | TimedSchedule
) -> Iterator[Batch]:
    for number, batch in enumerate(feed):
        share = clock.elapsed_s / seconds
        if number and share >= 1.0:  # an epoch that was begun has a step to be evaluated
            return
        if isinstance(schedule, TimedSchedule):
            schedule.share = min(1.0, share)
        yield batch
