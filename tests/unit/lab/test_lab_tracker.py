"""`discern.lab.tracker`: the calls of a loop of one's own, into a run folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from discern.base.errors import ConfigError, RunError
from discern.lab import tracker
from discern.track.metrics_log import read_all, read_series
from discern.track.run import create_run, read_run, resume_run


@pytest.fixture(autouse=True)
def _fresh_tracker():
    tracker.reset()
    yield
    tracker.reset()


@pytest.fixture
def run(tmp_path):
    with create_run(tmp_path, "lab", name="one") as writer:
        yield writer


@pytest.mark.feature("LB-26")
@pytest.mark.feature("LB-29")
def test_figures_of_a_loop_are_in_the_run(run):
    tracker.open_run(run)
    tracker.set_queue("loss.train", 2, True)
    for step in range(1, 4):
        with tracker.namespace("train"):
            tracker.add("loss.", float(step))
        tracker.save(step)
    tracker.close_run()
    run.flush()
    assert [1.0, 1.5, 2.5] == read_series(run.path, "loss.train.mean").values.tolist()


@pytest.mark.feature("LB-25")
def test_histogram_takes_the_arguments_of_a_queue_with_a_warning(run):
    tracker.open_run(run)
    with pytest.warns(UserWarning, match="the size is ignored"):
        tracker.set_histogram("h", 20, True)
    for value in range(30):
        tracker.add("h", value)
    tracker.save(1)
    run.flush()
    assert {"h.mean": [14.5]} == {n: s.values.tolist() for n, s in read_all(run.path).items()}
    assert [("h", 14.5)] == tracker.tracker.shown()


def test_without_a_run_it_says_once_that_nothing_is_kept(capsys):
    tracker.save(1, a=1.0)
    tracker.save(2, a=1.0, b=2.0)
    assert 1 == capsys.readouterr().err.count("no run is open")


def test_unknown_writer_names_the_nearest(run):
    with pytest.raises(ConfigError) as caught:
        tracker.open_run(run, ["nativ"])
    assert "did you mean 'native'?" == caught.value.hint


BROKEN = """
class Broken:
    def __init__(self, run):
        self.run = run

    def write(self, records):
        raise ConnectionError("no route to host")
"""


def test_broken_writer_is_in_the_record_of_the_run_and_shown(tmp_path, capsys):
    place = tmp_path / "mine.py"
    place.write_text(BROKEN)
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, ["native", f"{place}:Broken"])
        tracker.save(1, a=1.0)
        run.flush()
        tracker.save(2, a=2.0)
    problem = f"{place}:Broken: stopped by ConnectionError: no route to host"
    assert [problem] == read_run(run.path).record["problems"]
    assert [problem] == json.loads((run.path / "exit.json").read_text())["problems"]
    assert "no route to host" in capsys.readouterr().err
    assert [1.0, 2.0] == read_series(run.path, "a").values.tolist()


def test_second_attempt_drops_points_after_its_start(tmp_path):
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run)
        for step in range(1, 6):
            tracker.save(step, a=float(step))
    with resume_run(run.path) as again:
        tracker.open_run(again, start_step=3)
        assert 3 == tracker.get_global_step()
        tracker.save(4, a=40.0)
    found = read_series(run.path, "a")
    assert ([1, 2, 3, 4], [1.0, 2.0, 3.0, 40.0]) == (found.steps.tolist(), found.values.tolist())


def test_second_writer_of_a_run_is_refused_and_names_the_first(tmp_path):
    with create_run(tmp_path, "lab", name="one") as run:
        with pytest.raises(RunError, match=f"process {os.getpid()} on"):
            resume_run(run.path)
        tracker.open_run(run)
        tracker.save(1, a=1.0)
    assert [1] == read_series(run.path, "a").steps.tolist()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from discern.lab import tracker
from discern.track.metrics_log import read_series
from discern.track.run import create_run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with create_run(Path(sys.argv[1]), "lab", name="one") as run:
    tracker.open_run(run)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    for step in range(3000):
        tracker.save(step, a=float(step))
    print(run.problems())
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
print(len(read_series(run.path, "a")))
"""


def test_full_disk_does_not_stop_the_loop_and_is_told(tmp_path):
    out = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    told, count = out.stdout.splitlines()
    assert "metrics wait in memory: [Errno 27] File too large" in told
    assert "3000" == count


def test_moved_folder_keeps_what_is_saved_after_the_move(tmp_path):
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run)
        tracker.save(1, a=1.0)
        run.flush()
        (tmp_path / "lab" / "one").rename(tmp_path / "lab" / "two")
        tracker.save(2, a=2.0)
        run.metrics.flush()
        assert [1, 2] == read_series(tmp_path / "lab" / "two", "a").steps.tolist()
        (tmp_path / "lab" / "two").rename(tmp_path / "lab" / "one")


def test_half_deleted_folder_is_read_as_far_as_it_is_there(tmp_path):
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run)
        tracker.save(1, a=1.0)
    (run.path / "series.jsonl").unlink()
    assert ["unnamed series 0"] == list(read_all(run.path))
    (run.path / "metrics.idx").unlink()
    assert ["unnamed series 0"] == list(read_all(run.path))
    (run.path / "metrics.bin").unlink()
    assert {} == read_all(run.path)


def test_clock_that_jumps_back_keeps_the_order_of_points(run, monkeypatch):
    clock = iter([1000.0, 10.0, 2000.0])
    monkeypatch.setattr("discern.track.tracker.now", lambda: next(clock))
    tracker.open_run(run)
    for step in (1, 2, 3):
        tracker.save(step, a=float(step))
    run.flush()
    found = read_series(run.path, "a")
    assert ([1, 2, 3], [1000.0, 10.0, 2000.0]) == (found.steps.tolist(), found.times.tolist())


KILLED = """
import sys
from pathlib import Path
from discern.lab import tracker
from discern.track.run import create_run, resume_run
folder, state = Path(sys.argv[1]), Path(sys.argv[2])
start = int(state.read_text()) if state.exists() else 0
run = resume_run(folder) if folder.exists() else create_run(folder.parent.parent, "lab", name="one")
with run:
    tracker.open_run(run, start_step=start)
    step = start
    while True:
        for _ in range(50):
            step += 1
            tracker.save(step, loss=step / 4, **{f"rare {step // 100}": float(step)})
        run.flush()
        # Stands for a checkpoint: what the next attempt goes on from.
        fresh = state.with_suffix(".new")
        fresh.write_text(str(step))
        fresh.replace(state)
"""


def kill_at_random_moments(tmp_path, kills):
    random = np.random.default_rng(0)
    for number in range(kills):
        # Twenty attempts a run: a run of two hundred takes its reader longer than the killing.
        folder = tmp_path / f"store {number // 20}" / "lab" / "one"
        state = tmp_path / f"state {number // 20}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        before = int(state.read_text()) if state.exists() else 0
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), str(state)])
        while child.poll() is None and (not state.exists() or int(state.read_text()) == before):
            time.sleep(0.005)
        deadline = time.monotonic() + float(random.uniform(0, 0.2))
        while time.monotonic() < deadline:
            read_all(folder)
        assert child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
        flushed = int(state.read_text())
        assert flushed > before
        found = read_series(folder, "loss")
        # Whole from the first step on, each step once, and nothing flushed is missing.
        assert list(range(1, len(found) + 1)) == found.steps.tolist()
        assert (found.steps / 4).tolist() == found.values.tolist()
        assert len(found) >= flushed
        rare = [series for name, series in read_all(folder).items() if name.startswith("rare")]
        assert len(found) - 50 <= sum(map(len, rare)) <= len(found) + 50


def test_killed_run_loses_no_flushed_point_and_goes_on_without_doubling(tmp_path):
    kill_at_random_moments(tmp_path, 10)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_kills(tmp_path):
    kill_at_random_moments(tmp_path, 200)
