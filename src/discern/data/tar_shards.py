"""Tar shards in the WebDataset convention: KEY.jpg beside KEY.cls or KEY.json, uncompressed.

Owns writing one shard (equal input gives equal bytes) and listing shards, ours or others'. With
our index beside a shard it is not scanned; images are read by offset, never unpacked. See
`shard_index` for the index, `shard_scan` for reading headers, `archives` for tars of class folders.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from discern.base.errors import DataError
from discern.data.label_columns import LabelColumn
from discern.data.listing import SPLIT_FOLDERS, Listing
from discern.data.manifest import MISSING, NO_SPLIT, SPLITS, Locations
from discern.data.shard_index import (
    DATASET_FILE,
    PackedSet,
    ShardIndex,
    read_index_file,
    read_packed_set,
)
from discern.data.shard_scan import (
    FoundImage,
    FoundImages,
    check_on_damage,
    holds_samples,
    is_number,
    scan_shard,
)

TAR_SUFFIX: Final = ".tar"
_BLOCK: Final = tarfile.BLOCKSIZE
_SHOWN: Final = 5
_SHARD_NAME: Final = re.compile(r"(?:(.*)-)?(\d+)$")


class ShardWriter:
    """Writes one shard to a stream; owner, time and mode are fixed, so that equal is equal.

    The result is byte for byte what Python's tarfile writes in ustar format.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._position = 0

    @property
    def size(self) -> int:
        """Bytes written so far, with the end of the archive if closed."""
        return self._position

    def add(
        self, key: str, suffix: str, image: bytes, labels: Sequence[tuple[str, bytes]] = ()
    ) -> int:
        """Write `key + suffix`, then each label file; gives the offset of the image's first byte.

        Raises DataError for a name that the format cannot hold.
        """
        head = self._header(key + suffix, len(image))
        start = self._position + len(head)
        tail = [b"\0" * (-len(image) % _BLOCK)]
        for ending, data in labels:
            tail += [self._header(key + ending, len(data)), data, b"\0" * (-len(data) % _BLOCK)]
        for part in (head, image, b"".join(tail)):
            self._write(part)
        return start

    def close(self) -> str:
        """Write the end of the archive; gives the SHA-256 of all bytes as 64 hex digits."""
        self._write(b"\0" * (2 * _BLOCK))
        self._write(b"\0" * (-self._position % tarfile.RECORDSIZE))
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self._position += len(data)

    @staticmethod
    def _header(name: str, size: int) -> bytes:
        member = tarfile.TarInfo(name)
        member.size = size
        try:
            return member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
        except ValueError as error:
            raise DataError(
                f"the shard cannot hold this member: {error}", where=name, got=f"{size} bytes",
                expected="a name up to 255 bytes and under 8 GiB",
            ) from error  # fmt: skip


def is_shards(path: Path) -> bool:
    """True for a tar whose images stand beside label files, or a folder of such tars."""
    if path.is_dir():
        tars = _shard_paths(path)
        record = path / DATASET_FILE
        return bool(tars) and (record.is_file() or holds_samples(tars[0]))
    return path.name.lower().endswith(TAR_SUFFIX) and path.is_file() and holds_samples(path)


def list_shards(path: Path, *, on_damage: str = "error") -> Listing:
    """The images of one shard, or of all shards in a folder.

    Labels are those of the index, else of `.cls` (a number or a name) or `.json` files. Numbers
    become names where `dataset.json` tells them. Keys without a label are noted. `on_damage`
    "stop": a shard that is cut or broken gives the images before that, and a note.

    Raises DataError naming the shard and, where it was scanned, the byte.
    """
    check_on_damage(on_damage)
    folder = path if path.is_dir() else path.parent
    tars = _shard_paths(path) if path.is_dir() else [path]
    if not tars:
        raise DataError("there are no tar shards in the folder", where=path)
    record = read_packed_set(folder)
    names = _head_names(record)
    found = FoundImages()
    for number, tar in enumerate(tars):
        index = read_index_file(tar)
        first = len(found.images)
        if index is None:
            scan_shard(tar, number, names, found, on_damage)
        else:
            _take_index(tar, index, number, found, on_damage)
        found.splits += [_split_of(tar, record)] * (len(found.images) - first)
        bare = [image.key for image in found.images[first:] if image.label is None]
        found.unlabeled += [f"{tar.name}:{key}" for key in bare]
    if not found.images:
        raise DataError("there are no images in the shards", where=path)
    keys, containers, offsets, lengths, labels = zip(*found.images, strict=True)
    listing = Listing(
        locations=Locations(
            np.array(keys, dtype=np.str_),
            np.array(containers, dtype=np.int32),
            np.array(offsets, dtype=np.int64),
            np.array(lengths, dtype=np.int64),
            tuple(tar.name for tar in tars),
        ),
        labels=[None] * len(keys),
        split=np.array(found.splits, dtype=np.int8),
        root=folder.absolute(),
        layout=_layout(found, len(tars)),
        name=path.absolute().name.split(".")[0] or "shards",
        notes=_notes(found),
    )
    return listing.with_heads(_heads(list(labels), record, path))


def _shard_paths(folder: Path) -> list[Path]:
    """The tars in `folder`, by name: hidden ones are unfinished."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.name.lower().endswith(TAR_SUFFIX)
        and not entry.name.startswith(".")
        and entry.is_file()
    )


def _take_index(
    tar: Path, index: ShardIndex, number: int, found: FoundImages, on_damage: str
) -> None:
    size = tar.stat().st_size
    there = [image for image in index.images if image.offset + image.length <= size]
    if size != index.size or len(there) < len(index):
        error = DataError(
            "a shard and its index disagree",
            where=tar,
            got=f"{size} bytes",
            expected=f"{index.size} bytes",
            hint="pack again; or, if the shard is right, remove its index: it is then scanned",
        )
        found.note_damage(error, on_damage, f"{len(there)} of {len(index)} images are in it")
    # Where an image came from says more than its key.
    found.images += [
        FoundImage(image.path, number, image.offset, image.length, image.label) for image in there
    ]


def _head_names(record: PackedSet | None) -> tuple[str, ...]:
    """The names of several label columns, or of one with several labels an image; else none."""
    if record is None or (len(record.heads) == 1 and record.heads[0]["kind"] == "single"):
        return ()
    return tuple(head["name"] for head in record.heads)


def _heads(found: list[Any], record: PackedSet | None, path: Path) -> tuple[LabelColumn, ...]:
    """The label columns. Raises DataError for a value that `dataset.json` has no class for."""
    if record is None:
        if any(isinstance(label, list) for label in found):
            raise DataError("several label columns need their names", where=path,
                            expected=f"{DATASET_FILE} beside the shards")  # fmt: skip
        texts = [None if _is_missing(label) else str(label) for label in found]
        known = [text for text in texts if text is not None]
        numeric = bool(known) and all(map(is_number, known))
        return (LabelColumn.of_labels(texts, numeric=numeric),)
    rows = found if _head_names(record) else [[label] for label in found]
    return tuple(
        _head(record.heads[place], [None if row is None else row[place] for row in rows], path)
        for place in range(len(record.heads))
    )


def _head(head: dict[str, Any], values: list[Any], path: Path) -> LabelColumn:
    name, classes = head["name"], tuple(head["classes"])
    if head["kind"] == "single":
        places = {text: number for number, text in enumerate(classes)}
        numbers = [_class_number(value, places, path) for value in values]
        targets = np.array(numbers, dtype=np.int64)
        return LabelColumn(name=name, classes=classes, targets=targets, ordered=True)
    rows = np.full((len(values), len(classes)), np.nan, dtype=np.float32)
    for place, row in enumerate(values):
        if row is None:
            continue
        if not isinstance(row, list) or len(row) != len(classes):
            raise _no_class(repr(row)[:80], f"{len(classes)} numbers, one per class", path)
        rows[place] = [np.nan if value is None else float(value) for value in row]
    return LabelColumn(name=name, kind="multi", classes=classes, targets=rows, ordered=True)


def _class_number(label: Any, places: dict[str, int], path: Path) -> int:
    if _is_missing(label):
        return MISSING
    number = places.get(label) if isinstance(label, str) else label
    if not isinstance(number, int) or number >= len(places):
        raise _no_class(label, f"0 to {len(places) - 1}, or a name", path)
    return number


def _is_missing(label: Any) -> bool:
    return label is None or (isinstance(label, int) and label < 0)


def _no_class(got: Any, expected: str, path: Path) -> DataError:
    what = f"a label is not one of the classes of {DATASET_FILE}"
    return DataError(what, where=path, got=got, expected=expected)


def _split_of(tar: Path, record: PackedSet | None) -> int:
    """The split code of a shard: what `dataset.json` says, else the first part of its name."""
    if record is not None and tar.name in record.files:
        split = record.files[tar.name]
        return NO_SPLIT if split is None else SPLITS.index(split)
    match = _SHARD_NAME.match(tar.name[: -len(TAR_SUFFIX)])
    group = (match.group(1) if match else None) or ""
    for part in re.split(r"[-_.]", group.casefold()):
        if part in SPLIT_FOLDERS:
            return SPLIT_FOLDERS[part]
    return NO_SPLIT


def _layout(found: FoundImages, shards: int) -> str:
    names = [SPLITS[code] for code in sorted(set(found.splits)) if code != NO_SPLIT]
    splits = f" ({', '.join(names)})" if names else ""
    return f"{shards} tar shard{'s' if shards > 1 else ''}{splits}, {len(found.images)} images"


def _notes(found: FoundImages) -> tuple[str, ...]:
    kinds = (
        (found.unlabeled, "have no label"),
        (found.bare, "have a label, but no image, and were left out"),
        (found.several, "have several images: the first one counts"),
    )
    return (
        *found.damaged,
        *(
            f"{len(keys)} keys {what}: {', '.join(keys[:_SHOWN])}"
            + (" and more" if len(keys) > _SHOWN else "")
            for keys, what in kinds
            if keys
        ),
    )
