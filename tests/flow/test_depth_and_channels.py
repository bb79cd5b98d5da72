"""16-bit images and arrays of many channels, from training to a loaded model."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from discern_process import start
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file
from warm_child import WarmChild

import discern
from discern.base.errors import ConfigError, DataError
from discern.exporting.bundle import replay_golden

CLASSES = ("falling", "rising")
PER_CLASS = 60
SIDE = 16
SETTINGS: dict[str, Any] = {
    "batch_size": 16,
    "model": "mlp",
    "threads": 1,
    "precision": "fp32",
    "device": "cpu",
    "seed": 3,
}


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """The process keeps its own thread count."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def low_byte(label: str, number: int) -> NDArray[np.uint16]:
    """An image whose class is the slope of its last bits: all of it is one value at 8 bit."""
    draws = np.random.default_rng([CLASSES.index(label), number])
    ramp = np.linspace(0, 100, SIDE).astype(np.int64)
    ramp = ramp if label == "rising" else ramp[::-1]
    noise = draws.integers(0, 12, (SIDE, SIDE))
    # 51,400 = 200 * 257; the 8-bit image is 200 for all values within 128 of it.
    values: NDArray[np.uint16] = (51_400 - 56 + ramp[:, None] + noise).astype(np.uint16)
    return values


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 16-bit PNGs, one folder per class."""
    folder = tmp_path_factory.mktemp("deep") / "photos"
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for number in range(PER_CLASS):
            image = Image.fromarray(low_byte(label, number))
            image.save(folder / label / f"{number:02d}.png")
    return folder


def banded(label: int, number: int) -> NDArray[np.uint8]:
    """An image of five channels whose class shows in the fifth alone."""
    draws = np.random.default_rng([label, number])
    pixels = draws.integers(0, 200, (SIDE, SIDE, 5), dtype=np.uint8)
    pixels[:, :, 4] += np.uint8(50 * label)
    return pixels


def arrays_file(folder: Path, depth: int = 8) -> Path:
    labels = np.arange(2 * PER_CLASS) % 2
    eight = np.stack([banded(int(label), number) for number, label in enumerate(labels)])
    images = eight if depth == 8 else eight.astype(np.uint16) * 257
    path = folder / f"bands{depth}.npz"
    np.savez(path, images=images, labels=labels, classes=np.array(CLASSES))
    return path


def test_low_byte_is_learned_at_16_bit_and_is_chance_at_8(deep: Path) -> None:
    runs = deep.parent / "runs"
    plain = discern.train(deep, runs=runs, epochs=6, **SETTINGS)
    assert 0.35 <= plain.metrics()["accuracy"] <= 0.65
    run = discern.train(deep, runs=runs, epochs=6, depth=16, **SETTINGS)
    assert run.metrics()["accuracy"] > 0.95

    record = json.loads((run.path / "run.json").read_text())
    assert 16 == record["config"]["data"]["depth"]
    pixels = np.stack([low_byte(label, n) for label in CLASSES for n in range(PER_CLASS)])
    assert abs(pixels.mean() / 65535 - record["config"]["data"]["mean"][0]) < 1e-5
    config = json.loads((run.path / "model" / "config.json").read_text())
    assert 16 == config["discern"]["preprocess"]["depth"]
    assert "16 bit" in (run.path / "report" / "index.html").read_text()

    checkpoint = run.path / "checkpoints" / f"step-{run.best['step']}"
    for place in (run.path, run.path / "model", checkpoint):
        scored = discern.evaluate(str(place), deep, split="test", threads=1, device="cpu")
        assert run.metrics()["accuracy"] == scored["metrics"]["accuracy"]
    assert replay_golden(run.path / "model").ok
    model = discern.load(run.path)
    assert 16 == model.preprocess.depth
    images = [low_byte(label, 7) for label in CLASSES]
    paths = [deep / label / "07.png" for label in CLASSES]
    assert CLASSES == model.predict(images).classes
    assert np.array_equal(
        model.predict(images).probabilities, model.predict(paths).probabilities
    )  # fmt: skip


@pytest.mark.parametrize("depth", [8, 16])
def test_five_channels_are_learned_scored_and_predicted(tmp_path: Path, depth: int) -> None:
    data = arrays_file(tmp_path, depth)
    run = discern.train(data, runs=tmp_path / "runs", epochs=8, depth=depth, **SETTINGS)
    assert run.metrics()["accuracy"] > 0.9
    record = json.loads((run.path / "run.json").read_text())
    assert (5, depth) == tuple(record["config"]["data"][key] for key in ("channels", "depth"))
    scored = discern.evaluate(str(run.path), data, split="test", threads=1, device="cpu")
    assert run.metrics()["accuracy"] == scored["metrics"]["accuracy"]
    assert (run.path / "model" / "golden" / "00.npy").is_file()
    replayed = replay_golden(run.path / "model")
    assert (True, replayed.count) == (replayed.ok, replayed.pixels_equal)

    model = discern.load(run.path)
    images = [banded(number % 2, number) for number in range(20)]
    as_eight = model.predict(images)
    named = [CLASSES.index(name) for name in as_eight.classes]
    assert np.mean(np.array(named) == np.arange(20) % 2) > 0.9
    as_sixteen = model.predict([image.astype(np.uint16) * 257 for image in images])
    assert np.array_equal(as_eight.probabilities, as_sixteen.probabilities)
    with pytest.raises(DataError, match="other channels") as caught:
        model.predict(np.zeros((SIDE, SIDE, 3), np.uint8))
    assert ("3", "5") == (caught.value.got, caught.value.expected)
    report = (run.path / "report" / "index.html").read_text()
    assert "the first 3 of 5 channels" in report


def test_pages_of_tiffs_are_trained_on_with_their_number_given(tmp_path: Path) -> None:
    for label, name in enumerate(CLASSES):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for number in range(20):
            first, *rest = [
                Image.fromarray(np.ascontiguousarray(band))
                for band in banded(label, number).transpose(2, 0, 1)
            ]
            path = tmp_path / "scans" / name / f"{number:02d}.tif"
            first.save(path, save_all=True, append_images=rest)
    data = tmp_path / "scans"
    run = discern.train(data, runs=tmp_path / "runs", epochs=2, channels=5, **SETTINGS)
    assert 5 == json.loads((run.path / "run.json").read_text())["config"]["data"]["channels"]
    model = discern.load(run.path)
    path = data / CLASSES[1] / "03.tif"
    assert np.array_equal(
        model.predict(path).probabilities, model.predict(banded(1, 3)).probabilities
    )
    with pytest.raises(DataError, match="other channels"):
        discern.train(data, runs=tmp_path / "runs", epochs=2, channels=4, **SETTINGS)


def start_training(data: Path, runs: Path) -> subprocess.Popen[str] | WarmChild:
    """A child that trains at 16 bit, with a checkpoint after every few steps."""
    words = [
        "train", str(data), "--depth=16", "--model=mlp", "--epochs=8", "--batch-size=4",
        "--augment=small", "--threads=1", "--precision=fp32", "--device=cpu",
        "--checkpoint-every=0.05", "--seed=3",
    ]  # fmt: skip
    return start(*words, env={"DISCERN_RUNS": str(runs)})


def test_killed_training_at_16_bit_goes_on_to_the_same_weights(deep: Path, tmp_path: Path) -> None:
    cut = start_training(deep, tmp_path / "cut")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cut").glob("*/*/checkpoints/step-*")):
        assert cut.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    cut.kill()
    cut.communicate()
    child = start_training(deep, tmp_path / "cut")
    error = child.communicate(timeout=120)[1]
    assert 0 == child.returncode, error
    again = tmp_path / "cut" / "photos" / "mlp-1"
    assert 2 == json.loads((again / "run.json").read_text())["attempt"]
    settings = SETTINGS | {"batch_size": 4, "depth": 16, "epochs": 8, "augment": "small"}
    run = discern.train(deep, runs=tmp_path / "whole", **settings).path
    weights, others = (load_file(path / "model" / "model.safetensors") for path in (run, again))
    assert weights.keys() == others.keys()
    assert all(np.array_equal(weights[name], others[name]) for name in weights)


def test_augmentation_of_8_bit_is_refused_before_training(deep: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="16 bit") as caught:
        discern.train(deep, runs=tmp_path, augment="heavy", depth=16, epochs=1, **SETTINGS)
    assert "augment" == caught.value.where
