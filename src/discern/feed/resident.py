"""Images that fit in memory, on the CPU or the device: no files, no threads, no waiting.

Owns the feed of small images. Random crops come as strided windows out of a padded uint8 array
that lies beside its mirror image, and the floats are written into reused memory: see `windows` and
`normalize`. What happens to an image depends on (seed, epoch, manifest position) alone.

Axes: N samples, H height, W width, C channels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import ConfigError, DataError
from discern.feed.augment import PhotoAugment, SmallImageAugment
from discern.feed.batch import Batch, FeedOptions, matched_samples
from discern.feed.draws import Draws
from discern.feed.normalize import Normalizer
from discern.feed.order import EpochOrder, check_start, count_batches
from discern.feed.windows import CropWindows, Shifts, check_pad, draw_shifts, padded_bytes

if TYPE_CHECKING:
    from discern.data.images import Preprocess

# Samples whose draws are made at a time: per batch of 128 the 40 small tensor operations would
# cost more than the crops themselves.
_CHUNK = 1 << 17


class ResidentFeed:
    """Batches out of a uint8 array.

    `pixels` uint8 [N,H,W,C], already of the network's size; `targets` int64 [N] or float32 [N,K];
    `positions` int64 [N] in the manifest; `preprocess` gives mean and std, and its size must be
    that of the pixels. Without augmentation the array is used as it is and must not be changed.

    `memory_limit`, bytes: the padded array is kept beside its mirror image if both fit (457 MiB for
    50,000 CIFAR images), else alone, else it is made batch by batch. The images are the same.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        targets: NDArray[Any],
        positions: NDArray[np.int64],
        preprocess: Preprocess,
        options: FeedOptions,
        *,
        memory_limit: int = 1 << 30,
    ) -> None:
        _check_pixels(pixels, len(positions), preprocess)
        if options.training and isinstance(options.augment, PhotoAugment):
            raise ConfigError(
                "images kept in memory are already of the network's size",
                where="augment",
                got="photo",
                expected="small or none",
                hint="read the images as they are needed to crop photos at random",
            )
        self.samples = len(positions)
        self.batches = count_batches(self.samples, options.batch_size)
        self.wait_s = 0.0
        self._options = options
        device = options.device
        size, shape = min(options.batch_size, self.samples), pixels.shape[1:]
        # torch warns about, and could write to, an array that says it is not writable.
        writable = pixels if pixels.flags.writeable else pixels.copy()
        self._pixels = torch.from_numpy(writable).to(device)
        self._targets, self._positions = matched_samples(targets, positions)
        self._targets = self._targets.to(device)
        self._normalize = Normalizer(
            preprocess.mean,
            preprocess.std,
            shape=(shape[0], shape[1], shape[2]),
            batch_size=size,
            device=device,
            dtype=options.dtype,
        )
        self._bytes = torch.empty((size, *shape), dtype=torch.uint8, device=device)
        self._windows = self._keep_windows(memory_limit) if self._augment else None

    @property
    def _augment(self) -> SmallImageAugment | None:
        """The augmentation, in training only."""
        augment = self._options.augment
        chosen = self._options.training and isinstance(augment, SmallImageAugment)
        return augment if chosen and isinstance(augment, SmallImageAugment) else None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch number `epoch` from batch `start` on; see `Feed.epoch`."""
        check_start(start, self.batches)
        return self._stream(epoch, start)

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
        order = self._options.order(self.samples, epoch)
        span = max(1, _CHUNK // self._options.batch_size)
        for first in range(start, self.batches, span):
            last = min(first + span, self.batches)
            chunk = self._chunk(order, epoch, first, last)
            for index in range(first, last):
                origin = order.bounds[first]
                part = chunk.part(order.bounds[index] - origin, order.bounds[index + 1] - origin)
                batch = Batch(self._normalize(self._cut(part)), part.targets, part.positions)
                self.wait_s += time.perf_counter() - began
                yield batch
                began = time.perf_counter()

    def _chunk(self, order: EpochOrder, epoch: int, first: int, last: int) -> _Chunk:
        """Everything that batches `first` to `last` need, drawn and looked up at once."""
        begin, end = int(order.bounds[first]), int(order.bounds[last])
        samples = torch.from_numpy(order.samples[begin:end])
        positions = self._positions[samples]
        samples = samples.to(self._options.device)
        targets = self._targets[samples]
        augment = self._augment
        if augment is None:
            return _Chunk(samples, positions, targets, None)
        draws = Draws(self._options.seed, epoch)
        shifts = draw_shifts(augment, draws, positions.to(self._options.device))
        if self._windows is not None:
            samples = self._windows.begins(samples, shifts)
        return _Chunk(samples, positions, targets, shifts)

    def _cut(self, part: _Chunk) -> Tensor:
        """The pixels of one batch, uint8 [N,H,W,C], cropped and mirrored as drawn."""
        out = self._bytes[: len(part.samples)]
        if part.shifts is None:
            if not self._options.training:
                # In order: the batch is a slice of the array, nothing has to be gathered.
                first = int(part.first)
                return self._pixels[first : first + len(out)]
            return torch.index_select(self._pixels, 0, part.samples, out=out)
        if self._windows is not None:
            return self._windows.take(part.samples, part.shifts.flip, out)
        augment = self._augment
        if augment is None:
            return out
        windows = CropWindows(self._pixels[part.samples], augment, mirror=False)
        begins = windows.begins(torch.arange(len(out), device=out.device), part.shifts)
        return windows.take(begins, part.shifts.flip, out)

    def _keep_windows(self, memory_limit: int) -> CropWindows | None:
        """The padded array, with its mirror image or without, as the memory allows."""
        augment = self._augment
        if augment is None:
            return None
        _, height, width, channels = self._pixels.shape
        check_pad(augment, height, width)
        needed = padded_bytes(self.samples, (height, width, channels), augment.pad)
        if needed > memory_limit:
            return None
        return CropWindows(
            self._pixels, augment, mirror=augment.flip and 2 * needed <= memory_limit
        )
