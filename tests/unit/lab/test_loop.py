"""The outer loop: times, steps, its line and Ctrl-C."""

from __future__ import annotations

import os
import re
import signal

import pytest

from discern.base.errors import ConfigError
from discern.lab import loop, monit, tracker
from discern.lab.loop_clock import LoopClock, MovingAverage, hours_minutes


@pytest.fixture(autouse=True)
def _fresh_tracker():
    tracker.reset()
    yield
    loop.finish_loop()
    tracker.reset()


@pytest.mark.feature("LB-36")
@pytest.mark.feature("PP-31")
def test_time_left_of_a_steady_loop_is_right_from_the_first_iteration():
    clock = LoopClock(100, 1000.0)
    assert clock.remaining_s() is None
    for done in range(1, 101):
        clock.tick(1000.0 + 2.0 * done)
        assert 2.0 == pytest.approx(clock.step_s)
        assert (100 - done) * 2.0 == pytest.approx(clock.remaining_s())
    assert 200.0 == clock.elapsed_s(1200.0)


def test_moving_average_is_corrected_for_its_start():
    average = MovingAverage()
    assert 0.0 == average.value
    average.add(1.0)
    assert 1.0 == pytest.approx(average.value)
    average.add(2.0)
    assert (0.9 * 1.0 + 2.0) / 1.9 == pytest.approx(average.value)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:00"), (3599, "0:59"), (36_000, "10:00")]
)
def test_hours_and_minutes(seconds, text):
    assert text == hours_minutes(seconds)


@pytest.mark.feature("LB-36")
def test_loop_gives_items_and_moves_the_global_step(capsys):
    steps = [(item, tracker.get_global_step()) for item in loop(3)]
    assert [(0, 0), (1, 1), (2, 2)] == steps
    assert [5, 7] == list(loop.loop(range(5, 9, 2)))
    assert 0 == tracker.get_global_step()
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert 2 == len(out.splitlines())


@pytest.mark.feature("LB-36")
def test_last_line_has_sections_figures_and_times(capsys):
    for step in loop(4):
        with monit.section("train"):
            pass
        tracker.save(step + 1, loss=step / 4)
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r" +4:  train: \d+ms  loss: 0\.75  \d+ms  0:00/0:00", line)


def test_one_line_is_shown_anew_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("discern.base.console.Console.live", True)
    monkeypatch.setattr("discern.lab.loop._REFRESH_S", 0.0)
    for step in loop(5):
        tracker.save(step, loss=1.0)
    out = capsys.readouterr().out
    assert 1 == out.count("\n")
    assert 5 <= out.count("\r")


@pytest.mark.parametrize("live", [False, True])
def test_a_line_that_stays_is_said_once(monkeypatch, capsys, live):
    monkeypatch.setattr("discern.base.console.Console.live", live)
    monkeypatch.setattr("discern.lab.loop._REFRESH_S", 0.0)
    monkeypatch.setattr("discern.lab.loop._PLAIN_LINES_S", 0.0)
    running = loop.Loop(2, after=lambda _: running.keep_line())
    for step in running:
        tracker.add(loss=step)
        tracker.save(step + 1)
    whole = [line.rpartition("\r")[2] for line in capsys.readouterr().out.split("\n")]
    assert [1, 1] == [sum(f" {step}:  loss" in line for line in whole) for step in (1, 2)]


@pytest.mark.feature("LB-38")
def test_first_interrupt_lets_the_iteration_finish():
    finished = []

    def run():
        for item in loop(10):
            if item == 2:
                os.kill(os.getpid(), signal.SIGINT)
            finished.append(item)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="after an iteration"):
        run()
    assert [0, 1, 2] == finished
    assert before is signal.getsignal(signal.SIGINT)


@pytest.mark.feature("LB-38")
def test_second_interrupt_ends_the_loop_at_once():
    finished = []

    def run():
        for item in loop(10):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            finished.append(item)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert [] == finished


def test_broken_off_loop_ends_and_the_next_one_runs():
    for _ in loop(3):
        break
    loop.finish_loop()
    assert [0] == list(loop(1))


def test_loop_in_a_loop_is_refused():
    for _ in loop(1):
        with pytest.raises(ConfigError, match="running already"):
            next(iter(loop(2)))
