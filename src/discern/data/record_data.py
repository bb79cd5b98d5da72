"""Records as a data set: one `.rec`, or a folder of them, with or without `.idx`.

Owns what the labels of records mean, overriding them from a `.lst`, the image in a span of bytes,
and cutting a data set into parts without an index. See `record_format` for the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.data.class_numbers import class_names_beside, number_columns
from discern.data.label_columns import LabelColumn
from discern.data.listing import SPLIT_FOLDERS, Fault, Listing
from discern.data.manifest import NO_SPLIT, SPLITS, Locations
from discern.data.record_files import (
    INDEX_SUFFIX,
    RECORD_SUFFIX,
    Progress,
    compare_index,
    label_matrix,
    number_or_text,
    read_index,
    read_list,
    skipped_faults,
    skipped_note,
)
from discern.data.record_format import (
    ALIGNMENT,
    View,
    find_span,
    map_records,
    read_header,
    record_number,
    seek_record,
)
from discern.data.recordio import RecordReader
from discern.data.shard_index import DATASET_FILE, PackedSet, read_index_file, read_packed_set

_SHOWN: Final = 5
_REPORTED: Final = 1024  # records between two words of progress


@dataclass(slots=True)
class _Found:
    """A list entry per record, over all files."""

    containers: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    labels: list[Sequence[float]] = field(default_factory=list)
    indexed: int = 0
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


class RecordPlace(NamedTuple):
    """One record: its file, the byte at which it begins, its bytes on disk with padding."""

    file: Path
    offset: int
    length: int


def is_records(path: Path) -> bool:
    """True for a `.rec` file, and for a folder that has some."""
    return bool(_records_in(path)) if path.is_dir() else _is_record_name(path)


def find_record_files(path: Path | str) -> list[Path]:
    """The `.rec` files of a folder by name, or the one file itself. Raises DataError for none."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    files = _records_in(path)
    if not files:
        raise DataError("there are no record files in the folder", where=path, expected="*.rec")
    return files


def _records_in(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if _is_record_name(entry) and entry.is_file())


def _is_record_name(path: Path) -> bool:
    return path.suffix.lower() == RECORD_SUFFIX and not path.name.startswith(".")


def list_records(
    path: Path | str,
    lst: Path | str | None = None,
    *,
    on_damage: str = "error",
    progress: Progress | None = None,
) -> Listing:
    """The images in a `.rec`, or in all those of a folder; images are not read.

    `lst`: labels by id from this list instead of the headers'. `on_damage` "stop": a file that is
    cut or broken gives the records before that, a note and a fault. `progress` gets bytes.

    Raises DataError, also where an `.idx` beside a file disagrees with it.
    """
    files = find_record_files(path)
    found = _Found()
    sizes = [_size(file) for file in files]
    for number, file in enumerate(files):
        done, total = sum(sizes[:number]), sum(sizes)
        step = None if progress is None else _beginning_at(progress, done, total)
        _walk(file, number, found, on_damage, step)
    if progress is not None:
        progress(sum(sizes), sum(sizes))
    if not found.offsets:
        raise DataError("there are no records", where=path, got="; ".join(found.notes) or None)
    several = len(files) > 1
    names = [
        f"{files[container].name}/{number}" if several else str(number)
        for container, number in zip(found.containers, found.numbers, strict=True)
    ]
    if lst is not None:
        _override(found, Path(lst), Path(path), files)
    record = _packed_set(files)
    heads, place = _heads(label_matrix(found.labels, names), record, files, names)
    splits = _splits(files, record, by_name=Path(path).is_dir())
    containers = np.array(found.containers, dtype=np.int32)
    return Listing(
        locations=Locations(
            np.array(names, dtype=np.str_),
            containers,
            np.array(found.offsets, dtype=np.int64),
            np.array(found.lengths, dtype=np.int64),
            tuple(file.name for file in files),
        ),
        heads=heads,
        split=splits[containers],
        root=files[0].absolute().parent,
        layout=_layout(found, files, splits, place, lst),
        name=(files[0].stem if len(files) == 1 else Path(path).absolute().name) or "data",
        notes=tuple(found.notes),
        numbers=_kept_numbers(found.numbers),
        faults=tuple(found.faults),
    )


def record_image(view: View, offset: int, length: int, path: object = "a record file") -> bytes:
    """The encoded image in the record at byte `offset`, `length` bytes long on disk.

    Raises DataError naming `path` if there is no record of that length, or one without an image.
    """
    span = find_span(view, offset, path)
    where = f"{path}, byte {offset}"
    if span.length != length:
        raise DataError(
            "a record has another length than was noted",
            where=where,
            got=f"{span.length} bytes",
            expected=f"{length} bytes",
        )
    begin = read_header(view, span, where)[1]
    if len(span.parts) == 1:
        start, end = span.parts[0]
        return view[start + begin : end]
    return span.payload(view)[begin:]


def part_records(path: Path | str, num_parts: int, part_index: int) -> list[RecordPlace]:
    """The records of part `part_index` of `num_parts`; the parts are disjoint and leave none out.

    As MXNet cuts them: all files in a row, in equal spans of bytes, multiples of 4; a record
    belongs to the span in which it begins. Needs no index. Raises ConfigError, DataError.
    """
    if num_parts < 1 or not 0 <= part_index < num_parts:
        raise ConfigError(
            "there is no such part",
            got=f"part_index {part_index} of num_parts {num_parts}",
            expected="0 <= part_index < num_parts",
        )
    files = find_record_files(path)
    sizes = [_size(file) for file in files]
    step = -(-sum(sizes) // num_parts)
    step += -step % ALIGNMENT
    first, last = step * part_index, step * (part_index + 1)
    places = []
    base = 0
    for file, size in zip(files, sizes, strict=True):
        begin, end = max(first - base, 0), min(last - base, size)
        base += size
        if begin >= end:
            continue
        view = map_records(file)
        # The file's first record is its first byte: anything else there is damage, not a gap.
        offset = seek_record(view, begin) if begin else 0
        while offset < end:
            span = find_span(view, offset, file)
            places.append(RecordPlace(file, offset, span.length))
            offset += span.length
    return places


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise DataError(
            f"the record file cannot be opened: {error.strerror}", where=file
        ) from error


def _beginning_at(progress: Progress, done: int, total: int) -> Progress:
    return lambda now, _: progress(done + now, total)


def _walk(
    file: Path, number: int, found: _Found, on_damage: str, progress: Progress | None
) -> None:
    """Note every record of a file, and hold its `.idx`, where there is one, against them."""
    first = len(found.offsets)
    with RecordReader(file, on_damage=on_damage) as reader:
        for span in reader.spans():
            header, _ = read_header(reader.view, span, f"{file}, byte {span.offset}")
            label: Any = header.label
            found.labels.append(label.tolist() if header.flag else (label,))
            found.numbers.append(record_number(header))
            found.offsets.append(span.offset)
            found.lengths.append(span.length)
            if progress is not None and len(found.offsets) % _REPORTED == 0:
                progress(span.offset, 0)
        damage = reader.damage
    count = len(found.offsets) - first
    found.containers += [number] * count
    if damage is not None:
        text = f"{damage.what}: only {count} records before {damage.where} are served"
        found.notes.append(text)
        found.faults.append(("damaged", file.name, text))
    idx = file.with_suffix(INDEX_SUFFIX)
    if idx.is_file():
        entries = read_index(idx, number_or_text)
        if damage is not None:
            entries = [entry for entry in entries if entry.offset < damage.offset]
        compare_index(entries, found.offsets[first:], found.numbers[first:], idx)
        found.indexed += 1


def _override(found: _Found, lst: Path, path: Path, files: Sequence[Path]) -> None:
    """Replace every label by that of the same id in a list.

    Raises DataError for an id it lacks, and for one that is another image's in the index beside
    the records: the list numbers other records.
    """
    listed = read_list(lst)
    _check_paths({row.id: row.path for row in listed.rows}, lst, files)
    labels = {row.id: row.labels for row in listed.rows}
    for row in listed.rows:
        if labels[row.id] != row.labels:
            raise DataError("the list gives two labels for one id", where=lst, got=f"id {row.id}")
    if len(set(found.numbers)) != len(found.numbers):
        raise DataError(
            "labels cannot be found by id: records share one",
            where=path,
            got=f"{len(set(found.numbers))} ids in {len(found.numbers)} records",
        )
    lacking = [number for number in found.numbers if number not in labels]
    if lacking:
        raise DataError(
            f"the list has no label for {len(lacking)} of {len(found.numbers)} records",
            where=lst,
            got="ids " + ", ".join(str(number) for number in lacking[:_SHOWN]),
        )
    found.labels = [labels[number] for number in found.numbers]
    found.notes += skipped_note(lst, listed.skipped)
    found.faults += skipped_faults(lst, listed)


def _check_paths(listed: Mapping[int, str], lst: Path, files: Sequence[Path]) -> None:
    """Raises DataError where an index of ours says that an id is an image of another name."""
    for file in files:
        index = read_index_file(file)
        for image in [] if index is None else index.images:
            number = int(image.key)
            if number in listed and not _same_image(listed[number], image.path):
                raise DataError(
                    "the list numbers other records than these",
                    where=lst,
                    got=f"id {number} is {listed[number]}",
                    expected=f"{image.path}, as in the index beside {file.name}",
                    hint="the .lst beside the records has their ids; packing a .lst keeps its ids",
                )


def _kept_numbers(numbers: Sequence[int]) -> NDArray[np.int64] | None:
    """The records' ids; None where one has more than 63 bits."""
    if max(numbers) >> 63:
        return None
    return np.array(numbers, dtype=np.int64)


def _same_image(one: str, other: str) -> bool:
    """Whether two paths from different folders may be of one file: the shorter ends the longer."""
    parts, others = PurePosixPath(one).parts, PurePosixPath(other).parts
    shared = min(len(parts), len(others))
    return parts[-shared:] == others[-shared:]


def _packed_set(files: Sequence[Path]) -> PackedSet | None:
    """Our record of the packed data set that all these files belong to, if they do."""
    record = read_packed_set(files[0].absolute().parent)
    if record is None or any(file.name not in record.files for file in files):
        return None
    return record


def _heads(
    values: NDArray[np.float32], record: PackedSet | None, files: Sequence[Path], names: list[str]
) -> tuple[tuple[LabelColumn, ...], Path | None]:
    """(label columns, the file that named their classes). Raises DataError."""
    if record is None:
        classes, place = class_names_beside(files)
        return number_columns(values, classes, names), place
    place = files[0].with_name(DATASET_FILE)
    widths = [1 if head["kind"] == "single" else len(head["classes"]) for head in record.heads]
    if sum(widths) != values.shape[1]:
        raise DataError(
            "the records and the file beside them disagree",
            where=place,
            got=f"{values.shape[1]} labels in a record",
            expected=f"{sum(widths)}",
        )
    heads = []
    begin = 0
    for head, width in zip(record.heads, widths, strict=True):
        own = values[:, begin : begin + width]
        begin += width
        classes = tuple(head["classes"])
        if head["kind"] == "single":
            column = number_columns(own, classes, names)[0]
            heads.append(
                LabelColumn(
                    name=head["name"], classes=classes, targets=column.targets, ordered=True
                )
            )
        else:
            heads.append(
                LabelColumn(
                    name=head["name"], kind="multi", classes=classes, targets=own, ordered=True
                )
            )
    return tuple(heads), place


def _splits(files: Sequence[Path], record: PackedSet | None, *, by_name: bool) -> NDArray[np.int8]:
    """The split code of each file: as our record says, else by names such as `x_train.rec`.

    Names count only if every file has one of them.
    """
    codes = []
    for file in files:
        if record is not None:
            split = record.files[file.name]
            codes.append(NO_SPLIT if split is None else SPLITS.index(split))
            continue
        words = reversed(re.split(r"[-_.]", file.stem.casefold()))
        known = (SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS)
        codes.append(next(known, NO_SPLIT) if by_name else NO_SPLIT)
    if record is None and NO_SPLIT in codes:
        codes = [NO_SPLIT] * len(files)
    return np.array(codes, dtype=np.int8)


def _layout(
    found: _Found,
    files: Sequence[Path],
    splits: NDArray[np.int8],
    place: Path | None,
    lst: Path | str | None,
) -> str:
    names = [SPLITS[code] for code in sorted(set(splits.tolist())) if code != NO_SPLIT]
    parts = [
        f"{len(files)} record file{'s' if len(files) > 1 else ''}"
        + (f" ({', '.join(names)})" if names else ""),
        f"{len(found.offsets)} images",
        f"{found.indexed} with index" if found.indexed else "no index",
    ]
    if place is not None:
        parts.append(f"names in {place.name}")
    if lst is not None:
        parts.append(f"labels from {Path(lst).name}")
    return ", ".join(parts)
