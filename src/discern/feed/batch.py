"""What the trainer gets: a Batch, and the one contract of everything that yields batches.

Owns `Batch`, `Feed` and the settings common to all feeds. See `resident` for images that fit in
memory and `loader` for those that are read as they are needed.

Axes: N samples, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import ConfigError, DataError
from discern.feed.augment import (
    Augment,
    Framing,
    PhotoAugment,
    Policy,
    SmallImageAugment,
    framing_of,
)
from discern.feed.draws import Draws
from discern.feed.order import EpochOrder, count_batches, evaluation_order, training_order
from discern.feed.photo_resize import Resample
from discern.feed.samplers import Sampler


class Batch(NamedTuple):
    """Images ready for the network; valid until the next batch is asked for.

    `images`: float [N,C,H,W], normalized, on the device, channels last in memory.
    `targets`: int64 [N] (or float32 [N,K] for a multi-label head), on the device. Of several heads
    it is a dict of such by head name: see `head_targets`.
    `positions`: int64 [N], the samples' positions in the manifest, on the CPU.
    `whole`: images of all ranks together in this batch; 0 means that these are all.
    """

    images: Tensor
    targets: Tensor
    positions: Tensor
    whole: int = 0


class Feed(Protocol):
    """Epochs of batches, for training and evaluation, from memory or from files.

    `samples` and `batches` are per epoch. `wait_s`: seconds that the consumer has waited so far.
    """

    samples: int
    batches: int
    wait_s: float

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch number `epoch` from batch `start` on: exactly those of a full pass.

        A batch is valid until the next one is asked for: its memory is used again. Raises RunError
        for a `start` outside the epoch, DataError for an image that cannot be read.
        """
        ...

    def close(self) -> None:
        """End the threads, if there are any; may be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class SideMaker(Protocol):
    """Changes images and tells how, as targets of further heads: `side_heads.SideLabels`."""

    def apply(
        self, pixels: Tensor, targets: Tensor, draws: Draws, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(pixels, targets) of a batch, changed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedOptions:
    """How samples become batches.

    `side`: makes the side heads' labels, in training and in evaluation; the targets are then by
    head name.

    `training` shuffles, augments and cuts batches of equal size; otherwise every sample comes as
    it is, in the order given. `sampler` then decides which samples an epoch shows, None shows each
    once. From epoch `close_from` on only the gentle part of `augment` is done. `dtype` is that of
    the images: float32 or bfloat16. `resample`: how training photos are resized, see
    `photo_training.training_reader`.

    `batch_size` counts the images of all `ranks` together; in training, rank `rank` gets its part
    of each batch.
    """

    batch_size: int
    training: bool = False
    seed: int = 0
    augment: Augment = None
    close_from: int | None = None
    resample: Resample = "mixed"
    sampler: Sampler | None = None
    rank: int = 0
    ranks: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    side: SideMaker | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(
                "a batch needs images", where="batch_size", got=self.batch_size, expected=">= 1"
            )
        if self.dtype not in (torch.float32, torch.bfloat16):
            raise ConfigError(
                "images are not delivered in this type",
                where="dtype",
                got=self.dtype,
                expected="torch.float32 or torch.bfloat16",
            )

    def order(self, count: int, epoch: int) -> EpochOrder:
        """The order of `count` samples in epoch number `epoch`, of this rank."""
        if not self.training:
            return evaluation_order(count, self.batch_size)
        whole = training_order(
            count, self.batch_size, seed=self.seed, epoch=epoch, sampler=self.sampler
        )
        return whole.of_rank(self.rank, self.ranks)

    def framing(self) -> SmallImageAugment | PhotoAugment | Framing | None:
        """How images come to the network's size; None: as in evaluation."""
        return framing_of(self.augment) if self.training else None

    def policy(self, epoch: int) -> Policy | None:
        """What is done in epoch number `epoch` to images that are framed; None: nothing."""
        if not self.training or not isinstance(self.augment, Policy):
            return None
        closing = self.close_from is not None and epoch >= self.close_from
        policy = self.augment.closed() if closing else self.augment
        return policy if policy.steps else None

    def epoch_size(self, count: int) -> tuple[int, int, int]:
        """(samples, batches, samples of the largest batch) of an epoch over `count` samples.

        Raises DataError without samples, ConfigError for batches smaller than the ranks.
        """
        sampled = self.training and self.sampler is not None
        length = self.sampler.length if sampled and self.sampler else count
        batches = count_batches(length, self.batch_size)
        if not self.training:
            return length, batches, min(self.batch_size, length)
        bounds = np.arange(batches + 1, dtype=np.int64) * length // batches
        own = EpochOrder(np.arange(length), bounds).of_rank(self.rank, self.ranks)
        return len(own.samples), batches, int(np.diff(own.bounds).max())


class HeadTargets(dict[str, Tensor]):
    """Targets of several heads by name, taken and moved together."""

    def __getitem__(self, key: Any) -> Any:
        """The targets of the head `key`; or, of a slice or int64 [M], those rows of all heads."""
        if isinstance(key, str):
            return super().__getitem__(key)
        return HeadTargets({name: targets[key] for name, targets in self.items()})

    def to(self, device: torch.device, *, non_blocking: bool = False) -> HeadTargets:
        """The same on `device`."""
        moved = {n: t.to(device, non_blocking=non_blocking) for n, t in self.items()}
        return HeadTargets(moved)


def head_targets(batch: Batch) -> dict[str, Tensor]:
    """The targets of each head, by name, of a batch for several."""
    targets: Any = batch.targets
    if not isinstance(targets, dict):
        raise TypeError("this batch has one head")
    return targets


def matched_samples(
    targets: NDArray[Any] | Mapping[str, NDArray[Any]], positions: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Copies of (targets, positions) as tensors; entry i of both belongs to sample i.

    Of several heads, by name, the targets are `HeadTargets`, which are taken and moved as a tensor
    is. Raises DataError when the lengths differ.
    """
    places = torch.tensor(positions, dtype=torch.int64)
    if isinstance(targets, Mapping):
        columns = {name: _matched(column, len(positions)) for name, column in targets.items()}
        return HeadTargets(columns), places  # type: ignore[return-value]
    return _matched(targets, len(positions)), places


def _matched(targets: NDArray[Any], count: int) -> Tensor:
    if len(targets) != count:
        raise DataError(
            "targets and positions do not belong together",
            got=f"{len(targets)} targets",
            expected=f"{count}, one per position",
        )
    kind = torch.float32 if np.issubdtype(targets.dtype, np.floating) else torch.int64
    return torch.tensor(targets, dtype=kind)
