"""Several ranks as one training: who computes where, what rank 0 chooses for all, what is refused.

An assembler's part: it reads the config. One process is the case of one rank.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from discern.base.errors import ConfigError, PeerLost, RunError
from discern.base.rank_environment import started_ranks
from discern.compute.device import DeviceChoice, choose_rank_device
from discern.compute.world import World, open_world
from discern.config.device_text import wanted_ranks
from discern.config.schema import RunConfig
from discern.config.schema.compute import ComputeConfig
from discern.feed.order import training_order
from discern.training.checkpoints import Checkpoint
from discern.training.material import Material
from discern.training.rank_states import ranks_of
from discern.worker.rank_end import with_account

T = TypeVar("T")


def join_ranks(compute: ComputeConfig) -> tuple[DeviceChoice, World]:
    """This rank's device, and its place among those that were started. Raises ConfigError."""
    _, local_rank, ranks = started_ranks()
    wanted = wanted_ranks(compute.nproc, compute.device)
    if wanted is not None and wanted != ranks:
        raise ConfigError(
            "the ranks that were started are not those asked for",
            where="compute.nproc",
            got=f"{ranks} started",
            expected=f"{wanted}",
            hint="`discern train` and discern.train start them by themselves; torchrun takes "
            "--nproc-per-node; the other commands work in one process",
        )
    device = choose_rank_device(compute.device, local_rank, ranks)
    if compute.sync_batchnorm and (ranks == 1 or device.torch_device.type != "cuda"):
        raise ConfigError(
            "batch norm over all ranks needs several ranks on GPUs",
            where="compute.sync_batchnorm",
            got=f"{ranks} rank(s) on {device.torch_device.type}",
        )
    return device, open_world(device.torch_device)


def check_same_images(world: World, images_hash: str) -> None:
    """Raise RunError unless all ranks found the same images, labels and splits."""
    first = world.tell(images_hash)
    if images_hash != first:
        raise RunError(
            "the ranks found different images, labels or splits",
            where=f"rank {world.rank}",
            got=images_hash[:16],
            expected=first[:16],
            hint="the data was changed meanwhile: give the same command again",
        )


def chosen_by_first(world: World, choices: dict[str, Any], prepare: Callable[[], T]) -> T:
    """`prepare()` on every rank; what it adds to `choices` is measured on rank 0 alone."""
    parts = prepare() if world.leads else None
    choices.update(world.tell(choices))
    return prepare() if parts is None else parts


def check_batches(config: RunConfig, material: Material, world: World) -> None:
    """Raise ConfigError for a stage whose batches have fewer images than there are ranks."""
    if world.alone:
        return
    count = len(material.positions("train"))
    for name, stage in config.training_stages.items():
        sampler = material.sampler(stage.sampler.name, stage.sampler.args, stage.epoch_size)
        order = training_order(count, stage.batch, seed=0, epoch=0, sampler=sampler)
        try:
            order.of_rank(world.rank, world.ranks)
        except ConfigError as error:
            error.where = f"stages.{name}.batch_size"
            error.hint = "raise --batch-size, or give fewer ranks (--nproc)"
            raise


def share_batch_norm(model: nn.Module, compute: ComputeConfig) -> nn.Module:
    """`model` with batch norm over the images of all ranks, where the config asks for it."""
    if not compute.sync_batchnorm:
        return model
    shared: nn.Module = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return shared


def rank_lines(config: RunConfig, devices: list[str], world: World) -> list[str]:
    """What people should see of the ranks: where they are, and each one's part of a batch."""
    if world.alone:
        return []
    lines = [f"{world.ranks} ranks by {world.backend} on {', '.join(dict.fromkeys(devices))}"]
    for name, stage in config.training_stages.items():
        low, high = stage.batch // world.ranks, -(-stage.batch // world.ranks)
        each = f"{low}" if low == high else f"{low} or {high}"
        lines.append(f"{name}: batches of {stage.batch} images, {each} on each rank")
    return lines


def all_devices(device: DeviceChoice, world: World) -> list[str]:
    """Every rank's device, as printed, in rank order."""
    return [told.decode() for told in world.gather(str(device).encode())]


def changed_ranks(checkpoint: Checkpoint | None, world: World) -> str | None:
    """A warning when the checkpoint was written by another number of ranks; else None."""
    if checkpoint is None or ranks_of(checkpoint) == world.ranks:
        return None
    return (
        f"{ranks_of(checkpoint)} rank(s) wrote step {checkpoint.step}, {world.ranks} go on with "
        "it: the results are not bit for bit those of an undisturbed run"
    )


def run_folder_of(path: Path | None, world: World) -> Path:
    """The run's folder, which rank 0 made."""
    return Path(world.tell(None if path is None else str(path)))


@contextlib.contextmanager
def telling_the_cause() -> Iterator[None]:
    """Tell the loss of another rank in the block by that one's own account."""
    try:
        yield
    except PeerLost as error:
        raise with_account(error) from error
