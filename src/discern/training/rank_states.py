"""What each rank has of its own, in and out of a checkpoint; and buffers made equal on all ranks.

Weights, optimizer and averages are the same on every rank. Random states (dropout draws other masks
on each) and the sums since the last reading are not: the one checkpoint holds those of all ranks.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from discern.compute.world import World
from discern.training.checkpoints import Checkpoint, CheckpointStore, read_checkpoint

_OWN = ("random", "meters")
_OTHERS = "other_ranks"


def _group(rank: int) -> str:
    return f"random-rank{rank}"


def add_other_ranks(
    world: World, groups: dict[str, dict[str, Tensor]], values: dict[str, Any]
) -> None:
    """Put the random states and meters of ranks 1 and on into a checkpoint's contents."""
    if world.alone:
        return
    trees = world.gather(json.dumps({name: values[name] for name in _OWN}).encode())
    tensors = world.gather(safetensors.torch.save(groups["random"]))
    for rank in range(1, world.ranks):
        groups[_group(rank)] = safetensors.torch.load(tensors[rank])
    values[_OTHERS] = [json.loads(tree) for tree in trees[1:]]


def as_of_rank(checkpoint: Checkpoint, world: World) -> Checkpoint:
    """The checkpoint with this rank's own random states and meters in their places.

    A rank that there was none of gets None for both: it keeps the states that it has.
    """
    if world.leads:
        return checkpoint
    others = checkpoint.state.get(_OTHERS, [])
    if world.rank > len(others):
        return replace(checkpoint, state={**checkpoint.state, **dict.fromkeys(_OWN)})
    return replace(
        checkpoint,
        tensors={**checkpoint.tensors, "random": checkpoint.tensors[_group(world.rank)]},
        state={**checkpoint.state, **others[world.rank - 1]},
    )


def ranks_of(checkpoint: Checkpoint) -> int:
    """How many ranks wrote the checkpoint."""
    return 1 + len(checkpoint.state.get(_OTHERS, []))


def share_buffers(world: World, *models: nn.Module | None) -> None:
    """Give all ranks rank 0's running statistics: each rank has those of its own images.

    Training does not read them, so that nothing else changes; scores and checkpoints do.
    """
    if not world.alone:
        world.spread_([b for model in models if model is not None for b in model.buffers()])


class RankStore(CheckpointStore):
    """A run's checkpoints as several ranks see them: rank 0 writes and chooses, the others read."""

    def __init__(self, store: CheckpointStore | None, folder: Path, world: World) -> None:
        self.folder = folder
        self._store = store
        self._world = world

    def write(
        self, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]
    ) -> Path:
        """Save a checkpoint on rank 0; see `CheckpointStore.write`. It is there for all after."""
        if self._store is not None:
            self._store.write(step, tensors, state)
        self._world.wait_for_all()
        return self.path(step)

    def at_most(self, limit: int | None) -> Checkpoint | None:
        """The newest checkpoint that verifies on rank 0, as this rank has it."""
        found = None if self._store is None else self._store.at_most(limit)
        step = self._world.tell(None if found is None else found.step)
        if step is None:
            return None
        if found is None:
            found = read_checkpoint(self.path(step))
        return as_of_rank(found, self._world)

    def keep(self, wanted: set[int]) -> list[int]:
        """Delete checkpoints on rank 0; see `CheckpointStore.keep`."""
        return [] if self._store is None else self._store.keep(wanted)
