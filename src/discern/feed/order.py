"""Which samples, in which order, cut into which batches: pure integers.

Owns the order of an epoch. A training epoch is what its sampler draws, in batches whose sizes
differ by at most one; an evaluation is the given order with a partial last batch. Resuming needs
two integers: the epoch and the number of batches already consumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError, RunError
from discern.feed.samplers import EverySample, Sampler, count_repeats

# A sample shown again in one epoch is drawn for as another image: positions stay below this.
_REPEAT = 1 << 40


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """The samples of one epoch: `samples` int64 [M], batch k is `bounds[k]` to `bounds[k + 1]`.

    `repeats` int64 [M]: how often each was there before; None where each comes once. `wholes`:
    samples of all ranks in each batch, int64; None where these are all.
    """

    samples: NDArray[np.int64]
    bounds: NDArray[np.int64]
    repeats: NDArray[np.int64] | None = None
    wholes: NDArray[np.int64] | None = None

    @property
    def batches(self) -> int:
        """Number of batches."""
        return len(self.bounds) - 1

    def batch(self, index: int) -> NDArray[np.int64]:
        """The samples of batch `index`, int64."""
        return self.samples[self.bounds[index] : self.bounds[index + 1]]

    def whole(self, index: int) -> int:
        """Samples of all ranks in batch `index`; 0 where this order's are all."""
        return 0 if self.wholes is None else int(self.wholes[index])

    def draw_keys(self, positions: NDArray[np.int64], first: int, last: int) -> NDArray[np.int64]:
        """What the draws of batches `first` to `last` are keyed by, int64, one per sample shown.

        `positions`: those samples' positions in the manifest. A second showing in the same epoch
        has another key, so that it is not the same picture again.
        """
        if self.repeats is None:
            return positions
        begin, end = self.bounds[first], self.bounds[last]
        return positions + self.repeats[begin:end] * _REPEAT

    def of_rank(self, rank: int, ranks: int) -> EpochOrder:
        """The part of `rank` in every batch: together they are the batch, no sample twice.

        Every rank has as many batches as the others, so none waits for ever at the end. Raises
        ConfigError when a batch has fewer samples than there are ranks.
        """
        if ranks == 1:
            return self
        sizes = np.diff(self.bounds)
        if sizes.min() < ranks:
            raise ConfigError(
                "a batch has fewer images than there are ranks",
                where="batch_size",
                got=f"{sizes.min()} images, {ranks} ranks",
                expected=f"batches of at least {ranks}",
            )
        begins = self.bounds[:-1] + sizes * rank // ranks
        ends = self.bounds[:-1] + sizes * (rank + 1) // ranks
        chosen = np.concatenate([np.arange(b, e) for b, e in zip(begins, ends, strict=True)])
        bounds = np.concatenate([[0], np.cumsum(ends - begins)])
        repeats = None if self.repeats is None else self.repeats[chosen]
        return EpochOrder(self.samples[chosen], bounds, repeats, sizes)


def training_order(
    count: int, batch_size: int, *, seed: int, epoch: int, sampler: Sampler | None = None
) -> EpochOrder:
    """What `sampler` draws of `count` samples by (seed, epoch), in ceil(M / batch_size) batches.

    Without a sampler each sample comes once. The sizes of the batches differ by at most one: no
    last batch of three images that batch norm would trip over.
    """
    sampler = sampler or EverySample(count)
    batches = count_batches(sampler.length, batch_size)
    bounds = np.arange(batches + 1, dtype=np.int64) * sampler.length // batches
    samples = sampler.draw(seed, epoch)
    once = isinstance(sampler, EverySample)
    return EpochOrder(samples, bounds, None if once else count_repeats(samples))


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
