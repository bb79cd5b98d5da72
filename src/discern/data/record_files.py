"""The text files beside records: `.idx`, which says where each record begins, and `.lst`.

Owns both formats byte for byte. `.idx`: `key TAB offset`, a line per record. `.lst`: `id TAB label
TAB ... TAB path`, labels with six decimals, the path last and relative to the images' folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from discern.base.errors import DataError
from discern.base.files import atomic_file
from discern.data.class_numbers import class_names_beside, number_columns
from discern.data.listing import Fault, Listing
from discern.data.manifest import NO_SPLIT, Locations
from discern.data.record_format import (
    HEADER_SIZE,
    map_records,
    read_header,
    record_number,
    walk_spans,
)

Progress = Callable[[int, int], None]

LIST_SUFFIX: Final = ".lst"
INDEX_SUFFIX: Final = ".idx"
RECORD_SUFFIX: Final = ".rec"
_SHOWN: Final = 10
_REPORTED: Final = 1024  # records between two words of progress


class IndexEntry(NamedTuple):
    """A line of an `.idx`: the record's key, and the byte at which it begins."""

    key: Any
    offset: int


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What `build_index` wrote."""

    path: str
    records: int

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def read_index(path: Path | str, key_type: Callable[[str], Any] = int) -> list[IndexEntry]:
    """The lines of an `.idx`, in order. Raises DataError naming the line that is none."""
    entries = []
    for number, line in enumerate(_read_lines(Path(path)), 1):
        fields = line.strip().split("\t")
        try:
            key, offset = fields
            entries.append(IndexEntry(key_type(key), int(offset)))
        except ValueError as error:
            raise DataError(
                "a line of the index cannot be read",
                where=f"{path}:{number}",
                got=repr(line[:80]),
                expected="a key, a tab and a byte offset",
            ) from error
    return entries


def number_or_text(key: str) -> int | str:
    """A key as it stands in an `.idx`: a number for image records, anything for others."""
    return int(key) if key.isascii() and key.isdigit() else key


def format_index(entries: Iterable[tuple[Any, int]]) -> bytes:
    """The bytes of an `.idx` with these lines."""
    return "".join(f"{key}\t{offset}\n" for key, offset in entries).encode()


def write_index(path: Path | str, entries: Iterable[tuple[Any, int]]) -> None:
    """Write an `.idx` atomically."""
    with atomic_file(Path(path)) as stream:
        stream.write(format_index(entries))


def build_index(
    rec: Path | str, idx: Path | str | None = None, *, progress: Progress | None = None
) -> IndexReport:
    """Write the `.idx` of a record file, keys 0, 1, 2 ...; beside it if `idx` is not given.

    `progress` gets bytes. Raises DataError, and writes nothing, if the record file is damaged.
    """
    target = Path(rec).with_suffix(INDEX_SUFFIX) if idx is None else Path(idx)
    view = map_records(rec)
    entries = []
    for number, span in enumerate(walk_spans(view, rec)):
        entries.append(IndexEntry(number, span.offset))
        if progress is not None and number % _REPORTED == 0:
            progress(span.offset, len(view))
    write_index(target, entries)
    if progress is not None:
        progress(len(view), len(view))
    return IndexReport(str(target), len(entries))


def check_index(rec: Path | str, idx: Path | str) -> int:
    """How many records both files agree on. Raises DataError naming the first wrong key."""
    view = map_records(rec)
    offsets, ids = [], []
    for span in walk_spans(view, rec):
        offsets.append(span.offset)
        ids.append(None if span.size < HEADER_SIZE else record_number(read_header(view, span)[0]))
    compare_index(read_index(idx, number_or_text), offsets, ids, idx)
    return len(offsets)


def compare_index(
    entries: Sequence[IndexEntry],
    offsets: Sequence[int],
    ids: Sequence[int | None],
    idx: Path | str,
) -> None:
    """Raise DataError naming the first key of `entries` that the records do not bear out.

    `offsets`, `ids`: of the records in file order; None for a record that is too short for an id.
    """
    places = {offset: number for number, offset in enumerate(offsets)}
    for key, offset in entries:
        if offset not in places:
            raise _wrong_key(idx, key, f"byte {offset}", "a byte at which a record begins")
    seen: set[int] = set()
    for key, offset in entries:
        if offset in seen:
            raise _wrong_key(idx, key, f"byte {offset}, again", "a record of its own")
        seen.add(offset)
    if len(seen) != len(offsets):
        first = next(offset for offset in offsets if offset not in seen)
        raise DataError(
            f"the index leaves out a record, first that at byte {first}",
            where=idx,
            got=f"{len(seen)} records",
            expected=len(offsets),
            hint=_REBUILD,
        )
    by_place = {places[offset]: key for key, offset in entries}
    keys = [by_place[number] for number in range(len(offsets))]
    meant = _meant_keys(keys, ids)
    for key, offset in entries:
        if key != meant[places[offset]]:
            raise _wrong_key(
                idx,
                key,
                f"byte {offset}, where the record of key {meant[places[offset]]} begins",
                f"the record of key {key}",
            )


def _meant_keys(keys: Sequence[Any], ids: Sequence[int | None]) -> Sequence[Any]:
    """What the keys of an index stand for, per record: ids, or the running counter, or neither.

    An index follows one of the two if all keys do, else if most do, or if its keys are the records'
    ids in another order. Programs of other people number as they like: then nothing can be said.
    """
    count = range(len(keys))
    by_id = sum(key == number for key, number in zip(keys, ids, strict=True))
    counted = sum(key == number for key, number in zip(keys, count, strict=True))
    if len(keys) in (by_id, counted):
        return keys
    if 2 * max(by_id, counted) > len(keys):
        return ids if by_id >= counted else count
    shuffled = len(set(ids)) == len(keys) and set(keys) == set(ids)
    return ids if shuffled else keys


_REBUILD: Final = "if the records are right, `discern data index` writes the index anew"


def _wrong_key(idx: Path | str, key: Any, got: str, expected: str) -> DataError:
    return DataError(
        f"the index disagrees with its records, first at key {key}",
        where=idx,
        got=got,
        expected=expected,
        hint=_REBUILD,
    )


class ListRow(NamedTuple):
    """A line of a `.lst`: the image's number, its labels, and its path from the images' folder."""

    id: int
    labels: tuple[float, ...]
    path: str


@dataclass(frozen=True, slots=True)
class ImageList:
    """The rows of a `.lst`, and a text for each line that was skipped."""

    rows: tuple[ListRow, ...]
    skipped: tuple[str, ...]


def read_list(path: Path | str) -> ImageList:
    """The rows of a `.lst`, as MXNet reads them; lines that are none are skipped and reported.

    Fields are stripped. Skipped: fewer than three fields, an id or label that is no number. Raises
    DataError if the file cannot be read.
    """
    rows, skipped = [], []
    for number, line in enumerate(_read_lines(Path(path)), 1):
        fields = [field.strip() for field in line.strip().split("\t")]
        if len(fields) < 3:
            skipped.append(f"line {number}: {len(fields)} of at least 3 fields: {line[:80]!r}")
            continue
        try:
            labels = tuple(float(field) for field in fields[1:-1])
            rows.append(ListRow(int(fields[0]), labels, fields[-1]))
        except ValueError as error:
            skipped.append(f"line {number}: {error}")
    return ImageList(tuple(rows), tuple(skipped))


def format_list(rows: Iterable[ListRow], where: object = None) -> bytes:
    """The bytes of a `.lst`. Raises DataError for a path that would break its line."""
    lines = []
    for row in rows:
        if row.path != row.path.strip() or any(mark in row.path for mark in "\t\n\r"):
            raise DataError(
                "a file name does not fit into a list",
                where=where,
                got=repr(row.path),
                expected="no tab or line break, no space at either end",
                hint="rename the file",
            )
        labels = "".join(f"{label:f}\t" for label in row.labels)
        lines.append(f"{row.id:d}\t{labels}{row.path}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def write_list(path: Path | str, rows: Iterable[ListRow]) -> None:
    """Write a `.lst` atomically. Raises DataError as `format_list`, and then writes nothing."""
    data = format_list(rows, path)
    with atomic_file(Path(path)) as stream:
        stream.write(data)


def list_lst(path: Path | str, root: Path | str | None = None, *, lenient: bool = False) -> Listing:
    """The images that a `.lst` names, in its order; paths are from `root`, else from its folder.

    Class names come from a text file beside it: see `class_numbers`. `lenient`: images that are not
    there are left out and told as faults. Raises DataError for no rows, rows of different numbers
    of labels, labels that are no class numbers and, unless lenient, images that are not there.
    """
    path = Path(path)
    found = read_list(path)
    if not found.rows:
        raise DataError(
            "the list names no images",
            where=path,
            got="; ".join(found.skipped[:3]) or "an empty file",
            expected="lines of id TAB label TAB path",
        )
    base = (path.parent if root is None else Path(root)).absolute()
    paths = [row.path for row in found.rows]
    there = np.array([os.path.isfile(base / name) for name in paths])  # noqa: PTH113 - many files
    missing = [paths[row] for row in np.flatnonzero(~there)]
    if missing and not lenient:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DataError(
            f"{len(missing)} of {len(paths)} images that the list names are not there",
            where=path,
            got=", ".join(missing[:_SHOWN]) + more,
            expected=f"files relative to {base}",
            hint="--root FOLDER says where the images lie",
        )
    names, file = class_names_beside([path])
    values = label_matrix([row.labels for row in found.rows], paths)
    text = f"the list {path.name} names it, but it is not there"
    listing = Listing(
        locations=Locations.files(paths),
        heads=number_columns(values, names, paths),
        split=np.full(len(paths), NO_SPLIT, dtype=np.int8),
        root=base,
        layout=f"list of {len(paths)} images" + ("" if file is None else f", names in {file.name}"),
        name=path.stem,
        notes=skipped_note(path, found.skipped),
        numbers=np.array([row.id for row in found.rows], dtype=np.int64),
        faults=(*(("missing", name, text) for name in missing), *skipped_faults(path, found)),
    )
    return listing.select(np.flatnonzero(there).astype(np.int64)) if missing else listing


def skipped_note(path: Path, skipped: Sequence[str]) -> tuple[str, ...]:
    """A note on the lines of a list that were skipped; none if there are none."""
    if not skipped:
        return ()
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return (f"{len(skipped)} lines of {path.name} were skipped: {'; '.join(skipped[:3])}{more}",)


def skipped_faults(path: Path, found: ImageList) -> list[Fault]:
    """The lines of a list that were skipped, as faults of kind `skipped-line`."""
    return [("skipped-line", path.name, text) for text in found.skipped]


def label_matrix(rows: Sequence[Sequence[float]], images: Sequence[str]) -> Any:
    """The labels of all images: float32 [N, K]. Raises DataError naming the first odd image."""
    count = len(rows[0])
    for row, image in zip(rows, images, strict=True):
        if len(row) != count:
            raise DataError(
                "images have different numbers of labels",
                where=image,
                got=f"{len(row)} labels",
                expected=f"{count}, as the first image has",
            )
    return np.array(rows, dtype=np.float32).reshape(len(rows), count)


def _read_lines(path: Path) -> list[str]:
    """The lines, broken where Python's text files break them; odd bytes of file names survive."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return [line.rstrip("\n") for line in stream]
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=path) from error
