"""The check of images before anything is trained on them: decode all, tell what is wrong.

Owns the run. It lists what the user names, opens every image in full in parallel threads, finds
what is there twice, and gathers the findings; nothing in the data stops it. Rules on single images:
`examination`; on classes and lists: `check_classes`; on copies: `duplicates`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.data.check_classes import (
    ColumnCounts,
    class_findings,
    color_findings,
    several,
    shape_findings,
)
from discern.data.check_copies import copy_findings, find_copies
from discern.data.check_findings import KINDS, UNREADABLE, CheckReport, Finding, ImageRows
from discern.data.check_listing import (
    class_counts,
    image_rows,
    is_ordered,
    list_parts,
    listing_findings,
    source_names,
)
from discern.data.duplicates import FARTHEST, NEAR_COSINE, NEAR_DISTANCE, Looks
from discern.data.examination import Examined, Fault, examine, examine_pixels
from discern.data.images import Pixels, decode_image
from discern.data.listing import Listing
from discern.data.scan import DataRequest
from discern.data.sources import ArraySource, FileSource, Source, in_threads

__all__ = ["CheckOptions", "CheckReport", "check_data"]

Progress = Callable[[int, int], None]

# Images that a thread takes at a time.
_STEP: Final = 32
# Channels of a grey picture that was saved in color differ by rounding only.
_GREY_GAP: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """What to look for beside the images themselves.

    `near`: look for near duplicates; `near_distance`: bits of 64 that may differ.
    `embeddings`: floating-point [N, D], a row for each image in the order listed, made elsewhere;
    pairs of cosine `cosine` and more count as near.
    """

    near: bool = True
    near_distance: int = NEAR_DISTANCE
    embeddings: NDArray[np.floating] | None = None
    cosine: float = NEAR_COSINE

    def __post_init__(self) -> None:
        if not 0 <= self.near_distance <= FARTHEST:
            raise ConfigError(
                "the distance of near duplicates is out of range",
                got=self.near_distance,
                expected=f"0 to {FARTHEST} bits of 64",
            )


@dataclass(slots=True)
class Gathered:
    """What is known of N images while a check goes on; threads fill rows of their own."""

    digests: list[str]
    sizes: NDArray[np.int32]
    bytes: NDArray[np.int64]
    grey: NDArray[np.bool_]
    looks_grey: NDArray[np.bool_]
    looks: Looks
    faults: dict[int, tuple[Fault, ...]] = field(default_factory=dict)

    @classmethod
    def room(cls, count: int) -> Gathered:
        """Room for `count` images."""
        return cls(
            [""] * count,
            np.zeros((count, 2), dtype=np.int32),
            np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=np.bool_),
            np.zeros(count, dtype=np.bool_),
            Looks.empty(count),
        )

    def put(self, start: int, found: list[Examined]) -> None:
        """Fill the rows from `start` on."""
        seen: list[int] = []
        pictures: list[NDArray[np.uint8]] = []
        for row, one in enumerate(found, start):
            self.digests[row] = one.digest
            self.sizes[row] = (one.height, one.width)
            self.bytes[row] = one.size
            self.grey[row] = one.grey
            if one.faults:
                self.faults[row] = one.faults
            if one.picture is not None:
                seen.append(row)
                pictures.append(one.picture)
        if seen:
            rows, together = np.array(seen, dtype=np.int64), np.stack(pictures)
            self.looks.put(rows, together)
            red, green, blue = (together[..., channel] for channel in range(3))
            most = np.maximum(np.maximum(red, green), blue)
            gaps = (most - np.minimum(np.minimum(red, green), blue)).reshape(len(rows), -1)
            self.looks_grey[rows] = self.grey[rows] | (gaps.max(axis=1) <= _GREY_GAP)


def check_data(
    request: DataRequest, options: CheckOptions | None = None, progress: Progress | None = None
) -> CheckReport:
    """Decode every image of `request` and tell what is wrong with the data.

    Memory does not grow but for about 500 bytes an image. `progress`: (images done, images).
    Raises DataError for data that is not there, and for embeddings of another number of images.
    """
    options = options or CheckOptions()
    begin = time.monotonic()
    named = source_names(request)
    parts = list_parts(request)
    sources = [_open(part) for part in parts]
    rows = image_rows(parts, named)
    _check_embeddings(options, len(rows.paths))
    threads = request.threads or len(os.sched_getaffinity(0))
    gathered = look_at_images(sources, threads, progress)
    rows = replace(rows, sizes=gathered.sizes, bytes=gathered.bytes)
    groups, notes = find_copies(
        gathered.digests,
        gathered.looks if options.near else None,
        gathered.sizes,
        distance=options.near_distance,
        embeddings=options.embeddings,
        cosine=options.cosine,
    )
    counts = class_counts(parts)
    findings = [
        *_image_findings(rows, gathered),
        *copy_findings(rows, groups),
        *class_findings(rows, counts, ordered=is_ordered(request.train)),
        *color_findings(rows, gathered.grey, gathered.looks_grey),
        *shape_findings(rows),
        *listing_findings(named, parts),
    ]
    return CheckReport(
        source=request.train,
        layout="; ".join(part.layout for part in parts),
        images=rows,
        class_counts=_joined(counts),
        findings=tuple(findings),
        groups=tuple(groups),
        notes=(*(note for part in parts for note in part.notes), *notes),
        seconds=time.monotonic() - begin,
        read=_reader(sources),
    )


def _joined(columns: list[ColumnCounts]) -> dict[str, dict[str, int]]:
    """The counts of all label columns in one."""
    joined: dict[str, dict[str, int]] = {}
    for column in columns:
        for split, row in column.splits.items():
            joined.setdefault(split, {}).update(row)
    return joined


def _open(part: Listing) -> Source:
    described: Any = part  # sources need the fields that listings and manifests share
    return ArraySource(described) if part.arrays else FileSource(described)


def _check_embeddings(options: CheckOptions, count: int) -> None:
    if options.embeddings is not None and len(options.embeddings) != count:
        raise DataError(
            "the embeddings are of another number of images",
            got=f"{len(options.embeddings)} rows",
            expected=f"{count}, one for each image in the order listed",
        )


def look_at_images(
    sources: Sequence[Source], threads: int, progress: Progress | None = None
) -> Gathered:
    """Look at every image of every source, `_STEP` at a time in `threads` threads."""
    total = sum(len(source) for source in sources)
    gathered = Gathered.room(total)
    start = 0
    for source in sources:

        def look(block: int, source: Source = source, start: int = start) -> int:
            rows = range(block * _STEP, min((block + 1) * _STEP, len(source)))
            gathered.put(start + rows.start, [_examine(source, row) for row in rows])
            return rows.stop

        for done in in_threads(look, -(-len(source) // _STEP), threads):
            if progress is not None:
                progress(start + done, total)
        start += len(source)
    return gathered


def gather_rows(
    source: Source, rows: NDArray[np.int64], threads: int, progress: Progress | None = None
) -> Gathered:
    """What is known of the images at `rows` of `source`, in their order."""
    gathered = Gathered.room(len(rows))

    def look(block: int) -> int:
        start, stop = block * _STEP, min((block + 1) * _STEP, len(rows))
        gathered.put(start, [_examine(source, int(row)) for row in rows[start:stop]])
        return stop

    for done in in_threads(look, -(-len(rows) // _STEP), threads):
        if progress is not None:
            progress(done, len(rows))
    return gathered


def _examine(source: Source, row: int) -> Examined:
    try:
        data = source.read(row)
    except DataError as error:
        return Examined("", 0, (Fault("missing", error.what),))
    return examine(data, source.name(row)) if isinstance(data, bytes) else examine_pixels(data)


def _image_findings(rows: ImageRows, gathered: Gathered) -> list[Finding]:
    """What is wrong with single images, in the order of the list."""
    found = []
    for row, faults in sorted(gathered.faults.items()):
        readable = bool(rows.sizes[row, 0])
        for kind, text in faults:
            severity = KINDS[kind].severity
            if readable and kind in UNREADABLE:
                severity = "warning"
            found.append(several(rows, [row], kind, severity, text))
    blank = np.flatnonzero(gathered.looks.blank & (rows.sizes[:, 0] > 0)).tolist()
    text = "one even color"
    return [*found, *(several(rows, [row], "blank", "warning", text) for row in blank)]


def _reader(sources: list[Source]) -> Callable[[int], Pixels]:
    """Pixels of image k of all sources, for thumbnails; raises DataError."""
    starts = np.cumsum([0, *(len(source) for source in sources)])

    def read(row: int) -> Pixels:
        place = int(np.searchsorted(starts, row, side="right")) - 1
        source, inside = sources[place], row - int(starts[place])
        data = source.read(inside)
        if isinstance(data, bytes):
            return decode_image(data, channels=3, name=source.name(inside))
        return data

    return read
