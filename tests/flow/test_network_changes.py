"""Pooling, embedding block, stem, partial weights and initial values, as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from discern_process import discern, make_images

NET = ("--model", "fast_net", "--model-arg", "width=4", "--epochs", "1", "--device", "cpu",
       "--precision", "fp32", "--json")  # fmt: skip
BLOCK = ("--set", "model.pooling=concat", "--set", "model.embedding={hiddens: [12, 8]}")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "pets", each=20)


@pytest.mark.feature("CA-27")
@pytest.mark.feature("CA-28")
def test_an_embedding_network_is_trained_stored_and_opened_again(
    images: Path, tmp_path: Path
) -> None:
    ended = discern("train", images, *NET, *BLOCK, "--runs", tmp_path / "runs")
    assert 0 == ended.code, ended.stderr
    assert "embedding block [12, 8]: norm batch, relu, dropout 0.5" in ended.stderr
    bundle = Path(ended.object["model"])
    config = json.loads((bundle / "config.json").read_text())
    changes = config["discern"]["changes"]
    assert ("concat", [12, 8]) == (changes["pooling"]["name"], changes["embedding"]["hiddens"])
    assert "other readers open the tensors" in (bundle / "README.md").read_text()
    again = discern("eval", bundle, images, "--device", "cpu", "--json")
    assert 0 == again.code, again.stderr
    assert 40 == again.object["metrics"]["count"]
    checkpoints = sorted((Path(ended.object["path"]) / "checkpoints").glob("step-*"))
    opened = discern("eval", checkpoints[-1], images, "--device", "cpu", "--json")
    assert 0 == opened.code, opened.stderr


@pytest.mark.feature("LA-23")
@pytest.mark.feature("MX-11")
def test_weights_are_taken_in_part_and_the_rest_is_named(images: Path, tmp_path: Path) -> None:
    first = discern("train", images, *NET, "--runs", tmp_path / "runs")
    assert 0 == first.code, first.stderr
    weights = Path(first.object["model"]) / "model.safetensors"
    ended = discern(
        "train", images, *NET, "--weights", weights, "--skip-weights", "stages.2", "--init", "zero",
        "--trainable", "stages.2*", "--runs", tmp_path / "runs",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    assert "not used, 12 tensors: stages.2.widen.conv.weight" in ended.stderr
    wrong = discern("train", images, *NET, "--weights", weights, "--skip-weights", "stagse")
    assert (2, "stagse") == (wrong.code, wrong.error["got"])


def test_small_images_train_a_timm_network_from_scratch_and_say_so(
    images: Path, tmp_path: Path
) -> None:
    command = ("train", images, "--model", "resnet10t", "--epochs", "1", "--device", "cpu",
               "--precision", "fp32", "--runs", tmp_path / "runs")  # fmt: skip
    ended = discern(*command, "--json")
    assert 0 == ended.code, ended.stderr
    assert "trained from scratch" in ended.stderr
    assert "3x3 at stride 1 without pooling, for images of 16x16" in ended.stderr
    record = json.loads((Path(ended.object["path"]) / "run.json").read_text())
    assert "small" == record["choices"]["stem"]["value"]
    bundle = json.loads((Path(ended.object["model"]) / "config.json").read_text())
    assert {"stem": "small"} == bundle["discern"]["changes"]
