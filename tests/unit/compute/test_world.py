"""What ranks exchange, with real forked ranks joined by gloo."""

import os
import signal

import numpy as np
import pytest
import torch
from forked_ranks import on_ranks

from discern.base.errors import ConfigError, PeerLost, RunError
from discern.base.rank_environment import started_ranks
from discern.compute.device import choose_device, choose_rank_device
from discern.compute.world import World, open_world
from discern.config.device_text import listed_devices, wanted_ranks


def exchange(world):
    total = torch.tensor([1.0 + world.rank, 10.0])
    world.sum_(total)
    spread = torch.full((2, 3, 2, 2), float(world.rank)).to(memory_format=torch.channels_last)
    world.spread_([spread])
    rows = np.arange(2 * world.rank, 2 * world.rank + 2, dtype=np.int64)
    work_on = torch.tensor([float(world.rank), -float(world.rank)], dtype=torch.float64)
    world.finish(world.start_max(work_on))
    return {
        "sum": total.tolist(),
        "spread": spread.unique().tolist(),
        "values": world.sum_values([0.5, world.rank]),
        "told": world.tell({"rank": world.rank, "x": 0.1}),
        "gathered": world.gather(bytes([65 + world.rank] * world.rank)),
        "joined": world.join(rows[: 2 - world.rank]).tolist(),
        "wide": world.join(np.full((1, 2), world.rank, dtype=np.float32)).tolist(),
        "max": work_on.tolist(),
    }


def test_every_exchange_gives_the_same_on_all_ranks():
    expected = {
        "sum": [3.0, 20.0],
        "spread": [0.0],
        "values": [1.0, 1.0],
        "told": {"rank": 0, "x": 0.1},
        "gathered": [b"", b"B"],
        "joined": [0, 1, 2],
        "wide": [[0.0, 0.0], [1.0, 1.0]],
        "max": [1.0, 0.0],
    }
    assert [expected, expected] == on_ranks(exchange)


def test_a_rank_without_rows_joins_the_table():
    def join(world):
        return world.join(np.ones((3, 2), np.float32) if world.leads else np.empty(0)).shape

    assert [(3, 2)] * 3 == on_ranks(join, ranks=3)


def test_rows_of_another_form_are_refused():
    def refused(world):
        if world.leads:
            world.tell(["<f4", [2]])
            return None
        with pytest.raises(RunError, match="different form"):
            world.join(np.ones((1, 3), np.float32))
        return "refused"

    assert [None, "refused"] == on_ranks(refused)


def test_a_process_alone_is_a_world_of_one():
    world = open_world(torch.device("cpu"))
    tensor = torch.ones(2)
    world.sum_(tensor)
    assert (True, True, 1, None) == (world.alone, world.leads, world.ranks, world.backend)
    assert ([1.0, 1.0], {"a": 1}, [b"x"]) == (
        tensor.tolist(),
        world.tell({"a": 1}),
        world.gather(b"x"),
    )
    with world.first_alone():
        world.wait_for_all()
    assert World() == World()


def test_the_loss_of_a_rank_is_told_to_the_others():
    def lose(world):
        if world.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            world.wait_for_all()
        except PeerLost as error:
            return error.what
        return "nothing noticed"

    assert ["another rank has ended, so this one cannot go on", None] == on_ranks(lose, deaths=(1,))


def test_rank_0_goes_first(tmp_path):
    def visit(world, path):
        with world.first_alone():
            seen = path.exists()
            path.touch()
        return seen

    assert [False, True] == on_ranks(visit, tmp_path / "seen")


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ConfigError, match="not whole"):
        started_ranks()


@pytest.mark.parametrize(
    ("text", "ids"),
    [("", None), ("cpu", None), ("auto", None), ("0", (0,)), ("cuda:1", (1,)), ("0,3,4", (0, 3, 4)),
     ("cuda", (0,))],
)  # fmt: skip
def test_devices_as_they_are_written(text, ids):
    assert ids == listed_devices(text)


@pytest.mark.parametrize(
    ("nproc", "device", "expected"),
    [
        (None, "auto", None),
        (2, "cpu", 2),
        (None, "0,3,4,7", 4),
        (4, "0,3,4,7", 4),
        (None, "0", None),
    ],
)
def test_ranks_as_they_are_asked_for(nproc, device, expected):
    assert expected == wanted_ranks(nproc, device)


def test_contradictions_are_refused():
    for ask in (lambda: wanted_ranks(3, "0,1"), lambda: listed_devices("0,0"),
                lambda: listed_devices("gpu1")):  # fmt: skip
        with pytest.raises(ConfigError):
            ask()


def test_a_device_that_is_not_there_is_refused_on_any_rank():
    assert "cpu" == choose_rank_device("cpu", 1, 2).device
    with pytest.raises(ConfigError, match="not there"):
        choose_rank_device("90,91", 1, 2)
    with pytest.raises(ConfigError, match="device of its own"):
        choose_rank_device("0", 1, 2)
    with pytest.raises(ConfigError):
        choose_device("0,1")
