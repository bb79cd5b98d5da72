"""What each writer leaves of the same figures, read back by other means."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from discern.base.errors import ConfigError
from discern.lab import tracker
from discern.track.run import create_run, read_run, resume_run
from discern.track.value_buckets import bucket_values
from discern.track.writers.names import open_outlet


@pytest.fixture(autouse=True)
def _fresh_tracker():
    tracker.reset()
    yield
    tracker.reset()


def log_everything(root, *writers):
    """One run with figures of every kind, ended."""
    with create_run(root, "lab", name="one") as run:
        tracker.open_run(run, writers)
        tracker.set_histogram("h")
        tracker.set_indexed_scalar("each")
        tracker.set_image("pic")
        tracker.set_text("note")
        tracker.set_tensor("w")
        tracker.save(1, {"loss": 0.5, "größe 'x'": 1.0})
        tracker.save(2, {"loss": math.nan, "h": [1.0, 2.0, math.inf], "each": ([7, 3], [1.0, 2.0])})
        tracker.save(
            3, {"loss": math.inf, "pic": np.ones((4, 6)), "note": "a,b\nc", "w": np.eye(2)}
        )
        tracker.close_run()
    assert [] == read_run(run.path).record["problems"]
    return run.path


@pytest.mark.feature("LB-31")
@pytest.mark.feature("LB-27")
def test_sqlite_has_the_three_tables(tmp_path):
    path = log_everything(tmp_path, "sqlite")
    with sqlite3.connect(path / "sqlite.db") as connection:

        def rows(query):
            return connection.execute(query).fetchall()

        assert [(1, 0.5), (2, "nan"), (3, math.inf)] == rows(
            "select step, value from scalars where indicator = 'loss' order by step"
        )
        assert [("größe 'x'",)] == rows("select indicator from scalars where indicator like 'gr%'")
        assert [("each", 2, 3, 2.0), ("each", 2, 7, 1.0)] == rows(
            "select indicator, step, idx, value from indexed_scalars order by idx"
        )
        files = rows("select indicator, step, filename from tensors order by indicator")
        assert [("pic", 3, "artifacts/pic/3.png"), ("w", 3, "artifacts/w/3.npy")] == files
        assert [("wal",)] == rows("pragma journal_mode")


@pytest.mark.feature("LB-31")
def test_sqlite_is_read_while_the_run_goes_on_and_rewound(tmp_path):
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, ["sqlite"])
        for step in range(1, 5):
            tracker.save(step, loss=float(step))
        run.flush()
        with sqlite3.connect(run.path / "sqlite.db") as reader:
            assert [(4,)] == reader.execute("select count(*) from scalars").fetchall()
            tracker.save(5, loss=5.0)
            run.flush()
            assert [(5,)] == reader.execute("select count(*) from scalars").fetchall()
    with resume_run(run.path) as again:
        tracker.open_run(again, ["sqlite"], start_step=2)
        tracker.save(3, loss=30.0)
    with sqlite3.connect(run.path / "sqlite.db") as reader:
        found = reader.execute("select step, value from scalars order by step").fetchall()
    assert [(1, 1.0), (2, 2.0), (3, 30.0)] == found


@pytest.mark.feature("LB-25")
def test_tensorboard_reads_each_kind_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = log_everything(tmp_path, "tensorboard")
    events = EventAccumulator(str(path / "events"), size_guidance={"tensors": 0, "images": 0})
    events.Reload()
    assert ["1: 0.5", "2: nan", "3: inf"] == [
        f"{e.step}: {e.value}" for e in events.Scalars("loss")
    ]
    assert [(2, math.inf)] == [(e.step, e.value) for e in events.Scalars("h.mean")]
    (histogram,) = events.Histograms("h")
    value = histogram.histogram_value
    assert (2, 2.0, 1.0, 2.0) == (histogram.step, value.num, value.min, value.max)
    assert 2.0 == sum(value.bucket)
    (image,) = events.Images("pic")
    assert (3, 6, 4) == (image.step, image.width, image.height)
    (text,) = events.Tensors("note")
    assert b"a,b\nc" == text.tensor_proto.string_val[0]


def test_json_lines_hold_every_record(tmp_path):
    path = log_everything(tmp_path, "jsonl")
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    assert [0.5, "nan", "inf"] == [line["value"] for line in lines if line["name"] == "loss"]
    (histogram,) = [line["histogram"] for line in lines if "histogram" in line]
    assert (2, 1, 1.0, 2.0) == tuple(histogram[k] for k in ("finite", "not_finite", "min", "max"))
    (samples,) = [line["samples"] for line in lines if "samples" in line]
    assert {"indices": [3, 7], "values": [2.0, 1.0]} == samples
    assert {"artifacts/w/3.npy", "artifacts/pic/3.png", "artifacts/note/3.txt"} == {
        line["file"] for line in lines if "file" in line
    }


def test_csv_is_rewritten_without_later_steps_on_resume(tmp_path):
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, ["csv"])
        for step in range(1, 4):
            tracker.save(step, {'a,"b"': float(step)})
    with open(run.path / "log.csv", "a") as stream:
        stream.write("torn,1")
    with resume_run(run.path) as again:
        tracker.open_run(again, ["csv"], start_step=1)
        tracker.save(2, {'a,"b"': math.nan})
    with open(run.path / "log.csv", newline="") as stream:
        rows = list(csv.reader(stream))
    assert ["name", "step", "time", "value"] == rows[0]
    assert [['a,"b"', "1", "1.0"], ['a,"b"', "2", "nan"]] == [[r[0], r[1], r[3]] for r in rows[1:]]


def test_torn_json_line_is_ended_not_joined(tmp_path):
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, ["jsonl"])
        tracker.save(1, a=1.0)
    with open(run.path / "log.jsonl", "a") as stream:
        stream.write('{"name": "a", "st')
    with resume_run(run.path) as again:
        tracker.open_run(again, ["jsonl"], start_step=1)
        tracker.save(2, a=2.0)
    lines = (run.path / "log.jsonl").read_text().splitlines()
    assert [{"rewind": 1}, 2.0] == [json.loads(lines[-2]), json.loads(lines[-1])["value"]]


def test_writer_that_cannot_open_its_file_is_told_and_training_goes_on(tmp_path, capsys):
    with create_run(tmp_path, "lab", name="one") as run:
        (run.path / "sqlite.db").mkdir()
        tracker.open_run(run, ["sqlite", "csv"])
        tracker.save(1, a=1.0)
        run.flush()
    assert "the writer 'sqlite'" in capsys.readouterr().err
    assert 1 == len(read_run(run.path).record["problems"])
    assert 2 == len((run.path / "log.csv").read_text().splitlines())


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_missing_library_is_told_before_training(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with create_run(tmp_path, "lab", name="one") as run:
        with pytest.raises(ConfigError) as caught:
            open_outlet(run, [name])
        assert f"pip install 'discern[{name}]'" == caught.value.hint


class FakeWandbRun:
    def __init__(self) -> None:
        self.logged = []
        self.finished = False

    def define_metric(self, *arguments, **named): ...

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.finished = True


def test_wandb_gets_a_call_a_step(tmp_path, monkeypatch):
    made = FakeWandbRun()
    module = ModuleType("wandb")
    module.run = None
    module.init = lambda **named: made
    module.Histogram = lambda values: ("histogram", values.tolist())
    module.Html = lambda text: ("html", text)
    monkeypatch.setitem(sys.modules, "wandb", module)
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, ["wandb"])
        tracker.set_histogram("h")
        tracker.save(1, a=1.0, b=2.0)
        tracker.save(2, h=[1.0, 3.0])
    assert {"step": 1, "a": 1.0, "b": 2.0} == made.logged[0]
    assert {"step": 2, "h.mean": 2.0, "h": ("histogram", [1.0, 3.0])} == made.logged[1]
    assert made.finished


class FakeMlflowClient:
    made = None

    def __init__(self) -> None:
        FakeMlflowClient.made = self
        self.metrics = []
        self.ended = []

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return "7"

    def create_run(self, experiment, run_name):
        return SimpleNamespace(info=SimpleNamespace(run_id=f"{experiment}/{run_name}"))

    def log_batch(self, run_id, metrics):
        self.metrics += metrics

    def set_terminated(self, run_id):
        self.ended.append(run_id)


def test_mlflow_gets_batches_under_names_that_it_takes(tmp_path, monkeypatch):
    module, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    module.MlflowClient = FakeMlflowClient
    module.active_run = lambda: None
    entities.Metric = lambda *values: values
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, ["mlflow"])
        tracker.save(3, {"a[0]": 1.0})
    client = FakeMlflowClient.made
    ((name, value, _, step),) = client.metrics
    assert ("a_0_", 1.0, 3) == (name, value, step)
    assert ["7/one"] == client.ended


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([], []),
        ([math.nan], []),
        ([2.0, 2.0], [2]),
        ([1e308, -1e308], [2]),
        ([0.0, 1.0], [1, *[0] * 28, 1]),
    ],
)
def test_buckets_count_every_finite_value(values, counts):
    found = bucket_values(np.array(values))
    assert counts == found.counts
    assert len(counts) == max(len(found.edges) - 1, 0)


ODD_NAMES = (
    "train/", "/", "a/../../b", "val/", "a\nb", "a\tb", "a\0b", "\udcff lone", "名前 🐈",
    "'; drop table scalars; --", '"', "x" * 3000, " ", "_hparams_/session_start_info", "%s {}",
)  # fmt: skip


def test_any_name_goes_through_every_writer(tmp_path):
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, ["tensorboard", "sqlite", "jsonl", "csv"])
        for number, name in enumerate(ODD_NAMES):
            tracker.save(number, {name: float(number)})
    run = read_run(run.path)
    assert [] == run.record["problems"]
    assert {name: [float(n)] for n, name in enumerate(ODD_NAMES)} == {
        name: series.values.tolist() for name, series in run.read_all().items()
    }
    plain = [name.encode("utf-8", "backslashreplace").decode() for name in ODD_NAMES]
    query = "select indicator from scalars order by rowid"
    with sqlite3.connect(run.path / "sqlite.db") as database:
        assert plain == [n for (n,) in database.execute(query)]
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert list(ODD_NAMES) == [line["name"] for line in lines]
    with open(run.path / "log.csv", newline="", encoding="utf-8") as stream:
        assert plain == [row["name"] for row in csv.DictReader(stream)]
    found = set()
    for folder in [run.path / "events", *(run.path / "events").glob("*/")]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder))
        events.Reload()
        found |= set(events.Tags()["scalars"])
    assert set(plain) == found


@pytest.mark.parametrize("writer", ["tensorboard", "sqlite", "jsonl", "csv"])
def test_steps_that_go_back_and_clocks_that_jump_are_kept_by_every_writer(
    tmp_path, monkeypatch, writer
):
    clock = iter([1000.0, 5.0, 3000.0, -1.0])
    monkeypatch.setattr("discern.track.tracker.now", lambda: next(clock))
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run, [writer])
        for step in (5, 2, 9, 2):
            tracker.save(step, loss=float(step))
    assert [] == read_run(run.path).record["problems"]
    assert [5, 2, 9, 2] == steps_of(run.path, writer)


def steps_of(path, writer):
    """The steps of `loss` in the order written."""
    if writer == "sqlite":
        query = "select step from scalars order by rowid"
        with sqlite3.connect(path / "sqlite.db") as database:
            return [step for (step,) in database.execute(query)]
    if writer == "jsonl":
        return [json.loads(line)["step"] for line in (path / "log.jsonl").read_text().splitlines()]
    if writer == "csv":
        with open(path / "log.csv", newline="") as stream:
            return [int(row["step"]) for row in csv.DictReader(stream)]
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (file,) = (path / "events").glob("events*")
    return [event.step for event in EventFileLoader(str(file)).Load() if event.HasField("summary")]


FULL = """
import resource, signal, sys
from pathlib import Path
from discern.lab import tracker
from discern.track.run import create_run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with create_run(Path(sys.argv[1]), "lab", name="one") as run:
    tracker.open_run(run, ["tensorboard", "sqlite", "jsonl", "csv"])
    tracker.save(0, a=0.0)
    run.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    for step in range(1, 3000):
        tracker.save(step, a=float(step))
        if not step % 500:
            for part in run._parts:
                part.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
"""


def test_full_disk_ends_the_writers_but_not_the_loop(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert 0 == ended.returncode, ended.stderr
    run = read_run(tmp_path / "lab" / "one")
    assert 3000 == len(run.read_series("a"))
    assert {"tensorboard", "sqlite", "jsonl", "csv"} == {
        problem.partition(":")[0] for problem in run.record["problems"] if ": stopped" in problem
    }
    for line in (run.path / "log.jsonl").read_text().splitlines()[:-1]:
        assert "a" == json.loads(line)["name"]
