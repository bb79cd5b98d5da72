"""`discern autolabel` as people use it: the whole loop in real runs, a kill in it, undone."""

from __future__ import annotations

import csv
import json
import signal
import time
from pathlib import Path

import pytest
from discern_process import QUICK, discern, make_images, picture, start

WORDS = (*QUICK, "--epochs", "8", "--batch-size", "4", "--workers", "0")


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    """The command on 2 x 9 labeled images and 2 x 6 raw ones, called CLASS-N.png, one broken."""
    make_images(tmp_path / "clean", each=9)
    raw = tmp_path / "raw" / "all"
    raw.mkdir(parents=True)
    for label, name in enumerate(("ant", "bee")):
        for number in range(20, 26):
            picture(label, number).save(raw / f"{name}-{number}.png")
    (raw / "broken.jpg").write_bytes(b"no image")
    return (
        "autolabel", "--data-raw", str(tmp_path / "raw"), "--data-clean", str(tmp_path / "clean"),
        "--baselogdir", str(tmp_path / "logs"), "--threshold", ".9", "--json",
    )  # fmt: skip


@pytest.mark.feature("CA-60")
@pytest.mark.feature("CA-64")
@pytest.mark.feature("PP-20")
@pytest.mark.timeout(300)  # two starts of torch, on a busy machine
def test_labels_of_one_trial_are_right(words: tuple[str, ...], tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    looked = discern(*words, "--dry-run").object
    assert (looked["human"], looked["raw"]) == (18, 12)
    ended = discern(*words, *WORDS, "--n-trials", "1", "--folds", "2", "--cross-validate")
    assert ended.code == 0, ended.stderr
    (one,) = ended.object["rounds"]
    added = sorted(path for path in clean.rglob("*-2?.png"))
    right = [path for path in added if path.name.startswith(path.parent.name)]
    assert len(added) == one["labeled"] >= 6
    assert len(right) >= 0.8 * len(added)
    assert one["percent"] == round(100 * len(added) / 12, 2)
    assert one["precision"]["count"] > 0
    assert [p["path"] for p in ended.object["left_out"]] == ["all/broken.jpg"]
    runs = sorted(path.parent.name for path in (tmp_path / "logs" / "clean").glob("*/run.json"))
    assert runs == ["autolabel-1-trial-0"]  # one a trial; those for calibration lie in the group
    record = json.loads((tmp_path / "logs/clean/autolabel-1-trial-0/run.json").read_text())
    (other,) = (tmp_path / "logs/clean/autolabel-1/calibration").rglob("run.json")
    precision = json.loads(other.read_text())["choices"]["precision"]
    assert precision == {"value": "fp32", "reason": "as in clean/autolabel-1-trial-0"}
    assert sum(record["split"]["counts"]["test"].values()) == 9  # half of people's: one of 2 folds
    with open(ended.object["dataset"], newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["origin"] for row in rows].count("pseudo:0") == len(added)
    undone = discern(*words, "--undo", "0").object
    assert undone["undone"] == [{"round": 0, "labels": len(added)}]
    assert not list(clean.rglob("*-2?.png"))


def test_bad_input_is_told_before_any_work(words: tuple[str, ...], tmp_path: Path) -> None:
    assert discern(*words, "--threshold", "95").error["hint"] == "--threshold 0.95?"
    inside = (*words, "--data-raw", str(tmp_path / "clean" / "ant"))
    assert "lies within" in str(discern(*inside).error["what"])
    (tmp_path / "clean" / "cow").mkdir()
    picture(2, 1).save(tmp_path / "clean" / "cow" / "1.png")
    told = discern(*words, "--dry-run").error
    assert (told["kind"], told["got"]) == ("data", "cow: 1")
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
@pytest.mark.feature("CA-61")
@pytest.mark.timeout(900)  # eight trainings, on a busy machine
def test_killed_in_a_run_it_ends_as_if_undisturbed(words: tuple[str, ...], tmp_path: Path) -> None:
    more = (*WORDS, "--n-trials", "2", "--folds", "3", "--no-cross-validate", "--mode", "manifest")
    other = ("--baselogdir", str(tmp_path / "undisturbed"))
    assert discern(*words, *more, *other).code == 0
    runs = tmp_path / "logs" / "clean"
    for trial in (0, 1):  # killed while each trial's run is training
        child = start(*words, *more)
        deadline = time.monotonic() + 200
        while not list(runs.glob(f"*-trial-{trial}/checkpoints/step-*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    assert discern(*words, *more).code == 0
    ledgers = [
        [p.read_bytes() for p in sorted(root.rglob(".discern-autolabel/entry-*.json"))]
        for root in (tmp_path / "logs", tmp_path / "undisturbed")
    ]
    assert ledgers[0] == ledgers[1]
    assert len(ledgers[0]) >= 4
