"""Groups of runs: their folder, going on with one, and one writer at a time."""

import json
import os

import pytest

from discern.base.errors import ConfigError, RunError
from discern.track.run_group import find_unfinished_group, open_group, read_group
from discern.track.run_lock import is_locked

KIND = {"kind": "kfold", "stem": "kfold-mlp"}


def test_the_same_request_goes_on_until_it_is_finished(tmp_path):
    writer, resumed = open_group(tmp_path / "p", identity="a", **KIND, fields={"folds": [0, 1]})
    with writer:
        assert not resumed
        assert "p/kfold-mlp-1" == writer.id
        assert find_unfinished_group(tmp_path / "p", "kfold", "a") is None  # it is being worked on
    assert [0, 1] == read_group(writer.path).record["folds"]
    again, resumed = open_group(tmp_path / "p", identity="a", **KIND)
    with again:
        assert resumed
        assert writer.path == again.path
        again.update(status="finished")
    other, resumed = open_group(tmp_path / "p", identity="a", **KIND)
    with other:
        assert not resumed
        assert "kfold-mlp-2" == other.path.name


def test_another_request_or_fresh_begins_anew(tmp_path):
    first, _ = open_group(tmp_path, identity="a", **KIND)
    with first:
        pass
    for options in ({"identity": "b"}, {"identity": "a", "fresh": True}):
        writer, resumed = open_group(tmp_path, **options, **KIND)
        with writer:
            assert not resumed
            assert first.path != writer.path


def test_a_name_belongs_to_one_request(tmp_path):
    first, _ = open_group(tmp_path, identity="a", name="mine", **KIND)
    with first:
        pass
    again, resumed = open_group(tmp_path, identity="a", name="mine", **KIND)
    with again:
        assert resumed
    with pytest.raises(ConfigError, match="already"):
        open_group(tmp_path, identity="b", name="mine", **KIND)


def test_a_damaged_record_is_told(tmp_path):
    writer, _ = open_group(tmp_path, identity="a", **KIND)
    with writer:
        pass
    file = writer.path / "group.json"
    file.write_text("{")
    with pytest.raises(RunError, match="damaged"):
        read_group(writer.path)
    file.write_text(json.dumps({"format": "discern.group", "version": 99}))
    with pytest.raises(RunError, match="version"):
        read_group(writer.path)


def test_a_kill_before_the_record_leaves_no_group(tmp_path, monkeypatch):
    def killed(*_):
        os._exit(9)

    monkeypatch.setattr("discern.track.run_group._take_name", killed)
    child = os.fork()
    if not child:
        open_group(tmp_path, identity="a", **KIND)
    os.waitpid(child, 0)
    monkeypatch.undo()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    os.utime(left, (0, 0))
    writer, resumed = open_group(tmp_path, identity="a", **KIND)
    with writer:
        assert (False, "kfold-mlp-1") == (resumed, writer.path.name)
        assert [writer.path] == list(tmp_path.iterdir())
        assert is_locked(writer.path)
