"""Packing a data set: every image of a manifest, into shards, records or folders.

Owns the run of a pack: threads, order, the state that a killed pack goes on from, and the report.
Equal images and options give equal bytes, whatever the number of threads and however often the
pack was killed. See `pack_plan` for options, `pack_encode` for pixels, `pack_writers` for files,
`packed_check` for verifying, `unpacking` for the way back.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from discern.base.errors import DataError
from discern.base.files import hash_file, sweep_temporaries
from discern.data.class_numbers import CLASSES_SUFFIX, write_class_names
from discern.data.inspection import Problem, Progress
from discern.data.manifest import Head, Manifest
from discern.data.pack_encode import ImagePacker, Packed, single_threaded_resize
from discern.data.pack_folders import FolderSink, class_folders, file_places, has_class_folders
from discern.data.pack_plan import (
    Group,
    PackOptions,
    head_record,
    kept_heads,
    label_value,
    label_vector,
    origin_path,
    plan_groups,
    request_hash,
)
from discern.data.pack_state import STATE_FILE, PackState, only_packer, open_state, refused_image
from discern.data.pack_writers import RecordSink, Sample, ShardSink, Sink
from discern.data.record_files import ListRow
from discern.data.shard_index import (
    DIGEST_DIGITS,
    PackedSet,
    index_path,
    read_index_file,
    write_packed_set,
)
from discern.data.sources import in_threads, open_source

# A part of a folder: so many files are lost at most to a kill, and one fsync round is shared.
_FOLDER_PART: Final = 1000


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One file (or folder) that was packed. `size` in bytes; `sha256` of the file."""

    name: str
    split: str | None
    images: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackReport:
    """What a pack did. `resumed`: images that an earlier, killed pack had finished already."""

    format: str
    out: str
    files: tuple[PackedFile, ...]
    images: int
    size: int
    problems: tuple[Problem, ...]
    resumed: int
    seconds: float
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {
            "files": [asdict(file) for file in self.files],
            "problems": [problem.record() for problem in self.problems],
            "notes": list(self.notes),
            "skipped": len(self.problems),
        }


def pack(
    manifest: Manifest,
    out: Path | str,
    options: PackOptions | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack the images of `manifest` into the folder `out`.

    A pack that was killed goes on behind its last finished part; one that is done is not done
    again. Raises DataError for a bad image (unless the options skip it), for a folder that holds
    something else, and for one that another process is packing into; ConfigError for options that
    do not fit the images.
    """
    began = time.perf_counter()
    options = options or PackOptions()
    folder = Path(out)
    groups = plan_groups(manifest, options)
    if not groups:
        raise DataError("there are no images to pack", where=folder)
    request = request_hash(manifest, options)
    folder.mkdir(parents=True, exist_ok=True)
    with only_packer(folder):
        state, record = open_state(folder, request, groups, options)
        resumed = sum(part.images for part in state.parts)
        if record is None:
            sweep_temporaries(folder)
            splits = _pack_groups(manifest, groups, folder, options, state, progress)
            record = _finish(manifest, folder, options, state, splits)
        files = tuple(_packed_file(folder, *item) for item in record.files.items())
    return PackReport(
        format=options.format,
        out=str(folder),
        files=files,
        images=record.images,
        size=sum(file.size for file in files),
        problems=tuple(Problem(**problem) for problem in record.problems),
        resumed=resumed,
        seconds=time.perf_counter() - began,
        notes=tuple(_notes(manifest, options)),
    )


def _pack_groups(
    manifest: Manifest,
    groups: tuple[Group, ...],
    folder: Path,
    options: PackOptions,
    state: PackState,
    progress: Progress | None,
) -> dict[str, str | None]:
    """Pack what is left; gives the split of each file."""
    total = sum(len(group.rows) for group in groups)
    done = sum(part.consumed for part in state.parts)
    read = _reader(manifest, options)
    workers = options.workers or _best_workers(manifest, options)
    files: dict[str, str | None] = {}
    encoding = not options.unchanged or bool(manifest.arrays)
    with single_threaded_resize() if encoding else contextlib.nullcontext():
        for group in groups:
            left = len(group.rows) - sum(part.consumed for part in state.of(group))
            with _open_sink(manifest, group, folder, options, state) as sink:
                filled = _fill(sink, group, options, state, folder, read, workers)
                # Closed here, threads and all, and not by whoever collects garbage.
                with contextlib.closing(filled):
                    for taken in filled:
                        if progress is not None:
                            progress(done + taken, total)
                done += left
                files |= dict.fromkeys(sink.close(), group.split)
    return files


def _best_workers(manifest: Manifest, options: PackOptions) -> int:
    """One per core where images are decoded; one where known bytes are only read and hashed.

    There the file system binds, and a second thread takes a sixth: see docs/benchmarks.md.
    """
    known = len(str(manifest.ids[0]).partition("-")[0]) == DIGEST_DIGITS
    if options.unchanged and known and not manifest.arrays:
        return 1
    return len(os.sched_getaffinity(0))


def _reader(manifest: Manifest, options: PackOptions) -> Callable[[int], Sample | Problem]:
    """Makes the sample of a row, or tells what is wrong with it. Safe in threads."""
    source = open_source(manifest)
    packer = ImagePacker(options)
    heads = kept_heads(manifest.heads, options)

    def read(row: int) -> Sample | Problem:
        known = str(manifest.ids[row])
        try:
            packed: Packed = packer(source.read(row), source.name(row), known)
        except DataError as error:
            return Problem("unreadable", source.name(row), error.what)
        path = origin_path(str(manifest.locations.paths[row]), manifest.root)
        return Sample(row, known, path, label_value(heads, row), label_vector(heads, row), packed)

    return read


def _beside(folder: Path, files: Mapping[str, str | None]) -> dict[str, str]:
    """SHA-256 of the indexes and lists of packed files, by name."""
    places = [folder / name for name in sorted(files)]
    candidates = [index_path(place) for place in places]
    candidates += [place.with_suffix(suffix) for place in places for suffix in (".idx", ".lst")]
    there = [file for file in candidates if file.is_file()]
    return {file.relative_to(folder).as_posix(): hash_file(file) for file in there}


def _list_rows(manifest: Manifest, heads: tuple[Head, ...], group: Group) -> dict[int, ListRow]:
    """What the `.lst` says of each row; the ids of the list or records it came from are kept.

    They are what labels are found by later. Where they are not one for each image, rows count.
    """
    paths, numbers = manifest.locations.paths, manifest.numbers
    own = numbers is None or numbers.min() < 0 or len(np.unique(numbers)) < len(numbers)
    ids = np.arange(len(manifest)) if own or numbers is None else numbers
    return {
        row: ListRow(
            int(ids[row]), label_vector(heads, row), origin_path(str(paths[row]), manifest.root)
        )
        for row in group.rows.tolist()
    }


def _open_sink(
    manifest: Manifest, group: Group, folder: Path, options: PackOptions, state: PackState
) -> Sink:
    done = state.of(group)
    heads = kept_heads(manifest.heads, options)
    if options.format == "shards":
        return ShardSink(folder, group, heads, done)
    if options.format == "rec":
        return RecordSink(folder, group, done, _list_rows(manifest, heads, group))
    own_folder = group.split is not None or len(group.rows) < len(manifest)
    places = file_places(manifest, group)
    return FolderSink(folder, group, heads, done, places, own_folder=own_folder)


def _fill(
    sink: Sink,
    group: Group,
    options: PackOptions,
    state: PackState,
    folder: Path,
    read: Callable[[int], Sample | Problem],
    workers: int,
) -> Generator[int, None, None]:
    """Pack the rows of `group` that are left, part by part; yields how many are done of them."""
    rows = group.rows[sum(part.consumed for part in state.of(group)) :].tolist()
    taken = 0
    found: list[Problem] = []

    def finish() -> None:
        state.parts.append(sink.finish_part(taken))
        state.problems += found
        state.save(folder)

    threads = in_threads(lambda place: read(rows[place]), len(rows), workers)
    with contextlib.closing(threads) as samples:
        for number, sample in enumerate(samples, 1):
            if isinstance(sample, Problem):
                if options.on_bad_image == "error":
                    raise refused_image(sample)
                found.append(sample)
            else:
                if sink.images and _is_full(sink, len(sample.packed.data), options):
                    finish()
                    taken, found = 0, []
                sink.add(sample)
            taken += 1
            yield number
    if taken:
        finish()


def _is_full(sink: Sink, more: int, options: PackOptions) -> bool:
    most = _FOLDER_PART if options.format == "folder" else options.shard_images
    return sink.size + more > options.shard_bytes or (most is not None and sink.images >= most)


def _finish(
    manifest: Manifest,
    folder: Path,
    options: PackOptions,
    state: PackState,
    files: dict[str, str | None],
) -> PackedSet:
    """Write the record of the whole; from here on the pack is done."""
    images = sum(part.images for part in state.parts)
    if not images:
        raise DataError(
            "no image could be packed", where=folder, got=f"{len(state.problems)} unreadable"
        )
    heads = kept_heads(manifest.heads, options)
    if options.format == "rec" and has_class_folders(heads):
        classes = heads[0].classes
        if all(len(name.splitlines()) == 1 for name in classes):
            write_class_names(folder / f"{options.name or 'data'}{CLASSES_SUFFIX}", classes)
    record = PackedSet(
        format=options.format,
        heads=tuple(head_record(head) for head in heads),
        files=files,
        images=images,
        request=state.request,
        problems=tuple(problem.record() for problem in state.problems),
        beside=_beside(folder, files),
    )
    write_packed_set(folder, record)
    (folder / STATE_FILE).unlink(missing_ok=True)
    return record


def _packed_file(folder: Path, name: str, split: str | None) -> PackedFile:
    index = read_index_file(folder / name)
    if index is None:
        raise DataError("a packed file has no index", where=folder / name)
    return PackedFile(name, split, len(index), index.size, index.sha256)


def _notes(manifest: Manifest, options: PackOptions) -> list[str]:
    notes = []
    if options.format == "folder" and has_class_folders(manifest.heads):
        notes += class_folders(manifest.heads[0].classes)[1]
    if len(kept_heads(manifest.heads, options)) < len(manifest.heads):
        first = manifest.heads[0].name
        notes.append(f"only the first label column, '{first}', is in the records")
    return notes
