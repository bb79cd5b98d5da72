"""Images read as they are needed: threads fill a ring of batches ahead of the consumer.

Owns the threads, the ring and the way of an error to the consumer. Decoding, resizing and their
kind release the interpreter's lock, so threads scale and nothing is copied between processes.
What happens to an image depends on (seed, epoch, manifest position) alone, never on the threads.

Axes: N samples, H height, W width, C channels, R random numbers of one image.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import ConfigError, DataError, RunError
from discern.data.images import Pixels, Preprocess
from discern.data.sources import Source
from discern.feed.augment import (
    Framing,
    PhotoAugment,
    Policy,
    SmallImageAugment,
    apply_policy,
    change_pixels,
)
from discern.feed.batch import Batch, FeedOptions, matched_samples
from discern.feed.draws import Draws, Operation
from discern.feed.framing import framing_reader
from discern.feed.normalize import Normalizer, stored_type
from discern.feed.order import EpochOrder, check_start
from discern.feed.photo import ReadImage, photo_reader
from discern.feed.photo_resize import Resample
from discern.feed.photo_training import training_reader
from discern.feed.pixel_kinds import check_augment
from discern.feed.seconds import FeedSeconds
from discern.feed.windows import check_pad, crop_batch, draw_shifts

# Images per task: handing a task to a thread costs 24 us of CPU time, decoding a photo 500 us or
# more, so this keeps the threads' own cost near 1 %.
_TASK = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderThreads:
    """`workers`: reading threads, 0 reads in the caller's; `ring`: batches in the making."""

    workers: int = 0
    ring: int = 3

    def __post_init__(self) -> None:
        if self.workers < 0 or self.ring < 1:
            raise ConfigError(
                "the loader cannot work so",
                got=f"{self.workers} workers, ring of {self.ring}",
                expected="0 or more workers, a ring of 1 or more",
            )


class LoaderFeed:
    """Batches out of a `Source`, one always in the making.

    `targets` int64 [N] or float32 [N,K] (or such by head name) and `positions` int64 [N] name the
    samples: the source is read at these positions. `read_image` replaces the reader of photos (see
    `photo.ReadImage`). Close the feed, or use it as a context manager, to end its threads.
    """

    def __init__(
        self,
        source: Source,
        targets: NDArray[Any] | Mapping[str, NDArray[Any]],
        positions: NDArray[np.int64],
        preprocess: Preprocess,
        options: FeedOptions,
        *,
        threads: LoaderThreads | None = None,
        read_image: ReadImage | None = None,
    ) -> None:
        self._count = len(positions)
        self.samples, self.batches, size = options.epoch_size(self._count)
        self.wait_s = 0.0
        self._decode_s = self._change_s = self._copy_s = 0.0
        self._options = options
        self._threads = threads or LoaderThreads()
        safe = self._threads.workers < 2 or getattr(source, "threadsafe", True)
        self._source = source if safe else _LockedSource(source)
        self._targets, self._positions = matched_samples(targets, positions)
        if options.training:
            check_augment(options.augment, preprocess)
        framing = options.framing()
        self._small = framing if isinstance(framing, SmallImageAugment) else None
        self._drawn = None if isinstance(framing, SmallImageAugment) else framing
        # Steps on the GPU are quick there; on the CPU the reading threads share them, unless the
        # batch is framed as a whole first.
        self._steps_on_batch = options.device.type != "cpu" or self._small is not None
        if self._small is not None:
            check_pad(self._small, preprocess.height, preprocess.width)
        self._read_image = read_image or _reader(preprocess, self._drawn, options.resample)
        shape = (preprocess.height, preprocess.width, preprocess.channels)
        self._normalize = Normalizer(
            preprocess.mean,
            preprocess.std,
            shape=shape,
            batch_size=size,
            device=options.device,
            dtype=options.dtype,
            per_image=preprocess.per_image,
            depth=preprocess.depth,
        )
        self._dtype = preprocess.dtype
        cuda = options.device.type == "cuda"
        self._copies = torch.cuda.Stream(options.device) if cuda else None  # type: ignore[no-untyped-call]
        kind = stored_type(preprocess.depth)
        # One slot more than batches in the making: the copy out of the spare one may still run.
        self._slots = [
            _Slot(torch.empty((size, *shape), dtype=kind, pin_memory=cuda))
            for _ in range(self._threads.ring + 1)
        ]
        self._pool: ThreadPoolExecutor | None = None
        self._pass = 0
        self._closed = False

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch number `epoch` from batch `start` on; see `Feed.epoch`.

        The threads start with the first batch. An earlier epoch that was not finished is given
        up: asking it for another batch raises RunError.
        """
        check_start(start, self.batches)
        return self._stream(epoch, start)

    def close(self) -> None:
        """End the threads and wait for them; no further epoch can be started."""
        self._closed = True
        self._end_threads()

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
        self._end_threads()
        own_pass = self._pass
        order = self._options.order(self._count, epoch)
        pending: deque[_Pending] = deque()
        upcoming = iter(range(start, self.batches))
        finished = False
        try:
            for index in range(start, self.batches):
                self._check_current(own_pass)
                self._open_some(pending, upcoming, order, epoch)
                current = pending.popleft()
                for task in current.tasks:
                    self._count_reading(task.result())
                batch = self._deliver(current, epoch)
                finished = index + 1 == self.batches
                if self._threads.workers:
                    self._open_some(pending, upcoming, order, epoch)
                self.wait_s += time.perf_counter() - began
                yield batch
                began = time.perf_counter()
        finally:
            # After an error or an early break tasks are still writing into the ring.
            if not finished and self._pass == own_pass:
                self._end_threads()

    @property
    def spent(self) -> FeedSeconds:
        """Seconds of the reading threads and of the batches' last steps."""
        return FeedSeconds(self._decode_s, self._change_s, self._copy_s)

    def _count_reading(self, spent: tuple[float, float]) -> None:
        self._decode_s += spent[0]
        self._change_s += spent[1]

    def _check_current(self, own_pass: int) -> None:
        """Raises RunError when this epoch's ring has been given to another, or closed."""
        if self._closed:
            raise RunError("the feed is closed", hint="build a new one for another epoch")
        if self._pass != own_pass:
            raise RunError(
                "this epoch was given up when a later one started",
                hint="finish an epoch, or build a second feed",
            )

    def _open_some(
        self, pending: deque[_Pending], upcoming: Iterator[int], order: EpochOrder, epoch: int
    ) -> None:
        """Give batches to the threads until the ring is full."""
        ahead = self._threads.ring if self._threads.workers else 1
        while len(pending) < ahead and (index := next(upcoming, None)) is not None:
            pending.append(self._open(index, order, epoch))

    def _open(self, index: int, order: EpochOrder, epoch: int) -> _Pending:
        """Start reading batch `index` into its slot of the ring."""
        samples = order.batch(index)
        slot = self._slots[index % len(self._slots)]
        if slot.copied is not None:
            slot.copied.synchronize()
        chosen = torch.from_numpy(samples)
        positions = self._positions[chosen]
        keys = torch.from_numpy(order.draw_keys(positions.numpy(), index, index + 1))
        draws = Draws(self._options.seed, epoch)
        rows: NDArray[np.float64] | None = None
        if self._drawn is not None:
            rows = draws.table(keys, Operation.RESIZED_CROP, self._drawn.draws).numpy()
        policy = self._options.policy(epoch)
        steps = None
        if policy is not None:
            steps = _Steps(policy, policy.table(draws, keys))
        own = None if self._steps_on_batch else steps
        out = slot.pixels.numpy()[: len(samples)].view(self._dtype)
        whole = _Task(positions.tolist(), rows, out, own)
        tasks: list[Future[tuple[float, float]]] = []
        if self._threads.workers == 0:
            self._count_reading(self._read(whole))
        else:
            pool = self._running_pool()
            tasks = [pool.submit(self._read, part) for part in whole.parts(_TASK)]
        targets, every = self._targets[chosen], order.whole(index)
        return _Pending(slot, tasks, positions, keys, targets, steps, every)

    def _read(self, task: _Task) -> tuple[float, float]:
        """Fill the rows of `task`; gives the seconds of (decoding, changing).

        What a reader raises becomes a DataError naming the image.
        """
        began = time.perf_counter()
        for number, position in enumerate(task.positions):
            row = None if task.rows is None else task.rows[number]
            try:
                self._read_image(self._source, position, row, task.out[number])
            except DataError as error:
                if error.where is None:
                    error.where = self._source.name(position)
                raise
            except Exception as error:
                raise DataError(
                    "an image could not be read",
                    where=self._source.name(position),
                    got=f"{type(error).__name__}: {error}",
                ) from error
        decoded = time.perf_counter()
        if task.steps is not None:
            stored: NDArray[Any] = task.out
            if stored.dtype == np.uint16:
                stored = stored.view(np.int16)
            stored[...] = apply_policy(stored, task.steps.policy, task.steps.rows)
        return decoded - began, time.perf_counter() - decoded

    def _deliver(self, current: _Pending, epoch: int) -> Batch:
        """The finished pixels as a normalized batch on the device."""
        began = time.perf_counter()
        device = self._options.device
        pixels = current.slot.pixels[: len(current.positions)]
        if self._small is not None:
            draws = Draws(self._options.seed, epoch)
            shifts = draw_shifts(self._small, draws, current.keys)
            crop_batch(pixels, self._small, shifts)
        cropped = time.perf_counter()
        # A copy that blocks would wait for the network's work on the batch before.
        targets = current.targets.to(device, non_blocking=True)
        if self._copies is None:
            moved = pixels.to(device)
        else:
            moved = self._copy_beside(pixels, current.slot, self._copies)
        copied = time.perf_counter()
        if current.steps is not None and self._steps_on_batch:
            moved = change_pixels(moved, current.steps.policy, current.steps.rows)
        if self._options.side is not None:
            draws = Draws(self._options.seed, epoch)
            moved, targets = self._options.side.apply(moved, targets, draws, current.keys)
        changed = time.perf_counter()
        batch = Batch(self._normalize(moved), targets, current.positions, current.whole)
        self._change_s += cropped - began + changed - copied
        self._copy_s += copied - cropped + time.perf_counter() - changed
        return batch

    def _copy_beside(self, pixels: Tensor, slot: _Slot, copies: torch.cuda.Stream) -> Tensor:
        """Copy to the device in a stream of its own, beside the network's work."""
        compute = torch.cuda.current_stream(self._options.device)
        with torch.cuda.stream(copies):
            moved = pixels.to(self._options.device, non_blocking=True)
            slot.copied = copies.record_event()
        compute.wait_event(slot.copied)
        moved.record_stream(compute)
        return moved

    def _running_pool(self) -> ThreadPoolExecutor:
        """The threads, started at the first batch."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads.workers, thread_name_prefix="feed")
        return self._pool

    def _end_threads(self) -> None:
        """Drop what has not begun, wait for what has, end the threads, give up the epoch."""
        self._pass += 1
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _reader(
    preprocess: Preprocess, framing: PhotoAugment | Framing | None, resample: Resample
) -> ReadImage:
    """The reference reader, but for random parts, which training cuts at speed."""
    if framing is None:
        return photo_reader(preprocess, None)
    if isinstance(framing, PhotoAugment):
        return training_reader(preprocess, framing, resample)
    return framing_reader(preprocess, framing)


@dataclass(slots=True)
class _Slot:
    """The memory of one batch [N,H,W,C], pinned for CUDA; `copied`: its copy has ended."""

    pixels: Tensor
    copied: torch.cuda.Event | None = None


class _Pending(NamedTuple):
    """A batch in the making."""

    slot: _Slot
    tasks: list[Future[tuple[float, float]]]
    positions: Tensor
    keys: Tensor  # what the draws of each image are keyed by
    targets: Tensor
    steps: _Steps | None
    whole: int  # images of all ranks


class _Steps(NamedTuple):
    """What is done to framed images, with its random numbers, float64 [N,R]."""

    policy: Policy
    rows: NDArray[np.float64]


class _Task(NamedTuple):
    """Images for one thread: int positions, float64 [N,R] draws, and where the pixels go."""

    positions: list[int]
    rows: NDArray[np.float64] | None
    out: Pixels
    steps: _Steps | None = None

    def parts(self, size: int) -> Iterator[_Task]:
        """The same work in tasks of at most `size` images."""
        for begin in range(0, len(self.positions), size):
            part = slice(begin, begin + size)
            rows = None if self.rows is None else self.rows[part]
            steps = self.steps
            if steps is not None:
                steps = _Steps(steps.policy, steps.rows[part])
            yield _Task(self.positions[part], rows, self.out[part], steps)


class _LockedSource:
    """A source that bears one reader at a time; decoding still runs beside it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def read(self, position: int) -> bytes | Pixels:
        """Read one image, alone."""
        with self._lock:
            return self._source.read(position)

    def name(self, position: int) -> str:
        """The image's name for messages."""
        return self._source.name(position)
