"""Real ranks without the cost of starting them: forked children of the test, joined by gloo."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch

from discern.compute.world import World, open_world

PATIENCE_S = 60.0


def on_ranks(
    function: Callable[..., Any],
    *arguments: Any,
    ranks: int = 2,
    deaths: tuple[int, ...] = (),
    joined: bool = True,
) -> list[Any]:
    """`function(world, *arguments)` on each rank; what they gave, in rank order.

    Not `joined`, it gets the rank's number, and joins the others itself. A rank's exception is the
    test's; those of `deaths` end without a word and give None.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    children = [
        context.Process(
            target=_rank, args=(function, arguments, rank, ranks, port, answers, joined)
        )
        for rank in range(ranks)
    ]
    for child in children:
        child.start()
    found: dict[int, Any] = dict.fromkeys(deaths)
    for _ in range(ranks - len(deaths)):
        rank, answer, failure = answers.get()
        if failure is not None:
            for child in children:
                child.kill()
            raise AssertionError(f"rank {rank}: {failure}")
        found[rank] = answer
    for child in children:
        child.join(PATIENCE_S)
    return [found[rank] for rank in range(ranks)]


def _rank(function, arguments, rank, ranks, port, answers, joined):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo",
    )  # fmt: skip
    torch.set_num_threads(1)
    try:
        world: World | None = open_world(torch.device("cpu")) if joined else None
        answers.put((rank, function(rank if world is None else world, *arguments), None))
        if world is not None:
            world.close()
    except BaseException:  # noqa: BLE001 - told to the test
        answers.put((rank, None, traceback.format_exc()))
