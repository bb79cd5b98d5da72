"""`experiment.create(writers=...)` with each writer, and what it leaves."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from types import ModuleType, SimpleNamespace

import pytest

from discern.base.errors import ConfigError, RunError
from discern.lab import experiment, tracker
from discern.track.run import list_runs, runs_root


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker.reset()
    yield
    experiment.end()
    tracker.reset()


def from_sqlite(path):
    with sqlite3.connect(path / "sqlite.db") as database:
        return database.execute("select step, value from scalars where indicator = 'loss'")


def from_events(path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path / "events"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("loss")]


def from_lines(path):
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["value"]) for line in lines if line["name"] == "loss"]


def from_csv(path):
    with open(path / "log.csv", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["name"] == "loss"]
    return [(int(row["step"]), float(row["value"])) for row in rows]


class FakeWandb(ModuleType):
    """Takes what W&B's library is called with."""

    def __init__(self):
        super().__init__("wandb")
        self.rows, self.run = [], None

    def init(self, **named):
        return SimpleNamespace(define_metric=lambda *a, **k: None, log=self.rows.append,
                               finish=lambda: None)  # fmt: skip

    def loss(self, path):
        return [(row["step"], row["loss"]) for row in self.rows if "loss" in row]


@pytest.mark.feature("LB-14")
@pytest.mark.parametrize(
    ("writer", "read"),
    [
        ("sqlite", from_sqlite),
        ("tensorboard", from_events),
        ("jsonl", from_lines),
        ("file", from_lines),
        ("csv", from_csv),
        ("wandb", None),
    ],
)
def test_each_writer_works_by_name(writer, read, monkeypatch):
    if read is None:
        module = FakeWandb()
        monkeypatch.setitem(sys.modules, "wandb", module)
        read = module.loss
    experiment.create(name="own", writers={writer}, disable_screen=True)
    with experiment.start():
        for step in (1, 2):
            tracker.save(step, loss=step / 4)
    (run,) = list_runs(runs_root())
    assert [(1, 0.25), (2, 0.5)] == list(read(run.path))
    series = run.read_series("loss")
    assert ([1, 2], [0.25, 0.5]) == (series.steps.tolist(), series.values.tolist())
    assert ("finished", []) == (run.status, run.record["problems"])


def test_writer_that_is_not_known_is_refused_at_once():
    with pytest.raises(ConfigError, match="there is no writer 'sqllite'"):
        experiment.create(name="own", writers={"sqllite"})


def test_computing_an_item_is_a_section(capsys):
    from discern.config.lazy import BaseConfigs

    class Configs(BaseConfigs):
        width: int
        bad: int

    @Configs.calc(Configs.width)
    def seven():
        return 7

    @Configs.calc(Configs.bad)
    def none_such():
        raise ValueError("no")

    conf = Configs()
    experiment.create(name="own")
    experiment.calculate_configs(conf, {}, ["width"])
    with pytest.raises(ValueError, match="no"):
        _ = conf.bad
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("Prepare width...[DONE]\t")
    assert second.startswith("Prepare bad...[FAIL]\t")
    experiment.create(name="mute", disable_screen=True)
    other = Configs()
    experiment.calculate_configs(other, {}, ["width"])
    assert "" == capsys.readouterr().out


def test_folder_that_cannot_be_written_is_told_before_the_loop(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DISCERN_RUNS", str(tmp_path / "file" / "runs"))
    experiment.create(name="own", disable_screen=True)
    with pytest.raises(RunError, match="folder cannot be made") as caught:
        experiment.start()
    assert str(tmp_path / "file" / "runs") == caught.value.where
    assert "DISCERN_RUNS" in caught.value.hint
