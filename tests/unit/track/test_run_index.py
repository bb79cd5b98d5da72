from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discern.base.errors import ConfigError
from discern.track import run_index, run_index_file
from discern.track.metrics_log import MetricsLog
from discern.track.run import create_run, resume_run
from discern.track.run_index import read_index
from discern.track.run_notes import Notes, write_notes


def make_run(root, project, name, *, metrics=None, **record):
    with create_run(root, project, name=name, record=record) as writer:
        writer.update(metrics=metrics or {})
    return root / project / name


def age(root, seconds=60):
    """Set back all times of change: what has just changed is not believed by the index."""
    then = time.time() - seconds
    for path in [*root.rglob("*"), root]:
        os.utime(path, (then, then))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "runs"
    for name, accuracy in (("one", 0.5), ("two", 0.75)):
        make_run(root, "digits", name, metrics={"accuracy": accuracy})
    make_run(root, "flowers", "one", config={"stages": {"train": {"lr": 0.01}}})
    age(root)
    return root


@pytest.fixture
def reads(monkeypatch):
    """The names of the runs whose records were read."""
    names = []
    read = run_index.read_row
    monkeypatch.setattr(
        run_index, "read_row", lambda path, problem: names.append(path.name) or read(path, problem)
    )
    return names


def ids(table):
    return sorted(row.id for row in table.rows)


def test_second_look_reads_no_record(root, reads):
    first = read_index(root)
    assert ["digits/one", "digits/two", "flowers/one"] == ids(first)
    assert 3 == len(reads)
    second = read_index(root)
    assert 3 == len(reads)
    assert first.rows == second.rows
    assert [] == second.notices
    assert {0.5, 0.75} == {r.metrics["accuracy"] for r in second.rows if r.project == "digits"}


def test_a_changed_run_is_read_again_and_alone(root, reads):
    read_index(root)
    with resume_run(root / "digits" / "one") as writer:
        writer.update(metrics={"accuracy": 0.875})
    del reads[:]
    rows = {row.id: row for row in read_index(root).rows}
    assert ["one"] == reads
    assert {"accuracy": 0.875} == rows["digits/one"].metrics
    assert 2 == rows["digits/one"].attempt


def test_a_run_changed_just_now_is_read_again_next_time(root, reads):
    make_run(root, "digits", "three")
    read_index(root)
    del reads[:]
    read_index(root)
    assert ["three"] == reads  # its files could have changed since, within one tick of the clock


def test_notes_written_beside_the_record_are_seen(root):
    read_index(root)
    write_notes(root / "digits" / "two", Notes("best so far", "good", ("keep",)))
    (row,) = [row for row in read_index(root).rows if row.name == "two"]
    assert ("best so far", "good", ("keep",)) == (row.title, row.note, row.tags)


def test_moved_run_is_at_its_new_place_and_told_gone_once(root):
    read_index(root)
    (root / "flowers" / "one").rename(root / "digits" / "moved")
    table = read_index(root)
    assert ["digits/moved", "digits/one", "digits/two"] == ids(table)
    assert [f"gone since the last look at {root}: flowers/one"] == table.notices
    assert [] == read_index(root).notices


def test_half_deleted_and_unreadable_runs_are_shown(root):
    (root / "digits" / "one" / "run.json").unlink()
    (root / "digits" / "two" / "run.json").write_text('{"format": "discern.run", ')
    (root / "flowers" / "one" / "run.json").unlink()
    (root / "flowers" / "one" / "run.json").mkdir()
    (root / "flowers" / "plain").mkdir()  # no run, and never was
    for _ in range(2):
        rows = {row.id: row for row in read_index(root).rows}
        assert ["digits/one", "digits/two", "flowers/one"] == sorted(rows)
        assert {"unreadable"} == {row.status for row in rows.values()}
        assert "missing" in rows["digits/one"].problem
        assert "cannot be read" in rows["digits/two"].problem
        assert "cannot be read" in rows["flowers/one"].problem


def test_record_of_a_newer_version_is_shown_as_unreadable(root):
    path = root / "digits" / "one" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"version": 2}))
    (row,) = [row for row in read_index(root).rows if row.id == "digits/one"]
    assert "unreadable" == row.status
    assert "version 2, not 1" in row.problem


def test_a_run_being_written_is_running_and_a_killed_one_lost(root):
    writer = create_run(root, "digits", name="live")
    statuses = {row.id: row.status for row in read_index(root).rows}
    assert "running" == statuses["digits/live"]
    copy = root / "digits" / "killed"
    shutil.copytree(root / "digits" / "live", copy)
    age(root)
    assert ["lost", "lost"] == [
        row.status for _ in range(2) for row in read_index(root).rows if row.name == "killed"
    ]
    writer.finish("finished", "done")


def test_names_with_any_character(root):
    odd = os.fsdecode(b"odd \xff\n'\"%$`name")
    shutil.copytree(root / "digits" / "one", root / "digits" / odd)
    for _ in range(2):
        assert f"digits/{odd}" in ids(read_index(root))
    age(root)
    assert f"digits/{odd}" in ids(read_index(root))


def test_facts_come_from_the_index_and_from_the_record_alike(root):
    fresh, stored = read_index(root), read_index(root)
    for table in (fresh, stored):
        facts = table.facts()
        (row,) = [row for row in table.rows if row.project == "flowers"]
        assert 0.01 == facts(row)["config.stages.train.lr"]
        assert row.recorded == facts(row)["status"]


def test_summaries_are_kept_until_the_metrics_change(root, monkeypatch):
    run = root / "digits" / "one"
    log = MetricsLog(run, 1)
    for step, value in enumerate((3.0, math.nan, 1.0, 2.0)):
        log.add("val/loss", step, value)
    log.close()
    age(root)
    summary = None
    for _ in range(2):
        table = read_index(root)
        (row,) = [row for row in table.rows if row.id == "digits/one"]
        summary = table.series()(row)["val/loss"]
        assert (4, 3, 2.0, 1) == (
            summary.points,
            summary.last_step,
            summary.last,
            summary.not_finite,
        )
        assert (1.0, 2) == summary.best("val/loss")
        monkeypatch.setattr(run_index, "summarize_run", lambda folder: pytest.fail("read again"))
    monkeypatch.undo()
    log = MetricsLog(run, 2)
    log.add("val/loss", 4, 0.5)
    log.close()
    table = read_index(root)
    (row,) = [row for row in table.rows if row.id == "digits/one"]
    assert (0.5, 4) == table.series()(row)["val/loss"].best("val/loss")


def index_of(root):
    return root / run_index_file.INDEX_FILE


def test_index_of_a_newer_version_is_left_alone_and_told(root):
    read_index(root)
    with sqlite3.connect(index_of(root)) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = index_of(root).read_bytes()
    for _ in range(2):
        table = read_index(root)
        assert ["digits/one", "digits/two", "flowers/one"] == ids(table)
        assert "version 99" in table.notices[0]
        assert "left alone" in table.notices[0]
    table.series()
    assert before == index_of(root).read_bytes()


def test_database_of_something_else_is_left_alone(root):
    with sqlite3.connect(index_of(root)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = index_of(root).read_bytes()
    table = read_index(root)
    assert 3 == len(table.rows)
    assert "something else" in table.notices[0]
    assert before == index_of(root).read_bytes()


def test_index_of_an_older_version_is_made_anew(root, reads):
    read_index(root)
    with sqlite3.connect(index_of(root)) as connection:
        connection.execute("PRAGMA user_version = 0")
    connection.close()
    del reads[:]
    assert [] == read_index(root).notices
    assert 3 == len(reads)
    assert 3 == len(read_index(root).rows)
    assert 3 == len(reads)


@pytest.mark.parametrize("harm", ["text", "cut", "zeros", "tables", "empty", "brief"])
def test_damaged_index_is_made_anew(root, reads, harm):
    read_index(root)
    path = index_of(root)
    data = path.read_bytes()
    if harm == "text":
        path.write_text("no database" * 1000)
    elif harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "zeros":
        path.write_bytes(data[:4096] + bytes(len(data) - 4096))
    elif harm == "empty":
        path.write_bytes(b"")
    else:
        with sqlite3.connect(path) as connection:
            words = {"tables": "DROP TABLE runs", "brief": "UPDATE runs SET brief = '[1, 2'"}
            connection.execute(words[harm])
        connection.close()
    assert ["digits/one", "digits/two", "flowers/one"] == ids(read_index(root))
    del reads[:]
    table = read_index(root)
    assert [] == table.notices
    assert [] == reads
    assert ["digits/one", "digits/two", "flowers/one"] == ids(table)


def test_root_that_cannot_be_written_is_answered_for(root, monkeypatch):
    def refuse(path, *rest):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(run_index_file.os, "open", refuse)
    table = read_index(root)
    assert 3 == len(table.rows)
    assert "the index was not written" in table.notices[0]
    assert "Read-only file system" in table.notices[0]
    assert not index_of(root).exists()


def test_locked_database_is_answered_for(root, monkeypatch):
    monkeypatch.setattr(run_index_file, "_PATIENCE_S", 0.05)
    read_index(root)
    connection = sqlite3.connect(index_of(root), isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    table = read_index(root)
    connection.close()
    assert 3 == len(table.rows)
    assert "locked" in table.notices[0]
    assert [] == read_index(root).notices


def test_root_that_is_a_file_is_refused_and_a_missing_one_empty(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        read_index(tmp_path / "file")
    assert [] == read_index(tmp_path / "none").rows
    assert not (tmp_path / "none").exists()


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
_NAMES = ("status", "attempt", "attempts", "metrics", "created", "config", "experiment", "tags")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=st.dictionaries(st.sampled_from(_NAMES), _PLAIN), notes=_PLAIN)
def test_any_record_gives_a_row(tmp_path, record, notes):
    folder = tmp_path / "runs" / "project" / "run"
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"format": "discern.run", "version": 1, **record}
    (folder / "run.json").write_text(json.dumps(whole))
    (folder / "notes.json").write_text(json.dumps(notes))
    for _ in range(2):
        table = read_index(tmp_path / "runs")
        (row,) = table.rows
        assert "project/run" == row.id
        assert isinstance(row.status, str)
        table.facts()(row)
        table.series()(row)


WRITE = """
import sys
from pathlib import Path
from discern.track.run_index import read_index
while True:
    read_index(Path(sys.argv[1]), rebuild=True).series()
"""


def test_killed_and_concurrent_updates_leave_a_working_index(root, monkeypatch):
    for number in range(40):
        shutil.copytree(root / "digits" / "one", root / "many" / f"run-{number}")
    age(root)
    expected = ids(read_index(root))
    assert 43 == len(expected)
    command = [sys.executable, "-c", WRITE, str(root)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for number in range(6):
        writers = [subprocess.Popen(command, env=environment) for _ in range(2)]
        time.sleep(0.4 + number / 30)
        assert expected == ids(read_index(root))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        assert expected == ids(read_index(root))
    table = read_index(root)
    assert [] == table.notices
    with sqlite3.connect(index_of(root)) as connection:
        assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()
        assert [(43,)] == connection.execute("SELECT count(*) FROM runs").fetchall()
    connection.close()


def test_list_of_runs_loads_no_numpy(root):
    code = (
        "import sys; from pathlib import Path; from discern.track.run_index import read_index\n"
        "assert len(read_index(Path(sys.argv[1])).rows) == 3\n"
        "import discern.cli.runs_list_command\n"
        "print([name for name in ('numpy', 'torch', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(run_index.__file__).parents[2])},
    )
    assert "[]\n" == done.stdout
