"""Reading a run's metrics, also while another process writes them. Owns what a point counts as.

Files are read with plain reads, never mapped: the next writer may cut a torn tail, and touching a
mapped page beyond the end of a file kills the reader. Every block that is used has passed its
checksum.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import RunError
from discern.base.names import did_you_mean
from discern.track import metrics_blocks as blocks

_READ_TRIES = 4
# Blocks are read in spans of about this size: larger buffers come fresh from the system each time
# and touching their pages costs more than the read (measured on glibc, 100 runs of 10,000 points:
# 18 ms at 48 KiB, 32 ms at 96 KiB, 35 ms at 256 KiB).
_SPAN_BYTES = 48 * 1024
# Above this number of series all blocks are read; picking rows series by series would cost more.
_FEW_SERIES = 8


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one series in the order written: three arrays of one length.

    `steps` int64, `times` float64 (seconds since 1970 UTC), `values` float64 (may be not finite).
    """

    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True)
class MetricsCheck:
    """What a full read of `metrics.bin` finds: `read_bytes` < `file_bytes` tells of damage."""

    blocks: int
    points: int
    read_bytes: int
    file_bytes: int


def name_line(series: int, name: str) -> bytes:
    """The line of `series.jsonl` for a series: number, name, CRC-32 of the name."""
    line = {"series": series, "name": name, "crc32": _name_crc(name)}
    return json.dumps(line, ensure_ascii=True).encode() + b"\n"


def read_names(folder: Path) -> dict[int, str]:
    """Series number to name; a line that is torn or fails its check is left out."""
    try:
        data = (folder / blocks.SERIES_FILE).read_bytes()
    except FileNotFoundError:
        return {}
    names: dict[int, str] = {}
    for line in data.split(b"\n")[:-1]:
        found = _parse_name(line)
        if found is not None:
            names[found[0]] = found[1]
    return names


def list_series(folder: Path) -> list[str]:
    """The names of all series that have a block in the file, in the order first written."""
    with _open_metrics(folder) as handle:
        if handle is None:
            return []
        numbers = dict.fromkeys(_block_table(handle, folder)[:, blocks.SERIES].tolist())
    names = read_names(folder)
    return [_name_of(number, names) for number in numbers if number != blocks.REWIND]


def read_series(folder: Path, name: str) -> Series:
    """The points of the series `name`; only its own blocks are read when the index is there.

    Raises RunError when the file has no such series, naming the nearest.
    """
    with _open_metrics(folder) as handle:
        if handle is not None:
            # The file's table is taken before the names: a name is on disk before its first block.
            table = _block_table(handle, folder, hops=True)
            number = _number_of(name, folder)
            if number is not None and (table[:, blocks.SERIES] == number).any():
                return _collect(handle, table, [number])[number]
            if number is not None:
                return _empty_series()
    known = list_series(folder)
    raise RunError(
        f"no series '{name}'",
        where=folder / blocks.METRICS_FILE,
        got=name,
        expected=", ".join(known[:20]) or "the run has logged nothing yet",
        hint=did_you_mean(name, known),
    )


def read_all(folder: Path) -> dict[str, Series]:
    """All series of the run by name, in the order first written."""
    with _open_metrics(folder) as handle:
        if handle is None:
            return {}
        table = _block_table(handle, folder)
        numbers = [n for n in dict.fromkeys(table[:, blocks.SERIES].tolist()) if n != blocks.REWIND]
        found = _collect(handle, table, numbers)
    names = read_names(folder)
    return {_name_of(number, names): series for number, series in found.items()}


def check_metrics(folder: Path) -> MetricsCheck:
    """Read every block and compare every checksum, without the index."""
    with _open_metrics(folder) as handle:
        if handle is None:
            return MetricsCheck(0, 0, 0, 0)
        size = os.fstat(handle).st_size
        table, end = scan_blocks_of(handle, blocks.HEADER_BYTES, size)
    points = int(table[table[:, blocks.SERIES] != blocks.REWIND, blocks.COUNT].sum())
    return MetricsCheck(len(table), points, end, size)


def scan_blocks_of(handle: int, start: int, end: int) -> tuple[blocks.BlockTable, int]:
    """`scan_blocks` of the bytes [start, end) of the open file `handle`."""
    return blocks.scan_blocks(_read_span(handle, start, end), start)


def _parse_name(line: bytes) -> tuple[int, str] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    number, name = record.get("series"), record.get("name")
    if isinstance(number, int) and isinstance(name, str) and record.get("crc32") == _name_crc(name):
        return number, name
    return None


def _name_crc(name: str) -> int:
    # Lone surrogates may come from file names; they have no UTF-8 form of their own.
    return zlib.crc32(name.encode("utf-8", "surrogatepass"))


def _name_of(number: int, names: dict[int, str]) -> str:
    """The name of a series; one whose line was lost keeps its points under its number."""
    return names.get(number, f"unnamed series {number}")


def _number_of(name: str, folder: Path) -> int | None:
    """The number of the series `name`; only the lines that hold the name are parsed."""
    data = _read_file(folder, blocks.SERIES_FILE)
    if data is not None:
        wanted = json.dumps(name, ensure_ascii=True).encode()
        at = data.find(wanted)
        while at >= 0:
            end = data.find(b"\n", at)
            found = _parse_name(data[data.rfind(b"\n", 0, at) + 1 : end]) if end >= 0 else None
            if found is not None and found[1] == name:
                return found[0]
            at = data.find(wanted, at + 1)
    prefix, _, digits = name.rpartition(" ")
    return int(digits) if prefix == "unnamed series" and digits.isdecimal() else None


@contextlib.contextmanager
def _open_metrics(folder: Path) -> Iterator[int | None]:
    """A descriptor of `metrics.bin`; None when it is missing or holds no whole header."""
    path = folder / blocks.METRICS_FILE
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        whole = blocks.has_metrics_header(os.pread(handle, blocks.HEADER_BYTES, 0), where=path)
        yield handle if whole else None
    finally:
        os.close(handle)


def _read_file(folder: Path, name: str) -> bytes | None:
    """The whole of a small file; None if it is not there. Half the cost of `Path.read_bytes`."""
    try:
        handle = os.open(f"{folder}/{name}", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return _read_span(handle, 0, os.fstat(handle).st_size)
    finally:
        os.close(handle)


def _read_span(handle: int, start: int, end: int) -> bytes:
    """The bytes [start, end) of the file, or fewer where the file ends."""
    parts = []
    while start < end and (part := os.pread(handle, end - start, start)):
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _block_table(handle: int, folder: Path, *, hops: bool = False) -> blocks.BlockTable:
    """All blocks: those that the index names, then those after them in the file.

    `hops`: of the latter only the heads are read, from one to the next, and the last whole block is
    checked. That serves who then checks each block he uses, as `_collect` does: it goes by the
    whole file if a head led astray.
    """
    size = os.fstat(handle).st_size
    index = _read_file(folder, blocks.INDEX_FILE) or b""
    table = blocks.decode_index(index, size)
    end = blocks.table_end(table)
    if end >= size:
        return table
    tail = _hop_blocks(handle, end, size) if hops else scan_blocks_of(handle, end, size)[0]
    return np.concatenate([table, tail]) if len(tail) else table


def _hop_blocks(handle: int, start: int, end: int) -> blocks.BlockTable:
    """The blocks from `start` on, by their heads alone, without a last one that is not whole."""
    rows: list[tuple[int, int, int, int, int]] = []
    pread, decode_head = os.pread, blocks.decode_head
    while start + blocks.HEAD_BYTES <= end:
        head = pread(handle, blocks.HEAD_BYTES, start)
        if len(head) < blocks.HEAD_BYTES:
            break
        series, count, attempt, crc = decode_head(head)
        after = start + blocks.HEAD_BYTES + count * blocks.POINT_BYTES
        if after > end or not (count <= 1 if series == blocks.REWIND else count >= 1):
            break
        rows.append((start, series, count, attempt, crc))
        start = after
    if rows and not len(scan_blocks_of(handle, rows[-1][0], start)[0]):
        rows.pop()
    return np.array(rows, dtype=np.int64).reshape(-1, 5)


def _collect(handle: int, table: blocks.BlockTable, numbers: list[int]) -> dict[int, Series]:
    for _ in range(_READ_TRIES):
        try:
            return _read_blocks(handle, table, numbers)
        except _StaleIndexError:
            # The index does not describe this file, a block is damaged, or a writer has just cut
            # a torn tail: go by the file alone, as it is now.
            table, _ = scan_blocks_of(handle, blocks.HEADER_BYTES, os.fstat(handle).st_size)
    raise RunError(
        "the metrics change while they are read",
        hint="only the process that holds the run's lock may write its metrics",
    )


class _StaleIndexError(Exception):
    """A block is not what the table says."""


class _Columns:
    """The growing columns of one series, allocated once for all points that its blocks hold."""

    __slots__ = ("count", "known", "rising", "steps", "times", "values")

    def __init__(self, most: int) -> None:
        self.count = 0
        self.known, self.rising = 0, True  # whether the first `known` steps never fall
        self.steps = np.empty(most, np.int64)
        self.times = np.empty(most, np.float64)
        self.values = np.empty(most, np.float64)

    def extend(self, integers: NDArray[np.int64], floats: NDArray[np.float64]) -> None:
        """Take over flat triples (step, time, value), seen as integers and as floats."""
        end = self.count + len(integers) // 3
        self.steps[self.count : end] = integers[0::3]
        self.times[self.count : end] = floats[1::3]
        self.values[self.count : end] = floats[2::3]
        self.count = end

    def rewind(self, step: int) -> None:
        """Drop the points of later steps; looks at each point once, however often it rewinds."""
        if self.rising:
            fresh = self.steps[max(self.known - 1, 0) : self.count]
            self.rising = bool((fresh[1:] >= fresh[:-1]).all())
        if self.rising:
            self.count = int(self.steps[: self.count].searchsorted(step, side="right"))
            self.known = self.count
            return
        kept = np.flatnonzero(self.steps[: self.count] <= step)
        if len(kept) < self.count:
            for column in (self.steps, self.times, self.values):
                column[: len(kept)] = column[kept]
            self.count = len(kept)

    def series(self) -> Series:
        if self.count == len(self.steps):
            return Series(self.steps, self.times, self.values)
        n = self.count
        return Series(self.steps[:n].copy(), self.times[:n].copy(), self.values[:n].copy())


def _read_one(handle: int, table: blocks.BlockTable, number: int) -> Series:
    """One series: its blocks one by one into the same small buffer, and from there to its columns.

    They seldom stand side by side. The buffer stays in the processor's cache, and a block costs a
    read, a checksum and three copies: a third less than `_read_blocks` takes for it.
    """
    kinds = table[:, blocks.SERIES]
    rows = table[(kinds == number) | (kinds == blocks.REWIND)]
    column = _Columns(int(table[kinds == number, blocks.COUNT].sum()))
    most = int(rows[:, blocks.COUNT].max(initial=0))
    buffer = bytearray(blocks.HEAD_BYTES + most * blocks.POINT_BYTES)
    view = memoryview(buffer)
    integers, floats = np.frombuffer(buffer, "<i8"), np.frombuffer(buffer, "<f8")
    first = blocks.HEAD_BYTES // 8
    for offset, series, count, attempt, crc in rows.tolist():
        size = blocks.HEAD_BYTES + count * blocks.POINT_BYTES
        block = view[:size]
        if os.preadv(handle, [block], offset) != size:
            raise _StaleIndexError
        if not blocks.block_is_whole(block, 0, (series, count, attempt, crc)):
            raise _StaleIndexError
        if series == blocks.REWIND:
            column.rewind(int(integers[first]) if count else -1)
        else:
            last = first + 3 * count
            column.extend(integers[first:last], floats[first:last])
    return column.series()


def _read_blocks(handle: int, table: blocks.BlockTable, numbers: list[int]) -> dict[int, Series]:
    if len(numbers) == 1:
        return {numbers[0]: _read_one(handle, table, numbers[0])}
    kinds = table[:, blocks.SERIES]
    if len(numbers) < _FEW_SERIES:
        points = {n: int(table[kinds == n, blocks.COUNT].sum()) for n in numbers}
    else:
        # Series by series this would look at all blocks for each of, say, 100,000 names.
        different, places = np.unique(kinds, return_inverse=True)
        totals = np.bincount(places, weights=table[:, blocks.COUNT]).astype(np.int64).tolist()
        points = dict(zip(different.tolist(), totals, strict=True))
    columns = {n: _Columns(points.get(n, 0)) for n in numbers}
    if len(numbers) < _FEW_SERIES:
        wanted = kinds == blocks.REWIND
        for number in numbers:
            wanted |= kinds == number
        table = table[wanted]
    for span in _spans(table):
        start = span[0][0]
        end = span[-1][0] + blocks.HEAD_BYTES + span[-1][2] * blocks.POINT_BYTES
        data = _read_span(handle, start, end)
        if len(data) != end - start:
            raise _StaleIndexError
        integers, floats = np.frombuffer(data, "<i8"), np.frombuffer(data, "<f8")
        for offset, series, count, attempt, crc in span:
            at = offset - start
            if not blocks.block_is_whole(data, at, (series, count, attempt, crc)):
                raise _StaleIndexError
            first = (at + blocks.HEAD_BYTES) // 8
            if series != blocks.REWIND:
                last = first + 3 * count
                # A series that began while the file was read is not asked for.
                if series in columns:
                    columns[series].extend(integers[first:last], floats[first:last])
                continue
            for column in columns.values():
                column.rewind(int(integers[first]) if count else -1)
    return {number: column.series() for number, column in columns.items()}


def _spans(rows: blocks.BlockTable) -> Iterator[list[tuple[int, int, int, int, int]]]:
    """Blocks that stand side by side, to be read at once: at least one, else up to a bound."""
    span: list[tuple[int, int, int, int, int]] = []
    end = start = 0
    for offset, series, count, attempt, crc in rows.tolist():
        if span and (offset != end or offset - start >= _SPAN_BYTES):
            yield span
            span = []
        if not span:
            start = offset
        span.append((offset, series, count, attempt, crc))
        end = offset + blocks.HEAD_BYTES + count * blocks.POINT_BYTES
    if span:
        yield span


def _empty_series() -> Series:
    return Series(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.float64))
