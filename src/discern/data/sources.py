"""Reading image k of a manifest: out of a file, a container, a record, or an array in memory.

A source neither shuffles nor augments and is safe in threads.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.images import Pixels, Preprocess
from discern.data.manifest import Manifest
from discern.data.pixel_arrays import white_of
from discern.data.record_data import record_image
from discern.data.record_files import RECORD_SUFFIX

# Images that mean and std are measured on, at most.
MEASURED_IMAGES = 10_000


Result = TypeVar("Result")


class Source(Protocol):
    """Images by position in the manifest."""

    def __len__(self) -> int:
        """How many there are."""

    def read(self, position: int) -> bytes | Pixels:
        """The image's file bytes, or its pixels [H, W, C]. Raises DataError."""

    def name(self, position: int) -> str:
        """What to call the image in messages."""


class FileSource:
    """Each image a file of its own, or a span of bytes in a container that is mapped, not read.

    In a `.rec` the span is the whole record, whose image is taken out of it.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._locations = manifest.locations
        self._root = manifest.root
        names = manifest.locations.container_names
        self._maps = [_map_file(manifest.root / name) for name in names]
        self._records = [name.lower().endswith(RECORD_SUFFIX) for name in names]

    def __len__(self) -> int:
        return len(self._locations.paths)

    def read(self, position: int) -> bytes:
        """The image's file bytes. Raises DataError naming it."""
        where = self._locations
        container = int(where.containers[position])
        if container >= 0:
            start, length = int(where.offsets[position]), int(where.lengths[position])
            if self._records[container]:
                return record_image(self._maps[container], start, length, self.name(position))
            data = self._maps[container][start : start + length]
            if len(data) != length:
                raise DataError("the container is cut short", where=self.name(position))
            return data
        try:
            with open(self._root / str(where.paths[position]), "rb") as stream:
                return stream.read()
        except OSError as error:
            raise DataError(
                f"the image cannot be read: {error.strerror}", where=self.name(position)
            ) from error

    def name(self, position: int) -> str:
        """The file's path, or the container's and the path inside it."""
        where = self._locations
        container = int(where.containers[position])
        inside = str(where.paths[position])
        return inside if container < 0 else f"{where.container_names[container]}:{inside}"


def _map_file(path: Path) -> mmap.mmap | bytes:
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"the container cannot be opened: {error.strerror}", where=path) from error
    try:
        if os.fstat(handle).st_size == 0:
            return b""
        return mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(handle)


class ArraySource:
    """Images that are already pixels in memory, one array per container."""

    def __init__(self, manifest: Manifest) -> None:
        self._locations = manifest.locations
        names = manifest.locations.container_names
        self._arrays = [manifest.arrays[name] for name in names]

    def __len__(self) -> int:
        return len(self._locations.paths)

    def read(self, position: int) -> bytes | Pixels:
        """The image's pixels, uint8 or uint16 [H, W, C], or a file's bytes from `OwnImages`."""
        array = self._arrays[int(self._locations.containers[position])]
        image: bytes | Pixels = array[int(self._locations.offsets[position])]
        return image

    def name(self, position: int) -> str:
        """The container's name and the image's number in it."""
        container = self._locations.container_names[int(self._locations.containers[position])]
        return f"{container}#{int(self._locations.offsets[position])}"


def open_source(manifest: Manifest) -> Source:
    """The source that reads what `manifest` describes."""
    return ArraySource(manifest) if manifest.arrays else FileSource(manifest)


def in_threads(
    work: Callable[[int], Result], count: int, threads: int
) -> Generator[Result, None, None]:
    """`work(0), work(1), ...` in order, done by threads a bounded way ahead.

    Who leaves it before its end should close it (`contextlib.closing`), so that no work goes on.
    """
    if threads < 2:
        yield from map(work, range(count))
        return
    pool = ThreadPoolExecutor(threads)
    finished = False
    try:
        ahead = 8 * threads
        waiting = [pool.submit(work, i) for i in range(min(ahead, count))]
        for i in range(count):
            result = waiting[i % ahead].result()
            if i + ahead < count:
                waiting[i % ahead] = pool.submit(work, i + ahead)
            yield result
        finished = True
    finally:
        # Left before its end, it may be collected in any thread, one that holds a lock of
        # `threading` itself among them: joining threads there would wait for ever (seen).
        pool.shutdown(wait=finished, cancel_futures=True)


def load_resident(
    source: Source,
    positions: NDArray[np.int64],
    preprocess: Preprocess,
    *,
    threads: int = 1,
) -> Pixels:
    """The images at `positions`, decoded and fitted: [N, H, W, C] of `preprocess.dtype`.

    Raises DataError.
    """
    shape = (len(positions), preprocess.height, preprocess.width, preprocess.channels)
    result: Pixels = np.empty(shape, dtype=preprocess.dtype)
    step = 64

    def fill(block: int) -> None:
        for place in range(block * step, min((block + 1) * step, len(positions))):
            position = int(positions[place])
            result[place] = preprocess.apply(source.read(position), name=source.name(position))

    for _ in in_threads(fill, -(-len(positions) // step), threads):
        pass
    return result


def measure_mean_std(
    source: Source,
    positions: NDArray[np.int64],
    preprocess: Preprocess,
    *,
    threads: int = 1,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, on 0..1 values, of at most 10,000 images.

    They are spread evenly over `positions`. A channel that never changes gets std 1.
    """
    stride = -(-len(positions) // MEASURED_IMAGES)
    chosen = positions[::stride]
    sums = np.zeros(preprocess.channels)
    squares = np.zeros(preprocess.channels)
    step, white = 512, float(white_of(preprocess.depth))
    for start in range(0, len(chosen), step):
        pixels = load_resident(source, chosen[start : start + step], preprocess, threads=threads)
        values = pixels.reshape(-1, preprocess.channels).astype(np.float64) / white
        sums += values.sum(0)
        squares += (values**2).sum(0)
    count = len(chosen) * preprocess.height * preprocess.width
    mean = sums / count
    variance = np.maximum(squares / count - mean**2, 0.0)
    std = np.where(variance > 1e-12, np.sqrt(variance), 1.0)
    # Rounded, so that the last bits of a sum never make two runs differ.
    return tuple(round(float(v), 6) for v in mean), tuple(round(float(v), 6) for v in std)
