"""The summary of a training's network and the machine under it, in the run's folder."""

from __future__ import annotations

import json

import pytest
from discern_process import QUICK, discern

# 64 pixels, 64 hidden, 64 hidden, 10 digits: the mlp of one hidden size.
from discern.track.run import open_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("summary")
    ended = discern("train", "digits", *QUICK, "--runs", root, "--name", "r", "--json")
    assert 0 == ended.code, ended.stderr
    return root


@pytest.mark.feature("ML-11")
def test_a_training_leaves_its_summary(trained):
    run = open_run("digits/r", trained)
    record = json.loads((run.path / "model_summary.json").read_bytes())
    layers = [row for row in record["layers"] if row["kind"] == "Linear"]
    # Each linear layer by hand: inputs x outputs, and a bias an output.
    widths = [run.record["config"]["data"].get("channels"), *[row["output"][-1] for row in layers]]
    inputs = record["input"][0] * record["input"][1] * record["input"][2]
    by_hand = []
    for row, before in zip(layers, [inputs, *widths[1:]], strict=False):
        by_hand.append(before * row["output"][-1] + row["output"][-1])
    assert by_hand == [row["parameters"] for row in layers]
    assert sum(by_hand) == record["parameters"] == record["trainable"]
    assert sum(by_hand) - sum(widths[1:]) == record["macs"]
    assert ("mlp", "counted") == (record["network"], record["source"])
    (stage,) = record["stages"].values()
    assert stage["memory"] == record["memory"]
    assert 4 * record["parameters"] == record["memory"]["parameters"]
    assert record["memory"]["optimizer"] >= 4 * record["parameters"]
    shown = discern("runs", "show", "digits/r", "--runs", trained)
    assert f"model    {record['parameters']:,} parameters, all trained" in shown.stdout


def test_a_training_is_metered_unless_it_is_switched_off(trained, tmp_path):
    assert (open_run("digits/r", trained).path / "system" / "metrics.bin").is_file()
    words = ("--runs", tmp_path, "--name", "off", "--set", "tracking.system_meter=false")
    assert 0 == discern("train", "digits", *QUICK, *words).code
    assert not (open_run("digits/off", tmp_path).path / "system").exists()


def test_models_show_lists_layers():
    ended = discern("models", "show", "lenet", "--layers")
    assert 0 == ended.code
    assert "M multiply-adds" in ended.stdout
    told = discern("models", "show", "lenet", "--json").object
    assert told["parameters"] == sum(layer["parameters"] for layer in told["layers"])
    assert 2 * 4 * told["parameters"] == told["memory"]["optimizer"]["adamw"]
