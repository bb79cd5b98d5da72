"""The examples run as their first lines say, with the losses of the command line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from discern_process import environment, make_images

import discern

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CLASSES = ("ant", "bee", "wasp")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Small RGB images of three classes, of CIFAR's size."""
    return make_images(tmp_path / "small", CLASSES, each=50, size=(32, 32))


def _example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _trained(images: Path, runs: Path, **settings: Any) -> dict[int, float]:
    """The losses of the trainer by step, as the command line and the API run it."""
    given = {
        "runs": runs, "lr": 0.1, "weight_decay": 1e-4, "sched": "cosine", "batch_size": 32,
        "smoothing": 0.0, "precision": "fp32", "device": "cpu", "log_every": 1, "threads": 1,
    }  # fmt: skip
    run = discern.train(images, **given, **settings)
    series = run.curves()["train/loss"]
    return dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def test_training_composed_by_hand_gives_the_losses_of_the_command(
    data: Path, tmp_path: Path
) -> None:
    expected = _trained(
        data, tmp_path / "runs", model="resnet32_cifar", opt="sgd", augment="light", epochs=2
    )
    figures = _example("compose").compose(
        str(data), tmp_path / "checkpoints", epochs=2, log_every=1, summary_every=2
    )
    assert len(expected) > 4
    assert expected == figures.series("train/loss")
    assert any("grad" in name for seen in figures.by_step.values() for name in seen)


def test_one_file_gives_the_losses_of_the_trainer(data: Path, tmp_path: Path) -> None:
    file = EXAMPLES / "one_file_cifar.py"
    losses = _example("one_file_cifar").train(str(data), 20)
    steps = len(range(0, 105, 32))
    expected = _trained(
        data, tmp_path / "runs", model=f"{file}:build", epochs=5,
        data={"mean": [0.4914, 0.4822, 0.4465], "std": [0.2470, 0.2435, 0.2616]},
        stages={"train": {"augment": {"name": "small", "args": {"pad": 4, "flip": True}},
                  "optimizer": {"name": "sgd", "args": {"momentum": 0.9, "nesterov": False}}}},
    )  # fmt: skip
    assert 20 == 5 * steps == len(losses)
    assert losses == pytest.approx([expected[step] for step in range(1, 21)], rel=1e-6)


@pytest.mark.parametrize(
    "words", [["compose.py", "--epochs=1"], ["one_file_cifar.py", "--steps=2"]]
)
def test_example_runs_by_itself(words: list[str], data: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / words[0]), str(data), *words[1:]],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == ended.returncode, ended.stderr
    assert "step 1: loss" in ended.stdout
