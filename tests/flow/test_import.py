"""`discern import`: runs that Catalyst, lab, TensorBoard, timm and Ultralytics recorded."""

from __future__ import annotations

import json
import sqlite3

import pytest
from discern_process import discern

from discern.track.event_files import EventFiles
from discern.track.run import list_runs, open_run


@pytest.fixture
def store(tmp_path):
    return tmp_path / "runs"


def read_in(store, *paths):
    ended = discern("import", *paths, "--runs", store, "--json")
    return ended.code, ended.object


def points(run, name):
    series = run.read_series(name)
    return [*zip(series.steps.tolist(), series.values.tolist(), strict=True)]


def write_timm(folder):
    folder.mkdir(parents=True)
    (folder / "summary.csv").write_text(
        "epoch,train_loss,eval_loss,eval_top1,lr\n0,6.9,6.5,1.25,0.001\n"
        "epoch,train_loss,eval_loss,eval_top1,lr\n1,5.5,nan,12.5,0.0005\n"
    )
    (folder / "args.yaml").write_text("model: resnet50\nbatch_size: 128\nlr: 0.001\n")
    (folder / "last.pth.tar").write_bytes(b"x")
    return folder


def test_timm(tmp_path, store):
    folder = write_timm(tmp_path / "train" / "20240101-resnet50-224")
    code, told = read_in(store, folder)
    assert (0, "train/20240101-resnet50-224", "imported") == (
        code,
        told["runs"][0]["run"],
        told["runs"][0]["outcome"],
    )
    run = open_run("train/20240101-resnet50-224", store)
    assert [(0, 6.9), (1, 5.5)] == points(run, "train_loss")
    assert [(0, 1.25), (1, 12.5)] == points(run, "eval_top1")
    assert 2 == len(points(run, "eval_loss"))  # not finite, and kept
    assert {"model": "resnet50", "batch_size": 128, "lr": 0.001} == run.record["hparams"]
    assert {"train_loss": 5.5, "eval_loss": "nan", "eval_top1": 12.5, "lr": 0.0005} == run.metrics
    origin = run.record["imported"]
    assert ("timm", str(folder), ["last.pth.tar"]) == (
        origin["form"],
        origin["source"],
        origin["checkpoints"],
    )
    assert ("finished", f"imported from {folder}") == (run.status, run.exit_record()["reason"])
    assert {} == run.record["environment"] == run.record["git"]


def test_a_second_import_doubles_nothing_and_a_grown_source_is_read_anew(tmp_path, store):
    folder = write_timm(tmp_path / "out" / "a")
    read_in(store, folder)
    assert "already there" == read_in(store, folder)[1]["runs"][0]["outcome"]
    (run,) = list_runs(store)
    assert 1 == run.attempt
    with open(folder / "summary.csv", "a") as stream:
        stream.write("2,4.5,4.0,25.0,0.0001\n")
    assert "imported again" == read_in(store, folder)[1]["runs"][0]["outcome"]
    (run,) = list_runs(store)
    assert 2 == run.attempt
    assert [(0, 6.9), (1, 5.5), (2, 4.5)] == points(run, "train_loss")
    assert "finished" == run.status


def test_ultralytics_with_its_blanks_and_a_damaged_row(tmp_path, store):
    folder = tmp_path / "classify" / "train"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "best.pt").write_bytes(b"x")
    (folder / "results.csv").write_text(
        "                  epoch,             train/loss,  metrics/accuracy_top1\n"
        "                      1,                 2.3021,                  0.125\n"
        "                      2,                 1.5\n"
        "                      3,                 1.25,                     0.5\n"
    )
    code, told = read_in(store, folder / "results.csv")
    assert 3 == code
    assert [f"{folder}/results.csv: line 3: not a row of 3 figures"] == told["problems"]
    run = open_run("classify/train", store)
    assert [(1, 2.3021), (3, 1.25)] == points(run, "train/loss")
    assert [(1, 0.125), (3, 0.5)] == points(run, "metrics/accuracy_top1")
    assert ["weights/best.pt"] == run.record["imported"]["checkpoints"]
    assert told["problems"] == run.record["imported"]["problems"]


def write_events(folder, steps=3, group=""):
    events = EventFiles(folder)
    for step in range(steps):
        events.add_scalar("loss", 1 / (step + 1), step, group, time=1_700_000_000.0 + step)
    events.close()
    return folder


def test_event_files_in_both_forms_with_settings(tmp_path, store):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    folder = write_events(tmp_path / "logs" / "a", group="train")
    events = EventFiles(folder)
    events.add_hparams({"lr": 0.5, "net": "x", "amp": True}, [("", "loss")])
    events.close()
    writer = EventFileWriter(str(folder / "validation"))
    event = Event(step=7, wall_time=1_700_000_100.0)
    value = event.summary.value.add(tag="accuracy", tensor=make_tensor_proto(0.75, dtype="float32"))
    value.metadata.plugin_data.plugin_name = "scalars"
    writer.add_event(event)
    writer.close()
    assert 0 == read_in(store, folder)[0]
    run = open_run("logs/a", store)
    assert [0, 1, 2] == [step for step, _ in points(run, "train/loss")]
    assert 1_700_000_002.0 == run.read_series("train/loss").times[-1]
    assert [(7, 0.75)] == points(run, "validation/accuracy")
    assert {"lr": 0.5, "net": "x", "amp": True} == run.record["hparams"]


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_event_file_is_named_and_the_rest_kept(tmp_path, store, damage):
    folder = write_events(tmp_path / "logs" / "b", steps=20)
    (path,) = folder.glob("*tfevents*")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[-10:]
    else:
        data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    code, told = read_in(store, folder)
    assert 3 == code
    (problem,) = told["problems"]
    assert problem.startswith(f"{path}: byte ")
    kept = points(open_run("logs/b", store), "loss")
    assert [1 / (step + 1) for step in range(len(kept))] == pytest.approx([v for _, v in kept])
    assert (19 if damage == "cut" else 5) <= len(kept) < 20


def test_a_writer_that_went_on_from_an_earlier_step(tmp_path, store):
    folder = write_events(tmp_path / "logs" / "c", steps=6)
    events = EventFiles(folder)
    events.rewind(2)
    for step in (3, 4):
        events.add_scalar("loss", 9.0, step)
    events.close()
    # The later file has the later name.
    read_in(store, folder)
    assert [0, 1, 2, 3, 4] == [s for s, _ in points(open_run("logs/c", store), "loss")]


@pytest.mark.feature("LB-31")
@pytest.mark.feature("LB-16")
def test_a_lab_run_folder(tmp_path, store):
    folder = tmp_path / "logs" / "mnist" / "f4b1"
    (folder / "checkpoints" / "500").mkdir(parents=True)
    (folder / "run.yaml").write_text(
        "name: mnist\nuuid: f4b1\ncomment: first try\ntags: [a, b]\ncommit: abc\nis_dirty: true\n"
    )
    (folder / "configs.yaml").write_text(
        "epochs:\n  name: epochs\n  value: 10\n  computed: null\n"
        "optimizer:\n  name: optimizer\n  value: adam\n  computed: Adam\n"
    )
    connection = sqlite3.connect(folder / "sqlite.db")
    connection.execute("create table scalars (indicator text, step integer, value real)")
    rows = [("train.loss", 100, 0.5), ("train.loss", 200, 0.25), ("valid.accuracy", 200, 0.9)]
    connection.executemany("insert into scalars values (?, ?, ?)", rows)
    connection.commit()
    connection.close()
    assert 0 == read_in(store, tmp_path / "logs")[0]  # found two folders below
    run = open_run("mnist/f4b1", store)
    assert [(100, 0.5), (200, 0.25)] == points(run, "train.loss")
    assert [(200, 0.9)] == points(run, "valid.accuracy")
    assert {"epochs": 10, "optimizer": "Adam"} == run.record["hparams"]
    assert ("first try", ["a", "b"]) == (
        run.record["experiment"]["comment"],
        run.record["experiment"]["tags"],
    )
    assert {"commit": "abc", "dirty": True} == run.record["git"]
    assert ["checkpoints/500"] == run.record["imported"]["checkpoints"]


@pytest.mark.feature("CA-43")
def test_a_catalyst_log_folder(tmp_path, store):
    folder = tmp_path / "logs" / "200101.a1b2"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "configs").mkdir()
    (folder / "configs" / "_config.json").write_text('{"stages": {"stage1": {"lr": 0.01}}}')
    (folder / "checkpoints" / "best_full.pth").write_bytes(b"x")
    metrics = {
        "best": {"loss": 0.5, "accuracy01": 90.0},
        "epoch_0": {"loss": 0.75, "accuracy01": 80.0, "_timers/fps": 3.0},
        "epoch_1": {"loss": 0.5, "accuracy01": 90.0},
    }
    (folder / "checkpoints" / "_metrics.json").write_text(json.dumps(metrics))
    assert 0 == read_in(store, folder)[0]
    run = open_run("logs/200101.a1b2", store)
    assert [(0, 0.75), (1, 0.5)] == points(run, "valid/loss")
    assert ["valid/accuracy01", "valid/loss"] == sorted(run.list_series())
    assert {"stages": {"stage1": {"lr": 0.01}}} == run.record["config"]
    assert metrics["best"] == run.record["imported"]["facts"]["best"]
    assert ["checkpoints/best_full.pth"] == run.record["imported"]["checkpoints"]

    write_events(folder / "train_log")
    read_in(store, folder)
    # The loaders' event files tell more: they are the source where there are any.
    assert ["train/loss"] == [
        n for n in open_run("logs/200101.a1b2", store).read_all() if not n.startswith("valid")
    ]


def test_a_folder_of_nothing_and_one_that_is_not_there_are_errors(tmp_path, store):
    (tmp_path / "empty").mkdir()
    ended = discern("import", tmp_path / "empty", "--runs", store, "--json")
    assert (1, "there is no run here that can be read") == (ended.code, ended.error["what"])
    ended = discern("import", tmp_path / "none", "--runs", store, "--json")
    assert (2, "there is no such folder") == (ended.code, ended.error["what"])


def test_two_sources_of_one_name_are_two_runs(tmp_path, store):
    for folder in ("x/out/a", "y/out/a"):
        write_timm(tmp_path / folder)
    read_in(store, tmp_path / "x", tmp_path / "y")
    assert {"out/a", "out/a-1"} == {run.id for run in list_runs(store)}


def test_what_an_imported_run_does_not_know_is_no_difference(tmp_path, store):
    for name in ("a", "b"):
        read_in(store, write_timm(tmp_path / "out" / name))
    known = store / "out" / "b" / "run.json"
    record = json.loads(known.read_text())
    known.write_text(json.dumps({**record, "environment": {"versions": {"torch": "2.0"}}}))
    ended = discern("runs", "compare", "out/a", "out/b", "--json", "--runs", store)
    assert 0 == ended.code, ended.stderr
    assert {} == ended.object["surroundings"]
