"""Training ended in every way that a machine or a person can end it, and gone on with."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from killed_training import PATIENCE_S, Root, kill_when, past, wait_until
from PIL import Image

from discern.optim.schedules import Schedule
from discern.track.run import Run, open_run
from discern.training.checkpoints import CheckpointStore, read_checkpoint

FREQUENT = (
    "--threads=1",
    "--precision=fp32",
    "--checkpoint-every=0.05",
    "--set=tracking.log_every=3",
)
ADAMW_EMA = (
    "digits",
    "--model=lenet",
    "--batch-size=32",
    "--epochs=3",
    "--opt=adamw",
    "--lr=0.003",
    "--ema=0.9",
    *FREQUENT,
)
# The default network at half its width and an eighth of its cost, with all else that goes with it.
NARROW = (
    "digits",
    "--model=fast_net",
    "--model-arg=width=8",
    "--model-arg=stem_stride=2",
    *FREQUENT,
)
MUON = (*NARROW, "--epochs=3")


# Made for the first time after there is a run, it ends the process: in the precision's probe.
DYING = """
import os
import signal
from pathlib import Path

import torch


class Dying(torch.optim.SGD):
    def __init__(self, params, lr=0.1, weight_decay=0.0):
        if list(Path("runs").glob("*/*/run.json")) and not Path("died").exists():
            Path("died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().__init__(params, lr=lr, weight_decay=weight_decay)
"""
Undisturbed = Callable[[tuple[str, ...]], Run]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """An empty folder of runs."""
    made = Root(tmp_path / "runs")
    yield made
    made.end_children()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The run of a command that nothing disturbed, trained once for all tests of this file."""
    done: dict[tuple[str, ...], Run] = {}

    def train(words: tuple[str, ...]) -> Run:
        if words not in done:
            own = Root(tmp_path_factory.mktemp("undisturbed") / "runs")
            own.finish(*words)
            done[words] = own.run()
        return done[words]

    return train


def deterministic_series(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Every series but clock readings, as (step, value)."""
    return {
        name: list(zip(series.steps.tolist(), series.values.tolist(), strict=True))
        for name, series in run.read_all().items()
        if not name.startswith("time/")
    }


def assert_same_result(expected: Run, run: Run) -> None:
    assert expected.record["weights_hash"] == run.record["weights_hash"]
    assert expected.metrics == run.metrics
    assert expected.record["val_metrics"] == run.record["val_metrics"]
    assert expected.record["best"] == run.record["best"]
    series = deterministic_series(expected)
    assert {"train/loss", "train/accuracy", "train/lr", "val/accuracy", "val/loss"} == set(series)
    assert series == deterministic_series(run)


@pytest.mark.feature("MX-15")
@pytest.mark.feature("PP-16")
@pytest.mark.feature("LA-26")
def test_training_killed_three_times_ends_like_an_undisturbed_one(
    root: Root, undisturbed: Undisturbed
) -> None:
    first = kill_when(root, ADAMW_EMA, past(root, 0))
    assert "resume" not in first
    assert root.run().status == "lost"
    second = kill_when(root, ADAMW_EMA, past(root, 50))  # inside the second epoch of 40 steps
    third = kill_when(root, ADAMW_EMA, lambda: (root.run().path / "report").exists())
    last = root.finish(*ADAMW_EMA)

    run = root.run()
    for out in (second, third, last):
        assert f"resume   {run.id}: this request is unfinished there" in out
    attempts = run.record["attempts"]
    assert [1, 2, 3, 4] == [attempt["number"] for attempt in attempts]
    assert ["lost", "lost", "lost", "finished"] == [attempt["status"] for attempt in attempts]
    assert_same_result(undisturbed(ADAMW_EMA), run)


@pytest.mark.feature("MX-15")
@pytest.mark.feature("PP-16")
def test_killed_training_with_the_default_optimizer_ends_like_an_undisturbed_one(
    root: Root, undisturbed: Undisturbed
) -> None:
    kill_when(root, MUON, past(root, 50))

    out = root.finish(*MUON)

    resumed_from = int(out.partition("from step ")[2].split()[0])
    assert resumed_from >= 50
    assert_same_result(undisturbed(MUON), root.run())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("words", [ADAMW_EMA, MUON], ids=["adamw-ema", "muon"])
def test_training_killed_ten_times_at_random_ends_like_an_undisturbed_one(
    words: tuple[str, ...], root: Root, undisturbed: Undisturbed
) -> None:
    draws = random.Random(0)
    for target in sorted(draws.randrange(110) for _ in range(10)):
        reached = past(root, target)
        reached_before = reached()
        child = root.start(*words)
        if reached_before:  # the attempt before got further: any moment of start or training
            time.sleep(draws.uniform(0.0, 4.0))
        else:
            wait_until(child, reached)
            time.sleep(draws.uniform(0.0, 0.1))
        child.kill()
        child.communicate()

    root.finish(*words)

    assert_same_result(undisturbed(words), root.run())


@pytest.mark.feature("MX-16")
def test_momentum_is_saved_and_a_resume_without_it_ends_elsewhere(
    root: Root, undisturbed: Undisturbed
) -> None:
    kill_when(root, ADAMW_EMA, past(root, 50))
    store = root.run().path / "checkpoints"
    newest = read_checkpoint(store / f"step-{max(root.steps())}")
    momentum = [
        tensor for name, tensor in newest.tensors["optimizer"].items() if name.endswith("exp_avg")
    ]
    assert momentum
    assert all(bool(tensor.any()) for tensor in momentum)

    forgetful = {
        name: tensor.zero_() if name.endswith("exp_avg") else tensor
        for name, tensor in newest.tensors["optimizer"].items()
    }
    shutil.rmtree(newest.path)
    CheckpointStore(store, warn=print).write(
        newest.step, {**newest.tensors, "optimizer": forgetful}, newest.state
    )
    root.finish(*ADAMW_EMA)

    assert undisturbed(ADAMW_EMA).record["weights_hash"] != root.run().record["weights_hash"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_one_signal_saves_and_resume_without_data_finishes(
    number: signal.Signals, root: Root, undisturbed: Undisturbed
) -> None:
    child = root.start(*MUON)
    wait_until(child, past(root, 50))
    child.send_signal(number)
    _, err = child.communicate(timeout=PATIENCE_S)

    assert child.returncode == 130
    assert "everything is saved" in err
    run = root.run()
    assert run.status == "interrupted"
    end = json.loads((run.path / "exit.json").read_text())
    assert ("interrupted", 1) == (end["status"], end["attempt"])
    stopped_at = int(err.partition("stage train, step ")[2].split()[0])
    assert stopped_at == max(root.steps())

    out = root.finish("--resume")

    assert f"from step {stopped_at}" in out
    assert_same_result(undisturbed(MUON), root.run())


def test_two_signals_end_at_once_and_the_run_can_still_be_resumed(
    root: Root, undisturbed: Undisturbed
) -> None:
    child = root.start(*MUON)
    wait_until(child, past(root, 50))
    child.send_signal(signal.SIGSTOP)  # both are then delivered before the step in progress ends
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGCONT)
    _, err = child.communicate(timeout=PATIENCE_S)

    assert child.returncode == 130
    assert "once more to stop at once" in err
    assert "everything is saved" not in err
    assert root.run().status == "lost"

    root.finish("--resume")

    assert_same_result(undisturbed(MUON), root.run())


@pytest.fixture
def finished(root: Root, undisturbed: Undisturbed) -> Run:
    """A copy of the finished run of MUON in `root`."""
    source = undisturbed(MUON)
    copy = root.path / source.project / source.name
    shutil.copytree(source.path, copy)
    return open_run(str(copy), root.path)


def test_finished_run_trains_further_with_more_epochs(root: Root, finished: Run) -> None:
    before = deterministic_series(finished)
    epochs, steps_per_epoch = 5, 40

    out = root.finish("--resume", finished.name, f"--epochs={epochs}")

    assert "from step 120" in out
    assert "epochs   3 -> 5: the schedule goes on with the new total" in out
    after = deterministic_series(root.run())
    assert [40.0, 80.0, 120.0, 160.0, 200.0] == [step for step, _ in after["val/loss"]]
    assert before["train/loss"] == after["train/loss"][: len(before["train/loss"])]
    stage = root.run().record["config"]["stages"]["train"]
    schedule = Schedule(
        stage["schedule"]["name"],
        stage["schedule"]["args"],
        total_steps=epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        warmup_steps=round(stage["warmup_epochs"] * steps_per_epoch),
    )
    rates = dict(after["train/lr"])
    peak = stage["lr"]
    for step in (123, 160, 200):  # the rate read after step n is that of update n
        assert rates[step] == pytest.approx(peak * schedule.factor(step - 1), rel=1e-6)
    assert rates[123] > before["train/lr"][-1][1]


def test_lengthened_run_is_not_taken_for_the_shorter_request(root: Root, finished: Run) -> None:
    kill_when(root, ("--resume", finished.name, "--epochs=5"), past(root, 130))

    child = root.start(*MUON)
    wait_until(child, lambda: "fast_net-2" in root.names())
    assert {finished.name, "fast_net-2"} <= set(root.names())


def test_run_killed_before_its_first_step_is_resumed_without_data(
    root: Root, tmp_path: Path
) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    code, _, _ = root.train(
        "digits", "--epochs=1", "--threads=1", "--device=cpu", "--opt=./dying.py:Dying"
    )
    assert code == -signal.SIGKILL
    assert "lost" == root.run().status

    out = root.finish("--resume")

    assert "fast_net-1: this request is unfinished there" in out
    assert "no checkpoint: it begins again at step 0" in out
    assert "finished" == root.run().status


def test_resume_with_fewer_epochs_is_refused(root: Root, finished: Run) -> None:
    code, _, err = root.train("--resume", finished.name, "--epochs=2")
    assert code == 2
    assert "may grow on resume, not shrink" in err
    assert "stage train" in err
    assert "at least 3" in err


def test_resume_with_another_learning_rate_is_refused(root: Root, finished: Run) -> None:
    code, _, err = root.train("--resume", finished.name, "--epochs=5", "--lr=0.5", "--ema=0.99")
    assert code == 2
    assert "stages.train.lr" in err


def test_resume_with_a_setting_that_was_off_is_refused(root: Root, finished: Run) -> None:
    code, _, err = root.train("--resume", finished.name, "--epochs=5", "--clip-grad=1.0")
    assert code == 2
    assert "stages.train.clip_grad" in err


def test_resume_with_other_images_is_refused(root: Root, finished: Run, tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for label in ("one", "two"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            pixels = draws.integers(0, 255, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")

    code, _, err = root.train("photos", "--resume", finished.name, "--epochs=5")

    assert code == 2
    assert "images, labels or splits are not those" in err
    assert finished.id in err


def test_finished_run_is_not_resumed_without_more_epochs(root: Root, finished: Run) -> None:
    code, _, err = root.train("--resume", finished.name)
    assert code == 2
    assert "this run is finished" in err


def test_name_of_a_finished_run_is_refused_unless_exist_ok(root: Root, finished: Run) -> None:
    words = (*NARROW, "--epochs=1", f"--name={finished.name}")
    code, _, err = root.train(*words)
    assert code == 2
    assert f"there is already a run '{finished.name}'" in err
    assert "--exist-ok" in err
    assert {finished.name} == root.names()

    root.finish(*words, "--exist-ok")

    assert {finished.name, f"{finished.name}~1"} == root.names()
    earlier = root.run(f"{finished.name}~1")
    assert finished.record["weights_hash"] == earlier.record["weights_hash"]
    assert root.run(finished.name).record["config"]["stages"]["train"]["epochs"] == 1


def test_fresh_makes_a_new_run_beside_an_unfinished_one(root: Root) -> None:
    words = (*NARROW, "--epochs=1")
    kill_when(root, words, past(root, 0))

    out = root.finish(*words, "--fresh")

    assert "resume" not in out
    assert {"fast_net-1", "fast_net-2"} == root.names()
    assert ("lost", "finished") == (root.run("fast_net-1").status, root.run("fast_net-2").status)


def test_live_run_is_left_alone_by_a_second_process(root: Root) -> None:
    words = (*NARROW, "--epochs=1")
    child = root.start(*words)
    wait_until(child, past(root, 0))
    child.send_signal(signal.SIGSTOP)
    try:
        assert root.run().status == "running"
        code, _, err = root.train("--resume", "fast_net-1")
        assert code == 1
        assert f"process {child.pid} on" in err
        assert "is working on this run" in err

        out = root.finish(*words)
        assert "resume" not in out
        assert {"fast_net-1", "fast_net-2"} == root.names()
        assert root.run("fast_net-1").record["attempt"] == 1
    finally:
        child.send_signal(signal.SIGCONT)
    child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 0
    hashes = [root.run(name).record["weights_hash"] for name in ("fast_net-1", "fast_net-2")]
    assert hashes[0] == hashes[1]


def test_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    root: Root, undisturbed: Undisturbed
) -> None:
    kill_when(root, MUON, past(root, 50))
    *_, previous, newest = sorted(root.steps())
    file = root.run().path / "checkpoints" / f"step-{newest}" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)

    child = root.start(*MUON)
    out, err = child.communicate(timeout=PATIENCE_S)

    assert child.returncode == 0, err
    assert f"checkpoint step-{newest} is passed over" in err
    assert str(file) in err
    assert f"from step {previous}" in out
    assert_same_result(undisturbed(MUON), root.run())
