"""What the trainer gets: a Batch, and the one contract of everything that yields batches.

Owns `Batch`, `Feed` and the settings common to all feeds. See `resident` for images that fit in
memory and `loader` for those that are read as they are needed.

Axes: N samples, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import ConfigError, DataError
from discern.feed.augment import Augment
from discern.feed.order import EpochOrder, evaluation_order, training_order


class Batch(NamedTuple):
    """Images ready for the network; valid until the next batch is asked for.

    `images`: float [N,C,H,W], normalized, on the device, channels last in memory.
    `targets`: int64 [N] (or float32 [N,K] for a multi-label head), on the device.
    `positions`: int64 [N], the samples' positions in the manifest, on the CPU.
    """

    images: Tensor
    targets: Tensor
    positions: Tensor


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedOptions:
    """How samples become batches.

    `training` shuffles, augments and cuts batches of equal size; otherwise every sample comes as
    it is, in the order given. `dtype` is that of the images: float32 or bfloat16.
    """

    batch_size: int
    training: bool = False
    seed: int = 0
    augment: Augment = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32

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
        """The order of `count` samples in epoch number `epoch`."""
        if self.training:
            return training_order(count, self.batch_size, seed=self.seed, epoch=epoch)
        return evaluation_order(count, self.batch_size)


def matched_samples(targets: NDArray[Any], positions: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Copies of (targets, positions) as tensors; entry i of both belongs to sample i.

    Raises DataError when the lengths differ.
    """
    if len(targets) != len(positions):
        raise DataError(
            "targets and positions do not belong together",
            got=f"{len(targets)} targets",
            expected=f"{len(positions)}, one per position",
        )
    kind = torch.float32 if np.issubdtype(targets.dtype, np.floating) else torch.int64
    return torch.tensor(targets, dtype=kind), torch.tensor(positions, dtype=torch.int64)
