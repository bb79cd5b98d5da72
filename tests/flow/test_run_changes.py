"""`discern runs` over several runs, through the command line: choose, compare, note, remove."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from discern_process import Ended, discern
from PIL import Image

from discern.track.run import create_run
from discern.track.run_writer import RunWriter


def make_run(root: Path, name: str, rate: float, losses: list[float]) -> Path:
    """A finished run with a config value, a metric and two series."""
    config = {"stages": {"train": {"lr": rate, "epochs": 3}}, "tracking": {"name": name}}
    with create_run(root, "digits", name=name, record={"config": config}) as writer:
        writer.update(metrics={"accuracy": 1 - losses[-1], "loss": losses[-1]})
        for step, loss in enumerate(losses, 1):
            writer.metrics.add("val/loss", step, loss)
            writer.metrics.add("train/lr", step, rate)
        (writer.path / "checkpoints" / "step-3").mkdir(parents=True)
        (writer.path / "checkpoints" / "step-3" / "model.safetensors").write_bytes(bytes(4321))
        (writer.path / "model").mkdir()
    return root / "digits" / name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    make_run(root, "slow", 0.001, [0.9, 0.75, 0.5])
    make_run(root, "quick", 0.1, [0.5, 0.125, 0.25])
    return root


def runs(root: Path, *words: str, **more: str) -> Ended:
    return discern("runs", *words, "--runs", root, cwd=root.parent, **more)


def bytes_below(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


@pytest.mark.feature("LB-45")
def test_view_of_the_table_survives_a_restart(root: Path) -> None:
    shown = runs(
        root, "list", "--where", "stages.train.lr<0.01", "--sort", "-accuracy",
        "--columns", "id,accuracy=acc,best(val/loss)=best,stages.train.lr:6", "--save-view", "slow",
    )  # fmt: skip
    assert 0 == shown.code, shown.stderr
    again = runs(root, "list", "--view", "slow")
    expected = ["id", "acc", "best", "stages.train.lr"], ["digits/slow", "0.5", "0.5", "0.001"]
    rows = [line.split() for line in again.stdout.splitlines()]
    assert expected == (rows[0], rows[2])
    assert 3 == len(rows)
    sorted_up = runs(root, "list", "--sort", "-accuracy", "--ids").stdout.split()
    assert ["digits/quick", "digits/slow"] == sorted_up
    assert sorted_up[::-1] == runs(root, "list", "--sort", "accuracy", "--ids").stdout.split()
    assert ["digits/quick"] == runs(root, "list", "--text", "QUICK digits", "--ids").stdout.split()
    stored = json.loads((root / ".views.json").read_bytes())["views"]["slow"]
    assert ["-accuracy"] == stored["sort"]
    assert {"key": "accuracy", "title": "acc", "width": None, "visible": True} == stored["columns"][
        1
    ]


@pytest.mark.feature("LB-46")
def test_bytes_freed_are_those_that_were_shown(root: Path) -> None:
    told = runs(root, "clean", "digits/*", "--dry-run", "--json").object
    before = bytes_below(root / "digits")
    assert (2 * 4321, 0) == (told["bytes"], told["freed"])
    done = runs(root, "clean", "digits/*", "--yes", "--json").object
    assert 2 * 4321 == done["freed"] == before - bytes_below(root / "digits")

    whole = bytes_below(root / "digits" / "slow")
    shown = runs(root, "delete", "slow", "--yes")
    assert 0 == shown.code, shown.stderr
    assert f"{whole:,}" in shown.stdout.splitlines()[2].split()
    assert f"freed {whole:,} bytes" in shown.stdout.splitlines()[-1]
    assert not (root / "digits" / "slow").exists()
    listed = runs(root, "list", "--json").object
    assert (["digits/quick"], []) == ([run["id"] for run in listed["runs"]], listed["notices"])


@pytest.mark.feature("LB-46")
def test_titles_notes_and_tags_can_be_changed(root: Path) -> None:
    assert 0 == runs(root, "tag", "digits/*", "--add", "paper", "--add", "keep").code
    assert 0 == runs(root, "tag", "slow", "--remove", "keep").code
    runs(root, "note", "slow", "--title", "A baseline", "--text", "first")
    noted = runs(root, "note", "slow", "--append", "second", "--json").object
    (run,) = noted["runs"]
    assert ("A baseline", "first\nsecond", ["paper"]) == (run["title"], run["note"], run["tags"])
    keeping = runs(root, "list", "--tag", "keep", "--ids").stdout.split()
    assert ["digits/quick"] == keeping
    assert "A baseline" in runs(root, "list").stdout
    assert run["note"] == runs(root, "show", "slow", "--json").object["notes"]["note"]


def test_notes_of_a_run_that_is_being_written_survive_its_end(root: Path) -> None:
    with create_run(root, "digits", name="live") as writer:
        runs(root, "tag", "live", "--add", "watch")
        writer.update(metrics={"accuracy": 1.0})
    (run,) = runs(root, "list", "--tag", "watch", "--json").object["runs"]
    assert ("finished", {"accuracy": 1.0}) == (run["status"], run["metrics"])


def test_removing_is_refused_for_a_running_run_and_without_a_yes(root: Path) -> None:
    before = bytes_below(root / "digits" / "slow")
    live: RunWriter
    with create_run(root, "digits", name="live") as live:
        for command in ("delete", "clean"):
            ended = runs(root, command, "slow", "live", "--yes", "--json")
            assert f"process {os.getpid()}" in (ended.error["what"] or "")
            assert 1 == ended.code
    ended = runs(root, "delete", "slow", "--json")
    assert (2, "stdin") == (ended.code, json.loads(ended.stdout.splitlines()[-1])["error"]["where"])
    assert before == bytes_below(root / "digits" / "slow")
    assert live.path.is_dir()


def test_compare_tells_what_differs_and_draws_curves(root: Path) -> None:
    shown = runs(root, "compare", "slow", "quick", "--png", "curves.png")
    assert 0 == shown.code, shown.stderr
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert ["stages.train.lr", "0.001", "0.1"] in lines
    assert not any("epochs" in line or "tracking" in line for line in map(" ".join, lines))
    assert ["val/loss,", "best", "0.5", "@3", "0.125", "@2"] in lines
    assert ["val/loss,", "last", "0.5", "@3", "0.25", "@3"] in lines
    assert ["o", "digits/slow"] in lines
    assert ["x", "digits/quick"] in lines
    picture = Image.open(io.BytesIO((root.parent / "curves.png").read_bytes()))
    assert "PNG" == picture.format

    told = runs(root, "compare", "slow", "quick", "--json").object
    assert ["digits/slow", "digits/quick"] == told["runs"]
    assert {"stages.train.lr": {"digits/slow": 0.001, "digits/quick": 0.1}} == told["parameters"]
    assert 0.75 == told["metrics"]["accuracy"]["digits/quick"]
    best = told["series"]["val/loss"]["digits/quick"]
    assert (0.125, 2, 0.25, 3) == tuple(
        best[name] for name in ("best", "best_step", "last", "last_step")
    )


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (["list", "--where", "acuracy>1"], "no run has 'acuracy'", "'accuracy'"),
        (["list", "--where", "accuracy"], "this is no condition", "accuracy>0.9"),
        (["list", "--status", "finish"], "no run has the status 'finish'", "'finished'"),
        (["list", "--view", "mine"], "there is no view 'mine'", "--save-view"),
        (["list", "--columns", "accuray"], "no run has 'accuray'", "'accuracy'"),
        (["compare", "slow"], "at least two runs are compared", None),
        (["compare", "slow", "quik"], "there is no run 'quik'", "'quick'"),
        (["compare", "slow", "quick", "--series", "val/los"], "none of these runs", "'val/loss'"),
        (["clean", "slow", "--part", "checkpoint"], "'checkpoint' cannot be", "'checkpoints'"),
        (["delete", "digits/none*"], "there is no run 'digits/none*'", None),
        (["tag", "slow", "--add", "a,b"], "this cannot be a tag", None),
        (["tensorboard", "slow"], "none of these runs has event files", None),
    ],
)
def test_bad_input_is_told_with_a_hint(
    root: Path, words: list[str], what: str, hint: str | None
) -> None:
    if words[0] == "tensorboard":
        for path in root.glob("*/*/events"):
            path.rename(path.with_name("moved"))
    ended = runs(root, *words, "--json")
    assert 2 == ended.code
    told = ended.error
    assert what in (told["what"] or "")
    assert hint is None or hint in (told["hint"] or "")


def test_tensorboard_gets_the_chosen_runs_under_their_names(root: Path, tmp_path: Path) -> None:
    stand_in = tmp_path / "stand_in" / "tensorboard"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").write_text("")
    (stand_in / "main.py").write_text(
        "import os, sys\n"
        "folder = sys.argv[1].partition('=')[2]\n"
        "walked = os.walk(folder, followlinks=True)\n"
        "found = [os.path.relpath(p, folder) for p, _, f in walked if f]\n"
        "print('GOT', sys.argv[2:], sorted(found))\n"
        "sys.exit(int('9999' in sys.argv[2]))\n"
    )
    for name in ("slow", "quick"):
        (root / "digits" / name / "events").mkdir(exist_ok=True)
        (root / "digits" / name / "events" / "events.out.tfevents.1").write_bytes(b"x")
    path = os.pathsep.join([str(stand_in.parent), os.environ.get("PYTHONPATH", "")])
    shown = runs(root, "tensorboard", "slow", "--port", "7001", env={"PYTHONPATH": path})
    assert 0 == shown.code, shown.stderr
    assert "GOT ['--port=7001', '--host=127.0.0.1'] ['digits/slow']" in shown.stdout
    shown = runs(root, "tensorboard", env={"PYTHONPATH": path})
    assert "['digits/quick', 'digits/slow']" in shown.stdout
    failed = runs(root, "tensorboard", "--port", "9999", "--json", env={"PYTHONPATH": path})
    assert (1, "exit code 1") == (failed.code, failed.error["got"])
