"""`discern kfold` as people use it: stopped, gone on with, joined, bundled."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from discern_process import QUICK, discern, environment, make_images, write_table

from discern.api import load
from discern.data.scan import DataRequest, scan_data
from discern.model_api import evaluate

STEPS = ("--batch-size", "8", "--workers", "0")
# Two seconds a step while a file lies beside it, so that there is a step to be stopped in.
SLOW = """
import time
from pathlib import Path

from discern.training.callbacks import Callback


class Slow(Callback):
    def before_step(self, progress):
        if Path(__file__).with_name("slow").exists():
            time.sleep(2)
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """14 images of two classes in a table with a fold column."""
    make_images(tmp_path / "images", each=7)
    rows = [
        {"path": f"images/{name}/{n:02d}.jpg", "label": name, "fold": n % 2}
        for name in ("ant", "bee")
        for n in range(7)
    ]
    return write_table(tmp_path / "photos.csv", rows)


def stop_in_first_fold(words: tuple[str, ...], runs: Path) -> int:
    """Start `discern kfold`, interrupt it once its first run is training; gives the exit code."""
    child = subprocess.Popen(
        [sys.executable, "-m", "discern.cli.main", *words],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # What a shell starts in the background ignores SIGINT, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 300
    while not list(runs.glob("*/*-fold-0/checkpoints/step-*")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    return child.wait(timeout=120)


@pytest.mark.feature("CA-47")
@pytest.mark.timeout(600)  # three trainings and five starts of torch, on a busy machine
def test_stopped_folds_go_on_and_out_of_fold_rows_are_the_data_sets(
    table: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = (
        "kfold", str(table), *QUICK, *STEPS, "--epochs", "4", "--ensemble", "--metric",
        "macro_f1", "--runs", str(runs), "--json",
        "--set", f"tracking.callbacks=[{tmp_path}/slow.py:Slow]",
    )  # fmt: skip
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "slow").touch()

    assert 130 == stop_in_first_fold(words, runs)
    (group,) = runs.glob("*/*/group.json")
    assert "running" == json.loads(group.read_text())["status"]
    first = json.loads((group.parent.parent / f"{group.parent.name}-fold-0/run.json").read_text())
    assert "interrupted" == first["status"]
    (tmp_path / "slow").unlink()

    ended = discern(*words, timeout=230)

    assert 0 == ended.code, ended.stderr
    outcome = ended.object
    assert str(group.parent) == outcome["path"]
    records = [
        json.loads((group.parent.parent / f"{group.parent.name}-fold-{n}/run.json").read_text())
        for n in (0, 1)
    ]
    assert 2 == records[0]["attempt"]
    assert [record["metrics"] for record in records] == [f["metrics"] for f in outcome["folds"]]
    assert [8, 6] == [fold["metrics"]["count"] for fold in outcome["folds"]]
    for name in ("accuracy", "loss", "macro_f1"):
        values = [record["metrics"][name] for record in records]
        assert np.mean(values) == pytest.approx(outcome["mean"][name])
        assert np.std(values, ddof=1) == pytest.approx(outcome["std"][name])

    manifest = scan_data(DataRequest(train=str(table), split=None)).manifest
    with open(outcome["csv"], newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert manifest.ids.tolist() == [row["id"] for row in rows]
    assert manifest.fold.tolist() == [int(row["fold"]) for row in rows]
    right = [row["target"] == row["predicted"] for row in rows]
    assert np.mean(right) == pytest.approx(outcome["out_of_fold"]["accuracy"])
    assert (14, 2) == np.load(outcome["logits"]).shape

    assert 7 == len(load(outcome["model"], device="cpu").predict(tmp_path / "images" / "ant"))
    assert "Unscored" in (Path(outcome["model"]) / "README.md").read_text()
    assert "finished" == json.loads(group.read_text())["status"]

    # The fold's own run knows its fold when it scores the original data again.
    run = runs / outcome["folds"][1]["run"]
    again = evaluate(run, table, split="test", metric=["macro_f1"], device="cpu")
    expected = {**outcome["folds"][1]["metrics"], "split": "test"}
    assert expected == again["metrics"]


def test_a_failing_fold_ends_the_command_with_its_own_words(table: Path, tmp_path: Path) -> None:
    ended = discern(
        "kfold", table, "--model", "mlpp", "--device", "cpu", "--runs", tmp_path, "--json"
    )
    assert 2 == ended.code
    assert "fold 0 failed" in ended.object["error"]["what"]
    assert "unknown model 'mlpp'" in ended.stderr


def test_separate_test_images_are_refused(table: Path, tmp_path: Path) -> None:
    ended = discern(
        "kfold", table, "--set", "data.test=other", "--runs", tmp_path, "--json", *QUICK
    )
    assert 2 == ended.code
    assert "no separate validation and test images" in ended.error["what"]


def test_what_models_labeled_is_in_no_fold_s_score(tmp_path: Path) -> None:
    make_images(tmp_path / "images", each=7)
    rows = [
        {
            "path": f"images/{name}/{n:02d}.jpg",
            "label": name,
            "fold": n % 2,
            "origin": "pseudo:0" if n == 6 else "human",
        }
        for name in ("ant", "bee")
        for n in range(7)
    ]
    table = write_table(tmp_path / "grown.csv", rows)
    ended = discern("kfold", table, *QUICK, *STEPS, "--runs", tmp_path / "runs", "--json")
    assert 0 == ended.code, ended.stderr
    assert 12 == ended.object["out_of_fold"]["count"]
    assert "2 images labeled by models in train alone" in ended.stderr
