"""Images that fit in memory, on the CPU or the device: no files, no threads, no waiting.

Owns the feed of small images. Random crops come as strided windows out of a padded array that
lies beside its mirror image, and the floats are written into reused memory: see `windows` and
`normalize`. What happens to an image depends on (seed, epoch, manifest position) alone.

Axes: N samples, H height, W width, C channels.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import ConfigError, DataError
from discern.data.images import Pixels, Preprocess
from discern.feed.augment import Policy, SmallImageAugment, change_pixels, operation_name
from discern.feed.batch import Batch, FeedOptions, matched_samples
from discern.feed.draws import Draws
from discern.feed.normalize import Normalizer, as_stored
from discern.feed.order import EpochOrder, check_start
from discern.feed.pixel_kinds import check_augment
from discern.feed.seconds import FeedSeconds
from discern.feed.windows import (
    CropWindows,
    Shifts,
    check_pad,
    crop_batch,
    draw_shifts,
    padded_values,
)

# Samples whose draws are made at a time: batch by batch (of 128) the many small tensor operations
# take 88 us, as long as the crops themselves; at once they take 4 us a batch.
_CHUNK = 1 << 17


class ResidentFeed:
    """Batches out of an array.

    `pixels` uint8 (at depth 16 uint16) [N,H,W,C], already of the network's size; `targets` int64
    [N] or float32 [N,K], or such by head name; `positions` int64 [N] in the manifest; `preprocess`
    gives mean and std, and its size must be that of the pixels. Without augmentation the array is
    used as it is and must not be changed.

    `memory_limit`, bytes: the padded array is kept beside its mirror image if both fit (457 MiB for
    50,000 CIFAR images), else alone, else it is made batch by batch. The images are the same.
    """

    def __init__(
        self,
        pixels: Pixels,
        targets: NDArray[Any] | Mapping[str, NDArray[Any]],
        positions: NDArray[np.int64],
        preprocess: Preprocess,
        options: FeedOptions,
        *,
        memory_limit: int = 1 << 30,
    ) -> None:
        _check_pixels(pixels, len(positions), preprocess)
        if options.training:
            check_augment(options.augment, preprocess)
        framing = options.framing()
        if not isinstance(framing, SmallImageAugment | None):
            raise ConfigError(
                "images kept in memory are already of the network's size",
                where="augment",
                got=operation_name(type(framing)),
                expected="small or none",
                hint="read the images as they are needed to crop photos at random",
            )
        self._count = len(positions)
        self.samples, self.batches, size = options.epoch_size(self._count)
        self.wait_s = 0.0
        self._change_s = self._copy_s = 0.0
        self._options = options
        self._augment = framing
        device = options.device
        height, width, channels = pixels.shape[1:]
        # torch warns about an array that says it is not writable, since a tensor can be written to.
        writable = pixels if pixels.flags.writeable else pixels.copy()
        self._pixels = as_stored(torch.from_numpy(writable)).to(device)
        self._targets, self._positions = matched_samples(targets, positions)
        self._targets = self._targets.to(device)
        self._normalize = Normalizer(
            preprocess.mean,
            preprocess.std,
            shape=(height, width, channels),
            batch_size=size,
            device=device,
            dtype=options.dtype,
            per_image=preprocess.per_image,
            depth=preprocess.depth,
        )
        kind = self._pixels.dtype
        self._batch = torch.empty((size, *pixels.shape[1:]), dtype=kind, device=device)
        self._windows = self._keep_windows(memory_limit)
        if self._windows is not None:
            self._pixels = self._pixels[:0].clone()

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch number `epoch` from batch `start` on; see `Feed.epoch`."""
        check_start(start, self.batches)
        return self._stream(epoch, start)

    @property
    def spent(self) -> FeedSeconds:
        """Where the waiting went; cutting images out as they are is copying."""
        if self._augment is None:
            return FeedSeconds(copy=self._change_s + self._copy_s)
        return FeedSeconds(augment=self._change_s, copy=self._copy_s)

    def close(self) -> None:
        """Nothing to end: there are no threads."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _stream(self, epoch: int, start: int) -> Iterator[Batch]:
        began = time.perf_counter()
        order = self._options.order(self._count, epoch)
        policy, side = self._options.policy(epoch), self._options.side
        span = max(1, _CHUNK // self._options.batch_size)
        for first in range(start, self.batches, span):
            last = min(first + span, self.batches)
            chunk = self._chunk(order, epoch, policy, first, last)
            bounds = (order.bounds[first : last + 1] - order.bounds[first]).tolist()
            for number, (begin, end) in enumerate(itertools.pairwise(bounds), first):
                pixels = self._cut(chunk, begin, end)
                if policy is not None and chunk.rows is not None:
                    pixels = change_pixels(pixels, policy, chunk.rows[begin:end])
                targets = chunk.targets[begin:end]
                if side is not None:
                    keys = chunk.keys[begin:end]
                    pixels, targets = side.apply(pixels, targets, chunk.draws, keys)
                changed = time.perf_counter()
                images = self._normalize(pixels)
                batch = Batch(
                    images,
                    targets,
                    chunk.positions[begin:end],
                    order.whole(number),
                )
                ready = time.perf_counter()
                self._change_s += changed - began
                self._copy_s += ready - changed
                self.wait_s += ready - began
                yield batch
                began = time.perf_counter()

    def _chunk(
        self, order: EpochOrder, epoch: int, policy: Policy | None, first: int, last: int
    ) -> _Chunk:
        """What batches `first` to `last` need, drawn and looked up at once."""
        device = self._options.device
        begin, end = int(order.bounds[first]), int(order.bounds[last])
        samples = torch.from_numpy(order.samples[begin:end])
        positions = self._positions[samples]
        samples = samples.to(device)
        shifts, places = None, samples
        draws = Draws(self._options.seed, epoch)
        keys = torch.from_numpy(order.draw_keys(positions.numpy(), first, last))
        if self._augment is not None:
            shifts = draw_shifts(self._augment, draws, keys.to(device))
            if self._windows is not None:
                places = self._windows.begins(samples, shifts)
        rows = None if policy is None else policy.table(draws, keys)
        return _Chunk(places, positions, self._targets[samples], shifts, rows, draws, keys)

    def _cut(self, chunk: _Chunk, begin: int, end: int) -> Tensor:
        """The pixels of samples `begin` to `end`, [N,H,W,C], cropped and mirrored."""
        places, out = chunk.places[begin:end], self._batch[: end - begin]
        if self._augment is None or chunk.shifts is None:
            return torch.index_select(self._pixels, 0, places, out=out)
        shifts = chunk.shifts.part(begin, end)
        if self._windows is not None:
            return self._windows.take(places, shifts.flip, out)
        torch.index_select(self._pixels, 0, places, out=out)
        return crop_batch(out, self._augment, shifts)

    def _keep_windows(self, memory_limit: int) -> CropWindows | None:
        """The padded array, with its mirror image or without, as the memory allows."""
        augment = self._augment
        if augment is None:
            return None
        _, height, width, channels = self._pixels.shape
        check_pad(augment, height, width)
        needed = padded_values(self._count, (height, width, channels), augment.pad)
        needed *= self._pixels.element_size()
        if needed > memory_limit:
            return None
        mirror = augment.flip and 2 * needed <= memory_limit
        return CropWindows(self._pixels, augment, mirror=mirror)


class _Chunk(NamedTuple):
    """Some batches in a row; entry i of each belongs to the i-th sample of them."""

    places: Tensor  # window numbers, or sample numbers where no windows are kept
    positions: Tensor
    targets: Tensor
    shifts: Shifts | None
    rows: NDArray[np.float64] | None  # the random numbers of a policy's steps
    draws: Draws
    keys: Tensor  # what the draws of each image are keyed by


def _check_pixels(pixels: Pixels, count: int, preprocess: Preprocess) -> None:
    """Raises DataError unless `pixels` is [count,H,W,C] of the size and depth that is fed."""
    expected = (count, preprocess.height, preprocess.width, preprocess.channels)
    if pixels.dtype != preprocess.dtype or pixels.shape != expected:
        raise DataError(
            "the pixels are not those of the images to feed",
            got=f"{pixels.dtype} {list(pixels.shape)}",
            expected=f"{preprocess.dtype} {list(expected)}",
        )
