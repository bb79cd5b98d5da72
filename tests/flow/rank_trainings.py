"""Trainings on forked ranks by the worker's own `train`: asked for, stopped, read back."""

from __future__ import annotations

import importlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from forked_ranks import on_ranks

from discern.base.console import Console
from discern.base.errors import DiscernError
from discern.config.request import Request
from discern.track.metrics_read import read_all
from discern.training import trainer as trainer_module
from discern.worker import finish
from discern.worker.train import train

importlib.import_module("torch._dynamo")  # torch's optimizers load it: once, not in each child

# Dropout shows whether each rank's random state is kept; a norm, whether its statistics are.
NETWORK = """
from torch import nn


def build(num_classes, channels, image_size):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3),
        nn.Flatten(), nn.LazyLinear(num_classes),
    )
"""
STOPPING = """
import os
import signal

from discern.training.callbacks import Callback


class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def after_step(self, progress):
        if progress.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)
"""
PLAIN = {
    "model.name": "mlp",
    "stages.*.epochs": 3,
    "stages.*.batch_size": 10,
    "compute.device": "cpu",
    "compute.precision": "fp32",
    "compute.threads": 1,
    "tracking.log_every": 4,
    "tracking.tensorboard": False,
}


def train_on(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forked ranks train on `photos`; report and model, which are not asked about, are left out."""
    monkeypatch.setenv("PHOTOS", str(photos))
    monkeypatch.setattr(finish, "write_any_report", lambda *_: None)
    monkeypatch.setattr(finish, "save_bundle", lambda *_: None)


def request(runs: Path, settings: dict[str, Any], **arguments: Any) -> Request:
    """A request to train on the photos under `runs`."""
    given = {"runs": str(runs), "resume": None, "fresh": False, "exist_ok": False, **arguments}
    pairs = [("test", key, value) for key, value in {**PLAIN, **settings}.items()]
    return Request(
        verb="train", arguments=given, pairs=[("DATA", "data.source", os.environ["PHOTOS"]), *pairs]
    )


def run_rank(rank: int, asked: Request, dies: tuple[int, int] | None = None) -> dict[str, Any]:
    """One rank's training; `dies`: (rank, step) after which a rank is killed."""
    if dies is not None and dies[0] == rank:
        plain = trainer_module.train_step

        def deadly(state, *arguments):
            if state.step == dies[1]:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(state, *arguments)

        trainer_module.train_step = deadly
    try:
        result = train(asked, Console(quiet=True, mute=True))
    except DiscernError as error:
        return {"error": error.record(), "kind": type(error).__name__}
    return {"result": result}


def trained(runs: Path, settings: dict[str, Any], ranks: int = 2, **arguments: Any):
    """(record of run.json, series) of a training that is done."""
    answers = on_ranks(run_rank, request(runs, settings, **arguments), ranks=ranks, joined=False)
    assert [None] * (ranks - 1) == [answer["result"] for answer in answers[1:]]
    path = Path(answers[0]["result"]["path"])
    series = {
        name: (found.steps.tolist(), found.values.tolist())
        for name, found in read_all(path).items()
        if not name.startswith("time/")
    }
    return json.loads((path / "run.json").read_text()), series
