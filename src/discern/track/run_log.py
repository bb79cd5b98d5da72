"""The run's `log.txt`: lines with a UTC time, in the file before `add` returns.

While the disk is full, lines wait in memory (up to 1 MB, then the oldest are counted and dropped,
and the file says how many) and are tried again with the next line.
"""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from discern.base.errors import RunError

_MOST_WAITING: Final = 1_000_000


class RunLog:
    """The one writer of the log at `path`; `add` may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []
        self._dropped = 0
        self._failure: OSError | None = None
        self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._end = os.fstat(self._handle).st_size
        if self._end and os.pread(self._handle, 1, self._end - 1) != b"\n":
            self._waiting.append(b"\n")  # ends the line that a killed writer left unfinished

    @property
    def failure(self) -> str | None:
        """Why lines wait in memory; None when all are in the file."""
        return None if self._failure is None else str(self._failure)

    def add(self, text: str) -> None:
        """Append `text`, each of its lines with the time. Never raises because of the disk."""
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        lines = "".join(f"{moment} {line}\n" for line in text.splitlines() or [""])
        with self._lock:
            self._waiting.append(lines.encode("utf-8", "backslashreplace"))
            self._write_waiting()
            while sum(map(len, self._waiting)) > _MOST_WAITING:
                self._dropped += self._waiting.pop(0).count(b"\n")

    def flush(self, *, sync: bool = False) -> None:
        """Bring waiting lines into the file; with `sync` onto the disk. Raises RunError."""
        with self._lock:
            if self._handle is None:
                return
            self._write_waiting()
            if sync and self._failure is None:
                try:
                    os.fsync(self._handle)
                except OSError as error:
                    self._failure = error
            if self._failure is not None:
                raise RunError(
                    f"the log cannot be written: {self._failure}",
                    where=self._path,
                    hint="free some disk space",
                )

    def close(self) -> None:
        """Flush and close; a second call does nothing."""
        try:
            self.flush()
        finally:
            with self._lock:
                if self._handle is not None:
                    os.close(self._handle)
                    self._handle = None

    def _write_waiting(self) -> None:
        if self._handle is None:
            return
        dropped = f"{self._dropped} lines lost: the disk was full\n" if self._dropped else ""
        data = dropped.encode() + b"".join(self._waiting)
        self._failure = None
        done = 0
        try:
            # At a fixed place: what a full disk took of a line is written over by the next try.
            while done < len(data):
                done += os.pwrite(self._handle, memoryview(data)[done:], self._end + done)
        except OSError as error:
            self._failure = error
            return
        self._end += len(data)
        self._waiting.clear()
        self._dropped = 0
