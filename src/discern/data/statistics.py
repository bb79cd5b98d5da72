"""What a data set is like: classes, sizes, formats, bytes, mean and std; `discern data stats`.

Every image is read, its header parsed; at most 10,000 are decoded for mean and std. Nothing is
judged here: faults are the matter of `discern data check`.

Axes: N images, H height, W width, C channels.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.folds import contents
from discern.data.images import Pixels, Preprocess, read_header
from discern.data.inspection import GREY_SHARE
from discern.data.manifest import Manifest
from discern.data.sources import MEASURED_IMAGES, Source, in_threads, open_source
from discern.data.statistics_report import (
    DataStatistics,
    HeadStatistics,
    Measured,
    Spread,
    split_rows,
)

if TYPE_CHECKING:
    from discern.data.scan import ScannedData

__all__ = ["DataStatistics", "HeadStatistics", "Measured", "Spread", "describe"]

Progress = Callable[[int, int], None]

# The sizes that training chooses from by itself (DESIGN 5): the first that is not below the median
# short side; images of one size up to the first keep theirs.
_SIZES: Final = (64, 128, 224)
_LEAST_SIZE: Final = 16
_STEP: Final = 32
_RAW: Final = "raw pixels"


class _Seen(NamedTuple):
    height: int
    width: int
    bytes: int
    mode: str
    format: str
    grey: bool
    bands: int = 0  # channels of an array, 0 for a file


def describe(
    data: Manifest | ScannedData,
    progress: Progress | None = None,
    *,
    preprocess: Preprocess | None = None,
    measure: bool = True,
    threads: int | None = None,
) -> DataStatistics:
    """Read every image of `data` and count.

    Mean and std are of train images if there is a train split, else of all, at most 10,000 spread
    evenly, as `preprocess` fits them; without one at the size that training would choose.
    `progress` gets images done, of those to be read and decoded. Damaged images are listed.
    """
    manifest = data if isinstance(data, Manifest) else data.manifest
    bad = [] if isinstance(data, Manifest) else [(p.path, p.text) for p in data.problems]
    source = open_source(manifest)
    workers = threads or len(os.sched_getaffinity(0))
    sample = _sample(manifest) if measure else np.empty(0, dtype=np.int64)
    total = len(manifest) + len(sample)

    def tell(done: int) -> None:
        if progress is not None:
            progress(min(done, total), total)

    seen, faults = _look_at_all(source, len(manifest), workers, tell)
    bad += faults
    sound = {row: entry for row, entry in enumerate(seen) if entry is not None}
    measured = None
    if sound and len(sample):
        chosen = preprocess or _preprocess(list(sound.values()))
        rows = [row for row in sample.tolist() if row in sound]
        measured, faults = _measure(source, rows, chosen, workers, lambda n: tell(len(seen) + n))
        bad += faults
    tell(total)
    return _statistics(manifest, list(sound.values()), measured, bad)


def _statistics(
    manifest: Manifest,
    seen: Sequence[_Seen],
    measured: Measured | None,
    bad: Sequence[tuple[str, str]],
) -> DataStatistics:
    heights = np.array([entry.height for entry in seen])
    widths = np.array([entry.width for entry in seen])
    sizes = np.array([entry.bytes for entry in seen], dtype=np.int64)
    some = len(seen) > 0
    return DataStatistics(
        layout=manifest.layout,
        images=len(manifest),
        splits={name: len(rows) for name, rows in split_rows(manifest.split).items()},
        heads=tuple(HeadStatistics.of(head, manifest.split) for head in manifest.heads),
        groups=None if manifest.group is None else len(set(manifest.group.tolist()) - {""}),
        folds=None if manifest.fold is None else len(set(manifest.fold.tolist()) - {-1}),
        copies=len(manifest) - len(set(contents(manifest.ids).tolist())),
        total_bytes=int(sizes.sum()),
        bytes=Spread.of(sizes) if some else None,
        width=Spread.of(widths) if some else None,
        height=Spread.of(heights) if some else None,
        short_side=Spread.of(np.minimum(heights, widths)) if some else None,
        aspect=Spread.of(widths / heights) if some else None,
        shapes={
            "landscape": int((widths > heights).sum()),
            "portrait": int((widths < heights).sum()),
            "square": int((widths == heights).sum()),
        },
        modes=_by_count(entry.mode for entry in seen),
        formats=_by_count(entry.format for entry in seen),
        grey=sum(entry.grey for entry in seen),
        measured=measured,
        unreadable=tuple(dict.fromkeys(bad)),
    )


def _look_at_all(
    source: Source, count: int, threads: int, tell: Callable[[int], None]
) -> tuple[list[_Seen | None], list[tuple[str, str]]]:
    """(what is seen of each image, None if unreadable; the unreadable ones and why)."""

    def look(block: int) -> list[_Seen | DataError]:
        rows = range(block * _STEP, min((block + 1) * _STEP, count))
        return [_look(source, row) for row in rows]

    seen: list[_Seen | None] = []
    bad = []
    for found in in_threads(look, -(-count // _STEP), threads):
        for entry in found:
            if isinstance(entry, DataError):
                bad.append((source.name(len(seen)), entry.what))
            seen.append(None if isinstance(entry, DataError) else entry)
        tell(len(seen))
    return seen, bad


def _look(source: Source, row: int) -> _Seen | DataError:
    try:
        image = source.read(row)
        if not isinstance(image, bytes):
            height, width, channels = image.shape
            grey = channels == 1
            mode = {1: "L", 3: "RGB"}.get(channels, f"{channels} channels")
            return _Seen(height, width, image.nbytes, mode, _RAW, grey, channels)
        header = read_header(image, name=source.name(row))
    except DataError as error:
        return error
    return _Seen(header.height, header.width, len(image), header.mode, header.format, header.grey)


def _sample(manifest: Manifest) -> NDArray[np.int64]:
    """Rows for mean and std: of train if there are any, at most 10,000, spread evenly."""
    rows = manifest.positions("train")
    if not len(rows):
        rows = np.arange(len(manifest), dtype=np.int64)
    return rows[:: max(1, -(-len(rows) // MEASURED_IMAGES))]


def _preprocess(seen: Sequence[_Seen]) -> Preprocess:
    """The size and channels that training would choose."""
    sides = {(entry.height, entry.width) for entry in seen}
    height, width = next(iter(sides))
    if len(sides) > 1 or max(height, width) > _SIZES[0]:
        short = float(np.median([min(entry.height, entry.width) for entry in seen]))
        height = width = next((size for size in _SIZES if size >= short), _SIZES[-1])
    channels = 1 if sum(entry.grey for entry in seen) >= GREY_SHARE * len(seen) else 3
    bands = {entry.bands for entry in seen}
    if len(bands) == 1:
        channels = bands.pop() or channels
    return Preprocess(
        height=max(height, _LEAST_SIZE),
        width=max(width, _LEAST_SIZE),
        channels=channels,
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )


def _measure(
    source: Source,
    rows: Sequence[int],
    preprocess: Preprocess,
    threads: int,
    tell: Callable[[int], None],
) -> tuple[Measured | None, list[tuple[str, str]]]:
    """(mean and std of the images at `rows`, those that cannot be decoded and why)."""

    def sums(place: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | DataError:
        name = source.name(rows[place])
        try:
            pixels: Pixels = preprocess.apply(source.read(rows[place]), name=name)
        except DataError as error:
            return error
        values = pixels.reshape(-1, preprocess.channels).astype(np.float64) / 255.0
        return values.mean(axis=0), (values**2).mean(axis=0)

    first, second, count = np.zeros(preprocess.channels), np.zeros(preprocess.channels), 0
    bad = []
    for place, found in enumerate(in_threads(sums, len(rows), threads)):
        if isinstance(found, DataError):
            bad.append((source.name(rows[place]), found.what))
            continue
        first += found[0]
        second += found[1]
        count += 1
        if place % _STEP == 0:
            tell(place)
    if not count:
        return None, bad
    mean = first / count
    std = np.sqrt(np.maximum(second / count - mean**2, 0.0))
    measured = Measured(
        images=count,
        height=preprocess.height,
        width=preprocess.width,
        channels=preprocess.channels,
        mean=tuple(round(float(value), 6) for value in mean),
        std=tuple(round(float(value), 6) for value in std),
    )
    return measured, bad


def _by_count(values: Any) -> dict[str, int]:
    counted = Counter(values)
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
