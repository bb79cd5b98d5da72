"""What each command answers, what data and network share, and which epoch is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from discern_process import QUICK, Ended, discern, make_images, run_record
from safetensors.torch import load_file

from discern.track.metrics_read import read_all
from discern.training.checkpoints import read_checkpoint


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 30 images of 16 x 16."""
    return make_images(tmp_path_factory.mktemp("images"), each=30)


@pytest.fixture(scope="module")
def trained(images: Path) -> Ended:
    """A run of three epochs that is done."""
    quick = [*QUICK]
    quick[quick.index("1")] = "3"
    ended = discern("train", images, *quick, "--runs", images.parent / "runs", "--set",
                    "tracking.callbacks=[{name: grad_norms, args: {every: 1}}]", "--json",
                    timeout=240)  # fmt: skip
    assert 0 == ended.code, ended.stderr
    return ended


@pytest.mark.feature("LA-19")
def test_each_mode_gives_its_own_figures(images: Path, trained: Ended) -> None:
    series = read_all(Path(trained.object["path"]))
    assert {"train/loss", "train/accuracy", "train/lr", "gradients/norm"} <= set(series)
    runs = images.parent / "runs"
    scored = discern("eval", trained.object["path"], images, "--runs", runs, "--json").object
    assert {"loss", "accuracy", "count", "top5"} <= set(scored["metrics"])
    asked = discern("predict", trained.object["path"], images / "ant" / "00.jpg", "--json").object
    (row,) = asked["predictions"]
    assert {"image", "class", "probability", "top"} == set(row)
    assert {"ant", "bee"} == {entry["class"] for entry in row["top"]}
    assert 1.0 == pytest.approx(sum(entry["probability"] for entry in row["top"]))


@pytest.mark.feature("LA-02")
def test_classes_size_and_channels_are_said_once_for_data_and_network(
    trained: Ended, tmp_path: Path
) -> None:
    three = make_images(tmp_path / "three", ("ant", "bee", "fly"), each=10)
    ended = discern("train", three, *QUICK, "--set", "data.classes=[fly, bee, ant]",
                    "--set", "data.image_size=20", "--set", "data.channels=1", "--json",
                    "--runs", tmp_path / "runs", timeout=240)  # fmt: skip
    assert 0 == ended.code, ended.stderr
    for run, classes, size in (
        (trained, ["ant", "bee"], [3, 16, 16]),
        (ended, ["fly", "bee", "ant"], [1, 20, 20]),
    ):
        model = Path(run.object["model"])
        bundle = json.loads((model / "config.json").read_text())
        weights = load_file(model / "model.safetensors")
        assert len(classes) == len(weights["head.weight"]) == len(weights["head.bias"])
        assert classes == run_record(run)["classes"]
        assert size == bundle["pretrained_cfg"]["input_size"]


def test_the_best_epoch_is_always_kept(trained: Ended) -> None:
    path = Path(trained.object["path"])
    accuracies = read_all(path)["val/accuracy"]
    best = run_record(trained)["best"]
    assert max(accuracies.values.tolist()) == best["accuracy"]
    kept = read_checkpoint(path / "checkpoints" / f"step-{best['step']}").tensors["model"]
    bundle = load_file(path / "model" / "model.safetensors")
    assert all(tensor.equal(kept[f"network.{name}"]) for name, tensor in bundle.items())
