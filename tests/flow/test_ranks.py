"""Whole trainings on two ranks: stopped, killed, gone on with, refused.

Most ranks are forked from the test and run the worker's own `train`, so that nothing is imported
twice; the last tests start them as users do, through the command line and torchrun.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from discern_process import QUICK, discern, environment, make_images
from forked_ranks import on_ranks
from rank_trainings import STOPPING, request, run_rank, train_on, trained

import discern as api
from discern.base.console import Console
from discern.base.errors import ConfigError, Interrupted
from discern.config.request import Request
from discern.track.run import open_run
from discern.worker.train import train


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes: 84 images to train on, in 9 batches of 9 or 10; 18 to test on."""
    return make_images(tmp_path_factory.mktemp("photos"), ("ant", "bee", "cat"), each=40)


@pytest.fixture(autouse=True)
def _few_pages(monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    train_on(photos, monkeypatch)


def test_a_killed_rank_ends_the_other_and_the_run_goes_on_from_its_checkpoint(tmp_path):
    expected, _ = trained(tmp_path / "undisturbed", {})
    asked = request(tmp_path / "killed", {})
    first, _ = on_ranks(run_rank, asked, (1, 14), joined=False, deaths=(1,))
    assert "PeerLost" == first["kind"]
    assert "another rank has ended" in first["error"]["what"]
    run = open_run("mlp-1", tmp_path / "killed")
    assert ("failed", "another rank has ended, so this one cannot go on") == (
        run.status,
        run.exit_record()["error"]["what"],
    )
    found, _ = trained(tmp_path / "killed", {})
    assert 2 == found["attempt"]
    assert expected["weights_hash"] == found["weights_hash"]


@pytest.mark.feature("MX-06")
def test_one_rank_and_two_score_the_same_images(tmp_path):
    """The mean loss and the scores of a network without norm and dropout, and every count."""
    one, figures = trained(tmp_path / "one", {}, ranks=1)
    two, others = trained(tmp_path / "two", {"compute.nproc": 2})
    assert (18, 18) == (one["metrics"]["count"], two["metrics"]["count"])
    assert pytest.approx(one["metrics"]["loss"], rel=1e-4) == two["metrics"]["loss"]
    assert abs(one["metrics"]["accuracy"] - two["metrics"]["accuracy"]) < 0.06
    assert sorted(figures) == sorted(others)
    assert (2, "gloo") == (two["ranks"]["count"], two["ranks"]["backend"])
    assert ["cpu", "cpu"] == [told.split()[0] for told in two["ranks"]["devices"]]
    assert 2 == two["config"]["compute"]["nproc"]


def test_another_number_of_ranks_goes_on_and_is_told(tmp_path):
    (tmp_path / "stop.py").write_text(STOPPING)
    stop = [{"name": f"{tmp_path}/stop.py:StopAt", "args": {"step": 13}}]
    asked = request(tmp_path, {"compute.nproc": 2, "tracking.callbacks": stop})
    on_ranks(run_rank, asked, joined=False)
    record, _ = trained(tmp_path, {"compute.nproc": 1}, ranks=1, resume="mlp-1")
    log = (open_run("mlp-1", tmp_path).path / "log.txt").read_text()
    assert ("finished", 2) == (record["status"], record["attempt"])
    assert "2 rank(s) wrote step 1" in log
    assert "1 go on with it" in log


@pytest.mark.feature("MX-25")
@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"stages.*.batch_size": 1}, "a batch has fewer images than there are ranks"),
        ({"compute.nproc": 3}, "the ranks that were started are not those asked for"),
        ({"compute.device": "90,91"}, "the device asked for is not there"),
        ({"compute.sync_batchnorm": True}, "batch norm over all ranks needs several ranks on GPUs"),
    ],
)
def test_what_ranks_cannot_do_is_refused_before_training(tmp_path, settings, what):
    answers = on_ranks(run_rank, request(tmp_path, settings), joined=False)
    assert {"ConfigError"} <= {answer["kind"] for answer in answers}
    assert what == next(a["error"]["what"] for a in answers if a["kind"] == "ConfigError")
    assert not list(tmp_path.glob("*/*/run.json"))


def test_other_commands_refuse_ranks():
    with pytest.raises(ConfigError, match="each rank has one device"):
        api.train("digits", nproc=3, device="0,1")


def test_devices_that_are_not_there_are_refused_through_torchrun():
    ended = discern("train", "digits", *QUICK, "--device", "90,91", "--json")
    assert 2 == ended.code
    assert "the device asked for is not there" == ended.error["what"]
    assert 1 == ended.stderr.count("the device asked for is not there")


@pytest.mark.feature("MX-05")
def test_the_command_line_starts_two_ranks(tmp_path):
    ended = discern(
        "train", "digits", *QUICK, "--nproc", "2", "--batch-size", "128", "--json",
        "--runs", tmp_path,
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    assert ("finished", 269) == (ended.object["status"], ended.object["metrics"]["count"])
    assert "ranks    train: batches of 128 images, 64 on each rank" in ended.stderr
    assert "torch/distributed" not in ended.stderr


class Started:
    """A long training on two ranks, as a user starts it."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "discern.cli.main", "train", "digits", "--model", "mlp",
                "--epochs", "2000", "--device", "cpu", "--precision", "fp32", "--nproc", "2",
                "--checkpoint-every", "0.2", "--json",
            ],
            env=environment(DISCERN_RUNS=str(runs)), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def wait_for_checkpoint(self) -> None:
        """Return when there is a checkpoint of a later step than the first."""
        deadline = time.monotonic() + 120
        while not list(self.runs.glob("*/*/checkpoints/step-[1-9]*")):
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def ranks(self) -> dict[int, int]:
        """The ranks' process numbers, as the system tells them."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            names = dict(word.partition(b"=")[::2] for word in words)
            if b"discern.worker\0train" in command and self._owns(names) and b"RANK" in names:
                found[int(names[b"RANK"])] = int(entry.name)
        return found

    def _owns(self, names: dict[bytes, bytes]) -> bool:
        return names.get(b"DISCERN_RUNS") == os.fsencode(self.runs)

    def end(self) -> tuple[int, dict[str, Any], str]:
        """(exit code, the one JSON object, stderr)."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, json.loads(out), err


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["command", "rank"])
def test_a_signal_saves_on_all_ranks_and_ends_with_130(tmp_path, whom):
    started = Started(tmp_path)
    started.wait_for_checkpoint()
    target = started.process.pid if whom == "command" else started.ranks()[1]
    os.kill(target, signal.SIGTERM)
    code, told, err = started.end()
    assert (130, "interrupted") == (code, told["error"]["kind"])
    assert 1 == err.count("stopped:")
    assert "interrupted" == open_run("digits/mlp-1", tmp_path).status
    assert not started.ranks()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_command_and_says_which(tmp_path, rank):
    started = Started(tmp_path)
    started.wait_for_checkpoint()
    os.kill(started.ranks()[rank], signal.SIGKILL)
    code, told, err = started.end()
    assert (1, "run") == (code, told["error"]["kind"])
    assert f"rank {rank} killed by SIGKILL" == told["error"]["got"]
    assert "Traceback" not in err
    assert open_run("digits/mlp-1", tmp_path).status in ("failed", "lost")
    assert not started.ranks()


@pytest.mark.slow
def test_the_ranks_die_with_the_command(tmp_path):
    started = Started(tmp_path)
    started.wait_for_checkpoint()
    started.process.kill()
    started.process.communicate()
    deadline = time.monotonic() + 60
    while started.ranks():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "interrupted" == open_run("digits/mlp-1", tmp_path).status


@pytest.mark.slow
def test_python_starts_ranks_too(tmp_path):
    run = api.train("digits", model="mlp", epochs=1, device="cpu", nproc=2, runs=tmp_path)
    assert ("finished", 269) == (run.status, run.metrics()["count"])
    with pytest.raises((ConfigError, Interrupted), match="fewer images"):
        api.train("digits", model="mlp", batch_size=1, device="cpu", nproc=2, runs=tmp_path)


def told_by_rank(rank: int, asked: Request) -> tuple[dict[str, Any] | None, str]:
    """One rank's answer, and what it told people."""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        answer = train(asked, Console(mute=rank > 0))
    return answer, told.getvalue()


def test_two_ranks_plan_and_choose_their_batch_together(tmp_path):
    settings = {"compute.nproc": 2, "stages.*.batch_size": "auto", "compute.budget": "10m"}
    asked = request(tmp_path / "runs", settings, dry_run=True)
    (planned, told), (_, told_by_other) = on_ranks(told_by_rank, asked, joined=False)
    (stage,) = planned["stages"]
    assert 2 == len(stage["rank_memory_bytes"])
    assert stage["memory_bytes"] == max(stage["rank_memory_bytes"])
    line = next(line for line in told.splitlines() if "images an update" in line)
    update, a_pass = (int(line.split(word)[0].split()[-1]) for word in (" images", " a pass"))
    assert 2 * a_pass == update
    assert " on rank 1" in told
    assert "" == told_by_other
    assert not (tmp_path / "runs").exists()
