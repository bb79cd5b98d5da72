"""Lengths in updates, images and time, and what the schedule sees of them."""

import itertools

import pytest

from discern.base.errors import ConfigError
from discern.optim.schedules import Schedule
from discern.optim.timed_schedule import TimedSchedule
from discern.training.stage_length import StageClock, StageLength, stage_batches, stage_length


@pytest.mark.parametrize(
    ("given", "steps", "epochs"),
    [
        ({"epochs": 3}, 21, 3),
        ({"steps": 10}, 10, 2),
        ({"steps": 14}, 14, 2),
        ({"examples": 100}, 7, 1),  # 100 images in 7 batches are an epoch
        ({"examples": 101}, 8, 2),
    ],
)
def test_one_number_gives_the_updates(given, steps, epochs):
    length = stage_length(batches=7, samples=100, **given)
    assert (steps, epochs) == (length.steps, length.epochs)


@pytest.mark.parametrize("given", [{}, {"epochs": 1, "steps": 3}])
def test_no_length_and_two_are_refused(given):
    with pytest.raises(ConfigError, match="one length"):
        stage_length(batches=7, samples=100, **given)


def test_time_is_the_share_that_the_schedule_sees():
    schedule = TimedSchedule(Schedule("linear", {}, 1 << 40, 7))
    now = itertools.count(0.0, 1.0)
    clock = StageClock(lambda: next(now))
    clock.start()
    seen = [
        schedule.factor(0)
        for _ in stage_batches(iter(range(99)), StageLength(7, None, 8.0), (0, 0), clock, schedule)
    ]
    assert [1 - share / 8 for share in range(1, 8)] == pytest.approx(seen, abs=1e-5)


def test_timed_schedule_warms_up_by_updates_and_counts_milestones_in_epochs():
    warmed = TimedSchedule(Schedule("cosine", {}, 1 << 40, 10, warmup_steps=4), share=0.5)
    assert [0.0, 0.125, 0.25, 0.375, 0.5] == pytest.approx(
        [warmed.factor(step) for step in range(5)], abs=1e-5
    )
    steps = TimedSchedule(Schedule("multistep", {"milestones": [1]}, 1 << 40, 10), share=0.5)
    assert [1.0, 0.1] == pytest.approx([steps.factor(9), steps.factor(10)])
