"""Opening every image once: its content's hash, its header, and whether it decodes.

Results are cached by place, size and time of change, so that a second look costs a stat.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.files import cache_folder, hash_bytes, hash_json, write_bytes
from discern.data.images import check_image
from discern.data.listing import Listing
from discern.data.manifest import Locations
from discern.data.pixel_arrays import OwnImages
from discern.data.sources import FileSource, in_threads

_VERSION: Final = 2
# Images are RGB unless at least this share is grey (a few grey ones among photos are common).
GREY_SHARE: Final = 0.95
_STEP: Final = 32

Progress = Callable[[int, int], None]
# digest, width, height, grey (0 or 1), error text or None
Seen = tuple[str, int, int, int, str | None]


@dataclass(frozen=True, slots=True)
class Problem:
    """One image that cannot be used: kind, path, and why."""

    kind: str
    path: str
    text: str

    def record(self) -> dict[str, str]:
        """As plain JSON values."""
        return {"kind": self.kind, "path": self.path, "text": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """Sizes and modes of all images; `channels` is what they are best read as."""

    count: int
    median_height: int
    median_width: int
    smallest: tuple[int, int]
    largest: tuple[int, int]
    all_equal: bool
    grey_share: float
    bands: int | None = None

    @property
    def channels(self) -> int:
        """The arrays' own number if all have it; 1 if at least 95 % of the images are grey, else 3.

        Arrays of several numbers, and files, count as grey or RGB.
        """
        if self.bands is not None:
            return self.bands
        return 1 if self.grey_share >= GREY_SHARE else 3


@dataclass(frozen=True, slots=True)
class Inspection:
    """Per image: digest (hex), error text or None; and the facts of those that are sound."""

    digests: list[str]
    errors: list[str | None]
    sizes: NDArray[np.int64]
    grey: NDArray[np.bool_]
    bands: frozenset[int] = frozenset()  # numbers of channels of arrays, none of files


def inspect_listing(listing: Listing, threads: int, progress: Progress | None) -> Inspection:
    """Open every image of `listing`; arrays in memory are hashed only."""
    if listing.arrays:
        return _inspect_arrays(listing, threads, progress)
    cache = _ScanCache(listing)
    seen: list[Seen | None] = [cache.get(position) for position in range(len(listing))]
    missing = [position for position, entry in enumerate(seen) if entry is None]
    source = FileSource(_as_source(listing))

    def look(block: int) -> list[Seen]:
        return [_look(source, p) for p in missing[block * _STEP : (block + 1) * _STEP]]

    done = len(listing) - len(missing)
    for block, found in enumerate(in_threads(look, -(-len(missing) // _STEP), threads)):
        for place, entry in enumerate(found):
            seen[missing[block * _STEP + place]] = entry
        done += len(found)
        if progress is not None:
            progress(done, len(listing))
    entries = [entry for entry in seen if entry is not None]
    if missing:
        cache.save(entries)
    return Inspection(
        [entry[0] for entry in entries],
        [entry[4] for entry in entries],
        np.array([(entry[2], entry[1]) for entry in entries], dtype=np.int64).reshape(-1, 2),
        np.array([bool(entry[3]) for entry in entries]),
    )


def _as_source(listing: Listing) -> Any:
    """FileSource needs the two fields that listings and manifests share."""
    return listing


def _look(source: FileSource, position: int) -> Seen:
    try:
        data = source.read(position)
    except DataError as error:
        return ("", 0, 0, 0, error.what)
    return _look_at(data)


def _look_at(data: bytes) -> Seen:
    digest = hash_bytes(data)
    try:
        header = check_image(data)
    except DataError as error:
        return (digest, 0, 0, 0, error.what)
    return (digest, header.width, header.height, int(header.grey), None)


def _inspect_arrays(listing: Listing, threads: int, progress: Progress | None) -> Inspection:
    """Pixels in memory are hashed only; images of a source of one's own are looked at each run."""
    where = listing.locations
    arrays = [listing.arrays[name] for name in where.container_names]
    own = any(isinstance(array, OwnImages) for array in arrays)

    def look(row: int) -> tuple[Seen, int | None]:
        try:
            image = arrays[int(where.containers[row])][int(where.offsets[row])]
        except DataError as error:
            return ("", 0, 0, 0, error.what), None
        if isinstance(image, bytes):
            return _look_at(image), None
        height, width, bands = image.shape
        digest = hash_bytes(np.ascontiguousarray(image).data)
        return (digest, width, height, int(bands == 1), None), bands

    seen, bands = [], set()
    for row, (entry, number) in enumerate(in_threads(look, len(listing), threads if own else 1)):
        seen.append(entry)
        if entry[4] is None:
            bands.add(number)
        if own and progress is not None and row % _STEP == 0:
            progress(row, len(listing))
    return Inspection(
        [entry[0] for entry in seen],
        [entry[4] for entry in seen],
        np.array([(entry[2], entry[1]) for entry in seen], dtype=np.int64).reshape(-1, 2),
        np.array([bool(entry[3]) for entry in seen]),
        frozenset() if None in bands else frozenset(n for n in bands if n is not None),
    )


def image_facts(inspection: Inspection, sound: NDArray[np.int64]) -> ImageFacts:
    """The facts of the images at `sound`."""
    sizes = inspection.sizes[sound]
    heights, widths = sizes[:, 0], sizes[:, 1]
    return ImageFacts(
        count=len(sound),
        median_height=int(np.median(heights)),
        median_width=int(np.median(widths)),
        smallest=(int(heights.min()), int(widths.min())),
        largest=(int(heights.max()), int(widths.max())),
        all_equal=bool((sizes == sizes[0]).all()),
        grey_share=float(inspection.grey[sound].mean()),
        bands=next(iter(inspection.bands)) if len(inspection.bands) == 1 else None,
    )


class _ScanCache:
    """What was seen before of one root or container: a JSON file in the user's cache."""

    def __init__(self, listing: Listing) -> None:
        self._locations = listing.locations
        self._root = listing.root
        self._stamps = self._container_stamps(listing.locations)
        key = hash_json([str(self._root), list(listing.locations.container_names), listing.name])
        self._path = cache_folder("scans") / f"{key[:32]}.json"
        self._known = self._read()
        self._keys: list[tuple[str, list[int]]] = [
            self._key(position) for position in range(len(listing))
        ]

    def _container_stamps(self, locations: Locations) -> list[list[int]]:
        stamps = []
        for name in locations.container_names:
            status = os.stat(self._root / name)
            stamps.append([status.st_size, status.st_mtime_ns])
        return stamps

    def _read(self) -> dict[str, list[Any]]:
        try:
            record = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}  # a cache: what it does not know is looked at again
        known = record.get("images", {}) if record.get("version") == _VERSION else {}
        return known if isinstance(known, dict) else {}

    def _key(self, position: int) -> tuple[str, list[int]]:
        where = self._locations
        path, container = str(where.paths[position]), int(where.containers[position])
        if container >= 0:
            return f"{path}@{where.offsets[position]}", self._stamps[container]
        try:
            status = os.stat(self._root / path)
        except OSError:
            return path, [0, 0]
        return path, [status.st_size, status.st_mtime_ns]

    def get(self, position: int) -> Seen | None:
        """What was seen of the image, if it has not changed since and was sound."""
        key, stamp = self._keys[position]
        entry = self._known.get(key)
        if entry is None or entry[0] != stamp or entry[5] is not None:
            return None
        return entry[1], entry[2], entry[3], entry[4], None

    def save(self, entries: list[Seen]) -> None:
        """Remember what was seen of every image of the listing."""
        images = {
            key: [stamp, *entry] for (key, stamp), entry in zip(self._keys, entries, strict=True)
        }
        record = {"version": _VERSION, "images": images}
        write_bytes(self._path, json.dumps(record, separators=(",", ":")).encode())


def refuse_or_skip(
    listing: Listing, inspection: Inspection, on_bad_image: str
) -> tuple[NDArray[np.int64], list[Problem]]:
    """(rows of sound images, problems). Raises DataError listing the bad ones unless skipped."""
    problems = [
        Problem("unreadable", str(Path(str(listing.locations.paths[row]))), text)
        for row, text in enumerate(inspection.errors)
        if text is not None
    ]
    sound = np.array(
        [row for row, text in enumerate(inspection.errors) if text is None], dtype=np.int64
    )
    if problems and on_bad_image == "error":
        shown = "; ".join(f"{problem.path} ({problem.text})" for problem in problems[:10])
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise DataError(
            f"{len(problems)} of {len(listing)} images cannot be read",
            where=listing.root,
            got=shown + more,
            hint="mend or remove them, or leave them out with --on-bad-image skip",
        )
    if not len(sound):
        raise DataError("no image can be read", where=listing.root)
    return sound, problems


def skip_unlabeled(
    listing: Listing, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[Problem]]:
    """(those of `rows` that have a label of any column, a problem for each of the others)."""
    lacking = np.all([head.missing() for head in listing.heads], axis=0)
    if lacking[rows].all():
        raise DataError("no image has a label", where=listing.root)
    problems = [
        Problem("unlabeled", str(Path(str(listing.locations.paths[row]))), "it has no label")
        for row in rows[lacking[rows]]
    ]
    return rows[~lacking[rows]], problems
