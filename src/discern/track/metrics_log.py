"""Writing a run's metrics: a call costs well under a microsecond, a killed process loses <= 1 s.

Owns the writer of `metrics.bin`, `metrics.idx` and `series.jsonl`. The bytes are those of
`metrics_blocks`, the readers are in `metrics_read` and are re-exported here.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import struct
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
from discern.track.run_lock import call_in_forked_child

__all__ = [
    "MetricsCheck",
    "MetricsLog",
    "Series",
    "check_metrics",
    "list_series",
    "read_all",
    "read_series",
]

# DESIGN section 4: a series is flushed after 512 points or 1 s. The thread wakes a little earlier
# than each second, so that a point is in the file within 1 s also on a busy machine.
POINTS_A_FLUSH: Final = 512
_WAKE_S: Final = 0.8
# While the disk is full, points wait in memory: at about 60 bytes each this bounds them to 60 MB.
MAX_WAITING: Final = 1_000_000
_pack: Final = blocks.POINT.pack


class _SeriesBuffer:
    __slots__ = ("name", "named", "number", "points")

    def __init__(self, number: int, name: str, *, named: bool) -> None:
        self.number = number
        self.name = name
        self.named = named
        self.points: list[bytes] = []


class MetricsLog:
    """The one writer of the metrics in `folder`; `add` may be called from any thread.

    Opening cuts a torn last block (its bytes go to `metrics.bin.cut-<attempt>`) and, with
    `start_step`, writes a rewind to that step. Points reach the file after 512 of a series, within
    1 s, and at `flush`. When a write fails (disk full) the points wait in memory and are tried
    again; `failure` tells of it, and `flush`, `rewind`, `close` and, once a million wait, `add`
    raise RunError. Raises RunError when another writer has the file open.
    """

    def __init__(self, folder: Path, attempt: int, start_step: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._attempt = attempt
        self._points: dict[str, list[bytes]] = {}
        self._series: dict[str, _SeriesBuffer] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._failure: OSError | None = None
        self._index_whole = True
        self._closed = False
        self.cut_bytes = 0
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
        """Why points wait in memory instead of being in the file; None when all is well."""
        return None if self._failure is None else str(self._failure)

    def add(self, name: str, step: int, value: float, time: float | None = None) -> None:
        """Log `value` of the series `name` at `step` (0 .. 2**63 - 1); `time` is now by default.

        `value` may be any number with `__float__`, not finite ones included; `time` in seconds
        since 1970 UTC. Raises RunError for a step or value that cannot be stored.
        """
        try:
            if step < 0:
                raise _bad_point(self._folder, name, step, value)
            point = _pack(step, now() if time is None else time, value)
            points = self._points[name]
        except KeyError:
            points = self._start_series(name)
        except (struct.error, TypeError, OverflowError) as error:
            raise _bad_point(self._folder, name, step, value) from error
        points.append(point)
        if not len(points) % POINTS_A_FLUSH:
            self._flush_one(name)

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
                self._append(blocks.encode_rewind(step, self._attempt, now()))
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
            # Later calls of `add` find no buffer to fill, and are told that the log is closed.
            self._points = {}
            try:
                self.flush()
            finally:
                self._closed = True
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
        while not self._stop.wait(_WAKE_S):
            with self._lock:
                self._write_waiting()

    def _start_series(self, name: object) -> list[bytes]:
        if not isinstance(name, str) or not name:
            raise RunError("a series needs a name", where=self._folder, got=repr(name))
        with self._lock:
            self._check_open()
            if name not in self._series:
                number = 1 + max((s.number for s in self._series.values()), default=-1)
                number = max(number, self._first_free)
                self._series[name] = _SeriesBuffer(number, name, named=False)
            points = self._series[name].points
            self._points[name] = points
            return points

    def _flush_one(self, name: str) -> None:
        with self._lock:
            self._check_open()
            if self._failure is None:
                self._write_some(self._series[name])
            # After a failure only the thread tries again: a full disk must not slow each step.
            elif self._waiting() >= MAX_WAITING:
                raise self._failed()

    def _write_waiting(self) -> None:
        """Write all waiting points; a failure is kept in `_failure`, success clears it."""
        self._failure = None
        for series in list(self._series.values()):
            if not self._write_some(series):
                return

    def _write_some(self, series: _SeriesBuffer) -> bool:
        # Other threads may append meanwhile: only what was counted here is written and removed.
        count = len(series.points)
        if not count:
            return True
        try:
            if not series.named:
                line = name_line(series.number, series.name)
                _write_at(self._names, line, self._names_end)
                self._names_end += len(line)
                series.named = True
            points = b"".join(series.points[:count])
            self._append(blocks.encode_block(series.number, self._attempt, points))
        except OSError as error:
            self._failure = error
            return False
        del series.points[:count]
        return True

    def _append(self, block: bytes) -> None:
        # A short write leaves the end where it was: the next write goes over the torn bytes.
        _write_at(self._metrics, block, self._end)
        entry = blocks.index_entry(self._end, block)
        self._end += len(block)
        if self._index_whole:
            try:
                _write_at(self._index, entry, self._index_end)
                self._index_end += len(entry)
            except OSError:
                # The index only saves time and must have no gap: readers scan from its end on,
                # and the next writer makes it again.
                self._index_whole = False

    def _open(self, name: str) -> int:
        path = self._folder / name
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
        path = self._folder / blocks.METRICS_FILE
        header = blocks.metrics_header()
        if not blocks.has_metrics_header(os.pread(self._metrics, len(header), 0), where=path):
            _write_at(self._metrics, header, 0)
            sync_folder(self._folder)
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
        for number, name in read_names(self._folder).items():
            self._series[name] = _SeriesBuffer(number, name, named=True)
            self._points[name] = self._series[name].points
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
            raise RunError("these metrics are closed", where=self._folder)

    def _failed(self) -> RunError:
        return RunError(
            f"metrics cannot be written: {self._failure}",
            where=self._folder / blocks.METRICS_FILE,
            got=f"{self._waiting()} points wait in memory",
            hint="free some disk space; what the file already holds is whole",
        )

    def _forget_in_child(self) -> None:
        """In a forked child: this file belongs to the parent; its waiting points too."""
        self._closed = True
        self._points = {}
        self._lock = threading.RLock()
        self._close_handles()

    def _close_handles(self) -> None:
        while self._handles:
            os.close(self._handles.pop())


def _bad_point(folder: Path, name: str, step: object, value: object) -> RunError:
    return RunError(
        f"a point of '{name}' cannot be stored",
        where=folder,
        got=f"step {step!r}, value {value!r}",
        expected="an integer step in 0 .. 2**63 - 1 and one number",
    )


def _write_at(handle: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`; raises OSError when the disk takes only a part."""
    written = 0
    while written < len(data):
        written += os.pwrite(handle, memoryview(data)[written:], offset + written)
