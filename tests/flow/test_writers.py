"""Further places for a training's figures, named by config key or flag."""

from __future__ import annotations

import csv
import json
import sqlite3
from importlib.util import find_spec

import pytest
from discern_process import QUICK, discern

from discern.track.run import read_run

_BROKEN = """
class Broken:
    def __init__(self, run):
        self.path = run.path

    def write(self, records):
        raise OSError("the archive is gone")

    def rewind(self, step): ...
    def flush(self): ...
    def close(self): ...
"""


def point_set(series):
    """{(name, step, value)} of what `read_all` gives."""
    return {
        (name, int(step), float(value))
        for name, found in series.items()
        for step, value in zip(found.steps, found.values, strict=True)
    }


@pytest.mark.feature("LB-32")
def test_named_writers_hold_the_points_of_the_runs_own_log(tmp_path):
    ended = discern(
        "train", "digits", *QUICK, "--writer", "sqlite", "--writer", "jsonl",
        "--set", "tracking.tensorboard=false", "--runs", tmp_path, "--name", "one",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    folder = tmp_path / "digits" / "one"
    points = point_set(read_run(folder).read_all())
    with sqlite3.connect(folder / "sqlite.db") as database:
        rows = database.execute("select indicator, step, value from scalars").fetchall()
    assert points == set(rows)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert points == {(line["name"], line["step"], line["value"]) for line in lines}
    assert not (folder / "events").exists()
    assert not (folder / "log.csv").exists()


def test_broken_writer_is_recorded_and_shown_and_stops_nothing(tmp_path):
    (tmp_path / "broken.py").write_text(_BROKEN)
    ended = discern(
        "train", "digits", *QUICK, "--writer", "./broken.py:Broken", "--writer", "csv",
        "--runs", "runs", "--name", "one", cwd=tmp_path,
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    told = "./broken.py:Broken': stopped by OSError: the archive is gone"
    assert told in ended.stderr
    run = read_run(tmp_path / "runs" / "digits" / "one")
    assert ["./broken.py:Broken: stopped by OSError: the archive is gone"] == run.record["problems"]
    assert told in (run.path / "log.txt").read_text()
    shown = discern("runs", "show", "digits/one", "--runs", "runs", cwd=tmp_path)
    assert "stopped by OSError: the archive is gone" in shown.stdout + shown.stderr
    with open(run.path / "log.csv", newline="") as stream:
        assert len(point_set(run.read_all())) == len(list(csv.reader(stream))) - 1


@pytest.mark.parametrize(
    ("name", "words"), [("sqlight", "did you mean 'sqlite'"), ("mlflow", "discern[mlflow]")]
)
def test_writer_that_cannot_be_is_refused_before_any_work(tmp_path, name, words):
    if name == "mlflow" and find_spec("mlflow") is not None:
        pytest.skip("mlflow is installed")
    ended = discern("train", "digits", *QUICK, "--writer", name, "--runs", tmp_path, "--json")
    assert 2 == ended.code
    assert ("tracking.writers", name) == (ended.error["where"], ended.error["got"])
    assert words in ended.error["hint"]
    assert not (tmp_path / "digits").exists()


_GONE = """
import shutil

from discern.training.callbacks import Callback


class Gone(Callback):
    def __init__(self, how):
        self.how = how

    def attach(self, place):
        self.folder = place.folder

    def after_epoch(self, progress):
        if self.how == "delete":
            shutil.rmtree(self.folder, ignore_errors=True)  # writers write meanwhile
        elif self.how == "move":
            self.folder.rename(self.folder.with_name("two"))
"""


@pytest.mark.parametrize("how", ["delete", "move"])
def test_folder_that_goes_away_ends_the_run_in_full_form(tmp_path, how):
    (tmp_path / "gone.py").write_text(_GONE)
    given = ["train", "digits", *QUICK, "--runs", "runs", "--json"]
    callback = f"tracking.callbacks=[{{name: ./gone.py:Gone, args: {{how: {how}}}}}]"
    ended = discern(*given, "--name", "one", "--writer", "csv", "--set", callback, cwd=tmp_path)
    assert 1 == ended.code
    assert "run's folder is gone: it was moved or deleted" in ended.error["what"]
    assert str(tmp_path / "runs" / "digits" / "one") == ended.error["where"]
    if how == "move":
        run = read_run(tmp_path / "runs" / "digits" / "two")
        again = discern("train", "--resume", "digits/two", "--set", "tracking.callbacks=[]",
                        "--runs", "runs", "--json", cwd=tmp_path)  # fmt: skip
        assert ("finished", "digits/two") == (again.object["status"], again.object["run"])
        assert "finished" == read_run(run.path).status
