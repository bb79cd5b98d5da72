"""Every byte of MXNet's record files: heads, parts, padding, and the header before an image.

The layout, little-endian: magic, then 3 bits of part flag and 29 bits of length, then the part and
zeros up to a multiple of 4. Where a payload holds the magic at a multiple of 4, it is cut into
parts there and the four bytes are left out; readers put them back. See `recordio` for files.
"""

from __future__ import annotations

import mmap
import numbers
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DamagedRecords, DataError

View: TypeAlias = mmap.mmap | bytes
Payload: TypeAlias = bytes | bytearray | memoryview

MAGIC: Final = b"\x0a\x23\xd7\xce"
ALIGNMENT: Final = 4
# The length of a part has 29 bits; the format allows no longer record, however it is cut.
RECORD_LIMIT: Final = 1 << 29
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEAD: Final = struct.Struct("<4sI")
_IMAGE_HEADER: Final = struct.Struct("<IfQQ")
HEADER_SIZE: Final = _IMAGE_HEADER.size


class RecordSpan(NamedTuple):
    """Where one record lies: its first byte, its bytes on disk, and (begin, end) of each part."""

    offset: int
    length: int
    parts: tuple[tuple[int, int], ...]

    def payload(self, view: View) -> bytes:
        """The record's payload: its parts, joined by the magic that was left out."""
        return MAGIC.join(view[begin:end] for begin, end in self.parts)

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return sum(end - begin for begin, end in self.parts) + len(MAGIC) * (len(self.parts) - 1)

    def front(self, view: View, count: int) -> bytes:
        """At most `count` bytes from the payload's beginning, without reading all of it."""
        begin, end = self.parts[0]
        if len(self.parts) == 1 or end - begin >= count:
            return view[begin : min(end, begin + count)]
        return self.payload(view)[:count]


def encode_record(payload: Payload) -> bytes:
    """The bytes of one record on disk. Raises DataError for 2^29 bytes or more."""
    data = payload if isinstance(payload, bytes) else bytes(payload)
    if len(data) >= RECORD_LIMIT:
        raise DataError(
            "a record is too large for the RecordIO format",
            got=f"{len(data)} bytes",
            expected=f"fewer than {RECORD_LIMIT}",
        )
    pieces: list[bytes] = []
    begin = 0
    place = data.find(MAGIC)
    while place >= 0:
        if place % ALIGNMENT == 0:
            flag = _MIDDLE if begin else _FIRST
            pieces += (_HEAD.pack(MAGIC, flag << 29 | place - begin), data[begin:place])
            begin = place + len(MAGIC)
        place = data.find(MAGIC, place + 1)
    length = len(data) - begin
    flag = _LAST if begin else _WHOLE
    pieces += (_HEAD.pack(MAGIC, flag << 29 | length), data[begin:], bytes(-length % ALIGNMENT))
    return b"".join(pieces)


def find_span(view: View, offset: int, path: object) -> RecordSpan:
    """The record that begins at byte `offset`. Raises DamagedRecords naming `path` and byte."""
    parts: list[tuple[int, int]] = []
    place = offset
    while True:
        if place < 0 or place + _HEAD.size > len(view):
            raise _cut_short(path, offset, place + _HEAD.size, len(view))
        magic, word = _HEAD.unpack_from(view, place)
        flag, length = word >> 29, word & RECORD_LIMIT - 1
        if magic != MAGIC or place % ALIGNMENT:
            raise _broken(path, offset, f"bytes {magic.hex(' ')} at byte {place}", MAGIC.hex(" "))
        allowed = (_MIDDLE, _LAST) if parts else (_WHOLE, _FIRST)
        if flag not in allowed:
            known = " or ".join(str(value) for value in allowed)
            raise _broken(path, offset, f"part flag {flag} at byte {place}", f"part flag {known}")
        begin = place + _HEAD.size
        place = begin + length + -length % ALIGNMENT
        if place > len(view):
            raise _cut_short(path, offset, place, len(view))
        parts.append((begin, begin + length))
        if flag in (_WHOLE, _LAST):
            return RecordSpan(offset, place - offset, tuple(parts))


def _cut_short(path: object, offset: int, needed: int, size: int) -> DamagedRecords:
    got = f"{size} bytes in the file"
    return DamagedRecords(
        "the record file is cut short", path, offset, got, f"at least {needed} bytes"
    )


def _broken(path: object, offset: int, got: str, expected: str) -> DamagedRecords:
    return DamagedRecords("the record file is damaged", path, offset, got, expected)


def seek_record(view: View, position: int) -> int:
    """The offset of the first record that begins at or behind `position`, else the file's size.

    Goes forward on multiples of 4 to a magic whose part flag is 0 (whole) or 1 (first part). No
    payload can be taken for one: wherever it holds the magic at a multiple of 4, it was cut.
    """
    place = view.find(MAGIC, max(0, position))
    while 0 <= place <= len(view) - _HEAD.size:
        if place % ALIGNMENT == 0:
            flag = int.from_bytes(view[place + 4 : place + 8], "little") >> 29
            if flag in (_WHOLE, _FIRST):
                return place
        place = view.find(MAGIC, place + 1)
    return len(view)


def map_records(path: Path | str) -> View:
    """The file's bytes, mapped for reading. Raises DataError if it cannot be opened."""
    try:
        with open(path, "rb") as stream:
            if os.fstat(stream.fileno()).st_size == 0:
                return b""
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DataError(
            f"the record file cannot be opened: {error.strerror}", where=path
        ) from error


def walk_spans(view: View, path: object) -> Iterator[RecordSpan]:
    """Where each record lies, in order; no payload is read. Raises DamagedRecords."""
    place = 0
    while place < len(view):
        span = find_span(view, place, path)
        yield span
        place += span.length


class ImageHeader(NamedTuple):
    """What stands before an image in its record; MXNet's field names.

    `flag`: 0 where `label` is one number, else how many float32 labels there are. `id`, `id2`: the
    low and high 64 bits of the image's number; id is the first column of a `.lst`.
    """

    flag: int
    label: float | Sequence[float] | NDArray[np.float32]
    id: int
    id2: int


def pack_header(header: ImageHeader) -> bytes:
    """The header's bytes: 24, and 4 more per label if `label` is a sequence, even of one.

    The label decides; `flag` is not read. Raises DataError for no label or a number out of range.
    """
    labels = b""
    flag, label = 0, header.label
    if not isinstance(label, numbers.Number):
        values = np.asarray(label, dtype="<f4").ravel()
        flag, label, labels = len(values), 0.0, values.tobytes()
        if not flag:
            raise DataError("a record needs a label", got="no labels", where=f"id {header.id}")
    try:
        return _IMAGE_HEADER.pack(flag, label, header.id, header.id2) + labels
    except (struct.error, OverflowError) as error:
        raise DataError(
            f"the header of a record cannot be written: {error}",
            got=f"label {label}, id {header.id}, id2 {header.id2}",
            expected="a float32 label, and ids of 64 bits without sign",
        ) from error


def unpack_header(payload: Payload, where: object = None) -> tuple[ImageHeader, int]:
    """The header of a record's payload, and the byte at which the image begins.

    The label is a float for flag 0, else float32 [flag]. Raises DataError for a short payload.
    """
    if len(payload) < HEADER_SIZE:
        raise DataError(
            "a record holds no image header",
            where=where,
            got=f"{len(payload)} bytes",
            expected=f"at least {HEADER_SIZE}",
        )
    flag, label, low, high = _IMAGE_HEADER.unpack_from(payload)
    begin = HEADER_SIZE + 4 * flag
    if begin > len(payload):
        raise DataError(
            "a record is shorter than its labels",
            where=where,
            got=f"{len(payload)} bytes",
            expected=f"at least {begin} for {flag} labels",
        )
    if flag:
        label = np.frombuffer(payload, dtype="<f4", count=flag, offset=HEADER_SIZE)
    return ImageHeader(flag, label, low, high), begin


def read_header(view: View, span: RecordSpan, where: object = None) -> tuple[ImageHeader, int]:
    """As `unpack_header`, of a record in a file; its image is not read."""
    front = span.front(view, HEADER_SIZE)
    flag = int.from_bytes(front[:4], "little")
    if flag:
        front = span.front(view, HEADER_SIZE + 4 * flag)
    return unpack_header(front, where)


def record_number(header: ImageHeader) -> int:
    """The image's number: both of its halves as one."""
    return header.id2 << 64 | header.id
