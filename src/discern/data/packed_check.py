"""Verifying packed data against its indexes: which file is damaged, and which images in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.base.errors import DataError
from discern.base.files import hash_bytes, hash_file
from discern.data.inspection import Problem, Progress
from discern.data.record_data import record_image
from discern.data.record_files import RECORD_SUFFIX
from discern.data.record_format import map_records
from discern.data.shard_index import (
    DIGEST_DIGITS,
    FOLDER_INDEX,
    INDEX_SUFFIX,
    PackedSet,
    ShardIndex,
    index_path,
    read_index_file,
    read_packed_set,
    refuse_unfinished,
)
from discern.data.sources import in_threads
from discern.data.tar_shards import TAR_SUFFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What verifying found. `files`, `images`: looked at; `problems`: kind, path and text each.

    Kinds: missing, damaged (a file whose images are sound: its labels or headers are not),
    damaged-image.
    """

    path: str
    files: int
    images: int
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "path": self.path,
            "files": self.files,
            "images": self.images,
            "sound": self.sound,
            "problems": [problem.record() for problem in self.problems],
        }


def verify_packed(
    path: Path | str, progress: Progress | None = None, *, threads: int | None = None
) -> VerifyReport:
    """Hash every packed file at `path` (a folder or one file) and compare it with its index.

    In a file that differs, each image is compared, so that the damaged ones are named. `progress`
    gets images. Raises DataError for nothing packed, or files that have no index of ours.
    """
    path = Path(path)
    if path.is_dir():
        refuse_unfinished(path)
    problems: list[Problem] = []
    indexed = list(_indexed_files(path, problems))
    total = sum(len(index) for _, index in indexed)
    done = 0
    workers = threads or len(os.sched_getaffinity(0))

    def look(place: int) -> list[Problem]:
        return _verify_file(*indexed[place])

    looks = in_threads(look, len(indexed), workers)
    # Closed here, threads and all, and not by whoever collects garbage.
    with contextlib.closing(looks):
        for place, found in enumerate(looks):
            problems += found
            done += len(indexed[place][1])
            if progress is not None:
                progress(done, total)
    folder = path if path.is_dir() else path.parent
    record = read_packed_set(folder)
    if record is not None:
        own = None if path.is_dir() else path.stem
        problems += _verify_beside(folder, record, own)
    if path.is_dir() and record is not None and record.images != total and not problems:
        text = f"{total} images in all indexes, {record.images} were packed"
        problems.append(Problem("damaged", str(path), text))
    return VerifyReport(path=str(path), files=len(indexed), images=total, problems=tuple(problems))


def _verify_beside(folder: Path, record: PackedSet, stem: str | None) -> list[Problem]:
    """Indexes and lists that are not as they were written; with `stem`, those of one file."""
    problems = []
    for name, digest in record.beside.items():
        file = folder / name
        if stem is not None and not file.name.startswith(f"{stem}."):
            continue
        if not file.is_file():
            problems.append(Problem("missing", str(file), "it was written beside the packed data"))
        elif hash_file(file) != digest:
            text = "it is not as it was written: offsets or labels in it may be wrong"
            problems.append(Problem("damaged", str(file), text))
    return problems


def _indexed_files(path: Path, problems: list[Problem]) -> Iterator[tuple[Path, ShardIndex]]:
    """Every packed file and its index; what is missing goes into `problems`."""
    for file in _packed_files(path):
        if not file.exists():
            problems.append(Problem("missing", str(file), "the packed file is not there"))
            continue
        index = read_index_file(file)
        if index is None:
            raise DataError(
                "a packed file has no index to be verified against",
                where=file,
                expected=str(index_path(file)),
                hint="`discern data check` opens every image, and needs no index",
            )
        yield file, index


def _packed_files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise DataError("there is no such file or folder", where=path)
        return [path]
    names: set[str] = set()
    for entry in path.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.suffix in (TAR_SUFFIX, RECORD_SUFFIX):
            names.add(entry.name)
        elif entry.name == FOLDER_INDEX:
            names.add(".")
        elif entry.name.endswith(INDEX_SUFFIX):
            names.add(entry.name.removesuffix(INDEX_SUFFIX))
    record = read_packed_set(path)
    names |= set() if record is None else set(record.files)
    if not names:
        raise DataError("there is no packed data in the folder", where=path)
    return [path / name for name in sorted(names)]


def _verify_file(path: Path, index: ShardIndex) -> list[Problem]:
    if path.is_dir():
        return _verify_folder(path, index)
    size = path.stat().st_size
    if size == index.size and hash_file(path) == index.sha256:
        return []
    damaged = list(_damaged_images(path, index))
    if damaged:
        return damaged
    text = "its labels, headers or padding differ from what was packed; the images are sound"
    if size != index.size:
        text = f"{size} bytes, {index.size} were packed"
    return [Problem("damaged", str(path), text)]


def _damaged_images(path: Path, index: ShardIndex) -> Iterator[Problem]:
    view = map_records(path)
    is_record = path.suffix == RECORD_SUFFIX
    for _, key, _, offset, length, digest, _ in index.images:
        where = f"{path}:{key}"
        try:
            data = (
                record_image(view, offset, length, path)
                if is_record
                else view[offset : offset + length]
            )
        except DataError as error:
            yield Problem("damaged-image", where, error.what)
            continue
        if len(data) < length and not is_record:
            text = f"cut off after {len(data)} of {length} bytes"
            yield Problem("damaged-image", where, text)
        elif hash_bytes(data)[:DIGEST_DIGITS] != digest:
            yield Problem("damaged-image", where, f"its bytes differ, from byte {offset} on")


def _verify_folder(folder: Path, index: ShardIndex) -> list[Problem]:
    problems = []
    for _, key, _, _, length, digest, _ in index.images:
        file = folder / key
        if not file.is_file():
            problems.append(Problem("missing", str(file), "the image is not there"))
            continue
        data = file.read_bytes()
        if len(data) != length or hash_bytes(data)[:DIGEST_DIGITS] != digest:
            problems.append(Problem("damaged-image", str(file), "its bytes differ"))
    return problems
