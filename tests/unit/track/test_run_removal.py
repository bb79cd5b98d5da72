from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from discern.base.errors import RunError
from discern.track.run import create_run
from discern.track.run_index import read_index
from discern.track.run_removal import (
    carry_out,
    disk_sizes,
    plan_cleaning,
    plan_deletion,
    plan_leftovers,
)


def bytes_below(path):
    return sum(p.lstat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())


def row_of(root, name="one"):
    (row,) = [row for row in read_index(root).rows if row.name == name]
    return row


@pytest.fixture
def run(tmp_path):
    """A finished run with three checkpoints, the second of them the best, and a model."""
    writer = create_run(tmp_path, "digits", name="one")
    writer.finish("finished", "done")
    for step in (10, 20, 30):
        folder = writer.path / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(bytes(1000 + step))
    (writer.path / "checkpoints" / "metrics.json").write_text(
        json.dumps({"version": 1, "best": {"checkpoint": "step-20"}})
    )
    (writer.path / "checkpoints" / ".step-40.tmp-1-ab").mkdir()
    (writer.path / "checkpoints" / ".step-40.tmp-1-ab" / "half").write_bytes(bytes(77))
    (writer.path / "model").mkdir()
    (writer.path / "model" / "model.safetensors").write_bytes(bytes(500))
    return writer.path


def steps(run):
    return sorted(path.name for path in (run / "checkpoints").glob("step-*"))


def test_sizes_of_parts_add_up(run):
    sizes = disk_sizes(run)
    assert 500 == sizes["model"]
    listing = len((run / "checkpoints" / "metrics.json").read_bytes())
    assert 3060 + 77 + listing == sizes["checkpoints"]
    assert bytes_below(run) == sizes["total"]
    assert sizes["total"] == sum(size for part, size in sizes.items() if part != "total")


def test_cleaning_a_finished_run_frees_what_was_told(run):
    removal = plan_cleaning(row_of(run.parents[1]), ["checkpoints"])
    assert (4, 3060 + 77) == (removal.files, removal.bytes)
    before = bytes_below(run)
    assert removal.bytes == carry_out(removal)
    assert before - removal.bytes == bytes_below(run)
    assert [] == steps(run)
    assert 500 == disk_sizes(run)["model"]
    again = plan_cleaning(row_of(run.parents[1]), ["checkpoints"])
    assert ((), 0) == (again.paths, again.bytes)


def test_what_a_run_goes_on_from_stays(run):
    shutil.rmtree(run / "model")
    removal = plan_cleaning(row_of(run.parents[1]), ["checkpoints"])
    assert "step-20, step-30 stay, as it has no model" == removal.kept
    assert 1010 + 77 == removal.bytes
    carry_out(removal)
    assert ["step-20", "step-30"] == steps(run)
    removal = plan_cleaning(row_of(run.parents[1]), ["checkpoints"], everything=True)
    assert 2050 == carry_out(removal)
    assert [] == steps(run)


def test_checkpoints_of_an_interrupted_run_stay(run):
    record = json.loads((run / "run.json").read_bytes())
    (run / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    removal = plan_cleaning(row_of(run.parents[1]), ["checkpoints"])
    assert "step-20, step-30 stay, as it is not finished" == removal.kept


def test_deleting_frees_what_was_told_and_takes_no_link_s_target(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_bytes(bytes(900))
    (run / "data").symlink_to(elsewhere)
    os.link(elsewhere / "precious", run / "shared")  # its bytes stay with the other name
    os.link(run / "model" / "model.safetensors", run / "same")  # two names, both go: once
    told = plan_deletion(row_of(tmp_path))
    assert told.bytes == bytes_below(run) - 900 - 500
    assert told.bytes == carry_out(told)
    assert not run.exists()
    assert 900 == len((elsewhere / "precious").read_bytes())
    assert [] == read_index(tmp_path).rows


def test_a_run_that_is_a_link_is_refused(run, tmp_path):
    (tmp_path / "digits" / "link").symlink_to(run)
    with pytest.raises(RunError, match="link"):
        plan_deletion(row_of(tmp_path, "link"))


def test_half_deleted_run_can_be_deleted(run, tmp_path):
    (run / "run.json").unlink()
    removal = plan_deletion(row_of(tmp_path))
    assert bytes_below(run) == removal.bytes == carry_out(removal)
    assert not run.exists()


DELETE = """
import sys
from pathlib import Path
from discern.track import run_removal
from discern.track.run_index import read_index
from discern.track.run_lock import RunLock
(row,) = read_index(Path(sys.argv[1])).rows
lock = RunLock(row.path)
removal = run_removal.plan_deletion(row)
print("ready", flush=True)
run_removal.carry_out(removal)
"""


def test_killed_deletion_leaves_nothing_that_looks_like_a_run(run, tmp_path):
    for number in range(3000):
        (run / "checkpoints" / f"file-{number}").write_bytes(b"12345")
    child = subprocess.Popen(
        [sys.executable, "-c", DELETE, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert b"ready\n" == child.stdout.readline()
    time.sleep(0.005)
    child.kill()
    child.wait()
    child.stdout.close()
    rows = read_index(tmp_path).rows
    left = plan_leftovers(run.parent)
    assert 1 == len(rows) + len(left)  # not begun, or out of sight
    assert sum(removal.bytes for removal in left) == sum(map(carry_out, left))
    assert [] == plan_leftovers(run.parent)


def test_leftover_that_somebody_still_removes_is_left_to_him(run, tmp_path):
    hidden = run.with_name(".one.deleted-12ab")
    writer = create_run(tmp_path, "digits", name="two")
    writer.path.rename(hidden)
    assert [] == plan_leftovers(run.parent)
    writer._lock.close()
    assert [hidden] == [removal.paths[0] for removal in plan_leftovers(run.parent)]
