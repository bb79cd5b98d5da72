"""All seven parts of a training from a package outside the repository, each in a few lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from discern_process import QUICK, discern, run_record

PARTS = {
    "source": '''
import numpy as np


class Stripes:
    """Upright and level stripes, made when they are asked for."""

    def __init__(self, count=24, side=16):
        self.count, self.side = count, side
        self.labels = ["level" if k % 2 else "upright" for k in range(count)]

    def read(self, position):
        rows = np.arange(self.side) // 2 % 2 * 200
        image = np.tile(rows.astype(np.uint8), (self.side, 1))
        image = image.T if position % 2 else image
        return np.ascontiguousarray((image + position)[:, :, None])
''',
    "augmentation": '''
class Invert:
    """Light and dark exchanged where the number drawn is under `share`."""

    draws, gentle = 1, False

    def __init__(self, share=0.5):
        self.share = share

    def apply(self, images, rows):
        out = images.clone()
        for k, (number,) in enumerate(rows):
            out[k] = 255 - images[k] if number < self.share else images[k]
        return out
''',
    "network": '''
from torch import nn


def build(num_classes, channels, image_size, width=8):
    """One convolution and the mean of its maps."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, num_classes),
    )
''',
    "objective": '''
import torch.nn.functional as F


def scaled(output, targets, scale=1.0):
    """Cross entropy, scaled."""
    return scale * F.cross_entropy(output.logits, targets)
''',
    "metric": '''
def wrong(table, unit=1.0):
    """Wrong answers, in units."""
    return unit * int((table.top_classes[:, 0] != table.targets).sum())
''',
    "callback": '''
from discern.training.callbacks import Callback


class Note(Callback):
    """Writes down each epoch."""

    def __init__(self, file):
        self.file = file

    def after_evaluation(self, progress):
        print("epoch", progress.epoch)
        with open(self.file, "a") as stream:
            stream.write(f"{progress.epoch} {progress.readings['val/loss']:.4f}\\n")
''',
    "trainer": '''
from discern.training.callbacks import Signal
from discern.training.step import train_step
from discern.training.trainer import Trainer


class Repeat(Trainer):
    """Each batch several times in a row."""

    def __init__(self, plan, state, session, train_mode, *, times=2):
        super().__init__(plan, state, session, train_mode)
        self.times, self.train_mode = times, train_mode

    def run_stage(self, checkpoint=None):
        for epoch in range(self.plan.length.epochs):
            self.train_mode()
            for batch in self.plan.feed.epoch(epoch):
                for _ in range(self.times):
                    train_step(self.state, batch, self.plan.rules)
            self.session.progress.epoch = epoch + 1
            self.evaluate()
            self.save(epoch + 1, 0)
        return Signal.GO_ON
''',
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder that holds the package `kit`, a module for each part."""
    folder = tmp_path / "elsewhere" / "kit"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    for name, text in PARTS.items():
        (folder / f"{name}.py").write_text(text.lstrip())
    return folder.parent


def _arguments(note: Path) -> list[str]:
    """One command that names all seven."""
    callbacks = [{"name": "kit.callback:Note", "args": {"file": str(note)}}]
    flags = {
        "--data-arg": "count=24",
        "--augment": "kit.augmentation:Invert",
        "--model": "kit.network:build",
        "--model-arg": "width=6",
        "--loss": "kit.objective:scaled",
        "--metric": "kit.metric:wrong",
        "--trainer": "kit.trainer:Repeat",
    }
    sets = [f"tracking.callbacks={json.dumps(callbacks)}", "stages.train.trainer.args.times=3"]
    return [
        "train", "kit.source:Stripes", *(word for pair in flags.items() for word in pair),
        "--set", sets[0], "--set", sets[1],
        "--epochs", "2", "--batch-size", "4", "--device", "cpu", "--precision", "fp32", "--json",
    ]  # fmt: skip


@pytest.mark.feature("LA-01")
def test_package_outside_the_repository_replaces_all_seven_parts(
    package: Path, tmp_path: Path
) -> None:
    lines = {name: [line for line in text.splitlines() if line] for name, text in PARTS.items()}
    assert [] == [name for name, code in lines.items() if len(code) >= 20]
    note = tmp_path / "note.txt"
    ended = discern(*_arguments(note), env=_on_path(package), cwd=tmp_path)
    assert 0 == ended.code, ended.stderr
    assert "epoch 2" in ended.stderr  # what a part prints is not on stdout beside the one object
    record = run_record(ended)
    assert ["level", "upright"] == record["classes"]
    assert 24 == sum(sum(counts.values()) for counts in record["split"]["counts"].values())
    stage = record["config"]["stages"]["train"]
    assert {"name": "kit.augmentation:Invert", "args": {}} == stage["augment"]
    assert {"width": 6} == record["config"]["model"]["args"]
    metrics = ended.object["metrics"]
    wrong = round((1 - metrics["accuracy"]) * metrics["count"])
    assert wrong == metrics["kit.metric:wrong"]
    assert ["1", "2"] == [line.split()[0] for line in note.read_text().splitlines()]
    # 16 training images in 4 batches, each three times, in 2 epochs.
    assert record["best"]["step"] in (12, 24)
    steps = sorted(
        path.name for path in (Path(ended.object["path"]) / "checkpoints").glob("step-*")
    )
    assert ["step-12", "step-24"] == steps


def _on_path(package: Path) -> dict[str, str]:
    sources = Path(__file__).resolve().parents[2] / "src"
    return {"PYTHONPATH": f"{sources}:{package}"}


def test_source_and_trainer_of_a_file_beside_the_command(package: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PARTS["source"] + PARTS["trainer"])
    ended = discern(
        "train", "./mine.py:Stripes", "--trainer", "./mine.py:Repeat", *QUICK, "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    record = run_record(ended)
    assert "images of ./mine.py:Stripes" == record["layout"]
