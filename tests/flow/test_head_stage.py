"""Stages that train heads on a frozen network: features computed once, and then all layers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from discern_process import discern, make_images, run_record

from discern.track.metrics_read import read_all
from discern.training.checkpoints import read_checkpoint

COMMON = (
    "--model", "fast_net", "--model-arg", "width=8", "--device", "cpu", "--precision", "fp32",
    "--threads", "1", "--batch-size", "8",
)  # fmt: skip
HEAD = (*COMMON, "--trainable", "head", "--augment", "flip_random", "--epochs", "4")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes of 30 small images."""
    return make_images(tmp_path_factory.mktemp("images"), each=30)


def trained(images: Path, runs: Path, *words: str):
    """A finished run: (its record, its child, its series)."""
    ended = discern("train", images, *words, "--runs", runs, "--json", "--fresh")
    assert 0 == ended.code, ended.stderr
    record = run_record(ended)
    return record, ended, read_all(Path(ended.object["path"]))


def test_features_computed_once_give_the_results_of_the_whole_network(images, tmp_path):
    cached, told, series = trained(images, tmp_path / "a", *HEAD)
    whole, _, expected = trained(images, tmp_path / "b", *HEAD, "--cache-features", "off")
    choice = cached["choices"]["cache_features"]["train"]
    assert choice["value"]
    assert f"features train: {choice['reason']}" in told.stderr
    assert {"value": False, "reason": "asked for"} == whole["choices"]["cache_features"]["train"]
    for name in ("train/loss", "val/loss"):
        assert expected[name].steps.tolist() == series[name].steps.tolist()
        assert np.allclose(expected[name].values, series[name].values, rtol=1e-4)
    for name in ("train/accuracy", "val/accuracy"):
        assert expected[name].values.tolist() == series[name].values.tolist()
    assert whole["metrics"]["accuracy"] == cached["metrics"]["accuracy"]
    assert whole["metrics"]["loss"] == pytest.approx(cached["metrics"]["loss"], rel=1e-4)


STOP = """
from discern.training.callbacks import Callback, Signal
from pathlib import Path
import os, signal


class StopOnce(Callback):
    def after_step(self, progress):
        if progress.step == 8 and not Path("stopped").exists():
            Path("stopped").touch()
            os.kill(os.getpid(), signal.SIGINT)
"""


def test_stage_on_features_resumes_to_the_same_bits(images, tmp_path):
    (tmp_path / "stop.py").write_text(STOP)
    callback = ("--set", "tracking.callbacks=[./stop.py:StopOnce]")
    words = ("train", images, *HEAD, *callback, "--json", "--name", "one")
    stopped = discern(*words, "--runs", tmp_path / "a", cwd=tmp_path)
    assert 130 == stopped.code, stopped.stderr  # within the second epoch of six steps
    resumed = discern(*words, "--runs", tmp_path / "a", cwd=tmp_path)
    assert "resume" in resumed.stderr
    undisturbed = discern(*words, "--runs", tmp_path / "b", cwd=tmp_path)
    one, other = run_record(resumed), run_record(undisturbed)
    assert one["choices"]["cache_features"] == other["choices"]["cache_features"]
    assert other["weights_hash"] == one["weights_hash"]
    assert other["metrics"] == one["metrics"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--augment", "light"), "new pictures"),
        (("--trainable", "all"), "below the head"),
        (("--mixup", "0.2"), "mixed"),
    ],
)
def test_features_asked_for_in_vain_stop_before_training(images, tmp_path, words, text):
    ended = discern(
        "train", images, *HEAD, *words, "--cache-features", "on", "--runs", tmp_path, "--json"
    )
    assert 2 == ended.code
    assert text in ended.error["got"]
    assert "stages.train.cache_features" == ended.error["where"]
    assert not list(tmp_path.glob("*/*/run.json"))


HEAD_THEN_ALL = """
stages:
  stage1:
    trainable: head
    epochs: 3
    augment: none
    optimizer: adam
    lr: 1e-3
    weight_decay: 1e-4
    schedule: {name: multistep, args: {milestones: [2], gamma: 0.3}}
  stage2:
    epochs: 2
    augment: none
    optimizer: sgd
    lr: 1e-4
    schedule: constant
"""


@pytest.mark.feature("CA-26")
def test_head_then_all_changes_the_encoder_in_its_second_stage_alone(images, tmp_path):
    """Adam at 1e-3, decay 1e-4, times 0.3 at a milestone; then all layers by SGD at 1e-4."""
    (tmp_path / "two.yaml").write_text(HEAD_THEN_ALL)
    ended = discern(
        "train", images, *COMMON, "--config", tmp_path / "two.yaml", "--runs", tmp_path / "runs",
        "--json", "--set", "stages.stage2.keep_top=9", "--set", "stages.stage1.keep_top=9",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    path = Path(ended.object["path"])
    record = json.loads((path / "run.json").read_text())
    assert record["choices"]["cache_features"]["stage1"]["value"]
    rates = read_all(path)["train/lr"]
    by_epoch = dict(zip(rates.steps.tolist(), rates.values.tolist(), strict=True))
    steps = sorted(by_epoch)
    assert [1e-3, 1e-3, 3e-4, 1e-4, 1e-4] == pytest.approx([by_epoch[s] for s in steps])
    saved = [read_checkpoint(path / "checkpoints" / f"step-{s}").tensors["model"] for s in steps]
    first, second, third, fourth, _ = saved
    encoder = [name for name in first if not name.startswith("network.head.")]
    assert len(encoder) > 5
    assert all(torch.equal(first[name], third[name]) for name in encoder)
    assert not torch.equal(first["network.head.weight"], second["network.head.weight"])
    changed = [name for name in encoder if name.endswith("weight")]
    assert any(not torch.equal(third[name], fourth[name]) for name in changed)
