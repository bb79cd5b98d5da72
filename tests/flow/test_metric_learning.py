"""Metric learning as people type it: batches of classes, Recall@k each epoch, exact resume."""

from __future__ import annotations

import json
from pathlib import Path

from discern_process import discern, make_images

CONFIG = """
model: {name: fast_net, args: {width: 4}, embedding: {hiddens: [8]}}
stages:
  train:
    epochs: 2
    batch_classes: 2
    batch_images: 4
    monitor: recall@1
    objective:
      name: weighted_sum
      args: {terms: [{name: cross_entropy}, {name: triplet, weight: 0.5}]}
"""


def test_recall_is_told_each_epoch_and_chooses_the_model(tmp_path: Path) -> None:
    images = make_images(tmp_path / "pets", ("ant", "bee", "fly"), each=20)
    config = tmp_path / "metric.yaml"
    config.write_text(CONFIG)
    command = ("train", images, "--config", config, "--device", "cpu", "--precision", "fp32",
               "--runs", tmp_path / "runs", "--json")  # fmt: skip
    ended = discern(*command)
    assert 0 == ended.code, ended.stderr
    told = [line for line in ended.stderr.splitlines() if line.startswith("train ")]
    assert 2 == sum("val recall@1" in line for line in told)
    metrics = ended.object["metrics"]
    assert 0.0 <= metrics["recall@1"] <= metrics["recall@5"] <= 1.0
    record = json.loads((Path(ended.object["path"]) / "run.json").read_text())
    stage = record["config"]["stages"]["train"]
    assert (8, "classes_images") == (stage["batch_size"], stage["sampler"]["name"])


ALONE = """
model: {name: fast_net, args: {width: 4}, embedding: {hiddens: [8]}}
stages:
  train: {epochs: 3, batch_classes: 2, batch_images: 8, objective: triplet, monitor: recall@1}
"""


def test_a_head_that_no_stage_trains_answers_by_the_nearest_class_center(tmp_path: Path) -> None:
    images = make_images(tmp_path / "pets", ("ant", "bee", "fly"), each=20)
    (tmp_path / "alone.yaml").write_text(ALONE)
    command = ("train", images, "--config", tmp_path / "alone.yaml", "--device", "cpu",
               "--precision", "fp32", "--runs", tmp_path / "runs", "--json")  # fmt: skip
    blind = discern(*command, "--set", "stages.train.monitor=accuracy", timeout=300)
    assert 2 == blind.code
    assert "no stage trains the head" in blind.error["what"]
    assert "recall@1" in blind.error["expected"]

    ended = discern(*command, timeout=300)
    assert 0 == ended.code, ended.stderr
    told = "no stage trained the head: it answers by the nearest class center"
    assert told in ended.stderr
    page = json.loads((Path(ended.object["report"]) / "report.json").read_text())
    assert any(told in text.casefold() for text in page["warnings"])
    # The colors of these classes are easily told apart: by chance it would be a third.
    assert ended.object["metrics"]["accuracy"] == 1.0
    asked = discern("predict", ended.object["model"], images / "fly" / "00.jpg", "--json")
    assert "fly" == asked.object["predictions"][0]["class"]
