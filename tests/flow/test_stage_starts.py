"""Stages that begin at weights from elsewhere, in time, on other images: on one rank and on two."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from discern_process import discern, make_images
from safetensors.torch import load_file

from discern.training.checkpoints import read_checkpoint

PLAIN = """
model: {name: mlp}
compute: {device: cpu, precision: fp32, threads: 1}
defaults: {batch_size: 8, optimizer: adamw, schedule: constant, augment: none, lr: 1e-2}
"""
FIRST = f"{PLAIN}stages: {{train: {{epochs: 2, keep_top: 9}}, told: {{kind: predict}}}}\n"
# A rate of 1e-30 leaves every float32 weight of this network as it was.
STILL = "optimizer: sgd, steps: 1, lr: 1e-30"
OTHERS = f"""{PLAIN}
stages:
  of_run: {{start_from: "first@epoch:1", {STILL}}}
  of_folder: {{start_from: "runs/images/first/checkpoints/step-10", {STILL}}}
  of_file: {{start_from: "runs/images/first/model/model.safetensors", {STILL}}}
  of_stage: {{start_from: "stage:of_run", {STILL}}}
  timed: {{minutes: 0.02, soup: 2}}
  told: {{kind: predict, start_from: "first@best"}}
  outside: {{kind: predict, start_from: "first@best", source: unsorted}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, a few without classes, and the finished run `first` of two epochs of five steps."""
    root = tmp_path_factory.mktemp("starts")
    make_images(root / "images", each=28)
    unsorted = root / "unsorted"
    unsorted.mkdir()
    for name in ("ant/03.jpg", "bee/05.jpg", "ant/07.jpg"):
        shutil.copy(root / "images" / name, unsorted / name.replace("/", "-"))
    (root / "first.yaml").write_text(FIRST)
    (root / "others.yaml").write_text(OTHERS)
    ended = discern("train", "images", "-c", "first.yaml", "--name", "first", "--runs", "runs",
                    cwd=root)  # fmt: skip
    assert 0 == ended.code, ended.stderr
    return root


@pytest.mark.feature("PP-17")
@pytest.mark.parametrize("ranks", [1, 2])
def test_each_stage_begins_at_the_weights_that_it_names(ranks: int, folder: Path) -> None:
    ended = discern("train", "images", "-c", "others.yaml", "--name", f"on-{ranks}", "--nproc",
                    str(ranks), "--runs", "runs", "--json", cwd=folder, timeout=240)  # fmt: skip
    assert 0 == ended.code, ended.stderr
    first, run = folder / "runs" / "images" / "first", folder / "runs" / "images" / f"on-{ranks}"
    index = json.loads((run / "checkpoints" / "metrics.json").read_text())
    begun = {
        entry["stage"]: read_checkpoint(run / "checkpoints" / f"step-{entry['step']}").tensors
        for entry in index["epochs"]
        if entry["step"] <= 4
    }
    at_5, at_10 = (
        read_checkpoint(first / "checkpoints" / f"step-{step}").tensors["model"] for step in (5, 10)
    )
    kept = {f"network.{n}": t for n, t in load_file(first / "model" / "model.safetensors").items()}
    expected = {"of_run": at_5, "of_folder": at_10, "of_file": kept, "of_stage": at_5}
    assert list(expected) == list(begun)
    for stage, weights in expected.items():
        for name, tensor in weights.items():
            assert torch.equal(tensor, begun[stage]["model"][name]), (stage, name)

    record = json.loads((run / "run.json").read_text())
    assert "timed" == record["best"]["stage"]
    assert 2 == record["choices"]["soup"]["asked"]
    assert {"of_run", "of_folder", "of_file", "told", "outside"} == set(
        record["choices"]["start_from"]
    )
    for split in ("train", "val", "test"):
        told, before = (
            np.load(path / "predictions" / "told" / f"{split}.logits.npy") for path in (run, first)
        )
        assert np.allclose(before, told, atol=1e-6)
    outside = run / "predictions" / "outside"
    rows = (outside / "infer.csv").read_text().splitlines()[1:]
    assert ["ant-03.jpg", "ant-07.jpg", "bee-05.jpg"] == [row.split(",")[2] for row in rows]
    logits = np.load(outside / "infer.logits.npy")
    assert (3, 2) == logits.shape
    ids = [row.split(",")[1] for row in rows]
    for split in ("train", "val", "test"):
        table = (run / "predictions" / "told" / f"{split}.csv").read_text().splitlines()[1:]
        inside = np.load(run / "predictions" / "told" / f"{split}.logits.npy")
        for row, line in enumerate(table):
            if line.split(",")[1] in ids:
                assert np.allclose(inside[row], logits[ids.index(line.split(",")[1])], atol=1e-5)
