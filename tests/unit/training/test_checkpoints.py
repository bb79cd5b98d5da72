import errno
import json

import pytest
import torch

from discern.base.errors import RunError
from discern.training import checkpoints
from discern.training.checkpoints import CheckpointStore, read_checkpoint
from discern.training.tensor_trees import join_tree, split_tree


@pytest.fixture
def store(tmp_path):
    warnings = []
    made = CheckpointStore(tmp_path / "checkpoints", warn=warnings.append)
    made.warnings = warnings
    return made


def write(store, step, value=1.0):
    return store.write(step, {"model": {"w": torch.full((3,), value)}}, {"step": step})


def test_what_was_written_is_read(store):
    checkpoint = read_checkpoint(write(store, 7, 0.5))
    assert 7 == checkpoint.step
    assert torch.equal(torch.full((3,), 0.5), checkpoint.tensors["model"]["w"])


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_newest_gives_way_to_the_one_before_and_is_named(store, name, damage):
    write(store, 1)
    file = write(store, 2) / name
    data = file.read_bytes()
    if damage == "flip":
        file.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    elif damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    else:
        file.unlink()
    assert 1 == store.latest().step
    assert any("step-2" in text for text in store.warnings)


def test_damaged_checkpoint_of_the_same_step_is_written_anew(store):
    path = write(store, 2)
    (path / "state.json").write_text("{}")
    write(store, 2)
    assert 2 == read_checkpoint(path).state["step"]


def test_last_two_and_the_wanted_are_kept(store):
    for step in range(1, 7):
        write(store, step)
    assert [1, 3, 4] == store.keep({2})
    assert [2, 5, 6] == store.steps()


def test_nothing_is_deleted_while_the_newest_is_damaged(store):
    for step in range(1, 5):
        write(store, step)
    (store.path(4) / "model.safetensors").write_bytes(b"")
    assert [] == store.keep(set())
    assert [1, 2, 3, 4] == store.steps()


def test_a_writer_without_the_fence_commits_nothing(tmp_path):
    def lost():
        raise RunError("another process has taken over this run")

    store = CheckpointStore(tmp_path, warn=print, check_fence=lost)
    with pytest.raises(RunError, match="taken over"):
        write(store, 1)
    assert [] == list(tmp_path.iterdir())


def test_full_disk_is_told_and_leaves_the_earlier_one(store, monkeypatch):
    write(store, 1)

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.Path, "write_bytes", full)
    with pytest.raises(RunError, match="disk is full"):
        write(store, 2)
    monkeypatch.undo()
    assert [1] == store.steps()
    assert 1 == store.latest().step
    assert ["step-1"] == [path.name for path in store.folder.iterdir()]


def test_unknown_version_is_refused(store):
    path = write(store, 3)
    record = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**record, "version": 99}))
    with pytest.raises(RunError, match="version"):
        read_checkpoint(path)


def test_trees_are_joined_as_they_were():
    tree = {0: {"a": torch.arange(3)}, "b": (1, 2.5, [None, True, "x"]), "c": []}
    tensors, plain = split_tree(tree)
    joined = join_tree(json.loads(json.dumps(plain)), tensors)
    assert torch.equal(tree[0]["a"], joined[0]["a"])
    assert (tree["b"], tree["c"]) == (joined["b"], joined["c"])


def test_values_that_are_not_plain_are_refused():
    with pytest.raises(RunError, match="cannot be saved"):
        split_tree({"x": object()})
