"""Writing a run's metrics: a call costs well under a microsecond, a killed process loses <= 1 s.

Owns the writer of `metrics.bin`, `metrics.idx` and `series.jsonl`. The bytes are those of
`metrics_blocks`, the readers are in `metrics_read` and are re-exported here.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import threading
from pathlib import Path
from time import time as now
from types import TracebackType
from typing import Final, Self

from discern.base.errors import RunError
from discern.base.files import sync_folder
from discern.track import metrics_blocks as blocks
from discern.track.metrics_read import (
    MetricsCheck,
    Series,
    check_metrics,
    list_series,
    name_line,
    read_all,
    read_names,
    read_series,
    scan_blocks_of,
)
from discern.track.metrics_series import POINTS_A_FLUSH, ClosedPoints, SeriesLog, closed_error
from discern.track.run_lock import call_in_forked_child

__all__ = [
    "MetricsCheck",
    "MetricsLog",
    "Series",
    "SeriesLog",
    "check_metrics",
    "list_series",
    "read_all",
    "read_series",
]

# A point is to be in the file within 1 s, on a busy machine too: the thread wakes a bit earlier.
_WAKE_S: Final = 0.8
# While the disk is full, points wait in memory: at about 60 bytes each this bounds them to 60 MB.
MAX_WAITING: Final = 1_000_000


# Blocks are put together up to about this size, then written at once: a run of 100,000 names with a
# point each would else need 300,000 system calls a second.
_WRITE_BYTES: Final = 1 << 18
_pack: Final = blocks.POINT.pack


class MetricsLog:
    """The one writer of the metrics in `folder`; `add` may be called from any thread.

    Opening cuts a torn last block (its bytes go to `metrics.bin.cut-<attempt>`) and, with
    `start_step`, writes a rewind to that step. Points reach the file after 512 of a series, within
    1 s, and at `flush`. When a write fails (disk full) the points wait in memory and are tried
    again; `failure` tells of it, and `flush`, `rewind`, `close` and, once a million wait, `add`
    raise RunError; with `drops_when_full`, `add` drops and counts the newest points instead.
    `within_s`: for figures that may wait longer, which makes fewer and larger blocks of them.
    Raises RunError when another writer has the file open.
    """

    def __init__(
        self,
        folder: Path,
        attempt: int,
        start_step: int | None = None,
        *,
        within_s: float = _WAKE_S,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._within_s = within_s
        self.folder = folder
        self._attempt = attempt
        self._series: dict[str, SeriesLog] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._failure: OSError | None = None
        self._index_whole = True
        self._closed = False
        self.cut_bytes = 0
        self.drops_when_full = False
        self._lost = 0
        self._handles: list[int] = []
        try:
            self._metrics, self._index, self._names = (
                self._open(name)
                for name in (blocks.METRICS_FILE, blocks.INDEX_FILE, blocks.SERIES_FILE)
            )
            self._end = self._recover()
            self._index_end = os.fstat(self._index).st_size
            self._names_end = self._load_names()
        except BaseException:
            self._close_handles()
            raise
        call_in_forked_child(self._forget_in_child)
        if start_step is not None:
            self.rewind(start_step)
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def failure(self) -> str | None:
        """Why points wait in memory or are lost; None when all is well."""
        lost = f"{self._lost} points lost: the disk was full for too long" if self._lost else None
        return (
            lost if self._failure is None else "; ".join(filter(None, (str(self._failure), lost)))
        )

    def add(self, name: str, step: int, value: float, time: float | None = None) -> None:
        """Log `value` of the series `name` at `step` (0 .. 2**63 - 1); `time` is now by default.

        `value` may be any number with `__float__`, not finite ones included; `time` in seconds
        since 1970 UTC. Raises RunError for a step or value that cannot be stored.
        """
        series = self.series(name)
        series.add(step, value, now() if time is None else time)

    def series(self, name: str) -> SeriesLog:
        """The series `name`, begun if it is new, for many points without looking it up."""
        try:
            return self._series[name]
        except (KeyError, TypeError):
            return self._start_series(name)

    def flush(self, *, sync: bool = False) -> None:
        """Bring all points into the file; with `sync` onto the disk itself, as checkpoints do.

        Raises RunError when the disk takes them not; they stay in memory and are tried again.
        """
        with self._lock:
            self._check_open()
            self._write_waiting()
            if self._failure is None and sync:
                try:
                    os.fsync(self._names)
                    os.fsync(self._metrics)
                except OSError as error:
                    self._failure = error
            if self._failure is not None:
                raise self._failed()

    def rewind(self, step: int) -> None:
        """From here on, points logged so far at steps above `step` do not count; -1 drops all."""
        with self._lock:
            self.flush()
            try:
                self._append([blocks.encode_rewind(step, self._attempt, now())])
            except OSError as error:
                self._failure = error
                raise self._failed() from error

    def close(self) -> None:
        """Flush and close; a second call does nothing. Raises RunError as `flush` does."""
        self._stop.set()
        self._thread.join()
        atexit.unregister(self.close)
        with self._lock:
            if self._closed:
                return
            try:
                self.flush()
            finally:
                self._closed = True
                self._refuse_points()
                self._close_handles()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        while not self._stop.wait(self._within_s):
            with self._lock:
                self._write_waiting()

    def _start_series(self, name: object) -> SeriesLog:
        if not isinstance(name, str) or not name:
            raise RunError("a series needs a name", where=self.folder, got=repr(name))
        with self._lock:
            self._check_open()
            if name not in self._series:
                self._series[name] = self._new_series(self._first_free, name)
                self._first_free += 1
            return self._series[name]

    def _new_series(self, number: int, name: str) -> SeriesLog:
        return SeriesLog(self.folder, number, name, self._flush_full)

    def _flush_full(self, series: SeriesLog) -> None:
        with self._lock:
            self._check_open()
            if self._failure is None:
                self._write_some([series])
            # After a failure only the thread tries again: a full disk must not slow each step.
            elif self._waiting() >= MAX_WAITING:
                if not self.drops_when_full:
                    raise self._failed()
                del series.points[-POINTS_A_FLUSH:]
                self._lost += POINTS_A_FLUSH

    def _write_waiting(self) -> None:
        """Write all waiting points; a failure is kept in `_failure`, success clears it."""
        self._failure = None
        batch: list[SeriesLog] = []
        size = 0
        for series in list(self._series.values()):
            if not series.points:
                continue
            batch.append(series)
            size += blocks.HEAD_BYTES + blocks.POINT_BYTES * len(series.points)
            if size >= _WRITE_BYTES:
                if not self._write_some(batch):
                    return
                batch, size = [], 0
        if batch:
            self._write_some(batch)

    def _write_some(self, batch: list[SeriesLog]) -> bool:
        """Write a block for each series of `batch`, the names first; False if the disk refuses."""
        # Other threads may append meanwhile: only what was counted here is written and removed.
        counts = [len(series.points) for series in batch]
        fresh = [series for series in batch if not series.named]
        try:
            if fresh:
                lines = b"".join(name_line(series.number, series.name) for series in fresh)
                _write_at(self._names, lines, self._names_end)
                self._names_end += len(lines)
                for series in fresh:
                    series.named = True
            self._append(
                [
                    blocks.encode_block(
                        series.number, self._attempt, b"".join(series.points[:count])
                    )
                    for series, count in zip(batch, counts, strict=True)
                    if count
                ]
            )
        except OSError as error:
            self._failure = error
            return False
        for series, count in zip(batch, counts, strict=True):
            del series.points[:count]
        return True

    def _append(self, encoded: list[bytes]) -> None:
        # A short write leaves the end where it was: the next write goes over the torn bytes.
        _write_at(self._metrics, b"".join(encoded), self._end)
        entries = []
        for block in encoded:
            entries.append(blocks.index_entry(self._end, block))
            self._end += len(block)
        if self._index_whole:
            data = b"".join(entries)
            try:
                _write_at(self._index, data, self._index_end)
                self._index_end += len(data)
            except OSError:
                # The index only saves time and must have no gap: readers scan from its end on,
                # and the next writer makes it again.
                self._index_whole = False

    def _open(self, name: str) -> int:
        path = self.folder / name
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._handles.append(handle)
        if name == blocks.METRICS_FILE:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError("another writer has these metrics open", where=path) from None
        return handle

    def _recover(self) -> int:
        """Cut what a killed writer left half done, make the index anew; gives the file's end."""
        path = self.folder / blocks.METRICS_FILE
        header = blocks.metrics_header()
        if not blocks.has_metrics_header(os.pread(self._metrics, len(header), 0), where=path):
            _write_at(self._metrics, header, 0)
            sync_folder(self.folder)
        size = os.fstat(self._metrics).st_size
        table, end = scan_blocks_of(self._metrics, blocks.HEADER_BYTES, size)
        if end < size:
            # Damage in the middle looks like a torn end. What stands behind it is kept, so that
            # nothing already saved is lost.
            self.cut_bytes = size - end
            cut = path.with_name(f"{path.name}.cut-{self._attempt}")
            cut.write_bytes(os.pread(self._metrics, size - end, end))
            os.ftruncate(self._metrics, end)
        self._first_free = 1 + max(
            (int(n) for n in table[:, blocks.SERIES] if n != blocks.REWIND), default=-1
        )
        index = blocks.encode_index(table)
        if os.pread(self._index, len(index) + 1, 0) != index:
            os.ftruncate(self._index, 0)
            _write_at(self._index, index, 0)
        return end

    def _load_names(self) -> int:
        for number, name in read_names(self.folder).items():
            self._series[name] = series = self._new_series(number, name)
            series.named = True
            self._first_free = max(self._first_free, number + 1)
        size = os.fstat(self._names).st_size
        if size and os.pread(self._names, 1, size - 1) != b"\n":
            data = os.pread(self._names, size, 0)
            size = data.rfind(b"\n") + 1
            os.ftruncate(self._names, size)
        return size

    def _waiting(self) -> int:
        return sum(len(series.points) for series in self._series.values())

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self.folder)

    def _failed(self) -> RunError:
        return RunError(
            f"metrics cannot be written: {self._failure}",
            where=self.folder / blocks.METRICS_FILE,
            got=f"{self._waiting()} points wait in memory",
            hint="free some disk space; what the file already holds is whole",
        )

    def _forget_in_child(self) -> None:
        """In a forked child: this file belongs to the parent; its waiting points too."""
        self._closed = True
        self._lock = threading.RLock()
        self._refuse_points()
        self._close_handles()

    def _refuse_points(self) -> None:
        """From now on `add` of each series says that the log is closed."""
        for series in self._series.values():
            series.points = ClosedPoints(self.folder)

    def _close_handles(self) -> None:
        while self._handles:
            os.close(self._handles.pop())


def _write_at(handle: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`; raises OSError when the disk takes only a part."""
    written = 0
    while written < len(data):
        written += os.pwrite(handle, memoryview(data)[written:], offset + written)
