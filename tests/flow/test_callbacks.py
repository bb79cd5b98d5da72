"""Callbacks, soup and crash records by the flags and config that people use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from discern_process import QUICK, discern, make_images, run_record

from discern.track.metrics_read import read_all

BROKEN = """
from discern.training.callbacks import Callback


class Broken(Callback):
    def after_step(self, progress):
        if progress.step == 3:
            raise ValueError("it broke")
"""


@pytest.mark.feature("CA-40")
def test_callbacks_by_flag_and_name_in_one_run(tmp_path: Path) -> None:
    callbacks = [
        "grad_norms",
        {"name": "layer_statistics", "args": {"every": 2, "parts": ["weights"]}},
        {"name": "checkpoint_every", "args": {"steps": 4, "keep": None}},
    ]
    ended = discern(
        "train", make_images(tmp_path / "images", each=20), *QUICK, "--epochs", "6", "--soup", "3",
        "--batch-size", "8", "--log-every", "2", "--profile", "2-3", "--time-limit", "1h", "--json",
        "--set", f"tracking.callbacks={json.dumps(callbacks)}", "--runs", tmp_path / "runs",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    record, folder = run_record(ended), Path(ended.object["path"])
    series = read_all(folder)
    steps = series["train/loss"].steps.tolist()
    assert set(steps) >= set(series["gradients/norm"].steps.tolist())
    assert 2 == series["weights/norm/network.head.weight"].steps[0]
    last = max(steps)
    kept = {int(path.name.split("-")[1]) for path in (folder / "checkpoints").glob("step-*")}
    assert set(range(4, last + 1, 4)) <= kept
    trace = json.loads((folder / "profile/rank0_steps-2-3.pt.trace.json").read_text())
    assert any(event.get("name") == "aten::linear" for event in trace["traceEvents"])
    assert "if data cost nothing" in ended.stderr

    soup = record["choices"]["soup"]
    assert (3, True) == (soup["asked"], soup["steps"][0] == record["best"]["step"])
    if soup["kept"]:
        figures, alone = soup["figures"], soup["best_alone"]
        assert (figures["accuracy"], -figures["loss"]) > (alone["accuracy"], -alone["loss"])
    states = [
        safetensors.torch.load_file(folder / f"checkpoints/step-{step}/model.safetensors")
        for step in (soup["steps"] if soup["kept"] else soup["steps"][:1])
    ]
    weights = safetensors.torch.load_file(folder / "model/model.safetensors")
    expected = torch.stack([state["network.head.weight"] for state in states]).double().mean(0)
    assert torch.equal(expected.float(), weights["head.weight"])


def test_a_misspelled_callback_is_told_before_any_work(tmp_path: Path) -> None:
    ended = discern(
        "train", make_images(tmp_path / "images"), *QUICK, "--json", "--runs", tmp_path / "runs",
        "--set", "tracking.callbacks=[grad_norm]",
    )  # fmt: skip
    assert 2 == ended.code
    assert "did you mean 'grad_norms'" in str(ended.error["hint"])
    assert not list((tmp_path / "runs").glob("*/*"))


@pytest.mark.feature("CA-42")
def test_a_crash_leaves_its_state_and_the_command_goes_on_from_the_checkpoint(
    tmp_path: Path,
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    data, runs = make_images(tmp_path / "images", each=20), tmp_path / "runs"
    words = ("train", data, *QUICK, "--batch-size", "8", "--runs", runs)
    ended = discern(*words, "--set", f"tracking.callbacks=[{tmp_path}/broken.py:Broken]")
    assert 1 == ended.code
    (folder,) = runs.glob("*/mlp-1")
    crash = json.loads((folder / "crash/step-3/state.json").read_text())
    assert "ValueError" == crash["error"]["type"]
    assert "it broke" in crash["error"]["traceback"]
    assert (folder / "crash/step-3/model.safetensors").is_file()
    ended = discern(*words, "--json")
    assert 0 == ended.code, ended.stderr
    assert str(folder) == ended.object["path"]


@pytest.mark.feature("MX-19")
def test_the_table_of_a_run_equals_its_stored_metrics(tmp_path: Path) -> None:
    ended = discern(
        "train", make_images(tmp_path / "images", each=20), *QUICK, "--epochs", "3", "--json",
        "--runs", tmp_path,
    )  # fmt: skip
    folder = ended.object["path"]
    words = ("runs", "export", folder, "--metric", "val/accuracy", "--metric", "train/loss")
    lines = discern(*words, "--format", "md").stdout.splitlines()
    assert "| step | val/accuracy | train/loss |" == lines[0]
    series = read_all(Path(folder))
    expected = [
        f"| {step} | {accuracy:.6g} | {loss:.6g} |"
        for step, accuracy, loss in zip(
            series["val/accuracy"].steps, series["val/accuracy"].values,
            series["train/loss"].values, strict=True,
        )
    ]  # fmt: skip
    assert expected == lines[2:]
    stored = json.loads(discern(*words, "--format", "json").stdout)["series"]
    assert series["train/loss"].values.tolist() == stored["train/loss"]["values"]
