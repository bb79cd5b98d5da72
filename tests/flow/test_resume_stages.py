"""`kill -9` inside stages that predict, train on kept features, or begin at another's weights."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from discern_process import make_images
from killed_training import Root

from discern.track.run import Run
from discern.training.checkpoints import read_state

# A network that ends its process once, at the moment that `die.txt` names: (what, how many calls).
MORTAL = """
import os
import signal
from pathlib import Path

import torch
from torch import nn

CALLS = {"embed": 0, "classify": 0, "train": 0, "predict": 0}


def live(moment):
    if not list(Path("runs").glob("*/*/run.json")) or not Path("die.txt").exists():
        return
    CALLS[moment] += 1
    asked, count = Path("die.txt").read_text().split()
    if moment == asked and CALLS[moment] == int(count):
        Path("die.txt").unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class Head(nn.Linear):
    def forward(self, features):
        if torch.is_grad_enabled():
            live("classify")
        return super().forward(features)


class Mortal(nn.Module):
    def __init__(self, num_classes, channels, image_size):
        super().__init__()
        height, width = image_size
        self.body = nn.Linear(channels * height * width, 8)
        self.head = Head(8, num_classes)

    def features(self, images):
        if any(Path("runs").glob("*/*/predictions/infer/record.json")):
            live("predict")
        if len(images) > 1:  # one alone is looked at for the summary of the network
            live("train" if torch.is_grad_enabled() else "embed")
        return torch.relu(self.body(images.flatten(1)))

    def forward(self, images):
        return self.head(self.features(images))
"""
STAGES = """
model: {name: "./mortal.py:Mortal"}
compute: {device: cpu, precision: fp32, threads: 1}
tracking: {log_every: 3, checkpoint_every_s: 0.01}
defaults: {batch_size: 8, optimizer: adamw, schedule: constant, augment: flip_random}
stages:
  head: {trainable: head, epochs: 3, lr: 1e-2, cache_features: "on"}
  all: {epochs: 2, lr: 1e-3, ema: 0.9}
  infer: {kind: predict}
  again: {start_from: "stage:head", epochs: 2, lr: 1e-3}
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of the four stages that nothing ended."""
    folder = tmp_path_factory.mktemp("undisturbed")
    root = _prepared(folder)
    root.finish("images", "-c", "stages.yaml")
    return root.run()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """A folder of runs beside the network, the stages and the images."""
    made = _prepared(tmp_path)
    yield made
    made.end_children()


def _prepared(folder: Path) -> Root:
    (folder / "mortal.py").write_text(MORTAL)
    (folder / "stages.yaml").write_text(STAGES)
    make_images(folder / "images", each=40)
    return Root(folder / "runs")


def predictions(run: Run) -> dict[str, bytes]:
    """Every file that the stage `infer` wrote."""
    return {path.name: path.read_bytes() for path in (run.path / "predictions" / "infer").iterdir()}


# 56 training images are 7 batches of 8; the features of all are computed in one of 64.
@pytest.mark.parametrize(
    ("moment", "saved"),
    [
        pytest.param("embed 1", "head 0", id="features are computed"),
        pytest.param("classify 10", "head", id="trains on features", marks=pytest.mark.slow),
        pytest.param("predict 1", "all 35", id="predictions are written"),
        # The fourteenth pass ends the stage before; a checkpoint is sure behind its own seventh.
        pytest.param("train 24", "again", id="began at another's best", marks=pytest.mark.slow),
    ],
)
def test_killed_stage_ends_like_an_undisturbed_one(
    moment: str, saved: str, root: Root, undisturbed: Run
) -> None:
    (root.path.parent / "die.txt").write_text(moment)
    code, _, err = root.train("images", "-c", "stages.yaml")
    assert code == -signal.SIGKILL, err
    newest = read_state(root.run().path / "checkpoints" / f"step-{max(root.steps())}")
    assert f"{newest['stage']} {newest['step']}".startswith(saved)

    out = root.finish("images", "-c", "stages.yaml")

    run = root.run()
    assert f"resume   {run.id}: this request is unfinished there" in out
    assert ["lost", "finished"] == [attempt["status"] for attempt in run.record["attempts"]]
    assert undisturbed.record["weights_hash"] == run.record["weights_hash"]
    assert undisturbed.metrics == run.metrics
    assert undisturbed.record["stage_bests"] == run.record["stage_bests"]
    assert predictions(undisturbed) == predictions(run)
    for name, series in undisturbed.read_all().items():
        if not name.startswith("time/"):
            assert series.steps.tolist() == run.read_all()[name].steps.tolist()
            assert np.array_equal(series.values, run.read_all()[name].values)
