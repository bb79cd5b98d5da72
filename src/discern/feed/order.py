"""Which samples, in which order, cut into which batches: pure integers.

Owns the order of an epoch. A training epoch is a seeded permutation in batches whose sizes differ
by at most one; an evaluation is the given order with a partial last batch. Resuming needs two
integers: the epoch and the number of batches already consumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.errors import DataError, RunError
from discern.feed.draws import Draws, Operation


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """The samples of one epoch: `samples` int64 [N], batch k is `bounds[k]` to `bounds[k + 1]`."""

    samples: NDArray[np.int64]
    bounds: NDArray[np.int64]

    @property
    def batches(self) -> int:
        """Number of batches."""
        return len(self.bounds) - 1

    def batch(self, index: int) -> NDArray[np.int64]:
        """The samples of batch `index`, int64."""
        return self.samples[self.bounds[index] : self.bounds[index + 1]]


def training_order(count: int, batch_size: int, *, seed: int, epoch: int) -> EpochOrder:
    """Each of `count` samples once, shuffled by (seed, epoch), in ceil(count / batch_size) batches.

    The sizes differ by at most one: no last batch of three images that batch norm would trip over.
    """
    batches = count_batches(count, batch_size)
    bounds = np.arange(batches + 1, dtype=np.int64) * count // batches
    return EpochOrder(_permutation(count, seed, epoch), bounds)


def evaluation_order(count: int, batch_size: int) -> EpochOrder:
    """Samples 0 .. `count` - 1 in order; the last batch holds what is left over."""
    batches = count_batches(count, batch_size)
    bounds = np.minimum(np.arange(batches + 1, dtype=np.int64) * batch_size, count)
    return EpochOrder(np.arange(count, dtype=np.int64), bounds)


def count_batches(count: int, batch_size: int) -> int:
    """ceil(count / batch_size). Raises DataError when there is no sample."""
    if count < 1:
        raise DataError("there is no image to feed", got=count, expected="at least 1 image")
    return -(-count // batch_size)


def check_start(start: int, batches: int) -> None:
    """Raises RunError unless `start` batches of an epoch of `batches` can have been consumed."""
    if not 0 <= start <= batches:
        raise RunError(
            "an epoch cannot be resumed outside itself",
            got=f"batch {start}",
            expected=f"0 to {batches}",
        )


def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The samples sorted by hash, so that no library's shuffle is part of a run's identity.

    The low bits of each hash are replaced by the sample's number: that makes the keys distinct and
    one plain sort enough (50,000 samples: 0.2 ms, where a stable argsort takes 3 ms).
    """
    samples = torch.arange(count, dtype=torch.int64)
    mask = (1 << max(count - 1, 1).bit_length()) - 1
    keys = Draws(seed, epoch).bits(samples, Operation.ORDER).bitwise_and_(~mask) | samples
    ordered: NDArray[np.int64] = np.sort(keys.numpy())
    return ordered & mask
