from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from discern.base.errors import ConfigError, Interrupted, RunError
from discern.track.metrics_log import read_series
from discern.track.run import (
    create_run,
    find_unfinished,
    list_runs,
    open_run,
    resume_run,
    runs_root,
)


def record_of(path: Path) -> dict:
    return json.loads((path / "run.json").read_text())


def finished(root: Path, project: str, **kwargs) -> Path:
    with create_run(root, project, **kwargs) as writer:
        pass
    return writer.path


def child(code: str, *arguments: object, **kwargs) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        **kwargs,
    )


HOLD = """
import sys, time
from pathlib import Path
from discern.track.run import create_run, resume_run
path = Path(sys.argv[1])
if (path / "run.json").exists():
    writer = resume_run(path)
else:
    writer = create_run(path.parents[1], path.parent.name, name=path.name, request_hash="h")
writer.log("at work")
writer.metrics.add("loss", 1, 0.5)
writer.metrics.add("loss", 2, 0.25)
writer.flush(sync=True)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def killed(tmp_path):
    """The folder of a run whose process was killed."""
    path = tmp_path / "runs" / "flowers" / "net-1"
    process = child(HOLD, path)
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return path


def test_run_folder_tells_what_was_done(tmp_path):
    with create_run(
        tmp_path,
        "my flowers",
        name_stem="timm/resnet18",
        request_hash="abc",
        config_text="seed: 1\n",
        record={"split": {"seed": np.int64(3), "folder": Path("a") / "b"}},
    ) as writer:
        writer.log("one\ntwo")
        writer.metrics.add("loss", 1, 0.5)
        writer.events.add_scalar("loss", 0.5, 1)
        writer.update(metrics={"accuracy": np.float32(0.5), "loss": math.nan})
    path = tmp_path / "my-flowers" / "timm-resnet18-1"
    assert path == writer.path
    record = record_of(path)
    assert ("finished", 1, "abc") == (record["status"], record["attempt"], record["request_hash"])
    assert {"accuracy": 0.5, "loss": "nan"} == record["metrics"]
    assert {"seed": 3, "folder": "a/b"} == record["split"]
    assert record["environment"]["versions"]["numpy"] == np.__version__
    assert {"commit", "branch", "dirty", "diff", "diff_cut"} == set(record["git"])
    (attempt,) = record["attempts"]
    assert (1, os.getpid(), "finished") == (attempt["number"], attempt["pid"], attempt["status"])
    assert attempt["start"] <= attempt["end"]
    assert (path / "config.yaml").read_text() == "seed: 1\n"
    lines = (path / "log.txt").read_text().splitlines()
    assert ["one", "two"] == [line.split(" ", 1)[1] for line in lines[1:3]]
    end = json.loads((path / "exit.json").read_text())
    assert ("finished", 0, None, 1) == tuple(
        end[key] for key in ("status", "exit_code", "error", "attempt")
    )
    assert len(list((path / "events").iterdir())) == 1
    assert [0.5] == open_run("timm-resnet18-1", tmp_path).read_series("loss").values.tolist()


def test_numbered_names_never_collide(tmp_path):
    names = [finished(tmp_path, "p", name_stem="net").name for _ in range(3)]
    assert names == ["net-1", "net-2", "net-3"]
    (tmp_path / "p" / "net-41").mkdir()
    assert finished(tmp_path, "p", name_stem="net").name == "net-42"
    code = (
        "import sys; from pathlib import Path; from discern.track.run import create_run\n"
        "for _ in range(5):\n"
        "    with create_run(Path(sys.argv[1]), 'q', name_stem='net') as w: print(w.path.name)"
    )
    processes = [child(code, tmp_path) for _ in range(3)]
    found = [name for process in processes for name in process.communicate()[0].split()]
    assert sorted(found) == sorted(f"net-{n}" for n in range(1, 16))


def test_taken_name_is_refused_and_kept_aside_with_exist_ok(tmp_path):
    finished(tmp_path, "p", name="net", record={"mark": "old"})
    with pytest.raises(ConfigError, match="already a run 'net'"):
        create_run(tmp_path, "p", name="net")
    assert record_of(tmp_path / "p" / "net")["mark"] == "old"
    writer = create_run(tmp_path, "p", name="net", exist_ok=True, record={"mark": "new"})
    with pytest.raises(RunError, match="is working on this run"):
        create_run(tmp_path, "p", name="net", exist_ok=True)
    writer.finish("finished", "done")
    assert record_of(tmp_path / "p" / "net")["mark"] == "new"
    assert record_of(tmp_path / "p" / "net~1")["mark"] == "old"


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a\0b", "x" * 300])
def test_name_that_is_no_folder_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="name of a folder"):
        create_run(tmp_path / "runs", "p", name=name)
    assert [path.name for path in tmp_path.rglob("*") if path.name != "runs"] in ([], ["p"])


def test_failed_start_leaves_no_folder(tmp_path):
    with pytest.raises(TypeError, match="no plain form"):
        create_run(tmp_path, "p", name="net", record={"odd": object()})
    assert [] == list((tmp_path / "p").iterdir())


def test_live_run_is_running_and_names_its_holder(tmp_path):
    path = tmp_path / "flowers" / "net-1"
    process = child(HOLD, path)
    try:
        process.stdout.readline()
        run = open_run(str(path), tmp_path)
        assert ("running", True, process.pid) == (run.status, run.locked, run.holder.pid)
        assert [] == find_unfinished(tmp_path)
        with pytest.raises(RunError, match=f"process {process.pid} on "):
            resume_run(path)
        assert record_of(path)["attempt"] == 1
    finally:
        process.kill()
        process.communicate()
    assert open_run(str(path), tmp_path).status == "lost"


def test_killed_run_is_lost_found_and_resumed(killed):
    root = killed.parents[1]
    assert [killed] == [run.path for run in find_unfinished(root, "flowers", "h")]
    assert [] == find_unfinished(root, "flowers", "other")
    assert [] == find_unfinished(root, "birds", "h")
    assert open_run("net-1", root).status == "lost"
    (killed / ".run.json.tmp-1-ab").write_text("half")
    (killed / "checkpoints").mkdir()
    (killed / "checkpoints" / ".step-5.tmp-1-ab").mkdir()
    with open(killed / "log.txt", "a") as stream:
        stream.write("torn line")
    with open(killed / "metrics.bin", "ab") as stream:
        stream.write(b"torn block")
    with resume_run(killed) as writer:
        assert writer.attempt == 2
        writer.metrics.rewind(1)
        writer.metrics.add("loss", 2, 0.125)
        assert not list(killed.glob(".*tmp*"))
        assert not list((killed / "checkpoints").iterdir())
    assert [0.5, 0.125] == read_series(killed, "loss").values.tolist()
    record = record_of(killed)
    assert ["lost", "finished"] == [attempt["status"] for attempt in record["attempts"]]
    lines = (killed / "log.txt").read_text().splitlines()
    assert "torn line" in lines
    assert any("attempt 2 by process" in line for line in lines)
    assert any("set aside in metrics.bin.cut-2" in line for line in lines)
    assert (killed / "metrics.bin.cut-2").read_bytes() == b"torn block"
    assert [] == find_unfinished(root)


def test_end_told_by_exit_json_counts_when_run_json_came_too_late(killed):
    end = {"status": "interrupted", "attempt": 1, "reason": "asked to stop"}
    (killed / "exit.json").write_text(json.dumps(end))
    assert open_run(str(killed), killed).status == "interrupted"
    (killed / "exit.json").write_text(json.dumps({**end, "attempt": 0}))
    assert open_run(str(killed), killed).status == "lost"
    with resume_run(killed):
        assert not (killed / "exit.json").exists()


def test_changed_version_is_logged_on_resume(killed):
    record = record_of(killed)
    record["environment"]["versions"]["torch"] = "2.0.0"
    (killed / "run.json").write_text(json.dumps(record))
    with resume_run(killed):
        pass
    now = record_of(killed)["environment"]["versions"]["torch"]
    warnings = [line for line in (killed / "log.txt").read_text().splitlines() if "warning" in line]
    assert [line.partition("before: ")[2] for line in warnings] == [f"torch 2.0.0 -> {now}"]


def test_older_attempt_may_commit_nothing(tmp_path):
    writer = create_run(tmp_path, "p", name="net")
    writer.check_fence()
    record = {**record_of(writer.path), "attempt": 2}
    (writer.path / "run.json").write_text(json.dumps(record))
    for commit in (
        writer.check_fence,
        lambda: writer.update(best=1),
        lambda: writer.write_config("x"),
        lambda: writer.finish("finished", "done"),
    ):
        with pytest.raises(RunError, match="taken over"):
            commit()
    assert record == record_of(writer.path)
    assert not (writer.path / "exit.json").exists()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RunError("loss is not finite", got="nan"), "failed", 1),
        (Interrupted("stopped"), "interrupted", 130),
        (KeyboardInterrupt(), "interrupted", 130),
        (ConfigError("no such key"), "failed", 2),
        (ZeroDivisionError("by zero"), "failed", 1),
    ],
)
def test_error_ends_the_run_and_is_told(tmp_path, error, status, code):
    writer = create_run(tmp_path, "p", name="net")

    def work() -> None:
        with writer:
            writer.metrics.add("loss", 1, 0.5)
            raise error

    with pytest.raises(type(error)):
        work()
    end = json.loads((writer.path / "exit.json").read_text())
    assert (status, code) == (end["status"], end["exit_code"])
    assert record_of(writer.path)["status"] == status
    assert end["error"]["what"]
    if isinstance(error, RunError):
        assert end["error"] == error.record()
    assert [0.5] == read_series(writer.path, "loss").values.tolist()
    assert [writer.path] == [run.path for run in find_unfinished(tmp_path)]


def test_fields_of_the_floor_cannot_be_set(tmp_path):
    with create_run(tmp_path, "p", name="net") as writer:
        with pytest.raises(ValueError, match="not to be set: attempt"):
            writer.update(attempt=5)
        writer.update(note="kept")
    assert record_of(writer.path)["note"] == "kept"


def test_forked_child_that_outlives_a_killed_run_does_not_keep_it(tmp_path):
    fork = "import os\nif os.fork() == 0: time.sleep(5); os._exit(0)\n"
    code = HOLD.replace("print(", fork + "print(")
    path = tmp_path / "p" / "net"
    process = child(code, path)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with resume_run(path) as writer:
        assert writer.attempt == 2
    process.stdout.close()


def test_runs_are_opened_by_folder_id_and_name(tmp_path, monkeypatch):
    one = finished(tmp_path, "flowers", name="net-1")
    two = finished(tmp_path, "birds", name="net-1")
    three = finished(tmp_path, "birds", name="lenet-7")
    assert open_run("flowers/net-1", tmp_path).path == one
    assert open_run(str(two), tmp_path / "elsewhere").path == two
    assert open_run("lenet-7", tmp_path).path == three
    monkeypatch.chdir(two.parent)
    assert open_run("net-1", tmp_path).path == two
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="2 runs have the name") as caught:
        open_run("net-1", tmp_path)
    assert caught.value.expected == "birds/net-1 or flowers/net-1"
    with pytest.raises(RunError, match="no run 'lenet-8'") as caught:
        open_run("lenet-8", tmp_path)
    assert "lenet-7" in caught.value.hint


def test_newest_run_comes_first_and_a_broken_one_is_listed(tmp_path):
    assert [] == list_runs(tmp_path / "none")
    paths = [finished(tmp_path, "p", name_stem="net") for _ in range(3)]
    assert [path.name for path in paths[::-1]] == [run.name for run in list_runs(tmp_path)]
    (paths[1] / "run.json").write_text("{")
    found = {run.name: run.status for run in list_runs(tmp_path)}
    assert found == {"net-1": "finished", "net-2": "unreadable", "net-3": "finished"}
    with pytest.raises(RunError, match="cannot be read"):
        open_run("p/net-2", tmp_path)
    with pytest.raises(RunError, match="cannot be read"):
        resume_run(paths[1])
    assert [] == find_unfinished(tmp_path)


def test_root_is_the_flag_then_the_environment_then_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISCERN_RUNS", raising=False)
    assert runs_root(None) == tmp_path / "runs"
    monkeypatch.setenv("DISCERN_RUNS", str(tmp_path / "shared"))
    assert runs_root(None) == tmp_path / "shared"
    assert runs_root("given") == tmp_path / "given"


FULL = """
import resource, signal, sys
from pathlib import Path
from discern.base.errors import RunError
from discern.track.run import create_run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = create_run(Path(sys.argv[1]), "p", name="net")
writer.log("before")
writer.update(note="kept")
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
for number in range(20):
    writer.log(f"line {number}")
for step in range(2000):
    writer.metrics.add("loss", step, step)
print(len(writer.problems()))
for action in (writer.flush, lambda: writer.update(note="lost")):
    try:
        action()
    except RunError as error:
        print(error.what)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
writer.flush(sync=True)
print(writer.problems())
writer.finish("finished", "done")
"""


def test_full_disk_is_told_and_nothing_saved_is_lost(tmp_path):
    out, _ = child(FULL, tmp_path).communicate()
    assert out.splitlines() == [
        "2",
        "the log cannot be written: [Errno 27] File too large",
        "run.json cannot be written: [Errno 27] File too large",
        "[]",
    ]
    path = tmp_path / "p" / "net"
    assert record_of(path)["note"] == "kept"
    assert [f"line {n}" for n in range(20)] == [
        line.split(" ", 1)[1] for line in (path / "log.txt").read_text().splitlines()[2:]
    ]
    assert len(read_series(path, "loss")) == 2000


def test_writing_a_run_loads_no_heavy_package():
    code = (
        "import sys\nimport discern.cli.runs_commands, discern.cli.doctor_command\n"
        "import discern.track.run, discern.track.environment\n"
        "import discern.track.machine_checks, discern.track.git_state\n"
        "heavy = 'torch PIL pyarrow pydantic sklearn tensorboard rich cv2 psutil'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert child(code).communicate()[0].strip() == "[]"


def test_runs_that_the_system_refuses_to_read_are_listed(tmp_path):
    create_run(tmp_path, "a", name="good").finish("finished", "done")
    (tmp_path / "a" / "odd" / "run.json").mkdir(parents=True)
    problems = {run.name: run.problem for run in list_runs(tmp_path)}
    assert problems["good"] is None
    assert "cannot be read" in problems["odd"]
    with pytest.raises(RunError, match="cannot be read"):
        open_run("odd", tmp_path)


def test_an_unknown_checkpoint_of_a_known_run_is_told_with_the_forms(tmp_path):
    finished(tmp_path, "digits", name="mlp-1")
    with pytest.raises(RunError) as told:
        open_run("mlp-1@foo", tmp_path)
    assert "@best, @last, @epoch:K, @step:N" in str(told.value)
    with pytest.raises(RunError) as told:
        open_run("mpl-1@foo", tmp_path)
    assert "@best" not in str(told.value)
