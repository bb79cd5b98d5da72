"""How fast the feed of photos is on this machine, beside the bare decoder, and what binds it.

Owns the measurement behind `discern bench io`: interleaved rounds of whole epochs, images per
CPU-second (which other programs disturb little) and per wall second, by container, decoder and
number of reading threads. Peers are runners that the caller passes in (see `throughput_peers`).

Axes: N samples, H height, W width, C channels, R random numbers of one image.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.base.names import did_you_mean
from discern.data.images import Pixels, Preprocess, decode_image
from discern.data.sources import Source, in_threads
from discern.feed.augment import PhotoAugment
from discern.feed.batch import FeedOptions
from discern.feed.draws import Draws, Operation
from discern.feed.loader import LoaderFeed, LoaderThreads
from discern.feed.normalize import Normalizer
from discern.feed.photo import ReadImage, photo_reader
from discern.feed.photo_decode import decode_whole
from discern.feed.photo_resize import resize_into
from discern.feed.photo_training import PhotoCutter, training_reader
from discern.feed.throughput_rates import (
    FeedRate,
    FeedThroughput,
    ratio_of_rounds,
    spread_of_rounds,
)

# mixed, fast: the training feed; pillow: the same parts by the reference; decode: the limit.
DECODERS = ("mixed", "fast", "pillow", "decode")
# Threads busy for less than this share of the wall time wait for something else.
_BUSY = 0.7
# Images of which the parts of the work are timed one by one.
_TIMED_IMAGES = 256
# Images of an input that are measured: 8 batches of 64, half a second of decoding photos.
MEASURED_PHOTOS = 512

# One pass over all images of an input; gets the number of the epoch, gives the images delivered.
RunEpoch: TypeAlias = Callable[[int], int]


class FeedInput(NamedTuple):
    """Images to feed: a source and the positions in it that are read, int64 [N]."""

    source: Source
    positions: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedTest:
    """What is measured. The crop is torchvision's RandomResizedCrop by default, with a mirror.

    `rounds` are interleaved over everything measured, after one that warms up. `workers`: reading
    threads, 0 reads in the caller's; `decoders`: some of `DECODERS`; `size`: images of a batch.
    """

    preprocess: Preprocess
    augment: PhotoAugment = field(default_factory=lambda: PhotoAugment(scale=(0.08, 1.0)))
    batch_size: int = 64
    rounds: int = 5
    workers: tuple[int, ...] = (0, 2)
    decoders: tuple[str, ...] = DECODERS
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if self.rounds < 1 or not self.workers or min(self.workers) < 0:
            raise ConfigError(
                "the feed cannot be measured so",
                got=f"{self.rounds} rounds, workers {list(self.workers)}",
                expected="1 round or more, 0 or more workers",
            )
        for name in self.decoders:
            if name not in DECODERS:
                raise ConfigError(
                    "no such decoder",
                    got=name,
                    expected=", ".join(DECODERS),
                    hint=did_you_mean(name, DECODERS),
                )


# (input, what is measured, workers) -> a runner: another loader to measure beside ours.
Peer: TypeAlias = Callable[[FeedInput, FeedTest, int], RunEpoch]


class _Arm(NamedTuple):
    """One thing that is measured; `rounds`: (images, wall seconds, CPU seconds) of each."""

    container: str
    decoder: str
    workers: int
    run: RunEpoch
    rounds: list[tuple[int, float, float]]

    def wall(self) -> list[float]:
        """Images per wall second, by round."""
        return [images / wall for images, wall, _ in self.rounds]

    def cpu(self) -> list[float]:
        """Images per CPU-second, by round."""
        return [images / cpu for images, _, cpu in self.rounds]


def measure_feed(
    inputs: Mapping[str, FeedInput],
    test: FeedTest,
    *,
    peers: Mapping[str, Peer] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FeedThroughput:
    """Measure every input (by the name of its container) with every decoder and thread count.

    `progress` gets (rounds done, rounds in all), the round that warms up included. Raises
    DataError for an input without images or with one that cannot be read.
    """
    for name, given in inputs.items():
        if not len(given.positions):
            raise DataError("there is no image to read", where=name)
    with ExitStack() as feeds:
        arms = list(_arms(inputs, test, peers or {}, feeds))
        for number in range(test.rounds + 1):
            for arm in arms:
                measured = _timed(arm.run, number)
                if number:
                    arm.rounds.append(measured)
            if progress is not None:
                progress(number + 1, test.rounds + 1)
    parts = {name: time_parts(given, test) for name, given in inputs.items()}
    rates = tuple(_rate(arm, arms, parts[arm.container]) for arm in arms)
    return FeedThroughput(rates=rates, parts=parts, rounds=test.rounds)


def spread_input(
    source: Source, positions: NDArray[np.int64], images: int = MEASURED_PHOTOS
) -> FeedInput:
    """At most `images` of the positions, evenly spread over them."""
    count = min(images, len(positions))
    return FeedInput(source, positions[np.arange(count) * len(positions) // max(count, 1)])


def cpu_seconds() -> float:
    """CPU time of this process, all its threads, and its finished children."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def time_parts(given: FeedInput, test: FeedTest) -> dict[str, float]:
    """Microseconds of CPU time an image: read, decode, augment (resize, mirror), copy.

    Copy is the normalization to floats and the way to the device, of whole batches. One thread.
    """
    preprocess = test.preprocess
    shape = (preprocess.height, preprocess.width, preprocess.channels)
    positions = given.positions[:_TIMED_IMAGES]
    cutter = PhotoCutter(preprocess, test.augment)
    draws = Draws(0, 0).table(
        torch.from_numpy(positions), Operation.RESIZED_CROP, test.augment.draws
    )
    batch = np.zeros((min(test.batch_size, len(positions)), *shape), np.uint8)
    spent = {"read": 0.0, "decode": 0.0, "augment": 0.0}
    for number, (position, row) in enumerate(zip(positions.tolist(), draws.numpy(), strict=True)):
        began = time.thread_time()
        image = given.source.read(position)
        read = time.thread_time()
        part, turn = cutter.cut(image, row, given.source, position)
        decoded = time.thread_time()
        resize_into(batch[number % len(batch)], part, turn, "mixed")
        spent["read"] += read - began
        spent["decode"] += decoded - read
        spent["augment"] += time.thread_time() - decoded
    each = {name: seconds / len(positions) * 1e6 for name, seconds in spent.items()}
    return each | {"copy": _copy_seconds(batch, test) / len(batch) * 1e6}


def _copy_seconds(batch: Pixels, test: FeedTest) -> float:
    """CPU seconds of one batch's way to normalized floats on the device, median of five."""
    preprocess = test.preprocess
    normalize = Normalizer(
        preprocess.mean,
        preprocess.std,
        shape=batch.shape[1:],
        batch_size=len(batch),
        device=test.device,
        dtype=torch.float32,
    )
    pixels = torch.from_numpy(batch)
    seconds = []
    for _ in range(6):
        began = time.process_time()
        normalize(pixels.to(test.device))
        seconds.append(time.process_time() - began)
    return statistics.median(seconds[1:])


def _arms(
    inputs: Mapping[str, FeedInput], test: FeedTest, peers: Mapping[str, Peer], feeds: ExitStack
) -> Iterator[_Arm]:
    for container, given in inputs.items():
        for workers in test.workers:
            for decoder in test.decoders:
                if decoder == "decode":
                    run = _decode_runner(given, test, workers)
                else:
                    run = _feed_runner(given, test, decoder, workers, feeds)
                yield _Arm(container, decoder, workers, run, [])
            for name, peer in peers.items():
                yield _Arm(container, name, workers, peer(given, test, workers), [])


def _feed_runner(
    given: FeedInput, test: FeedTest, decoder: str, workers: int, feeds: ExitStack
) -> RunEpoch:
    """Epochs of the training feed."""
    read: ReadImage
    if decoder == "pillow":
        read = photo_reader(test.preprocess, test.augment)
    else:
        read = training_reader(
            test.preprocess, test.augment, "fast" if decoder == "fast" else "mixed"
        )
    options = FeedOptions(
        batch_size=test.batch_size, training=True, augment=test.augment, device=test.device
    )
    feed = LoaderFeed(
        given.source,
        np.zeros(len(given.positions), np.int64),
        given.positions,
        test.preprocess,
        options,
        threads=LoaderThreads(workers=workers),
        read_image=read,
    )
    feeds.callback(feed.close)
    return lambda epoch: sum(len(batch.images) for batch in feed.epoch(epoch))


def _decode_runner(given: FeedInput, test: FeedTest, workers: int) -> RunEpoch:
    """The bare decode of every image in full, by the library that the feed uses for it."""
    positions = given.positions.tolist()
    channels = test.preprocess.channels

    def decode(number: int) -> int:
        image = given.source.read(positions[number])
        if isinstance(image, bytes) and decode_whole(image, channels) is None:
            decode_image(image, channels=channels, name=given.source.name(positions[number]))
        return 1

    return lambda _: sum(in_threads(decode, len(positions), workers))


def _timed(run: RunEpoch, epoch: int) -> tuple[int, float, float]:
    wall, cpu = time.perf_counter(), cpu_seconds()
    images = run(epoch)
    # A clock tick at least: children are told in ticks, and few images may take none.
    spent = max(cpu_seconds() - cpu, 1e-6)
    return images, time.perf_counter() - wall, spent


def _rate(arm: _Arm, arms: Sequence[_Arm], parts: Mapping[str, float]) -> FeedRate:
    beside = [one for one in arms if one.container == arm.container]
    limit = next((o for o in beside if (o.decoder, o.workers) == ("decode", arm.workers)), None)
    same = [one for one in beside if one.decoder == arm.decoder]
    fewest = min(same, key=lambda one: one.workers)
    share = None
    if limit is not None and limit is not arm:
        share = ratio_of_rounds(arm.cpu(), limit.cpu())
    return FeedRate(
        container=arm.container,
        decoder=arm.decoder,
        workers=arm.workers,
        images=arm.rounds[0][0],
        per_cpu_s=spread_of_rounds(arm.cpu()),
        per_wall_s=spread_of_rounds(arm.wall()),
        cpu_rounds=tuple(arm.cpu()),
        of_decode=share,
        scaling=None if fewest is arm else ratio_of_rounds(arm.wall(), fewest.wall()),
        binds=_what_binds(arm, parts),
    )


def _what_binds(arm: _Arm, parts: Mapping[str, float]) -> str | None:
    """The part that most of the time goes to, or "wait" where the threads stand still."""
    if arm.decoder not in DECODERS:
        return None
    threads = min(max(arm.workers, 1), os.cpu_count() or 1)
    busy = statistics.median(cpu / (wall * threads) for _, wall, cpu in arm.rounds)
    if busy < _BUSY:
        return "wait"
    return "decode" if arm.decoder == "decode" else max(parts, key=lambda name: parts[name])
