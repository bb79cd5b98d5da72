"""What a run named apart as --val or --test: nothing is fitted or judged on what it learned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import discern
from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.config.request import Request
from discern.worker.answer_fitting import calibrate_request
from discern.worker.evaluation import evaluate_request

QUICK = {"model": "mlp", "epochs": 1, "device": "cpu", "threads": 1, "precision": "fp32"}
DEVICE = [("--device", "compute.device", "cpu")]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Digits in three folders: train 400 images, val 100, test 100."""
    root, found = tmp_path_factory.mktemp("digits"), load_digits()
    ends = {"train": 400, "val": 500, "test": 600}
    for number, label in enumerate(found.target[:600]):
        part = next(name for name, end in ends.items() if number < end)
        (root / part / str(label)).mkdir(parents=True, exist_ok=True)
        pixels = (found.images[number] * 15).astype(np.uint8)
        Image.fromarray(pixels).save(root / part / str(label) / f"{number:04d}.png")
    return {name: root / name for name in ends}


def trained(parts: dict[str, Path], root: Path, **apart: Any) -> Any:
    return discern.train(parts["train"], runs=root / "runs", **QUICK, **apart)


def do(verb: Any, model: Path, data: Path, capsys: Any, **more: Any) -> tuple[dict[str, Any], str]:
    given = {"model": str(model), "data": str(data), **more}
    capsys.readouterr()
    told = verb(Request(verb="any", arguments=given, pairs=DEVICE), Console())
    read = capsys.readouterr()
    return told, read.out + read.err


def test_validation_drawn_from_train_is_found_again(
    parts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(parts, tmp_path, test=parts["test"])
    own = json.loads((run.path / "run.json").read_text())["val_metrics"]
    count = own["count"]
    assert count < 60  # a tenth of 400, not 15 % of it
    again, _ = do(evaluate_request, run.path, parts["train"], capsys, split="val")
    assert (count, own["accuracy"]) == (
        again["metrics"]["count"],
        again["metrics"]["accuracy"],
    )
    _, said = do(calibrate_request, run.path, parts["train"], capsys, out=str(tmp_path / "fit"))
    assert f"val, {count} images to fit on" in said
    assert "have changed" not in said
    copy = shutil.copytree(parts["train"], tmp_path / "copy")
    told, _ = do(evaluate_request, run.path, copy, capsys, leaks=True, split="all")
    assert 400 - count == told["leak_free"]["removed"]


def test_images_that_a_run_learned_from_are_not_fitted_on(
    parts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(parts, tmp_path, val=parts["val"], test=parts["test"])
    with pytest.raises(ConfigError, match="learned from all of these") as caught:
        do(calibrate_request, run.path, parts["train"], capsys, out=str(tmp_path / "a"))
    assert "--val" in str(caught.value.hint)
    _, said = do(calibrate_request, run.path, parts["val"], capsys, out=str(tmp_path / "b"))
    assert "all, 100 images to fit on" in said
    assert "too good" not in said
    _, said = do(calibrate_request, run.path, parts["test"], capsys, out=str(tmp_path / "c"))
    assert "too good" in said
