"""Where packed images go: tar shards, records, or class folders; each in parts that survive a kill.

Owns the three sinks. A sink takes the images of one group in order and finishes parts: what a part
holds is on the disk for good, and a later process goes on behind it. Nothing is visible under its
final name before it is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple, Protocol, Self

from discern.base.errors import DataError
from discern.base.files import atomic_file, hash_file, sync_folder
from discern.data.manifest import Head
from discern.data.pack_encode import Packed
from discern.data.pack_plan import Group
from discern.data.record_files import ListRow, format_list, write_index, write_list
from discern.data.record_format import ImageHeader, pack_header
from discern.data.recordio import RecordWriter
from discern.data.shard_index import (
    IndexedImage,
    ShardIndex,
    index_path,
    read_index_file,
    write_index_file,
)
from discern.data.tar_shards import TAR_SUFFIX, ShardWriter

# A tar member takes a header and its last block filled up; a label file one more of each.
_MEMBER_BYTES: Final = 4 * 512


class Sample(NamedTuple):
    """One image on its way into a file: its row, where it came from, its labels, its bytes."""

    row: int
    id: str
    path: str
    label: Any
    vector: tuple[float, ...]
    packed: Packed


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is finished: `file` of `group`, from `consumed` of its images, `images` of them sound.

    `size` in bytes; `sha256` of the file, empty where it is not whole yet.
    """

    group: str
    file: str
    consumed: int
    images: int
    size: int
    sha256: str = ""

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


class Sink(Protocol):
    """The files of one group."""

    @property
    def images(self) -> int:
        """Images in the current part."""

    @property
    def size(self) -> int:
        """Bytes in the current part."""

    def add(self, sample: Sample) -> None:
        """Append an image to the current part."""

    def finish_part(self, consumed: int) -> Part:
        """Make the current part durable. `consumed`: images taken for it, bad ones among them."""

    def close(self) -> list[str]:
        """Finish the group; gives the names of its files. Doing it again changes nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drop the current part."""


def append_entry(index: ShardIndex, sample: Sample, key: str, offset: int, length: int) -> None:
    """Note in `index` where an image lies."""
    index.images.append(
        IndexedImage(
            sample.id, key, sample.path, offset, length, sample.packed.digest, sample.label
        )
    )


def join_indexes(stretches: Sequence[Path]) -> ShardIndex:
    """The indexes of all parts in a row. Raises DataError if one is not there."""
    whole = ShardIndex()
    for path in stretches:
        index = read_index_file(path)
        if index is None:
            raise lost_part(index_path(path))
        whole.images += index.images
    return whole


class OpenParts:
    """Leaving a sink closes what is open; with an exception, an unfinished file vanishes."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)


class ShardSink(OpenParts):
    """`train-00000.tar` and on, each with its index; every part is a shard."""

    def __init__(self, folder: Path, group: Group, heads: Sequence[Head], done: list[Part]) -> None:
        super().__init__()
        self._folder = folder
        self._name = group.name
        # One class an image is what `.cls` says; all else needs names.
        self._names = [head.name for head in heads]
        self._plain = len(heads) == 1 and heads[0].kind == "single"
        self._done = list(done)
        self._writer: ShardWriter | None = None
        self._index = ShardIndex()

    @property
    def images(self) -> int:
        """Images in the current shard."""
        return len(self._index)

    @property
    def size(self) -> int:
        """Bytes in the current shard."""
        return 0 if self._writer is None else self._writer.size + _MEMBER_BYTES

    def add(self, sample: Sample) -> None:
        """Append an image and its label file. Raises DataError for one over 8 GiB."""
        if self._writer is None:
            self._writer = ShardWriter(self._open.enter_context(atomic_file(self._path())))
        key = f"{sample.row:09d}"
        data = sample.packed.data
        labels = self._label_files(sample.label)
        offset = self._writer.add(key, sample.packed.suffix, data, labels)
        append_entry(self._index, sample, key, offset, len(data))

    def finish_part(self, consumed: int) -> Part:
        """Close the shard, put it in place, write its index."""
        path, index = self._path(), self._index
        if self._writer is None:  # nothing but bad images
            part = Part(group=self._name, file="", consumed=consumed, images=0, size=0)
        else:
            index.sha256, index.size = self._writer.close(), self._writer.size
            self._open.close()
            write_index_file(path, index)
            part = Part(
                group=self._name,
                file=path.name,
                consumed=consumed,
                images=len(index),
                size=index.size,
                sha256=index.sha256,
            )
        self._done.append(part)
        self._writer, self._index = None, ShardIndex()
        return part

    def close(self) -> list[str]:
        """Nothing is left to do: every part is a file."""
        return [part.file for part in self._done if part.file]

    def _path(self) -> Path:
        number = sum(1 for part in self._done if part.file)
        return self._folder / f"{self._name}-{number:05d}{TAR_SUFFIX}"

    def _label_files(self, label: Any) -> list[tuple[str, bytes]]:
        if self._plain:
            return [] if label is None else [(".cls", str(label).encode())]
        pairs = dict(zip(self._names, label, strict=True))
        return [(".json", _json(pairs))]


class RecordSink(OpenParts):
    """`data.rec` with `.idx`, `.lst` and our index; a part is a stretch of the one file.

    Until it is whole it is called `.data.rec.part`; each part leaves the index of its stretch.
    """

    def __init__(
        self, folder: Path, group: Group, done: list[Part], rows: Mapping[int, ListRow]
    ) -> None:
        """`rows`: what the list says of each row of the manifest; its ids are the records'."""
        super().__init__()
        self._folder = folder
        self._name = group.name
        self._final = folder / f"{group.name}.rec"
        self._growing = folder / f".{group.name}.rec.part"
        self._ids = {row: listed.id for row, listed in rows.items()}
        self._rows = {listed.id: listed for listed in rows.values()}
        format_list(
            rows.values(), self._final
        )  # a name that no list can hold is told before all work
        self._done = list(done)
        self._offset = done[-1].size if done else 0
        self._stream: BinaryIO | None = None
        self._writer: RecordWriter | None = None
        self._index = ShardIndex()

    @property
    def images(self) -> int:
        """Records in the current part."""
        return len(self._index)

    @property
    def size(self) -> int:
        """Bytes in the current part."""
        return 0 if self._writer is None else self._writer.tell() - self._offset

    def add(self, sample: Sample) -> None:
        """Append a record. Raises DataError for one of 2^29 bytes or more."""
        if self._writer is None:
            self._writer = RecordWriter(self._open_stream())
        vector = sample.vector
        label = vector if len(vector) > 1 else vector[0]
        number = self._ids[sample.row]
        header = pack_header(ImageHeader(0, label, number, 0))
        offset = self._writer.write(header + sample.packed.data)
        length = self._writer.tell() - offset
        append_entry(self._index, sample, str(number), offset, length)

    def finish_part(self, consumed: int) -> Part:
        """Make the records so far durable, and write the index of this stretch."""
        index = self._index
        if self._stream is not None and self._writer is not None:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._offset = self._writer.tell()
        index.size = self._offset
        write_index_file(self._stretch(len(self._done)), index)
        part = Part(
            group=self._name,
            file=self._final.name,
            consumed=consumed,
            images=len(index),
            size=self._offset,
        )
        self._done.append(part)
        self._index = ShardIndex()
        return part

    def close(self) -> list[str]:
        """Write `.idx`, `.lst` and the index, then give the file its name."""
        self._open.close()
        names = [self._final.name] if any(part.images for part in self._done) else []
        # Renamed last: once it has its name the group was closed, and its stretches may be gone.
        if names and not self._final.exists():
            stretches = [self._stretch(number) for number in range(len(self._done))]
            index = join_indexes(stretches)
            index.sha256, index.size = hash_file(self._growing), self._offset
            keys = [int(image.key) for image in index.images]
            offsets = [image.offset for image in index.images]
            write_index(self._final.with_suffix(".idx"), zip(keys, offsets, strict=True))
            write_list(self._final.with_suffix(".lst"), [self._rows[key] for key in keys])
            write_index_file(self._final, index)
            os.replace(self._growing, self._final)
            sync_folder(self._folder)
        self._sweep()
        return names

    def _sweep(self) -> None:
        for number in range(len(self._done)):
            index_path(self._stretch(number)).unlink(missing_ok=True)

    def _open_stream(self) -> BinaryIO:
        """The growing file, cut to what was finished."""
        if not self._offset:
            stream: BinaryIO = open(self._growing, "wb")  # noqa: SIM115 - closed with the sink
        elif not self._growing.exists() or self._growing.stat().st_size < self._offset:
            raise lost_part(self._growing)
        else:
            stream = open(self._growing, "r+b")  # noqa: SIM115 - closed with the sink
            stream.truncate(self._offset)
            stream.seek(self._offset)
        self._stream = stream
        self._open.enter_context(stream)
        return stream

    def _stretch(self, number: int) -> Path:
        return self._folder / f".{self._name}.rec.{number:05d}"


def lost_part(path: Path) -> DataError:
    """The error for a file that an unfinished pack needs."""
    return DataError(
        "a part of the unfinished pack is not there any more",
        where=path,
        hint="remove the folder, or what is in it, and pack again from the start",
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
