"""Weights of one task carried over to another with few images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import discern

SETTINGS: dict[str, Any] = {
    "model": "fast_net",
    "model_arg": {"width": 16},
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
    "seed": 0,
}


@pytest.fixture(autouse=True)
def _same_threads():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def digit_folder(root: Path, first: int, last: int, *, parity: bool = False) -> Path:
    """Handwritten digits `first` to `last` of each as PNGs, by digit or by odd and even."""
    digits = load_digits()
    for label in range(10):
        folder = root / (("even", "odd")[label % 2] if parity else f"digit-{label}")
        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(digits.images[digits.target == label][first:last]):
            picture = Image.fromarray((image * 15.9).astype("uint8"))
            picture = picture.resize((16, 16), Image.Resampling.BILINEAR)
            picture.save(folder / f"{label}-{number:03d}.png")
    return root


@pytest.mark.feature("MX-70")
def test_fine_tuning_with_a_new_head_beats_scratch_by_ten_points(tmp_path):
    """The head is swapped for the other classes, and all else keeps its weights."""
    runs = tmp_path / "runs"
    source = discern.train(digit_folder(tmp_path / "many", 0, 110), runs=runs, epochs=4, **SETTINGS)
    weights = source.path / "model" / "model.safetensors"
    few = digit_folder(tmp_path / "few", 110, 113, parity=True)
    val = digit_folder(tmp_path / "val", 113, 117, parity=True)
    test = digit_folder(tmp_path / "test", 117, 157, parity=True)
    scores = {}
    for start in ("none", str(weights)):
        run = discern.train(
            few, val=val, test=test, runs=runs, weights=start, epochs=6, batch_size=10,
            augment="none", opt="adamw", lr=0.002, **SETTINGS,
        )  # fmt: skip
        assert 400 == run.metrics()["count"]
        scores[start] = run.metrics()["accuracy"]
    assert scores[str(weights)] > scores["none"] + 0.10, scores
