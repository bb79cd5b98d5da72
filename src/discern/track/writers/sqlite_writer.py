"""Tracked figures as rows of `sqlite.db`, which others may read while the run goes on (WAL).

Tables: `scalars` (indicator text, step integer, value real), `indexed_scalars` (indicator, step,
idx, value), `tensors` (indicator, step, filename: relative to the run's folder; images, too).
SQLite has no not-a-number: it is the text 'nan' there. A rewind deletes rows of later steps.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from discern.track.tracked_records import Artifact, Point, Record, SampleValues

SQLITE_FILE: Final = "sqlite.db"
_TABLES: Final = (
    "create table if not exists scalars (indicator text, step integer, value real)",
    """create table if not exists indexed_scalars
    (indicator text, step integer, idx integer, value real)""",
    "create table if not exists tensors (indicator text, step integer, filename text)",
    "create index if not exists scalars_by_indicator on scalars (indicator, step)",
)
# Another process may hold the database for a moment, to read or copy it.
_PATIENCE_S: Final = 5.0


class SqliteWriter:
    """Writes rows into `folder`, one commit a call of `write`. Raises sqlite3.Error."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / SQLITE_FILE
        self._opened: sqlite3.Connection | None = None

    def write(self, records: list[Record]) -> None:
        """Insert and commit."""
        scalars, indexed, tensors = [], [], []
        for record in records:
            name = _text(record.name)
            if isinstance(record, Point):
                scalars.append((name, record.step, _number(record.value)))
            elif isinstance(record, SampleValues):
                pairs = zip(record.indices.tolist(), record.values.tolist(), strict=True)
                indexed += [(name, record.step, idx, _number(value)) for idx, value in pairs]
            elif isinstance(record, Artifact) and record.kind in ("tensor", "image"):
                tensors.append((name, record.step, record.file))
        with self._connection() as connection:
            connection.executemany("insert into scalars values (?, ?, ?)", scalars)
            connection.executemany("insert into indexed_scalars values (?, ?, ?, ?)", indexed)
            connection.executemany("insert into tensors values (?, ?, ?)", tensors)

    def rewind(self, step: int) -> None:
        """Delete the rows of later steps."""
        with self._connection() as connection:
            connection.execute("delete from scalars where step > ?", (step,))
            connection.execute("delete from indexed_scalars where step > ?", (step,))
            connection.execute("delete from tensors where step > ?", (step,))

    def flush(self) -> None:
        """Every write is committed."""

    def close(self) -> None:
        """Close the database."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            # Used from one thread at a time, but not always the same.
            self._opened = sqlite3.connect(self._path, timeout=_PATIENCE_S, check_same_thread=False)
            self._opened.execute("pragma journal_mode=wal")
            # A killed process loses nothing; a power cut may lose the last commits, never more.
            self._opened.execute("pragma synchronous=normal")
            with self._opened:
                for statement in _TABLES:
                    self._opened.execute(statement)
        return self._opened


def _text(name: str) -> str:
    """Lone surrogates, which file names may bring, have no UTF-8 form."""
    return name.encode("utf-8", "backslashreplace").decode()


def _number(value: float) -> float | str:
    return value if value == value else "nan"
