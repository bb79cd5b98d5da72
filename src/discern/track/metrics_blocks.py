"""The bytes of `metrics.bin` and `metrics.idx`, version 1. Owns layout, checksums and scanning.

All numbers are little-endian.

`metrics.bin`: a header of 16 bytes (magic `DISCMETR`, version u32, zero u32), then blocks. A block
is series u32, count u32, attempt u32, crc32 u32, then `count` points of 24 bytes (step u64 below
2**63, time f64 in seconds since 1970 UTC, value f64). The CRC-32 is that of the first 12 bytes of
the block followed by its points.

A REWIND block has series 0xFFFFFFFF. With count 1 its one point holds (step N, time, 0.0): readers
drop what stands before it with a step above N. With count 0 they drop all that stands before it.

`metrics.idx`: a header of 16 bytes (magic `DISCMIDX`, version u32, zero u32), then 32 bytes a block
(offset u64, series u32, count u32, attempt u32, crc32 u32, check u32, zero u32). It repeats the
block headers, so it can always be made again and is believed only where it agrees with them.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import RunError

METRICS_FILE: Final = "metrics.bin"
INDEX_FILE: Final = "metrics.idx"
SERIES_FILE: Final = "series.jsonl"
VERSION: Final = 1
REWIND: Final = 0xFFFFFFFF
HEADER_BYTES: Final = 16
HEAD_BYTES: Final = 16
POINT_BYTES: Final = 24
ENTRY_BYTES: Final = 32

POINT: Final = struct.Struct("<qdd")
_HEADER: Final = struct.Struct("<8sII")
_HEAD: Final = struct.Struct("<IIII")
_ENTRY: Final = struct.Struct("<QIIIIII")
_METRICS_MAGIC: Final = b"DISCMETR"
_INDEX_MAGIC: Final = b"DISCMIDX"
# Any odd constants serve: a changed bit of one word always changes the sum modulo 2**32. A sum is
# used here, and not a CRC, because numpy checks all entries of an index at once.
_CHECK_FACTORS: Final = (2654435761, 2246822519, 3266489917, 668265263, 374761393, 2869860233)
_FACTORS: Final = np.array(_CHECK_FACTORS, dtype=np.uint32)

# One row a block: offset, series, count, attempt, crc32.
BlockTable = NDArray[np.int64]
OFFSET, SERIES, COUNT, ATTEMPT, CRC = range(5)


def metrics_header() -> bytes:
    """The 16 bytes that start `metrics.bin`."""
    return _HEADER.pack(_METRICS_MAGIC, VERSION, 0)


def index_header() -> bytes:
    """The 16 bytes that start `metrics.idx`."""
    return _HEADER.pack(_INDEX_MAGIC, VERSION, 0)


def has_metrics_header(data: bytes, *, where: object) -> bool:
    """True when `data` starts with a whole header; False when its writer died while writing it.

    Raises RunError for another kind of file or a version that this release cannot read.
    """
    expected = metrics_header()
    if len(data) < HEADER_BYTES and expected.startswith(data):
        return False
    magic, version, _ = _HEADER.unpack_from(data.ljust(HEADER_BYTES, b"\0"))
    if magic != _METRICS_MAGIC:
        raise RunError(
            "this is not a metrics file", where=where, got=magic, expected=_METRICS_MAGIC
        )
    if version != VERSION:
        raise RunError(
            f"metrics file of version {version}",
            where=where,
            got=version,
            expected=f"version {VERSION}",
            hint="read it with the release of Discern that wrote it, or a newer one",
        )
    return True


def encode_block(series: int, attempt: int, points: bytes) -> bytes:
    """One block: the head, its checksum and `points` (packed, 24 bytes each)."""
    head = struct.pack("<III", series, len(points) // POINT_BYTES, attempt)
    crc = zlib.crc32(points, zlib.crc32(head))
    return head + struct.pack("<I", crc) + points


def encode_rewind(step: int, attempt: int, time: float) -> bytes:
    """The block after which earlier points of steps above `step` do not count; -1 drops all."""
    return encode_block(REWIND, attempt, POINT.pack(step, time, 0.0) if step >= 0 else b"")


# Series, count, attempt and CRC-32 of the 16 bytes that start a block.
decode_head: Final = _HEAD.unpack


def block_is_whole(data: bytes | memoryview, start: int, head: tuple[int, int, int, int]) -> bool:
    """True when the block at `start` of `data` has this head and its checksum agrees."""
    if len(data) - start < HEAD_BYTES or _HEAD.unpack_from(data, start) != head:
        return False
    end = start + HEAD_BYTES + head[1] * POINT_BYTES
    if end > len(data):
        return False
    view = memoryview(data)
    crc = zlib.crc32(view[start : start + 12])
    return zlib.crc32(view[start + HEAD_BYTES : end], crc) == head[3]


def scan_blocks(data: bytes, base: int) -> tuple[BlockTable, int]:
    """The whole blocks of `data`, which stands at offset `base` of the file, and where they end.

    The first block that is short or fails its checksum ends the scan.
    """
    rows: list[tuple[int, int, int, int, int]] = []
    at = 0
    while len(data) - at >= HEAD_BYTES:
        head = _HEAD.unpack_from(data, at)
        series, count, attempt, crc = head
        possible = count <= 1 if series == REWIND else count >= 1
        if not possible or not block_is_whole(data, at, head):
            break
        rows.append((base + at, series, count, attempt, crc))
        at += HEAD_BYTES + count * POINT_BYTES
    return np.array(rows, dtype=np.int64).reshape(-1, 5), base + at


def table_end(table: BlockTable) -> int:
    """The offset just after the last block of `table`."""
    if not len(table):
        return HEADER_BYTES
    return int(table[-1, OFFSET] + HEAD_BYTES + table[-1, COUNT] * POINT_BYTES)


def index_entry(offset: int, block: bytes) -> bytes:
    """The index entry of an encoded `block` that stands at `offset`."""
    series, count, attempt, crc = _HEAD.unpack_from(block)
    words = (offset & 0xFFFFFFFF, offset >> 32, series, count, attempt, crc)
    check = sum(a * b for a, b in zip(words, _CHECK_FACTORS, strict=True)) & 0xFFFFFFFF
    return _ENTRY.pack(offset, series, count, attempt, crc, check, 0)


def encode_index(table: BlockTable) -> bytes:
    """The whole index file of `table`."""
    heads = (_HEAD.pack(*map(int, row[1:])) for row in table)
    entries = (index_entry(int(row[0]), head) for row, head in zip(table, heads, strict=True))
    return index_header() + b"".join(entries)


def decode_index(data: bytes, file_bytes: int) -> BlockTable:
    """The blocks that an index names, as far as it can be believed.

    Kept are the leading entries that pass their check, follow each other without a gap from the
    first byte after the header, and end within `file_bytes`. Another kind or version of index
    counts as no index.
    """
    if data[:HEADER_BYTES] != index_header():
        return np.empty((0, 5), dtype=np.int64)
    count = (len(data) - HEADER_BYTES) // ENTRY_BYTES
    words = np.frombuffer(data, "<u4", count * 8, HEADER_BYTES).reshape(-1, 8)
    # Products and sums of 32-bit words wrap modulo 2**32, as the check does.
    sums = (words[:, :6] * _FACTORS).sum(axis=1, dtype=np.uint32)
    table = np.empty((count, 5), dtype=np.int64)
    table[:, OFFSET] = np.frombuffer(data, "<i8", count * 4, HEADER_BYTES)[::4]
    table[:, 1:] = words[:, 2:6]
    ends = table[:, OFFSET] + HEAD_BYTES + table[:, COUNT] * POINT_BYTES
    starts = np.empty(count, dtype=np.int64)
    starts[:1] = HEADER_BYTES
    starts[1:] = ends[:-1]
    good = (sums == words[:, 6]) & (table[:, OFFSET] == starts) & (ends <= file_bytes)
    believed = count if good.all() else int(np.argmin(good))
    return table[:believed]
